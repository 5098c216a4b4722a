#!/usr/bin/env python3
"""Makes tests/reference/checkpoints/: small random models of every family that muster reads, and
what Hugging Face transformers computes with them in float32 on a CPU.

    python3 tests/reference/checkpoints.py make           writes the directories again
    python3 tests/reference/checkpoints.py check DIR...   DIR is what muster wrote of the directory
                                                          of the same name here: transformers loads
                                                          it and computes the same logits,
                                                          in version 4 as in 5

Needs torch, transformers, safetensors and numpy; the tests need none of them, they read what is
here. Each directory holds a checkpoint (config.json, tensors) and expected.safetensors:

    tokens        (280)        a sequence, ids as F32, as are all ids here
    logits        (40, V)      after its last 40 tokens
    continuation  (64)         the likeliest next token, 64 times
    batch         (301)        sequences of 270, 24 and 7 tokens end to end
    losses        (11)         its mean cross-entropy, before each of ten steps of AdamW and after
    grad.<name>                of that loss before the first step

The length of 280 takes attention over the 256 positions that muster computes at once.
"""
import json
import os
import shutil
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch_file
from transformers import AutoModelForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "checkpoints")
VOCAB, LENGTHS, N_PROMPT, N_ROWS, N_NEW = 96, (270, 24, 7), 280, 40, 64
STEPS, LR, BETAS, EPS, DECAY, CLIP = 10, 3e-3, (0.9, 0.95), 1e-8, 0.1, 1.0

SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 512, "bos_token_id": 1}

