/*
 * engine/cuda/open_heads.cuh - what is done to a row's heads between the products and attention
 *
 * Bias, norm (Qwen3), rotation, and where keys and values are filed: for the kernel of whole batches
 * (open_rows.cu), and for attention of new rows, which does it itself (open_decode.cu).
 */
#ifndef ENGINE_CUDA_OPEN_HEADS_CUH
#define ENGINE_CUDA_OPEN_HEADS_CUH

#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

/* As struct open_heads; heads are counted on from queries to keys to values. */
struct heads {
    uint16_t *y;
    const uint16_t *x;
    const float *bias[3], *norm[2]; /* of queries, keys and values */
    const float *cos, *sin;
    const struct device_run *runs;
    uint16_t *const *pages;
    size_t page_at;
    unsigned H, G, D;
    float eps;
};

static inline struct heads heads_of(const struct open_heads *o)
{
    return {o->y,
            o->x,
            {o->q_bias, o->k_bias, o->v_bias},
            {o->q_norm, o->k_norm},
            o->cos,
            o->sin,
            o->runs,
            o->pages,
            o->page_at,
            (unsigned)o->H,
            (unsigned)o->G,
            (unsigned)o->D,
            o->eps};
}

/* Channels j, j + 1 of a head at a position, and those they are rotated with, D / 2 further on: pairs of
 * bf16. `row` is the row of x. The whole warp takes part, D / 4 lanes a head. */
static __device__ __forceinline__ void turn(uint32_t (&pair)[2], const struct heads &h,
                                            const uint16_t *row, unsigned head, unsigned j,
                                            unsigned pos)
{
    const unsigned half = h.D / 2, kind = head < h.H ? 0 : head < h.H + h.G ? 1 : 2;
    const unsigned of_kind = head - (kind == 0 ? 0 : kind == 1 ? h.H : h.H + h.G);
    const uint32_t *x = reinterpret_cast<const uint32_t *>(row + head * h.D + j);
    const uint32_t lo = x[0], hi = x[half / 2];
    const float *bias = kind == 0 ? h.bias[0] : kind == 1 ? h.bias[1] : h.bias[2];
    const float *norm = kind == 0 ? h.norm[0] : h.norm[1];
    float a[2] = {bf16_low(lo), bf16_high(lo)}, b[2] = {bf16_low(hi), bf16_high(hi)};

    if (bias)
        for (unsigned i = 0; i < 2; i++) {
            a[i] += bias[of_kind * h.D + j + i];
            b[i] += bias[of_kind * h.D + half + j + i];
        }
    if (h.norm[0]) { /* of all heads, for the exchange wants all lanes; values leave it out */
        float sum = a[0] * a[0] + a[1] * a[1] + b[0] * b[0] + b[1] * b[1];
        for (unsigned by = h.D / 8; by > 0; by /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, (int)by);
        float r = 1.0f / sqrtf(sum / (float)h.D + h.eps);
        for (unsigned i = 0; kind < 2 && i < 2; i++) {
            a[i] *= r * norm[j + i];
            b[i] *= r * norm[half + j + i];
        }
    }
    if (kind < 2)
        for (unsigned i = 0; i < 2; i++) {
            const size_t at = (size_t)pos * half + j + i;
            const float c = h.cos[at], s = h.sin[at], a0 = a[i], b0 = b[i];
            a[i] = a0 * c - b0 * s;
            b[i] = b0 * c + a0 * s;
        }
    pair[0] = bf16_pair(a[0], a[1]);
    pair[1] = bf16_pair(b[0], b[1]);
}

/* Where a head's key or value of a position is filed. */
static __device__ __forceinline__ uint16_t *
filed(const struct heads &h, const struct device_run &run, unsigned pos, unsigned head)
{
    return h.pages[run.pages + pos / ATTENTION_PAGE] + h.page_at +
           ((size_t)(head - h.H) * ATTENTION_PAGE + pos % ATTENTION_PAGE) * h.D;
}

#endif
