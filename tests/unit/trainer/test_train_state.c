/*
 * trainer/train_state: versions made, announced and put on record, one after the other.
 */
#include "trainer/train_state.h"

#include <string.h>

#include "support/orders.h"
#include "support/test.h"

#define RETRY 2000
#define STEPS 5u

struct fixture {
    struct orders o;
    struct train_state *s;
    struct run_news news;
    struct err e;
};

static void begin(struct fixture *f, uint64_t boot)
{
    const struct train_state_options opt = {.key = f->o.key, .boot = boot};

    train_state_new(&f->s, &opt);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    orders_init(&f->o, 3);
    begin(f, 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    train_state_free(&f->s);
    orders_clear(&f->o);
    test_free(f);
    return 0;
}

static void tick(struct fixture *f, int64_t now)
{
    orders_forget(&f->o);
    train_state_tick(f->s, now, &f->o.out);
}

static void hear(struct fixture *f, struct bytes data, int64_t now)
{
    orders_forget(&f->o);
    train_state_message(f->s, data, now, &f->news, &f->o.out);
}

static void be_ready(struct fixture *f)
{
    train_state_welcome(f->s, ORDERS_PEER, &f->o.run);
    orders_forget(&f->o);
    train_state_ready(f->s, STEPS, 0, &f->o.out);
}

/* The job made `version`, whose manifest is "manifest N". */
static void end_job(struct fixture *f, enum train_job job, int64_t version, int64_t now)
{
    struct buf result;
    char text[32];

    snprintf(text, sizeof(text), "manifest %d", (int)version);
    buf_init(&result, 256);
    buf_put_u64(&result, (uint64_t)version);
    buf_put_blob(&result, bytes_str(text));
    orders_forget(&f->o);
    train_state_job(f->s, (uint32_t)job, OK, buf_bytes(&result), NULL, now, &f->o.out);
    buf_clear(&result);
}

static void fail_job(struct fixture *f, enum train_job job, enum status st, const char *text,
                     int64_t now)
{
    struct err e = {0};

    (void)err_set(&e, st, "%s", text);
    orders_forget(&f->o);
    train_state_job(f->s, (uint32_t)job, st, (struct bytes){NULL, 0}, &e, now, &f->o.out);
}

/* Publishes `version` at `now` and gives its receipt. */
static void put_on_record(struct fixture *f, enum train_job job, int64_t version, int64_t now)
{
    struct msg_envelope asked;
    struct bytes manifest;

    end_job(f, job, version, now);
    assert_int_equal(train_state_take_announcement(f->s, &manifest), version);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, orders_receipt(&f->o, &asked, true, REASON_NONE), now);
}

static struct bytes batch_of(struct fixture *f, const struct msg_envelope *asked,
                             uint64_t batch)
{
    const struct msg_batch m = {.batch = batch, .root = {{1}}};

    buf_reset(&f->o.body);
    assert_ok(msg_batch_encode(&f->o.body, &m, NULL), NULL);
    return orders_answer(&f->o, asked, MSG_BATCH, buf_bytes(&f->o.body));
}

static void the_bundle_opens_the_course(void **state)
{
    struct fixture *f = *state;

    tick(f, 0);
    assert_int_equal(f->o.out.n, 0);
    be_ready(f);
    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_OPEN);
    assert_int_equal(orders_sends(&f->o), 0);
    orders_forget(&f->o);
    train_state_ready(f->s, STEPS, 1, &f->o.out); /* a second welcome */
    assert_int_equal(f->o.out.n, 0);
}

static void a_version_is_announced_and_published(void **state)
{
    struct fixture *f = *state;
    struct bytes manifest;

    be_ready(f);
    assert_int_equal(train_state_take_announcement(f->s, &manifest), -1);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    assert_true(bytes_equal(orders_get(&f->o, MSG_PUBLISH, 0).body, BYTES_LIT("manifest 0")));
    assert_int_equal(train_state_take_announcement(f->s, &manifest), 0);
    assert_true(bytes_equal(manifest, BYTES_LIT("manifest 0")));
    assert_int_equal(train_state_take_announcement(f->s, &manifest), -1); /* once */
    assert_contains(train_state_why(f->s), "version 0 waits for its receipt");
    assert_int_equal(orders_sent(&f->o, MSG_BATCH_ASK), 0);
}

static void a_lost_publication_is_sent_again(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope again;
    struct idem idem;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    idem = orders_get(&f->o, MSG_PUBLISH, 0).idem;
    tick(f, 9 + RETRY);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 10 + RETRY);
    assert_int_equal(orders_sends(&f->o), 1);
    again = orders_get(&f->o, MSG_PUBLISH, 0);
    assert_true(idem_equal(&again.idem, &idem));
}

