#!/usr/bin/env bash
# Checks --max-layer-size: how large the layers are, that they hold what one
# layer holds, how long others take to get them, and how many of them stay when
# the image gets one more package.
#
# usage: check-split.sh WORKDIR SLIM      (as root, with the images of
# build-image.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 2 ]; then
  echo "usage: check-split.sh WORKDIR SLIM" >&2
  exit 2
fi
workdir=$(cd "$1" && pwd)
slim=$(realpath "$2")
storage "$workdir"
out=$workdir/check-split
more_image=localhost/e2e-app-more:1
stop() {
  "$here/docker.sh" stop "$out"
  "$here/registry.sh" stop "$out"
}
trap stop EXIT
mkdir -p "$out"
stop
rm -rf "$out"
mkdir -p "$out/tmp" "$out/trees"
export TMPDIR=$out/tmp
registry=$(REGISTRY_PORT=${REGISTRY_PORT:-5355} "$here/registry.sh" start "$out")
DOCKER_HOST=$("$here/docker.sh" start "$out")
export DOCKER_HOST
(cd "$here/../.." && CGO_ENABLED=0 go build -o "$out/listtree" ./testdata/e2e/listtree)

# squash NAME FLAGS... SOURCE TARGET: runs slim, its line in $out/NAME.line and
# its report in $out/NAME.json.
squash() {
  local name=$1
  shift
  "$slim" squash --progress none --report "$out/$name.json" "$@" >"$out/$name.line" 2>"$out/$name.err" || {
    local code=$?
    echo "  slim squash $* => exit $code"
    sed 's/^/  /' "$out/$name.err"
    return "$code"
  }
}

# sizes NAME prints a table of the layers that were written.
sizes() {
  jq -r '.platforms[0].written | to_entries[] | [.key + 1, .value.entries, .value.inflated_bytes, .value.stored_bytes, .value.diff_id] | @tsv' "$out/$1.json" |
    awk 'BEGIN { printf "  %5s %8s %12s %12s\n", "layer", "entries", "tar bytes", "stored" } { printf "  %5d %8d %12d %12d  %.19s\n", $1, $2, $3, $4, $5 }'
}
diff_ids() { jq -r '.platforms[0].written[].diff_id' "$out/$1.json"; }

# unpack NAME: the image's tree by umoci, its listing in $out/NAME.list.
unpack() {
  skopeo copy -q --src-tls-verify=false -f oci "docker://$registry/e2e/$1:1" "oci:$out/trees/$1.oci:it"
  umoci raw unpack --image "$out/trees/$1.oci:it" "$out/trees/$1" >"$out/umoci.log" 2>&1 || {
    cat "$out/umoci.log"
    return 1
  }
  "$out/listtree" -no-root-mtime "$out/trees/$1" >"$out/$1.list"
  rm -rf "$out/trees/$1" "$out/trees/$1.oci"
}

# median COMMAND...: the median of the milliseconds of three runs.
median() {
  local begin times=()
  for _ in 1 2 3; do
    begin=${EPOCHREALTIME/./}
    "$@" >"$out/timed.log" 2>&1 || {
      cat "$out/timed.log" >&2
      return 1
    }
    times+=($(((${EPOCHREALTIME/./} - begin) / 1000)))
  done
  printf '%s\n' "${times[@]}" | sort -n | sed -n 2p
}
copy() {
  rm -rf "$out/copy"
  skopeo copy -q --src-tls-verify=false "docker://$1" "dir:$out/copy"
}
pull() {
  docker rmi -f "$1"
  docker pull -q "$1"
}

section "images in the registry $registry"
if ! buildah inspect --type image "$more_image" >/dev/null 2>&1; then
  container=$(buildah from --pull-never "$app_image")
  buildah run --user root --network host "$container" -- \
    sh -c 'apt-get update -q && apt-get install -q -y --no-install-recommends tree' >"$out/apt.log" 2>&1 || {
    tail -n 20 "$out/apt.log" >&2
    exit 1
  }
  buildah commit -q --format docker --rm "$container" "$more_image"
