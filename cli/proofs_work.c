#include "cli/proofs_work.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "engine/ops.h"
#include "engine/sampler.h"
#include "rollout/check_open.h"
#include "rollout/prefill.h"

#define CHUNK ((size_t)ROLLOUT_PROOF_EVERY)
#define TELLS 8u /* how often it says how far it is */

static size_t unit_chunks(const struct proofs_work *w)
{
    return w->n_new / CHUNK;
}

size_t proofs_work_chunks(const struct proofs_work *w)
{
    return w->n_units * unit_chunks(w);
}

static size_t n_tokens(const struct proofs_work *w)
{
    return w->n_units * w->n_new;
}

static uint64_t seed_of(size_t unit)
{
    return 77000 + (uint64_t)unit;
}

static const int32_t *prompt_of(const struct proofs_work *w, size_t unit)
{
    return w->tokens + unit * (w->n_prompt + w->n_new);
}

enum status proofs_work_init(struct proofs_work *w, const struct model_config *c, struct err *e)
{
    const size_t length = w->n_prompt + w->n_new;
    struct rng r = rng_of(3, 3);
    enum status st;

    w->dim = c->dim;
    st = alloc_array(&w->tokens, w->n_units * length, sizeof(*w->tokens), "tokens", e);
    if (!st)
        st = alloc_array(&w->logp, n_tokens(w), sizeof(*w->logp), "log-probabilities", e);
    if (!st)
        st = alloc_array(&w->states, n_tokens(w) * w->dim, sizeof(*w->states), "states", e);
    if (!st)
        st = alloc_array(&w->proofs, proofs_work_chunks(w), TOPLOC_PROOF_BYTES, "proofs", e);
    for (size_t i = 0; !st && i < w->n_units; i++)
        for (size_t j = 0; j < w->n_prompt; j++)
            w->tokens[i * length + j] = (int32_t)rng_below(&r, c->vocab);
    return st;
}

void proofs_work_clear(struct proofs_work *w)
{
    free(w->tokens);
    free(w->logp);
    free(w->states);
    free(w->proofs);
}

/* ---- making ---------------------------------------------------------------------------------- */

struct making {
    struct proofs_work *w;
    size_t n; /* tokens so far */
};

static void tell(const char *what, size_t n, size_t all)
{
    if (n * TELLS / all != (n - 1) * TELLS / all)
        fprintf(stderr, "%s: %zu of %zu tokens\n", what, n, all);
}

static void keep_token(void *ctx, const struct sampler_token *t)
{
    struct making *x = ctx;
    struct proofs_work *w = x->w;
    const size_t at = t->tag * w->n_new + t->index;

    w->tokens[t->tag * (w->n_prompt + w->n_new) + w->n_prompt + t->index] = t->token;
    w->logp[at] = t->logp;
    memcpy(w->states + at * w->dim, t->hidden, w->dim * sizeof(float));
    tell("decoding", ++x->n, n_tokens(w));
}

/* A chunk of states in bf16. */
static enum status chunk_new(uint16_t **out, const float *states, size_t dim, struct err *e)
{
    enum status st = alloc_array(out, CHUNK * dim, sizeof(**out), "states", e);

    if (!st)
        bf16_from_f32_row(kernels_best(), *out, states, CHUNK * dim);
    return st;
}

static void prove_chunks(void *arg, size_t lo, size_t hi)
{
    const struct proofs_work *w = arg;

    for (size_t i = lo; i < hi; i++) {
        uint16_t *rows = NULL;
        struct err e;
        enum status st = chunk_new(&rows, w->states + i * CHUNK * w->dim, w->dim, &e);

        if (!st)
            st = toploc_prove(w->proofs + i * TOPLOC_PROOF_BYTES, rows, CHUNK, w->dim,
                              ROLLOUT_PROOF_TOPK, TOPLOC_TIE_LOWEST, &e);
        if (st) /* the null proof, which is malformed: whoever looks at it says so */
            memset(w->proofs + i * TOPLOC_PROOF_BYTES, 0, TOPLOC_PROOF_BYTES);
        free(rows);
    }
}

enum status proofs_work_make(struct proofs_work *w, struct model *m, size_t batch,
                             struct err *e)
{
    struct making x = {.w = w};
    const struct sampler_options so = {.n_slots = batch < w->n_units ? batch : w->n_units,
                                       .max_len = w->n_prompt + w->n_new,
                                       .on_token = keep_token,
                                       .wants_hidden = true,
                                       .ctx = &x};
    struct sampler *s = NULL;
    enum status st = sampler_new(&s, m, &so, e);

