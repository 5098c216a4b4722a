/*
 * verifier/verify_state: checks asked for, judged and told; weights or answers are missing.
 */
#include "verifier/verify_state.h"

#include <string.h>

#include "proto/digest.h"
#include "proto/witness.h"
#include "support/orders.h"
#include "support/test.h"

#define RETRY 2000

struct fixture {
    struct orders o;
    struct verify *s;
    struct run_news news;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct verify_options opt = {.boot = 1};

    orders_init(&f->o, 2);
    opt.key = f->o.key;
    verify_new(&f->s, &opt);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    verify_free(&f->s);
    orders_clear(&f->o);
    test_free(f);
    return 0;
}

static void tick(struct fixture *f, int64_t now)
{
    orders_forget(&f->o);
    verify_tick(f->s, now, &f->o.out);
}

static void hear(struct fixture *f, struct bytes data, int64_t now)
{
    orders_forget(&f->o);
    verify_message(f->s, data, now, &f->news, &f->o.out);
}

static void see_versions(struct fixture *f, int64_t oldest, int64_t newest, int64_t now)
{
    orders_forget(&f->o);
    verify_versions(f->s, oldest, newest, now, &f->o.out);
}

static void be_ready(struct fixture *f)
{
    verify_welcome(f->s, ORDERS_PEER, &f->o.run);
    verify_ready(f->s);
}

static struct msg_envelope ask(struct fixture *f, int64_t now)
{
    tick(f, now);
    return orders_get(&f->o, MSG_CHECK_ASK, 0);
}

static struct bytes check_of(struct fixture *f, const struct msg_envelope *asked, uint64_t unit,
                             uint32_t deadline_ms)
{
    const struct msg_check m = {.unit = unit,
                                .lease = 1000 + unit,
                                .depth = CHECK_FULL,
                                .deadline_ms = deadline_ms,
                                .submission = BYTES_LIT("a submission")};

    buf_reset(&f->o.body);
    assert_ok(msg_check_encode(&f->o.body, &m, NULL), NULL);
    return orders_answer(&f->o, asked, MSG_CHECK, buf_bytes(&f->o.body));
}

/* A machine that judges unit 40 since time 0 and has asked for another check. */
static struct msg_envelope judge(struct fixture *f, uint32_t deadline_ms)
{
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, check_of(f, &asked, 40, deadline_ms), 0);
    assert_non_null(orders_job(&f->o));
    return orders_get(&f->o, MSG_CHECK_ASK, 0);
}

static void end_job(struct fixture *f, uint64_t number, uint64_t unit, bool accepted,
                    int64_t now)
{
    struct msg_verdict v = {.unit = unit,
                            .lease = 1000 + unit,
                            .submission = {{1}},
                            .depth = CHECK_FULL,
                            .is_accepted = accepted,
                            .code = accepted ? REASON_NONE : REASON_LOGPROB};
    struct buf body;

    buf_init(&body, 4096);
    assert_ok(msg_verdict_encode(&body, &v, NULL), NULL);
    orders_forget(&f->o);
    verify_job(f->s, number, OK, buf_bytes(&body), NULL, now, &f->o.out);
    buf_clear(&body);
}

