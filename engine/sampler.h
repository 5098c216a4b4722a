/*
 * engine/sampler.h - many sequences decoded together
 *
 * Requests are queued; sampler_step runs one forward over everything that can move: one new token
 * of every running sequence, and rows of prompts that found room, at most `chunk` together, so
 * that a long prompt does not hold up those that are decoding. Sequences come and go without
 * waiting for each other.
 *
 * What was computed once is not computed again while its pages are in the cache: a request's
 * samples share its prompt, and a prompt that begins like a running sequence or like one that is
 * over (an episode's next turn, a common preamble) goes on from that. Pages of sequences that are
 * over are given up, the oldest first, when others need them. A request starts when the pages that
 * it can come to need are not promised to others, so that none ever waits for a page.
 *
 * A token is a function of (weights, the tokens before it, seed, temperature, its position):
 * sample_token of engine/ops.h with the sample's seed as key and the token's index in the whole
 * sequence (the prompt's tokens counted) as position. What else is in the batch does not matter.
 *
 * Threads: a sampler, its model and its pool belong to one thread. Callbacks run inside
 * sampler_step; they may add requests, and must not step or free.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/model.h"

#define SAMPLER_STOPS_MAX 16u
/* Below it a logit divided by the temperature may be more than a float holds. */
#define SAMPLER_TEMPERATURE_MIN 1e-6f

enum sampler_finish {
    SAMPLER_STOP,    /* a stop id was sampled; it is the last token */
    SAMPLER_MAX_NEW, /* max_new tokens were sampled */
    SAMPLER_MAX_LEN, /* the sequence fills the cache */
};

/* One sampled token. Pointers are good until the callback returns. */
struct sampler_token {
    uint64_t tag;  /* the request's */
    size_t sample; /* which of its samples */
    size_t index;  /* 0 for the first token after the prompt */
    int32_t token;
    float logp; /* at the request's temperature; at temperature 0, that of 1 */
    const float
        *hidden; /* (C): the state after the final norm that the token was drawn from, if
                            wants_hidden; else NULL */
};

/* The largest elements of the state that a token was drawn from (model_top_end). */
struct sampler_top {
    uint64_t tag;
    size_t sample;
    const uint32_t *index; /* (MODEL_TOP); good until the callback returns */
    const uint16_t *value;
};

typedef void sampler_token_fn(void *ctx, const struct sampler_token *t);
/* Called for each token, after its on_token and before the sample's next one, or its on_done: the device is then at
 * work on the next step, so that what the host makes of it costs no time. */
typedef void sampler_top_fn(void *ctx, const struct sampler_top *t);
/* Also called after the last token: `n` tokens were sampled. */
typedef void sampler_done_fn(void *ctx, uint64_t tag, size_t sample, size_t n,
                             enum sampler_finish why);

struct sampler_options {
    size_t n_slots;     /* sequences decoded together */
    size_t max_len;     /* longest sequence, prompt included */
    uint64_t max_bytes; /* for pages of the cache; 0: as many as all slots can need */
    size_t chunk;       /* rows of a step, decoding apart; 0: 512. Never changes a result */
    sampler_token_fn *on_token; /* may be NULL */
    sampler_top_fn *on_top;     /* may be NULL, and is where !model_has_top */
    sampler_done_fn *on_done;   /* may be NULL */
    bool wants_hidden; /* on_token is given hidden states, which a device has to hand over */
    draw_fn *choose;   /* or NULL: sample_token (engine/model.h) */
    void *choose_ctx;
    void *ctx;
};

struct sampler_request {
    uint64_t tag;
    const int32_t *prompt; /* copied */
    size_t n_prompt;       /* 1..max_len - 1 */
    const uint64_t *seeds; /* (n_samples), copied */
    size_t n_samples;      /* 1..n_slots */
    float temperature;     /* 0: the most likely token; or SAMPLER_TEMPERATURE_MIN and more */
    size_t max_new;        /* >= 1 */
    const int32_t *stops;  /* copied */
    size_t n_stops;        /* at most SAMPLER_STOPS_MAX */
};

struct sampler;

/* `m` is borrowed; sampler_reset must follow when its weights change. ERR_INVALID; ERR_LIMIT:
 * max_bytes does not hold one sequence of max_len; ERR_NO_MEMORY. */
MUST_USE enum status sampler_new(struct sampler **out, struct model *m,
                                 const struct sampler_options *opt, struct err *e);
void sampler_free(struct sampler **p);

/* Queues a request; requests start in the order they were added, a whole request at a time.
 * ERR_INVALID; ERR_LIMIT: its samples need more pages than there are. */
MUST_USE enum status sampler_add(struct sampler *s, const struct sampler_request *r,
                                 struct err *e);

/* Sequences running and samples waiting; 0 means sampler_step has nothing to do. */
size_t sampler_active(const struct sampler *s);

/* Moves everything by one token. ERR_NUMERIC: the logits of a sequence are not finite; ERR_IO: the
 * device failed. The sampler can then only be reset or freed. */
MUST_USE enum status sampler_step(struct sampler *s, struct err *e);
/* From inside on_token: its token is the sample's last, as if it had been a stop id. */
void sampler_end_sample(struct sampler *s);
/* Steps until nothing is left. */
MUST_USE enum status sampler_run(struct sampler *s, struct err *e);
/* Drops everything queued, running and kept, silently. */
void sampler_reset(struct sampler *s);

/* Positions of prompts that were computed so far, and those that were there already. */
struct sampler_stats {
    uint64_t computed, reused;
};
struct sampler_stats sampler_stats(const struct sampler *s);

#endif
