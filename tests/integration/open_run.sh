#!/usr/bin/env bash
# Networks in class open-openblas. An honest worker is killed between its commit and its opening, comes
# back, opens from its store, and is never refused; every version is recomputed to the bit. Cheats lose
# pay and standing, and no stake.
set -euo pipefail

. "$(dirname "$0")/common.sh"

cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 12/; s/^  tries: 100/  tries: 100\n  opening_ms: 20000/' "$work/task/task.yaml"
printf 'prices: {f32-1: 0, open-openblas: 10}\nacceptance: {audit_first: 1000}\n' >>"$work/task/task.yaml"

count() { # name, type: entries of the ledger
    "$muster" ledger show "$work/$1" --type "$2" 2>/dev/null | wc -l
}

begin() { # name, options: starts a network, $up is its process
    "$muster" up "$work/task" --dir "$work/$1" --json --validators 1 --relays 0 "${@:2}" \
        >"$work/$1.out" 2>"$work/$1.err" &
    up=$!
}

end() { # name
    wait $up
    up=
    [ "$(field "$work/$1.out" ledger_ok)" = true ]
    [ "$(field "$work/$1.out" steps)" = 12 ]
    [ "$(field "$work/$1.out" honest_refused)" = 0 ]
    [ "$(field "$work/$1.out" cheats_slashed)" = 0 ]
    echo "$1: $(field "$work/$1.out" seconds) s"
}

pid_of() { # name, node
    pgrep -f -- "--dir $work/$1/$2( |\$)" | head -n 1 || true
}

# caught NAME TYPE: lets the honest worker wait until the ledger has an entry of this type: else it may have
# done all there is before the cheat is there.
caught() {
    local honest=
    while [ -z "$honest" ] && kill -0 $up 2>/dev/null; do
        honest=$(pid_of "$1" inference-1)
    done
    kill -STOP "$honest"
    while kill -0 $up 2>/dev/null && [ "$(count "$1" "$2")" = 0 ]; do
        sleep 0.05
    done
    kill -CONT "$honest"
}

# While its validator is stopped a draw waits a second for the nonce: time to see a commit, and to kill
# the one worker before it is asked for the opening.
begin killed --inference 1 --cheats 0
killed=0
while kill -0 $up 2>/dev/null && ! grep -q 'earlier=yes' "$work/killed/inference-1.log" 2>/dev/null; do
    verifier=$(pid_of killed verifier-1)
    worker=$(pid_of killed inference-1)
    [ -n "$verifier" ] && [ -n "$worker" ] || continue
    before=$(count killed COMMIT)
    kill -STOP "$verifier" 2>/dev/null || continue
    for _ in $(seq 20); do
        [ "$(count killed COMMIT)" = "$before" ] || break
    done
    kill -9 "$worker" 2>/dev/null && killed=$((killed + 1))
    kill -CONT "$verifier" 2>/dev/null || true
done
end killed
grep -q 'earlier=yes' "$work/killed/inference-1.log"
[ "$(count killed OPENING)" -gt 0 ]
[ "$(count killed REJECT_SOFT)" = 0 ]
"$muster" replay "$work/killed" >"$work/replay" 2>&1 || { tail "$work/replay"; exit 1; }
[ -z "$(ls "$work/killed/inference-1/openings")" ]

for cheat in draft int4; do
    begin $cheat --inference 2 --cheats 1 --cheat $cheat
    caught $cheat NODE_REVOKE
    end $cheat
    [ "$(count $cheat REJECT_SOFT)" -ge 3 ]
    [ "$(count $cheat NODE_REVOKE)" = 1 ]
done

sed -i 's/opening_ms: 20000/opening_ms: 1500/' "$work/task/task.yaml"
begin unopened --inference 2 --cheats 1 --cheat unopened
caught unopened REJECT_SOFT
end unopened
"$muster" ledger show "$work/unopened" --type REJECT_SOFT >"$work/refused"
grep -q 'code=UNOPENED' "$work/refused"
echo "killed $killed times, $(count draft REJECT_SOFT) and $(count int4 REJECT_SOFT) units of cheats refused"
