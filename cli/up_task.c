#include "cli/up_task.h"

#include <dirent.h>
#include <errno.h>
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

static int is_shown(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

/* Where a task was named that is not there: "; tasks that are here: tasks/arithmetic, ..." after *e. */
static enum status name_tasks(enum status st, struct err *e)
{
    char *first = up_task_default(), *slash = first ? strrchr(first, '/') : NULL;
    struct dirent **found = NULL;
    struct buf text;
    int n = 0;

    buf_init(&text, 1u << 16);
    buf_printf(&text, "%s", e->text);
    if (slash) {
        *slash = '\0';
        n = scandir(first, &found, is_shown, alphasort);
    }
    for (int i = 0, n_named = 0; i < n; i++) {
        char *dir = file_join(first, found[i]->d_name), *yaml = file_join(dir, "task.yaml");

        if (file_exists(yaml))
            buf_printf(&text, "%s%s", n_named++ ? ", " : "; tasks that are here: ", dir);
        free(yaml);
        free(dir);
        free(found[i]);
    }
    st = err_set(e, st, "%s", buf_cstr(&text));
    buf_clear(&text);
    free(found);
    free(first);
    return st;
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

static const char *indent_end(const char *at, const char *end)
{
    while (at < end && *at == ' ')
        at++;
    return at;
}

static bool is_key(const char *at, const char *end, const char *key)
{
    return begins(at, end, key) && at + strlen(key) < end && at[strlen(key)] == ':';
}

/* Where a key of a task file is, or would be. */
struct place {
    const char *line;   /* its line; NULL: it is not there */
    const char *insert; /* where a line for it would go; NULL: nowhere */
    size_t indent;      /* of its line */
};

/* Looks for `key` at the left margin (section NULL) or directly below "section:", whose first
 * line says how far that is indented. */
static struct place find_key(const char *text, const char *end, const char *section,
                             const char *key)
{
    struct place p = {NULL, section ? NULL : text, 0};
    bool is_inside = !section;

    for (const char *at = text; at < end; at = next_line(at, end)) {
        const char *word = indent_end(at, end);
        size_t indent = (size_t)(word - at);

        if (word == end || *word == '#' || *word == '\n')
            continue;
        if (section && indent == 0) {
            is_inside = is_key(at, end, section);
            if (is_inside)
                p.insert = next_line(at, end);
            continue;
        }
        if (is_inside && section && !p.indent)
            p.indent = indent;
        if (is_inside && indent == p.indent && is_key(word, end, key)) {
            p.line = at;
            return p;
        }
    }
    return p;
}

/* What follows the value on a line: a comment with the blanks before it, and the line's end. */
static const char *after_value(const char *at, const char *end)
{
    const char *rest = next_line(at, end);

    for (const char *c = at; c + 1 < rest; c++)
        if (*c == ' ' && c[1] == '#') {
            while (c > at && c[-1] == ' ')
                c--;
            return c;
        }
    return rest > at && rest[-1] == '\n' ? rest - 1 : rest;
}

/* `text` with the key set, in `out`: its value is replaced, or a line is put in. */
static enum status set_key(struct buf *out, struct bytes text, const char *section,
                           const char *key, int64_t value, struct err *e)
{
    const char *from = (const char *)text.data, *end = from + text.len;
    struct place p = find_key(from, end, section, key);
    const char *at = p.line ? p.line : p.insert, *rest;

    if (!at)
        return err_set(e, ERR_INVALID, "the task has no section '%s:' to set '%s' in", section,
                       key);
    rest = p.line ? after_value(p.line, end) : p.insert;
    buf_append(out, (struct bytes){text.data, (size_t)(at - from)});
    buf_printf(out, "%*s%s: %lld%s", (int)(section && !p.indent ? 2 : p.indent), "", key,
               (long long)value, p.line ? "" : "\n");
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

/* Parses the changed text into *t. What cannot be changed line by line, like "algorithm: {...}",
 * shows in that it does not parse or says something else than it should. */
static enum status parse_changed(struct task *t, struct bytes yaml, const char *path,
                                 int64_t seed, int64_t steps, struct err *e)
{
    enum status st;

    task_clear(t);
    st = task_parse(t, yaml, path, e);
    if (st)
        return err_prefix(e, st, "with the given seed or steps");
    if ((seed >= 0 && t->seed != seed) || (steps >= 0 && t->algorithm.steps != steps))
        return err_set(e, ERR_INVALID,
                       "cannot set seed or steps in '%s': write them as lines 'seed: N' and, "
                       "below 'algorithm:', '  steps: N'",
                       path);
    return OK;
}

enum status up_task_load(struct buf *out, struct task *t, const char *path, int64_t seed,
                         int64_t steps, struct err *e)
{
    struct buf original, yaml;
    struct bundle b;
    enum status st;

    task_clear(t); /* task_parse begins with an empty one */
    buf_init(&original, BUNDLE_MAX_BYTES);
    buf_init(&yaml, TASK_FILE_MAX_BYTES * 2);
    st = bundle_load(&original, path, e);
    if (st == ERR_NOT_FOUND && !file_exists(path))
        st = name_tasks(st, e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&original), e);
    if (!st)
        st = task_parse(t, b.file[BUNDLE_TASK], path, e);
    if (!st)
        st = override(&yaml, b.file[BUNDLE_TASK], seed, steps, e);
    if (!st && (seed >= 0 || steps >= 0))
        st = parse_changed(t, buf_bytes(&yaml), path, seed, steps, e);
    b.file[BUNDLE_TASK] = buf_bytes(&yaml);
    if (!st)
        st = bundle_encode(out, &b, e);
    buf_clear(&original);
    buf_clear(&yaml);
    return st;
}

enum status up_task_link_model(const char *dir, const char *path, const struct task *t,
                               struct err *e)
{
    char *model = bundle_model_dir(path, t), *link = file_join(dir, UP_MODEL), *whole = NULL;
    enum status st = OK;

    if (model) {
        whole = realpath(model, NULL);
        if (!whole || (unlink(link) && errno != ENOENT) || symlink(whole, link))
            st = err_set(e, ERR_IO, "cannot link '%s' to '%s': %s", link, model,
                         strerror(errno));
    }
    free(whole);
    free(link);
    free(model);
    return st;
}
