#include "learn/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"

#define PI 3.14159265358979323846

float learn_rate(const struct learn_settings *s, uint64_t step)
{
    uint64_t warm = s->optimizer.warm_steps;
    double lr = s->optimizer.lr, end = s->optimizer.lr_end;
    double done;

    if (step < warm)
        return (float)(lr * (double)(step + 1) / (double)warm);
    if (s->optimizer.schedule == LEARN_CONSTANT || s->optimizer.total_steps <= warm)
        return (float)lr;
    done = (double)(step - warm) / (double)(s->optimizer.total_steps - warm);
    done = done < 1.0 ? done : 1.0;
    if (s->optimizer.schedule == LEARN_LINEAR)
        return (float)(lr * (1.0 + (end - 1.0) * done));
    return (float)(lr * (end + (1.0 - end) * 0.5 * (1.0 + cos_f64(PI * done))));
}

/* Refreshes the published weights of the host. */
static void publish(struct learner *l)
{
    if (l->published) {
        weights_copy(l->published, l->masters);
        weights_round(l->published, l->masters->config.dtype);
    }
}

enum status learner_fetch(struct learner *l, struct err *e)
{
    enum status st;

    if (!l->is_behind)
        return OK;
    st = train_fetch(l->train, l->opt, l->masters, e);
    if (st)
        return st;
    publish(l);
    l->is_behind = false;
    return OK;
}

enum status learner_restart(struct learner *l, struct err *e)
{
    struct adamw *opt = NULL;
    enum status st = learner_fetch(l, e);

    if (!st)
        st = adamw_new(&opt, &l->masters->config, e);
    if (st)
        return st;
    train_forget_optimizer(l->train);
    adamw_free(&l->opt);
    l->opt = opt;
    return OK;
}

static uint32_t levels_of(const struct learn_settings *s, const struct learner_options *options)
{
    return lanes_levels(s->grad_lanes, options->crew ? options->crew->n_processes : 1);
}

uint64_t learner_bytes_there(const struct model_config *c,
                             const struct learn_settings *settings,
                             const struct learner_options *options)
{
    uint64_t train = train_bytes(c, options->kernels, options->max_rows, options->recompute);
    uint64_t lanes = lanes_bytes(c, levels_of(settings, options));

    return train > UINT64_MAX - lanes ? UINT64_MAX : train + lanes;
}

uint64_t learner_bytes(const struct model_config *c, const struct learn_settings *settings,
                       const struct learner_options *options)
{
    uint64_t there = learner_bytes_there(c, settings, options);
    uint64_t state = model_config_params(c) * sizeof(float) * (c->dtype == DTYPE_F32 ? 3 : 4);

    return there > UINT64_MAX - state ? UINT64_MAX : there + state;
}

enum status learner_new(struct learner **out, struct weights **masters, struct adamw **opt,
                        const struct learn_settings *settings,
                        const struct learner_options *options, struct err *e)
{
    struct learner *l = xcalloc(1, sizeof(*l));
    enum status st = OK;

    CHECK(lanes_is_count(settings->grad_lanes));
    *out = NULL;
    l->settings = *settings;
    l->options = *options;
    l->masters = *masters;
    l->opt = opt ? *opt : NULL;
    *masters = NULL;
    if (opt)
        *opt = NULL;
    if (!l->opt)
        st = adamw_new(&l->opt, &l->masters->config, e);
    if (!st && l->masters->config.dtype != DTYPE_F32)
        st = weights_new(&l->published, &l->masters->config, e);
    if (!st) {
        publish(l);
        const struct train_options topt = {
            .kernels = options->kernels,
            .pool = options->pool,
            .max_rows = options->max_rows,
            .max_bytes = options->max_bytes,
            .recompute = options->recompute,
        };
        st = train_new(&l->train, learner_published(l), &topt, e);
    }
    if (!st)
        st = lanes_new(&l->lanes, l->train, options->kernels, options->max_rows,
                       levels_of(settings, options), e);
    if (st)
        learner_free(&l);
    *out = l;
    return st;
}

void learner_free(struct learner **l)
{
    if (!*l)
        return;
    lanes_free(&(*l)->lanes);
    train_free(&(*l)->train);
    adamw_free(&(*l)->opt);
    weights_free(&(*l)->published);
    weights_free(&(*l)->masters);
    free(*l);
    *l = NULL;
}

