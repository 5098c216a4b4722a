#!/usr/bin/env python3
"""Training steps in PyTorch, of the shapes of `muster bench train`, to measure both in one run.

usage: bench_torch.py [--muster PROGRAM] [--shape 15m|110m] [--rounds 3] [options]

With --muster the two take turns, each round in a process of its own, and the figures of both are
printed side by side; without it, PyTorch's alone. Float32, AdamW (fused), norm clip 1, attention by
scaled_dot_product_attention: what one would write who wants it fast. Needs torch (CPU will do).
"""
import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

SHAPES = {"15m": (288, 6, 6, 768), "110m": (768, 12, 12, 2048)}
VOCAB = 32000


def train(o):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    torch.set_num_threads(o.threads)
    torch.manual_seed(1)
    dim, layers, heads, ffn = SHAPES[o.shape]

    angle = torch.outer(torch.arange(o.length).float(),
                        10000.0 ** (-torch.arange(0, dim // heads, 2).float() / (dim // heads)))
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()

    def rope(x):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(dim, 1e-5), nn.RMSNorm(dim, 1e-5)
            self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
            self.gate, self.up = nn.Linear(dim, ffn, bias=False), nn.Linear(dim, ffn, bias=False)
            self.down = nn.Linear(ffn, dim, bias=False)

        def forward(self, x):
            h = self.norm1(x)
            q, k, v = (p(h).view(*h.shape[:2], heads, -1).transpose(1, 2)
                       for p in (self.q, self.k, self.v))
            a = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True)
            x = x + self.o(a.transpose(1, 2).reshape(x.shape))
            h = self.norm2(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(VOCAB, dim)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(layers))
            self.norm = nn.RMSNorm(dim, 1e-5)

        def forward(self, ids):
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x)
            return F.linear(self.norm(x), self.embed.weight)

    model = Model()
    opt = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    ids = torch.randint(VOCAB, (o.batch, o.length + 1))
    times = []
    for _ in range(o.steps + 1):  # the first one is not counted
        start = time.perf_counter()
        loss = F.cross_entropy(model(ids[:, :-1]).view(-1, VOCAB), ids[:, 1:].reshape(-1))
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        times.append(time.perf_counter() - start)
    return {"rate": o.batch * o.length / statistics.median(times[1:]),
            "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "parameters": sum(p.numel() for p in model.parameters()),
            "loss": loss.item(), "torch": torch.__version__}


def options(o):
    return [f"--{name}={getattr(o, name)}" for name in ("shape", "batch", "length", "steps", "threads")]


def peer(o):
    out = subprocess.run([sys.executable, __file__, "--json", *options(o)], check=True,
                         stdout=subprocess.PIPE).stdout
    return json.loads(out)


def muster(o):
    out = subprocess.run([o.muster, "bench", "train", "--json", *options(o), *o.with_],
                         check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    figures = {f["name"].split("_b")[0]: f["value"] for f in map(json.loads, out.splitlines())}
    return {"rate": figures["train"], "mib": figures["train_memory"]}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--muster", help="the program to measure beside")
    p.add_argument("--with", dest="with_", action="append", default=[],
                   help="another option for muster bench train, as --with=--rows=512")
    p.add_argument("--shape", choices=SHAPES, default="15m")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--length", type=int, default=256)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    if not o.muster:
        print(json.dumps(train(o)))
        return
    rounds = [(muster(o), peer(o)) for _ in range(o.rounds)]
    for ours, theirs in rounds:
        print(f"muster {ours['rate']:8.1f} tokens/s {ours['mib']:7.0f} MiB    "
              f"torch {theirs['torch']} {theirs['rate']:8.1f} tokens/s {theirs['mib']:7.0f} MiB")
    rate = [statistics.median(r[i]["rate"] for r in rounds) for i in (0, 1)]
    mib = [max(r[i]["mib"] for r in rounds) for i in (0, 1)]
    print(f"{o.shape}: {rate[0] / rate[1]:.2f} times the speed, {mib[0] / mib[1]:.2f} of the memory")


main()
