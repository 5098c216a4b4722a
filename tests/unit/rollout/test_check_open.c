/*
 * rollout/check_open: what an open class lets pass and what not, with the exact kernels and the
 * name of the open class; and submissions checked many at a time.
 */
#include "rollout/check.h"

#include <string.h>

#include "engine/ops.h"
#include "proto/opening.h"
#include "proto/toploc.h"
#include "support/test.h"

#include "unit/rollout/small_world.h"

/* Unit 0 of LONG: two answers of 40 tokens. */
struct open {
    struct small_world s;
    struct rollout_world w; /* in the open class */
    struct claim c;
    struct msg_opening opening; /* of it; lends from c.unit.opening */
};

static void open_it(struct open *o)
{
    struct err e;

    assert_ok(msg_opening_decode(&o->opening, buf_bytes(&o->c.unit.opening), &e), &e);
}

static void claim_it(struct open *o, enum numerics class)
{
    uint64_t unit = 0;

    o->w.numerics = class;
    claim_make(&o->c, &o->w, unit);
    while (o->c.s->sample[0].tokens.len < 160 || o->c.s->sample[1].tokens.len < 160) {
        claim_clear(&o->c);
        claim_make(&o->c, &o->w, ++unit);
        assert_true(unit < 20);
    }
    open_it(o);
}

static int setup(void **state)
{
    struct open *o = test_calloc(1, sizeof(*o));

    small_world_open(&o->s, SMALL_TASK_LONG, 40);
    o->w = o->s.world;
    claim_it(o, NUMERICS_OPEN_OPENBLAS);
    *state = o;
    return 0;
}

static int teardown(void **state)
{
    struct open *o = *state;

    claim_clear(&o->c);
    small_world_close(&o->s);
    test_free(o);
    return 0;
}

static struct rollout_finding sealed_check(struct open *o)
{
    struct rollout_finding f;
    struct err e = {0};

    opening_root(&o->c.s->opening, o->c.s, &o->opening);
    claim_seal(&o->c);
    assert_ok(rollout_check(&o->w, o->c.s, &o->opening, CHECK_FULL, NULL, &f, &e), &e);
    return f;
}

static void assert_refused(const struct rollout_finding *f, enum reason code, uint32_t sample,
                           uint32_t position)
{
    assert_false(f->is_accepted);
    assert_string_equal(reason_name(f->code), reason_name(code));
    assert_int_equal(f->sample, sample);
    assert_int_equal(f->position, position);
    assert_false(reason_is_hard(f->code)); /* it is an opinion */
}

static void honest_work_is_accepted_and_measured(void **state)
{
    struct open *o = *state;
    struct rollout_finding f = sealed_check(o);

    assert_true(f.is_accepted);
    assert_int_equal(f.noise.tokens, 80);
    assert_int_equal(f.noise.chunks, 4);
    assert_true(f.noise.has_same_states); /* the kernels are exact */
    assert_int_equal(f.noise.n_drawn_otherwise, 0);
    assert_true(f.noise.margin == 0.0 && f.noise.logprob == 0.0 && f.noise.exponents == 0);
}

static void move_logprob(struct open *o, uint32_t sample, size_t at, float by)
{
    struct msg_sample *m = &o->c.s->sample[sample];
    float logp;

    memcpy(&logp, m->logprobs.data + 4 * at, sizeof(logp));
    logp -= by; /* stays below 0 */
    memcpy(claim_byte(m->logprobs, 4 * at), &logp, sizeof(logp));
}

static void small_differences_pass(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    for (size_t i = 0; i < 40; i++)
        move_logprob(o, 0, i, 1e-4f);
    f = sealed_check(o);
    assert_true(f.is_accepted);
    assert_true(f.noise.logprob > 0.9e-4 && f.noise.logprob < 1.1e-4);
}

/* What bf16 makes of honest work would be far off where products are of f32. */
static void each_class_has_tolerances_of_its_own(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    for (size_t i = 0; i < 40; i++)
        move_logprob(o, 1, i, 1e-2f);
    f = sealed_check(o);
    assert_refused(&f, REASON_LIKELIHOOD, 1, 1);
    claim_clear(&o->c);
    claim_it(o, NUMERICS_OPEN_CUDA);
    for (size_t i = 0; i < 40; i++)
        move_logprob(o, 1, i, 1e-2f);
    assert_true(sealed_check(o).is_accepted);
    for (size_t i = 0; i < 40; i++)
        move_logprob(o, 1, i, 1.0f);
    f = sealed_check(o);
    assert_false(f.is_accepted);
    assert_string_equal(reason_name(f.code), "LIKELIHOOD");
}

