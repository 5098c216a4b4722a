/*
 * shardcast/delta_scalar.c - the loops of patches for any machine
 */
#include "shardcast/delta_words.h"

#define LOOPS_TABLE delta_loops_scalar
#define LOOPS_NAME  "scalar"

ALWAYS_INLINE void masks_of(struct masks *m, const uint8_t *base, const uint8_t *now, size_t n,
                            const struct bounds *b)
{
    masks_plain(m, base, now, n, b);
}

ALWAYS_INLINE void copy_done(void)
{
}

ALWAYS_INLINE size_t select_bit(uint64_t m, unsigned k)
{
    for (; k > 0; k--)
        m &= m - 1;
    return (size_t)CTZ64(m);
}

ALWAYS_INLINE void copy_word(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, WORD_BYTES);
}

ALWAYS_INLINE void copy_out(uint8_t *to, const uint8_t *from, size_t n)
{
    memcpy(to, from, n);
}

#include "shardcast/delta_body.h"
