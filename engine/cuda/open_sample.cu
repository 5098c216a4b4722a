/*
 * Drawing of class open-cuda. A row is cut into slices, one a block, so that few rows fill the device
 * as well; each logit is read once, for the highest with its noise and for the sum of exponentials under
 * a running maximum (arXiv:1805.02867). The block of a row that ends last merges the slices, in order.
 *
 * Tokens are those of class f32-1 on the same logits (engine/cuda/draw.cuh, which is why this file is
 * compiled with that class's options); log-probabilities are not, by some units in the last place.
 */
#include "engine/cuda/draw.cuh"

#include "engine/cuda/open.h"
#include "engine/cuda/open_mma.cuh"

namespace
{

const unsigned warps = 8, block = warps * 32, slices_max = 64, slice_min = 2048;
const unsigned residents = 4; /* blocks of a multiprocessor */
const float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/* What is known of a warp's, a slice's, or a row's logits. */
struct found {
    best top;
    float m, sum; /* maximum of x / T * log2(e), and the sum of 2^(x / T * log2(e) - m) */
    unsigned is_odd;
};

__device__ __forceinline__ found join(const found &a, const found &b)
{
    const float m = fmaxf(a.m, b.m);
    found f = {is_better(b.top, a.top) ? b.top : a.top, m, 0.0f, a.is_odd | b.is_odd};

    if (a.m != -INFINITY)
        f.sum += a.sum * fast_exp2(a.m - m);
    if (b.m != -INFINITY)
        f.sum += b.sum * fast_exp2(b.m - m);
    return f;
}

/* What all lanes know, in all of them. */
__device__ __forceinline__ found join_lanes(found f)
{
    for (int by = 16; by > 0; by /= 2) {
        const found other = {{__shfl_xor_sync(0xffffffffu, f.top.value, by),
                              __shfl_xor_sync(0xffffffffu, f.top.rank, by)},
                             __shfl_xor_sync(0xffffffffu, f.m, by),
                             __shfl_xor_sync(0xffffffffu, f.sum, by),
                             __shfl_xor_sync(0xffffffffu, f.is_odd, by)};
        f = join(f, other);
    }
    return f;
}

__device__ __forceinline__ void read_4(float (&x)[4], const float *row, unsigned v, unsigned n,
                                       bool is_aligned)
{
    if (is_aligned && n == 4) {
        const float4 y = *reinterpret_cast<const float4 *>(row + v);
        x[0] = y.x;
        x[1] = y.y;
        x[2] = y.z;
        x[3] = y.w;
    } else {
        for (unsigned j = 0; j < 4; j++)
            x[j] = j < n ? row[v + j] : -INFINITY;
    }
}

__device__ __forceinline__ void add_4(float *m, float *sum, const float (&y)[4])
{
    const float top = fmaxf(fmaxf(fmaxf(y[0], y[1]), fmaxf(y[2], y[3])), *m);

    *sum *= fast_exp2(*m - top);
    *m = top;
    for (int j = 0; j < 4; j++)
        *sum += fast_exp2(y[j] - top);
}

/* The warp's part of logits from .. end - 1, in all lanes. */
__device__ __forceinline__ found find(const struct device_draw &draw, const float *row,
                                      unsigned from, unsigned end, bool is_aligned)
{
    const unsigned first = from + threadIdx.x / 32 * 128, lane = threadIdx.x % 32;
    drawing d = drawing_of(draw);
    float m = -INFINITY, sum = 0.0f, next[4];
    const auto left = [=](unsigned at) {
        const unsigned v = at + lane * 4;
        return v >= end ? 0u : end - v < 4 ? end - v : 4u;
    };

    read_4(next, row, first + lane * 4, left(first), is_aligned);
    for (unsigned at = first; at < end; at += block * 4) {
        const unsigned n = left(at);
        const float x[4] = {next[0], next[1], next[2], next[3]};
        const float y[4] = {x[0] * d.by, x[1] * d.by, x[2] * d.by, x[3] * d.by};

        read_4(next, row, at + block * 4 + lane * 4, left(at + block * 4), is_aligned);
        if (n > 0)
            add_4(&m, &sum, y);
        draw_4(d, x, y, at + lane * 4, n);
    }
    return join_lanes({d.mine, m, sum, is_odd(d)});
}

/* The last block of a row ends with `out`. Block (slice, draw). `all` (draws, slices), `ended` (draws): zeros between launches. */
__global__ void __launch_bounds__(block, residents)
    sample_kernel(struct device_drawn *out, const struct device_draw *draws,
                  const float *logits, found *all, unsigned *ended, unsigned V, unsigned slice)
{
    __shared__ found part[warps];
    const struct device_draw draw = draws[blockIdx.y];
    const float *row = logits + (size_t)draw.row * V;
    const found nothing = {{-INFINITY, NO_RANK}, -INFINITY, 0.0f, 0};
    const unsigned slices = gridDim.x, from = blockIdx.x * slice,
                   end = V - from < slice ? V : from + slice;
    found f = find(draw, row, from, end, V % 4 == 0);

    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = f;
    __syncthreads();
    if (threadIdx.x >= 32)
        return;
    f = join_lanes(threadIdx.x < warps ? part[threadIdx.x] : nothing);
    if (slices > 1) {
        found *of_row = all + (size_t)blockIdx.y * slices;
        unsigned before = 0;

        if (threadIdx.x == 0) {
            of_row[blockIdx.x] = f;
            __threadfence();
            before = atomicAdd(ended + blockIdx.y, 1u);
            if (before + 1 == slices)
                ended[blockIdx.y] = 0;
        }
        if (__shfl_sync(0xffffffffu, before, 0) + 1 < slices)
            return;
        __threadfence();
        f = nothing;
        for (unsigned i = threadIdx.x; i < slices; i += 32)
            f = join(f, of_row[i]);
        f = join_lanes(f);
    }
    if (threadIdx.x > 0)
        return;
    const unsigned id = f.top.rank == NO_RANK ? 0 : f.top.rank;
    const float T = draw.temperature == 0.0f ? 1.0f : draw.temperature;
    const float y = row[id] * (1.0f / T * log2_e);
    out[blockIdx.y] = {(int32_t)id, fmaf(y - f.m, ln_2, -lane_log(f.sum)), !f.is_odd};
}

/* Of how many logits a slice is: a multiple of 4. */
unsigned slice_of(const struct device *d, size_t n, size_t V)
{
    const size_t want = (residents * d->multiprocessors + n - 1) / n, most = V / slice_min;
    size_t slices = want < most ? want : most;

    if (slices > slices_max)
        slices = slices_max;
    if (slices == 0 || n > DEVICE_COUNTS)
        slices = 1;
    return (unsigned)(((V + slices - 1) / slices + 3) / 4 * 4);
}

} // namespace

void open_sample(struct device *d, struct device_drawn *out, const struct device_draw *draws,
                 const float *logits, size_t n, size_t V)
{
    unsigned *counts;
    found *all;

    if (n == 0 || !device_is_well(d))
        return;
    const unsigned slice = slice_of(d, n, V), slices = (unsigned)((V + slice - 1) / slice);
    counts = device_counts(d);
    all = static_cast<found *>(device_scratch(d, n * slices * sizeof(found)));
    if (!counts || !all)
        return;
    LAUNCH(sample_kernel, dim3(slices, (unsigned)n), block, 0, d->stream, out, draws, logits,
           all, counts, (unsigned)V, slice);
    device_launched(d, "sampling");
}
