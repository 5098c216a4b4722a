/*
 * The rows of class open-cuda, backward. Gradients of vectors are sums over all rows: blocks add up
 * some rows each, then add to memory atomically, in whatever order they come.
 */
#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

namespace
{

const unsigned block = 256, columns_max = 16384, per_thread = columns_max / 4 / block;

__device__ __forceinline__ float group_sum(float x, unsigned lanes)
{
    for (unsigned by = lanes / 2; by > 0; by /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, (int)by);
    return x;
}

/* The block's sums of both; every thread gets them. */
__device__ __forceinline__ float2 block_sums(float x, float y)
{
    __shared__ float2 part[block / 32];
    float2 sum = {0.0f, 0.0f};

    x = group_sum(x, 32);
    y = group_sum(y, 32);
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = make_float2(x, y);
    __syncthreads();
    for (unsigned i = 0; i < block / 32; i++) {
        sum.x += part[i].x;
        sum.y += part[i].y;
    }
    __syncthreads();
    return sum;
}

/*
 * With r = 1 / sqrt(sum(x^2) / C + eps), u = dy * w:
 *   dx += r * (u - x * r^2 * sum(u * x) / C),  dw += dy * x * r
 * N of the groups of four that a thread has of a row.
 */
template <int N>
__global__ void __launch_bounds__(block)
    norm_backward_kernel(float *dx, float *dw, uint16_t *narrow, const uint16_t *dy,
                         const float *x, const float *w, size_t rows, size_t C, float eps)
{
    float4 add[N];

    for (int i = 0; i < N; i++)
        add[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (size_t row = blockIdx.x; row < rows; row += gridDim.x) {
        float4 v[N], u[N];
        float square = 0.0f, dot = 0.0f;

        for (int i = 0; i < N; i++) {
            const size_t at = threadIdx.x + (size_t)i * block;
            if (at >= C / 4)
                continue;
            const float4 g = reinterpret_cast<const float4 *>(w)[at];
            const uint2 y = reinterpret_cast<const uint2 *>(dy + row * C)[at];
            v[i] = reinterpret_cast<const float4 *>(x + row * C)[at];
            u[i] = make_float4(bf16_low(y.x), bf16_high(y.x), bf16_low(y.y), bf16_high(y.y));
            square += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
            dot += v[i].x * u[i].x * g.x + v[i].y * u[i].y * g.y + v[i].z * u[i].z * g.z +
                   v[i].w * u[i].w * g.w;
        }
        const float2 sums = block_sums(square, dot);
        const float r = 1.0f / sqrtf(sums.x / (float)C + eps), s = r * r * sums.y / (float)C;
        for (int i = 0; i < N; i++) {
            const size_t at = threadIdx.x + (size_t)i * block;
            if (at >= C / 4)
                continue;
            const float4 g = reinterpret_cast<const float4 *>(w)[at];
            float4 *to = reinterpret_cast<float4 *>(dx + row * C) + at;
            float4 z = *to;
            z.x += r * (u[i].x * g.x - v[i].x * s);
            z.y += r * (u[i].y * g.y - v[i].y * s);
            z.z += r * (u[i].z * g.z - v[i].z * s);
            z.w += r * (u[i].w * g.w - v[i].w * s);
            *to = z;
            if (narrow) {
                uint2 half = {bf16_pair(z.x, z.y), bf16_pair(z.z, z.w)};
                reinterpret_cast<uint2 *>(narrow + row * C)[at] = half;
            }
            add[i].x += u[i].x * v[i].x * r;
            add[i].y += u[i].y * v[i].y * r;
            add[i].z += u[i].z * v[i].z * r;
            add[i].w += u[i].w * v[i].w * r;
        }
    }
    for (int i = 0; i < N; i++) {
        const size_t at = threadIdx.x + (size_t)i * block;
        if (at >= C / 4)
            continue;
        atomicAdd(&dw[4 * at], add[i].x);
        atomicAdd(&dw[4 * at + 1], add[i].y);
        atomicAdd(&dw[4 * at + 2], add[i].z);
        atomicAdd(&dw[4 * at + 3], add[i].w);
    }
}

/* s = sigmoid(g): act = g s u, dg = dact u s (1 + g (1 - s)), du = dact g s */
__device__ __forceinline__ void swiglu_grad(float *g, float *u, float *d)
{
    const float s = 1.0f / (1.0f + fast_exp2(-1.4426950408889634f * *g)), gs = *g * s;
    const float act = gs * *u, du = *d * gs, dg = *d * *u * s * (1.0f + *g - gs);

    *g = dg;
    *u = du;
    *d = act;
}

__device__ __forceinline__ void swiglu_grad_pair(uint32_t *g, uint32_t *u, uint32_t *d)
{
    float g0 = bf16_low(*g), u0 = bf16_low(*u), d0 = bf16_low(*d);
    float g1 = bf16_high(*g), u1 = bf16_high(*u), d1 = bf16_high(*d);

    swiglu_grad(&g0, &u0, &d0);
    swiglu_grad(&g1, &u1, &d1);
    *g = bf16_pair(g0, g1);
    *u = bf16_pair(u0, u1);
    *d = bf16_pair(d0, d1);
}

/* n: groups of eight; F: groups of eight in a row. */
__global__ void __launch_bounds__(block)
    swiglu_backward_kernel(uint4 *gu, uint4 *dact, size_t n, unsigned F)
{
    for (size_t i = blockIdx.x * (size_t)block + threadIdx.x; i < n;
         i += (size_t)gridDim.x * block) {
        size_t at = i / F * 2 * F + i % F;
        uint4 g = gu[at], u = gu[at + F], d = dact[i];
        swiglu_grad_pair(&g.x, &u.x, &d.x);
        swiglu_grad_pair(&g.y, &u.y, &d.y);
        swiglu_grad_pair(&g.z, &u.z, &d.z);
        swiglu_grad_pair(&g.w, &u.w, &d.w);
        gu[at] = g;
        gu[at + F] = u;
        dact[i] = d;
    }
}

struct heads {
    uint16_t *dy;
    const uint16_t *x;
    const float *bias[2], *norm[2];
    float *dnorm[2];
    const float *cos, *sin;
    const struct device_run *runs;
    unsigned H, G, D;
    float eps;
};

/* As heads_kernel of open_rows.cu, backwards; values are left as they are. */
__global__ void __launch_bounds__(block) heads_backward_kernel(struct heads h)
{
    const struct device_run run = h.runs[blockIdx.y];
    const unsigned lanes = h.D / 4, half = h.D / 2, n_heads = h.H + h.G;
    const unsigned n = (n_heads * lanes + block - 1) / block * block;
    const size_t width = (size_t)(h.H + 2 * h.G) * h.D;

    for (unsigned pos = blockIdx.x; pos < run.n; pos += gridDim.x)
        for (unsigned t = threadIdx.x; t < n; t += block) {
            const bool is_there = t / lanes < n_heads;
            const unsigned head = is_there ? t / lanes : 0, j = t % lanes * 2;
            const unsigned kind = head < h.H ? 0 : 1, of_kind = head - kind * h.H;
            const size_t at = (run.row + pos) * width + head * h.D + j;
            uint32_t *dy = reinterpret_cast<uint32_t *>(h.dy + at);
            const uint32_t lo = dy[0], hi = dy[half / 2];
            float a[2] = {bf16_low(lo), bf16_high(lo)}, b[2] = {bf16_low(hi), bf16_high(hi)};

            for (unsigned i = 0; i < 2; i++) {
                const size_t angle = (size_t)pos * half + j + i;
                const float c = h.cos[angle], s = h.sin[angle], a0 = a[i], b0 = b[i];
                a[i] = a0 * c + b0 * s;
                b[i] = b0 * c - a0 * s;
            }
            if (h.norm[0]) {
                const uint32_t *x = reinterpret_cast<const uint32_t *>(h.x + at);
                const float *w = h.norm[kind];
                float v[2] = {bf16_low(x[0]), bf16_high(x[0])},
                      z[2] = {bf16_low(x[half / 2]), bf16_high(x[half / 2])};
                float square = 0.0f, dot = 0.0f;
                for (unsigned i = 0; i < 2; i++) {
                    if (h.bias[kind]) {
                        v[i] += h.bias[kind][of_kind * h.D + j + i];
                        z[i] += h.bias[kind][of_kind * h.D + half + j + i];
                    }
                    square += v[i] * v[i] + z[i] * z[i];
                    dot += v[i] * a[i] * w[j + i] + z[i] * b[i] * w[half + j + i];
                }
                square = group_sum(square, lanes);
                dot = group_sum(dot, lanes);
                const float r = 1.0f / sqrtf(square / (float)h.D + h.eps),
                            s = r * r * dot / (float)h.D;
                for (unsigned i = 0; i < 2; i++) {
                    if (is_there) {
                        atomicAdd(&h.dnorm[kind][j + i], a[i] * v[i] * r);
                        atomicAdd(&h.dnorm[kind][half + j + i], b[i] * z[i] * r);
                    }
                    a[i] = r * (a[i] * w[j + i] - v[i] * s);
                    b[i] = r * (b[i] * w[half + j + i] - z[i] * s);
                }
            }
            if (!is_there)
                continue;
            dy[0] = bf16_pair(a[0], a[1]);
            dy[half / 2] = bf16_pair(b[0], b[1]);
        }
}

__device__ __forceinline__ float number(float x)
{
    return x;
}

__device__ __forceinline__ float number(uint16_t x)
{
    return bf16_to_f32(x);
}

/* Block (columns, rows): 32 columns, and eight rows at a time. */
template <typename T>
__global__ void __launch_bounds__(block)
    columns_kernel(float *to, const T *x, size_t stride, size_t rows, size_t N)
{
    __shared__ float part[block / 32][32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t col = blockIdx.x * (size_t)32 + lane;
    float sum = 0.0f;

    for (size_t r = blockIdx.y * (size_t)(block / 32) + warp; col < N && r < rows;
         r += (size_t)gridDim.y * (block / 32))
        sum += number(x[r * stride + col]);
    part[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || col >= N)
        return;
    for (unsigned i = 1; i < block / 32; i++)
        sum += part[i][lane];
    atomicAdd(&to[col], sum);
}

template <typename T>
void columns(struct device *d, float *to, const T *x, size_t stride, size_t rows, size_t N)
{
    if (rows == 0 || !device_is_well(d))
        return;
    LAUNCH(columns_kernel<T>,
           dim3((unsigned)((N + 31) / 32), (unsigned)(rows < 512 ? (rows + 7) / 8 : 64)), block,
           0, d->stream, to, x, stride, rows, N);
    device_launched(d, "sums of columns");
}

template <int N>
void norm_backward(struct device *d, float *dx, float *dw, uint16_t *narrow, const uint16_t *dy,
                   const float *x, const float *w, size_t rows, size_t C, float eps)
{
    const unsigned blocks = 4 * d->multiprocessors;

    LAUNCH(norm_backward_kernel<N>, rows < blocks ? (unsigned)rows : blocks, block, 0,
           d->stream, dx, dw, narrow, dy, x, w, rows, C, eps);
    device_launched(d, "gradient of a norm");
}

} // namespace

void open_norm_backward(struct device *d, float *dx, float *dw, uint16_t *narrow,
                        const uint16_t *dy, const float *x, const float *w, size_t N, size_t C,
                        float eps)
{
    if (N == 0 || !device_is_well(d))
        return;
    if (C <= 4 * block)
        norm_backward<1>(d, dx, dw, narrow, dy, x, w, N, C, eps);
    else if (C <= 16 * block)
        norm_backward<4>(d, dx, dw, narrow, dy, x, w, N, C, eps);
    else
        norm_backward<per_thread>(d, dx, dw, narrow, dy, x, w, N, C, eps);
}

void open_swiglu_backward(struct device *d, uint16_t *gu, uint16_t *dact, size_t T, size_t F)
{
    const size_t n = T * F / 8, blocks = (n + block - 1) / block;

    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(swiglu_backward_kernel, (unsigned)(blocks < 65535 ? blocks : 65535), block, 0,
           d->stream, reinterpret_cast<uint4 *>(gu), reinterpret_cast<uint4 *>(dact), n,
           (unsigned)(F / 8));
    device_launched(d, "gradient of swiglu");
}

void open_heads_backward(struct device *d, const struct open_heads_grad *o)
{
    const struct heads h = {o->dy,
                            o->x,
                            {o->q_bias, o->k_bias},
                            {o->q_norm, o->k_norm},
                            {o->dq_norm, o->dk_norm},
                            o->cos,
                            o->sin,
                            o->runs,
                            (unsigned)o->H,
                            (unsigned)o->G,
                            (unsigned)o->D,
                            o->eps};
    const size_t Q = o->H * o->D, K = o->G * o->D, width = Q + 2 * K;

    if (o->n_runs == 0 || !device_is_well(d))
        return;
    LAUNCH(heads_backward_kernel, dim3((unsigned)o->max_n, (unsigned)o->n_runs), block, 0,
           d->stream, h);
    device_launched(d, "gradient of heads");
    if (o->dq_bias)
        open_columns(d, o->dq_bias, o->dy, width, o->rows, Q);
    if (o->dk_bias)
        open_columns(d, o->dk_bias, o->dy + Q, width, o->rows, K);
    if (o->dv_bias)
        open_columns(d, o->dv_bias, o->dy + Q + K, width, o->rows, K);
}

void open_bias_backward(struct device *d, float *dbias, const float *dy, size_t T, size_t N)
{
    columns<float>(d, dbias, dy, N, T, N);
}

void open_columns(struct device *d, float *dbias, const uint16_t *dy, size_t stride, size_t T,
                  size_t N)
{
    columns<uint16_t>(d, dbias, dy, stride, T, N);
}
