/*
 * engine/weights_files.c - what of engine/weights_map.h reads and writes files: safetensors, JSON, digests
 */
#include "engine/weights_files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/json_text.h"

#define INDEX_NAME       "model.safetensors.index.json"
#define INDEX_JSON_MAX   (16u << 20)
#define INDEX_VALUES_MAX ((size_t)2 * SAFETENSORS_TENSORS_MAX)
#define FILES_MAX        1024u
#define FILE_NAME_MAX    128u
#define BLOCK            65536u /* numbers that are widened at once */

/* ---- which tensors there are ----------------------------------------------------------------- */

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

static struct weights_map_tensor *tensor_of(struct weights_map *m, const char *name)
{
    const struct weights_map_tensor *t = weights_map_find(m, name);

    return t ? &m->tensors[t - m->tensors] : NULL;
}

static bool is_repeated_head(const struct weights_map *m, const char *name)
{
    return m->config.tie && strcmp(name, "lm_head.weight") == 0;
}

/* Tensors that files of others carry along and that we compute or share. */
static bool is_superfluous(const struct weights_map *m, const char *name)
{
    return ends_with(name, "rotary_emb.inv_freq") || is_repeated_head(m, name);
}

static bool has_shape(const struct weights_tensor *t, const struct safetensors_tensor *in)
{
    if (!t->is_matrix)
        return in->n_dims == 1 && in->dims[0] == t->cols;
    return in->n_dims == 2 && in->dims[0] == t->rows && in->dims[1] == t->cols;
}

/* The tensor must lie in the file that the index names. */
static enum status check_place(const struct weights_file *f, const char *name,
                               const json_t *index, struct err *e)
{
    const char *where = json_string_value(json_object_get(index, name));

    if (!index)
        return OK;
    if (!where)
        return err_set(e, ERR_MALFORMED, "'%s': tensor '%s' is not in " INDEX_NAME, f->what,
                       name);
    if (strcmp(where, f->name) != 0)
        return err_set(e, ERR_MALFORMED,
                       "'%s': tensor '%s' is in here, and by " INDEX_NAME " in '%s'", f->what,
                       name, where);
    return OK;
}

/* Lends m what is in file f. */
static enum status take(struct weights_map *m, const struct weights_file *f,
                        const json_t *index, struct err *e)
{
    for (size_t i = 0; i < f->view.n; i++) {
        const struct safetensors_tensor *in = &f->view.tensors[i];
        struct weights_map_tensor *t = tensor_of(m, in->name);
        enum status st = check_place(f, in->name, index, e);

        if (st)
            return st;
        if (!t && is_superfluous(m, in->name))
            continue;
        if (!t)
            return err_set(e, ERR_MALFORMED, "'%s': tensor '%s' does not belong to this model",
                           f->what, in->name);
        if (!has_shape(&t->shape, in))
            return err_set(
                e, ERR_MALFORMED,
                "'%s': tensor '%s' does not have the shape (%zu, %zu) of config.json", f->what,
                in->name, t->shape.rows, t->shape.cols);
        CHECK(!t->data.data); /* names are unique in a file, and places in an index */
        t->dtype = in->dtype;
        t->data = in->data;
    }
    return OK;
}

/* What the index says must be in the files. */
static enum status check_index(const struct weights_map *m, json_t *index, struct err *e)
{
    const char *name;
    json_t *value;

    json_object_foreach(index, name, value)
    {
        const char *where = json_string_value(value);

        for (size_t i = 0; i < m->n_files; i++)
            if (strcmp(where, m->files[i].name) == 0 &&
                !safetensors_find(&m->files[i].view, name))
                return err_set(e, ERR_MALFORMED,
                               "'%s': tensor '%.128s' is missing, which " INDEX_NAME
                               " says is here",
                               m->files[i].what, name);
    }
    return OK;
}

/* A head that a tied model has no use for: some programs use it all the same, so it must not say
 * anything else. */
static enum status check_head(const struct weights_map *m, struct err *e)
{
    const struct weights_map_tensor *embed = weights_map_find(m, "model.embed_tokens.weight");

