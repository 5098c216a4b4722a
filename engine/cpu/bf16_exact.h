/*
 * engine/cpu/bf16_exact.h - the arithmetic of class bf16-1, defined (private to engine/cpu/)
 *
 * Written for a processor that keeps subnormals. A result counts as zero if it lies below 2^-126
 * after rounding to 24 bits with unbounded exponent; where subnormals are kept it has been
 * rounded to fewer bits by then, which can lift it to exactly 2^-126. So that one result, and no
 * other, needs a second look.
 */
#ifndef ENGINE_CPU_BF16_EXACT_H
#define ENGINE_CPU_BF16_EXACT_H

#include <math.h>
#include <string.h>

#include "base/attr.h"
#include "engine/cpu/bf16.h"
#include "engine/cpu/math_lanes.h"
#include "engine/cpu/table.h"

#define BF16_LEAST 0x00800000u /* the bits of 2^-126 */

ALWAYS_INLINE float bf16_zero_of(float x)
{
    return lane_float(lane_bits(x) & 0x80000000u);
}

/* For numbers, and for sums of two that are no subnormals: those are exact below 2^-126, as
 * multiples of 2^-149. */
ALWAYS_INLINE float bf16_flush(float x)
{
    return (lane_bits(x) & 0x7fffffffu) < BF16_LEAST ? bf16_zero_of(x) : x;
}

/* a and b have 8 bits, and a, b, c are no subnormals. The product is then exact in binary64, and
 * so is the sum wherever it lies around 2^-126 - 2^-151, halfway from the number below: there it
 * has no more than 41 bits, from 2^-126 to 2^-166. */
ALWAYS_INLINE float bf16_fma(float a, float b, float c)
{
    float y = fmaf(a, b, c);
    uint32_t size = lane_bits(y) & 0x7fffffffu;

    if (size > BF16_LEAST)
        return y;
    if (size == BF16_LEAST && fabs((double)a * (double)b + (double)c) >= 0x1.ffffffp-127)
        return y;
    return bf16_zero_of(y);
}

ALWAYS_INLINE float bf16_wide(uint16_t x)
{
    return lane_float((uint32_t)x << 16);
}

/* Adds the block of steps at a and b to c. `a` is what bf16_left made, b a column of a panel. */
static float bf16_block_exact(float c, const float *a, size_t a_step, const uint16_t *b)
{
    float even = 0.0f, odd = 0.0f;

    for (size_t s = 0; s < BF16_BLOCK; s += 2, b += 2 * PACK_LANES) {
        even = bf16_fma(a[s * a_step], bf16_wide(b[0]), even);
        odd = bf16_fma(a[(s + 1) * a_step], bf16_wide(b[1]), odd);
    }
    return bf16_flush(c + bf16_flush(even + odd));
}

#endif
