/*
 * Crowds of overlay machines (shardcast/overlay.h) in virtual time, smaller than those that
 * 'muster sim membership' makes: under attack, with nodes that nobody can dial, and after
 * a fifth of them crashed at once.
 */
#include "sim/crowd.h"
#include "support/random.h"
#include "support/test.h"

/* Ping and answers, twice a second, and five of suspicion; a message may take a latency more. */
#define DETECT_S 9.2
#define REPAIR_S 12.0

static struct crowd_options options(void)
{
    struct rng r = random_seeded(1);

    return (struct crowd_options){.seed = rng_u64(&r),
                                  .nodes = 128,
                                  .seeds = 4,
                                  .crash = 0.2,
                                  .join_s = 30,
                                  .settle_s = 60,
                                  .latency_ms = 40};
}

static void attackers_in_the_roster_get_no_more_than_their_share(void **state)
{
    struct crowd_options o = options();
    struct crowd_result r;

    (void)state;
    o.attackers = 0.3;
    crowd_run(&r, &o);

    assert_int_equal(r.n_honest, 90);
    /* Each of 90 fails with a probability below 1e-3: two do in one run of 250. */
    assert_true(r.n_below <= 1);
    assert_int_equal(r.n_apart, 0);
    assert_true(r.honest_links > 6);
    assert_int_equal(r.n_wrong, 0);
}

static void a_crash_of_a_fifth_is_noticed_and_mended(void **state)
{
    struct crowd_options o = options();
    struct crowd_result r;

    (void)state;
    crowd_run(&r, &o);

    assert_true(r.detect_max_s > 7 && r.detect_max_s <= DETECT_S);
    assert_true(r.repair_max_s <= REPAIR_S);
    assert_int_equal(r.n_unrepaired, 0);
    assert_int_equal(r.n_apart_after, 0);
    /* Half, but for links that one end has given up and the other not yet. */
    assert_true(r.chosen / r.links > 0.48);
}

static void nodes_that_nobody_can_dial_take_part(void **state)
{
    struct crowd_options o = options();
    struct crowd_result r;

    (void)state;
    o.hidden = 0.5;
    crowd_run(&r, &o);

    assert_int_equal(r.n_apart, 0);
    assert_int_equal(r.n_apart_after, 0);
    assert_int_equal(r.n_unrepaired, 0);
    assert_true(r.min_honest >= 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attackers_in_the_roster_get_no_more_than_their_share),
        cmocka_unit_test(a_crash_of_a_fifth_is_noticed_and_mended),
        cmocka_unit_test(nodes_that_nobody_can_dial_take_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
