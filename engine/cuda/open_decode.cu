/*
 * Attention of one new row a sequence over paged bf16 keys and values (flash decoding).
 *
 * What takes the time is reading keys and values once, so the heads of a group share each read, and the
 * arithmetic stays out of the way: scores are K Q' and the sums V' P', with positions and channels as
 * the rows of the tensor cores' tiles and heads as their columns, of which there are 8, or 16 for the
 * larger groups. What the first product gives is the second's operand, but for a transposition of 8 x 8
 * numbers, for which there is an instruction.
 *
 * A block computes a group of one sequence, or a part of its pages. Each of its WARPS warps streams
 * every WARPS-th tile of positions through shared memory of its own, STAGES tiles ahead, across pages, without
 * a barrier of the block; the pointers of the pages come 32 at a time, as many again ahead. Where there
 * are few sequences they are cut into parts (open_attention_parts), and the block that is the last one
 * of a group to end merges them: which one that is makes no difference, for it takes them in order.
 * Warps, then parts, are merged as arXiv:2205.14135 merges tiles.
 *
 * What is done to heads before attention (open_heads.cuh) is done here, on the newest row of a group by
 * each of its blocks; the one that has the newest position files its key and value, and takes them from
 * shared memory itself.
 *
 * A launch may begin before the kernel before it has ended. Keys and values but those of the newest
 * position, the pages' pointers, and the runs are older than the pass (engine/cuda/open_body.c), so the
 * stream begins with them; the row is awaited.
 */
#include "engine/cuda/open_heads.cuh"
#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

