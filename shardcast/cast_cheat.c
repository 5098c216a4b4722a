/*
 * shardcast/cast_cheat.c - a node that lies to its neighbours, for measurements of what they do
 *
 * The machine stays an honest one: what it wants to send is changed on the way out.
 */
#include "shardcast/cast_shell.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define HOUR_MS 3600000u

struct cheat {
    enum cast_cheat kind;
    struct public_key victim;
    struct buf head; /* owned: the newest HEAD when it began */
};

void cast_cheat(struct cast *c, enum cast_cheat kind, const struct public_key *victim)
{
    cheat_end(c);
    if (kind == CAST_CHEAT_NONE)
        return;
    c->cheat = xcalloc(1, sizeof(*c->cheat));
    c->cheat->kind = kind;
    if (victim)
        c->cheat->victim = *victim;
    buf_init(&c->cheat->head, MSG_MAX_BYTES);
    buf_append(&c->cheat->head, cast_state_newest_head(c->state));
}

void cheat_end(struct cast *c)
{
    if (c->cheat)
        buf_clear(&c->cheat->head);
    free(c->cheat);
    c->cheat = NULL;
}

/* ---- what was never signed --------------------------------------------------------------- */

/* Like the real one, and worth more, if it only counted. False: nothing that is signed. */
static bool change_body(struct buf *body, const struct msg_envelope *env)
{
    uint8_t leaves[MSG_MAX_LEAVES * DIGEST_BYTES];
    struct msg_manifest manifest;
    struct msg_segment segment;
    struct msg_head head;

    if (env->kind == MSG_HEAD && !msg_head_decode(&head, env->body, NULL)) {
        head.made_ms += HOUR_MS;
        head.until_ms += HOUR_MS;
        head.version++;
        return !msg_head_encode(body, &head, NULL);
    }
    if (env->kind == MSG_PUBLISH && !msg_manifest_decode(&manifest, env->body, NULL)) {
        manifest.weights.b[0] ^= 1;
        return !msg_manifest_encode(body, &manifest, NULL);
    }
    if (env->kind == MSG_SEGMENT && !msg_segment_decode(&segment, env->body, NULL) &&
        segment.leaves.len <= sizeof(leaves)) {
        memcpy(leaves, segment.leaves.data, segment.leaves.len);
        leaves[0] ^= 1;
        segment.leaves.data = leaves;
        return !msg_segment_encode(body, &segment, NULL);
    }
    return false;
}

/* The changed body under this node's own signature. */
static bool sign_changed(const struct cast *c, struct buf *frame,
                         const struct msg_envelope *env)
{
    struct buf body;
    bool is;

    buf_init(&body, MSG_MAX_BYTES);
    is = change_body(&body, env) &&
         !msg_envelope_encode(frame, env->kind, &c->run, &env->idem, buf_bytes(&body),
                              c->key->node_secret, NULL);
    buf_clear(&body);
    return is;
}

/* Whoever signed it, the trainer is said to have. */
static void claim_signer(struct buf *frame, const struct public_key *own,
                         const struct public_key *trainer)
{
    for (size_t i = 0; i + KEY_BYTES <= frame->len; i++)
        if (!memcmp(frame->data + i, own->b, KEY_BYTES))
            memcpy(frame->data + i, trainer->b, KEY_BYTES);
}

static void send_false_proof(struct cast *c, uint64_t link, struct bytes real,
                             struct bytes forged, struct effects *out)
{
    const struct msg_proof m = {.first = real, .second = forged};
    struct buf body, frame;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&frame, MSG_MAX_BYTES);
    if (!msg_proof_encode(&body, &m, NULL) &&
        !msg_envelope_encode(&frame, MSG_PROOF, &c->run, NULL, buf_bytes(&body), NULL, NULL))
        effects_send(out, link, buf_bytes(&frame));
    buf_clear(&body);
    buf_clear(&frame);
}

static bool forge(struct cast *c, uint64_t link, const struct msg_envelope *env,
                  struct effects *out)
{
    struct buf frame;
    bool is;

    buf_init(&frame, MSG_MAX_BYTES);
    is = sign_changed(c, &frame, env);
    if (is) {
        effects_send(out, link, buf_bytes(&frame));
        claim_signer(&frame, &c->key->node, &env->signer);
        effects_send(out, link, buf_bytes(&frame));
        if (env->kind == MSG_PUBLISH)
            send_false_proof(c, link, env->raw, buf_bytes(&frame), out);
    }
    buf_clear(&frame);
    return is;
}

/* ---- what was signed, and is not true ---------------------------------------------------- */

static const struct lane *lane_of(const struct cast *c, uint64_t link)
{
    for (size_t i = 0; i < c->lanes.n; i++)
        if (c->lanes.v[i].control == link)
            return &c->lanes.v[i];
    return NULL;
}

/* Every other neighbour is given another manifest, as well signed as the first. */
static bool equivocate(struct cast *c, uint64_t link, const struct msg_envelope *env,
                       struct effects *out)
{
    const struct lane *at = lane_of(c, link);
    bool is = env->kind == MSG_PUBLISH && at && (at - c->lanes.v) % 2;
    struct buf frame;

