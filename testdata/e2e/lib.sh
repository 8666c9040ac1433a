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
section() { printf '\n== %s\n' "$*"; }

# storage WORKDIR: buildah keeps images below WORKDIR from here on.
storage() {
  export BUILDAH_ISOLATION=chroot
  export STORAGE_DRIVER
  STORAGE_DRIVER=$(cat "$1/storage-driver")
  storage_dir=$1
}
buildah() { command buildah --root "$storage_dir/storage" --runroot "$storage_dir/runroot" "$@"; }

# base_image and app_image are the names that build-image.sh gives.
base_image=localhost/e2e-base:12
app_image=localhost/e2e-app:1
