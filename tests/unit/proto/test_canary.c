/*
 * proto/canary: what a salt decides. The digests of `vectors` are Python's hashlib's
 * (blake2b, digest_size 32) over the bytes that the header gives.
 */
#include "proto/canary.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "proto/sign.h"
#include "proto/submission.h"
#include "support/random.h"
#include "support/test.h"

#define ONE (1ull << 32)

static struct digest salt_of(uint64_t n)
{
    struct digest d;

    digest_tagged(&d, "salt", BYTES_OF(n));
    return d;
}

/* Salt 01 02 .. 20, unit 7, attempt 3. */
static void seal_and_draw_are_what_the_header_says(void **state)
{
    (void)state;
    struct digest salt, r = {{0}}, d;
    char hex[DIGEST_HEX_BYTES];

    for (uint8_t i = 0; i < DIGEST_BYTES; i++)
        salt.b[i] = (uint8_t)(i + 1);
    canary_seal(&d, &salt, 7, 3);
    digest_to_hex(hex, &d);
    assert_string_equal(hex,
                        "083ee8841e80fec335fc099372c72699758f5fc0e274145ce397c86fbc6283c3");
    canary_draw_value(&d, &r, &salt);
    digest_to_hex(hex, &d);
    assert_string_equal(hex,
                        "034eaa7dc066444f1913ec628b25588f2040046163ac249fa6bc3fe9f53cd45a");
}

/* Binomial: n = 40000 at 1/16: 2500, sigma 48; three quarters of them bad. Five sigma. */
static void canaries_are_as_many_as_the_rate_says(void **state)
{
    (void)state;
    int n[3] = {0};

    for (uint64_t i = 0; i < 40000; i++) {
        struct digest salt = salt_of(i);
        n[canary_kind_of(&salt, 1, ONE / 16)]++;
        assert_int_equal(canary_kind_of(&salt, 2, ONE), CANARY_NONE);
        assert_int_equal(canary_kind_of(&salt, 1, 0), CANARY_NONE);
        assert_int_not_equal(canary_kind_of(&salt, 1, ONE), CANARY_NONE);
    }
    assert_in_range(n[CANARY_BAD] + n[CANARY_GOOD], 2500 - 240, 2500 + 240);
    assert_in_range(n[CANARY_GOOD], 625 - 121, 625 + 121);
}

struct made {
    int32_t token[2][8];
    float logprob[2][8];
    uint8_t mask[2][8];
    int32_t prompt[3];
};

static void make(struct buf *out, struct made *x, bool all_same)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));

    memset(x, 0, sizeof(*x));
    for (int i = 0; i < 3; i++)
        x->prompt[i] = all_same ? 5 : i;
    m->version = 1;
    memcpy(m->numerics, "f32-1", 6);
    m->prompt = BYTES_OF(x->prompt);
    m->n_samples = 2;
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 8; k++) {
            x->token[i][k] = all_same ? 5 : 10 * i + k;
            x->mask[i][k] = k % 3 != 2; /* the third and sixth are the environment's */
            x->logprob[i][k] = x->mask[i][k] && k ? -0.25f * (float)k : 0.0f;
        }
        m->sample[i] = (struct msg_sample){.tokens = BYTES_OF(x->token[i]),
                                           .logprobs = BYTES_OF(x->logprob[i]),
                                           .mask = BYTES_OF(x->mask[i]),
                                           .finish = FINISH_LENGTH};
    }
    submission_root(&m->root, m);
    buf_reset(out);
    assert_ok(msg_submit_encode(out, m, NULL), NULL);
    free(m);
}

/* How many tokens and log-probabilities differ; a difference at an unsampled place fails. */
static void count_changes(const struct made *x, const struct msg_submit *m, int *tokens,
                          int *logprobs)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 8; k++) {
            bool t = memcmp(&x->token[i][k], m->sample[i].tokens.data + 4 * k, 4) != 0;
            bool l = memcmp(&x->logprob[i][k], m->sample[i].logprobs.data + 4 * k, 4) != 0;
            assert_true(x->mask[i][k] || (!t && !l));
            *tokens += t;
            *logprobs += l;
        }
}

static void one_sampled_place_is_altered_and_the_form_stays_right(void **state)
{
    (void)state;
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    int n_tokens = 0, n_logprobs = 0;
    struct made x;
    struct buf b;

    buf_init(&b, 1u << 20);
    for (uint64_t i = 0; i < 400; i++) {
        struct digest salt = salt_of(i), root, again;
        int tokens = 0, logprobs = 0;
        make(&b, &x, false);
        assert_ok(canary_altered_root(&again, buf_bytes(&b), &salt, NULL), NULL);

        assert_ok(canary_alter(&b, &salt, NULL), NULL);

        assert_ok(msg_submit_decode(m, buf_bytes(&b), NULL), NULL);
        assert_ok(submission_check_bounds(m, NULL, NULL), NULL);
        submission_root(&root, m);
        assert_true(digest_equal(&root, &m->root));
        assert_true(digest_equal(&root, &again));
        count_changes(&x, m, &tokens, &logprobs);
        assert_int_equal(tokens + logprobs, 1);
        n_tokens += tokens;
        n_logprobs += logprobs;
    }
    assert_in_range(n_tokens, 150, 250); /* one in two, sigma 10 */
    assert_int_equal(n_tokens + n_logprobs, 400);
    buf_clear(&b);
    free(m);
}

