/*
 * engine/cuda/gemm_tile.cuh - the matrix product in tiles (private to engine/cuda/)
 *
 *   c[m,n] = running fma over k ascending of a(m,k) * b(n,k), from +0, or from c with `resume`
 *
 * A block computes a tile of c, keeping it in registers: lanes of a warp are 8 rows by 4 columns of
 * threads, a thread has TM by TN elements. The sum is never split, so any tile gives the same bits.
 * Pieces of `steps` steps of both operands are in shared memory in turn (gemm_source.cuh): while one is
 * multiplied, the next one is on its way.
 *
 * What bounds it: a multiprocessor starts a warp's fma in each of its four quarters every cycle, and
 * anything else in their place. A thread's step is TM * TN fma and (TM + TN) / 4 reads of 16 bytes
 * from shared memory, which take two cycles of it each for a warp, as four or eight lanes read the
 * same:
 *
 *   TM x TN    fma  reads   fma of these   shared memory busy
 *    8 x 16    128    6        95.5 %           37.5 %
 *    8 x 8      64    4        94.1 %           50 %
 *    4 x 8      32    3        91.4 %           75 %
 *    4 x 4      16    2        88.9 %          100 %
 *
 * An INNER operand that were turned only when it is read, four steps of a row at a time, would have as
 * many reads, but four steps of all rows in registers, and none left to read ahead with. With few
 * threads on a multiprocessor it is the time of such a read that counts, hence `ahead`.
 */
#ifndef ENGINE_CUDA_GEMM_TILE_CUH
#define ENGINE_CUDA_GEMM_TILE_CUH

#include "engine/cuda/gemm_source.cuh"