namespace
{

const unsigned page = ATTENTION_PAGE, all_lanes = 0xffffffffu;
const float log2_e = 1.4426950408889634f;

/* The sizes of a kernel: D channels, COLUMNS / 8 tiles of heads. */
template <int D_, int COLUMNS_, int WARPS_, int STAGES_> struct sizes {
    static const int D = D_, COLUMNS = COLUMNS_, WARPS = WARPS_, STAGES = STAGES_;
    static const int N = COLUMNS / 8;
    static const unsigned positions = 2048 / D; /* of a tile: 4 KiB of keys */
    static const unsigned tiles_of_page = page / positions;
    static const unsigned half = positions * D,
                          stage = 2 * half; /* numbers: keys; and values */
    static const int STEPS = D / 16, GROUPS = (int)positions / 16;
    static const unsigned record =
        D + 4; /* a row to be merged: D sums, maximum, sum of powers */
    static const unsigned head_row = D + 8; /* numbers: then the banks of 8 heads differ */
    static const size_t tile_bytes = (size_t)WARPS * STAGES * stage * sizeof(uint16_t);
    static const size_t shared_bytes = tile_bytes + (COLUMNS + 2) * head_row * sizeof(uint16_t);

    static_assert((size_t)WARPS * COLUMNS * record * sizeof(float) <= tile_bytes,
                  "what the warps give to be merged lies where their tiles were");
};

struct decode {
    uint16_t *out;
    float *partial;  /* (n_runs, G, parts, H / G, record) */
    unsigned *ended; /* (n_runs, G): parts that have; zeros between launches */
    size_t out_stride;
    float scale; /* for powers of two */
    struct heads h;
};

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Where chunk j (8 numbers) of row p of a tile is kept: chunks that lie one below the other are in
 * different banks, and so are eight of one row. */
template <int D> __device__ __forceinline__ unsigned place(unsigned p, unsigned j)
{
    const unsigned i = p * (D / 8) + j, key = D >= 64 ? p : p / 2;

    return ((i & ~7u) | ((i ^ key) & 7u)) * 8;
}

/* A warp's tiles of a run: first, first + WARPS, ..., n of them. */
template <typename S> struct stream {
    uint16_t *const *pages; /* the run's */
    size_t at, values;      /* keys within a page, and from there to the values */
    unsigned first, n, len, n_pages;
    uint16_t *stages;
    unsigned base; /* page of lane 0's pointer */
    unsigned long long mine, ahead;

    __device__ __forceinline__ unsigned tile(unsigned i) const
    {
        return first + i * S::WARPS;
    }

    __device__ __forceinline__ unsigned long long pointer(unsigned i) const
    {
        return i < n_pages ? (unsigned long long)(uintptr_t)pages[i] : 0;
    }

    __device__ __forceinline__ void open()
    {
        base = first / S::tiles_of_page;
        mine = pointer(base + threadIdx.x % 32);
        ahead = pointer(base + 32 + threadIdx.x % 32);
    }

    /* Starts copying tile i, ascending. Rows from the newest one on become zeros. Without a tile i nothing. */
    __device__ __forceinline__ void start(unsigned i)
    {
        const unsigned lane = threadIdx.x % 32, t = tile(i), which = t / S::tiles_of_page;
        uint16_t *to = stages + i % S::STAGES * S::stage;

        if (i < n) {
            if (which - base >= 32) {
                mine = ahead;
                base += 32;
                ahead = pointer(base + 32 + lane);
            }
            const uint16_t *keys =
                (const uint16_t *)(uintptr_t)__shfl_sync(all_lanes, mine, (int)(which - base)) +
                at + (size_t)(t % S::tiles_of_page) * S::half;
#pragma unroll
            for (unsigned j = 0; j < S::half / 256; j++) {
                const unsigned chunk = j * 32 + lane, p = chunk / (S::D / 8);
                const unsigned place_at = place<S::D>(p, chunk % (S::D / 8));
                const bool is_there = t * S::positions + p + 1 < len;
                copy_async<16>(to + place_at, keys + chunk * 8, is_there);
                copy_async<16>(to + S::half + place_at, keys + values + chunk * 8, is_there);
            }
        }
        copy_commit();
    }
};

/* What a lane knows of heads 2 (lane % 4) and the next, of each eight: maximum and its own part of the
 * sum, in powers of two; and its part of the sums (channels, heads). */
template <typename S> struct state {
    float m[S::N][2], l[S::N][2], o[S::STEPS][S::N][4];
};

template <typename S> using queries = uint32_t[S::STEPS][S::N][2];

/* p (positions, heads) = K Q', in powers of two; what lies past the end is -inf. */
template <typename S>
__device__ __forceinline__ void score(float (&p)[S::GROUPS][S::N][4], const queries<S> &q,
                                      const uint16_t *keys, unsigned base, unsigned len,
                                      float scale)
{
    const unsigned lane = threadIdx.x % 32, row = lane % 8 + lane / 8 % 2 * 8;

    for (int g = 0; g < S::GROUPS; g++)
        for (int n = 0; n < S::N; n++)
            p[g][n][0] = p[g][n][1] = p[g][n][2] = p[g][n][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < S::STEPS; k++)
#pragma unroll
        for (int g = 0; g < S::GROUPS; g++) {
            uint32_t a[4];
            load_matrices<false>(
                a, keys + place<S::D>((unsigned)g * 16 + row, 2 * (unsigned)k + lane / 16));
#pragma unroll
            for (int n = 0; n < S::N; n++)
                mma_bf16(p[g][n], a, q[k][n]);
        }
    for (int g = 0; g < S::GROUPS; g++)
        for (int n = 0; n < S::N; n++)
            for (int i = 0; i < 4; i++) {
                const unsigned at = base + (unsigned)g * 16 + lane / 4 + (unsigned)i / 2 * 8;
                p[g][n][i] = at < len ? p[g][n][i] * scale : -INFINITY;
            }
}

/* The maxima with p, and what is to be shrunk by that is shrunk. */
template <typename S>
__device__ __forceinline__ void raise(state<S> &s, const float (&p)[S::GROUPS][S::N][4])
{
    float shrink[S::N][2];
    bool is_less = false;

    for (int n = 0; n < S::N; n++)
        for (int i = 0; i < 2; i++) {
            float top = s.m[n][i];
            for (int g = 0; g < S::GROUPS; g++)
                top = fmaxf(top, fmaxf(p[g][n][i], p[g][n][i + 2]));
            for (int by = 4; by < 32; by *= 2)
                top = fmaxf(top, __shfl_xor_sync(all_lanes, top, by));
            shrink[n][i] = fast_exp2(s.m[n][i] - top);
            is_less |= s.m[n][i] < top;
            s.m[n][i] = top;
        }
    if (!__any_sync(all_lanes, is_less))
        return;
    for (int n = 0; n < S::N; n++) {
        for (int i = 0; i < 2; i++)
            s.l[n][i] *= shrink[n][i];
        for (int k = 0; k < S::STEPS; k++)
            for (int i = 0; i < 4; i++)
                s.o[k][n][i] *= shrink[n][i % 2];
    }
}

/* A tile of positions base, base + 1, ..., of which those below len count. */
template <typename S>
__device__ __forceinline__ void take(state<S> &s, const queries<S> &q, const uint16_t *tile,
                                     unsigned base, unsigned len, float scale)
{
    const unsigned lane = threadIdx.x % 32, row = lane % 8 + lane / 16 * 8;
    float p[S::GROUPS][S::N][4];
    uint32_t weights[S::GROUPS][S::N][2];

    score<S>(p, q, tile, base, len, scale);
    raise<S>(s, p);
    for (int g = 0; g < S::GROUPS; g++)
        for (int n = 0; n < S::N; n++) {
            for (int i = 0; i < 4; i++) {
                p[g][n][i] = fast_exp2(p[g][n][i] - s.m[n][i % 2]);
                s.l[n][i % 2] += p[g][n][i];
            }
            for (int i = 0; i < 2; i++)
                weights[g][n][i] =
                    transpose_matrix(bf16_pair(p[g][n][2 * i], p[g][n][2 * i + 1]));
        }
#pragma unroll
    for (int k = 0; k < S::STEPS; k++)
#pragma unroll
        for (int g = 0; g < S::GROUPS; g++) {
            uint32_t a[4];
            load_matrices<true>(
                a, tile + S::half +
                       place<S::D>((unsigned)g * 16 + row, 2 * (unsigned)k + lane / 8 % 2));
#pragma unroll
            for (int n = 0; n < S::N; n++)
                mma_bf16(s.o[k][n], a, weights[g][n]);
        }
}

/* ---- merging --------------------------------------------------------------------------------- */

/* The warp's records, by head. */
template <typename S> __device__ __forceinline__ void give(float *records, state<S> &s)
{
    const unsigned lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;

    for (int n = 0; n < S::N; n++)
        for (int i = 0; i < 2; i++) {
            float *to = records + ((unsigned)n * 8 + 2 * c + (unsigned)i) * S::record;
            for (int by = 4; by < 32; by *= 2)
                s.l[n][i] += __shfl_xor_sync(all_lanes, s.l[n][i], by);
            if (r == 0) {
                to[S::D] = s.m[n][i];
                to[S::D + 1] = s.l[n][i];
            }
            for (int k = 0; k < S::STEPS; k++) {
                to[k * 16 + r] = s.o[k][n][i];
                to[k * 16 + 8 + r] = s.o[k][n][i + 2];
            }
        }
}

/* Four channels from d on of n records that are `step` apart, and with them maximum and sum. */
template <int D>
__device__ __forceinline__ float4 merge(const float *from, size_t step, unsigned n, unsigned d,
                                        float *m, float *l)
{
    float4 o = {0.0f, 0.0f, 0.0f, 0.0f};
    float top = -INFINITY, sum = 0.0f;

#pragma unroll 8
    for (unsigned i = 0; i < n; i++)
        top = fmaxf(top, from[i * step + D]);
#pragma unroll 4
    for (unsigned i = 0; i < n; i++) {
        const float at = from[i * step + D];
        const float by = at == -INFINITY ? 0.0f : fast_exp2(at - top); /* -inf: had no pages */
        const float4 x = *reinterpret_cast<const float4 *>(from + i * step + d);
        sum += from[i * step + D + 1] * by;
        o.x += x.x * by;
        o.y += x.y * by;
        o.z += x.z * by;
        o.w += x.w * by;
    }
    *m = top;
    *l = sum;
    return o;
}

/* Whether this block is the last of its parts to say that what it wrote is there. */
__device__ __forceinline__ bool is_last(unsigned *ended, unsigned parts)
{
    __shared__ unsigned before;

    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        before = atomicAdd(ended, 1u);
        if (before + 1 == parts)
            *ended = 0; /* for the next launch */
    }
    __syncthreads();
    __threadfence();
    return before + 1 == parts;
}

