#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

namespace
{

const unsigned block = 256;

/* Rows of squares: a warp each, or, of few long rows, a block. */
template <int WARPS>
__global__ void __launch_bounds__(block)
    square_rows_kernel(float *sums, const float *g, size_t rows, size_t cols)
{
    __shared__ float room[block / 32 / WARPS][SUM_ROOM];
    const unsigned group = threadIdx.x / (WARPS * 32);
    const size_t row = blockIdx.x * (size_t)(block / 32 / WARPS) + group;

    if (row >= rows)
        return;
    g += row * cols;
    const float sum = tree_sum<WARPS>(cols, room[group], [=](float s, size_t i) {
        const float e = g[i];
        return fmaf(e, e, s);
    });
    if (threadIdx.x % (WARPS * 32) == 0)
        sums[row] = sum;
}

__global__ void __launch_bounds__(block) sum_kernel(float *sum, const float *x, size_t n)
{
    __shared__ float room[SUM_ROOM];
    const float s = tree_sum<block / 32>(n, room, [=](float t, size_t i) { return t + x[i]; });

    if (threadIdx.x == 0)
        *sum = s;
}

__device__ __forceinline__ float keep_moment(float x)
{
    return fabsf(x) < 0x1p-100f ? 0.0f : x;
}

__global__ void adamw_kernel(float *p, float *m, float *v, const float *g,
                             struct adamw_scalars s, size_t n)
{
    const float keep = 1.0f - s.lr * s.wd, step = s.lr / s.bc1, root = sqrtf(s.bc2);
    const float b1 = s.b1, c1 = 1.0f - s.b1, b2 = s.b2, c2 = 1.0f - s.b2;

    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block) {
        const float d = g[i] * s.grad_scale;
        const float a = keep_moment(fmaf(b1, m[i], c1 * d));
        const float b = keep_moment(fmaf(b2, v[i], c2 * (d * d)));

        m[i] = a;
        v[i] = b;
        p[i] = p[i] * keep - step * (a / (sqrtf(b) / root + s.eps));
    }
}

__global__ void round_bf16_kernel(float *y, const float *x, size_t n)
{
    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block)
        y[i] = lane_float((uint32_t)lane_bf16(x[i]) << 16);
}

__global__ void not_finite_kernel(uint32_t *flag, const float *x, size_t n)
{
    uint32_t worst = 0;

    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block) {
        const uint32_t u = lane_bits(x[i]) & 0x7fffffffu;
        worst = u > worst ? u : worst;
    }
    if (worst >= LANE_INF)
        *flag = 1;
}

unsigned blocks_of(size_t n)
{
    size_t blocks = (n + block - 1) / block;
    return (unsigned)(blocks < 8192 ? blocks : 8192);
}

} // namespace

void cuda_f32_square_sum(struct device *d, float *sum, float *scratch, const float *g,
                         size_t rows, size_t cols)
{
    const bool is_warps = cols <= 2 * SUM_BLOCK || rows >= 64 * (size_t)d->multiprocessors;

    if (!device_is_well(d))
        return;
    if (rows > 0)
        LAUNCH((is_warps ? square_rows_kernel<1> : square_rows_kernel<block / 32>),
               (unsigned)(is_warps ? (rows + block / 32 - 1) / (block / 32) : rows), block, 0,
               d->stream, scratch, g, rows, cols);
    LAUNCH(sum_kernel, 1, block, 0, d->stream, sum, (const float *)scratch, rows);
    device_launched(d, "a sum of squares");
}

void cuda_f32_adamw(struct device *d, float *p, float *m, float *v, const float *g,
                    const struct adamw_scalars *s, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(adamw_kernel, blocks_of(n), block, 0, d->stream, p, m, v, g, *s, n);
    device_launched(d, "a step of AdamW");
}

void cuda_f32_round_bf16(struct device *d, float *y, const float *x, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(round_bf16_kernel, blocks_of(n), block, 0, d->stream, y, x, n);
    device_launched(d, "rounding to bf16");
}

void cuda_f32_not_finite(struct device *d, uint32_t *flag, const float *x, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(not_finite_kernel, blocks_of(n), block, 0, d->stream, flag, x, n);
    device_launched(d, "looking for numbers that are not finite");
}
