#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

/* ---- who has what ------------------------------------------------------------------------ */

void pull_stir(struct cast_state *s)
{
    s->stirred |= s->linked_mask;
}

void pull_begin(struct cast_state *s, struct holding *h)
{
    h->pick = pick_new();
    pick_grow(h->pick, h->cap);
    for (uint32_t i = 0; i < holding_limit(h); i++) {
        h->pick->who[i] = h->all_mask;
        if (holding_leaf(h, i) && !bit_get(h->have, i))
            pick_open(h->pick, &s->rng, i);
    }
}

static void learn_all(struct cast_state *s, struct peer *p, struct holding *h)
{
    h->all_mask |= slot_bit(p);
    for (uint32_t i = 0; h->pick && i < h->cap; i++)
        pick_learn(h->pick, &s->rng, p->slot, i);
}

/* What was asked and is not there after all. */
static void withdraw_asks(struct cast_state *s, struct peer *p, struct holding *h,
                          int64_t now_ms, struct cast_out *out)
{
    uint32_t n = 0, n_before = p->n_asks;

    for (uint32_t i = 0; i < p->n_asks; i++) {
        struct ask a = p->ask[i];
        if (a.h != h || (h->pick->who[a.index] & slot_bit(p))) {
            p->ask[n++] = a;
            continue;
        }
        if (h->pick->asked[a.index] == p->slot + 1) {
            h->pick->asked[a.index] = 0;
            h->n_asked--;
            if (!bit_get(h->have, a.index))
                pick_open(h->pick, &s->rng, a.index);
        }
    }
    p->n_asks = n;
    if (n == n_before)
        return;
    pull_stir(s);
    /* Once may be retention; who says again and again what is not so, and gave nothing, lies. */
    if ((h->withdrew_mask & slot_bit(p)) && !p->given && !p->given_before) {
        s->counters.lies++;
        if (++p->lies >= LIES_MAX)
            peer_ban(s, p, h, 0, "lies", now_ms, out);
    }
    h->withdrew_mask |= slot_bit(p);
}

static void learn_rtt(struct peer *p, int64_t now_ms)
{
    int64_t took = now_ms - p->pinged_ms;

    if (!p->pinged_ms)
        return;
    p->pinged_ms = 0;
    if (took < 1)
        took = 1;
    if (!p->rtt_ms || took < p->rtt_ms)
        p->rtt_ms = took < RTT_MAX_MS ? (int32_t)took : RTT_MAX_MS;
}

void pull_learn_have(struct cast_state *s, struct peer *p, struct holding *h,
                     const struct msg_have *m, int64_t now_ms, struct cast_out *out)
{
    learn_rtt(p, now_ms);
    for (uint32_t i = 0; h->lend && i < h->cap; i++)
        if (m->is_all || (i / 8 < m->bitmap.len && bit_get(m->bitmap.data, i)))
            lend_heard(s, h, p->slot, i, now_ms);
    if (m->is_all) {
        learn_all(s, p, h);
        s->stirred |= slot_bit(p);
        return;
    }
    h->all_mask &= ~slot_bit(p);
    if (!h->pick)
        return;
    for (uint32_t i = 0; i < h->cap; i++) {
        bool has = i / 8 < m->bitmap.len && bit_get(m->bitmap.data, i);
        if (has)
            pick_learn(h->pick, &s->rng, p->slot, i);
        else
            pick_unlearn(h->pick, &s->rng, p->slot, i);
    }
    withdraw_asks(s, p, h, now_ms, out);
    s->stirred |= slot_bit(p);
}

void pull_learn_news(struct cast_state *s, struct peer *p, struct holding *h,
                     struct bytes indices, int64_t now_ms)
{
    struct reader r = reader_of(indices);

    for (size_t i = 0; (h->pick || h->lend) && i < indices.len / 4; i++) {
        uint32_t index = reader_u32(&r);
        if (h->lend)
            lend_heard(s, h, p->slot, index, now_ms);
        if (h->pick && index < h->cap)
            pick_learn(h->pick, &s->rng, p->slot, index);
    }
    s->stirred |= slot_bit(p);
}

/* ---- asks -------------------------------------------------------------------------------- */

/* The shard that p was asked for is nobody's task now, or still another's. */
static void release(struct cast_state *s, struct peer *p, const struct ask *a)
{
    struct picker *pick = a->h->pick;

    if (!pick || pick->asked[a->index] != p->slot + 1)
        return;
    pick->asked[a->index] = 0;
    a->h->n_asked--;
    if (!bit_get(a->h->have, a->index))
        pick_open(pick, &s->rng, a->index);
}

