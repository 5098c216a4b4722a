#!/usr/bin/env python3
"""The Python package `toploc` as the oracle of proto/toploc.h.

usage: tests/reference/toploc_proofs.py vectors OUT MUSTER   what tests/vectors/toploc.json holds
       tests/reference/toploc_proofs.py check MUSTER         both ways, over many more activations
needs the packages toploc (0.1.6) and torch; MUSTER is the program

Activations come from a formula, which the C test has too (tests/unit/proto/test_toploc_reference.c),
so that no vector holds any. The reference verifies by its C++ path, verify_proofs of a tensor; its
Python path does not reduce indices by the modulus.
"""
import base64
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from toploc import poly

K, EVERY = 128, 32
GOOD_MODULUS = 65497


def mixed(seed, n):
    """murmur3's finaliser over seed and index."""
    h = (np.arange(n, dtype=np.uint64) * 0x9E3779B1 + seed).astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        h ^= h >> np.uint32(shift)
        h = (h.astype(np.uint64) * factor).astype(np.uint32)
    return h


def patterns(case):
    """The bf16 patterns of (rows, width)."""
    h = mixed(case["seed"], case["rows"] * case["width"])
    low = h >> np.uint32(8) & np.uint32(0xFFFF) | np.uint32(0x10000)
    zeros = np.log2(low & (~low + np.uint32(1))).astype(np.uint32)  # trailing ones are rare
    mantissa = h & np.uint32(1 if case["kind"] == "ties" else 127)
    return ((h >> np.uint32(7) & np.uint32(1)) << np.uint32(15)
            | (np.uint32(0x74) + zeros) << np.uint32(7) | mantissa).astype(np.uint16), h


def rows(case):
    """As bf16; of kind f32 rounded from values between two of them."""
    p, h = patterns(case)
    if case["kind"] != "f32":
        return torch.from_numpy(p.view(np.int16)).view(torch.bfloat16)
    wide = (p.astype(np.uint32) << np.uint32(16)) | h >> np.uint32(16)
    return torch.from_numpy(wide.view(np.float32)).to(torch.bfloat16)


def altered(case, x):
    """What a machine with other numbers would have: some mantissas one off, some exponents."""
    _, h = patterns(case)
    bits = x.view(torch.int16).numpy().view(np.uint16).copy()
    bits ^= (h >> np.uint32(24) & np.uint32(3) == 0).astype(np.uint16)
    bits ^= (h % np.uint32(97) == 0).astype(np.uint16) << np.uint16(7)
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


def build(case):
    x = rows(case).view(case["rows"], case["width"])
    return poly.build_proofs_bytes(x, EVERY, case["k"], skip_prefill=True)


def verify(case, x, proofs):
    found = poly.verify_proofs_bytes(x.view(case["rows"], case["width"]), proofs, EVERY,
                                     case["k"], skip_prefill=True)
    return [[r.exp_mismatches, r.mant_err_mean, r.mant_err_median] for r in found]


def muster(program, case, x, verb, *more):
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "rows")
        x.view(torch.int16).numpy().tofile(path)
        args = [program, "toploc", verb, "--dim", str(case["width"]), "--k", str(case["k"])]
        files = [path]
        for m in more:
            if isinstance(m, list):
                files.append(os.path.join(d, "proofs"))
                with open(files[-1], "w") as f:
                    f.write("".join(base64.b64encode(p).decode() + "\n" for p in m))
            else:
                args.append(m)
        return subprocess.run(args + files, capture_output=True, text=True)


def prove_by_muster(program, case, x):
    out = muster(program, case, x, "prove")
    assert out.returncode == 0, out.stderr
    return [base64.b64decode(line) for line in out.stdout.split()]


def modulus_of(proof):
    return proof[0] << 8 | proof[1]


def with_small_modulus(case):
    """The first seed for which the proof needs another modulus than the prime."""
    while all(modulus_of(p) == GOOD_MODULUS for p in build(case)):
        case["seed"] += 1
    return case


def cases():
    for width in (64, 128, 576, 768, 1024, 2048, 4096, 5120, 8192):
        yield {"kind": "plain", "width": width, "rows": 32, "k": K, "seed": width}
    for width, n in ((64, 2), (64, 31), (768, 33), (2048, 1), (4096, 37), (8192, 7)):
        yield {"kind": "plain", "width": width, "rows": n, "k": K, "seed": 7 * width + n}
    for width in (64, 1024, 8192):
        yield {"kind": "ties", "width": width, "rows": 32, "k": K, "seed": 3 * width}
    for width in (64, 4096):
        yield {"kind": "f32", "width": width, "rows": 40, "k": K, "seed": 5 * width}
    for width in (4096, 8192):
        yield with_small_modulus(
            {"kind": "plain", "width": width, "rows": 32, "k": K, "seed": 11 * width})


