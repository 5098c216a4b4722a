/* Recomputed versions and disputes: what a party that is not honest tries. */
#include "orchestrator/orch_state.h"

#include <string.h>

#include "ledger/steps.h"
#include "proto/digest.h"
#include "proto/transcript.h"
#include "unit/orchestrator/moves.h"

#define VERIFIERS 4u

/* Version 1 is made, and is to be recomputed. */
static int setup(void **state)
{
    const struct world_options o = {.n_workers = 1,
                                    .n_verifiers = VERIFIERS,
                                    .steps = 1,
                                    .units_per_batch = 2,
                                    .lag = 1,
                                    .order = "unit",
                                    .step_ppm = 1000000};
    const struct msg_batch *b;
    struct msg_receipt r;
    struct world *w;

    move_world(&w, &o);
    move_all_units(w);
    assert_true(move_batch(w, 0, &b, NULL));
    move_publish(w, 1, &b->root, 0, &r);
    assert_true(r.is_accepted);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    world_free(&w);
    return 0;
}

static const struct ledger_step_state *version_1(const struct world *w)
{
    return ledger_books_step(move_books(w), 1);
}

/* Whoever has a version to recompute; waits until there is one. */
static uint32_t given(struct world *w, int64_t version)
{
    const struct ledger_step_state *s;

    for (uint32_t i = 0; i < 100; i++) {
        s = ledger_books_step(move_books(w), version);
        for (uint32_t k = 0; k < VERIFIERS; k++)
            if (key_equal(&w->node[world_node_of(w, ROLE_VERIFIER, k)].key->node,
                          &s->validator))
                return k;
        move_hello(w);
        world_pass(w, 1000);
    }
    assert_true(!"a version that is given to nobody");
    return 0;
}

static void verdict(struct world *w, uint32_t verifier, int64_t version, struct bytes proof,
                    struct msg_receipt *r)
{
    const struct msg_step_verdict v = {.version = version,
                                       .manifest =
                                           ledger_books_step(move_books(w), version)->envelope,
                                       .weights = {{1}},
                                       .proof = proof};
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 1024);
    assert_ok(msg_step_verdict_encode(&body, &v, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_VERIFIER, verifier), MSG_STEP_VERDICT, buf_bytes(&body),
              &m);
    buf_clear(&body);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

/* A dispute over version 1 is open; its challenger. */
static uint32_t challenge(struct world *w)
{
    uint32_t verifier = given(w, 1);
    struct msg_receipt r;

    verdict(w, verifier, 1, (struct bytes){NULL, 0}, &r);
    assert_true(r.is_accepted);
    return verifier;
}

/* Of whoever's turn it is: `n` bytes that begin with the kind. */
static void say(struct world *w, uint32_t verifier, enum ledger_move kind, size_t n,
                struct msg_receipt *r)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(move_books(w));
    struct msg_dispute move = {.dispute = d->id, .number = d->n_moves, .previous = d->last};
    uint8_t *bytes = test_calloc(1, n);
    struct msg_envelope m;
    struct buf body;

    bytes[0] = (uint8_t)kind;
    move.move = (struct bytes){bytes, n};
    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_dispute_encode(&body, &move, NULL), NULL);
    world_ask(w,
              d->n_moves % 2 ? world_node_of(w, ROLE_VERIFIER, verifier)
                             : world_node_of(w, ROLE_TRAINER, 0),
              MSG_DISPUTE, buf_bytes(&body), &m);
    buf_clear(&body);
    test_free(bytes);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

/* What the orchestrator says of the dispute; lent until the next question. */
static struct msg_dispute_state state_of(struct world *w, uint32_t verifier)
{
    const struct msg_dispute_ask ask = {0};
    struct msg_dispute_state state;
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 1024);
    assert_ok(msg_dispute_ask_encode(&body, &ask, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_VERIFIER, verifier), MSG_DISPUTE_ASK, buf_bytes(&body),
              &m);
    buf_clear(&body);
    assert_int_equal(m.kind, MSG_DISPUTE_STATE);
    assert_ok(msg_dispute_state_decode(&state, m.body, NULL), NULL);
    return state;
}

static uint32_t moves_that_can_be_fetched(struct world *w, uint32_t verifier)
{
    return state_of(w, verifier).n;
}

/* Else its clock would run over a challenger that cannot see what it is to answer. */
static void a_move_that_the_other_side_could_not_fetch_is_none(void **state)
{
    static const size_t too_many[] = {(size_t)40 << 20, (size_t)2 << 20};
    struct world *w = *state;
    struct msg_receipt r;
    uint32_t v = challenge(w);

    for (size_t i = 0; i < 2; i++) {
        say(w, v, i ? LEDGER_MOVE_SHOW : LEDGER_MOVE_OPEN, too_many[i], &r);
        assert_false(r.is_accepted);
        assert_int_equal(r.code, REASON_BOUNDS);
    }
    assert_int_equal(move_count(w, LEDGER_DISPUTE_MOVE), 0);
    say(w, v, LEDGER_MOVE_SHOW, 320, &r);
    assert_true(r.is_accepted);
    assert_int_equal(moves_that_can_be_fetched(w, v), 1);
    say(w, v, LEDGER_MOVE_PICK, 5, &r);
    assert_true(r.is_accepted);
    say(w, v, LEDGER_MOVE_OPEN, (size_t)16 << 20, &r);
    assert_true(r.is_accepted);
    assert_int_equal(moves_that_can_be_fetched(w, v), 3);
}

/* Two that pass a version to each other keep neither a third from it nor the run from its end. */
static void who_says_nothing_about_a_version_does_not_keep_it(void **state)
{
    struct world *w = *state;
    struct public_key given[VERIFIERS];
    uint64_t n;

    for (uint32_t i = 0; i < 400 && version_1(w)->n_given < VERIFIERS; i++) {
        move_hello(w);
        world_pass(w, 1000);
    }
    assert_int_equal(version_1(w)->n_given, VERIFIERS);
    memcpy(given, version_1(w)->given, sizeof(given));
    for (uint32_t i = 0; i < VERIFIERS; i++) /* each of them once */
        for (uint32_t k = 0; k < i; k++)
            assert_false(key_equal(&given[i], &given[k]));

    for (uint32_t i = 0; i < 2000 && version_1(w)->n_given < LEDGER_GIVEN_MAX; i++) {
        move_hello(w);
        world_pass(w, 1000);
    }
    n = move_count(w, LEDGER_STEP_ASSIGN);
    for (uint32_t i = 0; i < 60 && ledger_books_task(move_books(w))->is_open; i++) {
        move_hello(w);
        world_pass(w, 1000);
    }
    assert_int_equal(move_count(w, LEDGER_STEP_ASSIGN), n);
    assert_false(ledger_books_task(move_books(w))->is_open);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_move_that_the_other_side_could_not_fetch_is_none),
        TEST(who_says_nothing_about_a_version_does_not_keep_it),
    };

    return cmocka_run_group_tests_name("orchestrator/orch_dispute", tests, NULL, NULL);
}
