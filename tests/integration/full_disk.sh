#!/usr/bin/env bash
# A network whose disk fills up: some process ends with an error that names the full disk, nothing
# that was acknowledged is lost, and moved to a larger disk the run goes on to the very weights of
# a run that never ran short. And roles with a small disk of their own: one that cannot keep what it
# must keep ends and says so, nobody is banned for it, and `up` ends where it cannot go on without.
set -euo pipefail

. "$(dirname "$0")/common.sh"

if [ -z "${FULL_DISK_INSIDE:-}" ]; then
    # A small disk takes a mount, and a mount takes a namespace of our own.
    if ! unshare -Urm mount -t tmpfs -o size=1m none "$work" 2>/dev/null; then
        echo "not run: this kernel lets nobody mount a disk of their own"
        rm -rf "$work"
        exit 77
    fi
    rm -rf "$work"
    FULL_DISK_INSIDE=1 exec unshare -Urm "$0"
fi

finish() { # disks besides
    status=$?
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    [ $status -eq 0 ] || tail -n 5 "$work"/*.err "$work"/disk/net/*.log "$work"/*/*.log 2>/dev/null || true
    umount -l "$work"/disk "$work"/*/trainer "$work"/*/inference-[12] 2>/dev/null || true
    rm -rf "$work"
    exit $status
}

begin() { # name of the output, directory, options: starts a network, $up is its process
    local name=$1 dir=$2
    shift 2
    "$muster" up "$here/tasks/small" --dir "$dir" --json --cheats 0 --inference 2 "$@" \
        >"$work/$name.out" 2>"$work/$name.err" &
    up=$!
    pids="$pids $up"
}

begin_small() { # role, its disk, options: a network in which that role has a disk of its own
    local role=$1 size=$2
    shift 2
    mkdir -p "$work/$role-short/$role"
    mount -t tmpfs -o size="$size" none "$work/$role-short/$role"
    begin "$role-short" "$work/$role-short" "$@"
}

check_ended() { # role, process: `up` ended for want of it, and says why
    local role=$1
    if wait "$2"; then
        echo "a network without $role came to its end"
        return 1
    fi
    head -n 1 "$work/$role-short.err"
    grep -q "$role cannot live.*$work/$role-short/$role.*No space left on device" \
        "$work/$role-short.err"
}

begin ample "$work/ample"
ample=$up

# Three at a time: those that cannot go on are given up after a minute.
begin_small trainer 800k
trainer=$up
begin_small inference-1 200k --inference 1
worker=$up
wait $ample

mkdir "$work/disk"
mount -t tmpfs -o size=5m none "$work/disk"
begin short "$work/disk/net"
until grep -h "No space left" "$work"/disk/net/*.log >"$work/said" 2>/dev/null; do
    kill -0 $up # it has not ended well
    [ $SECONDS -lt 120 ] || { echo "no process said that the disk is full"; exit 1; }
    sleep 0.05
done
kill $up
wait $up || true
head -n 2 "$work/said"

cp -a "$work/disk/net" "$work/larger"
"$muster" ledger audit "$work/larger/orchestrator/ledger" >"$work/audit.err"
begin resumed "$work/larger"
wait $up
"$muster" ledger audit "$work/larger/orchestrator/ledger" >"$work/audit.err"
echo "ample   $(field "$work/ample.out" weights)"
echo "resumed $(field "$work/resumed.out" weights)"
[ -n "$(field "$work/ample.out" weights)" ]
[ "$(field "$work/ample.out" weights)" = "$(field "$work/resumed.out" weights)" ]

# Of two workers one that can keep no more than the first version dies of the next, and the other goes on.
begin_small inference-2 150k
wait $up
grep -q "^muster inference: cannot write .*$work/inference-2-short/inference-2.*No space left" \
    "$work/inference-2-short/inference-2.log"
[ "$(field "$work/ample.out" weights)" = "$(field "$work/inference-2-short.out" weights)" ]

check_ended trainer $trainer
check_ended inference-1 $worker
if grep -H banned "$work"/*-short/*.log; then
    echo "somebody was banned for a full disk"
    exit 1
fi

# With room for it, the trainer goes on.
cp -a "$work/trainer-short" "$work/trainer-larger"
begin trainer-larger "$work/trainer-larger"
wait $up
[ "$(field "$work/ample.out" weights)" = "$(field "$work/trainer-larger.out" weights)" ]
