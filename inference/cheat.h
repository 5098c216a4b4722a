/*
 * inference/cheat.h - the gallery: dishonest workers, for trying a network's defences
 *
 * A cheat is a row of a table: with which weights it computes, how it draws tokens, what it writes
 * into the submission afterwards, and on how many of its units. The worker does what an honest one
 * does and passes through those hooks; what must catch it stands in the row as well, so that
 * --help, docs/verification.md, tests and `muster bench verify` speak of the same cheats.
 *
 * Threads: one at a time.
 */
#ifndef INFERENCE_CHEAT_H
#define INFERENCE_CHEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/weights.h"
#include "proto/types.h"
#include "rollout/rollout.h"

/* X(member, name, what it does) */
#define CHEAT_MAP(X)                                                                           \
    X(OTHER, "other-model", "generates with other weights")                                    \
    X(INT8, "int8", "generates with weights rounded to int8, a scale a row")                   \
    X(INT4, "int4", "generates with weights rounded to int4, a scale for 32")                  \
    X(FP8_CACHE, "fp8-cache", "keeps keys and values in fp8 (e4m3)")                           \
    X(STALE, "stale", "generates with the oldest weights it has under the new name")           \
    X(DRAFT, "draft", "takes a half-deep draft's tokens; the rest from one true prefill")      \
    X(HOT, "hot", "samples at 1.25 times the temperature")                                     \
    X(GREEDY, "greedy", "takes the most likely token")                                         \
    X(TOP_P, "top-p", "samples among the most likely 0.9")                                     \
    X(BEST_OF, "best-of", "submits the best-rewarded of four tries")                           \
    X(SEED, "seed", "samples with seeds of its own choice")                                    \
    X(PROMPT, "prompt", "answers a problem of its own choice")                                 \
    X(HINT, "hint", "answers an altered prompt under the assigned one")                        \
    X(TRUNCATE, "truncate", "cuts completions in half")                                        \
    X(PAD, "pad", "adds tokens after the end")                                                 \
    X(COPY_OWN, "copy-own", "submits its first unit's answers for every unit")                 \
    X(COPY_OTHER, "copy-other", "submits what others do for another unit")                     \
    X(REWARD, "reward", "claims full marks")                                                   \
    X(LOGPROB, "logprob", "claims log-probabilities a hundredth higher")                       \
    X(TOKENS, "tokens", "alters the first token of every sample")                              \
    X(PROOF_FORGED, "proof-forged", "makes proofs up")                                         \
    X(PROOF_CONSTANT, "proof-constant", "proves with a constant polynomial")                   \
    X(PROOF_CHANNEL, "proof-channel", "proves with a polynomial of the channel alone")         \
    X(PROOF_NULL, "proof-null", "proves nothing")                                              \
    X(PROOF_LONG, "proof-long", "sends longer proofs, which could hold every index")           \
    X(UNOPENED, "unopened", "does not open what was drawn")                                    \
    X(RARE_TOKENS, "rare-tokens", "draws one token in a hundred otherwise")                    \
    X(RARE_UNITS, "rare-units", "takes the most likely tokens in one unit of twenty")

#define CHEAT_MEMBER(member, name, about) CHEAT_##member,
enum infer_cheat { CHEAT_NONE, CHEAT_MAP(CHEAT_MEMBER) CHEAT_COUNT };
#undef CHEAT_MEMBER

/* "|int8|int4...", for tables of options. */
#define CHEAT_OR(member, name, about) "|" name
#define CHEAT_CHOICES                 CHEAT_MAP(CHEAT_OR)
/* A line for each, for --help. */
#define CHEAT_LINE(member, name, about) "  " name ": " about "\n"
#define CHEAT_LINES                     CHEAT_MAP(CHEAT_LINE)

const char *infer_cheat_name(enum infer_cheat c);     /* "int8"; "none" */
enum infer_cheat infer_cheat_parse(const char *name); /* CHEAT_COUNT if unknown */
const char *infer_cheat_about(enum infer_cheat c);

/* Is there anything to do for it in this class? Openings, and what is forged in them, are a matter
 * of open classes (proto/opening.h): where bits are defined nobody asks for one. */
bool cheat_applies(enum infer_cheat c, enum numerics n);
/* The reasons with which a check refuses it, one of which must come: in classes that define bits,
 * or in open ones. 0: it does not apply there. */
uint64_t cheat_reasons(enum infer_cheat c, bool is_open);
#define CHEAT_REASON(r) ((uint64_t)1 << REASON_##r)
/* Whether a check without weights is enough (CHECK_LIGHT). */
bool cheat_is_light(enum infer_cheat c);

/* What it computes with instead of the assigned weights. */
enum cheat_model {
    CHEAT_MODEL_TRUE,
    CHEAT_MODEL_OLDEST,  /* those of the oldest version at hand */
    CHEAT_MODEL_ALTERED, /* those assigned, altered by cheat_weights, with cheat_cache */
};
enum cheat_model cheat_model(enum infer_cheat c);
void cheat_weights(enum infer_cheat c, struct weights *w);
/* For struct model_options, or NULL. */
typedef void cheat_cache_fn(float *x, size_t n);
cheat_cache_fn *cheat_cache(enum infer_cheat c);

struct cheat;

void cheat_new(struct cheat **out, enum infer_cheat kind);
void cheat_free(struct cheat **c);

/* rollout_generate, dishonestly. w: the true world; `other`: the model of cheat_model, and w's own
 * for CHEAT_MODEL_TRUE. */
MUST_USE enum status cheat_generate(struct cheat *c, const struct rollout_world *w,
                                    struct model *other, struct rollout_unit *units, size_t n,
                                    rollout_progress *progress, void *progress_arg,
                                    struct err *e);

#endif
