#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/cast_graph.h"

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
    free(p->endpoint);
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

bool peer_link(struct cast_state *s, struct peer *p, uint64_t link, bool is_ours,
               int64_t now_ms, struct cast_out *out)
{
    bool is_new = is_ours ? p->dialled != link : p->inbound != link && p->dialled != link;

    (void)out;
    if (!slot_in(s, p))
        return false;
    if (is_ours)
        p->dialled = link;
    else if (link != p->dialled)
        p->inbound = link;
    if (!p->via)
        p->via = link;
    if (!is_new)
        return true;
    restart(s, p);
    p->is_heard = false;
    p->greet_ms = now_ms;
    p->greet_wait_ms = GREET_MIN_MS;
    due(s, now_ms);
    return true;
}

void peer_hang_up(struct cast_state *s, struct peer *p, int64_t now_ms, struct cast_out *out)
{
    (void)now_ms;
    if (!p->dialled)
        return;
    cast_out_add(out, CAST_HANG_UP, (struct bytes){0})->link = p->dialled;
    if (p->via == p->dialled)
        p->via = p->inbound;
    p->dialled = 0;
    if (p->via)
        restart(s, p);
    else
        unslot(s, p);
}

void peer_deactivate(struct cast_state *s, struct peer *p, int64_t now_ms, struct cast_out *out)
{
    peer_hang_up(s, p, now_ms, out);
    unslot(s, p);
    p->is_active = p->is_chosen = p->is_heard = false;
    p->via = p->inbound = p->dialled = 0;
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

/* ---- the roster -------------------------------------------------------------------------- */

static void dial(struct peer *p, struct cast_out *out)
{
    cast_out_add(out, CAST_DIAL, bytes_str(p->endpoint))->key = p->key;
}

static void apply_entry(struct cast_state *s, const struct roster_entry *n, bool is_chosen,
                        int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_find(s, &n->transport);

    if (!p && !n->is_revoked)
        p = peer_new(s, &n->transport);
    if (!p)
        return;
    if (n->is_revoked) {
        peer_deactivate(s, p, now_ms, out);
        return;
    }
    bool has_moved = !p->endpoint || strcmp(p->endpoint, n->endpoint) != 0;
    p->is_active = true;
    p->is_trainer = n->role == ROLE_TRAINER;
    if (has_moved) {
        free(p->endpoint);
        p->endpoint = xstrdup(n->endpoint);
    }
    if (p->dialled && (has_moved || !is_chosen))
        peer_hang_up(s, p, now_ms, out);
    p->is_chosen = is_chosen;
    if (is_chosen && !p->dialled)
        dial(p, out);
}

static bool is_listed(const struct msg_roster *r, const struct public_key *key)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (key_equal(&r->entry[i].transport, key))
            return true;
    return false;
}

void peer_roster(struct cast_state *s, const struct msg_roster *r, int64_t now_ms,
                 struct cast_out *out)
{
    size_t pick[CAST_DIAL_MAX + MSG_MAX_ROSTER];
    size_t n =
        cast_graph_choose(pick, CAST_DIAL_MAX + MSG_MAX_ROSTER, r, &s->opt.self, CAST_DIAL_MAX);

    for (uint32_t i = 0; i < s->n_peers; i++)
        if (s->peer[i]->is_active && !is_listed(r, &s->peer[i]->key))
            peer_deactivate(s, s->peer[i], now_ms, out);
    for (uint32_t i = 0; i < r->n; i++) {
        bool is_chosen = false;
        for (size_t k = 0; k < n; k++)
            is_chosen |= pick[k] == i;
        if (!key_equal(&r->entry[i].transport, &s->opt.self))
            apply_entry(s, &r->entry[i], is_chosen, now_ms, out);
    }
}
