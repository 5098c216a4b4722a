#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"

#define DRAW_GRAIN 4096 /* vocabulary entries: fewer are not worth another thread */

/* A request that waits, or whose samples run. Freed with its last sample. */
struct request {
    struct request *next; /* of the queue */
    uint64_t tag;
    int32_t *prompt; /* owned */
    size_t n_prompt;
    uint64_t *seeds; /* owned */
    size_t n_samples;
    size_t n_left; /* samples not finished */
    float temperature;
    size_t max_new;
    int32_t stops[SAMPLER_STOPS_MAX];
    size_t n_stops;
};

/* The sequence in one slot of the cache. */
struct sequence {
    struct request *request; /* NULL: the slot is free */
    size_t sample;
    size_t n_new;  /* tokens sampled */
    int32_t token; /* the last of them, not yet in the cache */
};

/* A token to be drawn: for which slot, from the logits of which run. */
struct draw {
    size_t slot, run;
    int32_t token;
    float logp;
};

struct sampler {
    struct model *model; /* borrowed */
    struct sampler_options opt;
    struct kv_cache *kv;           /* owned */
    struct sequence *sequences;    /* owned, one a slot */
    struct request *first, **last; /* owned queue */
    size_t n_running, n_waiting;   /* samples */

    /* Of the step at hand, owned; capacities n_slots except tokens. */
    struct model_run *runs;
    size_t *heads;   /* the slot whose request a run serves */
    int32_t *tokens; /* (n_slots * max_len) at most, grown on need */
    size_t tokens_cap;
    struct draw *draws;
    float *hidden; /* (n_slots, C) */
    float *logits; /* (n_slots, V) */
};

/* ---- making ---------------------------------------------------------------------------------- */

static void request_free(struct request *r)
{
    free(r->prompt);
    free(r->seeds);
    free(r);
}

enum status sampler_new(struct sampler **out, struct model *m,
                        const struct sampler_options *opt, struct err *e)
{
    const struct model_config *c = model_config(m);
    struct sampler *s = xcalloc(1, sizeof(*s));
    enum status st;

    *out = NULL;
    s->model = m;
    s->opt = *opt;
    s->last = &s->first;
    st = kv_cache_new(&s->kv, c, opt->n_slots, opt->max_len, opt->max_bytes, e);
    if (!st)
        st = alloc_array(&s->sequences, opt->n_slots, sizeof(s->sequences[0]), "sequences", e);
    if (!st)
        st = alloc_array(&s->runs, opt->n_slots, sizeof(s->runs[0]), "runs", e);
    if (!st)
        st = alloc_array(&s->heads, opt->n_slots, sizeof(s->heads[0]), "runs", e);
    if (!st)
        st = alloc_array(&s->draws, opt->n_slots, sizeof(s->draws[0]), "draws", e);
    if (!st)
        st = alloc_array(&s->hidden, opt->n_slots, c->dim * sizeof(float), "hidden states", e);
    if (!st)
        st = alloc_array(&s->logits, opt->n_slots, c->vocab * sizeof(float), "logits", e);
    if (!st) {
        *out = s;
        s = NULL; /* it is the caller's now */
    }
    sampler_free(&s);
    return st;
}

void sampler_reset(struct sampler *s)
{
    for (size_t i = 0; s->sequences && i < s->opt.n_slots; i++) {
        struct request *r = s->sequences[i].request;

        s->sequences[i].request = NULL;
        if (r && --r->n_left == 0)
            request_free(r);
    }
    while (s->first) {
        struct request *r = s->first;

        s->first = r->next;
        request_free(r);
    }
    s->last = &s->first;
    s->n_running = s->n_waiting = 0;
}

void sampler_free(struct sampler **p)
{
    struct sampler *s = *p;

    if (!s)
        return;
    sampler_reset(s);
    kv_cache_free(&s->kv);
    free(s->sequences);
    free(s->runs);
    free(s->heads);
    free(s->tokens);
    free(s->draws);
    free(s->hidden);
    free(s->logits);
    free(s);
    *p = NULL;
}

/* ---- queue ----------------------------------------------------------------------------------- */

static enum status check_request(const struct sampler *s, const struct sampler_request *r,
                                 struct err *e)
{
    const struct model_config *c = model_config(s->model);

