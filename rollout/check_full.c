/* The part of a check that needs the weights: one prefill, then every token and log-probability of
 * sample after sample, and in open classes every proof of its opening. What counts as the same is the
 * class's: equality here, tolerances in check_open.c. */
#include "rollout/check_inside.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "engine/ops.h"
#include "proto/digest.h"
#include "proto/opening.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/check_open.h"
#include "rollout/prefill.h"
#include "rollout/probe.h"
#include "rollout/prover.h"

#define LOGIT_ROWS 64u   /* rows of logits held at once */
#define DRAW_GRAIN 4096u /* vocabulary entries: fewer are not worth another thread */

/* All submissions of a check, and scratch for the sample at hand. */
struct full {
    struct check *checks;
    size_t n_checks;
    struct probe *probe; /* owned, (n_checks) */
    struct where {
        size_t check, sample;
    } * where;                      /* owned: of each sample of the prefill */
    struct prefill_sample *samples; /* owned */
    size_t n;
    float *logits; /* owned, (LOGIT_ROWS, V); not in open classes */
    float *picked; /* owned, (LOGIT_ROWS, C): the states they come from */

    /* Of the sample at hand; rows are those of sampled tokens only. */
    struct model *model; /* borrowed */
    const struct prefill_rows *rows;
    struct check *c;
    size_t sample, n_sampled, n_proofs, block;
    size_t *position;             /* owned, (longest): the row of each sampled token */
    struct check_sampled *found;  /* owned, (longest) */
    uint16_t *chunk;              /* owned, (longest, C): the states, bf16; in open classes */
    struct digest *digest;        /* owned: of each chunk's states */
    struct toploc_result *errors; /* owned: of each proof, by tolerances */
    enum status *statuses;        /* owned, of each proof */
    struct err *errs;             /* owned, likewise */
};

static bool is_open(const struct full *x)
{
    return check_open_applies(x->checks[0].w->numerics);
}

static size_t longest_sample(const struct full *x)
{
    size_t longest = 1;

    for (size_t i = 0; i < x->n; i++) {
        size_t n = x->samples[i].tokens.len / sizeof(int32_t);
        longest = n > longest ? n : longest;
    }
    return longest;
}

static enum status full_init(struct full *x, struct check *checks, size_t n, struct err *e)
{
    const struct model_config *c = model_config(checks[0].w->model);
    size_t n_samples = 0, longest, proofs;
    enum status st = OK;

    *x = (struct full){.checks = checks, .n_checks = n, .model = checks[0].w->model};
    for (size_t i = 0; i < n; i++)
        n_samples += checks[i].s->n_samples;
    x->probe = xcalloc(n, sizeof(*x->probe));
    x->where = xcalloc(n_samples, sizeof(*x->where));
    x->samples = xcalloc(n_samples, sizeof(*x->samples));
    for (size_t i = 0; i < n; i++)
        for (size_t s = 0; s < checks[i].s->n_samples; s++, x->n++) {
            x->where[x->n] = (struct where){i, s};
            x->samples[x->n] = (struct prefill_sample){.prompt = checks[i].prompt.ids,
                                                       .n_prompt = checks[i].prompt.n,
                                                       .tokens = checks[i].s->sample[s].tokens};
        }
    longest = longest_sample(x);
    proofs = longest / ROLLOUT_PROOF_EVERY + 1;
    if (!is_open(x))
        st = alloc_array(&x->logits, (size_t)LOGIT_ROWS * c->vocab, sizeof(float), "logits", e);
    if (!st)
        st = alloc_array(&x->picked, (size_t)LOGIT_ROWS * c->dim, sizeof(float), "states", e);
    if (!st)
        st = alloc_array(&x->position, longest, sizeof(*x->position), "positions", e);
    if (!st)
        st = alloc_array(&x->found, longest, sizeof(*x->found), "draws", e);
    if (!st)
        st = alloc_array(&x->chunk, longest * c->dim, sizeof(*x->chunk), "bf16 states", e);
    if (!st)
        st = alloc_array(&x->digest, proofs, sizeof(*x->digest), "proofs", e);
    if (!st)
        st = alloc_array(&x->errors, proofs, sizeof(*x->errors), "proofs", e);
    if (!st)
        st = alloc_array(&x->statuses, proofs, sizeof(*x->statuses), "proofs", e);
    if (!st)
        st = alloc_array(&x->errs, proofs, sizeof(*x->errs), "proofs", e);
    return st;
}

