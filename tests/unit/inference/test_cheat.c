/*
 * inference/cheat: every dishonest worker of the gallery does something, and is found for a reason
 * that its row names: in classes that define bits, and within the tolerances of the open ones,
 * which are tried here with the exact kernels.
 */
#include "inference/cheat.h"

#include <math.h>
#include <string.h>

#include "inference/cheat_hooks.h"
#include "proto/digest.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/check.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

#define UNITS 4u

static void names_are_read_as_they_are_written(void **state)
{
    (void)state;

    for (int i = 0; i < CHEAT_COUNT; i++)
        assert_int_equal(infer_cheat_parse(infer_cheat_name((enum infer_cheat)i)), i);
    assert_int_equal(infer_cheat_parse("honest"), CHEAT_COUNT);
    assert_string_equal(infer_cheat_name(CHEAT_COUNT), "?");
}

static void every_cheat_says_what_it_does_and_what_finds_it(void **state)
{
    (void)state;
    int n_open = 0;

    for (int i = CHEAT_NONE + 1; i < CHEAT_COUNT; i++) {
        assert_true(strlen(infer_cheat_about((enum infer_cheat)i)) > 5);
        assert_true(cheat_reasons((enum infer_cheat)i, true) != 0);
        assert_true(cheat_applies((enum infer_cheat)i, NUMERICS_OPEN_OPENBLAS));
        if (i >= CHEAT_PROOF_FORGED && i <= CHEAT_UNOPENED)
            n_open++;
        else
            assert_true(cheat_reasons((enum infer_cheat)i, false) != 0);
        assert_int_equal(cheat_applies((enum infer_cheat)i, NUMERICS_F32_1),
                         cheat_reasons((enum infer_cheat)i, false) != 0);
    }
    assert_int_equal(n_open, 6);
    assert_true(cheat_reasons(CHEAT_NONE, false) == 0);
}

/* ---- the gallery ------------------------------------------------------------------------- */

/* LONG with weights of its own for the cheat. */
struct bench {
    struct small_world s;
    struct weights *weights; /* owned */
    struct model *other;     /* owned */
};

static void bench_open(struct bench *b, enum infer_cheat kind)
{
    struct model_options mo = {.round_cache = cheat_cache(kind)};
    struct err e = {0};

    small_world_open(&b->s, SMALL_TASK_LONG, 40);
    assert_ok(weights_new(&b->weights, &b->s.setup->config, &e), &e);
    small_weights(b->weights, cheat_model(kind) == CHEAT_MODEL_OLDEST ? 2 : 1);
    cheat_weights(kind, b->weights);
    assert_ok(kernels_choose(&mo.kernels, NUMERICS_F32_1, "scalar", &e), &e);
    assert_ok(model_new(&b->other, b->weights, &mo, &e), &e);
}

static void bench_close(struct bench *b)
{
    model_free(&b->other);
    weights_free(&b->weights);
    small_world_close(&b->s);
}

/* Finds it in at least one of its units that are not honest work, and never in one that is. */
static void assert_found(enum infer_cheat kind, bool is_open)
{
    struct rollout_unit made[UNITS], honest[UNITS];
    struct msg_submit *m = test_calloc(1, sizeof(*m));
    struct rollout_world w;
    struct bench b;
    struct cheat *cheat;
    struct err e = {0};
    uint32_t n_found = 0, n_cheated = 0;
    bool is_own = cheat_model(kind) != CHEAT_MODEL_TRUE;

    bench_open(&b, kind);
    w = b.s.world;
    w.numerics = is_open ? NUMERICS_OPEN_OPENBLAS : NUMERICS_F32_1;
    cheat_new(&cheat, kind);
    for (uint64_t i = 0; i < UNITS; i++) {
        rollout_unit_init(&made[i], 20 * i, i); /* rare-units cheats on these */
        rollout_unit_init(&honest[i], 20 * i, i);
    }
    assert_ok(
        cheat_generate(cheat, &w, is_own ? b.other : w.model, made, UNITS, NULL, NULL, &e), &e);
    assert_ok(rollout_generate(&w, honest, UNITS, NULL, NULL, &e), &e);
    for (size_t i = 0; i < UNITS; i++) {
        bool is_honest =
            bytes_equal(buf_bytes(&made[i].body), buf_bytes(&honest[i].body)) &&
            bytes_equal(buf_bytes(&made[i].opening), buf_bytes(&honest[i].opening));
        struct rollout_finding f;
        struct msg_opening o;

        assert_ok(msg_submit_decode(m, buf_bytes(&made[i].body), &e), &e);
        if (made[i].opening.len)
            assert_ok(msg_opening_decode(&o, buf_bytes(&made[i].opening), &e), &e);
        assert_ok(
            rollout_check(&w, m, made[i].opening.len ? &o : NULL, CHECK_FULL, NULL, &f, &e),
            &e);
        n_cheated += !is_honest;
        n_found += !f.is_accepted;
        if (is_honest)
            assert_true(f.is_accepted);
        else if (!is_open)
            assert_false(f.is_accepted);
        if (!f.is_accepted && !(cheat_reasons(kind, is_open) >> f.code & 1))
            fail_msg("%s: %s", infer_cheat_name(kind), f.text);
        if (f.is_accepted || !cheat_is_light(kind))
            continue;
        assert_ok(rollout_check(&w, m, NULL, CHECK_LIGHT, NULL, &f, &e), &e);
        assert_false(f.is_accepted);
    }
    if (n_cheated == 0 || n_found == 0)
        fail_msg("%s: found in %u of %u units", infer_cheat_name(kind), n_found, n_cheated);
    for (size_t i = 0; i < UNITS; i++) {
        rollout_unit_clear(&made[i]);
        rollout_unit_clear(&honest[i]);
    }
    cheat_free(&cheat);
    bench_close(&b);
    test_free(m);
}

