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
n_open=0
for cheat in $("$muster" inference --help | sed -n 's/^  \([a-z0-9-]*\): .*/\1/p'); do
    n=$((n + 1))
    classes="f32-1 open-openblas"
    if [ "$(value "$work/gallery" "verify_${cheat}_f32-1_applies" || true)" = 0.000 ]; then
        classes=open-openblas # what it forges is not in submissions of f32-1
        n_open=$((n_open + 1))
    fi
    for class in $classes; do
        wrong=$(value "$work/gallery" "verify_${cheat}_${class}_unexpected")
        [ "$wrong" = 0.000 ] || { echo "$cheat, $class: $wrong units refused wrongly"; exit 1; }
        units=$(value "$work/gallery" "verify_${cheat}_${class}_units")
        found=$(value "$work/gallery" "verify_${cheat}_${class}_detected")
        [ "$units" = 0.000 ] && continue # in so few units it did nothing
        case $class/$cheat in
        open-*/hot | open-*/top-p | open-*/rare-tokens | open-*/best-of) continue ;; # one token may pass
        esac
        [ "$found" = 1.000 ] || { echo "$cheat: $found of the units found in $class"; exit 1; }
    done
    case $cheat in
    copy-*) # known again without a model, but for the first and the last unit
        seen=$(value "$work/gallery" "verify_${cheat}_f32-1_seen")
        awk "BEGIN { exit !($seen >= 0.7) }" || { echo "$cheat: $seen of the units known again"; exit 1; }
        ;;
    esac
done
[ "$n_open" = 6 ] || { echo "$n_open cheats do not apply in f32-1, not 6"; exit 1; }
[ "$n" -ge 28 ] || { echo "only $n cheats"; exit 1; }
for class in f32-1 open-openblas; do
    [ "$(value "$work/honest" "verify_honest_${class}_accepted")" = 1.000 ] ||
        { echo "honest work refused in $class"; exit 1; }
done
"$muster" bench verify --json --what bytes >"$work/bytes"
for class in f32-1 open-openblas; do
    grep "verify_bytes_${class}_of_8x512" "$work/bytes" | grep -q '"ok": true' ||
        { echo "too many bytes in $class:"; cat "$work/bytes"; exit 1; }
done
echo "$n cheats"