static void light_checks_are_said_with_one_signature_but_for_what_was_found(void **state)
{
    struct fixture *f = *state;
    const struct msg_checks m = {.deadline_ms = 5000,
                                 .n = 3,
                                 .item = {{40, 1040, BYTES_LIT("one")},
                                          {41, 1041, BYTES_LIT("two")},
                                          {42, 1042, BYTES_LIT("three")}}};
    struct msg_envelope asked, env;
    struct msg_verdicts all;
    struct msg_verdict one;
    struct buf result, body;

    be_ready(f);
    asked = ask(f, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_checks_encode(&f->o.body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_CHECKS, buf_bytes(&f->o.body)), 0);
    assert_non_null(orders_job(&f->o));
    assert_int_equal(orders_job(&f->o)->job, VERIFY_JOB_LIGHT);

    buf_init(&result, 1u << 16);
    buf_init(&body, 4096);
    buf_put_u32(&result, 3);
    for (uint64_t i = 0; i < 3; i++) {
        const struct msg_verdict v = {.unit = 40 + i,
                                      .lease = 1040 + i,
                                      .submission = {{(uint8_t)(1 + i)}},
                                      .depth = CHECK_LIGHT,
                                      .is_accepted = i != 1,
                                      .code = i == 1 ? REASON_REWARD : REASON_NONE};
        buf_reset(&body);
        assert_ok(msg_verdict_encode(&body, &v, NULL), NULL);
        buf_put_blob(&result, buf_bytes(&body));
    }
    orders_forget(&f->o);
    verify_job(f->s, 1, OK, buf_bytes(&result), NULL, 10, &f->o.out);
    buf_clear(&result);
    buf_clear(&body);

    assert_int_equal(orders_sent(&f->o, MSG_VERDICTS), 1);
    env = orders_get(&f->o, MSG_VERDICTS, 0);
    assert_ok(msg_envelope_verify(&env, NULL), NULL);
    assert_ok(msg_verdicts_decode(&all, env.body, NULL), NULL);
    assert_int_equal(all.n, 2);
    assert_int_equal(all.item[0].unit, 40);
    assert_int_equal(all.item[1].unit, 42);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 1);
    env = orders_get(&f->o, MSG_VERDICT, 0);
    assert_ok(msg_verdict_decode(&one, env.body, NULL), NULL);
    assert_int_equal(one.unit, 41);
    assert_int_equal(one.code, REASON_REWARD);
    assert_false(verify_is_idle(f->s));
}

/* The machine has judged unit 40 of a check that names a draw; the seal it has sent. */
static struct msg_envelope sealed(struct fixture *f, struct buf *kept)
{
    struct msg_check m = {.unit = 40,
                          .lease = 1040,
                          .depth = CHECK_FULL,
                          .deadline_ms = 5000,
                          .submission = BYTES_LIT("a submission"),
                          .draw = {{7}}};
    struct msg_envelope asked, seal;

    be_ready(f);
    asked = ask(f, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_check_encode(&f->o.body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_CHECK, buf_bytes(&f->o.body)), 0);
    end_job(f, 1, 40, true, 20);
    seal = orders_get(&f->o, MSG_VERDICT_SEAL, 0);
    buf_init(kept, 4096);
    buf_append(kept, seal.raw);
    assert_ok(msg_envelope_decode(&seal, buf_bytes(kept), NULL), NULL);
    return seal;
}

static void a_verdict_is_shown_when_its_seal_is_answered(void **state)
{
    struct fixture *f = *state;
    struct msg_verdict_seal m;
    struct msg_envelope seal;
    struct digest shown;
    struct buf kept;

    seal = sealed(f, &kept);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    tick(f, 3000); /* the seal again, and still no verdict */
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT_SEAL), 1);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    assert_false(verify_is_idle(f->s));
    hear(f, orders_receipt(&f->o, &seal, true, REASON_NONE), 3001);

    assert_ok(msg_verdict_seal_decode(&m, seal.body, NULL), NULL);
    digest_of(&shown, orders_get(&f->o, MSG_VERDICT, 0).raw);
    assert_true(digest_equal(&shown, &m.verdict));
    buf_clear(&kept);
}

static void a_verdict_whose_seal_comes_too_late_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope seal;
    struct buf kept;

    seal = sealed(f, &kept);
    hear(f, orders_receipt(&f->o, &seal, false, REASON_DUPLICATE), 30);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    assert_true(verify_is_idle(f->s));
    buf_clear(&kept);
}

static void fail_job(struct fixture *f, uint64_t number, enum status st, const char *text,
                     int64_t now)
{
    struct err e = {0};

    (void)err_set(&e, st, "%s", text);
    orders_forget(&f->o);
    verify_job(f->s, number, st, (struct bytes){NULL, 0}, &e, now, &f->o.out);
}

