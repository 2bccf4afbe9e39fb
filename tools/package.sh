#!/bin/sh
# Makes a package of Rondo for machines other than this one: build-package/rondo-VERSION-MACHINE.tar.gz, to unpack in
# /usr/local (docs/packages.md). On x86-64 it has three libraries, of which the system's loader takes the best for its
# processor; here each is tried on all of tests/goldens.
# usage: tools/package.sh [OPTION OF meson setup]...      such as -Dcuda=disabled; BUILD_DIR=DIR builds elsewhere
set -eu
cd "$(dirname "$0")/.."
dir=${BUILD_DIR:-build-package}
levels='x86-64-v4 x86-64-v3'

BUILD_DIR=$dir tools/build.sh -Dnative=false -Ddefault_library=shared -Dprefix=/usr/local -Dlibdir=lib "$@"
ninja -C "$dir" package
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR=$work meson install -C "$dir" --no-rebuild --quiet
find "$work" -type f \( -name rondo -o -name 'librondo.so*' \) -exec strip {} +
program=$work/usr/local/bin/rondo
version=$("$program" --version | sed -n '1s/^rondo //p')
package=$dir/rondo-$version-$(uname -m).tar.gz
tar -C "$work/usr/local" -czf "$package" bin include lib

# try LEVEL WHAT: the library that is taken where the loader may look into this level's folder alone.
loader=$(ldd "$program" | sed -n 's|^[^/]*\(/[^ ]*/ld-linux[^ ]*\) .*|\1|p')
try() {
  kernels=$("$loader" --glibc-hwcaps-mask "$1" "$program" --version | sed -n 's/^GEMM: //p')
  case $kernels in
    "own kernel, $2" | "own kernel, $2, "*) ;;
    *) echo "tools/package.sh: $1 should have $2, but has $kernels" >&2; exit 1 ;;
  esac
  for golden in tests/goldens/*/; do
    "$loader" --glibc-hwcaps-mask "$1" "$program" verify "$golden" > "$work/verify.log" || { cat "$work/verify.log"; exit 1; }
  done
  echo "$1: $kernels: all goldens within their bounds"
}
try no-level "128-bit vectors"
for level in $levels; do
  [ -d "$work/usr/local/lib/glibc-hwcaps/$level" ] || continue
  case $level in *v3) kernels=AVX ;; *v4) kernels=AVX-512 ;; esac
  if "$loader" --help | grep -q "$level (supported"; then
    try "$level" "$kernels"
  else
    echo "$level: not tried: this processor is older"
  fi
done
echo "$package"
