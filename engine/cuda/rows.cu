#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

namespace
{

const unsigned block = 256;

/* Elements are taken in strides of the grid, so that any n fits. */
unsigned blocks_of(size_t n)
{
    size_t blocks = (n + block - 1) / block;
    return (unsigned)(blocks < 65535 ? blocks : 65535);
}

/* f(i) for i = 0..n-1. */
template <typename each> __device__ __forceinline__ void for_each(size_t n, each f)
{
    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block)
        f(i);
}

/* ---- elements -------------------------------------------------------------------------------- */

__global__ void add_kernel(float *y, const float *a, const float *b, size_t n)
{
    for_each(n, [=](size_t i) { y[i] = a[i] + b[i]; });
}

__global__ void scale_kernel(float *y, const float *x, float s, size_t n)
{
    for_each(n, [=](size_t i) { y[i] = x[i] * s; });
}

__global__ void swiglu_kernel(float *y, const float *g, const float *u, size_t n)
{
    for_each(n, [=](size_t i) { y[i] = (g[i] / (1.0f + lane_exp(-g[i]))) * u[i]; });
}

__global__ void swiglu_backward_kernel(float *dg, float *du, const float *dy, const float *g,
                                       const float *u, size_t n)
{
    for_each(n, [=](size_t i) {
        const float gate = g[i], d = dy[i];
        const float e = 1.0f + lane_exp(-gate);
        const float s = 1.0f / e;
        const float a = (d * u[i]) * (s * fmaf(gate, 1.0f - s, 1.0f));
        const float b = d * (gate / e);

        dg[i] = a;
        du[i] = b;
    });
}

/* ---- rows that are moved: a block each ------------------------------------------------------- */

/* y[to ? to[r] : r, :] = x[from ? from[r] : r, :] */
__global__ void move_kernel(float *y, const uint32_t *to, const float *x, const uint32_t *from,
                            size_t C)
{
    const size_t r = blockIdx.x;
    float *yr = y + (to ? to[r] : r) * C;
    const float *xr = x + (from ? from[r] : r) * C;

    for (size_t c = threadIdx.x; c < C; c += blockDim.x)
        yr[c] = xr[c];
}

__global__ void widen_kernel(float *y, const uint16_t *table, const int32_t *id, size_t C)
{
    const size_t r = blockIdx.x;
    const uint16_t *row = table + (size_t)id[r] * C;

    for (size_t c = threadIdx.x; c < C; c += blockDim.x)
        y[r * C + c] = __uint_as_float((unsigned)row[c] << 16);
}

/* A block for each id: the sums over its rows of `order`. */
__global__ void embed_backward_kernel(float *dtable, const float *dy, const int32_t *id,
                                      const uint32_t *order, const uint32_t *start, size_t C)
{
    const uint32_t first = start[blockIdx.x], end = start[blockIdx.x + 1];
    float *row = dtable + (size_t)id[order[first]] * C;

    for (size_t c = threadIdx.x; c < C; c += blockDim.x) {
        float sum = row[c];
        for (uint32_t i = first; i < end; i++)
            sum = sum + dy[order[i] * C + c];
        row[c] = sum;
    }
}

/* ---- columns: a thread each, rows ascending -------------------------------------------------- */

const unsigned column_block = 64, rows_ahead = 16;

/* sum = enter(sum, a[r, c], b[r, c], scale[r]) for all rows; b and scale may be NULL. Rows are read
 * `rows_ahead` at a time. */
template <bool TWO>
__global__ void columns_kernel(float *sums, const float *a, const float *b, const float *scale,
                               size_t N, size_t C)
{
    const size_t c = blockIdx.x * (size_t)column_block + threadIdx.x;
    float sum, x[rows_ahead], y[rows_ahead];

    if (c >= C)
        return;
    sum = sums[c];
    for (size_t r = 0; r < N; r += rows_ahead) {
        const unsigned n = N - r < rows_ahead ? (unsigned)(N - r) : rows_ahead;
#pragma unroll
        for (unsigned i = 0; i < rows_ahead; i++) {
            x[i] = i < n ? a[(r + i) * C + c] : 0.0f;
            if (TWO)
                y[i] = i < n ? b[(r + i) * C + c] * scale[r + i] : 0.0f;
        }
#pragma unroll
        for (unsigned i = 0; i < rows_ahead; i++)
            if (i < n)
                sum = TWO ? fmaf(x[i], y[i], sum) : sum + x[i];
    }
    sums[c] = sum;
}

