/*
 * The rows of class open-cuda, forward: what stands between its products, fused so that each array
 * passes through memory once.
 */
#include "engine/cuda/open_heads.cuh"
#include "engine/cuda/open_swiglu.cuh"

#include "base/check.h"
#include "engine/cuda/open.h"

namespace
{

const unsigned block = 256;

/* Elements are taken in strides of the grid, so that any n fits. */
unsigned blocks_of(size_t n)
{
    size_t blocks = (n + block - 1) / block;
    return (unsigned)(blocks < 65535 ? blocks : 65535);
}

__device__ __forceinline__ size_t first()
{
    return blockIdx.x * (size_t)block + threadIdx.x;
}

__device__ __forceinline__ size_t step()
{
    return (size_t)gridDim.x * block;
}

/* n: groups of four. */
__global__ void narrow_kernel(uint2 *y, const float4 *x, size_t n)
{
    for (size_t i = first(); i < n; i += step()) {
        float4 v = x[i];
        uint2 z = {bf16_pair(v.x, v.y), bf16_pair(v.z, v.w)};
        y[i] = z;
    }
}

__global__ void narrow_odd_kernel(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = first(); i < n; i += step())
        y[i] = bf16_of(x[i]);
}

__global__ void bias_kernel(float *x, const float *bias, size_t n, size_t C)
{
    for (size_t i = first(); i < n; i += step())
        x[i] += bias[i % C];
}

/* The block's sum; every thread gets it. */
__device__ __forceinline__ float block_sum(float x)
{
    __shared__ float part[block / 32];
    float sum = 0.0f;

    for (int by = 16; by > 0; by /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, by);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    for (unsigned i = 0; i < block / 32; i++)
        sum += part[i];
    __syncthreads();
    return sum;
}

/* A block a row, of which a thread keeps N times four numbers. w is fetched while the kernel before
 * still runs. */
template <unsigned N>
__global__ void __launch_bounds__(block)
    norm_kernel(uint16_t *y, const float *x, const float *w, size_t C, float eps)
{
    const float4 *row = reinterpret_cast<const float4 *>(x + blockIdx.x * C);
    uint2 *to = reinterpret_cast<uint2 *>(y + blockIdx.x * C);
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float4 v[N], g[N];
    float sum = 0.0f;

#pragma unroll
    for (unsigned n = 0; n < N; n++) {
        const unsigned i = threadIdx.x + n * block;
        g[n] = i < C / 4 ? reinterpret_cast<const float4 *>(w)[i] : zero;
    }
    begin_next();
    await_before();
#pragma unroll
    for (unsigned n = 0; n < N; n++) {
        const unsigned i = threadIdx.x + n * block;
        v[n] = i < C / 4 ? row[i] : zero;
    }
#pragma unroll
    for (unsigned n = 0; n < N; n++)
        sum += v[n].x * v[n].x + v[n].y * v[n].y + v[n].z * v[n].z + v[n].w * v[n].w;
    const float r = 1.0f / sqrtf(block_sum(sum) / (float)C + eps);
#pragma unroll
    for (unsigned n = 0; n < N; n++) {
        const unsigned i = threadIdx.x + n * block;
        const uint2 z = {bf16_pair(v[n].x * r * g[n].x, v[n].y * r * g[n].y),
                         bf16_pair(v[n].z * r * g[n].z, v[n].w * r * g[n].w)};
        if (i < C / 4)
            to[i] = z;
    }
}

/* Of gate and up times r. */
__device__ __forceinline__ uint32_t swiglu_pair(uint32_t g, uint32_t u, float r = 1.0f)
{
    return bf16_pair(swiglu(r * bf16_low(g), r * bf16_low(u)),
                     swiglu(r * bf16_high(g), r * bf16_high(u)));
}

/* n: groups of eight; F: groups of eight in a row. */
__global__ void __launch_bounds__(block)
    swiglu_kernel(uint4 *act, const uint4 *gu, size_t n, unsigned F)
{
    begin_next();
    await_before();
    for (size_t i = first(); i < n; i += step()) {
        size_t row = i / F, col = i % F;
        uint4 g = gu[row * 2 * F + col], u = gu[row * 2 * F + F + col];
        act[i] = make_uint4(swiglu_pair(g.x, u.x), swiglu_pair(g.y, u.y), swiglu_pair(g.z, u.z),
                            swiglu_pair(g.w, u.w));
    }
}

