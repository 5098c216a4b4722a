/* Leases and submissions. Leases last 2 s, 8 s at most (world.h). */
#include "orchestrator/orch_state.h"

#include <stdlib.h>
#include <string.h>

#include "proto/digest.h"
#include "proto/submission.h"
#include "unit/orchestrator/moves.h"

static const struct world_options few = {.n_workers = 2,
                                         .n_verifiers = 2,
                                         .steps = 3,
                                         .units_per_batch = 4,
                                         .lag = 1,
                                         .order = "unit"};

static int setup(void **state)
{
    struct world *w;

    move_world(&w, &few);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_free(&w);
    return 0;
}

static void units_are_leased_lowest_first_and_once(void **state)
{
    struct world *w = *state;
    struct msg_lease a, b;

    assert_true(move_lease(w, 0, 2, &a, NULL));
    assert_true(move_lease(w, 1, 2, &b, NULL));

    assert_int_equal(a.n, 2);
    assert_int_equal(a.item[0].unit, 0);
    assert_int_equal(a.item[1].unit, 1);
    assert_int_equal(b.item[0].unit, 2);
    assert_int_equal(a.item[0].version, 0);
}

static void a_worker_gets_a_fair_part(void **state)
{
    struct world *w = *state;
    struct msg_lease l;

    /* batches 0 and 1 may be leased: eight units, two workers */
    assert_true(move_lease(w, 0, MSG_MAX_LEASES, &l, NULL));

    assert_int_equal(l.n, 4);
}

static void a_repeated_ask_gets_the_same_leases(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_lease a, b;

    assert_true(move_lease(w, 0, 3, &a, NULL));
    world_restart(w);
    world_repeat(w, world_node_of(w, ROLE_INFERENCE, 0), &m);

    assert_int_equal(m.kind, MSG_LEASE);
    assert_ok(msg_lease_decode(&b, m.body, NULL), NULL);
    assert_int_equal(b.n, a.n);
    for (uint32_t i = 0; i < a.n; i++) {
        assert_int_equal(a.item[i].unit, b.item[i].unit);
        assert_int_equal(a.item[i].lease, b.item[i].lease);
    }
    assert_int_equal(move_count(w, LEDGER_LEASE), 3);
}

static void no_unit_is_leased_beyond_the_lag(void **state)
{
    struct world *w = *state;
    struct msg_lease l;
    struct msg_wait wait;
    uint64_t last = 0;

    while (move_lease(w, 0, 8, &l, &wait))
        last = l.item[l.n - 1].unit;

    assert_int_equal(last, 7);
    assert_int_equal(wait.code, REASON_NO_WORK);
    assert_int_equal(wait.head_version, 0);
}

/* Batch 1 was cut for version 0 and batch 2 for version 1, and units of both are free. */
static void all_units_of_one_answer_are_for_one_version(void **state)
{
    struct world_options o = few;
    struct world *w;
    const struct msg_batch *batch;
    struct msg_receipt r;
    struct msg_lease l;

    (void)state;
    o.n_workers = 1;
    move_world(&w, &o);
    assert_true(move_lease(w, 0, 8, &l, NULL));
    for (uint32_t i = 0; i < 4; i++)
        move_submit(w, 0, &l.item[i], false, &r);
    for (uint32_t i = 0; i < 2; i++)
        move_judge_all(w, i, REASON_NONE);
    world_pass(w, 2100);
    assert_true(move_batch(w, 0, &batch, NULL));
    move_publish(w, 1, &batch->root, 0, &r);
    assert_true(r.is_accepted);
    assert_true(move_lease(w, 0, 8, &l, NULL));

    assert_int_equal(l.n, 4);
    for (uint32_t i = 0; i < l.n; i++)
        assert_int_equal(l.item[i].version, 0);
    world_free(&w);
}

static void weights_that_a_worker_lacks_are_named(void **state)
{
    struct world *w = *state;
    const struct msg_lease_ask ask = {.newest_version = -1, .oldest_version = -1, .max = 1};
    struct msg_envelope m;
    struct msg_wait wait;
    struct buf body;

    buf_init(&body, 64);
    assert_ok(msg_lease_ask_encode(&body, &ask, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_INFERENCE, 0), MSG_LEASE_ASK, buf_bytes(&body), &m);
    buf_clear(&body);

    assert_int_equal(m.kind, MSG_WAIT);
    assert_ok(msg_wait_decode(&wait, m.body, NULL), NULL);
    assert_int_equal(wait.code, REASON_WANT_VERSION);
    assert_int_equal(wait.head_version, 0);
}

