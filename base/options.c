#include "base/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define NAME_MAX_BYTES  64u
#define HELP_COLUMN_MAX 34u

static bool parse_int(int64_t *out, const char *s)
{
    char *end;
    long long v;

    if (*s != '-' && *s != '+' && (*s < '0' || *s > '9'))
        return false; /* strtoll would skip white space */
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno || end == s || *end)
        return false;
    *out = v;
    return true;
}

static bool parse_real(double *out, const char *s)
{
    char *end;
    double v;

    if (*s != '-' && *s != '+' && *s != '.' && (*s < '0' || *s > '9'))
        return false; /* nor "inf", nor "nan" */
    v = strtod(s, &end);
    if (end == s || *end || !isfinite(v))
        return false;
    *out = v;
    return true;
}

/* Cuts "lo..hi" in two; either side may be empty. */
static void split_range(const char *range, char lo[NAME_MAX_BYTES], char hi[NAME_MAX_BYTES])
{
    const char *dots = strstr(range, "..");

    CHECK(dots && (size_t)(dots - range) < NAME_MAX_BYTES && strlen(dots) < NAME_MAX_BYTES);
    memcpy(lo, range, (size_t)(dots - range));
    lo[dots - range] = '\0';
    memcpy(hi, dots + 2, strlen(dots + 2) + 1);
}

static bool int_in_range(int64_t v, const char *range)
{
    char lo[NAME_MAX_BYTES], hi[NAME_MAX_BYTES];
    int64_t bound;

    if (!range)
        return true;
    split_range(range, lo, hi);
    if (lo[0]) {
        CHECK(parse_int(&bound, lo));
        if (v < bound)
            return false;
    }
    if (hi[0]) {
        CHECK(parse_int(&bound, hi));
        if (v > bound)
            return false;
    }
    return true;
}

static bool real_in_range(double v, const char *range)
{
    char lo[NAME_MAX_BYTES], hi[NAME_MAX_BYTES];
    double bound;

    if (!range)
        return true;
    split_range(range, lo, hi);
    if (lo[0]) {
        CHECK(parse_real(&bound, lo));
        if (v < bound)
            return false;
    }
    if (hi[0]) {
        CHECK(parse_real(&bound, hi));
        if (v > bound)
            return false;
    }
    return true;
}

/* Whether `word` is one of "a|b|c". */
static bool is_choice(const char *word, const char *choices)
{
    size_t n = strlen(word);

    CHECK(choices);
    for (const char *at = choices;; at++) {
        const char *bar = strchr(at, '|');
        size_t len = bar ? (size_t)(bar - at) : strlen(at);

        if (len == n && memcmp(at, word, n) == 0)
            return true;
        if (!bar)
            return false;
        at = bar;
    }
}

static enum status bad_value(const struct opt *o, const char *value, struct err *e)
{
    switch (o->type) {
    case OPT_FLAG:
        return err_set(e, ERR_INVALID, "option '%s' is '%s', not true or false", o->name,
                       value);
    case OPT_CHOICE:
        return err_set(e, ERR_INVALID, "option '%s' is '%s', not one of %s", o->name, value,
                       o->range);
    case OPT_INT:
        return err_set(e, ERR_INVALID, "option '%s' is '%s', not a whole number%s%s", o->name,
                       value, o->range ? " in " : "", o->range ? o->range : "");
    case OPT_REAL:
        return err_set(e, ERR_INVALID, "option '%s' is '%s', not a number%s%s", o->name, value,
                       o->range ? " in " : "", o->range ? o->range : "");
    case OPT_STRING: break;
    }
    return err_set(e, ERR_INVALID, "option '%s' cannot be empty", o->name);
}

/* Where nothing is not the default it is nothing that anybody means: a script's unset variable. */
static bool may_be_empty(const struct opt *o)
{
    return o->def && !*o->def;
}

