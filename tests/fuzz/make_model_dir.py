#!/usr/bin/env python3
"""Makes tests/fuzz/corpus/model_dir/: directories of tiny models, packed as fuzz_model_dir.c has it.

    python3 tests/fuzz/make_model_dir.py
"""
import json
import os
import random
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["config.json", "generation_config.json", "model.safetensors.index.json",
         "model.safetensors", "a.safetensors", "b.safetensors", "tokenizer.json",
         "tokenizer_config.json", "chat_template.jinja"]
# The published one of teknium/OpenHermes-2.5-Mistral-7B.
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
          " + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\n' }}{% endif %}")
WIDTH = {"F32": 4, "F16": 2, "BF16": 2}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 16}


def config(kind, name, **more):
    return {"architectures": [name], "model_type": kind, "vocab_size": 5, "hidden_size": 2,
            "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 2, "max_position_embeddings": 32,
            "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2,
            **more}


def shapes(c):
    h, q, kv, ffn = c["hidden_size"], 4, 2, c["intermediate_size"]
    at, kind = "model.layers.0.", c["model_type"]
    out = {"model.embed_tokens.weight": [5, h], "model.norm.weight": [h],
           at + "input_layernorm.weight": [h], at + "post_attention_layernorm.weight": [h],
           at + "self_attn.q_proj.weight": [q, h], at + "self_attn.k_proj.weight": [kv, h],
           at + "self_attn.v_proj.weight": [kv, h], at + "self_attn.o_proj.weight": [h, q],
           at + "mlp.gate_proj.weight": [ffn, h], at + "mlp.up_proj.weight": [ffn, h],
           at + "mlp.down_proj.weight": [h, ffn]}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = [5, h]
    if kind == "qwen2":
        for name, n in (("q", q), ("k", kv), ("v", kv)):
            out[at + f"self_attn.{name}_proj.bias"] = [n]
    if kind == "qwen3":
        out[at + "self_attn.q_norm.weight"] = out[at + "self_attn.k_norm.weight"] = [2]
    return dict(sorted(out.items()))


def tensors(table, dtype):
    header, data, draw = {"__metadata__": {"format": "pt"}}, b"", random.Random(3)
    for name, shape in table.items():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1 + draw.randrange(-8, 9) / 16 for _ in range(n)]
        if dtype == "BF16":
            new = b"".join(struct.pack("<f", v)[2:] for v in values)
        else:
            new = struct.pack(f"<{n}{'f' if dtype == 'F32' else 'e'}", *values)
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(new)]}
        data += new
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def text(x):
    return json.dumps(x, separators=(",", ":")).encode()


def pack(case, files):
    where = os.path.join(HERE, "corpus", "model_dir")
    os.makedirs(where, exist_ok=True)
    with open(os.path.join(where, case), "wb") as f:
        for name, data in files.items():
            f.write(struct.pack("<BH", NAMES.index(name), len(data)) + data)


def single(case, c, dtype, **more):
    pack(case, {"config.json": text(c), "model.safetensors": tensors(shapes(c), dtype), **more})


def split(case, c, dtype):
    table = list(shapes(c).items())
    a, b = dict(table[:6]), dict(table[6:])
    where = {k: "a.safetensors" for k in a} | {k: "b.safetensors" for k in b}
    pack(case, {"config.json": text(c),
                "model.safetensors.index.json": text({"metadata": {"total_size": 1},
                                                      "weight_map": where}),
                "a.safetensors": tensors(a, dtype), "b.safetensors": tensors(b, dtype)})


def byte_level(specials=("<x>",), normalizer=None):
    """A byte-level BPE as GPT-2's, of 256 bytes and two merges."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in visible] + [chr(256 + i) for i in range(256 - len(visible))]
    vocab = {c: i for i, c in enumerate(letters)} | {"th": 256, "the": 257}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 258 + i, "content": name, "single_word": False,
                              "lstrip": False, "rstrip": False, "normalized": False,
                              "special": True} for i, name in enumerate(specials)],
            "normalizer": normalizer, "pre_tokenizer": level, "post_processor": level,
            "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None,
                      "continuing_subword_prefix": "", "end_of_word_suffix": "",
                      "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                      "merges": ["t h", "th e"]}}


def main():
    single("llama", config("llama", "LlamaForCausalLM", tie_word_embeddings=False,
                           rope_theta=1e4, torch_dtype="float32"), "F32",
           **{"tokenizer.json": text({"type": "muster-char", "version": 1, "alphabet": "ab"})})
    single("llama3", config("llama", "LlamaForCausalLM", tie_word_embeddings=True,
                            rope_parameters=LLAMA3, dtype="bfloat16"), "BF16",
           **{"generation_config.json": text({"eos_token_id": [2, 3], "top_p": 0.9})})
    split("mistral", config("mistral", "MistralForCausalLM", tie_word_embeddings=False,
                            rope_theta=1e6, sliding_window=None, torch_dtype="float16"), "F16")
    single("qwen2", config("qwen2", "Qwen2ForCausalLM", tie_word_embeddings=True, rope_theta=1e6,
                           use_sliding_window=False, sliding_window=8), "F32",
           **{"tokenizer.json": text(byte_level()),
              "tokenizer_config.json": text({"eos_token": "<x>"})})
    single("chat", config("qwen2", "Qwen2ForCausalLM", tie_word_embeddings=True), "BF16",
           **{"tokenizer.json": text(byte_level(("<|im_start|>", "<|im_end|>"), {"type": "NFC"})),
              "tokenizer_config.json": text({"eos_token": "<|im_end|>", "chat_template": CHATML}),
              "generation_config.json": text({"eos_token_id": 4})})
    single("jinja", config("qwen2", "Qwen2ForCausalLM", tie_word_embeddings=True), "F16",
           **{"tokenizer.json": text(byte_level(("<|im_start|>", "<|im_end|>"))),
              "chat_template.jinja": CHATML.encode()})
    split("qwen3", config("qwen3", "Qwen3ForCausalLM", tie_word_embeddings=False,
                          layer_types=["full_attention"],
                          rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
                          dtype="bfloat16"), "BF16")


if __name__ == "__main__":
    main()
