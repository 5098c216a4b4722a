#include "rollout/restate.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/ops.h"
#include "rollout/check_inside.h"
#include "rollout/generate.h"
#include "rollout/prefill.h"

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
    struct buf *logprobs, *proofs;
    uint64_t n_drawn;
    float *logits;   /* owned, (V) */
    uint16_t *chunk; /* owned, (ROLLOUT_PROOF_EVERY, C) */
};

static enum status restate_sample(void *ctx, size_t i, const struct prefill_rows *rows,
                                  struct err *e)
{
    struct restating *x = ctx;
    const struct msg_sample *s = &x->m->sample[i];
    const struct kernels *k = model_kernels(x->w->model);
    size_t V = model_config(x->w->model)->vocab, n = 0;
    float temperature = (float)x->w->task->sampling.temperature;
    enum status st = OK;

    for (size_t r = 0; !st && r < rows->n; r++) {
        int32_t token = check_token(s->tokens, r);
        float logp = 0.0f;

        if (s->mask.data[r]) {
            st = model_logits(x->w->model, x->logits, prefill_row(rows, r), 1, e);
            if (st)
                break;
            logprob_forward(k, NULL, &logp, x->logits, &token, temperature, 1, V);
            x->n_drawn +=
                token == sample_token(k, NULL, x->logits, V, temperature,
                                      plan_sample_seed(&x->w->plan, x->m->unit, (uint32_t)i),
                                      (uint32_t)(x->m->prompt.len / sizeof(int32_t) + r));
            bf16_from_f32_row(k, x->chunk + n++ * rows->dim, prefill_row(rows, r), rows->dim);
        }
        buf_append(&x->logprobs[i], (struct bytes){(const uint8_t *)&logp, sizeof(logp)});
        if (n == ROLLOUT_PROOF_EVERY || (n && r + 1 == rows->n)) {
            st = rollout_prove(&x->proofs[i], x->chunk, n, rows->dim, e);
            n = 0;
        }
    }
    return st ? st : buf_status(&x->logprobs[i], e);
}

enum status restate_samples(const struct rollout_world *w, const struct msg_submit *m,
                            struct buf *logprobs, struct buf *proofs, uint64_t *n_drawn,
                            struct err *e)
{
    const struct model_config *c = model_config(w->model);
    struct restating x = {.w = w, .m = m, .logprobs = logprobs, .proofs = proofs};
    struct prefill_sample sample[MSG_MAX_SAMPLES];
    int32_t *prompt = xmalloc(m->prompt.len);
    enum status st;

    memcpy(prompt, m->prompt.data, m->prompt.len);
    for (uint32_t i = 0; i < m->n_samples; i++)
        sample[i] = (struct prefill_sample){.prompt = prompt,
                                            .n_prompt = m->prompt.len / sizeof(*prompt),
                                            .tokens = m->sample[i].tokens};
    st = alloc_array(&x.logits, c->vocab, sizeof(*x.logits), "logits", e);
    if (!st)
        st = alloc_array(&x.chunk, (size_t)ROLLOUT_PROOF_EVERY * c->dim, sizeof(*x.chunk),
                         "a chunk", e);
    if (!st)
        st = prefill_run(w->model, (size_t)w->task->model.max_len, sample, m->n_samples,
                         restate_sample, &x, e);
    if (n_drawn)
        *n_drawn = x.n_drawn;
    free(prompt);
    free(x.logits);
    free(x.chunk);
    return st;
}
