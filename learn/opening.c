#include "learn/opening.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/merkle_many.h"

#define STATES 3u /* masters, first and second moments */

static struct bytes floats(const float *x, size_t n)
{
    return (struct bytes){(const uint8_t *)x, n * sizeof(float)};
}

static size_t tile_numbers(const struct tiling *s, uint64_t tile)
{
    struct tile at = tiling_at(s, tile);

    return at.rows * at.cols;
}

/* ---- making ---------------------------------------------------------------------------------- */

struct touched {
    uint32_t tensor;
    uint64_t tile;
};

/* A source that reads the trace, and notes what it was asked for. */
struct noting {
    const struct trace *t;
    struct touched *at; /* owned; NULL with cap 0: nothing is noted */
    size_t n, cap;
    bool is_noting;
    float tile[TILE_MAX];
};

static const float *note_tile(void *arg, uint32_t tensor, uint64_t tile)
{
    struct noting *s = arg;

    if (s->is_noting && s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 256;
        s->at = xrealloc(s->at, s->cap * sizeof(s->at[0]));
    }
    if (s->is_noting)
        s->at[s->n++] = (struct touched){tensor, tile};
    tile_copy(s->tile, &s->t->g->tensor[tensor].shape, trace_tensor(s->t, tensor), tile);
    return s->tile;
}

static int by_place(const void *a, const void *b)
{
    const struct touched *x = a, *y = b;

    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    return (x->tile > y->tile) - (x->tile < y->tile);
}

