#!/usr/bin/env bash
# Runs one tool once on one image, in mounts of its own, so that nothing that it
# keeps makes the next run faster.
#
# usage: tool.sh TOOL SOURCE TARGET       (as root)
# SOURCE is HOST:PORT/NAME:TAG; so is TARGET, new to the registry. From the
# environment: WORK, SLIM, TMPDIR (empty, removed afterwards by the caller), REPORT,
# what slim said of the same source, and where needed BASE, DOCKER_SQUASH_DIR, CACHE,
# a folder for slim's cache that outlives the run, and CGROUP, a control group.
set -euo pipefail
if [ $# -ne 3 ]; then
  echo "usage: tool.sh TOOL SOURCE TARGET" >&2
  exit 2
fi
tool=$1 source=$2 target=$3
if [ "${TOOL_MOUNTS:-}" != private ]; then
  TOOL_MOUNTS=private exec unshare --mount --propagation private "$0" "$@"
fi
# Where the libraries of buildah and skopeo remember what registries have.
mkdir -p "$TMPDIR/remembered" /var/lib/containers/cache
mount --bind "$TMPDIR/remembered" /var/lib/containers/cache
export XDG_CACHE_HOME=${CACHE:-$TMPDIR/cache}
mkdir -p "$XDG_CACHE_HOME"
if [ -n "${CGROUP:-}" ]; then echo $$ >"$CGROUP/cgroup.procs"; fi

# Squashing alone is compared: no tool but slim has rules for what to remove.
slim() { "$SLIM" squash --progress none -q --remove none "$@" "$source" "$target"; }

# buildah_squash COMMIT-FLAGS -- PUSH-FLAGS: as a script does it that has buildah.
buildah_squash() {
  local run=(buildah --root "$TMPDIR/storage" --runroot "$TMPDIR/runroot") commit=() container
  while [ "$1" != -- ]; do
    commit+=("$1")
    shift
  done
  shift
  STORAGE_DRIVER=$(cat "$WORK/storage-driver")
  export STORAGE_DRIVER
  container=$("${run[@]}" from -q --tls-verify=false "docker://$source")
  "${run[@]}" commit -q --squash "${commit[@]}" "$container" localhost/squashed
  "${run[@]}" push -q --tls-verify=false "$@" localhost/squashed "docker://$target"
}

case $tool in
slim) slim ;;
slim-base) slim --base "$BASE" ;;
slim-gzip5) slim --compression gzip --compression-level 5 ;;
slim-gzip9) slim --compression gzip --compression-level 9 ;;
slim-zstd3) slim --compression zstd --compression-level 3 --format oci ;;
limit-gzip6) "$WORK/bin/limit" -report "$REPORT" -compression gzip -level 6 "$source" "${target%:*}" ;;
limit-gzip5) "$WORK/bin/limit" -report "$REPORT" -compression gzip -level 5 "$source" "${target%:*}" ;;
limit-gzip9) "$WORK/bin/limit" -report "$REPORT" -compression gzip -level 9 "$source" "${target%:*}" ;;
limit-zstd3) "$WORK/bin/limit" -report "$REPORT" -compression zstd -level 3 "$source" "${target%:*}" ;;
crane) "$WORK/bin/crane" flatten "$source" -t "$target" ;;
buildah) buildah_squash -- ;;
buildah-zstd3) buildah_squash --format oci -- --format oci --compression-format zstd --compression-level 3 ;;
skopeo-zstd3)
  skopeo copy -q --src-tls-verify=false --dest-tls-verify=false --format oci \
    --dest-compress-format zstd --dest-compress-level 3 "docker://$source" "docker://$target"
  ;;
regctl)
  "$WORK/bin/regctl" --host "reg=${source%%/*},tls=disabled" image mod "$source" --create "$target" \
    --layer-strip-file "${STRIP:-/usr/share/doc}"
  ;;
docker-squash)
  docker pull -q "$source"
  PYTHONPATH=$DOCKER_SQUASH_DIR python3 -m docker_squash.cli -t "$target" "$source"
  docker push -q "$target"
  ;;
*)
  echo "tool.sh: error: no tool $tool" >&2
  exit 2
  ;;
esac
