#include "engine/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/file.h"
#include "engine/safetensors.h"

#define INDEX_JSON_MAX  (16u << 20)
#define SHARD_FILES_MAX 1024u

size_t weights_encode_bytes(const struct model_config *c)
{
    /* A header line is a name of up to 63 bytes, a dtype, two dimensions and two offsets. */
    size_t header = 64 + (3 + (size_t)c->layers * WEIGHTS_LAYER_TENSORS) * 224;
    return 8 + header + (size_t)model_config_params(c) * sizeof(float);
}

enum status weights_encode(struct buf *out, const struct weights *w, enum dtype dtype,
                           struct err *e)
{
    struct safetensors_entry *entries = NULL;
    enum status st = alloc_array(&entries, w->n_tensors, sizeof(entries[0]), "tensor table", e);

    if (st)
        return st;
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct weights_tensor *t = &w->tensors[i];

        entries[i].name = t->name;
        entries[i].n_dims = t->is_matrix ? 2 : 1;
        entries[i].dims[0] = t->is_matrix ? t->rows : t->cols;
        entries[i].dims[1] = t->is_matrix ? t->cols : 0;
        entries[i].data = t->data;
    }
    st = safetensors_encode(out, entries, w->n_tensors, dtype, e);
    free(entries);
    return st;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Tensors that files of others carry along and that we compute or share. */
static bool is_superfluous(const struct weights *w, const char *name)
{
    return ends_with(name, "rotary_emb.inv_freq") ||
           (w->config.tie && strcmp(name, "lm_head.weight") == 0);
}

static bool has_shape(const struct weights_tensor *t, const struct safetensors_tensor *in)
{
    if (!t->is_matrix)
        return in->n_dims == 1 && in->dims[0] == t->cols;
    return in->n_dims == 2 && in->dims[0] == t->rows && in->dims[1] == t->cols;
}

/* Copies what `view` has into w; filled[i] says which tensors are there already. */
static enum status fill(struct weights *w, bool *filled, const struct safetensors *view,
                        const char *what, struct err *e)
{
    for (size_t i = 0; i < view->n; i++) {
        const struct safetensors_tensor *in = &view->tensors[i];
        struct weights_tensor *t = weights_find(w, in->name);

        if (!t && is_superfluous(w, in->name))
            continue;
        if (!t)
            return err_set(e, ERR_MALFORMED, "'%s': tensor '%s' does not belong to this model",
                           what, in->name);
        if (!has_shape(t, in))
            return err_set(
                e, ERR_MALFORMED,
                "'%s': tensor '%s' does not have the shape (%zu, %zu) of config.json", what,
                in->name, t->rows, t->cols);
        if (filled[t - w->tensors])
            return err_set(e, ERR_MALFORMED, "'%s': tensor '%s' is in another file already",
                           what, in->name);
        dtype_widen(t->data, in->data.data, in->dtype, t->rows * t->cols);
        filled[t - w->tensors] = true;
    }
    return OK;
}

/* One opened file of a model. */
struct source {
    char *what;          /* owned: its name in messages */
    struct file_map map; /* empty when the bytes are the caller's */
    struct safetensors view;
};

static void sources_clear(struct source *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        safetensors_clear(&s[i].view);
        file_map_close(&s[i].map);
        free(s[i].what);
    }
}

/* The files' numbers are counted before memory is taken for the model that config.json claims. */
static enum status check_size(const struct model_config *c, const struct source *s, size_t n,
                              struct err *e)
{
    uint64_t have = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < s[i].view.n; j++)
            have += s[i].view.tensors[j].n;
    if (have < model_config_params(c))
        return err_set(e, ERR_MALFORMED,
                       "'%s': the tensors hold %" PRIu64 " numbers, the model of config.json "
                       "has %" PRIu64,
                       s[0].what, have, model_config_params(c));
    return OK;
}

static enum status assemble(struct weights **out, const struct model_config *c,
                            const struct source *s, size_t n, struct err *e)
{
    struct weights *w = NULL;
    bool *filled = NULL;
    enum status st = model_config_check(c, e);

    if (!st)
        st = check_size(c, s, n, e);
    if (!st)
        st = weights_new(&w, c, e);
    if (st)
        return st;
    filled = xcalloc(w->n_tensors, sizeof(filled[0]));
    for (size_t i = 0; !st && i < n; i++)
        st = fill(w, filled, &s[i].view, s[i].what, e);
    for (size_t i = 0; !st && i < w->n_tensors; i++)
        if (!filled[i])
            st = err_set(e, ERR_MALFORMED, "'%s': tensor '%s' is missing", s[0].what,
                         w->tensors[i].name);
    if (!st) {
        *out = w;
        w = NULL; /* it is the caller's now */
    }
    free(filled);
    weights_free(&w);
    return st;
}