static void full_clear(struct full *x)
{
    free(x->probe);
    free(x->where);
    free(x->samples);
    free(x->logits);
    free(x->picked);
    free(x->position);
    free(x->found);
    free(x->chunk);
    free(x->digest);
    free(x->errors);
    free(x->statuses);
    free(x->errs);
}

/* ---- tokens ------------------------------------------------------------------------------ */

/* Rows [lo, hi) of the block of logits: what the seed draws there. */
static void draw_rows(void *arg, size_t lo, size_t hi)
{
    struct full *x = arg;
    const struct rollout_world *w = x->c->w;
    const struct kernels *k = model_kernels(x->model);
    const struct msg_sample *m = &x->c->s->sample[x->sample];
    uint64_t seed = plan_sample_seed(&w->plan, x->c->s->unit, (uint32_t)x->sample);
    float temperature = (float)w->task->sampling.temperature;
    size_t V = model_config(x->model)->vocab;

    for (size_t i = lo; i < hi; i++) {
        struct check_sampled *d = &x->found[x->block + i];
        const float *logits = x->logits + i * V;
        size_t at = x->position[x->block + i];
        uint32_t position = (uint32_t)(x->c->prompt.n + at);

        d->is_finite = all_finite(k, logits, V);
        d->logp_claimed = check_float(m->logprobs, at);
        d->token = sample_token(k, &d->logp, logits, V, temperature, seed, position);
    }
}

/* The same by how far the claimed tokens are from being drawn. */
static enum status look_at_claims(struct full *x, size_t n, struct err *e)
{
    const struct rollout_world *w = x->c->w;
    const struct msg_sample *m = &x->c->s->sample[x->sample];
    const uint64_t seed = plan_sample_seed(&w->plan, x->c->s->unit, (uint32_t)x->sample);
    struct model_claim claim[LOGIT_ROWS];
    enum status st;

    for (size_t i = 0; i < n; i++) {
        const size_t at = x->position[x->block + i];

        claim[i] = (struct model_claim){.seed = seed,
                                        .position = (uint32_t)(x->c->prompt.n + at),
                                        .token = check_token(m->tokens, at)};
    }
    st = model_claims(x->model, claim, x->picked, n, (float)w->task->sampling.temperature, e);
    for (size_t i = 0; !st && i < n; i++)
        x->found[x->block + i] = (struct check_sampled){
            .logp = claim[i].logp,
            .logp_claimed = check_float(m->logprobs, x->position[x->block + i]),
            .margin = claim[i].margin,
            .is_finite = claim[i].is_finite};
    return st;
}

static bool draws_are_equal(struct full *x, size_t n)
{
    const struct msg_sample *m = &x->c->s->sample[x->sample];

    for (size_t i = x->block; i < x->block + n; i++) {
        const struct check_sampled *d = &x->found[i];
        size_t at = x->position[i];
        int32_t claimed = check_token(m->tokens, at);

        if (d->token != claimed)
            return check_refuse(x->c, REASON_TOKEN, x->sample, at, (uint32_t)claimed,
                                (uint32_t)d->token);
        if (check_bits(d->logp) != check_bits(d->logp_claimed))
            return check_refuse(x->c, REASON_LOGPROB, x->sample, at,
                                check_bits(d->logp_claimed), check_bits(d->logp));
    }
    return true;
}

/* Draws every sampled token again, LOGIT_ROWS at a time. *good: so far nothing differs. */
static enum status draw_all(struct full *x, bool *good, struct err *e)
{
    size_t dim = x->rows->dim, V = model_config(x->model)->vocab;
    enum status st;

    *good = true;
    for (x->block = 0; *good && x->block < x->n_sampled; x->block += LOGIT_ROWS) {
        size_t left = x->n_sampled - x->block, n = left < LOGIT_ROWS ? left : LOGIT_ROWS;

        for (size_t i = 0; i < n; i++)
            memcpy(x->picked + i * dim, prefill_row(x->rows, x->position[x->block + i]),
                   dim * sizeof(float));
        if (is_open(x)) {
            st = look_at_claims(x, n, e);
        } else {
            st = model_logits(x->model, x->logits, x->picked, n, e);
            if (!st)
                pool_run(model_pool(x->model), n, 1 + DRAW_GRAIN / V, draw_rows, x);
        }
        if (st)
            return st;
        for (size_t i = x->block; i < x->block + n; i++)
            if (!x->found[i].is_finite)
                return err_set(e, ERR_NUMERIC, "the model's logits are not finite");
        if (!is_open(x))
            *good = draws_are_equal(x, n);
    }
    return OK;
}

