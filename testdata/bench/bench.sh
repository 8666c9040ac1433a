#!/usr/bin/env bash
# Measures slim beside its peers and prints tables in Markdown: with a registry on
# loopback, through a slow link, by growing images, above a base, and with little
# memory. Needs root, a Debian with Go, and about 25 GB of disk.
#
# usage: bench.sh SLIM
# From the environment:
#   WORK    folder for images, programs and results; /var/tmp/slim-bench
#   TABLES  of squash, network, growth, base, memory, images (which only builds); all
#   CASES   of lib.sh, those of each table
#   TOOLS   of tool.sh; all
#   ROUNDS  how often everything is run, 3
#   LIMITS  of the table memory, in MiB; 0 is none
#   APPEND  not empty: add to the results that are there
#   DOCKER_SQUASH_DIR  sources of docker-squash, which is left out without them; it
#                      needs docker.io, cgroupfs-mount and python3-docker
# WORK/results.tsv has every run, WORK/results.md what is printed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../e2e/lib.sh
. "$here/../e2e/lib.sh"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 1 ]; then
  sed -n '/^# usage/,/^set/s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
SLIM=$(realpath "$1")
mkdir -p "${WORK:=/var/tmp/slim-bench}"
WORK=$(cd "$WORK" && pwd)
export SLIM WORK
exec 9>"$WORK/lock"
if ! flock -n 9; then
  echo "bench.sh: error: another run uses $WORK" >&2
  exit 1
fi
tables=${TABLES:-squash network growth base memory}
rounds=${ROUNDS:-3}
limits=${LIMITS:-0 256 128 96 64}
results=$WORK/results.tsv

# say prints what goes on; standard output is for the tables.
say() { printf '%s\n' "$*" >&2; }

# install_tools gets what is missing: peers of these versions are measured.
install_tools() {
  local package missing=()
  for package in buildah ca-certificates curl debian-archive-keyring debootstrap docker-registry e2fsprogs jq make mount skopeo util-linux; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) missing+=("$package") ;;
    esac
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    DEBIAN_FRONTEND=noninteractive apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" </dev/null
  fi
  mkdir -p "$WORK/bin"
  (cd "$here/../.." && CGO_ENABLED=0 go build -o "$WORK/bin/" ./testdata/bench/...)
  if [ ! -e "$WORK/bin/crane" ]; then
    GOBIN=$WORK/bin go install github.com/google/go-containerregistry/cmd/crane@v0.22.1
  fi
  if [ ! -e "$WORK/bin/regctl" ]; then
    GOBIN=$WORK/bin go install github.com/regclient/regclient/cmd/regctl@v0.11.7
  fi
}

# mount_temp gives the tools a file system of their own, so that what they take of it
# can be read from it, files without a name included.
mount_temp() {
  mkdir -p "$WORK/tmp"
  if ! mountpoint -q "$WORK/tmp"; then
    if [ ! -e "$WORK/tmp.img" ]; then
      truncate -s 32G "$WORK/tmp.img"
      mkfs.ext4 -q -F -m 0 -E lazy_itable_init=1,nodiscard "$WORK/tmp.img"
    fi
    # Past the cache of the file system below, which would hold everything twice.
    if ! loop=$(losetup --find --show --direct-io=on "$WORK/tmp.img") || ! mount -o discard "$loop" "$WORK/tmp"; then
      temp_note="no loop device: temporary disk is by how much the file system of WORK filled up, the registry's files included"
    fi
  fi
  export TMPDIR=$WORK/tmp/run
  rm -rf "$TMPDIR"
  mkdir -p "$TMPDIR"
}

# start_link starts the slow link to the registry.
start_link() {
  "$WORK/bin/delay" -rtt 20ms -rate 100000000 "$registry" >"$WORK/link" 9>&- &
  link_pid=$!
  while [ ! -s "$WORK/link" ]; do sleep 0.1; done
  link=$(cat "$WORK/link")
}

# make_group makes a control group for limits of memory and sets $group to its folder,
# or to nothing where this machine allows none.
make_group() {
  group=
  local root
  if [ -e /sys/fs/cgroup/memory/memory.limit_in_bytes ]; then
    root=/sys/fs/cgroup/memory
    limit_file=memory.limit_in_bytes
  elif grep -qsw memory /sys/fs/cgroup/cgroup.controllers; then
    root=/sys/fs/cgroup
    limit_file=memory.max
    echo +memory >"$root/cgroup.subtree_control" 2>/dev/null || return 0
  else
    return 0
  fi
  if mkdir "$root/slim-bench-$$" 2>/dev/null; then group=$root/slim-bench-$$; fi
}

stop() {
  if [ -n "${link_pid:-}" ]; then kill "$link_pid" 2>/dev/null || true; fi
  "$here/../e2e/registry.sh" stop "$WORK"
  if [ -n "${docker_pid:-}" ]; then "$here/../e2e/docker.sh" stop "$WORK/tmp"; fi
  if [ -n "${group:-}" ]; then rmdir "$group" || true; fi
  rm -rf "$WORK/tmp/run"
  if mountpoint -q "$WORK/tmp"; then umount "$WORK/tmp"; fi
  if [ -n "${loop:-}" ]; then losetup --detach "$loop"; fi
}

