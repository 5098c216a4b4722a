/*
 * base/bytes.h - borrowed and owned byte strings, and the two cursors over them
 *
 * struct bytes  always borrowed: somebody else's memory, to be read
 * struct buf    always owned: grows up to the ceiling it was created with
 * reader        reads integers and slices from bytes that nobody has checked yet. An overrun sets
 *               a sticky flag and yields zeros, so a decoder asks once, at its end.
 * buf_put_*     the writing counterpart: little-endian, appended to a buf
 *
 * Threads: none of these is shared.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"

struct bytes {
    const uint8_t *data;
    size_t len;
};

/* From any object, array or string literal (without its final NUL). */
#define BYTES_OF(obj)  ((struct bytes){(const uint8_t *)&(obj), sizeof(obj)})
#define BYTES_LIT(str) ((struct bytes){(const uint8_t *)(str), sizeof(str) - 1})

struct bytes bytes_str(const char *s); /* up to its NUL */
bool bytes_equal(struct bytes a, struct bytes b);
/* -1, 0, 1 as memcmp, a proper prefix being less. */
int bytes_compare(struct bytes a, struct bytes b);
struct bytes bytes_slice(struct bytes b, size_t from, size_t len); /* CHECKs the range */

struct buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
    size_t max; /* ceiling in bytes */
    bool bad;   /* an append passed the ceiling or memory ran out; later appends do nothing */
};

/* An empty buf that may grow to `max` bytes. Allocates nothing yet. */
void buf_init(struct buf *b, size_t max);
void buf_clear(struct buf *b);               /* frees; leaves it as after buf_init */
void buf_reset(struct buf *b);               /* len = 0, bad = false; keeps the memory */
struct bytes buf_bytes(const struct buf *b); /* lent until the next append */
MUST_USE enum status buf_status(const struct buf *b,
                                struct err *e); /* OK, or ERR_LIMIT if bad */
void buf_append(struct buf *b, struct bytes in);
/* Room for n bytes at the end, uninitialised and counted in len; NULL if that went bad. */
uint8_t *buf_extend(struct buf *b, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3); /* appends, no final NUL */
/* A NUL-terminated view of the text in b (the NUL is not counted). "" if bad. */
const char *buf_cstr(struct buf *b);

void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_f32(struct buf *b, float v);         /* its bit pattern */
void buf_put_blob(struct buf *b, struct bytes v); /* u32 length, then the bytes */

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

struct reader reader_of(struct bytes in);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
float reader_f32(struct reader *r);
struct bytes reader_bytes(struct reader *r, size_t n);   /* lent from the input */
struct bytes reader_blob(struct reader *r);              /* u32 length, then so many bytes */
void reader_copy(struct reader *r, void *out, size_t n); /* zeros out when bad */
size_t reader_left(const struct reader *r);
/* OK only if nothing overran and nothing is left over; else ERR_MALFORMED naming `what`. */
MUST_USE enum status reader_done(const struct reader *r, const char *what, struct err *e);

/* Lower-case hexadecimal. `out` has room for 2 * in.len + 1. */
void hex_encode(char *out, struct bytes in);
/* Exactly 2 * n digits of either case, or ERR_MALFORMED. */
MUST_USE enum status hex_decode(uint8_t *out, size_t n, const char *text, struct err *e);

#endif