/* The heads of a group from n records each: their rows of the output, or of `partial`. */
template <typename S>
__device__ __forceinline__ void finish(const struct decode &x, const float *records,
                                       size_t step, unsigned n, uint16_t *out, float *partial)
{
    const unsigned group = x.h.H / x.h.G;

    for (unsigned i = threadIdx.x; i < group * (S::D / 4); i += S::WARPS * 32) {
        const unsigned row = i / (S::D / 4), d = i % (S::D / 4) * 4;
        float m, l;
        const float4 o = merge<S::D>(records + row * S::record, step, n, d, &m, &l);

        if (!partial) {
            *reinterpret_cast<uint2 *>(out + row * S::D + d) =
                make_uint2(bf16_pair(o.x / l, o.y / l), bf16_pair(o.z / l, o.w / l));
            continue;
        }
        float *to = partial + row * S::record;
        *reinterpret_cast<float4 *>(to + d) = o;
        if (d == 0) {
            to[S::D] = m;
            to[S::D + 1] = l;
        }
    }
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* Where the warp's share of its block's part begins, and how far it goes; *has_newest: whether the part
 * does to the newest position. */
template <typename S>
__device__ __forceinline__ stream<S> stream_of(const struct decode &x,
                                               const struct device_run &run, uint16_t *shared,
                                               bool *has_newest)
{
    const unsigned warp = threadIdx.x / 32, part = blockIdx.x, parts = gridDim.x;
    const unsigned len = run.first + 1, n_pages = (len + page - 1) / page,
                   share = (n_pages + parts - 1) / parts * S::tiles_of_page,
                   tiles = (len + S::positions - 1) / S::positions,
                   end = (part + 1) * share < tiles ? (part + 1) * share : tiles;
    stream<S> s;

    s.pages = x.h.pages + run.pages;
    s.at = x.h.page_at + (size_t)blockIdx.y * page * S::D;
    s.values = (size_t)x.h.G * page * S::D;
    s.first = part * share + warp;
    s.n = s.first < end ? (end - s.first + S::WARPS - 1) / S::WARPS : 0;
    s.len = len;
    s.n_pages = n_pages;
    s.stages = shared + warp * (S::STAGES * S::stage);
    s.open();
    *has_newest = part * share < tiles && end == tiles;
    return s;
}

__device__ __forceinline__ void ask_for_all(const float *from, size_t at, unsigned n)
{
    for (unsigned i = threadIdx.x * 32; from && i < n; i += blockDim.x * 32)
        ask_for(from + at + i);
}

/* What make_heads needs besides the row. */
template <typename S>
__device__ __forceinline__ void ask_for_heads(const struct heads &h,
                                              const struct device_run &run)
{
    const unsigned g = blockIdx.y, group = h.H / h.G;
    const size_t turned = (size_t)run.first * (S::D / 2);

    ask_for_all(h.bias[0], (size_t)g * group * S::D, group * S::D);
    ask_for_all(h.bias[1], (size_t)g * S::D, S::D);
    ask_for_all(h.bias[2], (size_t)g * S::D, S::D);
    ask_for_all(h.norm[0], 0, S::D);
    ask_for_all(h.norm[1], 0, S::D);
    ask_for_all(h.cos, turned, S::D / 2);
    ask_for_all(h.sin, turned, S::D / 2);
}

/* The heads of group g as attention takes them, and where the newest position is the block's, its key and
 * value, which are filed as well: in shared memory, in this order. */
template <typename S>
__device__ __forceinline__ void make_heads(uint16_t *made, const struct heads &h,
                                           const struct device_run &run, bool has_newest)
{
    const unsigned g = blockIdx.y, group = h.H / h.G, lanes = S::D / 4;
    const unsigned n = group + (has_newest ? 2 : 0);
    const uint16_t *row = h.x + (size_t)run.row * (h.H + 2 * h.G) * S::D;

    for (unsigned base = 0; base < n * lanes; base += S::WARPS * 32) {
        const unsigned t = base + threadIdx.x, i = t / lanes < n ? t / lanes : 0;
        const unsigned j = t % lanes * 2, key = h.H + g;
        const unsigned head = i < group ? g * group + i : i == group ? key : key + h.G;
        uint16_t *to = made + (i < group ? i : S::COLUMNS + i - group) * S::head_row + j;
        uint32_t pair[2];

        turn(pair, h, row, head, j, run.first);
        if (t / lanes >= n)
            continue;
        *reinterpret_cast<uint32_t *>(to) = pair[0];
        *reinterpret_cast<uint32_t *>(to + S::D / 2) = pair[1];
        if (i >= group) {
            to = filed(h, run, run.first, head) + j;
            *reinterpret_cast<uint32_t *>(to) = pair[0];
            *reinterpret_cast<uint32_t *>(to + S::D / 2) = pair[1];
        }
    }
}

template <typename S>
__device__ __forceinline__ void read_queries(queries<S> &q, const uint16_t *made,
                                             unsigned group)
{
    const unsigned r = threadIdx.x % 32 / 4, c = threadIdx.x % 4;

    for (int n = 0; n < S::N; n++)
        for (int k = 0; k < S::STEPS; k++)
            for (int i = 0; i < 2; i++) {
                const unsigned head = (unsigned)n * 8 + r;
                q[k][n][i] = head < group
                                 ? *reinterpret_cast<const uint32_t *>(
                                       made + head * S::head_row + k * 16 + i * 8 + 2 * c)
                                 : 0;
            }
}

/* Row p of a tile becomes the newest position. The warp. */
template <typename S>
__device__ __forceinline__ void put_newest(uint16_t *tile, const uint16_t *made, unsigned p)
{
    const unsigned chunks = S::D / 8, j = threadIdx.x % 32 % chunks,
                   kind = threadIdx.x % 32 / chunks;

    if (kind < 2)
        *reinterpret_cast<uint4 *>(tile + kind * S::half + place<S::D>(p, j)) =
            *reinterpret_cast<const uint4 *>(made + (S::COLUMNS + kind) * S::head_row + j * 8);
    __syncwarp();
}

/* The group's part of a row that nobody wants: zeros, so that what is made of it stays finite. */
template <typename S>
__device__ __forceinline__ void leave_out(const struct decode &x, const struct device_run &run)
{
    const unsigned group = x.h.H / x.h.G;
    uint4 *out = reinterpret_cast<uint4 *>(x.out + (size_t)run.row * x.out_stride +
                                           (size_t)blockIdx.y * group * S::D);

    begin_next();
    await_before();
    for (unsigned i = threadIdx.x; blockIdx.x == 0 && i < group * (S::D / 8);
         i += S::WARPS * 32)
        out[i] = make_uint4(0, 0, 0, 0);
}

/* Block (part, g, run). */
template <typename S>
__global__ void __launch_bounds__(S::WARPS * 32) decode_kernel(struct decode x)
{
    DYNAMIC_SHARED(uint16_t, shared);
    const unsigned warp = threadIdx.x / 32, g = blockIdx.y, group = x.h.H / x.h.G,
                   parts = gridDim.x;
    const struct device_run run = x.h.runs[blockIdx.z];
    if (run.n == 0) {
        leave_out<S>(x, run);
        return;
    }
    const unsigned newest = run.first / S::positions;
    uint16_t *made = shared + S::tile_bytes / sizeof(uint16_t);
    bool has_newest;
    stream<S> tiles = stream_of<S>(x, run, shared, &has_newest);
    float *records = reinterpret_cast<float *>(shared);
    queries<S> q;
    state<S> s;

    begin_next();
    for (unsigned i = 0; i < S::STAGES; i++)
        tiles.start(i);
    ask_for_heads<S>(x.h, run);
    await_before();
    make_heads<S>(made, x.h, run, has_newest);
    __syncthreads();
    read_queries<S>(q, made, group);
    for (int n = 0; n < S::N; n++) {
        s.m[n][0] = s.m[n][1] = -INFINITY;
        s.l[n][0] = s.l[n][1] = 0.0f;
        for (int k = 0; k < S::STEPS; k++)
            s.o[k][n][0] = s.o[k][n][1] = s.o[k][n][2] = s.o[k][n][3] = 0.0f;
    }
    for (unsigned i = 0; i < tiles.n; i++) {
        copy_wait<S::STAGES - 1>();
        __syncwarp();
        uint16_t *tile = tiles.stages + i % S::STAGES * S::stage;
        if (tiles.tile(i) == newest)
            put_newest<S>(tile, made, run.first % S::positions);
        take<S>(s, q, tile, tiles.tile(i) * S::positions, tiles.len, x.scale);
        __syncwarp();
        tiles.start(i + S::STAGES);
    }
    __syncthreads(); /* nobody reads tiles, or awaits one */
    give<S>(records + warp * (S::COLUMNS * S::record), s);
    __syncthreads();

    const size_t item = (size_t)blockIdx.z * x.h.G + g, step = group * S::record;
    uint16_t *out = x.out + (size_t)run.row * x.out_stride + (size_t)g * group * S::D;
    float *partial = parts > 1 ? x.partial + item * parts * step : NULL;
    finish<S>(x, records, S::COLUMNS * S::record, S::WARPS, out,
              partial ? partial + blockIdx.x * step : NULL);
    if (partial && is_last(x.ended + item, parts))
        finish<S>(x, partial, step, parts, out, NULL);
}

template <typename S>
void launch(struct device *d, const struct open_attention *a, const struct open_heads *h,
            unsigned parts)
{
    const struct decode x = {a->out,        a->partial,        device_counts(d),
                             a->out_stride, a->scale * log2_e, heads_of(h)};

    if (!device_note(d,
                     cudaFuncSetAttribute(decode_kernel<S>,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)S::shared_bytes),
                     "attention of new rows"))
        return;
    LAUNCH_EARLY(decode_kernel<S>, dim3(parts, x.h.G, (unsigned)a->n_runs), dim3(S::WARPS * 32),
                 S::shared_bytes, d->stream, x);
}

