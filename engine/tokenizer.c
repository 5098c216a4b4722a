#include "engine/tokenizer.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"

/* A Hugging Face tokenizer.json of some 10 MB should be refused for what it is, not for its size. */
#define TOKENIZER_JSON_MAX (64u << 20)
#define BYTE_SPECIALS      256 /* the first special id of the byte kind: bos, eos, pad */
#define CHAR_SPECIALS      3   /* pad, bos, eos come before the characters */

struct character {
    uint32_t point;
    int32_t id;
};

struct tokenizer {
    enum tokenizer_kind kind;
    size_t n_chars;
    uint32_t *points;         /* owned, by id - CHAR_SPECIALS */
    struct character *sorted; /* owned, by code point */
};

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* The code point at text[*at], moving *at past it. False: not UTF-8 (overlong forms, surrogates
 * and points past U+10FFFF included). */
static bool next_point(uint32_t *point, struct bytes text, size_t *at)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint8_t first = text.data[*at];
    size_t more = first < 0x80 ? 0 : first < 0xc0 ? 4 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;

    if (more == 4 || first >= 0xf8 || text.len - *at <= more)
        return false;
    *point = more == 0 ? first : first & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++) {
        uint8_t next = text.data[*at + i];

        if ((next & 0xc0) != 0x80)
            return false;
        *point = *point << 6 | (next & 0x3fu);
    }
    *at += more + 1;
    return *point >= least[more] && *point <= 0x10ffff && (*point < 0xd800 || *point > 0xdfff);
}

static void put_point(struct buf *out, uint32_t c)
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

/* "'x' (U+0078)" for messages; control characters are shown by number only. */
static enum status refuse_point(struct err *e, enum status st, const char *why, uint32_t point,
                                size_t at)
{
    struct buf text;

    buf_init(&text, 16);
    if (point >= 0x20 && point != 0x7f)
        put_point(&text, point);
    err_set(e, st, "character '%s' (U+%04" PRIX32 ") at byte %zu %s", buf_cstr(&text), point,
            at, why);
    buf_clear(&text);
    return st;
}

/* ---- making ---------------------------------------------------------------------------------- */

static int by_point(const void *a, const void *b)
{
    const struct character *x = a, *y = b;
    return x->point < y->point ? -1 : x->point > y->point;
}

static enum status read_alphabet(struct tokenizer *t, struct bytes alphabet, struct err *e)
{
    size_t at = 0;

    t->points = xcalloc(TOKENIZER_ALPHABET_MAX, sizeof(t->points[0]));
    t->sorted = xcalloc(TOKENIZER_ALPHABET_MAX, sizeof(t->sorted[0]));
    while (at < alphabet.len) {
        uint32_t point;

        if (t->n_chars == TOKENIZER_ALPHABET_MAX)
            return err_set(e, ERR_INVALID, "the alphabet has more than %u characters",
                           TOKENIZER_ALPHABET_MAX);
        if (!next_point(&point, alphabet, &at))
            return err_set(e, ERR_INVALID, "the alphabet is not UTF-8");
        t->points[t->n_chars] = point;
        t->sorted[t->n_chars].point = point;
        t->sorted[t->n_chars].id = (int32_t)(CHAR_SPECIALS + t->n_chars);
        t->n_chars++;
    }
    if (t->n_chars == 0)
        return err_set(e, ERR_INVALID, "the alphabet is empty");
    qsort(t->sorted, t->n_chars, sizeof(t->sorted[0]), by_point);
    for (size_t i = 1; i < t->n_chars; i++)
        if (t->sorted[i].point == t->sorted[i - 1].point)
            return refuse_point(e, ERR_INVALID, "is twice in the alphabet", t->sorted[i].point,
                                0);
    return OK;
}

enum status tokenizer_new(struct tokenizer **out, enum tokenizer_kind kind,
                          struct bytes alphabet, struct err *e)
{
    struct tokenizer *t = xcalloc(1, sizeof(*t));
    enum status st = OK;

    *out = NULL;
    t->kind = kind;
    if (kind == TOKENIZER_CHAR)
        st = read_alphabet(t, alphabet, e);
    if (!st) {
        *out = t;
        t = NULL; /* it is the caller's now */
    }
    tokenizer_free(&t);
    return st;
}

