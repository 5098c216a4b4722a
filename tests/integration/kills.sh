#!/usr/bin/env bash
# Twenty kill -9 among all roles of a network at work, each role at least once.
#
#   kills.sh unit     one task three ways: one worker; three workers; three workers under fire. In
#                     `order: unit` the final weights must be the same, bit for bit
#   kills.sh arrival  `order: arrival` under fire: another run may differ, but this one must replay
#
# Every ledger must audit clean (nothing is paid twice, nothing that was acknowledged is missing:
# docs/ledger.md) and every version must be recomputed from it. TEST_SEED picks who dies and when.
set -euo pipefail

order=${1:?unit or arrival}
. "$(dirname "$0")/common.sh"
RANDOM=${TEST_SEED:-1}
echo "seed ${TEST_SEED:-1}, in $work"
cp -r "$here/tasks/small" "$work/task"
sed -i "s/^  lag: 2/  lag: 2\n  order: $order/" "$work/task/task.yaml"

begin() { # name, options: starts a network, $up is its process
    local name=$1
    shift
    "$muster" up "$work/task" --dir "$work/$name" --json --cheats 0 "$@" \
        >"$work/$name.out" 2>"$work/$name.err" &
    up=$!
}

check() { # name
    "$muster" ledger audit "$work/$1/orchestrator/ledger" >"$work/$1.audit.err"
    "$muster" replay "$work/$1" >"$work/$1.replay.err" 2>&1
    [ "$(field "$work/$1.out" ledger_ok)" = true ]
    [ "$(field "$work/$1.out" steps)" = 60 ]
    [ "$(field "$work/$1.out" honest_refused)" = 0 ]
}

if [ "$order" = unit ]; then
    begin one --inference 1 --validators 1 --relays 0
    wait $up
    check one
    begin three --inference 3
    wait $up
    check three
fi

begin killed --inference 3
roles=(orchestrator trainer inference-1 inference-2 inference-3 verifier-1 verifier-2 relay-1)
killed=0
while kill -0 $up 2>/dev/null && [ $killed -lt 20 ]; do
    # each role once in turn, then whichever
    role=${roles[$((killed < 8 ? killed : RANDOM % 8))]}
    pid=$(pgrep -f -- "--dir $work/killed/$role( |$)" | head -n 1 || true)
    if [ -n "$pid" ]; then
        kill -9 "$pid" 2>/dev/null && killed=$((killed + 1))
    fi
    sleep "0.$((RANDOM % 3 + 1))" # the random moment of the next kill
done
wait $up
up=
echo "killed $killed"
[ $killed -ge 20 ]
check killed

[ "$order" = unit ] || exit 0
a=$(field "$work/one.out" weights)
b=$(field "$work/three.out" weights)
c=$(field "$work/killed.out" weights)
echo "one worker    $a"
echo "three workers $b"
echo "with kills    $c"
[ -n "$a" ] && [ "$a" = "$b" ] && [ "$a" = "$c" ]
