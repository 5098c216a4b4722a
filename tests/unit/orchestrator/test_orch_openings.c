/* Open classes: what is drawn is opened, or refused when it is too late. 3 s are left for it (world.h). */
#include "orchestrator/orch_state.h"

#include <string.h>

#include "base/check.h"
#include "proto/digest.h"
#include "unit/orchestrator/moves.h"

static int setup(void **state)
{
    const struct world_options o = {.n_workers = 2,
                                    .n_verifiers = 1,
                                    .steps = 3,
                                    .units_per_batch = 8,
                                    .lag = 1,
                                    .order = "unit",
                                    .is_open = true};
    struct world *w;

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

/* Worker 0 submits what it is leased; beginners are all drawn in full. */
static void submit(struct world *w, struct msg_lease *l)
{
    struct msg_receipt r;

    assert_true(move_lease(w, 0, 1, l, NULL));
    move_submit(w, 0, &l->item[0], false, &r);
    assert_true(r.is_accepted);
}

static void open_by(struct world *w, uint32_t worker, uint64_t unit, uint64_t lease,
                    struct msg_envelope *m, struct msg_receipt *r)
{
    struct buf body;

    buf_init(&body, 1u << 16);
    world_opening(w, &body, unit, lease);
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_OPENING, buf_bytes(&body), m);
    buf_clear(&body);
    assert_int_equal(m->kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m->body, NULL), NULL);
}

static void ask_drawn(struct world *w, uint32_t worker, struct msg_drawn *d)
{
    const struct msg_drawn_ask ask = {.settled = 0};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 64);
    CHECK(!msg_drawn_ask_encode(&body, &ask, NULL));
    world_ask(w, world_node_of(w, ROLE_INFERENCE, worker), MSG_DRAWN_ASK, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_DRAWN);
    assert_ok(msg_drawn_decode(d, m.body, NULL), NULL);
}

static const struct ledger_node *worker_0(struct world *w)
{
    return ledger_books_node(move_books(w),
                             &w->node[world_node_of(w, ROLE_INFERENCE, 0)].key->node);
}

static void a_full_check_waits_for_the_opening_and_has_it(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_drawn d;
    struct msg_lease l;
    struct msg_check c;
    struct msg_opening o;

    submit(w, &l);
    assert_int_equal(move_unit(w, 0)->depth, CHECK_FULL);
    assert_false(move_check(w, 0, &c));
    ask_drawn(w, 0, &d);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.item[0].unit, 0);
    assert_int_equal(d.item[0].lease, l.item[0].lease);
    assert_int_equal(d.settled, l.item[0].lease);
    open_by(w, 0, 0, l.item[0].lease, &m, &r);
    assert_true(r.is_accepted);
    assert_true(move_check(w, 0, &c));
    assert_ok(msg_envelope_decode(&m, c.opening, NULL), NULL);
    assert_ok(msg_envelope_verify(&m, NULL), NULL);
    assert_true(key_equal(&m.signer, &w->node[world_node_of(w, ROLE_INFERENCE, 0)].key->node));
    assert_ok(msg_opening_decode(&o, m.body, NULL), NULL);
    assert_int_equal(o.lease, l.item[0].lease);
}

static void a_repeated_opening_gets_the_first_receipt(void **state)
{
    struct world *w = *state;
    struct msg_receipt first, second;
    struct msg_envelope m;
    struct msg_lease l;

    submit(w, &l);
    open_by(w, 0, 0, l.item[0].lease, &m, &first);
    world_repeat(w, world_node_of(w, ROLE_INFERENCE, 0), &m);
    assert_ok(msg_receipt_decode(&second, m.body, NULL), NULL);
    assert_int_equal(first.seq, second.seq);
    open_by(w, 0, 0, l.item[0].lease, &m, &second); /* another question, from another life */
    assert_true(second.is_accepted);
    assert_int_equal(first.seq, second.seq);
    assert_int_equal(move_count(w, LEDGER_OPENING), 1);
}

static void nobody_opens_for_another_or_what_was_not_drawn(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;

    assert_true(move_lease(w, 0, 1, &l, NULL));
    open_by(w, 0, 0, l.item[0].lease, &m, &r); /* leased only */
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_NO_LEASE);
    move_submit(w, 0, &l.item[0], false, &r);
    open_by(w, 1, 0, l.item[0].lease, &m, &r);
    assert_false(r.is_accepted);
    open_by(w, 0, 0, l.item[0].lease + 1, &m, &r);
    assert_false(r.is_accepted);
    open_by(w, 0, 99, l.item[0].lease, &m, &r);
    assert_false(r.is_accepted);
    assert_int_equal(move_count(w, LEDGER_OPENING), 0);
}

