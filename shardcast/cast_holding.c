#include "shardcast/cast_inside.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/merkle.h"

/* ---- finding ----------------------------------------------------------------------------- */

/* Where `c` stands, or would. */
static size_t place_of(const struct cast_state *s, const struct content *c, bool *is_there)
{
    size_t lo = 0, hi = s->n_holdings;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (content_compare(&s->holding[mid]->content, c) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *is_there = lo < s->n_holdings && content_equal(&s->holding[lo]->content, c);
    return lo;
}

const struct holding *holding_peek(const struct cast_state *s, const struct content *c)
{
    bool is_there;
    size_t at = place_of(s, c, &is_there);

    return is_there ? s->holding[at] : NULL;
}

struct holding *holding_find(struct cast_state *s, const struct content *c)
{
    bool is_there;

    if (s->recent && content_equal(&s->recent->content, c))
        return s->recent;
    size_t at = place_of(s, c, &is_there);
    if (!is_there)
        return NULL;
    s->recent = s->holding[at];
    return s->recent;
}

int64_t holding_newest_known(const struct cast_state *s)
{
    for (size_t i = s->n_holdings; i-- > 0;)
        if (s->holding[i]->content.kind == CONTENT_FULL && s->holding[i]->envelope)
            return s->holding[i]->content.version;
    return -1;
}

bool holding_is_pinned(const struct cast_state *s, const struct content *c)
{
    for (size_t i = 0; i < s->n_pins && c->kind == CONTENT_FULL; i++)
        if (s->pin[i] == c->version)
            return true;
    return false;
}

const struct digest *holding_leaf(const struct holding *h, uint32_t index)
{
    uint32_t number = index / MSG_MAX_LEAVES, i = index % MSG_MAX_LEAVES;

    if (number >= h->n_segments || i >= h->segment[number].n)
        return NULL;
    return &h->segment[number].leaf[i];
}

uint32_t holding_limit(const struct holding *h)
{
    if (h->n_shards)
        return h->n_shards;
    if (h->n_segments == 0)
        return 0;
    return (h->n_segments - 1) * MSG_MAX_LEAVES + h->segment[h->n_segments - 1].n;
}

uint32_t holding_length(const struct holding *h, uint32_t index)
{
    if (h->n_shards && index == h->n_shards - 1)
        return (uint32_t)(h->file_bytes - (uint64_t)index * h->shard_bytes);
    return h->shard_bytes;
}

bool holding_is_pulled(const struct holding *h)
{
    return h->is_wanted && !h->is_complete && !h->is_void && !h->is_own;
}

/* ---- making and forgetting --------------------------------------------------------------- */

void holding_free(struct holding *h)
{
    if (!h)
        return;
    pick_free(&h->pick);
    lend_free(&h->lend);
    for (uint32_t i = 0; i < h->n_segments; i++)
        free(h->segment[i].envelope);
    free(h->segment);
    free(h->envelope);
    free(h->have);
    free(h);
}

struct holding *holding_get(struct cast_state *s, const struct content *c)
{
    bool is_there;
    size_t at = place_of(s, c, &is_there);

    if (is_there)
        return s->holding[at];
    if (s->n_holdings == CAST_CONTENTS_MAX || cast_state_is_past(s, c))
        return NULL;
    if (s->n_holdings == s->cap_holdings) {
        s->cap_holdings = s->cap_holdings ? 2 * s->cap_holdings : 4;
        s->holding = xrealloc(s->holding, s->cap_holdings * sizeof(*s->holding));
        s->pulling = xrealloc(s->pulling, s->cap_holdings * sizeof(*s->pulling));
    }
    struct holding *h = xcalloc(1, sizeof(*h));
    h->content = *c;
    h->is_wanted = c->kind == CONTENT_FULL;
    h->is_pinned = holding_is_pinned(s, c);
    h->push_ms = h->stall_ms = NEVER_MS;
    memmove(&s->holding[at + 1], &s->holding[at], (s->n_holdings - at) * sizeof(*s->holding));
    s->holding[at] = h;
    s->n_holdings++;
    return h;
}

void holding_forget(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out)
{
    uint64_t all = h->n_have ? s->linked_mask : 0;
    bool is_there;
    size_t at = place_of(s, &h->content, &is_there);

    (void)now_ms;
    CHECK(is_there);
    pull_drop_holding(s, h, out);
    serve_drop_holding(s, h);
    while (all)
        talk_have_nothing(s, s->slot[mask_take(&all)], &h->content, out);
    cast_out_add(out, CAST_FORGET, (struct bytes){0})->content = h->content;
    s->n_holdings--;
    memmove(&s->holding[at], &s->holding[at + 1], (s->n_holdings - at) * sizeof(*s->holding));
    s->recent = NULL;
    s->is_replanned = true;
    s->n_pulling = 0;
    holding_free(h);
}

void holding_trim(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    int64_t newest = holding_newest_known(s), keep = (int64_t)s->opt.keep;
    uint32_t n_complete = 0;

    for (size_t i = s->n_holdings; i-- > 0;) {
        struct holding *h = s->holding[i];
        bool is_full = h->content.kind == CONTENT_FULL;
        bool is_old = is_full && h->is_complete ? n_complete >= s->opt.keep
                                                : h->content.version <= newest - keep;
        n_complete += is_full && h->is_complete;
        if (is_old && !h->is_pinned)
            holding_forget(s, h, now_ms, out);
    }
}

/* The newest first; of one version a delta, then the whole, then the optimizer's state. */
static bool is_more_urgent(const struct content *a, const struct content *b)
{
    static const int rank[] = {3, 1, 0, 2};

    if (a->version != b->version)
        return a->version > b->version;
    if (a->kind != b->kind)
        return rank[a->kind] < rank[b->kind];
    return a->base > b->base;
}

void holding_replan(struct cast_state *s, int64_t now_ms)
{
    s->is_replanned = false;
    s->n_pulling = 0;
    for (size_t i = 0; i < s->n_holdings; i++) {
        struct holding *h = s->holding[i];
        size_t at = s->n_pulling;
        if (!holding_is_pulled(h)) {
            if (h->pick)
                pick_free(&h->pick);
            h->stall_ms = NEVER_MS;
            continue;
        }
        if (!h->pick) {
            pull_begin(s, h);
            h->stall_ms = now_ms; /* who has what? */
            h->stall_wait_ms = STALL_MS;
            due(s, now_ms);
        }
        for (; at > 0 && is_more_urgent(&h->content, &s->pulling[at - 1]->content); at--)
            s->pulling[at] = s->pulling[at - 1];
        s->pulling[at] = h;
        s->n_pulling++;
    }
    pull_stir(s);
}

/* ---- what the trainer signed ------------------------------------------------------------- */

static uint8_t *copy_of(struct bytes in)
{
    uint8_t *p = xmalloc(in.len);

    memcpy(p, in.data, in.len);
    return p;
}

static void make_room(struct holding *h, uint32_t cap)
{
    if (cap <= h->cap)
        return;
    size_t before = h->cap ? h->cap / 8 + 1 : 0, after = cap / 8 + 1;
    h->have = xrealloc(h->have, after);
    memset(h->have + before, 0, after - before);
    if (h->pick)
        pick_grow(h->pick, cap);
    h->cap = cap;
}

/* All leaves and the manifest are here: do they belong together? */
static void check_root(struct cast_state *s, struct holding *h)
{
    struct merkle tree;
    struct digest root;

    if (!h->envelope || h->n_leaves < h->n_shards)
        return;
    merkle_init(&tree);
    for (uint32_t i = 0; i < h->n_shards; i++)
        merkle_add(&tree, BYTES_OF(holding_leaf(h, i)->b));
    merkle_root(&tree, &root);
    if (digest_equal(&root, &h->weights))
        return;
    h->is_void = true;
    s->is_replanned = true;
    s->counters.refused++;
}

static enum status contradiction(struct bytes *other, const uint8_t *envelope, size_t len,
                                 const struct holding *h, struct err *e)
{
    char text[CONTENT_TEXT_BYTES];

    *other = (struct bytes){envelope, len};
    content_text(text, &h->content);
    return err_set(e, ERR_EXISTS, "another content is known as %s", text);
}

/* A segment that cannot be one of this manifest's; NULL: all that are here can. */
static const struct segment *misfit(const struct holding *h, const struct msg_manifest *m)
{
    uint32_t last = (m->n_shards - 1) / MSG_MAX_LEAVES;

    for (uint32_t i = 0; i < h->n_segments; i++) {
        const struct segment *g = &h->segment[i];
        uint32_t n = i < last ? MSG_MAX_LEAVES : m->n_shards - last * MSG_MAX_LEAVES;
        bool fits = i <= last && g->n == n && h->shard_bytes == m->shard_bytes &&
                    (i < last || digest_equal(&g->body, &m->last_segment));
        if (g->envelope && !fits)
            return g;
    }
    return NULL;
}

static void file_manifest(struct holding *h, const struct msg_envelope *env,
                          const struct msg_manifest *m)
{
    h->envelope = copy_of(env->raw);
    h->envelope_len = env->raw.len;
    digest_of(&h->body, env->body);
    h->run = env->run;
    h->signer = env->signer;
    h->weights = m->weights;
    h->base_root = m->base_root;
    h->apply_root = m->apply_root;
    h->last_segment = m->last_segment;
    h->file_bytes = m->file_bytes;
    h->shard_bytes = m->shard_bytes;
    h->n_shards = m->n_shards;
    make_room(h, m->n_shards);
}

static void keep(const struct holding *h, uint32_t index, struct bytes envelope,
                 struct cast_out *out)
{
    struct cast_act *a = cast_out_add(out, CAST_KEEP, envelope);

    a->content = h->content;
    a->index = index;
    a->shard_bytes = h->shard_bytes;
    a->bytes = h->file_bytes;
}

enum status holding_manifest(struct cast_state *s, const struct msg_envelope *env,
                             const struct msg_manifest *m, struct holding **out_h, bool *is_new,
                             struct bytes *other, struct cast_out *out, struct err *e)
{
    struct holding *h = holding_get(s, &m->content);
    const struct segment *g;
    struct digest body;

    *is_new = false;
    *out_h = h;
    if (!h)
        return err_set(e, ERR_FULL, "version %" PRId64 " is older than those kept", m->version);
    if (h->envelope) {
        digest_of(&body, env->body);
        if (digest_equal(&body, &h->body))
            return OK;
        return contradiction(other, h->envelope, h->envelope_len, h, e);
    }
    g = misfit(h, m);
    if (g)
        return contradiction(other, g->envelope, g->len, h, e);
    file_manifest(h, env, m);
    keep(h, CAST_MANIFEST, env->raw, out);
    check_root(s, h);
    *is_new = true;
    s->is_replanned = true;
    return OK;
}

/* What is known and does not go with segment `m`; NULL: nothing. */
static const struct segment *quarrels(const struct holding *h, const struct msg_segment *m,
                                      const struct digest *body)
{
    const struct segment *before =
        m->number > 0 && m->number - 1 < h->n_segments ? &h->segment[m->number - 1] : NULL;

    for (uint32_t i = 0; i < h->n_segments; i++) { /* any will do */
        const struct segment *g = &h->segment[i];
        bool is_short = g->n < MSG_MAX_LEAVES && i < m->number;
        bool is_after = m->leaves.len / DIGEST_BYTES < MSG_MAX_LEAVES && i > m->number;
        if (g->envelope && (h->shard_bytes != m->shard_bytes || is_short || is_after))
            return g;
    }
    if (before && before->envelope && !digest_equal(&before->body, &m->previous))
        return before;
    if (m->number + 1 < h->n_segments && h->segment[m->number + 1].envelope) {
        struct msg_envelope env;
        struct msg_segment next;
        const struct segment *g = &h->segment[m->number + 1];
        CHECK(!msg_envelope_decode(&env, (struct bytes){g->envelope, g->len}, NULL));
        CHECK(!msg_segment_decode(&next, env.body, NULL));
        if (!digest_equal(&next.previous, body))
            return g;
    }
    return NULL;
}

static bool fits_manifest(const struct holding *h, const struct msg_segment *m,
                          const struct digest *body)
{
    uint32_t last = h->n_shards ? (h->n_shards - 1) / MSG_MAX_LEAVES : 0;
    uint32_t n = m->number < last ? MSG_MAX_LEAVES : h->n_shards - last * MSG_MAX_LEAVES;

    if (!h->envelope)
        return true;
    return m->number <= last && m->shard_bytes == h->shard_bytes &&
           m->leaves.len / DIGEST_BYTES == n &&
           (m->number < last || digest_equal(body, &h->last_segment));
}

static void file_segment(struct holding *h, const struct msg_envelope *env,
                         const struct msg_segment *m, const struct digest *body)
{
    size_t at = (size_t)(m->leaves.data - env->raw.data);

    h->segment = grow(h->segment, &h->cap_segments, m->number + 1, sizeof(*h->segment));
    for (; h->n_segments <= m->number; h->n_segments++)
        h->segment[h->n_segments] = (struct segment){0};
    struct segment *g = &h->segment[m->number];
    *g = (struct segment){.envelope = copy_of(env->raw),
                          .len = env->raw.len,
                          .n = (uint32_t)(m->leaves.len / DIGEST_BYTES),
                          .body = *body};
    g->leaf = (const struct digest *)(g->envelope + at);
    h->n_leaves += g->n;
    h->shard_bytes = m->shard_bytes;
    h->run = env->run;
    h->signer = env->signer;
    make_room(h, holding_limit(h));
}

/* Shards whose leaves have come can be asked for. */
static void open_shards(struct cast_state *s, struct holding *h, uint32_t number)
{
    uint32_t from = number * MSG_MAX_LEAVES;

    for (uint32_t i = from; h->pick && i < from + h->segment[number].n; i++) {
        h->pick->who[i] |= h->all_mask;
        if (!bit_get(h->have, i) && !h->pick->asked[i])
            pick_open(h->pick, &s->rng, i);
    }
    pull_stir(s);
}

enum status holding_segment(struct cast_state *s, const struct msg_envelope *env,
                            const struct msg_segment *m, struct holding **out_h, bool *is_new,
                            struct bytes *other, struct cast_out *out, struct err *e)
{
    struct holding *h = holding_get(s, &m->content);
    const struct segment *g;
    struct digest body;

    *is_new = false;
    *out_h = h;
    if (!h)
        return err_set(e, ERR_FULL, "version %" PRId64 " is older than those kept", m->version);
    digest_of(&body, env->body);
    g = m->number < h->n_segments ? &h->segment[m->number] : NULL;
    if (g && g->envelope) {
        if (digest_equal(&body, &g->body))
            return OK;
        return contradiction(other, g->envelope, g->len, h, e);
    }
    if (!fits_manifest(h, m, &body))
        return contradiction(other, h->envelope, h->envelope_len, h, e);
    g = quarrels(h, m, &body);
    if (g)
        return contradiction(other, g->envelope, g->len, h, e);
    file_segment(h, env, m, &body);
    keep(h, m->number, env->raw, out);
    open_shards(s, h, m->number);
    check_root(s, h);
    if (!h->pick)
        s->is_replanned = true;
    *is_new = true;
    return OK;
}

/* ---- gaining ----------------------------------------------------------------------------- */

static void note_news(struct cast_state *s, struct holding *h, uint32_t index, int64_t now_ms)
{
    if (h->n_news == PUSH_COUNT)
        h->has_whole_news = true;
    else
        h->news[h->n_news++] = index;
    if (h->push_ms == NEVER_MS)
        h->push_ms = h->pushed_ms + PUSH_MS > now_ms ? h->pushed_ms + PUSH_MS : now_ms;
    if (h->n_news == PUSH_COUNT)
        h->push_ms = now_ms;
    due(s, h->push_ms);
}

void holding_gained(struct cast_state *s, struct holding *h, uint32_t index, int64_t now_ms,
                    struct cast_out *out)
{
    (void)out;
    if (bit_get(h->have, index))
        return;
    bit_set(h->have, index);
    h->n_have++;
    if (h->n_have > 1)
        h->each_ms = (7 * h->each_ms + (now_ms - h->gained_ms)) / 8;
    h->gained_ms = now_ms;
    h->stall_wait_ms =
        (int32_t)(STALL_MS + 4 * (h->each_ms < STALL_MAX_MS ? h->each_ms : STALL_MAX_MS));
    if (h->pick) {
        pick_close(h->pick, index);
        h->pick->asked[index] = 0;
        if (h->stall_ms != NEVER_MS)
            h->stall_ms = now_ms + h->stall_wait_ms;
    }
    if (!h->lend)
        note_news(s, h, index, now_ms);
}

void holding_settle(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out)
{
    if (h->is_complete || h->is_void || !h->envelope || h->n_leaves < h->n_shards ||
        h->n_have < h->n_shards)
        return;
    h->is_complete = true;
    s->is_replanned = true;
    struct cast_act *a = cast_out_add(out, CAST_COMPLETE, (struct bytes){0});
    a->content = h->content;
    a->bytes = h->file_bytes;
    if (!h->lend) {
        h->has_whole_news = true;
        h->push_ms = now_ms;
        due(s, now_ms);
    }
}
