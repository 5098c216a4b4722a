/* Recomputed versions and disputes: what a party that is not honest tries. */
#include "orchestrator/orch_state.h"

#include <string.h>

#include "ledger/steps.h"
#include "proto/digest.h"
#include "proto/transcript.h"
#include "unit/orchestrator/moves.h"

#define VERIFIERS 4u

#define DISPUTE_MS 5000 /* as the world's task says */

/* What judging version 0 takes of memory. */
static enum status little(uint64_t *out, struct bytes bundle, struct err *e)
{
    (void)e;
    assert_true(bundle.len > 0);
    *out = 1;
    return OK;
}

static enum status too_much(uint64_t *out, struct bytes bundle, struct err *e)
{
    (void)bundle;
    (void)e;
    *out = UINT64_MAX - 1;
    return OK;
}

/* Version 1 is made, and is to be recomputed. */
static int setup_with(void **state, const char *init, orch_first_bytes *first_bytes)
{
    const struct world_options o = {.n_workers = 1,
                                    .n_verifiers = VERIFIERS,
                                    .steps = 1,
                                    .units_per_batch = 2,
                                    .lag = 1,
                                    .order = "unit",
                                    .step_ppm = 1000000,
                                    .init = init,
                                    .first_bytes = first_bytes};
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

static int setup(void **state)
{
    return setup_with(state, NULL, little);
}

static int setup_directory(void **state)
{
    return setup_with(state, "/nowhere", little);
}

static int setup_large(void **state)
{
    return setup_with(state, NULL, too_much);
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

static void say_verdict(struct world *w, uint32_t verifier, const struct msg_step_verdict *v,
                        struct msg_receipt *r)
{
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, 1024);
    assert_ok(msg_step_verdict_encode(&body, v, NULL), NULL);
    world_ask(w, world_node_of(w, ROLE_VERIFIER, verifier), MSG_STEP_VERDICT, buf_bytes(&body),
              &m);
    buf_clear(&body);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

static void verdict(struct world *w, uint32_t verifier, int64_t version, struct bytes proof,
                    struct msg_receipt *r)
{
    const struct msg_step_verdict v = {.version = version,
                                       .manifest =
                                           ledger_books_step(move_books(w), version)->envelope,
                                       .weights = {{1}},
                                       .proof = proof};

    say_verdict(w, verifier, &v, r);
}

/* The validator finds the version right. */
static void confirm(struct world *w, uint32_t verifier, int64_t version)
{
    const struct ledger_step_state *s = ledger_books_step(move_books(w), version);
    const struct msg_step_verdict v = {.version = version,
                                       .manifest = s->envelope,
                                       .is_accepted = true,
                                       .weights = s->weights};
    struct msg_receipt r;

    say_verdict(w, verifier, &v, &r);
    assert_true(r.is_accepted);
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

static const struct ledger_dispute *open_dispute(const struct world *w)
{
    return ledger_books_open_dispute(move_books(w));
}

/* The move that is due: its bytes are the caller's to fill in. */
static struct msg_dispute next_move(const struct world *w)
{
    const struct ledger_dispute *d = open_dispute(w);

    return (struct msg_dispute){
        .dispute = d->id, .number = d->n_moves, .previous = d->last, .move = BYTES_LIT("\x01")};
}

static void move_by(struct world *w, uint32_t node, const struct msg_dispute *move,
                    struct msg_receipt *r)
{
    struct msg_envelope m;
    struct buf body;

    buf_init(&body, MSG_MAX_BYTES);
    assert_ok(msg_dispute_encode(&body, move, NULL), NULL);
    world_ask(w, node, MSG_DISPUTE, buf_bytes(&body), &m);
    buf_clear(&body);
    assert_ok(msg_receipt_decode(r, m.body, NULL), NULL);
}

/* Of whoever's turn it is: `n` bytes that begin with the kind. */
static void say(struct world *w, uint32_t verifier, enum ledger_move kind, size_t n,
                struct msg_receipt *r)
{
    struct msg_dispute move = next_move(w);
    uint8_t *bytes = test_calloc(1, n);

    bytes[0] = (uint8_t)kind;
    move.move = (struct bytes){bytes, n};
    move_by(w,
            move.number % 2 ? world_node_of(w, ROLE_VERIFIER, verifier)
                            : world_node_of(w, ROLE_TRAINER, 0),
            &move, r);
    test_free(bytes);
}

/* A move that is taken. */
static void play(struct world *w, uint32_t verifier, enum ledger_move kind)
{
    struct msg_receipt r;

    say(w, verifier, kind, 8, &r);
    assert_true(r.is_accepted);
}

/* Time goes by, and everybody is alive. */
static void pass(struct world *w, int64_t ms)
{
    move_hello(w);
    world_pass(w, ms);
}

static void judge(struct world *w, enum status st, bool has_trainer_lost)
{
    const struct ledger_judgement j = {
        .is_over = true, .has_trainer_lost = has_trainer_lost, .op = 3, .why = "said the test"};

    orch_judged(w->orch, st, &j, w->now_ms, &w->out);
    pass(w, 1);
}

static const struct ledger_dispute *last_dispute(const struct world *w)
{
    size_t n = ledger_books_n_disputes(move_books(w));

    assert_true(n > 0);
    return ledger_books_dispute_at(move_books(w), n - 1);
}

static bool is_open(const struct world *w)
{
    return ledger_books_task(move_books(w))->is_open;
}

static const struct public_key *key_at(const struct world *w, enum role role, uint32_t i)
{
    return &w->node[world_node_of(w, role, i)].key->node;
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

/* To make version 0 takes as long as the warm-up: whoever is at it keeps it, and the run waits. */
static void version_0_stays_with_whoever_is_alive(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 0);

    for (uint32_t i = 0; i < 60; i++)
        pass(w, 1000);
    assert_int_equal(given(w, 0), v);
    assert_int_equal(ledger_books_step(move_books(w), 0)->n_given, 1);
    for (uint32_t i = 0; i < 400 && version_1(w)->n_given < LEDGER_GIVEN_MAX; i++)
        pass(w, 1000);
    for (uint32_t i = 0; i < 60; i++)
        pass(w, 1000);
    assert_true(is_open(w));
    for (uint32_t i = 0; i < 600 && is_open(w); i++)
        world_pass(w, 1000); /* nobody is heard of */
    assert_false(is_open(w));
}

/* Two that pass a version to each other keep neither a third from it nor the run from its end. */
static void who_says_nothing_about_a_version_does_not_keep_it(void **state)
{
    struct world *w = *state;
    uint32_t holder = given(w, 0);
    struct public_key by[VERIFIERS];
    uint64_t n;

    confirm(w, holder, 0);
    for (uint32_t i = 0; i < 400 && version_1(w)->n_given < VERIFIERS; i++) {
        move_hello(w);
        world_pass(w, 1000);
    }
    assert_int_equal(version_1(w)->n_given, VERIFIERS);
    memcpy(by, version_1(w)->given, sizeof(by));
    for (uint32_t i = 0; i < VERIFIERS; i++) /* each of them once */
        for (uint32_t k = 0; k < i; k++)
            assert_false(key_equal(&by[i], &by[k]));

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

/* ---- whose turn it is --------------------------------------------------------------------- */

static void only_whose_turn_it_is_moves(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w), other = (v + 1) % VERIFIERS;
    uint32_t trainer = world_node_of(w, ROLE_TRAINER, 0);
    struct msg_receipt r;
    struct msg_dispute m = next_move(w);

    move_by(w, world_node_of(w, ROLE_VERIFIER, v), &m, &r); /* the trainer's is the first */
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    play(w, v, LEDGER_MOVE_SHOW);
    m = next_move(w);
    move_by(w, trainer, &m, &r);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    move_by(w, world_node_of(w, ROLE_VERIFIER, other), &m, &r); /* no party */
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    assert_int_equal(move_count(w, LEDGER_DISPUTE_MOVE), 1);
}

static void a_move_follows_the_one_before(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w), challenger = world_node_of(w, ROLE_VERIFIER, v);
    struct msg_receipt r;
    struct msg_dispute m;

    play(w, v, LEDGER_MOVE_SHOW);
    m = next_move(w);
    m.number += 2;
    move_by(w, challenger, &m, &r);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    m = next_move(w);
    m.previous.b[0] ^= 1;
    move_by(w, challenger, &m, &r);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    m = next_move(w);
    m.dispute.b[0] ^= 1;
    move_by(w, challenger, &m, &r);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    assert_int_equal(move_count(w, LEDGER_DISPUTE_MOVE), 1);
}

static void a_repeated_move_is_one(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);
    struct msg_envelope m;
    struct msg_receipt first, again;

    say(w, v, LEDGER_MOVE_SHOW, 8, &first);
    world_repeat(w, world_node_of(w, ROLE_TRAINER, 0), &m);
    assert_ok(msg_receipt_decode(&again, m.body, NULL), NULL);
    assert_true(again.is_accepted);
    assert_int_equal(again.seq, first.seq);
    assert_int_equal(move_count(w, LEDGER_DISPUTE_MOVE), 1);
}

static void there_is_one_dispute_at_a_time(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w), other = given(w, 0);
    struct msg_receipt r;

    verdict(w, other, 0, (struct bytes){NULL, 0}, &r);
    assert_int_equal(r.code, REASON_DUPLICATE);
    assert_int_equal(ledger_books_n_disputes(move_books(w)), 1);
    play(w, v, LEDGER_MOVE_SHOW);
}

