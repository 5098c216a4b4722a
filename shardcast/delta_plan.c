#include "shardcast/delta_plan.h"

#include <string.h>

#include "base/check.h"

#define NO_WAY   UINT64_MAX
#define NO_OFFER SIZE_MAX

/* The cheapest way that ends with offer i. */
struct way {
    uint64_t cost; /* of all of it; NO_WAY: its base cannot be had */
    size_t before; /* the offer that gives its base; NO_OFFER: none is needed */
};

static bool gives(const struct delta_offer *o, int64_t version)
{
    return o->content.version == version &&
           (o->content.kind == CONTENT_FULL || o->content.kind == CONTENT_DELTA);
}

/* The cheapest of the offers that give `version`, among those whose ways are known. */
static size_t cheapest(const struct way *way, const struct delta_offer *offer, size_t n,
                       int64_t version)
{
    size_t best = NO_OFFER;

    for (size_t i = 0; i < n; i++)
        if (gives(&offer[i], version) && way[i].cost != NO_WAY &&
            (best == NO_OFFER || way[i].cost < way[best].cost))
            best = i;
    return best;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a < NO_WAY - 1 - b ? a + b : NO_WAY - 1;
}

/* Offers by ascending version: a base is older than what is made of it. */
static void sort(size_t *order, const struct delta_offer *offer, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = i;

        for (; at > 0 && offer[order[at - 1]].content.version > offer[i].content.version; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static void find_ways(struct way *way, const struct delta_offer *offer, const bool *fetch,
                      const size_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        way[i] = (struct way){NO_WAY, NO_OFFER};
    for (size_t k = 0; k < n; k++) {
        size_t i = order[k];
        bool is_paid = offer[i].is_here || fetch[i];
        struct way w = {is_paid ? 0 : offer[i].cost, NO_OFFER};

        if (offer[i].content.kind == CONTENT_DELTA) {
            w.before = cheapest(way, offer, n, offer[i].content.base);
            w.cost = w.before == NO_OFFER ? NO_WAY : sum(w.cost, way[w.before].cost);
        }
        way[i] = w;
    }
}

void delta_plan(bool *fetch, const struct delta_offer *offer, size_t n_offers,
                const int64_t *wanted, size_t n_wanted)
{
    size_t order[DELTA_OFFERS_MAX];
    struct way way[DELTA_OFFERS_MAX];

    CHECK(n_offers <= DELTA_OFFERS_MAX);
    if (n_offers)
        memset(fetch, 0, n_offers * sizeof(*fetch));
    sort(order, offer, n_offers);
    for (size_t t = 0; t < n_wanted; t++) {
        find_ways(way, offer, fetch, order, n_offers);
        for (size_t i = cheapest(way, offer, n_offers, wanted[t]); i != NO_OFFER;
             i = way[i].before)
            fetch[i] = !offer[i].is_here;
    }
}
