#include "cli/up_task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"

#define DEFAULT_TASK "tasks/reverse-text"

char *up_task_default(void)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (file_exists(DEFAULT_TASK "/task.yaml"))
        return xstrdup(DEFAULT_TASK);
    if (n <= 0)
        return NULL;
    exe[n] = '\0';
    for (char *slash = strrchr(exe, '/'); slash; slash = strrchr(exe, '/')) {
        char *dir, *file;

        *slash = '\0';
        dir = file_join(exe, DEFAULT_TASK);
        file = file_join(dir, "task.yaml");
        bool found = file_exists(file);
        free(file);
        if (found)
            return dir;
        free(dir);
    }
    return NULL;
}

/* The line after `at`, or the end of the text. */
static const char *next_line(const char *at, const char *end)
{
    while (at < end && *at != '\n')
        at++;
    return at < end ? at + 1 : end;
}

static bool begins(const char *at, const char *end, const char *word)
{
    return (size_t)(end - at) >= strlen(word) && !strncmp(at, word, strlen(word));
}

/* Where the key stands: at the left margin (section NULL), or indented below "section:". *insert
 * is where a line for it would go. NULL: nowhere. */
static const char *find_key(const char *text, const char *end, const char *section,
                            const char *key, const char **insert)
{
    bool is_inside = !section;

    *insert = section ? NULL : text;
    for (const char *at = text; at < end; at = next_line(at, end)) {
        const char *word = at;

        while (word < end && *word == ' ')
            word++;
        if (section && word == at && *at != '#' && *at != '\n') {
            is_inside = begins(at, end, section) && at[strlen(section)] == ':';
            if (is_inside)
                *insert = next_line(at, end);
            continue;
        }
        if (is_inside && (section ? word > at : word == at) && begins(word, end, key) &&
            word[strlen(key)] == ':')
            return at;
    }
    return NULL;
}

/* `text` with the key set, in `out`: its line is replaced, or one is put in. */
static enum status set_key(struct buf *out, struct bytes text, const char *section,
                           const char *key, int64_t value, struct err *e)
{
    const char *from = (const char *)text.data, *end = from + text.len;
    const char *insert, *at = find_key(from, end, section, key, &insert);
    const char *rest;

    if (!at && !insert)
        return err_set(e, ERR_INVALID, "the task has no section '%s:' to set '%s' in", section,
                       key);
    rest = at ? next_line(at, end) : insert;
    at = at ? at : insert;
    buf_append(out, (struct bytes){text.data, (size_t)(at - from)});
    buf_printf(out, "%s%s: %lld\n", section ? "  " : "", key, (long long)value);
    buf_append(out, (struct bytes){(const uint8_t *)rest, (size_t)(end - rest)});
    return buf_status(out, e);
}

static enum status override(struct buf *out, struct bytes yaml, int64_t seed, int64_t steps,
                            struct err *e)
{
    struct buf half;
    enum status st = OK;

    buf_init(&half, TASK_FILE_MAX_BYTES * 2);
    if (seed >= 0)
        st = set_key(&half, yaml, NULL, "seed", seed, e);
    else
        buf_append(&half, yaml);
    if (!st && steps >= 0)
        st = set_key(out, buf_bytes(&half), "algorithm", "steps", steps, e);
    else if (!st)
        buf_append(out, buf_bytes(&half));
    buf_clear(&half);
    return st;
}

enum status up_task_load(struct buf *out, struct task *t, const char *path, int64_t seed,
                         int64_t steps, struct err *e)
{
    struct buf original, yaml;
    struct bundle b;
    enum status st;

    buf_init(&original, BUNDLE_MAX_BYTES);
    buf_init(&yaml, TASK_FILE_MAX_BYTES * 2);
    st = bundle_load(&original, path, e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&original), e);
    if (!st)
        st = override(&yaml, b.file[BUNDLE_TASK], seed, steps, e);
    b.file[BUNDLE_TASK] = buf_bytes(&yaml);
    if (!st)
        st = task_parse(t, b.file[BUNDLE_TASK], path, e);
    if (!st && ((seed >= 0 && t->seed != seed) || (steps >= 0 && t->algorithm.steps != steps)))
        st = err_set(e, ERR_INVALID, "cannot set seed or steps in '%s': write them as lines "
                                     "'seed: N' and, below 'algorithm:', '  steps: N'",
                     path);
    if (!st)
        st = bundle_encode(out, &b, e);
    buf_clear(&original);
    buf_clear(&yaml);
    return st;
}