    if (!is)
        return false;
    buf_init(&frame, MSG_MAX_BYTES);
    is = sign_changed(c, &frame, env);
    if (is)
        effects_send(out, link, buf_bytes(&frame));
    buf_clear(&frame);
    return is;
}

/* Only old HEADs, and nothing that the trainer signed since. */
static bool hold_back(struct cast *c, uint64_t link, const struct msg_envelope *env,
                      struct effects *out)
{
    if (env->kind == MSG_HEAD && c->cheat->head.len)
        effects_send(out, link, buf_bytes(&c->cheat->head));
    return env->kind == MSG_HEAD || env->kind == MSG_PUBLISH || env->kind == MSG_SEGMENT ||
           env->kind == MSG_PROOF;
}

/* ---- what is not signed ------------------------------------------------------------------ */

static bool claim_all(struct cast *c, uint64_t link, const struct msg_envelope *env,
                      struct effects *out)
{
    struct msg_have have = {0};
    struct msg_have_news news;
    struct buf body, frame;
    bool is = false;

    if (env->kind == MSG_HAVE)
        is = !msg_have_decode(&have, env->body, NULL);
    else if (env->kind == MSG_HAVE_NEWS && !msg_have_news_decode(&news, env->body, NULL)) {
        have.content = news.content;
        is = true;
    }
    if (!is)
        return false;
    have.is_all = true;
    have.bitmap = (struct bytes){NULL, 0};
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&frame, MSG_MAX_BYTES);
    if (!msg_have_encode(&body, &have, NULL) &&
        !msg_envelope_encode(&frame, MSG_HAVE, &c->run, NULL, buf_bytes(&body), NULL, NULL))
        effects_send(out, link, buf_bytes(&frame));
    buf_clear(&body);
    buf_clear(&frame);
    return true;
}

/* The shard of the newest version before that is here, under the name of this one. */
static bool make_stale(struct cast *c, const struct content *content, uint32_t index,
                       struct buf *frame)
{
    struct content_info info = {0};
    struct content old = content_full(content->version - 1);
    struct buf shard;
    bool is;

    while (old.version >= 0 &&
           (content_store_info(c->store, &old, &info, NULL) || !info.is_complete))
        old.version--;
    if (old.version < 0)
        return false;
    buf_init(&shard, SHARD_BYTES);
    is = !content_store_get(c->store, &old, index % info.n_shards, &shard, NULL);
    if (is) {
        buf_reset(frame);
        cast_state_shard(c->state, frame, content, index, shard.len);
        buf_append(frame, buf_bytes(&shard));
    }
    buf_clear(&shard);
    return is;
}

/* The machine says that a shard is not here. */
static bool answer_stale(struct cast *c, uint64_t link, const struct msg_envelope *env,
                         struct effects *out)
{
    struct msg_shard m;
    struct buf frame;
    bool is = env->kind == MSG_SHARD && !msg_shard_decode(&m, env->body, NULL);

    if (!is)
        return false;
    buf_init(&frame, MSG_MAX_BYTES);
    is = make_stale(c, &m.content, m.index, &frame);
    if (is)
        effects_send(out, link, buf_bytes(&frame));
    buf_clear(&frame);
    return is;
}

/* ---- on the way out ---------------------------------------------------------------------- */

bool cheat_send(struct cast *c, uint64_t link, struct bytes frame, struct effects *out)
{
    const struct lane *at = lane_of(c, link);
    struct msg_envelope env;

    if (msg_envelope_decode(&env, frame, NULL))
        return false;
    switch (c->cheat->kind) {
    case CAST_CHEAT_NONE:
    case CAST_CHEAT_GARBAGE: return false;
    case CAST_CHEAT_FORGE: return forge(c, link, &env, out);
    case CAST_CHEAT_STALE:
        return hold_back(c, link, &env, out) || claim_all(c, link, &env, out) ||
               answer_stale(c, link, &env, out);
    case CAST_CHEAT_EQUIVOCATE: return equivocate(c, link, &env, out);
    case CAST_CHEAT_FREEZE:
        return at && key_equal(&at->key, &c->cheat->victim) && hold_back(c, link, &env, out);
    case CAST_CHEAT_EMPTY: return claim_all(c, link, &env, out);
    case CAST_CHEAT_SILENT: return env.kind == MSG_SHARD || claim_all(c, link, &env, out);
    }
    return false;
}

bool cheat_serve(struct cast *c, const struct cast_act *a, struct cast_pending *p)
{
    if (c->cheat->kind == CAST_CHEAT_GARBAGE && p->bytes)
        p->frame.data[p->frame.len - 1 - p->bytes / 2] ^= 1;
    if (c->cheat->kind == CAST_CHEAT_STALE)
        (void)make_stale(c, &a->content, a->index, &p->frame);
    if (c->cheat->kind == CAST_CHEAT_EMPTY) {
        buf_reset(&p->frame);
        cast_state_shard(c->state, &p->frame, &a->content, a->index, 0);
    }
    return c->cheat->kind != CAST_CHEAT_SILENT;
}