unsigned column_blocks(size_t C)
{
    return (unsigned)((C + column_block - 1) / column_block);
}

/* ---- norms: a warp or a block for each row --------------------------------------------------- */

const unsigned norm_block = 256;

template <int WARPS>
__device__ __forceinline__ float rms_scale(const float *x, size_t C, float eps, float *room)
{
    const float sum = tree_sum<WARPS>(C, room, [=](float s, size_t i) {
        const float e = x[i];
        return fmaf(e, e, s);
    });
    return 1.0f / sqrtf(sum / (float)C + eps);
}

template <int WARPS>
__global__ void __launch_bounds__(norm_block)
    rmsnorm_kernel(float *y, const float *x, const float *w, size_t N, size_t C, float eps)
{
    __shared__ float room[norm_block / 32 / WARPS][SUM_ROOM];
    const unsigned group = threadIdx.x / (WARPS * 32), thread = threadIdx.x % (WARPS * 32);
    const size_t row = blockIdx.x * (size_t)(norm_block / 32 / WARPS) + group;

    if (row >= N)
        return;
    y += row * C;
    x += row * C;
    const float r = rms_scale<WARPS>(x, C, eps, room[group]);
    for (size_t i = thread; i < C; i += WARPS * 32)
        y[i] = (x[i] * r) * w[i];
}

/* dx, and every row's r for the gradient of w. */
template <int WARPS>
__global__ void __launch_bounds__(norm_block)
    rmsnorm_backward_kernel(float *dx, float *scale, const float *dy, const float *x,
                            const float *w, size_t N, size_t C, float eps)
{
    __shared__ float room[norm_block / 32 / WARPS][SUM_ROOM];
    const unsigned group = threadIdx.x / (WARPS * 32), thread = threadIdx.x % (WARPS * 32);
    const size_t row = blockIdx.x * (size_t)(norm_block / 32 / WARPS) + group;

    if (row >= N)
        return;
    dx += row * C;
    dy += row * C;
    x += row * C;
    const float r = rms_scale<WARPS>(x, C, eps, room[group]);
    const float sum = tree_sum<WARPS>(
        C, room[group], [=](float s, size_t i) { return fmaf(dy[i] * w[i], x[i] * r, s); });
    const float d = sum / (float)C;
    for (size_t i = thread; i < C; i += WARPS * 32)
        dx[i] = dx[i] + r * fmaf(-(x[i] * r), d, dy[i] * w[i]);
    if (thread == 0)
        scale[row] = r;
}

/* Whether rows are short or many enough for a warp each. */
bool by_warps(const struct device *d, size_t N, size_t C)
{
    return C <= 2 * SUM_BLOCK || N >= 64 * (size_t)d->multiprocessors;
}

unsigned norm_blocks(size_t N, bool is_warps)
{
    return (unsigned)(is_warps ? (N + norm_block / 32 - 1) / (norm_block / 32) : N);
}

/* ---- rotation: a block for each token -------------------------------------------------------- */

__global__ void rope_kernel(float *x, const float *cos, const float *sin, const int32_t *pos,
                            unsigned H, unsigned D, float sign)
{
    const unsigned half = D / 2;
    const size_t t = blockIdx.x, at = (size_t)pos[t] * half;

    for (unsigned k = threadIdx.x; k < H * half; k += blockDim.x) {
        const unsigned i = k % half;
        float *x1 = x + (t * H + k / half) * D + i, *x2 = x1 + half;
        const float a = *x1, b = *x2, s = sin[at + i] * sign, c = cos[at + i];

        *x1 = fmaf(-b, s, a * c);
        *x2 = fmaf(a, s, b * c);
    }
}

} // namespace

void cuda_f32_add(struct device *d, float *y, const float *a, const float *b, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(add_kernel, blocks_of(n), block, 0, d->stream, y, a, b, n);
    device_launched(d, "add");
}

void cuda_f32_scale(struct device *d, float *y, const float *x, float s, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(scale_kernel, blocks_of(n), block, 0, d->stream, y, x, s, n);
    device_launched(d, "scale");
}

void cuda_f32_swiglu_forward(struct device *d, float *y, const float *g, const float *u,
                             size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(swiglu_kernel, blocks_of(n), block, 0, d->stream, y, g, u, n);
    device_launched(d, "swiglu");
}

