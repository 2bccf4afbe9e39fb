#!/bin/sh
# Compiles Rondo for Arm64 on another Debian machine, and runs on an emulated processor what its tests check in one
# process: build-aarch64/rondo. The last line is "N passed, N failed, N skipped".
# usage: tools/aarch64.sh [OPTION OF doctest]...      needs the packages g++-aarch64-linux-gnu and qemu-user-static
#        tools/aarch64.sh --compile [OPTION OF meson setup]...      the program alone; needs the first
# BUILD_DIR=DIR builds elsewhere than in build-aarch64/
set -eu
cd "$(dirname "$0")/.."
dir=${BUILD_DIR:-build-aarch64} libraries=$PWD/.deps/aarch64

# The libraries' packages for Arm64, unpacked beside the sources: the system stays as it is.
fetch_libraries() {
  rm -rf "$libraries.part" && mkdir -p "$libraries.part/lists/partial" && cd "$libraries.part"
  set -- -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$PWD/lists" \
      -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root
  apt-get "$@" update
  apt-get "$@" download zlib1g-dev libtomlplusplus-dev libtomlplusplus3 nlohmann-json3-dev libcli11-dev
  for package in *.deb; do dpkg -x "$package" .; done
  rm -rf lists ./*.deb
  cd - > /dev/null && mv "$libraries.part" "$libraries"
}

[ -d "$libraries" ] || fetch_libraries
compile_only=
if [ "${1:-}" = --compile ]; then compile_only=yes && shift; fi
if [ ! -f "$dir/build.ninja" ]; then
  printf '[constants]\nlibraries = '"'%s'\n" "$libraries" > "$libraries/place.ini"
  meson setup "$dir" --cross-file "$libraries/place.ini" --cross-file tools/aarch64.ini -Dnative=false -Dcuda=disabled \
      ${compile_only:+"$@"}
fi
ninja -C "$dir" rondo
[ -z "$compile_only" ] || exit 0
ninja -C "$dir" tests/rondo_tests
run() { qemu-aarch64-static -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH="$libraries/usr/lib/aarch64-linux-gnu" "$@"; }
for golden in tests/goldens/*/; do run "$dir/rondo" verify "$golden"; done
# What starts the program would start it on this machine's processor.
run "$dir/tests/rondo_tests" -sfe='*/bad_input.cpp,*/chat.cpp,*/checkpoint.cpp,*/examples.cpp,*/inspect.cpp,*/program.cpp,*/session*,*/verify_program.cpp,*/vocabulary.cpp' -tce='a converted checkpoint*,mixed precision: runs*' "$@"
