#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* ---- out --------------------------------------------------------------------------------- */

void talk_raw(struct cast_state *s, struct peer *p, struct bytes frame, struct cast_out *out)
{
    if (p->link && s->has_run)
        cast_out_add(out, CAST_SEND, frame)->link = p->link;
}

/* Links are encrypted and authenticated; what goes through here is not signed. */
static void send(struct cast_state *s, struct peer *p, enum msg_kind kind, struct cast_out *out)
{
    CHECK(!buf_status(&s->body, NULL));
    buf_reset(&s->frame);
    CHECK(
        !msg_envelope_encode(&s->frame, kind, &s->run, NULL, buf_bytes(&s->body), NULL, NULL));
    talk_raw(s, p, buf_bytes(&s->frame), out);
}

#define SEND(s, p, KIND, name, message, out)                                                   \
    do {                                                                                       \
        buf_reset(&(s)->body);                                                                 \
        CHECK(!msg_##name##_encode(&(s)->body, &(message), NULL));                             \
        send(s, p, MSG_##KIND, out);                                                           \
    } while (0)

void talk_ask_head(struct cast_state *s, struct peer *p, struct cast_out *out)
{
    struct msg_head_ask m = {.made_ms = s->head_made_ms};

    SEND(s, p, HEAD_ASK, head_ask, m, out);
}

void talk_head(struct cast_state *s, struct peer *p, struct cast_out *out)
{
    talk_raw(s, p, (struct bytes){s->head, s->head_len}, out);
}

void talk_ask_manifest(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out)
{
    struct msg_manifest_ask m = {.content = *c};

    SEND(s, p, MANIFEST_ASK, manifest_ask, m, out);
}

void talk_ask_segments(struct cast_state *s, struct peer *p, const struct content *c,
                       uint32_t first, uint32_t n, struct cast_out *out)
{
    struct msg_segment_ask m = {.content = *c, .first = first, .n = n};

    SEND(s, p, SEGMENT_ASK, segment_ask, m, out);
}

void talk_ask_have(struct cast_state *s, struct peer *p, const struct holding *h,
                   int64_t now_ms, struct cast_out *out)
{
    struct msg_have_ask m = {.content = h->content};

    if (!p->pinged_ms)
        p->pinged_ms = now_ms;
    SEND(s, p, HAVE_ASK, have_ask, m, out);
}

void talk_have_nothing(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out)
{
    struct msg_have m = {.content = *c};

    SEND(s, p, HAVE, have, m, out);
}

void talk_have(struct cast_state *s, struct peer *p, struct holding *h, struct cast_out *out)
{
    struct msg_have m = {.content = h->content};
    struct buf shown;

    buf_init(&shown, MSG_MAX_SHARDS / 8);
    if (h->lend)
        lend_shown(h, p->slot, &shown);
    m.is_all = h->is_complete && !h->lend;
    if (h->lend)
        m.bitmap = buf_bytes(&shown);
    else if (!m.is_all && h->n_have > 0)
        m.bitmap = (struct bytes){h->have, (holding_limit(h) + 7) / 8};
    SEND(s, p, HAVE, have, m, out);
    buf_clear(&shown);
}

static struct bytes put_indices(uint8_t *at, const uint32_t *index, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t b = 0; b < 4; b++)
            at[4 * i + b] = (uint8_t)(index[i] >> (8 * b));
    return (struct bytes){at, (size_t)4 * n};
}

void talk_news(struct cast_state *s, struct peer *p, const struct holding *h,
               const uint32_t *index, uint32_t n, struct cast_out *out)
{
    uint8_t list[4 * MSG_MAX_INDICES];
    struct msg_have_news m = {.content = h->content, .indices = put_indices(list, index, n)};

    SEND(s, p, HAVE_NEWS, have_news, m, out);
}

void talk_ask_shards(struct cast_state *s, struct peer *p, const struct holding *h,
                     const uint32_t *index, uint32_t n, struct cast_out *out)
{
    uint8_t list[4 * MSG_MAX_ASKED];
    struct msg_shard_ask m = {
        .content = h->content, .n_have = h->n_have, .indices = put_indices(list, index, n)};

    SEND(s, p, SHARD_ASK, shard_ask, m, out);
}

void talk_cancel(struct cast_state *s, struct peer *p, const struct holding *h,
                 const uint32_t *index, uint32_t n, struct cast_out *out)
{
    uint8_t list[4 * MSG_MAX_INDICES];
    struct msg_cancel m = {.content = h->content, .indices = put_indices(list, index, n)};

    SEND(s, p, CANCEL, cancel, m, out);
}

void talk_choke(struct cast_state *s, struct peer *p, bool is_choked, struct cast_out *out)
{
    struct msg_choke m = {.is_choked = is_choked};

    SEND(s, p, CHOKE, choke, m, out);
}

void talk_no_shard(struct cast_state *s, struct peer *p, const struct content *c,
                   uint32_t index, struct cast_out *out)
{
    struct msg_shard m = {.content = *c, .index = index};

    SEND(s, p, SHARD, shard, m, out);
}

void talk_flood(struct cast_state *s, struct bytes frame, const struct peer *from,
                struct cast_out *out)
{
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (p != from)
            talk_raw(s, p, frame, out);
    }
}

