#!/bin/sh
# Puts one fault at a time into a copy of CUDA's kernels and demands that their tests see it. A line is a file of cuda/,
# the tests that shall fail, and what sed does to one line. The last line is "N faults, N found".
# usage: tools/mutants.sh [PATTERN]      only the faults whose line holds PATTERN (a grep pattern)
set -eu
cd "$(dirname "$0")/.."
copy=build-mutants/source

faults() {
  cat <<'END'
attention.cuh *attention* s/max(b.first_key, j + 1)/max(b.first_key, j)/
attention.cuh *attention* s/s.width + j + 1 : s.keys/s.width + j : s.keys/
attention.cuh *attention* s/s.width - s.memory : 0/s.width : 0/
attention.cuh *attention* s/2 \* s.width + role.position/s.width + role.position/
attention.cuh *attention* s/at \/ s.width + 1 < blocks ? 2 : 1/1/
attention.cuh *attention* s/{row + panel + j, j}/{row + panel + j, s.width + j}/
attention.cuh *attention* s/keys\[row + i\] = k\[i\], values/keys[row + i] = k.straight(i), values/
attention.cu *attention* s/__syncthreads();  \/\/ all have read the keys//
attention.cu *attention* s/sum\[i\] \*= shrink/sum[i] *= T(1)/
attention.cu *attention* s/, out\[i\]\[j\] \*= shrink//
attention.cu *attention* s/tile_y(i)) \/ g.s.heads/tile_y(i))/
attention_backward.cu *attention* s/first + n - 1) : b.queries/first + n - 2) : b.queries/
attention_backward.cu *attention* s/max(0, first - int(g.s.width))/max(0, first + 1 - int(g.s.width))/
attention_backward.cu *attention* s/__syncthreads();  \/\/ all have read the last columns of dy//
attention_backward.cu *attention* s/(dp\[i\]\[j\] - along\[i\])/dp[i][j]/
attention_backward.cu *attention* s/if (d > kTile) load(keys, column, s.keys);//
attention_backward.cu *attention* s/, row != warp)/, true)/
attention.cu *attention* /load(Matrix<T>{values/{n;s/__syncthreads();//}
attention_backward.cu *attention* /if (d > kTile) load(keys/{n;s/__syncthreads();//}
attention_backward.cu *attention* /add_weighted(s.weights, s.dy, dv)/{n;s/__syncthreads();//}
attention_backward.cu *attention* /tile_x(j)) = ds/{n;s/__syncthreads();//}
tile.cuh *attention* /load(right, column, b)/{n;s/__syncthreads();//}
tile.cuh *attention* s/__syncthreads();  \/\/ whoever still reads these tiles//
tile.cuh *attention* s/r < from.n ? /r <= from.n ? /
tile.cuh *attention* s/!kept || left.d > kTile/!kept/
head.cuh *attention* s/h.norm >= T(kMinHeadNorm)/h.norm < T(kMinHeadNorm)/
head.cuh *attention* s/dy\[i\] \* c + dy\[i + half\] \* s/dy[i] * c - dy[i + half] * s/
block.cuh cuda* s/__syncthreads();  \/\/ whoever still reads the scratch of the last call//
norm.cu *norms* s/offset - (v\[i\] - m) \* slope/(v[i] - m) * slope/
memory.cu *memory* s/row \* x_stride/row * y_stride/
END
}

mkdir -p $copy
git ls-files -z | xargs -0 cp -u --parents -t $copy
[ ! -d .deps ] || ln -sfn "$PWD/.deps" $copy/.deps
[ -f build-mutants/build/build.ninja ] || meson setup build-mutants/build $copy -Dcuda=disabled >build-mutants/log
test_copy() {  # the tests named $1, in orders that differ most
  ninja -C build-mutants/build tests/cuda_tests >build-mutants/log 2>&1 ||
    { tail -n 20 build-mutants/log; echo "mutants: a fault is no C++ (above)" >&2; exit 1; }
  for order in forward reverse random:1; do
    EMULATION_ORDER=$order timeout 300 build-mutants/build/tests/cuda_tests -tc="$1" --abort-after=1 >build-mutants/log 2>&1 || return 1
  done
}
test_copy 'cuda*' || { tail -n 20 build-mutants/log; echo "mutants: the tests fail without a fault" >&2; exit 1; }

faults | grep -e "${1:-.}" >build-mutants/faults
n=0 found=0
while read -r file tests fault; do
  sed "$fault" "cuda/$file" >"$copy/cuda/$file"
  ! cmp -s "cuda/$file" "$copy/cuda/$file" || { echo "mutants: cuda/$file has no line for $fault" >&2; exit 1; }
  n=$((n + 1))
  if test_copy "$tests"; then echo "not found: cuda/$file $fault"; else found=$((found + 1)); fi
  cp "cuda/$file" "$copy/cuda/$file"
done <build-mutants/faults
echo "$n faults, $found found"
[ $n = $found ]
