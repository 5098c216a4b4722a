#!/usr/bin/env bash
# One model, one sequence: `muster model logits` writes the same bytes whatever number of threads
# computes them, with whichever kernels, and whether the tokens come at once or one by one.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The sizes are no multiples of what a kernel or a thread takes at once, and large enough to be
# shared among threads at all (INLINE_OPS in engine/matmul.c, ATTENTION_INLINE in
# engine/cpu/attention.h): the smallest matrix is 36 x 100 over 83 tokens, and the head of 2999
# rows is shared for a single token too.
tokens=83
vocab=2999
ids=$(seq 0 $((tokens - 1)) | awk '{printf "%d ", ($1 * 37 + 11) % 251}')

# The kernels that this CPU has. One that it lacks says so, and nothing else will do.
"$muster" model init "$work/probe" --dim 8 --layers 1 --heads 2 >"$work/log"
kernels=
for k in scalar avx2 avx512; do
    if "$muster" model logits "$work/probe" --tokens 1 --out "$work/out" --kernels $k \
        2>"$work/log"; then
        kernels="$kernels $k"
    elif ! grep -q "this CPU cannot run the '$k' kernels" "$work/log"; then
        cat "$work/log"
        exit 1
    fi
done
case $kernels in *scalar*) ;; *) echo "no scalar kernels"; exit 1 ;; esac

# same NAME: the model in $work/NAME
same() {
    local model=$work/$1 n=0
    for k in $kernels; do
        for threads in 1 2 3; do
            for how in "" --one-by-one; do
                rm -f "$work/out"
                "$muster" model logits "$model" --tokens "$ids" --out "$work/out" \
                    --threads $threads --kernels "$k" $how
                [ -e "$model.logits" ] || cp "$work/out" "$model.logits"
                cmp "$work/out" "$model.logits" ||
                    { echo "$1: --kernels $k --threads $threads $how"; exit 1; }
                n=$((n + 1))
            done
        done
    done
    echo "$1: the same $(stat -c %s "$work/out") bytes $n times ($kernels )"
}

# different A B: so that equality above is not that of constants
different() {
    ! cmp -s "$work/$1.logits" "$work/$2.logits" || { echo "$1 and $2 agree"; exit 1; }
}

init() { # name, options: a Llama with random weights
    "$muster" model init "$work/$1" --dim 100 --layers 2 --heads 5 --ffn 250 --max-len 99 \
        "${@:2}" >"$work/log"
}

make() { # name, config: random weights for a config.json
    /usr/bin/python3 "$here/make_model.py" "$work/$1" "$2"
    "$muster" model info "$work/$1" --json >"$work/$1.info"
}

shape='"hidden_size": 100, "num_hidden_layers": 2, "intermediate_size": 250,
       "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 18,
       "max_position_embeddings": 99, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
       "hidden_act": "silu", "torch_dtype": "float32", "vocab_size": '$vocab

init seed0
init seed1 --seed 1
init grouped_untied --heads 10 --kv-heads 5 --untied
make qwen2 "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\",
            \"tie_word_embeddings\": true, $shape}"
make qwen3 "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\",
            \"tie_word_embeddings\": false, \"attention_bias\": true, $shape}"
make llama_biases "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\",
            \"tie_word_embeddings\": false, \"attention_bias\": true, $shape}"

for model in seed0 seed1 grouped_untied qwen2 qwen3 llama_biases; do
    same "$model"
done
different seed0 seed1
different qwen2 qwen3
different qwen3 llama_biases
# Every token gets its row, and the rows differ.
[ "$(stat -c %s "$work/qwen3.logits")" = $((tokens * vocab * 4)) ]
rows=$(od -An -v -t x4 -w$((vocab * 4)) "$work/qwen3.logits" | sort -u | wc -l)
[ "$rows" = $tokens ] || { echo "$rows different rows of $tokens"; exit 1; }
