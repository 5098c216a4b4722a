#include "rollout/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/kv_cache.h"
#include "engine/ops.h"
#include "proto/digest.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/generate.h"

#define LOGIT_ROWS 64u /* rows of logits held at once */

struct check {
    const struct rollout_world *w;
    const struct msg_submit *s;
    struct rollout_finding *f;
    struct episode_prompt prompt;
    struct err *e;
};

/* Records why the submission is refused. Always returns false: "go no further". */
static bool refuse(struct check *c, enum reason code, size_t sample, size_t position,
                   uint64_t claimed, uint64_t found)
{
    struct rollout_finding *f = c->f;

    f->is_accepted = false;
    f->code = code;
    f->sample = (uint32_t)sample;
    f->position = (uint32_t)position;
    f->claimed = claimed;
    f->found = found;
    snprintf(f->text, sizeof(f->text), "%s: sample %zu, position %zu, claimed %llx, found %llx",
             reason_text(code), sample, position, (unsigned long long)claimed,
             (unsigned long long)found);
    return false;
}

static uint32_t float_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static int32_t token_at(struct bytes tokens, size_t i)
{
    int32_t t;

    memcpy(&t, tokens.data + i * sizeof(t), sizeof(t)); /* the wire is not aligned */
    return t;
}

static float float_at(struct bytes floats, size_t i)
{
    float x;

    memcpy(&x, floats.data + i * sizeof(x), sizeof(x));
    return x;
}

/* What needs neither weights nor environment. */
static bool header_is_right(struct check *c)
{
    const struct msg_submit *s = c->s;
    enum reason why = REASON_BOUNDS;
    struct digest root;

    if (submission_check_bounds(s, &why, NULL))
        return refuse(c, why, 0, 0, 0, 0);
    if (s->n_samples != (uint64_t)c->w->task->sampling.group)
        return refuse(c, REASON_BOUNDS, 0, 0, s->n_samples,
                      (uint64_t)c->w->task->sampling.group);
    if (!digest_equal(&s->task, &c->w->task_id))
        return refuse(c, REASON_NO_TASK, 0, 0, 0, 0);
    if (strcmp(s->numerics, task_numerics(c->w->task)) != 0)
        return refuse(c, REASON_NUMERICS, 0, 0, 0, 0);
    if (s->version != c->w->version)
        return refuse(c, REASON_STALE, 0, 0, (uint64_t)s->version, (uint64_t)c->w->version);
    if (!digest_equal(&s->weights, &c->w->weights))
        return refuse(c, REASON_WEIGHTS, 0, 0, 0, 0);
    submission_root(&root, s);
    if (!digest_equal(&root, &s->root))
        return refuse(c, REASON_ROOT, 0, 0, 0, 0);
    return true;
}

static bool prompt_is_right(struct check *c)
{
    const struct episode_prompt *p = &c->prompt;
    size_t n = c->s->prompt.len / sizeof(int32_t);

    if (n != p->n)
        return refuse(c, REASON_PROMPT, 0, 0, n, p->n);
    for (size_t i = 0; i < n; i++)
        if (token_at(c->s->prompt, i) != p->ids[i])
            return refuse(c, REASON_PROMPT, 0, i, (uint32_t)token_at(c->s->prompt, i),
                          (uint32_t)p->ids[i]);
    return true;
}

/* Plays the model's part of `ep` from the claimed tokens until its turn ends. */
static bool replay_turn(struct check *c, size_t i, struct episode *ep)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    uint32_t vocab = tokenizer_vocab(c->w->tokenizer);
    bool over = false;

    while (!over) {
        size_t at = ep->n;
        if (at >= n)
            return refuse(c, REASON_FINISH, i, at, n, at + 1);
        if (m->mask.data[at] != 1)
            return refuse(c, REASON_FINISH, i, at, m->mask.data[at], 1);
        int32_t token = token_at(m->tokens, at);
        if (token < 0 || (uint32_t)token >= vocab)
            return refuse(c, REASON_BOUNDS, i, at, (uint32_t)token, vocab);
        over = episode_push(ep, c->w, &c->prompt, token, float_at(m->logprobs, at));
    }
    return true;
}

/* What the environment added from `from` on must be what the worker says it did. */
static bool reply_is_right(struct check *c, size_t i, const struct episode *ep, size_t from)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);

    for (size_t at = from; at < ep->n; at++) {
        if (at >= n || m->mask.data[at] != 0)
            return refuse(c, REASON_FINISH, i, at, n, ep->n);
        if (token_at(m->tokens, at) != ep->tokens[at])
            return refuse(c, REASON_TOKEN, i, at, (uint32_t)token_at(m->tokens, at),
                          (uint32_t)ep->tokens[at]);
    }
    return true;
}

