#!/usr/bin/env bash
# Checks what slim makes of the images of build-image.sh: with a registry, with
# umoci, with a Docker engine and beside crane.
#
# usage: check-real.sh WORKDIR SLIM      (as root)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 2 ]; then
  echo "usage: check-real.sh WORKDIR SLIM" >&2
  exit 2
fi
workdir=$(cd "$1" && pwd)
slim=$(realpath "$2")
storage "$workdir"

stop() {
  "$here/registry.sh" stop "$workdir"
  "$here/docker.sh" stop "$workdir"
}
trap stop EXIT
# Targets of a run before this one would be recognised, and uploads skipped.
stop
rm -rf "$workdir/registry" "$workdir/docker"
registry=$("$here/registry.sh" start "$workdir")
DOCKER_HOST=$("$here/docker.sh" start "$workdir")
export DOCKER_HOST

out=$workdir/check-real
rm -rf "$out"
mkdir -p "$out/trees" "$out/tmp"
export TMPDIR=$out/tmp XDG_CACHE_HOME=$out/cache
build_listtree

base=$registry/e2e/base:1
app=$registry/e2e/app:1

# copyrights TREE lists the copyright files of all packages with their digests.
copyrights() {
  (cd "$1" && find usr/share/doc -mindepth 2 -maxdepth 2 -name copyright | sort | xargs -d '\n' sha256sum)
}

# overlay NAME: the listing of the filesystem that the engine shows for an
# image, in $out/NAME.overlay. A single layer is no overlay.
overlay() {
  local lower upper mnt=$out/trees/mnt
  lower=$(docker image inspect --format '{{index .GraphDriver.Data "LowerDir"}}' "$1")
  upper=$(docker image inspect --format '{{index .GraphDriver.Data "UpperDir"}}' "$1")
  case $lower in '' | '<no value>')
    "$out/listtree" -no-root-mtime "$upper" >"$out/$2.overlay"
    return
    ;;
  esac
  mkdir -p "$mnt"
  mount -t overlay overlay -o "ro,lowerdir=$upper:$lower" "$mnt"
  "$out/listtree" -no-root-mtime "$mnt" >"$out/$2.overlay"
  umount "$mnt"
}

# config IMAGE: what the engine runs the image with.
config() {
  docker image inspect "$1" | jq -S '.[0].Config | {Healthcheck, User, StopSignal, Volumes, Entrypoint, Cmd,
    Env, Labels, WorkingDir, OnBuild, ExposedPorts, Shell}'
}

# says IMAGE: what the image prints when it runs, twice with other arguments.
says() {
  { docker run --rm --network none "$1" && docker run --rm --network none "$1" other arguments; } 2>"$out/says.err"
  cat "$out/says.err"
}

# figures REPORT: what the report says was saved, and by what.
figures() {
  jq -r '.platforms[0] as $p
    | (["before", $p.before], ["base kept", $p.base_kept], ["after", $p.after]
      | "  \(.[0]): \(.[1].layers) layers, \(.[1].stored_bytes) bytes stored, \(.[1].inflated_bytes) inflated, \(.[1].content_bytes) in files"),
    ($p.written[] | "  written: \(.compression), \(.entries) entries, \(.stored_bytes) bytes stored, \(.inflated_bytes) inflated"),
    "  saved by squashing: \($p.shadowed_bytes) bytes in files",
    ($p.rules[] | "  saved by \(.rule): \(.bytes) bytes in files, \(.paths) paths"),
    "  spared: \($p.spared_paths) paths",
    "  junk in the base: \($p.base.junk_bytes) bytes in \($p.base.junk_paths) paths"' "$1"
}

section "source images in the registry $registry"
buildah push -q --tls-verify=false --format v2s2 "$base_image" "docker://$base"
buildah push -q --tls-verify=false --format v2s2 "$app_image" "docker://$app"
base_layers=$(layers "$base")
app_layers=$(layers "$app")
echo "base: $base_layers layers, application: $app_layers layers, $(stored "$app") bytes compressed"
check "the application has at least 8 layers above its base" test $((app_layers - base_layers)) -ge 8
unpack "$app" source
# From here on a command that fails fails its check, not the script.
set +e
echo "$(wc -l <"$out/source.list") paths"

