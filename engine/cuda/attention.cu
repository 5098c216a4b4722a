#include "engine/cuda/attention.cuh"

#include "base/check.h"
#include "engine/cuda/f32.h"

namespace
{

const unsigned TILE = 64;               /* rows (queries times heads of a group) */
const unsigned BLOCK = ATTENTION_BLOCK; /* keys */
const unsigned P_ROW = BLOCK + 16;      /* two rows' lanes of a sum in different banks */
const unsigned PAGE = ATTENTION_PAGE;
const unsigned TILES_AT_ONCE = 4;            /* thread blocks per multiprocessor worth having */
const size_t PARTS_BYTES = (size_t)64 << 20; /* of parts of rows, at most */

/* Of a page, keys are columns (G, D, PAGE), so that a thread per key reads beside its neighbour, and
 * values are rows (G, PAGE, D). */
struct page_place {
    float *const *pages; /* of the sequence */
    size_t at, D;        /* the head's keys in a page, or its values */

    __device__ page_place(const struct device_attention &a, const struct device_run &run,
                          const struct attention_shape &s, unsigned group, bool is_value)
        : pages(a.pages + run.pages),
          at(a.page_at + (group + (is_value ? s.G : 0)) * PAGE * s.D), D(s.D)
    {
    }
    __device__ float *page(unsigned position) const
    {
        return pages[position / PAGE] + at;
    }
};

/* Values first .. first + n - 1 of a head. */
struct paged_rows {
    struct page_place values;
    unsigned first, n;

    __device__ const float *at(unsigned i) const
    {
        unsigned x = first + i;
        return i < n ? values.page(x) + x % PAGE * values.D : nullptr;
    }
};

/* One chunk of TILE rows of the heads of one group of one run. */
struct chunk {
    struct device_run run;
    unsigned R, group, first, n;
    unsigned D;
    bool is_wide;

    __device__ unsigned position(unsigned i) const
    {
        return run.first + (first + i) / R;
    }
    /* Where row i's head begins in an array of rows of `width` per head */
    __device__ size_t at(unsigned i, size_t stride, size_t width) const
    {
        return (run.row + (first + i) / R) * stride + (group * R + (first + i) % R) * width;
    }
};

struct prefill_shared {
    float p[TILE * P_ROW];
    float left[STEP * TILE], right[STEP * BLOCK];
    float m[TILE], l[TILE]; /* so far */
    float a[TILE], b[TILE]; /* what the merge multiplies by */
    unsigned end[TILE];     /* keys that the row sees */
};

/* Columns of the channels from d0 on of the keys of the block at b0, of which n are there. */
__device__ inline void stage_keys(float *to, const struct device_attention &f,
                                  const struct attention_shape &s, const struct chunk &c,
                                  unsigned b0, unsigned n, unsigned d0)
{
    if (!f.pages) {
        struct rows keys = {
            f.k + (c.run.row + b0) * s.k_stride + c.group * s.D, s.k_stride, 0, 0, 1, n};
        stage_columns<BLOCK>(to, keys, d0, c.D, c.is_wide);
        return;
    }
    struct page_place keys(f, c.run, s, c.group, false);
    const unsigned d = threadIdx.x / 16, i = threadIdx.x % 16 * 4;

    for (unsigned first = 0; first < BLOCK; first += PAGE) {
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (first < n && d0 + d < c.D)
            x = *reinterpret_cast<const float4 *>(keys.page(b0 + first) + (d0 + d) * PAGE + i);
        *reinterpret_cast<float4 *>(to + d * BLOCK + ((first + i) ^ column_turn(d))) = x;
    }
}

/* s[r][c] += channel d of row 8 * warp + r times that of key c / 4 * 128 + 4 * lane + c % 4. */
template <int HALVES>
__device__ inline void fma_channel(float (&s)[8][8], const float *left, const float *right,
                                   unsigned d)
{
    const unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    float4 a[2], b[HALVES];

    a[0] = column4<TILE>(left, d, 8 * warp);
    a[1] = column4<TILE>(left, d, 8 * warp + 4);
    UNROLL
    for (int h = 0; h < HALVES; h++)
        b[h] = column4<BLOCK>(right, d, 128 * h + 4 * lane);
    UNROLL
    for (int r = 0; r < 8; r++) {
        float q = r % 4 == 0   ? a[r / 4].x
                  : r % 4 == 1 ? a[r / 4].y
                  : r % 4 == 2 ? a[r / 4].z
                               : a[r / 4].w;
        UNROLL
        for (int h = 0; h < HALVES; h++) {
            s[r][4 * h] = fmaf(q, b[h].x, s[r][4 * h]);
            s[r][4 * h + 1] = fmaf(q, b[h].y, s[r][4 * h + 1]);
            s[r][4 * h + 2] = fmaf(q, b[h].z, s[r][4 * h + 2]);
            s[r][4 * h + 3] = fmaf(q, b[h].w, s[r][4 * h + 3]);
        }
    }
}

template <int HALVES>
__device__ inline void fma_channels(float (&s)[8][8], const float *left, const float *right,
                                    unsigned n)
{
    if (n >= STEP) {
        UNROLL
        for (unsigned d = 0; d < STEP; d++)
            fma_channel<HALVES>(s, left, right, d);
        return;
    }
    UNROLL_NOT
    for (unsigned d = 0; d < n; d++)
        fma_channel<HALVES>(s, left, right, d);
}

__device__ inline float warp_max(float x)
{
    UNROLL
    for (int by = 16; by > 0; by /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, by));
    return x;
}

