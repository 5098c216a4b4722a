#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"

/* ---- out --------------------------------------------------------------------------------- */

/* Links are encrypted and authenticated; none of these kinds is signed. */
static void encode(const struct cast_state *s, struct buf *envelope, enum msg_kind kind,
                   const struct idem *idem, const struct buf *body)
{
    CHECK(!buf_status(body, NULL));
    CHECK(!msg_envelope_encode(envelope, kind, &s->run, idem, buf_bytes(body), NULL, NULL));
}

static void send(struct cast_state *s, const struct peer *p, enum msg_kind kind,
                 const struct idem *idem, const struct buf *body, struct cast_out *out)
{
    struct idem fresh;
    struct buf envelope;

    if (!p->via || !s->has_run)
        return;
    if (!idem) {
        /* Nobody matches these: an answer says itself what it answers. A function of the content,
         * so that what waits for a peer that is away is queued once, however often it is said. */
        struct digest d;
        struct digest_state hash;
        digest_begin(&hash, "muster/cast-idem");
        digest_add_u32(&hash, kind);
        digest_add(&hash, buf_bytes(body));
        digest_end(&hash, &d);
        memcpy(fresh.b, d.b, sizeof(fresh.b));
        idem = &fresh;
    }
    buf_init(&envelope, MSG_MAX_BYTES);
    encode(s, &envelope, kind, idem, body);
    cast_out_add(out, CAST_SEND, buf_bytes(&envelope))->link = p->via;
    buf_clear(&envelope);
}

#define SEND(s, p, KIND, idem, name, message, out)                                             \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        CHECK(!msg_##name##_encode(&body_, &(message), NULL));                                 \
        send(s, p, MSG_##KIND, idem, &body_, out);                                             \
        buf_clear(&body_);                                                                     \
    } while (0)

void talk_ask_manifest(struct cast_state *s, struct peer *p, int64_t version,
                       struct cast_out *out)
{
    struct msg_manifest_ask m = {.version = version};

    SEND(s, p, MANIFEST_ASK, NULL, manifest_ask, m, out);
}

static struct bytes envelope_of(const struct version *v)
{
    return (struct bytes){v->envelope, v->envelope_len};
}

void talk_head(struct cast_state *s, struct peer *p, struct version *v, struct cast_out *out)
{
    struct msg_head m = {.manifest = envelope_of(v)};

    SEND(s, p, HEAD, NULL, head, m, out);
}

void talk_ask_have(struct cast_state *s, struct peer *p, struct version *v,
                   struct cast_out *out)
{
    struct msg_have_ask m = {.weights = v->weights};

    SEND(s, p, HAVE_ASK, NULL, have_ask, m, out);
}

static struct bytes bitmap_of(const struct version *v)
{
    if (!v || v->n_have == 0)
        return (struct bytes){NULL, 0};
    return (struct bytes){v->have, (v->n_shards + 7) / 8};
}

void talk_have(struct cast_state *s, struct peer *p, const struct version *v,
               struct cast_out *out)
{
    struct msg_have m = {.weights = v->weights, .bitmap = bitmap_of(v)};

    SEND(s, p, HAVE, NULL, have, m, out);
}

void talk_ask_shard(struct cast_state *s, struct peer *p, const struct digest *shard,
                    struct cast_out *out)
{
    struct msg_shard_ask m = {.shard = *shard};

    SEND(s, p, SHARD_ASK, NULL, shard_ask, m, out);
}

void talk_flood(struct cast_state *s, struct version *v, const struct peer *from,
                struct cast_out *out)
{
    for (uint32_t i = 0; i < s->n_peers; i++) {
        struct peer *p = &s->peer[i];
        if (p == from || !peer_is_linked(p) || v->knows[i])
            continue;
        talk_head(s, p, v, out);
        if (v->n_have > 0)
            talk_have(s, p, v, out);
    }
}

void cast_state_shard(const struct cast_state *s, struct buf *envelope,
                      const struct digest *shard, const struct idem *idem, struct bytes data)
{
    struct msg_shard m = {.shard = *shard, .data = data};
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    CHECK(!msg_shard_encode(&body, &m, NULL));
    encode(s, envelope, MSG_SHARD, idem, &body);
    buf_clear(&body);
}