static void a_version_on_record_leads_to_its_batch_and_the_next_version(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_batch_ask ask;
    struct msg_batch *m = test_calloc(1, sizeof(*m));

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    assert_ok(msg_batch_ask_decode(&ask, asked.body, NULL), NULL);
    assert_int_equal(ask.batch, 0);
    hear(f, batch_of(f, &asked, 0), 20);
    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_STEP);
    assert_ok(msg_batch_decode(m, orders_job(&f->o)->value, NULL), NULL);
    assert_int_equal(m->batch, 0);
    assert_string_equal(train_state_why(f->s), "");
    put_on_record(f, TRAIN_JOB_STEP, 1, 30);
    assert_ok(msg_batch_ask_decode(&ask, orders_get(&f->o, MSG_BATCH_ASK, 0).body, NULL), NULL);
    assert_int_equal(ask.batch, 1);
    test_free(m);
}

static void a_batch_that_is_not_complete_is_asked_for_again(void **state)
{
    struct fixture *f = *state;
    const struct msg_wait m = {.code = REASON_BATCH_PENDING,
                               .text = "7 of 8 units are in",
                               .retry_ms = 250,
                               .head_version = 0,
                               .roster_seq = 4};
    struct msg_envelope asked;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    hear(f, orders_wait(&f->o, &asked, &m), 100);
    assert_int_equal(f->news.roster_seq, 4);
    assert_string_equal(train_state_why(f->s), "7 of 8 units are in");
    assert_int_equal(orders_timer(&f->o), 350);
    tick(f, 349);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 350);
    assert_int_equal(orders_sent(&f->o, MSG_BATCH_ASK), 1);
}

static void a_second_copy_of_a_batch_starts_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes batch;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    batch = batch_of(f, &asked, 0);
    hear(f, batch, 20);
    assert_non_null(orders_job(&f->o));
    hear(f, batch, 21);
    assert_null(orders_job(&f->o));
}

static void a_second_receipt_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes receipt;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    receipt = orders_receipt(&f->o, &asked, true, REASON_NONE);
    hear(f, receipt, 11);
    assert_int_equal(orders_sent(&f->o, MSG_BATCH_ASK), 1);
    hear(f, receipt, 12);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_ok(train_state_failure(f->s, NULL), NULL);
}

static void a_batch_that_the_learner_refuses_is_asked_for_again(void **state)
{
    struct fixture *f = *state;
    static const enum status refusals[] = {ERR_DENIED, ERR_DIGEST, ERR_MALFORMED};
    struct msg_envelope asked;
    int64_t now = 10;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 0, now);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    for (size_t i = 0; i < 3; i++) {
        hear(f, batch_of(f, &asked, 0), now);
        assert_non_null(orders_job(&f->o));
        fail_job(f, TRAIN_JOB_STEP, refusals[i], "batch 0 does not match its root", now);
        assert_ok(train_state_failure(f->s, NULL), NULL);
        assert_string_equal(train_state_why(f->s), "batch 0 does not match its root");
        assert_int_equal(orders_sends(&f->o), 0);
        now += 1000;
        tick(f, now);
        asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    }
}

static void a_step_that_fails_ends_the_trainer(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    hear(f, batch_of(f, &asked, 0), 20);
    fail_job(f, TRAIN_JOB_STEP, ERR_NUMERIC, "the loss of step 0 is not finite", 30);
    assert_status(train_state_failure(f->s, &f->e), ERR_NUMERIC, NULL);
    assert_string_equal(f->e.text, "the loss of step 0 is not finite");
    assert_int_equal(f->o.out.n, 0);
}

static void a_course_that_does_not_open_ends_the_trainer(void **state)
{
    struct fixture *f = *state;

    be_ready(f);
    fail_job(f, TRAIN_JOB_OPEN, ERR_DENIED, "no sandbox", 1); /* not a refused batch */
    assert_status(train_state_failure(f->s, &f->e), ERR_DENIED, NULL);
}

static void a_refused_version_ends_the_trainer(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, orders_receipt(&f->o, &asked, false, REASON_EQUIVOCATION), 20);
    assert_status(train_state_failure(f->s, &f->e), ERR_DENIED, NULL);
    assert_contains(f->e.text, "version 0 was refused");
    assert_contains(f->e.text, reason_text(REASON_EQUIVOCATION));
}

static void a_trainer_that_failed_says_no_more(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes manifest;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    assert_int_equal(train_state_take_announcement(f->s, &manifest), 0);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, orders_receipt(&f->o, &asked, false, REASON_EQUIVOCATION), 20);
    assert_int_equal(orders_sends(&f->o), 0);
    tick(f, 10 * RETRY);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_int_equal(train_state_take_announcement(f->s, &manifest), -1);
}

/* REFUSED is about this moment; only a receipt says no for good. */
static void a_publication_that_was_refused_is_tried_again(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct bytes manifest;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    assert_int_equal(train_state_take_announcement(f->s, &manifest), 0);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, orders_refused(&f->o, &asked, REASON_BUSY), 20);
    assert_ok(train_state_failure(f->s, NULL), NULL);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_int_equal(orders_timer(&f->o), 1020);
    tick(f, 1020);
    assert_int_equal(orders_sent(&f->o, MSG_PUBLISH), 1);
}

