#include "engine/cuda/draw.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

/* A block for each row of logits. */

namespace
{

const unsigned row_warps = 16, row_block = row_warps * 32;

/* The best of a block, in all its threads. */
__device__ best best_of_block(best mine)
{
    __shared__ best found[row_warps];

    mine = best_of_warp(mine);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        found[threadIdx.x / 32] = mine;
    __syncthreads();
    for (unsigned i = 0; i < row_warps; i++)
        if (is_better(found[i], mine))
            mine = found[i];
    return mine;
}

/* Whether any thread of the block says so. */
__device__ bool any_of_block(bool is)
{
    __shared__ int found[row_warps];
    bool any = false;

    is = __any_sync(0xffffffffu, is);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        found[threadIdx.x / 32] = is;
    __syncthreads();
    for (unsigned i = 0; i < row_warps; i++)
        any |= found[i] != 0;
    return any;
}

/* The definition's maximum may be another zero than this one, which nothing shows: where two zeros are
 * highest, the sum is 2 or more and its logarithm no zero. */
__device__ float max_of_row(const float *x, size_t V)
{
    best b = {-INFINITY, NO_RANK};

    for (size_t i = threadIdx.x; i < V; i += row_block)
        if (x[i] > b.value)
            b = {x[i], (unsigned)i};
    return best_of_block(b).value;
}

/* The definition's exp_sum, in all threads; m is max(x) / T. */
__device__ float exp_sum(const float *x, float m, float T, size_t V, float *room)
{
    return tree_sum<row_warps>(
        V, room, [=](float s, size_t i) { return s + lane_exp(over(x[i], T) - m); });
}

__global__ void __launch_bounds__(row_block)
    logprob_kernel(float *logp, const float *logits, const int32_t *token, float T, size_t V)
{
    __shared__ float room[SUM_ROOM];
    const float *x = logits + blockIdx.x * V;
    const float m = max_of_row(x, V) / T, sum = exp_sum(x, m, T, V, room);

    if (threadIdx.x == 0)
        logp[blockIdx.x] = (x[token[blockIdx.x]] / T - m) - lane_log(sum);
}

__global__ void __launch_bounds__(row_block)
    logprob_backward_kernel(float *dlogits, const float *weights, const float *logits,
                            const int32_t *tokens, float T, size_t V)
{
    __shared__ float room[SUM_ROOM];
    const float *x = logits + blockIdx.x * V;
    float *y = dlogits + blockIdx.x * V;
    const float weight = weights[blockIdx.x];
    const size_t token = (size_t)tokens[blockIdx.x];

    if (weight == 0.0f) {
        for (size_t i = threadIdx.x; i < V; i += row_block)
            y[i] = 0.0f;
        return;
    }
    const float m = max_of_row(x, V) / T, inv = 1.0f / exp_sum(x, m, T, V, room);
    for (size_t i = threadIdx.x; i < V; i += row_block) {
        const float p = lane_exp(over(x[i], T) - m) * inv;
        y[i] = over((i == token ? p - 1.0f : p) * weight, T);
    }
}

/* ---- sampling -------------------------------------------------------------------------------- */

/* The highest logit (T = 0), or the highest with its noise; and whether a logit is not finite. */
__device__ best best_of_row(const float *x, size_t V, const struct device_draw &draw,
                            bool *has_odd)
{
    drawing d = drawing_of(draw);

    for (size_t at = threadIdx.x / 32 * 128; at < V; at += 4 * row_block) {
        const size_t i = at + threadIdx.x % 32 * 4;
        const unsigned n = i >= V ? 0 : V - i < 4 ? (unsigned)(V - i) : 4;
        float four[4], y[4];

        for (unsigned j = 0; j < 4; j++) {
            four[j] = j < n ? x[i + j] : -INFINITY;
            y[j] = four[j] * d.by;
        }
        draw_4(d, four, y, (unsigned)i, n);
    }
    *has_odd = is_odd(d);
    return best_of_block(d.mine);
}

__global__ void __launch_bounds__(row_block)
    sample_kernel(struct device_drawn *out, const struct device_draw *draws,
                  const float *logits, size_t V)
{
    __shared__ float room[SUM_ROOM];
    const struct device_draw draw = draws[blockIdx.x];
    const float *x = logits + draw.row * V,
                T = draw.temperature == 0.0f ? 1.0f : draw.temperature;
    bool is_odd;
    const best b = best_of_row(x, V, draw, &is_odd);
    const bool any_odd = any_of_block(is_odd);
    const float m = max_of_row(x, V) / T, sum = exp_sum(x, m, T, V, room);

    if (threadIdx.x == 0) {
        const unsigned id = b.rank == NO_RANK ? 0 : b.rank;
        out[blockIdx.x] = {(int32_t)id, (x[id] / T - m) - lane_log(sum), !any_odd};
    }
}

} // namespace

void cuda_f32_logprob(struct device *d, float *logp, const float *logits, const int32_t *token,
                      float temperature, size_t N, size_t V)
{
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH(logprob_kernel, (unsigned)N, row_block, 0, d->stream, logp, logits, token,
           temperature == 0.0f ? 1.0f : temperature, V);
    device_launched(d, "log-probabilities");
}

void cuda_f32_logprob_backward(struct device *d, float *dlogits, const float *weight,
                               const float *logits, const int32_t *token, float temperature,
                               size_t N, size_t V)
{
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH(logprob_backward_kernel, (unsigned)N, row_block, 0, d->stream, dlogits, weight,
           logits, token, temperature == 0.0f ? 1.0f : temperature, V);
    device_launched(d, "the gradient of log-probabilities");
}

void cuda_f32_sample(struct device *d, struct device_drawn *out,
                     const struct device_draw *draws, const float *logits, size_t n, size_t V)
{
    if (n == 0 || !device_is_well(d))
        return;
    LAUNCH(sample_kernel, (unsigned)n, row_block, 0, d->stream, out, draws, logits, V);
    device_launched(d, "sampling");
}