void cast_state_shard(const struct cast_state *s, struct buf *envelope, const struct content *c,
                      uint32_t index, size_t n)
{
    const struct msg_shard m = {.content = *c, .index = index};

    msg_shard_begin(envelope, &s->run, &m, n);
}

void talk_freeze(struct cast_state *s, struct cast_out *out)
{
    if (s->is_frozen)
        return;
    s->is_fresh = false;
    s->is_frozen = true;
    cast_out_add(out, CAST_FRESH, (struct bytes){0})->is_fresh = false;
}

void talk_stop(struct cast_state *s, struct bytes first, struct bytes second,
               const struct content *about, struct cast_out *out)
{
    struct msg_proof m = {.first = first, .second = second};
    struct buf both;

    if (s->is_stopped)
        return;
    buf_reset(&s->body);
    buf_reset(&s->frame);
    CHECK(!msg_proof_encode(&s->body, &m, NULL));
    CHECK(!msg_envelope_encode(&s->frame, MSG_PROOF, &s->run, NULL, buf_bytes(&s->body), NULL,
                               NULL));
    s->proof = xmalloc(s->frame.len);
    s->proof_len = s->frame.len;
    memcpy(s->proof, s->frame.data, s->frame.len);
    talk_flood(s, buf_bytes(&s->frame), NULL, out);
    s->is_stopped = true;
    buf_init(&both, (size_t)2 * MSG_MAX_BYTES);
    buf_put_blob(&both, first);
    buf_put_blob(&both, second);
    cast_out_add(out, CAST_EQUIVOCATED, buf_bytes(&both))->content = *about;
    buf_clear(&both);
    talk_freeze(s, out);
}

/* ---- in: what the trainer signed --------------------------------------------------------- */

static enum status check_signature(const struct cast_state *s, const struct msg_envelope *env,
                                   struct err *e)
{
    if (!s->opt.verify)
        return msg_envelope_verify(env, e);
    return s->opt.verify(s->opt.arg, env) ? OK : err_set(e, ERR_DIGEST, "a forged signature");
}

/* Whose signature counts; NULL on what was on disk before a run was known. */
static const struct public_key *signer_of(const struct cast_state *s)
{
    return s->has_trainer ? &s->trainer : NULL;
}

static bool holds(const uint8_t *mine, size_t len, struct bytes other)
{
    return mine && len == other.len && memcmp(mine, other.data, len) == 0;
}

