#!/usr/bin/env bash
# muster model generate: an answer is a function of model, prompt, seed and settings, whether it is printed
# as it comes, as one of many, or as a turn of a conversation.
set -euo pipefail

muster=${MUSTER:?the program to test}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'status=$?; [ $status -eq 0 ] || tail -n 20 "$work"/err; rm -rf "$work"; exit $status' EXIT

fail() {
    echo "FAILED: $1"
    exit 1
}

model=$work/model
/usr/bin/python3 "$here/make_model.py" "$model"

generate() { # options; --template for all that are chats
    "$muster" model generate "$model" --max-new 24 "$@" 2>>"$work/err"
}

field() { # file, line, name: that member of the line's object, as text
    /usr/bin/python3 -c 'import json, sys
print(json.loads(open(sys.argv[1]).read().split("\n")[int(sys.argv[2])])[sys.argv[3]])' "$@"
}

chat=(--template chatml)
cat >"$work/prompts" <<'EOF'
{"prompt": "the first", "id": {"a": 1}}

{"messages": [{"role": "user", "content": "the second"}]}
{"prompt": "the first and the third", "other": 0}
EOF

# ---- many, however they are computed ------------------------------------------------------------
generate --prompts "$work/prompts" "${chat[@]}" --samples 5 --seed 7 --ids >"$work/many"
[ "$(wc -l <"$work/many")" = 15 ] || fail "15 lines"
[ "$(field "$work/many" 4 id)" = "{'a': 1}" ] || fail "the id comes back"
[ "$(field "$work/many" 14 prompt) $(field "$work/many" 14 sample)" = "2 4" ] || fail "order"
for how in "--batch 1" "--batch 3 --threads 1" "--batch 64 --kernels scalar"; do
    # shellcheck disable=SC2086
    generate --prompts "$work/prompts" "${chat[@]}" --samples 5 --seed 7 --ids $how >"$work/got"
    cmp "$work/many" "$work/got" || fail "$how: other answers"
done

# ---- each of them alone -------------------------------------------------------------------------
alone() { # line, options: what is printed for its seed
    generate --seed "$(field "$work/many" "$1" seed)" "${@:2}" >"$work/got"
    field "$work/many" "$1" text >"$work/want"
    # one is decoded to a terminal byte by byte, the other is JSON: half a character at the end aside
    cmp "$work/want" "$work/got" || fail "line $1 alone"
}
alone 3 --prompt 'the first'
alone 7 --prompt 'the second' --chat "${chat[@]}"
printf 'the first and the third' >"$work/text"
alone 12 --file "$work/text"
printf 'the first and the third' | alone 13 --file -

# ---- special tokens are text unless asked for ------------------------------------------------------
spelt=$'<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n'
: >"$work/err"
generate --prompt "$spelt" --json >"$work/got"
grep -q 'W generate special tokens are spelt in prompts=1 ' "$work/err" || fail "no warning"
: >"$work/err"
generate --prompt "$spelt" --special >"$work/got"
grep -q ' W ' "$work/err" && fail "a warning without need"
generate --prompt hello --chat "${chat[@]}" >"$work/want"
cmp "$work/want" "$work/got" || fail "--special is not what the template writes"
generate --prompt 'hello' >/dev/null
grep -q ' W ' "$work/err" && fail "a warning about plain text"

# ---- a conversation is the messages that it is made of -------------------------------------------
brief='Be brief, and say what is so, and what is not so do not say, be it as it may be.'
printf 'hello\n\nand now\n' | "$muster" model generate "$model" --chat "${chat[@]}" --seed 3 \
    --system "$brief" --max-new 9 --stop $'\n' >"$work/talk" 2>"$work/err"
