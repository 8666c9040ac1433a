#!/usr/bin/env bash
# Checks how slim logs in to a registry and reaches it: passwords from every
# place, TLS, proxies, tokens that expire; what it says when that fails; and
# that no secret is in anything it prints or writes.
#
# usage: check-auth.sh WORKDIR SLIM      (with the images of build-image.sh)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -ne 2 ]; then
  echo "usage: check-auth.sh WORKDIR SLIM" >&2
  exit 2
fi
workdir=$(cd "$1" && pwd)
slim=$(realpath "$2")
storage "$workdir"
out=$workdir/check-auth
rm -rf "$out"
mkdir -p "$out/home" "$out/tmp" "$out/bin"
pids=()
# shellcheck disable=SC2317  # the trap calls it
stop() {
  if [ "${#pids[@]}" -gt 0 ]; then
    kill "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
  fi
}
trap stop EXIT

# answers HOST:PORT tells whether something listens there.
answers() { (exec 3<>"/dev/tcp/${1%:*}/${1#*:}") 2>/dev/null; }

# registry NAME AUTH TLS: starts a registry with the two parts of its
# configuration; its address is in $address. Clients that take plain HTTP from
# 127.0.0.1 do not from 127.0.0.2.
port=${REGISTRY_PORT:-5305}
registry() {
  while answers "127.0.0.2:$port"; do port=$((port + 1)); done
  address=127.0.0.2:$port
  port=$((port + 1))
  mkdir -p "$out/$1/storage"
  cat >"$out/$1/config.yml" <<CONFIG
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $out/$1/storage}}
http: {addr: "$address"$3}
$2
CONFIG
  docker-registry serve "$out/$1/config.yml" >"$out/$1/log" 2>&1 </dev/null &
  pids+=($!)
  for _ in $(seq 100); do
    if answers "$address"; then return; fi
    sleep 0.1
  done
  echo "check-auth.sh: error: no answer from $address" >&2
  tail -n 20 "$out/$1/log" >&2
  return 1
}

# server NAME ARGUMENTS...: starts netserver, its lines in $out/NAME.lines; its
# address is in $address.
server() {
  local name=$1
  shift
  "$out/netserver" "$@" >"$out/$name.lines" 2>"$out/$name.err" </dev/null &
  pids+=($!)
  for _ in $(seq 100); do
    address=$(head -n 1 "$out/$name.lines")
    if [ -n "$address" ]; then return; fi
    sleep 0.1
  done
  echo "check-auth.sh: error: netserver $* does not start" >&2
  cat "$out/$name.err" >&2
  return 1
}