static void unopened_in_time_is_a_failed_check_that_costs_no_stake(void **state)
{
    struct world *w = *state;
    struct account stake = account_of_key(ACCOUNT_STAKE, &worker_0(w)->node);
    int64_t before = ledger_books_balance(move_books(w), &stake);
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;

    submit(w, &l);
    world_pass(w, WORLD_OPENING_MS - 600);
    assert_false(move_check(w, 0, &c));
    world_pass(w, 1000);
    open_by(w, 0, 0, l.item[0].lease, &m, &r);
    assert_false(r.is_accepted);
    assert_int_equal(r.code, REASON_UNOPENED);
    assert_true(move_check(w, 0, &c));
    assert_int_equal(c.opening.len, 0);
    move_verdict(w, 0, &c, REASON_UNOPENED, &r);
    assert_true(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->state, UNIT_FREE);
    assert_int_equal(move_count(w, LEDGER_REJECT_SOFT), 1);
    assert_int_equal(worker_0(w)->commits_before, 1);
    assert_false(worker_0(w)->is_revoked);
    assert_int_equal(ledger_books_balance(move_books(w), &stake), before);
}

static void what_was_opened_is_not_called_unopened(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;

    submit(w, &l);
    open_by(w, 0, 0, l.item[0].lease, &m, &r);
    assert_true(move_check(w, 0, &c));
    move_verdict(w, 0, &c, REASON_UNOPENED, &r);
    assert_false(r.is_accepted);
    assert_int_equal(move_unit(w, 0)->state, UNIT_COMMITTED);
    assert_int_equal(move_unit(w, 0)->n_opinions, 0);
}

static void a_restart_of_the_orchestrator_gives_the_worker_its_time_again(void **state)
{
    struct world *w = *state;
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;

    submit(w, &l);
    world_pass(w, WORLD_OPENING_MS - 500);
    world_restart(w);
    move_hello(w);
    world_pass(w, WORLD_OPENING_MS - 500);
    assert_false(move_check(w, 0, &c));
    open_by(w, 0, 0, l.item[0].lease, &m, &r);
    assert_true(r.is_accepted);
    world_restart(w);
    move_hello(w);
    assert_true(move_check(w, 0, &c));
    assert_true(c.opening.len > 0);
}

/* Opinions cost pay and standing: the third in a row bars, and stake is left alone. */
static void opinions_bar_a_worker_and_leave_its_stake(void **state)
{
    struct world *w = *state;
    struct account stake = account_of_key(ACCOUNT_STAKE, &worker_0(w)->node);
    int64_t before = ledger_books_balance(move_books(w), &stake);
    struct msg_envelope m;
    struct msg_receipt r;
    struct msg_lease l;
    struct msg_check c;

    for (int i = 0; i < 3; i++) {
        uint64_t unit;

        assert_false(worker_0(w)->is_revoked);
        submit(w, &l);
        unit = l.item[0].unit;
        open_by(w, 0, unit, l.item[0].lease, &m, &r);
        assert_true(move_check(w, 0, &c));
        move_verdict(w, 0, &c, REASON_MARGIN, &r);
        assert_true(r.is_accepted);
        assert_int_equal(worker_0(w)->commits_before, i + 1);
    }
    assert_true(worker_0(w)->is_revoked);
    assert_false(worker_0(w)->is_slashed);
    assert_int_equal(ledger_books_balance(move_books(w), &stake), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_check_waits_for_the_opening_and_has_it),
        TEST(a_repeated_opening_gets_the_first_receipt),
        TEST(nobody_opens_for_another_or_what_was_not_drawn),
        TEST(unopened_in_time_is_a_failed_check_that_costs_no_stake),
        TEST(what_was_opened_is_not_called_unopened),
        TEST(a_restart_of_the_orchestrator_gives_the_worker_its_time_again),
        TEST(opinions_bar_a_worker_and_leave_its_stake),
    };

    return cmocka_run_group_tests_name("orchestrator/orch_openings", tests, NULL, NULL);
}
