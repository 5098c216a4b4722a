/*
 * learn/learner: the same bits however it is run, the right gradient, and a loss that falls.
 */
#include "learn/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "engine/checkpoint.h"
#include "engine/kernels.h"
#include "support/close.h"
#include "support/grads.h"
#include "support/random.h"
#include "support/tempdir.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"

#define SAMPLES 6u
#define LEN_MAX 12u

struct fixture {
    struct model_config c;
    struct learn_settings settings;
    struct learn_batch batch;
    struct learn_sample sample[SAMPLES];
    int32_t tokens[SAMPLES][LEN_MAX];
    float logprobs[SAMPLES][LEN_MAX];
    uint8_t mask[SAMPLES][LEN_MAX];
    char *dir;
    struct err e;
};

/* How a learner is run: nothing of it may show in the bits. */
struct manner {
    const char *kernels;
    size_t threads;
    size_t max_rows;
    bool recompute;
};
static const struct manner plain = {"scalar", 1, 64, false};

static struct learner *learner_of(struct fixture *f, struct weights *w, struct adamw *opt,
                                  const struct manner *how, struct pool *pool)
{
    struct learner_options o = {
        .pool = pool, .max_rows = how->max_rows, .recompute = how->recompute};
    struct learner *l;

    assert_ok(kernels_choose(&o.kernels, NUMERICS_F32_1, how->kernels, &f->e), &f->e);
    assert_ok(learner_new(&l, &w, &opt, &f->settings, &o, &f->e), &f->e);
    assert_null(w);
    assert_null(opt);
    return l;
}

static struct learner *fresh_learner(struct fixture *f)
{
    return learner_of(f, tiny_weights(&f->c, 5), NULL, &plain, NULL);
}

/* Log-probabilities of the batch's tokens under the learner's published weights. */
static void score(struct fixture *f, struct learner *l)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        const struct learn_sample *s = &f->sample[i];
        int32_t targets[LEN_MAX];
        float logp[LEN_MAX];
        size_t rows = s->n - 1;
        const struct train_batch b = {.tokens = s->tokens,
                                      .targets = targets,
                                      .lengths = &rows,
                                      .n_seqs = 1,
                                      .rows = rows,
                                      .temperature = f->settings.temperature};

        for (size_t r = 0; r < rows; r++)
            targets[r] = s->mask[r + 1] ? s->tokens[r + 1] : -1;
        assert_ok(train_forward(l->train, &b, logp, &f->e), &f->e);
        for (size_t r = 0; r < rows; r++)
            f->logprobs[i][r + 1] = logp[r];
    }
}

/* As if the batch were some steps old: ratios on either side of every edge of the clip, none
 * near one (the objective has corners there). */
static void age(struct fixture *f)
{
    static const float log_ratio[5] = {-0.375f, -0.09375f, 0.0f, 0.0625f, 0.375f};
    struct rng r = rng_of(3, 9);

    for (size_t i = 0; i < SAMPLES; i++)
        for (size_t t = 0; t < f->sample[i].n; t++)
            if (f->mask[i][t])
                f->logprobs[i][t] -= log_ratio[rng_below(&r, 5)];
    f->logprobs[1][4] -= 2.0f; /* sample 1 is a bad one: past delta */
}

