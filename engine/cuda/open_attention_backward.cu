/*
 * The gradient of attention (arXiv:2307.08691): weights are computed anew from lse, tile by tile, once
 * with queries in registers for dq, once with keys in registers for dk and dv. That is seven products
 * where five would do, and no sum is ever shared between blocks: a step gives the same bits twice.
 */
#include "engine/cuda/open_tiles.cuh"

#include "base/check.h"

namespace
{

/* Own rows of a block: 16 MT a warp; tiles of OTHER rows go by. */
template <int D> struct dq_sizes {
    static const int MT = 2, OTHER = D == 128 ? 32 : 64;
};
template <int D> struct dkv_sizes {
    static const int MT = D == 128 ? 1 : 2, OTHER = D == 128 ? 64 : 32;
};

template <int D, typename SIZES> struct backward_shared {
    static const unsigned OWN = WARPS * 16 * SIZES::MT;
    uint16_t own[2][OWN * D];               /* q and dout, or k and v */
    uint16_t other[2][2][SIZES::OTHER * D]; /* k and v, or q and dout */
    float lse[2][SIZES::OTHER], sum[2][SIZES::OTHER];
};

/* sum[row, head] = sum(dout * out); a warp has one of them. */
__global__ void __launch_bounds__(THREADS) sums_kernel(float *sum, struct open_attention_grad g)
{
    const size_t i = blockIdx.x * (size_t)WARPS + threadIdx.x / 32;
    const unsigned lane = threadIdx.x % 32;
    float x = 0.0f;

    if (i >= g.rows * g.H)
        return;
    const size_t at = i / g.H * g.out_stride + i % g.H * g.D;
    for (unsigned d = 2 * lane; d < g.D; d += 64) {
        const uint32_t a = *reinterpret_cast<const uint32_t *>(g.dout + at + d);
        const uint32_t b = *reinterpret_cast<const uint32_t *>(g.out + at + d);
        x += bf16_low(a) * bf16_low(b) + bf16_high(a) * bf16_high(b);
    }
    for (int by = 16; by > 0; by /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, by);
    if (lane == 0)
        sum[i] = x;
}

/* s becomes P and dp becomes dS, of the query 16 m + 8 half + lane / 4 and later keys cut. */
template <int MT, int NT>
__device__ __forceinline__ void weights_by_query(float (&s)[MT][NT][4], float (&dp)[MT][NT][4],
                                                 const float (&lse)[MT][2],
                                                 const float (&sum)[MT][2], float scale,
                                                 unsigned query, unsigned key, bool is_masked)
{
    const unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;

    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int n = 0; n < NT; n++)
        UNROLL
    for (unsigned i = 0; i < 4; i++) {
        float p = fast_exp2(fmaf(s[m][n][i], scale, -lse[m][i / 2]));
        if (is_masked && key + 8 * n + 2 * q + i % 2 > query + 16 * m + i / 2 * 8 + r)
            p = 0.0f;
        dp[m][n][i] = p * (dp[m][n][i] - sum[m][i / 2]);
    }
}

