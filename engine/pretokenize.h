/*
 * engine/pretokenize.h - a text into words, before byte-pair encoding
 *
 * Published tokenizers cut text with a regular expression. The ones known here are written out by
 * hand, and chosen by the expression's text; each cuts every text, and all of it, as the reference's
 * regex engine does. Any other expression is refused: a word cut elsewhere gives other ids, and a
 * model that reads other ids than it was trained on answers worse without a sign of it.
 */
#ifndef ENGINE_PRETOKENIZE_H
#define ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* Where the word that begins at `at` ends. `classes` is utf8_classes_new's table; text is UTF-8. */
typedef size_t pretokenize_cut(const uint8_t *classes, struct bytes text, size_t at);

pretokenize_cut pretokenize_gpt2; /* also what ByteLevel's use_regex means */

/* NULL: not known. */
pretokenize_cut *pretokenize_find(struct bytes regex);

/* Digits one by one, or in runs; what is between them is a word. Both know \p{N} as a digit, as
 * the reference does. */
pretokenize_cut pretokenize_digit, pretokenize_digits;

#endif