/* The whole episode of sample i, and its reward. *good: nothing differs so far. */
static enum status check_episode(struct check *c, size_t i, bool *good)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    struct episode ep;
    float reward;
    enum status st = episode_init(&ep, c->w, &c->prompt, c->e);

    if (st)
        return st;
    *good = true;
    while (*good && !st && !ep.is_over) {
        *good = replay_turn(c, i, &ep);
        if (!*good)
            break;
        size_t from = ep.n;
        st = episode_turn_over(&ep, c->w, &c->prompt, c->e);
        if (!st)
            *good = reply_is_right(c, i, &ep, from);
    }
    if (!st && *good && n != ep.n)
        *good = refuse(c, REASON_FINISH, i, ep.n, n, ep.n);
    if (!st && *good && m->finish != (uint32_t)ep.finish)
        *good = refuse(c, REASON_FINISH, i, n, m->finish, (uint64_t)ep.finish);
    if (!st && *good) {
        st = episode_score(&ep, c->w, &c->prompt, &reward, c->e);
        if (!st && float_bits(reward) != float_bits(m->reward))
            *good = refuse(c, REASON_REWARD, i, 0, float_bits(m->reward), float_bits(reward));
    }
    episode_clear(&ep);
    return st;
}

static enum status check_light(struct check *c, bool *good)
{
    enum status st = OK;

    *good = prompt_is_right(c);
    for (size_t i = 0; *good && !st && i < c->s->n_samples; i++)
        st = check_episode(c, i, good);
    return st;
}

/* Scratch of the full check. */
struct prefill {
    struct kv_cache *kv; /* owned: slot 0 the prompt, slot 1 the sample at hand */
    int32_t *tokens;     /* owned, (max_len) */
    float *hidden;       /* owned, (max_len, C): row r predicted token r of the sample */
    float *chunk;        /* owned, (ROLLOUT_PROOF_EVERY, C) */
    float *logits;       /* owned, (LOGIT_ROWS, V) */
    size_t dim, vocab;
};

static enum status prefill_init(struct prefill *x, const struct rollout_world *w, struct err *e)
{
    const struct model_config *cfg = model_config(w->model);
    size_t max_len = (size_t)w->task->model.max_len;
    enum status st;

    memset(x, 0, sizeof(*x));
    x->dim = cfg->dim;
    x->vocab = cfg->vocab;
    st = kv_cache_new(&x->kv, cfg, 2, max_len, 0, e);
    if (!st)
        st = alloc_array(&x->tokens, max_len, sizeof(int32_t), "tokens", e);
    if (!st)
        st = alloc_array(&x->hidden, max_len * x->dim, sizeof(float), "hidden states", e);
    if (!st)
        st = alloc_array(&x->chunk, ROLLOUT_PROOF_EVERY * x->dim, sizeof(float), "a chunk", e);
    if (!st)
        st = alloc_array(&x->logits, LOGIT_ROWS * x->vocab, sizeof(float), "logits", e);
    return st;
}

static void prefill_clear(struct prefill *x)
{
    kv_cache_free(&x->kv);
    free(x->tokens);
    free(x->hidden);
    free(x->chunk);
    free(x->logits);
}

/* Hidden states of sample i: row 0 from the prompt's last token, row r from token r - 1. */
static enum status prefill_sample(struct check *c, struct prefill *x, size_t i)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    struct model_run run = {.slot = 1, .first = c->prompt.n, .n = n - 1, .n_out = n - 1};

    kv_cache_copy(x->kv, 1, 0, c->prompt.n);
    if (n == 1)
        return OK;
    memcpy(x->tokens, m->tokens.data, (n - 1) * sizeof(int32_t));
    return model_forward(c->w->model, x->kv, x->hidden + x->dim, &run, 1, x->tokens, c->e);
}