# warm touches free memory: a virtual machine gets it from its host only then, at a few
# hundred MB per second, and whatever runs next would seem as slow.
warm() {
  head -c 2G /dev/zero >/dev/shm/slim-bench || true
  rm -f /dev/shm/slim-bench
}

# forget removes from the registry what the last run wrote.
forget() {
  local store=$WORK/registry/storage/docker/registry/v2
  rm -rf "$store/repositories/bench-out"
  find "$store/blobs/sha256" -name data -newer "$WORK/marker" -printf '%h\0' | xargs -0r rm -rf
}

# one TABLE CASE TOOL SIZE ROUND: one run, one line of results. $address is where the
# registry is reached.
one() {
  local name=$2 tool=$3 run=$3 out=$WORK/log/$1-$2-$3-$5 before
  BASE=$(base_of "$name")
  if [ -n "$BASE" ]; then BASE=$address/bench/$BASE:1; fi
  CACHE=
  if [ "$tool" = slim-warm ]; then
    run=slim-base
    CACHE=$WORK/warm
  fi
  export BASE CACHE REPORT=$WORK/reports/$name.json
  # Names that are there to be stripped.
  export STRIP=/srv/s0/d0
  if [[ ${images[$name]} == localhost/* ]]; then STRIP=/usr/share/doc; fi
  local daemon=()
  if [ "$tool" = docker-squash ]; then daemon=(-daemon "$docker_pid"); fi
  rm -rf "$TMPDIR"
  mkdir -p "$TMPDIR"
  touch "$WORK/marker"
  sync
  warm
  before=$(wc -l <"$results")
  "$WORK/bin/measure" -out "$results" -tmp "$TMPDIR" -registry "$(cat "$WORK/registry/pid")" "${daemon[@]}" -timeout 40m \
    "$1" "$name" "$tool" "$4" "$5" -- \
    "$here/tool.sh" "$run" "$address/bench/$name:1" "$address/bench-out/$name-$tool:$5" >"$out" 2>&1 </dev/null || {
    cat "$out" >&2
    return 1
  }
  say "$(sed -n "$((before + 1))s/\t/ /gp" "$results")"
  if [ "$(sed -n "$((before + 1))p" "$results" | cut -f6)" != 0 ]; then tail -n 3 "$out" >&2; fi
  if [ "$tool" = docker-squash ]; then docker system prune -af >/dev/null; fi
  forget
}

# describe CASE: what slim says of a squash, with and without the base, once.
describe() {
  local kind flags
  for kind in '' -base; do
    flags=(--remove none)
    if [ -n "$kind" ]; then
      if [ -z "$(base_of "$1")" ]; then continue; fi
      flags+=(--base "$registry/bench/$(base_of "$1"):1")
    fi
    "$SLIM" squash -q --no-cache --dry-run --report "$WORK/reports/$1$kind.json" "${flags[@]}" \
      "$registry/bench/$1:1" "$registry/bench-out/none:1"
  done
}

# figure CASE FILTER: of the report.
figure() { jq -r ".platforms[0] | $2" "$WORK/reports/$1.json"; }
written='[.written[].inflated_bytes] | add'

# remember CASE: the blobs of its image are in memory, as for the runs after it.
remember() {
  local store=$WORK/registry/storage/docker/registry/v2/blobs/sha256 digest
  skopeo inspect --raw --tls-verify=false "docker://$registry/bench/$1:1" | jq -r '.layers[].digest' | sort -u |
    while IFS=: read -r _ digest; do cat "$store/${digest:0:2}/$digest/data"; done >/dev/null
}

# chosen LIST: the words of LIST that CASES has.
chosen() {
  local word
  for word in $1; do
    if [ -z "${CASES:-}" ] || contains "$word" "$CASES"; then echo "$word"; fi
  done
}

# turned N LIST: LIST turned round by N, so that no tool is always the first.
turned() {
  local n=$1
  shift
  # shellcheck disable=SC2206  # a list of words
  local list=($*)
  n=$((n % ${#list[@]}))
  echo "${list[@]:n}" "${list[@]:0:n}"
}

# compare TABLE CASES TOOLS: rounds over cases over tools.
compare() {
  local table=$1 cases=$2 tools=$3 round name tool
  for round in $(seq "$rounds"); do
    for name in $(chosen "$cases"); do
      remember "$name"
      for tool in $(turned "$round" "$tools"); do
        if [ "$tool" = slim-base ] && [ -z "$(base_of "$name")" ]; then continue; fi
        if [ "$tool" = docker-squash ] && [ -z "${DOCKER_SQUASH_DIR:-}" ]; then continue; fi
        if [ -n "${TOOLS:-}" ] && ! contains "$tool" "$TOOLS"; then continue; fi
        one "$table" "$name" "$tool" "$(figure "$name" "$written")" "$round"
      done
    done
  done
}

table_squash() {
  address=$registry
  compare squash "$squash_cases" 'slim crane buildah regctl docker-squash limit-gzip6 slim-base
    slim-gzip9 limit-gzip9 slim-gzip5 limit-gzip5 slim-zstd3 buildah-zstd3 skopeo-zstd3 limit-zstd3'
}

table_network() {
  start_link
  address=$link
  # The engine of docker-squash is left out: what it pulls, it does not encode.
  compare network "$network_cases" 'slim slim-base crane buildah regctl limit-gzip6'
}

table_growth() {
  address=$registry
  local round name size
  for round in $(seq "$rounds"); do
    for name in $(chosen "$growth_cases"); do
      case $name in
      bytes-*) size=$(figure "$name" "$written") ;;
      files-*) size=$(figure "$name" '[.written[].entries] | add') ;;
      layers-*) size=$(figure "$name" .before.layers) ;;
      esac
      remember "$name"
      one growth "$name" slim "$size" "$round"
    done
  done
}

table_base() {
  address=$registry
  local round name tool
  rm -rf "$WORK/warm"
  for name in $(chosen "$base_cases"); do
    XDG_CACHE_HOME=$WORK/warm "$SLIM" squash -q --dry-run --remove none --base "$registry/bench/$(base_of "$name"):1" \
      "$registry/bench/$name:1" "$registry/bench-out/none:1"
  done
  for round in $(seq "$rounds"); do
    for name in $(chosen "$base_cases"); do
      remember "$name"
      for tool in slim-warm slim-base slim; do
        one base "$name" "$tool" "$(figure "$name-base" "$written")" "$round"
      done
    done
  done
}

table_memory() {
  address=$registry
  local round name limit
  make_group
  if [ -z "$group" ]; then
    memory_note="no control group for memory can be made here: peak resident memory without a limit"
    limits=0
  fi
  for round in $(seq "$rounds"); do
    for name in $(chosen "$memory_cases"); do
      remember "$name"
      for limit in $limits; do
        CGROUP=
        if [ "$limit" != 0 ]; then
          CGROUP=$group
          echo $((limit << 20)) >"$group/$limit_file"
        fi
        CGROUP=$CGROUP one memory "$name" slim $((limit << 20)) "$round"
      done
    done
  done
}

# header describes the machine and the tools.
header() {
  cat <<HEADER
# Benchmarks

Made by \`make bench\` with $rounds rounds, interleaved: each round runs every tool on every case.

| | |
|---|---|
| processor | $(nproc) cores, $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1) |
| memory | $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo) |
| system | $(. /etc/os-release && echo "$PRETTY_NAME"), Linux $(uname -r), $(findmnt -n -o FSTYPE -T "$WORK") |
| Go | $(go env GOVERSION) |
| slim | $("$SLIM" version | head -n 1) |
| crane | $("$WORK/bin/crane" version) |
| regctl | $("$WORK/bin/regctl" version --format '{{.VCSTag}}') |
| buildah | $(command buildah --version) |
| skopeo | $(skopeo --version) |
| registry | $(docker-registry --version | sed 's/ [^ ]* / /') |

HEADER
  if [ -n "${temp_note:-}" ]; then printf 'Note: %s.\n\n' "$temp_note"; fi
  if [ -n "${memory_note:-}" ]; then printf 'Note: %s.\n\n' "$memory_note"; fi
}

install_tools >&2
trap stop EXIT
registry=$("$here/../e2e/registry.sh" start "$WORK" 9>&-)
all=
for table in $tables; do
  if [ "$table" = images ]; then
    all="$all $squash_cases $network_cases $growth_cases $base_cases $memory_cases"
  else
    of_table=${table}_cases
    all="$all ${!of_table}"
  fi
done
mapfile -t cases < <(chosen "$all" | awk '!seen[$0]++')
"$here/images.sh" "$WORK" "$registry" "${cases[@]}" >&2
tables=$(sed 's/\bimages\b//; s/^ *//; s/ *$//' <<<"$tables")
if [ -z "$tables" ]; then exit; fi
mount_temp
mkdir -p "$WORK/log" "$WORK/reports"
if [ -z "${APPEND:-}" ] || [ ! -e "$results" ]; then
  if [ -e "$results" ]; then mv "$results" "$results.old"; fi
  : >"$results"
fi
touch "$WORK/marker"
for name in "${cases[@]}"; do
  describe "$name"
done
if [ -n "${DOCKER_SQUASH_DIR:-}" ] && contains squash "$tables"; then
  DOCKER_HOST=$("$here/../e2e/docker.sh" start "$WORK/tmp" 9>&-)
  docker_pid=$(cat "$WORK/tmp/docker/pid")
  export DOCKER_HOST DOCKER_SQUASH_DIR
fi
for table in $tables; do
  "table_$table"
done
{
  header
  "$WORK/bin/table" "$results"
} | tee "$WORK/results.md"