static void sort_unique(struct noting *s)
{
    size_t to = 0;

    if (s->n)
        qsort(s->at, s->n, sizeof(s->at[0]), by_place);
    for (size_t i = 0; i < s->n; i++)
        if (to == 0 || by_place(&s->at[to - 1], &s->at[i]) != 0)
            s->at[to++] = s->at[i];
    s->n = to;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void put_proof(struct buf *out, const struct digest *leaf, uint64_t n,
                      const uint64_t *index, size_t n_index)
{
    size_t at = out->len;

    buf_put_u32(out, 0);
    merkle_many_prove(out, leaf, n, index, n_index);
    if (!out->bad) {
        uint32_t len = (uint32_t)(out->len - at - 4);

        for (size_t i = 0; i < 4; i++)
            out->data[at + i] = (uint8_t)(len >> 8 * i);
    }
}

/* The operations in index[0..n), in any order and perhaps more than once. */
static void put_ops(struct buf *out, const struct trace *t, uint64_t *index, size_t n)
{
    size_t to = 0;

    qsort(index, n, sizeof(index[0]), by_number);
    for (size_t i = 0; i < n; i++)
        if (to == 0 || index[to - 1] != index[i])
            index[to++] = index[i];
    buf_put_u32(out, (uint32_t)to);
    for (size_t i = 0; i < to; i++) {
        struct digest outs[GRAPH_OUTS];
        size_t n_outs = trace_outs(t, (uint32_t)index[i], outs);

        buf_put_u32(out, (uint32_t)index[i]);
        for (size_t o = 0; o < n_outs; o++)
            buf_append(out, BYTES_OF(outs[o].b));
    }
    put_proof(out, t->leaf, t->g->n_ops, index, to);
}

/* The roots of some parameters' masters or moments. */
static enum status put_state(struct buf *out, const struct trace *t, enum graph_state which,
                             const struct noting *s, struct err *e)
{
    const struct graph *g = t->g;
    const struct digest *root = t->root + (which - GRAPH_MASTER) * g->n_parameters;
    uint64_t *index = xcalloc(g->n_parameters, sizeof(*index));
    struct digest *leaf;
    size_t n = 0;
    enum status st = alloc_array(&leaf, g->n_parameters, sizeof(*leaf), "roots", e);

    if (!st) {
        for (size_t i = 0; i < s->n; i++) {
            const struct graph_tensor *x = &g->tensor[s->at[i].tensor];

            if (x->state == which && (n == 0 || index[n - 1] != x->index))
                index[n++] = x->index;
        }
        for (size_t i = 0; i < g->n_parameters; i++)
            merkle_leaf(&leaf[i], BYTES_OF(root[i].b));
        buf_put_u32(out, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            buf_put_u32(out, (uint32_t)index[i]);
            buf_append(out, BYTES_OF(root[index[i]].b));
        }
        put_proof(out, leaf, g->n_parameters, index, n);
    }
    free(leaf);
    free(index);
    return st;
}

/* The tiles s->at[0..n), all of one tensor. */
static enum status put_tensor(struct buf *out, const struct trace *t, const struct touched *at,
                              size_t n, struct err *e)
{
    const struct tiling *shape = &t->g->tensor[at->tensor].shape;
    const float *matrix = trace_tensor(t, at->tensor);
    uint64_t count = tiling_count(shape), *index = xcalloc(n, sizeof(*index));
    struct digest *leaf;
    enum status st = alloc_array(&leaf, (size_t)count, sizeof(*leaf), "hashes of tiles", e);

    if (!st) {
        tiles_leaves(leaf, shape, matrix, t->options.pool);
        buf_put_u32(out, at->tensor);
        buf_put_u32(out, (uint32_t)n);
        for (size_t i = 0; i < n; i++) {
            float tile[TILE_MAX];

            index[i] = at[i].tile;
            tile_copy(tile, shape, matrix, at[i].tile);
            buf_put_u32(out, (uint32_t)at[i].tile);
            buf_append(out, floats(tile, tile_numbers(shape, at[i].tile)));
        }
        put_proof(out, leaf, count, index, n);
    }
    free(leaf);
    free(index);
    return st;
}

/* Operations that made one of the tensors. */
static void put_makers(struct buf *out, const struct trace *t, const struct noting *s)
{
    uint64_t *index = xcalloc(s->n + 1, sizeof(*index));
    size_t n = 0;

    for (size_t i = 0; i < s->n; i++) {
        const struct graph_tensor *x = &t->g->tensor[s->at[i].tensor];

        if (x->op != GRAPH_NONE && (n == 0 || index[n - 1] != x->op))
            index[n++] = x->op;
    }
    put_ops(out, t, index, n);
    free(index);
}

static enum status put_tensors(struct buf *out, const struct trace *t, const struct noting *s,
                               struct err *e)
{
    enum status st = OK;
    uint32_t n = 0;

    for (size_t i = 0; i < s->n; i++)
        n += i == 0 || s->at[i].tensor != s->at[i - 1].tensor;
    buf_put_u32(out, n);
    for (size_t lo = 0, hi; !st && lo < s->n; lo = hi) {
        for (hi = lo; hi < s->n && s->at[hi].tensor == s->at[lo].tensor;)
            hi++;
        st = put_tensor(out, t, s->at + lo, hi - lo, e);
    }
    return st;
}

/* Everything behind the accumulators. */
static enum status put_sections(struct buf *out, const struct trace *t, struct noting *s,
                                struct err *e)
{
    enum status st = OK;

    sort_unique(s);
    put_makers(out, t, s);
    for (unsigned i = GRAPH_MASTER; !st && i <= GRAPH_V; i++)
        st = put_state(out, t, (enum graph_state)i, s, e);
    if (!st)
        st = put_tensors(out, t, s, e);
    return st ? st : buf_status(out, e);
}

static enum status make_conclusion(struct buf *out, const struct trace *t, struct err *e)
{
    struct noting none = {.t = t};
    uint64_t *index = xcalloc(t->g->n_ops, sizeof(*index));
    size_t n = 0;
    enum status st = OK;

    for (size_t i = 0; i < t->g->n_ops; i++)
        if (t->g->op[i].kind == GRAPH_ADAMW)
            index[n++] = i;
    buf_put_u8(out, 0);
    put_ops(out, t, index, n);
    for (unsigned i = GRAPH_MASTER; !st && i <= GRAPH_V; i++)
        st = put_state(out, t, (enum graph_state)i, &none, e);
    buf_put_u32(out, 0);
    free(index);
    return st ? st : buf_status(out, e);
}

enum status opening_make(struct buf *out, struct trace *t, const struct referee_question *q,
                         struct err *e)
{
    struct noting s = {.t = t};
    const struct referee r = {t->g, t->options.kernels, note_tile, &s};
    struct referee_question before = *q;
    float sum[TILE_MAX], result[TILE_MAX];
    enum status st = OK;

    if (t->g->op[q->op].kind == GRAPH_CONCLUDE)
        return make_conclusion(out, t, e);
    CHECK(t->at == q->op && q->n == 1);
    buf_put_u8(out, q->first > 0);
    if (q->first > 0) {
        before.first = 0;
        before.n = q->first;
        st = referee_compute(sum, &r, &before, NULL, e);
        buf_append(out,
                   floats(sum, tile_numbers(&t->g->tensor[t->g->op[q->op].out[q->out]].shape,
                                            q->tile)));
    }
    s.is_noting = true;
    if (!st)
        st = referee_compute(result, &r, q, q->first ? sum : NULL, e);
    if (!st)
        st = put_sections(out, t, &s, e);
    free(s.at);
    return st;
}

/* ---- judging --------------------------------------------------------------------------------- */

struct shown_op {
    uint32_t op;
    struct digest outs[GRAPH_OUTS];
};

struct shown_root {
    uint32_t index;
    struct digest root;
};

struct shown_tile {
    uint32_t tensor;
    uint64_t tile;
    const uint8_t *numbers; /* lent from the opening */
};

struct shown {
    const struct graph *g;
    struct shown_op *op; /* owned, like all of these */
    size_t n_ops;
    struct shown_root *state[STATES];
    size_t n_state[STATES];
    struct shown_tile *tile; /* by tensor and tile */
    size_t n_tiles, cap_tiles;
    float numbers[TILE_MAX];
};

static void shown_clear(struct shown *s)
{
    free(s->op);
    for (size_t i = 0; i < STATES; i++)
        free(s->state[i]);
    free(s->tile);
}

static enum status too_short(struct err *e)
{
    return err_set(e, ERR_MALFORMED, "the opening is cut short");
}

/* A count of things of at least `least` bytes each. */
static enum status read_count(struct reader *r, size_t *n, size_t least, struct err *e)
{
    *n = reader_u32(r);
    return r->bad || *n > reader_left(r) / least ? too_short(e) : OK;
}

/* The root that leaves come to with the proof that follows them. */
static enum status join_proof(struct digest *root, struct reader *r, uint64_t n,
                              const uint64_t *index, const struct digest *leaf, size_t n_index,
                              struct err *e)
{
    struct bytes proof = reader_blob(r);
    struct reader p = reader_of(proof);
    enum status st;

    if (r->bad)
        return too_short(e);
    st = merkle_many_join(root, n, index, leaf, n_index, &p, e);
    return st ? st : reader_done(&p, "a proof in the opening", e);
}

static enum status expect(const struct digest *found, const struct digest *want,
                          const char *what, struct err *e)
{
    return digest_equal(found, want)
               ? OK
               : err_set(e, ERR_DIGEST, "what was opened does not lead to the root of %s",
                         what);
}

static enum status read_ops(struct shown *s, struct reader *r, const struct digest *trace,
                            struct err *e)
{
    uint64_t *index = NULL;
    struct digest *leaf = NULL, root;
    size_t n;
    enum status st = read_count(r, &n, sizeof(uint32_t) + DIGEST_BYTES, e);

    if (st)
        return st;
    s->op = xcalloc(n + 1, sizeof(*s->op));
    index = xcalloc(n + 1, sizeof(*index));
    leaf = xcalloc(n + 1, sizeof(*leaf));
    for (size_t i = 0; !st && i < n; i++) {
        struct shown_op *op = &s->op[i];
        size_t n_outs;

        op->op = reader_u32(r);
        if (op->op >= s->g->n_ops) {
            st = err_set(e, ERR_MALFORMED, "operation %" PRIu32 " of %zu", op->op, s->g->n_ops);
            break;
        }
        n_outs = s->g->op[op->op].n_outs;
        reader_copy(r, op->outs, n_outs * sizeof(struct digest));
        index[i] = op->op;
        merkle_leaf(&leaf[i],
                    (struct bytes){(const uint8_t *)op->outs, n_outs * sizeof(struct digest)});
    }
    s->n_ops = n;
    if (!st)
        st = join_proof(&root, r, s->g->n_ops, index, leaf, n, e);
    if (!st)
        st = expect(&root, trace, "the trace", e);
    free(index);
    free(leaf);
    return st;
}

static enum status read_state(struct shown *s, size_t which, struct reader *r,
                              struct digest *root, struct err *e)
{
    uint64_t *index = NULL;
    struct digest *leaf = NULL;
    struct shown_root *x;
    size_t n;
    enum status st = read_count(r, &n, sizeof(uint32_t) + DIGEST_BYTES, e);

    if (st)
        return st;
    x = s->state[which] = xcalloc(n + 1, sizeof(*x));
    index = xcalloc(n + 1, sizeof(*index));
    leaf = xcalloc(n + 1, sizeof(*leaf));
    for (size_t i = 0; i < n; i++) {
        index[i] = x[i].index = reader_u32(r);
        reader_copy(r, x[i].root.b, DIGEST_BYTES);
        merkle_leaf(&leaf[i], BYTES_OF(x[i].root.b));
    }
    s->n_state[which] = n;
    st = join_proof(root, r, s->g->n_parameters, index, leaf, n, e);
    free(index);
    free(leaf);
    return st;
}

static enum status read_states(struct shown *s, struct reader *r,
                               const struct opening_claim *claim, struct err *e)
{
    struct digest root[STATES], optimizer;
    enum status st = OK;

    for (size_t i = 0; !st && i < STATES; i++)
        st = read_state(s, i, r, &root[i], e);
    if (st)
        return st;
    state_optimizer_join(&optimizer, s->g->opt_step, &root[1], &root[2]);
    st = expect(&root[0], &claim->masters_before, "the masters", e);
    return st ? st : expect(&optimizer, &claim->optimizer_before, "the optimizer's state", e);
}

/* The root of a tensor, as the sections before show it. */
static const struct digest *root_of(const struct shown *s, uint32_t tensor)
{
    const struct graph_tensor *x = &s->g->tensor[tensor];

    for (size_t i = 0; x->state == GRAPH_MADE && i < s->n_ops; i++)
        if (s->op[i].op == x->op)
            return &s->op[i].outs[x->index];
    for (size_t i = 0; x->state != GRAPH_MADE && i < s->n_state[x->state - GRAPH_MASTER]; i++)
        if (s->state[x->state - GRAPH_MASTER][i].index == x->index)
            return &s->state[x->state - GRAPH_MASTER][i].root;
    return NULL;
}

static enum status read_tile(struct shown *s, struct reader *r, uint32_t tensor, uint64_t *tile,
                             struct digest *leaf, struct err *e)
{
    const struct tiling *shape = &s->g->tensor[tensor].shape;
    struct bytes in;
    size_t n;

    *tile = reader_u32(r);
    if (r->bad || *tile >= tiling_count(shape))
        return err_set(e, ERR_MALFORMED, "tile %" PRIu64 " of tensor %" PRIu32, *tile, tensor);
    n = tile_numbers(shape, *tile);
    in = reader_bytes(r, n * sizeof(float));
    if (r->bad)
        return too_short(e);
    merkle_leaf(leaf, in);
    if (s->n_tiles == s->cap_tiles) {
        s->cap_tiles = s->cap_tiles ? 2 * s->cap_tiles : 256;
        s->tile = xrealloc(s->tile, s->cap_tiles * sizeof(s->tile[0]));
    }
    s->tile[s->n_tiles++] = (struct shown_tile){tensor, *tile, in.data};
    return OK;
}

static enum status read_tensor(struct shown *s, struct reader *r, uint32_t *last, struct err *e)
{
    uint32_t tensor = reader_u32(r);
    const struct digest *want;
    uint64_t *index = NULL;
    struct digest *leaf = NULL, root;
    size_t n;
    enum status st = read_count(r, &n, 2 * sizeof(uint32_t), e);

    if (st)
        return st;
    if (tensor >= s->g->n_tensors || (*last != GRAPH_NONE && tensor <= *last))
        return err_set(e, ERR_MALFORMED, "tensor %" PRIu32 " is out of order", tensor);
    *last = tensor;
    want = root_of(s, tensor);
    if (!want)
        return err_set(e, ERR_MALFORMED, "the root of tensor %" PRIu32 " was not shown",
                       tensor);
    index = xcalloc(n + 1, sizeof(*index));
    leaf = xcalloc(n + 1, sizeof(*leaf));
    for (size_t i = 0; !st && i < n; i++)
        st = read_tile(s, r, tensor, &index[i], &leaf[i], e);
    if (!st)
        st = join_proof(&root, r, tiling_count(&s->g->tensor[tensor].shape), index, leaf, n, e);
    if (!st)
        st = expect(&root, want, "a tensor", e);
    free(index);
    free(leaf);
    return st;
}

static enum status read_tensors(struct shown *s, struct reader *r, struct err *e)
{
    uint32_t last = GRAPH_NONE;
    size_t n;
    enum status st = read_count(r, &n, 3 * sizeof(uint32_t), e);

    for (size_t i = 0; !st && i < n; i++)
        st = read_tensor(s, r, &last, e);
    return st;
}

static const float *shown_source(void *arg, uint32_t tensor, uint64_t tile)
{
    struct shown *s = arg;
    size_t lo = 0, hi = s->n_tiles;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct shown_tile *x = &s->tile[mid];

        if (x->tensor < tensor || (x->tensor == tensor && x->tile < tile))
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == s->n_tiles || s->tile[lo].tensor != tensor || s->tile[lo].tile != tile)
        return NULL;
    memcpy(s->numbers, s->tile[lo].numbers,
           tile_numbers(&s->g->tensor[tensor].shape, tile) * sizeof(float));
    return s->numbers;
}

