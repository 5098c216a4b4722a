#!/usr/bin/env python3
"""A model with random weights for any config.json that muster reads.

  make_model.py DIR CONFIG     CONFIG is the text of config.json
  make_model.py DIR            a small Qwen2, with the tokenizer of tests/vectors that knows special tokens

Norms are about 1, everything else about 0, biases too: nothing is left at a value that hides it.
"""
import json
import os
import random
import shutil
import struct
import sys


SMALL = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 565,
         "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
         "max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
         "rope_theta": 10000.0, "hidden_act": "silu"}
TOKENIZER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../vectors/tokenizer/qwen")


def shapes(c):
    dim, ffn = c["hidden_size"], c["intermediate_size"]
    head = c["head_dim"]
    q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    kind = c["model_type"]
    qkv_bias = kind == "qwen2" or c.get("attention_bias", False)
    o_bias = kind != "qwen2" and c.get("attention_bias", False)

    yield "model.embed_tokens.weight", [c["vocab_size"], dim]
    yield "model.norm.weight", [dim]
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", [c["vocab_size"], dim]
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        yield at + "input_layernorm.weight", [dim]
        yield at + "post_attention_layernorm.weight", [dim]
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield at + f"self_attn.{name}_proj.weight", [rows, dim]
            if qkv_bias:
                yield at + f"self_attn.{name}_proj.bias", [rows]
        yield at + "self_attn.o_proj.weight", [dim, q]
        if o_bias:
            yield at + "self_attn.o_proj.bias", [dim]
        if kind == "qwen3":
            yield at + "self_attn.q_norm.weight", [head]
            yield at + "self_attn.k_norm.weight", [head]
        yield at + "mlp.gate_proj.weight", [ffn, dim]
        yield at + "mlp.up_proj.weight", [ffn, dim]
        yield at + "mlp.down_proj.weight", [dim, ffn]


def main():
    where = sys.argv[1]
    text = sys.argv[2] if len(sys.argv) > 2 else json.dumps(SMALL)
    draw = random.Random(7)
    header, data = {}, b""
    for name, shape in shapes(json.loads(text)):
        n = 1
        for d in shape:
            n *= d
        centre = 1.0 if "norm" in name else 0.0
        values = struct.pack(f"<{n}f", *(centre + 0.4 * (draw.random() - 0.5) for _ in range(n)))
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    os.makedirs(where)
    with open(os.path.join(where, "config.json"), "w", encoding="ascii") as f:
        f.write(text)
    with open(os.path.join(where, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)
    if len(sys.argv) == 2:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(TOKENIZER, name), where)


main()
