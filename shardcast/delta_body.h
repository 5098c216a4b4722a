/*
 * shardcast/delta_body.h - what each table of delta_loops.h is made of (private to shardcast/)
 *
 * A file that includes this has before it
 *   LOOPS_TABLE, LOOPS_NAME   the table and its name
 *   masks_of()                with the result of masks_plain() (shardcast/delta_words.h)
 *   copy_word(to, from)       memcpy of WORD_BYTES
 *   copy_out(to, from, n)     memcpy, to where it will not be read again soon; before what it wrote
 *   copy_done()               is shown to another thread, this
 *   select_bit(m, k)          the place of set bit number k of m, counted from 0, which it has
 */
#ifndef SHARDCAST_DELTA_BODY_H
#define SHARDCAST_DELTA_BODY_H

#include <string.h>

#include "base/attr.h"
#include "shardcast/delta_loops.h"
#include "shardcast/delta_words.h"

#define CHUNK_WORDS  64u
#define CHUNK_BYTES  (CHUNK_WORDS * WORD_BYTES)
#define AHEAD_BYTES  2048u
#define EACH_FEW     4u
#define TILE_NUMBERS 256u
#define NO_MORE      SIZE_MAX

/* ---- classes ----------------------------------------------------------------------------- */

ALWAYS_INLINE uint16_t zigzag16(uint16_t base, uint16_t now)
{
    uint16_t k = (uint16_t)(order16(now) - order16(base));
    return (uint16_t)(k << 1) ^ (uint16_t) - (k >> 15);
}

ALWAYS_INLINE uint16_t moved16(uint16_t base, uint16_t zigzag)
{
    uint16_t k = (uint16_t)(zigzag >> 1) ^ (uint16_t) - (zigzag & 1);
    return order16((uint16_t)(order16(base) + k));
}

ALWAYS_INLINE bool put_wide(struct delta_stream *s, uint16_t v)
{
    if (s->cap - s->len < 2)
        return false;
    store16(s->data + s->len, v);
    s->len += 2;
    return true;
}

ALWAYS_INLINE bool get_wide(struct delta_stream *s, uint16_t *v)
{
    if (s->cap - s->len < 2)
        return false;
    *v = load16(s->data + s->len);
    s->len += 2;
    return true;
}

static bool put_gap(struct delta_stream *s, size_t gap)
{
    if (s->cap - s->len <= gap / 255)
        return false;
    for (; gap >= 255; gap -= 255)
        s->data[s->len++] = 255;
    s->data[s->len++] = (uint8_t)gap;
    return true;
}

/* Adds the next gap to *next, which becomes NO_MORE at the list's end. */
ALWAYS_INLINE bool get_gap(struct delta_stream *s, size_t *next)
{
    size_t gap = *next;

    if (s->len == s->cap) {
        *next = NO_MORE;
        return true;
    }
    while (s->data[s->len] == 255) {
        gap += 255;
        if (++s->len == s->cap)
            return false;
    }
    *next = gap + s->data[s->len++];
    return true;
}

/* Where a class with gaps stands. */
struct place {
    size_t seen; /* of the class, in the words before */
    size_t next; /* encoding: one past the last that changed; decoding: the next that changes */
    size_t n;    /* differences */
};

/* The differences of one word in class `c`. */
ALWAYS_INLINE bool put_changes(struct delta_stream s[DELTA_STREAMS], unsigned c,
                               struct place *p, uint64_t class, uint64_t differ,
                               const uint8_t *base, const uint8_t *now)
{
    struct delta_stream *steps = &s[DELTA_STEPS + c - 1];

    for (uint64_t left = class & differ; left; left &= left - 1) {
        size_t i = (size_t)CTZ64(left);
        size_t rank = p->seen + (size_t)POPCOUNT64(class & ((left & -left) - 1));
        uint16_t v = zigzag16(load16(base + 2 * i), load16(now + 2 * i));
        uint8_t step = v < 16 ? (uint8_t)(v - 1) : 15;

        if (!put_gap(&s[DELTA_GAPS + c - 1], rank - p->next) || steps->len == steps->cap)
            return false;
        if (step == 15 && !put_wide(&s[DELTA_WIDE + c], v))
            return false;
        p->next = rank + 1;
        if (p->n++ % 2 == 0)
            steps->data[steps->len] = step;
        else
            steps->data[steps->len++] |= (uint8_t)(step << 4);
    }
    p->seen += (size_t)POPCOUNT64(class);
    return true;
}

