#!/usr/bin/env bash
# `muster bench verify` at a reduced size: in class f32-1 every cheated unit is refused and no
# honest one; in open-openblas, where OpenBLAS is installed, no honest one either, and the cheats
# that it is made for are found.
set -euo pipefail

muster=${MUSTER:?the program to test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! "$muster" bench verify --json --what gallery --units 5 --tokens 48 --layers 2 --warmup 40 \
    >"$work/gallery" 2>"$work/err"; then
    if grep -q 'class open-openblas' "$work/err"; then
        echo "not run: $(cat "$work/err")"
        exit 77
    fi
    cat "$work/err"
    exit 1
fi
"$muster" bench verify --json --what honest --honest 60 --tokens 48 --layers 2 --warmup 40 \
    >"$work/honest"

value() { # file, name: the value of that figure
    sed -n 's/^{"name": "'"$2"'", "value": \([0-9.e-]*\),.*/\1/p' "$1" | grep .
}

n=0
for cheat in $("$muster" inference --help | sed -n 's/^  \([a-z0-9-]*\): .*/\1/p'); do
    units=$(value "$work/gallery" "verify_${cheat}_f32-1_units")
    found=$(value "$work/gallery" "verify_${cheat}_f32-1_detected")
    open=$(value "$work/gallery" "verify_${cheat}_open-openblas_detected")
    for class in f32-1 open-openblas; do
        wrong=$(value "$work/gallery" "verify_${cheat}_${class}_unexpected")
        [ "$wrong" = 0.000 ] || { echo "$cheat, $class: $wrong units refused wrongly"; exit 1; }
    done
    n=$((n + 1))
    [ "$units" = 0.000 ] && continue # in so few units it did nothing
    [ "$found" = 1.000 ] || { echo "$cheat: $found of the units found in f32-1"; exit 1; }
    case $cheat in
    hot | top-p | rare-tokens | best-of) continue ;; # one token in a unit may pass
    esac
    [ "$open" = 1.000 ] || { echo "$cheat: $open of the units found in open-openblas"; exit 1; }
done
[ "$n" -ge 27 ] || { echo "only $n cheats"; exit 1; }
for class in f32-1 open-openblas; do
    [ "$(value "$work/honest" "verify_honest_${class}_accepted")" = 1.000 ] ||
        { echo "honest work refused in $class"; exit 1; }
done
echo "$n cheats"
