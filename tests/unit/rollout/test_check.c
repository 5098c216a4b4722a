/*
 * rollout/check: what is honest passes, and each forgery is found for what it is, where it is.
 */
#include "rollout/check.h"

#include <math.h>
#include <string.h>

#include "engine/kernels.h"
#include "proto/toploc.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

static struct rollout_finding check(const struct rollout_world *w, const struct claim *c,
                                    enum check_depth depth)
{
    struct rollout_finding f;
    struct err e = {0};

    assert_ok(rollout_check(w, c->s, NULL, depth, NULL, &f, &e), &e);
    return f;
}

static void assert_accepted(const struct rollout_world *w, const struct claim *c)
{
    struct rollout_finding f = check(w, c, CHECK_FULL);

    if (!f.is_accepted)
        print_error("unit %llu: %s\n", (unsigned long long)c->s->unit, f.text);
    assert_true(f.is_accepted);
    assert_int_equal(f.code, REASON_NONE);
    assert_true(check(w, c, CHECK_LIGHT).is_accepted);
}

/* ---- the honest ---------------------------------------------------------------------- */

static void honest_units_are_accepted(void **state)
{
    (void)state;
    static const enum small_task tasks[] = {SMALL_TASK_SMALL, SMALL_TASK_TALK};

    for (size_t t = 0; t < 2; t++) {
        struct small_world s;

        small_world_open(&s, tasks[t], 0);
        for (uint64_t unit = 0; unit < 8; unit++) {
            struct claim c;

            claim_make(&c, &s.world, unit);
            assert_accepted(&s.world, &c);
            claim_clear(&c);
        }
        small_world_close(&s);
    }
}

static void honest_answers_of_odd_sizes_are_accepted(void **state)
{
    (void)state;
    static const unsigned sizes[] = {1, 2, 31, 32, 33, 40};

    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct small_world s;
        unsigned n_whole = 0;

        small_world_open(&s, SMALL_TASK_LONG, sizes[k]);
        for (uint64_t unit = 0; unit < 3; unit++) {
            struct claim c;

            claim_make(&c, &s.world, unit);
            for (uint32_t i = 0; i < c.s->n_samples; i++)
                n_whole += c.s->sample[i].tokens.len == 4 * sizes[k];
            assert_accepted(&s.world, &c);
            claim_clear(&c);
        }
        assert_true(n_whole > 0); /* some had the size that is meant */
        small_world_close(&s);
    }
}

/* What a full check finds at the places of two validators. */
static struct rollout_probe probe(const struct rollout_world *w, const struct claim *c,
                                  uint8_t draw)
{
    struct rollout_probe p = {.draw = {{draw}}, .n = 2, .who = {{{3}}, {{4}}}};
    struct rollout_finding f;
    struct err e = {0};

    assert_ok(rollout_check(w, c->s, NULL, CHECK_FULL, &p, &f, &e), &e);
    return p;
}

static void checker_may_run_other_kernels_and_threads(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_probe one, other;

    if (!kernels_available(NUMERICS_F32_1, "avx2"))
        skip();
    small_world_open(&s, SMALL_TASK_TALK, 0);
    claim_make(&c, &s.world, 3);
    assert_accepted(&s.world, &c);
    one = probe(&s.world, &c, 1);
    small_world_run_with(&s, "avx2", 3);
    assert_accepted(&s.world, &c);
    other = probe(&s.world, &c, 1);

    assert_memory_equal(one.found, other.found, sizeof(one.found));
    claim_clear(&c);
    small_world_close(&s);
}

static void places_follow_from_the_draw_and_the_validator(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_probe one, same, other;
    struct rollout_finding f;
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 3);
    one = probe(&s.world, &c, 1);
    same = probe(&s.world, &c, 1);
    other = probe(&s.world, &c, 2);

    assert_false(digest_is_zero(&one.found[0]));
    assert_memory_equal(one.found, same.found, sizeof(one.found));
    assert_false(digest_equal(&one.found[0], &one.found[1]));
    assert_false(digest_equal(&one.found[0], &other.found[0]));
    assert_ok(rollout_check(&s.world, c.s, NULL, CHECK_LIGHT, &same, &f, &e), &e);
    assert_true(digest_is_zero(&same.found[0])); /* there was no prefill */
    claim_clear(&c);
    small_world_close(&s);
}

