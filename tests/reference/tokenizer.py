#!/usr/bin/env python3
"""The Python package `tokenizers` as the oracle of engine/tokenizer.h.

usage: tests/reference/tokenizer.py vectors OUT GSM8K.jsonl   what tests/vectors/tokenizer holds
       tests/reference/tokenizer.py digests OUT.json DIR...    what test_tokenizer_digests.c reads
       tests/reference/tokenizer.py points DIR MUSTER         every code point, by muster tokenize
       tests/reference/tokenizer.py random DIR MUSTER MB [SEED]
needs the package tokenizers; DIR has a tokenizer.json
"""
import hashlib
import json
import os
import random
import struct
import subprocess
import sys

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import published as p

SIZE = 560
POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


# ---- small tokenizers of each family -------------------------------------------------------------

def train(texts, pre=None, normalizer=None, alphabet=(), size=SIZE):
    """(vocab, merges) of byte-pair encoding trained on `texts`."""
    t = Tokenizer(models.BPE())
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=list(alphabet), show_progress=False))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], model["merges"]


def small_bytes(texts, split, specials, joined=False, **parts):
    pre = Tokenizer.from_str(json.dumps(p.file({"a": 0}, [], pre_tokenizer=split))).pre_tokenizer
    vocab, merges = train(texts, pre, alphabet=pre_tokenizers.ByteLevel.alphabet())
    if joined:
        merges = [" ".join(m) for m in merges]
    names = [p.added(s, len(vocab) + i) if isinstance(s, str) else
             p.added(id=len(vocab) + i, **s) for i, s in enumerate(specials)]
    return p.file(vocab, merges, pre_tokenizer=split, added=names,
                  **{"decoder": p.BYTE_LEVEL, **parts})


def small_pieces(texts, specials, **parts):
    """In the manner of SentencePiece: marks for spaces, bytes for what is no word."""
    spaces = pre_tokenizers.Metaspace()
    words, merges = train(texts, spaces, alphabet="▁éß日", size=SIZE - 256)
    names = ["<unk>", "<s>", "</s>", *specials, *(f"<0x{b:02X}>" for b in range(256)), *words]
    vocab = {w: i for i, w in enumerate(names)}
    return p.file(vocab, merges,
                  model={"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
                  added=[p.added(s, vocab[s]) for s in names[:3 + len(specials)]],
                  post_processor=p.bos("<s>", 1), **parts)


def families(texts):
    """name -> (tokenizer, config)"""
    gpt2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": True}
    header = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
              "<|eot_id|>"]
    odd = [{"content": "<mask>", "lstrip": True}, {"content": "<pad>", "rstrip": True},
           {"content": "<both>", "lstrip": True, "rstrip": True},
           {"content": "word", "single_word": True, "special": False},
           {"content": "né", "normalized": True, "special": False},
           {"content": "  ", "special": False}, {"content": "   ", "special": False}]
    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    llama3 = small_bytes(texts, p.split(p.LLAMA3), header)
    llama3["model"]["ignore_merges"] = True
    bos = p.bos("<|begin_of_text|>", SIZE)
    llama3["post_processor"] = {"type": "Sequence", "processors": [p.BYTE_LEVEL, bos]}
    chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>",
              {"content": "<think>", "special": False}, {"content": "</think>", "special": False}]
    return {
        "gpt2": (small_bytes(texts, gpt2, ["<|endoftext|>"], True),
                 {"eos_token": "<|endoftext|>"}),
        "llama3": (llama3, {"eos_token": "<|eot_id|>"}),
        "qwen": (small_bytes(texts, p.split(p.QWEN2), chatml, True, normalizer={"type": "NFC"}),
                 {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}),
        "marks": (small_bytes(texts, p.split(p.QWEN35), chatml, normalizer={"type": "NFC"}),
                  {"eos_token": "<|im_end|>"}),
        "tekken": (small_bytes(texts, p.split(p.TEKKEN), ["<s>", "</s>", "[INST]", "[/INST]"],
                               post_processor=p.bos("<s>", SIZE)), {"eos_token": "</s>"}),
        "odd": (small_bytes(texts, {**gpt2, "add_prefix_space": True}, odd,
                            normalizer={"type": "NFC"}), {"eos_token": "<mask>"}),
        "llama": (small_pieces(texts, [], normalizer=p.PREPEND, decoder=p.SPM_DECODER),
                  {"eos_token": "</s>"}),
        "mistral": (small_pieces(texts, ["[INST]", "[/INST]"], pre_tokenizer=meta,
                                 decoder=p.SPM_DECODER), {"eos_token": "</s>"}),
        "metaspace": (small_pieces(texts, [], pre_tokenizer={
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
            decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
                     "split": True}), {"eos_token": "</s>"}),
    }