enum status weights_decode(struct weights **out, const struct model_config *c,
                           struct bytes file, const char *what, struct err *e)
{
    struct source s = {.what = xstrdup(what)};
    enum status st = safetensors_decode(&s.view, file, what, e);

    *out = NULL;
    if (!st)
        st = assemble(out, c, &s, 1, e);
    sources_clear(&s, 1);
    return st;
}

/* ---- directories ----------------------------------------------------------------------------- */

/* *s is to be cleared also when this fails. */
static enum status source_open(struct source *s, const char *dir, const char *name,
                               struct err *e)
{
    enum status st;

    s->what = file_join(dir, name);
    st = file_map_open(&s->map, s->what, e);
    return st ? st : safetensors_decode(&s->view, s->map.bytes, s->what, e);
}

/* Appends `name` to the n names unless it is there. ERR_MALFORMED when it is not a plain file
 * name: an index must not lead out of its directory. */
static enum status add_name(const char **names, size_t *n, const char *name, struct err *e)
{
    if (!name || !ends_with(name, ".safetensors") || strchr(name, '/'))
        return err_set(e, ERR_MALFORMED,
                       "model.safetensors.index.json: '%.64s' is not the name of a "
                       ".safetensors file",
                       name ? name : "?");
    for (size_t i = 0; i < *n; i++)
        if (strcmp(names[i], name) == 0)
            return OK;
    if (*n == SHARD_FILES_MAX)
        return err_set(e, ERR_MALFORMED, "model.safetensors.index.json: more than %u files",
                       SHARD_FILES_MAX);
    names[(*n)++] = name;
    return OK;
}

static enum status load_indexed(struct weights **out, const struct model_config *c,
                                const char *dir, const json_t *root, struct err *e)
{
    json_t *map = json_object_get(root, "weight_map"), *value;
    const char **names = xcalloc(SHARD_FILES_MAX, sizeof(names[0]));
    struct source *s = xcalloc(SHARD_FILES_MAX, sizeof(s[0]));
    const char *tensor;
    size_t n = 0, opened = 0;
    enum status st = OK;

    json_object_foreach(map, tensor, value)
    {
        st = add_name(names, &n, json_string_value(value), e);
        if (st)
            goto out;
    }
    if (n == 0)
        st = err_set(e, ERR_MALFORMED, "model.safetensors.index.json: no weight_map");
    while (!st && opened < n) {
        st = source_open(&s[opened], dir, names[opened], e);
        opened++;
    }
    if (!st)
        st = assemble(out, c, s, n, e);
out:
    sources_clear(s, opened);
    free(s);
    free(names);
    return st;
}

static enum status load_by_index(struct weights **out, const struct model_config *c,
                                 const char *dir, const char *path, struct err *e)
{
    json_error_t where;
    json_t *root = NULL;
    struct buf text;
    enum status st;

    buf_init(&text, INDEX_JSON_MAX);
    st = file_read(&text, path, e);
    if (st)
        goto out;
    root = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &where);
    if (root)
        st = load_indexed(out, c, dir, root, e);
    else
        st = err_set(e, ERR_MALFORMED, "'%s': %s in line %d", path, where.text, where.line);
    json_decref(root);
out:
    buf_clear(&text);
    return st;
}

enum status weights_load(struct weights **out, const char *dir, struct err *e)
{
    char *index = file_join(dir, "model.safetensors.index.json");
    struct source s = {0};
    struct model_config c;
    enum status st = model_config_load(&c, dir, e);

    *out = NULL;
    if (st)
        goto out;
    if (file_exists(index)) {
        st = load_by_index(out, &c, dir, index, e);
        goto out;
    }
    st = source_open(&s, dir, "model.safetensors", e);
    if (!st)
        st = assemble(out, &c, &s, 1, e);
out:
    sources_clear(&s, 1);
    free(index);
    return st;
}

static enum status save_config(const struct weights *w, const char *dir, enum dtype dtype,
                               struct err *e)
{
    struct model_config c = w->config;
    char *path = file_join(dir, "config.json");
    struct buf text;
    enum status st;

    c.dtype = dtype;
    buf_init(&text, 1u << 20);
    model_config_encode(&text, &c);
    st = buf_status(&text, e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&text), 0666, e);
    buf_clear(&text);
    free(path);
    return st;
}

enum status weights_save(const struct weights *w, const char *dir, enum dtype dtype,
                         struct err *e)
{
    char *path = file_join(dir, "model.safetensors");
    struct buf file;
    enum status st = file_mkdirs(dir, 0777, e);

    buf_init(&file, weights_encode_bytes(&w->config));
    if (!st)
        st = weights_encode(&file, w, dtype, e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&file), 0666, e);
    if (!st)
        st = save_config(w, dir, dtype, e);
    buf_clear(&file);
    free(path);
    return st;
}
