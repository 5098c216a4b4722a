#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* ---- what others want -------------------------------------------------------------------- */

static struct want *want_at(const struct peer *p, uint32_t i)
{
    return &p->want[(p->want_first + i) % p->cap_wants];
}

static bool is_wanted(const struct peer *p, const struct holding *h, uint32_t index)
{
    for (uint32_t i = 0; i < p->n_wants; i++)
        if (want_at(p, i)->h == h && want_at(p, i)->index == index)
            return true;
    return false;
}

static void push_want(struct peer *p, struct holding *h, uint32_t index)
{
    const uint32_t most = 2 * WINDOW_MAX;

    if (!p->want) {
        p->want = xcalloc(most, sizeof(*p->want));
        p->cap_wants = most;
    }
    if (p->n_wants == most || is_wanted(p, h, index))
        return; /* it asks for more than is allowed: as if it were lost */
    *want_at(p, p->n_wants++) = (struct want){h, index};
}

/* Keeps those that `keeps` says; order stays. */
static void drop_wants(struct peer *p, const struct holding *h, const uint32_t *index)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->n_wants; i++) {
        struct want w = *want_at(p, i);
        if (w.h != h || (index && w.index != *index))
            *want_at(p, n++) = w;
    }
    p->n_wants = n;
}

void serve_cancelled(struct peer *p, const struct holding *h, struct bytes indices)
{
    struct reader r = reader_of(indices);

    if (indices.len == 0)
        drop_wants(p, h, NULL);
    for (size_t i = 0; i < indices.len / 4; i++) {
        uint32_t index = reader_u32(&r);
        drop_wants(p, h, &index);
    }
}

void serve_drop_holding(struct cast_state *s, const struct holding *h)
{
    for (uint64_t all = s->linked_mask; all;)
        drop_wants(s->slot[mask_take(&all)], h, NULL);
}

void serve_given(struct peer *p, uint64_t bytes)
{
    p->given += bytes;
}

/* ---- who is served ----------------------------------------------------------------------- */

static uint32_t count_served(const struct cast_state *s)
{
    uint32_t n = 0;

    for (uint64_t all = s->linked_mask; all;)
        n += s->slot[mask_take(&all)]->is_served;
    return n;
}

static void admit(struct cast_state *s, struct peer *p)
{
    p->is_served = true;
    if (p->turn < s->serve_turn)
        p->turn = s->serve_turn;
}

static void choke(struct cast_state *s, struct peer *p, struct cast_out *out)
{
    p->is_served = false;
    p->is_choked = true;
    p->n_wants = 0;
    if (p->n_serving)
        p->is_telling = true;
    else
        talk_choke(s, p, true, out);
}

void serve_wanted(struct cast_state *s, struct peer *p, struct holding *h,
                  const struct msg_shard_ask *m, int64_t now_ms, struct cast_out *out)
{
    struct reader r = reader_of(m->indices);

    p->wanted_ms = now_ms;
    p->n_have = m->n_have;
    if (!p->is_served) {
        if (!p->is_choked && count_served(s) < s->slots) {
            admit(s, p);
        } else {
            if (!p->is_telling)
                choke(s, p, out);
            due(s, s->choke_ms);
            return;
        }
    }
    for (size_t i = 0; i < m->indices.len / 4; i++) {
        uint32_t index = reader_u32(&r);
        if (index < h->cap && bit_get(h->have, index))
            push_want(p, h, index);
        else
            talk_no_shard(s, p, &h->content, index, out);
    }
    due(s, s->choke_ms);
    s->is_serving_stirred = true;
}

void serve_forget_peer(struct cast_state *s, struct peer *p)
{
    s->n_serving -= p->n_serving;
    p->n_serving = p->n_wants = 0;
    p->is_served = p->is_choked = p->is_telling = false;
    if (s->lot == p->slot)
        s->lot = CAST_LINKS_MAX;
    for (size_t i = 0; i < s->n_holdings; i++)
        if (s->holding[i]->lend)
            lend_forget_peer(s, s->holding[i], p->slot);
    s->is_serving_stirred = true;
}

static bool is_busy(const struct peer *p, int64_t now_ms)
{
    return p->n_wants || p->n_serving || (p->wanted_ms && p->wanted_ms + 2 * CHOKE_MS > now_ms);
}

/* Would take a slot: it has one and uses it, or asked since it was choked. */
static bool is_candidate(const struct peer *p, int64_t now_ms)
{
    if (p->is_served)
        return is_busy(p, now_ms);
    return p->is_choked && p->wanted_ms && p->wanted_ms + CHOKED_MS + 2 * CHOKE_MS > now_ms;
}

