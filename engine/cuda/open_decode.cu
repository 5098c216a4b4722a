/*
 * Attention of one new row a sequence over paged bf16 keys and values (flash decoding).
 *
 * What takes the time is reading keys and values once, so the heads of a group share each read: they
 * are the rows of the tensor cores' tiles. A warp takes pages by itself, 16 positions at a time,
 * straight from memory into fragments: a sum over channels does not care for their order, so a lane
 * holds 8 channels that lie side by side where the fragment wants four pairs that do not; and which
 * columns of the values' tile are which channels is free likewise.
 *
 * A block's four warps, then the blocks of a sequence, are merged as arXiv:2205.14135 merges tiles.
 */
#include "engine/cuda/open_mma.cuh"

#include "engine/cuda/open.h"

namespace
{

const unsigned warps = 4, page = ATTENTION_PAGE, rows_max = 16;
const float log2_e = 1.4426950408889634f;

/* What a lane knows of its rows lane / 4 and lane / 4 + 8: maximum and its own part of the sum, in
 * powers of two, and the tile of the output. */
template <int D> struct state {
    float m[2], l[2], o[D / 8][4];
};

template <int WORDS> struct words {
    uint32_t w[WORDS];
};

template <int WORDS>
__device__ __forceinline__ words<WORDS> read(const uint16_t *at, bool is_there)
{
    words<WORDS> x;
    if (WORDS == 4) {
        uint4 y = is_there ? *reinterpret_cast<const uint4 *>(at) : make_uint4(0, 0, 0, 0);
        x.w[0] = y.x;
        x.w[1] = y.y;
        x.w[WORDS - 2] = y.z;
        x.w[WORDS - 1] = y.w;
    } else {
        uint2 y = {0, 0};
        if (is_there)
            y = *reinterpret_cast<const uint2 *>(at);
        x.w[0] = y.x;
        x.w[1] = y.y;
    }
    return x;
}

/* Positions base .. base + 15, of which those below len count. */
template <int D>
__device__ __forceinline__ void take_16(state<D> &s, const words<4> (&q)[2][D / 32],
                                        const uint16_t *k, const uint16_t *v, unsigned base,
                                        unsigned len, float scale)
{
    const int words_v = D >= 64 ? 4 : 2, passes = D / (16 * words_v);
    const unsigned lane = threadIdx.x % 32, r = lane / 4, c = lane % 4;
    words<4> keys[2][D / 32];
    words<words_v> values[4][passes];
    float p[2][4], top[2], shrink[2];

    for (int t = 0; t < 2; t++)
        for (int i = 0; i < D / 32; i++)
            keys[t][i] = read<4>(k + (t * 8 + r) * D + i * 32 + c * 8, base + t * 8 + r < len);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < passes; j++) {
            unsigned at = 2 * c + i % 2 + i / 2 * 8;
            values[i][j] =
                read<words_v>(v + at * D + j * 64 + r * (2 * words_v), base + at < len);
        }
    top[0] = s.m[0];
    top[1] = s.m[1];
    for (int t = 0; t < 2; t++) {
        p[t][0] = p[t][1] = p[t][2] = p[t][3] = 0.0f;
        for (int i = 0; i < D / 32; i++)
            for (int half = 0; half < 2; half++) {
                const uint32_t a[4] = {q[0][i].w[2 * half], q[1][i].w[2 * half],
                                       q[0][i].w[2 * half + 1], q[1][i].w[2 * half + 1]};
                const uint32_t b[2] = {keys[t][i].w[2 * half], keys[t][i].w[2 * half + 1]};
                mma_bf16(p[t], a, b);
            }
        for (int i = 0; i < 4; i++) {
            p[t][i] = base + t * 8 + 2 * c + i % 2 < len ? p[t][i] * scale : -INFINITY;
            top[i / 2] = fmaxf(top[i / 2], p[t][i]);
        }
    }
    for (int i = 0; i < 2; i++) {
        top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 1));
        top[i] = fmaxf(top[i], __shfl_xor_sync(0xffffffffu, top[i], 2));
        shrink[i] = fast_exp2(s.m[i] - top[i]);
        s.m[i] = top[i];
        s.l[i] *= shrink[i];
    }
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 4; i++) {
            p[t][i] = fast_exp2(p[t][i] - top[i / 2]);
            s.l[i / 2] += p[t][i];
        }
    const uint32_t a[4] = {bf16_pair(p[0][0], p[0][1]), bf16_pair(p[0][2], p[0][3]),
                           bf16_pair(p[1][0], p[1][1]), bf16_pair(p[1][2], p[1][3])};
    for (int j = 0; j < passes; j++)
        for (int w = 0; w < words_v; w++) {
            const uint32_t low[2] = {bf16_lows(values[0][j].w[w], values[1][j].w[w]),
                                     bf16_lows(values[2][j].w[w], values[3][j].w[w])};
            const uint32_t high[2] = {bf16_highs(values[0][j].w[w], values[1][j].w[w]),
                                      bf16_highs(values[2][j].w[w], values[3][j].w[w])};
            float *even = s.o[j * 8 + 2 * w], *odd = s.o[j * 8 + 2 * w + 1];
            for (int i = 0; i < 4; i++) {
                even[i] *= shrink[i / 2];
                odd[i] *= shrink[i / 2];
            }
            mma_bf16(even, a, low);
            mma_bf16(odd, a, high);
        }
}

