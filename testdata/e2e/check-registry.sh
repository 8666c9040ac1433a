#!/usr/bin/env bash
# Checks what slim does with a registry: an index with all that may be in one,
# what goes over the wire and how often, what other tools make of the results,
# and a tag that is rewritten in place.
#
# usage: check-registry.sh WORKDIR SLIM      (as root)
# shellcheck disable=SC2016  # dollars are for jq and awk
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
# shellcheck source-path=SCRIPTDIR source=documents.sh
. "$here/documents.sh"
# shellcheck source-path=SCRIPTDIR source=requests.sh
. "$here/requests.sh"
if [ $# -ne 2 ]; then
  echo "usage: check-registry.sh WORKDIR SLIM" >&2
  exit 2
fi
workdir=$(cd "$1" && pwd)
slim=$(realpath "$2")
storage "$workdir"
out=$workdir/check-registry

podman() { command podman --root "$out/podman/storage" --runroot "$out/podman/run" --cgroup-manager cgroupfs "$@"; }

# shellcheck disable=SC2317  # the trap calls it
stop() {
  "$here/registry.sh" stop "$out"
  "$here/docker.sh" stop "$out"
  if [ -d "$out/podman" ]; then podman image unmount --all --force >/dev/null 2>&1 || true; fi
}
trap stop EXIT
# Targets of a run before this one would be recognised, and uploads skipped.
stop
rm -rf "$out"
mkdir -p "$out/trees" "$out/tmp" "$out/podman"
export TMPDIR=$out/tmp XDG_CACHE_HOME=$out/cache REGCTL_CONFIG=$out/regctl.json
registry=$("$here/registry.sh" start "$out")
access_log=$out/registry/access.log
DOCKER_HOST=$("$here/docker.sh" start "$out")
export DOCKER_HOST
regctl registry set --skip-check --tls disabled "$registry"
build_listtree

docs=$out/docs
base=$registry/e2e/base:1
app=$registry/e2e/app:1
multi=$registry/e2e/multi
second=$registry/e2e/second:1

# refuses TEXT CODE PATTERN ARGUMENTS...: slim squash must end with the code and
# say what matches the pattern.
refuses() {
  local text=$1 want=$2 pattern=$3 code
  shift 3
  "$slim" squash --progress none "$@" >"$out/squash.out" 2>"$out/squash.err"
  code=$?
  equal "$text: exit code $want" "$want" "$code"
  check "$text: it says why" grep -Eq -- "$pattern" "$out/squash.err"
  grep '^slim: ' "$out/squash.err" | cut -c 1-300 | sed 's/^/  /'
}

# absent TEXT REF: nothing has that name.
absent() { check "$1" test -z "$(crane digest "$2" 2>/dev/null)"; }

section "images in the registry $registry"
buildah push -q --tls-verify=false --format v2s2 "$base_image" "docker://$base"
buildah push -q --tls-verify=false --format oci "$app_image" "docker://$app"
mkdir -p "$out/context"
echo 1 >"$out/context/a"
printf 'FROM %s\nCOPY a /srv/a\nCOPY a /srv/b\nCMD ["second"]\n' "$base_image" >"$out/context/Containerfile"
buildah bud -q --layers --pull-never -t localhost/e2e-second:1 "$out/context" >/dev/null
buildah push -q --tls-verify=false --format oci localhost/e2e-second:1 "docker://$second"
buildah rmi localhost/e2e-second:1 >/dev/null
base_layers=$(layers "$base")
base_slice="[:$base_layers]"
equal "the application and a second image have the same base blobs" \
  "$(manifest "$app" | jq -c ".layers$base_slice | map(.digest)") $(manifest "$app" | jq -c ".layers$base_slice | map(.digest)")" \
  "$(manifest "$second" | jq -c ".layers$base_slice | map(.digest)") $(manifest "$base" | jq -c ".layers | map(.digest)")"
blobs "$base" base
blobs "$app" app
blobs "$second" second
build_multi
# From here on a command that fails fails its check, not the script.
set +e

section "what goes over the wire: an empty cache"
target=$registry/e2e/slim
mark
check "squash --base into another repository" squash --remove none --base "$base" "$app" "$target:app"
requests first
blobs "$target:app" squashed
show first
first=$(digest)
equal "each base layer was read once, to learn its names" "$(sizes "$base")" "$(each first downloaded "$base")"
equal "each base layer was mounted, once" "$(same "$base_layers" 1)" "$(each first mounted "$base")"
equal "no base layer was uploaded" "$(same "$base_layers" 0)" "$(each first uploaded "$base")"
equal "each other layer was read once" "$(sizes "$app" "[$base_layers:]")" "$(each first downloaded "$app" "[$base_layers:]")"
equal "two blobs were uploaded: the new layer, once, and the config" "1 2" \
  "$(each first uploaded "$target:app" "[$base_layers:]") $(count first '$1 == "PUT" && $2 == "upload"')"
equal "the tag was put once, and after all else" "1 PUT manifest 201" \
  "$(count first '$1 == "PUT" && $2 == "manifest"') $(tail -n 1 "$out/first.requests" | cut -f 1-3 | tr '\t' ' ')"

section "what goes over the wire: a second image on the base"
mark
check "squash --base" squash --remove none --base "$base" "$second" "$target:second"
requests second
blobs "$target:second" "second squashed"
show second
equal "no base layer was read" "$(same "$base_layers" 0)" "$(each second downloaded "$base")"
equal "no request names a base layer's blob for reading" 0 \
  "$(manifest "$base" | jq -r '.layers[].digest' | grep -cFf - <(grep "^GET" "$out/second.requests"))"
equal "no base layer was uploaded" "$(same "$base_layers" 0)" "$(each second uploaded "$base")"
equal "the base and one layer more" "$(manifest "$base" | jq -c '[.layers[].digest]') 1" \
  "$(manifest "$target:second" | jq -c --argjson n "$base_layers" '[.layers[:$n][].digest]') $(($(layers "$target:second") - base_layers))"

section "what goes over the wire: the first again"
mark
check "the same command" squash --remove none --base "$base" "$app" "$target:app"
requests again
show again
equal "the same digest" "$first" "$(digest)"
equal "no layer was read" 0 "$({ manifest "$app" && manifest "$target:app"; } | jq -r '.layers[].digest' | grep -cFf - <(grep "^GET" "$out/again.requests"))"
equal "nothing was written" 0 "$(count again '$1 != "GET" && $1 != "HEAD"')"
check "it says so" grep -q 'already squashed' "$out/squash.err"

section "an index with all that may be in one"
# listing FILE prints the entries of an index.
listing() {
  jq -r '.manifests[] | "  \(.digest[7:19])  \(.platform | if . then [.os, .architecture, .variant, ."os.version"] | map(select(.)) | join("/") else "-" end)  \(.artifactType // .mediaType)  \(.annotations // {} | tojson)"' "$1"
}
listing "$docs/multi.json"
regctl tag ls "$multi" | sed 's/^/  tag /'

# entries FILE: those that stay, without what a rewrite changes.
entries() { jq -c '.manifests[] | select(.annotations["vnd.docker.reference.type"] == null) | del(.digest, .size)' "$1"; }
# entry FILE N: the digest of an entry.
entry() { jq -r ".manifests[$2].digest" "$1"; }

# First, while the target has none of the blobs.
refuses "--attestations fail" 3 'attestations fail.*3 ' --attestations fail --platform linux/amd64 "$multi:1" "$registry/e2e/multi-fail:1"
absent "--attestations fail: there is no tag" "$registry/e2e/multi-fail:1"

multi_slim=$registry/e2e/multi-slim
check "squash" squash --report "$out/multi-report.json" "$multi:1" "$multi_slim:1"
all=$(digest)
manifest "$multi_slim:1" >"$docs/result.json"
listing "$docs/result.json"
jq -r '.platforms[] | [.platform, .before.layers, .after.layers, .before.stored_bytes, .after.stored_bytes, .digest[7:19]] | @tsv' "$out/multi-report.json" |
  awk -F '\t' 'BEGIN { printf "  %-14s %-12s %26s\n", "", "layers", "bytes stored" }
    { printf "  %-14s %3d => %-4d %12d => %-12d %s\n", $1, $2, $3, $4, $5, $6 }'
grep -E '^note: |^  sha256:' "$out/squash.err" | sed 's/^/  /'
equal "stdout is the target and its digest" "$multi_slim@$(hash_of "$docs/result.json")" "$(line)"
equal "entries: order, platforms, annotations and types stay; the attestation is left out" "$(entries "$docs/multi.json")" "$(entries "$docs/result.json")"
equal "the index's annotations and a member that slim does not know stay" \
  "$(jq -c '.annotations, ."com.example.extra"' "$docs/multi.json")" "$(jq -c '.annotations, ."com.example.extra"' "$docs/result.json")"
check "a large number stays exact" grep -q 12345678901234567 "$docs/result.json"
equal "the digest that was listed twice is" "$(entry "$docs/result.json" 0)" "$(entry "$docs/result.json" 5)"
equal "the descriptors of what is not rewritten are as they were" "$(jq -c '.manifests[2,5]' "$docs/multi.json")" "$(jq -c '.manifests[1,4]' "$docs/result.json")"
for name in windows policy; do
  regctl manifest get --format raw-body "$multi_slim@$(hash_of "$docs/$name.json")" >"$docs/$name.got"
  same_file "$name: the manifest is the same to the byte" "$docs/$name.json" "$docs/$name.got"
done
check "windows: another tool pulls it" skopeo copy -q --src-tls-verify=false "docker://$multi_slim@$(hash_of "$docs/windows.json")" "dir:$out/windows"
check "policy: its blob is there" test "$(regctl blob get "$multi_slim" "$(hash_of "$docs/statement")" | sha256sum)" = "$(sha256sum <"$docs/statement")"
equal "an attestation and what refers to an old digest are not copied" "" \
  "$(for hash in "$(hash_of "$docs/attestation.json")" "$referrer" "$(hash_of "$docs/cosign.json")"; do crane digest "$multi_slim@$hash" 2>/dev/null; done)"
manifest "$multi_slim@$(entry "$docs/result.json" 3)" >"$docs/nested-result.json"
check "the nested index is another" test "$(hash_of "$docs/nested.json")" != "$(entry "$docs/result.json" 3)"
equal "the nested index: entries and annotations stay" "$(entries "$docs/nested.json") $(jq -c .annotations "$docs/nested.json")" \
  "$(entries "$docs/nested-result.json") $(jq -c .annotations "$docs/nested-result.json")"
for of in "amd64 $(entry "$docs/result.json" 0)" "arm64 $(entry "$docs/result.json" 2)" "riscv $(entry "$docs/nested-result.json" 0)"; do
  name=${of% *} hash=${of#* }
  equal "$name: one layer" 1 "$(layers "$multi_slim@$hash")"
  if [ "$name" = amd64 ]; then crane config "$app" >"$docs/amd64.config"; fi
  equal "$name: the config is for the same platform" "$(jq -c '[.os, .architecture, .variant, .created]' "$docs/$name.config")" \
    "$(crane config "$multi_slim@$hash" | jq -c '[.os, .architecture, .variant, .created]')"
  regctl blob get "$multi_slim" "$(manifest "$multi_slim@$hash" | jq -r '.layers[0].digest')" | tar -tzf - | grep -v '/$' | sort >"$out/$name.names"
done
equal "the images for amd64 and arm64 differ in one file of $(wc -l <"$out/amd64.names")" srv/arm64 "$(comm -3 "$out/amd64.names" "$out/arm64.names" | xargs)"
equal "the image for riscv64 holds what its two layers leave" "etc/added etc/kept" "$(xargs <"$out/riscv.names")"
printf '%s %s\n' "$amd64" "$(hash_of "$docs/attestation.json")" "$amd64" "$referrer" "$amd64" "$(hash_of "$docs/cosign.json")" | sort >"$out/invalidated.want"
jq -r '.invalidated[] | "\(.subject) \(.digest)"' "$out/multi-report.json" | sort >"$out/invalidated.got"
same_file "the report lists the attestation, the referrer and the signature" "$out/invalidated.want" "$out/invalidated.got"
jq -r '.invalidated[] | "  \(.kind)"' "$out/multi-report.json"
equal "skopeo, crane and regctl read the same index" "$all $all $all" \
  "sha256:$(skopeo inspect --raw --tls-verify=false "docker://$multi_slim:1" | sha256sum | cut -d ' ' -f 1) $(crane digest "$multi_slim:1") $(regctl manifest head "$multi_slim:1")"
equal "skopeo inspects the image for this machine" "amd64 linux 1" \
  "$(skopeo inspect --tls-verify=false --override-arch amd64 "docker://$multi_slim:1" | jq -r '"\(.Architecture) \(.Os) \(.Layers | length)"')"
check "the same command again" squash "$multi:1" "$multi_slim:1"
equal "the same command again: the same digest" "$all" "$(digest)"
check "the same command again: it says that there was nothing to do" grep -q 'already squashed' "$out/squash.err"
check "squash of the squashed" squash "$multi_slim:1" "$registry/e2e/multi-again:1"
equal "squash of the squashed: the same digest" "$all" "$(digest)"

check "--platform" squash --platform linux/riscv64 "$multi:1" "$registry/e2e/multi-one:1"
equal "--platform: an image, as it is in the whole index" "$(entry "$docs/nested-result.json" 0) $oci.manifest.v1+json" \
  "$(digest) $(manifest "$registry/e2e/multi-one:1" | jq -r .mediaType)"
check "--platform, twice, with --attestations fail: nothing names these" \
  squash --attestations fail --platform linux/riscv64 --platform linux/arm64/v8 "$multi:1" "$registry/e2e/multi-two:1"
manifest "$registry/e2e/multi-two:1" >"$docs/two.json"
listing "$docs/two.json"
equal "--platform, twice: these images alone, in the index's order" "$(jq -c '.manifests[2,3]' "$docs/result.json")" "$(jq -c '.manifests[]' "$docs/two.json")"
equal "--platform, twice: the index's annotations stay" "$(jq -c .annotations "$docs/multi.json")" "$(jq -c .annotations "$docs/two.json")"
refuses "--platform for Windows" 1 'windows' --platform windows/amd64 "$multi:1" "$registry/e2e/multi-windows:1"

check "an index with an entry of an unknown media type" squash "$multi:unknown" "$registry/e2e/multi-unknown:1"
equal "unknown media type: the entry is the same, the image is not" "$(jq -c '.manifests[0]' "$docs/unknown.json") 1" \
  "$(manifest "$registry/e2e/multi-unknown:1" | jq -c '.manifests[0]') $(layers "$registry/e2e/multi-unknown@$(manifest "$registry/e2e/multi-unknown:1" | jq -r '.manifests[1].digest')")"

section "formats and compressions, as other tools take them"
printf '  %s\n' "$(skopeo --version)" "umoci $(umoci --version | head -n 1)" "crane $(crane version)" "regctl $(regctl version | awk '/VCSTag/ { print $2 }')" \
  "$(podman --version)" "docker engine $(docker version --format '{{.Server.Version}}')"
podman_pull() { podman pull -q --tls-verify=false "$1" >/dev/null; }
crane_validate() { crane validate --remote "$1"; }
crane_pull() { crane pull --format oci "$1" "$out/crane.oci"; }
skopeo_dir() { skopeo copy -q --src-tls-verify=false "docker://$1" "dir:$out/skopeo"; }
regctl_copy() { regctl image copy "$1" "ocidir://$out/regctl.oci:it" >/dev/null; }
# umoci_unpack compares too.
umoci_unpack() { unpack "$1" interop && cmp "$out/first.list" "$out/interop.list"; }
# podman_mount: what podman made of the layers.
# The root's own mode is the engine's.
podman_mount() {
  podman_pull "$1" || return
  "$out/listtree" -no-root-mtime "$(podman image mount "$1")" >"$out/podman.list"
  podman image unmount "$1" >/dev/null
  podman rmi "$1" >/dev/null
  cmp <(tail -n +2 "$out/first.list") <(tail -n +2 "$out/podman.list")
}
# docker_pull: the engine has the config that the registry has.
docker_pull() {
  local id
  docker pull -q "$1" >/dev/null || return
  id=$(docker image inspect --format '{{.Id}}' "$1")
  docker rmi "$1" >/dev/null
  equal "the engine's ID is the config's digest" "$(manifest "$1" | jq -r .config.digest)" "$id" | grep '^ok'
}

# tool NAME COMMAND REF counts a check, and adds its result to the row.
tool() {
  if "$2" "$3" >"$out/tool.log" 2>&1; then
    ok "$kind: $1"
    row="$row	ok"
  else
    fail "$kind: $1"
    row="$row	FAIL"
    tail -n 3 "$out/tool.log" | cut -c 1-300 | sed 's/^/  /'
  fi
}
# lacks NAME COMMAND REF: a tool that is known not to read this; it says why.
lacks() {
  if "$2" "$3" >"$out/tool.log" 2>&1; then
    row="$row	ok"
  else
    row="$row	-"
    echo "  $kind: $1 does not read it: $(tail -n 1 "$out/tool.log" | cut -c 1-300)"
  fi
}

# types FORMAT COMPRESSION: the media types of manifest, config and written layer.
types() {
  case $1/$2 in
  oci/none) echo "$oci.manifest.v1+json $oci.config.v1+json $oci.layer.v1.tar" ;;
  oci/*) echo "$oci.manifest.v1+json $oci.config.v1+json $oci.layer.v1.tar+$2" ;;
  docker/none) echo "$docker.distribution.manifest.v2+json $docker.container.image.v1+json $docker.image.rootfs.diff.tar" ;;
  docker/*) echo "$docker.distribution.manifest.v2+json $docker.container.image.v1+json $docker.image.rootfs.diff.tar.$2" ;;
  esac
}

# What the first gives is what all must give.
check "squash" squash --base "$base" "$app" "$registry/e2e/interop:first"
unpack "$registry/e2e/interop:first" first
# The engines keep the base, which all results share.
podman_pull "$base"
docker pull -q "$base" >/dev/null
rows=()
for kind in oci/gzip oci/zstd oci/none docker/gzip docker/none; do
  format=${kind%/*} compression=${kind#*/}
  ref=$registry/e2e/interop:$format-$compression
  row=$kind
  check "$kind: squash" squash --base "$base" --format "$format" --compression "$compression" "$app" "$ref"
  equal "$kind: the types are of one family" "$(types "$format" "$compression")" "$(manifest "$ref" | jq -r '.mediaType, .config.mediaType, .layers[-1].mediaType' | xargs)"
  tool "skopeo copy to a folder" skopeo_dir "$ref"
  if [ "$compression" = zstd ]; then lacks "umoci unpack" umoci_unpack "$ref"; else tool "umoci unpack" umoci_unpack "$ref"; fi
  if [ "$compression" = gzip ]; then tool "crane validate" crane_validate "$ref"; else lacks "crane validate" crane_validate "$ref"; fi
  tool "crane pull" crane_pull "$ref"
  tool "regctl image copy" regctl_copy "$ref"
  tool "podman pull" podman_mount "$ref"
  if [ "$compression" = zstd ]; then lacks "docker pull" docker_pull "$ref"; else tool "docker pull" docker_pull "$ref"; fi
  rows+=("$row")
  rm -rf "$out/trees/interop" "$out/crane.oci" "$out/skopeo" "$out/regctl.oci"
done
printf '%s\n' "	skopeo	umoci	crane val.	crane pull	regctl	podman	docker" "${rows[@]}" |
  awk -F '\t' '{ printf "  %-12s", $1; for (i = 2; i <= NF; i++) printf " %-11s", $i; print "" }'
echo "  -: the tool does not read this compression"

section "in place"
place=$registry/e2e/place:1
crane copy "$second" "$place" 2>/dev/null
old=$(crane digest "$place")
refuses "the same tag without --in-place" 2 'in-place' --base "$base" "$place" "$place"
equal "the same tag without --in-place: it is as it was" "$old" "$(crane digest "$place")"
check "squash --in-place" squash --in-place --base "$base" "$place" "$place"
sed 's/^/  /' "$out/squash.err"
new=$(crane digest "$place")
equal "the tag names the result" "$(digest)" "$new"
check "the result is another image" test "$new" != "$old"
check "it says what the tag was" grep -q "$old" "$out/squash.err"
check "squash --in-place again" squash --in-place --base "$base" "$place" "$place"
equal "again: the tag stays" "$new" "$(crane digest "$place")"
check "again: nothing to do" grep -q 'nothing to do' "$out/squash.err"

# A tag that another moves while slim is at work.
moved=$registry/e2e/moved:1
crane copy "$app" "$moved" 2>/dev/null
crane copy "$second" "$registry/e2e/moved:2" 2>/dev/null
mark
"$slim" squash --progress none --in-place --remove none "$moved" "$moved" >"$out/squash.out" 2>"$out/squash.err" &
pid=$!
# The digest is read now, the layers are not yet.
until tail -n +$((log_from + 1)) "$access_log" | grep -q '"GET /v2/e2e/moved/blobs/' || ! kill -0 "$pid" 2>/dev/null; do :; done
crane tag "$registry/e2e/moved:2" 1 2>/dev/null
check "slim was still at work when the tag moved" kill -0 "$pid"
wait "$pid"
equal "a tag that was moved meanwhile: exit code 1" 1 $?
sed 's/^/  /' "$out/squash.err" | cut -c 1-300
equal "a tag that was moved meanwhile: it stays where it was moved to" "$(crane digest "$registry/e2e/moved:2")" "$(crane digest "$moved")"
check "no temporary file is left" test -z "$(ls -A "$TMPDIR")"

summary
