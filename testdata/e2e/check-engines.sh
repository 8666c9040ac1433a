#!/usr/bin/env bash
# Checks slim between engines: from and to a Docker engine, through pipes with
# docker, podman and containerd, and with an archive as Docker's image store of
# containerd saves it.
#
# usage: check-engines.sh WORKDIR SLIM      (as root, with the images of
# build-image.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 2 ]; then
  echo "usage: check-engines.sh WORKDIR SLIM" >&2
  exit 2
fi
workdir=$(cd "$1" && pwd)
slim=$(realpath "$2")
storage "$workdir"
out=$workdir/check-engines
# A socket's path may have 107 bytes at most, which WORKDIR may exceed; another
# user has to reach what lies in public.
sockets=/run/slim-e2e-$(printf %s "$out" | sha256sum | cut -c 1-12)-engines
public=
pids=()
stop() {
  if [ "${#pids[@]}" -gt 0 ]; then
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
  fi
  "$here/docker.sh" stop "$out"
  "$here/registry.sh" stop "$out"
  # A mount may be left of what was cut off.
  mountpoint -q "$out/mnt" && umount "$out/mnt"
  if [ -e "$out/podman" ]; then podman system reset -f >/dev/null 2>&1 || true; fi
  rm -rf "$sockets" "$public"
}
pod=(
  env podman --root "$out/podman/root" --runroot "$out/podman/run" --tmpdir "$out/podman/tmp"
  --storage-driver "$STORAGE_DRIVER" --storage-opt "$STORAGE_DRIVER.imagestore=$workdir/storage"
  --runtime runc --cgroup-manager cgroupfs --events-backend file
)
podman() { "${pod[@]}" "$@"; }
ctr() { command ctr --address "$sockets/containerd.sock" "$@"; }
trap stop EXIT
mkdir -p "$out"
stop
rm -rf "$out"
mkdir -p "$out/tmp" "$out/mnt" "$out/podman" "$sockets"
export TMPDIR=$out/tmp
registry=$(REGISTRY_PORT=${REGISTRY_PORT:-5255} "$here/registry.sh" start "$out")
DOCKER_HOST=$("$here/docker.sh" start "$out")
export DOCKER_HOST
public=$(mktemp -d /var/tmp/slim-check-engines.XXXXXX)
chmod 755 "$public"
cp "$slim" "$public/slim"

# squash FLAGS... SOURCE TARGET: runs slim, its lines in $out/squash.{out,err},
# printed when it fails; its peak resident memory must have bounds.
squash() {
  command time -q -f %M -o "$out/squash.memory" "$slim" squash --progress none "$@" >"$out/squash.out" 2>"$out/squash.err" || {
    local code=$?
    echo "  slim squash $* => exit $code"
    sed 's/^/  /' "$out/squash.err"
    return "$code"
  }
  printf '  %d KiB of memory\n' "$(cat "$out/squash.memory")"
  [ "$(cat "$out/squash.memory")" -lt 250000 ]
}

# refused NAME CODE PATTERN... -- COMMAND...: the command must end with the code
# and say what the patterns (extended regular expressions) match, in lines of
# slim alone.
refused() {
  local name=$1 want=$2 patterns=() code p problems=
  shift 2
  while [ "$1" != -- ]; do
    patterns+=("$1")
    shift
  done
  shift
  "$@" >"$out/refused.out" 2>"$out/refused.err" </dev/null
  code=$?
  [ "$code" -eq "$want" ] || problems="$problems; exit code $want expected"
  grep -q '^slim: error: ' "$out/refused.err" || problems="$problems; no line 'slim: error:'"
  [ ! -s "$out/refused.out" ] || problems="$problems; stdout is not empty"
  for p in "${patterns[@]}"; do
    grep -Eq -- "$p" "$out/refused.err" || problems="$problems; stderr should match $p"
  done
  sed 's/^/  /' "$out/refused.err"
  if [ -z "$problems" ]; then ok "$name: exit $code"; else fail "$name: exit $code$problems"; fi
}

