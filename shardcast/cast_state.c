#include "shardcast/cast_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/cast_inside.h"

/* ---- the list of acts -------------------------------------------------------------------- */

void cast_out_init(struct cast_out *l)
{
    *l = (struct cast_out){0};
}

void cast_out_reset(struct cast_out *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].owned);
    l->n = 0;
}

void cast_out_clear(struct cast_out *l)
{
    cast_out_reset(l);
    free(l->v);
    *l = (struct cast_out){0};
}

struct cast_act *cast_out_add(struct cast_out *out, enum cast_act_kind kind, struct bytes value)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->v = xrealloc(out->v, out->cap * sizeof(*out->v));
    }
    struct cast_act *a = &out->v[out->n++];
    *a = (struct cast_act){.kind = kind};
    if (value.len) {
        a->owned = xmalloc(value.len);
        memcpy(a->owned, value.data, value.len);
        a->value = (struct bytes){a->owned, value.len};
    }
    return a;
}

void *grow(void *p, uint32_t *cap, uint32_t n, size_t size)
{
    if (n <= *cap)
        return p;
    *cap = *cap ? 2 * *cap : 4;
    if (*cap < n)
        *cap = n;
    return xrealloc(p, *cap * size);
}

/* ---- life -------------------------------------------------------------------------------- */

void cast_state_new(struct cast_state **out, const struct cast_state_options *opt)
{
    struct cast_state *s = xcalloc(1, sizeof(*s));
    uint64_t seed = 0;

    s->opt = *opt;
    if (s->opt.keep == 0)
        s->opt.keep = CAST_KEEP_DEFAULT;
    memcpy(&seed, opt->self.b, sizeof(seed));
    s->rng = rng_of(seed, 0);
    s->hint = s->head_version = -1;
    s->hint_ms = s->gap_ms = s->due_ms = s->armed_ms = NEVER_MS;
    s->slots = SLOTS_MIN;
    s->lot = CAST_LINKS_MAX;
    buf_init(&s->body, MSG_MAX_BYTES);
    buf_init(&s->frame, MSG_MAX_BYTES);
    *out = s;
}

void cast_state_free(struct cast_state **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->n_holdings; i++)
        holding_free((*s)->holding[i]);
    for (uint32_t i = 0; i < (*s)->n_peers; i++)
        peer_free((*s)->peer[i]);
    free((*s)->holding);
    free((*s)->pulling);
    free((*s)->peer);
    free((*s)->tag);
    free((*s)->head);
    free((*s)->offer);
    free((*s)->proof);
    buf_clear(&(*s)->body);
    buf_clear(&(*s)->frame);
    free(*s);
    *s = NULL;
}

enum status cast_state_restore(struct cast_state *s, struct bytes envelope,
                               struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    enum status st = msg_envelope_decode(&env, envelope, e);

    CHECK(!s->has_run);
    if (!st && env.kind == MSG_SEGMENT)
        return talk_take_segment(s, NULL, envelope, false, 0, out, e);
    return st ? st : talk_take_manifest(s, NULL, envelope, false, 0, out, e);
}

void cast_state_found(struct cast_state *s, const struct content *c, struct bytes bitmap,
                      int64_t now_ms, struct cast_out *out)
{
    struct holding *h = holding_find(s, c);

    if (!h)
        return;
    for (uint32_t i = 0; i < h->cap && i / 8 < bitmap.len; i++)
        if (bit_get(bitmap.data, i) && holding_leaf(h, i) && !bit_get(h->have, i)) {
            pull_cancel_others(s, h, i, NULL, out);
            holding_gained(s, h, i, now_ms, out);
        }
    h->has_whole_news = true;
    holding_settle(s, h, now_ms, out);
    if (s->has_run)
        settle(s, now_ms, out);
}

/* ---- who there is ------------------------------------------------------------------------ */