    for (size_t i = 0; !st && i < w->n_units; i++) {
        const uint64_t seed = seed_of(i);

        st = sampler_add(s,
                         &(struct sampler_request){.tag = i,
                                                   .prompt = prompt_of(w, i),
                                                   .n_prompt = w->n_prompt,
                                                   .seeds = &seed,
                                                   .n_samples = 1,
                                                   .temperature = 1.0f,
                                                   .max_new = w->n_new},
                         e);
    }
    if (!st)
        st = sampler_run(s, e);
    sampler_free(&s);
    if (!st)
        pool_run(model_pool(m), proofs_work_chunks(w), 1, prove_chunks, w);
    return st;
}

/* ---- seeing ---------------------------------------------------------------------------------- */

struct seeing {
    const struct proofs_work *w;
    struct proofs_seen *s;
    struct model *m;
    size_t unit;
    float *rows;                   /* owned, (n_new, dim): what the other has of the unit */
    struct model_claim *claim;     /* owned, (n_new) */
    struct check_sampled *sampled; /* owned, likewise */
    size_t *position;              /* owned, likewise */
    enum status *status;           /* owned, of each of its proofs */
    struct err *error;             /* owned, likewise */
};

static enum status seen_init(struct proofs_seen *s, const struct proofs_work *w, struct err *e)
{
    enum status st;

    *s = (struct proofs_seen){0};
    st = alloc_array(&s->distance, n_tokens(w), sizeof(*s->distance), "distances", e);
    if (!st)
        st = alloc_array(&s->off, n_tokens(w), sizeof(*s->off), "differences", e);
    if (!st)
        st = alloc_array(&s->margin, n_tokens(w), sizeof(*s->margin), "margins", e);
    if (!st)
        st = alloc_array(&s->proof, proofs_work_chunks(w), sizeof(*s->proof), "proofs", e);
    if (!st)
        st = alloc_array(&s->is_refused, w->n_units, sizeof(*s->is_refused), "units", e);
    return st;
}

void proofs_seen_clear(struct proofs_seen *s)
{
    free(s->distance);
    free(s->off);
    free(s->margin);
    free(s->proof);
    free(s->is_refused);
}

static enum status seeing_init(struct seeing *x, struct err *e)
{
    const size_t n = x->w->n_new;
    enum status st = seen_init(x->s, x->w, e);

    if (!st)
        st = alloc_array(&x->rows, n * x->w->dim, sizeof(*x->rows), "states", e);
    if (!st)
        st = alloc_array(&x->claim, n, sizeof(*x->claim), "claims", e);
    if (!st)
        st = alloc_array(&x->sampled, n, sizeof(*x->sampled), "claims", e);
    if (!st)
        st = alloc_array(&x->position, n, sizeof(*x->position), "positions", e);
    if (!st)
        st = alloc_array(&x->status, unit_chunks(x->w), sizeof(*x->status), "proofs", e);
    if (!st)
        st = alloc_array(&x->error, unit_chunks(x->w), sizeof(*x->error), "proofs", e);
    return st;
}

static void seeing_clear(struct seeing *x)
{
    free(x->rows);
    free(x->claim);
    free(x->sampled);
    free(x->position);
    free(x->status);
    free(x->error);
}

/* |a - b| / |a| */
static float distance(const float *a, const float *b, size_t n)
{
    double apart = 0.0, all = 0.0;

    for (size_t i = 0; i < n; i++) {
        apart += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)a[i] * (double)a[i];
    }
    return (float)sqrt(apart / all);
}

/* Chunks [lo, hi) of the unit. */
static void see_chunks(void *arg, size_t lo, size_t hi)
{
    struct seeing *x = arg;
    const struct proofs_work *w = x->w;
    const size_t dim = w->dim;

    for (size_t i = lo; i < hi; i++) {
        const size_t at = x->unit * unit_chunks(w) + i;
        const float *states = x->rows + i * CHUNK * dim;
        struct toploc_rows rows = {.rows = CHUNK, .dim = dim};
        uint16_t *own = NULL;
        enum status st = chunk_new(&own, states, dim, &x->error[i]);

        for (size_t r = 0; r < CHUNK; r++)
            x->s->distance[at * CHUNK + r] =
                distance(w->states + (at * CHUNK + r) * dim, states + r * dim, dim);
        rows.values = own;
        if (!st)
            st = toploc_verify(
                &x->s->proof[at],
                (struct bytes){w->proofs + at * TOPLOC_PROOF_BYTES, TOPLOC_PROOF_BYTES}, &rows,
                ROLLOUT_PROOF_TOPK, TOPLOC_TIE_LOWEST, TOPLOC_STRICT, &x->error[i]);
        x->status[i] = st;
        free(own);
    }
}