/* ---- in: questions ----------------------------------------------------------------------- */

static enum status on_manifest_ask(struct cast_state *s, struct peer *p,
                                   const struct msg_envelope *env, struct cast_out *out,
                                   struct err *e)
{
    struct msg_manifest_ask m;
    struct msg_manifest_reply answer = {0};
    struct version *v = NULL;
    enum status st = msg_manifest_ask_decode(&m, env->body, e);

    if (st)
        return st;
    if (m.version >= 0)
        v = version_find(s, m.version);
    else if (s->n_versions)
        v = s->version[s->n_versions - 1];
    answer.version = m.version;
    if (v)
        answer.manifest = envelope_of(v);
    SEND(s, p, MANIFEST, &env->idem, manifest_reply, answer, out);
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
    struct version *v = version_by_weights(s, &m.weights);
    struct msg_have answer = {.weights = m.weights, .bitmap = bitmap_of(v)};
    if (v) {
        v->knows[p - s->peer] = true;
        v->wants[p - s->peer] = !v->is_complete;
    }
    SEND(s, p, HAVE, &env->idem, have, answer, out);
    return OK;
}

static enum status on_shard_ask(struct cast_state *s, struct peer *p,
                                const struct msg_envelope *env, struct cast_out *out,
                                struct err *e)
{
    struct msg_shard_ask m;
    enum status st = msg_shard_ask_decode(&m, env->body, e);

    if (st)
        return st;
    if (version_is_here(s, &m.shard)) {
        struct cast_act *a = cast_out_add(out, CAST_SERVE, (struct bytes){0});
        a->link = p->via;
        a->digest = m.shard;
        a->idem = env->idem;
        return OK;
    }
    struct msg_shard answer = {.shard = m.shard};
    SEND(s, p, SHARD, &env->idem, shard, answer, out);
    return OK;
}

/* ---- in: answers and announcements ------------------------------------------------------- */

static enum status on_manifest_bytes(struct cast_state *s, struct peer *p,
                                     struct bytes envelope, int64_t now_ms,
                                     struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct version *v;
    bool is_new;
    enum status st;

    if (!s->has_trainer)
        return OK; /* whose signature counts is not known yet: it is asked for again */
    st = cast_manifest_check(envelope, &s->run, &s->trainer, &env, &m, e);
    if (!st)
        st = version_learn(s, envelope, &env, &m, &v, &is_new, out, e);
    if (st == ERR_FULL)
        return OK;
    if (st) {
        s->counters.refused_manifests++;
        return st;
    }
    v->knows[p - s->peer] = true;
    if (is_new) {
        gaps_restart(s, now_ms);
        talk_flood(s, v, p, out);
        version_trim(s, out);
        /* Trimming keeps the newest; an old one asked for may be gone again. */
        v = version_find(s, m.version);
    }
    if (v && !v->is_complete && is_new) {
        v->have_ask_ms = now_ms; /* everybody, at the end of this step */
    } else if (v && !v->is_complete && !v->theirs[p - s->peer]) {
        talk_ask_have(s, p, v, out);
    }
    return OK;
}

static enum status on_head(struct cast_state *s, struct peer *p, const struct msg_envelope *env,
                           int64_t now_ms, struct cast_out *out, struct err *e)
{
    struct msg_head m;
    enum status st = msg_head_decode(&m, env->body, e);

    return st ? st : on_manifest_bytes(s, p, m.manifest, now_ms, out, e);
}

static enum status on_manifest(struct cast_state *s, struct peer *p,
                               const struct msg_envelope *env, int64_t now_ms,
                               struct cast_out *out, struct err *e)
{
    struct msg_manifest_reply m;
    enum status st = msg_manifest_reply_decode(&m, env->body, e);

    if (!st && m.manifest.len > 0)
        st = on_manifest_bytes(s, p, m.manifest, now_ms, out, e);
    if (st || m.version >= 0 || !s->n_versions)
        return st;
    /* It told us its newest; if ours is newer, it wants to know. */
    struct version *v = s->version[s->n_versions - 1];
    if (!v->knows[p - s->peer]) {
        talk_head(s, p, v, out);
        v->knows[p - s->peer] = true;
        if (v->n_have > 0)
            talk_have(s, p, v, out);
    }
    return OK;
}