static void nothing_is_asked_before_all_is_there(void **state)
{
    struct fixture *f = *state;

    tick(f, 0);
    assert_int_equal(orders_sends(&f->o), 0);
    verify_ready(f->s);
    tick(f, 0);
    assert_int_equal(orders_sends(&f->o), 0);
    verify_welcome(f->s, ORDERS_PEER, &f->o.run);
    tick(f, 0);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void the_question_says_which_versions_are_here(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_check_ask m;

    see_versions(f, 3, 6, 0);
    be_ready(f);
    asked = ask(f, 0);
    assert_ok(msg_check_ask_decode(&m, asked.body, NULL), NULL);
    assert_int_equal(m.oldest_version, 3);
    assert_int_equal(m.newest_version, 6);
}

static void a_check_starts_a_job_and_the_next_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct msg_check m;

    judge(f, 5000);
    assert_ok(msg_check_decode(&m, orders_job(&f->o)->value, NULL), NULL);
    assert_int_equal(orders_job(&f->o)->job, VERIFY_JOB_CHECK);
    assert_int_equal(m.unit, 40);
    assert_true(bytes_equal(m.submission, BYTES_LIT("a submission")));
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
    assert_string_equal(verify_why(f->s), "");
}

static void one_check_waits_its_turn_and_no_third_is_asked_for(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked = judge(f, 5000);
    struct msg_check m;

    hear(f, check_of(f, &asked, 41, 5000), 10);
    assert_null(orders_job(&f->o));
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 0);
    end_job(f, 1, 40, true, 20);
    assert_ok(msg_check_decode(&m, orders_job(&f->o)->value, NULL), NULL);
    assert_int_equal(m.unit, 41);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 1);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void a_verdict_is_signed_and_sent_until_its_receipt(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope verdict;
    struct msg_verdict v;
    struct buf copy;

    judge(f, 5000);
    end_job(f, 1, 40, false, 100);
    verdict = orders_get(&f->o, MSG_VERDICT, 0); /* orders_get verifies */
    assert_true(key_equal(&verdict.signer, &f->o.key->node));
    assert_ok(msg_verdict_decode(&v, verdict.body, NULL), NULL);
    assert_int_equal(v.unit, 40);
    assert_false(v.is_accepted);
    buf_init(&copy, 4096);
    buf_append(&copy, verdict.raw);
    assert_ok(msg_envelope_decode(&verdict, buf_bytes(&copy), NULL), NULL);
    verify_stop(f->s);
    tick(f, 100 + RETRY);
    assert_true(bytes_equal(orders_get(&f->o, MSG_VERDICT, 0).raw, verdict.raw));
    assert_false(verify_is_idle(f->s));
    hear(f, orders_receipt(&f->o, &verdict, true, REASON_NONE), 3000);
    hear(f, orders_receipt(&f->o, &verdict, true, REASON_NONE), 3001);
    assert_int_equal(verify_counts(f->s)->receipts, 1);
    assert_true(verify_is_idle(f->s));
    tick(f, 10 * RETRY);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    buf_clear(&copy);
}

static void verdicts_are_counted(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked = judge(f, 5000);
    const struct verify_counts *c = verify_counts(f->s);

    hear(f, check_of(f, &asked, 41, 5000), 10);
    end_job(f, 1, 40, false, 100);
    end_job(f, 2, 41, true, 101);
    assert_int_equal(c->checked, 2);
    assert_int_equal(c->full, 2);
    assert_int_equal(c->rejected, 1);
}

static void without_the_weights_a_check_is_parked_until_a_version_comes(void **state)
{
    struct fixture *f = *state;

    see_versions(f, 0, 4, 0);
    judge(f, 60000);
    fail_job(f, 1, ERR_NOT_FOUND, "version 5 is not here", 10);
    assert_null(orders_job(&f->o));
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    assert_contains(verify_why(f->s), "not here yet");
    tick(f, 5000);
    assert_null(orders_job(&f->o));
    see_versions(f, 0, 4, 5001); /* the same as before */
    assert_null(orders_job(&f->o));
    see_versions(f, 0, 5, 5002);
    assert_non_null(orders_job(&f->o));
}

