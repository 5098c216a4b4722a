/*
 * engine/json_text.h - JSON in files of others
 *
 * One way to read it: whole or not at all, no key twice, and no more values than the caller knows
 * that such a file can have, counted before a tree is made of them. A value costs up to 100 bytes
 * of tree and two of text, so that the length of a file says little about what it will take.
 */
#ifndef ENGINE_JSON_TEXT_H
#define ENGINE_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/status.h"

/* tokenizer_config.json: an added token with all that is said of it is one object. Nothing in it is
 * counted by, and transformers writes 10^30, its "no limit", as an integer, which none of C holds. */
#define TOKENIZER_CONFIG_VALUES_MAX ((size_t)1 << 20)
#define TOKENIZER_CONFIG_FLAGS      (JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL)

/* *out is the caller's, to be given back to json_decref; NULL on failure. An object counts as eight
 * values. `flags` are jansson's decoding flags besides JSON_REJECT_DUPLICATES. ERR_MALFORMED says in
 * which line; ERR_LIMIT: more than max_values. */
MUST_USE enum status json_text_read(json_t **out, struct bytes text, size_t max_values,
                                    size_t flags, struct err *e);

/* Keys that nobody knows are ignored, and what is absent has a default: one damaged byte in a key
 * would silently make something else of the file. ERR_MALFORMED: a key of `object` differs in one
 * byte from one of the `n` that are known, and is none of them, or has a control character, which is
 * what a damaged "_t" that now reads "\t" becomes. */
MUST_USE enum status json_text_check_keys(const json_t *object, const char *const *known,
                                          size_t n, struct err *e);

#endif
