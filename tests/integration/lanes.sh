#!/usr/bin/env bash
# One task with four lanes, its trainer one process, two and four: the final weights must be the
# same, bit for bit, also where a process of the trainer is killed in each of the first steps, and a
# replay with another number of processes confirms every version. Another number of lanes gives other
# weights: they are part of what a step commits to.
set -euo pipefail

. "$(dirname "$0")/common.sh"
cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 6/; s/^  lag: 2/  lag: 2\n  grad_lanes: 4/' "$work/task/task.yaml"
cp -r "$work/task" "$work/other"
sed -i 's/grad_lanes: 4/grad_lanes: 2/' "$work/other/task.yaml"

begin() { # name, task, processes: starts a network, $up is its process
    "$muster" up "$work/$2" --dir "$work/$1" --json --cheats 0 --inference 1 --validators 1 \
        --relays 0 --trainer-processes "$3" >"$work/$1.out" 2>"$work/$1.err" &
    up=$!
}

end() { # name
    wait $up
    up=
    [ "$(field "$work/$1.out" steps)" = 6 ]
    [ "$(field "$work/$1.out" ledger_ok)" = true ]
    echo "$1 $(field "$work/$1.out" weights)"
}

begin one task 1
end one
begin two task 2
end two
grep -q 'plan processes=2 mib=[0-9]* each_other_mib=' "$work/two/trainer.log"

# Each version that the trainer announces costs it one of its processes, at some moment.
begin four task 4
killed=0
while kill -0 $up 2>/dev/null; do
    made=$(grep -c ' step n=' "$work/four/trainer.log" 2>/dev/null || true)
    trainer=$(pgrep -f -- "--dir $work/four/trainer( |$)" | head -n 1 || true)
    if [ "${made:-0}" -ge $killed ] && [ $killed -lt 4 ] && [ -n "$trainer" ]; then
        worker=$(pgrep -P "$trainer" -f 'lane-worker' | tail -n 1 || true)
        [ -z "$worker" ] || ! kill -9 "$worker" 2>/dev/null || killed=$((killed + 1))
    fi
    sleep 0.01 # between looks
done
end four
echo "killed $killed"
[ $killed -ge 1 ]
grep -q 'a step is made again' "$work/four/trainer.log"

"$muster" replay "$work/one" --processes 4 >"$work/replay" 2>&1 || { cat "$work/replay"; exit 1; }
[ "$(grep -c ' ok$' "$work/replay")" = 7 ]
"$muster" replay "$work/four" >"$work/replay" 2>&1 || { cat "$work/replay"; exit 1; }

status=0
"$muster" replay "$work/one" --processes 8 >"$work/replay" 2>&1 || status=$?
[ $status = 1 ]
grep -q '8 processes cannot share 4 grad_lanes' "$work/replay"

begin other other 2
end other
a=$(field "$work/one.out" weights)
[ -n "$a" ] && [ "$a" = "$(field "$work/two.out" weights)" ]
[ "$a" = "$(field "$work/four.out" weights)" ]
[ "$a" != "$(field "$work/other.out" weights)" ]