/* The class's sum of 256 weights, by 16 lanes of a warp; in their first. Weights past the end are
 * +0, which leaves it as it is. */
__device__ inline float sum_weights(const float *p)
{
    float s = 0.0f;

    for (unsigned i = threadIdx.x % 16; i < BLOCK; i += 16)
        s += p[i];
    UNROLL
    for (int by = 8; by > 0; by /= 2)
        s += __shfl_down_sync(ALL_LANES, s, by, 16);
    return s;
}

/* Takes a block's m and l into a row's, and says what its o is to be multiplied by. */
__device__ inline void merge_row(float *M, float *L, float *a, float *b, float m, float l)
{
    float top = *M > m ? *M : m;

    *a = cut_exp(*M - top);
    *b = cut_exp(m - top);
    *L = fmaf(*L, *a, l * *b);
    *M = top;
}

/* Weights p of the warp's 8 rows, and their m and l merged into the rows'. */
__device__ inline void soften(struct prefill_shared *w, const float (&s)[8][8], float scale,
                              unsigned b0)
{
    const unsigned first = threadIdx.x / LANES * 8, lane = threadIdx.x % LANES;
    float m[8];

    UNROLL
    for (int r = 0; r < 8; r++) {
        unsigned end = w->end[first + r], seen = end > b0 ? end - b0 : 0;
        float top = -INFINITY, p[8];
        UNROLL
        for (unsigned c = 0; c < 8; c++)
            if (c / 4 * 128 + 4 * lane + c % 4 < seen)
                top = fmaxf(top, s[r][c]);
        m[r] = warp_max(top) * scale;
        UNROLL
        for (unsigned c = 0; c < 8; c++)
            p[c] =
                c / 4 * 128 + 4 * lane + c % 4 < seen ? cut_exp(s[r][c] * scale - m[r]) : 0.0f;
        float4 *to = reinterpret_cast<float4 *>(w->p + (first + r) * P_ROW);
        to[lane] = make_float4(p[0], p[1], p[2], p[3]);
        to[lane + LANES] = make_float4(p[4], p[5], p[6], p[7]);
    }
    __syncwarp();
    UNROLL
    for (int r = 0; r < 8; r += 2) {
        unsigned i = first + r + lane / 16;
        float l = sum_weights(w->p + i * P_ROW), top = lane < 16 ? m[r] : m[r + 1];
        if (lane % 16 != 0 || w->end[i] <= b0)
            continue;
        if (b0 == 0) {
            w->m[i] = top;
            w->l[i] = l;
        } else {
            merge_row(&w->m[i], &w->l[i], &w->a[i], &w->b[i], top, l);
        }
    }
    __syncwarp();
}