/* Other weights show in the middle, not only at the end; and a refused unit was computed as well. */
static void states_are_those_of_the_weights(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_probe one, other;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 3);
    one = probe(&s.world, &c, 1);
    small_world_reweigh(&s, 2);
    assert_false(check(&s.world, &c, CHECK_FULL).is_accepted);
    other = probe(&s.world, &c, 1);

    assert_false(digest_is_zero(&other.found[0]));
    assert_false(digest_equal(&one.found[0], &other.found[0]));
    claim_clear(&c);
    small_world_close(&s);
}

static void a_light_check_needs_no_weights(void **state)
{
    (void)state;
    struct small_world s;
    struct rollout_world w;
    struct claim c;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 3);
    w = s.world;
    w.model = NULL;
    assert_true(check(&w, &c, CHECK_LIGHT).is_accepted);
    claim_clear(&c);
    small_world_close(&s);
}

/* ---- forgeries of LONG, whose reward depends on the length of the answer only -------- */

struct forgery {
    struct small_world s;
    struct claim c;
};

/* Unit 0 of LONG, 40 tokens an answer, both of them whole. */
static int setup(void **state)
{
    struct forgery *f = test_calloc(1, sizeof(*f));
    uint64_t unit = 0;

    small_world_open(&f->s, SMALL_TASK_LONG, 40);
    claim_make(&f->c, &f->s.world, unit);
    while (f->c.s->sample[0].tokens.len < 160 || f->c.s->sample[1].tokens.len < 160) {
        claim_clear(&f->c);
        claim_make(&f->c, &f->s.world, ++unit);
        assert_true(unit < 20);
    }
    assert_true(check(&f->s.world, &f->c, CHECK_FULL).is_accepted);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct forgery *f = *state;

    claim_clear(&f->c);
    small_world_close(&f->s);
    test_free(f);
    return 0;
}

/* Seals the forgery and finds it: at both depths, or at CHECK_FULL only. */
static struct rollout_finding caught(struct forgery *f, enum check_depth needs,
                                     enum reason code, uint32_t sample, uint32_t position)
{
    struct rollout_finding light, full;

    claim_seal(&f->c);
    light = check(&f->s.world, &f->c, CHECK_LIGHT);
    full = check(&f->s.world, &f->c, CHECK_FULL);
    assert_int_equal(light.is_accepted, needs == CHECK_FULL);
    assert_false(full.is_accepted);
    assert_string_equal(reason_name(full.code), reason_name(code));
    assert_int_equal(full.sample, sample);
    assert_int_equal(full.position, position);
    assert_contains(full.text, reason_text(code));
    return full;
}

static uint32_t bits_at(struct bytes b, size_t i)
{
    uint32_t v;

    memcpy(&v, b.data + 4 * i, sizeof(v));
    return v;
}

static void another_token_is_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[1];
    uint32_t was = bits_at(m->tokens, 37);
    struct rollout_finding found;

    assert_true(was < 254);
    *claim_byte(m->tokens, 4 * 37) ^= 1;
    found = caught(f, CHECK_FULL, REASON_TOKEN, 1, 37);
    assert_int_equal(found.claimed, was ^ 1);
    assert_int_equal(found.found, was);
}

static void the_first_token_is_checked_too(void **state)
{
    struct forgery *f = *state;

    *claim_byte(f->c.s->sample[0].tokens, 0) ^= 1;
    caught(f, CHECK_FULL, REASON_TOKEN, 0, 0);
}

static void a_logprob_one_ulp_off_is_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[1];
    uint32_t was = bits_at(m->logprobs, 39);
    struct rollout_finding found;

    *claim_byte(m->logprobs, 4 * 39) ^= 1;
    found = caught(f, CHECK_FULL, REASON_LOGPROB, 1, 39);
    assert_int_equal(found.claimed, was ^ 1);
    assert_int_equal(found.found, was);
}

/* Nothing but tokens, log-probabilities and what they answer: the verifier makes the states. */
static void where_bits_are_defined_nothing_is_opened(void **state)
{
    struct forgery *f = *state;

    assert_int_equal(f->c.unit.opening.len, 0);
    assert_true(digest_is_zero(&f->c.s->opening));
    assert_true(f->c.unit.body.len < 2 * 40 * 8 + 300);
    f->c.s->opening.b[0] = 1;
    caught(f, CHECK_LIGHT, REASON_BOUNDS, 0, 0);
}

