/*
 * cli/jsonl.h - files of one JSON object a line, as users write them
 *
 * Blank lines are passed over; whatever is wrong is told with the file's name and the line's number.
 * The bytes are anybody's: a line is at most JSONL_LINE_MAX long, duplicate keys are refused.
 */
#ifndef CLI_JSONL_H
#define CLI_JSONL_H

#include <jansson.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/chat.h"

#define JSONL_LINE_MAX (16u << 20) /* bytes */

/* Told of each object; what it fails with gets file and line put in front, and ends the reading. */
typedef enum status jsonl_fn(void *ctx, const json_t *o, struct err *e);

/* The lines of `file`, which messages call `name`. ERR_MALFORMED, ERR_LIMIT, or what fn says. */
MUST_USE enum status jsonl_parse(struct bytes file, const char *name, jsonl_fn *fn, void *ctx,
                                 struct err *e);
/* The same of a file. ERR_NOT_FOUND, ERR_IO. */
MUST_USE enum status jsonl_read(const char *path, jsonl_fn *fn, void *ctx, struct err *e);

/* A member that is a string; lent from o. False: there is none. */
bool jsonl_text(struct bytes *out, const json_t *o, const char *key);

/* A list of {"role": "user", "content": "..."} as an array of the caller's, to free(), whose texts are
 * lent from `list`; *n_bytes is the length of all of them. ERR_INVALID: it is none, or empty. */
MUST_USE enum status jsonl_messages(struct chat_message **out, size_t *n, size_t *n_bytes,
                                    const json_t *list, struct err *e);

/* Ids that a conversation of n messages of n_bytes together can come to, generously. */
size_t jsonl_messages_room(size_t n, size_t n_bytes);

#endif
