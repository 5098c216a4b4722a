#!/usr/bin/env python3
"""Makes tests/unit/engine/ops_reference.h: kernels' results in 60-digit arithmetic.

    python3 tests/reference/ops.py > tests/unit/engine/ops_reference.h

Only the forward formulas are written down here. Every gradient is a central difference of them
with a step of 1e-20, exact to some 38 digits: the finite-difference test of each backward, without
its noise. Inputs are exact in binary32: see value(), whose twin is ops_value() in the header.
"""
from decimal import Decimal as D, getcontext

getcontext().prec = 60
H = D(10) ** -20


def value(seed, i):
    return D((i * 37 + seed * 101 + i * i * 11) % 97 - 48) / 32


def values(seed, n):
    return [value(seed, i) for i in range(n)]


def gradient(f, x, dy):
    """d(sum dy * f(x)) / dx"""
    out = []
    for i in range(len(x)):
        up, down = x[:], x[:]
        up[i] += H
        down[i] -= H
        out.append(sum(g * (a - b) for g, a, b in zip(dy, f(up), f(down))) / (2 * H))
    return out


def show(name, x):
    print(f"static const float {name}[{len(x)}] = {{")
    for i in range(0, len(x), 5):
        print("    " + ", ".join(f"{float(v):.9e}f" for v in x[i:i + 5]) + ",")
    print("};")


def rmsnorm(x, w, n, c, eps):
    y = []
    for r in range(n):
        row = x[r * c:(r + 1) * c]
        s = 1 / (sum(v * v for v in row) / c + eps).sqrt()
        y += [v * s * w[i] for i, v in enumerate(row)]
    return y


def swiglu(g, u):
    return [a / (1 + (-a).exp()) * b for a, b in zip(g, u)]


def attention(q, k, v, n, h, g, d):
    out, lse = [], []
    for t in range(n):
        for head in range(h):
            kv = head // (h // g)
            at = (t * h + head) * d
            s = []
            for j in range(t + 1):
                kj = k[(j * g + kv) * d:(j * g + kv + 1) * d]
                s.append(sum(a * b for a, b in zip(q[at:at + d], kj)) / D(d).sqrt())
            e = [x.exp() for x in s]
            z = sum(e)
            lse.append(z.ln())
            out += [sum(e[j] / z * v[(j * g + kv) * d + i] for j in range(t + 1))
                    for i in range(d)]
    return out, lse


def logprob(x, token, v, temperature):
    out = []
    for n, t in enumerate(token):
        row = [a / temperature for a in x[n * v:(n + 1) * v]]
        out.append(row[t] - sum(a.exp() for a in row).ln())
    return out


def adamw(p, g, steps, lr, b1, b2, eps, wd):
    m, v = [D(0)] * len(p), [D(0)] * len(p)
    for s in range(1, steps + 1):
        m = [b1 * a + (1 - b1) * b for a, b in zip(m, g)]
        v = [b2 * a + (1 - b2) * b * b for a, b in zip(v, g)]
        p = [a * (1 - lr * wd) - lr * (b / (1 - b1 ** s)) / ((c / (1 - b2 ** s)).sqrt() + eps)
             for a, b, c in zip(p, m, v)]
    return p


