/*
 * The plan of what to fetch, beside all plans there are: random offers among few versions, every
 * subset of them tried.
 */
#include "shardcast/delta_plan.h"

#include <stdlib.h>

#include "support/random.h"
#include "support/test.h"

#define VERSIONS   5
#define OFFERS_MAX 11u

struct net {
    struct delta_offer offer[OFFERS_MAX];
    size_t n;
};

static void add(struct net *net, int64_t version, uint32_t kind, int64_t base, uint64_t cost)
{
    net->offer[net->n++] = (struct delta_offer){.content = {version, kind, base}, .cost = cost};
}

static void random_net(struct net *net, struct rng *r)
{
    net->n = 0;
    for (int64_t v = 0; v < VERSIONS; v++)
        if (rng_below(r, 3) && net->n < OFFERS_MAX) {
            add(net, v, CONTENT_FULL, -1, 50 + rng_below(r, 100));
            net->offer[net->n - 1].is_here = rng_below(r, 4) == 0;
        }
    for (int64_t v = 1; v < VERSIONS; v++)
        for (int64_t b = 0; b < v; b++)
            if (rng_below(r, 2) && net->n < OFFERS_MAX)
                add(net, v, CONTENT_DELTA, b, 1 + rng_below(r, 120));
}

/* What is had with these offers fetched. */
static bool is_had(const struct net *net, const bool *fetch, int64_t version)
{
    bool had[VERSIONS] = {false};

    for (int64_t v = 0; v < VERSIONS; v++)
        for (size_t i = 0; i < net->n; i++) {
            const struct delta_offer *o = &net->offer[i];
            bool is_got = fetch[i] || o->is_here;

            if (is_got && o->content.version == v)
                had[v] |= o->content.kind == CONTENT_FULL || had[o->content.base];
        }
    return had[version];
}

static uint64_t cost_of(const struct net *net, const bool *fetch)
{
    uint64_t cost = 0;

    for (size_t i = 0; i < net->n; i++)
        cost += fetch[i] && !net->offer[i].is_here ? net->offer[i].cost : 0;
    return cost;
}

/* The least cost by which all of the wanted that can be had are had. */
static uint64_t least_cost(const struct net *net, const int64_t *wanted, size_t n_wanted)
{
    bool all[OFFERS_MAX], fetch[OFFERS_MAX];
    uint64_t least = UINT64_MAX;

    for (size_t i = 0; i < net->n; i++)
        all[i] = true;
    for (uint32_t set = 0; set < 1u << net->n; set++) {
        bool is_enough = true;

        for (size_t i = 0; i < net->n; i++)
            fetch[i] = set >> i & 1;
        for (size_t t = 0; t < n_wanted; t++)
            is_enough &= is_had(net, fetch, wanted[t]) || !is_had(net, all, wanted[t]);
        if (is_enough && cost_of(net, fetch) < least)
            least = cost_of(net, fetch);
    }
    return least;
}

static void assert_cheapest(const struct net *net, const int64_t *wanted, size_t n_wanted)
{
    bool fetch[OFFERS_MAX], all[OFFERS_MAX];

    for (size_t i = 0; i < net->n; i++)
        all[i] = true;
    delta_plan(fetch, net->offer, net->n, wanted, n_wanted);
    for (size_t t = 0; t < n_wanted; t++)
        assert_true(is_had(net, fetch, wanted[t]) == is_had(net, all, wanted[t]));
    assert_int_equal(cost_of(net, fetch), least_cost(net, wanted, n_wanted));
}

static void one_version_is_reached_by_the_shortest_path(void **state)
{
    struct rng r = random_seeded(1);
    struct net net;

    (void)state;
    for (size_t round = 0; round < 300; round++) {
        int64_t wanted = (int64_t)rng_below(&r, VERSIONS);

        random_net(&net, &r);
        assert_cheapest(&net, &wanted, 1);
    }
}

/* From the oldest on, each is wanted: no base lies outside. */
static void a_row_of_versions_is_had_for_the_least(void **state)
{
    static const int64_t wanted[VERSIONS] = {0, 1, 2, 3, 4};
    struct rng r = random_seeded(2);
    struct net net;

    (void)state;
    for (size_t round = 0; round < 300; round++) {
        random_net(&net, &r);
        assert_cheapest(&net, wanted, VERSIONS);
    }
}

static void a_lagging_node_takes_the_patch_that_skips(void **state)
{
    const int64_t wanted = 4;
    struct net net = {.n = 0};
    bool fetch[OFFERS_MAX];

    (void)state;
    add(&net, 0, CONTENT_FULL, -1, 1000);
    net.offer[0].is_here = true;
    for (int64_t v = 1; v <= 4; v++)
        add(&net, v, CONTENT_DELTA, v - 1, 10);
    add(&net, 4, CONTENT_DELTA, 0, 25);
    add(&net, 4, CONTENT_FULL, -1, 1000);

    delta_plan(fetch, net.offer, net.n, &wanted, 1);

    for (size_t i = 0; i < net.n; i++)
        assert_true(fetch[i] == (i == 5));
}

static void a_joiner_takes_an_anchor_and_patches(void **state)
{
    static const int64_t wanted[] = {2, 3, 4};
    struct net net = {.n = 0};
    bool fetch[OFFERS_MAX];

    (void)state;
    for (int64_t v = 2; v <= 4; v++)
        add(&net, v, CONTENT_FULL, -1, 1000);
    for (int64_t v = 2; v <= 4; v++)
        add(&net, v, CONTENT_DELTA, v - 1, 10);

    delta_plan(fetch, net.offer, net.n, wanted, 3);

    for (size_t i = 0; i < net.n; i++)
        assert_true(fetch[i] == (i == 0 || i == 4 || i == 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_version_is_reached_by_the_shortest_path),
        cmocka_unit_test(a_row_of_versions_is_had_for_the_least),
        cmocka_unit_test(a_lagging_node_takes_the_patch_that_skips),
        cmocka_unit_test(a_joiner_takes_an_anchor_and_patches),
    };
    return cmocka_run_group_tests_name("shardcast/delta_plan", tests, NULL, NULL);
}