# What the reference does not survive, as a child process: (name, proof of 4 rows of 16, k = 4).
HARMFUL = {
    "null": "00" * 10,
    "modulus_zero": "0000" + "0102" * 4,
    "no_coefficients": "ffd9",
    "one_byte": "ff",
    "nothing": "",
    "odd_length": "ffd9" + "0102" * 4 + "01",
    "one_coefficient": "ffd9405c",
    "too_long": "ffd9" + "0102" * 5,
    "modulus_of_width": "0010" + "0102" * 4,
    "modulus_one": "0001" + "0102" * 4,
    "constant": "ffd9" + "4000" + "0000" * 3,
    "coefficient_past_prime": "ffd9" + "ffff" * 4,
}


def fate(code):
    """How a child with such statements ends."""
    out = subprocess.run([sys.executable, "-c", "import torch\nfrom toploc import poly\n" + code],
                         capture_output=True, text=True)
    if out.returncode < 0:
        return f"signal {-out.returncode}"
    return "exception" if out.returncode else "answers"


def harm():
    rows4 = "x = torch.arange(1, 65).to(torch.bfloat16).view(4, 16)\n"
    call = "poly.verify_proofs_bytes(x, {}, 4, 4, skip_prefill=True)"
    found = [{"name": name, "proof": proof,
              "reference": fate(rows4 + call.format(f"[bytes.fromhex('{proof}')]"))}
             for name, proof in HARMFUL.items()]
    good = "poly.build_proofs_bytes(x, 4, 4, skip_prefill=True)"
    found.append({"name": "proof_too_many", "proof": None,
                  "reference": fate(rows4 + call.format(good + " * 2"))})
    found.append({"name": "proof_too_few", "proof": None,
                  "reference": fate(rows4 + call.format("[]"))})
    found.append({"name": "fewer_values_than_k", "proof": None, "reference": fate(
        "x = torch.ones(1, 3).to(torch.bfloat16)\n"
        + call.format("[bytes.fromhex('ffd9" + "0102" * 4 + "')]"))})
    return found


def vectors(out, program):
    made = []
    for case in cases():
        x = rows(case)
        proofs = build(case)
        ours = prove_by_muster(program, case, x)
        made.append(dict(case,
                         theirs=[p.hex() for p in proofs],
                         theirs_on_altered=verify(case, altered(case, x), proofs),
                         ours=[p.hex() for p in ours],
                         ours_by_reference=verify(case, x, ours)))
    with open(out, "w") as f:
        f.write('{"cases": [\n')
        f.write(",\n".join(json.dumps(m) for m in made))
        f.write('\n], "harmful": [\n')
        f.write(",\n".join(json.dumps(h) for h in harm()))
        f.write("\n]}\n")
    print(f"{len(made)} cases, {os.path.getsize(out)} bytes")


def check(program):
    n = worst = small = 0
    for width in (64, 96, 128, 256, 576, 768, 1024, 1536, 2048, 3072, 4096, 5120, 8192):
        for kind in ("plain", "ties", "f32"):
            for n_rows in (2, 31, 32, 33, 64, 70):
                case = {"kind": kind, "width": width, "rows": n_rows, "k": K,
                        "seed": 1000 * width + n_rows}
                if (n_rows % EVERY or EVERY) * width < K:
                    continue  # the reference does not make or verify such a chunk
                x = rows(case)
                theirs, ours = build(case), prove_by_muster(program, case, x)
                for tie in ("lowest", "torch-cpu"):
                    out = muster(program, case, x, "verify", "--tie", tie, theirs)
                    assert out.returncode == 0, (case, tie, out.stdout, out.stderr)
                    if tie == "torch-cpu":
                        assert set(out.stdout.split("\n")) == {"0 0 0", ""}, (case, out.stdout)
                for r in verify(case, x, ours):
                    assert r[0] <= 38 and r[1] <= 10 and r[2] <= 8, (case, r)
                    worst = max(worst, r[0])
                want = verify(case, altered(case, x), theirs)
                out = muster(program, case, altered(case, x), "verify", "--compat", "--tie",
                             "torch-cpu", theirs)
                got = [[float(v) for v in line.split()] for line in out.stdout.splitlines()]
                assert np.allclose(got, want, rtol=1e-9, atol=0), (case, got, want)
                small += sum(modulus_of(p) < GOOD_MODULUS for p in theirs)
                n += len(theirs)
    print(f"{n} proofs each way, {small} of them with a modulus below the prime; ties make at "
          f"most {worst} of {K} values differ")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "vectors":
        vectors(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(sys.argv[2])
    else:
        sys.exit(__doc__)
