#!/usr/bin/env python3
"""Makes directories with a tokenizer.json out of vocabularies that Python packages ship:

  qwen     dashscope        qwen.tiktoken, in the form of Qwen2.5
  llama3   llama-models     llama3/tokenizer.model, in the form of Llama 3
  llama    mistral-common   tokenizer.model.v1, in the form of Llama 2 and Mistral 7B (Prepend)
  mistral  mistral-common   mistral_instruct_tokenizer_240323.model.v3 (Metaspace)
  tekken   mistral-common   tekken_240911.json, in the form of Mistral Nemo

usage: tests/reference/published.py OUT WHEEL...    the wheels as pip download leaves them
needs the packages tokenizers and sentencepiece
"""
import base64
import json
import os
import sys
import zipfile

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
          r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def alphabet():
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in prints]
    return {**{b: chr(b) for b in prints}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def added(content, id, special=True, normalized=False, **more):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": normalized, "special": special, **more}


def split(regex):
    return {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
         "use_regex": False}]}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
              "use_regex": False}
SPM_DECODER = {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
PREPEND = {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}


def bos(content, id):
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": content, "type_id": 0}}, sequence],
            "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {content: {"id": content, "ids": [id], "tokens": [content]}}}


def file(vocab, merges, **parts):
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
             "ignore_merges": False, "vocab": vocab, "merges": merges, **parts.pop("model", {})}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": parts.pop("added", []), "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, **parts, "model": model}


def save(out, name, tokenizer, config=None):
    os.makedirs(f"{out}/{name}", exist_ok=True)
    with open(f"{out}/{name}/tokenizer.json", "w", encoding="utf-8") as f:
        json.dump(tokenizer, f, ensure_ascii=False, separators=(",", ":"))
    if config:
        with open(f"{out}/{name}/tokenizer_config.json", "w", encoding="utf-8") as f:
            json.dump(config, f, indent=1)


def merges_of(ranks, start=0):
    """The merges of a vocabulary of byte strings with ranks: for each, the last merge of its own
    encoding with the tokens before it."""
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda x: x[1]):
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best = min(((ranks.get(parts[i] + parts[i + 1], rank), i)
                        for i in range(len(parts) - 1)))
            if best[0] >= rank:
                break
            parts[best[1]:best[1] + 2] = [parts[best[1]] + parts[best[1] + 1]]
        if len(parts) == 2:
            merges.append(parts)
    return merges


def splits_of(ranks):
    """Every pair that makes a token, as transformers converts such vocabularies: with them the
    order of ranks alone decides, as in tiktoken."""
    merges = []
    for token, _ in sorted(ranks.items(), key=lambda x: x[1]):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges += sorted(((a, b) for a, b in pairs if a in ranks and b in ranks),
                         key=lambda p: (ranks[p[0]], ranks[p[1]]))
    return merges


def byte_level(ranks, merges, shift=0):
    letters = alphabet()
    word = lambda b: "".join(letters[x] for x in b)
    return ({word(t): r + shift for t, r in ranks.items()},
            [[word(a), word(b)] for a, b in merges(ranks)])


def tiktoken(data, merges):
    """(vocab, merges) of a file of lines "token in base64, rank"."""
    return byte_level({base64.b64decode(t): int(r)
                       for t, r in map(bytes.split, data.splitlines())}, merges)


def qwen(out, data):
    vocab, merges = tiktoken(data, merges_of)
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    save(out, "qwen", file(
        vocab, [" ".join(m) for m in merges], normalizer={"type": "NFC"}, decoder=BYTE_LEVEL,
        added=[added(s, len(vocab) + i) for i, s in enumerate(specials)] +
        [added("<think>", len(vocab) + 3, False), added("</think>", len(vocab) + 4, False)],
        pre_tokenizer=split(QWEN2), post_processor=BYTE_LEVEL), {"eos_token": "<|im_end|>"})


def llama3(out, data):
    vocab, merges = tiktoken(data, splits_of)
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
                "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
                "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
                "<|python_tag|>", "<|image|>"]
    specials += [f"<|reserved_special_token_{2 + i}|>" for i in range(256 - len(specials))]
    first = bos(specials[0], len(vocab))
    save(out, "llama3", file(
        vocab, merges, model={"ignore_merges": True}, pre_tokenizer=split(LLAMA3),
        added=[added(s, len(vocab) + i) for i, s in enumerate(specials)], decoder=BYTE_LEVEL,
        post_processor={"type": "Sequence", "processors": [BYTE_LEVEL, first]}),
         {"eos_token": "<|eot_id|>"})


def sentencepiece(data):
    import sentencepiece
    sp = sentencepiece.SentencePieceProcessor(model_proto=data)
    words = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    scores = {w: sp.get_score(i) for w, i in words.items()}
    merges = []
    for word in words:
        parts = [(word[:i], word[i:]) for i in range(1, len(word))]
        parts = sorted(((a, b) for a, b in parts if a in words and b in words),
                       key=lambda p: (words[p[0]], words[p[1]]))
        merges += [(a, b, scores[word]) for a, b in parts]
    merges.sort(key=lambda m: m[2], reverse=True)
    controls = [sp.id_to_piece(i) for i in range(sp.get_piece_size())
                if sp.is_control(i) or sp.is_unknown(i)]
    return words, [[a, b] for a, b, _ in merges], controls


def spm(out, name, data, **parts):
    vocab, merges, controls = sentencepiece(data)
    save(out, name, file(
        vocab, merges, model={"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
        added=[added(c, vocab[c]) for c in controls], post_processor=bos("<s>", 1), **parts),
         {"eos_token": "</s>"})


def tekken(out, data):
    j = json.loads(data)
    n_special = j["config"]["default_num_special_tokens"]
    n = j["config"]["default_vocab_size"] - n_special
    ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in j["vocab"][:n]}
    vocab, merges = byte_level(ranks, splits_of, n_special)
    named = {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]"}
    specials = [named.get(i, f"<SPECIAL_{i}>") for i in range(n_special)]
    vocab = {**{s: i for i, s in enumerate(specials)}, **vocab}
    save(out, "tekken", file(
        vocab, merges, model={"ignore_merges": True}, pre_tokenizer=split(TEKKEN),
        added=[added(s, i) for i, s in enumerate(specials)], decoder=BYTE_LEVEL,
        post_processor=bos("<s>", 1)), {"eos_token": "</s>"})


def main():
    out = sys.argv[1]
    for wheel in sys.argv[2:]:
        with zipfile.ZipFile(wheel) as z:
            for name in z.namelist():
                if name.endswith("qwen.tiktoken"):
                    qwen(out, z.read(name))
                elif name == "llama_models/llama3/tokenizer.model":
                    llama3(out, z.read(name))
                elif name.endswith("tokenizer.model.v1"):
                    spm(out, "llama", z.read(name), normalizer=PREPEND, decoder=SPM_DECODER)
                elif name.endswith("mistral_instruct_tokenizer_240323.model.v3"):
                    meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                            "split": False}
                    spm(out, "mistral", z.read(name), pre_tokenizer=meta, decoder=SPM_DECODER)
                elif name.endswith("tekken_240911.json"):
                    tekken(out, z.read(name))


if __name__ == "__main__":
    main()
