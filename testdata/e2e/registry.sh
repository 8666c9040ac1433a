#!/usr/bin/env bash
# Runs a registry on a loopback address, with its files in WORKDIR/registry.
#
# usage: registry.sh start|stop WORKDIR
# start prints the address, HOST:PORT; it is in WORKDIR/registry/address too.
# WORKDIR/registry/access.log has one line for each request that was answered, in
# the combined log format.
# REGISTRY_PORT is the first port to try, 5005 by default.
set -euo pipefail
if [ $# -ne 2 ]; then
  echo "usage: registry.sh start|stop WORKDIR" >&2
  exit 2
fi
dir=$2/registry

# running tells whether the process that start began is there still.
running() { [ -e "$dir/pid" ] && [ "$(cat "/proc/$(cat "$dir/pid")/comm" 2>/dev/null)" = docker-registry ]; }

# answers HOST:PORT tells whether something listens there.
answers() { (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; }

case $1 in
start)
  if running; then
    cat "$dir/address"
    exit
  fi
  mkdir -p "$dir/storage"
  address=
  first=${REGISTRY_PORT:-5005}
  for port in $(seq "$first" $((first + 50))); do
    if ! answers "127.0.0.1:$port"; then
      address=127.0.0.1:$port
      break
    fi
  done
  if [ -z "$address" ]; then
    echo "registry.sh: error: no free port from $first on" >&2
    exit 1
  fi
  cat >"$dir/config.yml" <<CONFIG
version: 0.1
log:
  level: warn
  accesslog:
    disabled: false
storage:
  delete:
    enabled: true
  filesystem:
    rootdirectory: $dir/storage
http:
  addr: $address
CONFIG
  # The access log goes to standard output, all else to standard error.
  docker-registry serve "$dir/config.yml" >"$dir/access.log" 2>"$dir/log" </dev/null &
  echo $! >"$dir/pid"
  for _ in $(seq 100); do
    if answers "$address"; then
      echo "$address" | tee "$dir/address"
      exit
    fi
    sleep 0.1
  done
  echo "registry.sh: error: no answer from $address" >&2
  tail -n 20 "$dir/log" >&2
  exit 1
  ;;
stop)
  if running; then
    pid=$(cat "$dir/pid")
    kill "$pid"
    while running; do sleep 0.1; done
  fi
  rm -f "$dir/pid" "$dir/address"
  ;;
*)
  echo "usage: registry.sh start|stop WORKDIR" >&2
  exit 2
  ;;
esac
