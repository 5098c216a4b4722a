/*
 * engine/bpe.h - byte-pair encoding: a word to the ids of its pieces
 *
 * A word is cut into symbols (bytes, or characters); then, as long as some pair of neighbours is in
 * the list of merges, the pair that comes first in that list is merged, the leftmost of equals
 * first. Short words are done by looking for the best pair again and again, long ones with a heap
 * over a linked list: n log n, so that a megabyte of one letter is no attack.
 *
 * Most words of a text are tokens. Which tokens' own strings encode to themselves is found out once,
 * when the vocabulary is made; such a word is one look-up.
 *
 * Threads: a bpe does not change after it was made; any number may use it.
 */
#ifndef ENGINE_BPE_H
#define ENGINE_BPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

#define BPE_MAX_IDS    (1u << 21)
#define BPE_MAX_MERGES (1u << 22)

struct bpe;

struct bpe_merge {
    int32_t left, right, result;
};

struct bpe_spec {
    const struct bytes *words; /* by id; data NULL: no text gives this id by itself */
    size_t n_words;
    const struct bpe_merge *merges; /* best first; of two for one pair the later counts */
    size_t n_merges;
    bool by_bytes; /* symbols are bytes; else characters */
    bool
        byte_fallback; /* a character that is no word becomes its bytes' ids, if all are there */
    bool fuse_unk;     /* a run of unknown characters is one unk */
    bool ignore_merges; /* a word that is a token is that token, whatever the merges say */
    int32_t unk;        /* -1: an unknown symbol is left out */
    int32_t
        byte_id[256]; /* -1: the byte has no id. By bytes: the symbols. Else: the fallback's */
};

/* Where ids go. */
struct bpe_out {
    int32_t *ids; /* borrowed */
    size_t n, cap;
};

/* `spec` and its strings are copied. ERR_MALFORMED: a table of the size of this vocabulary would
 * have to be searched through; ERR_NO_MEMORY. Ids in merges must be below n_words. */
MUST_USE enum status bpe_new(struct bpe **out, const struct bpe_spec *spec, struct err *e);
void bpe_free(struct bpe **b);

/* The id whose word is `text`, or -1. */
int32_t bpe_find(const struct bpe *b, struct bytes text);

/* Appends the ids of one word, which is UTF-8. ERR_LIMIT: no room; ERR_NO_MEMORY. */
MUST_USE enum status bpe_encode(const struct bpe *b, struct bytes word, struct bpe_out *out,
                                struct err *e);

#endif