/* p of the block at b0, whose first n keys somebody sees. */
__device__ inline void weigh_keys(struct prefill_shared *w, const struct device_attention &f,
                                  const struct attention_shape &s, const struct chunk &c,
                                  unsigned b0, unsigned n)
{
    struct rows queries = {
        f.q + c.run.row * s.q_stride + c.group * c.R * s.D, s.q_stride, s.D, c.first, c.R, c.n};
    float score[8][8] = {};

    for (unsigned d0 = 0; d0 < c.D; d0 += STEP) {
        __syncthreads(); /* everybody has read what stands there */
        stage_columns<TILE>(w->left, queries, d0, c.D, c.is_wide);
        stage_keys(w->right, f, s, c, b0, n, d0);
        __syncthreads();
        if (n > BLOCK / 2)
            fma_channels<2>(score, w->left, w->right, c.D - d0);
        else
            fma_channels<1>(score, w->left, w->right, c.D - d0);
    }
    soften(w, score, s.scale, b0);
}

/* add = p V of the block at b0. */
template <int WIDE, typename VALUES>
__device__ inline void weigh_values(float (&add)[WIDE / 16][4], struct prefill_shared *w,
                                    const VALUES &values, const struct chunk &c, unsigned b0,
                                    unsigned n)
{
    const struct place<WIDE> at;

    for (unsigned i0 = 0; i0 < n; i0 += STEP) {
        unsigned begin = b0 + i0, end[WIDE / 16];
        __syncthreads();
        stage_lines<WIDE>(w->right, values, i0, c.D, c.is_wide);
        __syncthreads();
        UNROLL
        for (unsigned r = 0; r < WIDE / 16; r++) {
            unsigned e = w->end[at.row + r];
            end[r] = e > begin ? e - begin : 0;
        }
        weigh_lines<WIDE, P_ROW>(add, w->p + at.row * P_ROW + i0, w->right + at.d,
                                 n - i0 < STEP ? n - i0 : STEP, end[0], end);
    }
}

template <int WIDE>
__device__ inline void merge_block(float (&o)[WIDE / 16][4], const float (&add)[WIDE / 16][4],
                                   const struct prefill_shared *w, unsigned b0)
{
    const struct place<WIDE> at;

    UNROLL
    for (unsigned r = 0; r < WIDE / 16; r++) {
        if (w->end[at.row + r] <= b0)
            continue;
        float a = w->a[at.row + r], b = w->b[at.row + r];
        UNROLL
        for (int i = 0; i < 4; i++)
            o[r][i] = b0 == 0 ? add[r][i] : fmaf(o[r][i], a, add[r][i] * b);
    }
}

template <int WIDE>
__device__ inline void store_rows(const float (&o)[WIDE / 16][4],
                                  const struct prefill_shared *w,
                                  const struct device_attention &f,
                                  const struct attention_shape &s, const struct chunk &c)
{
    const struct place<WIDE> at;

    UNROLL
    for (unsigned r = 0; r < WIDE / 16; r++) {
        unsigned i = at.row + r;
        if (i >= c.n)
            continue;
        float inv = 1.0f / w->l[i];
        store4(f.out + c.at(i, s.out_stride, s.D), at.d, c.D,
               make_float4(o[r][0] * inv, o[r][1] * inv, o[r][2] * inv, o[r][3] * inv),
               c.is_wide);
    }
    __syncthreads(); /* other warps' m and l */
    if (f.lse && threadIdx.x < c.n)
        f.lse[c.at(threadIdx.x, s.H, 1)] = w->m[threadIdx.x] + lane_log(w->l[threadIdx.x]);
}

