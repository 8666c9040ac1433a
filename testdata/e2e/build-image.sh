#!/usr/bin/env bash
# Builds two real images in WORKDIR's own image storage: a Debian 12 base made
# by debootstrap, and an application of many layers above it. What WORKDIR
# holds already is used again.
#
# usage: build-image.sh WORKDIR       (as root)
# BASE_DIR=DIR uses DIR, a finished debootstrap, instead of a new one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 1 ]; then
  echo "usage: build-image.sh WORKDIR" >&2
  exit 2
fi
mkdir -p "$1"
workdir=$(cd "$1" && pwd)

# mirror prints where this machine gets Debian from.
mirror() {
  local uri
  # shellcheck disable=SC2016  # the fields are for apt-get
  uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 == "bookworm" && $3 == "main" && $1 ~ /debian\/?$/ && !found++ { print $1 }' || true)
  echo "${uri:-http://deb.debian.org/debian}"
}

# overlay_works tells whether the kernel mounts an overlay in WORKDIR.
overlay_works() {
  local d result=1
  d=$(mktemp -d "$workdir/overlay.XXXXXX")
  mkdir "$d/lower" "$d/upper" "$d/work" "$d/merged"
  if mount -t overlay overlay -o "lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work" "$d/merged" 2>/dev/null; then
    umount "$d/merged"
    result=0
  fi
  rm -rf "$d"
  return "$result"
}

if [ ! -e "$workdir/storage-driver" ]; then
  if overlay_works; then echo overlay; else echo vfs; fi >"$workdir/storage-driver"
fi
storage "$workdir"

if ! buildah inspect --type image "$base_image" >/dev/null 2>&1; then
  section "base image"
  if [ ! -e "$workdir/base.tar" ]; then
    base=${BASE_DIR:-}
    if [ -z "$base" ]; then
      base=$workdir/base
      rm -rf "$base"
      debootstrap --variant=minbase bookworm "$base" "$(mirror)" >"$workdir/debootstrap.log" 2>&1 ||
        { tail -n 20 "$workdir/debootstrap.log" >&2; exit 1; }
    fi
    tar -C "$base" --numeric-owner --xattrs --xattrs-include='*' --one-file-system \
      --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* -cf "$workdir/base.tar.part" .
    mv "$workdir/base.tar.part" "$workdir/base.tar"
    rm -rf "$workdir/base"
  fi
  mkdir -p "$workdir/context-base"
  ln -f "$workdir/base.tar" "$workdir/context-base/base.tar"
  buildah bud --layers --format docker -t "$base_image" -f "$here/Containerfile.base" "$workdir/context-base"
fi

if ! buildah inspect --type image "$app_image" >/dev/null 2>&1; then
  section "application image"
  mkdir -p "$workdir/context-app"
  buildah bud --layers --format docker --network host --pull-never \
    -t "$app_image" -f "$here/Containerfile.app" "$workdir/context-app"
fi
buildah images
