#!/bin/sh
# Real nodes move a version: whole, while it is being written, past one that is killed, and without
# the origin; in namespaces with shaped links where there may be any; and past neighbours that lie.
# Files are compared byte by byte by the bench itself, which fails when one differs. No time is
# asserted here.
#
# usage: shardcast.sh loopback|netns|attacks
set -u
muster=${MUSTER:-build/release/muster}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail()
{
    echo "FAILED: $*" >&2
    sed 's/^/    /' "$work/out" "$work/err" >&2
    failed=1
}

# Prints the value of a figure of the last run.
figure()
{
    sed -n "s/.*\"name\": \"$1\", \"value\": \([0-9.]*\),.*/\1/p" "$work/out"
}

at_most() # NAME LIMIT
{
    value=$(figure "$1")
    echo "${value:-0} $2" | awk '{exit !($1 <= $2)}' || fail "$1 is $value, more than $2"
}

at_least() # NAME LIMIT
{
    value=$(figure "$1")
    echo "${value:-0} $2" | awk '{exit !($1 >= $2)}' || fail "$1 is $value, less than $2"
}

bench() # PORT OPTIONS...
{
    port=$1
    shift
    echo "bench shardcast $*"
    "$muster" bench shardcast --dir "$work" --port "$port" "$@" > "$work/out" 2> "$work/err" ||
        fail "bench shardcast $*"
}

# One kind of liar among six nodes, and what there must be to see afterwards.
attack() # PORT KIND[:SHARE]
{
    bench "$1" --nodes 6 --mib 2 --rate 20 --attack "$2" --keep
    case $2 in
    garbage:* | stale:*)
        # Of 33 shards: of each liar one, and where processes wait for a core another two: one that was
        # cancelled, and one that was overdue.
        at_least shardcast_attackers_named_least 2
        at_most shardcast_wrongly_named_worst 0
        at_least shardcast_garbage_worst 0.001
        at_most shardcast_garbage_worst 0.15
        ;;
    forge:* | empty:*)
        at_least shardcast_attackers_named_least 2
        at_most shardcast_wrongly_named_worst 0
        at_most shardcast_garbage_worst 0
        ;;
    silent:* | slow:*)
        at_most shardcast_wrongly_named_worst 0
        at_most shardcast_garbage_worst 0
        ;;
    equivocate)
        at_least shardcast_stopped_least 6
        at_least shardcast_proofs_least 6
        at_least shardcast_stopped_after_restart 1
        check_proof "$(find "$work" -path '*/3/evidence/equivocation-1-1--1.proof')"
        ;;
    freeze)
        at_least shardcast_freeze_noticed_worst 0.001
        grep -q 'frozen why="no new head' "$work"/run*/1/log || fail "the victim did not log it"
        ;;
    esac
}

# Anybody can check it, and nobody can change it.
check_proof() # FILE
{
    "$muster" verify "$1" > "$work/out" 2> "$work/err" || fail "muster verify of a real proof"
    grep -q "cannot both be true" "$work/out" || fail "muster verify does not say what it proves"
    printf x | dd of="$1" bs=1 seek=200 conv=notrunc 2> "$work/err"
    if "$muster" verify "$1" > "$work/out" 2> "$work/err"; then
        fail "muster verify believes a proof that was changed"
    fi
}

case ${1:-loopback} in
loopback)
    bench 21000 --nodes 5 --mib 8
    at_most shardcast_written_worst 1.2
    at_most shardcast_memory_worst 256 # under a sanitizer
    bench 21100 --nodes 5 --mib 8 --writing --rate 64
    # of 257 shards 1 % is two: what was on its way when the node died
    bench 21300 --nodes 5 --mib 16 --cap 40 --kill-half
    at_most shardcast_refetched_worst 0.01
    # A patch of this size is applied in some 0.1 s: now and then it is done before anybody looked.
    for try in 1 2 3 4 5 6 7 8; do
        bench $((21500 + 10 * try)) --nodes 3 --mib 32 --delta --kill-apply
        if grep -q "node 1 is killed" "$work/err"; then break; fi
    done
    grep -q "node 1 is killed" "$work/err" || fail "nobody was killed while a patch was applied"
    # With links like the others' it sends the file once, and is never killed: so it is faster. Even so
    # one run in six is over before it has sent so much: then all had the file, and it is asked again.
    for try in 1 2 3 4 5 6 7 8; do
        bench $((21400 + 10 * try)) --nodes 5 --mib 8 --cap 20 --origin-cap 200 \
            --kill-origin-at 1.1
        if grep -q "the origin is killed" "$work/err"; then break; fi
    done
    grep -q "the origin is killed" "$work/err" || fail "the origin was not killed"
    ;;
netns)
    ip netns add "muster-probe-$$" 2> /dev/null || {
        echo "network namespaces are not possible here" >&2
        exit 77
    }
    ip netns delete "muster-probe-$$"
    bench 21700 --nodes 4 --mib 4 --netns --rate 50
    ;;
attacks)
    # All at once, each with files of its own: they wait more than they work, the freeze for 30 s. The
    # rate is there for the bench's patience only.
    jobs=
    port=22000
    for attack in garbage:0.4 forge:0.4 stale:0.4 empty:0.4 silent:0.4 slow:0.4 equivocate freeze; do
        port=$((port + 50))
        mkdir "$work/${attack%:*}"
        (
            work=$work/${attack%:*}
            attack $port "$attack"
            exit $failed
        ) &
        jobs="$jobs $!"
    done
    for job in $jobs; do wait "$job" || failed=1; done
    ;;
*)
    echo "usage: shardcast.sh loopback|netns|attacks" >&2
    exit 2
    ;;
esac
exit $failed
