#!/usr/bin/env bash
# The engine's commands given what they cannot take: each ends with status 1 or 2, says with one clear
# line what was wrong, prints no result, and leaves what was there as it was.
set -euo pipefail

muster=${MUSTER:?the program to test}
work=$(mktemp -d)
trap 'status=$?; rm -rf "$work"; exit $status' EXIT

# expect STATUS PATTERN COMMAND...: it ends so, and stderr has the pattern
expect() {
    local want=$1 pattern=$2 got=0
    shift 2
    "$muster" "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    if [ "$got" != "$want" ] || ! grep -q -e "$pattern" "$work/err" || [ -s "$work/out" ]; then
        echo "muster $*: status $got, want $want, no output, and '$pattern':"
        head -c 1000 "$work/out" "$work/err"
        exit 1
    fi
    grep -m 1 -e "$pattern" "$work/err"
}

model=$work/model
"$muster" model init "$model" --max-len 64 2>/dev/null
echo '{"text": "abc"}' >"$work/data.jsonl"
long=$(printf 'a%.0s' {1..200})

# ---- command lines -----------------------------------------------------------------------------
expect 2 "'model frob'" model frob
expect 2 "there is 'muster model generate'" generate
expect 2 "'bench frob'" bench frob
expect 2 "'shardcast frob'" shardcast frob
expect 2 "'kernels' is 'frob'" model logits "$model" --tokens 1 --out "$work/never" --kernels frob
expect 2 "text is to be encoded" tokenize "$model" --text a --decode 1
expect 2 "is a model: --data names" sft "$model" --out "$work/never"
expect 2 "want less than 1" sft "$model" --data "$work/data.jsonl" --out "$work/never" --beta1 1
expect 2 "leave out DIR" bench engine "$model" --what machine

expect 2 "do not go together" tokenize "$model" --decode 1 --bench
expect 2 "date wants --chat" model generate "$model" --prompt a --date "26 Jul 2024"

# ---- lengths and ranges ------------------------------------------------------------------------
expect 1 "prompt of 201 tokens.*64 positions" model generate "$model" --prompt "$long"
expect 1 "temperature is" model generate "$model" --prompt a --temperature 1e-40
expect 1 "names 65, the model has 64" model logits "$model" --out "$work/never" \
    --tokens "$(printf '1 %.0s' {1..65})"
expect 1 "token 999 is outside the vocabulary" model logits "$model" --out "$work/never" \
    --tokens "1 999"
expect 1 "64 positions, --prompt-tokens and --new-tokens want 160" bench engine "$model" --what decode
# 16 MB of logits a token
mkdir "$work/wide"
cat >"$work/wide/config.json" <<'END'
{"architectures": ["LlamaForCausalLM"], "vocab_size": 4194304, "hidden_size": 1, "head_dim": 2,
 "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
 "max_position_embeddings": 30000, "tie_word_embeddings": true}
END
/usr/bin/python3 - "$work/wide" <<'END'
import json, struct, sys
at, at_bytes, head = "model.layers.0.", 0, {}
for name, shape in (("model.embed_tokens", [4194304, 1]), ("model.norm", [1]),
                    (at + "input_layernorm", [1]), (at + "post_attention_layernorm", [1]),
                    (at + "self_attn.q_proj", [2, 1]), (at + "self_attn.k_proj", [2, 1]),
                    (at + "self_attn.v_proj", [2, 1]), (at + "self_attn.o_proj", [1, 2]),
                    (at + "mlp.gate_proj", [1, 1]), (at + "mlp.up_proj", [1, 1]),
                    (at + "mlp.down_proj", [1, 1])):
    size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
    head[name + ".weight"] = {"dtype": "BF16", "shape": shape,
                              "data_offsets": [at_bytes, at_bytes + size]}
    at_bytes += size
