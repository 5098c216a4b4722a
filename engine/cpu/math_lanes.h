/*
 * engine/cpu/math_lanes.h - the elementary functions, as straight lines of operations
 *
 * The definition of exp, log and log1p of the numerics classes. Each is a fixed sequence of
 * binary32 and integer operations without branches or calls, so that a compiler may turn a loop
 * over them into vector code, which then gives the same bits. Private to engine/cpu/.
 *
 * The polynomials are made by tests/reference/elementary.py.
 */
#ifndef ENGINE_CPU_MATH_LANES_H
#define ENGINE_CPU_MATH_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/attr.h"

#define LANE_ROUND 0x1.8p23f /* adding it rounds to an integer, which then is in the low bits */
#define LANE_NAN   0x7fc00000u
#define LANE_INF   0x7f800000u

ALWAYS_INLINE uint32_t lane_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

ALWAYS_INLINE float lane_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* 2^n is put on in two steps, for n reaches from -150 to 128: the second multiplication rounds
 * results that are subnormal, and overflows to infinity. */
ALWAYS_INLINE float lane_exp(float x)
{
    float c = x < 89.0f ? x : 89.0f;
    c = c > -104.0f ? c : -104.0f;

    float t = fmaf(c, 0x1.715476p+0f, LANE_ROUND);
    float n = t - LANE_ROUND;
    float r = fmaf(n, -0x1.62e430p-1f, c);
    r = fmaf(n, 0x1.05c610p-29f, r);

    float q = 0x1.6a1a6ep-10f;
    q = fmaf(q, r, 0x1.123fc6p-7f);
    q = fmaf(q, r, 0x1.555916p-5f);
    q = fmaf(q, r, 0x1.55548ap-3f);
    q = fmaf(q, r, 0x1.fffffcp-2f);
    float y = fmaf(r * r, q, r) + 1.0f;

    uint32_t biased = lane_bits(t) - lane_bits(LANE_ROUND) + 256u; /* n + 256 */
    uint32_t half = biased >> 1;
    y = y * lane_float((half - 1u) << 23);
    y = y * lane_float((biased - half - 1u) << 23);
    return x != x ? lane_float(LANE_NAN) : y;
}

/* log of 2^e * (1 + f), |f| <= 1/3. */
ALWAYS_INLINE float lane_log_core(float f, float e)
{
    float q = -0x1.08055cp-3f;
    q = fmaf(q, f, 0x1.1e66b2p-3f);
    q = fmaf(q, f, -0x1.f31154p-4f);
    q = fmaf(q, f, 0x1.1ed718p-3f);
    q = fmaf(q, f, -0x1.559dcap-3f);
    q = fmaf(q, f, 0x1.99d028p-3f);
    q = fmaf(q, f, -0x1.fffef0p-3f);
    q = fmaf(q, f, 0x1.555506p-2f);

    float t = fmaf(f * f, fmaf(f, q, -0.5f), e * 0x1.7f7d1cp-20f);
    return fmaf(e, 0x1.62e400p-1f, f + t);
}

/* The exponent e for which bits * 2^-e lies in [2/3, 4/3). Integers wrap; a right shift that
 * keeps the sign is written out, C leaving it to the implementation. */
ALWAYS_INLINE uint32_t lane_exponent(uint32_t bits)
{
    return ((bits - 0x3f2aaaabu + 0x80000000u) >> 23) - 256u;
}

ALWAYS_INLINE float lane_log(float x)
{
    /* Subnormals are lifted into the range of normal numbers first. */
    float up = x < 0x1p-126f ? x * 0x1p23f : x;
    float down = x < 0x1p-126f ? -23.0f : 0.0f;

    uint32_t bits = lane_bits(up);
    uint32_t e = lane_exponent(bits);
    float f = lane_float(bits - (e << 23)) - 1.0f;
    float y = lane_log_core(f, (float)(int32_t)e + down);

    y = lane_bits(x) == LANE_INF ? x : y;
    y = x == 0.0f ? -lane_float(LANE_INF) : y;
    return x >= 0.0f ? y : lane_float(LANE_NAN);
}

/* log(1 + x) as log(u), u = 1 + x rounded, with what the rounding lost put back into f. For
 * small |x| that makes f = x exactly. */
ALWAYS_INLINE float lane_log1p(float x)
{
    float u = 1.0f + x;
    float lost = x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x);

    uint32_t bits = lane_bits(u);
    uint32_t e = lane_exponent(bits);
    /* 2^-e is subnormal for e > 126, where nothing worth keeping is lost. */
    float inv = lane_float((e < 127u || e >= 0x80000000u ? 127u - e : 0u) << 23);
    float f = fmaf(lost, inv, lane_float(bits - (e << 23)) - 1.0f);
    float y = lane_log_core(f, (float)(int32_t)e);

    y = lane_bits(x) == LANE_INF ? x : y;
    y = x == -1.0f ? -lane_float(LANE_INF) : y;
    return x >= -1.0f ? y : lane_float(LANE_NAN);
}

/* Gumbel noise of a 32-bit word is -log of this (docs/numerics.md, "Sampling"). */
ALWAYS_INLINE float lane_gumbel_inner(uint32_t r)
{
    float low = ((float)(int32_t)(r & 65535u) + 0.5f) * 0x1p-32f;
    float w = fmaf((float)(int32_t)(r >> 16), 0x1p-16f, low);
    return -lane_log1p(-w);
}

ALWAYS_INLINE uint16_t lane_bf16(float x)
{
    uint32_t u = lane_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > LANE_INF ? quiet : rounded);
}

#endif
