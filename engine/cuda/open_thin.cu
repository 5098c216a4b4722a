/*
 * y (M, N) = x (M, K) W (N, K)' for few rows of x, at the speed at which memory gives W
 *
 * A block computes a tile of COLS rows of W and ROWS of x. Pieces of both, SLABS * 64 channels long, come
 * into a ring in shared memory, W's first ones before the kernel waits for the one before it; the
 * WK groups of its warps share out a piece's channels, the WN warps of a group the rows of W.
 * mma.sync has W's rows as the sixteen and x's as the eight, so that eight rows of x are enough.
 *
 * Where there are fewer tiles than multiprocessors, the blocks of a cluster share out the channels.
 * Sums are added in the order of groups, then of blocks: the same bits every time.
 *
 * With `gated`, W is gate and up (F rows each) and y (M, F) = swiglu: a tile takes eight rows of the
 * one and the eight that belong to them of the other in turn, so it has both.
 */
#include "engine/cuda/open_tiles.cuh"

#include <stdio.h>

#include "engine/cuda/open_swiglu.cuh"

namespace
{

const unsigned SLAB = 64; /* channels: the 128 bytes of a row of open_tiles.cuh */

struct job {
    const uint16_t *x, *w;
    void *y;
    const float *add;
    size_t x_stride, w_stride, y_stride;
    unsigned M, N, K;
    unsigned pieces; /* of K */
    unsigned m_tiles, split;
    bool is_f32, is_gated;
};

template <int COLS_, int ROWS_, int WN_, int WK_, int SLABS_, int STAGES_, bool IS_FAR_>
struct tile {
    static constexpr int COLS = COLS_, ROWS = ROWS_, WN = WN_, WK = WK_, SLABS = SLABS_;
    static constexpr bool IS_FAR = IS_FAR_;
    static constexpr int STAGES = STAGES_, LANES = WN * WK * 32;
    static constexpr int MT = COLS / 16 / WN, NT = ROWS / 8;
    static constexpr int STEPS = SLABS * 4 / WK; /* of 16 channels: a warp's of a piece */
    static constexpr unsigned W_NUMBERS = COLS * SLABS * SLAB, X_NUMBERS = ROWS * SLABS * SLAB;
    static constexpr unsigned STAGE = W_NUMBERS + X_NUMBERS;
    /* Sums lie as (WK, ROWS, PITCH): lanes that differ in r or q then write different banks. */
    static constexpr unsigned PITCH = COLS + 4;
    static constexpr size_t sum_bytes = sizeof(float) * WK * ROWS * PITCH;
    static constexpr size_t ring_bytes = sizeof(uint16_t) * STAGES * STAGE;
    static constexpr size_t bytes = ring_bytes > sum_bytes ? ring_bytes : sum_bytes;
    static_assert(COLS * SLABS * 8 % LANES == 0 && ROWS * SLABS * 8 % LANES == 0,
                  "each thread copies as many chunks");
    static_assert(ROWS > 8 || STEPS % 2 == 0, "eight rows are loaded for two steps at once");
};

/* Row i of the tile, as a row of W; N: there is none. */
template <typename T>
__device__ __forceinline__ unsigned row_of(const job &j, unsigned n0, unsigned i)
{
    if (!j.is_gated)
        return n0 + i < j.N ? n0 + i : j.N;
    const unsigned F = j.N / 2, at = n0 / 2 + i / 16 * 8 + i % 8;
    return at < F ? at + (i % 16 < 8 ? 0 : F) : j.N;
}

template <typename T>
__device__ __forceinline__ void fetch_w(uint16_t *to, const job &j, unsigned n0, unsigned piece)
{
    const unsigned chunks = T::SLABS * 8;

    UNROLL
    for (unsigned n = 0; n < T::COLS * chunks / T::LANES; n++) {
        const unsigned i = threadIdx.x + n * T::LANES, row = i / chunks, c = i % chunks,
                       k = piece * T::SLABS * SLAB + c * 8;
        const unsigned from = row_of<T>(j, n0, row);
        const bool is_there = from < j.N && k < j.K;
        copy_async<16, T::IS_FAR>(to + c / 8 * (T::COLS * SLAB) + tile_at<SLAB>(row, c % 8),
                                  j.w + (is_there ? from * j.w_stride + k : 0), is_there);
    }
}

template <typename T>
__device__ __forceinline__ void fetch_x(uint16_t *to, const job &j, unsigned m0, unsigned piece)
{
    const unsigned chunks = T::SLABS * 8;

    UNROLL
    for (unsigned n = 0; n < T::ROWS * chunks / T::LANES; n++) {
        const unsigned i = threadIdx.x + n * T::LANES, row = i / chunks, c = i % chunks,
                       k = piece * T::SLABS * SLAB + c * 8;
        const bool is_there = m0 + row < j.M && k < j.K;
        copy_async<16>(to + c / 8 * (T::ROWS * SLAB) + tile_at<SLAB>(row, c % 8),
                       j.x + (is_there ? (m0 + row) * j.x_stride + k : 0), is_there);
    }
}

/* acc += the warp's steps of a piece. */
template <typename T>
__device__ __forceinline__ void compute(float (&acc)[T::MT][T::NT][4], const uint16_t *w,
                                        const uint16_t *x)
{
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const unsigned row0 = warp % T::WN * (T::MT * 16), step0 = warp / T::WN * T::STEPS;
    uint32_t b[4];

    UNROLL
    for (unsigned s = 0; s < T::STEPS; s++) {
        const unsigned slab = (step0 + s) / 4, k = (step0 + s) % 4;
        uint32_t a[T::MT][4];
        UNROLL
        for (unsigned m = 0; m < T::MT; m++)
            tile_a<SLAB>(a[m], w + slab * (T::COLS * SLAB), row0 + 16 * m, k);
        if constexpr (T::NT == 1) {
            if (s % 2 == 0)
                load_matrices<false>(b, x + slab * (T::ROWS * SLAB) +
                                            tile_at<SLAB>(lane % 8, 2 * k + lane / 8));
            UNROLL
            for (unsigned m = 0; m < T::MT; m++)
                mma_bf16(acc[m][0], a[m], b + s % 2 * 2);
        } else {
            UNROLL
            for (unsigned n = 0; n < T::NT; n += 2) {
                tile_b<SLAB>(b, x + slab * (T::ROWS * SLAB), 8 * n, k);
                UNROLL
                for (unsigned m = 0; m < T::MT; m++) {
                    mma_bf16(acc[m][n], a[m], b);
                    mma_bf16(acc[m][n + 1], a[m], b + 2);
                }
            }
        }
    }
}

/* The groups' sums, side by side; of a cluster's blocks, the first place gets their sum. */
template <typename T>
__device__ __forceinline__ void file_sums(float *sums, const float (&acc)[T::MT][T::NT][4],
                                          bool is_folded)
{
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = lane / 4, q = lane % 4;
    float *to =
        sums + (warp / T::WN * T::ROWS + 2 * q) * T::PITCH + warp % T::WN * (T::MT * 16) + r;

    UNROLL
    for (unsigned m = 0; m < T::MT; m++)
        UNROLL
    for (unsigned n = 0; n < T::NT; n++)
        UNROLL
    for (unsigned i = 0; i < 4; i++)
        to[(8 * n + i % 2) * T::PITCH + 16 * m + i / 2 * 8] = acc[m][n][i];
    __syncthreads();
    for (unsigned i = threadIdx.x; is_folded && i < T::ROWS * T::PITCH; i += T::LANES)
        for (unsigned g = 1; g < T::WK; g++)
            sums[i] += sums[g * T::ROWS * T::PITCH + i];
}

/* Two sums that are side by side. */
template <typename T>
__device__ __forceinline__ float2 sum_of(const job &j, const float *sums, unsigned at)
{
    float2 sum = make_float2(0.0f, 0.0f);

    for (unsigned i = 0; i < (j.split > 1 ? j.split : T::WK); i++) {
        const float2 part =
            j.split > 1 ? cluster_read(sums + at, i)
                        : *reinterpret_cast<const float2 *>(sums + i * T::ROWS * T::PITCH + at);
        sum.x += part.x;
        sum.y += part.y;
    }
    return sum;
}

/* The block's share of the tile's numbers go where they belong, two at a time. */
template <typename T>
__device__ __forceinline__ void finish(const job &j, const float *sums, unsigned m0,
                                       unsigned n0, unsigned rank)
{
    const unsigned shrink = j.is_gated ? 2 : 1, pairs = T::COLS / 2 / shrink;
    const unsigned rows = j.M - m0 < T::ROWS ? j.M - m0 : T::ROWS;

    for (unsigned i = rank * T::LANES + threadIdx.x; i < rows * pairs;
         i += j.split * T::LANES) {
        const unsigned m = i / pairs, o = i % pairs * 2, n = n0 / shrink + o;
        const size_t to = (m0 + m) * j.y_stride + n;

        if (n >= j.N / shrink)
            continue;
        if (j.is_gated) {
            const unsigned at = m * T::PITCH + o / 8 * 16 + o % 8;
            const float2 gate = sum_of<T>(j, sums, at), up = sum_of<T>(j, sums, at + 8);
            *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(j.y) + to) =
                bf16_pair(swiglu(gate.x, up.x), swiglu(gate.y, up.y));
            continue;
        }
        float2 sum = sum_of<T>(j, sums, m * T::PITCH + o);
        if (j.add) {
            const float2 add = *reinterpret_cast<const float2 *>(j.add + to);
            sum.x += add.x;
            sum.y += add.y;
        }
        if (j.is_f32)
            *reinterpret_cast<float2 *>(static_cast<float *>(j.y) + to) = sum;
        else
            *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(j.y) + to) =
                bf16_pair(sum.x, sum.y);
    }
}

