#!/usr/bin/env bash
# Every command that looks at a network or uses what it made, first while it is at work, then when
# it is over: exit statuses, what is said, and that --json is JSON.
set -euo pipefail

. "$(dirname "$0")/common.sh"
net=$work/net

fail() { # text: what was printed last is shown
    echo "FAILED: $1"
    head -c 4000 "$work/out" "$work/err"
    exit 1
}

# run STATUS PATTERN COMMAND...: the command ends so, and says so on stdout or stderr; '-' is silence
run() {
    local want=$1 pattern=$2 got=0
    shift 2
    echo "muster $*"
    "$muster" "$@" >"$work/out" 2>"$work/err" || got=$?
    [ $got = "$want" ] || fail "status $got, want $want"
    # No pipe: grep ends at the first match, and who writes on then fails.
    if [ "$pattern" = - ]; then
        [ ! -s "$work/out" ] && [ ! -s "$work/err" ] || fail "it should say nothing"
    else
        grep -q -e "$pattern" "$work/out" "$work/err" || fail "it should say '$pattern'"
    fi
}

# json COMMAND...: with --json ends with 0, is silent on stderr, and prints JSON, an object a line
json() {
    run 0 '{' "$@" --json
    [ ! -s "$work/err" ] || fail "it should be silent on stderr"
    python3 -c 'import json, sys; assert all(type(json.loads(x)) is dict for x in sys.stdin)' \
        <"$work/out" || fail "this is no JSON"
}

# value EXPRESSION: of o, the first object printed by the last json
value() {
    python3 -c 'import json, sys; o = json.loads(sys.stdin.readline()); print(eval(sys.argv[1]))' \
        "$1" <"$work/out"
}

versions() { # how many were made
    "$muster" status --dir "$net" --json 2>"$work/err" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["version"])'
}

# ---- a network at work -----------------------------------------------------------------------
"$muster" up "$here/tasks/small" --steps 100000 --dir "$net" --inference 2 --json \
    >"$work/up.out" 2>"$work/up.err" &
up=$!
await '[ -s "$net/initiator/membership" ] && [ -n "$(ls "$net"/verifier-1/evidence 2>/dev/null)" ]'
await '[ "$(versions)" -ge 5 ]'

run 0 'training: small, version' status --dir "$net"
await '"$muster" status --dir "$net/trainer" 2>/dev/null | grep "inference .*barred" >"$work/barred"'
json status --dir "$net/orchestrator"
[ "$(value 'o["tokens_trained"] > 0')" = True ] || fail "tokens were trained on"

# rewards of each version, for people and for plots
run 0 '^      5  *0\.[0-9]* ' metrics --dir "$net/relay-1"
run 0 '^time,version,reward,loss,' metrics --dir "$net" --csv --from 3
[ "$(sed -n 2p "$work/out" | cut -d , -f 2)" = 3 ] || fail "the first version should be 3"
json metrics --dir "$net/trainer"
[ "$(value 'o["version"] == 0 and o["reward"] is None')" = True ] || fail "no reward before 0"
run 2 'advertise says by which host' orchestrator --dir "$work/nowhere" --listen 'tcp://*:4000'
run 2 'either --csv or --json' metrics --csv --json

run 0 '^unit 0 is accepted.* in batch 0' explain 0 --dir "$net"
grep -q ' ucr  escrow:' "$work/out" || fail "it should tell what was paid"
await '"$muster" ledger show "$net/orchestrator/ledger" --type REJECT_HARD --json | grep -q unit'
json ledger show "$net/orchestrator/ledger" --type REJECT_HARD
unit=$(value 'o["unit"]')
refused=$(find "$net"/verifier-*/evidence -name "unit-$unit-*" | head -n 1)
run 0 'log-probability differs' explain "$unit" --dir "$net/initiator"
grep -q 'REJECT_HARD' "$work/out" || fail "it should tell that the worker was slashed"
json explain "$unit" --dir "$net"
run 2 'which unit' explain --dir "$net"
run 2 'is a number' explain -- -1

run 0 'small .*training, version' task list --dir "$net"
run 0 'algorithm.lag=2' task show --dir "$net"
json task list --dir "$net/initiator"
json task show --dir "$net"

