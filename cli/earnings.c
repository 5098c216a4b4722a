#include "cli/earnings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/device.h"
#include "engine/sampler.h"
#include "learn/learner.h"

#define PREFILL_ROWS 512u  /* of a prompt at most, at once */
#define TRAIN_ROWS   1024u /* of a micro-batch, as the trainer takes them */
#define SEED         1u

/* A unit of this task as long as it may be. */
struct unit {
    size_t group, prompt, answer; /* samples; tokens of each */
};

static struct unit longest_unit(const struct task *t)
{
    struct unit u = {.group = (size_t)t->sampling.group};
    size_t all = (size_t)t->model.max_len;

    u.answer = (size_t)t->sampling.max_new_tokens * (size_t)t->environment.turns;
    if (u.answer > all - 1)
        u.answer = all - 1;
    u.prompt = all - u.answer;
    return u;
}

static double seconds_since(int64_t start_us)
{
    return (double)(clock_mono_us() - start_us) * 1e-6;
}

/* What is measured with. Either the learner, whose model samples too, or the model alone. */
struct subject {
    const struct task *task;
    const struct kernels *kernels; /* borrowed */
    struct unit unit;
    struct weights *weights; /* owned, unless the learner has them */
    struct learner *learner; /* owned, or NULL */
    struct model *alone;     /* owned, or NULL */
    struct model *model;     /* one of theirs */
    size_t vocab;
    double seconds;  /* for each figure */
    int32_t *tokens; /* owned: enough of them for any sequence */
};

static void clear(struct subject *s)
{
    learner_free(&s->learner);
    model_free(&s->alone);
    weights_free(&s->weights);
    free(s->tokens);
}

/* What only the model takes; then *why_no_train says why the rest is not there. */
static enum status plan(const struct subject *s, const struct model_config *c,
                        const struct learn_settings *settings, const struct learner_options *lo,
                        char why_no_train[160], struct err *e)
{
    const struct device *d = kernels_device(lo->kernels);
    const uint64_t free_bytes = device_free_bytes(d);
    const size_t n_slots = EARNINGS_UNITS * s->unit.group;
    const uint64_t sampling = kv_cache_bytes(c, lo->kernels, n_slots, c->max_len) +
                              n_slots * ((uint64_t)c->vocab + c->dim) * sizeof(float);
    uint64_t all = d ? learner_bytes_there(c, settings, lo) : learner_bytes(c, settings, lo);
    uint64_t least =
        model_bytes(c, lo->kernels, 0) + model_config_params(c) * sizeof(float) + sampling;

    all = all > UINT64_MAX - sampling ? UINT64_MAX : all + sampling;
    why_no_train[0] = 0;
    if (all <= free_bytes)
        return OK;
    snprintf(why_no_train, 160, "training takes %" PRIu64 " MiB, %" PRIu64 " MiB are free",
             (all >> 20) + 1, free_bytes >> 20);
    if (least <= free_bytes)
        return OK;
    return err_set(e, ERR_LIMIT,
                   "the model takes %" PRIu64 " MiB, more than the %" PRIu64 " MiB free",
                   (least >> 20) + 1, free_bytes >> 20);
}

