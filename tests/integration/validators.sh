#!/usr/bin/env bash
# Networks whose last validator is dishonest, with many canaries: a lazy one loses stake by them,
# nobody honest does, the ledger is clean, and canaries change no weight. A colluding one lets
# units of its worker through until another is drawn, and cannot save it.
set -euo pipefail

. "$(dirname "$0")/common.sh"
cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 30/' "$work/task/task.yaml"
printf 'acceptance: {canary_ppm: 250000}\n' >>"$work/task/task.yaml"

run() { # name, validators, options
    "$muster" up "$work/task" --dir "$work/$1" --json --inference 2 --validators "$2" --relays 0 \
        "${@:3}" >"$work/$1.out" 2>"$work/$1.err" || { tail "$work/$1.err"; exit 1; }
    [ "$(field "$work/$1.out" ledger_ok)" = true ]
    [ "$(field "$work/$1.out" honest_refused)" = 0 ]
    [ "$(field "$work/$1.out" honest_contradicted)" = 0 ]
}

# Which units are canaries differs from run to run: of 240 about 60, three quarters of them bad, half
# of those for the lazy one: 22. That none is, has a chance of 1 in 10^9.
run honest 2 --cheats 0
[ "$(field "$work/honest.out" canaries)" -gt 0 ]
[ "$(field "$work/honest.out" verdicts_contradicted)" = 0 ]
run lazy 2 --cheats 0 --cheat-verifier lazy
[ "$(field "$work/lazy.out" verdicts_contradicted)" -ge 1 ]
run colluding 3 --cheats 1 --cheat tokens --cheat-verifier colluding
[ "$(field "$work/colluding.out" cheats_slashed)" = 1 ]
[ "$(field "$work/honest.out" weights)" = "$(field "$work/lazy.out" weights)" ]
sed -i 's/canary_ppm: 250000/canary_ppm: 0, recheck_ppm: 1000000/; s/^  steps: 30/  steps: 15/' "$work/task/task.yaml"
# Every full check is made by two of the three: of some twenty at least (the workers' first units) the
# cheat has a part in two thirds. That it is in fewer than three, has a chance of 1 in 10^7. The third
# strike bars it.
for cheat in lazy copying framing; do
    run "sealed-$cheat" 3 --cheats 0 --cheat-verifier "$cheat"
    [ "$(field "$work/sealed-$cheat.out" validators_barred)" = 1 ]
    "$muster" ledger show "$work/sealed-$cheat" --type STATES_JUDGE >"$work/struck"
    [ "$(wc -l <"$work/struck")" -ge 3 ]
    "$muster" replay "$work/sealed-$cheat" >"$work/replayed" 2>&1 || { tail "$work/replayed"; exit 1; }
    [ "$(grep -c 'struck rightly' "$work/replayed")" = "$(wc -l <"$work/struck")" ]
done
"$muster" ledger audit "$work/honest" --witness "$work"/honest/verifier-*/heads.witness >"$work/audit"
grep -q '^heads_witnessed  *[1-9]' "$work/audit"
grep -q '^  WITNESS  *[1-9]' "$work/audit"
ls "$work"/lazy/inference-*/orders/*.order >/dev/null
"$muster" ledger show "$work/lazy" --type CANARY_JUDGE >"$work/judged"
grep -q 'outcome=1 .*stake:' "$work/judged"
echo "$(field "$work/lazy.out" canaries) canaries contradicted $(field "$work/lazy.out" verdicts_contradicted) verdicts"
