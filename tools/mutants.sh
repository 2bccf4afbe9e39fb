#!/bin/sh
# Puts one fault at a time into a copy of CUDA's kernels and demands that their tests see it. A line is a file of cuda/,
# the tests that shall fail, and what sed does to one line. Each fault prints a line, then comes a table of the files; the
# last line is "N faults, N found". All of them take the better part of an hour.
# usage: tools/mutants.sh [PATTERN]      only the faults whose line holds PATTERN (a grep pattern)
#        tools/mutants.sh N              only N of them, from all over the list
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
attention.cuh *attention* s/k.angles = g.key_angles(from.roles\[r\]);//
attention.cuh *attention* s/min(b.queries, first + n - 1)/min(b.queries, first + n - 2)/
attention.cuh *attention* s/max(0, first - int(s.width))/max(0, first + 1 - int(s.width))/
attention.cu *attention* s/__syncthreads();  \/\/ all have read the keys//
attention.cu *attention* s/sum\[i\] \*= shrink/sum[i] *= T(1)/
attention.cu *attention* s/, out\[i\]\[j\] \*= shrink//
attention.cu *attention* s/tile_y(i)) \/ g.s.heads/tile_y(i))/
attention.cu *attention* /load(Matrix<T>{values/{n;s/__syncthreads();//}
attention_backward.cu *attention* s/__syncthreads();  \/\/ all have read the last columns of dy//
attention_backward.cu *attention* s/(dp\[i\]\[j\] - numbers\[i\].along)/dp[i][j]/
attention_backward.cu *attention* s/if (d > kTile) load(keys, column, s.keys);//
attention_backward.cu *attention* /if (d > kTile) load(keys/{n;s/__syncthreads();//}
attention_backward.cu *attention* /add_weighted(s.weights, s.dy, dv)/{n;s/__syncthreads();//}
attention_backward.cu *attention* /tile_x(j)) = ds/{n;s/__syncthreads();//}
tile.cuh *attention* /load(right, column, b)/{n;s/__syncthreads();//}
tile.cuh *attention* s/__syncthreads();  \/\/ whoever still reads these tiles//
tile.cuh *attention* s/r < from.n ? /r <= from.n ? /
tile.cuh *attention* s/!kept || left.d > kTile/!kept/
head.cuh *attention* s/if (h.norm < T(kMinHeadNorm)) along = 0;//
head.cuh *attention* s/sine = s\[e\] \* direction/sine = s[e]/
head.cuh *attention* s/i < n, sums)/true, sums)/
head.cuh *attention* /all\[i\] = 0/{n;s/__syncthreads();//}
head.cuh *attention* /i < n, sums)/{n;n;s/__syncthreads();//}
flash_attention.cuh *attention* s/key + n <= first(from) + width/key + n <= first(to) + width/
flash_attention.cuh *attention* s/return (query + 1) \* step/return query * step/
flash_attention.cuh *attention* s/{key + n - 1 - width, key}/{key + n - 2 - width, key}/
flash_attention.cu *attention* s/__syncthreads();  \/\/ this tile is there.*//
flash_attention.cu *attention* s/copy_wait<0>();//
flash_attention.cu *attention* s/, sums\[m\]\[h\] \*= shrink//
flash_attention.cu *attention* s/, out\[m\]\[n\]\[2 \* h + 1\] \*= shrink//
flash_attention.cu *attention* s/top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));//
flash_attention.cu *attention* s/tops\[m\]\[h\] + std::log(sum)/std::log(sum)/
flash_attention_backward.cu *attention* s/__syncthreads();  \/\/ this tile is there.*//
flash_attention_backward.cu *attention* s/copy_wait<0>();//
flash_attention_backward.cu *attention* s/(dp\[m\]\[n\]\[e\] - row.along)/dp[m][n][e]/
flash_attention_backward.cu *attention* s/ - s.numbers\[at\]\[sum_column(n, e)\].along)/)/
flash_attention_backward.cu *attention* s/next <= mine.first ||/next <= mine.first + S::kStep ||/
flash_attention_backward.cu *attention* s/int(blockIdx.y) \* share), to/int(blockIdx.y) * share + 1), to/
mma.cuh *attention* s/\[column + lane \/ 16 \* 8\]/[column]/
mma.cuh *attention* s/left\[m\]\[k\], {b\[2\], b\[3\]}/left[m][k], {b[0], b[1]}/
mma.cuh *attention* s/\[n % 2 \* 2 + h\]/[n % 2 + 2 * h]/
block.cuh cuda* s/__syncthreads();  \/\/ whoever still reads the scratch of the last call//
decode.cu *decoding* /store_pairs<WarpLanes>/{n;n;n;s/__syncthreads();//}
decode.cu *decoding* /part\[d + 1\] = sum/{n;s/__syncthreads();//}
decode.cu *decoding* /part\[column\] = y/{n;n;s/__syncthreads();//}
decode.cu *decoding* s/all ? CachePlace{p.sequence, 0, rows} : p/p/
decode.cu *decoding* s/(p.last - 1) % rows/p.last % rows/
norm.cu *norms* s/offset - (v\[i\] - m) \* slope/(v[i] - m) * slope/
norm.cu *norms* s/offset - v\[r\]\[e\] \* slope/v[r][e] * slope/
norm.cu *norms* /= dgamma\[r\]\[e\]/{n;n;s/__syncthreads();//}
reduce.cu *reductions* /s.sums\[warp\]\[lane\] = sum/{n;s/__syncthreads();//}
reduce.cu *reductions* s/min(first + chunk, n_rows)/min(first + chunk, n_rows - 1)/
embedding.cu *embedding* s/__syncthreads();  \/\/ also: the places of the last round were read//
embedding.cu *embedding* /s.places\[before/{n;s/__syncthreads();//}
embedding.cu *embedding* s/t >= 0 \&\& t < n_rows/t < n_rows/
loss.cu *loss* s/label == column + e ? g - factor/label == column ? g - factor/
loss.cu *none* s/: bad                 ? std::numeric_limits<T>::quiet_NaN()//
optimizer.cu *adam* s/next.first = chunks/next.first = 0/
pack.cuh cuda* s/runs \* kN + first; i < n;/runs * kN + first; i + 1 < n;/
communicator.cu *communicator* s/wait_for(g.stream, stream(), g.reached);//
communicator.cu *communicator* s/wait_for(stream(), g.stream, g.reached);//
memory.cu *memory* s/row \* x_stride/row * y_stride/
END
}

mkdir -p $copy
git ls-files -z | xargs -0 cp -u --parents -t $copy
[ ! -d .deps ] || ln -sfn "$PWD/.deps" $copy/.deps
[ -f build-mutants/build/build.ninja ] || meson setup build-mutants/build $copy -Dcuda=disabled >build-mutants/log
test_copy() {  # the tests named $1, in orders that differ most
  ninja -C build-mutants/build tests/kernel_tests >build-mutants/log 2>&1 ||
    { tail -n 20 build-mutants/log; echo "mutants: a fault is no C++ (above)" >&2; exit 1; }
  for order in forward reverse random:1; do
    EMULATION_ORDER=$order timeout 300 build-mutants/build/tests/kernel_tests -tc="$1" --abort-after=1 >build-mutants/log 2>&1 || return 1
  done
}
test_copy 'cuda*' || { tail -n 20 build-mutants/log; echo "mutants: the tests fail without a fault" >&2; exit 1; }

case ${1:-.} in
  *[!0-9]*) faults | grep -e "${1:-.}" ;;
  *) faults | awk -v n="$1" '{ line[NR] = $0 } END { for (i = 0; i < n; i++) print line[int(NR * (i + 0.5) / n) + 1] }' ;;
esac >build-mutants/faults
n=0 found=0 file=
: >build-mutants/results
trap '[ -z "$file" ] || cp "cuda/$file" "$copy/cuda/$file"' EXIT  # no fault is left to the next run
while read -r file tests fault; do
  sed "$fault" "cuda/$file" >"$copy/cuda/$file"
  ! cmp -s "cuda/$file" "$copy/cuda/$file" || { echo "mutants: cuda/$file has no line for $fault" >&2; exit 1; }
  n=$((n + 1))
  if test_copy "$tests"; then result="not found"; else result=found found=$((found + 1)); fi
  echo "$n of $(wc -l <build-mutants/faults), $result: cuda/$file $fault"
  echo "$file $result" >>build-mutants/results
  cp "cuda/$file" "$copy/cuda/$file"
done <build-mutants/faults
echo
awk '!($1 in all) { files[++k] = $1 } { all[$1]++; found[$1] += $2 == "found" }
     END { print "| File of `cuda/` | Faults | Found |"; print "|---|---:|---:|"
           for (i = 1; i <= k; i++) print "| `" files[i] "` | " all[files[i]] " | " found[files[i]] " |" }' build-mutants/results
echo "$n faults, $found found"
[ $n = $found ]
