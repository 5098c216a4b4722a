/*
 * rollout/prover.h - what is put away of the states behind a sample's tokens, in open classes
 *
 * Private to rollout/. States come token after token; of each started ROLLOUT_PROOF_EVERY a TOPLOC
 * proof and a digest are kept: a sample's part of an opening (proto/opening.h).
 *
 * Threads: as the world's. Errors: ERR_LIMIT, ERR_NO_MEMORY, and those of toploc_prove.
 */
#ifndef ROLLOUT_PROVER_H
#define ROLLOUT_PROVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "rollout/rollout.h"

/* The largest elements of a state: by index, in bf16. */
struct prover_row {
    uint32_t index[MODEL_TOP];
    uint16_t value[MODEL_TOP];
};

/* In class open-cuda, and where states have as many elements, a chunk's digest is of the MODEL_TOP largest of
 * each row instead of the whole row (proto/opening.h): what TOPLOC's kernel gives, so that no state leaves the
 * device. */
bool prover_takes_top(enum numerics n, size_t dim);
/* Of a row in bf16: what a device's model_top gives of it. ERR_NUMERIC: NaN; ERR_NO_MEMORY. */
MUST_USE enum status prover_top_of_row(struct prover_row *top, const uint16_t *row, size_t dim,
                                       struct err *e);
void prover_digest_top(struct digest_state *s, const struct prover_row *top);

/* Threads that make proofs of full chunks beside whoever adds states: a proof takes some tens of microseconds,
 * and a GPU fills thousands of chunks a second. */
struct prover_crew;
/* As many threads as there are cores but one, which is for who adds states; one at least, PROVER_CREW_MOST at most. NULL
 * if none could be had: then who adds states makes the proofs. */
#define PROVER_CREW_MOST 16u
void prover_crew_new(struct prover_crew **out);
/* No prover may have it any more. */
void prover_crew_free(struct prover_crew **p);

struct prover {
    struct buf proofs, states; /* owned: of the chunks that are over */
    uint16_t *
        rows; /* owned, (ROLLOUT_PROOF_EVERY, dim), bf16: of the one that is not; one where tops are taken */
    struct digest_state digest; /* of the same rows, float32 */
    size_t n, dim;
    /* Where tops are taken, owned, two chunks of ROLLOUT_PROOF_EVERY: one that fills up, number `filling`, and
     * one that is full and has n_due rows, from which nothing was made yet. Else NULL. */
    struct prover_row *tops;
    size_t filling, n_due;
    /* Borrowed, or NULL; to be set after prover_init. It works on what is full while is_out. */
    struct prover_crew *crew;
    struct prover *next; /* that waits for it */
    _Atomic bool is_out; /* set and cleared with the crew's lock */
    enum status made;    /* what came of it */
    struct err why;
};

/* On failure *p is cleared. */
MUST_USE enum status prover_init(struct prover *p, size_t dim, bool takes_top, struct err *e);
void prover_clear(struct prover *p);

/* The state (dim) that predicted the next sampled token. */
MUST_USE enum status prover_add(struct prover *p, const struct kernels *k, const float *state,
                                struct err *e);
/* The same of one that takes tops, by whoever has them: the largest of the state. What a full chunk comes to is made
 * by the crew, or when the next one is full as well. */
MUST_USE enum status prover_add_top(struct prover *p, const uint32_t *index,
                                    const uint16_t *value, struct err *e);
/* After the last state: a chunk that is not full is taken for one. Does not wait for the crew. */
MUST_USE enum status prover_close(struct prover *p, struct err *e);
/* The same, and all is made when it returns. */
MUST_USE enum status prover_end(struct prover *p, struct err *e);
/* Waits for the crew and does without it from now on. */
void prover_leave(struct prover *p);

/* The opening of the submission by the provers of its samples, and its root as m->opening. Appends
 * the encoded OPENING to `out`. */
MUST_USE enum status prover_open(struct buf *out, struct msg_submit *m, const struct prover *p,
                                 struct err *e);

#endif
