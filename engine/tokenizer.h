/*
 * engine/tokenizer.h - text to token ids and back
 *
 *   byte  ids 0..255 are the bytes; 256 bos, 257 eos, 258 pad
 *   char  0 pad, 1 bos, 2 eos; 3, 4, ... the characters (code points) of an alphabet, in the order
 *         given
 *   bpe   byte-pair encoding as a Hugging Face tokenizer.json describes it, ids as the reference
 *         (the Python package tokenizers) gives them; docs/tokenizers.md lists what is known. What
 *         is not is refused by name
 *
 * A special id never comes out of encode() and never decodes to anything: text is text, also where
 * it spells "<|im_end|>". Text that may spell special tokens goes through encode_trusted().
 *
 * On disk: `tokenizer.json`: ours, {"type": "muster-byte", "version": 1} or
 *          {"type": "muster-char", "version": 1, "alphabet": "abc>"}, or Hugging Face's. With the
 *          latter `tokenizer_config.json`, whose eos_token and pad_token count, and
 *          `chat_template.jinja` (engine/chat.h); both are optional, and saved as they were read.
 * Threads: a tokenizer does not change after it was made; any number may use it. A stream is one
 *          thread's.
 */
#ifndef ENGINE_TOKENIZER_H
#define ENGINE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

#define TOKENIZER_ALPHABET_MAX 4096u /* characters */
#define TOKENIZER_ROOM(bytes)  (2 * (bytes) + 16)

enum tokenizer_kind { TOKENIZER_BYTE, TOKENIZER_CHAR, TOKENIZER_BPE };

struct tokenizer;

/* `alphabet` is UTF-8 and counts for TOKENIZER_CHAR only. ERR_INVALID: it is empty, not UTF-8,
 * longer than TOKENIZER_ALPHABET_MAX or names a character twice. Of kind BPE there are only those
 * that are read. */
MUST_USE enum status tokenizer_new(struct tokenizer **out, enum tokenizer_kind kind,
                                   struct bytes alphabet, struct err *e);
void tokenizer_free(struct tokenizer **t);

/* From and to the text of tokenizer.json. The same tokenizer gives the same bytes; one of kind BPE
 * those that it was read from. ERR_UNSUPPORTED names what is not known; ERR_MALFORMED; ERR_LIMIT
 * (docs/tokenizers.md, "Hostile files"). */
MUST_USE enum status tokenizer_parse(struct tokenizer **out, struct bytes json, struct err *e);
void tokenizer_print(struct buf *out, const struct tokenizer *t);

/* DIR/tokenizer.json and what belongs to it. Load: ERR_NOT_FOUND when there is none, ERR_IO, and as
 * tokenizer_parse, whose ERR_MALFORMED and ERR_LIMIT are of files that are damaged or too large. Save:
 * ERR_IO, ERR_FULL. */
MUST_USE enum status tokenizer_load(struct tokenizer **out, const char *dir, struct err *e);
MUST_USE enum status tokenizer_save(const struct tokenizer *t, const char *dir, struct err *e);

enum tokenizer_kind tokenizer_kind(const struct tokenizer *t);
uint32_t tokenizer_vocab(const struct tokenizer *t); /* ids are in [0, this) */
/* What sequences begin with, end with and are filled up with; -1: nothing. A tokenizer.json of
 * Hugging Face's names the first only, in its post_processor. */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
int32_t tokenizer_pad(const struct tokenizer *t);
/* For one of Hugging Face's that has just been made: eos as config.json has it, where the tokenizer
 * names none, or what ends an answer where texts are a chat's. */
void tokenizer_set_eos(struct tokenizer *t, int32_t eos);

/* The string of an id ("<|im_end|>", "Ġthe"); empty where there is none or the kind has none. */
struct bytes tokenizer_string(const struct tokenizer *t, int32_t id);
bool tokenizer_is_special(const struct tokenizer *t, int32_t id);
/* The id of a special token by its string, or -1. */
int32_t tokenizer_find_special(const struct tokenizer *t, const char *string);

/* The ids of `text`, without bos or eos. ERR_INVALID names the first character that is not in the
 * alphabet, and its offset; ERR_MALFORMED: not UTF-8 (byte: cannot be); ERR_LIMIT: more than `cap`.
 * For published vocabularies TOKENIZER_ROOM(bytes of text) ids are room enough. */
MUST_USE enum status tokenizer_encode(const struct tokenizer *t, struct bytes text,
                                      int32_t *ids, size_t cap, size_t *n, struct err *e);

/* The same, but special tokens spelt out in `text` become their ids, as transformers does unasked.
 * For text of our own user only: whoever writes the text decides what the model takes for the end
 * of a message. */
MUST_USE enum status tokenizer_encode_trusted(const struct tokenizer *t, struct bytes text,
                                              int32_t *ids, size_t cap, size_t *n,
                                              struct err *e);

/* A sequence of which some ids are given and the rest is text, encoded as if the whole stood in one
 * text: what encode_trusted() would give, if text could not spell special tokens. */
struct tokenizer_piece {
    int32_t id;        /* that token; or -1: */
    struct bytes text; /* borrowed */
};
MUST_USE enum status tokenizer_encode_pieces(const struct tokenizer *t,
                                             const struct tokenizer_piece *pieces,
                                             size_t n_pieces, int32_t *ids, size_t cap,
                                             size_t *n, struct err *e);

/* Appends the text of n ids; specials give nothing. ERR_INVALID: an id outside the vocabulary;
 * ERR_LIMIT: `out` is full. The byte kind may yield text that is not UTF-8; the bpe kind has U+FFFD
 * for what is none. */
MUST_USE enum status tokenizer_decode(struct buf *out, const struct tokenizer *t,
                                      const int32_t *ids, size_t n, struct err *e);

/* Decoding id by id. What comes out of the pushes and the flush is together what decode() gives,
 * and what has come out at any time does not end inside a character. */
struct tokenizer_stream {
    const struct tokenizer *t; /* borrowed */
    struct buf held;           /* bytes whose character, or whose run of bytes, may go on */
    size_t n_strip;            /* characters that may still be taken off the start */
    bool has_begun;
};
void tokenizer_stream_init(struct tokenizer_stream *s, const struct tokenizer *t);
void tokenizer_stream_clear(struct tokenizer_stream *s);
/* Appends what id `id` makes certain. ERR_INVALID: it is outside the vocabulary, and nothing
 * changed; ERR_LIMIT: `out` is full. */
MUST_USE enum status tokenizer_stream_push(struct tokenizer_stream *s, struct buf *out,
                                           int32_t id, struct err *e);
/* Appends what was held back; the stream is then as after init. */
MUST_USE enum status tokenizer_stream_flush(struct tokenizer_stream *s, struct buf *out,
                                            struct err *e);

#endif