static void take_ask(struct peer *p, uint32_t i)
{
    p->n_asks--;
    memmove(&p->ask[i], &p->ask[i + 1], (p->n_asks - i) * sizeof(*p->ask));
}

void pull_drop_peer(struct cast_state *s, struct peer *p)
{
    for (uint32_t i = 0; i < p->n_asks; i++)
        release(s, p, &p->ask[i]);
    if (p->n_asks)
        pull_stir(s);
    p->n_asks = 0;
}

void pull_forget_peer(struct cast_state *s, struct peer *p)
{
    pull_drop_peer(s, p);
    for (size_t i = 0; i < s->n_holdings; i++) {
        struct holding *h = s->holding[i];
        h->all_mask &= ~slot_bit(p);
        h->withdrew_mask &= ~slot_bit(p);
        if (h->pick)
            pick_unlearn_all(h->pick, &s->rng, p->slot);
    }
}

void pull_drop_holding(struct cast_state *s, struct holding *h, struct cast_out *out)
{
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        uint32_t n = 0;
        for (uint32_t i = 0; i < p->n_asks; i++)
            if (p->ask[i].h != h)
                p->ask[n++] = p->ask[i];
        if (n < p->n_asks) {
            s->counters.cancelled += p->n_asks - n;
            talk_cancel(s, p, h, NULL, 0, out);
        }
        p->n_asks = n;
    }
    h->n_asked = 0;
    pull_stir(s);
}

/* The time that shards take, while some are on their way, adds up to what the link gives. */
static void learn_rate(struct cast_state *s, struct peer *p, int64_t since_ms, uint32_t bytes,
                       int64_t now_ms)
{
    int64_t from = p->last_ms > since_ms ? p->last_ms : since_ms;
    uint64_t took = (uint64_t)(now_ms > from ? now_ms - from : 0);

    p->last_ms = now_ms;
    p->busy_bytes += bytes;
    p->busy_ms += took;
    s->rate_bytes += bytes;
    s->rate_ms += took;
    if (p->busy_ms > 4000) {
        p->busy_bytes /= 2;
        p->busy_ms /= 2;
    }
    if (s->rate_ms > 20000) {
        s->rate_bytes /= 2;
        s->rate_ms /= 2;
    }
}

uint64_t pull_rate(const struct cast_state *s, const struct peer *p)
{
    (void)s;
    return p->busy_ms ? p->busy_bytes * 1000 / p->busy_ms : 0;
}

/* Bytes per ms, of the link or what is known of others. */
static uint64_t expected_rate(const struct cast_state *s, const struct peer *p)
{
    uint64_t rate = RATE_GUESS;

    if (p->busy_ms > 20)
        rate = p->busy_bytes / p->busy_ms;
    else if (s->rate_ms > 20)
        rate = s->rate_bytes / s->rate_ms;
    return rate ? rate : 1;
}

static int64_t deadline_of(const struct cast_state *s, const struct peer *p,
                           const struct ask *a, uint32_t place)
{
    uint64_t bytes = (uint64_t)a->h->shard_bytes * (place + 1);
    int64_t wait = p->rtt_ms + (int64_t)(bytes / expected_rate(s, p));

    wait = 4 * wait + DEADLINE_MIN_MS;
    for (uint32_t i = 0; i < p->strikes && wait < DEADLINE_MAX_MS; i++)
        wait *= 2;
    return a->sent_ms + (wait < DEADLINE_MAX_MS ? wait : DEADLINE_MAX_MS);
}

bool pull_answered(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                   int64_t now_ms)
{
    for (uint32_t i = 0; i < p->n_asks; i++) {
        struct ask a = p->ask[i];
        if (a.h != h || a.index != index)
            continue;
        learn_rate(s, p, a.sent_ms, holding_length(h, index), now_ms);
        p->strikes = 0;
        if (++p->answered >= p->ceiling && p->ceiling < WINDOW_MAX) {
            p->ceiling++;
            p->answered = 0;
        }
        take_ask(p, i);
        release(s, p, &a);
        s->stirred |= slot_bit(p);
        return true;
    }
    return false;
}

/* Nothing is asked of it before. */
static void mute(struct cast_state *s, struct peer *p, int64_t until_ms)
{
    if (until_ms <= p->mute_ms)
        return;
    p->mute_ms = until_ms;
    due(s, until_ms);
}