/* A thread block has one chunk of one group of one run; the longest first. */
template <int WIDE>
__global__ void __launch_bounds__(THREADS, 2)
    prefill_kernel(struct device_attention f, struct attention_shape s, unsigned chunks,
                   bool is_wide)
{
    DYNAMIC_SHARED(struct prefill_shared, w);
    const unsigned x = blockIdx.x, G = (unsigned)s.G, runs = (unsigned)f.n_runs;
    struct chunk c = {f.runs[x / G % runs],
                      (unsigned)(s.H / s.G),
                      x % G,
                      (chunks - 1 - x / G / runs) * TILE,
                      0,
                      (unsigned)s.D,
                      is_wide};
    const unsigned rows = c.run.n * c.R;
    float o[WIDE / 16][4] = {};

    if (c.first >= rows || (f.pages && c.run.n == 1))
        return;
    c.n = rows - c.first < TILE ? rows - c.first : TILE;
    if (threadIdx.x < TILE)
        w->end[threadIdx.x] = c.position(threadIdx.x < c.n ? threadIdx.x : c.n - 1) + 1;
    __syncthreads();

    const unsigned last = w->end[TILE - 1];
    for (unsigned b0 = 0; b0 < last; b0 += BLOCK) {
        unsigned n = last - b0 < BLOCK ? last - b0 : BLOCK;
        float add[WIDE / 16][4] = {};
        weigh_keys(w, f, s, c, b0, n);
        if (f.pages) {
            struct paged_rows values = {page_place(f, c.run, s, c.group, true), b0, n};
            weigh_values<WIDE>(add, w, values, c, b0, n);
        } else {
            struct rows values = {
                f.v + (c.run.row + b0) * s.v_stride + c.group * s.D, s.v_stride, 0, 0, 1, n};
            weigh_values<WIDE>(add, w, values, c, b0, n);
        }
        merge_block<WIDE>(o, add, w, b0);
    }
    store_rows<WIDE>(o, w, f, s, c);
}

/* Files FILED rows of a run's keys and values in its pages. */
const unsigned FILED = 16;

__global__ void file_kernel(struct device_attention f, struct attention_shape s)
{
    const struct device_run run = f.runs[blockIdx.x % f.n_runs];
    const unsigned t0 = blockIdx.x / (unsigned)f.n_runs * FILED, D = (unsigned)s.D;
    const unsigned n = run.n > t0 ? (run.n - t0 < FILED ? run.n - t0 : FILED) : 0;

    /* Positions beside each other: they are where keys are written. */
    for (unsigned x = threadIdx.x; x < n * s.G * D; x += THREADS) {
        unsigned t = t0 + x % n, e = x / n, group = e / D, d = e % D, at = run.first + t;
        struct page_place keys(f, run, s, group, false), values(f, run, s, group, true);
        keys.page(at)[d * PAGE + at % PAGE] = f.k[(run.row + t) * s.k_stride + e];
        values.page(at)[at % PAGE * D + d] = f.v[(run.row + t) * s.v_stride + e];
    }
}

/* ---- one position of each run: N rows (heads of a group) read its keys and values once ---- */

template <int N> struct decode_shared {
    float q[N * ATTENTION_D_MAX];
    float p[N * P_ROW];
    float m[N], l[N], a[N], b[N];
};

/* Which rows, and of what. */
struct decode_chunk {
    struct device_run run;
    unsigned group, head, n; /* the first head, and how many */
    unsigned D;
};

/* p = q k of the keys of the block at b0, of which n are seen: a thread has one key. */
template <int N>
__device__ inline void decode_scores(struct decode_shared<N> *w, const float *key, unsigned D,
                                     bool is_seen)
{
    float s[N] = {};
    unsigned d = 0;

    for (; d + 8 <= D && is_seen; d += 8) {
        float k[8];
        UNROLL
        for (unsigned i = 0; i < 8; i++)
            k[i] = key[(d + i) * PAGE];
        UNROLL
        for (int r = 0; r < N; r++) {
            const float4 *q = reinterpret_cast<const float4 *>(w->q + r * ATTENTION_D_MAX + d);
            float4 x = q[0], y = q[1];
            s[r] = fmaf(x.x, k[0], s[r]);
            s[r] = fmaf(x.y, k[1], s[r]);
            s[r] = fmaf(x.z, k[2], s[r]);
            s[r] = fmaf(x.w, k[3], s[r]);
            s[r] = fmaf(y.x, k[4], s[r]);
            s[r] = fmaf(y.y, k[5], s[r]);
            s[r] = fmaf(y.z, k[6], s[r]);
            s[r] = fmaf(y.w, k[7], s[r]);
        }
    }
    for (; d < D && is_seen; d++)
        UNROLL
    for (int r = 0; r < N; r++)
        s[r] = fmaf(w->q[r * ATTENTION_D_MAX + d], key[d * PAGE], s[r]);
    UNROLL
    for (int r = 0; r < N; r++)
        w->p[r * P_ROW + threadIdx.x] = s[r];
}