    for (size_t i = 0; m->config.tie && i < m->n_files; i++) {
        const struct safetensors_tensor *head =
            safetensors_find(&m->files[i].view, "lm_head.weight");

        if (head && (head->dtype != embed->dtype || !bytes_equal(head->data, embed->data)))
            return err_set(e, ERR_UNSUPPORTED,
                           "'%s': tie_word_embeddings is true, and yet 'lm_head.weight' is not "
                           "'model.embed_tokens.weight'",
                           m->files[i].what);
    }
    return OK;
}

/* Makes the table of m's tensors from its files. `index` may be NULL. */
static enum status assemble(struct weights_map *m, json_t *index, struct err *e)
{
    struct weights_tensor *table = NULL;
    enum status st = weights_table(&table, &m->n_tensors, &m->config, e);

    if (!st)
        st = alloc_array(&m->tensors, m->n_tensors, sizeof(m->tensors[0]), "tensor table", e);
    for (size_t i = 0; !st && i < m->n_tensors; i++)
        m->tensors[i].shape = table[i];
    free(table);
    if (!st && index)
        st = check_index(m, index, e);
    for (size_t i = 0; !st && i < m->n_files; i++)
        st = take(m, &m->files[i], index, e);
    for (size_t i = 0; !st && i < m->n_tensors; i++)
        if (!m->tensors[i].data.data)
            st = err_set(e, ERR_MALFORMED, "'%s': tensor '%s' is missing", m->files[0].what,
                         m->tensors[i].shape.name);
    return st ? st : check_head(m, e);
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum status file_open(struct weights_file *f, const char *dir, const char *name,
                             struct err *e)
{
    enum status st;

    f->what = file_join(dir, name);
    st = file_map_open(&f->map, f->what, e);
    return st ? st : safetensors_decode(&f->view, f->map.bytes, f->what, e);
}

/* Adds the file to those of m unless it is there. ERR_MALFORMED when `name` is not a plain file
 * name: an index must not lead out of its directory. */
static enum status add_name(struct weights_map *m, const char *name, struct err *e)
{
    if (!name || !ends_with(name, ".safetensors") || strchr(name, '/') ||
        strlen(name) > FILE_NAME_MAX)
        return err_set(e, ERR_MALFORMED,
                       INDEX_NAME ": '%.64s' is not the name of a .safetensors file",
                       name ? name : "?");
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i].name, name) == 0)
            return OK;
    if (m->n_files == FILES_MAX)
        return err_set(e, ERR_MALFORMED, INDEX_NAME ": more than %u files", FILES_MAX);
    m->files[m->n_files++].name = name;
    return OK;
}

static enum status open_indexed(struct weights_map *m, const char *dir, json_t *root,
                                struct err *e)
{
    json_t *map = json_object_get(root, "weight_map"), *value;
    const char *tensor;
    enum status st = OK;

    if (json_object_size(map) == 0)
        return err_set(e, ERR_MALFORMED, INDEX_NAME ": no weight_map");
    if (json_object_size(map) > SAFETENSORS_TENSORS_MAX)
        return err_set(e, ERR_MALFORMED, INDEX_NAME ": more than %u tensors",
                       SAFETENSORS_TENSORS_MAX);
    m->files = xcalloc(FILES_MAX, sizeof(m->files[0]));
    json_object_foreach(map, tensor, value)
    {
        st = add_name(m, json_string_value(value), e);
        if (st)
            break;
    }
    for (size_t i = 0; !st && i < m->n_files; i++)
        st = file_open(&m->files[i], dir, m->files[i].name, e);
    if (!st)
        st = assemble(m, map, e);
    for (size_t i = 0; i < m->n_files; i++)
        m->files[i].name = NULL; /* goes with the index */
    return st;
}

static enum status open_by_index(struct weights_map *m, const char *dir, const char *path,
                                 struct err *e)
{
    json_t *root = NULL;
    struct buf text;
    enum status st;

    buf_init(&text, INDEX_JSON_MAX);
    st = file_read(&text, path, e);
    if (st)
        goto out;
    st = json_text_read(&root, buf_bytes(&text), INDEX_VALUES_MAX, 0, e);
    st = st ? err_prefix(e, st, "'%s'", path) : open_indexed(m, dir, root, e);
    json_decref(root);
out:
    buf_clear(&text);
    return st;
}

