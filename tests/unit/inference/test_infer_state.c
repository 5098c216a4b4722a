/*
 * inference/infer_state: asking, working, submitting, when answers are late, double, or no.
 */
#include "inference/infer_state.h"

#include <string.h>

#include "support/orders.h"
#include "support/test.h"

#define UNITS 4u
#define RETRY 2000 /* of the machine's questions */

struct fixture {
    struct orders o;
    struct infer *s;
    struct run_news news;
};

static void start(struct fixture *f)
{
    const struct infer_options opt = {.key = f->o.key, .boot = 1, .units = UNITS};

    infer_new(&f->s, &opt);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    orders_init(&f->o, 1);
    start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    infer_free(&f->s);
    orders_clear(&f->o);
    test_free(f);
    return 0;
}

static void tick(struct fixture *f, int64_t now)
{
    orders_forget(&f->o);
    infer_tick(f->s, now, &f->o.out);
}

/* Feeds an answer and keeps only the effects of that. */
static void hear(struct fixture *f, struct bytes data, int64_t now)
{
    orders_forget(&f->o);
    infer_message(f->s, data, now, &f->news, &f->o.out);
}

static void be_ready(struct fixture *f)
{
    infer_welcome(f->s, ORDERS_PEER, &f->o.run);
    infer_ready(f->s);
    infer_versions(f->s, 2, 5);
}

/* A machine that has asked at time `now`. */
static struct msg_envelope ask(struct fixture *f, int64_t now)
{
    tick(f, now);
    return orders_get(&f->o, MSG_LEASE_ASK, 0);
}

/* A machine at work on units [40, 40 + n) of version 5 since time 0. */
static void work(struct fixture *f, uint32_t n)
{
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, orders_lease(&f->o, &asked, 40, n, 5, 3000), 0);
    assert_non_null(orders_job(&f->o));
}

/* The result of the running job: a body "unit N" each. */
static void finish_job(struct fixture *f, uint64_t number, uint32_t n, int64_t now)
{
    struct buf result;

    buf_init(&result, 1u << 16);
    buf_put_u32(&result, n);
    for (uint32_t i = 0; i < n; i++) {
        char body[32];
        int len = snprintf(body, sizeof(body), "unit %u", 40 + i);

        buf_put_u64(&result, 40 + i);
        buf_put_u64(&result, 1040 + i);
        buf_put_u64(&result, 100 + i);
        buf_put_blob(&result, (struct bytes){(const uint8_t *)body, (size_t)len});
    }
    orders_forget(&f->o);
    infer_job(f->s, number, OK, buf_bytes(&result), NULL, now, &f->o.out);
    buf_clear(&result);
}

static void what_is_drawn_is_opened_until_its_receipt(void **state)
{
    struct fixture *f = *state;
    const struct msg_drawn m = {.settled = 30, .n = 1, .item = {{40, 1040}}};
    const uint8_t proof[258] = {1};
    const struct msg_opening o = {
        .unit = 40, .lease = 1040, .proofs = BYTES_OF(proof), .states = {{4}}};
    struct msg_envelope asked, env;
    struct attempt item;
    struct buf body;

    be_ready(f);
    infer_opens(f->s, 1040);
    assert_true(infer_has_closed(f->s));
    tick(f, 0);
    asked = orders_get(&f->o, MSG_DRAWN_ASK, 0);
    buf_init(&body, 4096);
    assert_ok(msg_drawn_encode(&body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_DRAWN, buf_bytes(&body)), 10);
    assert_int_equal(infer_settled(f->s), 30);
    assert_true(infer_to_open(f->s, &item));
    assert_int_equal(item.lease, 1040);
    assert_false(infer_to_open(f->s, &item));
    buf_reset(&body);
    assert_ok(msg_opening_encode(&body, &o, NULL), NULL);
    orders_forget(&f->o);
    infer_open(f->s, &item, buf_bytes(&body), 10, &f->o.out);
    env = orders_get(&f->o, MSG_OPENING, 0);
    assert_ok(msg_envelope_verify(&env, NULL), NULL);
    assert_false(infer_is_idle(f->s));
    tick(f, 10 + 2000); /* lost */
    env = orders_get(&f->o, MSG_OPENING, 0);
    assert_int_equal(orders_sent(&f->o, MSG_DRAWN_ASK), 0);
    hear(f, orders_receipt(&f->o, &env, true, REASON_NONE), 2020);
    assert_int_equal(infer_counts(f->s)->opened, 1);
    assert_int_equal(orders_sent(&f->o, MSG_DRAWN_ASK), 1); /* others may be drawn */
    buf_clear(&body);
}

