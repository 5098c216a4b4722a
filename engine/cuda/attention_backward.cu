#include "engine/cuda/attention.cuh"

#include "base/check.h"
#include "engine/cuda/f32.h"

namespace
{

const unsigned TILE = 64;        /* queries, and keys */
const unsigned P_ROW = TILE + 4; /* of a tile's weights */

struct backward_shared {
    float p[TILE * P_ROW], ds[TILE * P_ROW]; /* (queries, keys) */
    float staged[4 * STEP * TILE];
    float lse[TILE], sum[TILE]; /* of the queries */
};

/* Head h of a run's positions `first` and on, the tile's at most. */
__device__ inline struct rows tile_of(const float *x, const struct device_run &run,
                                      size_t stride, size_t h, size_t D, unsigned first)
{
    unsigned left = run.n - first;
    return {x + (run.row + first) * stride + h * D, stride, 0, 0, 1, left < TILE ? left : TILE};
}

/* sum[row, head] = the class's sum of dout * out, by 16 lanes each. */
__global__ void sums_kernel(float *sum, struct device_attention_grad g,
                            struct attention_shape s)
{
    const size_t i = blockIdx.x * (size_t)(THREADS / 16) + threadIdx.x / 16;
    const bool is_there = i < g.rows * s.H;
    const size_t at = is_there ? i / s.H * s.out_stride + i % s.H * s.D : 0;
    float x = 0.0f;

