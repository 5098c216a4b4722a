/*
 * engine/cuda/attention.cuh - tiles of attention in class f32-1 (private to engine/cuda/)
 *
 * Blocks of 256 threads multiply tiles that lie in shared memory, STEP channels or STEP rows of the
 * arrays at a time:
 *
 *   columns  STEP channels of N rows, channel after channel: for a product over channels. Column i
 *            of channel d stands at d * N + (i ^ column_turn(d)), so that neither writing nor
 *            reading four at a time meets a bank twice.
 *   lines    STEP rows of WIDE channels as they are: for a product over positions.
 *
 * An output is one running fma in a register of one thread; what is masked is never entered. WIDE
 * is D rounded up to 64 or 128; channels from D on hold zeros and go nowhere.
 */
#ifndef ENGINE_CUDA_ATTENTION_CUH
#define ENGINE_CUDA_ATTENTION_CUH

#include "engine/cuda/math.cuh"

#include "engine/cuda/inside.h"

#ifdef MUSTER_CUDA_EMULATED
#define UNROLL
#define UNROLL_NOT
#else
#define UNROLL     _Pragma("unroll")
#define UNROLL_NOT _Pragma("unroll 1")
#endif

namespace
{

const unsigned THREADS = 256, STEP = 16, LANES = 32, ALL_LANES = 0xffffffffu;

/* exp, with +0 below -87. */
__device__ inline float cut_exp(float x)
{
    return x < -87.0f ? 0.0f : lane_exp(x);
}

/* Rows first .. first + n - 1 of an array whose row x is at x / per * stride + x % per * inner: heads
 * of a group beside each other, or, with per = 1, every stride-th. */
struct rows {
    const float *base;
    size_t stride, inner;
    unsigned first, per, n;

    /* Row i of the tile; NULL past its end */
    __device__ const float *at(unsigned i) const
    {
        unsigned x = first + i;
        return i < n ? base + x / per * stride + x % per * inner : nullptr;
    }
};

/* Channels d .. d + 3 of a row, +0 where there is none. is_wide: D and all rows are multiples of
 * four floats. */
__device__ inline float4 load4(const float *row, unsigned d, unsigned D, bool is_wide)
{
    float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);

    if (!row || d >= D)
        return x;
    if (is_wide)
        return *reinterpret_cast<const float4 *>(row + d);
    x.x = row[d];
    if (d + 1 < D)
        x.y = row[d + 1];
    if (d + 2 < D)
        x.z = row[d + 2];
    if (d + 3 < D)
        x.w = row[d + 3];
    return x;
}

__device__ inline void store4(float *row, unsigned d, unsigned D, float4 x, bool is_wide)
{
    if (is_wide && d < D) {
        *reinterpret_cast<float4 *>(row + d) = x;
        return;
    }
    if (d < D)
        row[d] = x.x;
    if (d + 1 < D)
        row[d + 1] = x.y;
    if (d + 2 < D)
        row[d + 2] = x.z;
    if (d + 3 < D)
        row[d + 3] = x.w;
}

__device__ inline unsigned column_turn(unsigned d)
{
    return d / 4 % 4 * 8;
}

/* Columns i .. i + 3 of channel d; i is a multiple of 4. */
template <int N> __device__ inline float4 column4(const float *columns, unsigned d, unsigned i)
{
    return *reinterpret_cast<const float4 *>(columns + d * N + (i ^ column_turn(d)));
}

/* Columns of the channels from d0 on of N rows. */
template <int N>
__device__ inline void stage_columns(float *to, const struct rows &r, unsigned d0, unsigned D,
                                     bool is_wide)
{
    const unsigned d = threadIdx.x % 4 * 4;

    for (unsigned i = threadIdx.x / 4; i < N; i += THREADS / 4) {
        float4 x = load4(r.at(i), d0 + d, D, is_wide);
        float *at = to + d * N + (i ^ column_turn(d));
        at[0] = x.x;
        at[N] = x.y;
        at[2 * N] = x.z;
        at[3 * N] = x.w;
    }
}

/* Lines of rows i0 .. i0 + STEP - 1. ROWS has at(), as struct rows. */
template <int WIDE, typename ROWS>
__device__ inline void stage_lines(float *to, const ROWS &r, unsigned i0, unsigned D,
                                   bool is_wide)
{
    for (unsigned x = threadIdx.x; x < STEP * WIDE / 4; x += THREADS) {
        unsigned i = x / (WIDE / 4), d = x % (WIDE / 4) * 4;
        *reinterpret_cast<float4 *>(to + i * WIDE + d) = load4(r.at(i0 + i), d, D, is_wide);
    }
}

/* Where a thread's outputs of a product with lines stand: a warp has 8 rows of WIDE channels, a
 * thread `rows` of them and four channels. */
template <int WIDE> struct place {
    static const unsigned rows = WIDE / 16, lanes = WIDE / 4;

    unsigned row, d;

    __device__ place()
        : row(threadIdx.x / LANES * 8 + threadIdx.x % LANES / lanes * rows),
          d(threadIdx.x % lanes * 4)
    {
    }
};

template <int ROWS>
__device__ inline void fma_line(float (&acc)[ROWS][4], const float (&w)[ROWS], float4 x)
{
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        acc[r][0] = fmaf(w[r], x.x, acc[r][0]);
        acc[r][1] = fmaf(w[r], x.y, acc[r][1]);
        acc[r][2] = fmaf(w[r], x.z, acc[r][2]);
        acc[r][3] = fmaf(w[r], x.w, acc[r][3]);
    }
}

/* acc[r] += sum over j ascending of p[r * P_STRIDE + j] * line j, j < n <= STEP, where row r has the
 * j below end[r]; `common` of them are below every end. `lines` stands at the thread's channels. */
template <int WIDE, int P_STRIDE, int ROWS>
__device__ inline void weigh_lines(float (&acc)[ROWS][4], const float *p, const float *lines,
                                   unsigned n, unsigned common, const unsigned (&end)[ROWS])
{
    unsigned j = 0;

    for (; j + 4 <= n && j + 4 <= common; j += 4) {
        float4 p4[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++)
            p4[r] = *reinterpret_cast<const float4 *>(p + r * P_STRIDE + j);
        UNROLL
        for (int i = 0; i < 4; i++) {
            float w[ROWS];
            UNROLL
            for (int r = 0; r < ROWS; r++)
                w[r] = i == 0 ? p4[r].x : i == 1 ? p4[r].y : i == 2 ? p4[r].z : p4[r].w;
            fma_line(acc, w, *reinterpret_cast<const float4 *>(lines + (j + i) * WIDE));
        }
    }
    UNROLL_NOT
    for (; j < n; j++) {
        float4 x = *reinterpret_cast<const float4 *>(lines + j * WIDE);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            float w = p[r * P_STRIDE + j];
            if (j < end[r]) {
                acc[r][0] = fmaf(w, x.x, acc[r][0]);
                acc[r][1] = fmaf(w, x.y, acc[r][1]);
                acc[r][2] = fmaf(w, x.z, acc[r][2]);
                acc[r][3] = fmaf(w, x.w, acc[r][3]);
            }
        }
    }
}

/* Whether four floats at a time can be moved of every row of these strides and addresses. */
inline bool is_wide4(size_t D, size_t strides, const void *a, const void *b, const void *c,
                     const void *d)
{
    uintptr_t all = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
                    reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(d);
    return all % 16 == 0 && (D | strides) % 4 == 0;
}

} // namespace

#endif