/* The map is the caller's if all went well; nobody asks for its views any more. */
static void hand_over(struct weights_map **out, struct weights_map **m, enum status st)
{
    for (size_t i = 0; i < (*m)->n_files; i++)
        safetensors_clear(&(*m)->files[i].view);
    *out = st ? NULL : *m;
    if (st)
        weights_map_close(m);
}

enum status weights_map_open(struct weights_map **out, const char *dir, struct err *e)
{
    char *index = file_join(dir, INDEX_NAME), *single = file_join(dir, "model.safetensors");
    struct weights_map *m = xcalloc(1, sizeof(*m));
    enum status st = model_config_load(&m->config, dir, e);

    *out = NULL;
    if (st)
        goto out;
    if (file_exists(index) && !file_exists(single)) {
        st = open_by_index(m, dir, index, e);
    } else {
        m->files = xcalloc(1, sizeof(m->files[0]));
        m->n_files = 1;
        st = file_open(&m->files[0], dir, "model.safetensors", e);
        if (!st)
            st = assemble(m, NULL, e);
    }
out:
    hand_over(out, &m, st);
    free(index);
    free(single);
    return st;
}

enum status weights_map_decode(struct weights_map **out, const struct model_config *c,
                               struct bytes file, const char *what, struct err *e)
{
    struct weights_map *m = xcalloc(1, sizeof(*m));
    enum status st;

    *out = NULL;
    m->config = *c;
    m->files = xcalloc(1, sizeof(m->files[0]));
    m->n_files = 1;
    m->files[0].what = xstrdup(what);
    st = safetensors_decode(&m->files[0].view, file, what, e);
    if (!st)
        st = assemble(m, NULL, e);
    hand_over(out, &m, st);
    return st;
}

/* ---- digest -------------------------------------------------------------------------------- */

void weights_map_digest(uint8_t out[WEIGHTS_DIGEST_BYTES], const struct weights_map *m)
{
    crypto_generichash_state h;
    float *block = xcalloc(BLOCK, sizeof(block[0]));

    crypto_generichash_init(&h, NULL, 0, WEIGHTS_DIGEST_BYTES);
    for (size_t i = 0; i < m->n_tensors; i++) {
        const struct weights_map_tensor *t = &m->tensors[i];
        size_t n = t->shape.rows * t->shape.cols;

        for (size_t at = 0; at < n; at += BLOCK) {
            size_t some = n - at < BLOCK ? n - at : BLOCK;

            weights_map_read(block, t, at, some);
            crypto_generichash_update(&h, (const uint8_t *)block, some * sizeof(block[0]));
        }
    }
    crypto_generichash_final(&h, out, WEIGHTS_DIGEST_BYTES);
    free(block);
}

/* ---- saving ---------------------------------------------------------------------------------- */

/* A directory being written. */
struct saving {
    const struct weights_map_tensor *tensors;
    const struct weights_map_save *how;
    const char *dir;
    uint64_t done_bytes, all_bytes;
    float *wide;     /* (BLOCK), owned */
    uint8_t *narrow; /* (BLOCK) numbers, owned */
};

static uint64_t bytes_of(const struct saving *s, size_t i)
{
    const struct weights_tensor *t = &s->tensors[i].shape;
    return (uint64_t)t->rows * t->cols * dtype_bytes(s->how->dtype);
}

/* The file that begins with tensor `from` ends before the one this gives. */
static size_t end_of_file(const struct saving *s, size_t from, size_t n)
{
    uint64_t size = bytes_of(s, from);
    size_t to = from + 1;

    while (to < n &&
           (s->how->shard_bytes == 0 || size + bytes_of(s, to) <= s->how->shard_bytes)) {
        size += bytes_of(s, to);
        to++;
    }
    return to;
}

static enum status put_header(struct file_out *f, const struct saving *s, size_t from,
                              size_t to, struct err *e)
{
    struct safetensors_entry *entries = xcalloc(to - from, sizeof(entries[0]));
    struct buf header;
    enum status st;

    for (size_t i = from; i < to; i++) {
        const struct weights_tensor *t = &s->tensors[i].shape;

        entries[i - from] = (struct safetensors_entry){
            .name = t->name,
            .n_dims = t->is_matrix ? 2 : 1,
            .dims = {t->is_matrix ? t->rows : t->cols, t->is_matrix ? t->cols : 0},
        };
    }
    buf_init(&header, SAFETENSORS_HEADER_MAX + 8);
    st = safetensors_header(&header, entries, to - from, s->how->dtype, e);
    if (!st)
        st = file_out_put(f, buf_bytes(&header), e);
    buf_clear(&header);
    free(entries);
    return st;
}

