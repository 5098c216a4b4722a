/*
 * engine/hf_parse.h - what the two files that read a tokenizer.json share
 *
 * hf_parse.c has the pipeline (normalizer, pre-tokenizer, decoder, post-processor), hf_model.c the
 * words, merges and added tokens.
 */
#ifndef ENGINE_HF_PARSE_H
#define ENGINE_HF_PARSE_H

#include <jansson.h>

#include "engine/hf_tokenizer.h"

#define HF_FILE            "tokenizer.json: " /* begins every message */
#define HF_ALPHABET_POINTS 324u               /* the byte alphabet lies below U+0144 */

struct hf_parser {
    struct hf_tokenizer *h;
    const json_t *model;
    size_t n_vocab;   /* words of the model */
    json_int_t n_ids; /* what may have an id has one below this */
    int32_t
        *byte_of;  /* owned: the byte that a character of the byte alphabet stands for, or -1 */
    bool by_bytes; /* the pre-tokenizer maps bytes to that alphabet */
    struct err *e;
};

/* ERR_UNSUPPORTED and ERR_MALFORMED; `value` (NULL: it is missing) is shown. */
enum status hf_unsupported(struct hf_parser *p, const char *what, const json_t *value);
enum status hf_malformed(struct hf_parser *p, const char *what);

/* Holds the object to the keys listed (space-separated). A key with a null is as if absent. */
MUST_USE enum status hf_only_keys(struct hf_parser *p, const char *what, const json_t *object,
                                  const char *keys);
const char *hf_type_of(const json_t *object); /* "" if it has none */
bool hf_is_type(const json_t *object, const char *type);
struct bytes hf_json_text(const json_t *value);
MUST_USE enum status hf_get_text(struct hf_parser *p, struct hf_text *out, const json_t *object,
                                 const char *key);
MUST_USE enum status hf_get_bool(struct hf_parser *p, bool *out, const json_t *object,
                                 const char *key, bool absent);

/* GPT-2's alphabet: the byte of each of its characters, -1 for others. */
void hf_make_alphabet(int32_t *byte_of);
/* The bytes that a token string stands for in it. False: it has other characters. */
bool hf_put_bytes(struct buf *out, const int32_t *byte_of, struct bytes word);

/* In this order: added tokens; the strings by id into *word; the strings kept; the model. */
MUST_USE enum status hf_parse_added(struct hf_parser *p, const json_t *list);
MUST_USE enum status hf_place_words(struct hf_parser *p, struct bytes **word, struct err *e);
MUST_USE enum status hf_keep_strings(struct hf_parser *p, const struct bytes *word);
MUST_USE enum status hf_parse_model(struct hf_parser *p, struct bytes *word);

#endif