static enum status set_value(struct opt *o, const char *value, struct err *e)
{
    switch (o->type) {
    case OPT_FLAG:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return bad_value(o, value, e);
        *(bool *)o->at = value[0] == 't';
        return OK;
    case OPT_INT: {
        int64_t v;

        if (!parse_int(&v, value) || !int_in_range(v, o->range))
            return bad_value(o, value, e);
        *(int64_t *)o->at = v;
        return OK;
    }
    case OPT_REAL: {
        double v;

        if (!parse_real(&v, value) || !real_in_range(v, o->range))
            return bad_value(o, value, e);
        *(double *)o->at = v;
        return OK;
    }
    case OPT_CHOICE:
        if (!is_choice(value, o->range))
            return bad_value(o, value, e);
        break;
    case OPT_STRING:
        if (!*value && !may_be_empty(o))
            return bad_value(o, value, e);
        break;
    }
    {
        char *copy = xstrdup(value); /* first: `value` may be the old string */
        char **at = o->at;

        free(*at);
        *at = copy;
    }
    return OK;
}

void opt_defaults(struct opt *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct opt *o = &table[i];

        o->was_set = false;
        switch (o->type) {
        case OPT_FLAG: *(bool *)o->at = false; break;
        case OPT_INT: *(int64_t *)o->at = 0; break;
        case OPT_REAL: *(double *)o->at = 0; break;
        case OPT_STRING:
        case OPT_CHOICE: *(char **)o->at = NULL; break;
        }
        if (o->def) {
            struct err e;

            if (set_value(o, o->def, &e))
                check_failed(__FILE__, __LINE__, e.text); /* the table contradicts itself */
        }
    }
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;

    return m < c ? m : c;
}

/* Levenshtein's distance between a name of ours and what was typed. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_BYTES + 1], nb = strlen(b);

    if (nb > NAME_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t up = row[j];

            row[j] = min3(up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = up;
        }
    }
    return row[nb];
}

static enum status unknown_key(const struct opt *table, size_t n, const char *key,
                               struct err *e)
{
    size_t best = SIZE_MAX, len = strlen(key);
    const char *nearest = NULL;

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(table[i].name, key);

        if (d < best) {
            best = d;
            nearest = table[i].name;
        }
    }
    if (nearest && best <= (len / 3 > 2 ? len / 3 : 2))
        return err_set(e, ERR_NOT_FOUND, "unknown option '%s'; did you mean '%s'?", key,
                       nearest);
    return err_set(e, ERR_NOT_FOUND, "unknown option '%s'", key);
}

static struct opt *find(struct opt *table, size_t n, const char *key)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, key) == 0)
            return &table[i];
    return NULL;
}

enum status opt_set(struct opt *table, size_t n, const char *key, const char *value,
                    struct err *e)
{
    struct opt *o = find(table, n, key);
    enum status st;

    if (!o)
        return unknown_key(table, n, key, e);
    st = set_value(o, value, e);
    if (!st)
        o->was_set = true;
    return st;
}

/* One "--name[=value]" at argv[*at], with the value in the next word if need be. */
static enum status parse_one(struct opt *table, size_t n, int argc, char **argv, int *at,
                             struct err *e)
{
    char *key = xstrdup(argv[*at] + 2);
    char *equals = strchr(key, '=');
    const char *value = equals ? equals + 1 : NULL;
    struct opt *o;
    enum status st;

    if (equals)
        *equals = '\0';
    o = find(table, n, key);
    if (!o) {
        st = unknown_key(table, n, key, e);
        goto out;
    }
    if (!value && o->type == OPT_FLAG) {
        value = "true";
    } else if (!value) {
        if (*at + 1 >= argc) {
            st = err_set(e, ERR_INVALID, "option '%s' needs a value", key);
            goto out;
        }
        value = argv[++*at];
    }
    st = opt_set(table, n, key, value, e);
    if (!st)
        ++*at;
out:
    free(key);
    return st;
}

enum status opt_parse(struct opt *table, size_t n, int argc, char **argv, int *at,
                      struct err *e)
{
    while (*at < argc) {
        const char *word = argv[*at];
        enum status st;

        if (word[0] != '-' || word[1] == '\0')
            return OK;
        if (strcmp(word, "--") == 0) {
            ++*at;
            return OK;
        }
        if (word[1] != '-')
            return err_set(e, ERR_NOT_FOUND, "unknown option '%s'; options begin with '--'",
                           word);
        st = parse_one(table, n, argc, argv, at, e);
        if (st)
            return st;
    }
    return OK;
}

