#!/usr/bin/env bash
# `muster model convert` of the small checkpoints: what it writes is the same model, to `model info`
# and bit for bit to `model logits`, in one file or several; it overwrites nothing.
#
#   convert.sh CHECKPOINTS
set -euo pipefail

muster=${MUSTER:?the program to test}
from=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $1"
    exit 1
}

logits() { # directory: of a few tokens, into $work/NAME
    "$muster" model logits "$1" --tokens "1 95 17 4 4 60" --out "$2"
}

root() { # directory: the digest of its f32 numbers
    "$muster" model info "$1" | sed -n 's/^root  *//p'
}

# A conversion that finds no room leaves nothing in the way of the next.
if (
    trap '' XFSZ
    ulimit -f 8
    "$muster" model convert "$from/qwen2" --out "$work/full" 2>"$work/err"
); then fail "files of more than 8 KiB were written"; fi
[ -z "$(ls -A "$work/full")" ] || fail "a conversion that failed leaves $(ls "$work/full")"
"$muster" model convert "$from/qwen2" --out "$work/full" >/dev/null

for model in $(ls "$from"); do
    logits "$from/$model" "$work/want"
    for how in "" "--dtype f32" "--shard-bytes 20000"; do
        out=$work/out/$model${how// /}
        "$muster" model convert "$from/$model" --out "$out" $how >"$work/said"
        grep -q 'parameters as' "$work/said" || fail "$model $how: says nothing"
        [ "$(root "$out")" = "$(root "$from/$model")" ] || fail "$model $how: another root"
        logits "$out" "$work/got"
        cmp "$work/want" "$work/got" || fail "$model $how: other logits"
        cmp "$from/$model/generation_config.json" "$out/generation_config.json"
        [ ! -e "$out/expected.safetensors" ] || fail "$model $how: copies what is not of a model"
    done
    [ -e "$work/out/$model/model.safetensors" ] || fail "$model: one file"
    [ "$(ls "$work/out/$model--shard-bytes20000"/model-*-of-*.safetensors | wc -l)" -ge 2 ] ||
        fail "$model: several files"
done

# bf16 is half as large, is said to be it, and is what rounding once and again gives.
"$muster" model convert "$from/llama2" --out "$work/bf16" --dtype bf16 >"$work/said"
grep -q bfloat16 "$work/said" "$work/bf16/config.json" || fail "bf16 is not said"
"$muster" model info "$work/bf16" | grep -q 'stored as  *BF16, 47424 bytes' || fail "bf16's size"
[ "$(root "$work/bf16")" != "$(root "$from/llama2")" ] || fail "bf16 rounds nothing"
"$muster" model convert "$work/bf16" --out "$work/wide" --dtype f32 >"$work/said"
[ "$(root "$work/bf16")" = "$(root "$work/wide")" ] || fail "widening is not exact"

# Nothing is overwritten, whatever of a model is there, and the source is no target.
for name in config.json model.safetensors model.safetensors.index.json tokenizer.json; do
    mkdir -p "$work/there/$name.d"
    echo precious >"$work/there/$name.d/$name"
    if "$muster" model convert "$from/llama2" --out "$work/there/$name.d" 2>"$work/err"; then
        fail "$name is overwritten"
    fi
    grep -q "$name' is there already" "$work/err" || fail "$name: $(cat "$work/err")"
    [ "$(ls "$work/there/$name.d")" = "$name" ] || fail "$name: something was written beside it"
done
cp -r "$from/llama2" "$work/same"
! "$muster" model convert "$work/same" --out "$work/same" 2>"$work/err" || fail "onto itself"
diff -r "$from/llama2" "$work/same"

# A model that is refused makes no directory.
mkdir "$work/odd"
sed 's/"silu"/"gelu"/' "$from/llama2/config.json" >"$work/odd/config.json"
! "$muster" model convert "$work/odd" --out "$work/none" 2>"$work/err" || fail "gelu"
grep -q 'hidden_act is "gelu", which is not supported' "$work/err" || fail "$(cat "$work/err")"
[ ! -e "$work/none" ] || fail "a directory was made"
