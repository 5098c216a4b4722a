#include "learn/dispute.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/merkle.h"

/* ---- the state ------------------------------------------------------------------------------- */

void dispute_init(struct dispute *d, const struct graph *g, const struct opening_claim *claim,
                  const struct dispute_rules *rules, int64_t now_ms)
{
    memset(d, 0, sizeof(*d));
    d->g = g;
    d->rules = *rules;
    d->claim = *claim;
    d->range = (struct merkle_range){0, g->n_ops};
    d->turn = DISPUTE_DEFENDER;
    d->deadline_ms = now_ms + rules->move_ms;
}

void dispute_clear(struct dispute *d)
{
    free(d->shown);
    memset(d, 0, sizeof(*d));
}

static const struct graph_op *op_of(const struct dispute *d)
{
    return &d->g->op[d->op];
}

static const struct tiling *shape_of(const struct dispute *d)
{
    return &d->g->tensor[op_of(d)->out[d->out]].shape;
}

static size_t segments_of(const struct dispute *d)
{
    return graph_segments(d->g, op_of(d), d->out);
}

size_t dispute_wanted(const struct dispute *d)
{
    struct merkle_range child[MERKLE_FAN];

    switch (d->level) {
    case DISPUTE_OPS:
    case DISPUTE_TILES: return merkle_fan(child, d->range);
    case DISPUTE_OUTS: return op_of(d)->n_outs;
    case DISPUTE_SEGMENTS: return segments_of(d) - 1;
    default: return 0;
    }
}

struct referee_question dispute_question(const struct dispute *d)
{
    return (struct referee_question){d->op, d->out, d->tile, d->segment, 1};
}

static void close_game(struct dispute *d, enum dispute_side loser, const char *why)
{
    d->level = DISPUTE_CLOSED;
    d->turn = DISPUTE_NOBODY;
    d->loser = loser;
    snprintf(d->why, sizeof(d->why), "%s", why);
}

void dispute_tick(struct dispute *d, int64_t now_ms)
{
    if (d->level != DISPUTE_CLOSED && now_ms > d->deadline_ms)
        close_game(d, d->turn, "said nothing until the deadline");
}

/* ---- going down ------------------------------------------------------------------------------ */

/* A node of one leaf is that leaf: goes on to the next level as far as nobody has to say anything. */
static void settle(struct dispute *d)
{
    if (d->level == DISPUTE_OPS && d->range.n == 1) {
        d->op = (uint32_t)d->range.first;
        d->level = DISPUTE_OUTS;
        return;
    }
    if (d->level != DISPUTE_TILES || d->range.n > 1)
        return;
    d->tile = d->range.first;
    d->after = d->node;
    d->segment = 0;
    d->level = segments_of(d) > 1 ? DISPUTE_SEGMENTS : DISPUTE_OPENING;
}

/* Takes number `i` of what was shown. */
static void descend(struct dispute *d, size_t i)
{
    struct merkle_range child[MERKLE_FAN];

    switch (d->level) {
    case DISPUTE_OPS:
    case DISPUTE_TILES:
        merkle_fan(child, d->range);
        d->range = child[i];
        d->node = d->shown[i];
        break;
    case DISPUTE_OUTS:
        d->out = (uint32_t)i;
        if (op_of(d)->kind == GRAPH_CONCLUDE) {
            d->level = DISPUTE_OPENING;
            break;
        }
        d->level = DISPUTE_TILES;
        d->range = (struct merkle_range){0, tiling_count(shape_of(d))};
        d->node = d->shown[i];
        break;
    default:
        d->segment = i;
        if (i > 0)
            d->before = d->shown[i - 1];
        if (i < d->n_shown)
            d->after = d->shown[i];
        d->level = DISPUTE_OPENING;
        break;
    }
    settle(d);
}

/* Whether what was shown hashes to the node at hand. */
static bool fits(const struct dispute *d)
{
    struct digest hash;

    if (d->level == DISPUTE_SEGMENTS)
        return true;
    if (d->level == DISPUTE_OUTS)
        merkle_leaf(&hash, (struct bytes){(const uint8_t *)d->shown,
                                          d->n_shown * sizeof(struct digest)});
    else
        merkle_fan_join(&hash, d->range, d->shown);
    return digest_equal(&hash, &d->node);
}

/* ---- moves ----------------------------------------------------------------------------------- */

