#include "rollout/check_open.h"

#include <math.h>

/* Page's test refuses at this height. Under what honest tokens do at most, one start of it gets
 * there with a chance of e^-HEIGHT (Wald), so one of the 32 tokens of a chunk begins such a climb
 * with at most 32 e^-18.5 = 3e-7. */
#define HEIGHT 18.5

/* One step of a test: what is above `limit` counts so much. The last row with a lower limit holds.
 * Each is log (at least this often in the weakest cheat / at most this often in honest work). */
struct step {
    double limit, ratio;
};

static const struct step margin_steps[] = {
    {-1.0, -0.0202},   /* drawn: 0.98 / 1 */
    {0.0, 0.0},        /* nearly drawn: says nothing */
    {1e-3, 9.9034876}, /* not nearly: 0.02 / 1e-6 */
};
static const struct step logp_steps[] = {
    {-1.0, -0.0202},
    {1e-4, 0.0},
    {1e-3, 9.9034876},
};

static const struct toploc_thresholds thresholds = {4, 0.5, 0};

bool check_open_applies(enum numerics n)
{
    return n == NUMERICS_OPEN_OPENBLAS;
}

static double ratio_of(const struct step *steps, double x)
{
    double ratio = steps[0].ratio;

    for (int i = 1; i < 3; i++)
        if (x > steps[i].limit)
            ratio = steps[i].ratio;
    return ratio;
}

/* Whether the test is over the top. */
static bool climb(double *height, const struct step *steps, double x)
{
    *height += ratio_of(steps, x);
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
    for (size_t i = 0; i < v->n_sampled; i++) {
        const struct check_sampled *d = &v->sampled[i];
        double off = fabs((double)d->logp - (double)d->logp_claimed);
        size_t proof = i / ROLLOUT_PROOF_EVERY;

        note_token(&c->f->noise, (double)d->margin, off);
        if (climb(&c->margin, margin_steps, (double)d->margin)) {
            check_refuse(c, REASON_MARGIN, sample, v->position[i], 0, check_bits(d->margin));
            return OK;
        }
        if (climb(&c->logp, logp_steps, off)) {
            check_refuse(c, REASON_LIKELIHOOD, sample, v->position[i],
                         check_bits(d->logp_claimed), check_bits(d->logp));
            return OK;
        }
        if (i % ROLLOUT_PROOF_EVERY != 0)
            continue;
        if (v->proof_status[proof] && v->proof_status[proof] != ERR_MALFORMED)
            return v->proof_status[proof];
        note_proof(&c->f->noise, &v->proof[proof]);
        if (v->proof_status[proof] || !toploc_passes(&v->proof[proof], &thresholds)) {
            check_refuse(c, REASON_STATES, sample, v->position[i], 0,
                         v->proof[proof].exp_mismatches);
            return OK;
        }
    }
    return OK;
}
