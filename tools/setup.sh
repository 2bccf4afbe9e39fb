#!/bin/sh
# Installs what Rondo needs to build, asking for root only when something is missing, and fetches the headers of Eigen 5.
# A second run finds everything in place, needs no network and takes no time.
set -eu
cd "$(dirname "$0")/.."

eigency=5.0.1.1  # a Python package that carries Eigen 5.0.1; headers alone are taken, so this wheel serves every machine
eigency_sha256=5a34a04a6039e067b7fe5ed4b876522fdbab81383b2f9286e94e45e15ae50676

say() { echo "tools/setup.sh: $*"; }

# The Debian packages whose programs or headers are not there, whoever installed them.
missing() {
  for pair in g++:g++ meson:meson ninja-build:ninja pkg-config:pkg-config bible-kjv:bible; do
    command -v "${pair#*:}" > /dev/null || echo "${pair%:*}"
  done
  command -v g++ > /dev/null || { echo libeigen3-dev doctest-dev libcli11-dev libtomlplusplus-dev \
      nlohmann-json3-dev zlib1g-dev libsentencepiece-dev; return; }
  g++ -std=c++20 -E -P -x c++ - << 'HEADERS'
#if !__has_include(<Eigen/Core>) && !__has_include(<eigen3/Eigen/Core>)
libeigen3-dev
#endif
#if !__has_include(<doctest/doctest.h>)
doctest-dev
#endif
#if !__has_include(<CLI/CLI.hpp>)
libcli11-dev
#endif
#if !__has_include(<toml++/toml.h>)
libtomlplusplus-dev
#endif
#if !__has_include(<nlohmann/json.hpp>)
nlohmann-json3-dev
#endif
#if !__has_include(<zlib.h>)
zlib1g-dev
#endif
#if !__has_include(<sentencepiece_processor.h>)
libsentencepiece-dev
#endif
HEADERS
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo > /dev/null || { say "root is needed for: $*" >&2; exit 1; }
  sudo "$@"
}

install_debian() {
  say "installing $*"
  set -- env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
  as_root "$@" || { as_root apt-get update -q && as_root "$@"; }
}

# shellcheck disable=SC2086  # lists, to be split into words
install_missing() {
  packages=$(missing)
  [ -n "$packages" ] || return 0
  if command -v apt-get > /dev/null; then install_debian $packages; return; fi
  # The demo's text and word pieces can be done without.
  needed=$(printf '%s\n' $packages | grep -vxE 'bible-kjv|libsentencepiece-dev') || return 0
  say "please install what is called on Debian:" $needed >&2
  exit 1
}

fetch_eigen() {
  python3 -m pip --version > /dev/null 2>&1 ||
    { command -v apt-get > /dev/null && install_debian python3-pip; } || return 1
  rm -rf .deps/eigen5.part
  mkdir -p .deps/eigen5.part
  echo "eigency==$eigency --hash=sha256:$eigency_sha256" > .deps/eigen5.part/requirements.txt
  python3 -m pip --disable-pip-version-check -q --retries 1 --timeout 20 download --no-deps --only-binary=:all: \
      --python-version 3.11 --platform manylinux2014_x86_64 --require-hashes -r .deps/eigen5.part/requirements.txt \
      --dest .deps/eigen5.part &&
    python3 -m zipfile -e .deps/eigen5.part/eigency-*.whl .deps/eigen5.part &&
    mv .deps/eigen5.part/eigency/eigen .deps/eigen5
}

install_missing
if [ -f .deps/eigen5/Eigen/Core ] || [ -f .deps/no-eigen5 ] || pkg-config --atleast-version=5 eigen3; then exit 0; fi
say "fetching the headers of Eigen 5"
if fetch_eigen; then
  rm -rf .deps/eigen5.part
else
  rm -rf .deps/eigen5.part
  touch .deps/no-eigen5
  say "no Eigen 5, so the system's 3.4 it is: elementwise maths is a little slower (to try again: rm .deps/no-eigen5)"
fi