/* The version came while the job that missed it was on its way back. */
static void a_version_that_comes_during_the_job_is_not_missed(void **state)
{
    struct fixture *f = *state;

    judge(f, 60000);
    see_versions(f, 0, 5, 5);
    assert_null(orders_job(&f->o));
    fail_job(f, 1, ERR_NOT_FOUND, "version 5 is not here", 10);
    assert_non_null(orders_job(&f->o));
    fail_job(f, 2, ERR_NOT_FOUND, "version 5 is not here", 11);
    assert_null(orders_job(&f->o)); /* and not for ever */
}

static void a_parked_check_ends_at_its_deadline(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked = judge(f, 4000);

    hear(f, orders_wait(&f->o, &asked, &(struct msg_wait){.retry_ms = 100}), 1);
    fail_job(f, 1, ERR_NOT_FOUND, "version 5 is not here", 10);
    assert_int_equal(orders_timer(&f->o), 4000);
    assert_int_equal(orders_sends(&f->o), 0); /* no more are taken meanwhile */
    tick(f, 3999);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 4000);
    assert_null(orders_job(&f->o));
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
    see_versions(f, 0, 5, 4001);
    assert_null(orders_job(&f->o)); /* somebody else has it */
}

static void a_check_past_its_deadline_is_not_begun(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked = judge(f, 60000);

    hear(f, check_of(f, &asked, 41, 50), 10);
    end_job(f, 1, 40, true, 60); /* 41 was due at 60 */
    assert_null(orders_job(&f->o));
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 1);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void a_check_that_fails_gives_no_verdict(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked = judge(f, 60000);

    hear(f, orders_wait(&f->o, &asked, &(struct msg_wait){.retry_ms = 100}), 1);
    fail_job(f, 1, ERR_TIMEOUT, "the environment ran out of time", 10);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
    assert_string_equal(verify_why(f->s), "the environment ran out of time");
    assert_true(verify_is_idle(f->s));
    tick(f, 101);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void the_end_of_another_job_is_ignored(void **state)
{
    struct fixture *f = *state;

    judge(f, 60000);
    end_job(f, 7, 40, true, 1);
    assert_int_equal(orders_sends(&f->o), 0);
    end_job(f, 1, 40, true, 2);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 1);
    end_job(f, 1, 40, true, 3);
    assert_int_equal(orders_sent(&f->o, MSG_VERDICT), 0);
}

static void a_second_copy_of_a_check_starts_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes check;

    be_ready(f);
    asked = ask(f, 0);
    check = check_of(f, &asked, 40, 60000);
    hear(f, check, 0);
    hear(f, check, 1);
    assert_int_equal(f->o.out.n, 0);
    end_job(f, 1, 40, true, 2);
    assert_null(orders_job(&f->o));
}

static void a_lost_question_is_asked_again(void **state)
{
    struct fixture *f = *state;

    be_ready(f);
    ask(f, 0);
    tick(f, RETRY - 1);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, RETRY);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void a_wait_is_waited_for(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait m = {
        .code = REASON_NO_WORK, .retry_ms = 300, .head_version = 8, .roster_seq = 3};
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, orders_wait(&f->o, &asked, &m), 10);
    assert_int_equal(f->news.head_version, 8);
    assert_int_equal(f->news.roster_seq, 3);
    assert_int_equal(orders_timer(&f->o), 310);
    assert_string_equal(verify_why(f->s), reason_text(REASON_NO_WORK));
    tick(f, 309);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 310);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

static void draining_is_heard(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait m = {.code = REASON_DRAINING, .retry_ms = 300};
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, orders_wait(&f->o, &asked, &m), 10);
    assert_true(verify_is_drained(f->s));
    assert_true(verify_is_idle(f->s));
}

/* Answers the open WITNESS_ASK with head `seq`; the WITNESS that follows, in *m. */
static struct msg_envelope be_called(struct fixture *f, uint64_t seq, const struct digest *next,
                                     struct msg_witness *m, int64_t now)
{
    struct msg_envelope asked = orders_get(&f->o, MSG_WITNESS_ASK, 0), got;
    const struct msg_witness_call c = {.seq = seq, .entry = {{(uint8_t)seq}}, .next = *next};
    struct buf body;

