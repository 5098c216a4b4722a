#include "engine/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/attend.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/layer.h"

static enum status check_run(const struct kv_cache *kv, const struct model_run *r, size_t i,
                             struct err *e)
{
    if (r->slot >= kv->n_slots)
        return err_set(e, ERR_INVALID, "run %zu: there is no slot %zu", i, r->slot);
    if (kv->stamp[r->slot] == kv->calls)
        return err_set(e, ERR_INVALID, "run %zu: slot %zu is in the call already", i, r->slot);
    kv->stamp[r->slot] = kv->calls;
    if (r->n == 0 || r->n_out > r->n)
        return err_set(e, ERR_INVALID, "run %zu: %zu rows out of %zu", i, r->n_out, r->n);
    if (r->first > kv->len[r->slot])
        return err_set(e, ERR_INVALID,
                       "run %zu starts at position %zu, slot %zu holds only %zu before it", i,
                       r->first, r->slot, kv->len[r->slot]);
    if (r->n > kv->max_len - r->first)
        return err_set(e, ERR_INVALID, "run %zu ends at position %zu, the cache holds %zu", i,
                       r->first + r->n, kv->max_len);
    return OK;
}

static enum status begin_runs(struct model *m, struct kv_cache *kv,
                              const struct model_run *runs, size_t n_runs,
                              const int32_t *tokens, struct err *e)
{
    size_t at = 0, need = 0, n_pos = 0;
    enum status st;

    CHECK(kv->layers == m->config.layers && kv->max_len <= m->config.max_len &&
          kv->width == (size_t)m->config.kv_heads * m->config.head_dim &&
          kv->arena.device == m->device && kv->is_narrow == cache_is_narrow(m->kernels));
    kv->calls++;
    kv_cache_claims_reset(kv);
    for (size_t i = 0; i < n_runs; i++) {
        st = check_run(kv, &runs[i], i, e);
        if (st)
            return st;
        if (runs[i].first + runs[i].n > n_pos)
            n_pos = runs[i].first + runs[i].n;
        need += kv_cache_claim(kv, runs[i].slot, runs[i].first, runs[i].n);
        for (size_t j = 0; j < runs[i].n; j++, at++)
            if (tokens[at] < 0 || (uint32_t)tokens[at] >= m->config.vocab)
                return err_set(e, ERR_INVALID,
                               "run %zu: token %" PRId32
                               " is outside the vocabulary of %" PRIu32,
                               i, tokens[at], m->config.vocab);
    }
    if (need > kv->n_free)
        return err_set(e, ERR_LIMIT, "the cache has %zu free pages, this call takes %zu",
                       kv->n_free, need);
    st = model_rope(m, n_pos, e);
    if (st)
        return st;
    for (size_t i = 0; i < n_runs; i++)
        kv_cache_write(kv, runs[i].slot, runs[i].first, runs[i].n);
    return OK;
}

struct look_up {
    const struct model *m;
    float *x;
    const int32_t *tokens;
};

/* Rows of a map's embedding: where it is the head as well, from that, which is in memory anyway. */
static void look_up_rows(void *arg, size_t lo, size_t hi)
{
    const struct look_up *j = arg;
    const struct model *m = j->m;
    const size_t C = m->config.dim;

    for (size_t i = lo; i < hi; i++)
        if (!m->config.tie ||
            !packed_row(m->kernels, j->x + i * C, &m->head, (size_t)j->tokens[i]))
            weights_map_read(j->x + i * C, m->embed, (size_t)j->tokens[i] * C, C);
}

static void look_up(const struct model *m, float *x, const int32_t *tokens, size_t rows)
{
    struct look_up job = {m, x, tokens};

    if (m->w->embed)
        embed_forward(m->kernels, x, m->w->embed, tokens, rows, m->config.dim);
    else if (m->device)
        m->kernels->ops->embed_packed(m->device, x, m->config.tie ? &m->head : &m->table,
                                      tokens, rows, m->config.dim);
    else
        pool_run(m->pool, rows, 8, look_up_rows, &job);
}

/* What the operations of a call read besides numbers: addresses for them. */
struct call {
    const int32_t *tokens, *pos;
    size_t n_pieces, rows;
    size_t padded; /* rows, and those behind that nobody wants: of token 0 */
};

static enum status stage_call(struct model *m, const struct kv_cache *kv, const int32_t *tokens,
                              struct call *c, struct err *e)
{
    const size_t bytes = c->padded * sizeof(int32_t);
    const void *there;
    enum status st;
    int32_t *pos, *ids;

    attend_reset(m->attend);
    for (size_t i = 0; i < c->n_pieces; i++)
        attend_add(m->attend, m->pieces[i].n, m->pieces[i].first,
                   kv_cache_table(kv, m->pieces[i].slot));
    CHECK(m->attend->rows == c->rows);
    attend_pad(m->attend, c->padded);
    st =
        stage_begin(&m->stage, 2 * stage_bytes(bytes) + attend_bytes(m->attend, m->kernels), e);
    if (st)
        return st;
    pos = memset(stage_take(&m->stage, bytes, &there), 0, bytes);
    c->pos = there;
    for (size_t i = 0; i < c->n_pieces; i++)
        for (size_t j = 0; j < m->pieces[i].n; j++)
            *pos++ = (int32_t)(m->pieces[i].first + j);
    c->tokens = tokens;
    if (m->device) {
        ids = memset(stage_take(&m->stage, bytes, &there), 0, bytes);
        memcpy(ids, tokens, c->rows * sizeof(ids[0]));
        c->tokens = there;
    }
    attend_stage(m->attend, m->kernels, &m->stage);
    stage_send(&m->stage);
    return OK;
}