enum status talk_take_head(struct cast_state *s, const struct peer *from, struct bytes envelope,
                           int64_t now_ms, struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_head m;
    enum status st = signed_open(envelope, MSG_HEAD, &s->run, signer_of(s), &env, e);

    if (!st)
        st = msg_head_decode(&m, env.body, e);
    if (st || m.made_ms <= s->head_made_ms)
        return st;
    if ((int64_t)m.until_ms + SKEW_MS < s->opt.wall_ms + now_ms)
        return err_set(e, ERR_TIMEOUT, "the HEAD has expired");
    st = check_signature(s, &env, e);
    if (st)
        return st;
    free(s->head);
    s->head = xmalloc(envelope.len);
    s->head_len = envelope.len;
    memcpy(s->head, envelope.data, envelope.len);
    s->head_made_ms = m.made_ms;
    s->head_version = m.version;
    s->head_ms = now_ms;
    s->offer = xrealloc(s->offer, (m.n + 1) * sizeof(*s->offer));
    memcpy(s->offer, m.offer, m.n * sizeof(*s->offer));
    s->n_offers = m.n;
    talk_flood(s, envelope, from, out);
    gaps_restart(s, now_ms);
    if (!s->is_fresh) {
        s->is_fresh = true;
        cast_out_add(out, CAST_FRESH, (struct bytes){0})->is_fresh = true;
    }
    s->is_frozen = false;
    due(s, now_ms + CAST_FRESH_MS);
    return OK;
}

enum status talk_take_manifest(struct cast_state *s, const struct peer *from,
                               struct bytes envelope, bool is_own, int64_t now_ms,
                               struct cast_out *out, struct err *e)
{
    const struct digest *run = s->has_run ? &s->run : NULL;
    struct msg_envelope env;
    struct msg_manifest m;
    struct holding *h;
    struct bytes other = {0};
    bool is_new;
    enum status st = signed_open(envelope, MSG_PUBLISH, run, signer_of(s), &env, e);

    if (!st)
        st = msg_manifest_decode(&m, env.body, e);
    if (st)
        return st;
    h = holding_find(s, &m.content);
    if (h && holds(h->envelope, h->envelope_len, envelope))
        return OK;
    st = content_manifest_check(&m, e);
    if (!st)
        st = check_signature(s, &env, e);
    if (!st)
        st = holding_manifest(s, &env, &m, &h, &is_new, &other, out, e);
    if (st == ERR_EXISTS && !is_own && s->has_trainer)
        talk_stop(s, other, envelope, &m.content, out);
    if (st || !is_new)
        return st;
    if (s->has_run)
        talk_flood(s, envelope, from, out);
    gaps_restart(s, now_ms);
    holding_settle(s, h, now_ms, out);
    holding_trim(s, now_ms, out);
    return OK;
}

enum status talk_take_segment(struct cast_state *s, const struct peer *from,
                              struct bytes envelope, bool is_own, int64_t now_ms,
                              struct cast_out *out, struct err *e)
{
    const struct digest *run = s->has_run ? &s->run : NULL;
    struct msg_envelope env;
    struct msg_segment m;
    struct holding *h;
    struct bytes other = {0};
    bool is_new;
    enum status st = signed_open(envelope, MSG_SEGMENT, run, signer_of(s), &env, e);

    if (!st)
        st = msg_segment_decode(&m, env.body, e);
    if (st)
        return st;
    h = holding_find(s, &m.content);
    if (h && m.number < h->n_segments &&
        holds(h->segment[m.number].envelope, h->segment[m.number].len, envelope))
        return OK;
    st = segment_numbers(&m, e);
    if (!st)
        st = check_signature(s, &env, e);
    if (!st)
        st = holding_segment(s, &env, &m, &h, &is_new, &other, out, e);
    if (st == ERR_EXISTS && !is_own && s->has_trainer)
        talk_stop(s, other, envelope, &m.content, out);
    if (st || !is_new)
        return st;
    if (s->has_run)
        talk_flood(s, envelope, from, out);
    if (h->n_shards && h->n_leaves < h->n_shards)
        gaps_restart(s, now_ms);
    holding_settle(s, h, now_ms, out);
    return OK;
}

/* Links are authenticated, and what others signed is checked before it is passed on. So who passes
 * on a signature that does not fit made it, or checks nothing; whoever names another signer, run or
 * time may only know less than we. */
