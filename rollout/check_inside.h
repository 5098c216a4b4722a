/*
 * rollout/check_inside.h - private: what the parts of a check share
 */
#ifndef ROLLOUT_CHECK_INSIDE_H
#define ROLLOUT_CHECK_INSIDE_H

#include <string.h>

#include "proto/merkle.h"
#include "rollout/check.h"
#include "rollout/episode.h"

/* One submission under check. */
struct check {
    const struct rollout_world *w;
    const struct msg_submit *s;
    const struct msg_opening *opening; /* NULL: there is none */
    struct rollout_finding *f;
    struct rollout_probe *probe;  /* NULL: none is wanted */
    struct episode_prompt prompt; /* owned */
    double margin, logp;          /* heights of the tests of check_open.h */
    struct merkle states; /* in open classes: of the chunks so far, as the verifier has them */
    struct err *e;
};

/* Records why the submission is refused. Always returns false: "go no further". */
bool check_refuse(struct check *c, enum reason code, size_t sample, size_t position,
                  uint64_t claimed, uint64_t found);

/* What needs the weights, of n submissions whose light checks found nothing. */
MUST_USE enum status check_full(struct check *checks, size_t n, struct err *e);

static inline uint32_t check_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* The wire is not aligned. */
static inline int32_t check_token(struct bytes tokens, size_t i)
{
    int32_t t;

    memcpy(&t, tokens.data + i * sizeof(t), sizeof(t));
    return t;
}

static inline float check_float(struct bytes floats, size_t i)
{
    float x;

    memcpy(&x, floats.data + i * sizeof(x), sizeof(x));
    return x;
}

#endif