    if (r->n_prompt == 0 || r->n_prompt >= s->opt.max_len)
        return err_set(e, ERR_INVALID, "a prompt of %zu tokens, wants 1..%zu", r->n_prompt,
                       s->opt.max_len - 1);
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || (uint32_t)r->prompt[i] >= c->vocab)
            return err_set(e, ERR_INVALID,
                           "token %d of the prompt is outside the vocabulary of %u",
                           r->prompt[i], c->vocab);
    if (r->n_samples == 0 || r->n_samples > s->opt.n_slots)
        return err_set(e, ERR_INVALID, "%zu samples of a prompt, wants 1..%zu", r->n_samples,
                       s->opt.n_slots);
    if (!(r->temperature >= 0.0f) || !isfinite(r->temperature))
        return err_set(e, ERR_INVALID, "temperature is %g, wants 0 or more",
                       (double)r->temperature);
    if (r->max_new == 0 || r->n_stops > SAMPLER_STOPS_MAX)
        return err_set(e, ERR_INVALID, "%zu new tokens and %zu stop ids, wants 1.. and 0..%u",
                       r->max_new, r->n_stops, SAMPLER_STOPS_MAX);
    return OK;
}

enum status sampler_add(struct sampler *s, const struct sampler_request *in, struct err *e)
{
    struct request *r;
    enum status st = check_request(s, in, e);

    if (st)
        return st;
    r = xcalloc(1, sizeof(*r));
    r->tag = in->tag;
    r->n_prompt = in->n_prompt;
    r->prompt = xmalloc(in->n_prompt * sizeof(r->prompt[0]));
    memcpy(r->prompt, in->prompt, in->n_prompt * sizeof(r->prompt[0]));
    r->n_samples = r->n_left = in->n_samples;
    r->seeds = xmalloc(in->n_samples * sizeof(r->seeds[0]));
    memcpy(r->seeds, in->seeds, in->n_samples * sizeof(r->seeds[0]));
    r->temperature = in->temperature;
    r->max_new = in->max_new;
    r->n_stops = in->n_stops;
    if (in->n_stops > 0)
        memcpy(r->stops, in->stops, in->n_stops * sizeof(r->stops[0]));
    *s->last = r;
    s->last = &r->next;
    s->n_waiting += r->n_samples;
    return OK;
}

