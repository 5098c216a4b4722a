/*
 * rollout/model_set.h - the few weight versions that are loaded at a time
 *
 * Units in flight name two or three versions; each is decoded and packed once and kept until
 * newer ones push it out.
 *
 * Threads: one at a time.
 */
#ifndef ROLLOUT_MODEL_SET_H
#define ROLLOUT_MODEL_SET_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/pool.h"
#include "base/status.h"
#include "engine/config.h"
#include "engine/model.h"
#include "proto/types.h"

struct model_set;

struct model_set_options {
    const struct kernels *kernels; /* borrowed */
    struct pool *pool;             /* borrowed; may be NULL */
    size_t cap;                    /* versions kept, >= 1 */
    size_t max_rows;               /* as struct model_options */
    uint64_t max_bytes;            /* of one model; 0: no limit */
    /* Called on weights just decoded, before they are packed; NULL in an honest program. */
    void (*tamper)(void *tamper_ctx, struct weights *w);
    void *tamper_ctx;
    void (*round_cache)(float *x, size_t n); /* as struct model_options; NULL likewise */
};

void model_set_new(struct model_set **out, const struct model_config *config,
                   const struct model_set_options *opt);
void model_set_free(struct model_set **s);

/* The model of `version`, lent until the next model_set_add; NULL if it is not loaded. */
struct model *model_set_find(struct model_set *s, int64_t version);
/* Decodes and packs `file` (a version's safetensors bytes), which pushes out the lowest version
 * when the set is full. Adding a version again replaces it. ERR_MALFORMED, ERR_NO_MEMORY,
 * ERR_LIMIT, ERR_NUMERIC: a weight is not finite. */
MUST_USE enum status model_set_add(struct model_set *s, int64_t version, struct bytes file,
                                   struct err *e);

#endif