section "whole squash, no rules"
check "squash --remove none" squash --remove none "$app" "$registry/e2e/whole:1"
whole=$(digest)
equal "stdout is one line: the target and its digest" "$registry/e2e/whole@$(crane digest "$registry/e2e/whole:1")" "$(line | sed 's/:1@/@/')"
equal "one layer" 1 "$(layers "$registry/e2e/whole:1")"
unpack "$registry/e2e/whole:1" whole
same_file "umoci unpacks the same tree" "$out/source.list" "$out/whole.list"
rm -rf "$out/trees/whole"

section "above the base, no rules"
check "squash --remove none --base" squash --remove none --base "$base" "$app" "$registry/e2e/above:1"
above=$(digest)
equal "the base's layers and one more" $((base_layers + 1)) "$(layers "$registry/e2e/above:1")"
equal "the base's descriptors are those of the source" \
  "$(manifest "$app" | jq -c ".layers[:$base_layers]")" "$(manifest "$registry/e2e/above:1" | jq -c ".layers[:$base_layers]")"
unpack "$registry/e2e/above:1" above
same_file "umoci unpacks the same tree" "$out/source.list" "$out/above.list"
rm -rf "$out/trees/above"
check "squash --remove none --base-layers" squash --remove none --base-layers "$base_layers" "$app" "$registry/e2e/layers:1"
equal "--base-layers gives the same as --base" \
  "$(manifest "$registry/e2e/above:1" | jq -c .layers)" "$(manifest "$registry/e2e/layers:1" | jq -c .layers)"

section "default rules"
for kind in whole above; do
  flags=()
  if [ "$kind" = above ]; then flags=(--base "$base"); fi
  check "squash, $kind" squash "${flags[@]}" --report "$out/report-$kind.json" "$app" "$registry/e2e/default-$kind:1"
  equal "$kind: the report has the figures of the manifests" \
    "$app_layers $(stored "$app") $(layers "$registry/e2e/default-$kind:1") $(stored "$registry/e2e/default-$kind:1")" \
    "$(jq -r '.platforms[0] | "\(.before.layers) \(.before.stored_bytes) \(.after.layers) \(.after.stored_bytes)"' "$out/report-$kind.json")"
  equal "$kind: the report has the written layer" "$(manifest "$registry/e2e/default-$kind:1" | jq -c '[.layers[-1] | .digest, .size]')" \
    "$(jq -c '.platforms[0].written | map(.digest, .stored_bytes)' "$out/report-$kind.json")"
  figures "$out/report-$kind.json"
  unpack "$registry/e2e/default-$kind:1" "default-$kind"
  dpkg-query --admindir="$out/trees/source/var/lib/dpkg" -W | sort >"$out/packages.want"
  dpkg-query --admindir="$out/trees/default-$kind/var/lib/dpkg" -W | sort >"$out/packages.got"
  same_file "$kind: the same $(wc -l <"$out/packages.want") packages are installed" "$out/packages.want" "$out/packages.got"
  copyrights "$out/trees/source" >"$out/copyrights.want"
  copyrights "$out/trees/default-$kind" >"$out/copyrights.got"
  same_file "$kind: all $(wc -l <"$out/copyrights.want") copyright files are there" "$out/copyrights.want" "$out/copyrights.got"
  check "$kind: less than before" test \
    "$(stored "$registry/e2e/default-$kind:1")" -lt "$(stored "$app")"
  rm -rf "$out/trees/default-$kind"
done
equal "--dry-run prints nothing on stdout" "" "$(squash --dry-run "$app" "$registry/e2e/dry:1" && line)"
check "--dry-run writes nothing" test -z "$(crane digest "$registry/e2e/dry:1" 2>/dev/null)"

section "a Docker engine"
skopeo copy -q --src-tls-verify=false "docker://$app" "docker-archive:$out/source.tar:e2e/source:1"
docker load -q -i "$out/source.tar"
check "squash to a docker-archive" squash --remove none "$app" "docker-archive:$out/whole.tar:e2e/whole:1"
check "squash to a docker-archive, above the base" squash --remove none --base "$base" "$app" "docker-archive:$out/above.tar:e2e/above:1"
check "squash to a docker-archive, default rules" squash "$app" "docker-archive:$out/default.tar:e2e/default:1"
for kind in whole above default; do
  check "$kind: docker load" docker load -q -i "$out/$kind.tar"
done
# Both ends are pipes.
docker save e2e/source:1 | "$slim" squash --progress none --remove none - docker-archive:-:e2e/pipe:1 2>"$out/squash.err" | docker load -q ||
  cat "$out/squash.err"
