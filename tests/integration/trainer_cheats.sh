#!/usr/bin/env bash
# A trainer that skips the batch, alters one gradient, or publishes other weights: the network does
# not see it, a replay does, at the first version it makes.
set -euo pipefail

. "$(dirname "$0")/common.sh"
cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  steps: 60/  steps: 2/' "$work/task/task.yaml"

for cheat in skip-batch altered-gradient other-weights; do
    "$muster" up "$work/task" --dir "$work/$cheat" --json --inference 1 --cheats 0 --validators 1 --relays 0 \
        --cheat-trainer "$cheat" >"$work/out" 2>"$work/err" || { tail "$work/err"; exit 1; }
    status=0
    "$muster" replay "$work/$cheat" >"$work/replay" 2>&1 || status=$?
    [ "$status" = 1 ] || { cat "$work/replay"; exit 1; }
    grep -q '^version 0 .* ok$' "$work/replay"
    grep -q 'version 1 is on record as .*, and its records give' "$work/replay"
    if grep -q '^version 1 .* ok$' "$work/replay"; then exit 1; fi
    echo "$cheat: $(tail -n 1 "$work/replay")"
done