/* What the warps of a block give to be merged: (warp, row). */
template <int D> struct gathered {
    float m[warps][rows_max], l[warps][rows_max], o[warps][rows_max][D];
};

template <int D> __device__ __forceinline__ void give(gathered<D> *all, state<D> &s)
{
    const int words_v = D >= 64 ? 4 : 2, passes = D / (16 * words_v);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;

    for (int i = 0; i < 2; i++) {
        s.l[i] += __shfl_xor_sync(0xffffffffu, s.l[i], 1);
        s.l[i] += __shfl_xor_sync(0xffffffffu, s.l[i], 2);
        if (c == 0) {
            all->m[warp][r + 8 * i] = s.m[i];
            all->l[warp][r + 8 * i] = s.l[i];
        }
    }
    for (int j = 0; j < passes; j++)
        for (int w = 0; w < 2 * words_v; w++)
            for (int i = 0; i < 4; i++)
                all->o[warp][r + i / 2 * 8][j * 64 + (2 * c + i % 2) * (2 * words_v) + w] =
                    s.o[j * 8 + w][i];
}

/* The block's share of row r, for channel d: its sum; *m and *l of the row. */
template <int D>
__device__ __forceinline__ float merge(const gathered<D> *all, unsigned r, unsigned d, float *m,
                                       float *l)
{
    float top = -INFINITY, sum = 0.0f, o = 0.0f;

    for (unsigned w = 0; w < warps; w++)
        top = fmaxf(top, all->m[w][r]);
    for (unsigned w = 0; w < warps; w++) {
        if (all->m[w][r] == -INFINITY)
            continue; /* a warp without pages */
        float by = fast_exp2(all->m[w][r] - top);
        sum += all->l[w][r] * by;
        o += all->o[w][r][d] * by;
    }
    *m = top;
    *l = sum;
    return o;
}

struct decode {
    uint16_t *out;
    float *partial; /* (n_runs, H, parts, D + 2): sums, maximum, sum of powers */
    const uint16_t *q;
    size_t q_stride, out_stride;
    uint16_t *const *pages;
    size_t page_at;
    const struct device_run *runs;
    unsigned H, G;
    float scale;
};

