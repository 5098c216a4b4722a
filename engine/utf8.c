#include "engine/utf8.h"

#include <string.h>

#include "base/alloc.h"

/* How long a character is that begins with `first`, and what its second byte may be: the table of
 * well-formed sequences of the Unicode standard. 0: no character begins so. */
static size_t sequence(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* How many bytes at text[at] may begin a character, *is_whole if they are one. */
static size_t prefix(struct bytes text, size_t at, bool *is_whole)
{
    uint8_t low, high;
    size_t n = sequence(text.data[at], &low, &high), have = 1;

    while (have < n && at + have < text.len) {
        uint8_t next = text.data[at + have];

        if (have == 1 ? next < low || next > high : (next & 0xc0) != 0x80)
            break;
        have++;
    }
    *is_whole = have == n;
    return have;
}

uint32_t utf8_get(const uint8_t *text, size_t *at)
{
    const uint8_t *p = text + *at;
    uint32_t c = p[0];

    if (c < 0x80) {
        *at += 1;
        return c;
    }
    if (c < 0xe0) {
        *at += 2;
        return (c & 0x1f) << 6 | (p[1] & 0x3fu);
    }
    if (c < 0xf0) {
        *at += 3;
        return (c & 0x0f) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *at += 4;
    return (c & 0x07) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

bool utf8_next(uint32_t *point, struct bytes text, size_t *at)
{
    bool is_whole;

    prefix(text, *at, &is_whole);
    if (is_whole)
        *point = utf8_get(text.data, at);
    return is_whole;
}

size_t utf8_valid(struct bytes text)
{
    size_t at = 0;

    while (at < text.len) {
        uint64_t eight;
        bool is_whole;

        if (text.len - at >= sizeof(eight)) {
            memcpy(&eight, text.data + at, sizeof(eight));
            if (!(eight & 0x8080808080808080u)) {
                at += sizeof(eight);
                continue;
            }
        }
        size_t n = prefix(text, at, &is_whole);
        if (!is_whole)
            return at;
        at += n;
    }
    return at;
}

void utf8_put(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_put_u8(out, (uint8_t)c);
    } else if (c < 0x800) {
        buf_put_u8(out, (uint8_t)(0xc0 | c >> 6));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        buf_put_u8(out, (uint8_t)(0xe0 | c >> 12));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    } else {
        buf_put_u8(out, (uint8_t)(0xf0 | c >> 18));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
        buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
    }
}

size_t utf8_whole(struct bytes text)
{
    size_t back = text.len < 3 ? text.len : 3;
    bool is_whole;

    for (size_t at = text.len - back; at < text.len; at++) {
        size_t n = prefix(text, at, &is_whole);
        uint8_t low, high;

        if (!is_whole && at + n == text.len && sequence(text.data[at], &low, &high))
            return at;
    }
    return text.len;
}

void utf8_put_lossy(struct buf *out, struct bytes text)
{
    size_t at = 0;

    while (at < text.len) {
        size_t n = utf8_valid((struct bytes){text.data + at, text.len - at});
        bool is_whole;

        buf_append(out, (struct bytes){text.data + at, n});
        at += n;
        if (at < text.len) {
            at += prefix(text, at, &is_whole);
            buf_append(out, BYTES_LIT(UTF8_REPLACEMENT));
        }
    }
}

uint8_t *utf8_classes_new(void)
{
    enum { OTHER, LU, LL, LT, LM, LO, M, N, P, S, SPACE, W = UTF8_IS_WORD };
    static const struct {
        uint32_t first, value;
    } range[] = {
#include "engine/unicode_ranges.h"
    };
    const size_t n = sizeof(range) / sizeof(range[0]);
    uint8_t *table = xmalloc(UTF8_CODE_SPACE);

    for (size_t i = 0; i < n; i++) {
        size_t end = i + 1 < n ? range[i + 1].first : UTF8_CODE_SPACE;

        memset(table + range[i].first, (int)range[i].value, end - range[i].first);
    }
    return table;
}
