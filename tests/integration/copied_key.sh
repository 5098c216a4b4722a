#!/bin/sh
# A worker's directory is copied, and runs twice: the process that began first is told so, and ends; the
# other goes on. Nobody is barred, and no money moves.
set -u
muster=${MUSTER:?the program to test}
work=$(mktemp -d)
pids=

cleanup()
{
    for pid in $pids; do
        kill "$pid" 2> /dev/null
    done
    wait 2> /dev/null
    rm -rf "$work"
}
trap cleanup EXIT

die()
{
    echo "FAILED: $*" >&2
    tail -n 5 "$work"/*.log >&2
    exit 1
}

await() # WHAT COMMAND...
{
    what=$1
    shift
    end=$(($(date +%s) + 60))
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || die "$what"
        sleep 0.1
    done
}

has_ended()
{
    ! kill -0 "$1" 2> /dev/null
}

"$muster" orchestrator --dir "$work/run" --invites inference:1 > "$work/run.out" 2> "$work/run.log" &
pids=$!
await "the orchestrator listens" test -s "$work/run/ready.json"
link=$(sed -n 's/.*"link":"\([^"]*\)".*/\1/p' "$work/run/invites.json")
"$muster" join "$link" --dir "$work/first" > "$work/first.out" 2> "$work/first.log" &
first=$!
pids="$pids $first"
await "the worker is in" grep -q "roster seq" "$work/first.log"

cp -r "$work/first" "$work/second"
"$muster" inference --dir "$work/second" > "$work/second.out" 2> "$work/second.log" &
second=$!
pids="$pids $second"
await "the first ends" has_ended "$first"
wait "$first"
[ $? -eq 1 ] || die "the first says that all is well"
grep -q "another process began to speak with this node's key" "$work/first.log" ||
    die "the first does not say why it ended"
has_ended "$second" && die "the second ended too"
kill "$second" "${pids%% *}" # the ledger is the orchestrator's while it runs
wait
"$muster" ledger show "$work/run" > "$work/entries" || die "the ledger cannot be read"
grep -q NODE_ADMIT "$work/entries" || die "the node is not in the ledger"
grep -q NODE_REVOKE "$work/entries" && die "the node was barred"
exit 0