static void another_reward_is_found(void **state)
{
    struct forgery *f = *state;
    float was = f->c.s->sample[1].reward;
    struct rollout_finding found;
    uint32_t bits;

    f->c.s->sample[1].reward = nextafterf(was, 2.0f);
    found = caught(f, CHECK_LIGHT, REASON_REWARD, 1, 0);
    memcpy(&bits, &was, sizeof(bits));
    assert_int_equal(found.found, bits);
    assert_int_equal(found.claimed, bits + 1);
}

static void a_sampled_token_passed_off_as_the_worlds_is_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[0];
    uint8_t mask[40];

    memset(mask, 1, sizeof(mask));
    mask[20] = 0;
    m->mask = BYTES_OF(mask);
    memset(claim_byte(m->logprobs, 4 * 20), 0, 4);
    caught(f, CHECK_LIGHT, REASON_FINISH, 0, 20);
}

static void another_finish_is_found(void **state)
{
    struct forgery *f = *state;
    struct rollout_finding found;

    assert_int_equal(f->c.s->sample[1].finish, FINISH_LENGTH);
    f->c.s->sample[1].finish = FINISH_END;
    found = caught(f, CHECK_LIGHT, REASON_FINISH, 1, 40);
    assert_int_equal(found.claimed, FINISH_END);
    assert_int_equal(found.found, FINISH_LENGTH);
}

static void an_answer_cut_short_is_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[1];

    m->tokens.len -= 4;
    m->logprobs.len -= 4;
    caught(f, CHECK_LIGHT, REASON_FINISH, 1, 39);
}

static void an_answer_drawn_out_is_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[0];
    uint8_t tokens[41 * 4] = {0}, logprobs[41 * 4] = {0};

    memcpy(tokens, m->tokens.data, 40 * 4);
    memcpy(logprobs, m->logprobs.data, 40 * 4);
    m->tokens = BYTES_OF(tokens);
    m->logprobs = BYTES_OF(logprobs);
    caught(f, CHECK_LIGHT, REASON_FINISH, 0, 40);
}

static void another_prompt_is_found(void **state)
{
    struct forgery *f = *state;
    size_t n = f->c.s->prompt.len / 4;
    struct rollout_finding found;

    *claim_byte(f->c.s->prompt, 4 * (n - 1)) ^= 1;
    caught(f, CHECK_LIGHT, REASON_PROMPT, 0, (uint32_t)n - 1);
    *claim_byte(f->c.s->prompt, 4 * (n - 1)) ^= 1;
    f->c.s->prompt.len -= 4;
    found = caught(f, CHECK_LIGHT, REASON_PROMPT, 0, 0);
    assert_int_equal(found.claimed, n - 1);
    assert_int_equal(found.found, n);
}

static void samples_in_another_order_are_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample first = f->c.s->sample[0];
    uint32_t at = 0;

    f->c.s->sample[0] = f->c.s->sample[1];
    f->c.s->sample[1] = first;
    while (claim_token(&f->c, 0, at) == claim_token(&f->c, 1, at))
        at++;
    caught(f, CHECK_FULL, REASON_TOKEN, 0, at);
}

static void a_better_sample_sent_twice_is_found(void **state)
{
    struct forgery *f = *state;
    uint32_t at = 0;

    while (claim_token(&f->c, 0, at) == claim_token(&f->c, 1, at))
        at++;
    f->c.s->sample[1] = f->c.s->sample[0];
    caught(f, CHECK_FULL, REASON_TOKEN, 1, at);
}

static void another_units_work_is_found(void **state)
{
    struct forgery *f = *state;

    f->c.s->unit++;
    caught(f, CHECK_LIGHT, REASON_PROMPT, 0, 5); /* bos, "say ", then the number */
}

static void a_root_of_something_else_is_found(void **state)
{
    struct forgery *f = *state;
    struct rollout_finding found;

    f->c.s->root.b[9] ^= 1;
    found = check(&f->s.world, &f->c, CHECK_LIGHT);
    assert_false(found.is_accepted);
    assert_int_equal(found.code, REASON_ROOT);
}

