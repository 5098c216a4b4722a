/*
 * rollout/rollout: a unit's submission depends on the task, the weights and its number.
 */
#include "rollout/rollout.h"

#include <math.h>
#include <string.h>

#include "engine/kernels.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

#define UNITS 6u

static const enum small_task tasks[] = {SMALL_TASK_SMALL, SMALL_TASK_LONG, SMALL_TASK_TALK};
#define N_TASKS (sizeof(tasks) / sizeof(tasks[0]))

static void make(const struct rollout_world *w, struct rollout_unit *u, const uint64_t *unit,
                 size_t n)
{
    struct err e = {0};

    for (size_t i = 0; i < n; i++)
        rollout_unit_init(&u[i], unit[i], 1000 + unit[i]);
    assert_ok(rollout_generate(w, u, n, NULL, NULL, &e), &e);
}

static void clear(struct rollout_unit *u, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rollout_unit_clear(&u[i]);
}

static void assert_same_body(const struct rollout_unit *a, const struct rollout_unit *b)
{
    assert_int_equal(a->unit, b->unit);
    assert_int_equal(a->tokens, b->tokens);
    assert_int_equal(a->body.len, b->body.len);
    assert_memory_equal(a->body.data, b->body.data, a->body.len);
}

static void a_submission_says_what_the_world_is(void **state)
{
    (void)state;

    for (size_t t = 0; t < N_TASKS; t++) {
        struct small_world s;
        struct claim c;
        struct digest root;
        enum reason why;
        float sum = 0.0f;

        small_world_open(&s, tasks[t], 0);
        claim_make(&c, &s.world, 9);
        assert_int_equal(c.s->unit, 9);
        assert_int_equal(c.s->lease, 1009);
        assert_int_equal(c.s->version, 3);
        assert_true(digest_equal(&c.s->task, &s.setup->task_id));
        assert_true(digest_equal(&c.s->weights, &s.root));
        assert_string_equal(c.s->numerics, "f32-1");
        assert_int_equal(c.s->n_samples, s.setup->task.sampling.group);
        submission_root(&root, c.s);
        assert_true(digest_equal(&c.s->root, &root));
        assert_ok(submission_check_bounds(c.s, &why, NULL), NULL);
        assert_int_equal(submission_tokens(c.s), c.unit.tokens);
        for (uint32_t i = 0; i < c.s->n_samples; i++)
            sum += c.s->sample[i].reward;
        assert_true(c.unit.reward_mean == sum / (float)c.s->n_samples);
        claim_clear(&c);
        small_world_close(&s);
    }
}

static void units_alone_and_together_are_the_same(void **state)
{
    (void)state;
    const uint64_t numbers[UNITS] = {0, 1, 2, 77, 78, 1000000};

    for (size_t t = 0; t < N_TASKS; t++) {
        struct small_world s;
        struct rollout_unit all[UNITS], alone, pair[2];

        small_world_open(&s, tasks[t], 0);
        make(&s.world, all, numbers, UNITS);
        for (size_t i = 0; i < UNITS; i++) {
            make(&s.world, &alone, &numbers[i], 1);
            assert_same_body(&alone, &all[i]);
            clear(&alone, 1);
        }
        make(&s.world, pair, (const uint64_t[]){numbers[4], numbers[0]}, 2);
        assert_same_body(&pair[0], &all[4]);
        assert_same_body(&pair[1], &all[0]);
        assert_int_not_equal(all[0].body.len == all[1].body.len &&
                                 !memcmp(all[0].body.data, all[1].body.data, all[0].body.len),
                             1);
        clear(pair, 2);
        clear(all, UNITS);
        small_world_close(&s);
    }
}

static void threads_and_kernels_change_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *kernels;
        size_t threads;
    } manner[] = {{"scalar", 2}, {"avx2", 1}, {"avx2", 3}};
    const uint64_t numbers[3] = {4, 5, 6};

    for (size_t t = 0; t < N_TASKS; t++) {
        struct small_world s;
        struct rollout_unit want[3], got[3];

        small_world_open(&s, tasks[t], 0);
        make(&s.world, want, numbers, 3);
        for (size_t i = 0; i < 3; i++) {
            if (!kernels_available(NUMERICS_F32_1, manner[i].kernels))
                continue;
            small_world_run_with(&s, manner[i].kernels, manner[i].threads);
            make(&s.world, got, numbers, 3);
            for (size_t u = 0; u < 3; u++)
                assert_same_body(&got[u], &want[u]);
            clear(got, 3);
        }
        clear(want, 3);
        small_world_close(&s);
    }
}

/* What TALK's episodes look like: the tests that use them mean something. */
static void several_turns_end_in_every_way(void **state)
{
    (void)state;
    struct small_world s;
    unsigned finished[4] = {0}, n_world = 0;

    small_world_open(&s, SMALL_TASK_TALK, 0);
    for (uint64_t u = 0; u < 8; u++) {
        struct claim c;

        claim_make(&c, &s.world, u);
        for (uint32_t i = 0; i < c.s->n_samples; i++) {
            const struct msg_sample *m = &c.s->sample[i];
            size_t n = m->tokens.len / 4;

            finished[m->finish]++;
            assert_true(submission_is_sampled(m, 0));
            for (size_t k = 0; k < n; k++)
                n_world += !submission_is_sampled(m, k);
            /* What the world says begins with "a" and follows a stop. */
            for (size_t k = 1; k < n; k++)
                if (!submission_is_sampled(m, k) && submission_is_sampled(m, k - 1)) {
                    assert_int_equal(claim_token(&c, i, k - 1), 2);
                    assert_int_equal(claim_token(&c, i, k), 3);
                }
        }
        claim_clear(&c);
    }
    assert_true(finished[FINISH_END] && finished[FINISH_LENGTH] && finished[FINISH_ENV]);
    assert_true(n_world > 10);
    small_world_close(&s);
}

