#!/usr/bin/env python3
"""Writes engine/unicode_ranges.h: the class of every code point as the Python package `tokenizers`
sees it, whose regex engine (Oniguruma) knows a later Unicode than the C libraries of Debian.

usage: tests/reference/unicode.py > engine/unicode_ranges.h
"""
from tokenizers import AddedToken, Regex, Tokenizer, __version__, models, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CLASSES = [("LU", r"\p{Lu}"), ("LL", r"\p{Ll}"), ("LT", r"\p{Lt}"), ("LM", r"\p{Lm}"),
           ("LO", r"\p{Lo}"), ("M", r"\p{M}"), ("N", r"\p{N}"), ("P", r"\p{P}"),
           ("S", r"\p{S}"), ("SPACE", r"\s")]


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    left = set()
    for base in range(0, len(POINTS), 4096):
        text = "".join(map(chr, POINTS[base:base + 4096]))
        for piece, _ in split.pre_tokenize_str(text):
            left.update(map(ord, piece))
    return [c for c in POINTS if c not in left]


def words():
    """The characters beside which an added token of `single_word` is not seen."""
    t = Tokenizer(models.BPE({"<unk>": 0}, [], unk_token="<unk>", fuse_unk=True))
    t.add_tokens([AddedToken("\ue000\ue001", single_word=True, normalized=False)])
    mark = t.token_to_id("\ue000\ue001")
    return {c for c in POINTS if mark not in t.encode(chr(c) + "\ue000\ue001").ids}


def main():
    value = ["OTHER"] * 0x110000
    for name, pattern in CLASSES:
        for c in matched(pattern):
            value[c] = name
    for c in words():
        value[c] += "|W"
    print("/*\n * The class of every code point, as the package tokenizers " + __version__ +
          " has it: ranges by their\n * first point. Made by tests/reference/unicode.py.\n */")
    print("// clang-format off")
    line, last = "", None
    for c, v in enumerate(value):
        if v == last or 0xD800 <= c <= 0xDFFF:
            continue
        last = v
        item = "{0x%X,%s}," % (c, v)
        if len(line) + len(item) > 95:
            print(line)
            line = ""
        line += item
    print(line)
    print("// clang-format on")


main()
