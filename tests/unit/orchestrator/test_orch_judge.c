/* orchestrator/orch_judge: whoever starts a judgement does not wait for it, and gets it once. */
#include "orchestrator/orch_judge.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "support/test.h"

/* What a judge function, which has no context, waits for. */
static struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    unsigned n_notified;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static enum status judge(struct bytes transcript, const atomic_bool *is_stopped,
                         struct ledger_judgement *out, struct err *e)
{
    if (transcript.len && transcript.data[0] == 7) { /* one that takes long */
        while (!atomic_load(is_stopped))
            sched_yield();
        return err_set(e, ERR_TIMEOUT, "seven");
    }
    pthread_mutex_lock(&gate.lock);
    while (!gate.is_open)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    out->is_over = true;
    out->op = transcript.len ? transcript.data[0] : 0;
    return out->op == 9 ? err_set(e, ERR_CORRUPT, "nine") : OK;
}

static void notify(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&gate.lock);
    gate.n_notified++;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

static void await(unsigned n)
{
    pthread_mutex_lock(&gate.lock);
    while (gate.n_notified < n)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

static int setup(void **state)
{
    struct orch_judge *j;

    gate.is_open = false;
    gate.n_notified = 0;
    orch_judge_new(&j, judge, notify, NULL);
    *state = j;
    return 0;
}

static int teardown(void **state)
{
    struct orch_judge *j = *state;

    open_gate();
    orch_judge_free(&j);
    return 0;
}

static void nobody_waits_for_a_judgement(void **state)
{
    struct orch_judge *j = *state;
    struct ledger_judgement out;
    enum status st;
    struct err e;

    assert_false(orch_judge_take(j, &st, &out, &e));
    assert_ok(orch_judge_start(j, BYTES_LIT("\x05"), &e), &e);
    assert_false(orch_judge_take(j, &st, &out, &e));
    assert_status(orch_judge_start(j, BYTES_LIT("\x06"), &e), ERR_EXISTS, NULL);
    open_gate();
    await(1);
    assert_true(orch_judge_take(j, &st, &out, &e));
    assert_ok(st, &e);
    assert_true(out.is_over);
    assert_int_equal(out.op, 5);
    assert_false(orch_judge_take(j, &st, &out, &e));
}

static void what_a_judge_fails_with_is_told_and_another_may_come(void **state)
{
    struct orch_judge *j = *state;
    struct ledger_judgement out;
    enum status st;
    struct err e;

    open_gate();
    assert_ok(orch_judge_start(j, BYTES_LIT("\x09"), &e), &e);
    await(1);
    assert_true(orch_judge_take(j, &st, &out, &e));
    assert_status(st, ERR_CORRUPT, NULL);
    assert_string_equal(e.text, "nine");
    assert_ok(orch_judge_start(j, BYTES_LIT("\x04"), &e), &e);
    await(2);
    assert_true(orch_judge_take(j, &st, &out, &e));
    assert_ok(st, &e);
    assert_int_equal(out.op, 4);
}

/* The process ends: what runs is waited for, and nothing begins. */
static void a_stopped_one_is_not_begun_again(void **state)
{
    struct orch_judge *j = *state;
    struct ledger_judgement out;
    enum status st;
    struct err e;

    assert_ok(orch_judge_start(j, BYTES_LIT("\x05"), &e), &e);
    open_gate();
    orch_judge_stop(j);
    assert_int_equal(gate.n_notified, 1);
    assert_false(orch_judge_take(j, &st, &out, &e));
    assert_status(orch_judge_start(j, BYTES_LIT("\x06"), &e), ERR_EXISTS, NULL);
}

/* A warm-up of hours is not waited for: the gate stays shut. */
static void one_that_takes_long_is_told_to_stop(void **state)
{
    struct orch_judge *j = *state;
    struct err e;

    assert_ok(orch_judge_start(j, BYTES_LIT("\x07"), &e), &e);
    orch_judge_stop(j);
    assert_int_equal(gate.n_notified, 1);
}

static void without_a_judge_nothing_starts(void **state)
{
    struct orch_judge *j;
    struct err e;

    (void)state;
    orch_judge_new(&j, NULL, notify, NULL);
    assert_status(orch_judge_start(j, BYTES_LIT("\x05"), &e), ERR_UNSUPPORTED, NULL);
    orch_judge_free(&j);
    assert_null(j);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nobody_waits_for_a_judgement),
        TEST(what_a_judge_fails_with_is_told_and_another_may_come),
        TEST(a_stopped_one_is_not_begun_again),
        TEST(one_that_takes_long_is_told_to_stop),
        TEST(without_a_judge_nothing_starts),
    };

    return cmocka_run_group_tests_name("orchestrator/orch_judge", tests, NULL, NULL);
}
