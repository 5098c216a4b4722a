#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* ---- life -------------------------------------------------------------------------------- */

void lend_begin(struct cast_state *s, struct holding *h)
{
    (void)s;
    h->lend = xcalloc(1, sizeof(*h->lend));
    h->lend->idle_ms = NEVER_MS;
}

void lend_free(struct lending **l)
{
    if (!*l)
        return;
    free((*l)->state);
    free((*l)->to);
    free((*l)->order);
    free((*l)->at_ms);
    free(*l);
    *l = NULL;
}

/* It waits no more. */
static void take_order(struct lending *l, uint32_t index)
{
    for (uint32_t i = 0; i < l->n_order; i++)
        if (l->order[i] == index) {
            l->order[i] = l->order[--l->n_order];
            return;
        }
}

/* Into a place drawn by lot among those that wait. */
static void put_back(struct cast_state *s, struct lending *l, uint32_t index)
{
    uint32_t at = rng_u32(&s->rng) % (l->n_order + 1);

    l->order[l->n_order] = l->order[at];
    l->order[at] = index;
    l->n_order++;
}

void lend_more(struct cast_state *s, struct holding *h, uint32_t from, uint32_t to)
{
    struct lending *l = h->lend;

    if (to > l->cap) {
        l->state = xrealloc(l->state, to);
        l->to = xrealloc(l->to, to);
        l->order = xrealloc(l->order, to * sizeof(*l->order));
        l->at_ms = xrealloc(l->at_ms, to * sizeof(*l->at_ms));
        memset(l->state + l->cap, LEND_NONE, to - l->cap);
        memset(l->to + l->cap, CAST_LINKS_MAX, to - l->cap);
        l->cap = to;
    }
    for (uint32_t i = from; i < to; i++) {
        l->n_unserved++;
        l->n_unspread++;
        put_back(s, l, i);
    }
}

static bool is_given(const struct lending *l, uint32_t index)
{
    return l->state[index] == LEND_SERVED || l->state[index] == LEND_TAKEN;
}

/* It is that neighbour's task no more to fetch it. */
static void give(struct lending *l, uint32_t slot, uint32_t index, int64_t now_ms)
{
    if (l->state[index] == LEND_LENT)
        l->n_lent[l->to[index]]--;
    else
        take_order(l, index);
    l->state[index] = LEND_SERVED;
    l->to[index] = (uint8_t)slot;
    l->at_ms[index] = now_ms;
    l->n_kept[slot]++;
    l->n_unserved--;
}

void lend_heard(struct cast_state *s, struct holding *h, uint32_t slot, uint32_t index,
                int64_t now_ms)
{
    struct lending *l = h->lend;

    if (index >= l->cap || l->state[index] == LEND_SPREAD)
        return;
    /* That somebody has what nobody was given may be a lie, and would keep it from the others. */
    if (!is_given(l, index) && (l->state[index] != LEND_LENT || l->to[index] != slot))
        return;
    if (!is_given(l, index))
        give(l, slot, index, now_ms);
    if (l->to[index] == slot) {
        l->state[index] = LEND_TAKEN;
        return;
    }
    l->n_kept[l->to[index]] -= l->n_kept[l->to[index]] > 0;
    l->state[index] = LEND_SPREAD;
    if (--l->n_unspread == 0 || l->n_order)
        due(s, 0); /* lend_look ends it, or lends more to who passed it on */
}

void lend_served(struct cast_state *s, struct holding *h, uint32_t slot, uint32_t index,
                 int64_t now_ms, struct cast_out *out)
{
    struct lending *l = h->lend;

    l->idle_ms = NEVER_MS;
    l->n_anew = 0;
    if (!l->is_lent_again) { /* later gaps say nothing of the link */
        if (l->n_served++ == 0)
            l->begin_ms = now_ms;
        l->last_ms = now_ms;
    }
    if (index < l->cap && l->state[index] < LEND_SERVED) /* else it was lent to two */
        give(l, slot, index, now_ms);
    lend(s, h, now_ms, out);
}

/* Everything was given once: from now on this is a neighbour like any other. */
static void end_lending(struct cast_state *s, struct holding *h)
{
    lend_free(&h->lend);
    h->has_whole_news = true;
    h->push_ms = 0;
    due(s, 0);
}

static uint32_t count_bits(uint64_t mask)
{
    uint32_t n = 0;

    for (; mask; n++)
        mask &= mask - 1;
    return n;
}

/* The next to lend to this neighbour, which had it not before. */
static uint32_t next_for(struct lending *l, uint32_t slot)
{
    for (uint32_t i = l->n_order; i-- > 0;)
        if (l->to[l->order[i]] != slot) {
            uint32_t index = l->order[i];
            l->order[i] = l->order[--l->n_order];
            return index;
        }
    return NOWHERE;
}

/* What those that pass most on hold back: shards on their way to others. */
static uint32_t least_kept(const struct lending *l, uint64_t all)
{
    uint32_t least = UINT32_MAX;

    while (all) {
        uint32_t slot = mask_take(&all);
        if (l->n_kept[slot] < least)
            least = l->n_kept[slot];
    }
    return least;
}

/* Each shard was seen at two; where there is nobody to see it at, each left. What is small is there
 * sooner if all may ask for all. */
static bool is_over(const struct lending *l, const struct holding *h, uint32_t n_links)
{
    if (!h->envelope)
        return false;
    return h->n_shards <= ENDGAME || (n_links < 2 ? l->n_unserved : l->n_unspread) == 0;
}

