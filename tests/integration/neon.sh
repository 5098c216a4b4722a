#!/usr/bin/env bash
# Builds the numeric core for aarch64 and runs it under qemu: the tests of the kernels with the
# scalar and the NEON backend, and `bench exact`, whose hashes must be those of this machine's
# program. 77 where the compiler or the emulator is missing.
#
#   neon.sh BUILD-FOLDER
set -euo pipefail

muster=${MUSTER:?the program to compare with}
here=$(cd "$(dirname "$0")/../neon" && pwd)
build=$1/neon

for tool in aarch64-linux-gnu-gcc qemu-aarch64 cmake ninja; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 77; }
done
cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
    -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc >"$build.log"
cmake --build "$build" >>"$build.log" 2>&1 || { cat "$build.log"; exit 1; }

run() { # program, arguments: its output only if it fails
    qemu-aarch64 "$build/$1" "${@:2}" >"$build/out" 2>&1 ||
        { tail -n 20 "$build/out"; echo "$*: failed"; exit 1; }
}
for test in math elementary matmul matmul_bf16 attention ops ops_loss ops_optimizer; do
    run test_$test neon
    echo "$test: $(tail -n 1 "$build/out")"
done
run test_model
rows() { # the operations and models of the table, each with its first hash
    awk -F '  +' '$NF == "equal" {print $1, $2}'
}
small="--dim 24 --ffn 50 --layers 2 --vocab 67 --prompt-tokens 9 --new-tokens 2"
for class in f32-1 bf16-1; do
    run bench_exact $small --numerics $class
    grep -q '^neon    1 thread' "$build/out" || { echo "NEON did not run"; exit 1; }
    there=$(tail -n 1 "$build/out" | sed 's/.*equal: *//')
    "$muster" bench exact $small --numerics $class >"$build/here"
    ours=$(tail -n 1 "$build/here" | sed 's/.*equal: *//')
    [ "$there" = "$ours" ] || { echo "$class: $there there, $ours here"; exit 1; }
    [ "$(rows <"$build/here" | wc -l)" = 32 ] || { echo "$class: the table has other rows"; exit 1; }
    diff <(rows <"$build/out") <(rows <"$build/here") || { echo "$class: operations differ"; exit 1; }
    echo "bench exact, $class, both machines: $ours"
done
