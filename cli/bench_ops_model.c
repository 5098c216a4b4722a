/*
 * cli/bench_ops_model.c - a small model in every column of the table: forward, sampling, backward, steps
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cli/bench_hash.h"
#include "cli/bench_ops.h"
#include "engine/adamw.h"
#include "engine/sampler.h"
#include "engine/train.h"

enum { SEQS = 2, LENGTH = 8, SAMPLES = 2, NEW_TOKENS = 3, STEPS = 10 };
#define TEMPERATURE 0.8f

enum what { LOGITS, TOKENS, GRADIENTS, WEIGHTS, WHATS };
static const char *const what_names[WHATS] = {"logits", "sampled tokens", "gradients",
                                              "ten optimizer steps"};

struct subject {
    const struct kernels *k;
    struct weights *w; /* owned */
    int32_t tokens[SEQS * LENGTH], targets[SEQS * LENGTH];
    size_t lengths[SEQS];
    uint64_t hash[WHATS];
};

static enum status logits_of(struct subject *s, struct model *m, struct err *e)
{
    const size_t C = s->w->config.dim, V = s->w->config.vocab, rows = SEQS * (size_t)LENGTH;
    float *hidden = xcalloc(rows * C, sizeof(*hidden)),
          *logits = xcalloc(rows * V, sizeof(*logits));
    struct model_run runs[SEQS];
    struct kv_cache *kv = NULL;
    enum status st = model_cache_new(&kv, m, SEQS, LENGTH, 0, e);

    for (size_t i = 0; i < SEQS; i++)
        runs[i] = (struct model_run){.slot = i, .n = LENGTH, .n_out = LENGTH};
    if (!st)
        st = model_forward(m, kv, hidden, runs, SEQS, s->tokens, e);
    if (!st)
        st = model_logits(m, logits, hidden, rows, e);
    bench_hash_words(&s->hash[LOGITS], logits, rows * V);
    kv_cache_free(&kv);
    free(hidden);
    free(logits);
    return st;
}

/* By (request, sample, index), as they may come in another order. */
struct drawn {
    int32_t token[SEQS][SAMPLES][NEW_TOKENS];
    float logp[SEQS][SAMPLES][NEW_TOKENS];
};

static void on_token(void *ctx, const struct sampler_token *t)
{
    struct drawn *d = ctx;

    d->token[t->tag][t->sample][t->index] = t->token;
    d->logp[t->tag][t->sample][t->index] = t->logp;
}

static enum status tokens_of(struct subject *s, struct model *m, struct err *e)
{
    const uint64_t seeds[SAMPLES] = {5, 6};
    struct drawn d = {0};
    const struct sampler_options so = {.n_slots = SEQS * SAMPLES,
                                       .max_len = LENGTH + NEW_TOKENS,
                                       .chunk = 16,
                                       .on_token = on_token,
                                       .ctx = &d};
    struct sampler *sampler = NULL;
    enum status st = sampler_new(&sampler, m, &so, e);

    for (size_t i = 0; !st && i < SEQS; i++)
        st = sampler_add(sampler,
                         &(struct sampler_request){.tag = i,
                                                   .prompt = s->tokens + i * LENGTH,
                                                   .n_prompt = LENGTH - 3 * i,
                                                   .seeds = seeds,
                                                   .n_samples = SAMPLES,
                                                   .temperature = i == 1 ? 0.0f : TEMPERATURE,
                                                   .max_new = NEW_TOKENS},
                         e);
    if (!st)
        st = sampler_run(sampler, e);
    bench_hash_words(&s->hash[TOKENS], d.token, sizeof(d.token) / 4);
    bench_hash_words(&s->hash[TOKENS], d.logp, sizeof(d.logp) / 4);
    sampler_free(&sampler);
    return st;
}

