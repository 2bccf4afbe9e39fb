#!/bin/sh
# Rondo beside LibTorch and PyTorch: builds, checks that both sides compute the same, runs the same work in turns
# (A B A B ...) and prints the medians over the rounds as tables. What is not installed is left out, and said.
# usage: bench/compare.sh [--threads N] [--rounds N] [--quick] [--write]
#   --quick   a few steps each: to see that it works
#   --write   also puts the tables into README.md and docs/benchmarks.md, and draws docs/benchmarks.svg
# LIBTORCH=DIR takes a LibTorch from there (with include/ and lib/; default: Debian's libtorch-dev where it is
# installed; "none" leaves it out). PYTHON=python3 needs what bench/pytorch.py says.
set -eu
cd "$(dirname "$0")/.."
command="bench/compare.sh${*:+ $*}"
threads=$(nproc) rounds=3 quick='' write=''
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2; shift ;;
    --rounds) rounds=$2; shift ;;
    --quick) quick=yes ;;
    --write) write=yes ;;
    *) sed -n '4,8s/^# //p' "$0" >&2; exit 2 ;;
  esac
  shift
done

work=$(mktemp -d)
busy=''
trap '[ -z "$busy" ] || kill $busy; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
. bench/compare/sides.sh
. bench/compare/rows.sh
. bench/compare/tables.sh

prepare_sides
no_bf16=$(why_no_bf16)
find_gpu
round=0
while [ $round -lt "$rounds" ]; do
  round=$((round + 1))
  echo "round $round of $rounds" >&2
  run_rows
done
tables > "$work/tables.md"
cat "$work/tables.md"
[ -z "$write" ] || write_results
