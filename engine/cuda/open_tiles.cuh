/*
 * engine/cuda/open_tiles.cuh - tiles of heads in shared memory, as the tensor cores' fragments
 *
 * A tile is rows of D bf16 numbers in chunks of 8, whose places within a row are turned by the row,
 * so that the eight rows of a matrix lie in different banks. Fragments are those of open_mma.cuh.
 */
#ifndef ENGINE_CUDA_OPEN_TILES_CUH
#define ENGINE_CUDA_OPEN_TILES_CUH

#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

#ifdef MUSTER_CUDA_EMULATED
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

namespace
{

const unsigned WARPS = 4, THREADS = WARPS * 32;
const float LOG2_E = 1.4426950408889634f, LOG_2 = 0.69314718055994531f;

/* Where chunk c of a row begins. */
template <int D> __device__ __forceinline__ unsigned tile_at(unsigned row, unsigned c)
{
    return row * D + (c ^ (D >= 64 ? row % 8 : row / 2 % 4)) * 8;
}

/* Starts copying ROWS rows, `stride` apart; zeros for those from n on. */
template <int D, int ROWS>
__device__ __forceinline__ void tile_stage(uint16_t *tile, const uint16_t *from, size_t stride,
                                           unsigned n)
{
    UNROLL
    for (unsigned i = 0; i < ROWS * (D / 8) / THREADS; i++) {
        const unsigned x = threadIdx.x + i * THREADS, row = x / (D / 8), c = x % (D / 8);
        const bool is_there = row < n;
        copy_async<16>(tile + tile_at<D>(row, c), from + (is_there ? row * stride + c * 8 : 0),
                       is_there);
    }
}

/* A: rows row .. row + 15, channels 16k .. 16k + 15. */
template <int D>
__device__ __forceinline__ void tile_a(uint32_t (&a)[4], const uint16_t *tile, unsigned row,
                                       unsigned k)
{
    const unsigned lane = threadIdx.x % 32;
    load_matrices<false>(a, tile + tile_at<D>(row + lane % 16, 2 * k + lane / 16));
}

/* B of a product over channels 16k .. 16k + 15: columns are rows row .. row + 7 of the tile (b[0],
 * b[1]) and the eight after them (b[2], b[3]). */
template <int D>
__device__ __forceinline__ void tile_b(uint32_t (&b)[4], const uint16_t *tile, unsigned row,
                                       unsigned k)
{
    const unsigned lane = threadIdx.x % 32;
    load_matrices<false>(
        b, tile + tile_at<D>(row + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
}

/* B of a product over rows row .. row + 15: columns are channels 16c .. 16c + 7 (b[0], b[1]) and the
 * eight after them. */
template <int D>
__device__ __forceinline__ void tile_b_over_rows(uint32_t (&b)[4], const uint16_t *tile,
                                                 unsigned row, unsigned c)
{
    const unsigned lane = threadIdx.x % 32;
    load_matrices<true>(b, tile + tile_at<D>(row + lane % 16, 2 * c + lane / 16));
}

/* s (16 MT, 8 NT) = rows of `left`, from `row` on, times the 8 NT rows of `right`, over channels. */
template <int D, int MT, int NT>
__device__ __forceinline__ void tile_scores(float (&s)[MT][NT][4], const uint16_t *left,
                                            unsigned row, const uint16_t *right)
{
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int n = 0; n < NT; n++)
        s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
    UNROLL
    for (int k = 0; k < D / 16; k++) {
        uint32_t a[MT][4];
        UNROLL
        for (int m = 0; m < MT; m++)
            tile_a<D>(a[m], left, row + 16 * m, k);
        UNROLL
        for (int n = 0; n < NT; n += 2) {
            uint32_t b[4];
            tile_b<D>(b, right, 8 * n, k);
            UNROLL
            for (int m = 0; m < MT; m++) {
                mma_bf16(s[m][n], a[m], b);
                mma_bf16(s[m][n + 1], a[m], b + 2);
            }
        }
    }
}

/* acc (16 MT, D) += p (16 MT, 8 NT), rounded to bf16, times the 8 NT rows of `right`. */
template <int D, int MT, int NT>
__device__ __forceinline__ void tile_weigh(float (&acc)[MT][D / 8][4],
                                           const float (&p)[MT][NT][4], const uint16_t *right)
{
    UNROLL
    for (int k = 0; k < NT / 2; k++) {
        uint32_t a[MT][4];
        UNROLL
        for (int m = 0; m < MT; m++) {
            a[m][0] = bf16_pair(p[m][2 * k][0], p[m][2 * k][1]);
            a[m][1] = bf16_pair(p[m][2 * k][2], p[m][2 * k][3]);
            a[m][2] = bf16_pair(p[m][2 * k + 1][0], p[m][2 * k + 1][1]);
            a[m][3] = bf16_pair(p[m][2 * k + 1][2], p[m][2 * k + 1][3]);
        }
        UNROLL
        for (int c = 0; c < D / 16; c++) {
            uint32_t b[4];
            tile_b_over_rows<D>(b, right, 16 * k, c);
            UNROLL
            for (int m = 0; m < MT; m++) {
                mma_bf16(acc[m][2 * c], a[m], b);
                mma_bf16(acc[m][2 * c + 1], a[m], b + 2);
            }
        }
    }
}

/* Rows row .. row + 16 MT - 1 of the tile become acc * scale; then they go to `to`, which stands at
 * the tile's row 0, those below n. The rows are the warp's own. */
template <int D, int MT>
__device__ __forceinline__ void tile_store(uint16_t *tile, const float (&acc)[MT][D / 8][4],
                                           const float (&scale)[MT][2], unsigned row,
                                           uint16_t *to, size_t stride, unsigned n)
{
    const unsigned lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;

    __syncwarp();
    UNROLL
    for (int m = 0; m < MT; m++)
        UNROLL
    for (int c = 0; c < D / 8; c++)
        UNROLL
    for (int half = 0; half < 2; half++)
        *reinterpret_cast<uint32_t *>(tile + tile_at<D>(row + 16 * m + 8 * half + r, c) +
                                      2 * q) =
            bf16_pair(acc[m][c][2 * half] * scale[m][half],
                      acc[m][c][2 * half + 1] * scale[m][half]);
    __syncwarp();
    for (unsigned x = lane; x < 16 * MT * (D / 8); x += 32) {
        const unsigned i = row + x / (D / 8), c = x % (D / 8);
        if (i < n)
            *reinterpret_cast<uint4 *>(to + i * stride + c * 8) =
                *reinterpret_cast<const uint4 *>(tile + tile_at<D>(i, c));
    }
}

} // namespace

#endif