ALWAYS_INLINE bool put_each(struct delta_stream s[DELTA_STREAMS], uint64_t class,
                            const uint8_t *base, const uint8_t *now)
{
    struct delta_stream *each = &s[DELTA_EACH];

    if (each->cap - each->len < WORD_NUMBERS)
        return false;
    for (; class; class &= class - 1) {
        size_t i = (size_t)CTZ64(class);
        uint16_t v = zigzag16(load16(base + 2 * i), load16(now + 2 * i));

        each->data[each->len++] = v < 255 ? (uint8_t)v : 255;
        if (v >= 255 && !put_wide(&s[DELTA_WIDE], v))
            return false;
    }
    return true;
}

static bool classes_encode(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape)
{
    const struct bounds b = bounds_of(shape);
    struct place place[DELTA_CLASSES_GAPS + 1u] = {{0}};
    struct masks m;

    for (size_t i = 0; i < n; i += WORD_NUMBERS, base += 128, now += 128) {
        size_t left = n - i < WORD_NUMBERS ? n - i : WORD_NUMBERS;

        masks_of(&m, base, now, left, &b);
        if (m.class[0] && !put_each(s, m.class[0], base, now))
            return false;
        for (unsigned c = 1; c <= DELTA_CLASSES_GAPS; c++)
            if (!put_changes(s, c, &place[c], m.class[c], m.differ, base, now))
                return false;
    }
    for (unsigned c = 1; c <= DELTA_CLASSES_GAPS; c++)
        s[DELTA_STEPS + c - 1].len += place[c].n % 2;
    return true;
}

/* Some thousand numbers between base and output: first what class each is of, without a branch, then
 * only those that change. */
struct chunk {
    _Alignas(64) uint8_t out[CHUNK_BYTES]; /* stays in the first cache until it is whole */
    uint64_t class[DELTA_CLASSES_GAPS][CHUNK_WORDS];
    uint16_t before[DELTA_CLASSES_GAPS]
                   [CHUNK_WORDS + 1];          /* of the class, in the words before */
    uint16_t each[CHUNK_BYTES / 2 + EACH_FEW]; /* places of class 0 */
    size_t n_each;
};

/* Lists the set bits of a word. Four or fewer is the usual case, and costs the same whatever the word:
 * they are stored together, 16 bits each. */
ALWAYS_INLINE void list_each(struct chunk *k, uint64_t class, size_t word)
{
    const uint64_t top = UINT64_C(1) << 63;
    size_t n = (size_t)POPCOUNT64(class);
    uint16_t *to = k->each + k->n_each;
    uint64_t at = word * WORD_NUMBERS * UINT64_C(0x0001000100010001);

    for (unsigned i = 0; i < EACH_FEW; i++, class &= class - 1)
        at += (uint64_t)CTZ64(class | top) << 16 * i;
    memcpy(to, &at, sizeof(at));
    for (size_t i = EACH_FEW; UNLIKELY(i < n); i++, class &= class - 1)
        to[i] = (uint16_t)(word * WORD_NUMBERS + (size_t)CTZ64(class));
    k->n_each += n;
}

ALWAYS_INLINE void sort_chunk(struct chunk *k, const uint8_t *in, size_t bytes,
                              const struct bounds *b)
{
    struct masks m;

    k->n_each = 0;
    for (unsigned c = 0; c < DELTA_CLASSES_GAPS; c++)
        k->before[c][0] = 0;
    for (size_t i = 0, w = 0; i < bytes; i += WORD_BYTES, w++) {
        size_t left = bytes - i < WORD_BYTES ? bytes - i : WORD_BYTES;

        PREFETCH(in + i + AHEAD_BYTES);
        PREFETCH(in + i + AHEAD_BYTES + 64);
        masks_of(&m, in + i, in + i, left / 2, b);
        if (left == WORD_BYTES)
            copy_word(k->out + i, in + i);
        else
            memcpy(k->out + i, in + i, left);
        list_each(k, m.class[0], w);
        for (unsigned c = 0; c < DELTA_CLASSES_GAPS; c++) {
            k->class[c][w] = m.class[c + 1];
            k->before[c][w + 1] =
                (uint16_t)(k->before[c][w] + (unsigned)POPCOUNT64(m.class[c + 1]));
        }
    }
}

