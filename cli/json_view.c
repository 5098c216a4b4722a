#include "cli/json_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)

const char *json_view_text(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

long long json_view_int(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

void json_view_print(const json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);

    printf("%s\n", text ? text : "{}");
    free(text);
}

static bool is_wrong(const char *reason)
{
    static const char *const late[] = {"EXPIRED",  "STALE", "NO_LEASE", "DUPLICATE",
                                       "DRAINING", "DONE",  "REVOKED"};

    for (size_t i = 0; i < sizeof(late) / sizeof(late[0]); i++)
        if (!strcmp(reason, late[i]))
            return false;
    return true;
}

void json_view_refused(json_t *refused, int64_t *wrong, int64_t *late)
{
    const char *name;
    json_t *count;

    json_object_foreach(refused, name, count) * (is_wrong(name) ? wrong : late) +=
        (int64_t)json_integer_value(count);
}

enum status json_view_load(json_t **out, const char *path, struct err *e)
{
    struct buf text;
    enum status st;

    *out = NULL;
    buf_init(&text, FILE_MAX_BYTES);
    st = file_read(&text, path, e);
    if (!st) {
        *out = json_loadb((const char *)text.data, text.len, 0, NULL);
        if (!*out)
            st = err_set(e, ERR_CORRUPT, "'%s' is no JSON", path);
    }
    buf_clear(&text);
    return st;
}

enum status json_view_fetch(json_t **out, struct client *c, enum status_view what,
                            uint64_t number, int64_t wait_ms, struct err *e)
{
    struct buf text;
    enum status st;

    *out = NULL;
    buf_init(&text, MSG_MAX_BYTES);
    st = client_status(c, what, number, wait_ms, &text, e);
    if (!st) {
        *out = json_loadb((const char *)text.data, text.len, 0, NULL);
        if (!*out)
            st = err_set(e, ERR_MALFORMED, "the answer is no JSON");
    }
    buf_clear(&text);
    return st;
}