# id, layers and settings IMAGE: of what the engine has. What a squash has to
# change is no setting.
id() { docker inspect --type image -f '{{.Id}}' "$1"; }
layers() { docker inspect --type image "$1" | jq -c '.[0].RootFS.Layers'; }
settings() {
  docker inspect --type image "$1" | jq -S '.[0] | del(.Id, .RepoTags, .RepoDigests, .RootFS.Layers, .GraphDriver, .Size,
    .VirtualSize, .Metadata, .Parent, .Comment)'
}

# says COMMAND...: what an image prints that the command runs, twice with other
# arguments; engines do not keep the order of two streams.
says() {
  { "$@" && "$@" other arguments; } 2>"$out/says.err"
  cat "$out/says.err"
}
run_docker() { docker run --rm --network none "$@"; }
# Neither may limits be raised in every sandbox, nor does systemd run there.
run_podman() { podman run --rm --network none --no-healthcheck --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@"; }

# tree IMAGE NAME: the listing of the engine's filesystem of an image in
# $out/NAME.list.
tree() {
  local lower upper
  lower=$(docker image inspect --format '{{index .GraphDriver.Data "LowerDir"}}' "$1")
  upper=$(docker image inspect --format '{{index .GraphDriver.Data "UpperDir"}}' "$1")
  case $lower in
  '' | '<no value>') mount --bind "$upper" "$out/mnt" ;;
  *) mount -t overlay overlay -o "ro,lowerdir=$upper:$lower" "$out/mnt" ;;
  esac
  "$out/listtree" -no-root-mtime "$out/mnt" >"$out/$2.list"
  umount "$out/mnt"
}

section "images in the registry $registry and the engine $DOCKER_HOST"
(
  cd "$here/../.."
  CGO_ENABLED=0 go build -o "$out/listtree" ./testdata/e2e/listtree
  go run ./testdata/e2e/badinput "$out/images"
)
base=$registry/e2e/base:1
app=$registry/e2e/app:1
buildah push -q --tls-verify=false --format v2s2 "$base_image" "docker://$base"
buildah push -q --tls-verify=false --format v2s2 "$app_image" "docker://$app"
for name in base app; do
  skopeo copy -q --src-tls-verify=false --dest-daemon-host "$DOCKER_HOST" "docker://$registry/e2e/$name:1" "docker-daemon:e2e/$name:1"
done
"$slim" squash -q "oci:$out/images/good" "docker-daemon:e2e/small:1"
from=docker-daemon:e2e/app:1
settings e2e/app:1 >"$out/source.settings"
says run_docker e2e/app:1 >"$out/source.says"
{ docker run --rm --network none e2e/app:1 2>/dev/null && head -n 1 "$out/says.err"; } >"$out/ctr.want"
sed 's/^/  /' "$out/source.says"
tree e2e/app:1 source
app_layers=$(layers e2e/app:1 | jq length)
base_layers=$(layers e2e/base:1 | jq length)
echo "base: $base_layers layers, application: $app_layers layers"
check "the source has settings" test "$(jq '.Config | [.Healthcheck, .User, .Volumes, .Entrypoint, .Cmd] | map(select(. != null)) | length' "$out/source.settings")" -eq 5
# From here on a command that fails fails its check, not the script.
set +e

# same KIND: the engine's image e2e/KIND:1 does as the source does, and it is
# the one that slim named.
same() {
  equal "$1: the ID is the engine's" "$(id "e2e/$1:1")" "$(cat "$out/squash.out")"
  settings "e2e/$1:1" >"$out/$1.settings"
  same_file "$1: docker inspect shows the same" "$out/source.settings" "$out/$1.settings"
  says run_docker "e2e/$1:1" >"$out/$1.says"
  same_file "$1: docker run prints the same" "$out/source.says" "$out/$1.says"
}