/* In an open class; in f32-1 there is no opening at all. */
static void openings_hold_a_proof_for_every_started_chunk(void **state)
{
    (void)state;
    static const struct {
        unsigned tokens;
        size_t proofs;
    } want[] = {{1, 1}, {31, 1}, {32, 1}, {33, 2}};
    struct msg_opening o;
    struct err e;

    for (size_t k = 0; k < 4; k++) {
        struct small_world s;
        struct claim c;
        bool seen = false;

        small_world_open(&s, SMALL_TASK_LONG, want[k].tokens);
        for (uint64_t u = 0; u < 4 && !seen; u++) {
            s.world.numerics = NUMERICS_F32_1;
            claim_make(&c, &s.world, u);
            assert_int_equal(c.unit.opening.len, 0);
            claim_clear(&c);
            s.world.numerics = NUMERICS_OPEN_OPENBLAS;
            claim_make(&c, &s.world, u);
            assert_ok(msg_opening_decode(&o, buf_bytes(&c.unit.opening), &e), &e);
            assert_ok(opening_check(&o, c.s, NULL, &e), &e);
            for (uint32_t i = 0; i < c.s->n_samples; i++) {
                if (c.s->sample[i].tokens.len != 4 * want[k].tokens)
                    continue; /* it stopped early */
                assert_int_equal(opening_proofs(&o, c.s, i).len,
                                 want[k].proofs * TOPLOC_PROOF_BYTES);
                seen = true;
            }
            claim_clear(&c);
        }
        assert_true(seen);
        small_world_close(&s);
    }
}

struct progress {
    uint64_t unit[2], tokens[2];
    unsigned calls;
};

static void note(void *arg, uint64_t unit, uint64_t tokens)
{
    struct progress *p = arg;
    size_t i = unit == p->unit[1];

    assert_true(unit == p->unit[i]);
    assert_true(tokens >= p->tokens[i]);
    p->tokens[i] = tokens;
    p->calls++;
}

static void progress_ends_with_all_tokens(void **state)
{
    (void)state;
    struct small_world s;
    struct progress p = {.unit = {3, 8}};
    struct rollout_unit u[2];
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    rollout_unit_init(&u[0], 3, 1);
    rollout_unit_init(&u[1], 8, 2);
    assert_ok(rollout_generate(&s.world, u, 2, note, &p, &e), &e);
    assert_true(p.tokens[0] > 0 && p.tokens[0] <= u[0].tokens);
    assert_true(p.tokens[1] > 0 && p.tokens[1] <= u[1].tokens);
    assert_true(p.calls >= 8); /* at the end of each of the samples at least */
    clear(u, 2);
    small_world_close(&s);
}

static void weights_without_finite_logits_are_an_error(void **state)
{
    (void)state;
    struct small_world s;
    struct rollout_unit u;
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    s.weights->norm[0] = INFINITY;
    model_reload(s.model, s.weights);
    rollout_unit_init(&u, 0, 0);
    assert_status(rollout_generate(&s.world, &u, 1, NULL, NULL, &e), ERR_NUMERIC, NULL);
    rollout_unit_clear(&u);
    small_world_close(&s);
}

static void evaluation_is_repeatable_and_told_in_words(void **state)
{
    (void)state;
    struct small_world s;
    struct rollout_sample sample[2];
    struct err e = {0};
    float one, two, hot;

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    assert_ok(rollout_evaluate(&s.world, 16, 0.0f, &one, sample, 2, &e), &e);
    assert_ok(rollout_evaluate(&s.world, 16, 0.0f, &two, NULL, 0, &e), &e);
    assert_ok(rollout_evaluate(&s.world, 16, 5.0f, &hot, NULL, 0, &e), &e);
    assert_true(one == two);
    assert_true(one >= 0.0f && one <= 1.0f);
    assert_true(hot != one);                   /* the temperature is heard */
    assert_int_equal(sample[0].prompt.len, 5); /* four letters and ">" */
    assert_int_equal(sample[0].prompt.data[4], '>');
    assert_true(sample[0].completion.len <= 6);
    assert_true(sample[0].reward >= 0.0f);
    rollout_sample_clear(&sample[0]);
    rollout_sample_clear(&sample[1]);
    small_world_close(&s);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_submission_says_what_the_world_is),
        cmocka_unit_test(units_alone_and_together_are_the_same),
        cmocka_unit_test(threads_and_kernels_change_nothing),
        cmocka_unit_test(several_turns_end_in_every_way),
        cmocka_unit_test(openings_hold_a_proof_for_every_started_chunk),
        cmocka_unit_test(progress_ends_with_all_tokens),
        cmocka_unit_test(weights_without_finite_logits_are_an_error),
        cmocka_unit_test(evaluation_is_repeatable_and_told_in_words),
    };
    return cmocka_run_group_tests_name("rollout/rollout", tests, NULL, NULL);
}
