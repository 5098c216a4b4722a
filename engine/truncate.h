/*
 * engine/truncate.h - drawing from a part of the distribution: top-k, top-p, min-p
 *
 * Of y = logit / temperature, in falling order (the lower id first where logits are equal), it
 * keeps what passes all three, with p = exp(y - m) / sum, m = max y:
 *
 *   top_k  the first top_k
 *   top_p  as few of those as have top_p of their probability together, the first of them
 *          always (arXiv:1904.09751)
 *   min_p  those at least min_p times as likely as the first (arXiv:2407.01082)
 *
 * and draws among them with the noise of sample_token (engine/ops.h): where nothing was cut off,
 * its token. That is the order of transformers (temperature, then top-k, top-p, min-p). It is for
 * whoever reads the text: a network's workers draw from the whole distribution.
 *
 * The draw is a function of logits, temperature, seed, position and the three numbers; exp is the
 * class's, sums are binary64 in the order above.
 *
 * Threads: as many draws at a time as truncate_new was told.
 */
#ifndef ENGINE_TRUNCATE_H
#define ENGINE_TRUNCATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/model.h"

struct truncate_options {
    size_t top_k; /* ids; 0: any number */
    float top_p;  /* 0..1; 1: all */
    float min_p;  /* 0..1; 0: all */
};

struct truncate;

/* For models of V ids and a pool of n_threads (pool_threads; 1 without a pool). Takes 12 * V bytes
 * for each thread, and nothing later. ERR_INVALID: a number out of its range; ERR_NO_MEMORY. */
MUST_USE enum status truncate_new(struct truncate **out, const struct truncate_options *opt,
                                  size_t V, size_t n_threads, struct err *e);
void truncate_free(struct truncate **p);

/* A draw_fn (engine/model.h); ctx is the struct truncate. *logp (or NULL) is the token's in the whole
 * distribution, as sample_token has it. Temperature 0: the likeliest token. */
int32_t truncate_draw(void *ctx, const struct draw_place *at, float *logp);

#endif
