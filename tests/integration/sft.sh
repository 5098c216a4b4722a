#!/usr/bin/env bash
# muster sft on JSONL: the weights are a function of model, data and settings. How many threads and
# processes run, how a step is cut into micro-batches, whether activations are kept, and whether the process was
# killed and resumed changes no bit of them.
set -euo pipefail

muster=${MUSTER:?the program to test}
work=$(mktemp -d)
pid=
finish() {
    status=$?
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    wait
    [ $status -eq 0 ] || tail -n 20 "$work"/*.err
    rm -rf "$work"
    exit $status
}
trap finish EXIT

"$muster" model init "$work/model" --dim 64 --layers 3 --heads 4 --kv-heads 2 --max-len 64 \
    --seed 3 >/dev/null
# 120 pairs and texts of different lengths; at most 47 tokens each
for i in $(seq 120); do
    word=$(printf 'abcdefghijklmnopqrst' | head -c $((3 + i * 7 % 17)))
    if [ $((i % 4)) = 0 ]; then
        echo "{\"text\": \"$i $word\"}"
    else
        echo "{\"prompt\": \"$i $word: \", \"completion\": \"$(rev <<<"$word")\"}"
    fi
done >"$work/data.jsonl"

settings=(--data "$work/data.jsonl" --epochs 3 --lr 0.003 --warm-steps 5 --eval-fraction 0.1 --seed 9)

# What must not succeed. (After '!' the shell goes on either way.)
fails() {
    if "$@"; then
        echo "should have failed: $*" >&2
        exit 1
    fi
}

sft() { # name, options
    local name=$1
    shift
    "$muster" sft "$work/model" "${settings[@]}" --out "$work/$name" "$@" 2>>"$work/$name.err"
}

start() { # the same in the background; $pid is the program's own, not a shell's around it
    local name=$1
    shift
    "$muster" sft "$work/model" "${settings[@]}" --out "$work/$name" "$@" >/dev/null \
        2>>"$work/$name.err" &
    pid=$!
}

same() { # name: its weights are those of the first run
    cmp "$work/whole/model.safetensors" "$work/$1/model.safetensors"
}

sft whole --threads 1 --json >"$work/whole.json"
grep -q '"steps": 42, "sequences": 108, "eval_loss": [0-9.]*,' "$work/whole.json"
# it has learnt: the loss on what was held out, before and after
first=$(sed -n 's/.* eval step=0 loss=\([0-9.]*\) .*/\1/p' "$work/whole.err")
last=$(sed -n 's/.* eval step=42 loss=\([0-9.]*\) .*/\1/p' "$work/whole.err")
echo "held out: $first, $last"
awk "BEGIN { exit !($last < $first - 1) }"

# micro-batches of one sequence, of about three, and of a whole step; two threads; recomputation
sft ones --rows 47 --threads 2 >/dev/null
same ones
sft threes --rows 130 --threads 2 --recompute >/dev/null
same threes
sft eights --rows 1000 --threads 2 --kernels scalar >/dev/null
same eights

# of one that fails nothing stays, of one that does not no lock
[ ! -e "$work/whole/.lock" ]
fails sft none --data "$work/nowhere.jsonl"
fails "$muster" sft "$work/nowhere" --out "$work/none" 2>>"$work/none.err"
fails "$muster" sft "$work/nowhere" --data "$work/data.jsonl" --out "$work/none" 2>>"$work/none.err"
[ ! -e "$work/none" ]
mkdir "$work/none"
fails sft none --data "$work/nowhere.jsonl"
[ -z "$(ls -A "$work/none")" ]

# four lanes, by one process and by two and four; they are part of the settings
sft lanes --grad-lanes 4 >/dev/null
sft shared --grad-lanes 4 --processes 2 --rows 150 --threads 1 >/dev/null
cmp "$work/lanes/model.safetensors" "$work/shared/model.safetensors"
sft spread --grad-lanes 4 --processes 4 --rows 47 --recompute --threads 1 >/dev/null
cmp "$work/lanes/model.safetensors" "$work/spread/model.safetensors"
fails cmp -s "$work/lanes/model.safetensors" "$work/whole/model.safetensors"
grep -q 'plan processes=4 mib=[0-9]* each_other_mib=[1-9]' "$work/spread.err"

# another class of numbers is another result, and its own however it is computed
sft narrow --numerics bf16-1 --threads 2 >/dev/null
fails cmp -s "$work/narrow/model.safetensors" "$work/whole/model.safetensors"
sft pieces --numerics bf16-1 --rows 130 --threads 1 --kernels scalar >/dev/null
cmp "$work/narrow/model.safetensors" "$work/pieces/model.safetensors"

# killed at a random moment, again and again, until it comes to its end
RANDOM=${TEST_SEED:-1}
echo "seed ${TEST_SEED:-1}"
killed=0
: >"$work/killed.err"
for try in $(seq 100); do
    seen=$(grep -c ' sft step ' "$work/killed.err" || true)
    start killed --resume --checkpoint-every 3 --rows $((47 + try * 40 % 400))
    if [ $killed -lt 6 ]; then
        # its first line of progress comes after its first step
        until [ "$(grep -c ' sft step ' "$work/killed.err" || true)" -gt "$seen" ] ||
            ! kill -0 $pid 2>/dev/null; do
            read -rt 0.01 <> <(:) || true
        done
        read -rt "0.0$((RANDOM % 10))" <> <(:) || true # the random moment
        kill -9 $pid 2>/dev/null && killed=$((killed + 1))
    fi
    wait $pid 2>/dev/null && break
done
pid=
resumed=$(grep -c ' resumed step=' "$work/killed.err")
echo "killed $killed, resumed $resumed"
[ $killed -ge 3 ] && [ "$resumed" -ge 1 ]
same killed
[ ! -e "$work/killed/sft.checkpoint" ]

# what a checkpoint is of
cp -r "$work/model" "$work/other"
start kept --checkpoint-every 3 --steps 100000
until [ -e "$work/kept/sft.checkpoint" ]; do
    kill -0 $pid
done
# one training a directory at a time
fails sft kept --resume --checkpoint-every 3 --steps 100000 >/dev/null
tail -n 1 "$work/kept.err" | grep -q 'another process works in'
[ -e "$work/kept/.lock" ] # which the one that was refused has left
kill -9 $pid
wait $pid 2>/dev/null || true
pid=
refuse() { # pattern, options
    local pattern=$1
    shift
    fails sft kept "$@" >/dev/null
    tail -n 1 "$work/kept.err" | grep -q "$pattern"
}
refuse 'resume goes on' --steps 100000
refuse 'other settings' --steps 100000 --resume --lr 0.001
refuse 'other settings' --steps 99999 --resume
refuse 'other settings' --steps 100000 --resume --numerics bf16-1
sed -i 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 1e-06/' "$work/model/config.json"
refuse 'of another model' --steps 100000 --resume
cp "$work/other/config.json" "$work/model/config.json"
head -n 60 "$work/data.jsonl" >"$work/less.jsonl"
refuse 'is of other data' --steps 100000 --resume --data "$work/less.jsonl"
refuse 'more than the 1 MiB allowed' --steps 100000 --resume --max-memory 1
refuse '8 processes cannot share 4 grad_lanes' --steps 9 --resume --grad-lanes 4 --processes 8
refuse 'training in 2 processes takes [0-9]* MiB, more than the 4 MiB allowed' --steps 100000 \
    --resume --max-memory 4 --grad-lanes 2 --processes 2
mv "$work/model" "$work/first"
"$muster" model init "$work/model" --dim 64 --layers 3 --heads 4 --kv-heads 2 --max-len 64 --seed 4
refuse 'is of another model' --steps 100000 --resume
# and what no command takes for another
fails sft whole >/dev/null
tail -n 1 "$work/whole.err" | grep -q 'holds a model already'
echo '{"text": "fine"}' >"$work/bad.jsonl"
echo '{"prompt": "fine", "completion": ""}' >>"$work/bad.jsonl"
echo '{"prompt": "a completion is missing"}' >>"$work/bad.jsonl"
fails "$muster" sft "$work/model" --data "$work/bad.jsonl" --out "$work/bad" 2>"$work/bad.err"
grep -q 'bad.jsonl:3: ' "$work/bad.err"

# texts that were rendered already; this tokenizer knows some special tokens
here=$(cd "$(dirname "$0")" && pwd)
/usr/bin/python3 "$here/make_model.py" "$work/chat"
echo '{"text": "<|im_start|>user\nhello<|im_end|>\n"}' >"$work/rendered.jsonl"
tokens() { # options: how many tokens the data has
    "$muster" sft "$work/chat" --data "$work/rendered.jsonl" --out "$work/rendered" --steps 1 "$@" \
        2>"$work/rendered.err" >/dev/null
    rm -rf "$work/rendered"
    sed -n 's/.* data sequences=1 tokens=\([0-9]*\) .*/\1/p' "$work/rendered.err"
}
as_text=$(tokens)
grep -q 'W sft special tokens are spelt in texts=1 ' "$work/rendered.err"
read_out=$(tokens --special)
fails grep -q ' W ' "$work/rendered.err"
echo "rendered: $as_text tokens as text, $read_out"
[ "$as_text" -gt "$read_out" ]

"$muster" model generate "$work/whole" --prompt '7 abc: ' --max-new 4 >/dev/null 2>&1
echo "all as it should be"
