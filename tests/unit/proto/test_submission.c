/*
 * proto/submission: what the root covers, and which sizes must agree.
 */
#include "proto/submission.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "support/test.h"

#define TOKENS 40 /* two chunks */

/* One unit of two samples, and the memory its slices point into. Both have an environment's tokens in
 * them: of the second 33 of 40 are sampled, of the first three. */
struct unit {
    struct msg_submit m;
    uint8_t prompt[8];
    struct {
        uint8_t tokens[4 * TOKENS];
        uint8_t logprobs[4 * TOKENS];
        uint8_t mask[TOKENS];
    } x[2];
};

static struct unit u;

static void fill_sample(uint32_t i, size_t sampled)
{
    static const uint8_t minus_half[4] = {0x00, 0x00, 0x00, 0xbf};

    for (size_t t = 0; t < TOKENS; t++) {
        u.x[i].tokens[4 * t] = (uint8_t)(t + i);
        u.x[i].mask[t] = t < sampled;
        if (t < sampled)
            memcpy(&u.x[i].logprobs[4 * t], minus_half, 4);
    }
    u.m.sample[i] = (struct msg_sample){.tokens = BYTES_OF(u.x[i].tokens),
                                        .logprobs = BYTES_OF(u.x[i].logprobs),
                                        .mask = BYTES_OF(u.x[i].mask),
                                        .reward = (float)i,
                                        .finish = FINISH_END};
}

static int setup(void **state)
{
    (void)state;
    memset(&u, 0, sizeof(u));
    u.m.unit = 12;
    u.m.lease = 99;
    u.m.version = 3;
    memcpy(u.m.numerics, "f32-1", 6);
    u.prompt[0] = 7;
    u.m.prompt = BYTES_OF(u.prompt);
    u.m.n_samples = 2;
    fill_sample(0, 3);
    fill_sample(1, 33);
    return 0;
}

static struct digest root(void)
{
    struct digest d;

    submission_root(&d, &u.m);
    return d;
}

static void the_root_is_built_as_the_protocol_says(void **state)
{
    (void)state;
    struct digest want, got = root();
    struct merkle tree;
    struct buf b;
    buf_init(&b, 4096);

    merkle_init(&tree);
    buf_append(&b, BYTES_LIT("muster/submit\0"));
    buf_put_u64(&b, 12);
    buf_put_u64(&b, 3);
    buf_append(&b, BYTES_OF(u.m.task.b));
    buf_append(&b, BYTES_OF(u.m.weights.b));
    buf_put_blob(&b, BYTES_LIT("f32-1"));
    buf_put_blob(&b, u.m.prompt);
    buf_append(&b, BYTES_OF(u.m.opening.b));
    buf_put_u32(&b, 2);
    for (uint32_t i = 0; i < 2; i++) {
        buf_put_f32(&b, (float)i);
        buf_put_u32(&b, FINISH_END);
    }
    merkle_add(&tree, buf_bytes(&b));
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t c = 0; c < 2; c++) {
            size_t n = c == 0 ? 32 : TOKENS - 32;
            buf_reset(&b);
            buf_put_u32(&b, i);
            buf_put_u32(&b, c);
            buf_put_blob(&b, (struct bytes){u.x[i].tokens + 128 * c, 4 * n});
            buf_put_blob(&b, (struct bytes){u.x[i].logprobs + 128 * c, 4 * n});
            buf_put_blob(&b, (struct bytes){u.x[i].mask + 32 * c, n});
            merkle_add(&tree, buf_bytes(&b));
        }
    }
    merkle_root(&tree, &want);

    assert_false(b.bad);
    assert_true(digest_equal(&want, &got));
    buf_clear(&b);
}

static void the_root_does_not_depend_on_the_lease(void **state)
{
    (void)state;
    struct digest a = root(), b;

    u.m.lease++;
    u.m.root.b[0] ^= 1;
    b = root();

    assert_true(digest_equal(&a, &b));
}

static void the_root_covers_every_claim(void **state)
{
    (void)state;
    struct digest a = root(), b;
    uint8_t *claims[] = {
        u.m.task.b,
        u.m.weights.b,
        (uint8_t *)u.m.numerics,
        u.prompt,
        u.x[0].tokens,
        u.x[0].tokens + 159,
        u.x[0].logprobs + 2,
        u.x[0].mask + 39,
        u.m.opening.b + 31,
        u.x[1].tokens + 130,
        (uint8_t *)&u.m.unit,
        (uint8_t *)&u.m.version,
        (uint8_t *)&u.m.sample[1].reward,
        (uint8_t *)&u.m.sample[0].finish,
    };

    for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
        *claims[i] ^= 2;
        b = root();
        assert_false(digest_equal(&a, &b));
        *claims[i] ^= 2;
    }
    u.m.n_samples = 1;
    b = root();
    assert_false(digest_equal(&a, &b));
}