static void make_batch(struct fixture *f)
{
    static const size_t len[SAMPLES] = {9, 12, 5, 7, 3, 12};
    static const float advantage[SAMPLES] = {0.5f, -0.5f, 0.25f, -0.125f, -0.125f, 1.0f};

    for (size_t i = 0; i < SAMPLES; i++) {
        tiny_tokens(f->tokens[i], len[i], &f->c, 100 + i);
        for (size_t t = 2; t < len[i]; t++)
            f->mask[i][t] = t != 5; /* token 5 is the environment's */
        f->sample[i] = (struct learn_sample){.tokens = f->tokens[i],
                                             .logprobs = f->logprobs[i],
                                             .mask = f->mask[i],
                                             .n = len[i],
                                             .advantage = advantage[i],
                                             .unit = i / 2};
        for (size_t t = 0; t < len[i]; t++)
            f->batch.n_tokens += f->mask[i][t];
    }
    f->batch.sample = f->sample;
    f->batch.n_samples = SAMPLES;
    f->batch.n_units = SAMPLES / 2;
    f->batch.n_longest = 12;
    f->batch.reward_mean = 0.375f;
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct learner *l;

    f->c = tiny_config(MODEL_ARCH_QWEN3);
    f->settings = (struct learn_settings){
        .loss = {.clip_eps = 0.2f, .delta = 4.0f, .log_ratio_max = 20.0f},
        .temperature = 0.8f,
        .optimizer = {.lr = 1e-2,
                      .lr_end = 0.1,
                      .beta1 = 0.9f,
                      .beta2 = 0.99f,
                      .eps = 1e-8f,
                      .weight_decay = 0.01f,
                      .clip_norm = 1.0f},
        .warmup_lr = 1e-2,
        .grad_lanes = 1,
    };
    make_batch(f);
    l = fresh_learner(f);
    score(f, l);
    learner_free(&l);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    tempdir_remove(&f->dir);
    test_free(f);
    return 0;
}

struct roots {
    struct digest masters, optimizer;
};

static struct roots roots_of(const struct learner *l)
{
    struct roots r;
    struct err e;

    assert_ok(learner_roots(l, &r.masters, &r.optimizer, &e), &e);
    return r;
}

static void assert_same_roots(struct roots a, struct roots b)
{
    assert_memory_equal(a.masters.b, b.masters.b, DIGEST_BYTES);
    assert_memory_equal(a.optimizer.b, b.optimizer.b, DIGEST_BYTES);
}

/* n steps on the aged batch, from step `first` on. */
static struct learn_report walk(struct fixture *f, struct learner *l, uint64_t first,
                                uint64_t n)
{
    struct learn_report report = {0};

    for (uint64_t i = first; i < first + n; i++)
        assert_ok(learner_step(l, &f->batch, i, &report, &f->e), &f->e);
    return report;
}

static void every_manner_of_running_gives_the_same_bits(void **state)
{
    struct fixture *f = *state;
    static const struct manner manners[] = {
        {"scalar", 1, 11, false}, {"scalar", 1, 12, true}, {"scalar", 1, 20, false},
        {"scalar", 2, 64, false}, {"scalar", 3, 11, true}, {"avx2", 1, 64, true},
        {"avx2", 2, 23, false},   {"avx2", 3, 11, false},
    };
    struct learner *l = fresh_learner(f);
    struct learn_report want, got;
    struct roots roots;
    unsigned n_run = 0;

    age(f);
    want = walk(f, l, 0, 3);
    roots = roots_of(l);
    learner_free(&l);
    for (size_t i = 0; i < sizeof(manners) / sizeof(manners[0]); i++) {
        struct pool *pool;

        if (!kernels_available(NUMERICS_F32_1, manners[i].kernels))
            continue;
        pool_new(&pool, manners[i].threads);
        l = learner_of(f, tiny_weights(&f->c, 5), NULL, &manners[i], pool);
        got = walk(f, l, 0, 3);
        assert_same_roots(roots_of(l), roots);
        /* Up to the padding before n_tokens. */
        assert_memory_equal(&got, &want, offsetof(struct learn_report, lr) + sizeof(want.lr));
        assert_int_equal(got.n_tokens, want.n_tokens);
        learner_free(&l);
        pool_free(&pool);
        n_run++;
    }
    assert_in_range(n_run, 5, 8);
}

