#!/usr/bin/env bash
# The engine with its tests and benches builds where nothing is installed but a compiler, CMake, and ninja
# or make, and computes the same bits as this program.
set -euo pipefail

muster=${MUSTER:?the program to test}
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

generator="Unix Makefiles"
command -v ninja >/dev/null && generator=Ninja
# CFLAGS: as fast as it compiles
PKG_CONFIG_LIBDIR=/nonexistent CFLAGS=-O0 cmake -S "$source" -B "$work/build" -G "$generator" \
    -DMUSTER_ENGINE_ONLY=ON -DMUSTER_CUDA=OFF -DCMAKE_BUILD_TYPE=None >"$work/configured" ||
    { cat "$work/configured"; exit 1; }
cmake --build "$work/build" -j2 --target muster-engine test_unit_engine_math >"$work/built" 2>&1 ||
    { tail -n 30 "$work/built"; exit 1; }

# Nothing of any library was read, though they may be installed here.
if [ "$generator" = Ninja ]; then
    ninja -C "$work/build" -t deps >"$work/read"
else
    find "$work/build" -name '*.d' -exec cat {} + >"$work/read"
fi
grep -q 'engine/model.h' "$work/read"
if grep -oE '/usr/[^ ]*/(jansson|sodium|lmdb|utf8proc|cmocka|zmq|zstd|pcre2|lua)[^ ]*' "$work/read"; then
    echo "the build of the engine alone reads headers of libraries"
    exit 1
fi

"$work/build/tests/unit/test_unit_engine_math" scalar >"$work/math" || { cat "$work/math"; exit 1; }
small="--layers 1 --prompt-tokens 9 --new-tokens 2"
# shellcheck disable=SC2086 # words
"$work/build/muster-engine" bench exact $small | tail -n 1 >"$work/one"
# shellcheck disable=SC2086
"$muster" bench exact $small | tail -n 1 >"$work/other"
cmp "$work/one" "$work/other"

# What needs a library is refused by name.
if "$work/build/muster-engine" bench exact "$work" 2>"$work/err"; then exit 1; fi
grep -q 'built without JSON' "$work/err"