ALWAYS_INLINE bool take_changes(struct chunk *k, const uint8_t *in, size_t words, unsigned c,
                                struct place *p, struct delta_stream s[DELTA_STREAMS])
{
    const struct delta_stream *steps = &s[DELTA_STEPS + c - 1];
    const uint16_t *before = k->before[c - 1];
    size_t n = before[words], w = 0;

    while (p->next - p->seen < n) {
        size_t rank = p->next - p->seen, i;
        uint16_t v;

        if (w < rank / WORD_NUMBERS) /* a word has no more than so many */
            w = rank / WORD_NUMBERS;
        while (before[w + 1] <= rank)
            w++;
        i = w * WORD_NUMBERS + select_bit(k->class[c - 1][w], (unsigned)(rank - before[w]));
        if (p->n / 2 >= steps->cap)
            return false;
        v = 1 + (steps->data[p->n / 2] >> 4 * (p->n % 2) & 15);
        if (v == 16 && !get_wide(&s[DELTA_WIDE + c], &v))
            return false;
        store16(k->out + 2 * i, moved16(load16(in + 2 * i), v));
        p->n++;
        p->next++;
        if (!get_gap(&s[DELTA_GAPS + c - 1], &p->next))
            return false;
    }
    p->seen += n;
    return true;
}

ALWAYS_INLINE bool take_each(struct chunk *k, const uint8_t *in,
                             struct delta_stream s[DELTA_STREAMS])
{
    struct delta_stream *each = &s[DELTA_EACH];

    if (each->cap - each->len < k->n_each)
        return false;
    for (size_t j = 0; j < k->n_each; j++) {
        size_t i = k->each[j];
        uint16_t v = each->data[each->len++];

        if (UNLIKELY(v == 255) && !get_wide(&s[DELTA_WIDE], &v))
            return false;
        store16(k->out + 2 * i, moved16(load16(in + 2 * i), v));
    }
    return true;
}

/* Every list was read to its end, and no change lies beyond the numbers. */
static bool is_read(const struct delta_stream s[DELTA_STREAMS],
                    const struct place place[DELTA_CLASSES_GAPS + 1u])
{
    for (unsigned c = 1; c <= DELTA_CLASSES_GAPS; c++)
        if (place[c].next != NO_MORE || (place[c].n + 1) / 2 != s[DELTA_STEPS + c - 1].cap)
            return false;
    for (unsigned i = 0; i < DELTA_STREAMS; i++)
        if ((i < DELTA_STEPS || i >= DELTA_WIDE) && s[i].len != s[i].cap)
            return false;
    return true;
}

static bool classes_decode(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape)
{
    const struct bounds b = bounds_of(shape);
    struct place place[DELTA_CLASSES_GAPS + 1u] = {{0}};
    struct chunk k;

    for (unsigned c = 1; c <= DELTA_CLASSES_GAPS; c++)
        if (!get_gap(&s[DELTA_GAPS + c - 1], &place[c].next))
            return false;
    for (size_t from = 0; from < 2 * n; from += CHUNK_BYTES) {
        size_t bytes = 2 * n - from < CHUNK_BYTES ? 2 * n - from : CHUNK_BYTES;
        size_t words = (bytes + WORD_BYTES - 1) / WORD_BYTES;

        sort_chunk(&k, base + from, bytes, &b);
        if (!take_each(&k, base + from, s))
            return false;
        for (unsigned c = 1; c <= DELTA_CLASSES_GAPS; c++)
            if (!take_changes(&k, base + from, words, c, &place[c], s))
                return false;
        copy_out(out + from, k.out, bytes);
    }
    copy_done();
    return is_read(s, place);
}

