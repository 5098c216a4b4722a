#include "rollout/restate.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/ops.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "rollout/check_inside.h"
#include "rollout/prefill.h"
#include "rollout/prover.h"

enum status restate_prompt(const struct rollout_world *w, uint64_t unit, struct buf *ids,
                           struct err *e)
{
    const struct env_problem problem = {
        .index = plan_task_index(&w->plan, unit),
        .seed = plan_env_seed(&w->plan, unit),
        .split = ENV_TRAIN,
    };
    struct episode_prompt p;
    enum status st = episode_prompt_make(&p, w, &problem, e);

    if (st)
        return st;
    buf_append(ids, (struct bytes){(const uint8_t *)p.ids, p.n * sizeof(*p.ids)});
    episode_prompt_clear(&p);
    return buf_status(ids, e);
}

struct restating {
    const struct rollout_world *w;
    const struct msg_submit *m;
    struct buf *logprobs;
    struct prover *prover; /* owned, (m->n_samples); NULL: no opening is wanted */
    uint64_t n_drawn;
    float *logits; /* owned, (V) */
};

static enum status restate_sample(void *ctx, size_t i, const struct prefill_rows *rows,
                                  struct err *e)
{
    struct restating *x = ctx;
    const struct msg_sample *s = &x->m->sample[i];
    const struct kernels *k = model_kernels(x->w->model);
    struct prover *prover = x->prover ? &x->prover[i] : NULL;
    size_t V = model_config(x->w->model)->vocab;
    float temperature = (float)x->w->task->sampling.temperature;
    enum status st = OK;

    for (size_t r = 0; !st && r < rows->n; r++) {
        int32_t token = check_token(s->tokens, r);
        float logp = 0.0f;

        if (submission_is_sampled(s, r)) {
            st = model_logits(x->w->model, x->logits, prefill_row(rows, r), 1, e);
            if (st)
                break;
            logprob_forward(k, NULL, &logp, x->logits, &token, temperature, 1, V);
            x->n_drawn +=
                token == sample_token(k, NULL, x->logits, V, temperature,
                                      plan_sample_seed(&x->w->plan, x->m->unit, (uint32_t)i),
                                      (uint32_t)(x->m->prompt.len / sizeof(int32_t) + r));
            if (prover)
                st = prover_add(prover, k, prefill_row(rows, r), e);
        }
        buf_append(&x->logprobs[i], (struct bytes){(const uint8_t *)&logp, sizeof(logp)});
    }
    if (!st && prover)
        st = prover_end(prover, e);
    return st ? st : buf_status(&x->logprobs[i], e);
}

enum status restate_samples(const struct rollout_world *w, struct msg_submit *m,
                            struct buf *logprobs, struct buf *opening, uint64_t *n_drawn,
                            struct err *e)
{
    const struct model_config *c = model_config(w->model);
    struct restating x = {.w = w, .m = m, .logprobs = logprobs};
    struct prefill_sample sample[MSG_MAX_SAMPLES];
    int32_t *prompt = xmalloc(m->prompt.len);
    enum status st;

    memcpy(prompt, m->prompt.data, m->prompt.len);
    for (uint32_t i = 0; i < m->n_samples; i++)
        sample[i] = (struct prefill_sample){.prompt = prompt,
                                            .n_prompt = m->prompt.len / sizeof(*prompt),
                                            .tokens = m->sample[i].tokens};
    st = alloc_array(&x.logits, c->vocab, sizeof(*x.logits), "logits", e);
    if (opening && opening_is_wanted(numerics_name(w->numerics)))
        x.prover = xcalloc(m->n_samples, sizeof(*x.prover));
    for (uint32_t i = 0; !st && x.prover && i < m->n_samples; i++)
        st = prover_init(&x.prover[i], c->dim, prover_takes_top(w->numerics, c->dim), e);
    if (!st)
        st = prefill_run(w->model, (size_t)w->task->model.max_len, sample, m->n_samples,
                         restate_sample, &x, e);
    if (!st && x.prover)
        st = prover_open(opening, m, x.prover, e);
    if (n_drawn)
        *n_drawn = x.n_drawn;
    for (uint32_t i = 0; x.prover && i < m->n_samples; i++)
        prover_clear(&x.prover[i]);
    free(x.prover);
    free(prompt);
    free(x.logits);
    return st;
}
