#!/usr/bin/env bash
# Checks that slim refuses bad input, wrong usage, a full disk and a signal
# with the right exit code and message, and leaves nothing behind.
#
# usage: check-bad.sh SLIM      (as root: it mounts small file systems)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 1 ]; then
  echo "usage: check-bad.sh SLIM" >&2
  exit 2
fi
slim=$(realpath "$1")
work=$(mktemp -d /var/tmp/slim-check-bad.XXXXXX)
in=$work/in
out=$work/out
tmp=$work/tmp
small=$work/small
mkdir "$in" "$out" "$tmp" "$small"
# shellcheck disable=SC2317  # the trap calls it
cleanup() {
  umount "$small" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
export TMPDIR=$tmp XDG_CACHE_HOME=$work/cache
(
  cd "$here/../.."
  TMPDIR=$work go run ./testdata/e2e/badinput "$in"
  TMPDIR=$work go run ./testdata/demo "$in/demo.tar"
)
demo=docker-archive:$in/demo.tar
# From here on a command that fails fails its check, not the script.
set +e

# expect NAME CODE PATTERN ARGUMENTS...: runs slim squash, which must end with
# the code, say "slim: error:" with the pattern (an extended regular
# expression), print nothing else on stdout, and leave no file.
expect() {
  local name=$1 want=$2 pattern=$3 code problems=
  shift 3
  "$slim" squash --progress none "$@" >"$work/stdout" 2>"$work/stderr" </dev/null
  code=$?
  [ "$code" -eq "$want" ] || problems="$problems; exit code $want expected"
  grep -q '^slim: error: ' "$work/stderr" || problems="$problems; no line 'slim: error:'"
  grep -Eq -- "$pattern" "$work/stderr" || problems="$problems; the message should match $pattern"
  [ ! -s "$work/stdout" ] || problems="$problems; stdout is not empty"
  left=$(find "$out" "$tmp" "$small" -mindepth 1)
  [ -z "$left" ] || problems="$problems; left behind: $left"
  if [ -z "$problems" ]; then ok "$name: exit $code"; else fail "$name: exit $code$problems"; fi
  sed 's/^/  /' "$work/stderr"
  clear_out
}
clear_out() {
  rm -rf "$out" "$tmp"
  mkdir "$out" "$tmp"
  find "$small" -mindepth 1 -delete
}

section "good input, to know that the bad one is refused for its own sake"
check "the same layout without a fault" "$slim" squash --progress none "oci:$in/good" "oci:$out/good:1"
clear_out

section "bad layers"
# bad NAME PATTERN: the layout of that name.
bad() {
  expect "$1" 1 "$2" --remove none "oci:$in/$1" "docker-archive:$out/x.tar:x:1"
}
at='layer [0-9]+ .*sha256:[0-9a-f]+'
bad truncated "$at.*unexpected EOF"
bad wrong-digest "$at"
bad wrong-diffid "$at"
bad wrong-size "$at"
bad missing-blob "layer 2: blob sha256:[0-9a-f]+ is missing"
bad link-first "$at.*\"etc/b\""
bad link-to-itself "$at.*\"etc/b\""
bad dotdot "$at.*\"\.\./escaped\""
bad under-file "$at.*\"etc/motd"
bad bare-whiteout "$at.*\"etc/\.wh\.\""
bad dots-whiteout "$at.*\"etc/\.wh\.\.\.\""
bad whiteout-as-path "$at.*\"etc/\.wh\.d"
bad no-tar "$at"
bad huge-entry "$at.*\"etc/huge\""
bad two-layers-keys 'LAYERS|layers'
expect "an archive's layer outside of it" 1 'layer\.tar' "docker-archive:$in/escape.tar" "docker-archive:$out/x.tar:x:1"
expect "an archive that is cut off" 1 'cut\.tar|unexpected EOF' "docker-archive:$in/cut.tar" "docker-archive:$out/x.tar:x:1"
expect "a source that is not there" 1 'absent' "docker-archive:$in/absent.tar" "docker-archive:$out/x.tar:x:1"
expect "a layout that is not there" 1 'absent' "oci:$in/absent" "oci:$out/x:1"

section "wrong usage"
expect "no TARGET" 2 'TARGET|argument' "$demo"
expect "an unknown flag" 2 'no-such-flag' --no-such-flag "$demo" "docker-archive:$out/x.tar"
expect "an unknown preset" 2 'no-such-preset' --remove no-such-preset "$demo" "docker-archive:$out/x.tar"
expect "a bare file name" 2 'docker-archive:' "$in/demo.tar" "docker-archive:$out/x.tar"
sum=$(sha256sum "$in/demo.tar")
expect "TARGET is SOURCE" 2 'demo\.tar' "$demo" "$demo"
equal "SOURCE is as it was" "$sum" "$(sha256sum "$in/demo.tar")"
mkdir "$work/full" && touch "$work/full/precious"
expect "a folder that is no layout" 1 'full' "$demo" "oci:$work/full:1"
equal "it holds what it held" precious "$(ls -A "$work/full")"

section "a full disk"
mount -t tmpfs -o size=24m,mode=0755 tmpfs "$small"
check "a small file system is mounted" mountpoint -q "$small"
expect "too little room for temporary files to begin" 1 "$small.* free" --remove none --tmp-dir "$small" "$demo" "docker-archive:$out/x.tar:x:1"
mount -o remount,size=100m "$small"
expect "no room for temporary files in the middle" 1 "writing a temporary file: .*no space left" --remove none --tmp-dir "$small" "$demo" "docker-archive:$out/x.tar:x:1"
mount -o remount,size=24m "$small"
expect "no room for the target" 1 "$small|space" --remove none "$demo" "docker-archive:$small/x.tar:x:1"
expect "no room for the target layout" 1 "$small|space" --remove none "$demo" "oci:$small/x:1"
umount "$small"

section "interrupted"
# interrupt SIGNAL CODE SECONDS: sends the signal to a slow squash after so
# long. Ended before is no failure, but then all must be complete.
interrupted=0
interrupt() {
  local pid code left
  # Job control keeps SIGINT from being ignored in the background.
  set -m
  GOMAXPROCS=1 "$slim" squash --progress none --remove none --compression gzip --compression-level 9 \
    "$demo" "docker-archive:$out/x.tar:x:1" >"$work/stdout" 2>"$work/stderr" </dev/null &
  pid=$!
  set +m
  sleep "$3"
  kill -s "$1" "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  code=$?
  left=$(find "$out" "$tmp" -mindepth 1)
  if [ "$code" -eq 0 ]; then
    equal "$1 after $3 s: it was done already, and the target is complete" "$out/x.tar" "$left"
  else
    interrupted=$((interrupted + 1))
    equal "$1 after $3 s: exit code" "$2" "$code"
    equal "$1 after $3 s: nothing is left" "" "$left"
    sed 's/^/  /' "$work/stderr"
  fi
  clear_out
}
for seconds in 0.1 0.3 0.6 1.0; do interrupt INT 130 "$seconds"; done
check "it was interrupted at work" test "$interrupted" -gt 0
interrupt TERM 143 0.3

summary
