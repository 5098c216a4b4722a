#include "envs/task.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"

static const char magic[8] = {'M', 'U', 'S', 'T', 'E', 'R', 'T', 'B'};
#define BUNDLE_VERSION 1u

static const struct {
    const char *name;
    size_t max_bytes;
    bool is_required;
} files[BUNDLE_FILES] = {
    [BUNDLE_TASK] = {"task.yaml", TASK_FILE_MAX_BYTES, true},
    [BUNDLE_ENV] = {"env.lua", 1u << 20, true},
    [BUNDLE_DATA] = {"data.jsonl", 32u << 20, false},
    [BUNDLE_CONFIG] = {"config.json", 64u << 10, false},
    [BUNDLE_TOKENIZER] = {"tokenizer.json", 8u << 20, false},
};

const char *bundle_file_name(enum bundle_file f)
{
    CHECK((unsigned)f < BUNDLE_FILES);
    return files[f].name;
}

enum status bundle_encode(struct buf *out, const struct bundle *b, struct err *e)
{
    uint32_t n = 0;

    for (int i = 0; i < BUNDLE_FILES; i++) {
        if (!b->file[i].data) {
            if (files[i].is_required)
                return err_set(e, ERR_INVALID, "a bundle needs %s", files[i].name);
            continue;
        }
        if (b->file[i].len > files[i].max_bytes)
            return err_set(e, ERR_LIMIT, "%s has %zu bytes, more than a bundle takes (%zu)",
                           files[i].name, b->file[i].len, files[i].max_bytes);
        n++;
    }
    buf_append(out, BYTES_OF(magic));
    buf_put_u32(out, BUNDLE_VERSION);
    buf_put_u32(out, n);
    for (int i = 0; i < BUNDLE_FILES; i++) {
        if (!b->file[i].data)
            continue;
        buf_put_blob(out, bytes_str(files[i].name));
        buf_put_blob(out, b->file[i]);
    }
    return buf_status(out, e);
}

static int file_of(struct bytes name)
{
    for (int i = 0; i < BUNDLE_FILES; i++)
        if (bytes_equal(name, bytes_str(files[i].name)))
            return i;
    return -1;
}

enum status bundle_decode(struct bundle *b, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    struct bytes start, content;
    uint32_t version, n;
    int file, last = -1;

    memset(b, 0, sizeof(*b));
    if (in.len > BUNDLE_MAX_BYTES)
        return err_set(e, ERR_LIMIT, "a bundle of %zu bytes, more than %u", in.len,
                       BUNDLE_MAX_BYTES);
    start = reader_bytes(&r, sizeof(magic));
    version = reader_u32(&r);
    n = reader_u32(&r);
    if (r.bad || !bytes_equal(start, BYTES_OF(magic)))
        return err_set(e, ERR_MALFORMED, "not a task bundle");
    if (version != BUNDLE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "task bundle of version %u, this program knows %u",
                       version, BUNDLE_VERSION);
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        file = file_of(reader_blob(&r));
        content = reader_blob(&r);
        if (r.bad)
            break;
        if (file <= last || content.len > files[file].max_bytes) {
            memset(b, 0, sizeof(*b));
            return err_set(e, ERR_MALFORMED,
                           "task bundle: file %u is unknown, out of order or too large", i);
        }
        last = file;
        b->file[file] = content;
    }
    for (int i = 0; i < BUNDLE_FILES && !r.bad; i++)
        if (files[i].is_required && !b->file[i].data) {
            memset(b, 0, sizeof(*b));
            return err_set(e, ERR_MALFORMED, "task bundle has no %s", files[i].name);
        }
    if (reader_done(&r, "task bundle", e)) {
        memset(b, 0, sizeof(*b));
        return ERR_MALFORMED;
    }
    return OK;
}

void bundle_id(uint8_t id[TASK_ID_BYTES], struct bytes encoded)
{
    crypto_generichash(id, TASK_ID_BYTES, encoded.data, encoded.len, NULL, 0);
}

/* ---- from files ---------------------------------------------------------------------------- */

/* `name` seen from `dir`; the caller's to free. */
static char *path_from(const char *dir, const char *name)
{
    return name[0] == '/' ? xstrdup(name) : file_join(dir, name);
}