static enum status on_have(struct cast_state *s, struct peer *p, const struct msg_envelope *env,
                           struct err *e)
{
    struct msg_have m;
    enum status st = msg_have_decode(&m, env->body, e);

    if (st)
        return st;
    pull_learn_have(s, (uint32_t)(p - s->peer), &m);
    return OK;
}

static void learn_speed(struct peer *p, int64_t took_ms)
{
    int64_t sample = took_ms < 1 ? 1 : took_ms;

    p->answer_ms = p->answer_ms ? (int32_t)((3 * (int64_t)p->answer_ms + sample) / 4)
                                : (int32_t)(sample < TIMEOUT_MAX_MS ? sample : TIMEOUT_MAX_MS);
    int64_t timeout = TIMEOUT_MIN_MS + 4 * (int64_t)p->answer_ms;
    p->timeout_ms = (int32_t)(timeout < TIMEOUT_MAX_MS ? timeout : TIMEOUT_MAX_MS);
    p->strikes = 0;
}

static enum status on_shard(struct cast_state *s, struct peer *p,
                            const struct msg_envelope *env, int64_t now_ms,
                            struct cast_out *out, struct err *e)
{
    uint32_t peer = (uint32_t)(p - s->peer);
    struct msg_shard m;
    struct digest d;
    int64_t sent_ms = 0;
    enum status st = msg_shard_decode(&m, env->body, e);

    if (st)
        return st;
    if (pull_answered(s, peer, &m.shard, &sent_ms) && m.data.len > 0)
        learn_speed(p, now_ms - sent_ms);
    if (m.data.len == 0) {
        pull_not_there(s, peer, &m.shard);
        return OK;
    }
    if (!version_is_missing(s, &m.shard)) {
        s->counters.repeats++;
        return OK; /* late, or never asked for: not worth a hash */
    }
    digest_of(&d, m.data);
    if (!digest_equal(&d, &m.shard)) {
        s->counters.garbage++;
        p->is_banned = true;
        pull_cancel_peer(s, peer);
        version_forget_peer(s, peer);
        struct cast_act *a = cast_out_add(out, CAST_BANNED, (struct bytes){0});
        a->key = p->key;
        a->digest = m.shard;
        return OK;
    }
    struct cast_act *a = cast_out_add(out, CAST_STORE, m.data);
    a->digest = m.shard;
    s->counters.shards_in++;
    s->counters.bytes_in += m.data.len;
    version_gained(s, &m.shard, now_ms, out);
    version_trim(s, out);
    return OK;
}

void talk_message(struct cast_state *s, struct peer *p, struct bytes frame, int64_t now_ms,
                  struct cast_out *out)
{
    struct msg_envelope env;
    struct err e;
    enum status st = msg_envelope_decode(&env, frame, &e);

    if (!st && s->has_run && !digest_equal(&env.run, &s->run))
        st = ERR_DENIED;
    if (st) {
        s->counters.malformed++;
        return;
    }
    bool is_deaf = p->is_banned && (env.kind == MSG_SHARD || env.kind == MSG_HAVE);
    if (is_deaf)
        return;
    switch (env.kind) {
    case MSG_MANIFEST_ASK: st = on_manifest_ask(s, p, &env, out, &e); break;
    case MSG_HAVE_ASK: st = on_have_ask(s, p, &env, out, &e); break;
    case MSG_SHARD_ASK: st = on_shard_ask(s, p, &env, out, &e); break;
    case MSG_HEAD: st = on_head(s, p, &env, now_ms, out, &e); break;
    case MSG_MANIFEST: st = on_manifest(s, p, &env, now_ms, out, &e); break;
    case MSG_HAVE: st = on_have(s, p, &env, &e); break;
    case MSG_SHARD: st = on_shard(s, p, &env, now_ms, out, &e); break;
    default: st = ERR_MALFORMED; break;
    }
    if (st)
        s->counters.malformed++;
}