static void a_learner_resumed_from_a_checkpoint_goes_on_with_the_same_bits(void **state)
{
    struct fixture *f = *state;
    struct learner *l = fresh_learner(f);
    struct weights *w;
    struct adamw *opt;
    struct buf meta;
    struct roots whole;

    age(f);
    walk(f, l, 0, 5);
    whole = roots_of(l);
    learner_free(&l);

    f->dir = tempdir_make();
    l = fresh_learner(f);
    walk(f, l, 0, 2);
    assert_ok(checkpoint_save(tempdir_path(f->dir, "c"), l->masters, l->opt,
                              (struct bytes){NULL, 0}, &f->e),
              &f->e);
    learner_free(&l);
    buf_init(&meta, 64);
    assert_ok(checkpoint_load(&w, &opt, &meta, tempdir_path(f->dir, "c"), &f->e), &f->e);
    l = learner_of(f, w, opt, &plain, NULL);
    walk(f, l, 2, 3);

    assert_same_roots(roots_of(l), whole);
    learner_free(&l);
    buf_clear(&meta);
}

static void an_empty_batch_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct learner *l = fresh_learner(f);
    const struct learn_batch empty = {0};
    struct learn_report report;
    struct roots before;

    age(f);
    walk(f, l, 0, 1);
    before = roots_of(l);
    assert_ok(learner_step(l, &empty, 1, &report, &f->e), &f->e);

    assert_same_roots(roots_of(l), before);
    assert_int_equal(l->opt->step, 1);
    assert_true(report.loss == 0.0f && report.grad_norm == 0.0f && report.n_tokens == 0);
    learner_free(&l);
}

/* With the sampling weights themselves the coefficient is the advantage: REINFORCE. */
static void without_lag_the_gradient_is_that_of_reinforce(void **state)
{
    struct fixture *f = *state;
    struct learner *l = fresh_learner(f), *other = fresh_learner(f);
    struct learn_report report;

    train_zero(other->train);
    for (size_t i = 0; i < SAMPLES; i++) {
        const struct learn_sample *s = &f->sample[i];
        int32_t targets[LEN_MAX];
        float logp[LEN_MAX], weight[LEN_MAX];
        size_t rows = s->n - 1;
        const struct train_batch b = {.tokens = s->tokens,
                                      .targets = targets,
                                      .lengths = &rows,
                                      .n_seqs = 1,
                                      .rows = rows,
                                      .temperature = f->settings.temperature};

        for (size_t r = 0; r < rows; r++) {
            targets[r] = s->mask[r + 1] ? s->tokens[r + 1] : -1;
            weight[r] = s->mask[r + 1] ? s->advantage / (float)f->batch.n_tokens : 0.0f;
        }
        assert_ok(train_gradients(other->train, &b, train_weigh_known, weight, logp, &f->e),
                  &f->e);
    }
    train_finish(other->train);

    assert_ok(learner_step(l, &f->batch, 0, &report, &f->e), &f->e);

    assert_true(report.ratio_max == 1.0f);
    assert_true(report.kl == 0.0f);
    assert_true(report.clipped == 0.0f);
    assert_same_bits(host_grads(l->train)->data, host_grads(other->train)->data,
                     host_grads(l->train)->n_data);
    learner_free(&l);
    learner_free(&other);
}

/* The loss at masters + h * direction (zero outside tensor t). The rate is 0: nothing moves. */
static double loss_at(struct fixture *f, const struct weights *masters,
                      const struct weights_tensor *direction, size_t t, float h, bool imitate,
                      const struct learn_demo *demo)
{
    struct weights *w;
    struct learn_report report;
    struct learner *l;
    double loss;

    assert_ok(weights_new(&w, &f->c, &f->e), &f->e);
    weights_copy(w, masters);
    for (size_t i = 0; i < direction->rows * direction->cols; i++)
        w->tensors[t].data[i] += h * direction->data[i];
    l = learner_of(f, w, NULL, &plain, NULL);
    if (imitate)
        assert_ok(learner_imitate(l, demo, SAMPLES, &report, &f->e), &f->e);
    else
        assert_ok(learner_step(l, &f->batch, 0, &report, &f->e), &f->e);
    loss = (double)report.loss;
    learner_free(&l);
    return loss;
}