static void what_cannot_be_opened_is_asked_for_again_and_not_at_once(void **state)
{
    struct fixture *f = *state;
    const struct msg_drawn m = {.settled = 1041, .n = 1, .item = {{40, 1040}}};
    struct msg_envelope asked;
    struct attempt item;
    struct buf body;

    be_ready(f);
    infer_opens(f->s, 1042);
    tick(f, 0);
    asked = orders_get(&f->o, MSG_DRAWN_ASK, 0);
    buf_init(&body, 4096);
    assert_ok(msg_drawn_encode(&body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_DRAWN, buf_bytes(&body)), 10);
    assert_true(infer_to_open(f->s, &item));
    infer_open(f->s, &item, (struct bytes){NULL, 0}, 10, &f->o.out);
    tick(f, 20);
    assert_int_equal(orders_sent(&f->o, MSG_DRAWN_ASK), 0);
    tick(f, 10 + 1000);
    assert_int_equal(orders_sent(&f->o, MSG_DRAWN_ASK), 1);
    buf_clear(&body);
}

static void nothing_is_asked_before_all_is_there(void **state)
{
    struct fixture *f = *state;

    tick(f, 0);
    assert_int_equal(orders_sends(&f->o), 0);
    infer_welcome(f->s, ORDERS_PEER, &f->o.run);
    tick(f, 1);
    assert_int_equal(orders_sends(&f->o), 0);
    infer_ready(f->s);
    tick(f, 2);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_contains(infer_why(f->s), "no weights are here yet");
    infer_versions(f->s, 0, 0);
    tick(f, 3);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void the_question_says_what_is_here(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_lease_ask m;

    be_ready(f);
    asked = ask(f, 0);
    assert_ok(msg_lease_ask_decode(&m, asked.body, NULL), NULL);
    assert_int_equal(m.newest_version, 5);
    assert_int_equal(m.oldest_version, 2);
    assert_int_equal(m.max, UNITS);
}

static void a_lost_question_is_asked_again_with_the_same_key(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope first, again;
    struct idem idem;

    be_ready(f);
    first = ask(f, 0);
    idem = first.idem;
    assert_int_equal(orders_timer(&f->o), RETRY);
    tick(f, RETRY - 1);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, RETRY);
    assert_int_equal(orders_sends(&f->o), 1);
    again = orders_get(&f->o, MSG_LEASE_ASK, 0);
    assert_true(idem_equal(&again.idem, &idem));
}

static void a_lease_starts_one_job_with_its_units(void **state)
{
    struct fixture *f = *state;
    const struct effect *job;
    struct reader r;

    work(f, 3);
    job = orders_job(&f->o);
    assert_int_equal(job->job, INFER_JOB_GENERATE);
    r = reader_of(job->value);
    assert_int_equal(reader_u64(&r), 5);
    assert_int_equal(reader_u32(&r), 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(reader_u64(&r), 40 + i);
        assert_int_equal(reader_u64(&r), 1040 + i);
        assert_int_equal(reader_blob(&r).len, 0);
    }
    assert_ok(reader_done(&r, "arguments", NULL), NULL);
    assert_string_equal(infer_why(f->s), "");
    assert_false(infer_is_idle(f->s));
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 0); /* one job at a time */
}

/* Of the order that stands in the lease; 0: it was not handed on. */
static size_t order_of_job(struct fixture *f, struct bytes order)
{
    struct msg_envelope asked = ask(f, 0);
    struct msg_lease m = {.n = 1,
                          .item = {{.unit = 40,
                                    .lease = 1040,
                                    .version = 5,
                                    .deadline_ms = 3000,
                                    .hard_ms = 9000,
                                    .order = order}}};
    struct reader r;
    struct buf body;

    buf_init(&body, 4096);
    assert_ok(msg_lease_encode(&body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_LEASE, buf_bytes(&body)), 0);
    buf_clear(&body);
    assert_non_null(orders_job(&f->o));
    r = reader_of(orders_job(&f->o)->value);
    (void)reader_bytes(&r, 28);
    return reader_blob(&r).len;
}

static void encode_order(struct fixture *f, struct buf *out, uint64_t lease)
{
    const struct msg_canary_order order = {
        .unit = 40, .lease = lease, .attempt = 1, .salt = {{3}}};
    const struct idem idem = {{1}};
    struct buf body;

    buf_init(&body, 256);
    buf_init(out, MSG_MAX_ORDER);
    assert_ok(msg_canary_order_encode(&body, &order, NULL), NULL);
    assert_ok(msg_envelope_encode(out, MSG_CANARY_ORDER, &f->o.run, &idem, buf_bytes(&body),
                                  f->o.server->node_secret, NULL),
              NULL);
    buf_clear(&body);
}