size_t sampler_active(const struct sampler *s)
{
    return s->n_running + s->n_waiting;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static int32_t *room_for_tokens(struct sampler *s, size_t n)
{
    if (n > s->tokens_cap) {
        s->tokens_cap = n > 2 * s->tokens_cap ? n : 2 * s->tokens_cap;
        s->tokens = xrealloc(s->tokens, s->tokens_cap * sizeof(s->tokens[0]));
    }
    return s->tokens;
}

/* Gives the samples of r the lowest free slots. Returns the first, which computes the prompt. */
static size_t seat(struct sampler *s, struct request *r)
{
    size_t head = SIZE_MAX, sample = 0;

    for (size_t slot = 0; sample < r->n_samples; slot++) {
        CHECK(slot < s->opt.n_slots);
        if (s->sequences[slot].request)
            continue;
        if (head == SIZE_MAX)
            head = slot;
        s->sequences[slot] = (struct sequence){.request = r, .sample = sample++};
        kv_cache_truncate(s->kv, slot, 0);
    }
    s->n_running += r->n_samples;
    s->n_waiting -= r->n_samples;
    return head;
}

/* One run of one token for every running sequence, then one of all its rows for every prompt that
 * finds room. Returns the number of runs. */
static size_t plan_runs(struct sampler *s)
{
    size_t n = 0, rows = 0;

    (void)room_for_tokens(s, s->opt.n_slots);
    for (size_t slot = 0; slot < s->opt.n_slots; slot++) {
        const struct sequence *q = &s->sequences[slot];

        if (!q->request)
            continue;
        s->tokens[rows++] = q->token;
        s->heads[n] = slot;
        s->runs[n++] = (struct model_run){
            .slot = slot,
            .first = q->request->n_prompt + q->n_new - 1,
            .n = 1,
            .n_out = 1,
        };
    }
    while (s->first && s->first->n_samples <= s->opt.n_slots - s->n_running) {
        struct request *r = s->first;

        s->first = r->next;
        if (!s->first)
            s->last = &s->first;
        r->next = NULL;
        memcpy(room_for_tokens(s, rows + r->n_prompt) + rows, r->prompt,
               r->n_prompt * sizeof(r->prompt[0]));
        rows += r->n_prompt;
        s->heads[n] = seat(s, r);
        s->runs[n] = (struct model_run){.slot = s->heads[n], .n = r->n_prompt, .n_out = 1};
        n++;
    }
    return n;
}

static bool is_stop(const struct request *r, int32_t token)
{
    for (size_t i = 0; i < r->n_stops; i++)
        if (r->stops[i] == token)
            return true;
    return false;
}

static void finish(struct sampler *s, size_t slot, enum sampler_finish why)
{
    struct sequence *q = &s->sequences[slot];
    struct request *r = q->request;

    q->request = NULL;
    s->n_running--;
    if (s->opt.on_done)
        s->opt.on_done(s->opt.ctx, r->tag, q->sample, q->n_new, why);
    if (--r->n_left == 0)
        request_free(r);
}

/* Lists the sequences that get a token: one a decode run, all samples of a prompt's. */
static size_t plan_draws(struct sampler *s, size_t n_runs)
{
    size_t n = 0;

    for (size_t i = 0; i < n_runs; i++) {
        size_t head = s->heads[i];
        const struct request *r = s->sequences[head].request;

        s->draws[n++] = (struct draw){.slot = head, .run = i};
        if (s->runs[i].first > 0)
            continue;
        /* The other samples of a prompt start from copies of what the first computed. */
        for (size_t slot = head + 1; slot < s->opt.n_slots; slot++) {
            if (s->sequences[slot].request != r)
                continue;
            kv_cache_copy(s->kv, slot, head, r->n_prompt);
            s->draws[n++] = (struct draw){.slot = slot, .run = i};
        }
    }
    return n;
}

static size_t position_of(const struct sequence *q)
{
    return q->request->n_prompt + q->n_new;
}

static void draw_range(void *arg, size_t lo, size_t hi)
{
    struct sampler *s = arg;
    size_t V = model_config(s->model)->vocab;

    for (size_t i = lo; i < hi; i++) {
        struct draw *d = &s->draws[i];
        const struct sequence *q = &s->sequences[d->slot];

        d->token = sample_token(model_kernels(s->model), &d->logp, s->logits + d->run * V, V,
                                q->request->temperature, q->request->seeds[q->sample],
                                (uint32_t)position_of(q));
    }
}

static void take(struct sampler *s, const struct draw *d)
{
    struct sequence *q = &s->sequences[d->slot];
    const struct request *r = q->request;
    struct sampler_token t = {
        .tag = r->tag,
        .sample = q->sample,
        .index = q->n_new,
        .token = d->token,
        .logp = d->logp,
        .hidden = s->hidden + d->run * model_config(s->model)->dim,
    };

    q->token = d->token;
    q->n_new++;
    if (s->opt.on_token)
        s->opt.on_token(s->opt.ctx, &t);
    if (is_stop(r, d->token))
        finish(s, d->slot, SAMPLER_STOP);
    else if (q->n_new == r->max_new)
        finish(s, d->slot, SAMPLER_MAX_NEW);
    else if (position_of(q) == s->opt.max_len)
        finish(s, d->slot, SAMPLER_MAX_LEN);
}

enum status sampler_step(struct sampler *s, struct err *e)
{
    const struct model_config *c = model_config(s->model);
    size_t n = plan_runs(s), n_draws;
    enum status st;

    if (n == 0)
        return OK;
    st = model_forward(s->model, s->kv, s->hidden, s->runs, n, s->tokens, e);
    if (st)
        return st;
    model_logits(s->model, s->logits, s->hidden, n);
    if (!all_finite(model_kernels(s->model), s->logits, n * c->vocab))
        return err_set(e, ERR_NUMERIC, "the model's logits are not finite");
    n_draws = plan_draws(s, n);
    pool_run(model_pool(s->model), n_draws, 1 + DRAW_GRAIN / c->vocab, draw_range, s);
    for (size_t i = 0; i < n_draws; i++)
        take(s, &s->draws[i]);
    return OK;
}

enum status sampler_run(struct sampler *s, struct err *e)
{
    enum status st = OK;

    while (!st && sampler_active(s) > 0)
        st = sampler_step(s, e);
    return st;
}
