/*
 * ledger/body_fields.h - the fields of each body as a table, for ledger/body.c and ledger/show.c
 *
 * The lists at the end of COMMIT, DRAW, BATCH and VERDICT are not in it.
 */
#ifndef LEDGER_BODY_FIELDS_H
#define LEDGER_BODY_FIELDS_H

#include <stddef.h>

#include "ledger/body.h"

enum field_kind {
    FIELD_RAW,  /* `size` bytes */
    FIELD_BOOL, /* u8, 0 or 1 */
    FIELD_U32,
    FIELD_U64,   /* also int64_t */
    FIELD_MONEY, /* int64_t, 0..LEDGER_SUPPLY_MAX */
    FIELD_ROLE,  /* u8 */
    FIELD_DEPTH, /* u8 */
    FIELD_CODE,  /* u8: enum reason */
    FIELD_TEXT,  /* u16 length, printable ASCII; `size` counts the NUL */
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t at;
    size_t size;
};

/* *n fields of a known type, in their order on disk. */
const struct field *body_fields(enum ledger_type type, size_t *n);

#endif
