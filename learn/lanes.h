/*
 * learn/lanes.h - the gradient of a step, lane by lane
 *
 * A step's settings cut its rows into D = grad_lanes lanes (1, 2, 4 or 8): of R rows in all, a sequence
 * whose first row is number r lies in lane floor(r D / R). Each lane's gradient is made as if the lane
 * were the step, a tied head joined to its embedding included; then lanes are added in pairs, pairs
 * in pairs, and so on, one add of f32 for each number:
 *
 *     ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))
 *
 * A lane without a sequence has the gradient +0 and is added like the others. So D is part of what a
 * step computes, and how many processes compute it, any number that divides D, is not: each makes a
 * run of neighbouring lanes, which is a subtree of that sum (docs/numerics.md, section 7).
 *
 * What several processes need beside this is in replay/lane_group.h.
 *
 * Threads: as engine/train.h.
 */
#ifndef LEARN_LANES_H
#define LEARN_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/train.h"
#include "learn/loss.h"

#define LANES_MAX    8u
#define LANES_LEVELS 3u /* of pairs among so many */

/* 1, 2, 4 or 8. */
bool lanes_is_count(int64_t n);
/* The lane of a sequence whose first row is `row` of the step's n_rows. */
uint32_t lanes_of(uint64_t row, uint64_t n_rows, uint32_t n_lanes);

/* One sequence of a step. It has n - 1 rows: one for each token that another follows. */
struct learn_seq {
    const int32_t *tokens; /* (n), borrowed */
    const uint8_t
        *is_target; /* (n), 1 where the token bears loss, borrowed; NULL: from `from` on */
    size_t n, from;
    const float *logprobs; /* (n), of the behaviour policy, borrowed; NULL when imitating */
    float advantage;
};

/* What the gradient of a step is made of, besides the weights. */
struct learn_work {
    const struct learn_seq *seq; /* borrowed */
    size_t n_seqs;
    uint64_t n_tokens; /* that bear loss: what the loss is divided by */
    uint32_t n_lanes;
    float temperature;
    bool is_imitation; /* the loss is the mean of -log p; else `loss` says */
    struct loss_settings loss;
};

/* Sums over the tokens of a lane, in order. */
struct learn_tally {
    double objective; /* of an imitation the log-probability */
    double kl;
    uint64_t n_clipped;
    float ratio_max;
};

struct lanes {
    struct train *train;           /* borrowed */
    const struct kernels *kernels; /* borrowed */
    size_t max_rows;               /* of a micro-batch */
    uint32_t n_levels;
    float *level[LANES_LEVELS]; /* owned, of the device: sums that wait for their neighbour */
};

/* The levels that 1 of n_processes needs, and what they take. */
uint32_t lanes_levels(uint32_t n_lanes, uint32_t n_processes);
uint64_t lanes_bytes(const struct model_config *c, uint32_t n_levels);

/* `t` was made for max_rows rows or more. ERR_NO_MEMORY. */
MUST_USE enum status lanes_new(struct lanes **out, struct train *t,
                               const struct kernels *kernels, size_t max_rows,
                               uint32_t n_levels, struct err *e);
void lanes_free(struct lanes **p);

/*
 * Lanes [first, first + n), n a power of two that divides first, to train_grads_there.
 *
 *   tally  (n)  out  one a lane
 *
 * ERR_LIMIT: a sequence is longer than max_rows, or has less than two tokens; ERR_NUMERIC, ERR_INVALID,
 * ERR_NO_MEMORY as train_gradients. After an error the gradients are worth nothing.
 */
MUST_USE enum status lanes_gradient(struct lanes *x, const struct learn_work *w, uint32_t first,
                                    uint32_t n, struct learn_tally *tally, struct err *e);

/* train_grads_there holds part i of n equal ones (a power of two); parts come in order. Adds it to its
 * neighbours as far as pairs are complete: after the last part it holds the sum of all. Before
 * that it may be overwritten. */
void lanes_settle(struct lanes *x, uint32_t i, uint32_t n);

/* The sums alone, of all lanes, without gradients. Errors as lanes_gradient. */
MUST_USE enum status lanes_evaluate(struct lanes *x, const struct learn_work *w,
                                    struct learn_tally *tally, struct err *e);

#endif