section "registries, certificates and images"
(
  cd "$here/../.."
  CGO_ENABLED=0 go build -o "$out/netserver" ./testdata/e2e/netserver
  go run ./testdata/e2e/badinput "$out/images"
)
small=oci:$out/images/good
user=builder
# With what URLs and JSON have to escape.
password='s3cr&t/pa+ss="w0rd'
proxy_password=pr0xyS3cret
encoded() { printf %s "$1" | base64 -w 0; }
# auths HOST PASSWORD: a file as docker login and podman login write it.
auths() { jq -n --arg host "$1" --arg auth "$(encoded "$user:$2")" '{auths: {($host): {auth: $auth}}}'; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=registry.invalid \
  -addext subjectAltName=IP:127.0.0.2,DNS:registry.invalid -keyout "$out/key.pem" -out "$out/ca.pem" 2>/dev/null
printf '%s\n' "$password" | htpasswd -i -B -c "$out/htpasswd" "$user" 2>/dev/null
registry secret "auth: {htpasswd: {realm: e2e, path: $out/htpasswd}}" ", tls: {certificate: $out/ca.pem, key: $out/key.pem}"
secret=$address
registry plain "" ""
plain=$address
server proxy proxy -to 127.0.0.2
proxy=$address
server closed-proxy proxy -to 127.0.0.2 -credentials "$user:$proxy_password"
closed_proxy=$address
echo "with TLS and a password: $secret, without both: $plain, proxies: $proxy $closed_proxy"

mkdir -p "$out/docker" "$out/helper" "$out/broken-helper" "$out/runtime/containers" "$out/dot-docker/.docker" "$out/wrong"
auths "$secret" "$password" | tee "$out/docker/config.json" "$out/runtime/containers/auth.json" \
  "$out/dot-docker/.docker/config.json" >"$out/auth.json"
auths "$secret" not-the-Password >"$out/wrong/config.json"
# As podman has it for a namespace; the one of the registry is wrong.
auths "$secret/mine" "$password" | jq --slurpfile wrong "$out/wrong/config.json" '.auths += $wrong[0].auths' >"$out/namespace.json"
jq -n --arg host "$secret" '{credHelpers: {($host): "test"}}' >"$out/helper/config.json"
jq -n --arg host "$secret" '{credHelpers: {($host): "broken"}}' >"$out/broken-helper/config.json"
cat >"$out/bin/docker-credential-test" <<HELPER
#!/bin/sh
# The command is get, the registry is on standard input.
read -r server
echo "\$1 \$server" >>'$out/helper.log'
cat '$out/helper.json'
HELPER
jq -n --arg server "$secret" --arg user "$user" --arg secret "$password" \
  '{ServerURL: $server, Username: $user, Secret: $secret}' >"$out/helper.json"
cat >"$out/bin/docker-credential-broken" <<'HELPER'
#!/bin/sh
echo "the keyring is locked"
exit 1
HELPER
chmod +x "$out/bin"/*

# From here on a command that fails fails its check, not the script.
set +e

# leaks FILE...: the secrets that files have.
leaks() {
  local s found=
  for s in "$password" "$(encoded "$password")" "$(encoded "$user:$password")" "$(jq -rn --arg s "$password" '$s | @uri')" \
    "$(jq -rn --arg s "$password" '$s | tojson[1:-1]')" not-the-Password "$(encoded "$user:not-the-Password")" \
    "$proxy_password" "$(encoded "$user:$proxy_password")"; do
    if grep -qF -- "$s" "$@" 2>/dev/null; then found="$found $s"; fi
  done
  # Of a token its signature is enough.
  if tail -q -n +2 "$out"/token*.lines 2>/dev/null | sed 's/.*\.//' | grep . >"$out/signatures" &&
    grep -qFf "$out/signatures" "$@" 2>/dev/null; then
    found="$found a token"
  fi
  printf %s "$found"
}

for s in "$password" "error: $(encoded "$user:$password")" "http://$user:$proxy_password@proxy"; do
  printf '%s\n' "$s" >"$out/planted"
  check "a secret would be found in ${s%%[:=]*}…" test -n "$(leaks "$out/planted")"
done

# run NAME CODE PATTERN... -- ARGUMENTS...: runs slim squash with the
# environment in $with. It must end with the code and say what the patterns
# (extended regular expressions) match: an error on standard error, or the one
# line of standard output. Nothing may have a secret.
with=()
run() {
  local name=$1 want=$2 patterns=() code p problems=
  shift 2
  while [ "$1" != -- ]; do
    patterns+=("$1")
    shift
  done
  shift
  rm -f "$out/report.json"
  printf '$ %s\n' "${with[*]//$out\//}${with:+ }slim squash ${*//$out\//}"
  env -u DOCKER_CONFIG -u REGISTRY_AUTH_FILE -u XDG_RUNTIME_DIR -u http_proxy -u https_proxy -u no_proxy -u HTTP_PROXY -u HTTPS_PROXY \
    -u NO_PROXY HOME="$out/home" PATH="$out/bin:$PATH" TMPDIR="$out/tmp" "${with[@]}" \
    "$slim" squash -v --progress none --report "$out/report.json" "$@" >"$out/stdout" 2>"$out/stderr" </dev/null
  code=$?
  [ "$code" -eq "$want" ] || problems="$problems; exit code $want expected"
  if [ "$want" -eq 0 ]; then
    grep -Eqx '[^ ]+@sha256:[0-9a-f]{64}|sha256:[0-9a-f]{64}' "$out/stdout" || problems="$problems; stdout should be the target and its digest"
    [ -s "$out/report.json" ] || problems="$problems; no report"
  else
    grep -q '^slim: error: ' "$out/stderr" || problems="$problems; no line 'slim: error:'"
    [ ! -s "$out/stdout" ] || problems="$problems; stdout is not empty"
  fi
  for p in "${patterns[@]}"; do
    grep -Eq -- "$p" "$out/stderr" || problems="$problems; stderr should match $p"
  done
  p=$(leaks "$out/stdout" "$out/stderr" "$out/report.json")
  [ -z "$p" ] || problems="$problems; a secret is printed:$p"
  if [ "$want" -eq 0 ] && [ -z "$problems" ]; then
    sed 's/^/  /' "$out/stdout"
  else
    sed 's/^/  /' "$out/stderr"
  fi
  if [ -z "$problems" ]; then ok "$name: exit $code"; else fail "$name: exit $code$problems"; fi
}
login="hint: .*docker login $secret"

