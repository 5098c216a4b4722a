#!/usr/bin/env bash
# Networks in which a weight version is recomputed by a drawn validator, and challenged: a trainer that
# begins with other weights than the task gives, or publishes another file than it signs, loses at once; one that alters one gradient loses its stake by the referee, one that says nothing by the clock; a validator
# that challenges a right version loses its bond, and the run goes on to the weights it has anyway; a
# trainer that is killed in the middle of a dispute goes on with it. Every ledger is audited, disputes replayed.
set -euo pipefail

. "$(dirname "$0")/common.sh"
cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 4/; s/^leases:/leases:\n  dispute_ms: 60000/' "$work/task/task.yaml"

run() { # name, validators, options
    "$muster" up "$work/task" --dir "$work/$1" --json --inference 1 --cheats 0 --validators "$2" --relays 0 \
        "${@:3}" >"$work/$1.out" 2>"$work/$1.err" || { tail "$work/$1.err"; exit 1; }
    audit "$1"
}

audit() { # name
    "$muster" ledger audit "$work/$1" --json >"$work/$1.audit" || { cat "$work/$1.audit"; exit 1; }
    "$muster" ledger show "$work/$1" --json >"$work/$1.entries"
}

figure() { # name, figure: of the audit
    sed -n 's/.*"'"$2"'": \(-\{0,1\}[0-9]*\).*/\1/p' "$work/$1.audit"
}

trainer_of() { # name: its key
    sed -n 's/.*"STEP".*"trainer": "\([0-9a-f]*\)".*/\1/p' "$work/$1.entries" | head -n 1
}

closed() { # name: the entry that says who lost
    grep '"DISPUTE_CLOSE"' "$work/$1.entries"
}

direct() { # name, cheat, why: the trainer loses without a move, and who has the file of the dispute sees why
    run "$1" 1 --cheat-trainer "$2"
    closed "$1" | grep -q "\"loser\": \"$(trainer_of "$1")\", \"is_silent\": false"
    closed "$1" | grep -q '"n_moves": 0,'
    [ "$(figure "$1" disputes_replayed)" = 1 ]
    "$muster" ledger dispute "$work/$1" 1 "$work/dispute-$1"
    "$muster" verify "$work/dispute-$1" | grep -q "$3"
}

run honest 1
[ "$(figure honest versions_recomputed)" = 5 ] # the first four always, and the last, which no draw covers
[ "$(figure honest disputes)" = 0 ]

direct first other-first "the trainer loses: the task gives other masters of version 0"
direct file other-file "the trainer loses: its file of weights has another number than its masters"

run gradient 1 --cheat-trainer altered-gradient
closed gradient | grep -q "\"loser\": \"$(trainer_of gradient)\", \"is_silent\": false"
[ "$(figure gradient disputes_replayed)" = 1 ]
[ "$(figure gradient ucr_stake)" = 2000000 ] # the worker's and the challenger's, whose bond is back
[ "$(figure gradient ucr_bonds)" = 0 ]
"$muster" ledger dispute "$work/gradient" 1 "$work/dispute"
"$muster" verify "$work/dispute" | grep -q "the trainer loses: operation .* gives other numbers"
[ "$(figure gradient ucr_slashed)" -gt 0 ]

sed -i 's/dispute_ms: 60000/dispute_ms: 3000/' "$work/task/task.yaml"
run silent 1 --cheat-trainer silent
closed silent | grep -q "\"loser\": \"$(trainer_of silent)\", \"is_silent\": true"
[ "$(figure silent ucr_stake)" = 2000000 ]

sed -i 's/dispute_ms: 3000/dispute_ms: 60000/' "$work/task/task.yaml"
# The challenger is one of two: the other finds the version right, and the run ends as ever.
run challenging 2 --cheat-verifier challenging
if closed challenging | grep -q "\"loser\": \"$(trainer_of challenging)\""; then exit 1; fi
closed challenging | grep -q '"is_silent": false'
[ "$(figure challenging ucr_bonds)" = 0 ]
[ "$(field "$work/challenging.out" weights)" = "$(field "$work/honest.out" weights)" ]
[ "$(figure challenging versions_recomputed)" = 5 ]

# Killed between two moves: started again, it goes on.
"$muster" up "$work/task" --dir "$work/killed" --json --inference 1 --cheats 0 --validators 1 --relays 0 \
    --cheat-trainer altered-gradient >"$work/killed.out" 2>"$work/killed.err" &
up=$!
until [ "$("$muster" ledger show "$work/killed" --type DISPUTE_MOVE 2>/dev/null | wc -l)" -ge 1 ]; do
    kill -0 "$up" || { tail "$work/killed.err"; exit 1; }
done
kill -9 "$(pgrep -f -- "--dir $work/killed/trainer( |$)" | head -n 1)"
until before=$("$muster" ledger show "$work/killed" --type DISPUTE_MOVE 2>/dev/null | wc -l); do :; done
wait "$up" || { tail "$work/killed.err"; exit 1; }
up=
audit killed
[ "$("$muster" ledger show "$work/killed" --type DISPUTE_MOVE | wc -l)" -gt "$before" ] # the kill was between
closed killed | grep -q "\"loser\": \"$(trainer_of killed)\", \"is_silent\": false"
echo "disputes: $(closed gradient | sed 's/.*\("n_moves": [0-9]*\).*\("op": [0-9]*\).*/\1, \2/')"
