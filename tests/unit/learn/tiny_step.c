#include "tiny_step.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/kernels.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"

static struct weights *copy(const struct weights *w)
{
    struct weights *to;
    struct err e;

    assert_ok(weights_new(&to, &w->config, &e), &e);
    weights_copy(to, w);
    return to;
}

static struct adamw *copy_opt(const struct adamw *opt)
{
    struct adamw *to;
    struct err e;

    assert_ok(adamw_new(&to, &opt->m->config, &e), &e);
    weights_copy(to->m, opt->m);
    weights_copy(to->v, opt->v);
    to->step = opt->step;
    return to;
}

static void fill_moments(struct adamw *opt)
{
    struct rng r = rng_of(8, 8);

    opt->step = TINY_STEP - 1;
    for (size_t i = 0; i < opt->m->n_data; i++) {
        opt->m->data[i] = 0.01f * (rng_f32(&r) - 0.5f);
        opt->v->data[i] = 0.001f * rng_f32(&r);
    }
}

static struct learner *learner_of(const struct tiny_step *s, size_t max_rows)
{
    const struct learner_options o = {.kernels = kernels_best(), .max_rows = max_rows};
    struct weights *w = copy(s->masters);
    struct adamw *opt = copy_opt(s->opt);
    struct learner *l;
    struct err e;

    assert_ok(learner_new(&l, &w, &opt, &s->settings, &o, &e), &e);
    return l;
}

/* Log-probabilities of the policy as it is, moved by up to two: past both sides of the clip. */
static void score(struct tiny_step *s, struct learner *l)
{
    static const float log_ratio[6] = {-0.375f, -0.09375f, 0.0f, 0.0625f, 0.375f, 2.0f};
    struct rng r = rng_of(3, 9);

    for (size_t i = 0; i < s->batch.n_samples; i++) {
        const struct learn_sample *x = &s->batch.sample[i];
        size_t rows = x->n - 1;
        int32_t *targets = xcalloc(rows, sizeof(*targets));
        const struct train_batch b = {.tokens = x->tokens,
                                      .targets = targets,
                                      .lengths = &rows,
                                      .n_seqs = 1,
                                      .rows = rows,
                                      .temperature = s->settings.temperature};
        struct err e;

        for (size_t t = 0; t < rows; t++)
            targets[t] = x->tokens[t + 1];
        assert_ok(train_forward(l->train, &b, (float *)x->logprobs + 1, &e), &e);
        for (size_t t = 0; t < x->n; t++)
            ((float *)x->logprobs)[t] -= log_ratio[rng_below(&r, 6)];
        free(targets);
    }
}

static void make_sample(struct tiny_step *s, size_t i, size_t n)
{
    int32_t *tokens = xcalloc(n, sizeof(*tokens));
    uint8_t *mask = xcalloc(n, 1);

    tiny_tokens(tokens, n, &s->c, 100 + i);
    for (size_t t = 2; t < n && i != 1; t++)
        mask[t] = t != 5; /* token 5 is the environment's; sample 1 has none of its own */
    s->batch.sample[i] = (struct learn_sample){.tokens = tokens,
                                               .logprobs = xcalloc(n, sizeof(float)),
                                               .mask = mask,
                                               .n = n,
                                               .advantage = i % 2 ? -0.5f : 0.25f,
                                               .unit = i / 2};
    for (size_t t = 0; t < n; t++)
        s->batch.n_tokens += mask[t];
}

void tiny_step_init(struct tiny_step *s, const struct model_config *c, size_t n_samples,
                    size_t longest)
{
    struct learner *l;
    struct err e;

    memset(s, 0, sizeof(*s));
    s->c = *c;
    s->settings = (struct learn_settings){
        .loss = {.clip_eps = 0.2f, .delta = 4.0f, .log_ratio_max = 20.0f},
        .temperature = 0.8f,
        .optimizer = {.lr = 1e-2,
                      .lr_end = 0.1,
                      .beta1 = 0.9f,
                      .beta2 = 0.99f,
                      .eps = 1e-8f,
                      .weight_decay = 0.01f,
                      .clip_norm = 0.1f},
        .grad_lanes = 1,
    };
    s->batch.sample = xcalloc(n_samples, sizeof(*s->batch.sample));
    s->batch.n_samples = n_samples;
    for (size_t i = 0; i < n_samples; i++)
        make_sample(s, i, i == 0 ? longest : 2 + (7 * i + 5) % (longest - 1));
    s->masters = tiny_weights(c, 5);
    assert_ok(adamw_new(&s->opt, c, &e), &e);
    fill_moments(s->opt);
    l = learner_of(s, longest);
    score(s, l);
    learner_free(&l);
}

void tiny_step_clear(struct tiny_step *s)
{
    for (size_t i = 0; i < s->batch.n_samples; i++) {
        free((void *)s->batch.sample[i].tokens);
        free((void *)s->batch.sample[i].logprobs);
        free((void *)s->batch.sample[i].mask);
    }
    free(s->batch.sample);
    weights_free(&s->masters);
    adamw_free(&s->opt);
}

struct graph *tiny_step_graph(const struct tiny_step *s)
{
    struct graph *g;
    struct err e;

    assert_ok(graph_new(&g, &s->c, &s->settings, NUMERICS_F32_1, &s->batch, TINY_STEP,
                        s->opt->step, &e),
              &e);
    return g;
}

void tiny_step_roots(const struct tiny_step *s, struct digest *masters,
                     struct digest *optimizer)
{
    struct learner *l = learner_of(s, 2048);
    struct learn_report report;
    struct err e;

    assert_ok(learner_step(l, &s->batch, TINY_STEP, &report, &e), &e);
    assert_ok(learner_roots(l, masters, optimizer, &e), &e);
    learner_free(&l);
}
