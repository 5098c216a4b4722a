/*
 * learn/dispute_party.c - playing a side of a dispute by one's own trace
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "learn/dispute.h"
#include "proto/merkle.h"

void dispute_party_init(struct dispute_party *p, enum dispute_side side, struct trace *t)
{
    *p = (struct dispute_party){.side = side, .t = t, .op = GRAPH_NONE, .out = GRAPH_NONE};
}

void dispute_party_clear(struct dispute_party *p)
{
    free(p->leaf);
    dispute_party_init(p, p->side, p->t);
}

/* The second pass: the operation's tensors, and the hashes of the output's tiles. */
static enum status look_closer(struct dispute_party *p, const struct dispute *d, struct err *e)
{
    const struct graph *g = p->t->g;
    const struct graph_tensor *x = &g->tensor[g->op[d->op].out[d->out]];
    enum status st = OK;

    if (p->op == d->op && p->out == d->out)
        return OK;
    free(p->leaf);
    p->leaf = NULL;
    if (p->t->at != d->op)
        st = trace_seek(p->t, d->op, e);
    if (!st)
        st = alloc_array(&p->leaf, (size_t)tiling_count(&x->shape), sizeof(*p->leaf),
                         "hashes of tiles", e);
    if (st)
        return st;
    tiles_leaves(p->leaf, &x->shape, trace_tensor(p->t, g->op[d->op].out[d->out]),
                 p->t->options.pool);
    p->op = d->op;
    p->out = d->out;
    return OK;
}

static const float *own_tile(void *arg, uint32_t tensor, uint64_t tile)
{
    static _Thread_local float numbers[TILE_MAX];
    const struct trace *t = arg;

    tile_copy(numbers, &t->g->tensor[tensor].shape, trace_tensor(t, tensor), tile);
    return numbers;
}

/* The hashes of the tile's accumulators after each segment but the last. */
static enum status sum_up(struct dispute_party *p, const struct dispute *d, struct digest *hash,
                          struct err *e)
{
    const struct referee r = {p->t->g, p->t->options.kernels, own_tile, p->t};
    struct referee_question q = dispute_question(d);
    struct tile at = tiling_at(&p->t->g->tensor[p->t->g->op[d->op].out[d->out]].shape, d->tile);
    float before[TILE_MAX], after[TILE_MAX];
    size_t n = dispute_wanted(d);
    enum status st = look_closer(p, d, e);

    for (q.first = 0; !st && q.first < n; q.first++) {
        st = referee_compute(after, &r, &q, q.first ? before : NULL, e);
        memcpy(before, after, sizeof(before));
        tile_leaf(&hash[q.first], after, at.rows * at.cols);
    }
    return st;
}

/* The party's own of what is (to be) shown: room for dispute_wanted. */
static enum status own_hashes(struct dispute_party *p, const struct dispute *d,
                              struct digest *hash, struct err *e)
{
    size_t n = dispute_wanted(d);
    struct merkle_range child[MERKLE_FAN];
    enum status st = OK;

    switch (d->level) {
    case DISPUTE_OPS:
        merkle_fan(child, d->range);
        for (size_t i = 0; i < n; i++)
            merkle_range_root(&hash[i], p->t->leaf, child[i]);
        break;
    case DISPUTE_OUTS: trace_outs(p->t, d->op, hash); break;
    case DISPUTE_TILES:
        st = look_closer(p, d, e);
        merkle_fan(child, d->range);
        for (size_t i = 0; !st && i < n; i++)
            merkle_range_root(&hash[i], p->leaf, child[i]);
        break;
    default: st = sum_up(p, d, hash, e); break;
    }
    return st;
}

/* What stands before the first hashes of all. */
static void put_trace(const struct dispute_party *p, struct buf *out)
{
    uint64_t last = p->t->g->n_ops - 1;
    struct buf proof;

    buf_init(&proof, 64 * sizeof(struct digest));
    merkle_many_prove(&proof, p->t->leaf, p->t->g->n_ops, &last, 1);
    CHECK(!proof.bad);
    buf_append(out, BYTES_OF(p->t->all.b));
    buf_put_blob(out, buf_bytes(&proof));
    buf_clear(&proof);
}

static enum status pick(const struct dispute *d, const struct digest *own, struct buf *out,
                        struct err *e)
{
    uint32_t i = 0;

    while (i < d->n_shown && digest_equal(&own[i], &d->shown[i]))
        i++;
    /* All the same: then it is the last segment, or there was nothing to argue about. */
    if (i == d->n_shown && d->level != DISPUTE_SEGMENTS)
        i = 0;
    buf_put_u8(out, DISPUTE_PICK);
    buf_put_u32(out, i);
    return buf_status(out, e);
}

enum status dispute_party_move(struct dispute_party *p, const struct dispute *d,
                               struct buf *out, struct err *e)
{
    struct referee_question q = dispute_question(d);
    size_t n = dispute_wanted(d);
    struct digest *own;
    enum status st;

    CHECK(d->turn == p->side);
    if (d->level == DISPUTE_OPENING) {
        buf_put_u8(out, DISPUTE_OPEN);
        st = d->g->op[d->op].kind == GRAPH_CONCLUDE ? OK : look_closer(p, d, e);
        return st ? st : opening_make(out, p->t, &q, e);
    }
    st = alloc_array(&own, n > GRAPH_OUTS ? n : GRAPH_OUTS, sizeof(*own), "hashes", e);
    if (st)
        return st;
    st = own_hashes(p, d, own, e);
    if (!st && p->side == DISPUTE_CHALLENGER) {
        st = pick(d, own, out, e);
    } else if (!st) {
        buf_put_u8(out, DISPUTE_SHOW);
        if (d->n_moves == 0)
            put_trace(p, out);
        buf_append(out, (struct bytes){(const uint8_t *)own, n * sizeof(*own)});
        st = buf_status(out, e);
    }
    free(own);
    return st;
}
