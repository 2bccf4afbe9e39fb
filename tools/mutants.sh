#!/bin/sh
# Puts one fault at a time into CUDA's kernels, emulated, and demands that their tests see it. A fault is a file of cuda/
# and what sed does to it. Each prints a line, then comes a table of the files; the last line is
# "N faults, N found". All of them take long.
# usage: tools/mutants.sh [PATTERN]      only the faults whose line holds PATTERN (a grep pattern)
#        tools/mutants.sh N              only N of them, from all over the list
# BUILD_DIR=DIR takes the kernels and their tests from there (default: build): but for the fault, all is as it is there.
set -eu
cd "$(dirname "$0")/.."
dir=${BUILD_DIR:-build}
work=$PWD/build-mutants

# Every barrier and every wait, forgotten.
barriers() {
  cd cuda
  grep -nE '__syncthreads\(\);|copy_wait<0>\(\);|wait_for\(.*\);' ./*.cu ./*.cuh |
      sed -E 's%^\./([^:]*):([0-9]*):.*(__syncthreads\(\);|copy_wait<0>\(\);|wait_for\(.*\);).*%\1 \2s/\3//%'
}
# Guards, bounds and what else is easily wrong.
others() {
  cat <<'END'
attention.cuh s/max(b.first_key, j + 1)/max(b.first_key, j)/
attention.cuh s/s.width + j + 1 : s.keys/s.width + j : s.keys/
attention.cuh s/s.width - s.memory : 0/s.width : 0/
attention.cuh s/3 \* own - s.width + role.position/2 * own - s.width + role.position/
attention.cuh s/3 \* own - s.width + role.position/2 * own + role.position/
attention.cuh s/(own + position)/(s.width + position)/
attention.cuh s/at \/ s.width + 1 < blocks ? 2 : 1/1/
attention.cuh s/{row + panel + j, j}/{row + panel + j, s.width + j}/
attention.cuh s/k.angles = g.key_angles(from.roles\[r\]);//
attention.cuh s/min(b.queries, first + n - 1)/min(b.queries, first + n - 2)/
attention.cuh s/max(0, first - int(s.width))/max(0, first + 1 - int(s.width))/
attention.cuh s/i < width; i += L::kCount) row/i < d; i += L::kCount) row/
attention.cu s/sum\[i\] \*= shrink/sum[i] *= T(1)/
attention.cu s/, out\[i\]\[j\] \*= shrink//
attention.cuh s/(head + r) \/ heads/(head + r)/
attention.cuh s/head_width % 16 == 0/head_width % 8 == 0/
attention.cu s/if (k < from\[i\] || k >= to\[i\])/if (k >= to[i])/
attention.cu s/if (k < from\[i\] || k >= to\[i\])/if (k < from[i])/
attention.cu s/tile_x(0) == 0 \&\& tile_y(i) < t.n)/tile_x(0) == 0)/
attention_backward.cu s/(dp\[i\]\[j\] - numbers\[i\].along)/dp[i][j]/
attention_backward.cu s/if (d > kTile) load(keys, column, s.keys);//
attention_backward.cu s/= k >= from\[i\] \&\& k < to\[i\]/= k < to[i]/
attention_backward.cu s/= k >= from\[i\] \&\& k < to\[i\]/= k >= from[i]/
attention_backward.cu s/= k >= from \&\& k < to;/= k < to;/
attention_backward.cu s/= k >= from \&\& k < to;/= k >= from;/
tile.cuh s/r < from.n ? /r <= from.n ? /
tile.cuh s/!kept || left.d > kTile/!kept/
tile.cuh s/= inside \&\& r < from.n/= r < from.n/
tile.cuh s/= inside \&\& r < from.n/= inside/
tile.cuh s/if (r < n \&\& c < d)/if (r < n)/
tile.cuh s/if (r < n \&\& c < d)/if (c < d)/
head.cuh s/if (h.norm < T(kMinHeadNorm)) along = 0;//
head.cuh s/sine = s\[e\] \* direction/sine = s[e]/
head.cuh s/i < n, sums)/true, sums)/
head.cuh s/if (L::kN > 1 || half + i < d) load/load/
head.cuh s/if (L::kN > 1 || half + i < d) store/store/
flash_attention.cuh s/key + n <= first(from) + width/key + n <= first(to) + width/
flash_attention.cuh s/return (query + 1) \* step/return query * step/
flash_attention.cuh s/{key + n - 1 - width, key}/{key + n - 2 - width, key}/
flash_attention.cu s/sums\[m\]\[2 \* h\] \*= shrink, //
flash_attention.cu s/bases\[m\]\[h\] + kRoom/bases[m][h] + 200/
flash_attention.cu s/if (!moves\[m\]\[h\]) continue;//
flash_attention.cu s/t.last - key > kFew/t.last - key > kFew + 1/
flash_attention.cu s/add_up(weights, sums);//
flash_attention.cu s/if (r < t.n) prepare/prepare/
flash_attention.cu s/, out\[m\]\[n\]\[2 \* h + 1\] \*= shrink//
flash_attention.cu s/top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));//
flash_attention.cu s/walk.bases\[m\]\[h\] \* kLn2 + //
flash_attention.cu s/return sees(first_seen/return true || sees(first_seen/
flash_attention.cu s/if (r >= t.n) continue;//
flash_attention.cu s/column = sum_column(n, 0); column < d/column = sum_column(n, 0); true/
flash_attention_backward.cu s/dscale_part\[i\] = 0/dscale_part[i] = 1/
flash_attention_backward.cu s/dscale\[i\] = 0;/;/
flash_attention_backward.cu s/t.n - 1)\] \* kLog2e/t.n - 1)]/
flash_attention_backward.cu s/, r < t.n, dq/, true, dq/
flash_attention_backward.cu s/if (r < t.n) all/all/
flash_attention_backward.cu s/(dp\[m\]\[n\]\[e\] - row.along)/dp[m][n][e]/
flash_attention_backward.cu s/ - numbers\[n\]\[e % 2\].along)/)/
flash_attention_backward.cu s/-numbers\[n\]\[e % 2\].lse)/0)/
flash_attention_backward.cu s/next <= mine.first ||/next <= mine.first + S::kStep ||/
flash_attention_backward.cu s/int(blockIdx.y) \* share), to/int(blockIdx.y) * share + 1), to/
flash_attention_backward.cu s/; r < n \&\& column < d/; column < d/
flash_attention_backward.cu s/; r < n \&\& column < d/; r < n/
flash_attention_backward.cu s/return sees(first_seen/return true || sees(first_seen/
flash_attention_backward.cu s/return sees(s.first_seen/return true || sees(s.first_seen/
flash_attention_backward.cu s/there = r + i < last_row/there = true/
mma.cuh s/\[column + lane \/ 16 \* 8\]/[column]/
mma.cuh s/left\[m\]\[k\], {b\[2\], b\[3\]}/left[m][k], {b[0], b[1]}/
mma.cuh s/\[n % 2 \* 2 + h\]/[n % 2 + 2 * h]/
mma.cuh s/= row < n \&\& column < d/= column < d/
mma.cuh s/= row < n \&\& column < d/= row < n/
decode.cu s/all ? CachePlace{p.sequence, 0, rows} : p/p/
key_value_cache.cu s/row % raw_rows/(row + 1) % raw_rows/
key_value_cache.cu s/if (key.half() + at + e < d) column/column/
decode.cu s/if (r >= n || i + column >= d)/if (i + column >= d)/
decode.cu s/r < d - i \&\& column < n/column < n/
decode.cu s/i < padded(d); i += 32/false; i += 32/
decode.cu s/b = high < n ? whole/b = true ? whole/
decode.cu s/if (index == 0 \&\& i + column < d)/if (index == 0)/
norm.cu s/offset - (v\[i\] - m) \* slope/(v[i] - m) * slope/
norm.cu s/offset - v\[r\]\[e\] \* slope/v[r][e] * slope/
norm.cu s/(adds ? out : T(0)) + //
norm.cu s/v\[r\]\[e\] += so_far\[e\]/v[r][e] += 0/
norm.cu s/= norm >= T(kMinNorm) ? dot : T(0)/= dot/
rounded.cu s/if (inner < rows \&\& width % n == 0 \&\& column < width)/if (width % n == 0 \&\& column < width)/
rounded.cu s/if (inner < rows \&\& width % n == 0 \&\& column < width)/if (inner < rows \&\& width % n == 0)/
rounded.cu s/if (inner < rows \&\& width % n == 0 \&\& column < width)/if (inner < rows)/
rounded.cu s/} else if (inner < rows) {/} else {/
rounded.cu s/if (column + e < width)/if (true)/
rounded.cu s/(group) \* rows + inner/(group) * tall + inner/
list.cuh s/next.first = chunks/next.first = 0/
list.cuh s/chunk ? at : end/chunk ? end : at/
reduce.cu s/min(first + chunk, n_rows)/min(first + chunk, n_rows - 1)/
reduce.cu s/if (thread >= kColumns || column >= width) return;/if (thread >= kColumns) return;/
reduce.cu s/i = 16; i >= kColumns;/i = 16; i > kColumns;/
reduce.cu s/(adds ? converted<double>(y\[o\]) : 0)/0/
reduce.cu s/if (adds) load_numbers(y + i, rounded);//
reduce.cu s/(adds ? converted<double>(to) : 0)/0/
memory.cu s/load_numbers(to, b);/for (auto\& v : b) v = 0;/
memory.cu s/x_stride + at, a);/y_stride + at, a);/
embedding.cu s/t >= 0 \&\& t < n_rows/t < n_rows/
embedding.cu s/i < n_tokens \&\& tokens/tokens/
embedding.cu s/if (here\[k\]) places/places/
embedding.cu s/if (at < d) dweight/dweight/
embedding.cu s/__syncwarp();//
select.cu s/lane < lines.n ? lane : 0/lane/
select.cu s/i = 16; i > 0;/i = 16; i > 1;/
select.cu s/ \&\& at < best//
select.cu s/if (beats(v, top)) top = v, /if (beats(v, top)) /
select.cu s/j >= 0 \&\& j < lines.n/j < lines.n/
select.cu s/j >= 0 \&\& j < lines.n/j >= 0/
select.cu s/row \/ lines.n \* lines.inner/row \/ lines.n/
select.cu s/computed_t<T>(b\[place_b(i)\])/computed_t<T>(b[place_a(i)])/
select.cu s/a\[place_a(i)\] : b\[place_b(i)\]/a[place_a(i)] : b[place_a(i)]/
select.cu s/mask\[place_mask(i)\] ?/mask[i] ?/
loss.cu s/label == column + e ? g - factor/label == column ? g - factor/
loss.cu s/: bad                 ? std::numeric_limits<T>::quiet_NaN()//
loss.cu s/return outside(label, n) ? /return false ? /
optimizer.cu s/if (i >= list.n || /if (/
optimizer.cu s/ || \*factor != \*factor) return;/) return;/
optimizer.cu s/if (s.v) load_numbers(s.v + at\[r\], v\[r\]);//
optimizer.cu s/if (s.v) store_numbers(v\[r\], s.v + at\[r\]);//
optimizer.cu s/if (s.v) store/store/
optimizer.cu s/g + momentum \* v\[r\]\[e\] : v/v[r][e] : v/
pack.cuh s/runs \* kN + first; i < n;/runs * kN + first; i + 1 < n;/
memory.cu s/ = x\[row \* x_stride/ = x[row * y_stride/
memory.cu s/n_rows > 1 ? from.stride | to.stride : 0/0/
strided.cuh s/inner == 1 \&\& sizes\[rank - 1\] % n == 0/inner == 1/
strided.cuh s/return s % n == 0/return s % n == 0 || true/
strided.cuh s/inner == 0 \&\& sizes\[rank - 1\] % n == 0/inner == 0/
decode.cu s/first + c < n;/true;/
decode.cu s/sum \*= shrink, weighted \*= shrink;//
decode.cu s/all.of\[head \/ all.heads\]/all.of[0]/
decode.cu s/p.sequence == query.sequence \&\& //
decode.cu s/if (j >= 0) keys.take/if (false) keys.take/
decode.cu s/from < 0 ? value/true ? value/
decode.cu s/ \&\& p.last - 1 - first < n)/)/
decode.cu s/row % all.raw_rows/row/
gemv.cuh s/for (int r = 0; r < kRows; ++r) {/for (int r = 1; r < kRows; ++r) {/
gemv.cuh s/lane + loads \* kPer < width/lane + loads * kPer <= width/
gemv.cuh s/j -= of\[1\].n;//
gemv.cuh s/ || m > kRows || k > kSlab/ || k > kSlab/
gemv.cuh s/ || m > kRows || k > kSlab/ || m > kRows/
gemv.cuh s/const bool there = j < n;/const bool there = true;/
gemv.cu s/i < r.end; i += threads) put(i, norm/i + 1 < r.end; i += threads) put(i, norm/
gemv.cu s/norm_of(true, from/norm_of(false, from/
held_row.cuh s/; i < n) f(r, i)/; true) f(r, i)/
launch.cuh s/blockDim.x + threadIdx.x; i < n; i += step/blockDim.x + threadIdx.x; i <= n; i += step/
unfold.cu s/at_y >= 0 \&\& at_y < how.in_height/at_y < how.in_height/
unfold.cu s/at_y >= 0 \&\& at_y < how.in_height/at_y >= 0/
unfold.cu s/at_x >= 0 \&\& at_x < how.in_width/at_x < how.in_width/
unfold.cu s/at_x >= 0 \&\& at_x < how.in_width/at_x >= 0/
unfold.cu s/ \&\& steps_y % how.stride == 0//
unfold.cu s/steps_x % how.stride == 0/true/
unfold.cu s/ \&\& oy < how.out_height//
unfold.cu s/ \&\& ox < how.out_width//
unfold.cu s/= steps_y >= 0 \&\&/= true \&\&/
unfold.cu s/steps_x >= 0 \&\&/true \&\&/
END
}
faults() { (barriers) && others; }
# The tests that shall see the faults of a file.
tests_of() {
  case $1 in
    *attention* | tile.cuh | head.cuh | mma.cuh) echo '*attention*' ;;
    communicator.cu) echo '*communicator*' ;;
    decode.cu | key_value_cache.cu) echo '*decoding*' ;;
    embedding.cu) echo '*embedding*,*none*' ;;
    gemv.cu | gemv.cuh) echo '*gemv*' ;;
    loss.cu) echo '*loss*,*none*' ;;
    memory.cu) echo '*memory*' ;;
    strided.cuh) echo '*memory*,*elementwise*' ;;
    norm.cu) echo '*norms*' ;;
    optimizer.cu) echo '*adam*,*sgd*,*clip*' ;;
    rounded.cu) echo '*weights*' ;;
    list.cuh) echo '*weights*,*adam*,*clip*' ;;
    reduce.cu) echo '*reductions*' ;;
    select.cu) echo '*choosing*,*compare*' ;;
    unfold.cu) echo '*windows*' ;;
    *) echo 'cuda*' ;;
  esac
}

[ -f "$dir/build.ninja" ] || tools/build.sh
ninja -C "$dir" tests/kernel_tests
rm -rf "$work"
mkdir -p "$work/cuda" "$work/objects"

# The objects of the emulated kernels that include the file cuda/$1.
objects_with() {
  ninja -C "$dir" -t deps | awk -v file="/cuda/$1" '
    /^[^ ]/ { object = index($1, "librondo_emulated_kernels.a.p/") ? substr($1, 1, length($1) - 1) : "" }
    object && substr($1, length($1) - length(file) + 1) == file { print object }'
}
# The command of $1 in $dir, with another result: $2, and $3 behind it.
command_of() { ninja -C "$dir" -t commands -s "$1" | sed "s% -o $1 % -o $2 $3 %; s% -M[QF] [^ ]*%%g; s% -MD%%"; }
# kernel_tests with the fault that lies in $work/cuda, where that is found first.
link_faulty() {
  objects=$(objects_with "$1")
  [ -n "$objects" ] || { echo "no emulated kernel includes cuda/$1"; return 1; }
  for object in $objects; do
    printf 'cd %s && %s\0' "$dir" "$(command_of "$object" "$work/objects/${object##*/}" -w | sed "s% -Icuda% -I$work&%")"
  done | xargs -0 -P "$(nproc)" -n 1 sh -c || return
  (cd "$dir" && eval "$(command_of tests/kernel_tests "$work/kernel_tests" "$work/objects/*")")
}
passes() {  # PROGRAM TESTS: in orders that differ most
  for order in forward reverse random:1; do
    EMULATION_ORDER=$order timeout 180 "$1" -tc="$2" --abort-after=1 >"$work/log" 2>&1 || return 1
  done
}

case ${1:-.} in
  *[!0-9]*) faults | grep -e "${1:-.}" ;;
  *) faults | awk -v n="$1" '{ line[NR] = $0 } END { for (i = 0; i < n; i++) print line[int(NR * (i + 0.5) / n) + 1] }' ;;
esac >"$work/faults"
names=$(while read -r file _; do tests_of "$file"; done <"$work/faults" | sort -u | paste -sd,)
passes "$dir/tests/kernel_tests" "$names" ||
  { tail -n 20 "$work/log"; echo "mutants: the tests fail without a fault" >&2; exit 1; }
n=0 found=0
: >"$work/results"
while read -r file fault; do
  rm -f "$work"/cuda/* "$work"/objects/*
  sed "$fault" "cuda/$file" >"$work/cuda/$file"
  ! cmp -s "cuda/$file" "$work/cuda/$file" || { echo "mutants: cuda/$file has no line for $fault" >&2; exit 1; }
  link_faulty "$file" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log"; echo "mutants: a fault in cuda/$file could not be built (above): $fault" >&2; exit 1; }
  n=$((n + 1))
  if passes "$work/kernel_tests" "$(tests_of "$file")"; then result="not found"; else result=found found=$((found + 1)); fi
  echo "$n of $(wc -l <"$work/faults"), $result: cuda/$file $fault"
  echo "$file $result" >>"$work/results"
done <"$work/faults"
echo
awk '!($1 in all) { files[++k] = $1 } { all[$1]++; found[$1] += $2 == "found" }
     END { print "| File of `cuda/` | Faults | Found |"; print "|---|---:|---:|"
           for (i = 1; i <= k; i++) print "| `" files[i] "` | " all[files[i]] " | " found[files[i]] " |" }' "$work/results"
echo "$n faults, $found found"
[ $n = $found ]
