#!/bin/sh
# Rondo beside PyTorch: trains the same models in turns (A B A B ...) and prints the medians as a table.
# usage: PYTHON=python3 bench/compare.sh [THREADS] [ROUNDS]      PYTHON needs what bench/pytorch.py says
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} threads=${1:-2} rounds=${2:-3}

"$python" -c 'import block_recurrent_transformer_pytorch' 2> /dev/null || {
  echo "bench/compare.sh: $python has no block_recurrent_transformer_pytorch; set PYTHON (see bench/pytorch.py)" >&2
  exit 1
}
tools/build.sh > /dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# field NAME FILE: the median of a number over the JSON lines of a file.
field() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$2" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for size in tiny small readme; do
  case $size in tiny) steps=50 ;; small) steps=5 ;; *) steps=2 ;; esac
  round=0
  while [ $round -lt "$rounds" ]; do
    build/rondo bench train --size $size --threads "$threads" --steps $steps >> "$work/rondo-$size"
    "$python" bench/pytorch.py train --size $size --threads "$threads" --steps $steps >> "$work/pytorch-$size"
    round=$((round + 1))
  done
done

echo "| training, f32, $threads threads | Rondo tokens/s | PyTorch tokens/s | ratio | Rondo peak MB | PyTorch peak MB |"
echo "|---|---|---|---|---|---|"
for size in tiny small readme; do
  echo "$size $(field tokens_per_s "$work/rondo-$size") $(field tokens_per_s "$work/pytorch-$size")" \
       "$(field peak_mb "$work/rondo-$size") $(field peak_mb "$work/pytorch-$size")" |
      awk '{ printf "| `%s` | %.0f | %.0f | **%.2f** | %.0f | %.0f |\n", $1, $2, $3, $2 / $3, $4, $5 }'
done
echo
echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1); medians of $rounds runs each, in turns; PyTorch" \
     "$("$python" -c 'import torch; print(torch.__version__)'); $(build/rondo --version | sed -n 's/^compiler: //p')"