/* Else who accepts everything might be given the version in the meantime. */
static void a_challenge_that_had_to_wait_is_taken_after_the_dispute(void **state)
{
    struct world *w = *state;
    uint32_t first = given(w, 0), v = given(w, 1);
    struct msg_receipt r;

    verdict(w, first, 0, (struct bytes){NULL, 0}, &r);
    assert_true(r.is_accepted);
    verdict(w, v, 1, (struct bytes){NULL, 0}, &r);
    assert_int_equal(r.code, REASON_DUPLICATE);
    for (uint32_t i = 0; i < 60; i++)
        pass(w, 1000);
    assert_non_null(open_dispute(w));
    assert_int_equal(given(w, 1), v);
    judge(w, OK, false);
    pass(w, 2000);
    assert_int_equal(given(w, 1), v);
    assert_int_equal(version_1(w)->n_given, 1);
    verdict(w, v, 1, (struct bytes){NULL, 0}, &r);
    assert_true(r.is_accepted);
}

/* ---- clocks ------------------------------------------------------------------------------- */

static void a_trainer_that_says_nothing_loses_and_the_task_ends(void **state)
{
    struct world *w = *state;

    challenge(w);
    pass(w, DISPUTE_MS - 1000);
    assert_non_null(open_dispute(w));
    pass(w, 1500);
    assert_null(open_dispute(w));
    assert_true(key_equal(&last_dispute(w)->loser, key_at(w, ROLE_TRAINER, 0)));
    assert_true(last_dispute(w)->is_silent);
    assert_false(is_open(w));
}