void pull_cancel_others(struct cast_state *s, struct holding *h, uint32_t index,
                        const struct peer *from, struct cast_out *out)
{
    bool is_last = h->n_shards && h->n_shards - h->n_have <= ENDGAME;
    uint64_t mask = is_last ? s->linked_mask : 0;

    if (!h->pick)
        return;
    if (h->pick->asked[index])
        mask |= (uint64_t)1 << (h->pick->asked[index] - 1);
    if (from)
        mask &= ~slot_bit(from);
    while (mask) {
        struct peer *p = s->slot[mask_take(&mask)];
        for (uint32_t i = 0; p && i < p->n_asks; i++)
            if (p->ask[i].h == h && p->ask[i].index == index) {
                struct ask a = p->ask[i];
                /* Of one that gave nothing right yet the answer may be on its way all the same, and no more
                 * than one is to be: as long as it would have been waited for. */
                if (!p->has_given)
                    mute(s, p, deadline_of(s, p, &a, i));
                take_ask(p, i--);
                release(s, p, &a);
                talk_cancel(s, p, h, &index, 1, out);
                s->counters.cancelled++;
                s->stirred |= slot_bit(p);
            }
    }
}

/* A peer that lets questions time out is asked for half as much at a time, then after a pause. */
static void strike(struct cast_state *s, struct peer *p, int64_t now_ms)
{
    p->strikes++;
    p->ceiling = p->ceiling > 1 ? p->ceiling / 2 : 1;
    p->answered = 0;
    if (p->strikes > 1)
        mute(s, p, now_ms + ((int64_t)250 << (p->strikes < 8 ? p->strikes : 8)));
}

void pull_timeouts(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        bool is_struck = false;
        for (uint32_t i = 0; i < p->n_asks; i++) {
            struct ask a = p->ask[i];
            int64_t until = deadline_of(s, p, &a, i);
            if (until > now_ms) {
                due(s, until);
                continue;
            }
            take_ask(p, i--);
            release(s, p, &a);
            talk_cancel(s, p, a.h, &a.index, 1, out);
            s->counters.timeouts++;
            is_struck = true;
        }
        if (is_struck) {
            strike(s, p, now_ms);
            pull_stir(s);
        }
        if (p->mute_ms > now_ms)
            due(s, p->mute_ms);
        else if (p->mute_ms)
            p->mute_ms = 0, s->stirred |= slot_bit(p);
        if (p->is_choking && p->choking_ms > now_ms)
            due(s, p->choking_ms);
        else if (p->is_choking)
            p->is_choking = false, s->stirred |= slot_bit(p);
    }
}

/* ---- choosing ---------------------------------------------------------------------------- */

/* As many as the link carries in its round trip and a little, and one. */
static uint32_t window_of(const struct cast_state *s, const struct peer *p,
                          const struct holding *h)
{
    uint64_t bytes = expected_rate(s, p) * (uint64_t)(p->rtt_ms + WINDOW_SLACK_MS);
    uint64_t w = bytes / h->shard_bytes + 2;

    if (w < WINDOW_MIN)
        w = WINDOW_MIN;
    if (w > p->ceiling)
        w = p->ceiling;
    if (p->strikes || !p->has_given)
        w = 1; /* is it there at all, and does it not lie? */
    return (uint32_t)(w < WINDOW_MAX ? w : WINDOW_MAX);
}

static uint32_t choose(struct cast_state *s, const struct peer *p, const struct holding *h)
{
    if (h->n_have < RANDOM_FIRST)
        return pick_random(h->pick, &s->rng, p->slot);
    return pick_rarest(h->pick, p->slot);
}

static bool is_asked_of(const struct peer *p, const struct holding *h, uint32_t index)
{
    for (uint32_t i = 0; i < p->n_asks; i++)
        if (p->ask[i].h == h && p->ask[i].index == index)
            return true;
    return false;
}

/* When the ask in this place of p's is due to be answered, as far as one can know: what is overdue will
 * take as long again. */
static int64_t expected_ms(const struct cast_state *s, const struct peer *p,
                           const struct holding *h, uint32_t place, int64_t now_ms)
{
    int64_t each = (int64_t)(h->shard_bytes / expected_rate(s, p));
    int64_t from = p->n_asks && p->last_ms > p->ask[0].sent_ms ? p->last_ms
                   : p->n_asks                                 ? p->ask[0].sent_ms
                                                               : now_ms;

    int64_t due_ms = from + each * (place + 1);
    return place < p->n_asks && due_ms < now_ms ? 2 * now_ms - due_ms
           : due_ms > now_ms                    ? due_ms
                                                : now_ms + each;
}

/* Nothing is left that nobody was asked for. What waits longest at another and is not on its way
 * yet is taken from there. Of the last few, one that is on its way and late may be asked twice; so may
 * one that lies in a socket: it may come twice, so that half the time must be won. */
