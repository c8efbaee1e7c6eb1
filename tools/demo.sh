#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains a small mixture-of-experts language model on the King James Bible and shows what came of it.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/demo.sh [--minutes N] [--seed N] [--out DIR]

Installs what is missing, builds, and trains a small MoE language model on the King James Bible, on the CPU. Then
there are a text that it wrote, pictures of what each expert does, and the metrics of every step.

  --minutes N   how long to train (default 5; 0.5 is half a minute)
  --seed N      the seed of all random numbers (default: the program's own)
  --out DIR     where the results go, a new folder (default runs/demo, or runs/demo-2, ... where that is taken)

Ctrl-C saves; the program says how to go on.
END
}

fail() {
  echo "demo: $1" >&2
  exit 1
}

minutes=5
seed=
out=
while (($#)); do
  case $1 in
    --minutes | --seed | --out)
      (($# > 1)) || fail "$1 needs a value"
      case $1 in
        --minutes) minutes=$2 ;;
        --seed) seed=$2 ;;
        --out) out=$2 ;;
      esac
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option $1" ;;
  esac
done
[[ $minutes =~ ^[0-9]*\.?[0-9]+$ && $minutes =~ [1-9] ]] || fail "--minutes must be a number above 0, got '$minutes'"
[[ -z $seed || $seed =~ ^[0-9]+$ ]] || fail "--seed must be a whole number from 0 up, got '$seed'"
# A relative folder is the caller's.
[[ -z $out || $out == /* ]] || out=$PWD/$out

cd "$(dirname "${BASH_SOURCE[0]}")/.."
train=build/cpu/bin/train_lm

is_taken() { [[ -e $1 && -n $(ls -A "$1" 2>/dev/null || echo file) ]]; }

# A run is never overwritten.
if [[ -n $out ]]; then
  is_taken "$out" && fail "$out is not empty. To go on with a run that stopped there: $train --resume --out $out"
else
  out=runs/demo
  number=1
  last=
  while is_taken "$out"; do
    last=$out
    number=$((number + 1))
    out=runs/demo-$number
  done
  if [[ -n $last ]]; then
    echo "demo: $last holds a run. If it was stopped, this goes on with it: $train --resume --out $last"
    echo "demo: a new run starts in $out"
  fi
fi

tools/kjv.sh
tools/build.sh --target train_lm --target sample_lm

arguments=(--preset tiny --data data/kjv.txt --router perturbed_cosine --erc-alpha 1 --minutes "$minutes" --out "$out")
if [[ -n $seed ]]; then arguments+=(--seed "$seed"); fi
echo "demo: $train ${arguments[*]}"
# Ctrl-C is for the program, which saves; this script waits for it.
trap : INT
status=0
"$train" "${arguments[@]}" || status=$?
((status == 0)) || exit "$status"

echo
echo "demo: done. Look at"
for file in "$out"/sample.txt "$out"/*.png "$out"/metrics.csv; do
  if [[ -s $file ]]; then echo "  $file"; fi
done
echo "  build/cpu/bin/sample_lm --help   for more of its text"
