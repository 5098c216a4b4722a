#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define BUF_FIRST_BYTES 64u

struct bytes bytes_str(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.data, b.data, n) : 0;

    if (c == 0)
        return (a.len > b.len) - (a.len < b.len);
    return c < 0 ? -1 : 1;
}

struct bytes bytes_slice(struct bytes b, size_t from, size_t len)
{
    CHECK(from <= b.len && len <= b.len - from);
    return (struct bytes){b.data ? b.data + from : NULL, len};
}

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_clear(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->bad = false;
}

struct bytes buf_bytes(const struct buf *b)
{
    return (struct bytes){b->data, b->len};
}

enum status buf_status(const struct buf *b, struct err *e)
{
    if (b->bad)
        return err_set(e, ERR_LIMIT, "more than the %zu bytes allowed, or out of memory",
                       b->max);
    return OK;
}

/* Makes room for n bytes more, which may pass the ceiling by `spare` (a final NUL). */
static bool make_room(struct buf *b, size_t n, size_t spare)
{
    size_t need, cap = b->cap;
    uint8_t *p;

    if (b->bad || n > b->max || b->len > b->max - n) {
        b->bad = true;
        return false;
    }
    need = b->len + n + spare;
    if (need <= cap)
        return true;
    cap = cap > b->max / 2 ? b->max : cap * 2;
    if (cap < BUF_FIRST_BYTES)
        cap = BUF_FIRST_BYTES;
    if (cap < need)
        cap = need;
    p = realloc(b->data, cap);
    if (!p) {
        b->bad = true;
        return false;
    }
    b->data = p;
    b->cap = cap;
    return true;
}

uint8_t *buf_extend(struct buf *b, size_t n)
{
    uint8_t *at;

    if (!make_room(b, n, 1))
        return NULL;
    at = b->data + b->len;
    b->len += n;
    return at;
}

void buf_append(struct buf *b, struct bytes in)
{
    uint8_t *at = buf_extend(b, in.len);

    if (at && in.len)
        memcpy(at, in.data, in.len);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->bad = true;
        return;
    }
    if (!make_room(b, (size_t)n, 1))
        return;
    va_start(ap, fmt);
    (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

const char *buf_cstr(struct buf *b)
{
    if (!make_room(b, 0, 1))
        return "";
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

/* The n low bytes of v, little-endian. */
static void put_int(struct buf *b, uint64_t v, size_t n)
{
    uint8_t *at = buf_extend(b, n);

    if (!at)
        return;
    for (size_t i = 0; i < n; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

void buf_put_u8(struct buf *b, uint8_t v)
{
    put_int(b, v, 1);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
    put_int(b, v, 2);
}

void buf_put_u32(struct buf *b, uint32_t v)
{
    put_int(b, v, 4);
}

void buf_put_u64(struct buf *b, uint64_t v)
{
    put_int(b, v, 8);
}

void buf_put_f32(struct buf *b, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof(bits));
    buf_put_u32(b, bits);
}

void buf_put_blob(struct buf *b, struct bytes v)
{
    if (v.len > UINT32_MAX) {
        b->bad = true;
        return;
    }
    buf_put_u32(b, (uint32_t)v.len);
    buf_append(b, v);
}

struct reader reader_of(struct bytes in)
{
    static const uint8_t nothing[1];
    const uint8_t *at = in.data ? in.data : nothing;

    return (struct reader){.at = at, .end = at + in.len};
}

struct bytes reader_bytes(struct reader *r, size_t n)
{
    struct bytes got = {r->at, n};

    if (r->bad || n > (size_t)(r->end - r->at)) {
        r->bad = true;
        return (struct bytes){NULL, 0};
    }
    r->at += n;
    return got;
}

static uint64_t get_int(struct reader *r, size_t n)
{
    struct bytes b = reader_bytes(r, n);
    uint64_t v = 0;

    for (size_t i = 0; i < b.len; i++)
        v |= (uint64_t)b.data[i] << (8 * i);
    return v;
}

uint8_t reader_u8(struct reader *r)
{
    return (uint8_t)get_int(r, 1);
}

uint16_t reader_u16(struct reader *r)
{
    return (uint16_t)get_int(r, 2);
}

uint32_t reader_u32(struct reader *r)
{
    return (uint32_t)get_int(r, 4);
}

uint64_t reader_u64(struct reader *r)
{
    return get_int(r, 8);
}

float reader_f32(struct reader *r)
{
    uint32_t bits = reader_u32(r);
    float v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

struct bytes reader_blob(struct reader *r)
{
    return reader_bytes(r, reader_u32(r));
}

void reader_copy(struct reader *r, void *out, size_t n)
{
    struct bytes b = reader_bytes(r, n);

    if (r->bad)
        memset(out, 0, n);
    else if (n)
        memcpy(out, b.data, n);
}

size_t reader_left(const struct reader *r)
{
    return r->bad ? 0 : (size_t)(r->end - r->at);
}

enum status reader_done(const struct reader *r, const char *what, struct err *e)
{
    if (r->bad)
        return err_set(e, ERR_MALFORMED, "%s ends too early", what);
    if (r->at != r->end)
        return err_set(e, ERR_MALFORMED, "%s has %zu bytes too many", what, reader_left(r));
    return OK;
}

void hex_encode(char *out, struct bytes in)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < in.len; i++) {
        out[2 * i] = digits[in.data[i] >> 4];
        out[2 * i + 1] = digits[in.data[i] & 15];
    }
    out[2 * in.len] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

enum status hex_decode(uint8_t *out, size_t n, const char *text, struct err *e)
{
    size_t len = strlen(text);

    if (len != 2 * n)
        return err_set(e, ERR_MALFORMED, "%zu hexadecimal digits where %zu belong", len, 2 * n);
    for (size_t i = 0; i < n; i++) {
        int hi = hex_value(text[2 * i]), lo = hex_value(text[2 * i + 1]);

        if (hi < 0 || lo < 0)
            return err_set(e, ERR_MALFORMED, "'%.2s' is not hexadecimal", text + 2 * i);
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return OK;
}