static void an_expired_unit_is_leased_again_under_its_number(void **state)
{
    struct world *w = *state;
    struct msg_lease a, b;

    assert_true(move_lease(w, 0, 1, &a, NULL));
    world_pass(w, 2100);
    assert_true(move_lease(w, 1, 1, &b, NULL));

    assert_int_equal(b.item[0].unit, a.item[0].unit);
    assert_true(b.item[0].lease > a.item[0].lease);
    assert_int_equal(move_unit(w, 0)->attempt, 2);
}

static void progress_renews_a_lease_but_not_past_its_hard_deadline(void **state)
{
    struct world *w = *state;
    struct msg_lease l;
    struct msg_beat b;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    for (uint64_t i = 1; i <= 5; i++) {
        world_pass(w, 1500);
        move_beat(w, 0, &l.item[0], i, &b);
        assert_int_equal(b.n_dropped, 0);
    }
    world_pass(w, 1500); /* 9 s in all */
    move_beat(w, 0, &l.item[0], 6, &b);

    assert_int_equal(b.n_dropped, 1);
    assert_int_equal(b.dropped[0], l.item[0].lease);
    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
}

static void a_heartbeat_without_progress_renews_nothing(void **state)
{
    struct world *w = *state;
    struct msg_lease l;
    struct msg_beat b;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_beat(w, 0, &l.item[0], 1, &b);
    world_pass(w, 1500);
    move_beat(w, 0, &l.item[0], 1, &b);
    world_pass(w, 1000);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
}

static void a_restarted_worker_is_reminded_of_its_leases(void **state)
{
    struct world *w = *state;
    struct msg_lease a, b;

    assert_true(move_lease(w, 0, 1, &a, NULL));
    world_pass(w, 1800); /* a third of a lease and a second, without a word of it */
    assert_true(move_lease(w, 0, 1, &b, NULL));

    assert_int_equal(b.item[0].unit, a.item[0].unit);
    assert_int_equal(b.item[0].lease, a.item[0].lease);
}

static void a_live_lease_gets_fresh_grace_after_a_restart(void **state)
{
    struct world *w = *state;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    world_pass(w, 1500);
    world_restart(w);
    world_pass(w, 1500);
    assert_int_equal(move_unit(w, 0)->state, UNIT_LEASED);
    world_pass(w, 1000);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
}

static void a_repeated_submission_gets_the_first_receipt(void **state)
{
    struct world *w = *state;
    struct msg_receipt first, again, fresh;
    struct msg_envelope m;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 0, &l.item[0], false, &first);
    world_repeat(w, world_node_of(w, ROLE_INFERENCE, 0), &m);
    assert_ok(msg_receipt_decode(&again, m.body, NULL), NULL);
    world_restart(w);
    move_judge_all(w, 0, REASON_NONE);
    move_judge_all(w, 1, REASON_NONE);
    move_submit(w, 0, &l.item[0], false, &fresh); /* another idem, the same unit and lease */

    assert_true(first.is_accepted && again.is_accepted && fresh.is_accepted);
    assert_int_equal(first.seq, again.seq);
    assert_int_equal(first.seq, fresh.seq);
    assert_true(digest_equal(&first.entry, &fresh.entry));
    assert_int_equal(move_count(w, LEDGER_COMMIT), 1);
}

static void a_lease_is_its_holders(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 1, &l.item[0], false, &r);

    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_NO_LEASE);
    assert_int_equal(move_unit(w, 0)->state, UNIT_LEASED);
}

static void an_expired_lease_is_refused(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    world_pass(w, 2100);
    move_submit(w, 0, &l.item[0], false, &r);

    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_NO_LEASE);
}

