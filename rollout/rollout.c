#include "rollout/rollout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "rollout/generate.h"

void rollout_unit_init(struct rollout_unit *u, uint64_t unit, uint64_t lease)
{
    memset(u, 0, sizeof(*u));
    u->unit = unit;
    u->lease = lease;
    buf_init(&u->body, MSG_MAX_BYTES);
    buf_init(&u->opening, MSG_MAX_BYTES);
}

void rollout_unit_clear(struct rollout_unit *u)
{
    buf_clear(&u->body);
    buf_clear(&u->opening);
}

static enum status group_of_unit(struct group *g, const struct rollout_world *w, uint64_t unit,
                                 struct err *e)
{
    const struct env_problem problem = {
        .index = plan_task_index(&w->plan, unit),
        .seed = plan_env_seed(&w->plan, unit),
        .split = ENV_TRAIN,
    };
    uint64_t seed[MSG_MAX_SAMPLES];
    size_t n = (size_t)w->task->sampling.group;

    CHECK(n <= MSG_MAX_SAMPLES);
    for (size_t s = 0; s < n; s++)
        seed[s] = plan_sample_seed(&w->plan, unit, (uint32_t)s);
    return group_init(g, w, unit, &problem, seed, n, e);
}

static void sample_of_episode(struct msg_sample *s, const struct episode *ep, float reward)
{
    s->tokens = (struct bytes){(const uint8_t *)ep->tokens, ep->n * sizeof(*ep->tokens)};
    s->logprobs = (struct bytes){(const uint8_t *)ep->logprobs, ep->n * sizeof(*ep->logprobs)};
    s->mask = (struct bytes){ep->mask, ep->n_sampled < ep->n ? ep->n : 0};
    s->reward = reward;
    s->finish = (uint32_t)ep->finish;
}

static enum status encode_unit(struct rollout_unit *u, const struct rollout_world *w,
                               const struct group *g, struct err *e)
{
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    float sum = 0.0f;
    enum status st;

    m->unit = u->unit;
    m->lease = u->lease;
    m->version = w->version;
    m->task = w->task_id;
    m->weights = w->weights;
    snprintf(m->numerics, sizeof(m->numerics), "%s", numerics_name(w->numerics));
    m->prompt = (struct bytes){(const uint8_t *)g->prompt.ids, g->prompt.n * sizeof(int32_t)};
    m->n_samples = (uint32_t)g->n_samples;
    for (size_t s = 0; s < g->n_samples; s++) {
        sample_of_episode(&m->sample[s], &g->episode[s], g->reward[s]);
        sum += g->reward[s];
    }
    buf_reset(&u->body);
    buf_reset(&u->opening);
    st = g->prover ? prover_open(&u->opening, m, g->prover, e) : OK;
    submission_root(&m->root, m);
    if (!st)
        st = msg_submit_encode(&u->body, m, e);
    u->tokens = g->tokens;
    u->reward_mean = sum / (float)g->n_samples;
    free(m);
    return st;
}

enum status rollout_generate(const struct rollout_world *w, struct rollout_unit *units,
                             size_t n, rollout_progress *progress, void *progress_arg,
                             struct err *e)
{
    struct group *groups = xcalloc(n, sizeof(*groups));
    size_t n_made = 0;
    enum status st = OK;

    for (; !st && n_made < n; n_made++) {
        st = group_of_unit(&groups[n_made], w, units[n_made].unit, e);
        if (st)
            break;
    }
    if (!st)
        st = groups_generate(w, groups, n, (float)w->task->sampling.temperature,
                             opening_is_wanted(numerics_name(w->numerics)), progress,
                             progress_arg, e);
    for (size_t i = 0; !st && i < n; i++)
        st = encode_unit(&units[i], w, &groups[i], e);
    for (size_t i = 0; i < n_made; i++)
        group_clear(&groups[i]);
    free(groups);
    return st;
}

void rollout_sample_clear(struct rollout_sample *s)
{
    buf_clear(&s->prompt);
    buf_clear(&s->completion);
}

/* Prompt and all that was said after it, as a person would read it. */
static enum status tell_sample(struct rollout_sample *s, const struct rollout_world *w,
                               const struct group *g, struct err *e)
{
    const struct episode *ep = &g->episode[0];
    enum status st;

    buf_init(&s->prompt, ENV_TEXT_MAX_BYTES);
    buf_init(&s->completion, ENV_TEXT_MAX_BYTES);
    buf_append(&s->prompt, buf_bytes(&g->prompt.text));
    for (size_t i = 0; i < ep->n_messages; i++)
        buf_append(&s->completion, ep->message[i].text);
    s->reward = g->reward[0];
    s->tokens = ep->n_sampled;
    st = env_score(w->env, &g->prompt.problem, ep->message, ep->n_messages, &s->score, e);
    if (st)
        rollout_sample_clear(s);
    return st;
}

enum status rollout_evaluate(const struct rollout_world *w, size_t n, float temperature,
                             float *reward_mean, struct rollout_sample *samples,
                             size_t n_samples, struct err *e)
{
    struct group *groups = xcalloc(n, sizeof(*groups));
    size_t n_made = 0, n_told = 0;
    double sum = 0.0;
    enum status st = OK;

    CHECK(n > 0);
    for (; n_made < n; n_made++) {
        const struct env_problem problem = {
            .index = plan_heldout_index(&w->plan, n_made),
            .seed = plan_heldout_seed(&w->plan, n_made),
            .split = ENV_HELDOUT,
        };
        st = group_init(&groups[n_made], w, n_made, &problem, &problem.seed, 1, e);
        if (st)
            break;
    }
    if (!st)
        st = groups_generate(w, groups, n, temperature, false, NULL, NULL, e);
    for (size_t i = 0; !st && i < n; i++) {
        sum += (double)groups[i].reward[0];
        if (samples && i < n_samples)
            st = tell_sample(&samples[i], w, &groups[i], e);
        n_told += !st && samples && i < n_samples;
    }
    for (size_t i = 0; st && i < n_told; i++)
        rollout_sample_clear(&samples[i]);
    *reward_mean = st ? 0.0f : (float)(sum / (double)n);
    for (size_t i = 0; i < n_made; i++)
        group_clear(&groups[i]);
    free(groups);
    return st;
}