/* Warp r turns row r's scores into weights. */
template <int N>
__device__ inline void decode_soften(struct decode_shared<N> *w, float scale, unsigned n,
                                     bool is_first)
{
    const unsigned r = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    float *p = w->p + r * P_ROW, m = -INFINITY;

    if (r >= N)
        return;
    for (unsigned i = lane; i < n; i += LANES)
        m = fmaxf(m, p[i]);
    m = warp_max(m) * scale;
    for (unsigned i = lane; i < BLOCK; i += LANES)
        p[i] = i < n ? cut_exp(p[i] * scale - m) : 0.0f;
    __syncwarp();
    float l = sum_weights(p);
    if (lane > 0)
        return;
    if (is_first) {
        w->m[r] = m;
        w->l[r] = l;
    } else {
        merge_row(&w->m[r], &w->l[r], &w->a[r], &w->b[r], m, l);
    }
}

/* add = p V. A thread has channel threadIdx.x % WIDE of every GROUPS-th row; ROWS of them. */
template <int N, int WIDE, int ROWS>
__device__ inline void decode_values(float (&add)[ROWS], const struct decode_shared<N> *w,
                                     const struct page_place &values, unsigned b0, unsigned n,
                                     unsigned D)
{
    const unsigned groups = THREADS / WIDE, d = threadIdx.x % WIDE, first = threadIdx.x / WIDE;

    if (d >= D)
        return;
    for (unsigned page = 0; page < n; page += PAGE) {
        const float *v = values.page(b0 + page) + d;
        unsigned keys = n - page < PAGE ? n - page : PAGE, j = 0;
        for (; j + 16 <= keys; j += 16) {
            float x[16];
            UNROLL
            for (unsigned i = 0; i < 16; i++)
                x[i] = v[(j + i) * D];
            UNROLL
            for (unsigned r = 0; r < ROWS; r++) {
                unsigned row = first + r * groups;
                const float *p = w->p + (row < N ? row : 0) * P_ROW + page + j;
                UNROLL
                for (unsigned i = 0; i < 16; i++)
                    add[r] = fmaf(p[i], x[i], add[r]);
            }
        }
        for (; j < keys; j++) {
            float x = v[j * D];
            UNROLL
            for (unsigned r = 0; r < ROWS; r++) {
                unsigned row = first + r * groups;
                add[r] = fmaf(w->p[(row < N ? row : 0) * P_ROW + page + j], x, add[r]);
            }
        }
    }
}

/* What one block of keys gave a row: o (D), m, l; (n_runs, H, blocks) of them. */
__device__ inline float *part_of(float *parts, unsigned run, unsigned head, unsigned block,
                                 unsigned blocks, const struct attention_shape &s)
{
    return parts + ((run * s.H + head) * blocks + block) * (s.D + 2);
}