text = json.dumps(head).encode()
with open(sys.argv[1] + "/model.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    f.truncate(8 + len(text) + at_bytes)  # zeros that take no room
END
expect 1 "the logits takes .* more than the" model logits "$work/wide" --out "$work/never" \
    --tokens "$(printf '1 %.0s' {1..30000})"
expect 1 "heads 5 does not divide --dim 64" model init "$work/never" --heads 5
expect 1 "holds out not one" sft "$model" --data "$work/data.jsonl" --out "$work/no-0" \
    --eval-fraction 0.5
expect 1 "eval-fraction 1 holds out all 1 sequences" sft "$model" --data "$work/data.jsonl" \
    --out "$work/no-4" --eval-fraction 1
expect 1 "not in 2..128" model init "$work/never" --dim 4096 --heads 2

# an empty text is a text: stdin is not waited for
"$muster" tokenize "$model" --text "" --count </dev/zero >"$work/out"
[ "$(cat "$work/out")" = 0 ]

# threads of a terabyte of stack: no machine has a thousand of them
(
    ulimit -s 1000000000
    expect 1 "1024 threads were asked for, and the system gives" model logits "$model" --tokens 1 \
        --out "$work/never" --threads 1024
)
printf '1\0002' >"$work/zero"
expect 1 "a zero byte" tokenize "$model" --decode - --file "$work/zero"

# ---- files ---------------------------------------------------------------------------------------
ln -s "$model/config.json" "$work/link"
expect 1 "a symbolic link" model logits "$model" --tokens 1 --out "$work/link"
[ -L "$work/link" ]
cp -r "$model" "$work/empty"
: >"$work/empty/config.json"
expect 1 "config.json: empty" model info "$work/empty"
cp "$model/config.json" "$work/empty/config.json"
: >"$work/empty/tokenizer.json"
expect 1 "tokenizer.json: empty" tokenize "$work/empty" --text a
cp -r "$model" "$work/nan"
printf '\0\0\300\177' | dd of="$work/nan/model.safetensors" bs=1 conv=notrunc status=none \
    seek=$(($(stat -c %s "$model/model.safetensors") - 4))
expect 1 "not finite" model generate "$work/nan" --prompt a
expect 1 "not finite" sft "$work/nan" --data "$work/data.jsonl" --out "$work/no-3" --steps 2
echo '{"messages": [{"role": "user", "content": "a"}]}' >"$work/chat.jsonl"
expect 1 "chat.jsonl:1: .*no chat template" sft "$model" --data "$work/chat.jsonl" --out "$work/no-1"
expect 1 "no chat template 'frob'; there are" sft "$model" --data "$work/chat.jsonl" \
    --out "$work/no-2" --template frob
mkfifo "$work/empty/model.safetensors.pipe"
mv "$work/empty/model.safetensors.pipe" "$work/empty/model.safetensors"
expect 1 "is no regular file but a pipe" model info "$work/empty"
for name in config.json tokenizer.json tokenizer_config.json generation_config.json chat_template.jinja; do
    rm -rf "$work/pipe"
    cp -r "$model" "$work/pipe"
    rm -f "$work/pipe/$name"
    mkfifo "$work/pipe/$name" # whose writer never comes
    expect 1 "pipe/$name' is no regular file but a pipe" model generate "$work/pipe" --prompt a --chat
done
expect 1 "is no regular file but a pipe" tokenize "$model" --file "$work/pipe/chat_template.jinja"
expect 1 "directory of a model is wanted: '$work/nowhere': No such" model info "$work/nowhere"
expect 1 "directory of a model is wanted: '$work/nowhere': No such" tokenize "$work/nowhere" --text a
expect 1 "directory of a model is wanted: '$work/data.jsonl' is a file" model generate "$work/data.jsonl" \
    --prompt a
expect 2 "word 1 is empty" model info ""
expect 2 "option 'out' cannot be empty" model logits "$model" --tokens 1 --out ""
[ ! -e "$work/never" ]

# ---- a result that does not arrive ------------------------------------------------------------------
for words in "model info $model" "tokenize $model --text a" "model generate $model --prompt a" --help; do
    got=0
    # shellcheck disable=SC2086
    "$muster" $words >/dev/full 2>"$work/err" || got=$?
    [ $got = 1 ] && grep -q "cannot write to stdout" "$work/err" || { echo "$words: $got"; exit 1; }
done

# what is logged to a closed stream lands in no file that was opened instead
"$muster" sft "$model" --data "$work/data.jsonl" --out "$work/quiet" --steps 2 >/dev/null 2>&-
[ ! -s "$work/quiet/.lock" ] || { echo "a closed stderr became the lock:"; cat "$work/quiet/.lock"; exit 1; }

echo "all as it should be"
