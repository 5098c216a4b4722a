#!/usr/bin/env bash
# tests/gpu/run, the script for a machine with a GPU: its options, and that it tells passed, failed and not run
# apart. In a tree of its own, whose "programs" are scripts that say what they were called with.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tests/gpu" "$work/tests/unit/engine" "$work/build/gpu-run"
cp "$here/tests/gpu/run" "$work/tests/gpu/"
for test in one gemm open open_thin; do touch "$work/tests/unit/engine/test_device_$test.c"; done
run=$work/tests/gpu/run
printf '#!/bin/sh\n' >"$work/tests/gpu/build"
printf 'import sys\nsys.exit(77)\n' >"$work/tests/gpu/peer.py"

# program NAME: logs its arguments; what they mean to it is in the rest of the line.
program() {
    printf '#!/bin/sh\necho "$(basename "$0") $*" >>%s/calls\n%s\n' "$work" "$2" >"$work/build/gpu-run/$1"
    chmod +x "$work/build/gpu-run/$1"
}
program muster-engine 'case "$*" in
*sampling*) exit 1 ;;
*shrinking*) echo "{\"name\": \"shrinking\", \"value\": 5, \"unit\": \"graphs\", \"target\": null, \"ok\": true}" ;;
esac'
program test_unit_engine_device_one 'exit 0'
program test_unit_engine_device_gemm 'exit 77'
chmod +x "$work/tests/gpu/build"

# ends STATUS ARGUMENT...: what it printed is in $work/told
ends() {
    local want=$1 status=0
    shift
    "$run" "$@" >"$work/told" 2>&1 || status=$?
    [ $status = "$want" ] || { echo "run $*: status $status, not $want"; cat "$work/told"; exit 1; }
}

for bad in nosuch --nosuch --only '--only nosuch' '--first nosuch' --seconds '--seconds 0' '--seconds 1x' \
    '--slow -1' '--only a --first b' '--only machine --only machine'; do
    # shellcheck disable=SC2086 # words
    ends 2 $bad
    grep -q -- '--help says how' "$work/told"
done
ends 0 --help
grep -q -- '--first NAMES' "$work/told"

# The list, all of it and of some; nothing is built or run.
ends 0 --list
grep -qx 'racecheck device_gemm' "$work/told"
grep -qx 'peer training 1.5b' "$work/told"
ends 0 --list --only 'racecheck device,f32-1 decode' bench sanitizer
[ "$(cat "$work/told")" = "$(printf 'f32-1 decode\nracecheck device_ops\nracecheck device_gemm\nracecheck device_open_thin')" ]
ends 0 --list --only 'check device_open$'
[ "$(cat "$work/told")" = "$(printf 'memcheck device_open\ninitcheck device_open')" ]
ends 0 --list --only unfinished
[ "$(cat "$work/told")" = "$(printf 'cost of proofs\ninitcheck device_open')" ]
[ ! -e "$work/calls" ]

# Only what was named, and what came of it.
ends 1 --only 'sampling,shrinking,f32-1 decode' bench
grep -q '^FAILED  .*  sampling (status 1)$' "$work/told"
grep -q '^shrinking 5 graphs goal null true$' "$work/told"
grep -q '^passed: 2  FAILED: 1  not run: 0' "$work/told"
[ "$(wc -l <"$work/calls")" = 3 ]

# What exits with 77, lacks its program, or finds no time left was not run, and is no failure.
ends 0 --only 'device_one,device_gemm,network,peer decode and prefill 7b' --out "$work/out" tests network peer
grep -q '^passed: 1  FAILED: 0  not run: 3' "$work/told"
grep -q '^not run  network: there is no ' "$work/told"
grep -q '^passed .* device_one (status 0)$' "$work/out/tests.txt"
rm "$work/calls"
mkdir "$work/smi"
printf '#!/bin/sh\necho 81559\n' >"$work/smi/nvidia-smi"
chmod +x "$work/smi/nvidia-smi"
PATH=$work/smi:$PATH ends 0 --only '7b 4096' bench
grep -q '^not run  open-cuda decode 7b 4096: the GPU has 81559 MiB of memory, not 140000$' "$work/told"
[ ! -e "$work/calls" ]
sed -i s/81559/143771/ "$work/smi/nvidia-smi"
PATH=$work/smi:$PATH ends 0 --only '7b 4096' bench
grep -q '^passed   open-cuda decode 7b 4096$' "$work/told"
rm "$work/calls"
printf '#!/bin/sh\necho "[N/A]"\n' >"$work/smi/nvidia-smi"
PATH=$work/smi:$PATH ends 0 --only '7b 4096' bench
grep -q '^not run  open-cuda decode 7b 4096: the GPU has 0 MiB' "$work/told"
ends 0 --seconds 1 bench
grep -q '^passed: 0  FAILED: 0  not run: [1-9]' "$work/told"
[ ! -e "$work/calls" ]

# First those named, then the others, each of them once.
ends 1 --first 'shrinking,sampling' bench
[ "$(head -n 2 "$work/calls" | grep -c 'shrinking\|sampling')" = 2 ]
[ "$(grep -c 'shrinking\|sampling' "$work/calls")" = 2 ]
[ "$(sed -n 3p "$work/calls")" = "muster-engine bench device" ]
