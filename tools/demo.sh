#!/bin/sh
# The whole path: builds Rondo, learns word pieces from the King James Bible, trains a small model on them for two to three
# minutes, measures it with its states carried and dropped, and lets it write; then teaches a smaller one to recall keys, which is what states are for.
# Every run gets a folder of its own: runs/demo-1, runs/demo-2, ...
# usage: tools/demo.sh [OPTION OF rondo train]...      such as --steps 100
set -eu
cd "$(dirname "$0")/.."

run() {
  printf '\n$'
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9_./=:-]*) printf " '%s'" "$word" ;;
      *) printf ' %s' "$word" ;;
    esac
  done
  printf '\n'
  "$@"
}

# The whole text; its last twentieth is kept to measure on.
prepare_text() {
  [ ! -s runs/bible.txt ] || return 0
  command -v bible > /dev/null || { echo "tools/demo.sh: please install bible-kjv, the text to train on" >&2; exit 1; }
  mkdir -p runs
  bible gen1:1-rev22:21 > runs/bible.txt.part
  mv runs/bible.txt.part runs/bible.txt
}

next_run() {
  n=1
  while [ -e "runs/demo-$n" ]; do n=$((n + 1)); done
  echo "runs/demo-$n"
}

tools/build.sh
prepare_text
out=$(next_run)

# What the model reads and writes: pieces of words, where this build knows them, else bytes.
vocabulary=
if build/rondo --version | grep -qx 'SentencePiece: yes'; then
  vocabulary=runs/bible.model
  run build/rondo vocabulary --data runs/bible.txt --size 2048 --out "$vocabulary"
fi

# Ctrl-C: the training saves itself and says how to go on; the demo ends there.
trap 'exit 130' INT TERM
run build/rondo train --data runs/bible.txt --out "$out" --set train.steps=600 \
    ${vocabulary:+--set data.vocabulary=$vocabulary --set model.num_tokens=2048} \
    --set 'model.init="0.4"' --set model.qk_norm_scale=8 "$@"

echo
echo "Bits per byte of unseen text, with the recurrent states carried along and then dropped at each segment:"
run build/rondo eval "$out"
run build/rondo eval "$out" --no-state

run build/rondo generate "$out" --prompt 'And it came to pass' --length 160 --temperature 0.8 --seed 1
echo

echo
echo "What a recurrent state is for: a key shown once, asked for many blocks later, long after it has left the memories."
ninja -C build examples/04_block_recurrent > /dev/null
run build/examples/04_block_recurrent
