/*
 * Attention of many rows a sequence: tiles of queries in registers, tiles of keys and values going by
 * (arXiv:2307.08691). Exponentials are powers of two, m the largest product so far, not yet scaled.
 */
#include "engine/cuda/open_tiles.cuh"

#include "base/check.h"

namespace
{

/* A warp has 16 MT rows; a tile of keys is a page. */
const int MT = 2, NT = ATTENTION_PAGE / 8;
const unsigned QUERIES = WARPS * 16 * MT, KEYS = ATTENTION_PAGE;

template <int D> struct forward_shared {
    uint16_t q[QUERIES * D];
    uint16_t k[2][KEYS * D], v[2][KEYS * D];
};

/* What a lane knows of its rows 16 m + 8 half + lane / 4. */
struct sums {
    float m[MT][2], l[MT][2];
};

template <int D>
__device__ __forceinline__ void
stage_keys(struct forward_shared<D> *w, const struct open_attention &a,
           const struct device_run &run, size_t g, unsigned tile, unsigned len)
{
    const unsigned at = tile * KEYS, n = len - at;
    const uint16_t *k, *v;
    size_t stride = D;

    if (a.pages) {
        k = a.pages[run.pages + tile] + a.page_at + g * KEYS * D;
        v = k + a.G * KEYS * D;
    } else {
        stride = a.kv_stride;
        k = a.k + (run.row + at) * stride + g * D;
        v = a.v + (run.row + at) * stride + g * D;
    }
    tile_stage<D, KEYS>(w->k[tile % 2], k, stride, n);
    tile_stage<D, KEYS>(w->v[tile % 2], v, stride, n);
    copy_commit();
}

/* Row i of the tile is at position first + i; later keys than that become -inf. */
__device__ __forceinline__ void mask(float (&s)[MT][NT][4], unsigned first, unsigned row,
                                     unsigned key)
{
    const unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;

    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int n = 0; n < NT; n++)
        UNROLL
    for (unsigned i = 0; i < 4; i++)
        if (key + 8 * n + 2 * q + i % 2 > first + row + 16 * m + i / 2 * 8 + r)
            s[m][n][i] = -INFINITY;
}

/* s becomes the weights of a tile; what came before is scaled to the new maxima. */
template <int D>
__device__ __forceinline__ void soften(float (&s)[MT][NT][4], struct sums &x,
                                       float (&o)[MT][D / 8][4], float scale)
{
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int half = 0; half < 2; half++) {
        float top = x.m[m][half];
        UNROLL
        for (int n = 0; n < NT; n++)
            top = fmaxf(top, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        const float shrink = fast_exp2((x.m[m][half] - top) * scale), sub = top * scale;
        float l = 0.0f;
        UNROLL
        for (int n = 0; n < NT; n++)
            UNROLL
        for (int i = 2 * half; i < 2 * half + 2; i++) {
            s[m][n][i] = fast_exp2(fmaf(s[m][n][i], scale, -sub));
            l += s[m][n][i];
        }
        x.m[m][half] = top;
        x.l[m][half] = fmaf(x.l[m][half], shrink, l);
        UNROLL
        for (int c = 0; c < D / 8; c++) {
            o[m][c][2 * half] *= shrink;
            o[m][c][2 * half + 1] *= shrink;
        }
    }
}

template <int D>
__device__ __forceinline__ void
finish(struct forward_shared<D> *w, const struct open_attention &a,
       const struct device_run &run, const struct sums &x, const float (&o)[MT][D / 8][4],
       size_t head, unsigned t0, unsigned row)
{
    const unsigned lane = threadIdx.x % 32, n = run.n - t0;
    float inv[MT][2];

    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (unsigned half = 0; half < 2; half++) {
        const unsigned i = row + 16 * m + 8 * half + lane / 4;
        float l = x.l[m][half];
        l += __shfl_xor_sync(0xffffffffu, l, 1);
        l += __shfl_xor_sync(0xffffffffu, l, 2);
        inv[m][half] = 1.0f / l;
        if (a.lse && lane % 4 == 0 && i < n)
            a.lse[(run.row + t0 + i) * a.H + head] = x.m[m][half] * a.scale + log2f(l) * LOG_2;
    }
    tile_store<D, MT>(w->q, o, inv, row, a.out + (run.row + t0) * a.out_stride + head * D,
                      a.out_stride, n);
}

/* A block has QUERIES rows of one head of one run; the last first, for they see the most. */
template <int D>
__global__ void __launch_bounds__(THREADS)
    forward_kernel(struct open_attention a, unsigned tiles)
{
    DYNAMIC_SHARED(struct forward_shared<D>, w);
    const unsigned H = (unsigned)a.H, runs = (unsigned)a.n_runs, x = blockIdx.x;
    const struct device_run run = a.runs[x / H % runs];
    const unsigned t0 = (tiles - 1 - x / H / runs) * QUERIES, head = x % H;
    const unsigned g = head / (H / (unsigned)a.G), row = threadIdx.x / 32 * 16 * MT;
    struct sums sums;
    float o[MT][D / 8][4] = {};

    if (t0 >= run.n)
        return;
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int half = 0; half < 2; half++) {
        sums.m[m][half] = -INFINITY;
        sums.l[m][half] = 0.0f;
    }
    const unsigned first = run.first + t0; /* position of the tile's first row */
    const unsigned n = run.n - t0 < QUERIES ? run.n - t0 : QUERIES;
    const unsigned len = first + n, n_tiles = (len + KEYS - 1) / KEYS;
    tile_stage<D, QUERIES>(w->q, a.q + (run.row + t0) * a.q_stride + head * D, a.q_stride, n);
    stage_keys<D>(w, a, run, g, 0, len);
    for (unsigned tile = 0; tile < n_tiles; tile++) {
        const unsigned key = tile * KEYS;
        float s[MT][NT][4];
        copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before was read */
        if (tile + 1 < n_tiles)
            stage_keys<D>(w, a, run, g, tile + 1, len);
        if (key > first + row + 16 * MT - 1)
            continue; /* later than all of the warp's rows */
        tile_scores<D, MT, NT>(s, w->q, row, w->k[tile % 2]);
        if (key + KEYS - 1 > first + row)
            mask(s, first, row, key);
        soften<D>(s, sums, o, a.scale * LOG2_E);
        tile_weigh<D, MT, NT>(o, s, w->v[tile % 2]);
    }
    finish<D>(w, a, run, sums, o, head, t0, row);
}

template <int D> void forward(struct device *d, const struct open_attention *a)
{
    const unsigned tiles = (unsigned)((a->max_n + QUERIES - 1) / QUERIES);
    const size_t bytes = sizeof(struct forward_shared<D>);

    if (device_note(d,
                    cudaFuncSetAttribute(forward_kernel<D>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)bytes),
                    "attention"))
        LAUNCH(forward_kernel<D>, (unsigned)(a->n_runs * a->H) * tiles, THREADS, bytes,
               d->stream, *a, tiles);
}

} // namespace

void open_attention_forward(struct device *d, const struct open_attention *a)
{
    if (a->n_runs == 0 || a->max_n == 0 || !device_is_well(d))
        return;
    CHECK(a->D == 32 || a->D == 64 || a->D == 128);
    if (a->D == 32)
        forward<32>(d, a);
    else if (a->D == 64)
        forward<64>(d, a);
    else
        forward<128>(d, a);
    device_launched(d, "attention");
}