static void an_order_is_handed_to_the_job(void **state)
{
    struct fixture *f = *state;
    struct buf order;

    be_ready(f);
    encode_order(f, &order, 1040);
    assert_int_equal(order_of_job(f, buf_bytes(&order)), order.len);
    buf_clear(&order);
}

static void an_order_for_another_lease_is_none(void **state)
{
    struct fixture *f = *state;
    struct buf order;

    be_ready(f);
    encode_order(f, &order, 1041);
    assert_int_equal(order_of_job(f, buf_bytes(&order)), 0);
    buf_clear(&order);
}

static void an_order_that_nobody_signed_is_none(void **state)
{
    struct fixture *f = *state;
    struct buf order;

    be_ready(f);
    encode_order(f, &order, 1040);
    order.data[order.len - 1] ^= 1;
    assert_int_equal(order_of_job(f, buf_bytes(&order)), 0);
    buf_clear(&order);
}

static void a_second_copy_of_a_lease_starts_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes lease;

    be_ready(f);
    asked = ask(f, 0);
    lease = orders_lease(&f->o, &asked, 40, 2, 5, 3000);
    hear(f, lease, 0);
    assert_non_null(orders_job(&f->o));
    hear(f, lease, 1);
    assert_null(orders_job(&f->o));
    finish_job(f, 1, 2, 10);
    hear(f, lease, 11);
    assert_null(orders_job(&f->o));
}

static void leases_of_another_version_are_left_to_expire(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_lease m = {.n = 2,
                          .item = {{.unit = 1, .version = 5, .lease = 11, .deadline_ms = 9},
                                   {.unit = 2, .version = 4, .lease = 12, .deadline_ms = 9}}};
    struct reader r;

    be_ready(f);
    asked = ask(f, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_lease_encode(&f->o.body, &m, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_LEASE, buf_bytes(&f->o.body)), 0);
    r = reader_of(orders_job(&f->o)->value);
    assert_int_equal(reader_u64(&r), 5);
    assert_int_equal(reader_u32(&r), 1);
    assert_int_equal(reader_u64(&r), 1);
}

static void units_made_are_submitted_and_more_are_asked_for(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope env;

    work(f, 3);
    finish_job(f, 1, 3, 500);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 3);
    env = orders_get(&f->o, MSG_SUBMIT, 2);
    assert_true(bytes_equal(env.body, BYTES_LIT("unit 42")));
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
    assert_int_equal(infer_counts(f->s)->units_made, 3);
    assert_int_equal(infer_counts(f->s)->submitted, 3);
    assert_int_equal(infer_counts(f->s)->tokens, 303);
    assert_false(infer_is_idle(f->s)); /* receipts are awaited */
}

static void submissions_are_sent_until_their_receipts(void **state)
{
    struct fixture *f = *state;
    struct buf copy[2]; /* the effects are forgotten in between */
    struct msg_envelope sub[2];

    work(f, 2);
    finish_job(f, 1, 2, 0);
    for (size_t i = 0; i < 2; i++) {
        struct msg_envelope env = orders_get(&f->o, MSG_SUBMIT, i);

        buf_init(&copy[i], 4096);
        buf_append(&copy[i], env.raw);
        assert_ok(msg_envelope_decode(&sub[i], buf_bytes(&copy[i]), NULL), NULL);
    }
    infer_stop(f->s);
    hear(f, orders_receipt(&f->o, &sub[0], true, REASON_NONE), 10);
    assert_int_equal(infer_counts(f->s)->accepted, 1);
    assert_false(infer_is_idle(f->s));
    tick(f, RETRY);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 1);
    assert_true(bytes_equal(orders_get(&f->o, MSG_SUBMIT, 0).raw, sub[1].raw));
    hear(f, orders_receipt(&f->o, &sub[0], true, REASON_NONE), RETRY); /* twice */
    assert_int_equal(infer_counts(f->s)->accepted, 1);
    hear(f, orders_receipt(&f->o, &sub[1], false, REASON_EXPIRED), RETRY + 1);
    assert_int_equal(infer_counts(f->s)->refused, 1);
    assert_true(infer_is_idle(f->s));
    tick(f, 10 * RETRY);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 0); /* refused for good */
    buf_clear(&copy[0]);
    buf_clear(&copy[1]);
}

