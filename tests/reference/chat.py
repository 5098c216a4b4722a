#!/usr/bin/env python3
"""Jinja and transformers' apply_chat_template as the oracle of engine/chat.h.

usage: tests/reference/chat.py digests FAMILY=TEMPLATE... > engine/chat_digests.h
       tests/reference/chat.py cases FAMILY=TEMPLATE... > tests/vectors/chat.json

A TEMPLATE is a file with a published template's text; where each came from stands beside its digest
in engine/chat_digests.h. The first of a family makes its cases; the others must agree.
needs the packages transformers and jinja2
"""
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOKENIZERS = {"chatml": "qwen", "qwen2.5": "qwen", "qwen3": "qwen", "llama3": "llama3",
              "llama3.1": "llama3", "llama3.2": "llama3", "mistral": "llama", "mistral-v0.1": "llama",
              "mistral-system": "llama", "mistral-v3": "mistral", "mistral-tekken": "tekken"}
BOS = {"llama3": "<|begin_of_text|>"}
DATES = {"llama3.2": "05 Mar 2025"}


def conversation(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[r], "content": c} for r, c in turns]


CONVERSATIONS = [
    conversation(("u", "Hi")),
    conversation(("s", "Be brief."), ("u", "What is 2 + 2?")),
    conversation(("u", "Hello"), ("a", "Hi there!"), ("u", "Who are you?"), ("a", "A model.")),
    conversation(("s", "Be kind.\n"), ("u", "  spaces  "), ("a", "\n\nyes "), ("u", "ok\t")),
    conversation(("s", ""), ("u", ""), ("a", ""), ("u", "é 日本 🤗")),
    conversation(("u", "x"), ("a", "<think>\nhm\n</think>\n\n4"), ("u", "y"),
                 ("a", "<think>\nso\n\n</think>\n\n5")),
    conversation(("u", "x"), ("a", "a</think>b</think>c"), ("u", "y"), ("a", "plain")),
    conversation(("u", "x"), ("a", "one"), ("a", "two </think> 2"), ("a", "three")),
    conversation(("u", "x"), ("s", "later"), ("u", "y")),
    conversation(("u", "q"), ("a", "r"), ("u", "<tool_response>1</tool_response>"), ("a", "s")),
    conversation(("a", "first"), ("u", "x")),
    conversation(("s", "only")),
]


def templates(arguments):
    for a in arguments:
        family, path = a.split("=", 1)
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        yield family, os.path.basename(path), text[:-1] if text.endswith("\n") else text


def digests(arguments):
    print("/* Made by tests/reference/chat.py. */\n// clang-format off")
    for family, name, text in templates(arguments):
        digest = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
        print(f'{{"{digest}", "{family}"}}, /* {name} */')


def tokenizer(name):
    from transformers import PreTrainedTokenizerFast
    directory = f"{HERE}/../vectors/tokenizer/{name}"
    eos = json.load(open(f"{directory}/tokenizer_config.json"))["eos_token"]
    return PreTrainedTokenizerFast(tokenizer_file=f"{directory}/tokenizer.json",
                                   bos_token=BOS.get(name, "<s>") if name != "qwen" else None,
                                   eos_token=eos)


def render(t, messages, prompt, **more):
    try:
        out = t.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=True,
                                    return_dict=False, **more)
        return list(out)
    except Exception as e:  # the template's own raise_exception, or what Jinja does without
        return str(e)


def cases(arguments):
    done = {}
    for family, _, text in templates(arguments):
        t = tokenizer(TOKENIZERS[family])
        t.chat_template = text
        made, date = [], {"date_string": DATES[family]} if family in DATES else {}
        for messages in CONVERSATIONS:
            for prompt in (False, True):
                got = render(t, messages, prompt, **date)
                made.append({"messages": messages, "prompt": prompt,
                             "ids": got if isinstance(got, list) else None})
        if done.setdefault(family, made) != made:
            sys.exit(f"the templates of {family} differ")
    print(json.dumps([{"family": f, "tokenizer": TOKENIZERS[f], "date": DATES.get(f), "cases": c}
                      for f, c in done.items()], separators=(",", ":")))


{"digests": digests, "cases": cases}[sys.argv[1]](sys.argv[2:])
