/*
 * base/status.h - how a function says that something went wrong
 *
 * A function that can fail because of the world or of a peer returns `enum status` and explains
 * itself in a `struct err` lent by the caller (NULL when the caller does not care). The message
 * is written once, where the facts are, and passed on unchanged; see STYLE in CONTRIBUTING.md.
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stddef.h>

#include "base/attr.h"

/* X(name, text). A code exists because some caller acts differently on it. */
#define STATUS_MAP(X)                                                                          \
    X(OK, "ok")                                                                                \
    X(ERR_INVALID, "invalid argument") /* the caller or the user asked for nonsense */         \
    X(ERR_MALFORMED, "malformed")      /* bytes from outside do not parse */                   \
    X(ERR_DIGEST, "digest mismatch")   /* a hash or a signature does not match */              \
    X(ERR_DENIED, "denied")            /* known, understood, and not allowed */                \
    X(ERR_NOT_FOUND, "not found")      /* an ordinary answer */                                \
    X(ERR_EXISTS, "exists already")                                                            \
    X(ERR_UNSUPPORTED, "not supported") /* version, format or feature we do not have */        \
    X(ERR_IO, "input/output error")                                                            \
    X(ERR_CORRUPT, "corrupt") /* our own files do not make sense */                            \
    X(ERR_FULL, "full")       /* disk, map or quota */                                         \
    X(ERR_NO_MEMORY, "out of memory")                                                          \
    X(ERR_TIMEOUT, "timed out")                                                                \
    X(ERR_LIMIT, "limit exceeded")        /* a budget (time, memory, instructions) ran out */  \
    X(ERR_NUMERIC, "not a finite number") /* NaN or infinity where the class refuses it */     \
    X(ERR_INSUFFICIENT, "insufficient funds")

#define STATUS_MEMBER(name, text) name,
enum status { STATUS_MAP(STATUS_MEMBER) STATUS_COUNT };
#undef STATUS_MEMBER

#define ERR_TEXT_BYTES 512

struct err {
    enum status code;
    char text[ERR_TEXT_BYTES]; /* lower case, no full stop, quotes its subject */
};

/* The fixed text of a code: "digest mismatch". */
const char *status_text(enum status st);
/* Its name: "ERR_DIGEST". */
const char *status_name(enum status st);

/* Fills *e (which may be NULL) and returns `st`, so that `return err_set(e, ERR_IO, ...)` is the
 * whole of an error path. Text past ERR_TEXT_BYTES is cut. */
enum status err_set(struct err *e, enum status st, const char *fmt, ...) PRINTF(3, 4);

/* Puts "context: " in front of the text in *e and returns e->code's value `st` unchanged. For a
 * caller that knows the file name where the callee knew only the field. */
enum status err_prefix(struct err *e, enum status st, const char *fmt, ...) PRINTF(3, 4);

#endif