template <typename T> __global__ void __launch_bounds__(T::LANES, 2) thin_kernel(job j)
{
    DYNAMIC_SHARED(uint16_t, ring);
    const unsigned rank = blockIdx.x % j.split, tile = blockIdx.x / j.split;
    const unsigned m0 = tile % j.m_tiles * T::ROWS, n0 = tile / j.m_tiles * T::COLS;
    const unsigned from = j.pieces * rank / j.split, to = j.pieces * (rank + 1) / j.split;
    float acc[T::MT][T::NT][4] = {};
    unsigned at = 0, next = T::STAGES - 1;

    for (unsigned i = 0; i < T::STAGES - 1 && from + i < to; i++)
        fetch_w<T>(ring + i * T::STAGE, j, n0, from + i);
    begin_next();
    await_before();
    for (unsigned i = 0; i < T::STAGES - 1; i++) {
        if (from + i < to)
            fetch_x<T>(ring + i * T::STAGE + T::W_NUMBERS, j, m0, from + i);
        copy_commit();
    }
    for (unsigned piece = from; piece < to; piece++) {
        const unsigned ahead = piece + T::STAGES - 1;
        uint16_t *free = ring + next * T::STAGE;

        copy_wait<T::STAGES - 2>();
        __syncthreads();
        if (ahead < to) {
            fetch_w<T>(free, j, n0, ahead);
            fetch_x<T>(free + T::W_NUMBERS, j, m0, ahead);
        }
        copy_commit();
        compute<T>(acc, ring + at * T::STAGE, ring + at * T::STAGE + T::W_NUMBERS);
        at = at + 1 == T::STAGES ? 0 : at + 1;
        next = next + 1 == T::STAGES ? 0 : next + 1;
    }
    __syncthreads();
    float *sums = reinterpret_cast<float *>(ring);
    file_sums<T>(sums, acc, j.split > 1);
    if (j.split > 1)
        cluster_barrier();
    finish<T>(j, sums, m0, n0, rank);
    if (j.split > 1)
        cluster_barrier();
}

