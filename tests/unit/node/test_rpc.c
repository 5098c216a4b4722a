/*
 * node/rpc: asking until there is an answer.
 */
#include "node/rpc.h"

#include <string.h>

#include "support/test.h"

#define SERVER 77u
#define RETRY  100u

struct fixture {
    struct node_key *key;
    struct rpc *rpc;
    struct effects out;
};

static int setup(void **state)
{
    static struct fixture f;
    const uint8_t seed[32] = {1};
    const struct digest run = {{9}};

    key_derive(&f.key, seed);
    rpc_new(&f.rpc, f.key, 1);
    rpc_set_peer(f.rpc, SERVER);
    rpc_set_run(f.rpc, &run);
    effects_init(&f.out);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    effects_clear(&f->out);
    rpc_free(&f->rpc);
    key_free(&f->key);
    return 0;
}

static void ask(struct fixture *f, enum msg_kind kind, uint64_t tag, int64_t now)
{
    assert_ok(rpc_ask(f->rpc, kind, BYTES_LIT("\x18\1"), tag, RETRY, now, &f->out, NULL), NULL);
}

/* The i-th SEND, or one with no bytes. */
static struct bytes sent(const struct fixture *f, size_t i)
{
    for (size_t k = 0; k < f->out.n; k++) {
        if (f->out.v[k].kind != EFFECT_SEND)
            continue;
        assert_int_equal(f->out.v[k].peer, SERVER);
        if (i-- == 0)
            return f->out.v[k].value;
    }
    return (struct bytes){NULL, 0};
}

static size_t n_sent(const struct fixture *f)
{
    size_t n = 0;

    while (sent(f, n).len > 0)
        n++;
    return n;
}

static int64_t first_timer(const struct fixture *f)
{
    int64_t first = INT64_MAX;

    for (size_t k = 0; k < f->out.n; k++) {
        if (f->out.v[k].kind == EFFECT_TIMER && f->out.v[k].at_ms < first)
            first = f->out.v[k].at_ms;
    }
    return first;
}

/* An answer to the i-th SEND: an envelope with its idem. */
static struct msg_envelope answer_to(const struct fixture *f, size_t i)
{
    struct msg_envelope m;

    assert_ok(msg_envelope_decode(&m, sent(f, i), NULL), NULL);
    m.kind = MSG_WAIT;
    return m;
}

static void a_question_is_sent_at_once_and_names_the_run(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope m;

    ask(f, MSG_LEASE_ASK, 5, 1000);

    assert_int_equal(n_sent(f), 1);
    assert_ok(msg_envelope_decode(&m, sent(f, 0), NULL), NULL);
    assert_int_equal(m.kind, MSG_LEASE_ASK);
    assert_int_equal(m.run.b[0], 9);
    assert_int_equal(first_timer(f), 1000 + RETRY);
    assert_int_equal(rpc_open(f->rpc, MSG_LEASE_ASK), 1);
    assert_int_equal(rpc_open(f->rpc, MSG_SUBMIT), 0);
}

static void a_signed_kind_is_signed(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope m;

    ask(f, MSG_SUBMIT, 5, 1000);

    assert_ok(msg_envelope_decode(&m, sent(f, 0), NULL), NULL);
    assert_ok(msg_envelope_verify(&m, NULL), NULL);
    assert_true(key_equal(&m.signer, &f->key->node));
}

static void an_unanswered_question_is_repeated_byte_for_byte(void **state)
{
    struct fixture *f = *state;
    ask(f, MSG_LEASE_ASK, 5, 1000);

    rpc_tick(f->rpc, 1000 + RETRY - 1, &f->out);
    assert_int_equal(n_sent(f), 1);
    rpc_tick(f->rpc, 1000 + RETRY, &f->out);

    assert_int_equal(n_sent(f), 2);
    assert_true(bytes_equal(sent(f, 0), sent(f, 1)));
    effects_reset(&f->out);
    rpc_tick(f->rpc, 1000 + RETRY, &f->out); /* not again at the same time */
    assert_int_equal(n_sent(f), 0);
    assert_int_equal(first_timer(f), 1000 + 2 * RETRY);
}

static void an_answer_closes_its_question_once(void **state)
{
    struct fixture *f = *state;
    enum msg_kind kind;
    uint64_t tag;
    ask(f, MSG_LEASE_ASK, 5, 1000);
    ask(f, MSG_CHECK_ASK, 6, 1000);
    struct msg_envelope m = answer_to(f, 1);

    assert_true(rpc_answered(f->rpc, &m, &kind, &tag));
    assert_int_equal(kind, MSG_CHECK_ASK);
    assert_int_equal(tag, 6);
    assert_false(rpc_answered(f->rpc, &m, &kind, &tag)); /* a second copy */

    assert_int_equal(rpc_open(f->rpc, MSG_LEASE_ASK), 1);
    effects_reset(&f->out);
    rpc_tick(f->rpc, 5000, &f->out);
    assert_int_equal(n_sent(f), 1);
}