static void one_logprob_far_off_passes_and_a_second_does_not(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    move_logprob(o, 0, 3, 1e-2f);
    assert_true(sealed_check(o).is_accepted);
    move_logprob(o, 0, 30, 1e-2f);
    f = sealed_check(o);
    assert_refused(&f, REASON_LIKELIHOOD, 0, 30);
}

/* One in a unit, again and again: what one unit forgives two do not, if the tests go on. */
static void far_differences_add_up_over_units(void **state)
{
    struct open *o = *state;
    struct rollout_heights heights = {0};
    struct rollout_finding f;

    move_logprob(o, 1, 30, 1e-2f);
    for (int i = 0; i < 2; i++)
        assert_true(sealed_check(o).is_accepted);
    o->w.heights = &heights;
    assert_true(sealed_check(o).is_accepted);
    assert_true(heights.logprob > 9.0 && heights.logprob < 9.9);
    assert_true(heights.margin == 0.0);
    move_logprob(o, 1, 30, -1e-2f); /* as it was: */
    move_logprob(o, 0, 3, 1e-2f);   /* 12 tokens later */
    f = sealed_check(o);
    assert_refused(&f, REASON_LIKELIHOOD, 0, 3);
    heights = (struct rollout_heights){0};
    assert_true(sealed_check(o).is_accepted);
}

/* The second is in the next sample: the test goes on through the unit. */
static void far_differences_add_up_over_the_samples(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    move_logprob(o, 0, 35, 1e-2f);
    move_logprob(o, 1, 4, 1e-2f);
    f = sealed_check(o);
    assert_refused(&f, REASON_LIKELIHOOD, 1, 4);
}

static void those_that_are_far_apart_are_forgiven(void **state)
{
    struct open *o = *state;

    move_logprob(o, 0, 3, 1e-2f);
    move_logprob(o, 1, 34, 1e-2f); /* 71 tokens later */
    assert_true(sealed_check(o).is_accepted);
}

static int32_t draw_otherwise(void *ctx, const struct draw_place *at, float *logp)
{
    int32_t token = sample_token(at->kernels, NULL, at->logits, at->V, at->temperature,
                                 at->seed + 1, at->position);

    (void)ctx;
    logprob_forward(at->kernels, NULL, logp, at->logits, &token, at->temperature, 1, at->V);
    return token;
}

static void other_seeds_are_found(void **state)
{
    struct open *o = *state;
    struct rollout_world w = o->w;
    struct rollout_finding f;

    w.choose = draw_otherwise;
    claim_clear(&o->c);
    claim_make(&o->c, &w, 0);
    open_it(o);
    f = sealed_check(o);
    assert_false(f.is_accepted);
    assert_string_equal(reason_name(f.code), "MARGIN");
    assert_true(f.noise.margin > 1e-3 && f.noise.n_drawn_otherwise >= 2);
}

static void a_proof_of_other_states_is_found_with_its_last_token(void **state)
{
    struct open *o = *state;
    struct bytes other = opening_proofs(&o->opening, o->c.s, 1);
    struct rollout_finding f;

    for (size_t i = 0; i < TOPLOC_PROOF_BYTES; i++)
        *claim_byte(o->opening.proofs, i) = other.data[i];
    f = sealed_check(o);
    assert_refused(&f, REASON_STATES, 0, 31);
}

static void a_malformed_proof_is_found(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    memset(claim_byte(opening_proofs(&o->opening, o->c.s, 1), TOPLOC_PROOF_BYTES + 20), 0, 6);
    f = sealed_check(o);
    assert_refused(&f, REASON_STATES, 1, 39);
}

/* They are no ground for a refusal: other kernels have others. */
static void other_states_by_their_root_are_noted_only(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;

    o->opening.states.b[3] ^= 1;
    f = sealed_check(o);
    assert_true(f.is_accepted);
    assert_false(f.noise.has_same_states);
}