template <typename T> void launch(struct device *d, job j)
{
    void (*const kernel)(job) = thin_kernel<T>;
    const unsigned n_tiles = (j.N + T::COLS - 1) / T::COLS;
    unsigned deep;
    size_t bytes;

    j.pieces = (j.K + T::SLABS * SLAB - 1) / (T::SLABS * SLAB);
    j.m_tiles = (j.M + T::ROWS - 1) / T::ROWS;
    deep = (j.pieces + j.split - 1) / j.split;
    bytes = (deep < T::STAGES ? deep : T::STAGES) * T::STAGE * sizeof(uint16_t);
    bytes = bytes > T::sum_bytes ? bytes : T::sum_bytes;
    /* Always the most: a graph that has been captured may hold launches that need more than this. */
    if (!device_note(d,
                     cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)T::bytes),
                     "asking for shared memory"))
        return;
    LAUNCH_CLUSTER(kernel, j.split, n_tiles * j.m_tiles * j.split, T::LANES, bytes, d->stream,
                   j);
    device_launched(d, "a product of few rows");
}

/* X(rows of x, columns, WN, WK, slabs, stages, far): by rows, then columns. At most 96 KiB a block, so
 * that a multiprocessor has room for two. */
#define TILE_MAP(X)                                                                            \
    X(8, 16, 1, 4, 4, 8, false)                                                                \
    X(8, 32, 1, 4, 4, 4, false)                                                                \
    X(16, 16, 1, 4, 4, 6, false)                                                               \
    X(16, 32, 1, 4, 4, 4, false)                                                               \
    X(32, 32, 1, 4, 2, 6, false)                                                               \
    X(32, 64, 2, 4, 1, 8, false)                                                               \
    X(64, 64, 2, 4, 1, 6, false)                                                               \
    X(64, 128, 4, 2, 1, 4, false)                                                              \
    X(8, 16, 1, 4, 4, 8, true)                                                                 \
    X(8, 32, 1, 4, 4, 4, true)                                                                 \
    X(16, 16, 1, 4, 4, 6, true)                                                                \
    X(16, 32, 1, 4, 4, 4, true)                                                                \
    X(32, 32, 1, 4, 2, 6, true)                                                                \
    X(32, 64, 2, 4, 1, 8, true)                                                                \
    X(64, 64, 2, 4, 1, 6, true)                                                                \
    X(64, 128, 4, 2, 1, 4, true)

