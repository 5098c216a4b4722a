#!/usr/bin/env python3
"""Makes the polynomials of engine/cpu/math_lanes.h and the constants of engine/cpu/math.c.

Remez exchange on a dense grid, in 40-digit arithmetic (standard library only). The error that is
minimised is relative to the function, with the leading terms held at their exact values.
"""
from decimal import Decimal as D, getcontext
import struct

getcontext().prec = 40


def f32(x):
    return struct.unpack("f", struct.pack("f", float(x)))[0]


def solve(a, b):
    n = len(b)
    m = [row[:] + [b[i]] for i, row in enumerate(a)]
    for c in range(n):
        p = max(range(c, n), key=lambda r: abs(m[r][c]))
        m[c], m[p] = m[p], m[c]
        for r in range(n):
            if r != c:
                f = m[r][c] / m[c][c]
                m[r] = [x - f * y for x, y in zip(m[r], m[c])]
    return [m[i][n] / m[i][i] for i in range(n)]


def remez(target, weight, lo, hi, degree, grid=1200, rounds=25):
    """P minimising max |weight(x) * (P(x) - target(x))| over [lo, hi]."""
    xs = [lo + (hi - lo) * D(i) / grid for i in range(grid + 1)]
    xs = [x for x in xs if abs(x) > D("1e-6")]
    t = [target(x) for x in xs]
    w = [weight(x) for x in xs]
    n = degree + 2
    idx = [round((len(xs) - 1) * i / (n - 1)) for i in range(n)]
    for _ in range(rounds):
        a = [[xs[i] ** p for p in range(degree + 1)] + [D((-1) ** k) / w[i]]
             for k, i in enumerate(idx)]
        c = solve(a, [t[i] for i in idx])[:-1]
        err = [w[i] * (sum(c[p] * x ** p for p in range(degree + 1)) - t[i])
               for i, x in enumerate(xs)]
        ext = []
        for i in range(len(xs)):
            if ext and (err[i] > 0) == (err[ext[-1]] > 0):
                if abs(err[i]) > abs(err[ext[-1]]):
                    ext[-1] = i
            else:
                ext.append(i)
        while len(ext) > n:
            if abs(err[ext[0]]) < abs(err[ext[-1]]):
                ext.pop(0)
            else:
                ext.pop()
        if len(ext) < n or ext == idx:
            break
        idx = ext
    return c, max(abs(e) for e in err)


def show(name, c, e):
    print(f"{name}: relative error {float(e):.3g} = 2^{float(e.ln() / D(2).ln()):.1f}")
    for i, v in enumerate(c):
        print(f"  c{i} = {float.hex(f32(v))}f  {float(v):.12g}")


def main():
    half = D(2).ln() / 2 * D("1.01")
    c, e = remez(lambda x: (x.exp() - 1 - x) / (x * x), lambda x: x * x / x.exp(), -half, half, 4)
    show("exp(r) = 1 + r + r^2 P(r)", c, e)
    third = D(1) / 3
    for deg in (5, 6, 7):
        c, e = remez(lambda x: ((1 + x).ln() - x + x * x / 2) / x ** 3,
                     lambda x: x ** 3 / (1 + x).ln(), -third, third, deg)
        show("log1p(f) = f - f^2/2 + f^3 P(f)", c, e)
    ln2 = D(2).ln()
    print("log2(e)", float.hex(f32(1 / ln2)), float.hex(float(1 / ln2)))
    for bits, name in ((15, "ln2 high, 15 bits"),):
        hi = D(int(ln2 * 2 ** bits)) / 2 ** bits
        print(name, float.hex(f32(hi)), "low", float.hex(f32(ln2 - hi)))
    hi = f32(ln2)
    print("ln2 f32", float.hex(hi), "low", float.hex(f32(ln2 - D(hi))))
    hi = float(ln2)
    print("ln2 f64", float.hex(hi), "low", float.hex(float(ln2 - D(hi))))
    pi = D("3.141592653589793238462643383279502884197169399375105820974944592307816406286")
    getcontext().prec = 70
    rest = pi / 2
    for i in range(3):
        part = float(rest)
        print("pi/2 part", i, float.hex(part))
        rest -= D(part)
    print("2/pi", float.hex(float(2 / pi)))


if __name__ == "__main__":
    main()
