#include "engine/ops.h"

#include <string.h>

#include "base/check.h"
#include "engine/cpu/attention.h"
#include "engine/cpu/table.h"

#define CHUNK 64u /* queries of one head */

/* Everything one thread works in. */
struct scratch {
    struct attention_block key, value;
    float q[CHUNK * ATTENTION_D_MAX];
    float dout[CHUNK * ATTENTION_D_MAX];
    float p[CHUNK * ATTENTION_BLOCK];
    float ds[CHUNK * ATTENTION_BLOCK];
    float dk[ATTENTION_BLOCK * ATTENTION_D_MAX];
    float dv[ATTENTION_BLOCK * ATTENTION_D_MAX];
};

/* Queries t0 .. t0+n-1 of head h, against keys b0 .. b0+n_keys-1; b0 <= t0. */
struct chunk {
    const struct attention_grad *seq;
    const struct attention_shape *s;
    size_t h, t0, n, b0, n_keys;
};

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t row_seen(const struct chunk *c, size_t i)
{
    return min(c->t0 + i + 1 - c->b0, c->n_keys);
}

static void copy_rows(float *to, size_t width, const float *from, size_t stride, size_t n,
                      size_t D)
{
    for (size_t i = 0; i < n; i++) {
        memcpy(to + i * width, from + i * stride, D * sizeof(float));
        memset(to + i * width + D, 0, (width - D) * sizeof(float));
    }
}

/* p and ds of the chunk. Elements that the mask cuts are left as they come and never read. */
static void chunk_scores(const struct kernels *k, struct scratch *w, const struct chunk *c)
{
    const struct attention_shape *s = c->s;
    const size_t D = s->D, width = attention_width(D);

    for (size_t lo = 0; lo < c->n; lo += ATTENTION_TILE) {
        size_t hi = min(c->n, lo + ATTENTION_TILE), keys = row_seen(c, hi - 1);
        const struct gemm scores =
            attention_scores(w->p + lo * ATTENTION_BLOCK, w->q + lo * width, width,
                             w->key.panels, hi - lo, keys, D);
        const struct gemm grads =
            attention_scores(w->ds + lo * ATTENTION_BLOCK, w->dout + lo * width, width,
                             w->value.panels, hi - lo, keys, D);

        k->gemm(&scores);
        k->gemm(&grads);
    }
    for (size_t i = 0; i < c->n; i++) {
        const float *out = c->seq->out + (c->t0 + i) * s->out_stride + c->h * D;
        float sum = k->dot(w->dout + i * width, out, D);
        k->softmax_grad(w->p + i * ATTENTION_BLOCK, w->ds + i * ATTENTION_BLOCK, s->scale,
                        c->seq->lse[(c->t0 + i) * s->H + c->h], sum, row_seen(c, i));
    }
}

/* dq += ds K: a tile of queries together as far as all of them see, then each on its own. */
static void chunk_dq(const struct kernels *k, struct scratch *w, const struct chunk *c)
{
    const size_t D = c->s->D;
    struct gemm g = {.c_row = c->s->q_stride,
                     .a_row = ATTENTION_BLOCK,
                     .a_step = 1,
                     .b_step = w->key.row,
                     .b_panel = PACK_LANES,
                     .cols = D};

    for (size_t lo = 0; lo < c->n; lo += ATTENTION_TILE) {
        size_t hi = min(c->n, lo + ATTENTION_TILE), common = row_seen(c, lo);
        float *dq = c->seq->dq + (c->t0 + lo) * c->s->q_stride + c->h * D;

        g.c = dq;
        g.a = w->ds + lo * ATTENTION_BLOCK;
        g.b = w->key.rows;
        g.rows = hi - lo;
        g.steps = common;
        g.resume = c->b0 > 0;
        k->gemm(&g);
        g.rows = 1;
        g.resume = true;
        g.b += common * g.b_step;
        for (size_t i = lo; i < hi; i++) {
            g.c = dq + (i - lo) * g.c_row;
            g.a = w->ds + i * ATTENTION_BLOCK + common;
            g.steps = row_seen(c, i) - common;
            if (g.steps > 0)
                k->gemm(&g);
        }
    }
}

/* acc[key] += sum over the chunk's queries that see the key of p[query, key] * rows[query]: a
 * tile of keys, each on its own for the queries that not all of them are seen by, then
 * together. */