static uint32_t choose_again(struct cast_state *s, const struct peer *p, struct holding *h,
                             int64_t now_ms, struct cast_out *out)
{
    bool is_end =
        h->n_shards && h->n_leaves == h->n_shards && h->n_shards - h->n_have <= ENDGAME;
    int64_t ours = expected_ms(s, p, h, p->n_asks, now_ms) + 2 * p->rtt_ms + WINDOW_SLACK_MS;
    int64_t best_ms = ours;
    struct peer *victim = NULL;
    uint32_t place = 0;

    if (h->n_asked == 0)
        return NOWHERE;
    for (uint64_t all = s->linked_mask & ~slot_bit(p); all;) {
        struct peer *q = s->slot[mask_take(&all)];
        for (uint32_t i = is_end ? 0 : TAKE_FROM; i < q->n_asks; i++) {
            const struct ask *a = &q->ask[i];
            int64_t theirs = expected_ms(s, q, h, i, now_ms);
            bool is_soon = i > 0 && expected_ms(s, q, h, i - 1, now_ms) <
                                        now_ms + q->rtt_ms + WINDOW_SLACK_MS;
            bool is_worth = i >= TAKE_FROM || theirs - now_ms > TWICE_WORTH * (ours - now_ms);
            if (a->h == h && theirs > best_ms && !is_soon && is_worth &&
                (h->pick->who[a->index] & slot_bit(p)) && !is_asked_of(p, h, a->index)) {
                victim = q;
                place = i;
                best_ms = theirs;
            }
        }
    }
    if (!victim)
        return NOWHERE;
    struct ask a = victim->ask[place];
    if (place > 0) {
        take_ask(victim, place);
        release(s, victim, &a);
        talk_cancel(s, victim, h, &a.index, 1, out);
        s->counters.cancelled++;
    }
    return a.index;
}

/* Below the ceiling of what is asked for? */
static bool has_credit(struct cast_state *s, int64_t now_ms)
{
    double rate = (double)s->opt.down_bytes_s / 1000.0;

    if (!s->opt.down_bytes_s)
        return true;
    s->down_credit += rate * (double)(now_ms - s->down_ms);
    s->down_ms = now_ms;
    if (s->down_credit > rate * 200.0)
        s->down_credit = rate * 200.0;
    if (s->down_credit >= 0.0)
        return true;
    due(s, now_ms + 1 + (int64_t)(-s->down_credit / rate));
    return false;
}

static void note_ask(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                     int64_t now_ms)
{
    p->ask = grow(p->ask, &p->cap_asks, p->n_asks + 1, sizeof(*p->ask));
    p->ask[p->n_asks] = (struct ask){h, index, now_ms};
    due(s, deadline_of(s, p, &p->ask[p->n_asks], p->n_asks));
    p->n_asks++;
    if (h->pick->asked[index])
        return; /* it stays the task of the first */
    h->pick->asked[index] = (uint8_t)(p->slot + 1);
    h->n_asked++;
    pick_close(h->pick, index);
}

static void pull_holding(struct cast_state *s, struct peer *p, struct holding *h,
                         int64_t now_ms, struct cast_out *out)
{
    uint32_t list[MSG_MAX_ASKED], n = 0;
    uint32_t window = window_of(s, p, h);

    while (p->n_asks < window && n < MSG_MAX_ASKED) {
        if (!has_credit(s, now_ms)) {
            s->stirred |= slot_bit(p); /* it is asked when there is some */
            break;
        }
        uint32_t index = choose(s, p, h);
        if (index == NOWHERE)
            index = choose_again(s, p, h, now_ms, out);
        if (index == NOWHERE)
            break;
        s->down_credit -= holding_length(h, index);
        note_ask(s, p, h, index, now_ms);
        list[n++] = index;
    }
    if (n)
        talk_ask_shards(s, p, h, list, n, out);
}

void pull(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    if (s->is_stopped || s->n_pulling == 0) {
        s->stirred = 0;
        return;
    }
    if (now_ms < s->resume_ms) {
        due(s, s->resume_ms);
        return;
    }
    uint64_t mask = s->stirred & s->linked_mask;
    s->stirred = 0;
    /* From a random one on, so that nobody is always asked first. */
    uint32_t turn = mask & (mask - 1) ? rng_u32(&s->rng) % CAST_LINKS_MAX : 0;
    uint64_t later = mask & (((uint64_t)1 << turn) - 1);
    for (uint64_t now = mask & ~later; now || later;) {
        if (!now) {
            now = later;
            later = 0;
        }
        struct peer *p = s->slot[mask_take(&now)];
        if (p->is_banned || p->is_choking || !p->is_heard || p->mute_ms > now_ms)
            continue;
        for (size_t i = 0; i < s->n_pulling; i++)
            pull_holding(s, p, s->pulling[i], now_ms, out);
    }
}
