/* Draws, checks, verdicts and what becomes of a unit. A check's deadline is 1.5 s (world.h). */
#include "orchestrator/orch_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proto/digest.h"
#include "unit/orchestrator/moves.h"

static const struct world_options three = {.n_workers = 2,
                                           .n_verifiers = 3,
                                           .steps = 3,
                                           .units_per_batch = 4,
                                           .lag = 1,
                                           .order = "unit"};

static struct world *world_of(uint32_t n_verifiers)
{
    struct world_options o = three;
    struct world *w;

    o.n_verifiers = n_verifiers;
    move_world(&w, &o);
    return w;
}

static int setup(void **state)
{
    *state = world_of(3);
    return 0;
}

static int setup_two(void **state)
{
    *state = world_of(2);
    return 0;
}

static int setup_one(void **state)
{
    *state = world_of(1);
    return 0;
}

static int setup_witnessed(void **state)
{
    struct world_options o = three;
    struct world *w;

    o.witnesses = 1;
    move_world(&w, &o);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_free(&w);
    return 0;
}

/* Worker 0 submits unit 0, and the validator that it was drawn for takes the check. */
static uint32_t submit_and_take(struct world *w, struct msg_check *c)
{
    struct msg_receipt r;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 0, &l.item[0], true, &r);
    assert_true(r.is_accepted);
    for (uint32_t i = 0; i < w->opt.n_verifiers; i++)
        if (move_check(w, i, c))
            return i;
    fail_msg("nobody was drawn");
    return 0;
}

/* The next validator with a check in hand. */
static uint32_t take_next(struct world *w, struct msg_check *c)
{
    for (uint32_t i = 0; i < w->opt.n_verifiers; i++)
        if (move_check(w, i, c))
            return i;
    fail_msg("nobody has a check");
    return 0;
}

static const struct ledger_node *worker_0(struct world *w)
{
    return ledger_books_node(move_books(w),
                             &w->node[world_node_of(w, ROLE_INFERENCE, 0)].key->node);
}

static int64_t stake_of_worker_0(struct world *w)
{
    struct account a = account_of_key(ACCOUNT_STAKE, &worker_0(w)->node);

    return ledger_books_balance(move_books(w), &a);
}

static void the_draw_comes_after_the_commit_is_durable(void **state)
{
    struct world *w = *state;
    struct msg_lease l;
    bool is_started = false;

    assert_true(move_lease(w, 0, 2, &l, NULL));
    world_deliver_submission(w, world_node_of(w, ROLE_INFERENCE, 0), &l.item[0]);
    orch_tick(w->orch, w->now_ms, &w->out);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
    assert_int_equal(move_unit(w, 0)->depth, 0); /* not drawn, the tick notwithstanding */
    for (size_t i = 0; i < w->out.n; i++)
        is_started |= w->out.v[i].kind == EFFECT_START && w->out.v[i].job == ORCH_JOB_DRAW;
    assert_true(is_started);

    world_deliver_submission(w, world_node_of(w, ROLE_INFERENCE, 0),
                             &l.item[1]); /* in the round in which the job comes back */
    orch_job(w->orch, ORCH_JOB_DRAW, move_unit(w, 0)->commit, w->now_ms, &w->out);

    assert_int_not_equal(move_unit(w, 0)->depth, 0);
    assert_int_equal(move_unit(w, 1)->state, UNIT_COMMITTED);
    assert_int_equal(move_unit(w, 1)->depth, 0);
}

/* What was committed while no validator was alive is found at the start, which opens a round. */
static void a_round_that_a_restart_opens_is_drawn(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;

    world_pass(w, ORCH_ALIVE_MS + 1);
    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 0, &l.item[0], false, &r);
    assert_true(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->depth, 0);

    world_restart(w);
    world_pass(w, 2000);

    assert_int_equal(move_unit(w, 0)->depth, CHECK_FULL);
}

static void the_first_units_of_a_worker_are_checked_fully(void **state)
{
    struct world *w = *state;
    struct msg_check c;

    submit_and_take(w, &c);

    assert_int_equal(c.depth, CHECK_FULL);
}

static void an_accepted_unit_is_paid(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    uint32_t v = submit_and_take(w, &c);

    move_verdict(w, v, &c, REASON_NONE, &r);

    assert_true(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->state, UNIT_ACCEPTED);
    assert_int_equal(move_unit(w, 0)->paid, 10 * (int64_t)move_unit(w, 0)->tokens);
}