static enum status make_subject(struct subject *s, const struct model_config *c,
                                const struct kernels *k, struct pool *pool,
                                char why_no_train[160], struct err *e)
{
    const struct learn_settings settings = {
        .temperature = 1.0f,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip_norm = 1.0f},
        .warmup_lr = 1e-4,
        .grad_lanes = (uint32_t)s->task->algorithm.grad_lanes,
    };
    const struct learner_options lo = {
        .kernels = k,
        .pool = pool,
        .max_rows = c->max_len > TRAIN_ROWS ? c->max_len : TRAIN_ROWS,
    };
    const struct model_options mo = {.kernels = k, .pool = pool};
    enum status st = plan(s, c, &settings, &lo, why_no_train, e);

    s->vocab = c->vocab;
    if (!st)
        st = alloc_array(&s->tokens, c->max_len, sizeof(*s->tokens), "tokens", e);
    if (!st)
        st = weights_new(&s->weights, c, e);
    if (st)
        return st;
    for (size_t i = 0; i < c->max_len; i++)
        s->tokens[i] = (int32_t)(i * 7919 % c->vocab);
    weights_init_random(s->weights, SEED);
    if (why_no_train[0]) {
        st = model_new(&s->alone, s->weights, &mo, e);
        s->model = s->alone;
        return st;
    }
    st = learner_new(&s->learner, &s->weights, NULL, &settings, &lo, e);
    s->model = st ? NULL : train_model(s->learner->train);
    return st;
}

/* ---- the figures ----------------------------------------------------------------------------- */

/* Rows of one prompt, the fastest pass. */
static enum status measure_prefill(double *rate, const struct subject *s, struct err *e)
{
    const struct model_config *c = model_config(s->model);
    size_t n = s->unit.prompt + s->unit.answer - 1;
    struct model_run run = {.n = n < PREFILL_ROWS ? n : PREFILL_ROWS, .n_out = 1};
    int64_t start = clock_mono_us();
    struct kv_cache *kv = NULL;
    float *hidden = NULL;
    enum status st = alloc_array(&hidden, c->dim, sizeof(*hidden), "hidden states", e);

    *rate = 0.0;
    if (!st)
        st = kv_cache_new(&kv, c, s->kernels, 1, run.n, 0, e);
    do {
        int64_t pass = clock_mono_us();

        if (!st)
            st = model_forward(s->model, kv, hidden, &run, 1, s->tokens, e);
        double r = (double)run.n / (seconds_since(pass) + 1e-9);
        *rate = r > *rate ? r : *rate;
    } while (!st && seconds_since(start) < s->seconds);
    kv_cache_free(&kv);
    free(hidden);
    return st;
}

static enum status add_units(struct sampler *sampler, const struct subject *s, struct err *e)
{
    uint64_t seeds[64];
    struct sampler_request r = {.prompt = s->tokens,
                                .n_prompt = s->unit.prompt,
                                .seeds = seeds,
                                .n_samples = s->unit.group,
                                .temperature = (float)s->task->sampling.temperature,
                                .max_new = s->unit.answer};
    enum status st = OK;

    for (uint64_t u = 0; !st && u < EARNINGS_UNITS; u++) {
        for (size_t i = 0; i < s->unit.group; i++)
            seeds[i] = SEED + u * s->unit.group + i;
        r.tag = u;
        st = sampler_add(sampler, &r, e);
    }
    return st;
}

static void count_token(void *ctx, const struct sampler_token *t)
{
    (void)t;
    ++*(uint64_t *)ctx;
}

/* Tokens of units that are decoded together; steps that also compute prompts are left out. */
static enum status measure_decode(double *rate, const struct subject *s, struct err *e)
{
    uint64_t n_tokens = 0, counted = 0;
    const struct sampler_options o = {.n_slots = EARNINGS_UNITS * s->unit.group,
                                      .max_len = s->unit.prompt + s->unit.answer,
                                      .on_token = count_token,
                                      .ctx = &n_tokens};
    int64_t start = clock_mono_us();
    double spent = 0.0, most = 4.0 * s->seconds;
    struct sampler *sampler = NULL;
    enum status st = sampler_new(&sampler, s->model, &o, e);

    while (!st && spent < s->seconds && (seconds_since(start) < most || counted == 0)) {
        uint64_t computed, before = n_tokens;

        if (sampler_active(sampler) == 0)
            st = add_units(sampler, s, e);
        computed = sampler_stats(sampler).computed;
        int64_t step = clock_mono_us();
        if (!st)
            st = sampler_step(sampler, e);
        if (sampler_stats(sampler).computed != computed && s->unit.answer > 1)
            continue;
        spent += seconds_since(step);
        counted += n_tokens - before;
    }
    *rate = spent > 0.0 ? (double)counted / spent : 0.0;
    sampler_free(&sampler);
    return st;
}

