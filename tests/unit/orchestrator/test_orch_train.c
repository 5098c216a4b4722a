/* Batches, versions, and the end. */
#include "orchestrator/orch_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "unit/orchestrator/moves.h"

static const struct world_options few = {.n_workers = 2,
                                         .n_verifiers = 2,
                                         .steps = 2,
                                         .units_per_batch = 5,
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

static void a_batch_waits_for_all_its_units_and_says_for_which(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct msg_wait wait;

    assert_false(move_batch(w, 0, &b, &wait));

    assert_int_equal(wait.code, REASON_BATCH_PENDING);
    assert_contains(wait.text, "unit 0");
}

static void a_batch_holds_its_units_in_order_without_the_flat(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct msg_envelope env;
    struct merkle tree;
    struct digest digest, root;
    const uint64_t want[] = {0, 1, 2, 4}; /* unit 3 is flat */

    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));

    assert_int_equal(b->n, 4);
    merkle_init(&tree);
    for (uint32_t i = 0; i < b->n; i++) {
        assert_ok(msg_envelope_decode(&env, b->envelope[i], NULL), NULL);
        assert_ok(msg_envelope_verify(&env, NULL), NULL);
        assert_ok(msg_submit_decode(m, env.body, NULL), NULL);
        assert_int_equal(m->unit, want[i]);
        digest_of(&digest, b->envelope[i]);
        merkle_add(&tree, BYTES_OF(digest.b));
    }
    merkle_root(&tree, &root);
    assert_true(digest_equal(&root, &b->root));
    free(m);
}

static void an_old_batch_is_given_out_again_after_a_restart(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct digest root;

    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));
    root = b->root;
    world_restart(w);
    assert_true(move_batch(w, 0, &b, NULL));

    assert_true(digest_equal(&root, &b->root));
    assert_int_equal(b->n, 4);
    assert_int_equal(move_count(w, LEDGER_BATCH), 1);
}

/* One key cannot keep the orchestrator at reading: it waits, and others do not. */
static void who_asks_for_batches_without_end_waits(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct msg_wait wait;
    uint32_t n = 0;

    move_all_units(w);
    while (n < 1000 && move_batch(w, 0, &b, &wait))
        n++;
    assert_true(n > 100 && n < 1000);
    assert_int_equal(wait.code, REASON_BUSY);
    assert_true(wait.retry_ms > 0 && wait.retry_ms < 1000);
    assert_true(move_batch_of(w, ROLE_VERIFIER, 0, &b, &wait));
    world_pass(w, wait.retry_ms);
    assert_true(move_batch(w, 0, &b, &wait));
}

static void the_same_version_twice_gets_the_first_receipt(void **state)
{
    struct world *w = *state;
    struct msg_receipt first, again;

    move_publish(w, 0, NULL, 0, &first);
    world_restart(w);
    move_publish(w, 0, NULL, 0, &again);

    assert_true(first.is_accepted && again.is_accepted);
    assert_int_equal(first.seq, again.seq);
    assert_int_equal(move_count(w, LEDGER_STEP), 1);
}

static void another_content_for_a_version_stops_the_run(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_wait wait;
    struct buf json;

    move_publish(w, 0, NULL, 7, &r);

    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_EQUIVOCATION);
    assert_int_equal(move_count(w, LEDGER_EQUIVOCATION), 1);
    world_restart(w);
    assert_false(move_lease(w, 0, 1, &l, &wait));
    assert_int_equal(wait.code, REASON_EQUIVOCATION);
    buf_init(&json, 1u << 20);
    orch_status(w->orch, STATUS_SUMMARY, 0, w->now_ms, &json);
    assert_contains(buf_cstr(&json), "two contents for version 0");
    buf_clear(&json);
}

static void a_version_must_follow_from_its_batch(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct msg_receipt r;
    struct digest other = {{1}};

    move_publish(w, 1, &other, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_BATCH_PENDING);
    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));
    move_publish(w, 1, &other, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_ROOT);
    move_publish(w, 2, &b->root, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    move_publish(w, 1, &b->root, 0, &r);
    assert_true(r.is_accepted);
}

/* A referee takes the state before a step from its manifest: it must be what the step before ended with. */
static void a_version_begins_with_the_state_of_the_one_before(void **state)
{
    struct world *w = *state;
    const struct msg_batch *b;
    struct msg_receipt r;

    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));
    w->bends_masters = true;
    move_publish(w, 1, &b->root, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_ROOT);
    w->bends_masters = false;
    w->bends_optimizer = true;
    move_publish(w, 1, &b->root, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_ROOT);
    w->bends_optimizer = false;
    world_restart(w); /* known from the ledger alone */
    move_publish(w, 1, &b->root, 0, &r);
    assert_true(r.is_accepted);
}

