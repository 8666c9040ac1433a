# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Manifests, configs and indexes by hand, in $docs and in the registry: source it.

# hash_of FILE is its digest.
hash_of() { printf 'sha256:%s\n' "$(sha256sum <"$1" | cut -d ' ' -f 1)"; }

# descriptor TYPE FILE
descriptor() {
  jq -nc --arg type "$1" --arg digest "$(hash_of "$2")" --argjson size "$(stat -c %s "$2")" '{mediaType: $type, digest: $digest, size: $size}'
}

oci=application/vnd.oci.image
docker=application/vnd.docker
# blob REPOSITORY FILE and document REF FILE put a blob, or a manifest or index,
# into the registry.
blob() { regctl blob put "$1" <"$2" >/dev/null; }
document() {
  local type
  type=$(jq -r .mediaType "$2")
  regctl manifest put --content-type "$type" "$1" <"$2" >/dev/null
}

# layer NAME FOLDER: the folder as a layer, $docs/NAME.tar{,.gz}.
layer() {
  tar -C "$2" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -cf "$docs/$1.tar" .
  gzip -9nk "$docs/$1.tar"
}

# image REPOSITORY NAME PLATFORM LAYER...: an image by hand for a platform, which
# is JSON. Its manifest is $docs/NAME.json.
image() {
  local repository=$1 name=$2 platform=$3 layer config=$docs/$2.config
  shift 3
  jq -nc --argjson platform "$platform" '$platform + {created: "2024-01-01T00:00:00Z", config: {Cmd: ["/init"]},
    rootfs: {type: "layers", diff_ids: []}, history: []}' >"$config"
  jq -n --arg type $oci.manifest.v1+json '{schemaVersion: 2, mediaType: $type, config: {}, layers: []}' >"$docs/$name.json"
  for layer in "$@"; do
    add_layer "$name" "$layer"
    blob "$repository" "$docs/$layer.tar.gz"
  done
  put_image "$repository" "$name"
}

# edit FILE ARGUMENTS...: jq changes the file.
edit() {
  local file=$1
  shift
  jq -c "$@" "$file" >"$file.new" && mv "$file.new" "$file"
}

# add_layer NAME LAYER puts a layer above those of an image's documents.
add_layer() {
  edit "$docs/$1.config" --arg diffid "$(hash_of "$docs/$2.tar")" --arg by "layer $2" \
    '.rootfs.diff_ids += [$diffid] | .history += [{created: "2024-01-01T00:00:00Z", created_by: $by}]'
  edit "$docs/$1.json" --argjson layer "$(descriptor $oci.layer.v1.tar+gzip "$docs/$2.tar.gz")" '.layers += [$layer]'
}

# put_image REPOSITORY NAME puts an image's config and manifest, once its layers are there.
put_image() {
  edit "$docs/$2.json" --argjson config "$(descriptor $oci.config.v1+json "$docs/$2.config")" '.config = $config'
  blob "$1" "$docs/$2.config"
  document "$1@$(hash_of "$docs/$2.json")" "$docs/$2.json"
}

# build_multi makes $multi:1, an index with all that may be in one: of $app for
# amd64, which is listed twice.
build_multi() {
  mkdir -p "$docs"
  crane copy "$app" "$multi:amd64" 2>/dev/null
  manifest "$app" >"$docs/amd64.json"
  amd64=$(hash_of "$docs/amd64.json")
  build_arm64
  build_small
  build_attestation
  build_policy
  build_indexes
  build_unknown
  build_referrers
}

# build_arm64: the layers of the image for amd64 and one more.
build_arm64() {
  mkdir -p "$docs/arm64/srv"
  echo arm64 >"$docs/arm64/srv/arm64"
  layer arm64-layer "$docs/arm64"
  blob "$multi" "$docs/arm64-layer.tar.gz"
  crane config "$app" | jq -c '.architecture = "arm64" | .variant = "v8"' >"$docs/arm64.config"
  cp "$docs/amd64.json" "$docs/arm64.json"
  add_layer arm64 arm64-layer
  put_image "$multi" arm64
}

# build_small: an image for Windows and one of two layers.
build_small() {
  mkdir -p "$docs/windows/Files" "$docs/windows/Hives" "$docs/riscv-1/etc" "$docs/riscv-2/etc"
  echo hello >"$docs/windows/Files/hello.txt"
  layer windows-layer "$docs/windows"
  image "$multi" windows '{"architecture":"amd64","os":"windows","os.version":"10.0.20348.2113"}' windows-layer
  echo 1 >"$docs/riscv-1/etc/gone"
  echo 1 >"$docs/riscv-1/etc/kept"
  layer riscv-layer-1 "$docs/riscv-1"
  : >"$docs/riscv-2/etc/.wh.gone"
  echo 2 >"$docs/riscv-2/etc/added"
  layer riscv-layer-2 "$docs/riscv-2"
  image "$multi" riscv '{"architecture":"riscv64","os":"linux"}' riscv-layer-1 riscv-layer-2
}