/* All layers by a class of a device that goes through them in one. */
static void pass_layers(struct model *m, const struct kv_cache *kv)
{
    const struct attend *a = m->attend;

    m->kernels->ops->pass(m->device,
                          &(struct device_pass){
                              .weights_id = m->weights_id,
                              .config = &m->config,
                              .packed = m->layers,
                              .w = m->w->layers,
                              .x = m->a->x_in,
                              .scratch = m->pass,
                              .cos = m->cos,
                              .sin = m->sin,
                              .runs = a->runs,
                              .n_runs = a->n,
                              .rows = a->rows,
                              .max_n = a->max_n,
                              .max_len = a->max_len,
                              .pages = a->pages,
                              .page_layer = kv->layer_floats * sizeof(float) / sizeof(uint16_t),
                          });
}

static void run_layers(struct model *m, const struct kv_cache *kv, const struct call *c)
{
    if (m->device && m->kernels->ops->pass) {
        pass_layers(m, kv);
        return;
    }
    for (size_t layer = 0; layer < m->config.layers; layer++) {
        layer_before_attention(m, layer, m->a, c->pos, c->rows);
        attend_forward(m->attend, m, m->a, kv_cache_layer(kv, layer));
        layer_after_attention(m, layer, m->a, c->rows);
    }
}

/* The last norm of the rows that are wanted, those together that lie together. Returns how many. */
static size_t last_norm(const struct model *m, float *hidden, size_t n_pieces)
{
    const size_t C = m->config.dim;
    size_t row = 0, n_out = 0, first = 0, n = 0;

    for (size_t i = 0; i <= n_pieces; i++) {
        const struct model_piece *p = i < n_pieces ? &m->pieces[i] : NULL;

        if (p && (n == 0 || row + p->n - p->n_out == first + n)) {
            first = n == 0 ? row + p->n - p->n_out : first;
            n += p->n_out;
        } else {
            if (n > 0)
                rmsnorm_forward(m->kernels, hidden + n_out * C, m->a->x_out + first * C,
                                m->w->norm, n, C, m->config.norm_eps);
            n_out += n;
            first = p ? row + p->n - p->n_out : 0;
            n = p ? p->n_out : 0;
        }
        row += p ? p->n : 0;
    }
    return n_out;
}

/* The part of run r from its row `at` on, at most `room` rows. */
static struct model_piece cut(const struct model_run *r, size_t at, size_t room)
{
    struct model_piece p = {.slot = r->slot, .first = r->first + at, .n = r->n - at};
    size_t from_out = r->n - r->n_out; /* rows of the run from here on are wanted */

    if (p.n > room)
        p.n = room;
    if (at + p.n > from_out)
        p.n_out = at >= from_out ? p.n : at + p.n - from_out;
    return p;
}

/* Where the hidden states go: into the caller's array, or one of the model's. */
static enum status place_hidden(struct model *m, float **at, float *hidden,
                                const struct model_run *runs, size_t n_runs, struct err *e)
{
    enum status st = OK;

    m->last = NULL;
    m->n_last = 0;
    m->is_top_due = false;
    for (size_t i = 0; i < n_runs; i++)
        m->n_last += runs[i].n_out;
    *at = hidden;
    if (m->device || !hidden) {
        st = room_grow(&m->hidden, m->device,
                       (uint64_t)device_padded_rows(m->kernels->ops, m->n_last, SIZE_MAX) *
                           m->config.dim,
                       "hidden states", e);
        *at = m->hidden.at;
    }
    return st;
}

/* Computes as much as goes at once from *run and its row *at on. Returns through *out how many rows
 * of `hidden` were written. */
static enum status forward_some(struct model *m, const struct kv_cache *kv, float *hidden,
                                const struct model_run *runs, size_t n_runs,
                                const int32_t **tokens, size_t where[2], size_t *out,
                                struct err *e)
{
    struct call c = {0};
    enum status st;

    while (where[0] < n_runs && c.rows < m->max_rows) {
        struct model_piece p = cut(&runs[where[0]], where[1], m->max_rows - c.rows);

        m->pieces[c.n_pieces++] = p;
        c.rows += p.n;
        where[1] += p.n;
        if (where[1] == runs[where[0]].n) {
            where[0]++;
            where[1] = 0;
        }
    }
    c.padded = device_padded_rows(m->kernels->ops, c.rows, m->max_rows);
    st = stage_call(m, kv, *tokens, &c, e);
    if (st)
        return st;
    look_up(m, m->a->x_in, c.tokens, c.padded);
    run_layers(m, kv, &c);
    *out = last_norm(m, hidden, c.n_pieces);
    *tokens += c.rows;
    return OK;
}

enum status model_forward(struct model *m, struct kv_cache *kv, float *hidden,
                          const struct model_run *runs, size_t n_runs, const int32_t *tokens,
                          struct err *e)
{
    const size_t C = m->config.dim;
    size_t where[2] = {0, 0}, n_out = 0, n;
    enum status st = begin_runs(m, kv, runs, n_runs, tokens, e);
    float *at;

    if (!st)
        st = place_hidden(m, &at, hidden, runs, n_runs, e);
    while (!st && where[0] < n_runs) {
        st = forward_some(m, kv, at + n_out * C, runs, n_runs, &tokens, where, &n, e);
        n_out += st ? 0 : n;
    }
    if (st)
        return st;
    CHECK(n_out == m->n_last);
    m->last = at;
    if (m->device && hidden) {
        device_get(m->device, hidden, at, n_out * C * sizeof(float));
        st = device_wait(m->device, e);
    }
    return st;
}