void lend(struct cast_state *s, struct holding *h, int64_t now_ms, struct cast_out *out)
{
    struct lending *l = h->lend;
    uint64_t all = s->linked_mask & ~h->all_mask;
    uint32_t n_links = count_bits(all), least = least_kept(l, all);

    if (is_over(l, h, n_links)) {
        end_lending(s, h);
        return;
    }
    while (all) {
        uint32_t list[LEND_MAX], n = 0, index, slot = mask_take(&all);
        uint32_t aim = l->n_unserved / (2 * n_links);
        aim = aim < 1 ? 1 : aim < LEND_MAX ? aim : LEND_MAX;
        if (l->n_kept[slot] > LEND_KEPT + 2 * least)
            continue; /* what it gets goes no further */
        while (l->n_lent[slot] < aim && n < LEND_MAX &&
               (index = next_for(l, slot)) != NOWHERE) {
            l->state[index] = LEND_LENT;
            l->at_ms[index] = now_ms;
            l->to[index] = (uint8_t)slot;
            l->n_lent[slot]++;
            list[n++] = index;
        }
        if (n)
            talk_news(s, s->slot[slot], h, list, n, out);
    }
}

static void take_back(struct cast_state *s, struct holding *h, uint32_t slot)
{
    struct lending *l = h->lend;

    for (uint32_t i = 0; i < l->cap; i++)
        if (l->state[i] == LEND_LENT && l->to[i] == slot) {
            l->state[i] = LEND_NONE;
            put_back(s, l, i);
        }
    l->n_lent[slot] = 0;
}

void lend_forget_peer(struct cast_state *s, struct holding *h, uint32_t slot)
{
    take_back(s, h, slot);
    h->lend->n_kept[slot] = 0;
}

/* Nobody fetches anything, though not all was given: what was shown may not have been seen, so it
 * is lent once more; if that does not help either, everything is shown. */
static void lend_anew(struct cast_state *s, struct holding *h, int64_t now_ms,
                      struct cast_out *out)
{
    struct lending *l = h->lend;

    l->idle_ms = now_ms;
    if (++l->n_anew > LEND_ANEW_MAX) {
        end_lending(s, h);
        return;
    }
    for (uint32_t slot = 0; slot < CAST_LINKS_MAX; slot++)
        if (l->n_lent[slot])
            take_back(s, h, slot);
    lend(s, h, now_ms, out);
}

/* The time that some shards take to leave, no more than did: as long may one lie in a socket. */
static int64_t socket_time(const struct lending *l)
{
    int64_t all_ms = l->last_ms - l->begin_ms, n = (int64_t)l->n_served;

    return LEND_WAIT_MIN_MS + (n > LEND_WAIT_SHARDS ? LEND_WAIT_SHARDS * all_ms / n : all_ms);
}

/* Everything was lent. What was not fetched since, or was given and nobody else has shown since, is lent
 * once more: it lies in a socket, or with one who passes nothing on, on whose account it stays. */
static void recall(struct cast_state *s, struct holding *h, int64_t wait_ms, int64_t now_ms,
                   struct cast_out *out)
{
    struct lending *l = h->lend;

    if (l->n_order || !h->envelope)
        return;
    if (l->recall_ms > now_ms) {
        due(s, l->recall_ms);
        return;
    }
    for (uint32_t i = 0; i < l->cap; i++) {
        int64_t patience_ms = l->state[i] == LEND_TAKEN ? LEND_PATIENCE * wait_ms : wait_ms;
        if (l->state[i] == LEND_SPREAD || l->at_ms[i] + patience_ms > now_ms)
            continue;
        if (l->state[i] == LEND_LENT)
            l->n_lent[l->to[i]]--;
        else
            l->n_unserved++;
        l->state[i] = LEND_NONE;
        l->is_lent_again = true;
        put_back(s, l, i);
    }
    l->recall_ms = now_ms + LEND_RECALL_MS;
    due(s, l->recall_ms);
    lend(s, h, now_ms, out);
}

void lend_look(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_holdings; i++) {
        struct holding *h = s->holding[i];
        if (!h->lend)
            continue;
        int64_t wait_ms = socket_time(h->lend);
        recall(s, h, wait_ms, now_ms, out);
        if (h->lend && (h->lend->n_unspread == 0 || h->lend->n_order))
            lend(s, h, now_ms, out);
        if (!h->lend)
            continue;
        bool is_idle = s->n_serving == 0 && (s->linked_mask & ~h->all_mask) != 0;
        if (!is_idle || h->lend->idle_ms == NEVER_MS)
            h->lend->idle_ms = is_idle ? now_ms : NEVER_MS;
        if (is_idle && h->lend->idle_ms + LEND_IDLE_MS + wait_ms <= now_ms)
            lend_anew(s, h, now_ms, out);
        if (is_idle)
            due(s, now_ms + LEND_IDLE_MS + wait_ms);
    }
}

void lend_shown(const struct holding *h, uint32_t slot, struct buf *bitmap)
{
    const struct lending *l = h->lend;
    uint8_t *map = buf_extend(bitmap, (h->cap + 7) / 8);

    if (!map)
        return;
    memset(map, 0, (h->cap + 7) / 8);
    for (uint32_t i = 0; i < l->cap; i++)
        if (l->state[i] != LEND_NONE && l->to[i] == slot)
            bit_set(map, i);
}
