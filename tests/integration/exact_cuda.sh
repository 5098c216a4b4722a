#!/usr/bin/env bash
# `muster bench exact --device cuda`, of a GPU or the emulated one: every operation and every family's
# model, forward, backward, sampled tokens and ten optimizer steps, has the hash that the CPU's code gives.
set -euo pipefail

muster=${MUSTER:?the program to test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! "$muster" bench exact --what operations --device cuda --layers 1 --dim 16 --ffn 24 --vocab 37 \
    >"$work/out" 2>"$work/err"; then
    cat "$work/out" "$work/err"
    grep -qE 'no device cuda|without CUDA' "$work/err" && exit 77
    exit 1
fi
grep -q '^operation .* scalar .* cuda *$' "$work/out"
# A row is equal, and it has a hash of the scalar code and, in the last place, of the device.
[ "$(grep -cE '^.{26}  ([0-9a-f]{16})  .*  \1  equal$' "$work/out")" = 32 ] || { cat "$work/out"; exit 1; }
for row in 'product, dx' 'attention, backward' sampling AdamW 'llama, ten optimizer steps' 'qwen3, sampled tokens'; do
    grep -q "^$row " "$work/out"
done
