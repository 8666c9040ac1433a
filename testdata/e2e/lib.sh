# shellcheck shell=bash disable=SC2034,SC2154
# Functions that the checks share: source it.

passed=0
failed=0

# ok TEXT and fail TEXT count a check and say how it went.
ok() {
  passed=$((passed + 1))
  printf 'ok: %s\n' "$*"
}
fail() {
  failed=$((failed + 1))
  printf 'FAIL: %s\n' "$*"
}

# check TEXT COMMAND...: the command's exit code decides.
check() {
  local text=$1
  shift
  if "$@"; then ok "$text"; else fail "$text"; fi
}

# equal TEXT WANT GOT
equal() {
  if [ "$2" = "$3" ]; then
    ok "$1"
  else
    fail "$1"
    printf '  want: %s\n  got:  %s\n' "$2" "$3"
  fi
}

# same_file TEXT WANT GOT: equal contents; the first differences are printed.
same_file() {
  if [ -s "$2" ] && cmp -s "$2" "$3"; then
    ok "$1"
  else
    fail "$1"
    diff "$2" "$3" | head -n 20 || true
  fi
}

# summary prints the counts and returns 1 if a check failed.
summary() {
  printf '\n%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

# section TITLE
section() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

# storage WORKDIR: buildah keeps images below WORKDIR from here on.
storage() {
  export BUILDAH_ISOLATION=chroot
  export STORAGE_DRIVER
  STORAGE_DRIVER=$(cat "$1/storage-driver")
  storage_dir=$1
}
buildah() { command buildah --root "$storage_dir/storage" --runroot "$storage_dir/runroot" "$@"; }

# build_listtree builds $out/listtree.
build_listtree() { (cd "$here/../.." && CGO_ENABLED=0 go build -o "$out/listtree" ./testdata/e2e/listtree); }

# squash FLAGS... SOURCE TARGET: runs $slim, its lines in $out/squash.{out,err};
# printed when it fails.
squash() {
  "$slim" squash --progress none "$@" >"$out/squash.out" 2>"$out/squash.err" || {
    local code=$?
    echo "  slim squash $* => exit $code"
    sed 's/^/  /' "$out/squash.err"
    return "$code"
  }
}

# line prints the one line of the last squash; digest its digest, or what equals
# no other digest.
line() { cat "$out/squash.out"; }
digest() { grep -o 'sha256:[0-9a-f]\{64\}' "$out/squash.out" | tail -n 1 | grep . || echo "no digest at $SECONDS s, $RANDOM"; }

# manifest REF prints it; layers and stored count its layers and their bytes.
manifest() { crane manifest "$1"; }
layers() { manifest "$1" | jq '.layers | length'; }
stored() { manifest "$1" | jq '[.layers[].size] | add'; }

# unpack REF NAME: the image's tree at $out/trees/NAME by umoci, its
# listing in $out/NAME.list.
unpack() {
  rm -rf "$out/trees/$2" "$out/trees/$2.oci" "$out/$2.list"
  skopeo copy -q --src-tls-verify=false -f oci "docker://$1" "oci:$out/trees/$2.oci:it"
  umoci raw unpack --image "$out/trees/$2.oci:it" "$out/trees/$2" >"$out/umoci.log" 2>&1 || {
    cat "$out/umoci.log"
    return 1
  }
  rm -rf "$out/trees/$2.oci"
  "$out/listtree" -no-root-mtime "$out/trees/$2" >"$out/$2.list"
}

# base_image and app_image are the names that build-image.sh gives.
base_image=localhost/e2e-base:12
app_image=localhost/e2e-app:1