# a worker comes late, works, and goes
json invite --role inference --dir "$net/initiator"
link=$(value 'o["link"]')
"$muster" join "$link" --dir "$work/late" >"$work/late.out" 2>"$work/late.err" &
late=$! pids=$!
await 'grep -q "accepted=[1-9]" "$work/late.err"'
run 0 '.' drain --dir "$work/late"
wait $late
late=
run 0 'inference .*draining\|inference .*silent' status --dir "$net"
"$muster" join "$link" --dir "$work/twice" >"$work/out" 2>"$work/err" &
late=$! pids=$!
await 'grep -qi "used\|refused\|denied" "$work/err"'
kill $late 2>/dev/null || true
wait $late || true
late=
echo "an invite admits once: $(grep -i -m 1 "used\|refused\|denied" "$work/err")"

run 0 'complete' shardcast status --dir "$net/relay-1"
json shardcast status --dir "$net/relay-1" --check

run 0 'closed (ledger entry' task close --dir "$net"
wait $up
up=
cp "$work/up.out" "$work/out"
[ ! -s "$work/up.err" ] || fail "up --json should be silent on stderr"
[ "$(wc -l <"$work/out")" = 1 ] || fail "up --json prints one line"
[ "$(value 'o["ledger_ok"] and o["tokens_trained"] > 0 and o["honest_refused"] == 0')" = True ]
[ "$(value 'o["cheats_slashed"]')" = 1 ] || fail "the cheat should be slashed"

[ "$(grep -c ' inference start ' "$net/inference-2.log")" = 1 ] || fail "who was barred should not be started again"

# ---- the same network, over ------------------------------------------------------------------
run 0 'done: small' status --dir "$net"
run 0 'done: small' status --dir "$net" --watch
json status --dir "$net"
json eval "$here/tasks/small" "$net/trainer/model" --out "$work/answers"
[ "$(value '0 <= o["reward"] <= 1 and o["problems"] == 32 and 0 <= o["metrics"]["exact"] <= 1')" = True ] ||
    fail "this is no evaluation"
[ "$(wc -l <"$work/answers")" = 32 ] || fail "a line for each problem"
run 0 '^reward  *[01]\.[0-9]*, standard error' eval "$here/tasks/small" "$net/trainer/model-v0" --problems 5
run 1 'another shape' eval "$here/../../tasks/reverse-text" "$net/trainer/model"
run 2 'which model' eval "$here/tasks/small"
mkdir "$work/talk"
cat >"$work/talk/env.lua" <<'EOF'
return { prompt = function() return 'a' end, score = function() return 0 end,
         step = function(problem, messages) return messages[1].text .. params.missing end }
EOF
printf 'name: talk\nenvironment:\n  turns: 2\n' >"$work/talk/task.yaml"
run 1 'calls failed (step: env.lua:2: ' env check "$work/talk" --processes 2
run 0 '^step failed .*env.lua:2: ' env try "$work/talk" --answer b
printf 'name: talk\n' >"$work/talk/task.yaml"
run 0 'step is never called' env check "$work/talk" --processes 2
json metrics --dir "$net" --from 5
[ "$(value '0 <= o["reward"] <= 1 and o["paid"] > 0')" = True ] || fail "this is no reward"
run 0 '^unit 0 is accepted' explain 0 --dir "$net"
run 0 'log-probability differs' explain "$unit" --dir "$net"
run 0 'never leased' explain 999999999 --dir "$net" --json
json explain "$unit" --dir "$net/orchestrator"
run 0 'small .*done' task list --dir "$net"
json task show --dir "$net"
run 1 'did not answer' task close --dir "$net" --wait-ms 500
run 1 'did not answer within 300 ms: the run is over' status --dir "$net/trainer" --wait-ms 300
grep -q "known here: '$net/trainer' is a node of role trainer in run .*, with the weights of version " "$work/err" ||
    fail "it should tell what this node has"
grep -q "its model is in '$net/trainer/model'" "$work/err" || fail "it should tell of the model"
grep -q "muster status --dir '$net/trainer/\.\.'" "$work/err" || fail "it should tell where the ledger is"
run 1 'did not answer' status --dir "$net/inference-1" --wait-ms 300
run 1 'the directory of no node' status --dir "$work/nowhere"

run 0 'REJECT_HARD' ledger show "$net/orchestrator/ledger" --unit "$unit"
run 2 'SLASH. is no type' ledger show "$net/orchestrator/ledger" --type SLASH
json ledger show "$net/orchestrator/ledger" --type REJECT_HARD
[ "$(value 'o["type"]')" = REJECT_HARD ] || fail "only entries of this type"
run 0 '500000' ledger show "$net/orchestrator/ledger" --account burn
json ledger audit "$net/orchestrator/ledger"
run 0 'confirmed: ' verify "$refused"
json verify "$refused"
[ "$(value 'o["confirmed"]')" = True ] || fail "the evidence should be confirmed"
run 1 'unit-.*evidence' verify "$refused" "$work/nowhere" # the first is confirmed, the second is not there
run 2 'no file was named' verify
worker=$("$muster" keys show "$net/inference-2" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["node"])')
run 0 ' REJECT_HARD ' ledger show "$net/orchestrator/ledger" --account "stake:$worker"
json replay "$net"