/* The same of row blockIdx.y, whose root is still due. All lanes of a warp. */
__global__ void __launch_bounds__(block)
    swiglu_rows_kernel(uint4 *act, const uint4 *gu, unsigned F, const float *squares,
                       unsigned n, float C, float eps)
{
    const unsigned row = blockIdx.y, col = blockIdx.x * block + threadIdx.x;
    float sum = 0.0f;

    begin_next();
    await_before();
    for (unsigned i = threadIdx.x % 32; i < n; i += 32)
        sum += squares[(size_t)row * n + i];
    for (int by = 16; by > 0; by /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, by);
    if (col >= F)
        return;
    const float r = 1.0f / sqrtf(sum / C + eps);
    const uint4 g = gu[(size_t)row * 2 * F + col], u = gu[(size_t)row * 2 * F + F + col];
    act[(size_t)row * F + col] = make_uint4(swiglu_pair(g.x, u.x, r), swiglu_pair(g.y, u.y, r),
                                            swiglu_pair(g.z, u.z, r), swiglu_pair(g.w, u.w, r));
}

/* Block (i, run) has row i of the run; D / 4 threads a head, each the channels 2j, 2j + 1 and those
 * they are rotated with, D / 2 further on. */
__global__ void __launch_bounds__(block) heads_kernel(struct heads h)
{
    begin_next();
    await_before();

    const struct device_run run = h.runs[blockIdx.y];
    const unsigned lanes = h.D / 4, half = h.D / 2, n_heads = h.H + 2 * h.G;
    const unsigned n = (n_heads * lanes + block - 1) / block * block;
    const size_t width = (size_t)n_heads * h.D, row = run.row + blockIdx.x;
    const unsigned pos = run.first + blockIdx.x;

    if (blockIdx.x >= run.n)
        return;
    for (unsigned t = threadIdx.x; t < n; t += block) {
        const bool is_there = t / lanes < n_heads;
        const unsigned head = is_there ? t / lanes : 0, j = t % lanes * 2;
        uint32_t pair[2];

        turn(pair, h, h.x + row * width, head, j, pos);
        if (!is_there)
            continue;
        uint16_t *to = h.pages && head >= h.H ? filed(h, run, pos, head) + j
                                              : h.y + row * width + head * h.D + j;
        *reinterpret_cast<uint32_t *>(to) = pair[0];
        *reinterpret_cast<uint32_t *>(to + half) = pair[1];
    }
}

} // namespace

void open_narrow(struct device *d, uint16_t *y, const float *x, size_t n)
{
    if (n == 0 || !device_is_well(d))
        return;
    if (n % 4 == 0)
        LAUNCH(narrow_kernel, blocks_of(n / 4), block, 0, d->stream,
               reinterpret_cast<uint2 *>(y), reinterpret_cast<const float4 *>(x), n / 4);
    else
        LAUNCH(narrow_odd_kernel, blocks_of(n), block, 0, d->stream, y, x, n);
    device_launched(d, "narrowing");
}

void open_norm(struct device *d, uint16_t *y, const float *x, const float *w, size_t N,
               size_t C, float eps)
{
    const size_t each = (C / 4 + block - 1) / block;
    void (*const kernel)(uint16_t *, const float *, const float *, size_t, float) =
        each <= 1   ? norm_kernel<1>
        : each <= 2 ? norm_kernel<2>
        : each <= 4 ? norm_kernel<4>
                    : norm_kernel<OPEN_WIDTH_MAX / 4 / block>;

    CHECK(C <= OPEN_WIDTH_MAX);
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH_EARLY(kernel, (unsigned)N, block, 0, d->stream, y, x, w, C, eps);
    device_launched(d, "norm");
}

void open_swiglu(struct device *d, uint16_t *act, const uint16_t *gu, size_t T, size_t F,
                 const struct open_normed *takes)
{
    uint4 *to = reinterpret_cast<uint4 *>(act);
    const uint4 *from = reinterpret_cast<const uint4 *>(gu);
    const unsigned eights = (unsigned)(F / 8);

    if (T == 0 || !device_is_well(d))
        return;
    if (takes && takes->n > 0)
        LAUNCH_EARLY(swiglu_rows_kernel, dim3((eights + block - 1) / block, (unsigned)T), block,
                     0, d->stream, to, from, eights, takes->squares, (unsigned)takes->n,
                     (float)takes->C, takes->eps);
    else
        LAUNCH_EARLY(swiglu_kernel, blocks_of(T * F / 8), block, 0, d->stream, to, from,
                     T * F / 8, eights);
    device_launched(d, "swiglu");
}

void open_bias(struct device *d, float *x, const float *bias, size_t T, size_t C)
{
    if (T == 0 || !device_is_well(d))
        return;
    LAUNCH(bias_kernel, blocks_of(T * C), block, 0, d->stream, x, bias, T * C, C);
    device_launched(d, "bias");
}

void open_heads_forward(struct device *d, const struct open_heads *o)
{
    if (o->n_runs == 0 || !device_is_well(d))
        return;
    LAUNCH_EARLY(heads_kernel, dim3((unsigned)o->max_n, (unsigned)o->n_runs), block, 0,
                 d->stream, heads_of(o));
    device_launched(d, "heads");
}
