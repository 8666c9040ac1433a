#!/usr/bin/env bash
# Builds the real images below WORKDIR and runs all checks with the binary
# SLIM.
#
# usage: all.sh WORKDIR SLIM      (as root, on Debian 12)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -ne 2 ]; then
  echo "usage: all.sh WORKDIR SLIM" >&2
  exit 2
fi
mkdir -p "$1"
result=0
"$here/build-image.sh" "$1"
"$here/check-real.sh" "$1" "$2" || result=1
"$here/check-registry.sh" "$1" "$2" || result=1
"$here/check-engines.sh" "$1" "$2" || result=1
"$here/check-split.sh" "$1" "$2" || result=1
"$here/check-auth.sh" "$1" "$2" || result=1
"$here/check-bad.sh" "$2" || result=1
exit "$result"
