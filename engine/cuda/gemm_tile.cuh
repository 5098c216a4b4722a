/*
 * engine/cuda/gemm_tile.cuh - the matrix product in tiles (private to engine/cuda/)
 *
 *   c[m,n] = running fma over k ascending of a(m,k) * b(n,k), from +0, or from c with `resume`
 *
 * A block computes a tile of c, keeping it in registers: lanes of a warp are 8 rows by 4 columns of
 * threads, a thread has TM by TN elements. Pieces of `steps` steps of both operands come into shared
 * memory `stages` - 1 pieces ahead. The sum is never split, so any tile gives the same bits.
 *
 * An operand lies with the index of the sum innermost, (rows, steps), and then so in shared memory
 * too, each row padded by 16 bytes (that eight rows at once touch all banks once), and a thread
 * reads four steps of a row at a time; or outermost, (steps, rows), and a thread reads four rows of
 * a step at a time. A thread's rows are chosen so that these reads are without conflicts.
 *
 * Steps past the end are made of a = +0, b = -0: a fused multiply-add of these leaves every sum as it
 * is, -0 too.
 */
#ifndef ENGINE_CUDA_GEMM_TILE_CUH
#define ENGINE_CUDA_GEMM_TILE_CUH

#include "engine/cuda/launch.cuh"

