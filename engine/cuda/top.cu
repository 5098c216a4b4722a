#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#include "engine/cuda/f32.h"

/*
 * The 128 elements of largest magnitude of each row, by radix: a histogram of the exponents says in
 * which the 128th lies, one of the mantissas of that exponent which magnitude it has. All above are
 * taken, and of those equal the first ones. A block for each row.
 */

namespace
{

const unsigned top_n = 128, block = 256, warps = block / 32, bins = 256, each = bins / 32;

/* The bin in which the n-th from the highest lies, and how many lie above that bin; in all threads. The
 * first warp looks, a lane at eight bins, of which the first lane has the highest. */
__device__ void find_bin(const unsigned *count, unsigned n, unsigned *bin, unsigned *above)
{
    __shared__ unsigned found[2];
    const unsigned lane = threadIdx.x, top = bins - 1 - lane * each;
    unsigned sum = 0, before;

    if (threadIdx.x < 32) {
        for (unsigned i = 0; i < each; i++)
            sum += count[top - i];
        before = sum;
        for (unsigned by = 1; by < 32; by *= 2) {
            const unsigned other = __shfl_up_sync(0xffffffffu, before, by);
            before += lane >= by ? other : 0;
        }
        before -= sum;
        if (before < n && before + sum >= n) { /* of one lane, for there are n */
            unsigned i = 0;
            for (; before + count[top - i] < n; i++)
                before += count[top - i];
            found[0] = top - i;
            found[1] = before;
        }
    }
    __syncthreads();
    *bin = found[0];
    *above = found[1];
}

__device__ void clear_bins(unsigned *count)
{
    __syncthreads();
    for (unsigned i = threadIdx.x; i < bins; i += block)
        count[i] = 0;
    __syncthreads();
}

/* Each warp takes a run of the row, so that what it writes follows what the warps before it write. */
__device__ void take(uint32_t *index, uint16_t *value, const float *x, size_t C, unsigned limit,
                     unsigned n_equal)
{
    __shared__ unsigned higher[warps], equal[warps];
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, below = (1u << lane) - 1;
    const size_t run = (C + block - 1) / block * 32, first = warp * run;
    const size_t end = first + run < C ? first + run : C;
    unsigned n_higher = 0, n_same = 0, at = 0;

    for (size_t i = first + lane; i - lane < end; i += 32) {
        const unsigned magnitude = i < end ? lane_bf16(x[i]) & 0x7fffu : 0;

        n_higher += __popc(__ballot_sync(0xffffffffu, i < end && magnitude > limit));
        n_same += __popc(__ballot_sync(0xffffffffu, i < end && magnitude == limit));
    }
    if (lane == 0) {
        higher[warp] = n_higher;
        equal[warp] = n_same;
    }
    __syncthreads();
    n_same = 0;
    for (unsigned w = 0; w < warp; w++) {
        at += higher[w];
        n_same += equal[w];
    }
    at += n_same < n_equal ? n_same : n_equal;
    for (size_t i = first + lane; i - lane < end; i += 32) {
        const unsigned bits = i < end ? lane_bf16(x[i]) : 0, magnitude = bits & 0x7fffu;
        const bool is_same = i < end && magnitude == limit;
        const unsigned same = __ballot_sync(0xffffffffu, is_same);
        const bool is_taken = i < end && (magnitude > limit ||
                                          (is_same && n_same + __popc(same & below) < n_equal));
        const unsigned taken = __ballot_sync(0xffffffffu, is_taken);

        if (is_taken) {
            index[at + __popc(taken & below)] = (uint32_t)i;
            value[at + __popc(taken & below)] = (uint16_t)bits;
        }
        at += __popc(taken);
        n_same += __popc(same);
    }
}

__global__ void __launch_bounds__(block)
    top_kernel(uint32_t *index, uint16_t *value, const float *x, size_t C)
{
    __shared__ unsigned count[bins];
    unsigned exponent, mantissa, above, above_too;

    x += blockIdx.x * C;
    clear_bins(count);
    for (size_t i = threadIdx.x; i < C; i += block)
        atomicAdd(&count[lane_bf16(x[i]) >> 7 & 255u], 1u);
    __syncthreads();
    find_bin(count, top_n, &exponent, &above);
    clear_bins(count);
    for (size_t i = threadIdx.x; i < C; i += block) {
        const unsigned bits = lane_bf16(x[i]);
        if ((bits >> 7 & 255u) == exponent)
            atomicAdd(&count[bits & 127u], 1u);
    }
    __syncthreads();
    find_bin(count, top_n - above, &mantissa, &above_too);
    take(index + blockIdx.x * (size_t)top_n, value + blockIdx.x * (size_t)top_n, x, C,
         exponent << 7 | mantissa, top_n - above - above_too);
}

} // namespace

void cuda_f32_top(struct device *d, uint32_t *index, uint16_t *value, const float *x, size_t N,
                  size_t C)
{
    if (N == 0 || !device_is_well(d))
        return;
    LAUNCH(top_kernel, (unsigned)N, block, 0, d->stream, index, value, x, C);
    device_launched(d, "the largest of hidden states");
}