static enum status judge_conclusion(struct opening_result *out, const struct shown *s,
                                    struct err *e)
{
    size_t n = s->g->n_parameters, seen = 0;
    struct digest *root = xcalloc(3 * n, sizeof(*root));

    for (size_t i = 0; i < s->n_ops; i++) {
        const struct graph_op *op = &s->g->op[s->op[i].op];

        for (size_t o = 0; op->kind == GRAPH_ADAMW && o < 3; o++)
            root[o * n + op->parameter] = s->op[i].outs[o];
        seen += op->kind == GRAPH_ADAMW;
    }
    state_masters_root(&out->after, root, n);
    state_optimizer_root(&out->optimizer, s->g->opt_step + 1, root + n, root + 2 * n, n);
    free(root);
    return seen == n ? OK
                     : err_set(e, ERR_NOT_FOUND, "%zu of %zu parameters were shown", seen, n);
}

/* The accumulators that the segment starts from, if any. */
static enum status read_sum(struct reader *r, float sum[TILE_MAX], struct digest *hash,
                            size_t n, bool is_wanted, struct err *e)
{
    uint8_t has = reader_u8(r);

    if (r->bad || has != is_wanted)
        return err_set(e, ERR_MALFORMED, "an opening %s accumulators",
                       is_wanted ? "without" : "with");
    if (!is_wanted)
        return OK;
    reader_copy(r, sum, n * sizeof(float));
    tile_leaf(hash, sum, n);
    return OK;
}