static void where_no_other_token_is_a_log_probability_is_altered(void **state)
{
    (void)state;
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct made x;
    struct buf b;

    buf_init(&b, 1u << 20);
    for (uint64_t i = 0; i < 40; i++) {
        struct digest salt = salt_of(i);
        int tokens = 0, logprobs = 0;
        make(&b, &x, true);
        assert_ok(canary_alter(&b, &salt, NULL), NULL);
        assert_ok(msg_submit_decode(m, buf_bytes(&b), NULL), NULL);
        assert_ok(submission_check_bounds(m, NULL, NULL), NULL);
        count_changes(&x, m, &tokens, &logprobs);
        assert_int_equal(tokens, 0);
        assert_int_equal(logprobs, 1);
    }
    buf_clear(&b);
    free(m);
}

static void what_cannot_be_altered_is_refused(void **state)
{
    (void)state;
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    struct digest salt = salt_of(1), root;
    struct buf b;

    buf_init(&b, 1u << 20);
    buf_append(&b, BYTES_LIT("rubbish"));
    assert_status(canary_alter(&b, &salt, NULL), ERR_MALFORMED, NULL);
    m->n_samples = 1; /* without a token */
    m->sample[0].finish = FINISH_LENGTH;
    buf_reset(&b);
    assert_ok(msg_submit_encode(&b, m, NULL), NULL);
    assert_status(canary_altered_root(&root, buf_bytes(&b), &salt, NULL), ERR_MALFORMED, NULL);
    uint8_t mask[4] = {1, 1, 1, 1}; /* without tokens under it */
    m->sample[0].mask = BYTES_OF(mask);
    buf_reset(&b);
    assert_ok(msg_submit_encode(&b, m, NULL), NULL);
    assert_status(canary_altered_root(&root, buf_bytes(&b), &salt, NULL), ERR_MALFORMED, NULL);
    buf_clear(&b);
    free(m);
}

static void an_order_is_for_one_lease_of_one_run(void **state)
{
    (void)state;
    const struct msg_canary_order order = {
        .unit = 3, .lease = 9, .attempt = 1, .salt = salt_of(5)};
    const struct idem idem = {{1}};
    const uint8_t seed[32] = {4};
    struct digest run = {{1}}, other = {{2}};
    struct msg_canary_order got;
    struct public_key key;
    struct secret_key secret;
    struct buf body, env;

    sign_keys_of_seed(&key, &secret, seed);
    buf_init(&body, 1024);
    buf_init(&env, MSG_MAX_ORDER);
    assert_ok(msg_canary_order_encode(&body, &order, NULL), NULL);
    assert_ok(msg_envelope_encode(&env, MSG_CANARY_ORDER, &run, &idem, buf_bytes(&body),
                                  &secret, NULL),
              NULL);

    assert_ok(canary_order_read(&got, buf_bytes(&env), &run, 3, 9, NULL), NULL);
    assert_true(digest_equal(&got.salt, &order.salt));
    assert_status(canary_order_read(&got, buf_bytes(&env), &other, 3, 9, NULL), ERR_MALFORMED,
                  NULL);
    assert_status(canary_order_read(&got, buf_bytes(&env), &run, 4, 9, NULL), ERR_MALFORMED,
                  NULL);
    assert_status(canary_order_read(&got, buf_bytes(&env), &run, 3, 8, NULL), ERR_MALFORMED,
                  NULL);
    env.data[env.len - 1] ^= 1;
    assert_status(canary_order_read(&got, buf_bytes(&env), &run, 3, 9, NULL), ERR_DIGEST, NULL);
    buf_clear(&env);
    buf_clear(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seal_and_draw_are_what_the_header_says),
        cmocka_unit_test(canaries_are_as_many_as_the_rate_says),
        cmocka_unit_test(one_sampled_place_is_altered_and_the_form_stays_right),
        cmocka_unit_test(where_no_other_token_is_a_log_probability_is_altered),
        cmocka_unit_test(what_cannot_be_altered_is_refused),
        cmocka_unit_test(an_order_is_for_one_lease_of_one_run),
    };
    sign_ready();
    return cmocka_run_group_tests_name("proto/canary", tests, NULL, NULL);
}