/* Draws each sampled token of rows [lo, hi) again from the logits of those rows. */
static bool draws_are_right(struct check *c, struct prefill *x, size_t i, size_t lo, size_t hi)
{
    const struct msg_sample *m = &c->s->sample[i];
    uint64_t seed = plan_sample_seed(&c->w->plan, c->s->unit, (uint32_t)i);
    float temperature = (float)c->w->task->sampling.temperature;

    model_logits(c->w->model, x->logits, x->hidden + lo * x->dim, hi - lo);
    for (size_t r = lo; r < hi; r++) {
        float logp = 0.0f;
        int32_t token;

        if (!m->mask.data[r])
            continue;
        token = sample_token(model_kernels(c->w->model), &logp, x->logits + (r - lo) * x->vocab,
                             x->vocab, temperature, seed, (uint32_t)(c->prompt.n + r));
        if (token != token_at(m->tokens, r))
            return refuse(c, REASON_TOKEN, i, r, (uint32_t)token_at(m->tokens, r),
                          (uint32_t)token);
        if (float_bits(logp) != float_bits(float_at(m->logprobs, r)))
            return refuse(c, REASON_LOGPROB, i, r, float_bits(float_at(m->logprobs, r)),
                          float_bits(logp));
    }
    return true;
}

/* Recomputes the proofs of sample i and compares. */
static enum status check_proofs(struct check *c, struct prefill *x, size_t i, bool *good)
{
    const struct msg_sample *m = &c->s->sample[i];
    size_t n = m->tokens.len / sizeof(int32_t);
    size_t rows = 0;
    struct buf proofs;
    enum status st = OK;

    buf_init(&proofs, (size_t)64 << 20);
    for (size_t r = 0; !st && r < n; r++) {
        if (m->mask.data[r]) {
            memcpy(x->chunk + rows * x->dim, x->hidden + r * x->dim, x->dim * sizeof(float));
            rows++;
        }
        if (rows == ROLLOUT_PROOF_EVERY || (r + 1 == n && rows)) {
            st = rollout_prove(&proofs, x->chunk, rows, x->dim, c->e);
            rows = 0;
        }
    }
    if (!st) {
        struct bytes found = buf_bytes(&proofs);
        size_t at = 0;

        while (at < found.len && at < m->proofs.len && found.data[at] == m->proofs.data[at])
            at++;
        *good = bytes_equal(found, m->proofs);
        if (!*good)
            refuse(c, REASON_PROOF, i, at / TOPLOC_PROOF_BYTES * ROLLOUT_PROOF_EVERY,
                   at < m->proofs.len ? m->proofs.data[at] : 0,
                   at < found.len ? found.data[at] : 0);
    }
    buf_clear(&proofs);
    return st;
}

static enum status check_sample(struct check *c, struct prefill *x, size_t i,
                                struct digest_state *states, bool *good)
{
    size_t n = c->s->sample[i].tokens.len / sizeof(int32_t);
    enum status st = prefill_sample(c, x, i);

    if (st)
        return st;
    digest_add(states, (struct bytes){(const uint8_t *)x->hidden, n * x->dim * sizeof(float)});
    for (size_t lo = 0; *good && lo < n; lo += LOGIT_ROWS)
        *good = draws_are_right(c, x, i, lo, lo + LOGIT_ROWS < n ? lo + LOGIT_ROWS : n);
    return *good ? check_proofs(c, x, i, good) : OK;
}

static enum status check_full(struct check *c, const struct public_key *key, bool *good)
{
    struct prefill x;
    struct digest_state states;
    struct model_run run = {.slot = 0, .first = 0, .n = c->prompt.n, .n_out = 1};
    enum status st = prefill_init(&x, c->w, c->e);

    digest_begin_keyed(&states, BYTES_OF(key->b));
    if (!st)
        st = model_forward(c->w->model, x.kv, x.hidden, &run, 1, c->prompt.ids, c->e);
    for (size_t i = 0; *good && !st && i < c->s->n_samples; i++)
        st = check_sample(c, &x, i, &states, good);
    digest_end(&states, &c->f->states);
    prefill_clear(&x);
    return st;
}

enum status rollout_check(const struct rollout_world *w, const struct msg_submit *s,
                          enum check_depth depth, const struct public_key *key,
                          struct rollout_finding *f, struct err *e)
{
    struct check c = {.w = w, .s = s, .f = f, .e = e};
    const struct env_problem problem = {
        .index = plan_task_index(&w->plan, s->unit),
        .seed = plan_env_seed(&w->plan, s->unit),
        .split = ENV_TRAIN,
    };
    bool good;
    enum status st;

    memset(f, 0, sizeof(*f));
    f->is_accepted = true;
    if (!header_is_right(&c))
        return OK;
    st = episode_prompt_make(&c.prompt, w, &problem, e);
    if (st)
        return st;
    st = check_light(&c, &good);
    if (!st && good && depth == CHECK_FULL) {
        CHECK(w->model);
        st = check_full(&c, key, &good);
    }
    episode_prompt_clear(&c.prompt);
    return st;
}
