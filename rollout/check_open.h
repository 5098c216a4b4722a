/*
 * rollout/check_open.h - private: what counts as the same where numbers are not exact
 *
 * In open classes prover and verifier add the same products in other orders, so tokens,
 * log-probabilities and states agree only nearly. Three tests look at a unit, each for what the
 * others cannot see, and each with a third of the chance of refusing an honest one:
 *
 *   MARGIN      tokens: how far each is from being what the assigned seed draws (Token-DiFR,
 *               arXiv:2511.20621), by a sequential test (Page, Biometrika 41, 1954)
 *   LIKELIHOOD  log-probabilities: the same test over |claimed - found|
 *   STATES      TOPLOC proofs: malformed, or outside the thresholds of the class
 *
 * How the numbers were chosen is in docs/verification.md. These reasons are soft: they cost a unit
 * and standing, never stake, since nobody else can be made to see the same.
 */
#ifndef ROLLOUT_CHECK_OPEN_H
#define ROLLOUT_CHECK_OPEN_H

#include "proto/toploc.h"
#include "rollout/check_inside.h"

/* A sampled token, as the worker and as the verifier have it. */
struct check_sampled {
    int32_t token; /* what the seed draws; in open classes margin tells more */
    float logp, logp_claimed;
    float margin; /* sample_margin of the claimed token */
    bool is_finite;
};

/* What the prefill gave for one sample. */
struct check_evidence {
    const size_t *position; /* (n_sampled) index into the sample's tokens */
    const struct check_sampled *sampled;
    size_t n_sampled;
    const struct toploc_result *proof; /* (n_proofs) */
    const enum status *proof_status;   /* of toploc_verify: ERR_MALFORMED, or no blame */
    size_t n_proofs;
};

bool check_open_applies(enum numerics n);

/* Judges one more sample of c; refuses it through c->f. A status other than OK: a proof could not
 * be verified for a reason of our own. */
MUST_USE enum status check_open_sample(struct check *c, size_t sample,
                                       const struct check_evidence *v);

#endif