/* The root of the trace, and that it ends in what the trainer signed. */
static bool read_trace(struct dispute *d, struct reader *r)
{
    struct digest outs[2] = {d->claim.masters_after, d->claim.optimizer_after}, leaf, root;
    uint64_t last = d->g->n_ops - 1;
    struct reader proof;

    reader_copy(r, d->claim.trace.b, DIGEST_BYTES);
    proof = reader_of(reader_blob(r));
    merkle_leaf(&leaf, BYTES_OF(outs));
    if (r->bad || merkle_many_join(&root, d->g->n_ops, &last, &leaf, 1, &proof, NULL) ||
        reader_left(&proof) > 0 || !digest_equal(&root, &d->claim.trace))
        return false;
    d->node = d->claim.trace;
    return true;
}

static enum status take_show(struct dispute *d, struct reader *r, struct err *e)
{
    size_t n = dispute_wanted(d);
    struct digest *shown = NULL;
    enum status st;

    if (d->n_moves == 1 && !read_trace(d, r)) {
        close_game(d, DISPUTE_DEFENDER, "the trace does not end in what was signed");
        return OK;
    }
    if (n == 0 || reader_left(r) != n * sizeof(struct digest)) {
        close_game(d, DISPUTE_DEFENDER, "showed another number of hashes than there are");
        return OK;
    }
    st = alloc_array(&shown, n, sizeof(*shown), "hashes shown", e);
    if (st)
        return st;
    reader_copy(r, shown, n * sizeof(struct digest));
    free(d->shown);
    d->shown = shown;
    d->n_shown = n;
    if (!fits(d)) {
        close_game(d, DISPUTE_DEFENDER, "showed hashes that are not of the node at hand");
        return OK;
    }
    d->is_shown = true;
    d->turn = DISPUTE_CHALLENGER;
    return OK;
}

static void take_pick(struct dispute *d, struct reader *r)
{
    uint32_t i = reader_u32(r);

    /* After the last segment but one there is the last, whose end is the tile itself. */
    if (r->bad || reader_left(r) > 0 || i >= d->n_shown + (d->level == DISPUTE_SEGMENTS)) {
        close_game(d, DISPUTE_CHALLENGER, "picked what was not shown");
        return;
    }
    d->is_shown = false;
    d->turn = DISPUTE_DEFENDER;
    descend(d, i);
}

static enum status take_opening(struct dispute *d, struct reader *r, struct err *e)
{
    const struct referee_question q = dispute_question(d);
    struct opening_result found;
    struct err why = {0};
    struct bytes in = reader_bytes(r, reader_left(r));
    char text[64];
    enum status st = opening_judge(&found, in, d->g, d->rules.kernels, &d->claim, &q, &why);

    d->opened_bytes = in.len;
    if (st == ERR_NO_MEMORY)
        return err_set(e, st, "%s", why.text);
    if (st) {
        close_game(d, DISPUTE_DEFENDER, why.text);
        return OK;
    }
    if (op_of(d)->kind == GRAPH_CONCLUDE) {
        bool is_right = digest_equal(&found.after, &d->claim.masters_after) &&
                        digest_equal(&found.optimizer, &d->claim.optimizer_after);

        close_game(d, is_right ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER,
                   is_right ? "the signed roots follow from the trace"
                            : "the signed roots do not follow from the trace");
        return OK;
    }
    if (q.first > 0 && !digest_equal(&found.before, &d->before)) {
        close_game(d, DISPUTE_DEFENDER, "opened other accumulators than were shown");
        return OK;
    }
    snprintf(text, sizeof(text), "operation %" PRIu32 " gives %s numbers", d->op,
             digest_equal(&found.after, &d->after) ? "these very" : "other");
    close_game(d, digest_equal(&found.after, &d->after) ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER,
               text);
    return OK;
}

enum status dispute_move(struct dispute *d, enum dispute_side side, struct bytes move,
                         int64_t now_ms, struct err *e)
{
    struct reader r = reader_of(move);
    enum dispute_kind want = d->is_shown                   ? DISPUTE_PICK
                             : d->level == DISPUTE_OPENING ? DISPUTE_OPEN
                                                           : DISPUTE_SHOW;
    enum status st = OK;

    dispute_tick(d, now_ms);
    if (d->level == DISPUTE_CLOSED || side != d->turn)
        return err_set(e, ERR_DENIED, "a move in a dispute by whose turn it is not");
    d->n_moves++;
    if (reader_u8(&r) != (uint8_t)want || r.bad) {
        close_game(d, side, "made a move of another kind than was due");
        return OK;
    }
    if (want == DISPUTE_PICK) {
        take_pick(d, &r);
    } else if (want == DISPUTE_SHOW) {
        d->shown_bytes += move.len;
        st = take_show(d, &r, e);
    } else {
        st = take_opening(d, &r, e);
    }
    d->deadline_ms = now_ms + d->rules.move_ms;
    return st;
}