static void a_repeated_verdict_gets_its_receipt_and_counts_once(void **state)
{
    struct world *w = *state;
    struct msg_receipt first, again;
    struct msg_check c;
    uint32_t v = submit_and_take(w, &c);
    struct buf kept;

    buf_init(&kept, 1u << 20);
    buf_append(&kept, c.submission);
    c.submission = buf_bytes(&kept);
    move_verdict(w, v, &c, REASON_NONE, &first);
    world_restart(w);
    move_verdict(w, v, &c, REASON_NONE, &again);

    assert_int_equal(first.seq, again.seq);
    assert_int_equal(move_count(w, LEDGER_VERDICT), 1);
    buf_clear(&kept);
}

static void a_validator_that_was_not_drawn_has_no_say(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    uint32_t v = submit_and_take(w, &c);

    move_verdict(w, (v + 1) % 3, &c, REASON_NONE, &r);

    assert_false(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
}

static void a_light_look_does_not_settle_a_full_check(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    uint32_t v = submit_and_take(w, &c);

    c.depth = CHECK_LIGHT;
    move_verdict(w, v, &c, REASON_NONE, &r);

    assert_false(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
}

static void two_that_found_fraud_slash_the_worker(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    struct msg_lease l;
    uint32_t first = submit_and_take(w, &c), second;

    move_verdict(w, first, &c, REASON_TOKEN, &r);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
    second = take_next(w, &c);
    assert_int_not_equal(first, second);
    move_verdict(w, second, &c, REASON_TOKEN, &r);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
    assert_true(worker_0(w)->is_slashed && worker_0(w)->is_revoked);
    assert_int_equal(stake_of_worker_0(w), 0);
    assert_true(move_lease(w, 1, 1, &l, NULL));
    assert_int_equal(l.item[0].unit, 0);
}

static void all_that_a_barred_worker_made_is_made_again(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    struct msg_lease l, more;

    assert_true(move_lease(w, 0, 3, &l, NULL));
    move_submit(w, 0, &l.item[1], false, &r); /* accepted */
    for (uint32_t i = 0; i < 3; i++)
        move_judge_all(w, i, REASON_NONE);
    assert_int_equal(move_unit(w, 1)->state, UNIT_ACCEPTED);
    move_submit(w, 0, &l.item[0], true, &r); /* fraud; unit 2 stays leased */
    for (int k = 0; k < 2; k++)
        move_verdict(w, take_next(w, &c), &c, REASON_TOKEN, &r);

    assert_int_equal(move_unit(w, 1)->state, UNIT_FREE);
    assert_int_equal(move_unit(w, 2)->state, UNIT_FREE);
    assert_true(move_lease(w, 1, 3, &more, NULL));
    assert_int_equal(more.item[1].unit, 1);
}

static bool is_admitted(const struct world *w, uint32_t node)
{
    struct public_key key[64];
    size_t n = orch_admitted(w->orch, key, 64);

    while (n-- > 0)
        if (key_equal(&key[n], &w->node[node].key->transport))
            return true;
    return false;
}

/* Its owner reads why in the log of the process, which ends by this answer. */
static void a_barred_worker_is_told_why_and_then_not_heard(void **state)
{
    struct world *w = *state;
    uint32_t node = world_node_of(w, ROLE_INFERENCE, 0);
    struct msg_hello h = {.newest_version = -1, .role = ROLE_INFERENCE};
    struct msg_envelope m;
    struct msg_refused no;
    struct msg_receipt r;
    struct msg_check c;
    uint64_t seq = orch_admission_seq(w->orch);
    struct buf body;

    buf_init(&body, 4096);
    move_verdict(w, submit_and_take(w, &c), &c, REASON_TOKEN, &r);
    move_verdict(w, take_next(w, &c), &c, REASON_TOKEN, &r);
    assert_true(worker_0(w)->is_revoked);
    assert_true(is_admitted(w, node));
    assert_ok(msg_hello_encode(&body, &h, NULL), NULL);
    world_ask(w, node, MSG_HELLO, buf_bytes(&body), &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&no, m.body, NULL), NULL);
    assert_int_equal(no.code, REASON_REVOKED);
    assert_contains(no.text, "this node was barred: unit 0, ");
    assert_true(is_admitted(w, node)); /* or the answer would not leave */
    world_pass(w, 1200);
    assert_false(is_admitted(w, node));
    assert_true(orch_admission_seq(w->orch) > seq);
    buf_clear(&body);
}

static void one_against_two_is_overruled(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;

    move_verdict(w, submit_and_take(w, &c), &c, REASON_TOKEN, &r);
    move_verdict(w, take_next(w, &c), &c, REASON_NONE, &r);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
    move_verdict(w, take_next(w, &c), &c, REASON_NONE, &r);

    assert_int_equal(move_unit(w, 0)->state, UNIT_ACCEPTED);
    assert_false(worker_0(w)->is_slashed);
}

static void one_against_one_slashes_nobody(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;

    move_verdict(w, submit_and_take(w, &c), &c, REASON_TOKEN, &r);
    move_verdict(w, take_next(w, &c), &c, REASON_NONE, &r);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
    assert_false(worker_0(w)->is_slashed);
    assert_int_equal(move_count(w, LEDGER_VERDICT), 2);
    assert_int_equal(stake_of_worker_0(w), 1000000);
}

static void the_only_validator_is_believed(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;

    move_verdict(w, submit_and_take(w, &c), &c, REASON_TOKEN, &r);

    assert_true(worker_0(w)->is_slashed);
}

static void a_soft_reason_costs_the_unit_only(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;

    move_verdict(w, submit_and_take(w, &c), &c, REASON_NOT_FINITE, &r);

    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
    assert_false(worker_0(w)->is_slashed);
    assert_int_equal(move_count(w, LEDGER_REJECT_SOFT), 1);
}

static void a_late_check_goes_to_another_validator(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_check c;
    uint32_t first = submit_and_take(w, &c), second;

    world_pass(w, 1600);
    move_hello(w);
    second = take_next(w, &c);
    move_verdict(w, second, &c, REASON_NONE, &r);

    assert_int_not_equal(first, second);
    assert_int_equal(move_count(w, LEDGER_ASSIGN), 1);
    assert_int_equal(move_unit(w, 0)->state, UNIT_ACCEPTED);
}

static void a_check_in_hand_is_not_sent_again_at_once(void **state)
{
    struct world *w = *state;
    struct msg_check c;
    uint32_t v = submit_and_take(w, &c);

    assert_false(move_check(w, v, &c));
}

/* Nobody else is there to take it over, so a validator that was restarted gets it again. */
static void a_restarted_validator_gets_its_check_again(void **state)
{
    struct world *w = *state;
    struct msg_check c;

    submit_and_take(w, &c);
    world_pass(w, 1600);
    move_hello(w);

    assert_true(move_check(w, 0, &c));
}

static void without_validators_nothing_is_drawn_and_status_says_so(void **state)
{
    struct world *w = *state;
    struct msg_receipt r;
    struct msg_lease l;
    struct buf json;

    world_pass(w, ORCH_ALIVE_MS + 1);
    assert_true(move_lease(w, 0, 1, &l, NULL)); /* the worker is heard by this */
    move_submit(w, 0, &l.item[0], false, &r);
    world_pass(w, 300);

    assert_int_equal(move_count(w, LEDGER_DRAW), 0);
    buf_init(&json, 1u << 20);
    move_publish(w, 0, NULL, 0, &r); /* the trainer too */
    orch_status(w->orch, STATUS_SUMMARY, 0, w->now_ms, &json);
    assert_contains(buf_cstr(&json), "wait for a verifier");
    move_hello(w);
    world_pass(w, 300);
    assert_int_equal(move_count(w, LEDGER_DRAW), 1);
    buf_clear(&json);
}

/* Neither could its answer be told from others, nor its repeat from another question. */
static void a_question_without_an_idempotency_key_is_refused(void **state)
{
    const struct idem none = {{0}};
    struct world *w = *state;
    struct world_node *n = &w->node[world_node_of(w, ROLE_VERIFIER, 0)];
    struct msg_verdict_seal seal = {.verdict.b = {1}};
    struct msg_envelope m;
    struct msg_refused refused;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;
    struct buf body;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 0, &l.item[0], false, &r);
    assert_true(move_check(w, 0, &c));
    seal.unit = c.unit;
    seal.lease = c.lease;
    buf_init(&body, 1024);
    assert_ok(msg_verdict_seal_encode(&body, &seal, NULL), NULL);
    buf_reset(&n->request);
    assert_ok(msg_envelope_encode(&n->request, MSG_VERDICT_SEAL, orch_run_id(w->orch), &none,
                                  buf_bytes(&body), n->key->node_secret, NULL),
              NULL);
    world_repeat(w, world_node_of(w, ROLE_VERIFIER, 0), &m);

    assert_int_equal(m.kind, MSG_REFUSED);
    assert_ok(msg_refused_decode(&refused, m.body, NULL), NULL);
    assert_int_equal(refused.code, REASON_MALFORMED);
    assert_int_equal(move_count(w, LEDGER_VERDICT_SEAL), 0);
    buf_clear(&body);
}

