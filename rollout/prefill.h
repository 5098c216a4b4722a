/*
 * rollout/prefill.h - the states that predicted every token of whole samples, many in one prefill
 *
 * Private to rollout/. Samples are packed: as many as fit a few thousand rows go through the model
 * in one call, and those that follow one another with the same prompt share it. Bits do not depend
 * on the packing.
 *
 * Threads: as the world's. Errors: those of the model and of memory.
 */
#ifndef ROLLOUT_PREFILL_H
#define ROLLOUT_PREFILL_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "engine/model.h"

struct prefill_sample {
    const int32_t *prompt; /* equal pointers: one prompt */
    size_t n_prompt;       /* >= 1 */
    struct bytes tokens;   /* n >= 1 of them, int32 little-endian, not aligned; ids in range */
};

/* Row r, (C), is the state that predicted token r. */
struct prefill_rows {
    const float *first, *rest;
    size_t n, dim;
    /* Where the sample's keys and values lie; of all its tokens but the last. */
    const struct kv_cache *kv;
    size_t slot;
};
static inline const float *prefill_row(const struct prefill_rows *x, size_t r)
{
    return r ? x->rest + (r - 1) * x->dim : x->first;
}

/* Called for sample after sample; `rows` is lent. A status other than OK ends the run. */
typedef enum status prefill_fn(void *ctx, size_t sample, const struct prefill_rows *rows,
                               struct err *e);

/* The most pages that prefill_run takes for n samples of one prompt, and *rows of a call: nothing but
 * max_len bounds what they hold. */
size_t prefill_pages_most(size_t max_len, size_t n, size_t *rows);

/* `max_len`: the longest prompt and completion together. */
MUST_USE enum status prefill_run(struct model *m, size_t max_len,
                                 const struct prefill_sample *samples, size_t n,
                                 prefill_fn *each, void *ctx, struct err *e);

#endif