section "the right password"
trusted=(--ca-file "$out/ca.pem")
# both NAME ARGUMENTS...: writes to a repository of that name and reads from it.
both() {
  local name=$1
  shift
  run "$name: writing" 0 -- "${trusted[@]}" "$@" "$small" "$secret/mine/$name:1"
  run "$name: reading" 0 -- "${trusted[@]}" "$@" "$secret/mine/$name:1" "oci:$out/read:$name"
}
with=("DOCKER_CONFIG=$out/docker") && both docker-config
with=("REGISTRY_AUTH_FILE=$out/auth.json") && both registry-auth-file
with=("DOCKER_CONFIG=$out/wrong") && both authfile --authfile "$out/auth.json"
with=() && both namespace --authfile "$out/namespace.json"
with=("DOCKER_CONFIG=$out/helper") && both helper
check "the helper was asked for $secret" grep -qx "get $secret" "$out/helper.log"
with=("HOME=$out/dot-docker") && both home
with=("XDG_RUNTIME_DIR=$out/runtime") && both podman-login
equal "all wrote the same" 1 "$(find "$out/secret/storage" -path '*/_manifests/tags/1/current/link' -exec cat {} + | grep -o 'sha256:[0-9a-f]*' | sort -u | wc -l)"
with=()
run "--base-layers and --verify" 0 -- "${trusted[@]}" --authfile "$out/auth.json" --base-layers 1 --verify "$secret/mine/authfile:1" "$secret/mine/base:1"

section "no, or not the right password"
denied=('401|UNAUTHORIZED')
with=("DOCKER_CONFIG=$out/wrong")
run "wrong password, reading" 1 "${denied[@]}" "$login" -- "${trusted[@]}" "$secret/mine/helper:1" "oci:$out/denied:1"
run "wrong password, writing" 1 "${denied[@]}" "$login" -- "${trusted[@]}" "$small" "$secret/mine/denied:1"
run "wrong password, of the base" 1 "${denied[@]}" "$login" -- "${trusted[@]}" --base "$secret/mine/helper:1" "$small" "oci:$out/denied:1"
with=("DOCKER_CONFIG=$out/docker")
run "a wrong --authfile counts before DOCKER_CONFIG" 1 "${denied[@]}" "$login" -- "${trusted[@]}" --authfile "$out/wrong/config.json" "$small" "$secret/mine/denied:1"
with=()
run "no password, reading" 1 "${denied[@]}" "$login" -- "${trusted[@]}" "$secret/mine/helper:1" "oci:$out/denied:1"
run "no password, writing" 1 "${denied[@]}" "$login" -- "${trusted[@]}" "$small" "$secret/mine/denied:1"
with=("DOCKER_CONFIG=$out/broken-helper")
run "a helper that fails" 1 'keyring is locked' -- "${trusted[@]}" "$small" "$secret/mine/denied:1"
with=()
run "no such --authfile" 2 'absent\.json' -- "${trusted[@]}" --authfile "$out/absent.json" "$small" "$secret/mine/denied:1"
echo '{"auths": ' >"$out/cut.json"
run "an --authfile that is cut off" 1 'cut\.json' -- "${trusted[@]}" --authfile "$out/cut.json" "$small" "$secret/mine/denied:1"
check "nothing was written" test ! -e "$out/denied" -a ! -e "$out/secret/storage/docker/registry/v2/repositories/mine/denied"

