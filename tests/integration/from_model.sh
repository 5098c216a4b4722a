#!/usr/bin/env bash
# From a model in a directory: sft on messages, reinforcement learning on what came out, in its chat
# template, and out again. The run is begun, gone on with and replayed from different directories.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)

finish() {
    status=$?
    [ $status -eq 0 ] || tail -n 12 "$work"/err "$work"/run/*.log
    rm -rf "$work"
    exit $status
}
trap finish EXIT

/usr/bin/python3 "$here/make_model.py" "$work/base" '{"model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"], "vocab_size": 565, "hidden_size": 32,
    "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 128,
    "tie_word_embeddings": true, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu"}'
cp "$here/../vectors/tokenizer/qwen"/tokenizer*.json "$work/base"

mkdir "$work/task"
cat >"$work/task/env.lua" <<'EOF'
return {
    prompt = function(problem)
        return "Say " .. math.random(1, 3) .. "."
    end,
    score = function(problem, messages)
        local want = tostring(math.random(1, 3))
        return messages[#messages].text == want and 1 or 0, { length = #messages[#messages].text }
    end,
}
EOF
cat >"$work/task/task.yaml" <<'EOF'
name: say
model:
  init: ../tuned
  template: chatml
  max_len: 64
sampling:
  max_new_tokens: 6
algorithm:
  units_per_batch: 4
  steps: 60
eval:
  prompts: 16
EOF
# Demonstrations that know how answers look, not which one is right.
for i in 1 2 3; do
    for j in 1 2 3; do
        echo '{"messages": [{"role": "user", "content": "Say '$i'."}, {"role": "assistant", "content": "'$j'"}]}'
    done
done >"$work/messages.jsonl"

cd "$work"
"$muster" sft base --data messages.jsonl --template chatml --out tuned --steps 60 --lr 3e-3 2>err
"$muster" task check task --quiet

# begun in one directory, killed, gone on with and replayed in others
mkdir elsewhere
cd elsewhere
timeout --signal INT 300 "$muster" up ../task --dir ../run --cheats 0 --inference 2 >/dev/null 2>../err &
up=$!
until [ -e ../run/orchestrator.log ]; do sleep 0.01; done
kill -INT $up # before any process has the task
wait $up && echo "it was done already"
timeout --signal INT 300 "$muster" up --dir ../run >/dev/null 2>../err &
up=$!
until [ -e ../run/trainer/checkpoint.0 ]; do
    kill -0 $up || { echo "it ended too early"; exit 1; }
    sleep 0.05
done
kill -INT $up
wait $up && echo "it was done already"
cd /
"$muster" up --dir "$work/run" --json >"$work/result" 2>"$work/err"
[ -d "$work/run/inference-2" ] # as it was begun
[ ! -e "$work/run/inference-3" ]
"$muster" replay "$work/run" >"$work/replayed" 2>"$work/err"
[ "$(grep -c ' ok$' "$work/replayed")" = 61 ]

# what came out speaks as what went in
cd "$work"
model=run/trainer/model
"$muster" model info $model | grep -q 'tokenizer  *bpe'
cmp $model/tokenizer_config.json base/tokenizer_config.json
"$muster" eval task tuned --json >before 2>err
"$muster" eval task $model --json >after 2>err
/usr/bin/python3 - <<'EOF'
import json
result, before, after = (json.load(open(f)) for f in ("result", "before", "after"))
assert result["ledger_ok"] and result["steps"] == 60 and result["cheats_slashed"] == 0, result
assert abs(result["reward_before"] - before["reward"]) < 1e-4, (result, before)
assert abs(result["reward_after"] - after["reward"]) < 1e-4, (result, after)
assert before["reward"] < 0.6 and after["reward"] > 0.9, (before, after) # the same numbers every time
print("reward", before["reward"], "then", after["reward"])
EOF
"$muster" model generate $model --chat --template chatml --prompt 'Say 2.' --temperature 0 2>err | grep -qx 2
"$muster" model convert $model --out final --dtype bf16 2>err
"$muster" model generate final --chat --template chatml --prompt 'Say 2.' --max-new 3 >/dev/null 2>err