section "from the engine to the engine"
check "whole" squash --remove none --verify "$from" docker-daemon:e2e/whole:1
same whole
equal "whole: one layer" 1 "$(layers e2e/whole:1 | jq length)"
tree e2e/whole:1 whole
same_file "whole: the engine's overlay shows the same tree" "$out/source.list" "$out/whole.list"
check "above a base of the engine" squash --remove none --base docker-daemon:e2e/base:1 "$from" docker-daemon:e2e/above:1
same above
equal "above: the base's layers are those of the source" "$(layers e2e/base:1)" "$(layers e2e/above:1 | jq -c ".[:$base_layers]")"
equal "above: and one more" $((base_layers + 1)) "$(layers e2e/above:1 | jq length)"
tree e2e/above:1 above
same_file "above: the engine's overlay shows the same tree" "$out/source.list" "$out/above.list"
check "above a base in a registry" squash --remove none --base "$base" "$from" docker-daemon:e2e/mixed:1
equal "mixed: the same layers as above a base of the engine" "$(layers e2e/above:1)" "$(layers e2e/mixed:1)"

section "again"
before=$(docker images -aq --no-trunc | sort -u)
check "the squashed image, by its ID" squash --remove none "docker-daemon:$(id e2e/whole:1)" docker-daemon:e2e/again:1
equal "the ID stays" "$(id e2e/whole:1)" "$(id e2e/again:1)"
equal "no image is left beside those with names" "$before" "$(docker images -aq --no-trunc | sort -u)"
refused "the same tag" 2 in-place -- "$slim" squash docker-daemon:e2e/small:1 docker-daemon:e2e/small:1
docker tag e2e/above:1 e2e/place:1
check "in place" squash --remove none --in-place docker-daemon:e2e/place:1 docker-daemon:e2e/place:1
equal "in place: the tag moved" "$(cat "$out/squash.out")" "$(id e2e/place:1)"
equal "in place: one layer" 1 "$(layers e2e/place:1 | jq length)"
check "in place: the old image is printed" grep -q "$(id e2e/above:1)" "$out/squash.err"

section "between the engine and the registry"
check "to the registry, above its base" squash --remove none --base "$base" "$from" "$registry/e2e/pushed:1"
equal "pushed: the base's blobs are those of the base" \
  "$(crane manifest "$base" | jq -c '[.layers[] | [.digest, .size]]')" \
  "$(crane manifest "$registry/e2e/pushed:1" | jq -c "[.layers[:$base_layers][] | [.digest, .size]]")"
check "back to the engine" squash --remove none --base-layers $((base_layers + 1)) "$registry/e2e/pushed:1" docker-daemon:e2e/pulled:1
equal "pulled: the layers that were squashed in the engine" "$(layers e2e/above:1)" "$(layers e2e/pulled:1)"
same pulled

section "which engine"
small=docker-daemon:e2e/small:1
export DOCKER_CONFIG=$out/docker-config
mkdir "$DOCKER_CONFIG"
env -u DOCKER_HOST docker context create e2e --docker "host=$DOCKER_HOST" >/dev/null 2>&1
env -u DOCKER_HOST docker context create e2e-none --docker "host=unix://$out/none.sock" >/dev/null 2>&1
# elsewhere VARIABLE=VALUE... -- ARGUMENTS...: slim squash without DOCKER_HOST.
elsewhere() {
  local vars=()
  while [ "$1" != -- ]; do
    vars+=("$1")
    shift
  done
  shift
  env -u DOCKER_HOST "${vars[@]}" "$slim" squash -q "$@"
}
check "DOCKER_CONTEXT" elsewhere DOCKER_CONTEXT=e2e -- "$small" docker-daemon:e2e/context:1
check "the image is there" id e2e/context:1
refused "DOCKER_CONTEXT of an engine that does not run" 1 "$out/none.sock" 'hint: .*running\?.*e2e-none' -- \
  elsewhere DOCKER_CONTEXT=e2e-none -- "$small" docker-daemon:e2e/x:1