static enum status read_file(struct buf *b, const char *dir, const char *name, size_t max,
                             struct err *e)
{
    char *path = path_from(dir, name);
    enum status st;

    buf_init(b, max);
    st = file_read(b, path, e);
    if (st == ERR_LIMIT)
        st = err_set(e, ERR_LIMIT, "'%s' has more than the %zu bytes that a bundle takes", path,
                     max);
    free(path);
    return st;
}

/* The directory of the task file and the file's name in it. */
static void split_path(const char *path, char **dir, char **name)
{
    struct stat s;
    const char *slash = strrchr(path, '/');

    if (!stat(path, &s) && S_ISDIR(s.st_mode)) {
        *dir = xstrdup(path);
        *name = xstrdup("task.yaml");
    } else if (slash) {
        *dir = xstrdup(path);
        (*dir)[slash == path ? 1 : slash - path] = '\0';
        *name = xstrdup(slash + 1);
    } else {
        *dir = xstrdup(".");
        *name = xstrdup(path);
    }
}

/* Reads the optional files: the dataset that the task names, and config.json and tokenizer.json
 * from the model's directory, or from the task's if the model starts from random weights. */
static enum status read_extras(struct buf content[BUNDLE_FILES], const struct task *t,
                               const char *dir, struct err *e)
{
    bool is_random = !strcmp(t->model.init, "random");
    char *model_dir = is_random ? xstrdup(dir) : path_from(dir, t->model.init);
    enum status st = OK;

    if (t->environment.data[0])
        st = read_file(&content[BUNDLE_DATA], dir, t->environment.data,
                       files[BUNDLE_DATA].max_bytes, e);
    for (int i = BUNDLE_CONFIG; i <= BUNDLE_TOKENIZER && !st; i++) {
        char *path = file_join(model_dir, files[i].name);

        if (file_exists(path))
            st = read_file(&content[i], model_dir, files[i].name, files[i].max_bytes, e);
        else if (!is_random)
            st = err_set(e, ERR_NOT_FOUND, "model.init: no '%s'", path);
        free(path);
    }
    free(model_dir);
    return st;
}

char *bundle_model_dir(const char *path, const struct task *t)
{
    char *dir, *name, *model;

    if (!strcmp(t->model.init, "random"))
        return NULL;
    split_path(path, &dir, &name);
    model = path_from(dir, t->model.init);
    free(dir);
    free(name);
    return model;
}

static enum status read_task(struct buf *b, const char *dir, const char *name, struct err *e)
{
    char *path = path_from(dir, name);
    enum status st;

    if (file_exists(path))
        st = read_file(b, dir, name, TASK_FILE_MAX_BYTES, e);
    else
        st = err_set(e, ERR_NOT_FOUND,
                     "a task is wanted, which is a YAML file or a directory with a task.yaml: "
                     "there is no '%s'",
                     path);
    free(path);
    return st;
}

enum status bundle_load(struct buf *out, const char *path, struct err *e)
{
    struct buf content[BUNDLE_FILES];
    struct bundle b = {0};
    struct task t;
    char *dir, *name;
    enum status st;

    memset(content, 0, sizeof(content));
    task_init(&t);
    split_path(path, &dir, &name);
    st = read_task(&content[BUNDLE_TASK], dir, name, e);
    if (st)
        goto out;
    task_clear(&t);
    st = task_parse(&t, buf_bytes(&content[BUNDLE_TASK]), name, e);
    if (st)
        goto out;
    st = read_file(&content[BUNDLE_ENV], dir, t.environment.file, files[BUNDLE_ENV].max_bytes,
                   e);
    if (st)
        goto out;
    st = read_extras(content, &t, dir, e);
    if (st)
        goto out;
    for (int i = 0; i < BUNDLE_FILES; i++)
        if (content[i].max) /* was read; an empty file is a file */
            b.file[i] = content[i].len ? buf_bytes(&content[i]) : BYTES_LIT("");
    st = bundle_encode(out, &b, e);
out:
    task_clear(&t);
    for (int i = 0; i < BUNDLE_FILES; i++)
        buf_clear(&content[i]);
    free(dir);
    free(name);
    return st;
}