#define TILE_SHAPE(rows, cols, wn, wk, slabs, stages, far) {rows, cols, slabs * SLAB, far},
const struct {
    unsigned rows, cols, piece;
    bool is_far;
} shapes[] = {TILE_MAP(TILE_SHAPE)};
const unsigned n_shapes = sizeof(shapes) / sizeof(shapes[0]);

/* Shapes are found by the place that they have in the map. */
#define TILE_LAUNCH(rows, cols, wn, wk, slabs, stages, far)                                    \
    if (way == at++)                                                                           \
        launch<tile<cols, rows, wn, wk, slabs, stages, far>>(d, j);
void launch_way(struct device *d, unsigned way, const job &j)
{
    unsigned at = 0;

    TILE_MAP(TILE_LAUNCH)
}

bool is_aligned(const void *p, size_t stride, size_t numbers, size_t size)
{
    return ((uintptr_t)p | stride * size) % (numbers * size) == 0;
}

bool fits(const struct open_product *p)
{
    const size_t size = p->is_f32 ? sizeof(float) : sizeof(uint16_t);

    return p->kind == OPEN_FORWARD && p->M <= OPEN_THIN_ROWS && p->K % 8 == 0 &&
           p->N * p->K >= OPEN_THIN_SIZE && p->N % (p->is_gated ? 16 : 2) == 0 &&
           p->N <= 1u << 24 && p->K <= 1u << 24 && (p->is_f32 ? !p->is_gated : !p->add) &&
           is_aligned(p->a, p->a_stride, 8, sizeof(uint16_t)) &&
           is_aligned(p->b, p->b_stride, 8, sizeof(uint16_t)) &&
           is_aligned(p->y, p->y_stride, 2, size) && is_aligned(p->add, 0, 2, size);
}

} // namespace

size_t open_thin_ways(const struct device *d, const struct open_product *p,
                      struct open_thin *ways)
{
    unsigned rows = shapes[0].rows;
    size_t n = 0;

    if (!fits(p))
        return 0;
    for (unsigned i = 0; i < n_shapes && rows < p->M; i++)
        rows = shapes[i].rows;
    for (unsigned i = 0; i < n_shapes; i++) {
        const size_t tiles =
            (p->M + rows - 1) / rows * ((p->N + shapes[i].cols - 1) / shapes[i].cols);
        const size_t pieces = (p->K + shapes[i].piece - 1) / shapes[i].piece;

        /* Splits that give half of the multiprocessors a block or more, up to four blocks each. */
        for (unsigned split = 1; shapes[i].rows == rows && split <= OPEN_THIN_SPLIT;
             split *= 2) {
            const bool is_last = 2 * split > pieces || 2 * split > OPEN_THIN_SPLIT;
            if (split == 1 ? tiles * 2 >= d->multiprocessors || is_last
                           : split <= pieces && tiles * split <= 4 * d->multiprocessors &&
                                 (tiles * split * 2 >= d->multiprocessors || is_last))
                ways[n++] = (struct open_thin){i, split};
        }
    }
    return n;
}

void open_thin_name(char *to, size_t cap, struct open_thin way)
{
    (void)snprintf(to, cap, "%ux%u/%u%s", shapes[way.shape].rows, shapes[way.shape].cols,
                   way.split, shapes[way.shape].is_far ? " far" : "");
}

void open_thin_multiply(struct device *d, const struct open_product *p, struct open_thin way)
{
    job j = {};

    if (!device_is_well(d))
        return;
    j.x = static_cast<const uint16_t *>(p->a);
    j.w = static_cast<const uint16_t *>(p->b);
    j.y = p->y;
    j.add = static_cast<const float *>(p->add);
    j.x_stride = p->a_stride;
    j.w_stride = p->b_stride;
    j.y_stride = p->y_stride;
    j.M = (unsigned)p->M;
    j.N = (unsigned)p->N;
    j.K = (unsigned)p->K;
    j.split = way.split;
    j.is_f32 = p->is_f32;
    j.is_gated = p->is_gated;
    launch_way(d, way.shape, j);
}
