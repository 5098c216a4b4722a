/*
 * base/options.h - settings declared once
 *
 * A table of `struct opt` is the only description of a command's or a role's settings: command
 * line (`--name=value`, `--name value`, `--flag`, `--section.key=value`), YAML or key-value
 * files, --help, the printed configuration and the options page of the docs all come from it.
 * Numbers are parsed whole and in range; an unknown key or a bad value is an error that names
 * the key, the value and the range. Nothing is silently corrected.
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

enum opt_type {
    OPT_FLAG,   /* bool *       given without a value, or =true / =false */
    OPT_INT,    /* int64_t *    range "lo..hi" */
    OPT_REAL,   /* double *     range "lo..hi" */
    OPT_STRING, /* char **      owned by the struct, freed by opt_clear */
    OPT_CHOICE, /* char **      range "a|b|c" */
};

struct opt {
    const char *name; /* "sampling.temperature", "threads" */
    enum opt_type type;
    void *at;
    const char *def;   /* default as text; NULL: required */
    const char *range; /* see the types; NULL: any */
    const char *help;  /* one sentence: unit, meaning */
    bool was_set;      /* by a file or the command line */
};

/* Sets every *at to its default (required ones to 0 or NULL). */
void opt_defaults(struct opt *table, size_t n);
/* Sets one option from text. ERR_NOT_FOUND: unknown key (the text suggests the nearest name);
 * ERR_INVALID: bad value. */
MUST_USE enum status opt_set(struct opt *table, size_t n, const char *key, const char *value,
                             struct err *e);
/* Consumes options from argv[*at...]; stops at the first non-option or after "--"; *at is then
 * the index of the first operand. */
MUST_USE enum status opt_parse(struct opt *table, size_t n, int argc, char **argv, int *at,
                               struct err *e);
/* ERR_INVALID naming the first required option that was not set. */
MUST_USE enum status opt_check_required(const struct opt *table, size_t n, struct err *e);
/* Help lines "  --name VALUE   help (default ..., range ...)", aligned, appended to out. */
void opt_help(struct buf *out, const struct opt *table, size_t n);
/* "name=value" lines of the current values, sorted as in the table. */
void opt_print(struct buf *out, const struct opt *table, size_t n);
/* Sets options from such lines; those that were set keep what they have. ERR_MALFORMED: a line without '=',
 * or a zero byte; errors of opt_set. What came before stays set. */
MUST_USE enum status opt_read(struct opt *table, size_t n, struct bytes lines, struct err *e);
void opt_clear(struct opt *table, size_t n); /* frees strings */

#endif
