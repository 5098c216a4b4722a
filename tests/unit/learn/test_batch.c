/*
 * learn/batch: what becomes of submissions, and what the trainer refuses.
 */
#include "learn/batch.h"

#include <math.h>
#include <string.h>

#include "proto/digest.h"
#include "proto/toploc.h"
#include "support/close.h"
#include "support/test.h"

#include "unit/learn/batches.h"

static const struct digest run = {{7}};
static const struct digest task = {{9}};

struct fixture {
    struct batch_made *made;
    struct learn_rules rules;
    struct submission_spec spec; /* of a good submission */
    struct learn_batch batch;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->made = batch_new(5);
    f->rules = (struct learn_rules){
        .run = run,
        .task = task,
        .numerics = "f32-1",
        .head = 5,
        .max_staleness = 2,
        .vocab = 20,
        .max_len = 16,
    };
    f->spec = (struct submission_spec){
        .unit = 40,
        .version = 3,
        .task = task,
        .numerics = "f32-1",
        .n_samples = 2,
        .reward = {1.0f, 0.5f},
        .n_tokens = 7,
        .token = 4,
        .vocab = 20,
    };
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    learn_batch_clear(&f->batch);
    batch_free(&f->made);
    test_free(f);
    return 0;
}

static void add(struct fixture *f, const struct digest *of_run)
{
    struct buf body;

    buf_init(&body, 1u << 20);
    submission_encode(&body, &f->spec);
    batch_add(f->made, MSG_SUBMIT, of_run, (uint8_t)(1 + f->made->m.n), buf_bytes(&body));
    buf_clear(&body);
}

static enum status build(struct fixture *f)
{
    return learn_batch_build(&f->batch, &f->made->m, &f->rules, &f->e);
}

/* A good unit, then the one of the spec: the batch is refused with `want`, nothing is held. */
static void assert_refused(struct fixture *f, enum status want, const char *text)
{
    struct submission_spec odd = f->spec;
    const struct submission_spec good = {
        .unit = 39,
        .version = 4,
        .task = task,
        .numerics = "f32-1",
        .n_samples = 2,
        .reward = {0.0f, 0.5f},
        .n_tokens = 3,
        .vocab = 20,
    };

    f->spec = good;
    add(f, &run);
    assert_ok(build(f), &f->e);
    learn_batch_clear(&f->batch);
    f->spec = odd;
    add(f, &run);
    assert_status(build(f), want, NULL);
    assert_contains(f->e.text, text);
    assert_null(f->batch.sample);
    assert_null(f->batch.memory);
    assert_int_equal(f->batch.n_samples, 0);
}

static void samples_hold_prompt_and_completion(void **state)
{
    struct fixture *f = *state;
    const int32_t tokens[10] = {1, 2, 3, 4, 5, 8, 8, 5, 4, 5};
    const uint8_t mask[10] = {0, 0, 0, 1, 1, 1, 0, 1, 1, 0};
    const float logprobs[10] = {0, 0, 0, -0.25f, -0.5f, -0.75f, 0, -0.25f, -0.5f, 0};

    add(f, &run);
    assert_ok(build(f), &f->e);

    assert_int_equal(f->batch.n_samples, 2);
    assert_int_equal(f->batch.n_units, 1);
    assert_int_equal(f->batch.sample[0].n, 10);
    assert_memory_equal(f->batch.sample[0].tokens, tokens, sizeof(tokens));
    assert_memory_equal(f->batch.sample[0].mask, mask, sizeof(mask));
    assert_same_bits(f->batch.sample[0].logprobs, logprobs, 10);
    assert_true(f->batch.sample[0].advantage == 0.25f);
    assert_true(f->batch.sample[1].advantage == -0.25f);
    assert_int_equal(f->batch.n_tokens, 2 * 5);
    assert_int_equal(f->batch.n_longest, 10);
    assert_int_equal(f->batch.version_oldest, 3);
    assert_true(f->batch.reward_mean == 0.75f);
    assert_true(digest_equal(&f->batch.root, &f->made->m.root));
}

static void order_of_the_batch_is_kept(void **state)
{
    struct fixture *f = *state;
    const uint64_t units[4] = {46, 40, 41, 45};

    for (size_t i = 0; i < 4; i++) {
        f->spec.unit = units[i];
        f->spec.n_tokens = (uint32_t)(3 + i);
        add(f, &run);
    }
    assert_ok(build(f), &f->e);

    assert_int_equal(f->batch.n_samples, 8);
    assert_int_equal(f->batch.n_units, 4);
    assert_int_equal(f->batch.n_longest, 9);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(f->batch.sample[i].unit, units[i / 2]);
        assert_int_equal(f->batch.sample[i].n, 6 + i / 2);
    }
}

static void an_empty_batch_is_fine(void **state)
{
    struct fixture *f = *state;

    assert_ok(build(f), &f->e);

    assert_int_equal(f->batch.n_samples, 0);
    assert_int_equal(f->batch.n_tokens, 0);
    assert_true(f->batch.reward_mean == 0.0f);
    assert_int_equal(f->batch.version_oldest, 5);
}

static void another_order_has_another_root(void **state)
{
    struct fixture *f = *state;
    struct bytes first;

    add(f, &run);
    f->spec.unit = 41;
    add(f, &run);
    assert_ok(build(f), &f->e);
    learn_batch_clear(&f->batch);
    first = f->made->m.envelope[0];
    f->made->m.envelope[0] = f->made->m.envelope[1];
    f->made->m.envelope[1] = first;

    assert_status(build(f), ERR_DIGEST, NULL);
    assert_contains(f->e.text, "batch 5 does not match its root");
}