static void a_wait_is_waited_for(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait m = {.code = REASON_NO_WORK,
                               .text = "all units are leased",
                               .retry_ms = 700,
                               .head_version = 6,
                               .roster_seq = 12};
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 100);
    hear(f, orders_wait(&f->o, &asked, &m), 150);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_int_equal(orders_timer(&f->o), 850);
    assert_string_equal(infer_why(f->s), "all units are leased");
    assert_true(f->news.is_set);
    assert_int_equal(f->news.head_version, 6);
    assert_int_equal(f->news.roster_seq, 12);
    tick(f, 849);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 850);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void a_newer_version_ends_a_wait(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait m = {
        .code = REASON_WANT_VERSION, .retry_ms = 60000, .head_version = 6};
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, orders_wait(&f->o, &asked, &m), 0);
    infer_versions(f->s, 2, 5); /* nothing new */
    tick(f, 10);
    assert_int_equal(orders_sends(&f->o), 0);
    infer_versions(f->s, 3, 6);
    tick(f, 11);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void a_refused_question_is_asked_again_later(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, orders_refused(&f->o, &asked, REASON_BUSY), 10);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_int_equal(orders_timer(&f->o), 1010);
    tick(f, 1010);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void rubbish_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    hear(f, BYTES_LIT("rubbish"), 1);
    assert_null(orders_job(&f->o));
    hear(f, orders_answer(&f->o, &asked, MSG_LEASE, BYTES_LIT("\xff\xff")), 2);
    assert_null(orders_job(&f->o));
    assert_false(f->news.is_set);
    tick(f, 1002); /* an answer that does not decode is as good as none */
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void while_it_works_it_says_how_far_it_is(void **state)
{
    struct fixture *f = *state;
    struct msg_heartbeat m;

    work(f, 2);
    assert_int_equal(orders_timer(&f->o), 1001); /* thrice in a lease of 3000 */
    infer_progress(f->s, 41, 17);
    infer_progress(f->s, 99, 5); /* none of ours */
    tick(f, 1000);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 1001);
    assert_ok(msg_heartbeat_decode(&m, orders_get(&f->o, MSG_HEARTBEAT, 0).body, NULL), NULL);
    assert_int_equal(m.n, 2);
    assert_int_equal(m.item[0].tokens, 0);
    assert_int_equal(m.item[1].unit, 41);
    assert_int_equal(m.item[1].lease, 1041);
    assert_int_equal(m.item[1].tokens, 17);
    tick(f, 2002); /* unanswered: not a second one beside it */
    assert_int_equal(orders_sent(&f->o, MSG_HEARTBEAT), 0);
}

/* An orchestrator may be away for long, also while there is work: whoever waits for it sleeps. */
static void while_nobody_answers_it_sleeps(void **state)
{
    struct fixture *f = *state;
    int64_t now = 0;

    work(f, 2);
    for (int i = 0; i < 50; i++) {
        assert_true(orders_timer(&f->o) > now && orders_timer(&f->o) != INT64_MAX);
        now = orders_timer(&f->o);
        tick(f, now);
    }
}

static void a_dropped_lease_is_not_submitted(void **state)
{
    struct fixture *f = *state;
    const struct msg_beat beat = {.head_version = 7, .n_dropped = 2, .dropped = {1041, 5555}};
    struct msg_envelope asked;

    work(f, 3);
    tick(f, 1001);
    asked = orders_get(&f->o, MSG_HEARTBEAT, 0);
    buf_reset(&f->o.body);
    assert_ok(msg_beat_encode(&f->o.body, &beat, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_BEAT, buf_bytes(&f->o.body)), 1002);
    assert_int_equal(f->news.head_version, 7);
    finish_job(f, 1, 3, 1500);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 2);
    assert_true(bytes_equal(orders_get(&f->o, MSG_SUBMIT, 0).body, BYTES_LIT("unit 40")));
    assert_true(bytes_equal(orders_get(&f->o, MSG_SUBMIT, 1).body, BYTES_LIT("unit 42")));
    assert_int_equal(infer_counts(f->s)->dropped, 1);
}

static void a_failed_job_is_told_and_work_asked_for_later(void **state)
{
    struct fixture *f = *state;
    struct err e = {0};

    work(f, 1);
    (void)err_set(&e, ERR_NOT_FOUND, "version 5 is not here");
    orders_forget(&f->o);
    infer_job(f->s, 1, ERR_NOT_FOUND, (struct bytes){NULL, 0}, &e, 100, &f->o.out);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_string_equal(infer_why(f->s), "version 5 is not here");
    assert_true(infer_is_idle(f->s));
    tick(f, 1100);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 1);
}

