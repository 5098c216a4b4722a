#include "proto/msg_codec.h"

#include <string.h>

#include <pb_decode.h>
#include <pb_encode.h>

#include "base/check.h"

/* ---- rules ------------------------------------------------------------------------------- */

static bool is_zero(const void *at, size_t n)
{
    const uint8_t *b = at;
    uint8_t any = 0;

    for (size_t i = 0; i < n; i++)
        any |= b[i];
    return any == 0;
}

static uint32_t load_u32(const void *at)
{
    uint32_t v;

    memcpy(&v, at, sizeof(v));
    return v;
}

static enum status check_rule(const struct msg_table *t, const struct msg_rule *r,
                              const uint8_t *m, struct err *e)
{
    const void *at = m + r->offset;
    struct bytes b;
    int64_t v;

    switch (r->kind) {
    case MSG_RULE_NONE: return OK;
    case MSG_RULE_RANGE:
    case MSG_RULE_COUNT:
        v = load_u32(at);
        if (v < r->lo || v > r->hi)
            return err_set(e, ERR_MALFORMED, "%s: '%s' is %lld, outside %lld..%lld", t->name,
                           r->name, (long long)v, (long long)r->lo, (long long)r->hi);
        return OK;
    case MSG_RULE_MIN:
        memcpy(&v, at, sizeof(v));
        if (v < r->lo)
            return err_set(e, ERR_MALFORMED, "%s: '%s' is %lld, below %lld", t->name, r->name,
                           (long long)v, (long long)r->lo);
        return OK;
    case MSG_RULE_LENGTH:
        memcpy(&b, at, sizeof(b));
        if (b.len < (size_t)r->lo || b.len > (size_t)r->hi || b.len % r->unit != 0)
            return err_set(e, ERR_MALFORMED,
                           "%s: '%s' has %zu bytes, not %lld..%lld in multiples of %u", t->name,
                           r->name, b.len, (long long)r->lo, (long long)r->hi, r->unit);
        return OK;
    case MSG_RULE_REQUIRED:
        if (is_zero(at, r->size))
            return err_set(e, ERR_MALFORMED, "%s: '%s' is missing", t->name, r->name);
        return OK;
    }
    CHECK(!"a rule of no kind");
}

static enum status check_rules(const struct msg_table *t, const void *m, struct err *e)
{
    for (size_t i = 0; i < t->n_rules; i++) {
        enum status st = check_rule(t, &t->rule[i], m, e);
        if (st)
            return st;
    }
    return OK;
}

/* ---- decoding ---------------------------------------------------------------------------- */

struct decoder {
    const struct msg_table *table;
    const struct msg_field *field; /* the one being read */
    struct err *e;
};

static enum status bad_field(const struct decoder *d, const char *why)
{
    return err_set(d->e, ERR_MALFORMED, "%s: '%s' %s", d->table->name, d->field->name, why);
}

static enum status read_varint(const struct decoder *d, pb_istream_t *s, uint64_t *v)
{
    size_t before = s->bytes_left;
    size_t shortest = 1;

    if (!pb_decode_varint(s, v))
        return bad_field(d, "is cut short or too long a number");
    for (uint64_t rest = *v >> 7; rest; rest >>= 7)
        shortest++;
    if (before - s->bytes_left != shortest)
        return bad_field(d, "is a number not in its shortest form");
    return OK;
}

/* A length and so many bytes, lent. nanopb keeps the read position of a stream over a buffer in
 * `state`. */
static enum status read_slice(const struct decoder *d, pb_istream_t *s, struct bytes *out)
{
    enum status st;
    uint64_t n = 0;

    st = read_varint(d, s, &n);
    if (st)
        return st;
    if (n > s->bytes_left)
        return bad_field(d, "is longer than its message");
    *out = (struct bytes){s->state, (size_t)n};
    if (!pb_read(s, NULL, (size_t)n))
        return bad_field(d, "is cut short");
    return OK;
}

/* The length of the well-formed UTF-8 character (RFC 3629) at the start of a NUL-terminated text
 * that is not empty, or 0. Control characters count as ill-formed: such texts end up in logs and
 * on terminals. */
static size_t char_length(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    uint32_t c;
    size_t n;

    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f ? 1 : 0;
    n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    c = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0; /* the final NUL as well */
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c < 0xa0 || (n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff ||
        (c >= 0xd800 && c <= 0xdfff))
        return 0;
    return n;
}