# name: (model_type, version of transformers that would have written its config.json, dtype of the
# files, bytes of a shard, seed, what else is in config.json)
CASES = {
    # MHA, a head of its own
    "llama2": ("llama", "4.55.0", "float32", None, 1, {
        "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "rope_scaling": None, "attention_bias": False, "mlp_bias": False, "eos_token_id": 2,
        "tie_word_embeddings": False, "pretraining_tp": 1}),
    # as Llama 2's first files: the base and the heads of keys left unsaid; several files, F16
    "llama2_first": ("llama", "4.31.0", "float16", 20000, 7, {
        "rms_norm_eps": 1e-5, "rope_scaling": None, "eos_token_id": 2,
        "tie_word_embeddings": False, "pretraining_tp": 1}),
    # grouped, tied; frequencies that are kept (1), mixed (1) and slowed down (2)
    "llama3": ("llama", "5", "bfloat16", None, 2, {
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "eos_token_id": [2, 3],
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
                            "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                            "original_max_position_embeddings": 256}}),
    # the same frequencies as rope_scaling has them, untied, several files
    "llama3_untied": ("llama", "4.43.0", "bfloat16", 20000, 8, {
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "eos_token_id": [2, 3, 4], "attention_bias": False, "mlp_bias": False,
        "tie_word_embeddings": False, "pretraining_tp": 1,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 256, "rope_type": "llama3"}}),
    # biases everywhere in attention
    "llama_biases": ("llama", "5", "float32", None, 3, {
        "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "eos_token_id": 2, "attention_bias": True,
        "tie_word_embeddings": True, "hidden_size": 24,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    # several files, F16, heads wider than hidden / heads
    "mistral": ("mistral", "4.55.0", "float16", 20000, 4, {
        "num_key_value_heads": 2, "head_dim": 12, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "sliding_window": None, "eos_token_id": 2, "tie_word_embeddings": False}),
    # as transformers 5 writes it; tied
    "mistral_tied": ("mistral", "5", "bfloat16", None, 9, {
        "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "sliding_window": None,
        "eos_token_id": 2, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    # biases of q, k and v, tied, a window that is not used
    "qwen2": ("qwen2", "4.55.0", "float32", None, 5, {
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "use_sliding_window": False, "sliding_window": 64, "max_window_layers": 2,
        "eos_token_id": 2, "tie_word_embeddings": True}),
    # as transformers 5 writes it; untied, several files
    "qwen2_untied": ("qwen2", "5", "bfloat16", 20000, 10, {
        "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "use_sliding_window": False,
        "eos_token_id": [2, 3], "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    # norms of q and k, heads narrower than hidden / heads
    "qwen3": ("qwen3", "5", "bfloat16", None, 6, {
        "num_key_value_heads": 2, "head_dim": 6, "rms_norm_eps": 1e-6, "eos_token_id": [2, 3],
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}}),
    # dtype beside rope_theta, as the last of transformers 4; heads wider, biases, tied
    "qwen3_tied": ("qwen3", "4.57.3", "float32", None, 11, {
        "num_key_value_heads": 2, "head_dim": 10, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "rope_scaling": None, "attention_bias": True, "use_sliding_window": False,
        "sliding_window": None, "max_window_layers": 2, "eos_token_id": [2, 3],
        "tie_word_embeddings": True}),
}
CLASS = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
         "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def config_4(kind, version, dtype, keys):
    """As transformers 4 wrote it: rope_theta, rope_scaling and torch_dtype, from 4.56 on dtype."""
    name = "torch_dtype" if version < "4.56" else "dtype"
    return {"architectures": [CLASS[kind]], **SIZES, "hidden_act": "silu",
            "initializer_range": 0.02, "model_type": kind, name: dtype,
            "transformers_version": version, "use_cache": True, **keys}


def fill(model, seed):
    """Numbers that make every nonlinearity bend, and nothing that hides what is missing."""
    draw = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        x = torch.randn(p.shape, generator=draw)
        if "norm" in name:
            x = 1 + 0.2 * x
        elif name.endswith("bias"):
            x = 0.3 * x
        else:
            x = x * 1.5 / p.shape[1] ** 0.5
        p.data.copy_(x)


def write_model(case):
    kind, version, dtype, shard, seed, keys = CASES[case]
    where = os.path.join(HERE, case)
    shutil.rmtree(where, ignore_errors=True)
    cfg = transformers.AutoConfig.for_model(kind, **{**SIZES, **keys})
    model = AutoModelForCausalLM.from_config(cfg, dtype=torch.float32)
    fill(model, seed)
    model = model.to(getattr(torch, dtype))
    model.save_pretrained(where, **({"max_shard_size": shard} if shard else {}))
    if version != "5":
        with open(os.path.join(where, "config.json"), "w", encoding="ascii") as f:
            json.dump(config_4(kind, version, dtype, keys), f, indent=2)
            f.write("\n")
    return where


def load(where, dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, attn_implementation="eager")
    return model.eval()


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0]


def continue_greedily(model, tokens):
    """Also the smallest distance between the likeliest and the second."""
    tokens, margin = list(tokens), 1e9
    for _ in range(N_NEW):
        top = logits_of(model, tokens)[-1].topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        tokens.append(int(top.indices[0]))
    return tokens[-N_NEW:], margin


def loss_of(model, batch):
    total, n, at = 0, 0, 0
    for length in LENGTHS:
        ids = torch.tensor([batch[at:at + length]])
        logits = model(ids).logits[0, :-1]
        total = total + torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
        n += length - 1
        at += length
    return total / n


def distance(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def gradients(model, batch):
    model.zero_grad()
    loss = loss_of(model, batch)
    loss.backward()
    return {n: p.grad.numpy().copy() for n, p in model.named_parameters()}


def train(model, batch):
    step = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    losses, norms = [], []
    for _ in range(STEPS):
        step.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item())
        step.step()
        losses.append(loss.item())
    losses.append(loss_of(model, batch).item())
    return np.array(losses), norms


def expect(case):
    where = write_model(case)
    draw = np.random.default_rng(1000 + CASES[case][4])
    tokens = [int(t) for t in draw.integers(0, VOCAB, N_PROMPT)]
    batch = [int(t) for t in draw.integers(0, VOCAB, sum(LENGTHS))]
    out = {"tokens": np.array(tokens), "batch": np.array(batch)}

    model, exact = load(where), load(where, torch.float64)
    logits = logits_of(model, tokens)[-N_ROWS:]
    logits_exact = logits_of(exact, tokens)[-N_ROWS:]
    out["logits"] = logits.numpy()
    out["continuation"], margin = continue_greedily(model, tokens)
    grads, grads_exact = gradients(model, batch), gradients(exact, batch)
    for name, g in grads.items():
        out["grad." + name] = g

    out["losses"], norms = train(model, batch)
    losses = out["losses"]
    losses_exact, _ = train(exact, batch)
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in out.items()},
              os.path.join(where, "expected.safetensors"))

    print(f"{case}: {sum(g.size for g in grads.values())} parameters, "
          f"smallest margin {margin:.1e}, {len(set(out['continuation']))} different tokens, "
          f"norm {norms[0]:.2f}..{norms[-1]:.2f}, loss {losses[0]:.4f}..{losses[-1]:.4f}; "
          "float32 from float64: "
          f"logits {distance(logits, logits_exact):.1e}, "
          f"gradients {max(distance(grads[n], grads_exact[n]) for n in grads):.1e}, "
          f"losses {max(abs(losses - losses_exact)):.1e}")


def tensors_of(where):
    names = sorted(f for f in os.listdir(where)
                   if f.startswith("model") and f.endswith(".safetensors"))
    return {k: v for f in names for k, v in load_torch_file(os.path.join(where, f)).items()}


def check(where):
    """muster may have rounded the numbers to bfloat16: then only those are compared."""
    theirs = os.path.join(HERE, os.path.basename(os.path.normpath(where)))
    expected = load_file(os.path.join(theirs, "expected.safetensors"))
    mine, original = tensors_of(where), tensors_of(theirs)
    dtype = next(iter(mine.values())).dtype
    got = logits_of(load(where), [int(t) for t in expected["tokens"]])[-N_ROWS:]
    far = distance(got, expected["logits"])
    is_rounded = any(not torch.equal(v.float(), v.to(dtype).float()) for v in original.values())
    is_same = mine.keys() == original.keys() and all(
        v.dtype == dtype and torch.equal(v, original[k].to(dtype)) for k, v in mine.items())
    print(f"{where}: transformers {transformers.__version__}, {dtype}, tensors "
          f"{'the same' if is_same else 'DIFFERENT'}, logits {far:.1e} from what is expected"
          f"{' (rounded)' if is_rounded else ''}")
    return is_same and (is_rounded or far <= 2e-5)


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    if sys.argv[1:] == ["make"]:
        for case in CASES:
            expect(case)
    elif len(sys.argv) > 2 and sys.argv[1] == "check":
        sys.exit(0 if all([check(d) for d in sys.argv[2:]]) else 1)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