static void refuse(struct cast_state *s, struct peer *p, enum status why, int64_t now_ms,
                   struct cast_out *out)
{
    s->counters.refused++;
    if (why == ERR_DIGEST)
        peer_ban(s, p, NULL, 0, "forged", now_ms, out);
    p->refused++;
    if (p->refused & (p->refused - 1))
        return;
    struct cast_act *a = cast_out_add(out, CAST_REFUSED, (struct bytes){0});
    a->key = p->key;
    a->index = p->refused;
    a->why = why == ERR_TIMEOUT ? "it is over: the trainer's clock or this machine's is wrong"
                                : status_text(why);
}

static enum status on_signed(struct cast_state *s, struct peer *p,
                             const struct msg_envelope *env, int64_t now_ms,
                             struct cast_out *out, struct err *e)
{
    enum status st;

    if (!s->has_trainer)
        return OK; /* whose signature counts is not known yet: it is asked for again */
    if (env->kind == MSG_HEAD)
        st = talk_take_head(s, p, env->raw, now_ms, out, e);
    else if (env->kind == MSG_PUBLISH)
        st = talk_take_manifest(s, p, env->raw, false, now_ms, out, e);
    else
        st = talk_take_segment(s, p, env->raw, false, now_ms, out, e);
    if (st && st != ERR_FULL && !s->is_stopped)
        refuse(s, p, st, now_ms, out);
    return OK;
}

static enum status on_proof(struct cast_state *s, struct peer *p,
                            const struct msg_envelope *env, int64_t now_ms,
                            struct cast_out *out, struct err *e)
{
    struct msg_proof m;
    struct content about;
    enum status st = msg_proof_decode(&m, env->body, e);

    if (st || !s->has_trainer)
        return st;
    st = cast_proof_check(m.first, m.second, &s->run, &s->trainer, &about, e);
    if (st)
        refuse(s, p, st, now_ms, out);
    else
        talk_stop(s, m.first, m.second, &about, out);
    return OK;
}

/* ---- in: questions ----------------------------------------------------------------------- */

static enum status on_head_ask(struct cast_state *s, struct peer *p,
                               const struct msg_envelope *env, struct cast_out *out,
                               struct err *e)
{
    struct msg_head_ask m;
    enum status st = msg_head_ask_decode(&m, env->body, e);

    if (st)
        return st;
    if (s->is_stopped)
        talk_raw(s, p, (struct bytes){s->proof, s->proof_len}, out);
    else if (s->head && s->head_made_ms > m.made_ms)
        talk_head(s, p, out);
    else if (s->head_made_ms < m.made_ms)
        talk_ask_head(s, p, out);
    else
        talk_choke(s, p, p->is_choked, out); /* so that it hears something */
    return OK;
}

static enum status on_manifest_ask(struct cast_state *s, struct peer *p,
                                   const struct msg_envelope *env, struct cast_out *out,
                                   struct err *e)
{
    struct msg_manifest_ask m;
    enum status st = msg_manifest_ask_decode(&m, env->body, e);

    if (st)
        return st;
    const struct holding *h = holding_find(s, &m.content);
    if (h && h->envelope)
        talk_raw(s, p, (struct bytes){h->envelope, h->envelope_len}, out);
    return OK;
}

static enum status on_segment_ask(struct cast_state *s, struct peer *p,
                                  const struct msg_envelope *env, struct cast_out *out,
                                  struct err *e)
{
    struct msg_segment_ask m;
    enum status st = msg_segment_ask_decode(&m, env->body, e);

    if (st)
        return st;
    const struct holding *h = holding_find(s, &m.content);
    for (uint32_t i = 0; h && i < m.n && i < SEGMENTS_ASKED; i++) {
        if (m.first >= h->n_segments || i >= h->n_segments - m.first)
            break;
        const struct segment *g = &h->segment[m.first + i];
        if (g->envelope)
            talk_raw(s, p, (struct bytes){g->envelope, g->len}, out);
    }
    return OK;
}

