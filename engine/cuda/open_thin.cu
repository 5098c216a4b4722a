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
 *
 * Between two products of a layer there is a norm, which wants whole rows, where a tile has parts: a tile
 * gives y w and its parts' squares, and the tiles of the next product add those up, while W is on its way, and
 * divide (struct open_normed). That is a kernel less, and a wait for it.
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
    const float *squares, *norm; /* taken, and w of the norm that is given; or NULL */
    uint16_t *h;                 /* given; or NULL */
    float *squares_given;
    float eps, C;             /* of what is taken */
    unsigned n_squares, rest; /* rest: where the rows' roots are in shared memory, in floats */
    size_t x_stride, w_stride, y_stride;
    unsigned M, N, K;
    unsigned pieces; /* of K */
    unsigned m_tiles, split;
    bool is_f32, is_gated;
};

template <int COLS_, int ROWS_, int WN_, int WK_, int SLABS_, int STAGES_> struct tile {
    static constexpr int COLS = COLS_, ROWS = ROWS_, WN = WN_, WK = WK_, SLABS = SLABS_;
    static constexpr int STAGES = STAGES_, LANES = WN * WK * 32;
    static constexpr int MT = COLS / 16 / WN, NT = ROWS / 8;
    static constexpr int STEPS = SLABS * 4 / WK; /* of 16 channels: a warp's of a piece */
    static constexpr unsigned W_NUMBERS = COLS * SLABS * SLAB, X_NUMBERS = ROWS * SLABS * SLAB;
    static constexpr unsigned STAGE = W_NUMBERS + X_NUMBERS;
    /* Sums lie as (WK, ROWS, PITCH): lanes that differ in r or q then write different banks. */
    static constexpr unsigned PITCH = COLS + 4;
    static constexpr unsigned QUADS = (ROWS * COLS / 4 + LANES - 1) / LANES; /* of a thread */
    static constexpr size_t sum_bytes = sizeof(float) * WK * ROWS * PITCH;
    static constexpr size_t ring_bytes = sizeof(uint16_t) * STAGES * STAGE;
    static constexpr size_t rest_bytes =
        sizeof(float) * (ROWS + COLS); /* roots; the norm's w */
    static constexpr size_t bytes =
        (ring_bytes > sum_bytes ? ring_bytes : sum_bytes) + rest_bytes;
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
        copy_async<16>(to + c / 8 * (T::COLS * SLAB) + tile_at<SLAB>(row, c % 8),
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

/* The groups' sums, side by side. */
template <typename T>
__device__ __forceinline__ void file_sums(float *sums, const float (&acc)[T::MT][T::NT][4])
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
}

__device__ __forceinline__ void add_to(float4 &sum, const float4 &x)
{
    sum.x += x.x;
    sum.y += x.y;
    sum.z += x.z;
    sum.w += x.w;
}

/* Four of the block's sums that are side by side. */
template <typename T>
__device__ __forceinline__ float4 block_sum(const float *sums, unsigned at)
{
    float4 part[T::WK];

    UNROLL
    for (unsigned g = 0; g < T::WK; g++)
        part[g] = *reinterpret_cast<const float4 *>(sums + g * T::ROWS * T::PITCH + at);
    UNROLL
    for (unsigned g = 1; g < T::WK; g++)
        add_to(part[0], part[g]);
    return part[0];
}

/* Where the others of a cluster read them: in the first group's place. */
template <typename T> __device__ __forceinline__ void fold(float *sums, unsigned rows)
{
    UNROLL
    for (unsigned n = 0; n < T::QUADS; n++) {
        const unsigned i = n * T::LANES + threadIdx.x, m = i / (T::COLS / 4);
        float *at = sums + m * T::PITCH + i % (T::COLS / 4) * 4;
        if (m < T::ROWS && m < rows)
            *reinterpret_cast<float4 *>(at) = block_sum<T>(sums, (unsigned)(at - sums));
    }
}

/* The cluster's. All of its blocks are asked before the first one's answer is waited for. */
template <typename T>
__device__ __forceinline__ float4 sum_of(const job &j, const float *sums, unsigned at)
{
    float4 part[OPEN_THIN_SPLIT];

    if (j.split == 1)
        return block_sum<T>(sums, at);
    UNROLL
    for (unsigned i = 0; i < OPEN_THIN_SPLIT; i++)
        if (i < j.split)
            part[i] = cluster_read(sums + at, i);
    UNROLL
    for (unsigned i = 1; i < OPEN_THIN_SPLIT; i++)
        if (i < j.split)
            add_to(part[0], part[i]);
    return part[0];
}

/* Four numbers of y that are side by side: row m and first column o of the tile's. */
struct quad {
    unsigned m, o;
    size_t at; /* in y */
    bool is_there;
};

/* The n-th of a thread's. */
template <typename T>
__device__ __forceinline__ quad quad_of(const job &j, unsigned m0, unsigned n0, unsigned rank,
                                        unsigned n)
{
    const unsigned shrink = j.is_gated ? 2 : 1, in_row = T::COLS / 4 / shrink;
    const unsigned i = (n * j.split + rank) * T::LANES + threadIdx.x;
    const unsigned m = i / in_row, o = i % in_row * 4, col = n0 / shrink + o;

    return {m, o, (m0 + m) * j.y_stride + col,
            m < T::ROWS && m0 + m < j.M && col < j.N / shrink};
}

/* Of the sums of a row, whose root is r. */
__device__ __forceinline__ float4 divided(float4 sum, float r)
{
    return make_float4(sum.x * r, sum.y * r, sum.z * r, sum.w * r);
}

/* Writes a quad, to which `add` is added, and returns it. */
template <typename T>
__device__ __forceinline__ float4 finish(const job &j, const float *sums, const quad &x,
                                         const float4 &add)
{
    const float r = j.squares ? sums[j.rest + x.m] : 1.0f;
    float4 sum;

    if (j.is_gated) {
        const unsigned at = x.m * T::PITCH + x.o / 8 * 16 + x.o % 8;
        const float4 gate = divided(sum_of<T>(j, sums, at), r),
                     up = divided(sum_of<T>(j, sums, at + 8), r);
        sum = make_float4(swiglu(gate.x, up.x), swiglu(gate.y, up.y), swiglu(gate.z, up.z),
                          swiglu(gate.w, up.w));
    } else {
        sum = divided(sum_of<T>(j, sums, x.m * T::PITCH + x.o), r);
        add_to(sum, add);
    }
    if (j.is_f32) {
        *reinterpret_cast<float4 *>(static_cast<float *>(j.y) + x.at) = sum;
        return sum;
    }
    const uint2 narrow = {bf16_pair(sum.x, sum.y), bf16_pair(sum.z, sum.w)};
    *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(j.y) + x.at) = narrow;
    return sum;
}