/* What a validator of class open-cuda would say. */
static enum status judge(struct seeing *x)
{
    const struct rollout_world world = {.numerics = NUMERICS_OPEN_CUDA};
    struct rollout_finding f = {.is_accepted = true};
    struct check c = {.w = &world, .f = &f};
    const struct check_evidence v = {.position = x->position,
                                     .sampled = x->sampled,
                                     .n_sampled = x->w->n_new,
                                     .proof = x->s->proof + x->unit * unit_chunks(x->w),
                                     .proof_status = x->status,
                                     .n_proofs = unit_chunks(x->w)};
    enum status st = check_open_sample(&c, 0, &v);

    x->s->is_refused[x->unit] = !f.is_accepted;
    x->s->n_judged += f.is_accepted ? 0 : f.position + 1;
    return st;
}

/* The unit at hand, whose states are in x->rows. */
static enum status see(struct seeing *x, struct err *e)
{
    const struct proofs_work *w = x->w;
    const size_t first = x->unit * w->n_new;
    enum status st;

    for (size_t i = 0; i < w->n_new; i++)
        x->claim[i] = (struct model_claim){.seed = seed_of(x->unit),
                                           .position = (uint32_t)(w->n_prompt + i),
                                           .token = prompt_of(w, x->unit)[w->n_prompt + i]};
    st = model_claims(x->m, x->claim, x->rows, w->n_new, 1.0f, e);
    if (st)
        return st;
    pool_run(model_pool(x->m), unit_chunks(w), 1, see_chunks, x);
    for (size_t i = 0; i < unit_chunks(w); i++)
        if (x->status[i])
            return err_set(e, x->status[i], "%s", x->error[i].text);
    for (size_t i = 0; i < w->n_new; i++) {
        const struct model_claim *c = &x->claim[i];

        if (!c->is_finite)
            return err_set(e, ERR_NUMERIC, "the model's logits are not finite");
        x->position[i] = i;
        x->sampled[i] = (struct check_sampled){.logp = c->logp,
                                               .logp_claimed = w->logp[first + i],
                                               .margin = c->margin,
                                               .is_finite = true};
        x->s->margin[first + i] = c->margin;
        x->s->off[first + i] = fabsf(c->logp - w->logp[first + i]);
        tell("comparing", first + i + 1, n_tokens(w));
    }
    return judge(x);
}

static enum status see_sample(void *ctx, size_t sample, const struct prefill_rows *rows,
                              struct err *e)
{
    struct seeing *x = ctx;

    x->unit = sample;
    for (size_t i = 0; i < rows->n; i++)
        memcpy(x->rows + i * rows->dim, prefill_row(rows, i), rows->dim * sizeof(float));
    return see(x, e);
}

enum status proofs_see_prefill(struct proofs_seen *s, const struct proofs_work *w,
                               struct model *m, struct err *e)
{
    struct seeing x = {.w = w, .s = s, .m = m};
    struct prefill_sample *samples = xcalloc(w->n_units, sizeof(*samples));
    enum status st = seeing_init(&x, e);

    for (size_t i = 0; i < w->n_units; i++)
        samples[i] =
            (struct prefill_sample){.prompt = prompt_of(w, i),
                                    .n_prompt = w->n_prompt,
                                    .tokens = {(const uint8_t *)(prompt_of(w, i) + w->n_prompt),
                                               w->n_new * sizeof(int32_t)}};
    if (!st)
        st = prefill_run(m, w->n_prompt + w->n_new, samples, w->n_units, see_sample, &x, e);
    free(samples);
    seeing_clear(&x);
    return st;
}

enum status proofs_see_file(struct proofs_seen *s, const struct proofs_work *w, struct model *m,
                            const char *path, struct err *e)
{
    struct seeing x = {.w = w, .s = s, .m = m};
    const size_t n = w->n_new * w->dim, bytes = n * sizeof(uint16_t);
    uint16_t *narrow = xcalloc(n, sizeof(*narrow));
    struct file_map file = {0};
    enum status st = seeing_init(&x, e);

    if (!st)
        st = file_map_open(&file, path, e);
    if (!st && file.bytes.len != w->n_units * bytes)
        st = err_set(e, ERR_MALFORMED, "%s has %zu bytes, not %zu", path, file.bytes.len,
                     w->n_units * bytes);
    for (; !st && x.unit < w->n_units; x.unit++) {
        memcpy(narrow, file.bytes.data + x.unit * bytes, bytes);
        f32_from_bf16_row(kernels_best(), x.rows, narrow, n);
        st = see(&x, e);
    }
    file_map_close(&file);
    free(narrow);
    seeing_clear(&x);
    return st;
}
