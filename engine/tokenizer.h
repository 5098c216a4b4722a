/*
 * engine/tokenizer.h - text to token ids and back
 *
 * Two kinds, both of which map any id sequence to text without context:
 *
 *   byte  ids 0..255 are the bytes; 256 bos, 257 eos, 258 pad
 *   char  0 pad, 1 bos, 2 eos; 3, 4, ... the characters (code points) of an alphabet, in the order
 *         given
 *
 * A special id never comes out of encode() and never decodes to anything: text is text.
 *
 * On disk: `tokenizer.json` of ours, {"type": "muster-byte", "version": 1} or
 *          {"type": "muster-char", "version": 1, "alphabet": "abc>"}.
 *          A Hugging Face tokenizer.json (byte-pair encoding and the rest) is ERR_UNSUPPORTED.
 * Threads: a tokenizer does not change after it was made; any number may use it.
 */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

#define TOKENIZER_ALPHABET_MAX 4096u /* characters */

enum tokenizer_kind { TOKENIZER_BYTE, TOKENIZER_CHAR };

struct tokenizer;

/* `alphabet` is UTF-8 and counts for TOKENIZER_CHAR only. ERR_INVALID: it is empty, not UTF-8,
 * longer than TOKENIZER_ALPHABET_MAX or names a character twice. */
MUST_USE enum status tokenizer_new(struct tokenizer **out, enum tokenizer_kind kind,
                                   struct bytes alphabet, struct err *e);
void tokenizer_free(struct tokenizer **t);

/* From and to the text of tokenizer.json. The same tokenizer gives the same bytes. */
MUST_USE enum status tokenizer_parse(struct tokenizer **out, struct bytes json, struct err *e);
void tokenizer_print(struct buf *out, const struct tokenizer *t);

/* DIR/tokenizer.json. ERR_NOT_FOUND when there is none. */
MUST_USE enum status tokenizer_load(struct tokenizer **out, const char *dir, struct err *e);
MUST_USE enum status tokenizer_save(const struct tokenizer *t, const char *dir, struct err *e);

enum tokenizer_kind tokenizer_kind(const struct tokenizer *t);
uint32_t tokenizer_vocab(const struct tokenizer *t); /* ids are in [0, this) */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
int32_t tokenizer_pad(const struct tokenizer *t);

/* The ids of `text`, without bos or eos. ERR_INVALID names the first character that is not in the
 * alphabet, and its offset; ERR_MALFORMED: not UTF-8 (char only); ERR_LIMIT: more than `cap`. */
MUST_USE enum status tokenizer_encode(const struct tokenizer *t, struct bytes text,
                                      int32_t *ids, size_t cap, size_t *n, struct err *e);

/* Appends the text of n ids; specials give nothing. ERR_INVALID: an id outside the vocabulary;
 * ERR_LIMIT: `out` is full. The byte kind may yield text that is not UTF-8. */
MUST_USE enum status tokenizer_decode(struct buf *out, const struct tokenizer *t,
                                      const int32_t *ids, size_t n, struct err *e);

#endif
