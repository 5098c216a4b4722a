/*
 * learn/batches.h - batches made by hand: bodies signed by workers of the test's own
 */
#ifndef BATCHES_H
#define BATCHES_H

#include <stdint.h>

#include "proto/msg.h"

#define BATCH_MADE_MAX 32u

struct batch_made {
    struct msg_batch m; /* lends from `envelope` */
    struct buf envelope[BATCH_MADE_MAX];
};

/* To be given back to batch_free. */
struct batch_made *batch_new(uint64_t number);
void batch_free(struct batch_made **b);
/* Appends `body` in an envelope of `kind`, signed by the worker whose seed is 32 times `who`.
 * The root is made anew. */
void batch_add(struct batch_made *b, enum msg_kind kind, const struct digest *run, uint8_t who,
               struct bytes body);

/* What a small submission says; the rest follows. */
struct submission_spec {
    uint64_t unit;
    int64_t version;
    struct digest task;
    const char *numerics;
    uint32_t n_samples;
    float reward[8];
    uint32_t n_tokens; /* of each sample, at most 40 */
    int32_t token; /* token t of a sample is this plus (t * t + sample) mod 5, below `vocab` */
    int32_t vocab;
};
/* Appends its encoded body: prompt of 3 tokens, every third token but the
 * first of mask 0. The root is right. */
void submission_encode(struct buf *out, const struct submission_spec *spec);
/* Adds n such submissions, of units spec->unit, spec->unit + 1, ..., by workers 1, 2, ... */
void batch_add_units(struct batch_made *b, const struct digest *run,
                     const struct submission_spec *spec, uint32_t n);

#endif
