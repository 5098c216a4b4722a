/*
 * cli/sft_data.h - JSONL files as sequences to imitate
 *
 * One object a line, of one of three forms; other members are passed over:
 *
 *   {"text": "..."}                                       loss on all of it
 *   {"prompt": "...", "completion": "..."}                loss on the completion
 *   {"messages": [{"role": "user", "content": "..."}]}    loss on what the assistant says
 *
 * A sequence begins with the tokenizer's bos and ends with its eos, where it has them; the eos bears
 * loss. Messages become what the model's chat template makes of them. What is wrong with a line is told with the file's name and the line's number.
 */
#ifndef CLI_SFT_DATA_H
#define CLI_SFT_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/chat.h"
#include "engine/tokenizer.h"
#include "learn/learner.h"
#include "proto/types.h"

/* What to do with a sequence that is too long. */
enum sft_long { SFT_LONG_REFUSE, SFT_LONG_CUT, SFT_LONG_DROP };

struct sft_data {
    int32_t *tokens;    /* owned: all sequences end to end */
    uint8_t *is_answer; /* owned, one for each of them */
    size_t n_tokens, cap_tokens;
    size_t *end; /* owned: where each sequence ends */
    size_t n, cap;
    size_t longest;   /* tokens */
    size_t n_dropped; /* sequences that were too long */
    size_t n_cut;
    size_t
        n_spelt; /* texts that spell special tokens, which were not read as such (cli/spelt.h) */
};

void sft_data_init(struct sft_data *d);
void sft_data_clear(struct sft_data *d);

struct sft_reading {
    const struct tokenizer *tokenizer; /* borrowed */
    const struct chat *chat; /* borrowed; NULL: "messages" are refused, and told why: */
    const char *no_chat;     /* borrowed; may be NULL */
    size_t max_tokens;       /* of a sequence, >= 2 */
    bool reads_special;      /* texts, prompts and completions were rendered already */
    enum sft_long too_long;
};

/* Appends the sequences of the text of a file, which messages call `name`. ERR_MALFORMED,
 * ERR_INVALID, ERR_LIMIT (too long), ERR_UNSUPPORTED: with name and line; ERR_NO_MEMORY. */
MUST_USE enum status sft_data_parse(struct sft_data *d, struct bytes file, const char *name,
                                    const struct sft_reading *how, struct err *e);
/* The same of a file. ERR_NOT_FOUND, ERR_IO. */
MUST_USE enum status sft_data_read(struct sft_data *d, const char *path,
                                   const struct sft_reading *how, struct err *e);

/* Sequence i, lent from d. */
struct learn_demo sft_data_get(const struct sft_data *d, size_t i);

/* Of all ids, answers and lengths. */
void sft_data_digest(struct digest *out, const struct sft_data *d);

#endif
