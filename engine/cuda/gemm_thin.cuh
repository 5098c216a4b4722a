/*
 * engine/cuda/gemm_thin.cuh - y = x W' for a few rows of x (private to engine/cuda/)
 *
 * The matrix is read once, at the speed of memory as far as the class lets it: a sum is one chain
 * of fused multiply-adds, so K of them take K times their latency, however few rows there are.
 *
 * A block computes THIN_COLS columns, one a lane; each warp has ROWS rows of x. Pieces of 256 bytes of
 * each row of W, and the like steps of x, come into shared memory THIN_STAGES - 1 pieces ahead. Steps
 * past the end are +0 in x and -0 in W (gemm_source.cuh).
 */
#ifndef ENGINE_CUDA_GEMM_THIN_CUH
#define ENGINE_CUDA_GEMM_THIN_CUH

#include "engine/cuda/gemm_tile.cuh"

namespace gemm
{

enum { THIN_COLS = 32, THIN_STAGES = 5 };

template <layout LB> struct thin {
    using number = number_of<LB>;
    static constexpr int chunk = 16 / (int)sizeof(number);
    static constexpr int steps = 256 / (int)sizeof(number);
    static constexpr int stride = steps + chunk;
    static constexpr int w_bytes = THIN_COLS * stride * (int)sizeof(number);
};

template <layout LB> size_t thin_bytes(size_t rows)
{
    return THIN_STAGES * (thin<LB>::w_bytes + rows * thin<LB>::steps * sizeof(float));
}

/* -0 in a type whose value says nothing. */
__device__ __forceinline__ float minus_zero(float)
{
    return -0.0f;
}

__device__ __forceinline__ unsigned short minus_zero(unsigned short)
{
    return 0x8000u;
}

/* Four steps of a row. */
__device__ __forceinline__ void read_steps(float (&to)[4], const float *from)
{
    const float4 x = *reinterpret_cast<const float4 *>(from);

    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
}

__device__ __forceinline__ void read_steps(float (&to)[4], const unsigned short *from)
{
    const uint2 x = *reinterpret_cast<const uint2 *>(from);

    to[0] = __uint_as_float(x.x << 16);
    to[1] = __uint_as_float(x.x & 0xffff0000u);
    to[2] = __uint_as_float(x.y << 16);
    to[3] = __uint_as_float(x.y & 0xffff0000u);
}

/* The piece that begins at step s. */
template <layout LB>
__device__ __forceinline__ void thin_fetch(unsigned char *to, const job &j, size_t s, size_t n0,
                                           int rows)
{
    using t = thin<LB>;
    using number = typename t::number;
    constexpr int in_row = t::steps / t::chunk, x_in_row = t::steps / 4;
    number *w = reinterpret_cast<number *>(to);
    float *x = reinterpret_cast<float *>(to + t::w_bytes);

    for (int i = (int)threadIdx.x; i < THIN_COLS * in_row; i += (int)blockDim.x) {
        const int row = i / in_row, at = i % in_row * t::chunk;
        number *p = w + row * t::stride + at;

        if (s + at < j.K) {
            const bool is_there = n0 + row < j.N;
            copy_async<16>(
                p, static_cast<const number *>(j.b) + (is_there ? n0 + row : 0) * j.K + s + at,
                is_there);
        } else {
            for (int c = 0; c < t::chunk; c++)
                p[c] = minus_zero(number());
        }
    }
    for (int i = (int)threadIdx.x; i < rows * x_in_row; i += (int)blockDim.x) {
        const int row = i / x_in_row, at = i % x_in_row * 4;
        const bool is_there = (size_t)row < j.M && s + at < j.K;

        copy_async<16>(x + row * t::steps + at,
                       static_cast<const float *>(j.a) + (is_there ? row * j.K + s + at : 0),
                       is_there);
    }
}

template <layout LB, int ROWS> __global__ void __launch_bounds__(256) thin_kernel(job j)
{
    using t = thin<LB>;
    using number = typename t::number;
    DYNAMIC_SHARED(unsigned char, shared);
    const int lane = (int)threadIdx.x % 32, row0 = (int)threadIdx.x / 32 * ROWS;
    const int rows = (int)blockDim.x / 32 * ROWS;
    const size_t n0 = (size_t)blockIdx.x * THIN_COLS;
    const int stage = t::w_bytes + rows * t::steps * (int)sizeof(float);
    float acc[ROWS] = {};
    size_t ahead = 0;
    int at = 0, next = THIN_STAGES - 1;

    for (int i = 0; i < THIN_STAGES - 1; i++, ahead += t::steps) {
        if (ahead < j.K)
            thin_fetch<LB>(shared + i * stage, j, ahead, n0, rows);
        copy_commit();
    }
    for (size_t s = 0; s < j.K; s += t::steps, ahead += t::steps) {
        copy_wait<THIN_STAGES - 2>();
        __syncthreads();
        if (ahead < j.K)
            thin_fetch<LB>(shared + next * stage, j, ahead, n0, rows);
        copy_commit();

        const number *w =
            reinterpret_cast<const number *>(shared + at * stage) + lane * t::stride;
        const float *x =
            reinterpret_cast<const float *>(shared + at * stage + t::w_bytes) + row0 * t::steps;
#pragma unroll 8
        for (int i = 0; i < t::steps; i += 4) {
            float b[4];
            read_steps(b, w + i);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float a[4];
                read_steps(a, x + r * t::steps + i);
#pragma unroll
                for (int c = 0; c < 4; c++)
                    acc[r] = fmaf(a[c], b[c], acc[r]);
            }
        }
        at = at + 1 == THIN_STAGES ? 0 : at + 1;
        next = next + 1 == THIN_STAGES ? 0 : next + 1;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (n0 + lane < j.N && (size_t)(row0 + r) < j.M)
            finish(j, row0 + r, n0 + lane, acc[r]);
}

} // namespace gemm

#endif
