#!/bin/sh
# Builds Rondo, optimised; the program is then build/rondo. Installs what is missing first.
# usage: tools/build.sh [OPTION OF meson setup]...      BUILD_DIR=DIR builds elsewhere than in build/
set -eu
cd "$(dirname "$0")/.."
dir=${BUILD_DIR:-build}

tools/setup.sh
if [ ! -f "$dir/build.ninja" ]; then
  meson setup "$dir" "$@"
elif [ $# -gt 0 ]; then
  meson configure "$dir" "$@"
fi
ninja -C "$dir" rondo