const size_t static_bytes = 4096; /* more than the kernels have of other shared memory */

/* Eight warps, whose tiles fill a multiprocessor's memory, where blocks do not share one and it is that
 * large; a GPU that is no data centre's has 99 KiB for a block, which three stages of the largest tiles exceed. */
template <int D, int COLUMNS>
void launch_as(struct device *d, const struct open_attention *a, const struct open_heads *h,
               unsigned parts)
{
    using wide = sizes<D, COLUMNS, 8, 3>;
    using usual = sizes<D, COLUMNS, 4, 3>;

    if (a->n_runs * a->G * parts <= d->multiprocessors &&
        wide::shared_bytes + static_bytes <= d->shared_max)
        launch<wide>(d, a, h, parts);
    else if (usual::shared_bytes <= d->shared_max)
        launch<usual>(d, a, h, parts);
    else
        launch<sizes<D, COLUMNS, 4, 2>>(d, a, h, parts);
}

template <int D>
void launch_of(struct device *d, const struct open_attention *a, const struct open_heads *h,
               unsigned parts)
{
    if (a->H / a->G <= 8)
        launch_as<D, 8>(d, a, h, parts);
    else
        launch_as<D, 16>(d, a, h, parts);
}

} // namespace

/*
 * In times of a page: all that is read is shared by all multiprocessors, of which one alone may take
 * half as much again as its share; to merge parts costs about two, and more the more there are. The
 * pages count as if they were a power of two, so that a growing sequence seldom changes the parts.
 */
