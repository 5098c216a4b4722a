/*
 * proto/msg_codec.h - inside proto/: tables of fields, and the codec that walks them
 *
 * The tables are made from what nanopb generates of muster.proto, so schema and code cannot
 * disagree. The codec reads and writes with nanopb's primitives and adds what protobuf leaves
 * open: one canonical form. Fields ascend, none comes twice (elements of a repeated field stand
 * together), defaults are left out, varints are shortest, and a field we do not know is an error.
 */
#ifndef PROTO_MSG_CODEC_H
#define PROTO_MSG_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

enum msg_type {
    MSG_TYPE_UINT32,
    MSG_TYPE_UINT64,
    MSG_TYPE_SINT64,
    MSG_TYPE_BOOL,
    MSG_TYPE_FLOAT,
    MSG_TYPE_FIXED,   /* so many bytes; all zero is left out */
    MSG_TYPE_BYTES,   /* struct bytes, lent */
    MSG_TYPE_STRING,  /* char array; printable UTF-8 */
    MSG_TYPE_FIXED64, /* repeated only, packed */
    MSG_TYPE_MESSAGE, /* repeated only */
};

struct msg_table;

struct msg_field {
    const char *name;
    const struct msg_table *sub; /* MSG_TYPE_MESSAGE */
    uint32_t tag;
    enum msg_type type;
    bool is_repeated;
    size_t offset;   /* of the first element */
    size_t size;     /* of one element */
    size_t cap;      /* elements, when repeated */
    size_t n_offset; /* of the count, when repeated */
};

enum msg_rule_kind {
    MSG_RULE_NONE,     /* reads nothing: a message may have a single bool */
    MSG_RULE_RANGE,    /* UINT32: lo <= value <= hi */
    MSG_RULE_MIN,      /* SINT64: lo <= value */
    MSG_RULE_LENGTH,   /* BYTES: lo <= length <= hi, a multiple of unit */
    MSG_RULE_REQUIRED, /* FIXED: not all zero */
    MSG_RULE_COUNT,    /* repeated: lo <= count */
};

struct msg_rule {
    const char *name;
    enum msg_rule_kind kind;
    size_t offset;
    size_t size;
    int64_t lo, hi;
    uint32_t unit;
};

struct msg_table {
    const char *name; /* "submit" */
    const struct msg_field *field;
    size_t n_fields;
    const struct msg_rule *rule;
    size_t n_rules;
    size_t bytes; /* of the struct */
};

/* Fills the whole struct at `m`; on failure its contents mean nothing. */
MUST_USE enum status msg_table_decode(const struct msg_table *t, void *m, struct bytes in,
                                      struct err *e);
/* Appends; on failure `out` is as long as before. ERR_INVALID: the struct breaks a rule;
 * ERR_LIMIT: out's ceiling. */
MUST_USE enum status msg_table_encode(const struct msg_table *t, struct buf *out, const void *m,
                                      struct err *e);

#endif