/* ---- dense ------------------------------------------------------------------------------- */

/* A tile of numbers between its file and its lists. */
struct tile {
    uint32_t zigzag[TILE_NUMBERS];
    uint32_t low[TILE_NUMBERS];
    uint32_t n_low[TILE_NUMBERS]; /* bits of it */
    uint8_t high[TILE_NUMBERS];
};

ALWAYS_INLINE uint32_t noisy_bits(uint32_t u, const struct delta_shape *shape)
{
    int32_t x = (int32_t)(u >> shape->mantissa & shape->exponent);
    int32_t s = (int32_t)shape->parameter - x;

    s = s < 0 ? 0 : s;
    return (uint32_t)(s > (int32_t)shape->low_max ? (int32_t)shape->low_max : s);
}

ALWAYS_INLINE int32_t difference(const uint8_t *base, const uint8_t *now, size_t width)
{
    if (width == 2)
        return (int16_t)(uint16_t)(order16(load16(now)) - order16(load16(base)));
    return (int32_t)(order32(load32(now)) - order32(load32(base)));
}

ALWAYS_INLINE void fill_tile(struct tile *t, const uint8_t *base, const uint8_t *now, size_t m,
                             size_t width, const struct delta_shape *shape)
{
    for (size_t i = 0; i < m; i++) {
        uint32_t u = width == 2 ? load16(base + 2 * i) : load32(base + 4 * i);
        uint32_t s = noisy_bits(u, shape);
        int32_t k = difference(base + width * i, now + width * i, width);
        int32_t high = k >> s;

        t->n_low[i] = s;
        t->low[i] = (uint32_t)k & ((1u << s) - 1u);
        t->zigzag[i] = (uint32_t)high << 1 ^ (uint32_t)(high >> 31);
    }
    for (size_t i = 0; i < m; i++)
        t->high[i] = (uint8_t)(t->zigzag[i] < 255 ? t->zigzag[i] : 255);
    if (m % 2) {
        t->low[m] = 0;
        t->n_low[m] = 0;
    }
}

ALWAYS_INLINE bool put_far(struct delta_stream *far, const struct tile *t, size_t m)
{
    if (!memchr(t->high, 255, m))
        return true;
    for (size_t i = 0; i < m; i++) {
        if (t->high[i] != 255)
            continue;
        if (far->cap - far->len < 4)
            return false;
        store32(far->data + far->len, t->zigzag[i]);
        far->len += 4;
    }
    return true;
}

/* Bits that are not whole bytes yet. */
struct bits {
    uint64_t v;
    size_t n; /* below 8 between calls */
};

/* Two numbers at a time: at most 7 + 2 * 24 bits. The list has room for 8 bytes more than it takes. */
ALWAYS_INLINE bool put_low(struct delta_stream *low, struct bits *b, const struct tile *t,
                           size_t m)
{
    uint64_t v = b->v;
    size_t n = b->n;
    uint8_t *at = low->data + low->len;

    if (low->cap - low->len < 3 * (size_t)TILE_NUMBERS + 8)
        return false;
    for (size_t i = 0; i < m; i += 2) {
        v |= ((uint64_t)t->low[i] | (uint64_t)t->low[i + 1] << t->n_low[i]) << n;
        n += t->n_low[i] + t->n_low[i + 1];
        memcpy(at, &v, sizeof(v));
        at += n / 8;
        v >>= n / 8 * 8;
        n %= 8;
    }
    low->len = (size_t)(at - low->data);
    *b = (struct bits){v, n};
    return true;
}

ALWAYS_INLINE bool dense_encode(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                                const uint8_t *now, size_t n, const struct delta_shape *shape,
                                size_t width)
{
    const struct delta_shape sh = *shape;
    struct bits bits = {0};
    struct tile t;

    if (s[DELTA_HIGH].cap < n)
        return false;
    for (size_t i = 0; i < n; i += TILE_NUMBERS) {
        size_t m = n - i < TILE_NUMBERS ? n - i : TILE_NUMBERS;

        fill_tile(&t, base + width * i, now + width * i, m, width, &sh);
        memcpy(s[DELTA_HIGH].data + i, t.high, m);
        if (!put_far(&s[DELTA_FAR], &t, m) || !put_low(&s[DELTA_LOW], &bits, &t, m))
            return false;
    }
    s[DELTA_HIGH].len = n;
    s[DELTA_LOW].len += bits.n > 0;
    return true;
}