/* With `parts`, a thread block has one block of keys; without, all of them. */
template <int N, int WIDE>
__global__ void __launch_bounds__(THREADS)
    decode_kernel(struct device_attention f, struct attention_shape s, float *parts,
                  unsigned blocks)
{
    DYNAMIC_SHARED(struct decode_shared<N>, w);
    const unsigned ROWS = (N + THREADS / WIDE - 1) / (THREADS / WIDE), groups = THREADS / WIDE;
    const unsigned R = (unsigned)(s.H / s.G), chunks = (R + N - 1) / N, D = (unsigned)s.D;
    const unsigned x = blockIdx.x % (chunks * (unsigned)s.G),
                   i = blockIdx.x / (chunks * (unsigned)s.G);
    const unsigned group = x / chunks, head = group * R + x % chunks * N;
    const unsigned n = (group + 1) * R - head < N ? (group + 1) * R - head : N;
    const unsigned block = parts ? i % blocks : 0, index = parts ? i / blocks : i;
    const struct device_run run = f.runs[index];
    const unsigned keys = run.first + 1, begin = block * BLOCK;
    const unsigned end = parts && begin + BLOCK < keys ? begin + BLOCK : keys;
    const unsigned d = threadIdx.x % WIDE, first = threadIdx.x / WIDE;
    float o[ROWS] = {};

    if (run.n != 1 || begin >= keys)
        return;
    for (unsigned e = threadIdx.x; e < N * D; e += THREADS) {
        unsigned r = e / D < n ? e / D : 0; /* rows past the last are copies that go nowhere */
        w->q[e / D * ATTENTION_D_MAX + e % D] =
            f.q[run.row * s.q_stride + (head + r) * s.D + e % D];
    }
    __syncthreads();
    for (unsigned b0 = begin; b0 < end; b0 += BLOCK) {
        const struct page_place key(f, run, s, group, false), value(f, run, s, group, true);
        unsigned seen = end - b0 < BLOCK ? end - b0 : BLOCK;
        bool is_seen = threadIdx.x < seen;
        float add[ROWS] = {};
        decode_scores<N>(w, is_seen ? key.page(b0 + threadIdx.x) + threadIdx.x % PAGE : nullptr,
                         D, is_seen);
        __syncthreads();
        decode_soften<N>(w, s.scale, seen, b0 == begin);
        __syncthreads();
        decode_values<N, WIDE, ROWS>(add, w, value, b0, seen, D);
        UNROLL
        for (unsigned r = 0; r < ROWS; r++) {
            unsigned row = first + r * groups < N ? first + r * groups : 0;
            o[r] = b0 == begin ? add[r] : fmaf(o[r], w->a[row], add[r] * w->b[row]);
        }
        __syncthreads(); /* p, a and b were read */
    }
    UNROLL
    for (unsigned r = 0; r < ROWS; r++) {
        unsigned row = first + r * groups;
        if (row >= n || d >= D)
            continue;
        if (parts)
            part_of(parts, index, head + row, block, blocks, s)[d] = o[r];
        else
            f.out[run.row * s.out_stride + (head + row) * s.D + d] = o[r] * (1.0f / w->l[row]);
    }
    if (threadIdx.x >= n)
        return;
    if (parts) {
        float *part = part_of(parts, index, head + threadIdx.x, block, blocks, s) + D;
        part[0] = w->m[threadIdx.x];
        part[1] = w->l[threadIdx.x];
    } else if (f.lse) {
        f.lse[run.row * s.H + head + threadIdx.x] =
            w->m[threadIdx.x] + lane_log(w->l[threadIdx.x]);
    }
}

/* Merges the parts of one head of one run, blocks ascending. */
__global__ void merge_kernel(struct device_attention f, struct attention_shape s,
                             const float *parts, unsigned blocks)
{
    const unsigned index = blockIdx.x / (unsigned)s.H, head = blockIdx.x % (unsigned)s.H;
    const unsigned D = (unsigned)s.D, d = threadIdx.x;
    const struct device_run run = f.runs[index];
    const float *part = parts + (size_t)blockIdx.x * blocks * (D + 2);

    if (run.n != 1 || d >= D)
        return;
    float M = part[D], L = part[D + 1], o = part[d];
    for (unsigned b0 = BLOCK; b0 <= run.first; b0 += BLOCK) {
        float a, b;
        part += D + 2;
        merge_row(&M, &L, &a, &b, part[D], part[D + 1]);
        o = fmaf(o, a, part[d] * b);
    }
    f.out[run.row * s.out_stride + head * s.D + d] = o * (1.0f / L);
    if (f.lse && d == 0)
        f.lse[run.row * s.H + head] = M + lane_log(L);
}

template <int N, int WIDE>
void decode_wide(struct device *d, const struct device_attention *f, float *parts,
                 unsigned blocks)
{
    const struct attention_shape *s = f->shape;
    const unsigned chunks = (unsigned)((s->H / s->G + N - 1) / N);
    const unsigned grid = (unsigned)(f->n_runs * s->G) * chunks * (parts ? blocks : 1);

    LAUNCH((decode_kernel<N, WIDE>), grid, THREADS, sizeof(struct decode_shared<N>), d->stream,
           *f, *s, parts, blocks);
}