static void a_challenger_that_says_nothing_loses_and_the_task_goes_on(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);

    pass(w, DISPUTE_MS - 1000);
    play(w, v, LEDGER_MOVE_SHOW);
    pass(w, DISPUTE_MS - 1000); /* its clock began with the move */
    assert_non_null(open_dispute(w));
    pass(w, 1500);
    assert_null(open_dispute(w));
    assert_true(key_equal(&last_dispute(w)->loser, key_at(w, ROLE_VERIFIER, v)));
    assert_true(last_dispute(w)->is_silent);
    assert_true(is_open(w));
    assert_false(ledger_books_node(move_books(w), key_at(w, ROLE_TRAINER, 0))->is_slashed);
}

/* Slow at each move, and within the time of none: four times that of one is all there is. */
static void a_partys_clock_runs_through_all_its_moves(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);

    for (uint32_t i = 0; i < LEDGER_PATIENCE; i++) {
        pass(w, DISPUTE_MS - 200);
        play(w, v, LEDGER_MOVE_SHOW);
        play(w, v, LEDGER_MOVE_PICK);
    }
    assert_true(state_of(w, v).deadline_ms < DISPUTE_MS / 2);
    pass(w, DISPUTE_MS / 2);
    assert_null(open_dispute(w));
    assert_true(key_equal(&last_dispute(w)->loser, key_at(w, ROLE_TRAINER, 0)));
}