static void the_last_version_is_exported_and_that_is_the_end(void **state)
{
    struct fixture *f = *state;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, STEPS - 1, 10); /* resumed just before the end */
    assert_int_equal(orders_sent(&f->o, MSG_BATCH_ASK), 1);
    hear(f,
         batch_of(f, &(struct msg_envelope){.idem = orders_get(&f->o, MSG_BATCH_ASK, 0).idem},
                  STEPS - 1),
         20);
    assert_non_null(orders_job(&f->o));
    put_on_record(f, TRAIN_JOB_STEP, STEPS, 30);
    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_EXPORT);
    assert_int_equal(orders_sends(&f->o), 0);
    assert_false(train_state_is_done(f->s));
    orders_forget(&f->o);
    train_state_job(f->s, TRAIN_JOB_EXPORT, OK, (struct bytes){NULL, 0}, NULL, 40, &f->o.out);
    assert_true(train_state_is_done(f->s));
    tick(f, 10 * RETRY);
    assert_int_equal(orders_sends(&f->o), 0);
}

static void a_task_closed_before_its_last_version_leaves_a_model(void **state)
{
    const struct msg_wait over = {.retry_ms = 100, .head_version = 1, .is_done = true};
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 1, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    hear(f, orders_wait(&f->o, &asked, &over), 20);
    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_EXPORT);
    assert_true(f->news.is_done);

    orders_forget(&f->o);
    train_state_job(f->s, TRAIN_JOB_EXPORT, OK, (struct bytes){NULL, 0}, NULL, 30, &f->o.out);
    assert_true(train_state_is_done(f->s));
}

/* It was closed while the step was computed. */
static void a_version_refused_because_the_run_is_over_is_exported(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 2, 10);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, orders_receipt(&f->o, &asked, false, REASON_DONE), 20);

    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_EXPORT);
    assert_ok(train_state_failure(f->s, NULL), NULL);
}

/* The checkpoint is older than what was published: version 2 is made and published again, and
 * gets the first receipt. */
static void a_restarted_trainer_redoes_what_its_checkpoint_lacks(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;
    struct msg_batch_ask ask;

    be_ready(f);
    put_on_record(f, TRAIN_JOB_OPEN, 1, 10);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    hear(f, batch_of(f, &asked, 1), 11);
    put_on_record(f, TRAIN_JOB_STEP, 2, 12);
    train_state_free(&f->s);

    begin(f, 2);
    be_ready(f);
    assert_int_equal(orders_job(&f->o)->job, TRAIN_JOB_OPEN);
    put_on_record(f, TRAIN_JOB_OPEN, 1, 20);
    asked = orders_get(&f->o, MSG_BATCH_ASK, 0);
    assert_ok(msg_batch_ask_decode(&ask, asked.body, NULL), NULL);
    assert_int_equal(ask.batch, 1);
    hear(f, batch_of(f, &asked, 1), 21);
    end_job(f, TRAIN_JOB_STEP, 2, 22);
    assert_true(bytes_equal(orders_get(&f->o, MSG_PUBLISH, 0).body, BYTES_LIT("manifest 2")));
}

static void rubbish_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope asked;

    be_ready(f);
    end_job(f, TRAIN_JOB_OPEN, 0, 10);
    asked = orders_get(&f->o, MSG_PUBLISH, 0);
    hear(f, BYTES_LIT("rubbish"), 11);
    assert_ok(train_state_failure(f->s, NULL), NULL);
    hear(
        f,
        orders_answer(&f->o, &(struct msg_envelope){.idem = {{1}}}, MSG_RECEIPT, BYTES_LIT("")),
        12); /* of nothing that was asked */
    assert_ok(train_state_failure(f->s, NULL), NULL);
    hear(f, orders_answer(&f->o, &asked, MSG_RECEIPT, BYTES_LIT("\xff\xff")), 13);
    assert_status(train_state_failure(f->s, NULL), ERR_MALFORMED, NULL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_bundle_opens_the_course),
        CASE(a_version_is_announced_and_published),
        CASE(a_lost_publication_is_sent_again),
        CASE(a_version_on_record_leads_to_its_batch_and_the_next_version),
        CASE(a_batch_that_is_not_complete_is_asked_for_again),
        CASE(a_second_copy_of_a_batch_starts_nothing),
        CASE(a_second_receipt_changes_nothing),
        CASE(a_batch_that_the_learner_refuses_is_asked_for_again),
        CASE(a_step_that_fails_ends_the_trainer),
        CASE(a_course_that_does_not_open_ends_the_trainer),
        CASE(a_refused_version_ends_the_trainer),
        CASE(a_trainer_that_failed_says_no_more),
        CASE(a_publication_that_was_refused_is_tried_again),
        CASE(the_last_version_is_exported_and_that_is_the_end),
        CASE(a_task_closed_before_its_last_version_leaves_a_model),
        CASE(a_version_refused_because_the_run_is_over_is_exported),
        CASE(a_restarted_trainer_redoes_what_its_checkpoint_lacks),
        CASE(rubbish_changes_nothing),
    };
    return cmocka_run_group_tests_name("trainer/train_state", tests, NULL, NULL);
}
