/*
 * engine/cuda/draw.cuh - the highest logit with its noise, for kernels that draw tokens
 *
 * A token is the argmax of x / T + noise, the noise as docs/numerics.md has it ("Sampling"), to the
 * bit: two logarithms a logit, which take longer than to read it. Nearly all are spared: the noise of w
 * is -log(-log(1 - w)) <= -log(w), so that
 *
 *   x * (1 / T) - ln 2 * log2(w), by the fast unit, and a margin
 *
 * is never below what the exact operations give, and a logit for which it is less than the best that
 * the warp has so far is passed over. The margin: each logarithm is within 2 ulp, that is 2^-22 of w and
 * 2^-18 of a noise below 23; the unit's error is at most 2^-22 of log2(w) >= -33, which makes less than
 * 2^-17; four roundings of numbers below |y| + 32 are 2^-22 |y| + 2^-17 at most, and those of y = x / T
 * against x * (1 / T) 2^-22 |y|. Where 1 / T is subnormal, |y| < 1 and off by less than 2^-20. In all
 * less than 2^-20 |y| + 2^-14. Infinities make infinities or NaN of it, which are not less than anything.
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
    float T, inv;   /* 1 / T */
    best mine;
    float least; /* that somebody of the warp has already */
    bool is_odd; /* a logit is not finite */
};

static __device__ __forceinline__ drawing drawing_of(const struct device_draw &d)
{
    const bool is_greedy = d.temperature == 0.0f;
    const float T = is_greedy ? 1.0f : d.temperature;

    return {d.seed, d.position, is_greedy, T, 1.0f / T, {-INFINITY, NO_RANK}, -INFINITY, false};
}

static __device__ __forceinline__ float draw_bound(const drawing &d, float x, uint32_t word)
{
    const float y = x * d.inv, noise = fast_log2(lane_gumbel_w(word));

    if (d.is_greedy)
        return x;
    return fmaf(noise, -0.6931471805599453f, fmaf(fabsf(y), 0x1p-20f, y) + 0x1p-14f);
}

/* Logits v .. v + n - 1, n at most 4, may be 0; v is a multiple of 4 and ascends. The whole warp. */
static __device__ __forceinline__ void draw_4(drawing &d, const float (&x)[4], unsigned v,
                                              unsigned n)
{
    uint32_t word[4] = {0, 0, 0, 0};
    bool may[4], any = false;

    if (!d.is_greedy)
        philox(word, d.seed, v / 4, d.position);
#pragma unroll
    for (unsigned j = 0; j < 4; j++) {
        may[j] = j < n && !(draw_bound(d, x[j], word[j]) < d.least);
        any |= may[j];
        d.is_odd |= j < n && (lane_bits(x[j]) & 0x7fffffffu) >= LANE_INF;
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
    d.least = d.mine.value;
    for (int by = 16; by > 0; by /= 2)
        d.least = fmaxf(d.least, __shfl_xor_sync(0xffffffffu, d.least, by));
}

#endif
