#!/usr/bin/env bash
# `muster toploc` against a proof that the reference implementation made. The activations and the
# proof are in vectors/toploc of $MUSTER_SHARED or of ../shared beside the tree; where they are not,
# there is nothing to compare with.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
vectors=${MUSTER_SHARED:-$here/../../../shared}/vectors/toploc
rows=$vectors/seed69_32x1024.bf16le
proof=$vectors/seed69.proof

if [ ! -f "$rows" ] || [ ! -f "$proof" ]; then
    echo "not run: no $rows"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# verify NAME STATUS LINE TIE ROWS PROOFS: prints that line and ends so
verify() {
    local got=0
    "$muster" toploc verify --dim 1024 --tie "$4" "$5" "$6" >"$work/out" || got=$?
    if [ $got != "$2" ] || [ "$(cat "$work/out")" != "$3" ]; then
        echo "$1: '$(cat "$work/out")' and status $got, want '$3' and $2"
        exit 1
    fi
    echo "$1: $3"
}

"$muster" toploc prove --dim 1024 --tie torch-cpu "$rows" >"$work/ours"
base64 -d "$work/ours" | cmp - "$proof"
echo "prove, ties as the reference takes them: the same 258 bytes"
base64 -w 0 "$proof" >"$work/theirs"
echo >>"$work/theirs"

# 128 values are proved, and the magnitude of the last is that of some that are left out. Who takes
# another of those finds one position that the proof was not made for.
"$muster" toploc prove --dim 1024 "$rows" >"$work/lowest"
if cmp -s "$work/ours" "$work/lowest"; then
    echo "both rules of ties give one proof"
    exit 1
fi
verify theirs_as_theirs 0 "0 0 0" torch-cpu "$rows" "$work/theirs"
verify theirs_as_ours 0 "1 0 0" lowest "$rows" "$work/theirs"
verify ours_as_ours 0 "0 0 0" lowest "$rows" "$work/lowest"
verify ours_as_theirs 0 "1 0 0" torch-cpu "$rows" "$work/lowest"

# Other activations, the same rows in another order: nothing fits.
tail -c 2048 "$rows" >"$work/turned"
head -c 63488 "$rows" >>"$work/turned"
got=0
"$muster" toploc verify --dim 1024 "$work/turned" "$work/theirs" >"$work/out" || got=$?
[ $got = 1 ] || { echo "rows in another order: $(cat "$work/out"), status $got, want 1"; exit 1; }
echo "rows in another order: $(cat "$work/out")"