[ "$(wc -l <"$work/talk")" = 2 ] || fail "two answers"
# the second turn finds what the first one computed
grep -q 'done prompt_tokens=.* reused=[1-9]' "$work/err" || fail "nothing reused"
/usr/bin/python3 - "$work/talk" "$brief" >"$work/turns" <<'EOF'
import json, sys
first = open(sys.argv[1]).read().split("\n")[0]
m = [{"role": "system", "content": sys.argv[2]}, {"role": "user", "content": "hello"}]
print(json.dumps({"messages": m}))
m += [{"role": "assistant", "content": first}, {"role": "user", "content": "and now"}]
print(json.dumps({"messages": m}))
EOF
for turn in 0 1; do
    sed -n $((turn + 1))p "$work/turns" >"$work/turn"
    generate --prompts "$work/turn" "${chat[@]}" --seed 3 --max-new 9 --stop $'\n' >"$work/got"
    field "$work/got" 0 text >"$work/want"
    sed -n $((turn + 1))p "$work/talk" | cmp - "$work/want" || fail "turn $turn"
done

# ---- what is cut off -------------------------------------------------------------------------------
generate --prompt abc --temperature 0 >"$work/want"
for how in "--top-k 1" "--top-p 0" "--min-p 1"; do
    # shellcheck disable=SC2086
    generate --prompt abc --seed 5 $how >"$work/got"
    cmp "$work/want" "$work/got" || fail "$how: not the likeliest"
done
generate --prompt abc --seed 5 >"$work/want"
generate --prompt abc --seed 5 --top-k 565 >"$work/got"
cmp "$work/want" "$work/got" || fail "--top-k of all"
generate --prompt abc --seed 5 --top-k 5 >"$work/got"
cmp -s "$work/want" "$work/got" && fail "--top-k 5 changes nothing"

# ---- the text to stop at ----------------------------------------------------------------------------
whole=$(generate --prompt abc --seed 5 --json --max-new 64 | tee "$work/whole" >/dev/null; field "$work/whole" 0 text)
stop=${whole:20:9} # of several tokens: what may become it is held back
want=${whole%%"$stop"*}
[ "$(generate --prompt abc --seed 5 --max-new 64 --stop "$stop")" = "$want" ] || fail "--stop"
generate --prompt abc --seed 5 --max-new 64 --stop "$stop" --json >"$work/got"
[ "$(field "$work/got" 0 text)" = "$want" ] || fail "--stop in JSON"
[ "$(field "$work/got" 0 finish)" = stop ] || fail "finish"
[ "$(field "$work/got" 0 tokens)" -lt 64 ] || fail "--stop goes on"
[ "$(field "$work/whole" 0 finish)" = length ] || fail "finish of the whole"

# ---- what does not fit or go together -------------------------------------------------------------
refused() { # status, pattern, options
    local want=$1 pattern=$2 got=0
    shift 2
    "$muster" model generate "$model" "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    [ $got = "$want" ] && grep -q -e "$pattern" "$work/err" && [ ! -s "$work/out" ] ||
        fail "status $got, wants $want and '$pattern': $*"
}
refused 2 "nothing to continue"
refused 2 "which of them" --prompt a --file b
refused 2 "is for texts, without" --prompt a --chat --special
refused 2 "want a prompt" --chat --json
refused 2 "context is for a conversation" --prompt a --context 9
refused 1 "no chat template; --template" --prompt a --chat
refused 1 "more than the 1 MiB allowed" --prompt a --max-memory 1
: >"$work/none"
refused 1 "has no prompt" --prompts "$work/none"
echo '{"prompt": "a"}{' >"$work/bad"
refused 1 "bad:1: no JSON" --prompts "$work/bad"
printf '\n{"text": "a"}\n' >"$work/bad"
refused 1 'bad:2: wants one of "prompt"' --prompts "$work/bad"
printf '{"messages": [{"role": "user", "content": "a"}]}' >"$work/bad"
refused 1 'bad:1: "messages": the model has no chat template' --prompts "$work/bad"
printf 'one\ntwo\n' | "$muster" model generate "$model" --chat "${chat[@]}" --context 20 \
    >"$work/out" 2>"$work/err" && fail "a conversation beyond --context"
grep -q "the conversation has .* tokens, --context" "$work/err"

echo "all as it should be"
