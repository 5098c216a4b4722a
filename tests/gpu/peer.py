#!/usr/bin/env python3
"""What PyTorch and transformers do with the shapes of `muster bench passes`, on the same GPU.

    peer.py 0.5b|1.5b|7b [decode NxCONTEXT...] [prefill NxLENGTH...] [train NxLENGTH...]
    peer.py states FOLDER

Decoding: a static cache of `context` tokens, one new token for each of N sequences, greedy, by
a plain loop, not compiled. Prefill: N prompts into an empty cache, the logits of each last token. Training (alone): one step in bf16 autocast with SDPA attention,
cross-entropy over all logits in pieces, and fused AdamW on f32 masters. Random weights. Prints a JSON
object a line: tokens a second, of the median of a few steps.

States: of the model and tokens that `muster bench proofs --peer 'peer.py states' --dir FOLDER` wrote, what every new
token was drawn from, in bf16 (SDPA attention), into FOLDER/states.bf16.
"""
import json
import pathlib
import re
import statistics
import sys
import time

try:
    import torch
    import transformers
    from transformers import Qwen2Config, Qwen2ForCausalLM, StaticCache
except ImportError as missing:
    print(missing)
    sys.exit(77)  # not run

SHAPES = {
    "0.5b": dict(vocab_size=151936, hidden_size=896, num_hidden_layers=24,
                 num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
                 tie_word_embeddings=True),
    "1.5b": dict(vocab_size=151936, hidden_size=1536, num_hidden_layers=28,
                 num_attention_heads=12, num_key_value_heads=2, intermediate_size=8960,
                 tie_word_embeddings=True),
    "7b": dict(vocab_size=152064, hidden_size=3584, num_hidden_layers=28,
               num_attention_heads=28, num_key_value_heads=4, intermediate_size=18944,
               tie_word_embeddings=False),
}
WARM, STEPS, PIECE, SEQUENCES = 2, 5, 2048, 32


def model_of(shape, dtype):
    config = Qwen2Config(max_position_embeddings=32768, use_cache=True, **SHAPES[shape])
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model


def median(step):
    times = []
    for i in range(WARM + STEPS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if i >= WARM:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.inference_mode()
def decode(model, batch, context):
    room = context + WARM + STEPS + 1
    cache = StaticCache(config=model.config, max_cache_len=room)
    state = {"at": context,
             "tokens": torch.randint(0, 1000, (batch, 1), device="cuda")}

    def step():
        position = torch.tensor([state["at"]], device="cuda")
        out = model(state["tokens"], past_key_values=cache, cache_position=position,
                    position_ids=position.expand(batch, 1), use_cache=True)
        state["tokens"] = out.logits[:, -1:].argmax(-1)
        state["at"] += 1
    return batch / median(step)


@torch.inference_mode()
def prefill(model, n_seqs, length):
    tokens = torch.randint(0, 1000, (n_seqs, length), device="cuda")

    def step():
        model(tokens, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1)
    return n_seqs * length / median(step)


def train(model, n_seqs, length):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    tokens = torch.randint(0, 1000, (n_seqs, length), device="cuda")

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            hidden = model.model(tokens, use_cache=False).last_hidden_state.flatten(0, 1)
            leaf = hidden.detach().requires_grad_()
            for piece, want in zip(leaf.split(PIECE), tokens.flatten().split(PIECE)):
                loss = torch.nn.functional.cross_entropy(model.lm_head(piece).float(), want,
                                                         reduction="sum") / tokens.numel()
                loss.backward()
        hidden.backward(leaf.grad)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return n_seqs * length / median(step)


@torch.inference_mode()
def states(folder):
    shape = json.loads((folder / "shape.json").read_text())
    n, first, new = shape["units"], shape["prompt"], shape["new"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype": torch.bfloat16}
    model = Qwen2ForCausalLM.from_pretrained(folder / "model", attn_implementation="sdpa",
                                             **dtype).to(device).eval()
    tokens = torch.frombuffer(bytearray((folder / "tokens.i32").read_bytes()),
                              dtype=torch.int32).view(n, first + new)
    with open(folder / "states.bf16", "wb") as out:
        for some in tokens.split(SEQUENCES):
            hidden = model.model(some[:, :-1].long().to(device), use_cache=False).last_hidden_state
            out.write(hidden[:, first - 1:].contiguous().cpu().view(torch.int16).numpy().tobytes())


def jobs_of(words):
    """(what, n, length) of each size; none if a word is not understood."""
    what, jobs = None, []
    for word in words:
        size = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", word)
        if word in ("decode", "prefill", "train"):
            what = word
        elif what and size:
            jobs.append((what, int(size[1]), int(size[2])))
        else:
            return []
    return jobs


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    if sys.argv[1] == "states":
        states(pathlib.Path(sys.argv[2]))
        return
    shape, jobs = sys.argv[1], jobs_of(sys.argv[2:])
    is_train = any(what == "train" for what, _, _ in jobs)
    if shape not in SHAPES or not jobs or is_train != all(what == "train" for what, _, _ in jobs):
        sys.exit(__doc__)
    model = model_of(shape, torch.float32 if is_train else torch.bfloat16).train(is_train)
    for what, n, length in jobs:
        rate = {"decode": decode, "prefill": prefill, "train": train}[what](model, n, length)
        name = f"decode_b{n}_c{length}_{shape}" if what == "decode" else f"{what}_{n}x{length}_{shape}"
        print(json.dumps({"name": name, "value": round(rate, 1), "unit": "tokens/s",
                          "peer": f"torch {torch.__version__}"}), flush=True)


if __name__ == "__main__":
    main()
