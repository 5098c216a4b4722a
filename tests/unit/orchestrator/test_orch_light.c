/* Light checks: gathered while nobody waits for them, said with one signature. */
#include "orchestrator/orch_state.h"

#include <string.h>

#include "base/check.h"
#include "proto/digest.h"
#include "unit/orchestrator/moves.h"

#define BATCH 8u

/* Worker 0 has committed to units 5 to 15: its first five are checked in full, and accepted. What
 * remains for the one validator are light checks, and unit 0 to 4 of the batch are not made. */
struct fixture {
    struct world *w;
    struct msg_lease l;
    uint32_t n_light;
};

static int setup(void **state)
{
    const struct world_options o = {.n_workers = 2,
                                    .n_verifiers = 1,
                                    .steps = 4,
                                    .units_per_batch = BATCH,
                                    .lag = 3,
                                    .order = "unit",
                                    .is_light = true};
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct msg_receipt r;
    struct msg_check c;

    move_world(&f->w, &o);
    assert_true(move_lease(f->w, 0, MSG_MAX_LEASES, &f->l, NULL));
    assert_int_equal(f->l.n, 2 * BATCH);
    for (uint32_t i = 5; i < f->l.n; i++)
        move_submit(f->w, 0, &f->l.item[i], false, &r);
    while (move_check(f->w, 0, &c)) {
        assert_int_equal(c.depth, CHECK_FULL);
        move_verdict(f->w, 0, &c, REASON_NONE, &r);
        assert_true(r.is_accepted);
    }
    for (uint32_t i = 5; i < f->l.n; i++)
        f->n_light += move_unit(f->w, f->l.item[i].unit)->state == UNIT_COMMITTED;
    assert_int_equal(f->n_light, 2 * BATCH - 10);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    world_free(&f->w);
    test_free(f);
    return 0;
}

static enum msg_kind ask(struct fixture *f, struct msg_checks *all)
{
    const struct msg_check_ask ask = {.newest_version = WORLD_SERVES};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 64);
    CHECK(!msg_check_ask_encode(&body, &ask, NULL));
    world_ask(f->w, world_node_of(f->w, ROLE_VERIFIER, 0), MSG_CHECK_ASK, buf_bytes(&body), &m);
    buf_clear(&body);
    if (m.kind == MSG_CHECKS)
        assert_ok(msg_checks_decode(all, m.body, NULL), NULL);
    return m.kind;
}

static void say(struct fixture *f, const struct msg_checks *all, struct msg_envelope *m,
                struct msg_receipt *r)
{
    struct msg_verdicts v = {.n = all->n};
    struct digest_state d;
    struct buf body;

    digest_begin(&d, "muster/1/submissions");
    for (uint32_t i = 0; i < all->n; i++) {
        struct digest one;

        v.item[i] = (struct attempt){all->item[i].unit, all->item[i].lease};
        digest_of(&one, all->item[i].submission);
        digest_add(&d, BYTES_OF(one.b));
    }
    digest_end(&d, &v.submissions);
    buf_init(&body, 4096);
    CHECK(!msg_verdicts_encode(&body, &v, NULL));
    world_ask(f->w, world_node_of(f->w, ROLE_VERIFIER, 0), MSG_VERDICTS, buf_bytes(&body), m);
    buf_clear(&body);
    assert_int_equal(m->kind, MSG_RECEIPT);
    assert_ok(msg_receipt_decode(r, m->body, NULL), NULL);
}

static void they_wait_until_they_are_old_and_go_together(void **state)
{
    struct fixture *f = *state;
    struct msg_checks all;

    assert_int_equal(ask(f, &all), MSG_WAIT);
    world_pass(f->w, WORLD_CHECK_MS / 2 + 500); /* and a tick, which begins to count */
    assert_int_equal(ask(f, &all), MSG_CHECKS);
    assert_int_equal(all.n, f->n_light);
}

static void they_go_at_once_when_the_batch_waits_for_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct msg_checks all;
    struct msg_receipt r;

    for (uint32_t i = 0; i < 4; i++)
        move_submit(f->w, 0, &f->l.item[i], false, &r);
    assert_int_equal(ask(f, &all), MSG_WAIT);
    move_submit(f->w, 0, &f->l.item[4], false, &r);
    assert_int_equal(ask(f, &all), MSG_CHECKS);
    assert_true(all.n > f->n_light);
}

static void one_signature_accepts_them_all_once(void **state)
{
    struct fixture *f = *state;
    uint64_t before = move_count(f->w, LEDGER_VERDICT);
    struct msg_receipt first, second;
    struct msg_checks all;
    struct msg_envelope m;

    world_pass(f->w, WORLD_CHECK_MS / 2 + 500);
    assert_int_equal(ask(f, &all), MSG_CHECKS);
    say(f, &all, &m, &first);
    assert_true(first.is_accepted);
    world_repeat(f->w, world_node_of(f->w, ROLE_VERIFIER, 0), &m);
    assert_ok(msg_receipt_decode(&second, m.body, NULL), NULL);
    assert_int_equal(first.seq, second.seq);
    assert_int_equal(move_count(f->w, LEDGER_VERDICT), before + f->n_light);
    for (uint32_t i = 5; i < f->l.n; i++)
        assert_int_equal(move_unit(f->w, f->l.item[i].unit)->state, UNIT_ACCEPTED);
}

static void of_other_submissions_or_attempts_none_counts(void **state)
{
    struct fixture *f = *state;
    uint64_t before = move_count(f->w, LEDGER_VERDICT);
    struct msg_checks all, wrong;
    struct msg_envelope m;
    struct msg_receipt r;

    world_pass(f->w, WORLD_CHECK_MS / 2 + 500);
    assert_int_equal(ask(f, &all), MSG_CHECKS);
    all.item[0].submission = all.item[1].submission = BYTES_LIT("lent, and gone by now");
    say(f, &all, &m, &r);
    assert_false(r.is_accepted);
    wrong = all;
    wrong.item[0].lease++;
    say(f, &wrong, &m, &r);
    assert_false(r.is_accepted);
    wrong = all;
    wrong.item[1] = wrong.item[0];
    say(f, &wrong, &m, &r);
    assert_false(r.is_accepted);
    assert_int_equal(move_count(f->w, LEDGER_VERDICT), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(they_wait_until_they_are_old_and_go_together),
        TEST(they_go_at_once_when_the_batch_waits_for_nothing_else),
        TEST(one_signature_accepts_them_all_once),
        TEST(of_other_submissions_or_attempts_none_counts),
    };

    return cmocka_run_group_tests_name("orchestrator/orch_light", tests, NULL, NULL);
}