# ---- what goes in --------------------------------------------------------------------------------

NASTY = json.load(open(f"{os.path.dirname(os.path.abspath(__file__))}/../vectors/tokenizer/nasty.json",
                       encoding="utf-8"))
POOLS, BITS = NASTY["pools"], NASTY["bits"]


def nasty(rnd, words, specials):
    """A piece of text that somebody may have trouble with."""
    kind = rnd.randrange(12)
    if kind == 0:
        return rnd.choice(words)
    if kind == 1:
        return rnd.choice(specials)
    if kind == 2:
        return "".join(chr(rnd.choice(POINTS)) for _ in range(rnd.randrange(1, 6)))
    if kind == 3:
        return "".join(chr(rnd.randrange(0x300)) for _ in range(rnd.randrange(1, 6)))
    if kind == 4:
        return " " * rnd.randrange(1, 20)
    if kind == 5:
        return rnd.choice(BITS)
    return "".join(rnd.choice(rnd.choice(POOLS)) for _ in range(rnd.randrange(1, 9)))


def text_of_point(c):
    return f"{c} a{c}b {c}1'{c}\n{c}"


CASES = ["", " ", "Hello world", "Hello  world, it's 12345", "\n", "\n\n \n x", "\t \r\n",
         "'s 'T I'LL we've", "'ſ ſ's", "1234567890 ½ Ⅳ ٣", "ééé e\u0301 \u0344", "日本語 中文 한국어",
         "🤗 👩‍👩‍👧🏽 ❤️", "\u180e\u200b\u3000x", "a" * 300, " " * 70, "▁ ▁▁x", "<|im_end|><s></s>[INST]",
         "word sword word! né ne\u0301 <mask>  x <pad>  y  <both>  z", "<think>hm</think>",
         "ABCdef McDonald HTTPServer ŉ ǅ", "a\u0301\u0301b", "\u0301x \u0301X", "a/b//\nc",
         "\x00\x01\x7f", "\ufeff\U0010ffff\ue000"]


def digest_points(t):
    h = hashlib.blake2b(digest_size=32)
    for base in range(0, len(POINTS), 20000):
        texts = [text_of_point(chr(c)) for c in POINTS[base:base + 20000]]
        for e in t.encode_batch(texts, add_special_tokens=False):
            h.update(struct.pack(f"<{len(e.ids) + 1}I", len(e.ids), *e.ids))
    return h.hexdigest()


def case_of(t, text):
    ids = []
    for special in (False, True):
        t.encode_special_tokens = not special
        ids.append(t.encode(text, add_special_tokens=False).ids)
    special = {"special": ids[1]} if ids[0] != ids[1] else {}
    return {"text": text, "ids": ids[0], **special, "decoded": t.decode(ids[1])}


def vectors(out, jsonl):
    lines = [json.loads(x) for x in open(jsonl, encoding="utf-8")][:400]
    texts = [x["question"] + "\n" + x["answer"] for x in lines]
    for name, (tokenizer, config) in families(texts).items():
        p.save(out, name, tokenizer, config)
        t = Tokenizer.from_file(f"{out}/{name}/tokenizer.json")
        rnd = random.Random(name)
        words = list(t.get_vocab())
        specials = [a["content"] for a in tokenizer["added_tokens"]]
        cases = [case_of(t, text) for text in CASES]
        for _ in range(24):
            pieces = [nasty(rnd, words, specials) for _ in range(rnd.randrange(1, 12))]
            cases.append(case_of(t, "".join(pieces)))
        ids = [rnd.randrange(t.get_vocab_size()) for _ in range(400)]
        t.encode_special_tokens = True
        with open(f"{out}/{name}/cases.json", "w", encoding="utf-8") as f:
            json.dump({"cases": cases, "ids": ids, "decoded": t.decode(ids),
                       "bos": t.encode("").ids}, f,
                      separators=(",", ":"))
        print(name, len(cases), "cases")


# ---- digests of texts that a test can make again ---------------------------------------------------