static void finish(struct world *w)
{
    const struct msg_batch *b;
    struct msg_receipt r;

    for (int64_t v = 1; v <= w->opt.steps; v++) {
        move_all_units(w);
        assert_true(move_batch(w, (uint64_t)v - 1, &b, NULL));
        move_publish(w, v, &b->root, 0, &r);
        assert_true(r.is_accepted);
    }
}

static void the_last_version_closes_the_task_and_pays_everybody(void **state)
{
    struct world *w = *state;
    struct account escrow, reserved;
    struct msg_wait wait;
    struct msg_lease l;

    finish(w);

    assert_true(orch_is_done(w->orch));
    escrow = account_of_task(ACCOUNT_ESCROW, &w->task);
    reserved = account_of_task(ACCOUNT_RESERVED, &w->task);
    assert_int_equal(ledger_books_balance(move_books(w), &escrow), 0);
    assert_int_equal(ledger_books_balance(move_books(w), &reserved), 0);
    for (uint32_t i = 0; i < w->n_nodes; i++) {
        struct account a = account_of_key(ACCOUNT_PENDING, &w->node[i].key->node);
        assert_int_equal(ledger_books_balance(move_books(w), &a), 0);
    }
    assert_false(move_lease(w, 0, 1, &l, &wait));
    assert_true(wait.is_done);
    assert_int_equal(wait.code, REASON_DONE);
}

static void an_initiator_may_close_early(void **state)
{
    struct world *w = *state;
    const struct msg_task_close c = {.task = w->task};
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;
    struct buf body;

    assert_true(move_lease(w, 0, 2, &l, NULL)); /* live units are taken back */
    buf_init(&body, 64);
    assert_ok(msg_task_close_encode(&body, &c, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_INITIATOR, 0), MSG_TASK_CLOSE, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
    buf_clear(&body);

    assert_true(r.is_accepted);
    assert_true(orch_is_done(w->orch));
    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
}

static void an_initiator_closes_no_task_of_anothers(void **state)
{
    const struct world_options o = {.n_workers = 1,
                                    .n_verifiers = 1,
                                    .steps = 2,
                                    .units_per_batch = 2,
                                    .lag = 1,
                                    .order = "unit",
                                    .has_two_initiators = true};
    struct msg_task_close c;
    struct msg_envelope m;
    struct msg_receipt r;
    struct world *w;
    struct buf body;

    (void)state;
    move_world(&w, &o);
    c.task = w->task;
    buf_init(&body, 64);
    assert_ok(msg_task_close_encode(&body, &c, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_INITIATOR, 1), MSG_TASK_CLOSE, buf_bytes(&body), &m);
    assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_WRONG_ROLE);
    assert_false(orch_is_done(w->orch));
    assert_int_equal(move_count(w, LEDGER_TASK_CLOSE), 0);
    buf_clear(&body);
    world_free(&w);
}

static void abandon_by(struct world *w, uint32_t trainer, int64_t version,
                       struct msg_receipt *r)
{
    struct msg_abandon a = {.version = version, .text = "cannot be made again"};
    struct msg_envelope m;
    struct buf body;

    a.weights = *ledger_books_weights(move_books(w));
    buf_init(&body, 1024);
    assert_ok(msg_abandon_encode(&body, &a, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_TRAINER, trainer), MSG_ABANDON, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
    buf_clear(&body);
}

static void abandon(struct world *w, int64_t version, struct msg_receipt *r)
{
    abandon_by(w, 0, version, r);
}

static void nobody_abandons_another_trainers_version(void **state)
{
    struct world_options o = few;
    struct world *w;
    struct msg_receipt r;

    (void)state;
    o.has_two_trainers = true;
    move_world(&w, &o);
    abandon_by(w, 1, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_WRONG_ROLE);
    assert_int_equal(move_count(w, LEDGER_ABANDON), 0);
    world_free(&w);
}

static void an_abandoned_version_is_no_more_and_its_units_are_taken_back(void **state)
{
    struct world_options o = few;
    struct world *w;
    const struct msg_batch *b;
    struct msg_receipt r;
    struct msg_lease l;
    uint64_t unit;

    (void)state;
    o.steps = 4;
    move_world(&w, &o);
    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));
    move_publish(w, 1, &b->root, 0, &r);
    assert_true(r.is_accepted);
    assert_true(move_lease(w, 0, 1, &l, NULL));
    unit = l.item[0].unit;
    assert_int_equal(move_unit(w, unit)->version, 1);
    abandon(w, 1, &r);

    assert_true(r.is_accepted);
    assert_int_equal(move_unit(w, unit)->state, UNIT_FREE);
    assert_int_equal(ledger_books_version(move_books(w)), 0);
    move_publish(w, 1, &b->root, 0, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    world_free(&w);
}

