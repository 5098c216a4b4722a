/*
 * engine/hf_tokenizer.h - the tokenizers of Hugging Face, as tokenizer.json describes them
 *
 * Behind engine/tokenizer.h, which is what others use. A text goes through
 *
 *   added tokens   found in the text as it is, longest first; what is between them goes on
 *   normalizer     hf_normalize: composition, replacements
 *   added tokens   those that are looked for in normalized text
 *   pre-tokenizer  a list of steps, each of which cuts what the step before it left whole
 *   model          engine/bpe.h
 *
 * and ids become text through a table of what each of them says, with the bytes of byte fallback
 * put together to characters. What is not written down here is refused by hf_parse, by name.
 */
#ifndef ENGINE_HF_TOKENIZER_H
#define ENGINE_HF_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/bpe.h"
#include "engine/pretokenize.h"

#define HF_STEPS_MAX   8u     /* of a normalizer or a pre-tokenizer */
#define HF_ADDED_MAX   65536u /* added tokens */
#define HF_CONTENT_MAX 512u   /* bytes of an added token */
#define HF_SETTING_MAX 64u    /* bytes of a text in a normalizer, pre-tokenizer or decoder */

struct hf_text { /* a short text of the file */
    uint8_t at[HF_SETTING_MAX];
    size_t len;
};

struct hf_added {
    struct bytes content; /* borrowed from the tokenizer's words */
    struct bytes pattern; /* what is looked for: the content, normalized if `normalized` */
    int32_t id;
    bool is_special, normalized, single_word, lstrip, rstrip;
};

/* Added tokens sorted by pattern. */
struct hf_patterns {
    struct hf_added **sorted; /* owned; each borrowed */
    size_t n;
    uint32_t first[257]; /* where those that begin with byte b lie: first[b] .. first[b + 1] */
};

struct hf_normalizer {
    enum { HF_NFC, HF_NFD, HF_NFKC, HF_NFKD, HF_PREPEND, HF_REPLACE } kind;
    struct hf_text from, to; /* prepend: to */
};

struct hf_step {
    enum {
        HF_CUT,          /* by a function */
        HF_PREFIX_SPACE, /* no cut: a space in front, if there is none */
        HF_METASPACE,    /* spaces become marks */
        HF_SPLIT         /* at each `mark` */
    } kind;
    pretokenize_cut *cut;
    struct hf_text mark;
    enum { HF_NEVER, HF_FIRST, HF_ALWAYS } prepend; /* metaspace */
    enum { HF_ISOLATED, HF_REMOVED, HF_WITH_PREVIOUS, HF_WITH_NEXT, HF_WHOLE } place;
};

enum hf_decoder { HF_BYTES, HF_PIECES, HF_MARKS };

struct hf_tokenizer {
    struct bpe *bpe;    /* owned */
    uint8_t *classes;   /* owned: utf8_classes_new */
    size_t n_ids;       /* the highest id and one */
    struct buf strings; /* the token strings, one after the other */
    size_t *string_at;  /* owned, by id, n_ids + 1 */
    struct buf says;    /* what each id decodes to, likewise */
    size_t *says_at;    /* owned */
    uint8_t *flags;     /* owned, by id: HF_IS_* */

    struct buf patterns;    /* of the added tokens, one after the other */
    struct hf_added *added; /* owned */
    size_t n_added;
    struct hf_patterns raw, normalized;
    struct hf_normalizer normalizer[HF_STEPS_MAX];
    size_t n_normalizers;
    struct hf_step step[HF_STEPS_MAX];
    size_t n_steps;

    enum hf_decoder decoder;
    struct hf_text decoder_mark; /* HF_MARKS: what becomes a space */
    bool drops_first_mark;       /* HF_MARKS */
    struct hf_text strip; /* HF_PIECES: a character, up to n_strip of them at the start */
    size_t n_strip;

    int32_t bos; /* what the post-processor puts in front; -1: nothing */
};

#define HF_IS_TOKEN   1u /* the id has a string */
#define HF_IS_SPECIAL 2u /* an added token that is no text */
#define HF_IS_BYTE    4u /* byte fallback: it says one byte of a character */

/* Reads a tokenizer.json. ERR_MALFORMED: not JSON, or not of the form; ERR_UNSUPPORTED names what
 * is not known here; ERR_LIMIT; ERR_NO_MEMORY. */
MUST_USE enum status hf_parse(struct hf_tokenizer **out, struct bytes json, struct err *e);
void hf_free(struct hf_tokenizer **h);

/* Sorts the patterns of the added tokens, which must be complete. */
MUST_USE enum status hf_sort_added(struct hf_tokenizer *h, struct err *e);

/* Appends `text`, normalized. ERR_LIMIT: it grew past the ceiling of `out`. */
MUST_USE enum status hf_normalize(struct buf *out, const struct hf_tokenizer *h,
                                  struct bytes text, struct err *e);

/* Appends the ids of UTF-8 text, which stands at the start of a sequence if `is_first`. Special
 * tokens in it are read as such if `reads_specials`; else they are text. */
MUST_USE enum status hf_encode(const struct hf_tokenizer *h, struct bytes text, bool is_first,
                               bool reads_specials, struct bpe_out *out, struct err *e);

struct bytes hf_string(const struct hf_tokenizer *h, int32_t id);
struct bytes hf_says(const struct hf_tokenizer *h, int32_t id);

#endif
