/*
 * engine/cuda/open_mma.cuh - bf16 numbers and tensor cores, for kernels of class open-cuda
 *
 * A bf16 is kept as the upper half of an f32 in a uint16_t; two of them in a uint32_t, the first in
 * the lower half. mma_bf16 is the warp's mma.sync.m16n8k16 (PTX ISA, "Matrix Fragments for
 * mma.m16n8k16"): with r = lane / 4 and q = lane % 4,
 *
 *   a[0] A[r][2q, 2q+1]      a[1] A[r+8][2q..]   a[2] A[r][2q+8..]   a[3] A[r+8][2q+8..]
 *   b[0] B[2q, 2q+1][r]      b[1] B[2q+8..][r]
 *   c[0], c[1] C[r][2q, 2q+1]    c[2], c[3] C[r+8][2q..]
 *
 * The emulator computes it from the same fragments.
 */
#ifndef ENGINE_CUDA_OPEN_MMA_CUH
#define ENGINE_CUDA_OPEN_MMA_CUH

#include "engine/cuda/launch.cuh"

#include <stdint.h>

static __device__ __forceinline__ float bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

static __device__ __forceinline__ float bf16_to_f32(uint16_t x)
{
    return __uint_as_float((uint32_t)x << 16);
}

/* Round to nearest even. */
static __device__ __forceinline__ uint32_t bf16_pair(float low, float high)
{
#ifdef MUSTER_CUDA_EMULATED
    float x[2] = {low, high};
    uint32_t half[2];
    for (int i = 0; i < 2; i++) {
        uint32_t u = __float_as_uint(x[i]);
        bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
        half[i] = is_nan ? 0x7fffu : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    }
    return half[1] << 16 | half[0];
#else
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

static __device__ __forceinline__ uint16_t bf16_of(float x)
{
    return (uint16_t)bf16_pair(x, 0.0f);
}

/* The lower halves of a and b, and the upper ones. */
static __device__ __forceinline__ uint32_t bf16_lows(uint32_t a, uint32_t b)
{
    return (b << 16) | (a & 0xffffu);
}

static __device__ __forceinline__ uint32_t bf16_highs(uint32_t a, uint32_t b)
{
    return (b & 0xffff0000u) | (a >> 16);
}

/* c (16, 8) += a (16, 16) b (16, 8). All lanes of the warp. */
static __device__ __forceinline__ void mma_bf16(float c[4], const uint32_t a[4],
                                                const uint32_t b[2])
{
#ifdef MUSTER_CUDA_EMULATED
    struct fragments {
        uint32_t a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, all[32];
    unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;
    emulator_exchange_all(all, mine);
    for (unsigned at = 0; at < 4; at++) /* channels 2 at, 2 at + 1, and the same plus 8 */
        for (unsigned col = 0; col < 2; col++)
            for (unsigned half = 0; half < 2; half++)
                for (unsigned k = 0; k < 2; k++) {
                    uint32_t x = all[r * 4 + at].a[2 * k + half],
                             y = all[(2 * q + col) * 4 + at].b[k];
                    c[2 * half + col] +=
                        bf16_low(x) * bf16_low(y) + bf16_high(x) * bf16_high(y);
                }
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* Four 8x8 matrices of bf16 in shared memory: lane l names row l % 8 of matrix l / 8 (16 bytes,
 * aligned); r[i] gets of matrix i the pair (row lane / 4, columns 2q, 2q+1), or, transposed,
 * (rows 2q, 2q+1, column lane / 4). */
template <bool is_transposed>
static __device__ __forceinline__ void load_matrices(uint32_t r[4], const uint16_t *row)
{
#ifdef MUSTER_CUDA_EMULATED
    unsigned lane = threadIdx.x % 32, i = lane / 4, q = lane % 4;
    const uint16_t *all[32];
    emulator_exchange_all(all, row);
    for (unsigned m = 0; m < 4; m++) {
        const uint16_t *even = is_transposed ? all[m * 8 + 2 * q] + i : all[m * 8 + i] + 2 * q,
                       *odd = is_transposed ? all[m * 8 + 2 * q + 1] + i : even + 1;
        r[m] = (uint32_t)*even | (uint32_t)*odd << 16;
    }
#else
    uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
    if (is_transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at));
#endif
}

/* An 8x8 matrix of bf16 transposed: this lane has the pair (row lane / 4, columns 2q, 2q+1), before and
 * after. */
static __device__ __forceinline__ uint32_t transpose_matrix(uint32_t pair)
{
#ifdef MUSTER_CUDA_EMULATED
    unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;
    uint32_t even = __shfl_sync(0xffffffffu, pair, (int)(8 * q + r / 2)),
             odd = __shfl_sync(0xffffffffu, pair, (int)(8 * q + 4 + r / 2));
    return r % 2 ? bf16_highs(even, odd) : bf16_lows(even, odd);
#else
    uint32_t y;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(pair));
    return y;
#endif
}

/* 2^x as fast as the unit gives it: 2 ulp, subnormals are 0. */
static __device__ __forceinline__ float fast_exp2(float x)
{
#ifdef MUSTER_CUDA_EMULATED
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

#endif