says e2e/source:1 >"$out/source.says"
config e2e/source:1 >"$out/source.config"
overlay e2e/source:1 source
sed 's/^/  /' "$out/source.says"
equal "the source has all the fields that are compared" "" \
  "$(jq -r 'to_entries[] | select(.value == null and .key != "OnBuild" and .key != "Shell") | .key' "$out/source.config")"
for kind in whole above default pipe; do
  says "e2e/$kind:1" >"$out/$kind.says"
  same_file "$kind: docker run prints the same" "$out/source.says" "$out/$kind.says"
  config "e2e/$kind:1" >"$out/$kind.config"
  same_file "$kind: docker inspect shows the same config" "$out/source.config" "$out/$kind.config"
done
for kind in whole above pipe; do
  overlay "e2e/$kind:1" "$kind"
  same_file "$kind: the engine's overlay shows the same tree" "$out/source.overlay" "$out/$kind.overlay"
done
same_file "the engine and umoci show the same tree" "$out/source.list" "$out/source.overlay"

section "the same bytes every time"
# Docker's manifests know no zstd.
oci=$registry/e2e/app-oci:1
skopeo copy -q --src-tls-verify=false --dest-tls-verify=false -f oci "docker://$app" "docker://$oci"
for n in 1 2 8; do
  GOMAXPROCS=$n check "GOMAXPROCS=$n: squash" squash --remove none "$app" "$registry/e2e/cores$n:1"
  equal "GOMAXPROCS=$n: the same digest" "$whole" "$(digest)"
  GOMAXPROCS=$n check "GOMAXPROCS=$n: squash --compression zstd" squash --remove none --compression zstd "$oci" "$registry/e2e/zstd$n:1"
  zstd=${zstd:-$(digest)}
  equal "GOMAXPROCS=$n: the same digest with zstd" "$zstd" "$(digest)"
done
check "the same command again" squash --remove none "$app" "$registry/e2e/whole:1"
equal "the same command again: the same digest" "$whole" "$(digest)"
check "above the base again" squash --remove none --base "$base" "$app" "$registry/e2e/above2:1"
equal "above the base again: the same digest" "$above" "$(digest)"
check "squash of the squashed" squash --remove none "$registry/e2e/whole:1" "$registry/e2e/whole-again:1"
equal "squash of the squashed: the same digest" "$whole" "$(digest)"
check "squash of the squashed, above the base" squash --remove none --base "$base" "$registry/e2e/above:1" "$registry/e2e/above-again:1"
equal "squash of the squashed, above the base: the same digest" "$above" "$(digest)"
check "default rules on their own result" squash "$registry/e2e/default-whole:1" "$registry/e2e/default-again:1"
equal "default rules on their own result: the same digest" "$(crane digest "$registry/e2e/default-whole:1")" "$(digest)"
check "no temporary file is left" test -z "$(ls -A "$TMPDIR")"

section "time and memory"
# measure NAME COMMAND...: "seconds KiB" in $out/NAME.time, the whole process
# and its peak resident memory.
measure() {
  local name=$1
  shift
  command time -f '%e %M' -o "$out/$name.time" "$@" >/dev/null 2>"$out/$name.err" || {
    sed 's/^/  /' "$out/$name.err"
    return 1
  }
}
bare=("$slim" squash --progress none --remove none)
check "crane flatten" measure crane crane flatten "$app" -t "$registry/time/crane:1"
check "slim squash" measure slim "${bare[@]}" "$app" "$registry/time/slim:1"
check "slim squash --base --no-cache" measure base "${bare[@]}" --base "$base" --no-cache "$app" "$registry/time/base:1"
check "slim squash --base, the base is known" measure known "${bare[@]}" --base "$base" "$app" "$registry/time/known:1"
for name in crane slim base known; do
  read -r seconds memory < <(tail -n 1 "$out/$name.time")
  printf '  %-8s %6.1f s %8d KiB\n' "$name" "$seconds" "$memory"
  if [ "$name" != crane ]; then
    check "$name: peak resident memory under 256 MB" test "$memory" -lt 250000
  fi
done
awk 'NR == 1 { c = $1 } NR == 2 { printf "  ratio: slim takes %.2f of the time of crane flatten\n", $1 / c }' \
  <(tail -n 1 "$out/crane.time") <(tail -n 1 "$out/slim.time")

summary