static bool is_printable(const char *s)
{
    size_t n;

    for (; *s; s += n) {
        n = char_length(s);
        if (n == 0)
            return false;
    }
    return true;
}

static enum status read_string(const struct decoder *d, struct bytes b, char *at)
{
    if (b.len >= d->field->size)
        return bad_field(d, "is too long a text");
    if (memchr(b.data, 0, b.len))
        return bad_field(d, "holds a NUL");
    memcpy(at, b.data, b.len);
    at[b.len] = '\0';
    if (!is_printable(at))
        return bad_field(d, "is not printable text");
    return OK;
}

static enum status read_number(const struct decoder *d, pb_istream_t *s, uint8_t *at)
{
    enum status st;
    uint64_t v = 0;
    uint32_t v32;
    int64_t sv;

    st = read_varint(d, s, &v);
    if (st)
        return st;
    if (v == 0)
        return bad_field(d, "is a default that should be left out");
    switch (d->field->type) {
    case MSG_TYPE_UINT32:
        if (v > UINT32_MAX)
            return bad_field(d, "exceeds 32 bits");
        v32 = (uint32_t)v;
        memcpy(at, &v32, sizeof(v32));
        return OK;
    case MSG_TYPE_BOOL:
        if (v != 1)
            return bad_field(d, "is neither true nor false");
        *(bool *)at = true;
        return OK;
    case MSG_TYPE_SINT64:
        sv = (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
        memcpy(at, &sv, sizeof(sv));
        return OK;
    default: memcpy(at, &v, sizeof(v)); return OK;
    }
}

static enum status read_delimited(const struct decoder *d, pb_istream_t *s, uint8_t *at)
{
    struct bytes b = {0};
    enum status st;

    st = read_slice(d, s, &b);
    if (st)
        return st;
    if (d->field->type == MSG_TYPE_MESSAGE) {
        st = msg_table_decode(d->field->sub, at, b, d->e);
        return st ? err_prefix(d->e, st, "%s", d->table->name) : OK;
    }
    if (b.len == 0)
        return bad_field(d, "is empty and should be left out");
    switch (d->field->type) {
    case MSG_TYPE_BYTES: memcpy(at, &b, sizeof(b)); return OK;
    case MSG_TYPE_STRING: return read_string(d, b, (char *)at);
    default:
        if (b.len != d->field->size)
            return bad_field(d, "has the wrong length");
        if (is_zero(b.data, b.len))
            return bad_field(d, "is all zero and should be left out");
        memcpy(at, b.data, b.len);
        return OK;
    }
}

static enum status read_packed64(const struct decoder *d, pb_istream_t *s, uint8_t *m)
{
    const struct msg_field *f = d->field;
    struct reader r;
    struct bytes b = {0};
    enum status st;
    uint32_t n;

    st = read_slice(d, s, &b);
    if (st)
        return st;
    if (b.len == 0 || b.len % 8 != 0)
        return bad_field(d, "has the wrong length");
    if (b.len / 8 > f->cap)
        return bad_field(d, "has too many elements");
    n = (uint32_t)(b.len / 8);
    memcpy(m + f->n_offset, &n, sizeof(n));
    r = reader_of(b);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t v = reader_u64(&r);
        memcpy(m + f->offset + i * sizeof(v), &v, sizeof(v));
    }
    return OK;
}

static pb_wire_type_t wire_type(const struct msg_field *f)
{
    switch (f->type) {
    case MSG_TYPE_UINT32:
    case MSG_TYPE_UINT64:
    case MSG_TYPE_SINT64:
    case MSG_TYPE_BOOL: return PB_WT_VARINT;
    case MSG_TYPE_FLOAT: return PB_WT_32BIT;
    default: return PB_WT_STRING;
    }
}

static enum status read_field(const struct decoder *d, pb_istream_t *s, uint8_t *m)
{
    const struct msg_field *f = d->field;
    uint8_t *at = m + f->offset;
    uint32_t n;