/* A block has OWN queries of one head of one sequence; the last first, for they see the most. */
template <int D>
__global__ void __launch_bounds__(THREADS)
    dq_kernel(struct open_attention_grad g, const float *sums, unsigned tiles)
{
    typedef dq_sizes<D> sizes;
    typedef backward_shared<D, sizes> shared;
    const int MT = sizes::MT, NT = sizes::OTHER / 8;
    const unsigned KEYS = sizes::OTHER, OWN = shared::OWN;
    DYNAMIC_SHARED(shared, w);
    const unsigned H = (unsigned)g.H, runs = (unsigned)g.n_runs, x = blockIdx.x;
    const struct device_run run = g.runs[x / H % runs];
    const unsigned t0 = (tiles - 1 - x / H / runs) * OWN, head = x % H, lane = threadIdx.x % 32;
    const unsigned group = head / (H / (unsigned)g.G), row = threadIdx.x / 32 * 16 * MT;
    float dq[MT][D / 8][4] = {}, lse[MT][2], sum[MT][2], scale[MT][2];

    if (t0 >= run.n)
        return;
    const unsigned n = run.n - t0 < OWN ? run.n - t0 : OWN, len = t0 + n;
    const unsigned n_tiles = (len + KEYS - 1) / KEYS;
    const uint16_t *k = g.k + run.row * g.kv_stride + group * D;
    const uint16_t *v = g.v + run.row * g.kv_stride + group * D;
    tile_stage<D, OWN>(w->own[0], g.q + (run.row + t0) * g.q_stride + head * D, g.q_stride, n);
    tile_stage<D, OWN>(w->own[1], g.dout + (run.row + t0) * g.out_stride + head * D,
                       g.out_stride, n);
    tile_stage<D, KEYS>(w->other[0][0], k, g.kv_stride, len);
    tile_stage<D, KEYS>(w->other[0][1], v, g.kv_stride, len);
    copy_commit();
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (unsigned half = 0; half < 2; half++) {
        const unsigned i = row + 16 * m + 8 * half + lane / 4;
        const size_t at = (run.row + t0 + (i < n ? i : 0)) * H + head;
        lse[m][half] = i < n ? g.lse[at] * LOG2_E : INFINITY;
        sum[m][half] = i < n ? sums[at] : 0.0f;
        scale[m][half] = g.scale;
    }
    for (unsigned tile = 0; tile < n_tiles; tile++) {
        const unsigned key = tile * KEYS, next = key + KEYS;
        float s[MT][NT][4], dp[MT][NT][4];
        copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before was read */
        if (next < len) {
            tile_stage<D, KEYS>(w->other[(tile + 1) % 2][0], k + next * g.kv_stride,
                                g.kv_stride, len - next);
            tile_stage<D, KEYS>(w->other[(tile + 1) % 2][1], v + next * g.kv_stride,
                                g.kv_stride, len - next);
            copy_commit();
        }
        if (key > t0 + row + 16 * MT - 1)
            continue; /* later than all of the warp's rows */
        tile_scores<D, MT, NT>(s, w->own[0], row, w->other[tile % 2][0]);
        tile_scores<D, MT, NT>(dp, w->own[1], row, w->other[tile % 2][1]);
        weights_by_query<MT, NT>(s, dp, lse, sum, g.scale * LOG2_E, t0 + row, key,
                                 key + KEYS - 1 > t0 + row);
        tile_weigh<D, MT, NT>(dq, dp, w->other[tile % 2][0]);
    }
    tile_store<D, MT>(w->own[0], dq, scale, row, g.dq + (run.row + t0) * g.q_stride + head * D,
                      g.q_stride, n);
}

/* The query tile at t0 of a head, with its lse and sums. */
template <int D, typename SHARED>
__device__ __forceinline__ void stage_queries(SHARED *w, const struct open_attention_grad &g,
                                              const float *sums, const struct device_run &run,
                                              size_t head, unsigned t0, unsigned buffer)
{
    const unsigned QUERIES = dkv_sizes<D>::OTHER, n = run.n - t0, i = threadIdx.x;
    const size_t row = run.row + t0;

    tile_stage<D, dkv_sizes<D>::OTHER>(w->other[buffer][0], g.q + row * g.q_stride + head * D,
                                       g.q_stride, n);
    tile_stage<D, dkv_sizes<D>::OTHER>(w->other[buffer][1],
                                       g.dout + row * g.out_stride + head * D, g.out_stride, n);
    copy_commit();
    if (i < QUERIES) { /* a query that is not there has weights of 0 */
        w->lse[buffer][i] = i < n ? g.lse[(row + i) * g.H + head] * LOG2_E : INFINITY;
        w->sum[buffer][i] = i < n ? sums[(row + i) * g.H + head] : 0.0f;
    }
}

/* s (keys, queries) becomes P and dp becomes dS. */
template <int MT, int NT>
__device__ __forceinline__ void weights_by_key(float (&s)[MT][NT][4], float (&dp)[MT][NT][4],
                                               const float *lse, const float *sum, float scale,
                                               unsigned key, unsigned query, bool is_masked)
{
    const unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;

    UNROLL
    for (int n = 0; n < NT; n++) {
        const float2 l = *reinterpret_cast<const float2 *>(lse + 8 * n + 2 * q);
        const float2 d = *reinterpret_cast<const float2 *>(sum + 8 * n + 2 * q);
        UNROLL
        for (int m = 0; m < MT; m++)
            UNROLL
        for (unsigned i = 0; i < 4; i++) {
            float p = fast_exp2(fmaf(s[m][n][i], scale, i % 2 == 0 ? -l.x : -l.y));
            if (is_masked && key + 16 * m + i / 2 * 8 + r > query + 8 * n + 2 * q + i % 2)
                p = 0.0f;
            s[m][n][i] = p;
            dp[m][n][i] = p * (dp[m][n][i] - (i % 2 == 0 ? d.x : d.y));
        }
    }
}

/* A block has OWN keys of one group of one sequence, and goes through the queries of all its heads
 * that see them; the first keys first, for most see them. */