namespace gemm
{

struct job {
    float *c; /* (M, N) */
    const void *a, *b;
    const float *bias; /* (N) added to the sum; or NULL */
    const float *add;  /* (M, N), to which the sum is added; or NULL. It may be c */
    size_t M, N, K;
    bool resume;
    bool is_wide; /* four numbers of c, add and bias at a time (only tiles do so) */
};

/* WARPS_M x WARPS_N warps of 8 x 4 threads of TM x TN elements; BLOCKS at a time on a
 * multiprocessor, which bounds the registers. */
template <int WARPS_M, int WARPS_N, int TM, int TN, int STEPS, int STAGES, int BLOCKS>
struct tiles {
    static constexpr int warps_m = WARPS_M, warps_n = WARPS_N, tm = TM, tn = TN;
    static constexpr int rows = WARPS_M * 8 * TM, cols = WARPS_N * 4 * TN;
    static constexpr int steps = STEPS, stages = STAGES, blocks = BLOCKS;
    static constexpr int threads = WARPS_M * WARPS_N * 32;
    /* Steps whose numbers are read ahead: shared memory answers after some thirty cycles. */
    static constexpr int ahead = TM * TN >= 64 ? 1 : TM * TN >= 32 ? 2 : TM * TN >= 16 ? 3 : 4;
    static constexpr int kept = ahead == 1 ? 2 : ahead < 4 ? 4 : 8; /* a power of 2 above it */
    static_assert(STEPS % 8 == 0 && (TM == 2 || TM % 4 == 0) && TN % 4 == 0, "");
};
using large_tiles = tiles<2, 4, 8, 16, 16, 2, 1>; /* 128 x 256 */
using wide_tiles = tiles<1, 4, 8, 8, 16, 2, 3>;   /* 64 x 128 */
using middle_tiles = tiles<2, 2, 4, 8, 32, 2, 3>; /* 64 x 64 */
using low_tiles = tiles<1, 4, 4, 4, 64, 2, 3>;    /* 32 x 64 */
using small_tiles = tiles<2, 2, 2, 4, 64, 2, 3>;  /* 32 x 32 */
using odd_tiles = tiles<1, 2, 4, 4, 16, 2, 4>;    /* 32 x 32, of operands read one by one */

template <typename shape> constexpr size_t tile_bytes()
{
    return sizeof(float) * shape::stages * shape::steps * (shape::rows + shape::cols);
}

/* How many rows the thread's i-th of T is from its first; `lanes` threads of a warp share the rows. */
template <int T> __device__ __forceinline__ constexpr int row_of(int i, int lanes)
{
    return T < 4 ? i : i / 4 * lanes * 4 + i % 4;
}

/* The thread's T rows of a step; `first` is its first. */
template <layout L, int ROWS, int STEPS, int LANES, int T>
__device__ __forceinline__ void read_rows(float (&to)[T], const float *piece, int first,
                                          int step)
{
    constexpr int span = LANES * 4;
    const int by = swapped<L, ROWS, STEPS>(0, step), low = T > 4 ? by % span : by;

    piece += step * ROWS;
    if constexpr (T == 2) {
        const float2 x = *reinterpret_cast<const float2 *>(piece + (first ^ by));
        to[0] = x.x;
        to[1] = x.y;
    } else {
#pragma unroll
        for (int i = 0; i < T; i += 4) {
            const float4 x = *reinterpret_cast<const float4 *>(piece + (first ^ low) +
                                                               (i * LANES ^ (by - low)));
            to[i] = x.x;
            to[i + 1] = x.y;
            to[i + 2] = x.z;
            to[i + 3] = x.w;
        }
    }
}

/* What is done with a finished sum. */
__device__ __forceinline__ void finish(const job &j, size_t m, size_t n, float sum)
{
    const size_t at = m * j.N + n;

    if (j.bias)
        sum = sum + j.bias[n];
    if (j.add)
        sum = j.add[at] + sum;
    j.c[at] = sum;
}

/* Four numbers side by side, or what leaves any sum as it is. */
__device__ __forceinline__ float4 four_of(const float *p, size_t at)
{
    return p ? *reinterpret_cast<const float4 *>(p + at)
             : make_float4(-0.0f, -0.0f, -0.0f, -0.0f);
}

/* The same for columns n to n + 3. Here -0 is added where there is nothing: results that are new
 * numbers leave the sums in the registers that suit the loop, and need not be four side by side. */
__device__ __forceinline__ void finish_four(const job &j, size_t m, size_t n, const float *sum)
{
    if (j.is_wide && n < j.N) {
        const float4 b = four_of(j.bias, n), a = four_of(j.add, m * j.N + n);
        *reinterpret_cast<float4 *>(j.c + m * j.N + n) =
            make_float4(a.x + (sum[0] + b.x), a.y + (sum[1] + b.y), a.z + (sum[2] + b.z),
                        a.w + (sum[3] + b.w));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (n + i < j.N)
                finish(j, m, n + i, sum[i]);
    }
}

/* Tiles are taken in bands of eight rows of tiles, column by column: what runs at the same time then
 * shares operands in the second-level cache. */
__device__ __forceinline__ void place_tile(const job &j, int rows, int cols, size_t *m0,
                                           size_t *n0)
{
    const unsigned tiles_m = (unsigned)((j.M + rows - 1) / rows);
    const unsigned tiles_n = (unsigned)((j.N + cols - 1) / cols);
    const unsigned band = blockIdx.x / (8 * tiles_n), in_band = blockIdx.x % (8 * tiles_n);
    const unsigned left = tiles_m - band * 8, height = left < 8 ? left : 8;

    *m0 = (size_t)(band * 8 + in_band % height) * rows;
    *n0 = (size_t)(in_band / height) * cols;
}

/* Both operands' pieces in shared memory. `at` is where one is, `done` how many steps precede it. */
template <layout LA, layout LB, typename shape, bool WIDE> struct pieces {
    static constexpr int b_at = shape::rows * shape::steps;
    static constexpr int size = b_at + shape::cols * shape::steps;
    typename choose_source<LA, shape::rows, shape::steps, shape::threads, WIDE, false>::type a;
    typename choose_source<LB, shape::cols, shape::steps, shape::threads, WIDE, true>::type b;
    float *room;
    unsigned K;

    __device__ __forceinline__ void init(float *shared, const job &j, size_t m0, size_t n0)
    {
        room = shared;
        K = (unsigned)j.K;
        a.init(j.a, m0, j.M, j.K);
        b.init(j.b, n0, j.N, j.K);
    }

    __device__ __forceinline__ void fetch(int at, unsigned done)
    {
        if (done < K) {
            a.fetch(room + at, K - done);
            b.fetch(room + at + b_at, K - done);
        }
        copy_commit();
    }

    __device__ __forceinline__ void load(unsigned done)
    {
        if (done < K) {
            a.load(K - done);
            b.load(K - done);
        }
    }

    __device__ __forceinline__ void store(int at) const
    {
        a.store(room + at);
        b.store(room + at + b_at);
    }

    /* Waits for the next piece. */
    static __device__ __forceinline__ void await()
    {
        copy_wait<shape::stages - 2>();
        __syncthreads();
    }

    static __device__ __forceinline__ int after(int at)
    {
        return at + size == shape::stages * size ? 0 : at + size;
    }
};

template <layout LA, layout LB, typename shape, bool WIDE>
__global__ void __launch_bounds__(shape::threads, shape::blocks) tile_kernel(job j)
{
    constexpr int TM = shape::tm, TN = shape::tn, STEPS = shape::steps;
    constexpr int AHEAD = shape::ahead, KEPT = shape::kept;
    using both = pieces<LA, LB, shape, WIDE>;
    DYNAMIC_SHARED(float, shared);
    both p;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int lane_m = lane >> 1 & 7, lane_n = (lane & 1) | (lane >> 4) << 1;
    const int first_m = warp % shape::warps_m * 8 * TM + lane_m * (TM < 4 ? TM : 4);
    const int first_n = warp / shape::warps_m * 4 * TN + lane_n * 4;
    float acc[TM][TN], x[KEPT][TM], w[KEPT][TN];
    size_t m0, n0; /* the tile's first element, then the thread's */

    place_tile(j, shape::rows, shape::cols, &m0, &n0);
    p.init(shared, j, m0, n0);
    m0 += first_m;
    n0 += first_n;
#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int k = 0; k < TN; k++) {
            const size_t m = m0 + row_of<TM>(i, 8), n = n0 + row_of<TN>(k, 4);
            acc[i][k] = j.resume && m < j.M && n < j.N ? j.c[m * j.N + n] : 0.0f;
        }