ALWAYS_INLINE bool get_far(struct delta_stream *far, struct tile *t, size_t m)
{
    for (size_t i = 0; i < m; i++)
        t->zigzag[i] = t->high[i];
    if (!memchr(t->high, 255, m))
        return true;
    for (size_t i = 0; i < m; i++) {
        if (t->high[i] != 255)
            continue;
        if (far->cap - far->len < 4)
            return false;
        t->zigzag[i] = load32(far->data + far->len);
        far->len += 4;
    }
    return true;
}

/* `at` in bits from the list's begin. Eight bytes past its end are readable. */
ALWAYS_INLINE bool get_low(const struct delta_stream *low, size_t *at, struct tile *t, size_t m)
{
    size_t p = *at, n = 0;

    for (size_t i = 0; i < m; i++)
        n += t->n_low[i];
    if (n > low->cap * 8 - p)
        return false;
    for (size_t i = 0; i < m; i += 2) {
        uint64_t v = load64(low->data + p / 8) >> p % 8;
        uint32_t first = t->n_low[i], second = t->n_low[i + 1];

        t->low[i] = (uint32_t)v & ((1u << first) - 1u);
        t->low[i + 1] = (uint32_t)(v >> first) & ((1u << second) - 1u);
        p += first + second;
    }
    *at = p;
    return true;
}

ALWAYS_INLINE void empty_tile(uint8_t *out, const struct tile *t, const uint8_t *base, size_t m,
                              size_t width)
{
    for (size_t i = 0; i < m; i++) {
        uint32_t high = t->zigzag[i] >> 1 ^ (uint32_t) - (int32_t)(t->zigzag[i] & 1);
        uint32_t k = high << t->n_low[i] | t->low[i];

        if (width == 2)
            store16(out + 2 * i,
                    order16((uint16_t)(order16(load16(base + 2 * i)) + (uint16_t)k)));
        else
            store32(out + 4 * i, order32(order32(load32(base + 4 * i)) + k));
    }
}

ALWAYS_INLINE bool dense_decode(uint8_t *out, const uint8_t *base, size_t n,
                                struct delta_stream s[DELTA_STREAMS],
                                const struct delta_shape *shape, size_t width)
{
    const struct delta_shape sh = *shape;
    size_t at = 0;
    struct tile t;

    if (s[DELTA_HIGH].cap != n)
        return false;
    for (size_t i = 0; i < n; i += TILE_NUMBERS) {
        size_t m = n - i < TILE_NUMBERS ? n - i : TILE_NUMBERS;

        for (size_t j = 0; j < m; j++)
            t.n_low[j] = noisy_bits(
                width == 2 ? load16(base + 2 * (i + j)) : load32(base + 4 * (i + j)), &sh);
        if (m % 2)
            t.n_low[m] = 0;
        memcpy(t.high, s[DELTA_HIGH].data + i, m);
        if (!get_far(&s[DELTA_FAR], &t, m) || !get_low(&s[DELTA_LOW], &at, &t, m))
            return false;
        empty_tile(out + width * i, &t, base + width * i, m, width);
    }
    return s[DELTA_FAR].len == s[DELTA_FAR].cap && (at + 7) / 8 == s[DELTA_LOW].cap;
}

static bool dense16_encode(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape)
{
    return dense_encode(s, base, now, n, shape, 2);
}

static bool dense16_decode(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape)
{
    return dense_decode(out, base, n, s, shape, 2);
}

static bool dense32_encode(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape)
{
    return dense_encode(s, base, now, n, shape, 4);
}

static bool dense32_decode(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape)
{
    return dense_decode(out, base, n, s, shape, 4);
}

const struct delta_loops LOOPS_TABLE = {
    LOOPS_NAME,     classes_encode, classes_decode, dense16_encode,
    dense16_decode, dense32_encode, dense32_decode,
};

#endif
