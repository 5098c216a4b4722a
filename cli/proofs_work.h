/*
 * cli/proofs_work.h - for bench proofs: work of class open-cuda, and how another implementation sees it
 *
 * A unit is one sequence: a random prompt of n_prompt tokens and n_new tokens that were decoded after it, with
 * a proof for each ROLLOUT_PROOF_EVERY of these.
 *
 * Threads: one at a time; the pool's help.
 */
#ifndef CLI_PROOFS_WORK_H
#define CLI_PROOFS_WORK_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "engine/model.h"
#include "proto/toploc.h"

struct proofs_work {
    size_t n_units, n_prompt, n_new, dim;
    int32_t *tokens; /* owned, (n_units, n_prompt + n_new) */
    float *logp;     /* owned, (n_units, n_new) */
    float *states;   /* owned, (n_units, n_new, dim): what each token was drawn from */
    uint8_t *proofs; /* owned, (n_units, n_new / ROLLOUT_PROOF_EVERY, TOPLOC_PROOF_BYTES) */
};

/* Of n_units, n_prompt and n_new, which are set; random prompts. ERR_NO_MEMORY. */
MUST_USE enum status proofs_work_init(struct proofs_work *w, const struct model_config *c,
                                      struct err *e);
void proofs_work_clear(struct proofs_work *w);
size_t proofs_work_chunks(const struct proofs_work *w);

/* Decodes all units at temperature 1, `batch` of them together, and makes their proofs. Says on stderr how far it
 * is. Errors of the model and of memory. */
MUST_USE enum status proofs_work_make(struct proofs_work *w, struct model *m, size_t batch,
                                      struct err *e);

/* What another implementation makes of it. */
struct proofs_seen {
    float *distance; /* owned, of each token: |state - state'| / |state| */
    float *off;      /* owned, likewise: |log-probability - log-probability'| */
    float *margin;   /* owned, likewise: sample_margin of the token that was drawn */
    struct toploc_result *proof; /* owned, of each chunk */
    bool *is_refused;            /* owned, of each unit: by the check of its class */
    uint64_t n_judged;           /* tokens that it took to refuse those, added up */
};
void proofs_seen_clear(struct proofs_seen *s);

/* By a prefill with m, in packs as a check has them. */
MUST_USE enum status proofs_see_prefill(struct proofs_seen *s, const struct proofs_work *w,
                                        struct model *m, struct err *e);
/* By states of somebody else, bf16 (n_units, n_new, dim) in `path`; logits are m's. ERR_MALFORMED: the file's
 * size is another. */
MUST_USE enum status proofs_see_file(struct proofs_seen *s, const struct proofs_work *w,
                                     struct model *m, const char *path, struct err *e);

#endif
