#include "engine/ops.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "engine/cpu/attention.h"
#include "engine/cpu/table.h"

/* Rows (queries times heads of a group) that share one packing of a block of keys. */
#define CHUNK 64u

float attention_scale(size_t D)
{
    return (float)(1.0 / sqrt((double)D));
}

/* Everything one thread works in. */
struct scratch {
    struct attention_block block;
    float q[CHUNK * ATTENTION_D_MAX];
    float p[CHUNK * ATTENTION_BLOCK];
    float o[CHUNK * ATTENTION_D_MAX];   /* so far, not yet divided by l */
    float add[CHUNK * ATTENTION_D_MAX]; /* of the block at hand */
    float m[CHUNK], l[CHUNK], log_l[CHUNK];
};

void attention_block_load(struct attention_block *b, const float *rows, size_t stride, size_t n,
                          size_t D)
{
    b->rows = rows;
    b->row = stride;
    if (D % PACK_LANES == 0)
        return;
    /* The last panel's lanes must be readable: they are not beyond the end of a cache. */
    b->row = attention_width(D);
    b->rows = b->padded;
    for (size_t i = 0; i < n; i++) {
        memcpy(b->padded + i * b->row, rows + i * stride, D * sizeof(float));
        memset(b->padded + i * b->row + D, 0, (b->row - D) * sizeof(float));
    }
}

/* Row i of the chunk sees the first seen(i) keys of the block at b0. */
struct chunk {
    const struct attention_run *run;
    const struct attention_shape *s;
    size_t group; /* the key/value head */
    size_t first; /* row 0 is query first / R, head first % R of the group; R = H / G */
    size_t n;
};

static size_t row_position(const struct chunk *c, size_t i)
{
    return c->run->first + (c->first + i) / (c->s->H / c->s->G);
}

static size_t row_seen(const struct chunk *c, size_t i, size_t b0)
{
    size_t end = row_position(c, i) + 1;

    if (end <= b0)
        return 0;
    return end - b0 < ATTENTION_BLOCK ? end - b0 : ATTENTION_BLOCK;
}

/* Offset of a row's head in q and out, and its index in lse. */
static size_t row_at(const struct chunk *c, size_t i, size_t stride, size_t width)
{
    size_t R = c->s->H / c->s->G, r = c->first + i;

    return r / R * stride + (c->group * R + r % R) * width;
}

/* add = P V for rows lo..hi-1: together as far as all of them see, then each on its own. */
static void weigh_values(const struct kernels *k, struct scratch *w, const struct chunk *c,
                         size_t lo, size_t hi, size_t b0)
{
    const size_t D = c->s->D, width = attention_width(D), common = row_seen(c, lo, b0);
    struct gemm g = {.c = w->add + lo * width,
                     .a = w->p + lo * ATTENTION_BLOCK,
                     .b = w->block.rows,
                     .c_row = width,
                     .a_row = ATTENTION_BLOCK,
                     .a_step = 1,
                     .b_step = w->block.row,
                     .b_panel = PACK_LANES,
                     .rows = hi - lo,
                     .cols = D,
                     .steps = common};

    k->gemm(&g);
    g.rows = 1;
    g.resume = true;
    g.b += common * g.b_step;
    for (size_t i = lo; i < hi; i++) {
        size_t seen = row_seen(c, i, b0);
        if (seen == common)
            continue;
        g.c = w->add + i * width;
        g.a = w->p + i * ATTENTION_BLOCK + common;
        g.steps = seen - common;
        k->gemm(&g);
    }
}

/* Takes a finished block into row i's running M, l and o. */
static void merge_row(const struct kernels *k, struct scratch *w, size_t i, size_t D, float m,
                      float l)
{
    const size_t width = attention_width(D);
    float *o = w->o + i * width, *add = w->add + i * width;
    float top = w->m[i] > m ? w->m[i] : m;
    float a = attention_exp(w->m[i] - top), b = attention_exp(m - top);

    w->l[i] = fmaf(w->l[i], a, l * b);
    k->merge(o, add, a, b, D);
    w->m[i] = top;
}