size_t open_attention_parts(const struct device *d, const struct open_attention *a)
{
    const size_t items = a->n_runs * a->G;
    size_t pages = 1, best = 1;
    double least = INFINITY;

    while (pages * page < a->max_len)
        pages *= 2;
    for (size_t parts = 1; parts <= OPEN_PARTS_MAX && parts <= pages &&
                           (parts == 1 || parts * items <= OPEN_BLOCKS);
         parts *= 2) {
        const size_t blocks = (items * parts + d->multiprocessors - 1) / d->multiprocessors;
        const double all = (double)(items * pages) / d->multiprocessors,
                     most = (double)(blocks * (pages / parts)) / 1.5,
                     merging = parts > 1 ? 2.0 + (double)parts / 16.0 : 0.0,
                     cost = (all > most ? all : most) + merging;

        if (cost < least) {
            least = cost;
            best = parts;
        }
    }
    return best;
}

void open_attention_decode(struct device *d, const struct open_attention *a,
                           const struct open_heads *h)
{
    const unsigned parts = (unsigned)open_attention_parts(d, a);

    if (a->n_runs == 0 || !device_is_well(d) || !device_counts(d))
        return;
    if (a->D == 128)
        launch_of<128>(d, a, h, parts);
    else if (a->D == 64)
        launch_of<64>(d, a, h, parts);
    else
        launch_of<32>(d, a, h, parts);
    device_launched(d, "attention of new rows");
}
