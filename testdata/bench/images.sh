#!/usr/bin/env bash
# Builds the images of the cases and pushes them to a registry, where they stay:
# what the registry has is used again.
#
# usage: images.sh WORK REGISTRY CASE...       (as root)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../e2e/lib.sh
. "$here/../e2e/lib.sh"
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
if [ $# -lt 3 ]; then
  echo "usage: images.sh WORK REGISTRY CASE..." >&2
  exit 2
fi
work=$(cd "$1" && pwd)
registry=$2
shift 2

# built NAME: buildah has the image, or builds it with the others.
built() {
  "$here/../e2e/build-image.sh" "$work" >&2
  storage "$work"
  if ! buildah inspect --type image "$1" >/dev/null 2>&1; then
    buildah bud --format docker --network host --pull-never --layers -t "$1" \
      -f "$here/Containerfile.toolchain" "$work/context-base" >&2
  fi
}

for name in "$@"; do
  for image in "$(base_of "$name")" "$name"; do
    if [ -z "$image" ] || skopeo inspect --raw --tls-verify=false "docker://$registry/bench/$image:1" >/dev/null 2>&1; then
      continue
    fi
    section "image $image"
    made=${images[$image]}
    if [[ $made == localhost/* ]]; then
      built "$made"
      buildah push -q --tls-verify=false --format v2s2 "$made" "docker://$registry/bench/$image:1"
    else
      rm -rf "$work/made"
      # shellcheck disable=SC2086  # several arguments
      "$work/bin/image" "$work/made" $made
      skopeo copy -q --dest-tls-verify=false "oci:$work/made" "docker://$registry/bench/$image:1"
      rm -rf "$work/made"
    fi
  done
done