refused "no such DOCKER_CONTEXT" 1 'no-such-context' 'hint: .*docker context ls' -- \
  elsewhere DOCKER_CONTEXT=no-such-context -- "$small" docker-daemon:e2e/x:1
check "DOCKER_HOST counts before DOCKER_CONTEXT" elsewhere DOCKER_CONTEXT=e2e-none "DOCKER_HOST=$DOCKER_HOST" -- "$small" docker-daemon:e2e/host:1
env -u DOCKER_HOST docker context use e2e >/dev/null 2>&1
check "the current context" elsewhere -- "$small" docker-daemon:e2e/current:1
check "the image is there" id e2e/current:1
env -u DOCKER_HOST docker context use e2e-none >/dev/null 2>&1
refused "the current context's engine does not run" 1 'hint: .*e2e-none' -- elsewhere -- "$small" docker-daemon:e2e/x:1
unset DOCKER_CONFIG

section "no image, no engine, no permission"
refused "no such source" 1 'e2e/absent:1' 'hint: docker images' -- "$slim" squash docker-daemon:e2e/absent:1 "oci:$out/x:1"
refused "no such base" 1 'e2e/absent:1' 'hint: docker images' -- "$slim" squash --base docker-daemon:e2e/absent:1 "$small" "oci:$out/x:1"
refused "a base that is none" 1 'base' -- "$slim" squash --base docker-daemon:e2e/small:1 docker-daemon:e2e/base:1 "oci:$out/x:1"
refused "no name" 2 'Not A Name' 'hint: .*docker-daemon:NAME:TAG' -- "$slim" squash "docker-daemon:Not A Name" "oci:$out/x:1"
refused "an ID as target" 2 'hint: .*docker-daemon:NAME:TAG' -- "$slim" squash "$small" "docker-daemon:$(id e2e/small:1)"
refused "the engine does not run, source" 1 'none\.sock' 'hint: .*running\?.*DOCKER_HOST' -- \
  env "DOCKER_HOST=unix://$out/none.sock" "$slim" squash "$small" "oci:$out/x:1"
refused "the engine does not run, target" 1 'none\.sock' 'hint: .*running\?.*DOCKER_HOST' -- \
  env "DOCKER_HOST=unix://$out/none.sock" "$slim" squash "oci:$out/images/good" "$small"
refused "no way to an engine" 1 'npipe' 'hint: unix://' -- env DOCKER_HOST=npipe:////./pipe/docker "$slim" squash "$small" "oci:$out/x:1"
refused "an engine's port with nobody" 1 'connection refused' 'hint: .*running' -- env DOCKER_HOST=tcp://127.0.0.2:1 "$slim" squash "$small" "oci:$out/x:1"
nobody() {
  (cd "$public" && setpriv --reuid=65534 --regid=65534 --clear-groups env TMPDIR=/var/tmp HOME=/nonexistent "$public/slim" squash "$@")
}
refused "another user, source" 1 'permission denied' 'hint: .*group docker' -- nobody "$small" "docker-archive:$public/x.tar"
refused "another user, target" 1 'permission denied' 'hint: .*group docker' -- nobody - "$small"
check "nothing was written" test ! -e "$out/x" -a -z "$(docker images -q e2e/x)"

section "interrupted"
before=$(docker images -aq --no-trunc | sort -u)
# interrupt SIGNAL CODE SECONDS: sends the signal to a squash after so long.
# Ended before is no failure, but then the tag must be there.
interrupted=0
interrupt() {
  local pid code
  # Job control keeps SIGINT from being ignored in the background.
  set -m
  "$slim" squash --progress none --created "$3" --remove none "$from" docker-daemon:e2e/interrupted:1 >/dev/null 2>"$out/squash.err" </dev/null &
  pid=$!
  set +m
  sleep "$3"
  kill -s "$1" "$pid" 2>/dev/null
  wait "$pid" 2>/dev/null
  code=$?
  if [ "$code" -eq 0 ]; then
    check "$1 after $3 s: it was done already, and the image is there" id e2e/interrupted:1
    docker rmi e2e/interrupted:1 >/dev/null
    return
  fi
  interrupted=$((interrupted + 1))
  equal "$1 after $3 s: exit code" "$2" "$code"
  check "$1 after $3 s: no tag is there" test -z "$(docker images -q e2e/interrupted)"
  equal "$1 after $3 s: nor another image" "$before" "$(docker images -aq --no-trunc | sort -u)"
  sed 's/^/  /' "$out/squash.err"
}
interrupt INT 130 1
interrupt TERM 143 3
check "it was interrupted at work" test "$interrupted" -gt 0

