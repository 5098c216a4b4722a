/*
 * cli/generate_prompts.h - what `muster model generate` is asked, as token ids
 *
 * A prompt is a text as it stands, or a conversation in the model's chat template, whose answer is
 * wanted. A file has one a line:
 *
 *   {"prompt": "..."}                                       a text; with a template, a message
 *   {"messages": [{"role": "user", "content": "..."}]}      a conversation
 *
 * Other members are passed over, but for "id", which comes back with the answer.
 */
#ifndef CLI_GENERATE_PROMPTS_H
#define CLI_GENERATE_PROMPTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "cli/spelt.h"
#include "engine/chat.h"
#include "engine/config.h"
#include "engine/tokenizer.h"

struct prompt {
    int32_t *ids; /* owned */
    size_t n;
    char *name; /* owned: "id" as JSON; NULL: none was given */
};

struct prompts {
    const struct tokenizer *t;    /* borrowed */
    const struct model_config *c; /* borrowed */
    const struct chat *chat;      /* borrowed; NULL: texts are continued as they stand */
    bool is_chat;                 /* "prompt" is a message */
    struct spelt spelt;           /* whether special tokens are read out of texts */
    const char *no_chat;          /* borrowed: why there is no chat, for who sends messages */
    struct bytes system;          /* before a "prompt" that is a message; empty: none */
    struct prompt *at;            /* owned */
    size_t n, cap;
    size_t longest; /* ids */
};

/* Each adds one. ERR_INVALID: empty, or it fills the model; ERR_MALFORMED: not UTF-8. A text begins
 * as the model's sequences do. */
MUST_USE enum status prompts_add_text(struct prompts *p, struct bytes text, struct err *e);
MUST_USE enum status prompts_add_messages(struct prompts *p, const struct chat_message *m,
                                          size_t n, struct err *e);
/* A text as the one or the other: what is_chat says. */
MUST_USE enum status prompts_add(struct prompts *p, struct bytes text, struct err *e);
/* Those of a file, as above. ERR_NOT_FOUND, ERR_IO, and with the line's number ERR_MALFORMED,
 * ERR_INVALID, ERR_LIMIT, ERR_UNSUPPORTED. */
MUST_USE enum status prompts_read(struct prompts *p, const char *path, struct err *e);
/* One of these objects: a jsonl_fn (cli/jsonl.h) whose ctx is the struct prompts. */
MUST_USE enum status prompts_object(void *ctx, const json_t *o, struct err *e);
/* Forgets all prompts. */
void prompts_clear(struct prompts *p);

#endif
