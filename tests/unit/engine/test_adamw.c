/*
 * The optimizer, against the textbook in binary64.
 */
#include "engine/adamw.h"

#include <math.h>
#include <string.h>

#include "engine/kernels.h"
#include "support/close.h"
#include "support/test.h"
#include "tiny_model.h"

struct fixture {
    struct weights *w, *grads;
    struct adamw *opt;
    struct adamw_report report;
    struct err e;
};

static const struct adamw_settings settings = {
    .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.1f};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    const struct model_config c = tiny_config(MODEL_ARCH_LLAMA);

    f->w = tiny_weights(&c, 1);
    f->grads = tiny_weights(&c, 2);
    assert_ok(adamw_new(&f->opt, &c, &f->e), &f->e);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    adamw_free(&f->opt);
    weights_free(&f->w);
    weights_free(&f->grads);
    test_free(f);
    return 0;
}

static enum status step(struct fixture *f, const struct adamw_settings *s)
{
    return adamw_step(f->opt, f->w, f->grads, s, kernels_best(), NULL, &f->report, &f->e);
}

static double norm_of(const struct weights *g)
{
    double sum = 0.0;

    for (size_t i = 0; i < g->n_data; i++)
        sum += (double)g->data[i] * (double)g->data[i];
    return sqrt(sum);
}

/* A handful of roundings a step on numbers of order 1: 5 steps of 10 * 2^-24 = 3e-6. */
static void steps_are_those_of_the_paper(void **state)
{
    struct fixture *f = *state;
    float want[23 * 12], got[23 * 12];
    size_t n = sizeof(want) / sizeof(want[0]);
    double m = 0, v = 0;

    for (size_t i = 0; i < n; i++) {
        double p = (double)f->w->embed[i], g = (double)f->grads->embed[i];

        m = v = 0;
        for (int t = 1; t <= 5; t++) {
            p *= 1 - 0.01 * 0.1;
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            p -= 0.01 * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.99, t))) + 1e-8);
        }
        want[i] = (float)p;
    }
    for (int t = 0; t < 5; t++)
        assert_ok(step(f, &settings), &f->e);
    memcpy(got, f->w->embed, sizeof(got));

    assert_close(got, want, n, 3e-6, 0.0);
    assert_int_equal(f->opt->step, 5);
}

static void the_norm_is_reported_and_clipped(void **state)
{
    struct fixture *f = *state;
    struct adamw_settings s = settings;
    double norm = norm_of(f->grads);

    s.clip_norm = 0.5f;
    assert_ok(step(f, &s), &f->e);

    assert_true(fabs((double)f->report.grad_norm - norm) < 1e-5 * norm);
    assert_true(fabs((double)f->report.scale - 0.5 / norm) < 1e-5);
    /* The first moment after one step is (1 - b1) times the clipped gradient. */
    assert_true(fabs((double)f->opt->m->embed[3] -
                     0.1 * (double)f->grads->embed[3] * (double)f->report.scale) < 1e-6);
}

static void gradients_that_are_not_finite_change_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t before[WEIGHTS_DIGEST_BYTES], after[WEIGHTS_DIGEST_BYTES];

    assert_ok(step(f, &settings), &f->e);
    f->grads->norm[0] = NAN;
    weights_digest(before, f->w);
    assert_status(step(f, &settings), ERR_NUMERIC, &f->e);

    weights_digest(after, f->w);
    assert_memory_equal(after, before, sizeof(before));
    assert_int_equal(f->opt->step, 1);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(steps_are_those_of_the_paper),
        WITH(the_norm_is_reported_and_clipped),
        WITH(gradients_that_are_not_finite_change_nothing),
    };
    return cmocka_run_group_tests_name("engine/adamw", tests, NULL, NULL);
}