static void a_well_formed_unit_is_within_bounds(void **state)
{
    (void)state;
    enum reason why = REASON_BOUNDS;
    struct err e;

    assert_ok(submission_check_bounds(&u.m, &why, &e), &e);
    assert_int_equal(why, REASON_NONE);
}

static void assert_refused(enum status want, enum reason want_why)
{
    enum reason why = REASON_NONE;
    struct err e;

    assert_status(submission_check_bounds(&u.m, &why, &e), want, &e);
    assert_int_equal(why, want_why);
    (void)setup(NULL);
}

static void lengths_that_disagree_are_refused(void **state)
{
    (void)state;

    u.m.sample[0].logprobs.len -= 4;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.sample[0].mask.len -= 1;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.sample[0].tokens.len = u.m.sample[0].logprobs.len = u.m.sample[0].mask.len = 0;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.prompt.len = 0;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.prompt.len = 6;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.n_samples = 0;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.n_samples = MSG_MAX_SAMPLES + 1;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
}

/* There is one way to say that all was sampled: no mask. */
static void a_mask_of_ones_is_refused_and_an_empty_one_is_not(void **state)
{
    (void)state;
    struct err e;

    u.m.sample[1].mask.len = 0;
    memset(u.x[1].logprobs, 0, sizeof(u.x[1].logprobs));
    assert_ok(submission_check_bounds(&u.m, NULL, &e), &e);
    assert_int_equal(submission_sample_tokens(&u.m.sample[1]), TOKENS);
    assert_true(submission_is_sampled(&u.m.sample[1], TOKENS - 1));
    assert_true(submission_is_sampled(&u.m.sample[0], 2));
    assert_false(submission_is_sampled(&u.m.sample[0], 3));
    memset(u.x[0].mask, 1, sizeof(u.x[0].mask));
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
}

static void an_opening_is_named_in_open_classes_and_in_no_other(void **state)
{
    (void)state;
    static const char *const exact[] = {"f32-1", "bf16-1", "opening"};
    struct err e;

    for (size_t i = 0; i < 3; i++) {
        snprintf(u.m.numerics, sizeof(u.m.numerics), "%s", exact[i]);
        assert_ok(submission_check_bounds(&u.m, NULL, &e), &e);
        u.m.opening.b[7] = 1;
        assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    }
    snprintf(u.m.numerics, sizeof(u.m.numerics), "open-openblas");
    u.m.opening.b[7] = 1;
    assert_ok(submission_check_bounds(&u.m, NULL, &e), &e);
    u.m.opening.b[7] = 0;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
}

static void values_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const uint8_t nan[4] = {0, 0, 0xc0, 0x7f}, half[4] = {0, 0, 0, 0x3f};
    static const uint8_t minus_zero[4] = {0, 0, 0, 0x80};

    u.x[0].mask[1] = 2;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.x[0].tokens[7] = 0x80; /* token 1 becomes negative */
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.prompt[3] = 0xff;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    memcpy(u.x[0].logprobs, half, 4);
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    memcpy(u.x[0].logprobs + 4 * 39, minus_zero, 4); /* where the mask is 0 it is +0 */
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    u.m.sample[1].finish = 0;
    assert_refused(ERR_MALFORMED, REASON_BOUNDS);
    memcpy(u.x[0].logprobs, nan, 4);
    assert_refused(ERR_NUMERIC, REASON_NOT_FINITE);
    u.m.sample[0].reward = INFINITY;
    assert_refused(ERR_NUMERIC, REASON_NOT_FINITE);
}

static void only_sampled_tokens_are_counted(void **state)
{
    (void)state;

    assert_int_equal(submission_sample_tokens(&u.m.sample[1]), 33);
    assert_int_equal(submission_tokens(&u.m), 36);
    assert_int_equal(submission_proofs(0), 0);
    assert_int_equal(submission_proofs(32), 1);
    assert_int_equal(submission_proofs(33), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_root_is_built_as_the_protocol_says, setup),
        cmocka_unit_test_setup(the_root_does_not_depend_on_the_lease, setup),
        cmocka_unit_test_setup(the_root_covers_every_claim, setup),
        cmocka_unit_test_setup(a_well_formed_unit_is_within_bounds, setup),
        cmocka_unit_test_setup(lengths_that_disagree_are_refused, setup),
        cmocka_unit_test_setup(a_mask_of_ones_is_refused_and_an_empty_one_is_not, setup),
        cmocka_unit_test_setup(an_opening_is_named_in_open_classes_and_in_no_other, setup),
        cmocka_unit_test_setup(values_that_make_no_sense_are_refused, setup),
        cmocka_unit_test_setup(only_sampled_tokens_are_counted, setup),
    };

    return cmocka_run_group_tests_name("proto/submission", tests, NULL, NULL);
}