/* ---- proofs, in open classes ------------------------------------------------------------- */

static void verify_chunks(void *arg, size_t lo, size_t hi)
{
    struct full *x = arg;
    size_t dim = x->rows->dim;
    const bool takes_top = prover_takes_top(x->checks[0].w->numerics, dim);
    struct bytes proofs = opening_proofs(x->c->opening, x->c->s, (uint32_t)x->sample);

    for (size_t i = lo; i < hi; i++) {
        size_t first = i * ROLLOUT_PROOF_EVERY, left = x->n_sampled - first;
        const struct toploc_rows own = {
            .values = x->chunk + first * dim,
            .rows = left < ROLLOUT_PROOF_EVERY ? left : ROLLOUT_PROOF_EVERY,
            .dim = dim};
        struct digest_state d;
        enum status st = OK;

        digest_begin(&d, NULL);
        for (size_t r = first; !st && r < first + own.rows; r++) {
            const float *row = prefill_row(x->rows, x->position[r]);
            struct prover_row top = {0};

            bf16_from_f32_row(model_kernels(x->model), x->chunk + r * dim, row, dim);
            if (takes_top) {
                st = prover_top_of_row(&top, x->chunk + r * dim, dim, &x->errs[i]);
                prover_digest_top(&d, &top);
            } else {
                digest_add(&d, (struct bytes){(const uint8_t *)row, dim * sizeof(*row)});
            }
        }
        digest_end(&d, &x->digest[i]);
        x->statuses[i] =
            st ? st
               : toploc_verify(&x->errors[i],
                               bytes_slice(proofs, i * TOPLOC_PROOF_BYTES, TOPLOC_PROOF_BYTES),
                               &own, ROLLOUT_PROOF_TOPK, TOPLOC_TIE_LOWEST, TOPLOC_STRICT,
                               &x->errs[i]);
    }
}

/* ---- a sample ---------------------------------------------------------------------------- */

static void find_sampled(struct full *x)
{
    const struct msg_sample *m = &x->c->s->sample[x->sample];

    x->n_sampled = 0;
    for (size_t r = 0; r < x->rows->n; r++)
        if (submission_is_sampled(m, r))
            x->position[x->n_sampled++] = r;
    x->n_proofs = (x->n_sampled + ROLLOUT_PROOF_EVERY - 1) / ROLLOUT_PROOF_EVERY;
}

static enum status judge_sample(void *ctx, size_t i, const struct prefill_rows *rows,
                                struct err *e)
{
    struct full *x = ctx;
    enum status st;
    bool good;

    x->c = &x->checks[x->where[i].check];
    x->sample = x->where[i].sample;
    x->rows = rows;
    probe_sample(&x->probe[x->where[i].check], x->sample, rows);
    if (!x->c->f->is_accepted)
        return OK; /* the first difference has ended the check of this submission */
    find_sampled(x);
    st = draw_all(x, &good, e);
    if (st || !good || !is_open(x))
        return st;
    pool_run(model_pool(x->model), x->n_proofs, 1, verify_chunks, x);
    for (size_t k = 0; k < x->n_proofs; k++)
        merkle_add(&x->c->states, BYTES_OF(x->digest[k].b));
    return check_open_sample(x->c, x->sample,
                             &(struct check_evidence){.position = x->position,
                                                      .sampled = x->found,
                                                      .n_sampled = x->n_sampled,
                                                      .proof = x->errors,
                                                      .proof_status = x->statuses,
                                                      .n_proofs = x->n_proofs});
}

enum status check_full(struct check *checks, size_t n, struct err *e)
{
    size_t max_len = (size_t)checks[0].w->task->model.max_len;
    struct full x;
    enum status st = full_init(&x, checks, n, e);

    for (size_t i = 0; i < n; i++) {
        probe_begin(&x.probe[i], is_open(&x) ? NULL : checks[i].probe, checks[i].s,
                    checks[i].prompt.n, model_config(x.model)->layers);
        merkle_init(&checks[i].states);
    }
    if (!st)
        st = prefill_run(x.model, max_len, x.samples, x.n, judge_sample, &x, e);
    for (size_t i = 0; !st && i < n; i++) {
        struct check *c = &checks[i];
        struct digest own;

        probe_end(&x.probe[i]);
        merkle_root(&c->states, &own);
        c->f->noise.has_same_states = c->opening && digest_equal(&own, &c->opening->states);
    }
    full_clear(&x);
    return st;
}
