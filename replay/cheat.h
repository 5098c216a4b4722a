/*
 * replay/cheat.h - the dishonest trainers of the test bench
 *
 * For trying a network's defences: `muster replay` must find every one of them, and a dispute
 * (learn/dispute.h) lead to what it did.
 */
#ifndef REPLAY_CHEAT_H
#define REPLAY_CHEAT_H

#include <stdbool.h>

#include "engine/weights.h"

/* X(member, name, what it does: from version 1 on, but for other-first) */
#define TRAIN_CHEAT_MAP(X)                                                                     \
    X(TRAIN_CHEAT_NONE, "none", "nothing")                                                     \
    X(TRAIN_CHEAT_SKIP_BATCH, "skip-batch", "claims the batch, and does not train on it")      \
    X(TRAIN_CHEAT_GRADIENT, "altered-gradient", "alters one number of one gradient")           \
    X(TRAIN_CHEAT_WEIGHTS, "other-weights", "publishes other weights than it trains")          \
    X(TRAIN_CHEAT_FILE, "other-file", "publishes another file than the weights that it signs") \
    X(TRAIN_CHEAT_FIRST, "other-first", "begins with other weights than the task gives")       \
    X(TRAIN_CHEAT_SILENT, "silent",                                                            \
      "alters one number of one gradient, and does not answer for it")

#define TRAIN_CHEAT_MEMBER(member, name, text) member,
enum train_cheat { TRAIN_CHEAT_MAP(TRAIN_CHEAT_MEMBER) TRAIN_CHEAT_COUNT };
#undef TRAIN_CHEAT_MEMBER

#define TRAIN_CHEATS                                                                           \
    "none|skip-batch|altered-gradient|other-weights|other-file|other-first|silent" /* for options */

const char *train_cheat_name(enum train_cheat c);
enum train_cheat train_cheat_parse(const char *name); /* TRAIN_CHEAT_COUNT if unknown */

/* Does it alter a gradient? */
bool train_cheat_is_gradient(enum train_cheat c);
/* As learner_options.tamper: one number of the first layer's query gradient becomes larger. */
void train_cheat_gradient(struct weights *grads);
/* The same number in a trace, so that it ends in what the cheat signed: which one, and what the number
 * becomes. */
#define TRAIN_CHEAT_TENSOR "model.layers.0.self_attn.q_proj.weight"
#define TRAIN_CHEAT_AT     1u
float train_cheat_altered(float gradient);
/* One number of the weights about to be published, or of those to begin with, moves to the next larger one of its dtype. */
void train_cheat_weights(struct weights *published);
/* One bit of the last number of a file about to be published turns. */
void train_cheat_file(struct buf *file);

#endif