template <int N>
void decode_rows(struct device *d, const struct device_attention *f, float *parts,
                 unsigned blocks)
{
    if (f->shape->D <= 64)
        decode_wide<N, 64>(d, f, parts, blocks);
    else
        decode_wide<N, 128>(d, f, parts, blocks);
}

void decode(struct device *d, const struct device_attention *f, float *parts, unsigned blocks)
{
    const size_t R = f->shape->H / f->shape->G;

    if (R == 1)
        decode_rows<1>(d, f, parts, blocks);
    else if (R == 2)
        decode_rows<2>(d, f, parts, blocks);
    else if (R <= 4)
        decode_rows<4>(d, f, parts, blocks);
    else if (R <= 6)
        decode_rows<6>(d, f, parts, blocks);
    else
        decode_rows<8>(d, f, parts, blocks);
}

/* The runs of one position. Where they are too few to fill the device, blocks of keys are computed
 * beside each other and merged afterwards, as many runs at a time as the scratch memory takes. */
void decode_all(struct device *d, const struct device_attention *a)
{
    const struct attention_shape *s = a->shape;
    const unsigned blocks = (unsigned)((a->max_len + BLOCK - 1) / BLOCK);
    const size_t part_bytes = s->H * blocks * (s->D + 2) * sizeof(float);
    struct device_attention f = *a;

    if (blocks == 1 || a->n_runs * s->G >= (size_t)TILES_AT_ONCE * d->multiprocessors) {
        decode(d, a, NULL, blocks);
        return;
    }
    size_t at_once = PARTS_BYTES / part_bytes > 0 ? PARTS_BYTES / part_bytes : 1;
    at_once = at_once < a->n_runs ? at_once : a->n_runs;
    float *parts = (float *)device_scratch(d, at_once * part_bytes);
    if (!parts)
        return;
    for (size_t i = 0; i < a->n_runs; i += f.n_runs) {
        f.runs = a->runs + i;
        f.n_runs = a->n_runs - i < at_once ? a->n_runs - i : at_once;
        decode(d, &f, parts, blocks);
        LAUNCH(merge_kernel, (unsigned)(f.n_runs * s->H), ATTENTION_D_MAX, 0, d->stream, f, *s,
               parts, blocks);
    }
}

template <int WIDE> void prefill(struct device *d, const struct device_attention *a)
{
    const struct attention_shape *s = a->shape;
    const unsigned chunks = (unsigned)((a->max_n * (s->H / s->G) + TILE - 1) / TILE);
    const bool is_wide =
        is_wide4(s->D, s->q_stride | s->out_stride | s->k_stride | s->v_stride | a->page_at,
                 a->q, a->out, a->k, a->v);

    if (!device_note(d,
                     cudaFuncSetAttribute(prefill_kernel<WIDE>,
                                          cudaFuncAttributeMaxDynamicSharedMemorySize,
                                          (int)sizeof(struct prefill_shared)),
                     "attention"))
        return;
    LAUNCH(prefill_kernel<WIDE>, (unsigned)(a->n_runs * s->G) * chunks, THREADS,
           sizeof(struct prefill_shared), d->stream, *a, *s, chunks, is_wide);
}

} // namespace

size_t cuda_f32_page_floats(const struct attention_shape *s)
{
    return 2 * s->G * PAGE * s->D;
}

void cuda_f32_attention(struct device *d, const struct device_attention *a)
{
    const struct attention_shape *s = a->shape;

    if (!device_is_well(d) || a->n_runs == 0 || a->max_n == 0)
        return;
    CHECK(s->D > 0 && s->D <= ATTENTION_D_MAX && s->G > 0 && s->H % s->G == 0);
    if (a->pages) {
        LAUNCH(file_kernel, (unsigned)(a->n_runs * ((a->max_n + FILED - 1) / FILED)), THREADS,
               0, d->stream, *a, *s);
        decode_all(d, a);
    }
    if (!a->pages || a->max_n > 1) {
        if (s->D <= 64)
            prefill<64>(d, a);
        else
            prefill<128>(d, a);
    }
    device_launched(d, "attention");
}