static enum status step(struct subject *s, struct train *t, struct adamw *a, size_t i,
                        struct err *e)
{
    static const struct adamw_settings settings = {0.01f, 0.9f, 0.99f, 1e-8f, 0.01f, 0.5f};
    const struct train_batch b = {s->tokens, s->targets,    s->lengths,
                                  SEQS,      SEQS * LENGTH, TEMPERATURE};
    float weight[SEQS * LENGTH], logp[SEQS * LENGTH];
    struct adamw_report report;
    struct weights *grads;
    enum status st;

    for (size_t r = 0; r < SEQS * LENGTH; r++)
        weight[r] = s->targets[r] < 0 || r % 4 == 1 ? 0.0f : (float)(1 + r % 5) * 0x1p-7f;
    train_zero(t);
    st = train_gradients(t, &b, train_weigh_known, weight, logp, e);
    train_finish(t);
    if (!st && i == 0) {
        st = train_grads(&grads, t, e);
        if (!st)
            bench_hash_words(&s->hash[GRADIENTS], grads->data, grads->n_data);
    }
    if (!st)
        st = train_update(t, a, s->w, &settings, &report, e);
    return st ? st : train_publish(t, s->w, e);
}

static enum status steps_of(struct subject *s, struct err *e)
{
    const struct train_options to = {.kernels = s->k, .max_rows = SEQS * LENGTH};
    struct train *t = NULL;
    struct adamw *a = NULL;
    enum status st = adamw_new(&a, &s->w->config, e);

    if (!st)
        st = train_new(&t, s->w, &to, e);
    for (size_t i = 0; !st && i < STEPS; i++)
        st = step(s, t, a, i, e);
    if (!st)
        st = train_fetch(t, a, s->w, e);
    if (!st) {
        bench_hash_words(&s->hash[WEIGHTS], s->w->data, s->w->n_data);
        bench_hash_words(&s->hash[WEIGHTS], a->m->data, a->m->n_data);
        bench_hash_words(&s->hash[WEIGHTS], a->v->data, a->v->n_data);
    }
    train_free(&t);
    adamw_free(&a);
    return st;
}

static enum status try_model(struct subject *s, const struct model_config *c, struct err *e)
{
    const struct model_options mo = {.kernels = s->k};
    struct rng r = rng_of(9, 12);
    struct model *m = NULL;
    enum status st = weights_new(&s->w, c, e);

    for (size_t i = 0; i < SEQS * LENGTH; i++)
        s->tokens[i] = (int32_t)rng_below(&r, c->vocab);
    for (size_t i = 0; i < SEQS * LENGTH; i++)
        s->targets[i] = (i + 1) % LENGTH ? s->tokens[i + 1] : -1;
    for (size_t i = 0; i < SEQS; i++)
        s->lengths[i] = LENGTH;
    for (size_t i = 0; i < WHATS; i++)
        s->hash[i] = BENCH_HASH_START;
    if (!st) {
        weights_init_random(s->w, 1);
        weights_round(s->w, c->dtype);
        st = model_new(&m, s->w, &mo, e);
    }
    if (!st)
        st = logits_of(s, m, e);
    if (!st)
        st = tokens_of(s, m, e);
    model_free(&m);
    if (!st)
        st = steps_of(s, e);
    weights_free(&s->w);
    return st;
}

enum status bench_ops_model(const struct bench_columns *c, const struct model_config *config,
                            const char *name, bool is_json, size_t *n_rows, size_t *n_different,
                            struct err *e)
{
    uint64_t hash[WHATS][BENCH_OPS_COLUMNS] = {{0}};
    enum status st = OK;

    for (size_t i = 0; !st && i < c->n; i++) {
        struct subject s = {.k = c->k[i]};

        if (!c->k[i])
            continue;
        st = try_model(&s, config, e);
        for (size_t w = 0; w < WHATS; w++)
            hash[w][i] = s.hash[w];
    }
    for (size_t w = 0; !st && w < WHATS; w++) {
        char what[64];

        snprintf(what, sizeof(what), "%s, %s", name, what_names[w]);
        *n_different += !bench_columns_print(c, what, hash[w], is_json);
        (*n_rows)++;
    }
    return st;
}
