#!/bin/sh
# Everything that needs a GPU, in one go: builds with CUDA and runs the tests, parity with the reference, NVIDIA's
# sanitizer and the benchmarks on it. What came out is in one file, build-gpu/report.txt; exit 0 when nothing failed.
# usage: tools/gpu.sh [OPTION OF meson setup]...      BUILD_DIR=DIR builds elsewhere than in build-gpu/
set -u
cd "$(dirname "$0")/.." || exit 1
dir=${BUILD_DIR:-build-gpu}
report=$dir/report.txt
passed=0 failed=0 skipped=0

stop() { echo "tools/gpu.sh: $*" >&2; exit 1; }

gpus() { nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; }
gpus > /dev/null 2>&1 || stop "there is no GPU here (nvidia-smi finds none); tools/test.sh runs what needs none"
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || stop "there is no nvcc; install the CUDA toolkit"
sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$nvcc")/compute-sanitizer")

# step NAME COMMAND...: one part. What it prints goes into the report, its last line to the terminal too.
step() {
  name=$1 start=$(date +%s)
  shift
  printf '\n== %s\n$ %s\n' "$name" "$*" >> "$report"
  if "$@" > "$dir/step.log" 2>&1; then passed=$((passed + 1)) how=ok; else failed=$((failed + 1)) how=FAILED; fi
  cat "$dir/step.log" >> "$report"
  seconds=$(($(date +%s) - start))
  printf '%s: %s (%s s): %s\n' "$how" "$name" "$seconds" "$(tail -n 1 "$dir/step.log")" | tee -a "$report"
}

# Trains a moment with a process for each GPU; one alone goes through NCCL too.
train_in_ranks() {
  rm -rf "$dir/ranks"
  n=$(gpus | wc -l) all='' code=0
  for rank in $(seq 0 $((n - 1))); do
    RANK=$rank WORLD_SIZE=$n "$dir/rondo" train --data docs/benchmarks.md --out "$dir/ranks" --steps 20 --device cuda \
        --set "train.batch_size=$((4 * n))" &
    all="$all $!"
  done
  for process in $all; do wait "$process" || code=1; done
  return $code
}

BUILD_DIR=$dir tools/build.sh -Dcuda=enabled -Ddebug=true -Dbenchmarks=auto "$@" || exit
ninja -C "$dir" everything || exit
rows=$(ninja -C "$dir" -t targets all | sed -n 's/^\(bench\/rondo_bench\): .*/\1/p')
[ -z "$rows" ] || ninja -C "$dir" "$rows" || exit
{ date; gpus; "$dir/rondo" --version; git log -1 --format='commit %H'; } > "$report" 2>&1

step tests "$dir/tests/rondo_tests"
for golden in tests/goldens/*/; do step "parity $(basename "$golden")" "$dir/rondo" verify "$golden" --device cuda; done
step "a process for each GPU" train_in_ranks
for tool in memcheck racecheck; do
  if [ -x "$sanitizer" ]; then
    step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$dir/tests/rondo_tests" -tc='cuda *,*: gradients*'
  else
    skipped=$((skipped + 1))
    echo "skipped: $tool: compute-sanitizer is not installed" | tee -a "$report"
  fi
done
bench() { step "bench $*" "$dir/rondo" bench "$@" --device cuda; }
for size in readme small tiny; do
  for how in 'f32 --tf32' f32 bf16; do
    # shellcheck disable=SC2086  # words
    bench train --size "$size" --steps 50 --dtype $how
  done
  for dtype in f32 bf16 int8; do bench decode --size "$size" --context 900 --tokens 256 --dtype $dtype; done
done
for batch in 4 64; do bench train --size readme --batch $batch --steps 20 --dtype bf16; done
if [ -n "$rows" ]; then
  step "rows of ops" "$dir/$rows" --benchmark_filter='^cuda'
else
  skipped=$((skipped + 1))
  echo "skipped: rows of ops: libbenchmark-dev is not installed" | tee -a "$report"
fi

echo "$passed passed, $failed failed, $skipped skipped; the report is $report" | tee -a "$report"
[ "$failed" = 0 ]
