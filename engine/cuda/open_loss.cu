/*
 * Log-probabilities of class open-cuda: a block a row, whose logits are read once for the maximum and
 * the sum together (arXiv:1805.02867), and once more for the gradient.
 */
#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

namespace
{

const unsigned block = 512;
const float log2_e = 1.4426950408889634f, ln_2 = 0.6931471805599453f;

/* A maximum, and the sum of 2^(x - it). */
struct peak {
    float m, sum;
};

__device__ __forceinline__ peak join(peak a, peak b)
{
    float m = fmaxf(a.m, b.m);
    if (m == -INFINITY)
        return a;
    peak both = {m, a.sum * fast_exp2(a.m - m) + b.sum * fast_exp2(b.m - m)};
    return both;
}

/* Of x * by over a row; every thread gets it. */
__device__ __forceinline__ peak peak_of(const float *x, size_t V, float by)
{
    __shared__ peak part[block / 32];
    peak p = {-INFINITY, 0.0f};

    for (size_t v = threadIdx.x; v < V; v += block) {
        float y = x[v] * by;
        if (y > p.m) {
            p.sum = p.sum * fast_exp2(p.m - y) + 1.0f;
            p.m = y;
        } else {
            p.sum += fast_exp2(y - p.m); /* NaN, if y is: the row is refused */
        }
    }
    for (int i = 16; i > 0; i /= 2) {
        peak other = {__shfl_xor_sync(0xffffffffu, p.m, i),
                      __shfl_xor_sync(0xffffffffu, p.sum, i)};
        p = join(p, other);
    }
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = p;
    __syncthreads();
    p = part[0];
    for (unsigned i = 1; i < block / 32; i++)
        p = join(p, part[i]);
    return p;
}

__global__ void __launch_bounds__(block)
    logprob_kernel(float *logp, const float *logits, const int32_t *token, float temperature,
                   size_t V)
{
    const float *x = logits + blockIdx.x * V, by = log2_e / temperature;
    const peak p = peak_of(x, V, by);

    if (threadIdx.x == 0)
        logp[blockIdx.x] = (x[token[blockIdx.x]] * by - p.m) * ln_2 - logf(p.sum);
}

__global__ void __launch_bounds__(block)
    logprob_backward_kernel(float *dlogits, const float *weight, const float *logits,
                            const int32_t *token, float temperature, size_t V)
{
    const float *x = logits + blockIdx.x * V, by = log2_e / temperature, w = weight[blockIdx.x];
    float *dx = dlogits + blockIdx.x * V;
    const size_t target = (size_t)token[blockIdx.x];

    if (w == 0.0f) {
        for (size_t v = threadIdx.x; v < V; v += block)
            dx[v] = 0.0f;
        return;
    }
    const peak p = peak_of(x, V, by);
    const float scale = w / temperature, inverse = 1.0f / p.sum;
    for (size_t v = threadIdx.x; v < V; v += block)
        dx[v] = (fast_exp2(x[v] * by - p.m) * inverse - (v == target ? 1.0f : 0.0f)) * scale;
}

} // namespace

void open_logprob(struct device *d, float *logp, const float *logits, const int32_t *token,
                  float temperature, size_t N, size_t V)
{
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH(logprob_kernel, (unsigned)N, block, 0, d->stream, logp, logits, token,
           temperature > 0.0f ? temperature : 1.0f, V);
    device_launched(d, "log-probabilities");
}

void open_logprob_backward(struct device *d, float *dlogits, const float *weight,
                           const float *logits, const int32_t *token, float temperature,
                           size_t N, size_t V)
{
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH(logprob_backward_kernel, (unsigned)N, block, 0, d->stream, dlogits, weight, logits,
           token, temperature, V);
    device_launched(d, "gradient of log-probabilities");
}
