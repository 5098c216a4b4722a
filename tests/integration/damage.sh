#!/usr/bin/env bash
# A run that was interrupted, and then one of its files is damaged: the run goes on to the weights of
# a run that nothing befell, or is refused by a message that names the file. Nothing crashes.
set -euo pipefail

. "$(dirname "$0")/common.sh"

begin() { # directory: starts or resumes a network, $up is its process
    "$muster" up "$here/tasks/small" --dir "$1" --json --cheats 0 --inference 2 \
        >"$work/up.out" 2>"$work/up.err" &
    up=$!
}

damaged() { # a fresh copy of the interrupted run
    rm -rf "$work/net"
    cp -a "$work/kept" "$work/net"
}

cut() { # file: its first half is left
    truncate -s $(($(stat -c %s "$1") / 2)) "$1"
}

refused() { # pattern, command: status 1 or 2 and the pattern
    local pattern=$1 got=0
    shift
    "$@" >"$work/out" 2>&1 || got=$?
    echo "status $got: $(tail -n 1 "$work/out")"
    [ $got = 1 ] || [ $got = 2 ]
    grep -q -- "$pattern" "$work/out"
}

begin "$work/kept"
until grep -q "version n=13 " "$work/kept/orchestrator.log" 2>/dev/null; do
    kill -0 $up
    sleep 0.05
done
kill $up
wait $up || true
up=

damaged
begin "$work/net"
wait $up
want=$(field "$work/up.out" weights)
[ -n "$want" ]

# ---- checkpoints: the versions are older than those that are kept ------------------------------
newest=$(stat -c '%Y.%y %n' "$work"/kept/trainer/checkpoint.* | sort | tail -n 1)
newest=$(basename "${newest##* }")
for files in "$newest" "checkpoint.0 checkpoint.1"; do
    damaged
    for file in $files; do cut "$work/net/trainer/$file"; done
    begin "$work/net"
    wait $up
    up=
    grep -q "$newest is passed over" "$work/net/trainer.log"
    echo "without $files: $(field "$work/up.out" weights)"
    [ "$(field "$work/up.out" weights)" = "$want" ]
done

# ---- the ledger ----------------------------------------------------------------------------------
damaged
cut "$work/net/orchestrator/ledger/data.mdb"
for words in "ledger audit" "ledger show" replay "status --dir" "orchestrator --dir"; do
    refused "$work/net/orchestrator/ledger' is cut short or damaged" \
        "$muster" $words "$work/net/orchestrator"
done
: >"$work/net/orchestrator/ledger/data.mdb"
refused "the ledger in '$work/net/orchestrator' is empty, but run" \
    "$muster" orchestrator --dir "$work/net/orchestrator"
"$muster" ledger audit "$work/kept" >"$work/out" # a run's directory will do, too

echo "all as it should be"
