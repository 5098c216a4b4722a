#include "rollout/check_open.h"

#include <math.h>

#include "base/check.h"
#include "proto/opening.h"

/*
 * Page's test. A token is far off or it is not. In honest work at most a share `honest` of them are, in
 * the weakest cheat that is looked for at least `cheat`; the logarithms of the two ratios are added up,
 * never below zero:
 *
 *   far off    log(cheat / honest)
 *   otherwise  log((1 - cheat) / 1)
 *
 * Such a sum has E[e^step] <= 1 in honest work, so a climb that begins at some token reaches HEIGHT with
 * a chance of at most e^-HEIGHT (Wald), and of the 32 of a chunk one does so with at most
 * 32 e^-HEIGHT = 3e-7.
 */
#define HEIGHT 18.5

struct far {
    double from; /* where a token begins to be far off: Gumbel units, or nats */
    double honest, cheat;
};

/* What was measured of each class, and what follows, is in docs/verification.md. */
struct tolerance {
    enum numerics numerics;
    struct far margin, logp;
    struct toploc_thresholds proof;
};
static const struct tolerance tolerances[] = {
    {NUMERICS_OPEN_OPENBLAS, {1e-3, 1e-6, 0.02}, {3e-4, 1e-6, 0.02}, {4, 0.5, 0}},
    {NUMERICS_OPEN_CUDA, {0.2, 1e-4, 0.02}, {0.2, 1e-4, 0.02}, {38, 10, 8}},
};

static const struct tolerance *tolerance_of(enum numerics n)
{
    for (size_t i = 0; i < sizeof(tolerances) / sizeof(tolerances[0]); i++)
        if (tolerances[i].numerics == n)
            return &tolerances[i];
    return NULL;
}

bool check_open_applies(enum numerics n)
{
    return opening_is_wanted(numerics_name(n));
}

/* Whether the test is over the top. */
static bool climb(double *height, const struct far *f, double off)
{
    *height += off > f->from ? log(f->cheat / f->honest) : log1p(-f->cheat);
    if (*height < 0.0)
        *height = 0.0;
    return *height >= HEIGHT;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void note_token(struct rollout_noise *n, double margin, double off)
{
    n->tokens++;
    n->n_drawn_otherwise += margin > 0.0;
    n->margin = larger(n->margin, margin);
    n->logprob = larger(n->logprob, off);
}

static void note_proof(struct rollout_noise *n, const struct toploc_result *r)
{
    n->chunks++;
    n->exponents = r->exp_mismatches > n->exponents ? r->exp_mismatches : n->exponents;
    n->mantissa = larger(n->mantissa, r->mant_err_mean);
    n->mantissa_median = larger(n->mantissa_median, r->mant_err_median);
}

enum status check_open_sample(struct check *c, size_t sample, const struct check_evidence *v)
{
    const struct tolerance *t = tolerance_of(c->w->numerics);

    CHECK(t);
    for (size_t i = 0; i < v->n_sampled; i++) {
        const struct check_sampled *d = &v->sampled[i];
        double off = fabs((double)d->logp - (double)d->logp_claimed);
        size_t proof = i / ROLLOUT_PROOF_EVERY;

        note_token(&c->f->noise, (double)d->margin, off);
        if (climb(&c->margin, &t->margin, (double)d->margin)) {
            check_refuse(c, REASON_MARGIN, sample, v->position[i], 0, check_bits(d->margin));
            return OK;
        }
        if (climb(&c->logp, &t->logp, off)) {
            check_refuse(c, REASON_LIKELIHOOD, sample, v->position[i],
                         check_bits(d->logp_claimed), check_bits(d->logp));
            return OK;
        }
        if ((i + 1) % ROLLOUT_PROOF_EVERY != 0 && i + 1 != v->n_sampled)
            continue; /* a proof is judged with its last token */
        if (v->proof_status[proof] && v->proof_status[proof] != ERR_MALFORMED)
            return v->proof_status[proof];
        note_proof(&c->f->noise, &v->proof[proof]);
        if (v->proof_status[proof] || !toploc_passes(&v->proof[proof], &t->proof)) {
            check_refuse(c, REASON_STATES, sample, v->position[i], 0,
                         v->proof[proof].exp_mismatches);
            return OK;
        }
    }
    return OK;
}