void cast_state_set_run(struct cast_state *s, const struct digest *run,
                        const struct public_key *trainer, int64_t now_ms, struct cast_out *out)
{
    bool is_same = s->has_run && digest_equal(&s->run, run) && key_equal(&s->trainer, trainer);

    if (is_same)
        return;
    s->run = *run;
    s->has_run = true;
    s->trainer = *trainer;
    s->has_trainer = !key_is_zero(trainer);
    s->is_origin = s->has_trainer && key_equal(trainer, &s->opt.node);
    for (size_t i = s->n_holdings; i-- > 0;) {
        const struct holding *h = s->holding[i];
        bool is_ours =
            digest_equal(&h->run, run) && (!s->has_trainer || key_equal(&h->signer, trainer));
        if (!is_ours)
            holding_forget(s, s->holding[i], now_ms, out);
    }
    s->poll_ms = s->sign_ms = now_ms;
    if (!s->head)
        s->head_ms = now_ms; /* who hears none from now on is as frozen as who hears no more */
    due(s, now_ms);
    gaps_restart(s, now_ms);
    holding_trim(s, now_ms, out);
    settle(s, now_ms, out);
}

void cast_state_accuse(struct cast_state *s, struct bytes first, struct bytes second,
                       struct cast_out *out)
{
    struct content about;

    if (s->has_trainer && !cast_proof_check(first, second, &s->run, &s->trainer, &about, NULL))
        talk_stop(s, first, second, &about, out);
}

void cast_state_meet(struct cast_state *s, const struct public_key *key, uint64_t link,
                     bool is_trainer, int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_find(s, key);

    if (!p)
        p = peer_new(s, key);
    if (!p || !peer_link(s, p, link, now_ms))
        return;
    p->is_active = true;
    p->is_trainer = is_trainer;
    settle(s, now_ms, out);
}

void cast_state_part(struct cast_state *s, const struct public_key *key, int64_t now_ms,
                     struct cast_out *out)
{
    struct peer *p = peer_find(s, key);

    if (!p || !p->is_active)
        return;
    peer_deactivate(s, p);
    settle(s, now_ms, out);
}

/* ---- inputs ------------------------------------------------------------------------------ */

/* The first word on a link: what we have to ask it. */
static void begin_talk(struct cast_state *s, struct peer *p, int64_t now_ms,
                       struct cast_out *out)
{
    p->is_heard = true;
    talk_ask_head(s, p, out);
    for (size_t i = 0; i < s->n_pulling && !p->is_banned; i++)
        talk_ask_have(s, p, s->pulling[i], now_ms, out);
    for (size_t i = 0; i < s->n_holdings; i++)
        if (s->holding[i]->lend)
            lend(s, s->holding[i], now_ms, out);
    s->stirred |= slot_bit(p);
}

void cast_state_message(struct cast_state *s, const struct public_key *from, struct bytes frame,
                        int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_find(s, from);

    if (!p || !p->is_active)
        return;
    p->heard_ms = now_ms;
    if (!p->is_heard)
        begin_talk(s, p, now_ms, out);
    talk_message(s, p, frame, now_ms, out);
    settle(s, now_ms, out);
}

void cast_state_tick(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    s->armed_ms = NEVER_MS;
    settle(s, now_ms, out);
}

static struct peer *peer_on(const struct cast_state *s, uint64_t link)
{
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (p->link == link)
            return p;
    }
    return NULL;
}

void cast_state_served(struct cast_state *s, uint64_t link, const struct content *c,
                       uint32_t index, uint64_t bytes, int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_on(s, link);

    if (!p)
        return;
    serve_served(s, p, holding_find(s, c), index, bytes, now_ms, out);
    settle(s, now_ms, out);
}

void cast_state_lost(struct cast_state *s, const struct content *c, uint32_t index,
                     int64_t resume_ms)
{
    struct holding *h = holding_find(s, c);

    if (resume_ms > s->resume_ms)
        s->resume_ms = resume_ms;
    due(s, s->resume_ms);
    if (!h || index >= h->cap || !bit_get(h->have, index))
        return;
    bit_clear(h->have, index);
    h->n_have--;
    h->is_complete = h->is_own = false;
    h->has_whole_news = true; /* neighbours must not count on it */
    h->push_ms = 0;
    due(s, 0);
    if (h->pick && holding_leaf(h, index))
        pick_open(h->pick, &s->rng, index);
    s->is_replanned = true;
}

void cast_state_hint(struct cast_state *s, int64_t head, int64_t now_ms, struct cast_out *out)
{
    if (head <= s->hint || head <= newest_named(s))
        return;
    s->hint = head;
    s->hint_ms = now_ms;
    s->hint_wait_ms = HINT_MIN_MS;
    due(s, now_ms);
    settle(s, now_ms, out);
}

