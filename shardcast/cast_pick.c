/*
 * The open shards (missing, their leaf known, asked of nobody) stand in `order` by how many
 * neighbours have them, those of one count in random order; start[c] is where count c begins. So
 * a neighbour that gets a shard costs one exchange, and the rarest is the first that fits.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/cast_inside.h"

struct picker *pick_new(void)
{
    return xcalloc(1, sizeof(struct picker));
}

void pick_free(struct picker **p)
{
    if (!*p)
        return;
    free((*p)->who);
    free((*p)->order);
    free((*p)->place);
    free((*p)->asked);
    free(*p);
    *p = NULL;
}

void pick_grow(struct picker *p, uint32_t cap)
{
    if (cap <= p->cap)
        return;
    p->who = xrealloc(p->who, cap * sizeof(*p->who));
    p->order = xrealloc(p->order, cap * sizeof(*p->order));
    p->place = xrealloc(p->place, cap * sizeof(*p->place));
    p->asked = xrealloc(p->asked, cap);
    for (uint32_t i = p->cap; i < cap; i++) {
        p->who[i] = 0;
        p->place[i] = NOWHERE;
        p->asked[i] = 0;
    }
    p->cap = cap;
}

static uint32_t count_of(uint64_t mask)
{
    uint32_t n = 0;

    for (; mask && n < COPIES_TOP; n++)
        mask &= mask - 1;
    return n;
}

static void put(struct picker *p, uint32_t at, uint32_t index)
{
    p->order[at] = index;
    p->place[index] = at;
}

static void exchange(struct picker *p, uint32_t a, uint32_t b)
{
    uint32_t x = p->order[a], y = p->order[b];

    put(p, a, y);
    put(p, b, x);
}

/* One that has just come into the bucket of `count` changes places with any of it. */
static void shuffle_in(struct picker *p, struct rng *r, uint32_t index, uint32_t count)
{
    uint32_t first = p->start[count], n = p->start[count + 1] - first;

    if (n > 1)
        exchange(p, p->place[index], first + rng_u32(r) % n);
}

void pick_open(struct picker *p, struct rng *r, uint32_t index)
{
    uint32_t count = count_of(p->who[index]);
    uint64_t who = p->who[index];

    CHECK(index < p->cap);
    if (p->place[index] != NOWHERE)
        return;
    /* A gap at the end moves down to the end of its bucket, each bucket above giving its first. */
    uint32_t gap = p->n_open++;
    for (uint32_t c = COPIES_TOP; c > count; c--) {
        if (p->start[c] != gap)
            put(p, gap, p->order[p->start[c]]);
        gap = p->start[c]++;
    }
    p->start[COPIES_TOP + 1] = p->n_open;
    put(p, gap, index);
    shuffle_in(p, r, index, count);
    while (who)
        p->offers[mask_take(&who)]++;
}

void pick_close(struct picker *p, uint32_t index)
{
    uint32_t at = p->place[index];
    uint32_t count = count_of(p->who[index]);
    uint64_t who = p->who[index];

    if (at == NOWHERE)
        return;
    for (uint32_t c = count; c <= COPIES_TOP; c++) {
        uint32_t last = p->start[c + 1] - 1;
        if (last != at)
            put(p, at, p->order[last]);
        at = last;
        p->start[c + 1]--;
    }
    p->n_open--;
    p->place[index] = NOWHERE;
    while (who)
        p->offers[mask_take(&who)]--;
}

void pick_learn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index)
{
    uint64_t bit = (uint64_t)1 << slot;
    uint32_t before = count_of(p->who[index]);

    if (p->who[index] & bit)
        return;
    p->who[index] |= bit;
    if (p->place[index] == NOWHERE)
        return;
    p->offers[slot]++;
    if (before == COPIES_TOP)
        return;
    exchange(p, p->place[index], p->start[before + 1] - 1);
    p->start[before + 1]--;
    shuffle_in(p, r, index, before + 1);
}

void pick_unlearn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index)
{
    uint64_t bit = (uint64_t)1 << slot;
    uint32_t before = count_of(p->who[index]);

    if (!(p->who[index] & bit))
        return;
    p->who[index] &= ~bit;
    if (p->place[index] == NOWHERE)
        return;
    p->offers[slot]--;
    if (count_of(p->who[index]) == before)
        return;
    exchange(p, p->place[index], p->start[before]);
    p->start[before]++;
    shuffle_in(p, r, index, before - 1);
}

void pick_unlearn_all(struct picker *p, struct rng *r, uint32_t slot)
{
    for (uint32_t i = 0; i < p->cap; i++)
        pick_unlearn(p, r, slot, i);
}

uint32_t pick_rarest(const struct picker *p, uint32_t slot)
{
    if (p->offers[slot] == 0)
        return NOWHERE;
    for (uint32_t at = p->start[1]; at < p->n_open; at++)
        if ((p->who[p->order[at]] >> slot) & 1)
            return p->order[at];
    return NOWHERE;
}

uint32_t pick_random(const struct picker *p, struct rng *r, uint32_t slot)
{
    if (p->offers[slot] == 0)
        return NOWHERE;
    uint32_t from = rng_u32(r) % p->n_open;
    for (uint32_t i = 0; i < p->n_open; i++) {
        uint32_t index = p->order[(from + i) % p->n_open];
        if ((p->who[index] >> slot) & 1)
            return index;
    }
    return NOWHERE;
}