static enum status put_tensor(struct file_out *f, struct saving *s, size_t i, struct err *e)
{
    const struct weights_map_tensor *t = &s->tensors[i];
    size_t n = t->shape.rows * t->shape.cols, width = dtype_bytes(s->how->dtype);
    enum status st = OK;

    for (size_t at = 0; !st && at < n; at += BLOCK) {
        size_t some = n - at < BLOCK ? n - at : BLOCK;

        weights_map_read(s->wide, t, at, some);
        dtype_narrow(s->narrow, s->wide, s->how->dtype, some);
        st = file_out_put(f, (struct bytes){s->narrow, some * width}, e);
    }
    s->done_bytes += n * width;
    if (!st && s->how->progress)
        s->how->progress(s->how->ctx, s->done_bytes, s->all_bytes);
    return st;
}

static enum status save_file(struct saving *s, const char *name, size_t from, size_t to,
                             struct err *e)
{
    char *path = file_join(s->dir, name);
    struct file_out f;
    enum status st = file_out_open(&f, path, 0666, e);

    if (!st)
        st = put_header(&f, s, from, to, e);
    for (size_t i = from; !st && i < to; i++)
        st = put_tensor(&f, s, i, e);
    if (!st)
        st = file_out_commit(&f, e);
    file_out_close(&f);
    free(path);
    return st;
}

static enum status save_text(const char *dir, const char *name, const struct buf *text,
                             struct err *e)
{
    char *path = file_join(dir, name);
    enum status st = buf_status(text, e);

    if (!st)
        st = file_write_atomic(path, buf_bytes(text), 0666, e);
    free(path);
    return st;
}

static enum status save_files(struct saving *s, size_t n, struct err *e)
{
    size_t n_files = 0, k = 0;
    struct buf index;
    enum status st = OK;

    for (size_t at = 0; at < n; at = end_of_file(s, at, n))
        n_files++;
    if (n_files == 1)
        return save_file(s, "model.safetensors", 0, n, e);
    if (n_files > FILES_MAX)
        return err_set(e, ERR_INVALID, "%zu files would be written, more than %u", n_files,
                       FILES_MAX);
    buf_init(&index, INDEX_JSON_MAX);
    buf_printf(&index, "{\n  \"metadata\": {\"total_size\": %" PRIu64 "},\n  \"weight_map\": {",
               s->all_bytes);
    for (size_t at = 0, to; !st && at < n; at = to) {
        char name[64];

        to = end_of_file(s, at, n);
        snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", ++k, n_files);
        for (size_t i = at; i < to; i++)
            buf_printf(&index, "%s\n    \"%s\": \"%s\"", i ? "," : "", s->tensors[i].shape.name,
                       name);
        st = save_file(s, name, at, to, e);
    }
    buf_printf(&index, "\n  }\n}\n");
    if (!st)
        st = save_text(s->dir, INDEX_NAME, &index, e);
    buf_clear(&index);
    return st;
}

enum status weights_map_save(const struct weights_map_tensor *tensors, size_t n,
                             const struct model_config *c, const char *dir,
                             const struct weights_map_save *how, struct err *e)
{
    struct saving s = {.tensors = tensors, .how = how, .dir = dir};
    struct model_config as_written = *c;
    struct buf config;
    enum status st = file_mkdirs(dir, 0777, e);

    buf_init(&config, 1u << 20);
    if (st)
        goto out;
    s.wide = xcalloc(BLOCK, sizeof(s.wide[0]));
    s.narrow = xcalloc(BLOCK, sizeof(float));
    for (size_t i = 0; i < n; i++)
        s.all_bytes += bytes_of(&s, i);
    st = save_files(&s, n, e);
    if (st)
        goto out;
    as_written.dtype = how->dtype;
    model_config_encode(&config, &as_written);
    st = save_text(dir, "config.json", &config, e);
out:
    buf_clear(&config);
    free(s.wide);
    free(s.narrow);
    return st;
}