static void the_end_of_another_job_is_ignored(void **state)
{
    struct fixture *f = *state;

    work(f, 1);
    finish_job(f, 2, 1, 100);
    assert_int_equal(orders_sends(&f->o), 0);
    finish_job(f, 1, 1, 200);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 1);
    finish_job(f, 1, 1, 300); /* once more */
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 0);
}

static void a_result_cut_short_submits_what_is_whole(void **state)
{
    struct fixture *f = *state;
    struct buf result;

    work(f, 2);
    buf_init(&result, 256);
    buf_put_u32(&result, 2);
    buf_put_u64(&result, 40);
    buf_put_u64(&result, 1040);
    buf_put_u64(&result, 1);
    buf_put_blob(&result, BYTES_LIT("unit 40"));
    buf_put_u64(&result, 41);
    orders_forget(&f->o);
    infer_job(f->s, 1, OK, buf_bytes(&result), NULL, 10, &f->o.out);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 1);
    buf_clear(&result);
}

static void a_stopped_worker_finishes_and_asks_no_more(void **state)
{
    struct fixture *f = *state;

    work(f, 1);
    infer_stop(f->s);
    finish_job(f, 1, 1, 100);
    assert_int_equal(orders_sent(&f->o, MSG_SUBMIT), 1);
    assert_int_equal(orders_sent(&f->o, MSG_LEASE_ASK), 0);
    hear(f, orders_receipt(&f->o, &(struct msg_envelope){0}, true, REASON_NONE), 101);
    assert_false(infer_is_idle(f->s)); /* that was a receipt of something else */
}

static void draining_is_heard(void **state)
{
    struct fixture *f = *state;
    struct msg_wait m = {.code = REASON_DRAINING, .retry_ms = 10, .is_done = true};
    struct msg_envelope asked;

    be_ready(f);
    asked = ask(f, 0);
    assert_false(infer_is_drained(f->s));
    hear(f, orders_wait(&f->o, &asked, &m), 0);
    assert_true(infer_is_drained(f->s));
    assert_true(f->news.is_done);
    asked = ask(f, 10);
    m.code = REASON_NO_WORK;
    hear(f, orders_wait(&f->o, &asked, &m), 11);
    assert_false(infer_is_drained(f->s)); /* it was let in again */
}

/* Nothing is on disk: a new life asks anew, and answers to the old one are nobody's. */
static void a_restarted_worker_begins_afresh(void **state)
{
    struct fixture *f = *state;
    const struct infer_options opt = {.key = f->o.key, .boot = 2, .units = UNITS};
    struct msg_envelope asked;
    struct idem idem;

    be_ready(f);
    asked = ask(f, 0);
    idem = asked.idem;
    infer_free(&f->s);
    infer_new(&f->s, &opt);
    be_ready(f);
    hear(f, orders_lease(&f->o, &(struct msg_envelope){.idem = idem}, 40, 1, 5, 3000), 1);
    assert_null(orders_job(&f->o));
    asked = ask(f, 2);
    assert_false(idem_equal(&asked.idem, &idem));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_is_asked_before_all_is_there),
        CASE(what_is_drawn_is_opened_until_its_receipt),
        CASE(what_cannot_be_opened_is_asked_for_again_and_not_at_once),
        CASE(the_question_says_what_is_here),
        CASE(a_lost_question_is_asked_again_with_the_same_key),
        CASE(a_lease_starts_one_job_with_its_units),
        CASE(an_order_is_handed_to_the_job),
        CASE(an_order_for_another_lease_is_none),
        CASE(an_order_that_nobody_signed_is_none),
        CASE(a_second_copy_of_a_lease_starts_nothing),
        CASE(leases_of_another_version_are_left_to_expire),
        CASE(units_made_are_submitted_and_more_are_asked_for),
        CASE(submissions_are_sent_until_their_receipts),
        CASE(a_wait_is_waited_for),
        CASE(a_newer_version_ends_a_wait),
        CASE(a_refused_question_is_asked_again_later),
        CASE(rubbish_changes_nothing),
        CASE(while_it_works_it_says_how_far_it_is),
        CASE(while_nobody_answers_it_sleeps),
        CASE(a_dropped_lease_is_not_submitted),
        CASE(a_failed_job_is_told_and_work_asked_for_later),
        CASE(the_end_of_another_job_is_ignored),
        CASE(a_result_cut_short_submits_what_is_whole),
        CASE(a_stopped_worker_finishes_and_asks_no_more),
        CASE(draining_is_heard),
        CASE(a_restarted_worker_begins_afresh),
    };
    return cmocka_run_group_tests_name("inference/infer_state", tests, NULL, NULL);
}
