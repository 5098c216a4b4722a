#!/usr/bin/env bash
# `muster bench exact` in one class: every way of computing gives the same bits, and is named.
#
#   exact.sh CLASS
set -euo pipefail

muster=${MUSTER:?the program to test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$muster" bench exact --numerics "$1" >"$work/out" || { cat "$work/out"; exit 1; }
tail -n 1 "$work/out"
[ "$(grep -c '^scalar ' "$work/out")" = 24 ] # 9 of inference and 3 of training, twice
for kernels in scalar neon avx2 avx512; do
    grep -q "^$kernels " "$work/out" || { echo "no word of $kernels"; exit 1; }
done
if grep -q DIFFER "$work/out"; then exit 1; fi

# One hash for each operation and model of each backend.
[ "$(grep -c '  equal$' "$work/out")" = 32 ]
grep -q '^operations and models: 32 of 32 rows equal$' "$work/out"

# The same as JSON, and equal hashes are not those of a constant: another seed has others.
"$muster" bench exact --numerics "$1" --seed 2 --layers 1 --prompt-tokens 9 --json >"$work/json"
grep -q '"equal": true}$' "$work/json"
hash=$(sed -n '$s/.*"logits": "\([0-9a-f]*\)".*/\1/p' "$work/json")
[ ${#hash} = 16 ] && ! grep -q "$hash" "$work/out"

# a model that is given has a shape of its own
status=0
"$muster" bench exact "$work" --dim 64 2>"$work/err" || status=$?
[ $status -eq 2 ]
grep -q -- '--dim is for the random model' "$work/err"
