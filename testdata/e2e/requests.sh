# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Requests, as the registry logged them in $access_log: source it.

# mark begins to count.
mark() { log_from=$(wc -l <"$access_log"); }

# requests NAME: those since the mark, in $out/NAME.requests, tab separated:
# method, kind, status, bytes of the answer, digest.
requests() {
  tail -n +$((log_from + 1)) "$access_log" | awk '
    { gsub(/%3A/, ":"); split($0, part, "\""); split(part[2], asked, " "); split(part[3], answer, " "); uri = asked[2] }
    { digest = match(uri, /sha256:[0-9a-f]+/) ? substr(uri, RSTART, RLENGTH) : "-" }
    { kind = "ping" }
    uri ~ /\/manifests\// { kind = "manifest" }
    uri ~ /\/referrers\// { kind = "referrers" }
    uri ~ /\/blobs\/sha256:/ { kind = "blob" }
    uri ~ /\/blobs\/uploads\// { kind = uri ~ /[?&]mount=/ ? "mount" : "upload" }
    { print asked[1] "\t" kind "\t" answer[1] "\t" (asked[1] == "GET" ? answer[2] : 0) "\t" digest }' >"$out/$1.requests"
}

# blobs REF WHAT remembers how the layers and the config of an image are called,
# in $out/blobs: digest, bytes, name. The first name of a digest stays.
blobs() {
  manifest "$1" | jq -r --arg what "$2" '(.config | "\(.digest)\t\(.size)\t\($what) config"),
    (.layers | to_entries[] | "\(.value.digest)\t\(.value.size)\t\($what) layer \(.key + 1)")' >>"$out/blobs"
}

# show NAME lists the requests, and what they moved.
show() {
  echo "  $(wc -l <"$out/$1.requests") requests"
  awk -F '\t' '{ n[$1 "\t" $2 "\t" $3]++; bytes[$1 "\t" $2 "\t" $3] += $4 }
    END { for (k in n) { split(k, f, "\t"); printf "    %3d  %-5s %-9s %s %12d bytes in the answers\n", n[k], f[1], f[2], f[3], bytes[k] } }' \
    "$out/$1.requests" | sort -k 3,3 -k 2,2
  awk -F '\t' -v OFS='\t' '
    NR == FNR { if (!($1 in name)) { order[++count] = $1; size[$1] = $2; name[$1] = $3 } next }
    $1 == "GET" && $2 == "blob" { got[$5] += $4 }
    $1 == "PUT" && $2 == "upload" { put[$5] += size[$5] }
    $2 == "mount" && $3 == 201 { mounted[$5] = "mounted" }
    END {
      printf "    %-22s %12s %12s %12s\n", "", "bytes", "downloaded", "uploaded"
      for (i = 1; i <= count; i++) {
        d = order[i]
        if (d in got || d in put || d in mounted) printf "    %-22s %12d %12d %12d  %s\n", name[d], size[d], got[d], put[d], mounted[d]
      }
    }' "$out/blobs" "$out/$1.requests"
}

# count NAME CONDITION: the requests for which the awk condition holds. Of a blob,
# downloaded NAME DIGEST is the bytes in the answers, uploaded how often it was
# uploaded, mounted how often it was mounted.
count() { awk -F '\t' "$2 { n++ } END { print n + 0 }" "$out/$1.requests"; }
downloaded() { awk -F '\t' -v digest="$2" '$1 == "GET" && $2 == "blob" && $5 == digest { n += $4 } END { print n + 0 }' "$out/$1.requests"; }
uploaded() { count "$1" "(\$1 == \"PUT\" || \$1 == \"POST\") && \$2 == \"upload\" && \$5 == \"$2\""; }
mounted() { count "$1" "\$2 == \"mount\" && \$3 == 201 && \$5 == \"$2\""; }

# each NAME FUNCTION REF [LAYERS]: what the function says of each layer of an image,
# or of the layers in a jq slice of them; sizes REF [LAYERS] their bytes.
each() {
  local digest
  for digest in $(manifest "$3" | jq -r ".layers${4:-}[].digest"); do "$2" "$1" "$digest"; done | xargs
}
sizes() { manifest "$1" | jq -r ".layers${2:-}[].size" | xargs; }
# same N WORD: the word N times.
same() { yes "$2" | head -n "$1" | xargs; }
