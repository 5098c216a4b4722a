#!/bin/sh
# Real nodes move a version: whole, while it is being written, past one that is killed, past
# spoilers, and without the origin; and in namespaces with shaped links where there may be any.
# Files are compared byte by byte by the bench itself, which fails when one differs. No time is
# asserted here.
#
# usage: shardcast.sh loopback|netns
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

case ${1:-loopback} in
loopback)
    bench 21000 --nodes 5 --mib 8
    at_most shardcast_written_worst 1.2
    at_most shardcast_memory_worst 256 # under a sanitizer
    bench 21100 --nodes 5 --mib 8 --writing --rate 64
    bench 21200 --nodes 6 --mib 8 --garbage 0.4
    at_least shardcast_attackers_named_least 2
    at_most shardcast_wrongly_banned_worst 0
    at_most shardcast_garbage_worst 0.1 # one shard of 64 KiB a spoiler and link, of 8 MiB
    # of 257 shards 1 % is two: what was on its way when the node died
    bench 21300 --nodes 5 --mib 16 --cap 40 --kill-half
    at_most shardcast_refetched_worst 0.01
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
    bench 21500 --nodes 4 --mib 4 --netns --rate 50
    ;;
*)
    echo "usage: shardcast.sh loopback|netns" >&2
    exit 2
    ;;
esac
exit $failed