section "TLS"
with=("DOCKER_CONFIG=$out/docker")
unknown=('certificate signed by unknown authority|certificate is not trusted' "hint: .*--ca-file.*--insecure=$secret")
run "an unknown certificate" 1 "${unknown[@]}" -- "$small" "$secret/mine/tls:1"
run "--insecure of another host" 1 "${unknown[@]}" -- --insecure=registry.invalid "$small" "$secret/mine/tls:1"
run "--insecure of another port" 1 "${unknown[@]}" -- --insecure="$plain" "$small" "$secret/mine/tls:1"
run "--insecure" 0 -- --insecure "$small" "$secret/mine/tls:1"
run "--insecure=HOST:PORT" 0 -- --insecure="$secret" "$small" "$secret/mine/tls:2"
run "--insecure=HOST" 0 -- --insecure=127.0.0.2 "$small" "$secret/mine/tls:3"
run "--ca-file" 0 -- "${trusted[@]}" "$small" "$secret/mine/tls:4"
run "no such --ca-file" 2 'absent\.pem' -- --ca-file "$out/absent.pem" "$small" "$secret/mine/tls:5"
run "a --ca-file without certificates" 1 'auth\.json' -- --ca-file "$out/auth.json" "$small" "$secret/mine/tls:5"
with=()
run "HTTP where HTTPS is expected" 1 'HTTP response to HTTPS client|without TLS' "hint: .*--insecure=$plain" -- "$small" "$plain/plain:1"
run "HTTP with --insecure" 0 -- --insecure "$small" "$plain/plain:1"
run "HTTP with --insecure=HOST:PORT" 0 -- --insecure="$plain" "$plain/plain:1" "oci:$out/read:plain"
run "nobody listens" 1 'connection refused' -- --insecure --retries 0 "$small" 127.0.0.2:1/app:1

