#!/usr/bin/env bash
# A network in class bf16-1: a cheat is caught, the ledger is clean, every version is recomputed,
# and the scalar definition ends with the same weights as the kernels of this machine. The same
# task in f32-1 ends with others.
set -euo pipefail

. "$(dirname "$0")/common.sh"
cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 12/' "$work/task/task.yaml"
cp -r "$work/task" "$work/f32"
printf 'prices: {f32-1: 0, bf16-1: 10}\n' >>"$work/task/task.yaml"

run() { # name, task, options
    "$muster" up "$work/$2" --dir "$work/$1" --json --inference 2 --validators 1 --relays 0 \
        "${@:3}" >"$work/$1.out" 2>"$work/$1.err" || { tail "$work/$1.err"; exit 1; }
    [ "$(field "$work/$1.out" ledger_ok)" = true ]
    [ "$(field "$work/$1.out" steps)" = 12 ]
    [ "$(field "$work/$1.out" honest_refused)" = 0 ]
}

run fast task --cheats 1
"$muster" replay "$work/fast" >"$work/replay" 2>&1 || { tail "$work/replay"; exit 1; }
grep -q 'numerics=bf16-1' "$work"/fast/*.log "$work"/fast/*/*.log 2>/dev/null
run scalar task --cheats 0 --kernels scalar
run f32 f32 --cheats 0
fast=$(field "$work/fast.out" weights)
[ "${#fast}" -ge 16 ]
[ "$fast" = "$(field "$work/scalar.out" weights)" ]
[ "$fast" != "$(field "$work/f32.out" weights)" ]
echo "weights $fast, twice"