static void chunk_block(const struct kernels *k, struct scratch *w, const struct chunk *c,
                        size_t b0)
{
    const size_t D = c->s->D, width = attention_width(D);
    const size_t n_keys = row_seen(c, c->n - 1, b0), key = c->group * D;
    size_t skip = 0;

    while (row_seen(c, skip, b0) == 0)
        skip++;
    k->pack(w->block.panels, c->run->k + b0 * c->s->k_stride + key, c->s->k_stride, n_keys, D);
    attention_block_load(&w->block, c->run->v + b0 * c->s->v_stride + key, c->s->v_stride,
                         n_keys, D);
    for (size_t lo = skip; lo < c->n; lo += ATTENTION_TILE) {
        size_t hi = c->n - lo < ATTENTION_TILE ? c->n : lo + ATTENTION_TILE;
        attention_scores(k, w->p + lo * ATTENTION_BLOCK, w->q + lo * width, width,
                         w->block.panels, hi - lo, row_seen(c, hi - 1, b0), D);
        float m[ATTENTION_TILE], l[ATTENTION_TILE];
        for (size_t i = lo; i < hi; i++)
            l[i - lo] = k->softmax(w->p + i * ATTENTION_BLOCK, &m[i - lo], c->s->scale,
                                   row_seen(c, i, b0));
        weigh_values(k, w, c, lo, hi, b0);
        for (size_t i = lo; i < hi; i++) {
            if (b0 > 0) {
                merge_row(k, w, i, D, m[i - lo], l[i - lo]);
                continue;
            }
            w->m[i] = m[i - lo];
            w->l[i] = l[i - lo];
            memcpy(w->o + i * width, w->add + i * width, D * sizeof(float));
        }
    }
}

static void chunk_forward(const struct kernels *k, struct scratch *w, const struct chunk *c)
{
    const struct attention_shape *s = c->s;
    const size_t D = s->D, width = attention_width(D);

    for (size_t i = 0; i < c->n; i++)
        memcpy(w->q + i * width, c->run->q + row_at(c, i, s->q_stride, D), D * sizeof(float));
    for (size_t b0 = 0; b0 <= row_position(c, c->n - 1); b0 += ATTENTION_BLOCK)
        chunk_block(k, w, c, b0);
    for (size_t i = 0; i < c->n; i++)
        k->scale(c->run->out + row_at(c, i, s->out_stride, D), w->o + i * width, 1.0f / w->l[i],
                 D);
    if (!c->run->lse)
        return;
    k->log(w->log_l, w->l, c->n);
    for (size_t i = 0; i < c->n; i++)
        c->run->lse[row_at(c, i, s->H, 1)] = w->m[i] + w->log_l[i];
}

struct attention_job {
    const struct kernels *k;
    const struct attention_run *runs;
    const struct attention_shape *s;
};

/* One task is one key/value head of one run. */
static void attention_tasks(void *arg, size_t lo, size_t hi)
{
    const struct attention_job *j = arg;
    const struct attention_shape *s = j->s;
    struct scratch w;

    for (size_t task = lo; task < hi; task++) {
        const struct attention_run *run = &j->runs[task / s->G];
        size_t rows = run->n * (s->H / s->G);
        for (size_t r = 0; r < rows; r += CHUNK) {
            struct chunk c = {run, s, task % s->G, r, rows - r < CHUNK ? rows - r : CHUNK};
            chunk_forward(j->k, &w, &c);
        }
    }
}

void attention_forward(const struct kernels *k, struct pool *pool,
                       const struct attention_run *runs, size_t n_runs,
                       const struct attention_shape *s)
{
    struct attention_job job = {k, runs, s};
    size_t work = 0;

    CHECK(s->D > 0 && s->D <= ATTENTION_D_MAX && s->G > 0 && s->H % s->G == 0);
    for (size_t i = 0; i < n_runs; i++)
        work += runs[i].n * (runs[i].first + runs[i].n) * s->H * s->D;
    pool_run(work < ATTENTION_INLINE ? NULL : pool, n_runs * s->G, 1, attention_tasks, &job);
}