/* ---- what is kept ------------------------------------------------------------------------ */

void cast_state_set_keep(struct cast_state *s, uint32_t keep, int64_t now_ms,
                         struct cast_out *out)
{
    const uint32_t most = 64;

    s->opt.keep = keep < 1 ? 1 : keep > most ? most : keep;
    gaps_restart(s, now_ms);
    holding_trim(s, now_ms, out);
    settle(s, now_ms, out);
}

static void mark_pins(struct cast_state *s, int64_t version)
{
    struct content c = content_full(version);
    struct holding *h = holding_find(s, &c);

    if (h)
        h->is_pinned = holding_is_pinned(s, &c);
}

void cast_state_pin(struct cast_state *s, int64_t version, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_pins; i++)
        if (s->pin[i] == version)
            return;
    if (s->n_pins == CAST_PINS_MAX)
        memmove(&s->pin[0], &s->pin[1], --s->n_pins * sizeof(s->pin[0]));
    s->pin[s->n_pins++] = version;
    mark_pins(s, version);
    gaps_restart(s, now_ms);
    s->gap_ms = now_ms;
    due(s, now_ms);
    settle(s, now_ms, out);
}

void cast_state_unpin(struct cast_state *s, int64_t version, int64_t now_ms,
                      struct cast_out *out)
{
    for (size_t i = 0; i < s->n_pins; i++)
        if (s->pin[i] == version) {
            memmove(&s->pin[i], &s->pin[i + 1], (--s->n_pins - i) * sizeof(s->pin[0]));
            break;
        }
    mark_pins(s, version);
    holding_trim(s, now_ms, out);
    settle(s, now_ms, out);
}

void cast_state_want(struct cast_state *s, const struct content *c, bool is_wanted,
                     int64_t now_ms, struct cast_out *out)
{
    struct holding *h = holding_get(s, c);

    if (!h || h->is_wanted == is_wanted)
        return;
    h->is_wanted = is_wanted;
    if (!is_wanted)
        pull_drop_holding(s, h, out);
    else
        gaps_restart(s, now_ms);
    s->is_replanned = true;
    settle(s, now_ms, out);
}

void cast_state_drop(struct cast_state *s, const struct content *c, int64_t now_ms,
                     struct cast_out *out)
{
    struct holding *h = holding_find(s, c);

    if (!h)
        return;
    holding_forget(s, h, now_ms, out);
    settle(s, now_ms, out);
}

bool cast_state_is_past(const struct cast_state *s, const struct content *c)
{
    return !holding_peek(s, c) && !holding_is_pinned(s, c) &&
           c->version <= holding_newest_known(s) - (int64_t)s->opt.keep;
}

bool cast_state_make_room(struct cast_state *s, int64_t before, struct cast_out *out)
{
    int64_t newest = holding_newest_known(s), end = before < newest ? before : newest;

    for (size_t i = 0; i < s->n_holdings; i++)
        if (!s->holding[i]->is_pinned && s->holding[i]->content.version < end) {
            holding_forget(s, s->holding[i], 0, out);
            return true;
        }
    return false;
}

/* ---- the origin -------------------------------------------------------------------------- */

static enum status refuse_stopped(const struct cast_state *s, struct err *e)
{
    if (!s->is_stopped)
        return OK;
    return err_set(e, ERR_DENIED, "the trainer was proved to equivocate");
}

enum status cast_state_append(struct cast_state *s, struct bytes envelope, int64_t now_ms,
                              struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_segment m;
    struct holding *h;
    uint32_t from, to;
    enum status st = refuse_stopped(s, e);

    if (!st)
        st = segment_check(envelope, s->has_run ? &s->run : NULL, NULL, &env, &m, e);
    if (!st)
        st = talk_take_segment(s, NULL, envelope, true, now_ms, out, e);
    if (st)
        return st;
    h = holding_find(s, &m.content);
    CHECK(h);
    from = m.number * MSG_MAX_LEAVES;
    to = from + h->segment[m.number].n;
    if (!h->is_own && !h->is_complete && h->n_have == 0) {
        h->is_own = true;
        s->is_replanned = true;
        lend_begin(s, h);
        s->sign_ms = now_ms;
        due(s, now_ms);
    }
    uint32_t n_before = h->n_have;
    for (uint32_t i = from; i < to; i++)
        holding_gained(s, h, i, now_ms, out);
    if (h->lend && h->n_have - n_before == to - from) {
        lend_more(s, h, from, to);
        lend(s, h, now_ms, out);
    }
    holding_settle(s, h, now_ms, out);
    settle(s, now_ms, out);
    return OK;
}