/* For every tensor, the slope of the loss along its gradient is the gradient's norm. */
static void assert_gradient_is_slope(struct fixture *f, bool imitate,
                                     const struct learn_demo *demo)
{
    struct learner *l = fresh_learner(f);
    struct weights *masters = l->masters, *g = host_grads(l->train);
    struct learn_report report;

    if (imitate)
        assert_ok(learner_imitate(l, demo, SAMPLES, &report, &f->e), &f->e);
    else
        assert_ok(learner_step(l, &f->batch, 0, &report, &f->e), &f->e);
    for (size_t t = 0; t < g->n_tensors; t++) {
        struct weights_tensor *x = &g->tensors[t];
        double norm = 0.0, up, down, slope;
        size_t n = x->rows * x->cols;
        const double h = 0x1p-9;

        for (size_t i = 0; i < n; i++)
            norm += (double)x->data[i] * (double)x->data[i];
        norm = sqrt(norm);
        assert_true(norm > 1e-4); /* every tensor has a part in the loss */
        for (size_t i = 0; i < n; i++)
            x->data[i] = (float)((double)x->data[i] / norm);
        up = loss_at(f, masters, x, t, (float)h, imitate, demo);
        down = loss_at(f, masters, x, t, (float)-h, imitate, demo);
        slope = (up - down) / (2.0 * h);
        /* The report's loss is a float below 4: rounding of 2.4e-7 each, and log-probabilities
         * of about 4 with errors of some 1e-6 that average out over 33 tokens; over 2h = 2^-8
         * that is 3e-4 at most. Truncation is h^2/6 times a third derivative of order 10. */
        if (fabs(slope - norm) > 3e-4 + 1e-3 * norm) {
            print_error("%s: slope %.7f, norm of the gradient %.7f\n", x->name, slope, norm);
            assert_true(false);
        }
    }
    learner_free(&l);
}

static void step_descends_the_slope_of_its_loss(void **state)
{
    struct fixture *f = *state;
    struct learner *l = fresh_learner(f);
    struct learn_report report;

    f->settings.optimizer.lr = 0.0;
    f->settings.optimizer.weight_decay = 0.0f;
    age(f);
    learner_free(&l);
    l = fresh_learner(f);
    report = walk(f, l, 0, 1);
    assert_true(report.clipped > 0.05f && report.clipped < 0.5f); /* both kinds are in it */
    assert_true(report.ratio_max > 4.0f);
    learner_free(&l);

    assert_gradient_is_slope(f, false, NULL);
}

static void demos_of(const struct fixture *f, struct learn_demo demo[SAMPLES])
{
    for (size_t i = 0; i < SAMPLES; i++)
        demo[i] =
            (struct learn_demo){.tokens = f->tokens[i], .n_prompt = 2, .n = f->sample[i].n};
}

static void imitation_descends_the_slope_of_its_loss(void **state)
{
    struct fixture *f = *state;
    struct learn_demo demo[SAMPLES];

    f->settings.warmup_lr = 0.0;
    f->settings.optimizer.weight_decay = 0.0f;
    demos_of(f, demo);
    assert_gradient_is_slope(f, true, demo);
}

