# shellcheck shell=sh disable=SC2086,SC2154
# What bench/compare.sh runs: one round of every row.
all="rondo libtorch pytorch" others="libtorch pytorch"

run_rows() {
  for size in tiny small readme; do
    case $size in
      tiny) steps=100 context=24 tokens=500 ;;
      small) steps=10 context=200 tokens=200 ;;
      readme) steps=3 context=900 tokens=100 ;;
    esac
    [ -z "$quick" ] || steps=1 tokens=4
    run train-$size "$all" train --size $size --steps $steps
    run decode-$size "rondo" decode --size $size --context $context --tokens $tokens
    for dtype in bf16 int8; do
      run decode-$dtype-$size "rondo" decode --size $size --context $context --tokens $tokens --dtype $dtype
    done
    run decode-$size "$others" decode --size $size --context $context --tokens $tokens --cached
    run again-$size "$others" decode --size $size --context $context --tokens 4
    [ -z "$gpu" ] || run_on_gpu
    [ -n "$no_bf16" ] || run bf16-$size "$all" train --size $size --steps $steps --dtype bf16
  done
  [ -z "$rows" ] || run_ops
  run start "$all" train --size tiny --steps 1
  sh -c 'while :; do :; done' &
  busy=$!
  run busy "$all" train --size tiny --steps "$([ -n "$quick" ] && echo 1 || echo 100)"
  kill $busy
  wait $busy 2> /dev/null || true
  busy=
}

# A size on the GPU. PyTorch trains as it is and compiled.
run_on_gpu() {
  [ -n "$quick" ] || steps=50
  for dtype in f32 bf16; do
    run gpu-$dtype-$size "rondo $pytorch_on_gpu" train --size $size --steps $steps --dtype $dtype --device cuda
    run compiled-$dtype-$size "$pytorch_on_gpu" train --size $size --steps $steps --dtype $dtype --device cuda --compile
  done
  run gpu-decode-$size rondo decode --size $size --context $context --tokens $tokens --device cuda
  run gpu-decode-$size "$pytorch_on_gpu" decode --size $size --context $context --tokens $tokens --device cuda --cached
}

# Why there are no bf16 rows; empty where there are.
why_no_bf16() {
  if ! grep -qE 'amx_bf16|avx512_bf16' /proc/cpuinfo; then
    echo "this processor has neither AMX nor AVX512-BF16"
  elif ! side_rondo train --size tiny --steps 1 --dtype bf16 > /dev/null 2>&1; then
    echo "this Rondo trains in f32 only"
  fi
}