# ---- the model ---------------------------------------------------------------------------------
model=$net/trainer/model
run 0 'parameters' model info "$model"
json model info "$model"
json model info "$model" --no-root
tokens="1 3 4 5 6 7 8 3"
"$muster" model logits "$model" --tokens "$tokens" --out "$work/want" --threads 1 --kernels scalar
[ "$(stat -c %s "$work/want")" = $((8 * 10 * 4)) ]
for kernels in scalar avx2 avx512; do
    "$muster" model logits "$model" --tokens 1 --out "$work/got" --kernels $kernels \
        2>"$work/err" || { grep "$kernels" "$work/err" && continue; }
    for threads in 1 2 3; do
        for how in "" --one-by-one; do
            "$muster" model logits "$model" --tokens "$tokens" --out "$work/got" \
                --threads $threads --kernels $kernels $how
            cmp "$work/want" "$work/got"
        done
        "$muster" model generate "$model" --prompt 'abcd>' --seed 5 --max-new 8 \
            --threads $threads --kernels $kernels >"$work/text.$kernels.$threads" 2>/dev/null
        cmp "$work/text.scalar.1" "$work/text.$kernels.$threads"
    done
done
[ -s "$work/text.scalar.1" ]
run 1 'beyond\|range\|vocabulary\|token' model logits "$model" --tokens "1 99" --out "$work/got"
run 1 'nowhere' model info "$work/nowhere"

# ---- proofs over activations: the logits will do -----------------------------------------------
prove=(--dim 10 --k 4 --every 4 --dtype f32)
run 0 '.' toploc prove "${prove[@]}" "$work/want"
cp "$work/out" "$work/proofs"
[ "$(wc -l <"$work/proofs")" = 2 ] || fail "a proof for each four rows"
run 0 '.' toploc verify "${prove[@]}" "$work/want" "$work/proofs"
json toploc verify "${prove[@]}" "$work/want" "$work/proofs"
json toploc prove "${prove[@]}" "$work/want"
head -c 320 /dev/urandom >"$work/other"
run 1 '.' toploc verify "${prove[@]}" "$work/other" "$work/proofs"

# ---- by hand -----------------------------------------------------------------------------------
run 0 '.' sft "$here/tasks/small" --out "$work/sft" --steps 5
run 0 'parameters' model info "$work/sft"
json keys new "$work/keys"
json keys show "$work/keys"
run 1 'already\|exist\|there' keys new "$work/keys"
run 0 'owner' keys show "$work/keys"
"$muster" keys new "$work/owner" >"$work/owner.txt"
run 0 - keys certify "$work/owner" "$work/keys" --role inference
run 0 "$(awk '/^owner/ { print $2 }' "$work/owner.txt")" keys show "$work/keys"

cp -r "$here/tasks/small" "$work/loop"
sed -i 's/^local function score(.*/&\n    while true do end/' "$work/loop/env.lua"
run 1 'ended at a limit (instruction limit' env check "$work/loop"
json env check "$here/tasks/small" --processes 3
"$muster" doctor --json --seconds 0.05 "$here/tasks/small" >"$work/out" 2>"$work/err" ||
    true # the machine may lack something
python3 - "$work/out" <<'END'
import json, sys
rows = [json.loads(x) for x in open(sys.argv[1])]
paid = [r for r in rows if r["name"] == "earnings" and r["numerics"] == "f32-1"]
assert paid and all(r["decode_tokens_s"] > 0 and r["prefill_tokens_s"] > 0 for r in paid), rows
assert all(r["inference_ucr_h"] > 0 and r["trainer_ucr_h"] > 0 for r in paid), rows
unpaid = [r for r in rows if r["name"] == "earnings" and r["numerics"] == "bf16-1"]
assert unpaid and all(r["inference_ucr_h"] is None for r in unpaid), rows
END
run 1 "a task is wanted" doctor "$work/nothing"
run 2 "measures nothing" doctor --quick "$here/tasks/small"
run 2 "is not a command" nonsense

echo "all as it should be"