static void other_names_for_weights_version_task_and_class_are_found(void **state)
{
    struct forgery *f = *state;

    f->c.s->weights.b[0] ^= 1;
    caught(f, CHECK_LIGHT, REASON_WEIGHTS, 0, 0);
    f->c.s->weights.b[0] ^= 1;
    f->c.s->version++;
    caught(f, CHECK_LIGHT, REASON_STALE, 0, 0);
    f->c.s->version--;
    f->c.s->task.b[0] ^= 1;
    caught(f, CHECK_LIGHT, REASON_NO_TASK, 0, 0);
    f->c.s->task.b[0] ^= 1;
    /* Such a unit must not reach a batch: the trainer would refuse the batch for ever. */
    memcpy(f->c.s->numerics, "open-x", sizeof("open-x"));
    f->c.s->opening.b[0] = 1;
    caught(f, CHECK_LIGHT, REASON_NUMERICS, 0, 0);
}

static void a_smaller_group_is_found(void **state)
{
    struct forgery *f = *state;

    f->c.s->n_samples = 1;
    caught(f, CHECK_LIGHT, REASON_BOUNDS, 0, 0);
}

static void numbers_out_of_bounds_are_found(void **state)
{
    struct forgery *f = *state;
    struct msg_sample *m = &f->c.s->sample[1];
    const float nan = NAN;
    const int32_t vocab = 259;
    uint8_t mask[40] = {0};

    memcpy(claim_byte(m->logprobs, 4 * 7), &nan, sizeof(nan));
    caught(f, CHECK_LIGHT, REASON_NOT_FINITE, 0, 0);
    memset(claim_byte(m->logprobs, 4 * 7), 0, 4);
    mask[3] = 2;
    m->mask = BYTES_OF(mask);
    caught(f, CHECK_LIGHT, REASON_BOUNDS, 0, 0);
    m->mask.len = 0;
    memcpy(claim_byte(m->tokens, 4 * 7), &vocab, sizeof(vocab));
    caught(f, CHECK_LIGHT, REASON_BOUNDS, 1, 7);
}

/* ---- whole dishonest workers --------------------------------------------------------- */

static void stale_weights_are_found(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_finding f;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    small_world_reweigh(&s, 2); /* other numbers under the assigned version's name */
    claim_make(&c, &s.world, 1);
    small_world_reweigh(&s, 1);
    assert_true(check(&s.world, &c, CHECK_LIGHT).is_accepted);
    f = check(&s.world, &c, CHECK_FULL);
    assert_false(f.is_accepted);
    assert_true(f.code == REASON_TOKEN || f.code == REASON_LOGPROB);
    assert_int_equal(f.sample, 0);
    claim_clear(&c);
    small_world_close(&s);
}

/* One weight of one matrix, its last bit: the same tokens, other log-probabilities. */
static void one_bit_of_one_weight_is_found(void **state)
{
    (void)state;
    struct small_world s;
    struct claim c;
    struct rollout_finding f;
    float *w;

    small_world_open(&s, SMALL_TASK_LONG, 40);
    w = &s.weights->layers[1].down[5];
    *w = nextafterf(*w, 1.0f);
    assert_ok(model_reload(s.model, s.weights, NULL), NULL);
    claim_make(&c, &s.world, 1);
    *w = nextafterf(*w, -1.0f);
    assert_ok(model_reload(s.model, s.weights, NULL), NULL);
    f = check(&s.world, &c, CHECK_FULL);
    assert_false(f.is_accepted);
    assert_int_equal(f.code, REASON_LOGPROB);
    claim_clear(&c);
    small_world_close(&s);
}

static void other_seeds_are_found(void **state)
{
    (void)state;
    struct small_world s;
    struct rollout_world w;
    struct claim c;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    w = s.world;
    w.plan.seed ^= 1;
    claim_make(&c, &w, 1);
    assert_int_equal(check(&s.world, &c, CHECK_LIGHT).code, REASON_PROMPT);
    claim_clear(&c);
    small_world_close(&s);
}

static void another_temperature_is_found(void **state)
{
    (void)state;
    struct small_world s;
    struct task hot;
    struct rollout_world w;
    struct claim c;

    small_world_open(&s, SMALL_TASK_LONG, 20);
    hot = *s.world.task;
    hot.sampling.temperature = 1.0;
    w = s.world;
    w.task = &hot;
    claim_make(&c, &w, 1);
    assert_true(check(&s.world, &c, CHECK_LIGHT).is_accepted);
    assert_int_equal(check(&s.world, &c, CHECK_FULL).sample, 0);
    assert_false(check(&s.world, &c, CHECK_FULL).is_accepted);
    claim_clear(&c);
    small_world_close(&s);
}

