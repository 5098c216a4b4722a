/*
 * Swarms of shardcast's machines on links of given rates, smaller than those that 'muster sim
 * broadcast' makes: how near the lower bound they come, and what attackers and crashes cost.
 */
#include "sim/swarm.h"

#include <string.h>

#include "support/random.h"
#include "support/test.h"

static struct swarm_options options(void)
{
    struct rng r = random_seeded(1);

    return (struct swarm_options){.seed = rng_u64(&r),
                                  .nodes = 40,
                                  .shards = 300,
                                  .links = 8,
                                  .bytes = 300e6,
                                  .up = 1e8,
                                  .down = 1e8,
                                  .origin_up = 1e8,
                                  .latency_ms = 40,
                                  .down_s = 2};
}

static void a_file_reaches_all_near_the_bound(void **state)
{
    struct swarm_options o = options();
    struct swarm_result r;

    (void)state;
    swarm_run(&r, &o);

    assert_int_equal(r.n_finished, 39);
    /* In so few pieces; fetching in order, or through a relay, takes several times the bound. */
    assert_true(r.bound_s / r.p99_s > 0.7);
    assert_true(r.bound_s / r.max_s <= 1);
    assert_true(r.origin_copies < 1.3);
    assert_true(r.announce_p99_s < 0.5);
    assert_true(r.wasted < 0.002); /* 23 of 11,700: in the end, some are asked of two */
    assert_int_equal(r.refetched, 0);
}

static void the_same_seed_gives_the_same_course(void **state)
{
    struct swarm_options o = options();
    struct swarm_result a, b;

    (void)state;
    o.nodes = 20;
    o.churn = 0.2;
    o.garbage = 0.1;
    swarm_run(&a, &o);
    swarm_run(&b, &o);

    assert_memory_equal(&a, &b, sizeof(a));
    o.seed++;
    swarm_run(&b, &o);
    assert_true(memcmp(&a, &b, sizeof(a)) != 0);
}

static void garbage_is_found_out_and_costs_little(void **state)
{
    struct swarm_options o = options();
    struct swarm_result r;

    (void)state;
    o.garbage = 0.2;
    swarm_run(&r, &o);

    assert_int_equal(r.n_receivers, 31);
    assert_int_equal(r.n_finished, 31);
    assert_int_equal(r.n_named, 8);
    assert_int_equal(r.n_honest_named, 0);
    assert_true(r.bound_s / r.max_s > 0.5);
    /* A neighbour is asked for one shard until it gave one that is right: a shard for each of the 8 links
     * of each of the 8 attackers (a few links more, for the mean is 8). */
    assert_true(r.garbage < 1.25 * 8 * 8 / (31.0 * 300));
}

static void who_crashes_fetches_nothing_twice(void **state)
{
    struct swarm_options o = options();
    struct swarm_result r;

    (void)state;
    o.churn = 0.3;
    swarm_run(&r, &o);

    assert_int_equal(r.n_finished, 39);
    assert_int_equal(r.refetched, 0);
}

static void all_finish_without_the_origin(void **state)
{
    struct swarm_options o = options();
    struct swarm_result r;

    (void)state;
    o.origin_quits = 1.1;
    swarm_run(&r, &o);

    assert_int_equal(r.n_finished, 39);
    assert_true(r.origin_copies < 1.15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_reaches_all_near_the_bound),
        cmocka_unit_test(the_same_seed_gives_the_same_course),
        cmocka_unit_test(garbage_is_found_out_and_costs_little),
        cmocka_unit_test(who_crashes_fetches_nothing_twice),
        cmocka_unit_test(all_finish_without_the_origin),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