void tokenizer_free(struct tokenizer **t)
{
    if (!*t)
        return;
    free((*t)->points);
    free((*t)->sorted);
    free(*t);
    *t = NULL;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static enum status parse_root(struct tokenizer **out, const json_t *root, struct err *e)
{
    const char *type = json_string_value(json_object_get(root, "type"));
    const json_t *alphabet = json_object_get(root, "alphabet");
    bool is_byte = type && strcmp(type, "muster-byte") == 0;
    bool is_char = type && strcmp(type, "muster-char") == 0;

    if (json_is_object(json_object_get(root, "model")))
        return err_set(
            e, ERR_UNSUPPORTED,
            "tokenizer.json is a Hugging Face tokenizer (model '%.32s'); only "
            "'muster-byte' and 'muster-char' are supported",
            json_string_value(json_object_get(json_object_get(root, "model"), "type"))
                ? json_string_value(json_object_get(json_object_get(root, "model"), "type"))
                : "?");
    if (!is_byte && !is_char)
        return err_set(e, ERR_UNSUPPORTED,
                       "tokenizer.json: type '%.32s' is not 'muster-byte' or 'muster-char'",
                       type ? type : "?");
    if (json_integer_value(json_object_get(root, "version")) != 1)
        return err_set(e, ERR_UNSUPPORTED, "tokenizer.json: version is not 1");
    if (json_object_size(root) != (is_byte ? 2u : 3u) || (is_char && !json_is_string(alphabet)))
        return err_set(e, ERR_MALFORMED, "tokenizer.json: wants type, version%s only",
                       is_byte ? "" : " and an alphabet as text,");
    if (is_byte)
        return tokenizer_new(out, TOKENIZER_BYTE, (struct bytes){0}, e);
    return tokenizer_new(out, TOKENIZER_CHAR,
                         (struct bytes){(const uint8_t *)json_string_value(alphabet),
                                        json_string_length(alphabet)},
                         e);
}

enum status tokenizer_parse(struct tokenizer **out, struct bytes json, struct err *e)
{
    json_error_t where;
    json_t *root;
    enum status st;

    *out = NULL;
    root = json_loadb((const char *)json.data, json.len,
                      JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root)
        return err_set(e, ERR_MALFORMED, "tokenizer.json: %s in line %d", where.text,
                       where.line);
    st = parse_root(out, root, e);
    json_decref(root);
    return st;
}

void tokenizer_print(struct buf *out, const struct tokenizer *t)
{
    if (t->kind == TOKENIZER_BYTE) {
        buf_printf(out, "{\"type\": \"muster-byte\", \"version\": 1}\n");
        return;
    }
    buf_printf(out, "{\"type\": \"muster-char\", \"version\": 1, \"alphabet\": \"");
    for (size_t i = 0; i < t->n_chars; i++) {
        uint32_t c = t->points[i];

        if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", (int)c);
        else if (c < 0x20)
            buf_printf(out, "\\u%04" PRIx32, c);
        else
            put_point(out, c);
    }
    buf_printf(out, "\"}\n");
}

enum status tokenizer_load(struct tokenizer **out, const char *dir, struct err *e)
{
    char *path = file_join(dir, "tokenizer.json");
    struct buf text;
    enum status st;

    *out = NULL;
    buf_init(&text, TOKENIZER_JSON_MAX);
    st = file_read(&text, path, e);
    if (!st)
        st = tokenizer_parse(out, buf_bytes(&text), e);
    buf_clear(&text);
    free(path);
    return st;
}

enum status tokenizer_save(const struct tokenizer *t, const char *dir, struct err *e)
{
    char *path = file_join(dir, "tokenizer.json");
    struct buf text;
    enum status st;

    buf_init(&text, TOKENIZER_JSON_MAX);
    tokenizer_print(&text, t);
    st = buf_status(&text, e);
    if (!st)
        st = file_mkdirs(dir, 0777, e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&text), 0666, e);
    buf_clear(&text);
    free(path);
    return st;
}

/* ---- using ----------------------------------------------------------------------------------- */

enum tokenizer_kind tokenizer_kind(const struct tokenizer *t)
{
    return t->kind;
}

uint32_t tokenizer_vocab(const struct tokenizer *t)
{
    return t->kind == TOKENIZER_BYTE ? BYTE_SPECIALS + 3
                                     : (uint32_t)(CHAR_SPECIALS + t->n_chars);
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->kind == TOKENIZER_BYTE ? BYTE_SPECIALS : 1;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->kind == TOKENIZER_BYTE ? BYTE_SPECIALS + 1 : 2;
}

int32_t tokenizer_pad(const struct tokenizer *t)
{
    return t->kind == TOKENIZER_BYTE ? BYTE_SPECIALS + 2 : 0;
}

/* One id from text[*at], moving *at past what it stands for. */
static enum status encode_one(const struct tokenizer *t, int32_t *id, struct bytes text,
                              size_t *at, struct err *e)
{
    size_t from = *at;
    struct character key = {0};
    const struct character *found;

    if (t->kind == TOKENIZER_BYTE) {
        *id = text.data[(*at)++];
        return OK;
    }
    if (!next_point(&key.point, text, at))
        return err_set(e, ERR_MALFORMED, "the text is not UTF-8 at byte %zu", from);
    found = bsearch(&key, t->sorted, t->n_chars, sizeof(t->sorted[0]), by_point);
    if (!found)
        return refuse_point(e, ERR_INVALID, "is not in the tokenizer's alphabet", key.point,
                            from);
    *id = found->id;
    return OK;
}

enum status tokenizer_encode(const struct tokenizer *t, struct bytes text, int32_t *ids,
                             size_t cap, size_t *n, struct err *e)
{
    size_t at = 0;

    *n = 0;
    while (at < text.len) {
        int32_t id = 0;
        enum status st = encode_one(t, &id, text, &at, e);

        if (st)
            return st;
        if (*n == cap)
            return err_set(e, ERR_LIMIT, "the text is longer than %zu tokens", cap);
        ids[(*n)++] = id;
    }
    return OK;
}

enum status tokenizer_decode(struct buf *out, const struct tokenizer *t, const int32_t *ids,
                             size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= tokenizer_vocab(t))
            return err_set(e, ERR_INVALID,
                           "token %" PRId32 " is outside the vocabulary of %" PRIu32, ids[i],
                           tokenizer_vocab(t));
        if (t->kind == TOKENIZER_BYTE && ids[i] < BYTE_SPECIALS)
            buf_put_u8(out, (uint8_t)ids[i]);
        if (t->kind == TOKENIZER_CHAR && ids[i] >= CHAR_SPECIALS)
            put_point(out, t->points[ids[i] - CHAR_SPECIALS]);
    }
    return buf_status(out, e);
}