const struct weights *learner_published(const struct learner *l)
{
    return l->published ? l->published : l->masters;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static enum status take_step(struct learner *l, float lr, struct learn_report *report,
                             struct err *e)
{
    const struct adamw_settings s = {
        .lr = lr,
        .beta1 = l->settings.optimizer.beta1,
        .beta2 = l->settings.optimizer.beta2,
        .eps = l->settings.optimizer.eps,
        .weight_decay = l->settings.optimizer.weight_decay,
        .clip_norm = l->settings.optimizer.clip_norm,
    };
    struct adamw_report a = {0};
    enum status st;

    st = train_update(l->train, l->opt, l->masters, &s, &a, e);
    l->is_behind = true;
    if (!st && !l->options.is_lazy)
        st = learner_fetch(l, e);
    if (!st)
        st = train_publish(l->train, learner_published(l), e);
    if (st)
        return st;
    report->grad_norm = a.grad_norm;
    report->lr = lr;
    return OK;
}

/* The gradient of all lanes, and their sums one after the other. */
static enum status gradient(struct learner *l, const struct learn_work *w,
                            struct learn_tally *sum, struct err *e)
{
    const struct learn_crew *crew = l->options.crew;
    struct learn_tally t[LANES_MAX];
    enum status st = crew ? learner_fetch(l, e) : OK; /* the others are handed the host's */

    memset(sum, 0, sizeof(*sum));
    if (!st)
        st = crew ? crew->gradient(crew->ctx, l->lanes, learner_published(l), w, t, e)
                  : lanes_gradient(l->lanes, w, 0, w->n_lanes, t, e);
    for (uint32_t i = 0; !st && i < w->n_lanes; i++) {
        sum->objective += t[i].objective;
        sum->kl += t[i].kl;
        sum->n_clipped += t[i].n_clipped;
        sum->ratio_max = t[i].ratio_max > sum->ratio_max ? t[i].ratio_max : sum->ratio_max;
    }
    return st;
}

static void report_policy(struct learn_report *r, const struct learn_tally *t, uint64_t n)
{
    r->loss = (float)(-t->objective / (double)n);
    r->kl = (float)(t->kl / (double)n);
    r->ratio_max = t->ratio_max;
    r->clipped = (float)((double)t->n_clipped / (double)n);
}

static enum status tamper(struct learner *l, struct err *e)
{
    struct weights *grads;
    enum status st = train_grads(&grads, l->train, e);

    if (st)
        return st;
    l->options.tamper(grads);
    train_grads_set(l->train, grads);
    return OK;
}

enum status learner_step(struct learner *l, const struct learn_batch *b, uint64_t step,
                         struct learn_report *report, struct err *e)
{
    struct learn_work w = {.n_seqs = b->n_samples,
                           .n_tokens = b->n_tokens,
                           .n_lanes = l->settings.grad_lanes,
                           .temperature = l->settings.temperature,
                           .loss = l->settings.loss};
    struct learn_seq *seq;
    struct learn_tally t;
    enum status st;

    memset(report, 0, sizeof(*report));
    report->reward_mean = b->reward_mean;
    report->n_tokens = b->n_tokens;
    if (!b->n_samples || !b->n_tokens)
        return OK;
    st = alloc_array(&seq, b->n_samples, sizeof(*seq), "the sequences of a step", e);
    if (st)
        return st;
    for (size_t i = 0; i < b->n_samples; i++) {
        const struct learn_sample *s = &b->sample[i];

        seq[i] = (struct learn_seq){.tokens = s->tokens,
                                    .is_target = s->mask,
                                    .n = s->n,
                                    .logprobs = s->logprobs,
                                    .advantage = s->advantage};
    }
    w.seq = seq;
    st = gradient(l, &w, &t, e);
    free(seq);
    if (st)
        return st;
    if (l->options.tamper)
        st = tamper(l, e);
    if (st)
        return st;
    report_policy(report, &t, b->n_tokens);
    if (!isfinite(report->loss))
        return err_set(e, ERR_NUMERIC, "the loss of step %llu is not finite",
                       (unsigned long long)step);
    return take_step(l, learn_rate(&l->settings, step), report, e);
}

static uint64_t count_targets(const struct learn_demo *demo, size_t n)
{
    uint64_t count = 0;

    for (size_t i = 0; i < n; i++)
        if (!demo[i].is_answer)
            count += demo[i].n - demo[i].n_prompt;
        else
            for (size_t t = 1; t < demo[i].n; t++)
                count += demo[i].is_answer[t] == 1;
    return count;
}

/* All demonstrations: fills in loss and n_tokens of the report. */
static enum status run_demos(struct learner *l, const struct learn_demo *demo, size_t n,
                             bool is_step, struct learn_report *report, struct err *e)
{
    struct learn_work w = {.n_seqs = n,
                           .n_tokens = count_targets(demo, n),
                           .n_lanes = l->settings.grad_lanes,
                           .temperature = 1.0f,
                           .is_imitation = true};
    struct learn_seq *seq = NULL;
    struct learn_tally t;
    enum status st;

    memset(report, 0, sizeof(*report));
    if (!w.n_tokens)
        return err_set(e, ERR_INVALID, "demonstrations without an answer");
    st = alloc_array(&seq, n, sizeof(*seq), "the sequences of a step", e);
    if (st)
        return st;
    for (size_t i = 0; i < n; i++)
        seq[i] = (struct learn_seq){.tokens = demo[i].tokens,
                                    .is_target = demo[i].is_answer,
                                    .n = demo[i].n,
                                    .from = demo[i].n_prompt};
    w.seq = seq;
    st = is_step ? gradient(l, &w, &t, e) : lanes_evaluate(l->lanes, &w, &t, e);
    free(seq);
    if (st)
        return st;
    report->loss = (float)(-t.objective / (double)w.n_tokens);
    report->n_tokens = w.n_tokens;
    if (!isfinite(report->loss))
        return err_set(e, ERR_NUMERIC, "the loss of a supervised step is not finite");
    return OK;
}

enum status learner_imitate(struct learner *l, const struct learn_demo *demo, size_t n,
                            struct learn_report *report, struct err *e)
{
    enum status st = run_demos(l, demo, n, true, report, e);

    return st ? st : take_step(l, (float)l->settings.warmup_lr, report, e);
}

enum status learner_evaluate(struct learner *l, const struct learn_demo *demo, size_t n,
                             struct learn_report *report, struct err *e)
{
    return run_demos(l, demo, n, false, report, e);
}