/* What is published then would follow from no version, and be checked by nobody. */
static void the_first_version_is_not_abandoned(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    abandon(w, 0, &r);

    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    assert_int_equal(move_count(w, LEDGER_ABANDON), 0);
    assert_int_equal(move_unit(w, l.item[0].unit)->state, UNIT_LEASED);
}

/* Every unit but unit 0 is judged, and what is complete becomes versions. */
static void go_on_without_unit_0(struct world *w, int64_t version)
{
    const struct msg_batch *b;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;

    while (move_lease(w, 0, 1, &l, NULL))
        for (uint32_t i = 0; i < l.n; i++)
            move_submit(w, 0, &l.item[i], false, &r);
    world_pass(w, 1);
    while (move_check(w, 0, &c))
        if (c.unit != 0)
            move_verdict(w, 0, &c, REASON_NONE, &r);
    assert_true(move_batch(w, (uint64_t)version - 1, &b, NULL));
    move_publish(w, version, &b->root, 0, &r);
    assert_true(r.is_accepted);
}

static void a_submission_that_arrival_left_behind_is_taken_back(void **state)
{
    const struct world_options o = {.n_workers = 1,
                                    .n_verifiers = 1,
                                    .steps = 20,
                                    .units_per_batch = 2,
                                    .lag = 4,
                                    .order = "arrival"};
    struct world *w;

    (void)state;
    move_world(&w, &o);
    for (int64_t v = 1; v <= 4; v++)
        go_on_without_unit_0(w, v);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED); /* staleness 4 is allowed */
    go_on_without_unit_0(w, 5);

    world_pass(w, 1);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
    world_free(&w);
}

static void a_task_is_published_once(void **state)
{
    struct world *w = *state;
    const struct msg_task_publish p = {.bundle = buf_bytes(&w->bundle)};
    struct msg_envelope m;
    struct msg_receipt r;
    struct buf body;

    buf_init(&body, 1u << 20);
    assert_ok(msg_task_publish_encode(&body, &p, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_INITIATOR, 0), MSG_TASK_PUBLISH, buf_bytes(&body), &m);
    assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
    buf_clear(&body);

    assert_true(r.is_accepted); /* the same bundle: the receipt of its entry */
    assert_int_equal(move_count(w, LEDGER_TASK_OPEN), 1);
}

static void the_bundle_is_given_to_whoever_has_its_id(void **state)
{
    struct world *w = *state;
    const struct msg_bundle_ask ask = {.task = w->task};
    struct msg_envelope m;
    struct msg_bundle b;
    struct buf body;

    buf_init(&body, 64);
    assert_ok(msg_bundle_ask_encode(&body, &ask, NULL), NULL);
    world_ask(w, 0, MSG_BUNDLE_ASK, buf_bytes(&body), &m);
    assert_int_equal(m.kind, MSG_BUNDLE);
    assert_ok(msg_bundle_decode(&b, m.body, NULL), NULL);
    assert_true(bytes_equal(b.data, buf_bytes(&w->bundle)));
    buf_clear(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_batch_waits_for_all_its_units_and_says_for_which),
        TEST(a_batch_holds_its_units_in_order_without_the_flat),
        TEST(an_old_batch_is_given_out_again_after_a_restart),
        TEST(who_asks_for_batches_without_end_waits),
        TEST(the_same_version_twice_gets_the_first_receipt),
        TEST(another_content_for_a_version_stops_the_run),
        TEST(a_version_must_follow_from_its_batch),
        TEST(a_version_begins_with_the_state_of_the_one_before),
        TEST(the_last_version_closes_the_task_and_pays_everybody),
        TEST(an_initiator_may_close_early),
        cmocka_unit_test(an_initiator_closes_no_task_of_anothers),
        cmocka_unit_test(nobody_abandons_another_trainers_version),
        cmocka_unit_test(an_abandoned_version_is_no_more_and_its_units_are_taken_back),
        TEST(the_first_version_is_not_abandoned),
        cmocka_unit_test(a_submission_that_arrival_left_behind_is_taken_back),
        TEST(a_task_is_published_once),
        TEST(the_bundle_is_given_to_whoever_has_its_id),
    };
    return cmocka_run_group_tests_name("orchestrator/orch_train", tests, NULL, NULL);
}