enum status opt_check_required(const struct opt *table, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!table[i].def && !table[i].was_set)
            return err_set(e, ERR_INVALID, "option '%s' is required: %s", table[i].name,
                           table[i].help);
    return OK;
}

static const char *value_word(const struct opt *o)
{
    switch (o->type) {
    case OPT_FLAG: return "";
    case OPT_INT: return " N";
    case OPT_REAL: return " X";
    case OPT_STRING: return " TEXT";
    case OPT_CHOICE: return " WORD";
    }
    return "";
}

static size_t left_width(const struct opt *o)
{
    return strlen("  --") + strlen(o->name) + strlen(value_word(o));
}

/* " (default 4, 1..64)", or nothing where there is nothing to say. */
static void help_tail(struct buf *out, const struct opt *o)
{
    const char *opening = " (";

    if (o->type == OPT_FLAG && o->def && strcmp(o->def, "false") == 0)
        return; /* a flag is off unless given */
    if (!o->def) {
        buf_printf(out, "%srequired", opening);
        opening = ", ";
    } else if (o->def[0]) {
        buf_printf(out, "%sdefault %s", opening, o->def);
        opening = ", ";
    }
    if (o->range) {
        buf_printf(out, "%s%s", opening, o->range);
        opening = ", ";
    }
    if (opening[0] == ',')
        buf_printf(out, ")");
}

void opt_help(struct buf *out, const struct opt *table, size_t n)
{
    size_t column = 0;

    for (size_t i = 0; i < n; i++) {
        size_t w = left_width(&table[i]);

        if (w > column && w <= HELP_COLUMN_MAX)
            column = w;
    }
    for (size_t i = 0; i < n; i++) {
        const struct opt *o = &table[i];
        size_t w = left_width(o);

        buf_printf(out, "  --%s%s", o->name, value_word(o));
        if (w > column) {
            buf_printf(out, "\n");
            w = 0;
        }
        buf_printf(out, "%*s%s", (int)(column + 2 - w), "", o->help ? o->help : "");
        help_tail(out, o);
        buf_printf(out, "\n");
    }
}

/* The shortest text that reads back as v. */
static void print_real(struct buf *out, double v)
{
    char text[40] = "";

    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_printf(out, "%s", text);
}

void opt_print(struct buf *out, const struct opt *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct opt *o = &table[i];

        buf_printf(out, "%s=", o->name);
        switch (o->type) {
        case OPT_FLAG: buf_printf(out, "%s", *(const bool *)o->at ? "true" : "false"); break;
        case OPT_INT: buf_printf(out, "%" PRId64, *(const int64_t *)o->at); break;
        case OPT_REAL: print_real(out, *(const double *)o->at); break;
        case OPT_STRING:
        case OPT_CHOICE: {
            const char *s = *(char *const *)o->at;

            buf_printf(out, "%s", s ? s : "");
            break;
        }
        }
        buf_printf(out, "\n");
    }
}

static enum status read_line(struct opt *table, size_t n, char *line, struct err *e)
{
    char *equals = strchr(line, '=');
    const struct opt *o;

    if (!equals)
        return err_set(e, ERR_MALFORMED, "'%.60s' is not name=value", line);
    *equals = '\0';
    o = find(table, n, line);
    return o && o->was_set ? OK : opt_set(table, n, line, equals + 1, e);
}

enum status opt_read(struct opt *table, size_t n, struct bytes lines, struct err *e)
{
    char *text = xcalloc(lines.len + 1, 1);
    enum status st = OK;

    if (lines.len)
        memcpy(text, lines.data, lines.len);
    if (strlen(text) != lines.len)
        st = err_set(e, ERR_MALFORMED, "byte %zu is 0, in what should be text", strlen(text));
    for (char *line = text, *end; !st && *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end)
            *end++ = '\0';
        st = read_line(table, n, line, e);
    }
    free(text);
    return st;
}

void opt_clear(struct opt *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (table[i].type != OPT_STRING && table[i].type != OPT_CHOICE)
            continue;
        free(*(char **)table[i].at);
        *(char **)table[i].at = NULL;
    }
}