static void what_answers_no_question_is_not_an_answer(void **state)
{
    struct fixture *f = *state;
    enum msg_kind kind;
    uint64_t tag;
    ask(f, MSG_LEASE_ASK, 5, 1000);
    struct msg_envelope m = answer_to(f, 0);

    m.idem.b[15] ^= 1;

    assert_false(rpc_answered(f->rpc, &m, &kind, &tag));
    memset(m.idem.b, 0, sizeof(m.idem.b)); /* gossip has no idem */
    assert_false(rpc_answered(f->rpc, &m, &kind, &tag));
}

static void cancelling_forgets_all_with_the_tag(void **state)
{
    struct fixture *f = *state;
    ask(f, MSG_LEASE_ASK, 5, 1000);
    ask(f, MSG_LEASE_ASK, 5, 1000);
    ask(f, MSG_LEASE_ASK, 6, 1000);

    rpc_cancel(f->rpc, 5);

    assert_int_equal(rpc_open(f->rpc, MSG_LEASE_ASK), 1);
}

static void there_is_an_end_to_open_questions(void **state)
{
    struct fixture *f = *state;
    enum msg_kind kind;
    struct err e = {0};
    uint64_t tag;
    for (uint32_t i = 0; i < RPC_MAX_OPEN; i++)
        ask(f, MSG_LEASE_ASK, i, 1000);

    assert_status(rpc_ask(f->rpc, MSG_LEASE_ASK, BYTES_LIT("x"), 0, RETRY, 1000, &f->out, &e),
                  ERR_FULL, &e);
    struct msg_envelope m = answer_to(f, 10);
    assert_true(rpc_answered(f->rpc, &m, &kind, &tag));
    ask(f, MSG_LEASE_ASK, 99, 1000);

    assert_int_equal(rpc_open(f->rpc, MSG_LEASE_ASK), RPC_MAX_OPEN);
}

static void idempotency_keys_differ_between_questions_and_between_boots(void **state)
{
    struct fixture *f = *state;
    struct rpc *other;
    struct msg_envelope a, b, c, d;
    rpc_new(&other, f->key, 2);
    rpc_set_peer(other, SERVER);

    ask(f, MSG_LEASE_ASK, 1, 1000);
    ask(f, MSG_LEASE_ASK, 1, 1000);
    assert_ok(rpc_ask(other, MSG_LEASE_ASK, BYTES_LIT("x"), 1, RETRY, 1000, &f->out, NULL),
              NULL);
    assert_ok(rpc_ask(other, MSG_LEASE_ASK, BYTES_LIT("x"), 1, RETRY, 1000, &f->out, NULL),
              NULL);

    a = answer_to(f, 0), b = answer_to(f, 1), c = answer_to(f, 2), d = answer_to(f, 3);
    assert_false(idem_equal(&a.idem, &b.idem));
    assert_false(idem_equal(&a.idem, &c.idem));
    assert_false(idem_equal(&b.idem, &d.idem));
    rpc_free(&other);
}

static void without_a_server_a_question_waits_for_one(void **state)
{
    struct fixture *f = *state;
    rpc_set_peer(f->rpc, 0);

    ask(f, MSG_LEASE_ASK, 5, 1000);
    assert_int_equal(n_sent(f), 0);
    rpc_set_peer(f->rpc, SERVER);
    rpc_tick(f->rpc, 1000 + RETRY, &f->out);

    assert_int_equal(n_sent(f), 1);
}

int main(void)
{
#define WITH_RPC(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_RPC(a_question_is_sent_at_once_and_names_the_run),
        WITH_RPC(a_signed_kind_is_signed),
        WITH_RPC(an_unanswered_question_is_repeated_byte_for_byte),
        WITH_RPC(an_answer_closes_its_question_once),
        WITH_RPC(what_answers_no_question_is_not_an_answer),
        WITH_RPC(cancelling_forgets_all_with_the_tag),
        WITH_RPC(there_is_an_end_to_open_questions),
        WITH_RPC(idempotency_keys_differ_between_questions_and_between_boots),
        WITH_RPC(without_a_server_a_question_waits_for_one),
    };

    return cmocka_run_group_tests_name("node/rpc", tests, NULL, NULL);
}