static void every_cheat_is_found_by_equality(void **state)
{
    (void)state;

    for (int kind = CHEAT_NONE + 1; kind < CHEAT_COUNT; kind++)
        if (cheat_applies((enum infer_cheat)kind, NUMERICS_F32_1))
            assert_found((enum infer_cheat)kind, false);
}

/* One token of a hundred is within what an open class lets pass in units of eighty. */
static void every_cheat_is_found_within_tolerances(void **state)
{
    (void)state;

    for (int kind = CHEAT_NONE + 1; kind < CHEAT_COUNT; kind++)
        if (kind != CHEAT_RARE_TOKENS)
            assert_found((enum infer_cheat)kind, true);
}

static void who_does_not_cheat_is_accepted(void **state)
{
    (void)state;
    struct small_world s;
    struct cheat *cheat;
    struct rollout_unit u;
    struct claim c;
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_SMALL, 0);
    claim_make(&c, &s.world, 1);
    cheat_new(&cheat, CHEAT_NONE);
    rollout_unit_init(&u, 1, 1001);
    assert_ok(cheat_generate(cheat, &s.world, s.model, &u, 1, NULL, NULL, &e), &e);
    assert_true(bytes_equal(buf_bytes(&u.body), buf_bytes(&c.unit.body)));
    rollout_unit_clear(&u);
    cheat_free(&cheat);
    claim_clear(&c);
    small_world_close(&s);
}

/* ---- what they do ------------------------------------------------------------------------ */

static void rare_units_are_honest_but_for_one_in_twenty(void **state)
{
    (void)state;
    struct small_world s;
    struct cheat *cheat;
    struct rollout_unit u[2];
    struct claim c;
    struct err e = {0};

    small_world_open(&s, SMALL_TASK_LONG, 20);
    cheat_new(&cheat, CHEAT_RARE_UNITS);
    rollout_unit_init(&u[0], 20, 1020);
    rollout_unit_init(&u[1], 21, 1021);
    assert_ok(cheat_generate(cheat, &s.world, s.model, u, 2, NULL, NULL, &e), &e);
    for (size_t i = 0; i < 2; i++) {
        claim_make(&c, &s.world, 20 + i);
        assert_int_equal(bytes_equal(buf_bytes(&u[i].body), buf_bytes(&c.unit.body)), i == 1);
        claim_clear(&c);
        rollout_unit_clear(&u[i]);
    }
    cheat_free(&cheat);
    small_world_close(&s);
}

static void quantising_leaves_255_or_15_values(void **state)
{
    (void)state;
    const float steps[2] = {127.0f, 7.0f};

    for (int k = 0; k < 2; k++) {
        struct small_world s;
        const float *row;
        float top = 0.0f;

        small_world_open(&s, SMALL_TASK_LONG, 4);
        row = s.weights->layers[0].q; /* 16 wide: one group */
        for (size_t i = 0; i < 16; i++)
            top = fmaxf(top, fabsf(row[i]));
        s.weights->norm[0] = 0.3f;
        cheat_weights(k ? CHEAT_INT4 : CHEAT_INT8, s.weights);
        for (size_t i = 0; i < 16; i++) {
            float step = row[i] / (top / steps[k]);

            /* A product and a quotient: one ulp of at most 127 each. */
            assert_true(fabsf(step - rintf(step)) < 2e-5f);
        }
        assert_true(s.weights->norm[0] == 0.3f); /* vectors are left alone */
        small_world_close(&s);
    }
}

static void fp8_has_three_bits_of_mantissa(void **state)
{
    (void)state;
    float x[] = {1.0f, 1.0625f, 1.19f, -3.3f, 1000.0f, 0.0f, 0.001f, 0.003f};
    const float want[] = {1.0f, 1.0f, 1.25f, -3.25f, 448.0f, 0.0f, 0.001953125f, 0.00390625f};

    cheat_cache_fp8(x, 8);
    for (int i = 0; i < 8; i++)
        assert_true(x[i] == want[i]);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_as_they_are_written),
        cmocka_unit_test(every_cheat_says_what_it_does_and_what_finds_it),
        cmocka_unit_test(every_cheat_is_found_by_equality),
        cmocka_unit_test(every_cheat_is_found_within_tolerances),
        cmocka_unit_test(who_does_not_cheat_is_accepted),
        cmocka_unit_test(rare_units_are_honest_but_for_one_in_twenty),
        cmocka_unit_test(quantising_leaves_255_or_15_values),
        cmocka_unit_test(fp8_has_three_bits_of_mantissa),
    };
    return cmocka_run_group_tests_name("inference/cheat", tests, NULL, NULL);
}