/* h of a quad y, and the squares of the tile's part of its row, which the lanes beside this one have. All lanes. */
template <typename T>
__device__ __forceinline__ void give_norm(const job &j, const float *w, const quad &x,
                                          unsigned m0, unsigned n0, const float4 &y)
{
    const unsigned lanes = T::COLS / 4, n_tiles = (j.N + T::COLS - 1) / T::COLS;
    float sum = y.x * y.x + y.y * y.y + y.z * y.z + y.w * y.w;

    for (unsigned by = lanes / 2; by > 0; by /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, (int)by);
    if (x.o == 0 && x.is_there)
        j.squares_given[(size_t)(m0 + x.m) * n_tiles + n0 / T::COLS] = sum;
    if (x.is_there) {
        const float4 g = *reinterpret_cast<const float4 *>(w + x.o);
        const uint2 narrow = {bf16_pair(y.x * g.x, y.y * g.y), bf16_pair(y.z * g.z, y.w * g.w)};
        *reinterpret_cast<uint2 *>(j.h + (size_t)(m0 + x.m) * j.N + n0 + x.o) = narrow;
    }
}

/* What the rows of what is taken are to be multiplied by. */
template <typename T>
__device__ __forceinline__ void take_roots(const job &j, float *roots, unsigned m0)
{
    const unsigned lanes = T::LANES / T::ROWS, row = threadIdx.x / lanes;
    const float *from = j.squares + (size_t)(m0 + row) * j.n_squares;
    float sum = 0.0f;

    for (unsigned i = threadIdx.x % lanes; m0 + row < j.M && i < j.n_squares; i += lanes)
        sum += from[i];
    for (unsigned by = lanes / 2; by > 0; by /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, (int)by);
    if (threadIdx.x % lanes == 0)
        roots[row] = 1.0f / sqrtf(sum / j.C + j.eps);
}