static enum status on_have_ask(struct cast_state *s, struct peer *p,
                               const struct msg_envelope *env, struct cast_out *out,
                               struct err *e)
{
    struct msg_have_ask m;
    enum status st = msg_have_ask_decode(&m, env->body, e);

    if (st)
        return st;
    struct holding *h = holding_find(s, &m.content);
    if (h)
        talk_have(s, p, h, out);
    else
        talk_have_nothing(s, p, &m.content, out);
    return OK;
}

static enum status on_shard_ask(struct cast_state *s, struct peer *p,
                                const struct msg_envelope *env, int64_t now_ms,
                                struct cast_out *out, struct err *e)
{
    struct msg_shard_ask m;
    enum status st = msg_shard_ask_decode(&m, env->body, e);

    if (st)
        return st;
    struct holding *h = holding_find(s, &m.content);
    if (h)
        serve_wanted(s, p, h, &m, now_ms, out);
    else
        talk_have_nothing(s, p, &m.content, out);
    return OK;
}

static enum status on_cancel(struct cast_state *s, struct peer *p,
                             const struct msg_envelope *env, struct err *e)
{
    struct msg_cancel m;
    enum status st = msg_cancel_decode(&m, env->body, e);
    const struct holding *h = st ? NULL : holding_find(s, &m.content);

    if (h)
        serve_cancelled(p, h, m.indices);
    return st;
}

/* ---- in: what neighbours say ------------------------------------------------------------- */

static enum status on_have(struct cast_state *s, struct peer *p, const struct msg_envelope *env,
                           int64_t now_ms, struct cast_out *out, struct err *e)
{
    struct msg_have m;
    enum status st = msg_have_decode(&m, env->body, e);
    struct holding *h = st ? NULL : holding_find(s, &m.content);

    if (h)
        pull_learn_have(s, p, h, &m, now_ms, out);
    return st;
}

static enum status on_have_news(struct cast_state *s, struct peer *p,
                                const struct msg_envelope *env, int64_t now_ms, struct err *e)
{
    struct msg_have_news m;
    enum status st = msg_have_news_decode(&m, env->body, e);
    struct holding *h = st ? NULL : holding_find(s, &m.content);

    if (h)
        pull_learn_news(s, p, h, m.indices, now_ms);
    return st;
}

static enum status on_choke(struct cast_state *s, struct peer *p,
                            const struct msg_envelope *env, int64_t now_ms, struct err *e)
{
    struct msg_choke m;
    enum status st = msg_choke_decode(&m, env->body, e);

    if (st)
        return st;
    if (!m.is_choked && p->is_choking)
        s->stirred |= slot_bit(p);
    p->is_choking = m.is_choked;
    if (m.is_choked) {
        p->choking_ms = now_ms + CHOKED_MS;
        due(s, p->choking_ms);
        pull_drop_peer(s, p);
    }
    return OK;
}

static bool is_good(const struct cast_state *s, const struct holding *h, uint32_t index,
                    struct bytes data)
{
    const struct digest *leaf = holding_leaf(h, index);
    struct digest found;

    if (!leaf)
        return false;
    if (s->opt.check)
        return s->opt.check(s->opt.arg, &h->content, index, leaf, data);
    content_leaf(&found, index, data);
    return digest_equal(&found, leaf);
}

static void on_no_shard(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                        bool was_asked, int64_t now_ms, struct cast_out *out)
{
    if (!h->pick || index >= h->cap)
        return;
    pick_unlearn(h->pick, &s->rng, p->slot, index);
    pull_stir(s);
    if (!was_asked)
        return;
    s->counters.lies++;
    if (++p->lies >= LIES_MAX)
        peer_ban(s, p, h, index, "lies", now_ms, out);
}

