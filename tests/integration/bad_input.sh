#!/usr/bin/env bash
# Bad input of every kind: each gets a clear error that names the thing, status 1 or 2, and where a
# network is at work it goes on and loses nothing.
set -euo pipefail

. "$(dirname "$0")/common.sh"

# expect NAME STATUS PATTERN COMMAND...: the command fails so, and stderr has the pattern
expect() {
    local name=$1 want=$2 pattern=$3 got=0
    shift 3
    "$@" >"$work/out" 2>"$work/$name.err" || got=$?
    if [ "$got" != "$want" ] || ! grep -q -- "$pattern" "$work/$name.err"; then
        echo "$name: status $got, want $want; stderr should have '$pattern':"
        cat "$work/$name.err"
        exit 1
    fi
    echo "$name: $(head -n 1 "$work/$name.err")"
}

task() { # name, sed expression on task.yaml
    cp -r "$here/tasks/small" "$work/$1"
    sed -i "$2" "$work/$1/task.yaml"
}

# ---- files ----------------------------------------------------------------------------------
task unknown 's/^seed:.*/sede: 1/'
# A file for verify that is cut off, or of a later format, is named.
printf 'MUSTERDI' >"$work/piece"
expect verify-cut 1 "'$work/piece': 8 bytes are no dispute" "$muster" verify "$work/piece"
printf 'MUSTEREQ' >"$work/piece"
expect verify-cut-proof 1 "'$work/piece': 8 bytes are no proof" "$muster" verify "$work/piece"
expect dispute-number 2 "'99999999999999999999' is no number" \
    "$muster" ledger dispute "$work" 99999999999999999999 "$work/x"

expect unknown_key 1 "'sede'" "$muster" task check "$work/unknown"
expect unknown_key_up 1 "'sede'" "$muster" up "$work/unknown" --dir "$work/never"
[ ! -e "$work/never" ]
task range 's/^  group:.*/  group: 1/'
expect out_of_range 1 "'1'.*2..64" "$muster" task check "$work/range"
expect no_task 1 "a task is wanted, which is a YAML file or a directory.*no '$work/nowhere'; tasks that are here" \
    "$muster" up "$work/nowhere"
expect no_task_to_check 1 "a task is wanted, which is a YAML file.*no '$work/nowhere'$" "$muster" task check "$work/nowhere"
expect unknown_option 2 "nope" "$muster" up --nope
expect too_many_cheats 2 "'cheats' is '2'" "$muster" up "$here/tasks/small" --dir "$work/never" \
    --inference 1 --cheats 2
expect idle_cheat 1 "cheat 'proof-null' has nothing to do in class f32-1" "$muster" up "$here/tasks/small" \
    --dir "$work/never" --cheat proof-null
for listen in nonsense ipc:///tmp/x tcp://127.0.0.1:99999; do
    expect "no_endpoint" 2 "'listen': '$listen'" "$muster" up "$here/tasks/small" \
        --dir "$work/never" --listen "$listen"
done
[ ! -e "$work/never" ]
expect unknown_task_word 2 "'task frob'" "$muster" task frob
expect unknown_env_word 2 "'env frob'" "$muster" env frob

task loop 's/^environment:/environment:\n  instructions: 100000\n  memory_bytes: 8388608/'
sed -i 's/^local function score(.*/&\n    while true do end/' "$work/loop/env.lua"
task greedy 's/^environment:/environment:\n  instructions: 10000000\n  memory_bytes: 8388608/'
sed -i 's/^local function score(.*/&\n    local s = "x"; while true do s = s .. s end/' \
    "$work/greedy/env.lua"
"$muster" env try "$work/loop" --answer ab >"$work/out" 2>&1 || true
grep -qi "instruction" "$work/out" || { cat "$work/out"; exit 1; }
echo "env_loops: $(grep -i "instruction" "$work/out" | head -n 1)"
"$muster" env try "$work/greedy" --answer ab >"$work/out" 2>&1 || true
grep -qi "memory" "$work/out" || { cat "$work/out"; exit 1; }
echo "env_allocates: $(grep -i memory "$work/out" | head -n 1)"

task controls 's/^seed:.*/&/'
sed -i 's/^local function prompt(.*/&\n    do return "a\\0\\27[2Jb" end/' "$work/controls/env.lua"
"$muster" env try "$work/controls" --answer ab >"$work/out"
grep -qF 'a\x00\x1b[2Jb' "$work/out" || { cat -v "$work/out"; exit 1; }
expect endless_answer 1 "line of stdin is longer than the 262144 bytes" \
    "$muster" env try "$here/tasks/small" </dev/zero

# ---- a network at work -------------------------------------------------------------------------
"$muster" up "$here/tasks/small" --dir "$work/net" --json --cheats 0 --inference 2 \
    >"$work/net.out" 2>"$work/net.err" &
up=$!
await '[ -s "$work/net/orchestrator/ready.json" ] && [ -s "$work/net/initiator/membership" ]'
port=$(sed 's/.*"control"[^0-9]*127.0.0.1:\([0-9]*\).*/\1/' "$work/net/orchestrator/ready.json")