template <typename T>
__device__ __forceinline__ void fetch_norm(const job &j, float *w, unsigned n0)
{
    for (unsigned i = threadIdx.x; i < T::COLS; i += T::LANES)
        w[i] = n0 + i < j.N ? j.norm[n0 + i] : 0.0f;
}

/* From the warps' registers to y; the ring is free. What is added is fetched before barriers are waited
 * at. */
template <typename T>
__device__ __forceinline__ void finish_all(const job &j, float *sums,
                                           const float (&acc)[T::MT][T::NT][4], unsigned m0,
                                           unsigned n0, unsigned rank)
{
    float4 add[T::QUADS];

    UNROLL
    for (unsigned n = 0; n < T::QUADS; n++) {
        const quad x = quad_of<T>(j, m0, n0, rank, n);
        add[n] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (j.add && x.is_there)
            add[n] = *reinterpret_cast<const float4 *>(j.add + x.at);
    }
    file_sums<T>(sums, acc);
    __syncthreads();
    if (j.split > 1) {
        fold<T>(sums, j.M - m0);
        cluster_barrier();
    }
    UNROLL
    for (unsigned n = 0; n < T::QUADS; n++) {
        const quad x = quad_of<T>(j, m0, n0, rank, n);
        float4 y = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (x.is_there)
            y = finish<T>(j, sums, x, add[n]);
        if (j.h)
            give_norm<T>(j, sums + j.rest + T::ROWS, x, m0, n0, y);
    }
    if (j.split > 1)
        cluster_barrier();
}

template <typename T> __global__ void __launch_bounds__(T::LANES, 2) thin_kernel(job j)
{
    DYNAMIC_SHARED(uint16_t, ring);
    const unsigned rank = blockIdx.x % j.split, tile = blockIdx.x / j.split;
    const unsigned m0 = tile % j.m_tiles * T::ROWS, n0 = tile / j.m_tiles * T::COLS;
    const unsigned from = j.pieces * rank / j.split, to = j.pieces * (rank + 1) / j.split;
    float *roots = reinterpret_cast<float *>(ring) + j.rest;
    float acc[T::MT][T::NT][4] = {};
    unsigned at = 0, next = T::STAGES - 1;

    if (j.h)
        fetch_norm<T>(j, roots + T::ROWS, n0);
    for (unsigned i = 0; i < T::STAGES - 1 && from + i < to; i++)
        fetch_w<T>(ring + i * T::STAGE, j, n0, from + i);
    begin_next();
    await_before();
    for (unsigned i = 0; i < T::STAGES - 1; i++) {
        if (from + i < to)
            fetch_x<T>(ring + i * T::STAGE + T::W_NUMBERS, j, m0, from + i);
        copy_commit();
    }
    if (j.squares)
        take_roots<T>(j, roots, m0);
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
    finish_all<T>(j, reinterpret_cast<float *>(ring), acc, m0, n0, rank);
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
    j.rest = (unsigned)(bytes / sizeof(float));
    bytes += T::rest_bytes;
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

/* X(rows of x, columns, WN, WK, slabs, stages): by rows, then columns. At most 97 KiB a block, so
 * that a multiprocessor has room for two. Eighty columns are a number of tiles that two blocks on each of an H200's 132
 * multiprocessors hold at once for gate and up of Qwen2.5's 0.5B and 1.5B (122 and 224), where 64 leave some over. */
#define TILE_MAP(X)                                                                            \
    X(8, 16, 1, 4, 4, 8)                                                                       \
    X(8, 32, 1, 4, 4, 4)                                                                       \
    X(16, 16, 1, 4, 4, 6)                                                                      \
    X(16, 32, 1, 4, 4, 4)                                                                      \
    X(32, 32, 1, 4, 2, 6)                                                                      \
    X(32, 64, 2, 4, 1, 8)                                                                      \
    X(64, 32, 1, 4, 1, 8)                                                                      \
    X(64, 64, 2, 4, 1, 6)                                                                      \
    X(64, 80, 1, 4, 1, 5)

#define TILE_SHAPE(rows, cols, wn, wk, slabs, stages)                                          \
    {rows, cols, slabs * SLAB, tile<cols, rows, wn, wk, slabs, stages>::bytes},
const struct {
    unsigned rows, cols, piece;
    size_t bytes;
} shapes[] = {TILE_MAP(TILE_SHAPE)};
const unsigned n_shapes = sizeof(shapes) / sizeof(shapes[0]);

const size_t CLUSTER_SHARED = 200 << 10;

/* Shapes are found by the place that they have in the map. */
#define TILE_LAUNCH(rows, cols, wn, wk, slabs, stages)                                         \
    if (way == at++)                                                                           \
        launch<tile<cols, rows, wn, wk, slabs, stages>>(d, j);
void launch_way(struct device *d, unsigned way, const job &j)
{
    unsigned at = 0;

    TILE_MAP(TILE_LAUNCH)
}

bool is_aligned(const void *p, size_t stride, size_t numbers, size_t size)
{
    return ((uintptr_t)p | stride * size) % (numbers * size) == 0;
}

/* Whether lanes side by side, a power of two of them, have a row's part of a tile. */
bool gives_norms(unsigned cols)
{
    return (cols & (cols - 1)) == 0;
}

} // namespace

