#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

/* A block for each row of logits. */

namespace
{

const unsigned row_warps = 16, row_block = row_warps * 32;

/* Of numbers that are equal the one of lowest rank is the best; a NaN is never it. */
struct best {
    float value;
    unsigned rank;
};

const unsigned no_rank = 0xffffffffu; /* nothing above -inf */

__device__ __forceinline__ bool is_better(const best &a, const best &b)
{
    return a.value > b.value || (a.value == b.value && a.rank < b.rank);
}

/* The best of a block, in all its threads. */
__device__ best best_of_block(best mine)
{
    __shared__ best found[row_warps];

    for (int by = 16; by > 0; by /= 2) {
        const best other = {__shfl_xor_sync(0xffffffffu, mine.value, by),
                            __shfl_xor_sync(0xffffffffu, mine.rank, by)};
        if (is_better(other, mine))
            mine = other;
    }
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
    best b = {-INFINITY, no_rank};

    for (size_t i = threadIdx.x; i < V; i += row_block)
        if (x[i] > b.value)
            b = {x[i], (unsigned)i};
    return best_of_block(b).value;
}

/* Division by 1 changes no bit and costs as much as half of the exp. */
__device__ __forceinline__ float over(float x, float T)
{
    return T == 1.0f ? x : x / T;
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

/* Philox4x32-10 with counter (group, position, 0, 0), as in base/rng.h. */
__device__ __forceinline__ void philox(uint32_t (&c)[4], uint64_t key, uint32_t group,
                                       uint32_t position)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    c[0] = group;
    c[1] = position;
    c[2] = c[3] = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t a = 0xd2511f53u * c[0], a_high = __umulhi(0xd2511f53u, c[0]);
        const uint32_t b = 0xcd9e8d57u * c[2], b_high = __umulhi(0xcd9e8d57u, c[2]);

        c[0] = b_high ^ c[1] ^ k0;
        c[1] = b;
        c[2] = a_high ^ c[3] ^ k1;
        c[3] = a;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
}

/* The highest logit (T = 0), or the highest with its noise; and whether a logit is not finite. */
__device__ best best_of_row(const float *x, size_t V, const struct device_draw &draw, float T,
                            bool *is_odd)
{
    best b = {-INFINITY, no_rank};

    *is_odd = false;
    for (size_t i = 4 * (size_t)threadIdx.x; i < V; i += 4 * row_block) {
        uint32_t word[4] = {0, 0, 0, 0};

        if (draw.temperature != 0.0f)
            philox(word, draw.seed, (uint32_t)(i / 4), draw.position);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float z;

            if (i + j >= V)
                break;
            z = x[i + j];
            *is_odd |= (lane_bits(z) & 0x7fffffffu) >= LANE_INF;
            if (draw.temperature != 0.0f)
                z = over(z, T) - lane_log(lane_gumbel_inner(word[j]));
            if (z > b.value)
                b = {z, (unsigned)(i + j)};
        }
    }
    return best_of_block(b);
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
    const best b = best_of_row(x, V, draw, T, &is_odd);
    const bool any_odd = any_of_block(is_odd);
    const float m = max_of_row(x, V) / T, sum = exp_sum(x, m, T, V, room);

    if (threadIdx.x == 0) {
        const unsigned id = b.rank == no_rank ? 0 : b.rank;
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