/* One supervised step of n sequences of `len` tokens. */
static enum status step_seconds(double *seconds, const struct subject *s, size_t n, size_t len,
                                struct err *e)
{
    struct learn_demo *demo = NULL;
    struct learn_report report;
    enum status st = alloc_array(&demo, n, sizeof(*demo), "sequences", e);
    int64_t start;

    for (size_t i = 0; !st && i < n; i++)
        demo[i] = (struct learn_demo){.tokens = s->tokens, .n_prompt = 1, .n = len};
    start = clock_mono_us();
    if (!st)
        st = learner_imitate(s->learner, demo, n, &report, e);
    *seconds = seconds_since(start);
    free(demo);
    return st;
}

/* A short step and a longer one: what grows with the rows, and what does not. */
static enum status measure_train(struct earnings_rates *r, const struct subject *s,
                                 struct err *e)
{
    size_t all = s->unit.prompt + s->unit.answer, len = all < 33 ? all : 33, n;
    double first, second;
    enum status st = step_seconds(&first, s, 1, len, e); /* memory is touched */

    if (!st && first < s->seconds / 4)
        st = step_seconds(&first, s, 1, len, e);
    if (st)
        return st;
    n = first < s->seconds / 2 ? (size_t)(s->seconds / first) : 1;
    if (n > TRAIN_ROWS / (len - 1))
        n = TRAIN_ROWS / (len - 1);
    r->train = (double)(len - 1) / first;
    r->step_seconds = 0.0;
    if (n < 2)
        return OK;
    st = step_seconds(&second, s, n, len, e);
    if (st)
        return st;
    r->train = (double)(n * (len - 1)) / second;
    if (second > first) {
        double each = (second - first) / (double)((n - 1) * (len - 1));

        r->train = 1.0 / each;
        r->step_seconds = first - each * (double)(len - 1);
        r->step_seconds = r->step_seconds > 0.0 ? r->step_seconds : 0.0;
    }
    return OK;
}

enum status earnings_measure(struct earnings_rates *r, const struct task *t,
                             const struct model_config *c, const struct kernels *k,
                             struct pool *pool, double seconds, struct err *e)
{
    struct subject s = {.task = t, .kernels = k, .unit = longest_unit(t), .seconds = seconds};
    enum status st;

    memset(r, 0, sizeof(*r));
    st = make_subject(&s, c, k, pool, r->why_no_train, e);
    if (!st)
        st = measure_prefill(&r->prefill, &s, e);
    if (!st)
        st = measure_decode(&r->decode, &s, e);
    if (!st && s.learner)
        st = measure_train(r, &s, e);
    clear(&s);
    return st;
}

/* ---- money ----------------------------------------------------------------------------------- */

struct earnings earnings_of(const struct task *t, const char *numerics,
                            const struct earnings_rates *r)
{
    const struct unit u = longest_unit(t);
    int64_t price = task_price(t, numerics);
    double sampled = (double)(u.group * u.answer);
    double rows = sampled + (double)(u.group * (u.prompt - 1));
    struct earnings x = {-1.0, -1.0, -1.0};

    if (price <= 0)
        return x;
    if (r->decode > 0.0 && r->prefill > 0.0) {
        x.inference = 3600.0 / ((double)u.prompt / r->prefill + sampled / r->decode) * sampled *
                      (double)price;
        x.verifier =
            3600.0 / (((double)u.prompt + sampled) / r->prefill) * (double)t->budget.fee_full;
    }
    if (r->train > 0.0)
        x.trainer = 3600.0 /
                    (r->step_seconds + rows * (double)t->algorithm.units_per_batch / r->train) *
                    (double)t->budget.price_step;
    return x;
}