/* What the world said, in other words. */
static void words_put_into_the_worlds_mouth_are_found(void **state)
{
    (void)state;
    struct small_world s;
    unsigned n_forged = 0;

    small_world_open(&s, SMALL_TASK_TALK, 0);
    for (uint64_t unit = 0; unit < 8; unit++) {
        struct claim c;
        struct msg_sample *m;
        size_t at = 0;

        claim_make(&c, &s.world, unit);
        m = &c.s->sample[2];
        while (at < m->mask.len && m->mask.data[at])
            at++;
        if (at < m->mask.len) {
            struct rollout_finding f;

            *claim_byte(m->tokens, 4 * at) = 4; /* "b" for "a" */
            claim_seal(&c);
            f = check(&s.world, &c, CHECK_LIGHT);
            assert_int_equal(f.code, REASON_TOKEN);
            assert_int_equal(f.sample, 2);
            assert_int_equal(f.position, at);
            n_forged++;
        }
        claim_clear(&c);
    }
    assert_true(n_forged > 0);
    small_world_close(&s);
}

/* ---- no verdict ---------------------------------------------------------------------- */

static void an_environment_out_of_time_gives_no_verdict(void **state)
{
    (void)state;
    struct bundle b = {0};
    struct task t;
    struct env *env;
    struct small_world s;
    struct rollout_world w;
    struct rollout_finding f;
    struct rollout_unit u;
    struct claim c;
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_LONG, 4);
    claim_make(&c, &s.world, 0);
    b.file[BUNDLE_TASK] = BYTES_LIT("name: x\n"
                                    "environment: {wall_ms: 20, instructions: 10000000000}\n");
    b.file[BUNDLE_ENV] =
        BYTES_LIT("return {prompt = function(p) return 'say ' .. p.seed % 1000 end,"
                  " score = function() while true do end end}");
    assert_ok(task_parse(&t, b.file[BUNDLE_TASK], "task.yaml", &e), &e);
    assert_ok(env_open(&env, &t, &b, NULL, &e), &e);
    w = s.world;
    w.env = env;

    assert_status(rollout_check(&w, c.s, NULL, CHECK_LIGHT, NULL, &f, &e), ERR_TIMEOUT, NULL);
    rollout_unit_init(&u, 0, 0);
    assert_status(rollout_generate(&w, &u, 1, NULL, NULL, &e), ERR_TIMEOUT, NULL);

    rollout_unit_clear(&u);
    env_close(&env);
    task_clear(&t);
    claim_clear(&c);
    small_world_close(&s);
}

#define FORGERY(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest_units_are_accepted),
        cmocka_unit_test(honest_answers_of_odd_sizes_are_accepted),
        cmocka_unit_test(checker_may_run_other_kernels_and_threads),
        cmocka_unit_test(places_follow_from_the_draw_and_the_validator),
        cmocka_unit_test(states_are_those_of_the_weights),
        cmocka_unit_test(a_light_check_needs_no_weights),
        FORGERY(another_token_is_found),
        FORGERY(the_first_token_is_checked_too),
        FORGERY(a_logprob_one_ulp_off_is_found),
        FORGERY(where_bits_are_defined_nothing_is_opened),
        FORGERY(another_reward_is_found),
        FORGERY(a_sampled_token_passed_off_as_the_worlds_is_found),
        FORGERY(another_finish_is_found),
        FORGERY(an_answer_cut_short_is_found),
        FORGERY(an_answer_drawn_out_is_found),
        FORGERY(another_prompt_is_found),
        FORGERY(samples_in_another_order_are_found),
        FORGERY(a_better_sample_sent_twice_is_found),
        FORGERY(another_units_work_is_found),
        FORGERY(a_root_of_something_else_is_found),
        FORGERY(other_names_for_weights_version_task_and_class_are_found),
        FORGERY(a_smaller_group_is_found),
        FORGERY(numbers_out_of_bounds_are_found),
        cmocka_unit_test(stale_weights_are_found),
        cmocka_unit_test(one_bit_of_one_weight_is_found),
        cmocka_unit_test(other_seeds_are_found),
        cmocka_unit_test(another_temperature_is_found),
        cmocka_unit_test(words_put_into_the_worlds_mouth_are_found),
        cmocka_unit_test(an_environment_out_of_time_gives_no_verdict),
    };
    return cmocka_run_group_tests_name("rollout/check", tests, NULL, NULL);
}