template <int D>
__global__ void __launch_bounds__(THREADS)
    dkv_kernel(struct open_attention_grad g, const float *sums)
{
    typedef dkv_sizes<D> sizes;
    typedef backward_shared<D, sizes> shared;
    const int MT = sizes::MT, NT = sizes::OTHER / 8;
    const unsigned QUERIES = sizes::OTHER, OWN = shared::OWN;
    DYNAMIC_SHARED(shared, w);
    const unsigned G = (unsigned)g.G, runs = (unsigned)g.n_runs, x = blockIdx.x;
    const struct device_run run = g.runs[x / G % runs];
    const unsigned k0 = x / G / runs * OWN, group = x % G, R = (unsigned)(g.H / g.G);
    const unsigned row = threadIdx.x / 32 * 16 * MT;
    float dk[MT][D / 8][4] = {}, dv[MT][D / 8][4] = {}, scale[MT][2], one[MT][2];

    if (k0 >= run.n)
        return;
    const unsigned n = run.n - k0 < OWN ? run.n - k0 : OWN;
    const unsigned per_head = (run.n - k0 + QUERIES - 1) / QUERIES, n_tiles = R * per_head;
    const size_t at = (run.row + k0) * g.kv_stride + group * D;
    tile_stage<D, OWN>(w->own[0], g.k + at, g.kv_stride, n);
    tile_stage<D, OWN>(w->own[1], g.v + at, g.kv_stride, n);
    stage_queries<D>(w, g, sums, run, group * R, k0, 0);
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int half = 0; half < 2; half++) {
        scale[m][half] = g.scale;
        one[m][half] = 1.0f;
    }
    for (unsigned tile = 0; tile < n_tiles; tile++) {
        const unsigned t0 = k0 + tile % per_head * QUERIES, next = tile + 1, buffer = tile % 2;
        float s[MT][NT][4], dp[MT][NT][4];
        copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before was read */
        if (next < n_tiles)
            stage_queries<D>(w, g, sums, run, group * R + next / per_head,
                             k0 + next % per_head * QUERIES, next % 2);
        if (k0 + row > t0 + QUERIES - 1)
            continue; /* later than all of these queries */
        tile_scores<D, MT, NT>(s, w->own[0], row, w->other[buffer][0]);
        tile_scores<D, MT, NT>(dp, w->own[1], row, w->other[buffer][1]);
        weights_by_key<MT, NT>(s, dp, w->lse[buffer], w->sum[buffer], g.scale * LOG2_E,
                               k0 + row, t0, k0 + row + 16 * MT - 1 > t0);
        tile_weigh<D, MT, NT>(dv, s, w->other[buffer][1]);
        tile_weigh<D, MT, NT>(dk, dp, w->other[buffer][0]);
    }
    tile_store<D, MT>(w->own[0], dk, scale, row, g.dk + at, g.kv_stride, n);
    tile_store<D, MT>(w->own[1], dv, one, row, g.dv + at, g.kv_stride, n);
}

template <int D>
void backward(struct device *d, const struct open_attention_grad *g, const float *sums)
{
    typedef backward_shared<D, dq_sizes<D>> dq_shared;
    typedef backward_shared<D, dkv_sizes<D>> dkv_shared;
    const unsigned dq_tiles = (unsigned)((g->max_n + dq_shared::OWN - 1) / dq_shared::OWN);
    const unsigned dkv_tiles = (unsigned)((g->max_n + dkv_shared::OWN - 1) / dkv_shared::OWN);
    const cudaFuncAttribute dynamic = cudaFuncAttributeMaxDynamicSharedMemorySize;
    const char *what = "attention's gradient";

    if (!device_note(d, cudaFuncSetAttribute(dq_kernel<D>, dynamic, (int)sizeof(dq_shared)),
                     what) ||
        !device_note(d, cudaFuncSetAttribute(dkv_kernel<D>, dynamic, (int)sizeof(dkv_shared)),
                     what))
        return;
    LAUNCH(dq_kernel<D>, (unsigned)(g->n_runs * g->H) * dq_tiles, THREADS, sizeof(dq_shared),
           d->stream, *g, sums, dq_tiles);
    LAUNCH(dkv_kernel<D>, (unsigned)(g->n_runs * g->G) * dkv_tiles, THREADS, sizeof(dkv_shared),
           d->stream, *g, sums);
}

} // namespace

void open_attention_backward(struct device *d, const struct open_attention_grad *g)
{
    if (g->n_runs == 0 || g->max_n == 0 || !device_is_well(d))
        return;
    CHECK(g->D == 32 || g->D == 64 || g->D == 128);
    float *sums = (float *)device_scratch(d, g->rows * g->H * sizeof(float));
    if (!sums)
        return;
    LAUNCH(sums_kernel, (unsigned)((g->rows * g->H + WARPS - 1) / WARPS), THREADS, 0, d->stream,
           sums, *g);
    if (g->D == 32)
        backward<32>(d, g, sums);
    else if (g->D == 64)
        backward<64>(d, g, sums);
    else
        backward<128>(d, g, sums);
    device_launched(d, "attention's gradient");
}