    for (unsigned d = threadIdx.x % 16; d < s.D; d += 16)
        x = fmaf(g.dout[at + d], g.out[at + d], x);
    for (int by = 8; by > 0; by /= 2)
        x += __shfl_down_sync(ALL_LANES, x, by, 16);
    if (is_there && threadIdx.x % 16 == 0)
        sum[i] = x;
}

/* acc += channel d of four rows of `left` times that of four rows of `right`. */
__device__ inline void fma_channel(float (&acc)[4][4], const float *left, const float *right,
                                   unsigned d)
{
    const float4 a = column4<TILE>(left, d, threadIdx.x / 16 * 4);
    const float4 b = column4<TILE>(right, d, threadIdx.x % 16 * 4);
    const float x[4] = {a.x, a.y, a.z, a.w};

    fma_line(acc, x, b);
}

/* What the tiles of one head are made from. */
struct head_tiles {
    struct rows q, k, dout, v;
    unsigned D;
    float scale;
    bool is_wide;
};

/* p and ds of the queries and keys; elements that the mask cuts as they come. */
__device__ inline void weigh_tile(struct backward_shared *w, const struct head_tiles &t)
{
    float *q = w->staged, *k = q + STEP * TILE, *dout = k + STEP * TILE,
          *v = dout + STEP * TILE;
    const unsigned row = threadIdx.x / 16 * 4, key = threadIdx.x % 16 * 4;
    float s[4][4] = {}, dp[4][4] = {};

    for (unsigned d0 = 0; d0 < t.D; d0 += STEP) {
        __syncthreads(); /* everybody has read what stands there */
        stage_columns<TILE>(q, t.q, d0, t.D, t.is_wide);
        stage_columns<TILE>(k, t.k, d0, t.D, t.is_wide);
        stage_columns<TILE>(dout, t.dout, d0, t.D, t.is_wide);
        stage_columns<TILE>(v, t.v, d0, t.D, t.is_wide);
        __syncthreads();
        const unsigned n = t.D - d0 < STEP ? t.D - d0 : STEP;
        if (n == STEP) {
            UNROLL
            for (unsigned d = 0; d < STEP; d++) {
                fma_channel(s, q, k, d);
                fma_channel(dp, dout, v, d);
            }
        } else {
            UNROLL_NOT
            for (unsigned d = 0; d < n; d++) {
                fma_channel(s, q, k, d);
                fma_channel(dp, dout, v, d);
            }
        }
    }
    UNROLL
    for (unsigned r = 0; r < 4; r++) {
        const float lse = w->lse[row + r], sum = w->sum[row + r];
        float p[4];
        UNROLL
        for (int c = 0; c < 4; c++)
            p[c] = cut_exp(s[r][c] * t.scale - lse);
        *reinterpret_cast<float4 *>(w->p + (row + r) * P_ROW + key) =
            make_float4(p[0], p[1], p[2], p[3]);
        *reinterpret_cast<float4 *>(w->ds + (row + r) * P_ROW + key) =
            make_float4(p[0] * (dp[r][0] - sum), p[1] * (dp[r][1] - sum),
                        p[2] * (dp[r][2] - sum), p[3] * (dp[r][3] - sum));
    }
}

/* lse and sum of the queries from t0 on. Called by all threads, after all have read the last. */
__device__ inline void load_sums(struct backward_shared *w,
                                 const struct device_attention_grad &g, const float *sums,
                                 const struct device_run &run, size_t H, size_t h, unsigned t0)
{
    const unsigned i = threadIdx.x;

    if (i >= TILE)
        return;
    const size_t at = (run.row + t0 + i) * H + h;
    const bool is_there = t0 + i < run.n;
    w->lse[i] = is_there ? g.lse[at] : 0.0f;
    w->sum[i] = is_there ? sums[at] : 0.0f;
}

/* A thread block has one tile of queries of one head; the last first, for they see the most. */
template <int WIDE>
__global__ void __launch_bounds__(THREADS, 2)
    dq_kernel(struct device_attention_grad g, struct attention_shape s, const float *sums,
              unsigned tiles, bool is_wide)
{
    DYNAMIC_SHARED(struct backward_shared, w);
    const unsigned x = blockIdx.x, H = (unsigned)s.H, runs = (unsigned)g.n_runs;
    const struct device_run run = g.runs[x / H % runs];
    const unsigned h = x % H, group = h / (unsigned)(s.H / s.G);
    const unsigned t0 = (tiles - 1 - x / H / runs) * TILE;
    const struct place<WIDE> at;
    float dq[WIDE / 16][4] = {};

    if (t0 >= run.n)
        return;
    struct head_tiles t = {tile_of(g.q, run, s.q_stride, h, s.D, t0),
                           {},
                           tile_of(g.dout, run, s.out_stride, h, s.D, t0),
                           {},
                           (unsigned)s.D,
                           s.scale,
                           is_wide};
    load_sums(w, g, sums, run, s.H, h, t0);
    for (unsigned k0 = 0; k0 <= t0; k0 += TILE) {
        t.k = tile_of(g.k, run, s.k_stride, group, s.D, k0);
        t.v = tile_of(g.v, run, s.v_stride, group, s.D, k0);
        weigh_tile(w, t);
        for (unsigned i0 = 0; i0 < t.k.n; i0 += STEP) {
            unsigned end[WIDE / 16];
            __syncthreads();
            stage_lines<WIDE>(w->staged, t.k, i0, t.D, is_wide);
            __syncthreads();
            UNROLL
            for (unsigned r = 0; r < WIDE / 16; r++) {
                unsigned e = t0 + at.row + r + 1, begin = k0 + i0;
                end[r] = e > begin ? e - begin : 0;
            }
            weigh_lines<WIDE, P_ROW>(dq, w->ds + at.row * P_ROW + i0, w->staged + at.d,
                                     t.k.n - i0 < STEP ? t.k.n - i0 : STEP, end[0], end);
        }
    }
    UNROLL
    for (unsigned r = 0; r < WIDE / 16; r++)
        if (at.row + r < t.q.n)
            store4(g.dq + (run.row + t0 + at.row + r) * s.q_stride + h * s.D, at.d, t.D,
                   make_float4(dq[r][0] * s.scale, dq[r][1] * s.scale, dq[r][2] * s.scale,
                               dq[r][3] * s.scale),
                   is_wide);
}

/* acc[key] += weights[i0 + j, key] * line j over the n lines, ascending; where the tile is masked,
 * from the query on that stands at the key. `weights` stands at the thread's keys. */
template <int WIDE>
__device__ inline void weigh_queries(float (&acc)[WIDE / 16][4], const float *weights,
                                     const float *lines, unsigned i0, unsigned n,
                                     bool is_masked)
{
    const struct place<WIDE> at;

    for (unsigned j = 0; j < n; j++) {
        const float *row = weights + (i0 + j) * P_ROW;
        const float4 x = *reinterpret_cast<const float4 *>(lines + j * WIDE);
        float p[WIDE / 16];
        UNROLL
        for (unsigned r = 0; r < WIDE / 16; r += 4) {
            const float4 y = *reinterpret_cast<const float4 *>(row + r);
            p[r] = y.x;
            p[r + 1] = y.y;
            p[r + 2] = y.z;
            p[r + 3] = y.w;
        }
        if (!is_masked || i0 + j >= at.row + WIDE / 16 - 1) {
            fma_line(acc, p, x);
            continue;
        }
        UNROLL
        for (unsigned r = 0; r < WIDE / 16; r++)
            if (i0 + j >= at.row + r) {
                acc[r][0] = fmaf(p[r], x.x, acc[r][0]);
                acc[r][1] = fmaf(p[r], x.y, acc[r][1]);
                acc[r][2] = fmaf(p[r], x.z, acc[r][2]);
                acc[r][3] = fmaf(p[r], x.w, acc[r][3]);
            }
    }
}

/* A thread block has one tile of keys of one group; the first ones first, for most see them. */
template <int WIDE>
__global__ void __launch_bounds__(THREADS, WIDE == 64 ? 2 : 1)
    dkv_kernel(struct device_attention_grad g, struct attention_shape s, const float *sums,
               bool is_wide)
{
    DYNAMIC_SHARED(struct backward_shared, w);
    const unsigned x = blockIdx.x, G = (unsigned)s.G, runs = (unsigned)g.n_runs;
    const struct device_run run = g.runs[x / G % runs];
    const unsigned group = x % G, R = (unsigned)(s.H / s.G), k0 = x / G / runs * TILE;
    const struct place<WIDE> at;
    float dk[WIDE / 16][4] = {}, dv[WIDE / 16][4] = {};

    if (k0 >= run.n)
        return;
    struct head_tiles t = {{},
                           tile_of(g.k, run, s.k_stride, group, s.D, k0),
                           {},
                           tile_of(g.v, run, s.v_stride, group, s.D, k0),
                           (unsigned)s.D,
                           s.scale,
                           is_wide};
    for (unsigned h = group * R; h < (group + 1) * R; h++)
        for (unsigned t0 = k0; t0 < run.n; t0 += TILE) {
            t.q = tile_of(g.q, run, s.q_stride, h, s.D, t0);
            t.dout = tile_of(g.dout, run, s.out_stride, h, s.D, t0);
            load_sums(w, g, sums, run, s.H, h, t0);
            weigh_tile(w, t);
            for (unsigned i0 = 0; i0 < t.q.n; i0 += STEP) {
                unsigned n = t.q.n - i0 < STEP ? t.q.n - i0 : STEP;
                __syncthreads();
                stage_lines<WIDE>(w->staged, t.q, i0, t.D, is_wide);
                stage_lines<WIDE>(w->staged + STEP * WIDE, t.dout, i0, t.D, is_wide);
                __syncthreads();
                weigh_queries<WIDE>(dk, w->ds + at.row, w->staged + at.d, i0, n, t0 == k0);
                weigh_queries<WIDE>(dv, w->p + at.row, w->staged + STEP * WIDE + at.d, i0, n,
                                    t0 == k0);
            }
        }
    UNROLL
    for (unsigned r = 0; r < WIDE / 16; r++) {
        const size_t row = run.row + k0 + at.row + r;
        if (at.row + r >= t.k.n)
            continue;
        store4(g.dk + row * s.k_stride + group * s.D, at.d, t.D,
               make_float4(dk[r][0] * s.scale, dk[r][1] * s.scale, dk[r][2] * s.scale,
                           dk[r][3] * s.scale),
               is_wide);
        store4(g.dv + row * s.v_stride + group * s.D, at.d, t.D,
               make_float4(dv[r][0], dv[r][1], dv[r][2], dv[r][3]), is_wide);
    }
}

template <int WIDE>
void backward(struct device *d, const struct device_attention_grad *g, const float *sums)
{
    const struct attention_shape *s = g->shape;
    const unsigned tiles = (unsigned)((g->max_n + TILE - 1) / TILE);
    const size_t strides = s->q_stride | s->out_stride | s->k_stride | s->v_stride;
    const bool is_wide = is_wide4(s->D, strides, g->q, g->k, g->v, g->dout) &&
                         is_wide4(s->D, strides, g->dq, g->dk, g->dv, g->dv);
    const int bytes = (int)sizeof(struct backward_shared);

    if (!device_note(d,
                     cudaFuncSetAttribute(dq_kernel<WIDE>,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                     "attention's gradient") ||
        !device_note(d,
                     cudaFuncSetAttribute(dkv_kernel<WIDE>,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                     "attention's gradient"))
        return;
    LAUNCH(dq_kernel<WIDE>, (unsigned)(g->n_runs * s->H) * tiles, THREADS,
           sizeof(struct backward_shared), d->stream, *g, *s, sums, tiles, is_wide);
    LAUNCH(dkv_kernel<WIDE>, (unsigned)(g->n_runs * s->G) * tiles, THREADS,
           sizeof(struct backward_shared), d->stream, *g, *s, sums, is_wide);
}

} // namespace

void cuda_f32_attention_backward(struct device *d, const struct device_attention_grad *g)
{
    const struct attention_shape *s = g->shape;

    if (!device_is_well(d) || g->n_runs == 0 || g->max_n == 0)
        return;
    CHECK(s->D > 0 && s->D <= ATTENTION_D_MAX && s->G > 0 && s->H % s->G == 0);
    float *sums = (float *)device_scratch(d, g->rows * s->H * sizeof(float));
    if (!sums)
        return;
    LAUNCH(sums_kernel, (unsigned)((g->rows * s->H + THREADS / 16 - 1) / (THREADS / 16)),
           THREADS, 0, d->stream, sums, *g, *s);
    if (s->D <= 64)
        backward<64>(d, g, sums);
    else
        backward<128>(d, g, sums);
    device_launched(d, "attention's gradient");
}
