# shellcheck shell=sh disable=SC2086,SC2154
# From what bench/compare.sh gathered to tables, and to the files that show them.

header() {  # TITLE
  line="| $1 |" rule="|---|"
  for side in $sides; do line="$line $(version_of "$side") |" rule="$rule---:|"; done
  for side in $sides; do
    [ "$side" = rondo ] || line="$line over $(version_of "$side") |" rule="$rule---:|"
  done
  printf '\n%s\n%s\n' "$line" "$rule"
}

# cells LABEL FORMAT BETTER: a row of the numbers on stdin, one for each side, and how many times better Rondo's is than
# each of the others'; BETTER is "more" or "less".
cells() {
  awk -v label="$1" -v format="$2" -v better="$3" '
    { v[NR] = $1 }
    END {
      line = "| " label " |"
      for (i = 1; i <= NR; i++) line = line (v[i] == "-" ? " - |" : sprintf(" " format " |", v[i]))
      for (i = 2; i <= NR; i++) {
        known = v[1] != "-" && v[i] != "-" && v[1] > 0 && v[i] > 0
        line = line (known ? sprintf(" %.2f× |", better == "more" ? v[1] / v[i] : v[i] / v[1]) : " - |")
      }
      print line
    }'
}

# row LABEL FORMAT BETTER FIELD KEY [SCALE] [EXTENSION]: medians of a field, times SCALE.
row() {
  for side in $sides; do median "$4" "$5" "$side" "${7:-}"; done |
      awk -v scale="${6:-1}" '{ print ($1 == "-" ? $1 : $1 * scale) }' | cells "$1" "$2" "$3"
}

tables() {
  header "training, tokens/s"
  for size in tiny small readme; do row "\`$size\`, f32" %.0f more tokens_per_s train-$size; done
  [ -n "$no_bf16" ] || for size in tiny small readme; do row "\`$size\`, bf16" %.0f more tokens_per_s bf16-$size; done
  header "decoding, tokens/s, batch 1"
  for size in tiny small readme; do row "\`$size\`, keys and values kept" %.0f more tokens_per_s decode-$size; done
  for size in tiny small readme; do
    for dtype in bf16 int8; do
      against tokens_per_s decode-$dtype-$size decode-$size |
          cells "\`$size\`, Rondo's weights in $dtype, the others' in f32" %.0f more
    done
  done
  for size in tiny small readme; do
    against tokens_per_s decode-$size again-$size | cells "\`$size\`, against the reference's way" %.1f more
  done
  against tokens_per_s decode-bf16-readme again-readme |
      cells "\`readme\`, Rondo's weights in bf16, against the reference's way" %.1f more
  row "\`readme\`, taking 900 tokens in" %.0f more prefill_tokens_per_s decode-readme
  [ -z "$gpu" ] || gpu_table
  header "peak memory of training, MB"
  for size in tiny small readme; do row "\`$size\`, f32" %.0f less peak_mb train-$size; done
  header "the program"
  row "start, two \`tiny\` training steps, exit: ms" %.0f less seconds start 1000 .seconds
  program_sizes | cells "stripped, with its tensor libraries: MB" %.1f less
  busy_shares | cells "\`tiny\` training beside a program that keeps one core busy, share of the quiet speed" %.2f more
  if [ -s "$work/ops.rondo" ]; then
    all_sides=$sides sides=$(echo $sides | sed 's/ pytorch//')
    header "a training step of a model of one's own, f32: microseconds"
    op_rows -e '^step' | sed 's/^| step /| /'
    header "single ops, f32: microseconds"
    op_rows -v -e '^step'
    sides=$all_sides
  fi
  notes
}

# The rows that grep finds and that every side has.
op_rows() {
  awk -F '\t' '!seen[$1]++ { print $1 }' "$work/ops.rondo" | grep "$@" | while read -r name; do
    times=$(for side in $sides; do op_median "$name" "$side"; done)
    case $times in *-*) ;; *) echo "$times" | cells "$name" %.0f less ;; esac
  done
}