/* It gave garbage; or it has what is missing here and was asked for it, and gave nothing for a
 * whole span. */
static bool is_free_rider(const struct cast_state *s, const struct peer *p)
{
    bool offers = false;

    if (p->is_banned)
        return true;
    for (size_t i = 0; i < s->n_pulling && !offers; i++)
        offers = s->pulling[i]->pick && s->pulling[i]->pick->offers[p->slot] > 0;
    return offers && p->slot_spans >= 2 && p->given == 0 && p->given_before == 0;
}

/* Who gave most; of those that gave the same, who had least. */
static bool is_better(const struct peer *a, const struct peer *b)
{
    uint64_t x = a->given + a->given_before, y = b->given + b->given_before;

    return x != y ? x > y : a->turn < b->turn;
}

static void turn_span(struct cast_state *s, int64_t now_ms)
{
    if (s->span_ms > now_ms)
        return;
    s->span_ms = now_ms + GIVEN_SPAN_MS;
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        p->given_before = p->given;
        p->given = 0;
        p->slot_spans++;
    }
}

/* More links at a time while those served do not fill the uplink; fewer again once they do. */
static void turn_slots(struct cast_state *s)
{
    if (s->was_idle) {
        s->slots += s->slots / 2;
        s->busy_rounds = 0;
    } else if (++s->busy_rounds >= LOT_ROUNDS && s->slots > SLOTS_MIN) {
        s->slots--;
        s->busy_rounds = 0;
    }
    if (s->slots > CAST_LINKS_MAX)
        s->slots = CAST_LINKS_MAX;
    s->was_idle = false;
}

static void draw_lot(struct cast_state *s, uint64_t candidates)
{
    uint32_t n = 0;

    for (uint64_t all = candidates; all; n++)
        (void)mask_take(&all);
    for (uint32_t k = rng_u32(&s->rng) % n; k > 0; k--)
        (void)mask_take(&candidates);
    s->lot = mask_take(&candidates);
    s->lot_rounds = 0;
}

/* The `n` best of the candidates. */
static uint64_t best_of(const struct cast_state *s, uint64_t candidates, uint32_t n)
{
    uint64_t chosen = 0;

    for (; n > 0 && candidates; n--) {
        const struct peer *best = NULL;
        for (uint64_t all = candidates; all;) {
            const struct peer *p = s->slot[mask_take(&all)];
            if (!best || is_better(p, best))
                best = p;
        }
        chosen |= slot_bit(best);
        candidates &= ~slot_bit(best);
    }
    return chosen;
}

/* Whom to serve, of those that want to be: all, while there are slots; else, or when some only
 * take, the best and one by lot. */
static uint64_t choose_of(struct cast_state *s, uint64_t candidates, uint64_t free_riders,
                          uint32_t n)
{
    uint64_t chosen = candidates & ~free_riders;

    if (n <= s->slots && (!free_riders || !chosen))
        return candidates;
    chosen = best_of(s, chosen, s->slots - 1);
    bool is_stale = s->lot >= CAST_LINKS_MAX || ++s->lot_rounds >= LOT_ROUNDS ||
                    !(candidates >> s->lot & 1) || (chosen >> s->lot & 1);
    if (is_stale)
        draw_lot(s, candidates & ~chosen);
    return chosen | (uint64_t)1 << s->lot;
}

void serve_choose(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    uint64_t candidates = 0, free_riders = 0, chosen;
    uint32_t n = 0;

    if (s->choke_ms > now_ms)
        return;
    s->choke_ms = now_ms + CHOKE_MS;
    turn_span(s, now_ms);
    turn_slots(s);
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (is_candidate(p, now_ms)) {
            candidates |= slot_bit(p);
            free_riders |= is_free_rider(s, p) ? slot_bit(p) : 0;
            n++;
        } else {
            p->is_served = p->is_choked = false;
        }
    }
    if (n == 0)
        return;
    chosen = choose_of(s, candidates, free_riders, n);
    for (uint64_t all = candidates; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        bool is_chosen = (chosen & slot_bit(p)) != 0;
        if (is_chosen && !p->is_served) {
            admit(s, p);
            p->is_choked = p->is_telling = false;
            talk_choke(s, p, false, out);
        } else if (!is_chosen && p->is_served) {
            choke(s, p, out);
        }
    }
    due(s, s->choke_ms);
    s->is_serving_stirred = true;
}

/* ---- sending ----------------------------------------------------------------------------- */