section "pipes with docker"
docker tag e2e/app:1 e2e/piped:1
docker save e2e/piped:1 | "$slim" squash --progress none --remove none - - 2>"$out/squash.err" | docker load -q
equal "docker save | slim squash - - | docker load: all end well" "0 0 0" "${PIPESTATUS[*]}"
check "the name came with it, and is that of the squashed image" test "$(layers e2e/piped:1 | jq length)" -eq 1
equal "the ID is on standard error" "$(id e2e/piped:1)" "$(grep -o 'sha256:[0-9a-f]*' "$out/squash.err" | tail -n 1)"
printf '%s\n' "$(id e2e/piped:1)" >"$out/squash.out"
same piped
docker save e2e/app:1 | "$slim" squash -q --remove none --base docker-daemon:e2e/base:1 - docker-archive:-:e2e/piped-above:1 | docker load -q
equal "above a base, with a name: all end well" "0 0 0" "${PIPESTATUS[*]}"
equal "piped-above: the layers that were squashed in the engine" "$(layers e2e/above:1)" "$(layers e2e/piped-above:1)"

section "pipes with podman"
# pods NAME: podman's image does as the source does.
pods() {
  says run_podman "$1" >"$out/podman.says"
  same_file "$1: podman run prints the same" "$out/source.says" "$out/podman.says"
  podman image inspect "$1" | jq -S '.[0].Config | {User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, StopSignal, Labels}' >"$out/podman.config"
  jq -S '.Config | {User, ExposedPorts, Env, Entrypoint, Cmd, Volumes, WorkingDir, StopSignal, Labels}' "$out/source.settings" >"$out/podman.want"
  same_file "$1: podman inspect shows the same" "$out/podman.want" "$out/podman.config"
}
"$slim" squash -q --remove none "$from" - | podman load >"$out/podman.log" 2>&1
equal "slim squash $from - | podman load: all end well" "0 0" "${PIPESTATUS[*]}"
tail -n 1 "$out/podman.log"
equal "podman gives the ID that docker gives" "$(id e2e/whole:1)" "sha256:$(podman image inspect -f '{{.Id}}' localhost/e2e/app:1)"
pods localhost/e2e/app:1
mounted=$(podman image mount localhost/e2e/app:1)
"$out/listtree" -no-root-mtime "$mounted" >"$out/podman.list"
podman image unmount localhost/e2e/app:1 >/dev/null
# No layer has an entry for the root, so engines give it a mode of their own.
grep -v '^"\." ' "$out/podman.list" >"$out/podman.paths"
grep -v '^"\." ' "$out/source.list" >"$out/podman.want"
same_file "podman mounts the same tree" "$out/podman.want" "$out/podman.paths"
equal "podman has the health check" "$(jq -cS .Config.Healthcheck "$out/source.settings")" "$(podman image inspect localhost/e2e/app:1 | jq -cS '.[0].Healthcheck')"
for format in docker-archive oci-archive; do
  podman save -q --format "$format" "$app_image" 2>"$out/podman.log" | tee "$out/saved.tar" | "$slim" squash -q --remove none - "docker-daemon:e2e/$format:1" >"$out/squash.out"
  equal "podman save --format $format | slim squash -: all end well" "0 0 0" "${PIPESTATUS[*]}"
  equal "$format: the layer that was squashed in the engine" "$(layers e2e/whole:1)" "$(layers "e2e/$format:1")"
  equal "$format: the ID is the engine's" "$(id "e2e/$format:1")" "$(cat "$out/squash.out")"
