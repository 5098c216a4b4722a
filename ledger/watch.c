#include "ledger/watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define REWARD_ZERO 8191 /* of the feature, which is in thousandths */

void watch_init(struct watch *w)
{
    memset(w, 0, sizeof(*w));
    map_init(&w->print);
}

void watch_clear(struct watch *w)
{
    map_clear(&w->print);
    free(w->own);
    memset(w, 0, sizeof(*w));
}

/* ---- copies ------------------------------------------------------------------------------ */

/* ln n in thousandths of a nat, rounded up to a power of two. */
static uint64_t ln_of(uint64_t n)
{
    uint64_t bits = 0;

    while (bits < 63 && ((uint64_t)1 << bits) < n)
        bits++;
    return bits * WATCH_LN2;
}

static bool has_twin(const struct ledger_commit *c, uint32_t i)
{
    for (uint32_t k = 0; k < i; k++)
        if (c->sample[k].print == c->sample[i].print)
            return true;
    return false;
}

static void look_for_copies(struct watch *w, const struct ledger_commit *c,
                            struct watch_finding *out)
{
    uint64_t ln_known = ln_of(w->print.n + c->n_samples), x = 0, most = 0;
    struct watch_finding copied = {0};

    for (uint32_t i = 0; i < c->n_samples; i++) {
        struct map_key k = map_key_u64(c->sample[i].print);
        uint64_t other = c->unit;
        bool is_known = map_find(&w->print, &k, &other);

        if (!is_known)
            map_put(&w->print, &k, c->unit);
        if ((!is_known || other == c->unit) && !has_twin(c, i))
            continue;
        if (c->sample[i].surprise > ln_known)
            x += c->sample[i].surprise - ln_known;
        if (c->sample[i].surprise > most) { /* the one that says most */
            most = c->sample[i].surprise;
            copied = (struct watch_finding){REASON_COPIED, other, i};
        }
    }
    if (x >= c->n_samples * WATCH_LN2 + WATCH_CERTAIN)
        *out = copied;
}

/* ---- statistics -------------------------------------------------------------------------- */

static uint16_t at_most(uint64_t v)
{
    return v < WATCH_FEATURE_MAX ? (uint16_t)v : WATCH_FEATURE_MAX;
}

/* In eighths of a token a sample, thousandths of a nat a token, thousandths of the samples, and
 * thousandths of reward above -8.191; what is beyond the range counts as its end. */
static struct watch_unit features_of(uint32_t worker, const struct ledger_commit *c)
{
    struct watch_unit u = {.worker = worker};
    uint64_t tokens = 0, surprise = 0, ended = 0;
    int64_t reward = 0;

    for (uint32_t i = 0; i < c->n_samples; i++) {
        tokens += c->sample[i].tokens;
        surprise += c->sample[i].surprise;
        ended += c->sample[i].has_ended;
        reward += c->sample[i].reward;
    }
    reward = reward / (int64_t)c->n_samples + REWARD_ZERO;
    u.feature[WATCH_LENGTH] = at_most(8 * tokens / c->n_samples);
    u.feature[WATCH_SURPRISE] = at_most(tokens ? surprise / tokens : 0);
    u.feature[WATCH_ENDED] = at_most(1000 * ended / c->n_samples);
    u.feature[WATCH_REWARD] = at_most(reward > 0 ? (uint64_t)reward : 0);
    return u;
}

static void add(struct watch_sums *s, const struct watch_unit *u, bool is_gone)
{
    s->n += is_gone ? UINT64_MAX : 1;
    for (size_t f = 0; f < WATCH_FEATURES; f++) {
        uint64_t x = u->feature[f];

        s->sum[f] += is_gone ? 0 - x : x;
        s->square[f] += is_gone ? 0 - x * x : x * x;
    }
}

/* Is the mean of `own` more than `sigma` standard errors off that of the others in the window?
 *
 *   d^2 > sigma^2 v (1 / n + 1 / m)      d: difference of means, v: variance of all
 *
 * A feature is below 2^14 and n + m at most 2^9: in units of 1/256 d is below 2^22 and v, with 1 added
 * for the rounding of features, at most 2^26 2^16, so that both sides, multiplied by n m < 2^16, are
 * below 2^61. */
static bool is_off(const struct watch_sums *all, const struct watch_sums *own, size_t f,
                   uint64_t sigma)
{
    uint64_t n = own->n, m = all->n - own->n, N = all->n, mine, others, d, v;

    mine = own->sum[f] * 256 / n;
    others = (all->sum[f] - own->sum[f]) * 256 / m;
    d = mine > others ? mine - others : others - mine;
    v = ((N * all->square[f] - all->sum[f] * all->sum[f]) << 16) / N / N + (1u << 16);
    return d * d * (n * m) > sigma * sigma * v * N;
}

static void look_for_drift(const struct watch *w, const struct watch_unit *u,
                           struct watch_finding *out)
{
    const struct watch_sums *own = &w->own[u->worker];
    struct watch_sums one = {0};

    add(&one, u, false);
    for (uint32_t f = 0; f < WATCH_FEATURES && !out->code; f++)
        if (own->n >= WATCH_LEAST_OWN && w->all.n - own->n >= WATCH_LEAST &&
            is_off(&w->all, own, f, WATCH_SIGMA))
            *out = (struct watch_finding){REASON_DRIFT, 0, f};
    for (uint32_t f = 0; f < WATCH_FEATURES && !out->code; f++)
        if (w->all.n > WATCH_LEAST && is_off(&w->all, &one, f, WATCH_SIGMA_ONE))
            *out = (struct watch_finding){REASON_OUTLIER, 0, f};
}

static void take(struct watch *w, const struct watch_unit *u)
{
    struct watch_unit *slot = &w->window[w->at];

    while (u->worker >= w->n_own) {
        if (w->n_own == w->cap_own) {
            w->cap_own = w->cap_own ? 2 * w->cap_own : 16;
            w->own = xrealloc(w->own, w->cap_own * sizeof(*w->own));
        }
        memset(&w->own[w->n_own++], 0, sizeof(*w->own));
    }
    if (w->n == WATCH_WINDOW) {
        add(&w->all, slot, true);
        add(&w->own[slot->worker], slot, true);
    } else {
        w->n++;
    }
    *slot = *u;
    w->at = (w->at + 1) % WATCH_WINDOW;
    add(&w->all, u, false);
    add(&w->own[u->worker], u, false);
}

void watch_commit(struct watch *w, uint32_t worker, const struct ledger_commit *c,
                  struct watch_finding *out)
{
    struct watch_unit u;

    *out = (struct watch_finding){REASON_NONE, 0, 0};
    if (c->n_samples == 0)
        return;
    look_for_copies(w, c, out);
    u = features_of(worker, c);
    take(w, &u);
    look_for_drift(w, &u, out);
}

uint64_t watch_probability(uint64_t p, uint32_t code)
{
    if (code == REASON_COPIED || (code != REASON_NONE && p > LEDGER_ONE / WATCH_TIMES))
        return LEDGER_ONE;
    return code == REASON_NONE ? p : p * WATCH_TIMES;
}
