/*
 * engine/utf8.h - UTF-8 and what a character is
 *
 * Classes of code points are those of the Python package tokenizers (tests/reference/unicode.py),
 * not those of some library of this machine: two machines must cut a text in the same places.
 */
#ifndef ENGINE_UTF8_H
#define ENGINE_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Values of the table of utf8_classes_new. */
enum utf8_class {
    UTF8_OTHER, /* controls, formats, private use, unassigned */
    UTF8_LU,    /* letters: upper, lower, title case, modifiers, all others */
    UTF8_LL,
    UTF8_LT,
    UTF8_LM,
    UTF8_LO,
    UTF8_M, /* marks */
    UTF8_N, /* numbers */
    UTF8_P, /* punctuation */
    UTF8_S, /* symbols */
    UTF8_SPACE,
};
#define UTF8_CLASS      0x0f /* a table entry's class */
#define UTF8_IS_WORD    0x80 /* a table entry's bit: \w of an added token's single_word */
#define UTF8_CODE_SPACE 0x110000u

/* The code point at text[*at], moving *at past it. False: not UTF-8 (overlong forms, surrogates
 * and points past U+10FFFF included). */
bool utf8_next(uint32_t *point, struct bytes text, size_t *at);
/* The same for text that utf8_valid has seen. */
uint32_t utf8_get(const uint8_t *text, size_t *at);
/* The length of the part of `text` that is UTF-8: text.len if all of it is. */
size_t utf8_valid(struct bytes text);
void utf8_put(struct buf *out, uint32_t c);

/* Length of the longest part of `text` that does not end inside a character. */
size_t utf8_whole(struct bytes text);
/* Appends `text` with U+FFFD for each maximal piece that is not UTF-8. */
void utf8_put_lossy(struct buf *out, struct bytes text);

/* UTF8_CODE_SPACE entries, the caller's to free(). */
uint8_t *utf8_classes_new(void);

#endif