/* Submits the honest content with one thing altered; the reason it is refused for. */
static enum reason refused(struct world *w, uint32_t worker, const struct lease_item *l,
                           void (*alter)(struct msg_submit *m))
{
    struct msg_submit *m = calloc(1, sizeof(*m));
    struct msg_envelope env;
    struct msg_receipt r;
    struct buf body, altered;

    buf_init(&body, 1u << 20);
    buf_init(&altered, 1u << 20);
    world_submission(w, &body, l, false);
    assert_ok(msg_submit_decode(m, buf_bytes(&body), NULL), NULL);
    alter(m);
    assert_ok(msg_submit_encode(&altered, m, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_SUBMIT, buf_bytes(&altered),
              &env);
    assert_ok(msg_receipt_decode(&r, env.body, NULL), NULL);
    assert_false(r.is_accepted);
    buf_clear(&body);
    buf_clear(&altered);
    free(m);
    return (enum reason)r.code;
}

static enum reason submit_altered(struct world *w, void (*alter)(struct msg_submit *m))
{
    struct msg_lease l;
    enum reason why;

    world_pass(w, 200000); /* since the last refusal */
    assert_true(move_lease(w, 0, 1, &l, NULL));
    why = refused(w, 0, &l.item[0], alter);
    assert_int_equal(move_unit(w, l.item[0].unit)->state, UNIT_FREE);
    assert_int_equal(move_count(w, LEDGER_COMMIT), 0);
    return why;
}

static void spoil_root(struct msg_submit *m)
{
    m->root.b[0] ^= 1;
}
static void spoil_reward(struct msg_submit *m)
{
    m->sample[0].reward += 1; /* committed to by the root */
}
static void spoil_numerics(struct msg_submit *m)
{
    memcpy(m->numerics, "bf16-1", 7);
    submission_root(&m->root, m);
}
static void spoil_weights(struct msg_submit *m)
{
    m->weights.b[3] ^= 1;
    submission_root(&m->root, m);
}
static void spoil_version(struct msg_submit *m)
{
    m->version = 5;
    submission_root(&m->root, m);
}
static void drop_sample(struct msg_submit *m)
{
    m->n_samples--;
    submission_root(&m->root, m);
}
static void not_a_number(struct msg_submit *m)
{
    m->sample[1].reward = (float)__builtin_nanf("");
    submission_root(&m->root, m);
}

static void a_submission_must_be_of_the_assigned_form(void **state)
{
    struct world *w = *state;

    assert_int_equal(submit_altered(w, spoil_root), REASON_ROOT);
    assert_int_equal(submit_altered(w, spoil_reward), REASON_ROOT);
    assert_int_equal(submit_altered(w, spoil_numerics), REASON_NUMERICS);
    assert_int_equal(submit_altered(w, spoil_weights), REASON_WEIGHTS);
    assert_int_equal(submit_altered(w, spoil_version), REASON_STALE);
    assert_int_equal(submit_altered(w, drop_sample), REASON_BOUNDS);
    assert_int_equal(submit_altered(w, not_a_number), REASON_NOT_FINITE);
}

static void a_unit_is_given_up_after_the_last_try(void **state)
{
    struct world_options o = few;
    struct world *w;
    struct msg_lease l;

    (void)state;
    o.tries = 3;
    o.n_workers = 1;
    move_world(&w, &o);
    for (int i = 0; i < 3; i++) {
        assert_true(move_lease(w, 0, 1, &l, NULL));
        assert_int_equal(l.item[0].unit, 0);
        world_pass(w, 2100);
        move_hello(w);
    }

    assert_int_equal(move_unit(w, 0)->state, UNIT_GIVEN_UP);
    assert_true(move_lease(w, 0, 1, &l, NULL));
    assert_int_equal(l.item[0].unit, 1);
    world_free(&w);
}

/* Whoever sends back at once what the other one sent back uses up a unit's attempts, and loses no stake by it. */
static void two_that_waste_attempts_use_up_no_unit(void **state)
{
    struct world_options o = few;
    struct msg_wait wait = {0};
    struct world *w;
    struct msg_lease l;

    (void)state;
    o.n_workers = 3;
    o.tries = 8;
    move_world(&w, &o);
    for (int i = 0; i < 200; i++) {
        for (uint32_t k = 0; k < 2; k++)
            while (move_lease(w, k, MSG_MAX_LEASES, &l, &wait))
                for (uint32_t n = 0; n < l.n; n++)
                    assert_int_equal(refused(w, k, &l.item[n], spoil_root), REASON_ROOT);
        world_pass(w, 50);
        move_hello(w);
    }
    assert_int_equal(move_count(w, LEDGER_GIVEUP), 0);
    assert_int_equal(wait.code, REASON_BUSY);
    assert_contains(wait.text, "came to nothing");
    assert_true(move_lease(w, 2, MSG_MAX_LEASES, &l, NULL));

    world_pass(w, 200000);
    move_hello(w);
    assert_true(move_lease(w, 0, 1, &l, NULL)); /* it may have been bad luck */
    world_free(&w);
}

/* ---- the share of the unproven ----------------------------------------------------------- */

/* Leases until it is told to wait; how many units. `first` gets how many of them are below 8. */
static uint32_t lease_all(struct world *w, uint32_t worker, uint32_t *first,
                          struct msg_wait *wait)
{
    struct msg_lease l;
    uint32_t n = 0;

    *first = 0;
    while (move_lease(w, worker, MSG_MAX_LEASES, &l, wait))
        for (uint32_t i = 0; i < l.n; i++, n++)
            *first += l.item[i].unit < 8;
    return n;
}

/* Two batches of eight; worker 0 has five units accepted, which is what is wanted of the proven. */
static struct world *proven_world(void)
{
    struct world_options o = few;
    struct world *w;
    struct msg_lease l;
    struct msg_receipt r;

    o.units_per_batch = 8;
    move_world(&w, &o);
    assert_true(move_lease(w, 0, 5, &l, NULL));
    assert_int_equal(l.n, 5);
    for (uint32_t i = 0; i < l.n; i++)
        move_submit(w, 0, &l.item[i], false, &r);
    for (uint32_t i = 0; i < 2; i++)
        move_judge_all(w, i, REASON_NONE);
    world_pass(w, 300);
    assert_int_equal(move_count(w, LEDGER_ACCEPT), 5);
    return w;
}

static void beginners_get_a_quarter_of_a_batch(void **state)
{
    (void)state;
    struct world *w = proven_world();
    struct msg_wait wait;
    uint32_t first;

    assert_int_equal(lease_all(w, 1, &first, &wait), 4); /* two of each batch */
    assert_int_equal(first, 2);
    assert_int_equal(wait.code, REASON_NO_WORK);
    assert_contains(wait.text, "7 units are kept for workers with 5 accepted units");
    assert_int_equal(lease_all(w, 0, &first, &wait), 7); /* who has them gets the rest */
    world_free(&w);
}

static void where_nobody_else_is_beginners_get_all(void **state)
{
    (void)state;
    struct world *w = proven_world();
    struct msg_wait wait;
    uint32_t first;

    world_pass(w, ORCH_ALIVE_MS + 500); /* the proven one is not heard of any more */
    assert_int_equal(lease_all(w, 1, &first, &wait), 11);
    world_free(&w);
}

/* Alive is not enough: one that asks for nothing keeps no unit from the others. */
static void a_proven_worker_that_takes_no_units_keeps_none(void **state)
{
    (void)state;
    struct world *w = proven_world();
    struct msg_wait wait;
    uint32_t first;

    world_pass(w, ORCH_ALIVE_MS + 500);
    move_hello(w);
    assert_int_equal(lease_all(w, 1, &first, &wait), 11);
    world_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(units_are_leased_lowest_first_and_once),
        TEST(a_worker_gets_a_fair_part),
        cmocka_unit_test(beginners_get_a_quarter_of_a_batch),
        cmocka_unit_test(where_nobody_else_is_beginners_get_all),
        cmocka_unit_test(a_proven_worker_that_takes_no_units_keeps_none),
        TEST(a_repeated_ask_gets_the_same_leases),
        TEST(no_unit_is_leased_beyond_the_lag),
        cmocka_unit_test(all_units_of_one_answer_are_for_one_version),
        TEST(weights_that_a_worker_lacks_are_named),
        TEST(an_expired_unit_is_leased_again_under_its_number),
        TEST(progress_renews_a_lease_but_not_past_its_hard_deadline),
        TEST(a_heartbeat_without_progress_renews_nothing),
        TEST(a_restarted_worker_is_reminded_of_its_leases),
        TEST(a_live_lease_gets_fresh_grace_after_a_restart),
        TEST(a_repeated_submission_gets_the_first_receipt),
        TEST(a_lease_is_its_holders),
        TEST(an_expired_lease_is_refused),
        TEST(a_submission_must_be_of_the_assigned_form),
        cmocka_unit_test(a_unit_is_given_up_after_the_last_try),
        cmocka_unit_test(two_that_waste_attempts_use_up_no_unit),
    };
    return cmocka_run_group_tests_name("orchestrator/orch_units", tests, NULL, NULL);
}