namespace gemm
{

enum layout { INNER, INNER_BF16, OUTER };

template <layout L> struct number_type {
    using type = float;
};
template <> struct number_type<INNER_BF16> {
    using type = unsigned short; /* the upper half of a float */
};
template <layout L> using number_of = typename number_type<L>::type;

struct job {
    float *c; /* (M, N) */
    const void *a, *b;
    const float *bias; /* (N) added to the sum; or NULL */
    const float *add;  /* (M, N), to which the sum is added; or NULL. It may be c */
    size_t M, N, K;
    bool resume;
};

/* WARPS_M x WARPS_N warps of 8 x 4 threads of TM x TN elements; BLOCKS at a time on a
 * multiprocessor, which bounds the registers. */
template <int WARPS_M, int WARPS_N, int TM, int TN, int STEPS, int STAGES, int BLOCKS>
struct tiles {
    static constexpr int warps_m = WARPS_M, warps_n = WARPS_N, tm = TM, tn = TN;
    static constexpr int rows = WARPS_M * 8 * TM, cols = WARPS_N * 4 * TN;
    static constexpr int steps = STEPS, stages = STAGES, blocks = BLOCKS;
    static constexpr int threads = WARPS_M * WARPS_N * 32;
};
using large_tiles = tiles<2, 4, 8, 8, 16, 4, 2>;  /* 128 x 128 */
using middle_tiles = tiles<2, 2, 4, 8, 16, 4, 4>; /* 64 x 64 */
using small_tiles = tiles<1, 2, 4, 4, 32, 4, 4>;  /* 32 x 32 */

/* A piece of an operand in shared memory. */
template <layout L, int ROWS, int STEPS> struct piece {
    using number = number_of<L>;
    static constexpr bool is_inner = L != OUTER;
    static constexpr int lines = is_inner ? ROWS : STEPS;
    static constexpr int line = is_inner ? STEPS : ROWS; /* numbers of a line */
    static constexpr int stride = is_inner ? STEPS + 16 / (int)sizeof(number) : ROWS;
    static constexpr int bytes = lines * stride * (int)sizeof(number);
};

template <layout LA, layout LB, typename shape> constexpr size_t tile_bytes()
{
    return (size_t)shape::stages * (piece<LA, shape::rows, shape::steps>::bytes +
                                    piece<LB, shape::cols, shape::steps>::bytes);
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

/* Where a thread takes its chunks of an operand's next piece from. */
template <layout L, int ROWS, int STEPS, int THREADS, bool WIDE, bool IS_B> struct source {
    using place = piece<L, ROWS, STEPS>;
    using number = typename place::number;
    static constexpr int chunk = WIDE ? 16 / (int)sizeof(number) : 1;
    static constexpr int in_line = place::line / chunk;
    static constexpr int lines_apart = THREADS / in_line;
    static constexpr int n = place::lines / lines_apart;
    static_assert(THREADS % in_line == 0 && place::lines % lines_apart == 0 && n <= 32, "");

    const number *from;
    size_t apart, advance; /* to the next chunk's, and to the next piece's */
    unsigned there;        /* bit i: chunk i lies within the rows */
    int line, at;          /* in the piece, of chunk 0 */

    /* rows_left: those of the operand from this block's first on */
    __device__ __forceinline__ void init(const void *operand, size_t first, size_t rows,
                                         size_t steps)
    {
        const size_t width = place::is_inner ? steps : rows;

        line = (int)threadIdx.x / in_line;
        at = (int)threadIdx.x % in_line * chunk;
        from = static_cast<const number *>(operand) +
               (place::is_inner ? first * width : first) + (size_t)line * width + at;
        apart = lines_apart * width;
        advance = place::is_inner ? STEPS : STEPS * width;
        there = 0;
#pragma unroll
        for (int i = 0; i < n; i++)
            there |= (unsigned)(first + (place::is_inner ? line + i * lines_apart : at) < rows)
                     << i;
    }

    /* Fetches the next piece, of which steps_left steps exist. */
    __device__ __forceinline__ void fetch(number *to, size_t steps_left)
    {
#pragma unroll
        for (int i = 0; i < n; i++) {
            const int l = line + i * lines_apart;
            number *p = to + l * place::stride + at;
            const bool is_step = (size_t)(place::is_inner ? at : l) < steps_left;

            if (IS_B && !is_step) {
                for (int c = 0; c < chunk; c++)
                    p[c] = minus_zero(number());
            } else {
                copy(p, from + i * apart, is_step && (there >> i & 1u));
            }
        }
        from += advance;
    }

    static __device__ __forceinline__ void copy(number *to, const number *p, bool is_there)
    {
        if constexpr (WIDE)
            copy_async<16>(to, p, is_there);
        else if constexpr (sizeof(number) == 4)
            copy_async<4>(to, p, is_there);
        else
            *to = is_there ? *p : (number)0;
    }
};

/* Which row of its block's tile the thread's i-th is; `lanes` threads of a warp share the rows. */
template <layout L> __device__ __forceinline__ int row_of(int i, int lane, int lanes)
{
    return L == OUTER ? i / 4 * lanes * 4 + lane * 4 + i % 4 : i * lanes + lane;
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

/* T rows of a step. */
template <int T>
__device__ __forceinline__ void read_rows(float (&to)[T], const float *from, int lanes)
{
#pragma unroll
    for (int i = 0; i < T; i += 4) {
        const float4 x = *reinterpret_cast<const float4 *>(from + i * lanes);
        to[i] = x.x;
        to[i + 1] = x.y;
        to[i + 2] = x.z;
        to[i + 3] = x.w;
    }
}

/* One piece; a and b point to the thread's first row. */
template <layout LA, layout LB, typename shape>
__device__ __forceinline__ void multiply_piece(float (&acc)[shape::tm][shape::tn],
                                               const number_of<LA> *a, const number_of<LB> *b)
{
    constexpr int TM = shape::tm, TN = shape::tn;
    constexpr int a_stride = piece<LA, shape::rows, shape::steps>::stride;
    constexpr int b_stride = piece<LB, shape::cols, shape::steps>::stride;

#pragma unroll
    for (int s = 0; s < shape::steps; s += 4) {
        float four[TM][4];
        if constexpr (LA != OUTER) {
#pragma unroll
            for (int i = 0; i < TM; i++)
                read_steps(four[i], a + i * 8 * a_stride + s);
        }
        if constexpr (LB != OUTER) {
            static_assert(LB == OUTER || LA != OUTER, "a product that nobody asks for");
#pragma unroll
            for (int j = 0; j < TN; j++) {
                float w[4];
                read_steps(w, b + j * 4 * b_stride + s);
#pragma unroll
                for (int c = 0; c < 4; c++)
#pragma unroll
                    for (int i = 0; i < TM; i++)
                        acc[i][j] = fmaf(four[i][c], w[c], acc[i][j]);
            }
        } else {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                float x[TM], w[TN];
                if constexpr (LA == OUTER) {
                    read_rows<TM>(x, a + (s + c) * a_stride, 8);
                } else {
#pragma unroll
                    for (int i = 0; i < TM; i++)
                        x[i] = four[i][c];
                }
                read_rows<TN>(w, b + (s + c) * b_stride, 4);
#pragma unroll
                for (int i = 0; i < TM; i++)
#pragma unroll
                    for (int j = 0; j < TN; j++)
                        acc[i][j] = fmaf(x[i], w[j], acc[i][j]);
            }
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

template <layout LA, layout LB, typename shape, bool WIDE>
__global__ void __launch_bounds__(shape::threads, shape::blocks) tile_kernel(job j)
{
    using place_a = piece<LA, shape::rows, shape::steps>;
    using place_b = piece<LB, shape::cols, shape::steps>;
    constexpr int stage = place_a::bytes + place_b::bytes;
    DYNAMIC_SHARED(unsigned char, shared);
    source<LA, shape::rows, shape::steps, shape::threads, WIDE, false> from_a;
    source<LB, shape::cols, shape::steps, shape::threads, WIDE, true> from_b;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int lane_m = lane >> 1 & 7, lane_n = (lane & 1) | (lane >> 4) << 1;
    const int warp_m = warp % shape::warps_m * 8 * shape::tm;
    const int warp_n = warp / shape::warps_m * 4 * shape::tn;
    const int a_at =
        place_a::is_inner ? (warp_m + lane_m) * place_a::stride : warp_m + lane_m * 4;
    const int b_at =
        place_b::is_inner ? (warp_n + lane_n) * place_b::stride : warp_n + lane_n * 4;
    float acc[shape::tm][shape::tn];
    size_t m0, n0, left = j.K;

    place_tile(j, shape::rows, shape::cols, &m0, &n0);
    from_a.init(j.a, m0, j.M, j.K);
    from_b.init(j.b, n0, j.N, j.K);
#pragma unroll
    for (int i = 0; i < shape::tm; i++)
#pragma unroll
        for (int k = 0; k < shape::tn; k++) {
            const size_t m = m0 + warp_m + row_of<LA>(i, lane_m, 8);
            const size_t n = n0 + warp_n + row_of<LB>(k, lane_n, 4);
            acc[i][k] = j.resume && m < j.M && n < j.N ? j.c[m * j.N + n] : 0.0f;
        }

    const unsigned n_pieces = (unsigned)((j.K + shape::steps - 1) / shape::steps);
    auto fetch = [&](unsigned at) {
        unsigned char *to = shared + at * stage;
        if (left > 0) {
            from_a.fetch(reinterpret_cast<number_of<LA> *>(to), left);
            from_b.fetch(reinterpret_cast<number_of<LB> *>(to + place_a::bytes), left);
            left -= left < (size_t)shape::steps ? left : (size_t)shape::steps;
        }
        copy_commit();
    };
    unsigned at = 0, next = shape::stages - 1;
    for (int i = 0; i < shape::stages - 1; i++)
        fetch((unsigned)i);
    for (unsigned i = 0; i < n_pieces; i++) {
        copy_wait<shape::stages - 2>();
        __syncthreads();
        fetch(next);
        multiply_piece<LA, LB, shape>(
            acc, reinterpret_cast<const number_of<LA> *>(shared + at * stage) + a_at,
            reinterpret_cast<const number_of<LB> *>(shared + at * stage + place_a::bytes) +
                b_at);
        at = at + 1 == shape::stages ? 0 : at + 1;
        next = next + 1 == shape::stages ? 0 : next + 1;
    }

#pragma unroll
    for (int i = 0; i < shape::tm; i++)
#pragma unroll
        for (int k = 0; k < shape::tn; k++) {
            const size_t m = m0 + warp_m + row_of<LA>(i, lane_m, 8);
            const size_t n = n0 + warp_n + row_of<LB>(k, lane_n, 4);
            if (m < j.M && n < j.N)
                finish(j, m, n, acc[i][k]);
        }
}

} // namespace gemm

#endif