# Rondo, PyTorch and PyTorch compiled.
gpu_table() {
  printf '\n| on %s, tokens/s | Rondo | PyTorch | compiled | over PyTorch | over compiled |\n|---|---:|---:|---:|---:|---:|\n' "$gpu"
  for size in tiny small readme; do
    for dtype in f32 bf16; do
      for what in gpu-$dtype-$size.rondo gpu-$dtype-$size.pytorch compiled-$dtype-$size.pytorch; do
        median tokens_per_s "${what%.*}" "${what##*.}"
      done | cells "training \`$size\`, $dtype" %.0f more
    done
    for side in rondo pytorch none; do median tokens_per_s gpu-decode-$size $side; done |
        cells "decoding \`$size\`, f32, keys and values kept" %.0f more
  done
}

# against FIELD KEY OTHERS: medians of Rondo's KEY and of the others' OTHERS.
against() {
  for side in $sides; do median "$1" "$([ "$side" = rondo ] && echo "$2" || echo "$3")" "$side"; done
}

program_sizes() {
  strip -o "$work/stripped" $dir/rondo
  for side in $sides; do
    case $side in
      rondo) megabytes "$work/stripped" ;;
      libtorch)
        strip -o "$work/stripped" $dir/bench/libtorch/rondo_libtorch
        # shellcheck disable=SC2046  # a list
        megabytes "$work/stripped" $(ldd $dir/bench/libtorch/rondo_libtorch | awk '$1 ~ /torch|c10/ { print $3 }') ;;
      pytorch) echo - ;;
    esac
  done
}
megabytes() { stat -L -c %s "$@" | awk '{ sum += $1 } END { print sum / 1e6 }'; }

busy_shares() {
  for side in $sides; do
    echo "$(median tokens_per_s busy "$side") $(median tokens_per_s train-tiny "$side")" | awk '{ print $1 / $2 }'
  done
}

notes() {
  # shellcheck disable=SC2016  # the backquotes are the table's
  printf '\n- %s, %s threads; rounds: %s, of which the medians; the programs in turns: `%s`\n' \
      "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1) ($(vectors))" "$threads" "$rounds" "$command"
  [ ! -s "$work/ops.rondo" ] || echo "- steps of models of one's own (\`bench/models.cpp\`): on Rondo's side the batch goes through in one part or two at once (\`nn/data_parallel.h\`)"
  echo "- Rondo: $($dir/rondo --version | sed -n 's/^compiler: //p')"
  case $sides in *libtorch*)
    echo "- LibTorch: attention $(text_field attention "$work/train-tiny.libtorch")"
    [ -z "$(slow_blas)" ] || echo "- LibTorch has $(slow_blas)" ;;
  esac
  case $sides in *pytorch*) echo "- PyTorch: block-recurrent-transformer-pytorch 0.3.2 with its fused attention" ;; esac
  [ -z "$no_bf16" ] || echo "- no rows for bf16: $no_bf16"
  cat "$work/missing"
}

vectors() {
  for name in amx_bf16 avx512_bf16 avx512f avx2; do
    if grep -qw $name /proc/cpuinfo; then echo $name; return; fi
  done
  echo "128-bit vectors"
}

# replace FILE [NAME]: what stands between the marker lines of a file, of bench/NAME, becomes stdin.
replace() {
  awk -v text="$(cat)" -v marker="<!-- bench/${2:-compare.sh}: " '
    $0 == marker "end -->" { inside = 0 }
    !inside
    $0 == marker "begin -->" { inside = 1; print text "\n" }' "$1" > "$work/replaced"
  cat "$work/replaced" > "$1"
}

write_results() {
  replace docs/benchmarks.md < "$work/tables.md"
  { header "f32, batch and lengths as in docs/benchmarks.md"
    for size in tiny small readme; do row "training \`$size\`, tokens/s" %.0f more tokens_per_s train-$size; done
    for size in tiny small readme; do row "decoding \`$size\`, tokens/s" %.0f more tokens_per_s decode-$size; done
    row "peak memory of training \`readme\`, MB" %.0f less peak_mb train-readme
    row "start, two \`tiny\` training steps, exit: ms" %.0f less seconds start 1000 .seconds
    program_sizes | cells "program and its tensor libraries, MB" %.1f less
    notes | sed -n '1,2p'
  } | replace README.md
  for key in train-tiny train-small train-readme decode-tiny decode-small decode-readme; do
    for side in $sides; do printf '%s\t%s\t%s\n' "$key" "$(version_of "$side")" "$(median tokens_per_s $key "$side")"; done
  done | awk -f bench/compare/chart.awk > docs/benchmarks.svg
}
