/*
 * unit/learn/tiny_step.h - a reinforcement step of a tiny model, before it is taken
 */
#ifndef TEST_TINY_STEP_H
#define TEST_TINY_STEP_H

#include "engine/adamw.h"
#include "engine/weights.h"
#include "learn/batch.h"
#include "learn/graph.h"
#include "learn/learner.h"

#define TINY_STEP 3u /* its number; the optimizer has taken one step less */

struct tiny_step {
    struct model_config c;
    struct learn_settings settings;
    struct learn_batch batch;
    struct weights *masters; /* owned */
    struct adamw *opt;       /* owned: moments of some size */
};

/* n_samples of at most `longest` tokens each, with ratios on every side of the clip, tokens that
 * bear no loss, and a sample that bears none at all. */
void tiny_step_init(struct tiny_step *s, const struct model_config *c, size_t n_samples,
                    size_t longest);
void tiny_step_clear(struct tiny_step *s);

struct graph *tiny_step_graph(const struct tiny_step *s);
/* What the learner makes of it. */
void tiny_step_roots(const struct tiny_step *s, struct digest *masters,
                     struct digest *optimizer);

#endif
