#!/usr/bin/env bash
# Runs a Docker engine without a network, with its files in WORKDIR/docker.
#
# usage: docker.sh start|stop WORKDIR      (as root)
# start prints the engine's DOCKER_HOST.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: docker.sh start|stop WORKDIR" >&2
  exit 2
fi
mkdir -p "$2/docker"
dir=$(cd "$2/docker" && pwd)
# A socket's path may have 107 bytes at most, which WORKDIR may exceed.
socket=/run/slim-e2e-$(printf %s "$dir" | sha256sum | cut -c 1-12).sock
export DOCKER_HOST=unix://$socket

# running tells whether the process that start began is there still.
running() { [ -e "$dir/pid" ] && [ "$(cat "/proc/$(cat "$dir/pid")/comm" 2>/dev/null)" = dockerd ]; }

case $1 in
start)
  if ! running; then
    # Without an init system nobody may have mounted them.
    mountpoint -q /sys/fs/cgroup || cgroupfs-mount
    rm -f "$dir/dockerd.pid" "$socket"
    dockerd --iptables=false --bridge=none --data-root "$dir/data" --exec-root "$dir/exec" \
      --pidfile "$dir/dockerd.pid" --host "$DOCKER_HOST" >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
  fi
  for _ in $(seq 300); do
    if docker version >/dev/null 2>&1; then
      echo "$DOCKER_HOST"
      exit
    fi
    kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
    sleep 0.1
  done
  echo "docker.sh: error: the engine does not answer" >&2
  tail -n 20 "$dir/log" >&2
  exit 1
  ;;
stop)
  if running; then
    pid=$(cat "$dir/pid")
    kill "$pid"
    while running; do sleep 0.1; done
  fi
  rm -f "$dir/pid" "$socket"
  ;;
*)
  echo "usage: docker.sh start|stop WORKDIR" >&2
  exit 2
  ;;
esac
