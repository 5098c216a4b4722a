#!/usr/bin/env bash
# A worker's directory is copied, and runs twice: the process that began first is told so, and ends as one that
# is not wanted any more; the other goes on. Nobody is barred, and no money moves.
set -euo pipefail

. "$(dirname "$0")/common.sh"

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

has_ended() {
    ! kill -0 "$1" 2>/dev/null
}

"$muster" orchestrator --dir "$work/run" --invites inference:1 >"$work/run.out" 2>"$work/run.err" &
up=$!
await 'test -s "$work/run/ready.json"'
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$work/run/invites.json")
"$muster" join "$link" --dir "$work/first" >"$work/first.out" 2>"$work/first.err" &
first=$!
pids="$first"
await 'grep -q "roster seq" "$work/first.err"'

cp -r "$work/first" "$work/second"
"$muster" inference --dir "$work/second" >"$work/second.out" 2>"$work/second.err" &
second=$!
pids="$first $second"
await 'has_ended $first'
status=0
wait "$first" || status=$?
[ $status -eq 3 ] || fail "the first ends with $status, which is not that of one that was refused"
grep -q "another process began to speak with this node's key" "$work/first.err" ||
    fail "the first does not say why it ended"
! has_ended "$second" || fail "the second ended too"

kill "$second" $up # the ledger is the orchestrator's while it runs
wait "$second" $up || true
"$muster" ledger show "$work/run" >"$work/entries"
grep -q NODE_ADMIT "$work/entries" || fail "the node is not in the ledger"
! grep -q NODE_REVOKE "$work/entries" || fail "the node was barred"