done
"$slim" squash -q --remove none --compression zstd oci-archive:- oci-archive:-:localhost/e2e-zstd:1 <"$out/saved.tar" | podman load >"$out/podman.log" 2>&1
equal "slim squash oci-archive:- oci-archive:- | podman load: all end well" "0 0" "${PIPESTATUS[*]}"
cat "$out/podman.log"
pods "$(grep -o 'Loaded image.*' "$out/podman.log" | sed 's/.*: //' | tail -n 1)"

section "podman in the engine's place"
"${pod[@]}" system service --time 0 "unix://$sockets/podman.sock" >"$out/service.log" 2>&1 </dev/null &
pids+=($!)
for _ in $(seq 100); do
  if [ -S "$sockets/podman.sock" ]; then break; fi
  sleep 0.1
done
DOCKER_HOST=unix://$sockets/podman.sock check "to itself" squash --remove none --verify "docker-daemon:$base_image" docker-daemon:e2e/served:1
equal "the ID is podman's" "sha256:$(podman image inspect -f '{{.Id}}' docker.io/e2e/served:1)" "$(cat "$out/squash.out")"
check "podman runs it" run_podman docker.io/e2e/served:1 cat /etc/debian_version

section "pipes with containerd"
cat >"$out/containerd.toml" <<CONFIG
version = 2
root = "$out/containerd/root"
state = "$sockets/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$sockets/containerd.sock"
CONFIG
containerd --config "$out/containerd.toml" >"$out/containerd.log" 2>&1 </dev/null &
pids+=($!)
for _ in $(seq 100); do
  if ctr version >/dev/null 2>&1; then break; fi
  sleep 0.1
done
check "containerd answers" test -n "$(ctr version)"
# imported NAME: containerd has all of the image, and it runs.
imported() {
  ctr images check "name==$1" | sed 's/^/  /'
  check "$1: complete and unpacked" test "$(ctr images check "name==$1" | awk 'END { print $4, $NF }')" = "complete true"
  ctr run --rm "$1" "run-$RANDOM" >"$out/ctr.says" 2>"$out/ctr.err"
  head -n 1 "$out/ctr.err" >>"$out/ctr.says"
  same_file "$1: ctr run prints the same" "$out/ctr.want" "$out/ctr.says"
}
"$slim" squash -q --remove none "$app" - | ctr images import --no-unpack=false - >"$out/ctr.log" 2>&1
equal "slim squash $app - | ctr images import -: all end well" "0 0" "${PIPESTATUS[*]}"
imported "$app"
"$slim" squash -q --remove none --format oci --compression zstd "$app" oci-archive:-:zstd | ctr images import --base-name localhost/e2e - >>"$out/ctr.log" 2>&1
equal "an OCI archive with zstd: all end well" "0 0" "${PIPESTATUS[*]}"
imported localhost/e2e:zstd
ctr images export "$out/exported.tar" localhost/e2e:zstd
"$slim" squash -q --remove none - "oci:$out/exported:1" <"$out/exported.tar" >"$out/squash.out"
equal "ctr images export, read by slim: there was nothing to do" "$(ctr images ls | awk '$1 == "localhost/e2e:zstd" { print $3 }')" "$(cat "$out/squash.out")"

