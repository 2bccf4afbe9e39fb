# shellcheck shell=sh disable=SC2086,SC2154
# The sides of bench/compare.sh: $sides names those that are there, rondo first, then libtorch and pytorch. For each a
# function that takes the arguments of `rondo bench`; what is missing is said in $work/missing.
python=${PYTHON:-python3}
dir=build-bench

missing() { echo "- $*" >> "$work/missing"; }

prepare_sides() {
  sides=rondo
  : > "$work/missing"
  libtorch_dir=${LIBTORCH:-}
  [ -n "$libtorch_dir" ] || [ ! -d /usr/include/torch/csrc/api ] || libtorch_dir=system
  [ "$libtorch_dir" != none ] || libtorch_dir=
  [ ! -f $dir/build.ninja ] || meson setup --reconfigure $dir > /dev/null  # it may be older than an option
  # op rows need Google Benchmark; without it they are left out
  BUILD_DIR=$dir tools/build.sh -Dlibtorch="$libtorch_dir" -Dbenchmarks=auto > "$work/build.log" || { cat "$work/build.log"; exit 1; }
  if [ -z "$libtorch_dir" ]; then
    missing "LibTorch is not measured: install libtorch-dev, or set LIBTORCH to the folder of one"
  else
    ninja -C $dir bench/libtorch/rondo_libtorch > "$work/build.log" || { cat "$work/build.log"; exit 1; }
    for golden in tests/goldens/*/; do $dir/bench/libtorch/rondo_libtorch check "$golden" > "$work/check.log" ||
        { cat "$work/check.log"; exit 1; }; done
    [ -z "$(slow_blas)" ] || echo "this will take long: LibTorch has $(slow_blas)" >&2
    sides="$sides libtorch"
  fi
  rows=$(ninja -C $dir -t targets all | sed -n 's/^\(bench.*\(rondo_bench\|libtorch_ops\)\): cpp_LINKER.*/\1/p')
  if [ -n "$rows" ]; then
    ninja -C $dir $rows > "$work/build.log" || { cat "$work/build.log"; exit 1; }
  else
    missing "no rows of single ops: install libbenchmark-dev"
  fi
  if "$python" -c 'import block_recurrent_transformer_pytorch' 2> /dev/null; then
    sides="$sides pytorch"
  else
    missing "PyTorch is not measured: \`$python\` has no block_recurrent_transformer_pytorch; set PYTHON (see bench/pytorch.py)"
  fi
}

# What the GPU is, empty where there is none; "pytorch" where that can use it too.
find_gpu() {
  gpu='' pytorch_on_gpu=''
  side_rondo train --size tiny --steps 1 --device cuda > /dev/null 2>&1 || return 0
  gpu=$($dir/rondo --version | sed -n 's/^CUDA: .*; //p') gpu=${gpu:-the GPU}
  case $sides in *pytorch*) ;; *) return 0 ;; esac
  if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())'; then
    pytorch_on_gpu=pytorch
  else
    missing "PyTorch is not measured on the GPU: its build has no CUDA that can be used here"
  fi
}

# Debian's LibTorch takes the BLAS that is installed. Says so where that is the reference one.
slow_blas() {
  path=$(ldd $dir/bench/libtorch/rondo_libtorch | awk '$1 ~ /^libblas/ { print $3 }')
  [ -n "$path" ] || return 0
  case $(readlink -f "$path") in
    */blas/*) echo "the reference BLAS for its products (libopenblas0-pthread is far faster)" ;;
  esac
}

side_rondo() { $dir/rondo bench "$@"; }
side_libtorch() { $dir/bench/libtorch/rondo_libtorch "$@"; }
side_pytorch() { "$python" bench/pytorch.py "$@"; }

# run KEY SIDES ARGUMENTS...: one row's work by each side that is there, in turns; its JSON lines gather in
# $work/KEY.SIDE, its wall seconds in $work/KEY.SIDE.seconds.
run() {
  key=$1 among=$2
  shift 2
  for side in $sides; do
    case " $among " in *" $side "*) ;; *) continue ;; esac
    start=$(date +%s%N)
    "side_$side" "$@" --threads "$threads" >> "$work/$key.$side" 2> "$work/error" || { cat "$work/error" >&2; exit 1; }
    echo "\"seconds\": $((($(date +%s%N) - start) / 1000000))e-3" >> "$work/$key.$side.seconds"
  done
}

# Single ops, and steps of small models, by name in $work/ops.SIDE: one "NAME<tab>MICROSECONDS" a line. PyTorch's ops
# are LibTorch's. (A gradient that LibTorch gives as a view of other memory is not compared.)
ops='^(mul|gelu|geglu|layer_norm|log_softmax|softmax|cross_entropy|embedding|matmul|linear|where less|max axis 1) [0-9]'
ops="$ops|^add .* (32|10|512) f32|^(add|sum|sum axis 1|permute|transpose) [0-9].*forward|^step "
run_ops() {
  for row in $rows; do
    case $row in */libtorch/*) side=libtorch ;; *) side=rondo ;; esac
    taskset -c "0-$((threads - 1))" $dir/$row --benchmark_filter="$ops" --benchmark_min_time=0.1 2> /dev/null |
        sed -n 's|^\(.*\)/manual_time *\([0-9.]*\) us .*|\1\t\2|p' >> "$work/ops.$side"
  done
}
op_median() {  # NAME SIDE
  [ -s "$work/ops.$2" ] || { echo -; return; }
  awk -F '\t' -v name="$1" '$1 == name { print $2 }' "$work/ops.$2" | sort -g |
      awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "-" }'
}

# median FIELD KEY SIDE [EXTENSION]: over the rounds; "-" where that side did not run.
median() {
  [ -s "$work/$2.$3${4:-}" ] || { echo -; return; }
  sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$work/$2.$3${4:-}" | sort -g |
      awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : "-" }'
}

version_of() {  # SIDE, from what it printed
  case $1 in
    rondo) echo "Rondo" ;;
    libtorch) echo "LibTorch $(text_field libtorch "$work/train-tiny.libtorch")" ;;
    pytorch) echo "PyTorch $(text_field torch "$work/train-tiny.pytorch" | sed 's/+.*//')" ;;
  esac
}
text_field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$2" | head -n 1; }
