/*
 * cli/spelt.h - texts that spell special tokens out, "<|im_end|>"
 *
 * Here text is text, whatever it spells, unless one's own user says that it was rendered already. Other
 * tools read special tokens unasked, so who comes with such a text is to be told.
 */
#ifndef CLI_SPELT_H
#define CLI_SPELT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "engine/tokenizer.h"

struct spelt {
    bool reads_special; /* special tokens in a text are tokens: tokenizer_encode_trusted */
    size_t n;           /* texts so far that spell some and were not read so */
};

/* The ids of `text`, as tokenizer_encode or its trusted kin give them. Fails as these. */
MUST_USE enum status spelt_encode(struct spelt *s, const struct tokenizer *t, struct bytes text,
                                  int32_t *ids, size_t cap, size_t *n, struct err *e);

#endif
