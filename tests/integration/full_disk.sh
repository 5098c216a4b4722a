#!/usr/bin/env bash
# A network whose disk fills up: some process ends with an error that names the full disk, nothing
# that was acknowledged is lost, and moved to a larger disk the run goes on to the very weights of
# a run that never ran short.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)

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

up=
finish() {
    status=$?
    [ -z "$up" ] || kill "$up" 2>/dev/null || true
    wait 2>/dev/null || true
    [ $status -eq 0 ] || tail -n 5 "$work"/*.err "$work"/disk/net/*.log 2>/dev/null || true
    umount -l "$work/disk" 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap finish EXIT

weights() {
    sed -n 's/.*"weights": "\([0-9a-f]*\)".*/\1/p' "$1"
}

begin() { # name of the output, directory: starts a network, $up is its process
    "$muster" up "$here/tasks/small" --dir "$2" --json --cheats 0 --inference 2 \
        >"$work/$1.out" 2>"$work/$1.err" &
    up=$!
}

begin ample "$work/ample"
wait $up

mkdir "$work/disk"
mount -t tmpfs -o size=5m none "$work/disk"
begin short "$work/disk/net"
until grep -h "full\|No space left" "$work"/disk/net/*.log >"$work/said" 2>/dev/null; do
    kill -0 $up # it has not ended well
    [ $SECONDS -lt 120 ] || { echo "no process said that the disk is full"; exit 1; }
    sleep 0.05
done
kill $up
wait $up || true
up=
head -n 2 "$work/said"

cp -a "$work/disk/net" "$work/larger"
"$muster" ledger audit "$work/larger/orchestrator/ledger" >"$work/audit.err"
begin resumed "$work/larger"
wait $up
up=
"$muster" ledger audit "$work/larger/orchestrator/ledger" >"$work/audit.err"
echo "ample   $(weights "$work/ample.out")"
echo "resumed $(weights "$work/resumed.out")"
[ -n "$(weights "$work/ample.out")" ]
[ "$(weights "$work/ample.out")" = "$(weights "$work/resumed.out")" ]