static void who_does_not_open_or_opens_something_else_has_failed(void **state)
{
    struct open *o = *state;
    struct rollout_finding f;
    struct err e = {0};

    claim_seal(&o->c);
    assert_ok(rollout_check(&o->w, o->c.s, NULL, CHECK_FULL, NULL, &f, &e), &e);
    assert_refused(&f, REASON_UNOPENED, 0, 0);
    assert_ok(rollout_check(&o->w, o->c.s, NULL, CHECK_LIGHT, NULL, &f, &e), &e);
    assert_true(f.is_accepted); /* nobody asked for it */
    *claim_byte(o->opening.proofs, 9) ^= 1;
    assert_ok(rollout_check(&o->w, o->c.s, &o->opening, CHECK_FULL, NULL, &f, &e), &e);
    assert_refused(&f, REASON_ROOT, 0, 0);
    o->opening.proofs.len -= TOPLOC_PROOF_BYTES;
    assert_ok(rollout_check(&o->w, o->c.s, &o->opening, CHECK_FULL, NULL, &f, &e), &e);
    assert_refused(&f, REASON_BOUNDS, 0, 0);
}

/* Kernels that go wrong accuse nobody as long as others are asked before a refusal. */
static void nothing_is_refused_without_the_second_kernels(void **state)
{
    struct open *o = *state;
    const struct model_options mo = {.kernels = model_kernels(o->s.model)};
    struct weights *wrong;
    struct model *broken;
    struct rollout_finding f;
    struct err e = {0};

    assert_ok(weights_new(&wrong, &o->s.setup->config, &e), &e);
    small_weights(wrong, 2);
    assert_ok(model_new(&broken, wrong, &mo, &e), &e);
    o->w.model = broken;
    assert_false(sealed_check(o).is_accepted);
    o->w.second = o->s.model;
    f = sealed_check(o);
    assert_true(f.is_accepted);
    assert_true(f.is_second);
    o->w.model = o->s.model;
    assert_false(sealed_check(o).is_second);
    model_free(&broken);
    weights_free(&wrong);
}

/* ---- many at a time ---------------------------------------------------------------------- */

#define MANY 5u

static void many_are_judged_like_each_alone(void **state)
{
    struct open *o = *state;
    struct claim c[MANY];
    const struct msg_submit *s[MANY];
    struct rollout_finding all[MANY], one;
    struct err e = {0};

    for (size_t i = 0; i < MANY; i++) {
        claim_make(&c[i], &o->s.world, i);
        s[i] = c[i].s;
    }
    *claim_byte(c[1].s->sample[1].logprobs, 0) ^= 1; /* found by the full check */
    claim_seal(&c[1]);
    c[3].s->sample[0].reward += 1.0f; /* by the light one */
    claim_seal(&c[3]);
    assert_ok(rollout_check_all(&o->s.world, s, NULL, MANY, CHECK_FULL, NULL, all, &e), &e);
    for (size_t i = 0; i < MANY; i++) {
        assert_ok(rollout_check(&o->s.world, s[i], NULL, CHECK_FULL, NULL, &one, &e), &e);
        assert_int_equal(all[i].is_accepted, i != 1 && i != 3);
        assert_int_equal(all[i].code, one.code);
        assert_int_equal(all[i].sample, one.sample);
        assert_int_equal(all[i].position, one.position);
        claim_clear(&c[i]);
    }
    assert_int_equal(all[1].code, REASON_LOGPROB);
    assert_int_equal(all[3].code, REASON_REWARD);
}

int main(int argc, char **argv)
{
    SMALL_WORLD_MAIN(argc, argv);
#define OPEN(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        OPEN(honest_work_is_accepted_and_measured),
        OPEN(small_differences_pass),
        OPEN(each_class_has_tolerances_of_its_own),
        OPEN(one_logprob_far_off_passes_and_a_second_does_not),
        OPEN(far_differences_add_up_over_units),
        OPEN(far_differences_add_up_over_the_samples),
        OPEN(those_that_are_far_apart_are_forgiven),
        OPEN(other_seeds_are_found),
        OPEN(a_proof_of_other_states_is_found_with_its_last_token),
        OPEN(a_malformed_proof_is_found),
        OPEN(other_states_by_their_root_are_noted_only),
        OPEN(who_does_not_open_or_opens_something_else_has_failed),
        OPEN(nothing_is_refused_without_the_second_kernels),
        OPEN(many_are_judged_like_each_alone),
    };
    return cmocka_run_group_tests_name("rollout/check_open", tests, NULL, NULL);
}