    if (f->type == MSG_TYPE_FIXED64)
        return read_packed64(d, s, m);
    if (f->is_repeated) {
        n = load_u32(m + f->n_offset);
        if (n >= f->cap)
            return bad_field(d, "has too many elements");
        at += n * f->size;
        n++;
        memcpy(m + f->n_offset, &n, sizeof(n));
    }
    switch (wire_type(f)) {
    case PB_WT_VARINT: return read_number(d, s, at);
    case PB_WT_32BIT:
        if (!pb_decode_fixed32(s, at))
            return bad_field(d, "is cut short");
        return is_zero(at, 4) ? bad_field(d, "is a default that should be left out") : OK;
    default: return read_delimited(d, s, at);
    }
}

/* The next field's tag, which must be known and in order. */
static enum status read_tag(struct decoder *d, pb_istream_t *s, uint32_t *last)
{
    const struct msg_table *t = d->table;
    size_t before = s->bytes_left;
    pb_wire_type_t wire;
    uint32_t tag = 0;
    bool eof;

    if (!pb_decode_tag(s, &wire, &tag, &eof))
        return err_set(d->e, ERR_MALFORMED, "%s: cut short", t->name);
    d->field = NULL;
    for (size_t i = 0; i < t->n_fields; i++) {
        if (t->field[i].tag == tag)
            d->field = &t->field[i];
    }
    if (!d->field)
        return err_set(d->e, ERR_MALFORMED, "%s: unknown field %u", t->name, tag);
    if (wire != wire_type(d->field))
        return bad_field(d, "has the wrong wire type");
    if (before - s->bytes_left != (tag < 16 ? 1u : 2u))
        return bad_field(d, "has a tag not in its shortest form");
    if (tag < *last)
        return bad_field(d, "is out of order");
    if (tag == *last && (!d->field->is_repeated || d->field->type == MSG_TYPE_FIXED64))
        return bad_field(d, "comes twice");
    *last = tag;
    return OK;
}

enum status msg_table_decode(const struct msg_table *t, void *m, struct bytes in, struct err *e)
{
    pb_istream_t s = pb_istream_from_buffer(in.data, in.len);
    struct decoder d = {t, NULL, e};
    uint32_t last = 0;
    enum status st;

    memset(m, 0, t->bytes);
    while (s.bytes_left > 0) {
        st = read_tag(&d, &s, &last);
        if (st)
            return st;
        CHECK(d.field);
        st = read_field(&d, &s, m);
        if (st)
            return st;
    }
    return check_rules(t, m, e);
}

/* ---- encoding ---------------------------------------------------------------------------- */

static bool write_to_buf(pb_ostream_t *s, const pb_byte_t *data, size_t n)
{
    struct buf *b = s->state;

    buf_append(b, (struct bytes){data, n});
    return !b->bad;
}

/* Texts come from error messages, which may hold anything: what a receiver would refuse becomes a
 * question mark. */
static struct bytes clean_text(char *out, const char *in, size_t size)
{
    size_t n = strnlen(in, size - 1);
    size_t step;

    memcpy(out, in, n);
    out[n] = '\0';
    for (size_t i = 0; i < n; i += step) {
        step = char_length(out + i);
        if (step == 0) {
            out[i] = '?';
            step = 1;
        }
    }
    return (struct bytes){(const uint8_t *)out, n};
}

static bool write_slice(pb_ostream_t *s, uint32_t tag, struct bytes b)
{
    return pb_encode_tag(s, PB_WT_STRING, tag) && pb_encode_string(s, b.data, b.len);
}

static bool write_table(pb_ostream_t *s, const struct msg_table *t, const void *m);

static bool write_message(pb_ostream_t *s, const struct msg_field *f, const void *at)
{
    pb_ostream_t size = PB_OSTREAM_SIZING;

    return write_table(&size, f->sub, at) && pb_encode_tag(s, PB_WT_STRING, f->tag) &&
           pb_encode_varint(s, size.bytes_written) && write_table(s, f->sub, at);
}

static bool write_repeated(pb_ostream_t *s, const struct msg_field *f, const uint8_t *m)
{
    uint32_t n = load_u32(m + f->n_offset);
    const uint8_t *at = m + f->offset;
    struct bytes b;

    if (f->type == MSG_TYPE_FIXED64) {
        if (n == 0)
            return true;
        if (!pb_encode_tag(s, PB_WT_STRING, f->tag) || !pb_encode_varint(s, (uint64_t)n * 8))
            return false;
    }
    for (uint32_t i = 0; i < n; i++, at += f->size) {
        bool ok;
        if (f->type == MSG_TYPE_FIXED64) {
            ok = pb_encode_fixed64(s, at);
        } else if (f->type == MSG_TYPE_MESSAGE) {
            ok = write_message(s, f, at);
        } else {
            memcpy(&b, at, sizeof(b));
            ok = write_slice(s, f->tag, b);
        }
        if (!ok)
            return false;
    }
    return true;
}