static void chunk_dkv(const struct kernels *k, float *acc, const float *p, const float *rows,
                      const struct chunk *c)
{
    const size_t D = c->s->D, width = attention_width(D), n_keys = row_seen(c, c->n - 1);
    struct gemm g = {.c_row = width,
                     .a_row = 1,
                     .a_step = ATTENTION_BLOCK,
                     .b_step = width,
                     .b_panel = PACK_LANES,
                     .cols = D,
                     .resume = true};

    for (size_t lo = 0; lo < n_keys; lo += ATTENTION_TILE) {
        size_t hi = min(n_keys, lo + ATTENTION_TILE);
        size_t offset = c->t0 - c->b0; /* key j is seen from query j - offset on */
        size_t common = hi - 1 > offset ? hi - 1 - offset : 0;

        g.rows = 1;
        for (size_t j = lo; j < hi; j++) {
            size_t from = j > offset ? j - offset : 0;
            g.c = acc + j * width;
            g.a = p + from * ATTENTION_BLOCK + j;
            g.b = rows + from * width;
            g.steps = common - from;
            if (g.steps > 0)
                k->gemm(&g);
        }
        g.rows = hi - lo;
        g.c = acc + lo * width;
        g.a = p + common * ATTENTION_BLOCK + lo;
        g.b = rows + common * width;
        g.steps = c->n - common;
        k->gemm(&g);
    }
}

/* All queries of the group against one block of keys. */
static void block_backward(const struct kernels *k, struct scratch *w, struct chunk *c,
                           size_t group)
{
    const struct attention_grad *seq = c->seq;
    const struct attention_shape *s = c->s;
    const size_t D = s->D, width = attention_width(D), R = s->H / s->G, at = group * D;
    const float *keys = seq->k + c->b0 * s->k_stride + at;
    const float *values = seq->v + c->b0 * s->v_stride + at;

    k->pack(w->key.panels, keys, s->k_stride, c->n_keys, D);
    k->pack(w->value.panels, values, s->v_stride, c->n_keys, D);
    attention_block_load(&w->key, keys, s->k_stride, c->n_keys, D);
    memset(w->dk, 0, c->n_keys * width * sizeof(float));
    memset(w->dv, 0, c->n_keys * width * sizeof(float));

    for (c->h = group * R; c->h < (group + 1) * R; c->h++)
        for (c->t0 = c->b0; c->t0 < seq->n; c->t0 += c->n) {
            c->n = min(CHUNK, seq->n - c->t0);
            copy_rows(w->q, width, seq->q + c->t0 * s->q_stride + c->h * D, s->q_stride, c->n,
                      D);
            copy_rows(w->dout, width, seq->dout + c->t0 * s->out_stride + c->h * D,
                      s->out_stride, c->n, D);
            chunk_scores(k, w, c);
            chunk_dq(k, w, c);
            chunk_dkv(k, w->dk, w->ds, w->q, c);
            chunk_dkv(k, w->dv, w->p, w->dout, c);
        }

    for (size_t j = 0; j < c->n_keys; j++) {
        k->scale(seq->dk + (c->b0 + j) * s->k_stride + at, w->dk + j * width, s->scale, D);
        memcpy(seq->dv + (c->b0 + j) * s->v_stride + at, w->dv + j * width, D * sizeof(float));
    }
}

struct attention_job {
    const struct kernels *k;
    const struct attention_grad *seqs;
    const struct attention_shape *s;
};

/* One task is one key/value head of one sequence. */
static void attention_tasks(void *arg, size_t lo, size_t hi)
{
    const struct attention_job *j = arg;
    const struct attention_shape *s = j->s;
    struct scratch w;

    for (size_t task = lo; task < hi; task++) {
        const struct attention_grad *seq = &j->seqs[task / s->G];
        const size_t group = task % s->G, width = s->H / s->G * s->D;
        struct chunk c = {.seq = seq, .s = s};

        for (c.b0 = 0; c.b0 < seq->n; c.b0 += ATTENTION_BLOCK) {
            c.n_keys = min(ATTENTION_BLOCK, seq->n - c.b0);
            block_backward(j->k, &w, &c, group);
        }
        for (size_t t = 0; t < seq->n; t++) {
            float *dq = seq->dq + t * s->q_stride + group * width;
            j->k->scale(dq, dq, s->scale, width);
        }
    }
}

void attention_backward(const struct kernels *k, struct pool *pool,
                        const struct attention_grad *seqs, size_t n_seqs,
                        const struct attention_shape *s)
{
    struct attention_job job = {k, seqs, s};
    size_t work = 0;

    CHECK(s->D > 0 && s->D <= ATTENTION_D_MAX && s->G > 0 && s->H % s->G == 0);
    for (size_t i = 0; i < n_seqs; i++)
        work += seqs[i].n * seqs[i].n * s->H * s->D;
    pool_run(work < ATTENTION_INLINE ? NULL : pool, n_seqs * s->G, 1, attention_tasks, &job);
}