/* Block (part, g, run). */
template <int D> __global__ void __launch_bounds__(warps * 32) decode_kernel(struct decode x)
{
    __shared__ gathered<D> all;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, r = lane / 4, c = lane % 4;
    const unsigned part = blockIdx.x, parts = gridDim.x, g = blockIdx.y, group = x.H / x.G;
    const struct device_run run = x.runs[blockIdx.z];
    const unsigned len = run.first + 1, n_pages = (len + page - 1) / page,
                   share = (n_pages + parts - 1) / parts,
                   end = (part + 1) * share < n_pages ? (part + 1) * share : n_pages;
    words<4> q[2][D / 32];
    state<D> s;

    for (int t = 0; t < 2; t++)
        for (int i = 0; i < D / 32; i++)
            q[t][i] = read<4>(x.q + (size_t)run.row * x.q_stride +
                                  (size_t)(g * group + t * 8 + r) * D + i * 32 + c * 8,
                              t * 8 + r < group);
    for (int i = 0; i < 2; i++) {
        s.m[i] = -INFINITY;
        s.l[i] = 0.0f;
    }
    for (int j = 0; j < D / 8; j++)
        s.o[j][0] = s.o[j][1] = s.o[j][2] = s.o[j][3] = 0.0f;
    for (unsigned i = part * share + warp; i < end; i += warps) {
        const uint16_t *k = x.pages[run.pages + i] + x.page_at + (size_t)g * page * D,
                       *v = k + (size_t)x.G * page * D;
        for (unsigned at = 0; at < page && i * page + at < len; at += 16)
            take_16<D>(s, q, k + at * D, v + at * D, i * page + at, len, x.scale * log2_e);
    }
    give<D>(&all, s);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < group * D; i += warps * 32) {
        const unsigned row = i / D, d = i % D, head = g * group + row;
        float m, l, o = merge<D>(&all, row, d, &m, &l);

        if (parts == 1) {
            x.out[(size_t)run.row * x.out_stride + head * D + d] = bf16_of(o / l);
            continue;
        }
        float *to = x.partial + (((size_t)blockIdx.z * x.H + head) * parts + part) * (D + 2);
        to[d] = o;
        if (d == 0) {
            to[D] = m;
            to[D + 1] = l;
        }
    }
}

/* Block (head, run), a thread a channel. */
template <int D>
__global__ void __launch_bounds__(D) merge_kernel(struct decode x, unsigned parts)
{
    const float *from = x.partial + ((size_t)blockIdx.y * x.H + blockIdx.x) * parts * (D + 2);
    float top = -INFINITY, sum = 0.0f, o = 0.0f;

    for (unsigned i = 0; i < parts; i++)
        top = fmaxf(top, from[i * (D + 2) + D]);
    for (unsigned i = 0; i < parts; i++) {
        const float *p = from + i * (D + 2);
        if (p[D] == -INFINITY)
            continue;
        float by = fast_exp2(p[D] - top);
        sum += p[D + 1] * by;
        o += p[threadIdx.x] * by;
    }
    x.out[(size_t)x.runs[blockIdx.y].row * x.out_stride + blockIdx.x * D + threadIdx.x] =
        bf16_of(o / sum);
}

template <int D> void launch(struct device *d, const struct open_attention *a, unsigned parts)
{
    const struct decode x = {a->out,         a->partial,     a->q,       a->q_stride,
                             a->out_stride,  a->pages,       a->page_at, a->runs,
                             (unsigned)a->H, (unsigned)a->G, a->scale};

    LAUNCH(decode_kernel<D>, dim3(parts, x.G, (unsigned)a->n_runs), warps * 32, 0, d->stream,
           x);
    if (parts > 1)
        LAUNCH(merge_kernel<D>, dim3(x.H, (unsigned)a->n_runs), D, 0, d->stream, x, parts);
}

} // namespace

size_t open_attention_parts(const struct open_attention *a)
{
    size_t pages = (a->max_len + page - 1) / page, parts = 1;

    while (2 * parts <= OPEN_PARTS_MAX && parts < pages &&
           2 * parts * a->n_runs * a->G <= OPEN_BLOCKS)
        parts *= 2;
    return parts;
}

void open_attention_decode(struct device *d, const struct open_attention *a)
{
    unsigned parts = (unsigned)open_attention_parts(a);

    if (a->n_runs == 0 || !device_is_well(d))
        return;
    if (a->D == 128)
        launch<128>(d, a, parts);
    else if (a->D == 64)
        launch<64>(d, a, parts);
    else
        launch<32>(d, a, parts);
    device_launched(d, "attention of new rows");
}