static bool write_number(pb_ostream_t *s, const struct msg_field *f, uint64_t v)
{
    return v == 0 || (pb_encode_tag(s, PB_WT_VARINT, f->tag) && pb_encode_varint(s, v));
}

static bool write_single(pb_ostream_t *s, const struct msg_field *f, const uint8_t *at)
{
    char text[512];
    struct bytes b;
    uint64_t v;
    int64_t sv;

    switch (f->type) {
    case MSG_TYPE_UINT32: return write_number(s, f, load_u32(at));
    case MSG_TYPE_BOOL: return write_number(s, f, *(const bool *)at ? 1 : 0);
    case MSG_TYPE_UINT64: memcpy(&v, at, sizeof(v)); return write_number(s, f, v);
    case MSG_TYPE_SINT64:
        memcpy(&sv, at, sizeof(sv));
        return write_number(s, f, ((uint64_t)sv << 1) ^ (sv < 0 ? UINT64_MAX : 0));
    case MSG_TYPE_FLOAT:
        return is_zero(at, 4) ||
               (pb_encode_tag(s, PB_WT_32BIT, f->tag) && pb_encode_fixed32(s, at));
    case MSG_TYPE_FIXED:
        return is_zero(at, f->size) || write_slice(s, f->tag, (struct bytes){at, f->size});
    case MSG_TYPE_BYTES: memcpy(&b, at, sizeof(b)); break;
    default:
        CHECK(f->type == MSG_TYPE_STRING && f->size <= sizeof(text));
        b = clean_text(text, (const char *)at, f->size);
        break;
    }
    return b.len == 0 || write_slice(s, f->tag, b);
}

static bool write_table(pb_ostream_t *s, const struct msg_table *t, const void *m)
{
    const uint8_t *base = m;

    for (size_t i = 0; i < t->n_fields; i++) {
        const struct msg_field *f = &t->field[i];
        if (!(f->is_repeated ? write_repeated(s, f, base)
                             : write_single(s, f, base + f->offset)))
            return false;
    }
    return true;
}

/* What check_rules asks, of a struct that our side made, its elements included. */
static enum status check_for_encode(const struct msg_table *t, const void *m, struct err *e)
{
    const uint8_t *base = m;
    enum status st;

    for (size_t i = 0; i < t->n_fields; i++) {
        const struct msg_field *f = &t->field[i];
        uint32_t n = f->is_repeated ? load_u32(base + f->n_offset) : 0;

        if (n > f->cap)
            return err_set(e, ERR_INVALID, "%s: '%s' has %u elements, more than %zu", t->name,
                           f->name, n, f->cap);
        for (uint32_t j = 0; j < n; j++) {
            const uint8_t *at = base + f->offset + j * f->size;
            struct bytes b;

            if (f->type == MSG_TYPE_MESSAGE) {
                st = check_for_encode(f->sub, at, e);
                if (st)
                    return st;
            } else if (f->type == MSG_TYPE_BYTES) {
                memcpy(&b, at, sizeof(b));
                if (b.len == 0)
                    return err_set(e, ERR_INVALID, "%s: '%s' holds an empty element", t->name,
                                   f->name);
            }
        }
    }
    st = check_rules(t, m, e);
    if (st && e)
        e->code = ERR_INVALID;
    return st ? ERR_INVALID : OK;
}

enum status msg_table_encode(const struct msg_table *t, struct buf *out, const void *m,
                             struct err *e)
{
    pb_ostream_t s = {.callback = write_to_buf, .state = out, .max_size = SIZE_MAX};
    size_t before = out->len;
    enum status st;

    st = check_for_encode(t, m, e);
    if (st)
        return st;
    if (!write_table(&s, t, m)) {
        out->len = before;
        return err_set(e, ERR_LIMIT, "%s: does not fit in %zu bytes", t->name, out->max);
    }
    return OK;
}
