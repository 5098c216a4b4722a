/*
 * engine/cuda/draw.cuh - the highest logit with its noise, for kernels that draw tokens
 *
 * A token is the argmax of x / T + noise, the noise as docs/numerics.md has it ("Sampling"), to the
 * bit: two logarithms a logit, which take longer than to read it. Nearly all are spared: the noise of w
 * is -log(-log(1 - w)) <= -log(w), so that, in units of log 2,
 *
 *   y - log2(w), by the fast unit,    y = x * (1 / T * log2(e)),    w = (word + 1/2) / 2^32
 *
 * is not less than what the exact operations give but for a margin, and a logit for which it is less than
 * the best that the warp has so far is passed over. The margin, in these units: y has four roundings, the
 * exact x / T one, the two differences one each, 2^-21 |y| together; the unit's error is at most 2^-22 of
 * log2(w) >= -33, less than 2^-16; the exact logarithms are within 2 ulp, which is 2^-22 of -log(1 - w)
 * and 2^-18 of a noise below 23; roundings of numbers below 33 are 2^-18 together. Where 1 / T is
 * subnormal, |y| < 2 and off by less than 2^-19. In all less than 2^-20 |y| + 2^-13. Infinities make
 * infinities or NaN of it, which are not less than anything.
 */
#ifndef ENGINE_CUDA_DRAW_CUH
#define ENGINE_CUDA_DRAW_CUH

#include "engine/cuda/math.cuh"

#include "engine/device_ops.h"

/* Of numbers that are equal the one of lowest rank is the best; a NaN is never it. */
struct best {
    float value;
    unsigned rank;
};

#define NO_RANK 0xffffffffu /* nothing above -inf */

static __device__ __forceinline__ bool is_better(const best &a, const best &b)
{
    return a.value > b.value || (a.value == b.value && a.rank < b.rank);
}

/* In all lanes. */
static __device__ __forceinline__ best best_of_warp(best mine)
{
    for (int by = 16; by > 0; by /= 2) {
        const best other = {__shfl_xor_sync(0xffffffffu, mine.value, by),
                            __shfl_xor_sync(0xffffffffu, mine.rank, by)};
        if (is_better(other, mine))
            mine = other;
    }
    return mine;
}

/* Division by 1 changes no bit and costs as much as half of the exp. */
static __device__ __forceinline__ float over(float x, float T)
{
    return T == 1.0f ? x : x / T;
}

/* Philox4x32-10 with counter (group, position, 0, 0), as in base/rng.h. */
static __device__ __forceinline__ void philox(uint32_t (&c)[4], uint64_t key, uint32_t group,
                                              uint32_t position)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    c[0] = group;
    c[1] = position;
    c[2] = c[3] = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t a = 0xd2511f53u * c[0], a_high = __umulhi(0xd2511f53u, c[0]);
        const uint32_t b = 0xcd9e8d57u * c[2], b_high = __umulhi(0xcd9e8d57u, c[2]);

        c[0] = b_high ^ c[1] ^ k0;
        c[1] = b;
        c[2] = a_high ^ c[3] ^ k1;
        c[3] = a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
}

/* 2 ulp at most, and 2^-22 between 1/2 and 2. */
static __device__ __forceinline__ float fast_log2(float x)
{
#ifdef MUSTER_CUDA_EMULATED
    return log2f(x);
#else
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* A lane's part of drawing from a row. */
struct drawing {
    uint64_t seed;
    uint32_t position;
    bool is_greedy; /* the highest logit, without noise; T is 1 */
    float T, by;    /* log2(e) / T */
    best mine;
    float least;  /* somebody of the warp has more than what lies below, times log2(e) */
    uint32_t top; /* of all logits' bits but the sign */
};

static __device__ __forceinline__ drawing drawing_of(const struct device_draw &d)
{
    const bool is_greedy = d.temperature == 0.0f;
    const float T = is_greedy ? 1.0f : d.temperature, by = 1.0f / T * 1.4426950408889634f;

    return {d.seed, d.position, is_greedy, T, by, {-INFINITY, NO_RANK}, -INFINITY, 0};
}

/* Whether a logit is not finite. */
static __device__ __forceinline__ bool is_odd(const drawing &d)
{
    return d.top >= LANE_INF;
}

/* What none of the warp's has is not worth computing. */
static __device__ __forceinline__ void raise_least(drawing &d)
{
    float most = d.mine.value;

    for (int by = 16; by > 0; by /= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, by));
    most *= 1.4426950408889634f;
    d.least = most - fmaf(fabsf(most), 0x1p-20f, 0x1p-13f);
}

/* Logits v .. v + n - 1, n at most 4, may be 0, and y = x * d.by; v is a multiple of 4 and ascends. The
 * whole warp. */
static __device__ __forceinline__ void draw_4(drawing &d, const float (&x)[4],
                                              const float (&y)[4], unsigned v, unsigned n)
{
    uint32_t word[4];
    bool may[4], any = false;

    if (!d.is_greedy)
        philox(word, d.seed, v / 4, d.position);
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        const float noise =
            d.is_greedy ? 0.0f : fast_log2(fmaf((float)word[j], 0x1p-32f, 0x1p-33f));
        const uint32_t bits = lane_bits(x[j]) & 0x7fffffffu;

        may[j] = j < n && !(fmaf(fabsf(y[j]), 0x1p-20f, y[j]) - noise < d.least);
        any |= may[j];
        if (j < n)
            d.top = d.top > bits ? d.top : bits;
    }
    if (!__any_sync(0xffffffffu, any))
        return;
#pragma unroll
    for (unsigned j = 0; j < 4; j++)
        if (may[j]) {
            const float z =
                d.is_greedy ? x[j] : over(x[j], d.T) - lane_log(lane_gumbel_inner(word[j]));
            if (z > d.mine.value)
                d.mine = {z, v + j};
        }
    raise_least(d);
}

#endif
