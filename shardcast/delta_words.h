/*
 * shardcast/delta_words.h - numbers looked at 64 at a time (private to shardcast/)
 *
 * One bit each says which class a number is of and whether it changed, so that what does not
 * change costs no branch.
 */
#ifndef SHARDCAST_DELTA_WORDS_H
#define SHARDCAST_DELTA_WORDS_H

#include <string.h>

#include "base/attr.h"
#include "shardcast/delta_loops.h"

#define WORD_NUMBERS 64u
#define WORD_BYTES   128u

struct masks {
    uint64_t differ;                         /* from the other */
    uint64_t class[DELTA_CLASSES_GAPS + 1u]; /* each number is of one class */
};

ALWAYS_INLINE uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

ALWAYS_INLINE uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

ALWAYS_INLINE uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

ALWAYS_INLINE void store16(uint8_t *p, uint16_t v)
{
    memcpy(p, &v, sizeof(v));
}

ALWAYS_INLINE void store32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* Sign-magnitude to two's complement, and back: -0 is one below +0. */
ALWAYS_INLINE uint16_t order16(uint16_t u)
{
    return u ^ (uint16_t)(-(u >> 15) & 0x7fff);
}

ALWAYS_INLINE uint32_t order32(uint32_t u)
{
    return u ^ ((uint32_t) - (int32_t)(u >> 31) & 0x7fffffffu);
}

/* The smallest magnitudes of classes 1..4, as bit patterns without sign, at most 0x8000. */
struct bounds {
    int32_t from[DELTA_CLASSES_GAPS];
};

ALWAYS_INLINE struct bounds bounds_of(const struct delta_shape *shape)
{
    struct bounds b;

    for (unsigned i = 0; i < DELTA_CLASSES_GAPS; i++) {
        uint32_t from = (shape->parameter + i) << shape->mantissa;
        b.from[i] = from < 0x8000u ? (int32_t)from : 0x8000;
    }
    return b;
}

/* From "at least of class i" to "of class i", for n numbers. */
ALWAYS_INLINE void split(struct masks *m, const uint64_t at_least[DELTA_CLASSES_GAPS], size_t n)
{
    uint64_t all = n < WORD_NUMBERS ? (UINT64_C(1) << n) - 1u : UINT64_MAX;

    m->differ &= all;
    m->class[0] = all & ~at_least[0];
    for (unsigned i = 1; i < DELTA_CLASSES_GAPS; i++)
        m->class[i] = all & at_least[i - 1] & ~at_least[i];
    m->class[DELTA_CLASSES_GAPS] = all & at_least[DELTA_CLASSES_GAPS - 1];
}

/* Of n <= 64 numbers at `base`; `now` is `base` where nothing is compared. */
ALWAYS_INLINE void masks_plain(struct masks *m, const uint8_t *base, const uint8_t *now,
                               size_t n, const struct bounds *b)
{
    uint64_t at_least[DELTA_CLASSES_GAPS] = {0};

    m->differ = 0;
    for (size_t i = 0; i < n; i++) {
        uint16_t u = load16(base + 2 * i);

        m->differ |= (uint64_t)(u != load16(now + 2 * i)) << i;
        for (unsigned c = 0; c < DELTA_CLASSES_GAPS; c++)
            at_least[c] |= (uint64_t)((u & 0x7fff) >= b->from[c]) << i;
    }
    split(m, at_least, n);
}

#endif
