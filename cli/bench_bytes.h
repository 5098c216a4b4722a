/*
 * cli/bench_bytes.h - what verification adds to the wire, a token, by messages encoded for it
 *
 * Threads: any.
 */
#ifndef CLI_BENCH_BYTES_H
#define CLI_BENCH_BYTES_H

#include <stdint.h>

#include "base/status.h"

#define BENCH_AUDITS 0.05 /* of the units are drawn for a full check */
#define BENCH_LIGHT  16u  /* light checks that go out together (orchestrator/orch_light.c) */

/* Bytes of the envelopes that one unit needs. */
struct bench_bytes {
    uint64_t tokens;
    uint64_t payload; /* tokens and log-probabilities of SUBMIT */
    uint64_t
        plain; /* a SUBMIT that nobody would have to believe: no signer, signature, root, opening,
                       * task, weights or class */
    uint64_t commit;  /* what SUBMIT has beyond that: to be held to it */
    uint64_t opening; /* OPENING and its RECEIPT, DRAWN_ASK, DRAWN; 0 where bits are defined */
    uint64_t
        full; /* a full check's: CHECK_ASK; what CHECK has around its SUBMIT; VERDICT and its
                       * RECEIPT */
    double light; /* a light check's: CHECK_ASK, what CHECKS has around its SUBMITs, VERDICTS
                       * and its RECEIPT, of BENCH_LIGHT together */
};

/* A unit of `samples` samples with so many tokens each, in the class of this name. */
MUST_USE enum status bench_bytes_of(struct bench_bytes *out, const char *numerics,
                                    uint32_t samples, uint32_t tokens, struct err *e);

/* Expected bytes a token over tokens and log-probabilities: the commitment, a share BENCH_AUDITS of
 * openings and full checks, and of light checks the rest. */
double bench_bytes_expected(const struct bench_bytes *b);

#endif
