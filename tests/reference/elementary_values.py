#!/usr/bin/env python3
"""Makes tests/unit/engine/elementary_values.h: the elementary functions in 50-digit arithmetic
(mpmath), rounded to binary64.

Arguments are binary32 numbers: for each binary exponent some of random significand, and those where a function is hard: near where exp over- and underflows, log near 1, log1p near 0 and
-1, sine and cosine near multiples of pi/2. silu is g / (1 + exp(-g)).
"""
import random
import re
import struct

import mpmath

mpmath.mp.dps = 50
random.seed(1)


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits(u):
    return struct.unpack("<f", struct.pack("<I", u))[0]


def spread(lo, hi, signs, per=1):
    """Numbers of each exponent in [lo, hi]."""
    out = []
    for e in range(lo, hi + 1):
        for s in signs:
            some = [random.getrandbits(23) for _ in range(per)]
            out += [s * abs(bits((e + 127) << 23 | m)) for m in some]
    return out


def near(x, n=6):
    u = struct.unpack("<I", struct.pack("<f", x))[0]
    return [bits(u + d) for d in range(-n, n + 1)]


def text(x):
    return re.sub("0+p", "p", x.hex()).replace(".p", ".0p")


def quarter_turns():
    out = []
    for k in list(range(1, 40)) + [1 << i for i in range(6, 19)] + [random.getrandbits(18) + 1 for _ in range(40)]:
        out += near(f32(float(k * mpmath.pi / 2)), 1)
    return out


def main():
    pos = (1,)
    both = (1, -1)
    uniform = [f32(random.uniform(-104, 89)) for _ in range(200)]
    functions = [
        ("exp", mpmath.exp, spread(-30, 5, both) + uniform + near(88.72) + near(-87.3) + near(-103.9)),
        ("log", mpmath.log, spread(-126, 127, pos) + near(1.0) + near(0.6666667) +
         near(1.3333334) + [bits(u) for u in (1, 2, 3, 0x1234, 0x7fffff)]),
        ("log1p", mpmath.log1p, spread(-60, 127, pos) + spread(-60, -1, (-1,)) + near(-0.99999)),
        ("silu", lambda g: g / (1 + mpmath.exp(-g)), spread(-60, 6, both) +
         [f32(random.uniform(-88, 88)) for _ in range(200)]),
        ("sin", mpmath.sin, spread(-60, 18, pos) + quarter_turns()),
        ("cos", mpmath.cos, spread(-60, 18, pos) + quarter_turns()),
    ]
    print("/* Made by tests/reference/elementary_values.py: 50-digit arithmetic. */")
    print("#ifndef ELEMENTARY_VALUES_H\n#define ELEMENTARY_VALUES_H\n\n#include <stddef.h>\n")
    print("struct elementary_value {\n    float x;\n    double y;\n};\n\n// clang-format off")
    for name, f, xs in functions:
        xs = [x for x in sorted(set(xs)) if name != "silu" or x > -88.7]
        if name == "exp":
            xs = [x for x in xs if -103.97 < x < 88.7228]
        print(f"static const struct elementary_value values_{name}[] = {{")
        for x in xs:
            y = f(mpmath.mpf(x))
            print(f"    {{{text(x)}f, {text(float(y))}}},")
        print("};")
    print("// clang-format on\n\n#endif")


if __name__ == "__main__":
    main()