enum status opening_judge(struct opening_result *out, struct bytes opening,
                          const struct graph *g, const struct kernels *kernels,
                          const struct opening_claim *claim, const struct referee_question *q,
                          struct err *e)
{
    struct reader r = reader_of(opening);
    struct shown s = {.g = g};
    const struct referee referee = {g, kernels, shown_source, &s};
    const struct graph_op *op = &g->op[q->op];
    bool is_conclusion = op->kind == GRAPH_CONCLUDE;
    float sum[TILE_MAX], result[TILE_MAX];
    size_t n = is_conclusion ? 0 : tile_numbers(&g->tensor[op->out[q->out]].shape, q->tile);
    enum status st;

    memset(out, 0, sizeof(*out));
    st = read_sum(&r, sum, &out->before, n, q->first > 0, e);
    if (!st)
        st = read_ops(&s, &r, &claim->trace, e);
    if (!st)
        st = read_states(&s, &r, claim, e);
    if (!st)
        st = read_tensors(&s, &r, e);
    if (!st)
        st = reader_done(&r, "an opening", e);
    if (!st && is_conclusion)
        st = judge_conclusion(out, &s, e);
    else if (!st)
        st = referee_compute(result, &referee, q, q->first ? sum : NULL, e);
    if (!st && !is_conclusion)
        tile_leaf(&out->after, result, n);
    shown_clear(&s);
    return st;
}
