/*
 * rollout/episode.h - one sample of a unit: the model and the environment speaking in turn
 *
 * Private to rollout/. Generating and checking share the rules by which a turn ends and what the
 * environment then adds, so that they cannot disagree about them:
 *
 *   a turn ends  with a stop token, or after sampling.max_new_tokens tokens, or when prompt and
 *                completion fill model.max_len positions
 *   then         the environment answers if it has `step`, the turn ended with a stop token and
 *                environment.turns are not used up; its text is appended with mask 0, and the
 *                model's next turn begins
 *
 * Text of a turn: its tokens decoded, the stop token left out. With a chat template the prompt and
 * what the environment says are a user's messages, and the stop token is the one that ends an answer
 * (setup_open); without one they are encoded as they stand.
 *
 * Threads: as the world's.
 */
#ifndef ROLLOUT_EPISODE_H
#define ROLLOUT_EPISODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rollout/rollout.h"

/* The prompt of a problem, as text and as ids (the model's bos first, if it has one, or the
 * chat template's beginning). */
struct episode_prompt {
    struct env_problem problem;
    struct buf text; /* owned */
    int32_t *ids;    /* owned */
    size_t n;
};
/* ERR_LIMIT: it leaves no room for an answer. ERR_INVALID: it is empty, or has what the tokenizer
 * does not know. Else the environment's, as rollout_generate. On failure *p is cleared. */
MUST_USE enum status episode_prompt_make(struct episode_prompt *p,
                                         const struct rollout_world *w,
                                         const struct env_problem *problem, struct err *e);
void episode_prompt_clear(struct episode_prompt *p);

struct episode {
    int32_t *tokens; /* owned, (cap): everything after the prompt */
    float *logprobs; /* owned, (cap) */
    uint8_t *mask;   /* owned, (cap) */
    size_t n, cap;
    size_t turn_start; /* where the current turn of the model began */
    size_t n_sampled;
    struct env_message message[ENV_MESSAGES_MAX]; /* texts lent from `texts` */
    struct buf texts[ENV_MESSAGES_MAX];           /* owned */
    size_t n_messages;
    size_t n_turns;
    bool is_over;
    enum finish finish; /* once over */
};

/* ERR_NO_MEMORY; *ep is then cleared. */
MUST_USE enum status episode_init(struct episode *ep, const struct rollout_world *w,
                                  const struct episode_prompt *p, struct err *e);
void episode_clear(struct episode *ep);

/* Appends one sampled token; returns true if the turn ends with it. */
bool episode_push(struct episode *ep, const struct rollout_world *w,
                  const struct episode_prompt *p, int32_t token, float logprob);
/* How many tokens the current turn may still get. */
size_t episode_room(const struct episode *ep, const struct rollout_world *w,
                    const struct episode_prompt *p);
/* After episode_push returned true: asks the environment, appends what it says, or sets is_over
 * and finish. Errors are the environment's (rollout_generate). */
MUST_USE enum status episode_turn_over(struct episode *ep, const struct rollout_world *w,
                                       const struct episode_prompt *p, struct err *e);
/* The reward of a finished episode; 0 on failure. */
MUST_USE enum status episode_score(const struct episode *ep, const struct rollout_world *w,
                                   const struct episode_prompt *p, float *reward,
                                   struct err *e);

bool episode_is_stop(const struct rollout_world *w, int32_t token);

#endif