static bool is_affordable(struct cast_state *s, int64_t now_ms)
{
    double rate = (double)s->opt.up_bytes_s / 1000.0;

    if (!s->opt.up_bytes_s)
        return true;
    s->up_credit += rate * (double)(now_ms - s->up_ms);
    s->up_ms = now_ms;
    if (s->up_credit > rate * 200.0)
        s->up_credit = rate * 200.0;
    if (s->up_credit >= 0.0)
        return true;
    due(s, now_ms + 1 + (int64_t)(-s->up_credit / rate));
    return false;
}

/* What the best of those that want the same content has of it. */
static uint32_t best_have(const struct cast_state *s, const struct holding *h)
{
    uint32_t best = 0;

    for (uint64_t all = s->linked_mask; all;) {
        const struct peer *p = s->slot[mask_take(&all)];
        if (p->is_served && p->n_wants && want_at(p, 0)->h == h && p->n_have > best)
            best = p->n_have;
    }
    return best;
}

/* Who has much less than another of the same content goes first and gets twice as much at a time,
 * or it stays behind for good: the most deprived neighbour, of Massoulie et al., INFOCOM 2007.
 * But it may lie: not for more than so many shards more than the others had. */
static bool is_deprived(const struct cast_state *s, const struct peer *p, uint32_t best)
{
    const struct holding *h = want_at(p, 0)->h;
    uint32_t band = holding_limit(h) / DEPRIVED_PART + DEPRIVED_MIN;

    return !h->lend && p->n_have + band < best &&
           p->turn < s->serve_turn + (uint64_t)DEPRIVED_LEAD * h->shard_bytes;
}

/* Whoever is not banned has asked for nothing lately: what was sent then has left the sockets. */
static bool is_uplink_free(const struct cast_state *s, int64_t now_ms)
{
    for (uint64_t all = s->linked_mask; all;) {
        const struct peer *p = s->slot[mask_take(&all)];
        if (!p->is_banned && is_busy(p, now_ms))
            return false;
    }
    return true;
}

/* Of those that are served, who had least. Banned ones have what nobody else wants. */
static struct peer *next_served(const struct cast_state *s, bool are_banned_served)
{
    const struct holding *h = NULL;
    struct peer *chosen = NULL;
    bool is_chosen_deprived = false;
    uint32_t best = 0;

    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (!p->is_served || !p->n_wants || p->n_serving > SERVE_AHEAD ||
            (p->is_banned && !are_banned_served))
            continue;
        if (want_at(p, 0)->h != h) {
            h = want_at(p, 0)->h;
            best = best_have(s, h);
        }
        bool deprived = is_deprived(s, p, best);
        if (p->n_serving == SERVE_AHEAD && !deprived)
            continue;
        bool is_sooner =
            !chosen || (deprived != is_chosen_deprived ? deprived : p->turn < chosen->turn);
        if (is_sooner) {
            chosen = p;
            is_chosen_deprived = deprived;
        }
    }
    return chosen;
}

void serve(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    struct peer *p;

    if (!s->is_serving_stirred || s->is_stopped)
        return;
    s->is_serving_stirred = false;
    bool is_free = is_uplink_free(s, now_ms);
    while (s->n_serving < SERVE_TOTAL && (p = next_served(s, is_free)) != NULL) {
        if (!is_affordable(s, now_ms)) {
            s->is_serving_stirred = true;
            return;
        }
        struct want w = *want_at(p, 0);
        uint32_t bytes = holding_length(w.h, w.index);
        p->want_first = (p->want_first + 1) % p->cap_wants;
        p->n_wants--;
        p->n_serving++;
        s->n_serving++;
        s->serve_turn = p->turn;
        p->turn += bytes;
        s->up_credit -= bytes;
        struct cast_act *a = cast_out_add(out, CAST_SERVE, (struct bytes){0});
        a->link = p->link;
        a->content = w.h->content;
        a->index = w.index;
        a->bytes = bytes;
    }
    s->was_idle |= s->n_serving == 0;
}

void serve_served(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                  uint64_t bytes, int64_t now_ms, struct cast_out *out)
{
    s->counters.shards_out++;
    s->counters.bytes_out += bytes;
    s->is_serving_stirred = true;
    if (p->n_serving) {
        p->n_serving--;
        s->n_serving--;
    }
    if (p->is_telling && p->n_serving == 0) {
        p->is_telling = false;
        talk_choke(s, p, true, out);
    }
    if (h && h->lend)
        lend_served(s, h, p->slot, index, now_ms, out);
}
