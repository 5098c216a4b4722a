/*
 * engine/chat.h - conversations as the token ids that a chat model was trained on
 *
 * A chat model comes with a template, a program in Jinja, that turns messages into text. Here the
 * templates of some families are written by hand; which one a directory wants is decided by the
 * BLAKE2b-256 of the template's text (without a final newline), and a template that is not known is
 * refused with that digest in the message: a conversation in another form than the model's own
 * would be answered, and badly.
 *
 * The ids are those of the reference (transformers' apply_chat_template) for every conversation
 * whose messages do not spell out special tokens. Where they do, the reference reads them as such,
 * and whoever writes a message can end it and go on in another's name; here a message is text.
 *
 * Threads: a chat does not change after it was opened; any number may use it.
 */
#ifndef ENGINE_CHAT_H
#define ENGINE_CHAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/tokenizer.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    struct bytes text; /* UTF-8 */
};

struct chat;

/* The chat of the model in `dir`, whose tokenizer is `t` (borrowed until chat_close). Its template
 * is DIR/chat_template.jinja or, where there is none, `chat_template` in tokenizer_config.json.
 * ERR_NOT_FOUND: the directory has no template; ERR_UNSUPPORTED: not one of those known here, or
 * the tokenizer lacks a token that it needs; ERR_MALFORMED: tokenizer_config.json; ERR_IO; ERR_LIMIT: a
 * file is too large. *out is NULL then. */
MUST_USE enum status chat_open(struct chat **out, const char *dir, const struct tokenizer *t,
                               struct err *e);

/* The same by the template's name, whatever the directory says: "chatml", "qwen2.5", "qwen3",
 * "llama3", ... ERR_NOT_FOUND lists the names; ERR_UNSUPPORTED as above. */
MUST_USE enum status chat_open_named(struct chat **out, const char *name,
                                     const struct tokenizer *t, struct err *e);
void chat_close(struct chat **c);

/* The day that a template asks for (llama3.2: "Today Date: ..."), as it is to stand there. Without
 * this it is "26 Jul 2024", which the template itself has where no clock is at hand: an id must not
 * depend on the day on which it is computed. ERR_INVALID: not UTF-8, empty, or too long. */
#define CHAT_DATE_MAX 40u
MUST_USE enum status chat_set_date(struct chat *c, const char *date, struct err *e);

const char *chat_name(const struct chat *c);

/* "system", "user", "assistant", as in files of messages. False: another word. */
bool chat_role_parse(enum chat_role *out, struct bytes word);

/* The ids of a conversation, begin-of-sequence included where the template has it. With
 * `add_generation_prompt` they end where the model's answer begins. `is_answer` (NULL: not wanted)
 * becomes 1 for each id that the model is to say: an assistant's text and what ends it.
 * ERR_INVALID: roles in an order that the template refuses; ERR_LIMIT: more than `cap` ids;
 * ERR_MALFORMED: a text is not UTF-8. */
MUST_USE enum status chat_render(const struct chat *c, const struct chat_message *messages,
                                 size_t n_messages, bool add_generation_prompt, int32_t *ids,
                                 uint8_t *is_answer, size_t cap, size_t *n, struct err *e);

/* The id that ends an answer: sampling stops there. */
int32_t chat_end(const struct chat *c);

#endif