section "an archive of Docker's image store of containerd, with blobs of one platform"
sparse=$out/sparse
skopeo copy -q --src-tls-verify=false -f oci "docker://$app" "oci:$sparse:1"
manifest=$(jq -c '.manifests[0] | del(.annotations)' "$sparse/index.json")
blob() { printf '%s/blobs/sha256/%s' "$sparse" "${1#sha256:}"; }
# store FILE: puts a document among the blobs and prints its digest and size.
store() {
  local d
  d=$(sha256sum "$1" | cut -c 1-64)
  mv "$1" "$(blob "$d")"
  printf '%s %s' "sha256:$d" "$(stat -c %s "$(blob "$d")")"
}
zeros=0000000000000000000000000000000000000000000000000000000000000000
oci=application/vnd.oci.image
jq -nc --argjson here "$manifest" --arg oci "$oci" --arg there "sha256:${zeros/0000/0064}" --arg proof "sha256:${zeros/0000/00aa}" '
  {schemaVersion: 2, mediaType: "\($oci).index.v1+json", manifests: [
    $here + {platform: {os: "linux", architecture: "amd64"}},
    {mediaType: "\($oci).manifest.v1+json", digest: $there, size: 1000, platform: {os: "linux", architecture: "arm64", variant: "v8"}},
    {mediaType: "\($oci).manifest.v1+json", digest: $proof, size: 500, platform: {os: "unknown", architecture: "unknown"},
      annotations: {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": $here.digest}}]}' >"$out/index.blob"
read -r digest size < <(store "$out/index.blob")
jq -nc --arg oci "$oci" --arg digest "$digest" --argjson size "$size" '
  {schemaVersion: 2, mediaType: "\($oci).index.v1+json", manifests: [{mediaType: "\($oci).index.v1+json", digest: $digest, size: $size,
    annotations: {"io.containerd.image.name": "docker.io/e2e/sparse:1", "org.opencontainers.image.ref.name": "1"}}]}' >"$sparse/index.json"
jq -c '[{Config: ("blobs/sha256/" + .config.digest[7:]), RepoTags: ["e2e/sparse:1"], Layers: [.layers[] | "blobs/sha256/" + .digest[7:]]}]' \
  "$(blob "$(jq -r .digest <<<"$manifest")")" >"$sparse/manifest.json"
tar -C "$sparse" -cf "$out/sparse.tar" blobs index.json manifest.json oci-layout
check "squash docker-archive:FILE" squash --remove none "docker-archive:$out/sparse.tar" docker-daemon:e2e/sparse:1
equal "sparse: the ID is the engine's" "$(id e2e/sparse:1)" "$(cat "$out/squash.out")"
equal "the layer that was squashed in the engine" "$(layers e2e/whole:1)" "$(layers e2e/sparse:1)"
"$slim" squash -q --remove none - - <"$out/sparse.tar" | docker load >"$out/docker.log"
equal "slim squash - - <FILE | docker load: all end well" "0 0" "${PIPESTATUS[*]}"
check "its name is the source's" grep -qx 'Loaded image: e2e/sparse:1' "$out/docker.log"
equal "the ID is the same" "$(id e2e/sparse:1)" "$(cat "$out/squash.out")"
check "squash oci-archive:FILE" squash --remove none "oci-archive:$out/sparse.tar" "oci:$out/from-sparse:1"
grep -Ei 'arm64|attest' "$out/squash.err" | sed 's/^/  /'
check "what is not there is named" grep -q 'linux/arm64' "$out/squash.err"
equal "the platform that is there is in the result" '["amd64"]' \
  "$(skopeo inspect --raw "oci:$out/from-sparse:1" | jq -c 'if .manifests then [.manifests[].platform.architecture] else ["amd64"] end')"
refused "a platform that is not there" 2 'linux/arm64' -- "$slim" squash --platform linux/arm64 "oci-archive:$out/sparse.tar" "oci:$out/x:1"
rm "$(blob "$(jq -r '.layers[3].digest' "$(blob "$(jq -r .digest <<<"$manifest")")")")"
tar -C "$sparse" -cf "$out/sparse.tar" blobs index.json manifest.json oci-layout
refused "a layer of its own is missing, docker-archive" 1 'layer 4|blobs/sha256' -- "$slim" squash "docker-archive:$out/sparse.tar" "oci:$out/x:1"
refused "a layer of its own is missing, oci-archive" 1 'layer 4' -- "$slim" squash "oci-archive:$out/sparse.tar" "oci:$out/x:1"

check "no temporary file is left" test -z "$(find "$out/tmp" -mindepth 1 -not -name 'storage*' -not -name 'libpod*')"

summary
