#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

bool peer_is_linked(const struct peer *p)
{
    return p->slot < CAST_LINKS_MAX;
}

static uint64_t tag_of(const struct public_key *key)
{
    uint64_t tag;

    memcpy(&tag, key->b, sizeof(tag));
    return tag;
}

struct peer *peer_find(struct cast_state *s, const struct public_key *key)
{
    uint64_t tag = tag_of(key);

    for (uint32_t i = 0; i < s->n_peers; i++)
        if (s->tag[i] == tag && key_equal(&s->peer[i]->key, key))
            return s->peer[i];
    return NULL;
}

struct peer *peer_in_turn(struct cast_state *s, bool trainer_first)
{
    for (uint64_t all = trainer_first ? s->linked_mask : 0; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (p->is_trainer)
            return p;
    }
    for (uint32_t i = 0; i < CAST_LINKS_MAX && s->linked_mask; i++) {
        struct peer *p = s->slot[s->turn++ % CAST_LINKS_MAX];
        if (p)
            return p;
    }
    return NULL;
}

void peer_free(struct peer *p)
{
    if (!p)
        return;
    free(p->ask);
    free(p->want);
    free(p);
}

/* A slot for a key that is new: a free one, or one of those that left. */
struct peer *peer_new(struct cast_state *s, const struct public_key *key)
{
    uint32_t at = s->n_peers;

    if (s->n_peers == CAST_PEERS_MAX) {
        for (at = 0; at < s->n_peers; at++)
            if (!s->peer[at]->is_active && !s->peer[at]->is_banned)
                break;
        if (at == s->n_peers)
            return NULL;
        peer_free(s->peer[at]);
    } else {
        uint32_t cap = s->cap_peers;
        s->peer = grow(s->peer, &cap, s->n_peers + 1, sizeof(struct peer *));
        s->tag = grow(s->tag, &s->cap_peers, s->n_peers + 1, sizeof(*s->tag));
        s->n_peers++;
    }
    struct peer *p = xcalloc(1, sizeof(*p));
    p->key = *key;
    p->slot = CAST_LINKS_MAX;
    p->ceiling = WINDOW_MAX;
    s->peer[at] = p;
    s->tag[at] = tag_of(key);
    return p;
}

/* ---- links ------------------------------------------------------------------------------- */

/* What was under way on a link is not any more. */
static void restart(struct cast_state *s, struct peer *p)
{
    pull_drop_peer(s, p);
    serve_forget_peer(s, p);
    p->is_choking = false;
    p->pinged_ms = 0;
    p->ceiling = WINDOW_MAX;
    p->strikes = 0;
    p->mute_ms = 0;
}

static void unslot(struct cast_state *s, struct peer *p)
{
    if (!peer_is_linked(p))
        return;
    restart(s, p);
    pull_forget_peer(s, p);
    s->linked_mask &= ~slot_bit(p);
    s->slot[p->slot] = NULL;
    p->slot = CAST_LINKS_MAX;
}

static bool slot_in(struct cast_state *s, struct peer *p)
{
    uint64_t free_mask = ~s->linked_mask;

    if (peer_is_linked(p))
        return true;
    if (!free_mask)
        return false;
    p->slot = (uint8_t)mask_take(&free_mask);
    p->slot_spans = 0;
    s->slot[p->slot] = p;
    s->linked_mask |= slot_bit(p);
    for (size_t i = 0; i < s->n_holdings; i++)
        s->holding[i]->withdrew_mask &= ~slot_bit(p);
    return true;
}

bool peer_link(struct cast_state *s, struct peer *p, uint64_t link, int64_t now_ms)
{
    if (!slot_in(s, p))
        return false;
    if (p->link == link)
        return true;
    p->link = link;
    restart(s, p);
    p->is_heard = false;
    p->greet_ms = now_ms;
    p->greet_wait_ms = GREET_MIN_MS;
    due(s, now_ms);
    return true;
}

void peer_deactivate(struct cast_state *s, struct peer *p)
{
    unslot(s, p);
    p->is_active = p->is_heard = false;
    p->link = 0;
}

void peer_ban(struct cast_state *s, struct peer *p, const struct holding *h, uint32_t index,
              const char *why, int64_t now_ms, struct cast_out *out)
{
    (void)now_ms;
    if (p->is_banned)
        return;
    p->is_banned = true;
    pull_forget_peer(s, p);
    struct cast_act *a = cast_out_add(out, CAST_BANNED, (struct bytes){0});
    a->key = p->key;
    a->content = h ? h->content : content_full(-1);
    a->index = index;
    a->why = why;
}
