/*
 * ledger/watch.h - what can be seen of submissions side by side, without a model
 *
 * A COMMIT says of each sample what needs no weights to know: a print of its tokens, how many there
 * are, how surprising they are by the worker's own log-probabilities, its reward, and whether an end
 * token ended it. Two things are looked for, over all workers and all the time of a task. Neither
 * refuses or costs anything: each makes a full check more likely, and that check decides.
 *
 * COPIED  tokens that other samples had before. An honest sample comes to a given sequence of surprise
 *         h (minus the sum of its log-probabilities) with probability e^-h. Of a unit of n samples let
 *         x be the sum of h - ln N over those that are among the N sequences known. Each contributes
 *         a factor of at most 1 + sum over the N of e^-h e^(h - ln N) = 2 to the mean of e^x, so
 *         x >= n ln 2 - ln 10^-4 in less than one honest unit of 10^4 (Markov). Short or certain
 *         answers, which do coincide, are let be. The unit is checked fully for certain; so is the one
 *         that had it before, if it is not drawn yet.
 * DRIFT   length, surprise a token, share of samples that end, or reward off the population's: of a
 *         worker, the mean of its units in a window of WATCH_WINDOW commits against that of the others'
 *         at WATCH_SIGMA standard errors; of a single unit (OUTLIER), at WATCH_SIGMA_ONE deviations.
 *         The probability of a full check is WATCH_TIMES as high, at most one.
 *
 * All of it in integers, from ledger entries alone: anybody's replay comes to the same.
 *
 * Threads: a watch belongs to one.
 */
#ifndef LEDGER_WATCH_H
#define LEDGER_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger/body.h"
#include "ledger/map.h"

#define WATCH_WINDOW      512u /* commits, of all workers */
#define WATCH_FEATURES    4u
#define WATCH_LEAST_OWN   16u /* units of a worker in the window, to judge it by their mean */
#define WATCH_LEAST       32u /* units of others, to judge anything by them */
#define WATCH_SIGMA       5u
#define WATCH_SIGMA_ONE   6u
#define WATCH_TIMES       8u
#define WATCH_CERTAIN     9211u /* thousandths of a nat: - ln 10^-4, rounded up; */
#define WATCH_LN2         694u  /* and ln 2 */
#define WATCH_FEATURE_MAX 16383u

/* What was seen of one commit. */
struct watch_finding {
    uint32_t code;  /* enum reason: NONE, COPIED, DRIFT, OUTLIER */
    uint64_t other; /* COPIED: the unit that had it before, or itself */
    uint32_t at;    /* COPIED: the sample; else the feature, enum watch_feature */
};
enum watch_feature { WATCH_LENGTH, WATCH_SURPRISE, WATCH_ENDED, WATCH_REWARD };

struct watch_unit {
    uint32_t worker;
    uint16_t feature[WATCH_FEATURES];
};
/* Over the units of one worker, or of all, that are in the window. */
struct watch_sums {
    uint64_t n, sum[WATCH_FEATURES], square[WATCH_FEATURES];
};
struct watch {
    struct map print; /* -> the first unit that had it */
    struct watch_unit window[WATCH_WINDOW];
    size_t at, n;
    struct watch_sums all;
    struct watch_sums *own; /* owned, by worker */
    size_t n_own, cap_own;
};

void watch_init(struct watch *w);
void watch_clear(struct watch *w);

/* Takes in a commit by the worker of this number, and says what is to be seen of it. One without rows
 * says nothing. */
void watch_commit(struct watch *w, uint32_t worker, const struct ledger_commit *c,
                  struct watch_finding *out);

/* The probability of a full check that was p otherwise. */
uint64_t watch_probability(uint64_t p, uint32_t code);

#endif
