#!/bin/sh
# Builds Rondo and runs its tests (those on an emulated GPU: docs/kernels.md). The last line is "N passed, N failed, N skipped".
# usage: tools/test.sh [OPTION OF doctest]...      such as -tc='*attention*'; BUILD_DIR=DIR as in tools/build.sh
set -eu
cd "$(dirname "$0")/.."
dir=${BUILD_DIR:-build}

tools/build.sh
ninja -C "$dir" everything
"$dir/tests/rondo_tests" "$@"