static int setup_sealed(void **state)
{
    const struct world_options o = {.n_workers = 1,
                                    .n_verifiers = 1,
                                    .steps = 3,
                                    .units_per_batch = 4,
                                    .lag = 1,
                                    .order = "unit",
                                    .recheck_ppm = 1000000};
    struct world *w;

    move_world(&w, &o);
    *state = w;
    return 0;
}

/* What a message names need not be. */
static void verdicts_on_units_that_never_were_are_refused(void **state)
{
    static const uint64_t units[] = {1000, (1u << 24) - 1, 1u << 24, UINT64_MAX};
    struct world *w = *state;
    uint32_t node = world_node_of(w, ROLE_VERIFIER, 0);
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_check c = {.lease = 3, .depth = CHECK_LIGHT};
    struct msg_verdict_seal seal = {.lease = 3, .verdict.b = {1}};
    struct msg_verdicts v = {.n = 1, .submissions.b = {1}};
    struct buf body;
    const uint64_t before = ledger_log_length(orch_log(w->orch));

    buf_init(&body, 4096);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        seal.unit = v.item[0].unit = c.unit = units[i];
        move_verdict(w, 0, &c, REASON_TOKEN, &r);
        assert_false(r.is_accepted);
        buf_reset(&body);
        assert_ok(msg_verdict_seal_encode(&body, &seal, NULL), NULL);
        world_ask(w, node, MSG_VERDICT_SEAL, buf_bytes(&body), &m);
        assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
        assert_false(r.is_accepted);
        buf_reset(&body);
        assert_ok(msg_verdicts_encode(&body, &v, NULL), NULL);
        world_ask(w, node, MSG_VERDICTS, buf_bytes(&body), &m);
        assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
        assert_false(r.is_accepted);
    }
    assert_int_equal(ledger_log_length(orch_log(w->orch)), before);
    buf_clear(&body);
}