fi
app=$registry/e2e/app:1
buildah push -q --tls-verify=false --format v2s2 "$app_image" "docker://$app"
buildah push -q --tls-verify=false --format v2s2 "$more_image" "docker://$registry/e2e/more:1"
# From here on a command that fails fails its check, not the script.
set +e

section "layers of at most 50 MB"
split=(--max-layer-size 50MB)
check "squash" squash flat "$app" "$registry/e2e/flat:1"
check "squash --max-layer-size 50MB" squash split "${split[@]}" "$app" "$registry/e2e/split:1"
sizes flat
sizes split
count=$(diff_ids split | wc -l)
check "there are several" test "$count" -gt 2
equal "none is larger" 0 "$(jq '[.platforms[0].written[] | select(.inflated_bytes > 50000000)] | length' "$out/split.json")"
check "they are no more than twice what is needed" test \
  "$count" -le $((2 * ($(jq '.platforms[0].written[0].inflated_bytes' "$out/flat.json") / 50000000 + 1)))
equal "the manifest has them in the order of the config" "$(diff_ids split)" "$(crane config "$registry/e2e/split:1" | jq -r '.rootfs.diff_ids[]')"
equal "the report has the sizes of the manifest" "$(crane manifest "$registry/e2e/split:1" | jq -c '[.layers[] | [.digest, .size]]')" \
  "$(jq -c '[.platforms[0].written[] | [.digest, .stored_bytes]]' "$out/split.json")"
check "unpack one layer" unpack flat
check "unpack $count layers" unpack split
same_file "umoci unpacks the same tree of both" "$out/flat.list" "$out/split.list"
# The junk of the base stays there.
check "above a base, with --verify" squash above "${split[@]}" --verify --base-layers 2 "$app" "$registry/e2e/above:1"
sizes above
check "above a base: several too" test "$(diff_ids above | wc -l)" -gt 2

section "again"
GOMAXPROCS=1 check "with one core" squash again "${split[@]}" --compression gzip "$app" "$registry/e2e/again:1"
equal "the same layers" "$(diff_ids split)" "$(diff_ids again)"
check "squash of the split one" squash twice "${split[@]}" "$registry/e2e/split:1" "$registry/e2e/twice:1"
equal "the same digest" "$(crane digest "$registry/e2e/split:1")" "$(crane digest "$registry/e2e/twice:1")"

section "one more package"
check "squash" squash more "${split[@]}" "$registry/e2e/more:1" "$registry/e2e/more-split:1"
sizes more
same=$(comm -12 <(diff_ids split | sort) <(diff_ids more | sort) | wc -l)
shared=$(jq -r --slurpfile a "$out/split.json" '($a[0].platforms[0].written | map(.diff_id)) as $ids |
  [.platforms[0].written[] | select(.diff_id | IN($ids[])) | .stored_bytes] | add // 0' "$out/more.json")
total=$(jq '[.platforms[0].written[].stored_bytes] | add' "$out/more.json")
echo "  $same of $(diff_ids more | wc -l) layers are those of the image without it: $shared of $total bytes need no transfer"
check "at least one layer is the same" test "$same" -ge 1

section "milliseconds to have it, median of 3"
for kind in flat split; do
  image=$registry/e2e/$kind:1
  copied=$(median copy "$image")
  pulled=$(median pull "$image")
  printf '  %-6s %3d layers   skopeo copy %6d   docker pull %6d\n' "$kind" "$(crane manifest "$image" | jq '.layers | length')" "$copied" "$pulled"
  check "$kind: all runs went well" test -n "$copied" -a -n "$pulled"
  equal "$kind: docker run works" "hello" "$(docker run --rm --network none --entrypoint /bin/sh "$image" -c 'cat /l/b >/dev/null && nginx -v 2>/dev/null && echo hello')"
done
check "no temporary file is left" test -z "$(ls -A "$TMPDIR")"

summary
