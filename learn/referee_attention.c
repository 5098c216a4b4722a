/*
 * learn/referee_attention.c - tiles of attention and of its gradients
 *
 * Each sequence that the tile reaches into, and each head, is a small problem of its own for the
 * engine's kernel. Rows that the tile does not depend on stay zero: they have no part in its
 * numbers.
 */
#include <string.h>

#include "learn/referee_inside.h"

/* Rows of one sequence, counted from its first; `base` is that one's row in the micro-batch. */
struct stretch {
    size_t base, n; /* the whole sequence */
    size_t lo, hi;  /* the tile's */
};

typedef void stretch_fn(struct judging *j, const struct stretch *s);

/* Calls fn for each sequence that has rows in the tile. */
static void each_stretch(struct judging *j, stretch_fn *fn)
{
    const struct graph *g = j->r->g;
    const struct graph_micro *m = &g->micro[j->op->micro];
    size_t base = 0, end = j->at.row + j->at.rows;

    for (size_t i = 0; i < m->n_seqs && base < end; i++) {
        size_t n = g->length[m->first_seq + i];

        if (base + n > j->at.row) {
            struct stretch s = {.base = base,
                                .n = n,
                                .lo = j->at.row > base ? j->at.row - base : 0,
                                .hi = end - base < n ? end - base : n};

            fn(j, &s);
        }
        base += n;
    }
}

/* Rows lo..hi-1 of a sequence's heads, into rows of a matrix that has the sequence's. */
static float *read_rows(struct judging *j, size_t in, const struct stretch *s, size_t n,
                        const struct region *rows)
{
    float *to = referee_room(j, n * rows->cols);

    if (to)
        referee_read(j, in,
                     (struct region){s->base + rows->row, rows->col, rows->rows, rows->cols},
                     to + rows->row * rows->cols, rows->cols);
    return to;
}

/* The columns of heads h.. that the tile wants, from rows of n_heads heads from `first` on. */
static void put_rows(struct judging *j, const struct stretch *s, const float *from,
                     size_t first, size_t cols)
{
    size_t c0 = first > j->at.col ? first : j->at.col, c1 = j->at.col + j->at.cols;

    c1 = c1 < first + cols ? c1 : first + cols;
    for (size_t r = s->lo; r < s->hi; r++)
        memcpy(j->result + (s->base + r - j->at.row) * j->at.cols + (c0 - j->at.col),
               from + r * cols + (c0 - first), (c1 - c0) * sizeof(float));
}

static struct attention_shape shape_of(const struct judging *j, size_t n_heads)
{
    size_t D = j->r->g->config.head_dim;

    return (struct attention_shape){.H = n_heads,
                                    .G = 1,
                                    .D = D,
                                    .q_stride = n_heads * D,
                                    .out_stride = n_heads * D,
                                    .k_stride = D,
                                    .v_stride = D,
                                    .scale = attention_scale(D)};
}

static void attend_head(struct judging *j, const struct stretch *s, size_t head)
{
    const struct model_config *c = &j->r->g->config;
    const size_t D = c->head_dim, group = head / (c->heads / c->kv_heads);
    const struct attention_shape shape = shape_of(j, 1);
    const float *q =
        read_rows(j, 0, s, s->hi, &(struct region){s->lo, head * D, s->hi - s->lo, D});
    const struct region keys = {0, group * D, s->hi, D};
    const float *k = read_rows(j, 1, s, s->hi, &keys), *v = read_rows(j, 2, s, s->hi, &keys);
    float *out = referee_room(j, s->hi * D), *lse = referee_room(j, s->hi);
    struct attention_run run;

    if (j->st)
        return;
    run = (struct attention_run){.out = out + s->lo * D,
                                 .lse = lse + s->lo,
                                 .q = q + s->lo * D,
                                 .k = k,
                                 .v = v,
                                 .first = s->lo,
                                 .n = s->hi - s->lo};
    attention_forward(j->r->kernels, NULL, &run, 1, &shape);
    if (j->q->out == 0)
        put_rows(j, s, out, head * D, D);
    else
        put_rows(j, s, lse, head, 1);
}

static void attend_stretch(struct judging *j, const struct stretch *s)
{
    size_t width = j->q->out == 0 ? j->r->g->config.head_dim : 1;

    for (size_t h = j->at.col / width; h * width < j->at.col + j->at.cols; h++)
        attend_head(j, s, h);
}

void referee_attend(struct judging *j)
{
    each_stretch(j, attend_stretch);
}

/* Gradients of `n_heads` query heads from `head` on, all of one group, over the first n positions.
 * Of the queries those in `queries` are known, of the keys those in `keys`. */
static void back(struct judging *j, const struct stretch *s, size_t n, size_t head,
                 size_t n_heads, const size_t queries[2], const size_t keys[2])
{
    const struct model_config *c = &j->r->g->config;
    const size_t D = c->head_dim, Q = n_heads * D, group = head / (c->heads / c->kv_heads);
    const struct attention_shape shape = shape_of(j, n_heads);
    const struct region qs = {queries[0], head * D, queries[1] - queries[0], Q};
    const struct region ks = {keys[0], group * D, keys[1] - keys[0], D};
    const struct region ls = {queries[0], head, queries[1] - queries[0], n_heads};
    struct attention_grad a = {.q = read_rows(j, 0, s, n, &qs),
                               .k = read_rows(j, 1, s, n, &ks),
                               .v = read_rows(j, 2, s, n, &ks),
                               .out = read_rows(j, 3, s, n, &qs),
                               .lse = read_rows(j, 4, s, n, &ls),
                               .dout = read_rows(j, 5, s, n, &qs),
                               .dq = referee_room(j, n * Q),
                               .dk = referee_room(j, n * D),
                               .dv = referee_room(j, n * D),
                               .n = n};

    if (j->st)
        return;
    attention_backward(j->r->kernels, NULL, &a, 1, &shape);
    if (j->q->out == 0)
        put_rows(j, s, a.dq, head * D, Q);
    else
        put_rows(j, s, j->q->out == 1 ? a.dk : a.dv, group * D, D);
}

/* A query's gradient wants the keys up to it, a key's the queries from it on. */
static void back_stretch(struct judging *j, const struct stretch *s)
{
    const struct model_config *c = &j->r->g->config;
    const size_t D = c->head_dim, R = c->heads / c->kv_heads;

    for (size_t h = j->at.col / D; h * D < j->at.col + j->at.cols; h++)
        if (j->q->out == 0)
            back(j, s, s->hi, h, 1, (size_t[2]){s->lo, s->hi}, (size_t[2]){0, s->hi});
        else
            back(j, s, s->n, h * R, R, (size_t[2]){s->lo, s->n}, (size_t[2]){s->lo, s->hi});
}

void referee_attend_back(struct judging *j)
{
    each_stretch(j, back_stretch);
}