/* A shard that fits its leaf. */
static void take_shard(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                       struct bytes data, int64_t now_ms, struct cast_out *out)
{
    uint32_t bytes = holding_length(h, index);
    struct cast_act *a = cast_out_add(out, CAST_STORE, (struct bytes){0});

    a->value = data;
    a->content = h->content;
    a->index = index;
    a->shard_bytes = h->shard_bytes;
    a->bytes = bytes;
    s->counters.shards_in++;
    s->counters.bytes_in += bytes;
    p->has_given = true;
    serve_given(p, bytes);
    pull_cancel_others(s, h, index, p, out);
    holding_gained(s, h, index, now_ms, out);
    holding_settle(s, h, now_ms, out);
    if (h->is_complete)
        holding_trim(s, now_ms, out);
}

static enum status on_shard(struct cast_state *s, struct peer *p,
                            const struct msg_envelope *env, int64_t now_ms,
                            struct cast_out *out, struct err *e)
{
    struct msg_shard m;
    enum status st = msg_shard_decode(&m, env->body, e);
    struct holding *h = st ? NULL : holding_find(s, &m.content);

    if (st || !h)
        return st;
    bool was_asked = pull_answered(s, p, h, m.index, now_ms);
    if (m.data.len == 0) {
        on_no_shard(s, p, h, m.index, was_asked, now_ms, out);
        return OK;
    }
    if (!holding_leaf(h, m.index))
        return OK;
    if (bit_get(h->have, m.index) || h->is_own) {
        s->counters.repeats++;
        return OK; /* late, or never asked for: not worth a hash */
    }
    if (!is_good(s, h, m.index, m.data)) {
        s->counters.garbage++;
        peer_ban(s, p, h, m.index, "digest", now_ms, out);
        return OK;
    }
    take_shard(s, p, h, m.index, m.data, now_ms, out);
    return OK;
}

/* It was on its way when its sender was banned: not looked at, and as much for nothing. */
static bool is_late_shard(const struct msg_envelope *env)
{
    struct msg_shard m;

    return env->kind == MSG_SHARD && !msg_shard_decode(&m, env->body, NULL) && m.data.len > 0;
}

static bool is_believed(enum msg_kind kind)
{
    return kind != MSG_SHARD && kind != MSG_HAVE && kind != MSG_HAVE_NEWS;
}

static enum status hear(struct cast_state *s, struct peer *p, const struct msg_envelope *env,
                        int64_t now_ms, struct cast_out *out, struct err *e)
{
    switch (env->kind) {
    case MSG_HEAD_ASK: return on_head_ask(s, p, env, out, e);
    case MSG_MANIFEST_ASK: return on_manifest_ask(s, p, env, out, e);
    case MSG_SEGMENT_ASK: return on_segment_ask(s, p, env, out, e);
    case MSG_HAVE_ASK: return on_have_ask(s, p, env, out, e);
    case MSG_SHARD_ASK: return on_shard_ask(s, p, env, now_ms, out, e);
    case MSG_CANCEL: return on_cancel(s, p, env, e);
    case MSG_CHOKE: return on_choke(s, p, env, now_ms, e);
    case MSG_HAVE: return on_have(s, p, env, now_ms, out, e);
    case MSG_HAVE_NEWS: return on_have_news(s, p, env, now_ms, e);
    case MSG_SHARD: return on_shard(s, p, env, now_ms, out, e);
    case MSG_PROOF: return on_proof(s, p, env, now_ms, out, e);
    case MSG_HEAD:
    case MSG_PUBLISH:
    case MSG_SEGMENT: return on_signed(s, p, env, now_ms, out, e);
    default: return ERR_MALFORMED;
    }
}

void talk_message(struct cast_state *s, struct peer *p, struct bytes frame, int64_t now_ms,
                  struct cast_out *out)
{
    struct msg_envelope env;
    struct err e;
    enum status st = msg_envelope_decode(&env, frame, &e);

    if (!st && s->has_run && !digest_equal(&env.run, &s->run))
        st = ERR_DENIED;
    if (!st && s->is_stopped && env.kind != MSG_HEAD_ASK)
        return;
    if (!st && p->is_banned && !is_believed(env.kind)) {
        s->counters.garbage += is_late_shard(&env);
        return;
    }
    if (!st)
        st = hear(s, p, &env, now_ms, out, &e);
    if (st)
        s->counters.malformed++;
}