enum status cast_state_publish(struct cast_state *s, struct bytes envelope, int64_t now_ms,
                               struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct holding *h;
    enum status st = refuse_stopped(s, e);

    if (!st)
        st = cast_manifest_check(envelope, s->has_run ? &s->run : NULL, NULL, &env, &m, e);
    if (!st)
        st = talk_take_manifest(s, NULL, envelope, true, now_ms, out, e);
    if (st)
        return st;
    h = holding_find(s, &m.content);
    CHECK(h);
    if (h->is_void)
        return err_set(e, ERR_DIGEST, "the manifest's root is not that of its segments");
    /* Again, for those that had not heard. */
    talk_flood(s, envelope, NULL, out);
    if (h->lend)
        lend(s, h, now_ms, out);
    s->sign_ms = now_ms;
    due(s, now_ms);
    holding_trim(s, now_ms, out);
    settle(s, now_ms, out);
    return OK;
}

enum status cast_state_head(struct cast_state *s, struct bytes envelope, int64_t now_ms,
                            struct cast_out *out, struct err *e)
{
    enum status st = talk_take_head(s, NULL, envelope, now_ms, out, e);

    settle(s, now_ms, out);
    return st;
}

bool cast_state_contradicts(const struct cast_state *s, const struct msg_envelope *env,
                            const struct msg_manifest *m)
{
    const struct holding *h = holding_peek(s, &m->content);
    struct digest body;

    if (!h || !h->envelope)
        return false;
    digest_of(&body, env->body);
    return !digest_equal(&body, &h->body);
}

/* ---- what is known ----------------------------------------------------------------------- */

bool cast_state_is_complete(const struct cast_state *s, const struct content *c)
{
    const struct holding *h = holding_peek(s, c);

    return h && h->is_complete;
}

int64_t cast_state_newest(const struct cast_state *s)
{
    for (size_t i = s->n_holdings; i-- > 0;)
        if (s->holding[i]->content.kind == CONTENT_FULL && s->holding[i]->is_complete)
            return s->holding[i]->content.version;
    return -1;
}

int64_t cast_state_oldest(const struct cast_state *s)
{
    struct content at = content_full(cast_state_newest(s)),
                   before = content_full(at.version - 1);

    while (at.version > 0 && cast_state_is_complete(s, &before)) {
        at.version--;
        before.version--;
    }
    return at.version;
}

bool cast_state_is_fresh(const struct cast_state *s, int64_t now_ms)
{
    return s->head && !s->is_stopped && s->head_ms + CAST_FRESH_MS > now_ms;
}

struct bytes cast_state_newest_head(const struct cast_state *s)
{
    return (struct bytes){s->head, s->head_len};
}

bool cast_state_is_stopped(const struct cast_state *s)
{
    return s->is_stopped;
}

size_t cast_state_n_contents(const struct cast_state *s)
{
    return s->n_holdings;
}

struct cast_content_info cast_state_content(const struct cast_state *s, size_t i)
{
    CHECK(i < s->n_holdings);
    const struct holding *h = s->holding[i];
    return (struct cast_content_info){
        .content = h->content,
        .shard_bytes = h->shard_bytes,
        .n_shards = h->n_shards,
        .n_leaves = h->n_leaves,
        .n_have = h->n_have,
        .n_asked = h->n_asked,
        .file_bytes = h->file_bytes,
        .weights = h->weights,
        .base_root = h->base_root,
        .apply_root = h->apply_root,
        .is_complete = h->is_complete,
        .is_wanted = h->is_wanted,
        .is_pinned = h->is_pinned,
    };
}

struct cast_counters cast_state_counters(const struct cast_state *s)
{
    return s->counters;
}