static void a_missing_unit_is_noticed_by_the_root(void **state)
{
    struct fixture *f = *state;

    add(f, &run);
    f->spec.unit = 41;
    add(f, &run);
    buf_clear(&f->made->envelope[--f->made->m.n]);

    assert_status(build(f), ERR_DIGEST, NULL);
}

static void a_signature_that_does_not_verify_is_refused(void **state)
{
    struct fixture *f = *state;
    struct msg_envelope env;

    add(f, &run);
    assert_ok(msg_envelope_decode(&env, f->made->m.envelope[0], &f->e), &f->e);
    /* One bit of the signed body: the encoding stays whole, the root is that of the forgery. */
    ((uint8_t *)env.body.data)[env.body.len - 1] ^= 1;
    learn_batch_root(&f->made->m.root, &f->made->m);

    assert_int_not_equal(build(f), OK);
    assert_int_equal(f->e.code, ERR_DIGEST);
    assert_contains(f->e.text, "unit 40");
}

static void bytes_that_are_no_envelope_are_refused(void **state)
{
    struct fixture *f = *state;

    add(f, &run);
    f->made->m.envelope[0].len -= 3;
    learn_batch_root(&f->made->m.root, &f->made->m);

    assert_status(build(f), ERR_MALFORMED, NULL);
}

static void another_kind_of_message_is_refused(void **state)
{
    struct fixture *f = *state;

    batch_add(f->made, MSG_DRAIN, &run, 1, BYTES_LIT(""));

    assert_status(build(f), ERR_MALFORMED, NULL);
    assert_contains(f->e.text, "entry 0 of batch 5 is no submission");
}

static void another_run_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct digest other = {{8}};

    add(f, &other);
    assert_status(build(f), ERR_DENIED, NULL);
    assert_contains(f->e.text, "another run");

    memset(&f->rules.run, 0, sizeof(f->rules.run)); /* replay: any run */
    assert_ok(build(f), &f->e);
}

static void another_task_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.task.b[31] ^= 1;
    assert_refused(f, ERR_DENIED, "unit 40 belongs to another task");
}

static void another_class_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.numerics = "open-x";
    assert_refused(f, ERR_DENIED, "class 'open-x'");
}

static void a_stale_unit_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.version = 2; /* 3 is the oldest allowed at 5 */
    assert_refused(f, ERR_DENIED, "unit 40 was made with version 2");
}

static void a_version_from_the_future_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.version = 6;
    assert_refused(f, ERR_DENIED, "unit 40 was made with version 6");
}

static void a_group_of_equal_rewards_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.reward[1] = 1.0f;
    assert_refused(f, ERR_DENIED, "unit 40 has equal rewards");
}

static void a_unit_that_comes_twice_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.unit = 39; /* as the good one before it */
    assert_refused(f, ERR_MALFORMED, "unit 39 comes twice");
}

static void a_group_of_one_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.n_samples = 1;
    assert_refused(f, ERR_MALFORMED, "unit 40 is a group of one");
}

static void a_token_outside_the_vocabulary_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.vocab = 22;
    f->spec.token = 16; /* 16, 17, then 20: the first that is outside */
    assert_refused(f, ERR_MALFORMED, "unit 40 has token 20");
}

static void the_last_id_of_the_vocabulary_is_taken(void **state)
{
    struct fixture *f = *state;

    f->spec.token = 15; /* 15 .. 19 */
    add(f, &run);
    assert_ok(build(f), &f->e);
}

static void a_sample_longer_than_the_model_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.n_tokens = 14; /* 3 + 14 > 16 */
    assert_refused(f, ERR_MALFORMED, "unit 40 has a sample of 17 tokens");
}

static void a_sample_as_long_as_the_model_is_taken(void **state)
{
    struct fixture *f = *state;

    f->spec.n_tokens = 13;
    add(f, &run);
    assert_ok(build(f), &f->e);
    assert_int_equal(f->batch.n_longest, 16);
}

static void a_reward_that_is_no_number_is_refused(void **state)
{
    struct fixture *f = *state;

    f->spec.reward[0] = NAN;
    assert_refused(f, ERR_NUMERIC, "unit 40");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(samples_hold_prompt_and_completion),
        CASE(order_of_the_batch_is_kept),
        CASE(an_empty_batch_is_fine),
        CASE(another_order_has_another_root),
        CASE(a_missing_unit_is_noticed_by_the_root),
        CASE(a_signature_that_does_not_verify_is_refused),
        CASE(bytes_that_are_no_envelope_are_refused),
        CASE(another_kind_of_message_is_refused),
        CASE(another_run_is_refused),
        CASE(another_task_is_refused),
        CASE(another_class_is_refused),
        CASE(a_stale_unit_is_refused),
        CASE(a_version_from_the_future_is_refused),
        CASE(a_group_of_equal_rewards_is_refused),
        CASE(a_unit_that_comes_twice_is_refused),
        CASE(a_group_of_one_is_refused),
        CASE(a_token_outside_the_vocabulary_is_refused),
        CASE(the_last_id_of_the_vocabulary_is_taken),
        CASE(a_sample_longer_than_the_model_is_refused),
        CASE(a_sample_as_long_as_the_model_is_taken),
        CASE(a_reward_that_is_no_number_is_refused),
    };
    return cmocka_run_group_tests_name("learn/batch", tests, NULL, NULL);
}
