/*
 * engine/cuda/math.cuh - the class's elementary functions and sums, for kernels
 *
 * The text of engine/cpu/math_lanes.h, which is the definition, compiled for the GPU; and the sum of
 * engine/cpu/sum_tree.h: half a warp is the sixteen lanes of a block of 256.
 */
#ifndef ENGINE_CUDA_MATH_CUH
#define ENGINE_CUDA_MATH_CUH

#include "engine/cuda/launch.cuh"

#include "engine/cpu/math_lanes.h"
#include "engine/cpu/sum_tree.h"

/* Of the sixteen lanes of a half-warp, in all of them. The whole warp takes part. */
static __device__ __forceinline__ float half_sum(float s)
{
#pragma unroll
    for (int half = SUM_LANES / 2; half > 0; half /= 2)
        s = s + __shfl_xor_sync(0xffffffffu, s, half, SUM_LANES);
    return s;
}

/* A barrier of the threads that work on one row: a block, or a warp. */
template <int WARPS> static __device__ __forceinline__ void row_barrier()
{
    if constexpr (WARPS == 1)
        __syncwarp();
    else
        __syncthreads();
}

#define SUM_ROOM (2 * SUM_BLOCK) /* floats of shared memory */
#define SUM_MAX  (SUM_BLOCK * SUM_BLOCK * SUM_BLOCK)

/*
 * The sum of n <= SUM_MAX terms, in all threads of the WARPS warps that call it: `enter(s, i)` is
 * what running sum s becomes by term i. `room` is theirs, and of nobody else between two barriers.
 */
template <int WARPS, typename term>
static __device__ float tree_sum(size_t n, float *room, term enter)
{
    const unsigned thread = threadIdx.x % (WARPS * 32), half = thread / SUM_LANES;
    const unsigned lane = thread % SUM_LANES, halves = WARPS * 2;
    const size_t super = (size_t)SUM_BLOCK * SUM_BLOCK;
    float *part = room, *upper = room + SUM_BLOCK, s = 0.0f;
    unsigned n_upper = 0;

    for (size_t base = 0; base < n; base += super) {
        const size_t len = n - base < super ? n - base : super;
        const unsigned blocks = (unsigned)((len + SUM_BLOCK - 1) / SUM_BLOCK);

        row_barrier<WARPS>();
        for (unsigned b0 = 0; b0 < blocks; b0 += halves) {
            const unsigned b = b0 + half;
            const size_t from = base + (size_t)b * SUM_BLOCK;

            s = 0.0f;
            if (b < blocks && n - from >= SUM_BLOCK) {
#pragma unroll
                for (unsigned k = 0; k < SUM_BLOCK; k += SUM_LANES)
                    s = enter(s, from + lane + k);
            } else if (b < blocks) {
                for (size_t i = from + lane; i < n; i += SUM_LANES)
                    s = enter(s, i);
            }
            s = half_sum(s);
            if (lane == 0 && b < blocks)
                part[b] = s;
        }
        row_barrier<WARPS>();
        s = 0.0f;
        for (unsigned k = lane; k < blocks; k += SUM_LANES)
            s = s + part[k];
        s = half_sum(s);
        if (thread == 0)
            upper[n_upper] = s;
        n_upper++;
    }
    if (n_upper <= 1)
        return s;
    row_barrier<WARPS>();
    s = 0.0f;
    for (unsigned k = lane; k < n_upper; k += SUM_LANES)
        s = s + upper[k];
    return half_sum(s);
}

#endif
