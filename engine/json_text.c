#include "engine/json_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define OBJECT_COST 8u /* its table takes that much of what other values take */

/* Commas and brackets outside of texts: at least as many as there are values. */
static size_t count_values(struct bytes json)
{
    bool in_text = false;
    size_t n = 0;

    for (size_t i = 0; i < json.len; i++) {
        uint8_t c = json.data[i];

        if (in_text && c == '\\')
            i++;
        else if (c == '"')
            in_text = !in_text;
        else if (!in_text)
            n += c == '{' ? OBJECT_COST : c == ',' || c == '[';
    }
    return n;
}

enum status json_text_read(json_t **out, struct bytes text, size_t max_values, size_t flags,
                           struct err *e)
{
    json_error_t where;

    *out = NULL;
    if (text.len == 0)
        return err_set(e, ERR_MALFORMED, "empty");
    if (count_values(text) > max_values)
        return err_set(e, ERR_LIMIT, "more than %zu values", max_values);
    *out =
        json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES | flags, &where);
    if (!*out)
        return err_set(e, ERR_MALFORMED, "%s in line %d", where.text, where.line);
    return OK;
}

/* Differing in one byte. */
static bool is_near(const char *a, const char *b)
{
    size_t n = strlen(a), differing = 0;

    if (strlen(b) != n)
        return false;
    for (size_t i = 0; i < n; i++)
        differing += a[i] != b[i];
    return differing == 1;
}

static bool has_control(const char *s)
{
    while (*s && (unsigned char)*s >= 0x20)
        s++;
    return *s != '\0';
}

enum status json_text_check_keys(const json_t *object, const char *const *known, size_t n,
                                 struct err *e)
{
    for (void *it = json_object_iter((json_t *)object); it;
         it = json_object_iter_next((json_t *)object, it)) {
        const char *key = json_object_iter_key(it), *meant = NULL;

        if (has_control(key))
            return err_set(e, ERR_MALFORMED, "a key has a control character");
        for (size_t i = 0; i < n; i++) {
            if (strcmp(key, known[i]) == 0) {
                meant = NULL; /* bos_token_id is near eos_token_id */
                break;
            }
            if (is_near(key, known[i]))
                meant = known[i];
        }
        if (meant)
            return err_set(e, ERR_MALFORMED, "key '%s' is '%s' misspelt", key, meant);
    }
    return OK;
}