static void a_restart_keeps_the_moves_and_gives_the_whole_time(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);
    struct msg_dispute_state s;

    play(w, v, LEDGER_MOVE_SHOW);
    pass(w, DISPUTE_MS - 500);
    world_restart(w);
    move_hello(w);
    s = state_of(w, v);
    assert_int_equal(s.n, 1);
    assert_false(s.is_over);
    pass(w, DISPUTE_MS - 500);
    assert_non_null(open_dispute(w));
    play(w, v, LEDGER_MOVE_PICK);
    assert_int_equal(move_count(w, LEDGER_DISPUTE_MOVE), 2);
}

/* An entry's time never goes back. Were a set clock to stop it, the silent would have as long as it was set back. */
static void a_clock_that_was_set_gives_nobody_more_time_or_less(void **state)
{
    const int64_t hour_ms = 3600000;
    struct world *w = *state;
    uint32_t v = challenge(w);

    w->ahead_ms = hour_ms;
    world_restart(w);
    move_hello(w);
    pass(w, DISPUTE_MS - 1000);
    assert_non_null(open_dispute(w));
    play(w, v, LEDGER_MOVE_SHOW);
    w->ahead_ms = -hour_ms;
    world_restart(w);
    move_hello(w);
    pass(w, DISPUTE_MS - 1000);
    assert_non_null(open_dispute(w));

    pass(w, 1500);
    assert_null(open_dispute(w));
    assert_true(key_equal(&last_dispute(w)->loser, key_at(w, ROLE_VERIFIER, v)));
}

/* One that was killed goes over the batches again while its clock runs: what it read before does not count. */
static void a_party_is_not_kept_from_the_batches(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 1), n = 0;
    const struct msg_batch *b;
    struct msg_receipt r;
    struct msg_wait wait;

    while (n < 1000 && move_batch(w, 0, &b, &wait))
        n++;
    assert_int_equal(wait.code, REASON_BUSY);
    verdict(w, v, 1, (struct bytes){NULL, 0}, &r);
    assert_true(r.is_accepted);
    for (n = 0; n < 10000 && move_batch(w, 0, &b, &wait); n++)
        continue;
    assert_true(n >= 1024 &&
                n < 10000); /* 16 batches of 64 MiB; each of these counts as 1 MiB */
    assert_int_equal(wait.code, REASON_BUSY);
    play(w, v, LEDGER_MOVE_SHOW);
    play(w, v, LEDGER_MOVE_CALL);
    judge(w, OK, false);
    for (n = 0; n < 1000 && move_batch(w, 0, &b, &wait); n++)
        continue;
    assert_true(n < 16); /* no party any more: the account is as it was */
}

/* ---- the end ------------------------------------------------------------------------------ */

static void what_is_called_is_judged_once(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);
    struct transcript t;

    play(w, v, LEDGER_MOVE_SHOW);
    play(w, v, LEDGER_MOVE_CALL);
    pass(w, 2 * DISPUTE_MS); /* nobody's turn: nobody is silent */
    assert_int_equal(w->n_judged, 1);
    assert_ok(transcript_decode(&t, buf_bytes(&w->transcript), NULL), NULL);
    assert_true(t.moves.len > 0 && t.batch.len > 0 && !t.challenge.len);
    assert_true(state_of(w, v).is_over);
    judge(w, OK, false);
    assert_null(open_dispute(w));
    assert_true(key_equal(&last_dispute(w)->loser, key_at(w, ROLE_VERIFIER, v)));
    assert_false(last_dispute(w)->is_silent);
    assert_true(is_open(w));
}

static void a_game_that_cannot_be_judged_is_tried_again(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);

    play(w, v, LEDGER_MOVE_SHOW);
    play(w, v, LEDGER_MOVE_CALL);
    pass(w, 100);
    assert_int_equal(w->n_judged, 1);
    judge(w, ERR_IO, true);
    assert_non_null(open_dispute(w));
    pass(w, 5000);
    assert_int_equal(w->n_judged, 1);
    pass(w, 6000);
    assert_int_equal(w->n_judged, 2);
    judge(w, ERR_LIMIT, true); /* memory does not come back so soon */
    pass(w, 50000);
    assert_int_equal(w->n_judged, 2);
    pass(w, 11000);
    assert_int_equal(w->n_judged, 3);
    judge(w, OK, true);
    assert_null(open_dispute(w));
    assert_false(is_open(w));
}