    buf_init(&body, 256);
    assert_ok(msg_witness_call_encode(&body, &c, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_WITNESS_CALL, buf_bytes(&body)), now);
    buf_clear(&body);
    got = orders_get(&f->o, MSG_WITNESS, 0);
    assert_ok(msg_envelope_verify(&got, NULL), NULL);
    assert_ok(msg_witness_decode(m, got.body, NULL), NULL);
    assert_int_equal(m->seq, seq);
    return got;
}

static void a_witness_gives_each_nonce_once_and_only_if_it_is_on_record(void **state)
{
    struct fixture *f = *state;
    static const struct digest none;
    struct msg_witness first, second, third;
    struct msg_envelope sent;
    struct digest is;

    verify_witness(f->s, 0);
    be_ready(f);
    tick(f, 0);
    sent = be_called(f, 5, &none, &first, 1);
    assert_true(digest_is_zero(&first.nonce)); /* it begins */
    hear(f, orders_receipt(&f->o, &sent, true, REASON_NONE), 2);
    sent = be_called(f, 8, &first.next, &second, 3);
    witness_commitment(&is, &f->o.key->node, &second.nonce);
    assert_true(digest_equal(&is, &first.next));
    hear(f, orders_receipt(&f->o, &sent, true, REASON_NONE), 4);
    be_called(f, 9, &first.next, &third, 5); /* as if the second had not been given */
    assert_true(digest_is_zero(&third.nonce));
}

static void a_head_that_was_seen_before_is_not_answered(void **state)
{
    struct fixture *f = *state;
    const struct msg_witness_call c = {.seq = 7, .entry = {{7}}};
    struct msg_envelope asked;
    struct msg_witness_ask ask_body;
    struct buf body;

    verify_witness(f->s, 7); /* in an earlier life */
    be_ready(f);
    tick(f, 0);
    asked = orders_get(&f->o, MSG_WITNESS_ASK, 0);
    assert_ok(msg_witness_ask_decode(&ask_body, asked.body, NULL), NULL);
    assert_int_equal(ask_body.have, 7);
    buf_init(&body, 256);
    assert_ok(msg_witness_call_encode(&body, &c, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_WITNESS_CALL, buf_bytes(&body)), 1);
    buf_clear(&body);
    assert_int_equal(orders_sent(&f->o, MSG_WITNESS), 0);
    assert_int_equal(orders_sent(&f->o, MSG_WITNESS_ASK), 1); /* it waits for the next */
}

static void rubbish_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, BYTES_LIT("rubbish"), 1);
    hear(f, orders_answer(&f->o, &asked, MSG_CHECK, BYTES_LIT("\xff\xff")), 2);
    assert_null(orders_job(&f->o));
    tick(f, 1002);
    assert_int_equal(orders_sent(&f->o, MSG_CHECK_ASK), 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_is_asked_before_all_is_there),
        CASE(light_checks_are_said_with_one_signature_but_for_what_was_found),
        CASE(the_question_says_which_versions_are_here),
        CASE(a_check_starts_a_job_and_the_next_is_asked_for),
        CASE(one_check_waits_its_turn_and_no_third_is_asked_for),
        CASE(a_verdict_is_signed_and_sent_until_its_receipt),
        CASE(a_verdict_is_shown_when_its_seal_is_answered),
        CASE(a_verdict_whose_seal_comes_too_late_is_dropped),
        CASE(verdicts_are_counted),
        CASE(without_the_weights_a_check_is_parked_until_a_version_comes),
        CASE(a_version_that_comes_during_the_job_is_not_missed),
        CASE(a_parked_check_ends_at_its_deadline),
        CASE(a_check_past_its_deadline_is_not_begun),
        CASE(a_check_that_fails_gives_no_verdict),
        CASE(the_end_of_another_job_is_ignored),
        CASE(a_second_copy_of_a_check_starts_nothing),
        CASE(a_lost_question_is_asked_again),
        CASE(a_wait_is_waited_for),
        CASE(draining_is_heard),
        CASE(a_witness_gives_each_nonce_once_and_only_if_it_is_on_record),
        CASE(a_head_that_was_seen_before_is_not_answered),
        CASE(rubbish_changes_nothing),
    };
    return cmocka_run_group_tests_name("verifier/verify_state", tests, NULL, NULL);
}