    auto read = [&](int at, int step) {
        read_rows<LA, shape::rows, STEPS, 8>(x[step % KEPT], shared + at, first_m, step);
        read_rows<LB, shape::cols, STEPS, 4>(w[step % KEPT], shared + at + both::b_at, first_n,
                                             step);
    };
    for (int i = 0; i < shape::stages - 1; i++)
        p.fetch(i * both::size, i * STEPS);
    p.load(0);
    p.store(0);
    p.await();
#pragma unroll
    for (int s = 0; s < AHEAD; s++)
        read(0, s);

    int at = 0, free = (shape::stages - 1) * both::size;
    for (unsigned done = 0; done < (unsigned)j.K; done += STEPS) {
        const int next = both::after(at);

        p.fetch(free, done + (shape::stages - 1) * STEPS);
        p.load(done + STEPS);
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            if (s == STEPS - AHEAD - 1)
                p.store(next);
            if (s == STEPS - AHEAD)
                p.await();
            read(s < STEPS - AHEAD ? at : next, (s + AHEAD) % STEPS);
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int k = 0; k < TN; k++)
                    acc[i][k] = fmaf(x[s % KEPT][i], w[s % KEPT][k], acc[i][k]);
        }
        free = at;
        at = next;
    }

#pragma unroll
    for (int i = 0; i < TM; i++)
#pragma unroll
        for (int k = 0; k < TN; k += 4)
            if (m0 + row_of<TM>(i, 8) < j.M)
                finish_four(j, m0 + row_of<TM>(i, 8), n0 + row_of<TN>(k, 4), &acc[i][k]);
}

} // namespace gemm

#endif
