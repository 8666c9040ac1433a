# shellcheck shell=bash disable=SC2034
# What the scripts of the benchmark share: source it after testdata/e2e/lib.sh.

# The cases and what their images are made of: arguments of the program image, or
# the name of an image that buildah built.
declare -A images=(
  [base]=$base_image
  [app]=$app_image
  [toolchain]=localhost/bench-toolchain:1
  [files-300k]='40M:100000x3'
  [layer-2g]='2000M:2000 1M:100'
  [layers-127]='4M:200x127'
  # Growth: one of bytes, files and layers changes.
  [bytes-128m]='16M:1000x8' [bytes-256m]='32M:1000x8' [bytes-512m]='64M:1000x8' [bytes-1024m]='128M:1000x8'
  [files-3k]='16M:375x8' [files-30k]='16M:3750x8' [files-300k-small]='16M:37500x8'
  [layers-2]='64M:6350x2' [layers-32]='4M:397x32' [layers-127-small]='1008k:100x127'
  # Above a base: two bases with the same bottom layers, three upper parts.
  [base-100m]='20M:500x5@0' [base-1000m]='20M:500x50@0'
)
for size in 100m:5 1000m:50; do
  for upper in 10m:2M:200x5@1000 40m:8M:800x5@2000 160m:32M:3200x5@3000; do
    images[above-${size%:*}-${upper%%:*}]="20M:500x${size#*:}@0 ${upper#*:}"
  done
done

# The cases of each table, and what each has of what its table is about.
squash_cases='app toolchain files-300k layer-2g layers-127'
network_cases='app'
growth_cases='bytes-128m bytes-256m bytes-512m bytes-1024m files-3k files-30k files-300k-small layers-2 layers-32 layers-127-small'
base_cases='above-100m-10m above-100m-40m above-100m-160m above-1000m-10m above-1000m-40m above-1000m-160m'
memory_cases='toolchain files-300k'

# base_of CASE prints the case that its base is; nothing if it has none.
base_of() {
  case $1 in
  app | toolchain) echo base ;;
  above-*) echo "base-$(cut -d- -f2 <<<"$1")" ;;
  esac
}

# contains WORD LIST
contains() { case " $2 " in *" $1 "*) return 0 ;; esac; return 1; }