def main():
    print("/* Made by tests/reference/ops.py: results in 60-digit arithmetic. */")
    print("#ifndef OPS_REFERENCE_H\n#define OPS_REFERENCE_H\n\n#include <stddef.h>\n")
    print("/* Element i of input `seed`: a small multiple of 1/32. */")
    print("static inline float ops_value(size_t seed, size_t i)\n{")
    print("    return ((float)((i * 37 + seed * 101 + i * i * 11) % 97) - 48.0f) / 32.0f;\n}\n")
    print("static inline void ops_fill(float *x, size_t seed, size_t n)\n{")
    print("    for (size_t i = 0; i < n; i++)\n        x[i] = ops_value(seed, i);\n}\n")
    print("// clang-format off")

    print("/* rmsnorm: N = 2, C = 5, eps = 2^-10; x, w, dy are inputs 1, 2, 3. */")
    x, w, dy = values(1, 10), values(2, 5), values(3, 10)
    eps = D(1) / 1024
    show("want_rmsnorm", rmsnorm(x, w, 2, 5, eps))
    show("want_rmsnorm_dx", gradient(lambda a: rmsnorm(a, w, 2, 5, eps), x, dy))
    show("want_rmsnorm_dw", gradient(lambda a: rmsnorm(x, a, 2, 5, eps), w, dy))

    print("/* swiglu: n = 7; g, u, dy are inputs 4, 5, 6. */")
    g, u, dy = values(4, 7), values(5, 7), values(6, 7)
    show("want_swiglu", swiglu(g, u))
    show("want_swiglu_dg", gradient(lambda a: swiglu(a, u), g, dy))
    show("want_swiglu_du", gradient(lambda a: swiglu(g, a), u, dy))

    print("/* attention: n = 4, H = 4, G = 2, D = 2; q, k, v, dout are inputs 7, 8, 9, 10. */")
    q, k, v, do = values(7, 32), values(8, 16), values(9, 16), values(10, 32)
    out, lse = attention(q, k, v, 4, 4, 2, 2)
    show("want_attention", out)
    show("want_attention_lse", lse)
    show("want_attention_dq", gradient(lambda a: attention(a, k, v, 4, 4, 2, 2)[0], q, do))
    show("want_attention_dk", gradient(lambda a: attention(q, a, v, 4, 4, 2, 2)[0], k, do))
    show("want_attention_dv", gradient(lambda a: attention(q, k, a, 4, 4, 2, 2)[0], v, do))

    print("/* logprob: N = 3, V = 6, temperature 0.75; logits are input 11, weights -input 12. */")
    x, weight, token = values(11, 18), values(12, 3), [2, 0, 5]
    show("want_logprob", logprob(x, token, 6, D("0.75")))
    show("want_logprob_dlogits",
         gradient(lambda a: logprob(a, token, 6, D("0.75")), x, [-a for a in weight]))

    print("/* adamw: 3 steps of one gradient, p and g are inputs 13, 14; lr = 2^-6, b1 = 7/8,")
    print(" * b2 = 63/64, eps = 2^-20, wd = 1/8. */")
    show("want_adamw", adamw(values(13, 9), values(14, 9), 3, D(1) / 64, D(7) / 8, D(63) / 64,
                             D(1) / 2 ** 20, D(1) / 8))

    getcontext().prec = 80
    print("/* rope: angles of positions 1, 100 and 4095, theta 10000, D = 8: cos, then sin. */")
    cos, sin = rope([D(10000) ** (D(-2 * i) / 8) for i in range(4)])
    show("want_rope_cos", cos)
    show("want_rope_sin", sin)

    print("/* The same with theta 500000, D = 16, and the scaling of llama3: factor 8, 1 to 4 turns")
    print(" * within 8192: channels 0..3 are kept, 4 is mixed, 5..7 are slowed down. */")
    cos, sin = rope([llama3(D(500000) ** (D(-2 * i) / 16), 8, 1, 4, 8192) for i in range(8)])
    show("want_rope_llama3_cos", cos)
    show("want_rope_llama3_sin", sin)
    print("// clang-format on\n\n#endif")


PI = D("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803")


def llama3(f, factor, low, high, length):
    """As transformers writes it, in wavelengths."""
    wave = 2 * PI / f
    if wave < D(length) / high:
        return f
    if wave > D(length) / low:
        return f / factor
    smooth = (D(length) / wave - low) / (high - low)
    return (1 - smooth) * f / factor + smooth * f


def rope(frequencies):
    import struct
    cos, sin = [], []
    for pos in (1, 100, 4095):
        for f in frequencies:
            inv = struct.unpack("f", struct.pack("f", float(f)))[0]
            angle = struct.unpack("f", struct.pack("f", pos * inv))[0]
            c, s = cos_sin(D(angle))
            cos.append(c)
            sin.append(s)
    return cos, sin


def cos_sin(x):
    """Taylor series at x / 2^k, doubled k times."""
    k = 20
    z = x / 2 ** k
    c, s, t = D(0), D(0), D(1)
    for n in range(0, 60, 2):
        c += t
        t = t * z / (n + 1)
        s += t
        t = -t * z / (n + 2)
    for _ in range(k):
        c, s = c * c - s * s, 2 * s * c
    return c, s


if __name__ == "__main__":
    main()