# build_attestation: what BuildKit puts beside an image.
build_attestation() {
  echo '{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[],"predicate":{}}' >"$docs/statement"
  blob "$multi" "$docs/statement"
  jq -nc --arg diffid "$(hash_of "$docs/statement")" \
    '{architecture: "unknown", os: "unknown", config: {}, rootfs: {type: "layers", diff_ids: [$diffid]}}' >"$docs/attestation.config"
  jq -n --arg type $oci.manifest.v1+json --argjson layer "$(descriptor application/vnd.in-toto+json "$docs/statement")" \
    '{schemaVersion: 2, mediaType: $type, config: {},
      layers: [$layer + {annotations: {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}}]}' >"$docs/attestation.json"
  put_image "$multi" attestation
}

# build_policy: an artifact that is no image.
build_policy() {
  jq -n --arg type $oci.manifest.v1+json --argjson layer "$(descriptor text/plain "$docs/statement")" \
    '{schemaVersion: 2, mediaType: $type, artifactType: "application/vnd.example.policy.v1+json", config: {}, layers: [$layer]}' >"$docs/policy.json"
  echo '{}' >"$docs/policy.config"
  put_image "$multi" policy
}

# build_indexes: one index within the other.
build_indexes() {
  jq -n --arg type $oci.index.v1+json --argjson riscv "$(descriptor $oci.manifest.v1+json "$docs/riscv.json")" \
    '{schemaVersion: 2, mediaType: $type, manifests: [$riscv + {platform: {architecture: "riscv64", os: "linux"}, annotations: {"com.example.in": "nested"}}],
      annotations: {"com.example.nested": "yes"}}' >"$docs/nested.json"
  document "$multi@$(hash_of "$docs/nested.json")" "$docs/nested.json"
  jq -n --arg type $oci.index.v1+json --arg amd64hash "$amd64" \
    --argjson amd64 "$(descriptor $oci.manifest.v1+json "$docs/amd64.json")" \
    --argjson arm64 "$(descriptor $oci.manifest.v1+json "$docs/arm64.json")" \
    --argjson windows "$(descriptor $oci.manifest.v1+json "$docs/windows.json")" \
    --argjson attestation "$(descriptor $oci.manifest.v1+json "$docs/attestation.json")" \
    --argjson nested "$(descriptor $oci.index.v1+json "$docs/nested.json")" \
    --argjson policy "$(descriptor $oci.manifest.v1+json "$docs/policy.json")" \
    '{schemaVersion: 2, mediaType: $type, "com.example.extra": {"n": "NUMBER"}, manifests: [
      $amd64 + {platform: {architecture: "amd64", os: "linux"}, annotations: {"com.example.entry": "first"}},
      $attestation + {platform: {architecture: "unknown", os: "unknown"},
        annotations: {"vnd.docker.reference.digest": $amd64hash, "vnd.docker.reference.type": "attestation-manifest"}},
      $windows + {platform: {architecture: "amd64", os: "windows", "os.version": "10.0.20348.2113"}},
      $arm64 + {platform: {architecture: "arm64", os: "linux", variant: "v8"}, annotations: {"com.example.entry": "quotes \" and <angle>"}},
      $nested + {annotations: {"com.example.entry": "nested"}},
      $policy + {artifactType: "application/vnd.example.policy.v1+json", annotations: {"com.example.entry": "policy"}},
      $amd64 + {platform: {architecture: "amd64", os: "linux", variant: "v1"}, annotations: {"com.example.entry": "again"}}],
      annotations: {"org.opencontainers.image.title": "all", "com.example.team": "e2e"}}' >"$docs/multi.json"
  # jq would round it.
  sed -i 's/"NUMBER"/12345678901234567/' "$docs/multi.json"
  document "$multi:1" "$docs/multi.json"
}

# build_unknown makes $multi:unknown, an index that gives the artifact a media type
# that nobody knows, while the registry keeps it as a manifest.
build_unknown() {
  jq -n --arg type $oci.index.v1+json --argjson riscv "$(descriptor $oci.manifest.v1+json "$docs/riscv.json")" \
    --argjson policy "$(descriptor application/vnd.example.policy.v1+json "$docs/policy.json")" \
    '{schemaVersion: 2, mediaType: $type, manifests: [$policy, $riscv + {platform: {architecture: "riscv64", os: "linux"}}]}' >"$docs/unknown.json"
  document "$multi:unknown" "$docs/unknown.json"
}

# build_referrers: what others have said about the image for amd64. A referrer, by
# the tag that stands in for the API that this registry lacks, and a cosign
# signature.
build_referrers() {
  echo '{"bomFormat":"CycloneDX"}' >"$docs/sbom"
  regctl artifact put --artifact-type application/vnd.example.sbom.v1+json --subject "$multi@$amd64" --file "$docs/sbom" >/dev/null
  echo '{"critical":{}}' >"$docs/signature"
  blob "$multi" "$docs/signature"
  jq -nc --arg diffid "$(hash_of "$docs/signature")" '{architecture: "", os: "", config: {}, rootfs: {type: "layers", diff_ids: [$diffid]}}' >"$docs/cosign.config"
  jq -n --arg type $oci.manifest.v1+json \
    --argjson layer "$(descriptor application/vnd.dev.cosign.simplesigning.v1+json "$docs/signature")" \
    '{schemaVersion: 2, mediaType: $type, config: {}, layers: [$layer + {annotations: {"dev.cosignproject.cosign/signature": "none"}}]}' >"$docs/cosign.json"
  put_image "$multi" cosign
  document "$multi:${amd64/:/-}.sig" "$docs/cosign.json"
  referrer=$(manifest "$multi:${amd64/:/-}" | jq -r '.manifests[0].digest')
}