/* Each seal is an entry and a blob, and costs its sender nothing. */
static void seals_of_one_check_are_bounded(void **state)
{
    struct world *w = *state;
    struct msg_verdict_seal seal = {0};
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_check c;
    struct msg_lease l;
    struct buf body;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    move_submit(w, 0, &l.item[0], false, &r);
    assert_true(move_check(w, 0, &c));
    assert_int_equal(c.depth, CHECK_FULL);
    seal.unit = c.unit;
    seal.lease = c.lease;
    buf_init(&body, 1024);
    for (uint8_t i = 1; i <= 40; i++) {
        memset(seal.verdict.b, i, sizeof(seal.verdict.b));
        buf_reset(&body);
        assert_ok(msg_verdict_seal_encode(&body, &seal, NULL), NULL);
        world_ask(w, world_node_of(w, ROLE_VERIFIER, 0), MSG_VERDICT_SEAL, buf_bytes(&body),
                  &m);
        assert_ok(msg_receipt_decode(&r, m.body, NULL), NULL);
        assert_int_equal(r.is_accepted, i <= 16);
    }

    assert_int_equal(move_count(w, LEDGER_VERDICT_SEAL), 16);
    buf_clear(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name, before) cmocka_unit_test_setup_teardown(name, before, teardown)
        TEST(the_draw_comes_after_the_commit_is_durable, setup),
        TEST(a_round_that_a_restart_opens_is_drawn, setup_witnessed),
        TEST(the_first_units_of_a_worker_are_checked_fully, setup),
        TEST(an_accepted_unit_is_paid, setup),
        TEST(a_repeated_verdict_gets_its_receipt_and_counts_once, setup),
        TEST(a_validator_that_was_not_drawn_has_no_say, setup),
        TEST(a_light_look_does_not_settle_a_full_check, setup),
        TEST(two_that_found_fraud_slash_the_worker, setup),
        TEST(a_barred_worker_is_told_why_and_then_not_heard, setup),
        TEST(all_that_a_barred_worker_made_is_made_again, setup),
        TEST(one_against_two_is_overruled, setup),
        TEST(one_against_one_slashes_nobody, setup_two),
        TEST(the_only_validator_is_believed, setup_one),
        TEST(a_soft_reason_costs_the_unit_only, setup),
        TEST(a_late_check_goes_to_another_validator, setup),
        TEST(a_check_in_hand_is_not_sent_again_at_once, setup),
        TEST(a_restarted_validator_gets_its_check_again, setup_one),
        TEST(without_validators_nothing_is_drawn_and_status_says_so, setup),
        TEST(seals_of_one_check_are_bounded, setup_sealed),
        TEST(a_question_without_an_idempotency_key_is_refused, setup_sealed),
        TEST(verdicts_on_units_that_never_were_are_refused, setup),
    };
    return cmocka_run_group_tests_name("orchestrator/orch_checks", tests, NULL, NULL);
}