bool open_thin_fits(const struct open_product *p)
{
    const size_t size = p->is_f32 ? sizeof(float) : sizeof(uint16_t);

    return p->kind == OPEN_FORWARD && p->M <= OPEN_THIN_ROWS && p->K % 8 == 0 &&
           p->N * p->K >= OPEN_THIN_SIZE && p->N % (p->is_gated ? 16 : 4) == 0 &&
           p->N <= 1u << 24 && p->K <= 1u << 24 && (p->is_f32 ? !p->is_gated : !p->add) &&
           is_aligned(p->a, p->a_stride, 8, sizeof(uint16_t)) &&
           is_aligned(p->b, p->b_stride, 8, sizeof(uint16_t)) &&
           is_aligned(p->y, p->y_stride, 4, size) && is_aligned(p->add, 0, 4, size) &&
           (!p->gives || (p->is_f32 && is_aligned(p->gives->h, p->N, 4, sizeof(uint16_t))));
}

/* Those that give half of the multiprocessors a block or more, up to four blocks each. */
static size_t splits_of(const struct device *d, struct open_thin *ways, unsigned shape,
                        const struct open_product *p)
{
    const size_t tiles = (p->M + shapes[shape].rows - 1) / shapes[shape].rows *
                         ((p->N + shapes[shape].cols - 1) / shapes[shape].cols);
    const size_t pieces = (p->K + shapes[shape].piece - 1) / shapes[shape].piece;
    /* GPUs before Hopper have no clusters, and less shared memory. */
    const unsigned most = d->shared_max < CLUSTER_SHARED ? 1 : OPEN_THIN_SPLIT;
    size_t n = 0;

    for (unsigned split = 1; split <= most && (split == 1 || split <= pieces); split *= 2) {
        const bool is_last = 2 * split > pieces || 2 * split > most;

        if ((tiles * split * 2 >= d->multiprocessors || is_last) &&
            (split == 1 || tiles * split <= 4 * d->multiprocessors))
            ways[n++] = {shape, split};
    }
    return n;
}

size_t open_thin_ways(const struct device *d, const struct open_product *p,
                      struct open_thin *ways)
{
    unsigned rows = shapes[0].rows;
    size_t n = 0;

    if (!open_thin_fits(p))
        return 0;
    for (unsigned i = 0; i < n_shapes && rows < p->M; i++)
        rows = shapes[i].rows;
    for (unsigned i = 0; i < n_shapes; i++)
        if (shapes[i].rows == rows && shapes[i].bytes <= d->shared_max &&
            (!p->gives || gives_norms(shapes[i].cols)))
            n += splits_of(d, ways + n, i, p);
    return n;
}

void open_thin_name(char *to, size_t cap, struct open_thin way)
{
    (void)snprintf(to, cap, "%ux%u/%u", shapes[way.shape].rows, shapes[way.shape].cols,
                   way.split);
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
    if (p->takes && p->takes->n > 0) {
        j.squares = p->takes->squares;
        j.n_squares = (unsigned)p->takes->n;
        j.C = (float)p->takes->C;
        j.eps = p->takes->eps;
    }
    if (p->gives) {
        j.norm = p->norm;
        j.h = p->gives->h;
        j.squares_given = p->gives->squares;
        p->gives->n = (p->N + shapes[way.shape].cols - 1) / shapes[way.shape].cols;
    }
    launch_way(d, way.shape, j);
}