class Mix:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = z = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        z = (z ^ z >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        return ((z ^ z >> 31) >> 32) * n >> 32


def mixed(mix, words, specials):
    """As nasty(), by test_tokenizer_digests.c's rules."""
    kind = mix.below(12)
    if kind == 0:
        return words[mix.below(len(words))]
    if kind == 1:
        return specials[mix.below(len(specials))]
    if kind == 5:
        return BITS[mix.below(len(BITS))]
    n = 1 + mix.below(19 if kind == 4 else 8 if kind > 5 else 5)
    if kind == 4:
        return " " * n
    out = []
    for _ in range(n):
        if kind == 2:
            out.append(chr(POINTS[mix.below(len(POINTS))]))
        elif kind == 3:
            out.append(chr(mix.below(0x300)))
        else:
            pool = POOLS[mix.below(len(POOLS))]
            out.append(pool[mix.below(len(pool))])
    return "".join(out)


def digest_random(t, sizes):
    """{size in MB: [digest of all ids, digest of all that is decoded]}"""
    words = [t.id_to_token(i) or "" for i in range(t.get_vocab_size())]
    specials = [x.content for _, x in sorted(t.get_added_tokens_decoder().items()) if x.special]
    mix, ids, texts = Mix(1), hashlib.blake2b(digest_size=32), hashlib.blake2b(digest_size=32)
    done, n, out = 0, 0, {}
    for size in sizes:
        while done < size * 1000000:
            n_pieces = 20000 if n % 100 == 99 else 1 + mix.below(400)
            text = "".join(mixed(mix, words, specials) for _ in range(n_pieces))
            for plain in (True, False):
                t.encode_special_tokens = plain
                got = t.encode(text, add_special_tokens=False).ids
                drawn = [mix.below(len(words)) for _ in range(n_pieces)]
                ids.update(struct.pack(f"<{len(got) + 1}I", len(got), *got))
                for some in (got, drawn):
                    said = t.decode(some).encode()
                    texts.update(struct.pack("<I", len(said)) + said)
            done += len(text.encode())
            n += 1
        out[str(size)] = [ids.hexdigest(), texts.hexdigest()]
    return out


def digests(out, *directories):
    made = {}
    for directory in directories:
        with open(f"{directory}/tokenizer.json", "rb") as f:
            file = hashlib.blake2b(f.read(), digest_size=32).hexdigest()
        t = Tokenizer.from_file(f"{directory}/tokenizer.json")
        t.encode_special_tokens = True
        name = os.path.basename(directory.rstrip("/"))
        made[name] = {"file": file, "points": digest_points(t), "random": digest_random(t, (1, 10))}
        print(name, made[name], flush=True)
    with open(out, "w", encoding="utf-8") as f:
        json.dump(made, f, indent=1)
        f.write("\n")


# ---- the same through the program ----------------------------------------------------------------

def muster(program, directory, text, *options):
    out = subprocess.run([program, "tokenize", directory, *options], input=text.encode(),
                         capture_output=True, check=True)
    return out.stdout.decode()


def compare(t, program, directory, texts, *options):
    """How many of `texts`, which have no newline, get other ids."""
    lines = muster(program, directory, "\n".join(texts) + "\n", "--lines", *options).split("\n")
    bad = 0
    for text, line, want in zip(texts, lines, t.encode_batch(texts, add_special_tokens=False)):
        if [int(x) for x in line.split()] != want.ids:
            bad += 1
            print("differs:", repr(text[:200]))
    assert len(lines) == len(texts) + 1
    return bad


def points(directory, program):
    t = Tokenizer.from_file(f"{directory}/tokenizer.json")
    t.encode_special_tokens = True
    texts = [text_of_point(chr(c)).replace("\n", "\r") for c in POINTS if c != 10]
    bad = compare(t, program, directory, texts)
    print(f"{directory}: {len(texts)} code points, {bad} mismatches")


def random_text(directory, program, megabytes, seed="1"):
    t = Tokenizer.from_file(f"{directory}/tokenizer.json")
    added = json.load(open(f"{directory}/tokenizer.json", encoding="utf-8"))["added_tokens"]
    words, specials = list(t.get_vocab()), [a["content"] for a in added] or ["<s>"]
    rnd = random.Random(int(seed))
    total = bad = n = 0
    while total < float(megabytes) * 1e6:
        texts = ["".join(nasty(rnd, words, specials) for _ in range(rnd.randrange(1, 400)))
                 for _ in range(1000)]
        whole = "".join(texts)
        texts = [x.replace("\n", "\u2028\r") for x in texts]
        total += len(whole.encode())
        for option in ([], ["--special"]):
            t.encode_special_tokens = not option
            bad += compare(t, program, directory, texts, *option)
        t.encode_special_tokens = True
        want = t.encode(whole, add_special_tokens=False).ids
        got = [int(x) for x in muster(program, directory, whole).split()]
        bad += got != want
        ids = want if n % 2 == 0 else [rnd.randrange(t.get_vocab_size()) for _ in want]
        text = muster(program, directory, " ".join(map(str, ids)), "--decode", "-")[:-1]
        bad += text != t.decode(ids)
        n += 1
    print(f"{directory}: {total / 1e6:.1f} MB of random text, {bad} mismatches")


def main():
    {"vectors": vectors, "digests": digests, "points": points,
     "random": random_text}[sys.argv[1]](*sys.argv[2:])


main()
