#!/bin/sh
# The limits that Rondo sets itself, measured: what was seen beside what it must be. Medians over rounds of programs that
# run in turns. Exit 1 where one does not hold: on a machine that does other work, or of one core, they may well not.
# usage: bench/limits.sh [--rounds N] [--quick] [--write]
#   --quick   a few steps each: to see that it works
#   --write   also puts the table into docs/benchmarks.md
set -eu
cd "$(dirname "$0")/.."
command="bench/limits.sh${*:+ $*}"
rounds=5 quick='' write=''
while [ $# -gt 0 ]; do
  case $1 in
    --rounds) rounds=$2; shift ;;
    --quick) quick=yes ;;
    --write) write=yes ;;
    *) sed -n '4,6s/^# //p' "$0" >&2; exit 2 ;;
  esac
  shift
done
streams='10000 100000 1000000'
[ -z "$quick" ] || streams='1000 10000'
work=$(mktemp -d) busy=''
trap '[ -z "$busy" ] || kill $busy; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
dir=build-bench
. bench/compare/tables.sh  # replace, vectors

BUILD_DIR=$dir tools/build.sh -Dbenchmarks=auto > "$work/build.log" || { cat "$work/build.log"; exit 1; }
rows=
if ninja -C $dir -t targets all | grep -q '^bench/rondo_bench: '; then
  ninja -C $dir bench/rondo_bench > "$work/build.log" || { cat "$work/build.log"; exit 1; }
  rows=$dir/bench/rondo_bench
fi

# bench KEY ARGUMENTS...: one measurement more of KEY. median FIELD KEY: over those there are.
bench() {
  key=$1
  shift
  start=$(date +%s%N)
  $dir/rondo bench "$@" > "$work/line"
  printf '%s "wall_ms": %s\n' "$(cat "$work/line")" $((($(date +%s%N) - start) / 1000000)) >> "$work/$key"
}
values() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$work/$2"; }
middle() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
median() { values "$1" "$2" | middle; }
steps() { case $1 in tiny) n=100 ;; small) n=8 ;; readme) n=3 ;; esac; [ -z "$quick" ] || n=1; echo "$n"; }

# sizes: every size's programs, one after the other: short ones, and ratios of neighbours, because the speed of a machine
# changes within seconds.
sizes() {
  for size in tiny small readme; do
    case $size in tiny) batch=4 depth=2 ;; small) batch=8 depth=4 ;; readme) batch=1 depth=6 ;; esac
    bench train-$size train --size $size --steps "$(steps $size)"
    [ $size != tiny ] || beside_another
    bench batch-$size train --size $size --steps "$(steps $size)" --batch $((2 * batch))
    bench depth-$size train --size $size --steps "$(steps $size)" --depth $((2 * depth))
    bench two-$size train --size $size --steps "$(steps $size)" --threads 2
    bench one-$size train --size $size --steps "$(steps $size)" --threads 1
  done
}
# beside_another: program, that is, which keeps one core busy.
beside_another() {
  sh -c 'while :; do :; done' &
  busy=$!
  bench busy train --size tiny --steps "$(steps tiny)"
  kill $busy
  wait $busy 2> /dev/null || true
  busy=
}
one_round() {
  for _ in 1 2 3; do sizes; done
  for tokens in $streams; do bench "stream-$tokens" stream --size tiny --tokens "$tokens"; done
  for _ in 1 2 3 4 5; do bench start train --size tiny --steps 1; done  # too short for one to count
  [ -z "$rows" ] || $rows --benchmark_filter='^tape: a small op, recorded/' --benchmark_format=json 2> /dev/null |
      sed -n 's/.*"ns_each": *\([^,]*\).*/"ns_each": \1/p' >> "$work/op"
}

# line WHAT MEASURED RELATION LIMIT FORMAT: a row of the table.
line() {
  awk -v what="$1" -v x="$2" -v how="$3" -v limit="$4" -v format="${5:-%.2f}" 'BEGIN {
    holds = how == "≤" ? x <= limit : x >= limit
    printf "| %s | " format " | %s %s | %s |\n", what, x, how, limit, holds ? "holds" : "**does not hold**"
  }' | tee -a "$work/table"
}
# ratio FIELD KEY OTHER [TIMES]: the median of those of neighbours, which a machine that gets slower changes least.
ratio() {
  values "$1" "$3" > "$work/others"
  values "$1" "$2" | paste - "$work/others" | awk -v times="${4:-1}" '{ print times * $1 / $2 }' | middle
}

round=0
while [ $round -lt "$rounds" ]; do
  round=$((round + 1))
  echo "round $round of $rounds" >&2
  one_round
done
printf '\n| limit | measured | must be | |\n|---|---:|---:|---|\n' | tee "$work/table"
first=${streams%% *}
for tokens in ${streams#* }; do
  line "\`tiny\`, a stream of $tokens tokens: time per token over that of $first, training" \
      "$(ratio tokens_per_s "stream-$first" "stream-$tokens")" ≤ 1.05
  line "... evaluating" "$(ratio eval_tokens_per_s "stream-$first" "stream-$tokens")" ≤ 1.05
  line "... memory" "$(ratio peak_mb "stream-$tokens" "stream-$first")" ≤ 1.1
done
for size in tiny small readme; do
  line "\`$size\`: time of a training step with twice the batch" "$(ratio mean_tokens_per_s train-$size batch-$size 2)" ≤ 2
  line "... with twice the depth" "$(ratio mean_tokens_per_s train-$size depth-$size)" ≤ 2
  line "... speed of two threads over one" "$(ratio mean_tokens_per_s two-$size one-$size)" ≥ 1.8
done
line "\`tiny\` beside a program that keeps one core busy: share of its quiet speed" "$(ratio mean_tokens_per_s busy train-tiny)" ≥ 0.45
line "start, two \`tiny\` training steps, exit: ms" "$(median wall_ms start)" ≤ 50 %.0f
strip -o "$work/stripped" $dir/rondo
line "stripped program: MB" "$(stat -c %s "$work/stripped" | awk '{ print $1 / 1e6 }')" ≤ 5 %.1f
[ -z "$rows" ] || line "a small op, recorded on the tape: ns" "$(median ns_each op)" ≤ 200 %.0f
# shellcheck disable=SC2016  # the backquotes are the page's
printf '\n%s (%s), %s threads; rounds: %s, of three turns, medians; %s: `%s`\n' \
    "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(vectors)" "$(nproc)" "$rounds" \
    "$($dir/rondo --version | sed -n 's/^compiler: //p')" "$command" | tee -a "$work/table"
[ -z "$write" ] || replace docs/benchmarks.md limits.sh < "$work/table"
! grep -q 'does not hold' "$work/table"