section "a proxy"
named=registry.invalid:${secret#*:}
named_plain=registry.invalid:${plain#*:}
auths "$named" "$password" >"$out/named.json"
log=(--authfile "$out/named.json" --retries 0)
with=("HTTPS_PROXY=http://$proxy")
run "HTTPS_PROXY" 0 -- "${log[@]}" "${trusted[@]}" "$small" "$named/mine/proxy:1"
check "the proxy was asked to connect" grep -qx "CONNECT $named" "$out/proxy.lines"
run "HTTPS_PROXY, reading" 0 -- "${log[@]}" "${trusted[@]}" "$named/mine/proxy:1" "oci:$out/read:proxy"
run "a certificate of another name" 1 'registry\.invalid.*not other\.invalid|valid for' 'hint: .*--insecure=other\.invalid' -- "${log[@]}" "${trusted[@]}" "$small" "other.invalid:${secret#*:}/mine/proxy:1"
with=("HTTP_PROXY=http://$proxy")
run "HTTP_PROXY" 0 -- --insecure "$small" "$named_plain/proxy:1"
check "the proxy was asked for pages" grep -Eqx "(PUT|PATCH) $named_plain" "$out/proxy.lines"
with=("HTTPS_PROXY=http://$proxy" "NO_PROXY=.invalid")
asked=$(wc -l <"$out/proxy.lines")
run "NO_PROXY" 1 'lookup registry\.invalid' -- "${log[@]}" "${trusted[@]}" "$small" "$named/mine/proxy:2"
equal "the proxy was not asked" "$asked" "$(wc -l <"$out/proxy.lines")"
with=("HTTPS_PROXY=http://$user:$proxy_password@$closed_proxy")
run "a proxy with the right password" 0 -- "${log[@]}" "${trusted[@]}" "$small" "$named/mine/proxy:3"
with=("HTTPS_PROXY=http://$user:not-the-Password@$closed_proxy")
run "a proxy with a wrong password" 1 'Proxy Authentication Required|407' -- "${log[@]}" "${trusted[@]}" "$small" "$named/mine/proxy:4"
with=("HTTPS_PROXY=http://$user:$proxy_password@127.0.0.2:1")
run "a proxy that is down" 1 'proxy' '127\.0\.0\.2:1' 'connection refused' -- "${log[@]}" "${trusted[@]}" "$small" "$named/mine/proxy:4"
with=()

section "tokens that expire during a transfer"
buildah push -q --format oci "$base_image" "oci:$out/base:1"
base=$(jq -r '.manifests[0].digest' "$out/base/index.json")
layers=$(jq '.layers | length' "$out/base/blobs/sha256/${base#sha256:}")
bytes=$(jq '[.layers[].size] | add' "$out/base/blobs/sha256/${base#sha256:}")
check "$bytes bytes in $layers layers take some time" test "$bytes" -gt 80000000
copy=(-j 1 --remove none --base-layers "$layers")
# lasting NAME LIFE SAYS RATE DELAY TOKENS: pushes and pulls through a way so
# slow, with tokens that live so long; the pull takes so many at least.
lasting() {
  local name=$1 issued pulled slow
  mkdir -p "$out/token-$name"
  server "token-$name" token -dir "$out/token-$name" -life "$2" -says "$3" -credentials "$user:$password"
  registry "tokened-$name" "auth: {token: {realm: \"http://localhost:${address#*:}/token\", service: e2e, issuer: netserver, rootcertbundle: $out/token-$name/cert.pem}}" ""
  server "slow-$name" slow -to "$address" -rate "$4" -delay "$5"
  slow=$address
  auths "$slow" "$password" >"$out/slow.json"
  run "$name: pushing" 0 -- --authfile "$out/slow.json" "${copy[@]}" "oci:$out/base:1" "$slow/app:1"
  issued=$(($(wc -l <"$out/token-$name.lines") - 1))
  echo "  $issued tokens; answers: $(tail -n +2 "$out/slow-$name.lines" | awk '{ print $1, $2 }' | sort | uniq -c | awk '{ printf "%s%s × %s %s", sep, $1, $2, $3; sep = ", " }')"
  check "$name: more than one token was needed" test "$issued" -gt 1
  # A whole blob is sent again only where the token was refused for it.
  equal "$name: every blob is sent once" $((layers + 1)) "$(grep -c '^PATCH 202 ' "$out/slow-$name.lines")"
  run "$name: pulling" 0 -- --authfile "$out/slow.json" "${copy[@]}" "$slow/app:1" "oci:$out/pulled-$name:1"
  pulled=$(($(wc -l <"$out/token-$name.lines") - 1 - issued))
  check "$name: and for that $pulled" test "$pulled" -ge "$6"
  equal "$name: what came back is what was there" "$base" "$(jq -r '.manifests[0].digest' "$out/pulled-$name/index.json")"
  auths "$slow" not-the-Password >"$out/slow.json"
  run "$name: wrong password" 1 401 "hint: .*docker login $slow" -- --authfile "$out/slow.json" "$slow/app:1" "oci:$out/denied:1"
  run "$name: no password" 1 401 "hint: .*docker login $slow" -- "$small" "$slow/app:2"
}
lasting known 2s 2 20000000 0s 1
# The server does not tell how short they are, and by the time of the content
# the token has expired with which a transfer began.
lasting untold 1s 0 50000000 1500ms 2
tail -n 1 "$out/token-untold.lines" >"$out/planted"
check "a token would be found" test -n "$(leaks "$out/planted")"
check "no temporary file is left" test -z "$(ls -A "$out/tmp")"

summary
