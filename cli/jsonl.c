#include "cli/jsonl.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "engine/json_text.h"

/* Of a line: 100,000 messages. */
#define VALUES_MAX ((size_t)1 << 20)

/* Tokens that a template may put around a message. */
#define MESSAGE_ROOM 256u

static enum status read_line(struct bytes line, jsonl_fn *fn, void *ctx, struct err *e)
{
    json_t *o;
    enum status st;

    if (line.len > JSONL_LINE_MAX)
        return err_set(e, ERR_LIMIT, "%zu bytes, at most %u are read", line.len,
                       JSONL_LINE_MAX);
    st = json_text_read(&o, line, VALUES_MAX, JSON_ALLOW_NUL, e);
    if (st)
        return err_prefix(e, st, "no JSON");
    st = fn(ctx, o, e);
    json_decref(o);
    return st;
}

static bool is_blank(struct bytes line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t' && line.data[i] != '\r')
            return false;
    return true;
}

/* Where the text begins, behind what some editors write in front of it. */
static enum status begin(size_t *at, struct bytes file, struct err *e)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};
    const uint8_t *b = file.data;

    *at = 0;
    if (file.len >= 2 && ((b[0] == 0xff && b[1] == 0xfe) || (b[0] == 0xfe && b[1] == 0xff)))
        return err_set(e, ERR_MALFORMED, "UTF-16: want UTF-8");
    if (file.len >= sizeof(mark) && memcmp(b, mark, sizeof(mark)) == 0)
        *at = sizeof(mark);
    return OK;
}

enum status jsonl_parse(struct bytes file, const char *name, jsonl_fn *fn, void *ctx,
                        struct err *e)
{
    size_t at;
    enum status st = begin(&at, file, e);

    if (st)
        err_prefix(e, st, "%s", name);
    for (size_t number = 1; !st && at < file.len; number++) {
        const uint8_t *from = file.data + at;
        const uint8_t *end = memchr(from, '\n', file.len - at);
        struct bytes line = {from, end ? (size_t)(end - from) : file.len - at};

        at += line.len + 1;
        if (is_blank(line))
            continue;
        st = read_line(line, fn, ctx, e);
        if (st)
            err_prefix(e, st, "%s:%zu", name, number);
    }
    return st;
}

enum status jsonl_read(const char *path, jsonl_fn *fn, void *ctx, struct err *e)
{
    struct file_map map;
    enum status st = file_map_open(&map, path, e);

    if (st)
        return st;
    st = jsonl_parse(map.bytes, path, fn, ctx, e);
    file_map_close(&map);
    return st;
}

bool jsonl_text(struct bytes *out, const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);

    if (!json_is_string(v))
        return false;
    *out = (struct bytes){(const uint8_t *)json_string_value(v), json_string_length(v)};
    return true;
}

static enum status read_message(struct chat_message *out, const json_t *o, struct err *e)
{
    struct bytes role;

    if (!json_is_object(o) || !jsonl_text(&role, o, "role") ||
        !jsonl_text(&out->text, o, "content"))
        return err_set(e, ERR_INVALID,
                       "a message wants \"role\" and \"content\", both strings");
    if (!chat_role_parse(&out->role, role))
        return err_set(e, ERR_INVALID,
                       "a message of role '%.40s', wants system, user or assistant",
                       (const char *)role.data);
    return OK;
}

enum status jsonl_messages(struct chat_message **out, size_t *n, size_t *n_bytes,
                           const json_t *list, struct err *e)
{
    enum status st = OK;

    *n = json_array_size(list);
    *n_bytes = 0;
    *out = NULL;
    if (*n == 0)
        return err_set(e, ERR_INVALID, "\"messages\" is no list, or empty");
    *out = xcalloc(*n, sizeof(**out));
    for (size_t i = 0; !st && i < *n; i++) {
        st = read_message(&(*out)[i], json_array_get(list, i), e);
        *n_bytes += (*out)[i].text.len;
    }
    if (st) {
        free(*out);
        *out = NULL;
    }
    return st;
}

size_t jsonl_messages_room(size_t n, size_t n_bytes)
{
    return TOKENIZER_ROOM(n_bytes) + (n + 2) * MESSAGE_ROOM; /* and before the first */
}
