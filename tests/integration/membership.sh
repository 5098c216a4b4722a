#!/bin/sh
# Twelve real nodes, three of which nobody can dial: a seed and a neighbour are killed, another
# neighbour is stopped. All the others still get the next versions, give up the dead, and have
# neighbours enough; the one that was stopped takes part again. What a node says of its links is
# what 'muster shardcast status' shows. How long it may take is tested in virtual time
# (tests/property/test_overlay.c, tests/unit/shardcast/test_overlay.c); here nothing is timed.
set -u
muster=${MUSTER:-build/release/muster}
work=$(mktemp -d)
nodes=12
hidden=3
port=24100
bytes=3000000
pids=
await_s=120

cleanup()
{
    for pid in $pids; do
        kill -CONT "$pid" 2> /dev/null
        kill -9 "$pid" 2> /dev/null
    done
    wait 2> /dev/null
    rm -rf "$work"
}
trap cleanup EXIT

die()
{
    echo "FAILED: $*" >&2
    for i in $(seq 0 $((nodes - 1))); do
        echo "--- node $i" >&2
        status "$i" >&2
        tail -n 5 "$work/out.$i" "$work/log.$i" >&2
    done
    exit 1
}

await() # WHAT COMMAND...
{
    what=$1
    shift
    end=$(($(date +%s) + await_s))
    until "$@"; do
        [ "$(date +%s)" -lt $end ] || die "$what"
        sleep 0.2
    done
}

status()
{
    "$muster" shardcast status --dir "$work/$1"
}

# "chosen", "dialled us": how many links of node $1 with living others are as $2 says.
count()
{
    status "$1" | grep "^peer " | grep -v "suspect\|dialling\|leaving" | grep -c "$2"
}

# The start of the key of node $1, as status shows it.
key()
{
    sed -n 's/^ready [0-9]* //p' "$work/out.$1"
}

all_have() # VERSION NODES...
{
    version=$1
    shift
    for i in "$@"; do
        grep -q "^complete $version " "$work/out.$i" || return 1
    done
}

is_linked() # A B
{
    status "$1" | grep -q "^peer $(key "$2")"
}

# A node without an address chose all that it can dial; the others chose seven, or were dialled.
all_are_linked() # LEAST NODES...
{
    least=$1
    shift
    for i in "$@"; do
        [ "$(count "$i" "^peer")" -ge "$least" ] || return 1
    done
}

nobody_knows() # NODE NODES...
{
    gone=$1
    shift
    for i in "$@"; do
        is_linked "$i" "$gone" && return 1
    done
    return 0
}

mkfifo "$work/orders" "$work/quiet"
exec 3<> "$work/orders" 4<> "$work/quiet"
for i in $(seq 0 $((nodes - 1))); do
    in=$work/quiet
    [ "$i" -eq 0 ] && in=$work/orders
    mkdir "$work/$i"
    "$muster" cast-node --dir "$work/$i" --index "$i" --nodes $nodes --hidden $hidden \
        --port $port < "$in" > "$work/out.$i" 2> "$work/log.$i" 3>&- 4>&- &
    pids="$pids $!"
    eval "pid_$i=$!"
done

echo "publish 0 $bytes" >&3
await "version 0 arrives" all_have 0 1 2 3 4 5 6 7 8 9 10 11
await "all have neighbours" all_are_linked 7 0 1 2 3 4 5 6 7 8 9 10 11
for i in 9 10 11; do
    [ "$(count $i "dialled us")" -eq 0 ] || die "somebody dialled node $i"
done
is_linked 9 10 && die "two that nobody can dial are linked"

# Node 11 chose all that can be dialled: of them a seed, and two more.
kill -9 "$pid_1" "$pid_4"
kill -STOP "$pid_5"
alive="2 3 6 7 8 9 10 11"
echo "publish 1 $bytes" >&3
# shellcheck disable=SC2086
await "version 1 arrives" all_have 1 $alive
for gone in 1 4 5; do
    # shellcheck disable=SC2086
    await "node $gone is given up" nobody_knows $gone 0 $alive
done
# shellcheck disable=SC2086
await "the living are linked" all_are_linked 5 0 $alive

echo "publish 2 $bytes" >&3
# shellcheck disable=SC2086
await "version 2 arrives" all_have 2 $alive
kill -CONT "$pid_5"
await "the one that was stopped has them too" all_have 2 5
await "and neighbours" all_are_linked 5 5
grep -q 'suspect peer=' "$work/log.11" || die "node 11 suspected nobody"
grep -q 'parted peer=.* why="silent"' "$work/log.11" || die "node 11 gave nobody up"
exit 0
