#!/usr/bin/env bash
# A role whose device fails in the middle ends with what CUDA said; its work is made again by its next
# life, or by others, and the network comes to the weights that it comes to without. In the build whose
# device is emulated, which can be told to fail.
set -euo pipefail

. "$(dirname "$0")/common.sh"

if ! grep -aq MUSTER_EMULATED_FAIL "$muster"; then
    echo "skipped: no device is emulated in this build"
    exit 77
fi

cp -r "$here/tasks/small" "$work/task"
sed -i -e 's/dim: 32/dim: 16/; s/layers: 2/layers: 1/; s/heads: 2/heads: 1/; s/ffn: 64/ffn: 16/' \
    -e 's/group: 4/group: 2/; s/units_per_batch: 8/units_per_batch: 2/; s/batch: 32/batch: 2/' \
    -e 's/steps: 20/steps: 2/; s/steps: 60/steps: 1/; s/prompts: 32/prompts: 1/' \
    -e 's/lease_ms: 2000/lease_ms: 5000/; s/check_ms: 2000/check_ms: 5000/' "$work/task/task.yaml"

network() { # name, options
    local name=$1
    shift
    "$muster" up "$work/task" --dir "$work/$name" --json --inference 1 --cheats 0 --validators 1 \
        --relays 0 "$@" >"$work/$name.out" 2>"$work/$name.err"
    [ "$(field "$work/$name.out" honest_refused)" = 0 ]
    [ "$(field "$work/$name.out" ledger_ok)" = true ]
}

network cpu
want=$(field "$work/cpu.out" weights)
for role in worker verifier trainer; do
    MUSTER_EMULATED_FAIL=60:$work/$role.failed network $role --$role-device cuda
    [ -e "$work/$role.failed" ] # it did
    # what the process said when it ended with status 1
    grep -q '^muster [a-z]*: cuda:0 (emulated on the CPU): .*: unspecified launch failure' "$work/$role"/*.log
    [ "$(field "$work/$role.out" weights)" = "$want" ]
done

# A device without room for the run: the worker says so before it loads anything.
MUSTER_EMULATED_MIB=1 "$muster" up "$work/task" --dir "$work/room" --inference 1 --cheats 0 --validators 1 \
    --relays 0 --worker-device cuda >"$work/room.out" 2>"$work/room.err" &
up=$!
for _ in $(seq 300); do
    grep -q 'units at a time takes [0-9]* MiB .*, more than the 1 MiB free on cuda:0' "$work"/room/*.log 2>/dev/null && break
    sleep 0.1 # between two looks
done
grep -h 'units at a time takes' "$work"/room/*.log | head -n 1
