#!/usr/bin/env bash
# Class open-cuda on a GPU or the emulated one. `muster bench proofs`: what was decoded is seen as honest by the
# class's prefill and by f32-1, and what other weights made is not; what somebody else has is read. A network:
# the worker's units, decoded together, pass its validator's prefills, and the opening with them.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

proofs() { # name, options
    "$muster" bench proofs --shape tiny --new 32 --prompt 3 --batch 2 "${@:2}" >"$work/$1" 2>"$work/$1.err"
}

value() { # name, figure
    sed -n 's/^{"name": "'"$2"'", "value": \([^,]*\),.*/\1/p' "$work/$1"
}

# Somebody else, who has other states, is outside the thresholds, and that is the exit status.
if proofs honest --chunks 1 --exact 1 --dir "$work/d" --peer "head -c 8192 /dev/urandom |
    tr '\\000-\\377' '\\100-\\137\\100-\\137' >$work/d/states.bf16; ls"; then
    exit 1
fi
if ! grep -q 'outside TOPLOC' "$work/honest.err"; then
    cat "$work/honest.err"
    grep -qE 'no device cuda|without CUDA' "$work/honest.err" && exit 77
    exit 1
fi
for who in prefill f32-1; do
    [ "$(value honest proofs_tiny_${who}_chunks)" = 1.000 ]
    [ "$(grep -c "_${who}_.*\"ok\": true" "$work/honest")" = 3 ] # exponents, mean and median
    [ "$(value honest proofs_tiny_${who}_units_refused)" = 0.000 ]
done
[ "$(value honest proofs_tiny_peer_units_refused)" = 1.000 ]
[ -s "$work/d/model/model.safetensors" ]
[ "$(wc -c <"$work/d/tokens.i32")" = 140 ]
[ "$(wc -c <"$work/d/proofs_tiny_peer_margin.f32")" = 128 ]

proofs int4 --chunks 1 --exact 0 --draft int4
[ "$(value int4 proofs_tiny_int4_prefill_units_refused)" = 1.000 ]

"$muster" bench proofs --what cost --shape tiny --new 33 --batch 1 >"$work/cost" 2>"$work/cost.err" || status=$?
grep -q "not a multiple of 32" "$work/cost.err" && [ "$status" = 2 ]
"$muster" bench proofs --what cost --shape tiny --new 32 --batch 1 --rounds 1 >"$work/cost"
grep -q '"proofs_tiny_decode_b1", .*"peer": "without proofs"' "$work/cost"

cp -r "$here/tasks/small" "$work/task"
sed -i 's/^  dim: .*/  dim: 128/; s/^  heads: .*/  heads: 4/; s/^  layers: .*/  layers: 1/
    s/^  units_per_batch: .*/  units_per_batch: 1/; s/^  group: .*/  group: 2/; s/^  steps: 60/  steps: 1/
    s/^  lag: .*/  lag: 0/; s/_ms: 2000/_ms: 60000/; s/^  prompts: .*/  prompts: 2/
    s/^  steps: 20/  steps: 2/; s/^  batch: .*/  batch: 4/' "$work/task/task.yaml"
printf 'prices: {f32-1: 0, open-cuda: 10}\nacceptance: {audit_first: 1000}\n' >>"$work/task/task.yaml"
if ! "$muster" up "$work/task" --dir "$work/net" --json --inference 1 --cheats 0 --validators 1 --relays 0 \
    --worker-device cuda --verifier-device cuda >"$work/up" 2>"$work/up.err"; then
    tail -n 15 "$work/up.err" "$work"/net/*.log
    exit 1
fi
grep -q '"honest_refused": 0,.*"ledger_ok": true' "$work/up"
grep -q 'end checked=[1-9].* rejected=0' "$work/net/verifier-1.log"
[ -n "$("$muster" ledger show "$work/net" --type OPENING)" ]
[ -z "$("$muster" ledger show "$work/net" --type REJECT_SOFT)" ]
