/*
 * rollout/check.h - is this submission what the assigned weights, prompt and seeds give?
 *
 * The mirror of rollout/rollout.h. CHECK_LIGHT needs no weights: decoding, bounds, the Merkle
 * root, the prompt, and for every sample its episode and its reward, from the environment.
 * CHECK_FULL adds one prefill of prompt and tokens, from which every sampled token is drawn
 * again from its Philox coordinates and every log-probability recomputed. Where bits are defined
 * all of it is compared for equality: there is no tolerance, and the first difference ends the
 * check. In open classes tolerances judge, of the opening's TOPLOC proofs as well.
 *
 * Threads: as the world's.
 */
#ifndef ROLLOUT_CHECK_H
#define ROLLOUT_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"
#include "rollout/rollout.h"

/* What an open class saw of a unit, refused or not: the largest of each difference. */
struct rollout_noise {
    uint64_t tokens, chunks;    /* judged */
    bool has_same_states;       /* the verifier's own are the worker's to the last bit */
    uint64_t n_drawn_otherwise; /* tokens that the verifier's numbers do not draw */
    double margin, logprob;     /* Gumbel units; nats */
    uint32_t exponents;         /* of a proof: mismatches among its values */
    double mantissa, mantissa_median;
};

struct rollout_finding {
    bool is_accepted;
    enum reason code;  /* why not */
    uint32_t sample;   /* where it first differs */
    uint32_t position; /* index into the sample's tokens */
    uint64_t claimed;  /* bits the worker gave */
    uint64_t found;    /* bits that recomputation gives */
    struct rollout_noise noise;
    bool is_second; /* the first kernels would have refused it; this is what the second say */
    char text[MSG_TEXT_BYTES]; /* one sentence for people */
};

/* For whose places the middle of a full check's prefill is looked up (proto/states.h). */
#define ROLLOUT_PROBE_MAX 8u
struct rollout_probe {
    struct digest draw;
    uint32_t n;
    struct public_key who[ROLLOUT_PROBE_MAX];
    struct digest
        found[ROLLOUT_PROBE_MAX]; /* out; zero: no prefill was made, or an open class */
};

/* Judges `s`, or n of them in one prefill, each into its finding. `opening` (n), or one, is what open
 * classes want in full checks: decoded, else unchecked; an entry that is NULL was not opened. It may
 * be NULL itself where bits are defined, and for CHECK_LIGHT. OK means a verdict was reached, for or against; an error means that none was
 * (ERR_TIMEOUT: the environment; ERR_NO_MEMORY ...), and nobody may be blamed. `probe`
 * (n), or one, or NULL. The world's model may be NULL for CHECK_LIGHT. */
MUST_USE enum status rollout_check_all(const struct rollout_world *w,
                                       const struct msg_submit *const *s,
                                       const struct msg_opening *const *opening, size_t n,
                                       enum check_depth depth, struct rollout_probe *probe,
                                       struct rollout_finding *f, struct err *e);
MUST_USE enum status rollout_check(const struct rollout_world *w, const struct msg_submit *s,
                                   const struct msg_opening *opening, enum check_depth depth,
                                   struct rollout_probe *probe, struct rollout_finding *f,
                                   struct err *e);

#endif