/* A judge that was at it when the orchestrator was killed begins anew. */
static void a_restart_has_it_judged_again(void **state)
{
    struct world *w = *state;
    uint32_t v = challenge(w);

    play(w, v, LEDGER_MOVE_SHOW);
    play(w, v, LEDGER_MOVE_CALL);
    pass(w, 100);
    world_restart(w);
    pass(w, 100);
    assert_int_equal(w->n_judged, 2);
    judge(w, OK, true);
    assert_true(ledger_books_node(move_books(w), key_at(w, ROLE_TRAINER, 0))->is_slashed);
}

/* ---- without moves ------------------------------------------------------------------------ */

/* The judge is given a challenge and nothing else. */
static void judge_is_asked(struct world *w)
{
    struct transcript t;

    pass(w, 100);
    assert_int_equal(w->n_judged, 1);
    assert_ok(transcript_decode(&t, buf_bytes(&w->transcript), NULL), NULL);
    assert_true(t.challenge.len > 0 && !t.moves.len && !t.batch.len);
}

static void version_0_is_judged_without_moves(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 0);
    struct msg_receipt r;
    struct msg_dispute m;

    verdict(w, v, 0, (struct bytes){NULL, 0}, &r);
    assert_true(r.is_accepted);
    m = next_move(w);
    move_by(w, world_node_of(w, ROLE_TRAINER, 0), &m, &r);
    assert_int_equal(r.code, REASON_OUT_OF_ORDER);
    judge_is_asked(w);
    judge(w, OK, true);
    assert_false(is_open(w));
}

static void a_proof_is_judged_without_moves(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 1);
    struct msg_receipt r;

    verdict(w, v, 1, BYTES_LIT("\x03 a shard and a tile"), &r);
    assert_true(r.is_accepted);
    judge_is_asked(w);
    judge(w, OK, false);
    assert_true(is_open(w));
}

/* Nobody need have the model that a task begins with: what could not be judged would stay open. */
static void version_0_of_a_directory_is_not_judged(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 0);
    struct msg_receipt r;

    verdict(w, v, 0, (struct bytes){NULL, 0}, &r);
    assert_int_equal(r.code, REASON_UNSUPPORTED);
    assert_null(open_dispute(w));
}

/* Nor the memory to make it. */
static void version_0_that_does_not_fit_here_is_not_judged(void **state)
{
    struct world *w = *state;
    uint32_t v = given(w, 0);
    struct msg_receipt r;

    verdict(w, v, 0, (struct bytes){NULL, 0}, &r);
    assert_int_equal(r.code, REASON_UNSUPPORTED);
    assert_null(open_dispute(w));
    assert_int_equal(w->n_judged, 0);
    verdict(w, given(w, 1), 1, (struct bytes){NULL, 0}, &r); /* others have a game */
    assert_true(r.is_accepted);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_move_that_the_other_side_could_not_fetch_is_none),
        TEST(version_0_stays_with_whoever_is_alive),
        TEST(who_says_nothing_about_a_version_does_not_keep_it),
        TEST(only_whose_turn_it_is_moves),
        TEST(a_move_follows_the_one_before),
        TEST(a_repeated_move_is_one),
        TEST(there_is_one_dispute_at_a_time),
        TEST(a_challenge_that_had_to_wait_is_taken_after_the_dispute),
        TEST(a_trainer_that_says_nothing_loses_and_the_task_ends),
        TEST(a_challenger_that_says_nothing_loses_and_the_task_goes_on),
        TEST(a_partys_clock_runs_through_all_its_moves),
        TEST(a_restart_keeps_the_moves_and_gives_the_whole_time),
        TEST(a_clock_that_was_set_gives_nobody_more_time_or_less),
        TEST(a_party_is_not_kept_from_the_batches),
        TEST(what_is_called_is_judged_once),
        TEST(a_game_that_cannot_be_judged_is_tried_again),
        TEST(a_restart_has_it_judged_again),
        TEST(version_0_is_judged_without_moves),
        TEST(a_proof_is_judged_without_moves),
        cmocka_unit_test_setup_teardown(version_0_of_a_directory_is_not_judged, setup_directory,
                                        teardown),
        cmocka_unit_test_setup_teardown(version_0_that_does_not_fit_here_is_not_judged,
                                        setup_large, teardown),
    };

    return cmocka_run_group_tests_name("orchestrator/orch_dispute", tests, NULL, NULL);
}