void cuda_f32_swiglu_backward(struct device *d, float *dg, float *du, const float *dy,
                              const float *g, const float *u, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(swiglu_backward_kernel, blocks_of(n), block, 0, d->stream, dg, du, dy, g, u, n);
    device_launched(d, "the gradient of swiglu");
}

static void move(struct device *d, float *y, const uint32_t *to, const float *x,
                 const uint32_t *from, size_t n, size_t C)
{
    if (n == 0 || C == 0 || !device_is_well(d))
        return;
    LAUNCH(move_kernel, (unsigned)n, block, 0, d->stream, y, to, x, from, C);
    device_launched(d, "moving rows");
}

void cuda_f32_gather(struct device *d, float *y, const float *x, const uint32_t *index,
                     size_t n, size_t C)
{
    move(d, y, NULL, x, index, n, C);
}

void cuda_f32_scatter(struct device *d, float *y, const float *x, const uint32_t *index,
                      size_t n, size_t C)
{
    move(d, y, index, x, NULL, n, C);
}

/* Ids are not negative. */
void cuda_f32_embed(struct device *d, float *y, const float *table, const int32_t *id, size_t T,
                    size_t C)
{
    move(d, y, NULL, table, (const uint32_t *)id, T, C);
}

void cuda_f32_embed_packed(struct device *d, float *y, const struct packed *table,
                           const int32_t *id, size_t T, size_t C)
{
    if (table->dtype != DTYPE_BF16) {
        cuda_f32_embed(d, y, (const float *)table->data, id, T, C);
        return;
    }
    if (T == 0 || !device_is_well(d))
        return;
    LAUNCH(widen_kernel, (unsigned)T, block, 0, d->stream, y, (const uint16_t *)table->data, id,
           C);
    device_launched(d, "an embedding");
}

void cuda_f32_embed_backward(struct device *d, float *dtable, const float *dy,
                             const int32_t *id, const uint32_t *order, const uint32_t *start,
                             size_t n_ids, size_t C)
{
    if (n_ids == 0 || !device_is_well(d))
        return;
    LAUNCH(embed_backward_kernel, (unsigned)n_ids, block, 0, d->stream, dtable, dy, id, order,
           start, C);
    device_launched(d, "the gradient of an embedding");
}

void cuda_f32_bias_backward(struct device *d, float *dbias, const float *dy, size_t T, size_t N)
{
    if (T == 0 || N == 0 || !device_is_well(d))
        return;
    LAUNCH(columns_kernel<false>, column_blocks(N), column_block, 0, d->stream, dbias, dy,
           (const float *)NULL, (const float *)NULL, T, N);
    device_launched(d, "the gradient of a bias");
}

void cuda_f32_rmsnorm(struct device *d, float *y, const float *x, const float *w, size_t N,
                      size_t C, float eps)
{
    const bool is_warps = by_warps(d, N, C);

    if (N == 0 || C == 0 || !device_is_well(d))
        return;
    LAUNCH((is_warps ? rmsnorm_kernel<1> : rmsnorm_kernel<norm_block / 32>),
           norm_blocks(N, is_warps), norm_block, 0, d->stream, y, x, w, N, C, eps);
    device_launched(d, "a norm");
}

void cuda_f32_rmsnorm_backward(struct device *d, float *dx, float *dw, const float *dy,
                               const float *x, const float *w, size_t N, size_t C, float eps)
{
    const bool is_warps = by_warps(d, N, C);
    float *scale;

    if (N == 0 || C == 0)
        return;
    scale = (float *)device_scratch(d, N * sizeof(float));
    if (!scale)
        return;
    LAUNCH((is_warps ? rmsnorm_backward_kernel<1> : rmsnorm_backward_kernel<norm_block / 32>),
           norm_blocks(N, is_warps), norm_block, 0, d->stream, dx, scale, dy, x, w, N, C, eps);
    LAUNCH(columns_kernel<true>, column_blocks(C), column_block, 0, d->stream, dw, dy, x,
           (const float *)scale, N, C);
    device_launched(d, "the gradient of a norm");
}

void cuda_f32_rope(struct device *d, float *x, const float *cos, const float *sin,
                   const int32_t *pos, size_t T, size_t H, size_t D, bool is_inverse)
{
    if (T == 0 || !device_is_well(d))
        return;
    LAUNCH(rope_kernel, (unsigned)T, block, 0, d->stream, x, cos, sin, pos, (unsigned)H,
           (unsigned)D, is_inverse ? -1.0f : 1.0f);
    device_launched(d, "rotation");
}