static float bits_float(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Recorded from this program: a change of these bits is a change of the class f32-1. */
static void imitation_walks_the_recorded_curve(void **state)
{
    struct fixture *f = *state;
    static const uint32_t recorded[4] = {0x4064610fu, 0x3f218cc9u, 0x3de3332cu, 0x3cea8f38u};
    static const char *const kernels[] = {"scalar", "avx2"};
    struct learn_demo demo[SAMPLES];

    demos_of(f, demo);
    for (size_t k = 0; k < 2; k++) {
        const struct manner how = {kernels[k], 1, 30, false};
        struct learner *l;
        float curve[4], want[4];

        if (!kernels_available(NUMERICS_F32_1, kernels[k]))
            continue;
        l = learner_of(f, tiny_weights(&f->c, 5), NULL, &how, NULL);
        for (uint64_t i = 0; i <= 60; i++) {
            struct learn_report report;

            assert_ok(learner_imitate(l, demo, SAMPLES, &report, &f->e), &f->e);
            if (i % 20 == 0)
                curve[i / 20] = report.loss;
        }
        learner_free(&l);
        for (size_t i = 0; i < 4; i++)
            want[i] = bits_float(recorded[i]);
        assert_same_bits(curve, want, 4);
        assert_true(curve[0] > 3.0f && curve[3] < 0.3f); /* from chance, log 23, to by heart */
    }
}

/* The answer said token by token is the answer said by where it begins, and an evaluation is the
 * loss that a step reports and does not move. */
static void answers_may_be_marked_and_are_evaluated_alike(void **state)
{
    struct fixture *f = *state;
    struct learn_demo demo[SAMPLES], marked[SAMPLES];
    uint8_t is_answer[SAMPLES][LEN_MAX] = {{0}};
    struct learner *l = fresh_learner(f), *other = fresh_learner(f);
    struct learn_report evaluated, report, same;
    struct roots before = roots_of(l);

    demos_of(f, demo);
    demos_of(f, marked);
    for (size_t i = 0; i < SAMPLES; i++) {
        for (size_t t = demo[i].n_prompt; t < demo[i].n; t++)
            is_answer[i][t] = 1;
        marked[i].is_answer = is_answer[i];
        marked[i].n_prompt = 0;
    }
    assert_ok(learner_evaluate(l, marked, SAMPLES, &evaluated, &f->e), &f->e);
    assert_same_roots(roots_of(l), before);
    assert_ok(learner_imitate(l, marked, SAMPLES, &report, &f->e), &f->e);
    assert_ok(learner_imitate(other, demo, SAMPLES, &same, &f->e), &f->e);

    assert_same_roots(roots_of(l), roots_of(other));
    assert_true(evaluated.loss == report.loss && report.loss == same.loss);
    assert_int_equal(evaluated.n_tokens, same.n_tokens);
    is_answer[0][demo[0].n - 1] = 0;
    assert_ok(learner_evaluate(l, marked, SAMPLES, &report, &f->e), &f->e);
    assert_int_equal(report.n_tokens, same.n_tokens - 1);
    learner_free(&l);
    learner_free(&other);
}

static void published_weights_are_the_masters_rounded_when_the_config_says_so(void **state)
{
    struct fixture *f = *state;
    struct learner *l;
    struct weights *want;
    struct learn_report report;

    f->c.dtype = DTYPE_BF16;
    l = fresh_learner(f);
    score(f, l); /* by the published weights */
    assert_ok(learner_step(l, &f->batch, 0, &report, &f->e), &f->e);

    assert_true(report.ratio_max == 1.0f);
    assert_ok(weights_new(&want, &f->c, &f->e), &f->e);
    weights_copy(want, l->masters);
    weights_round(want, DTYPE_BF16);
    assert_same_bits(learner_published(l)->data, want->data, want->n_data);
    assert_true(memcmp(l->masters->data, want->data, want->n_data * sizeof(float)) != 0);
    weights_free(&want);
    learner_free(&l);
}

static void a_sequence_that_does_not_fit_is_an_error(void **state)
{
    struct fixture *f = *state;
    const struct manner narrow = {"scalar", 1, 10, false};
    struct learner *l = learner_of(f, tiny_weights(&f->c, 5), NULL, &narrow, NULL);
    struct learn_demo demo[SAMPLES];
    struct learn_report report;

    demos_of(f, demo);
    assert_status(learner_step(l, &f->batch, 0, &report, &f->e), ERR_LIMIT, NULL);
    assert_contains(f->e.text, "12 tokens does not fit 10 rows");
    assert_status(learner_imitate(l, demo, SAMPLES, &report, &f->e), ERR_LIMIT, NULL);
    learner_free(&l);
}

static void weights_that_are_no_numbers_are_an_error(void **state)
{
    struct fixture *f = *state;
    struct weights *w = tiny_weights(&f->c, 5);
    struct learner *l;
    struct learn_report report;

    w->norm[0] = INFINITY;
    l = learner_of(f, w, NULL, &plain, NULL);
    assert_status(learner_step(l, &f->batch, 0, &report, &f->e), ERR_NUMERIC, NULL);
    learner_free(&l);
}

static void the_rate_rises_and_then_falls_as_the_schedule_says(void **state)
{
    struct fixture *f = *state;
    struct learn_settings s = f->settings;

    s.optimizer.lr = 1.0;
    s.optimizer.lr_end = 0.5;
    s.optimizer.warm_steps = 4;
    s.optimizer.total_steps = 12;
    for (int schedule = LEARN_CONSTANT; schedule <= LEARN_COSINE; schedule++) {
        s.optimizer.schedule = (enum learn_schedule)schedule;
        assert_true(learn_rate(&s, 0) == 0.25f);
        assert_true(learn_rate(&s, 3) == 1.0f);
        assert_true(learn_rate(&s, 4) == 1.0f);
    }
    s.optimizer.schedule = LEARN_CONSTANT;
    assert_true(learn_rate(&s, 1000) == 1.0f);
    s.optimizer.schedule = LEARN_LINEAR;
    assert_true(learn_rate(&s, 8) == 0.75f);
    assert_true(learn_rate(&s, 12) == 0.5f);
    assert_true(learn_rate(&s, 1000) == 0.5f);
    s.optimizer.schedule = LEARN_COSINE;
    /* cos(pi/2) of a rounded pi/2 is 6e-17, and is lost beside 1. */
    assert_true(learn_rate(&s, 8) == 0.75f);
    assert_true(learn_rate(&s, 6) == (float)(0.5 + 0.25 * (1.0 + sqrt(0.5))));
    assert_true(learn_rate(&s, 12) == 0.5f);
}

static void every_setting_is_in_the_digest(void **state)
{
    struct fixture *f = *state;
    struct digest plain_digest, d;

    learn_settings_digest(&plain_digest, &f->settings);
#define DIFFERS(member, value)                                                                 \
    do {                                                                                       \
        struct learn_settings s = f->settings;                                                 \
        s.member = (value);                                                                    \
        learn_settings_digest(&d, &s);                                                         \
        assert_false(digest_equal(&d, &plain_digest));                                         \
    } while (0)
    DIFFERS(loss.clip_eps, 0.25f);
    DIFFERS(loss.delta, 3.0f);
    DIFFERS(loss.log_ratio_max, 10.0f);
    DIFFERS(temperature, 0.9f);
    DIFFERS(optimizer.lr, 1.0000000000000002e-2);
    DIFFERS(optimizer.lr_end, 0.2);
    DIFFERS(optimizer.beta1, 0.8f);
    DIFFERS(optimizer.beta2, 0.9f);
    DIFFERS(optimizer.eps, 1e-7f);
    DIFFERS(optimizer.weight_decay, 0.0f);
    DIFFERS(optimizer.clip_norm, 2.0f);
    DIFFERS(optimizer.schedule, LEARN_COSINE);
    DIFFERS(optimizer.warm_steps, 1);
    DIFFERS(optimizer.total_steps, 1);
    DIFFERS(warmup_lr, 1e-3);
    DIFFERS(grad_lanes, 2);
#undef DIFFERS
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_manner_of_running_gives_the_same_bits),
        CASE(a_learner_resumed_from_a_checkpoint_goes_on_with_the_same_bits),
        CASE(an_empty_batch_changes_nothing),
        CASE(without_lag_the_gradient_is_that_of_reinforce),
        CASE(step_descends_the_slope_of_its_loss),
        CASE(imitation_descends_the_slope_of_its_loss),
        CASE(imitation_walks_the_recorded_curve),
        CASE(answers_may_be_marked_and_are_evaluated_alike),
        CASE(published_weights_are_the_masters_rounded_when_the_config_says_so),
        CASE(a_sequence_that_does_not_fit_is_an_error),
        CASE(weights_that_are_no_numbers_are_an_error),
        CASE(the_rate_rises_and_then_falls_as_the_schedule_says),
        CASE(every_setting_is_in_the_digest),
    };
    return cmocka_run_group_tests_name("learn/learner", tests, NULL, NULL);
}
