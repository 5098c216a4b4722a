#!/bin/sh
# Decoding and prefill of muster and of llama.cpp, one after the other for each model and dtype, so
# that what else the machine does hits both.
#
#   tools/bench_llama.sh MUSTER LLAMA_BIN GGUF_DIR [SHAPE...]
#
# LLAMA_BIN holds llama-batched-bench and llama-bench; GGUF_DIR holds SHAPE_DTYPE.gguf of the same
# shapes with any weights (15m, 110m, 0.5b; f32, bf16). Both count decoding without sampling: of prompts
# of 128 tokens, then of 32 sequences with prompts of 512 that they share (muster: eight a prompt,
# llama.cpp: all of them).
set -eu

[ $# -ge 3 ] || { sed -n '2,10p' "$0" | cut -c3-; exit 2; }
muster=$1 llama=$2 models=$3
shift 3
[ $# -gt 0 ] || set -- 15m 110m 0.5b

for shape in "$@"; do
    for dtype in f32 bf16; do
        "$muster" bench engine --what decode --shape "$shape" --dtype "$dtype"
        "$llama/llama-batched-bench" -m "$models/${shape}_$dtype.gguf" -c 16384 -b 2048 -ub 512 \
            -npp 128 -ntg 32 -npl 1,4,16,32,64 -t 2 2>/dev/null | grep '^|'
        "$muster" bench engine --what decode --shape "$shape" --dtype "$dtype" --batch 32 \
            --group 8 --prompt-tokens 512 --new-tokens 16
        "$llama/llama-batched-bench" -m "$models/${shape}_$dtype.gguf" -c 20480 -b 2048 -ub 512 \
            -npp 512 -ntg 16 -npl 32 -pps -t 2 2>/dev/null | grep '^|'
        "$muster" bench engine --what prefill --shape "$shape" --dtype "$dtype"
        "$llama/llama-bench" -m "$models/${shape}_$dtype.gguf" -p 512 -n 0 -t 2 2>/dev/null |
            grep '^|'
    done
done
