#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* ---- who has what ------------------------------------------------------------------------ */

void pull_learn_have(struct cast_state *s, uint32_t peer, const struct msg_have *m)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        if (!digest_equal(&v->weights, &m->weights))
            continue;
        v->knows[peer] = true;
        if (v->is_complete)
            continue;
        if (!v->theirs[peer] &&
            alloc_array(&v->theirs[peer], v->n_shards / 8 + 1, 1, "shard map", NULL))
            continue; /* out of memory: as if it had nothing */
        for (uint32_t k = 0; k < v->n_shards; k++) {
            bool has = k / 8 < m->bitmap.len && bit_get(m->bitmap.data, k);
            if (has && !bit_get(v->theirs[peer], k)) {
                bit_set(v->theirs[peer], k);
                v->copies[k]++;
            }
        }
    }
}

void pull_not_there(struct cast_state *s, uint32_t peer, const struct digest *shard)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        size_t first, n = version_places(v, shard, &first);
        for (size_t k = first; v->theirs[peer] && k < first + n; k++)
            if (bit_get(v->theirs[peer], v->order[k])) {
                bit_clear(v->theirs[peer], v->order[k]);
                v->copies[v->order[k]]--;
            }
    }
}

/* ---- asks -------------------------------------------------------------------------------- */

/* Two versions may share a shard: it is busy in both. */
static void set_busy(struct cast_state *s, const struct digest *shard, bool busy)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        size_t first, n = version_places(v, shard, &first);
        for (size_t k = first; k < first + n; k++) {
            uint32_t at = v->order[k];
            if (busy && !bit_get(v->busy, at)) {
                bit_set(v->busy, at);
                v->n_busy++;
            } else if (!busy && bit_get(v->busy, at)) {
                bit_clear(v->busy, at);
                v->n_busy--;
            }
        }
    }
}

static void close_ask(struct cast_state *s, struct ask *a)
{
    a->is_used = false;
    s->peer[a->peer].n_asked--;
    set_busy(s, &a->shard, false);
}

bool pull_answered(struct cast_state *s, uint32_t peer, const struct digest *shard,
                   int64_t *sent_ms)
{
    for (size_t i = 0; i < CAST_ASKS_MAX; i++) {
        struct ask *a = &s->ask[i];
        if (!a->is_used || a->peer != peer || !digest_equal(&a->shard, shard))
            continue;
        *sent_ms = a->sent_ms;
        close_ask(s, a);
        return true;
    }
    return false;
}

void pull_cancel_peer(struct cast_state *s, uint32_t peer)
{
    for (size_t i = 0; i < CAST_ASKS_MAX; i++)
        if (s->ask[i].is_used && s->ask[i].peer == peer)
            close_ask(s, &s->ask[i]);
}

/* A peer that lets a question time out gets longer for the next ones and is asked last; if there
 * are two links to it, the other one is tried. */
static void strike(struct peer *p)
{
    p->strikes++;
    p->timeout_ms = p->timeout_ms < TIMEOUT_MAX_MS / 2 ? 2 * p->timeout_ms : TIMEOUT_MAX_MS;
    if (p->via == p->inbound && p->dialled)
        p->via = p->dialled;
    else if (p->via == p->dialled && p->inbound)
        p->via = p->inbound;
}

void pull_timeouts(struct cast_state *s, int64_t now_ms)
{
    bool is_struck[CAST_PEERS_MAX] = {false};

    for (size_t i = 0; i < CAST_ASKS_MAX; i++) {
        struct ask *a = &s->ask[i];
        if (!a->is_used || a->sent_ms + s->peer[a->peer].timeout_ms > now_ms)
            continue;
        s->counters.timeouts++;
        is_struck[a->peer] = true;
        close_ask(s, a);
    }
    for (uint32_t i = 0; i < s->n_peers; i++)
        if (is_struck[i])
            strike(&s->peer[i]);
}

int64_t pull_deadline(const struct cast_state *s)
{
    int64_t first = NEVER_MS;

    for (size_t i = 0; i < CAST_ASKS_MAX; i++) {
        const struct ask *a = &s->ask[i];
        if (a->is_used && a->sent_ms + s->peer[a->peer].timeout_ms < first)
            first = a->sent_ms + s->peer[a->peer].timeout_ms;
    }
    return first;
}

/* ---- choosing ---------------------------------------------------------------------------- */

static uint8_t candidates(const struct version *v, uint32_t peer, size_t byte)
{
    return (uint8_t)(v->theirs[peer][byte] & ~v->have[byte] & ~v->busy[byte]);
}

/* The rarest missing shard that `peer` has, among the first SCAN_CANDIDATES after a random
 * place; n_shards if there is none. */
static uint32_t choose_shard(struct cast_state *s, const struct version *v, uint32_t peer)
{
    size_t n_bytes = v->n_shards / 8 + 1;
    size_t start = (size_t)rng_below(&s->rng, n_bytes);
    uint32_t best = v->n_shards, n_seen = 0;

    for (size_t i = 0; i < n_bytes && n_seen < SCAN_CANDIDATES; i++) {
        size_t byte = (start + i) % n_bytes;
        uint8_t c = candidates(v, peer, byte);
        uint32_t turn = c ? rng_u32(&s->rng) % 8 : 0;
        for (uint32_t b = 0; c && b < 8; b++) {
            uint32_t k = (uint32_t)byte * 8 + (b + turn) % 8;
            if (!((c >> (k % 8)) & 1))
                continue;
            n_seen++;
            if (best == v->n_shards || v->copies[k] < v->copies[best])
                best = k;
        }
    }
    return best;
}

static uint32_t load_of(const struct peer *p)
{
    return p->n_asked + 4 * p->strikes;
}

static bool can_ask(const struct peer *p)
{
    return peer_is_linked(p) && !p->is_banned && p->n_asked < (p->strikes ? 1 : CAST_WINDOW);
}

/* The least loaded peer with a shard that is missing here; equal ones by lot. */
static struct peer *choose_peer(struct cast_state *s, const struct version *v, uint32_t *shard)
{
    uint32_t offset = s->n_peers ? rng_u32(&s->rng) % s->n_peers : 0;
    struct peer *best = NULL;

    for (uint32_t i = 0; i < s->n_peers; i++) {
        uint32_t at = (i + offset) % s->n_peers;
        struct peer *p = &s->peer[at];
        if (!v->theirs[at] || !can_ask(p) || (best && load_of(p) >= load_of(best)))
            continue;
        uint32_t k = choose_shard(s, v, at);
        if (k == v->n_shards)
            continue;
        best = p;
        *shard = k;
    }
    return best;
}

static struct ask *free_ask(struct cast_state *s)
{
    for (size_t i = 0; i < CAST_ASKS_MAX; i++)
        if (!s->ask[i].is_used)
            return &s->ask[i];
    return NULL;
}

static void pull_version(struct cast_state *s, struct version *v, int64_t now_ms,
                         struct cast_out *out)
{
    while (v->n_have + v->n_busy < v->n_shards) {
        uint32_t k = 0;
        struct ask *a = free_ask(s);
        struct peer *p = a ? choose_peer(s, v, &k) : NULL;
        if (!p)
            return;
        *a = (struct ask){true, (uint32_t)(p - s->peer), v->shard[k], now_ms};
        p->n_asked++;
        set_busy(s, &a->shard, true);
        talk_ask_shard(s, p, &a->shard, out);
    }
}

void pull(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    if (now_ms < s->resume_ms)
        return;
    for (size_t i = s->n_versions; i-- > 0;)
        if (!s->version[i]->is_complete)
            pull_version(s, s->version[i], now_ms, out);
}
