/*
 * cli/generate_run.h - answers to prompts: one as it comes, or many as lines of JSON
 *
 * An answer is a function of the model, its prompt, its seed and the settings of the draw: not of what
 * else is asked at the same time, nor of how much is decoded together. So each line of a batch can be
 * had again alone, by its seed.
 *
 * Threads: one.
 */
#ifndef CLI_GENERATE_RUN_H
#define CLI_GENERATE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "cli/generate_prompts.h"

struct model; /* engine/model.h */

struct generate_settings {
    double temperature, top_p, min_p;
    int64_t top_k; /* 0: any */
    int64_t max_new, seed;
    int64_t samples;  /* of each prompt; answer number i of all has the seed `seed` + i */
    const char *stop; /* text that ends an answer and is not part of it; "": none */
    int32_t chat_end; /* the id that ends a message; -1: none */
    bool ids;         /* JSON has the token ids too */
};

struct generator;

/* For n_slots answers at a time, each of max_len positions with its prompt. `m`, `c` (the model's, with
 * its stops), `t` and `s` are borrowed. ERR_INVALID, ERR_NO_MEMORY. */
MUST_USE enum status generator_new(struct generator **out, struct model *m,
                                   const struct model_config *c, const struct tokenizer *t,
                                   const struct generate_settings *s, size_t n_slots,
                                   size_t max_len, struct err *e);
void generator_free(struct generator **p);

/* Prints the answer to `p` on stdout as it comes, and a line's end; its text is appended to `said`
 * (NULL: not wanted). Logs how many tokens there were and how fast they came. ERR_INVALID, ERR_NUMERIC,
 * ERR_IO. */
MUST_USE enum status generator_stream(struct generator *g, const struct prompt *p,
                                      struct buf *said, struct err *e);

/* Prints a line of JSON for each sample of each prompt, in their order, as soon as those before it
 * are there; logs the progress every five seconds. */
MUST_USE enum status generator_batch(struct generator *g, const struct prompts *p,
                                     struct err *e);

#endif
