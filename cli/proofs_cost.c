#include "cli/proofs_cost.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/sampler.h"
#include "rollout/prover.h"

struct decoding {
    struct prover *prover;    /* owned, (batch); NULL: no proofs */
    struct prover_crew *crew; /* owned */
    size_t batch;
    enum status status; /* the first failure inside a callback */
    struct err *e;
};

static void add_top(void *ctx, const struct sampler_top *t)
{
    struct decoding *x = ctx;

    if (!x->status)
        x->status = prover_add_top(&x->prover[t->tag], t->index, t->value, x->e);
}

static enum status make_provers(struct decoding *x, size_t dim)
{
    enum status st = OK;

    x->prover = xcalloc(x->batch, sizeof(*x->prover));
    prover_crew_new(&x->crew);
    for (size_t i = 0; !st && i < x->batch; i++) {
        st = prover_init(&x->prover[i], dim, true, x->e);
        x->prover[i].crew = x->crew;
    }
    return st;
}

static enum status ask(struct sampler *s, const struct decoding *x, size_t n_new)
{
    enum status st = OK;

    for (size_t i = 0; !st && i < x->batch; i++) {
        const int32_t prompt = (int32_t)i;
        const uint64_t seed = i;

        st = sampler_add(s,
                         &(struct sampler_request){.tag = i,
                                                   .prompt = &prompt,
                                                   .n_prompt = 1,
                                                   .seeds = &seed,
                                                   .n_samples = 1,
                                                   .temperature = 1.0f,
                                                   .max_new = n_new},
                         x->e);
    }
    return st;
}

/* From the first step to the last proof. */
static enum status decode(double *seconds, struct model *m, size_t batch, size_t n_new,
                          bool with_proofs, struct err *e)
{
    struct decoding x = {.batch = batch, .e = e};
    const struct sampler_options so = {.n_slots = batch,
                                       .max_len = n_new + 1,
                                       .on_top = with_proofs ? add_top : NULL,
                                       .ctx = &x};
    struct sampler *s = NULL;
    enum status st = with_proofs ? make_provers(&x, model_config(m)->dim) : OK;
    int64_t start;

    if (!st)
        st = sampler_new(&s, m, &so, e);
    if (!st)
        st = ask(s, &x, n_new);
    start = clock_mono_us();
    if (!st)
        st = sampler_run(s, e);
    if (!st)
        st = x.status;
    for (size_t i = 0; !st && x.prover && i < batch; i++)
        st = prover_close(&x.prover[i], e);
    for (size_t i = 0; !st && x.prover && i < batch; i++)
        st = prover_end(&x.prover[i], e);
    *seconds = (double)(clock_mono_us() - start) * 1e-6;
    sampler_free(&s);
    for (size_t i = 0; x.prover && i < batch; i++)
        prover_clear(&x.prover[i]);
    prover_crew_free(&x.crew);
    free(x.prover);
    return st;
}

enum status proofs_cost(double *without, double *with, struct model *m, size_t batch,
                        size_t n_new, size_t rounds, struct err *e)
{
    double best[2] = {1e9, 1e9};
    enum status st = OK;

    if (!model_has_top(m))
        return err_set(e, ERR_UNSUPPORTED,
                       "states of fewer than %u channels leave the device whole", MODEL_TOP);
    for (size_t round = 0; !st && round < rounds; round++)
        for (int i = 0; !st && i < 2; i++) {
            double took;

            st = decode(&took, m, batch, n_new, i == 1, e);
            if (took < best[i])
                best[i] = took;
        }
    *without = (double)(batch * n_new) / best[0];
    *with = (double)(batch * n_new) / best[1];
    return st;
}