expect two_in_one_directory 1 "another process works in '$work/net'" "$muster" up \
    "$here/tasks/small" --dir "$work/net"

# a ZMTP greeting, then a frame that announces 2^31 bytes
{
    printf '\377\0\0\0\0\0\0\0\1\177\3\0CURVE'
    head -c 48 /dev/zero
    printf '\2\0\0\0\0\200\0\0\0'
    head -c 65536 /dev/zero
} 2>/dev/null >"/dev/tcp/127.0.0.1/$port" || true
echo "frame_2_31: sent"

# a node whose key nobody admitted
mkdir -p "$work/stranger"
cp "$work/net/initiator/membership" "$work/stranger/membership"
expect unknown_key_curve 1 "did not answer" "$muster" status --dir "$work/stranger" --wait-ms 1500

wait $up
up=
grep -q '"ledger_ok": true' "$work/net.out"
grep -q '"honest_refused": 0' "$work/net.out"
grep -q "refused key=" "$work/net/orchestrator.log"
echo "network: went on to the end"
expect more_than_begun 1 "begun with 2 nodes of role inference, and none can be added: say --inference 2" \
    "$muster" up --dir "$work/net" --inference 3
grep -qx inference=2 "$work/net/options" # refused, and not kept
expect cheats_again 1 "who cheats stays as it was" "$muster" up --dir "$work/net" --cheats 1
expect more_validators 1 "begun with 2 nodes of role verifier, and none can be added: say --validators 2" \
    "$muster" up --dir "$work/net" --validators 3
mkdir "$work/odd"
cp "$work/net/bundle" "$work/odd"
echo inference=x >"$work/odd/options"
expect damaged_options 1 "option 'inference' is 'x'" "$muster" up --dir "$work/odd"
grep -q "/odd/options' keeps of the run: mend it" "$work/damaged_options.err"

# ---- interrupted --------------------------------------------------------------------------------
# ended DIR: the network of DIR, $up, is sent SIGTERM, and ends and says so
ended() {
    local status=0
    kill $up
    await "! kill -0 $up 2>/dev/null"
    wait $up || status=$?
    up=
    if [ $status != 1 ] || ! grep -q "interrupted; 'muster up --dir $1' goes on" "$work/ended.err"; then
        echo "status $status, it should say that it was interrupted:"
        cat "$work/ended.err"
        exit 1
    fi
}
"$muster" up "$here/tasks/small" --dir "$work/early" >"$work/out" 2>"$work/ended.err" &
up=$!
await '[ -e "$work/early/lock" ]' # before there is anything to go on with
ended "$work/early"
"$muster" up "$here/tasks/small" --dir "$work/deaf" --steps 100000 >"$work/out" 2>"$work/ended.err" &
up=$!
await '[ -s "$work/deaf/trainer/membership" ]'
deaf=$(pgrep -P $up -f "orchestrator --dir $work/deaf/")
kill -STOP "$deaf" # and nothing that up asks is answered
ended "$work/deaf"
kill -CONT "$deaf" 2>/dev/null || true
echo "interrupted: it ends and says so"

# ---- a directory that something happened to ------------------------------------------------------
again() { # name of a copy of the network: goes on with it
    timeout -k 5 60 "$muster" up "$here/tasks/small" --dir "$work/$1" --json --cheats 0 --inference 2
}
for copy in lost-place short damaged; do cp -r "$work/net" "$work/$copy"; done
echo '{' >"$work/lost-place/orchestrator/ready.json" # its nodes know it where it listened before
again lost-place >"$work/out" 2>"$work/again.err" || { echo "it lost its place"; cat "$work/again.err"; exit 1; }
truncate -s 20000 "$work/short/orchestrator/ledger/data.mdb"
expect cut_ledger 1 "orchestrator ends again and again: .*cut short or damaged" again short
mkdir "$work/pipe"
mkfifo "$work/pipe/ready.json" # whose writer never comes
expect pipe_status 1 "ready.json' is no regular file but a pipe" \
    timeout -k 5 60 "$muster" status --dir "$work/pipe"
head -c 100 /dev/urandom >"$work/damaged/bundle"
expect damaged_bundle 1 "damaged/bundle': not a task bundle" again damaged
: >"$work/damaged/initiator/membership"
expect damaged_membership 1 "membership' does not say" "$muster" status --dir "$work/damaged/initiator"

# a trainer that cannot write its last model: what is then there is not the result
mkdir -p "$work/unwritten/trainer"
: >"$work/unwritten/trainer/model"
expect no_model 1 "the trainer did not come to its model: .*trainer/model' is no directory" \
    timeout -k 5 120 "$muster" up "$here/tasks/small" --dir "$work/unwritten" --steps 3 --cheats 0 --inference 2 --json
rm "$work/unwritten/trainer/model"
timeout -k 5 60 "$muster" up --dir "$work/unwritten" --json >"$work/out" 2>"$work/again.err"
grep -q '"steps": 3' "$work/out"

# ---- models -------------------------------------------------------------------------------------
cp -r "$work/net/trainer/model" "$work/cut"
truncate -s -64 "$work/cut/model.safetensors"
expect truncated_tensor 1 "cut short.*tensor" "$muster" model info "$work/cut"

echo "all as it should be"
