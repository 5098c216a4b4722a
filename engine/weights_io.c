#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "engine/safetensors.h"
#include "engine/weights.h"
#include "engine/weights_map.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "digests hash f32 data as it lies");

void weights_digest(uint8_t out[WEIGHTS_DIGEST_BYTES], const struct weights *w)
{
    crypto_generichash(out, WEIGHTS_DIGEST_BYTES, (const uint8_t *)w->data,
                       w->n_data * sizeof(w->data[0]), NULL, 0);
}

size_t weights_encode_bytes(const struct model_config *c)
{
    /* A header line is a name of up to 63 bytes, a dtype, two dimensions and two offsets. */
    size_t header = 64 + (3 + (size_t)c->layers * WEIGHTS_LAYER_TENSORS) * 224;
    return 8 + header + (size_t)model_config_params(c) * sizeof(float);
}

static enum status entries_of(struct safetensors_entry **out, const struct weights_tensor *t,
                              size_t n, struct err *e)
{
    enum status st = alloc_array(out, n, sizeof(**out), "tensor table", e);

    for (size_t i = 0; i < n && !st; i++)
        (*out)[i] = (struct safetensors_entry){
            .name = t[i].name,
            .n_dims = t[i].is_matrix ? 2 : 1,
            .dims = {t[i].is_matrix ? t[i].rows : t[i].cols, t[i].is_matrix ? t[i].cols : 0},
            .data = t[i].data};
    return st;
}

enum status weights_encode(struct buf *out, const struct weights *w, enum dtype dtype,
                           struct err *e)
{
    struct safetensors_entry *entries = NULL;
    enum status st = entries_of(&entries, w->tensors, w->n_tensors, e);

    if (!st)
        st = safetensors_encode(out, entries, w->n_tensors, dtype, e);
    free(entries);
    return st;
}

enum status weights_encode_header(struct buf *out, const struct weights_tensor *table, size_t n,
                                  enum dtype dtype, struct err *e)
{
    struct safetensors_entry *entries = NULL;
    enum status st = entries_of(&entries, table, n, e);

    if (!st)
        st = safetensors_header(out, entries, n, dtype, e);
    free(entries);
    return st;
}

/* Copies what was mapped, and closes it: file and copy are not held longer than that. */
static enum status widen(struct weights **out, struct weights_map **m, struct err *e)
{
    struct weights *w;
    enum status st = weights_new(&w, &(*m)->config, e);

    *out = w;
    for (size_t i = 0; !st && i < w->n_tensors; i++)
        weights_map_read(w->tensors[i].data, &(*m)->tensors[i], 0,
                         w->tensors[i].rows * w->tensors[i].cols);
    weights_map_close(m);
    return st;
}

enum status weights_decode(struct weights **out, const struct model_config *c,
                           struct bytes file, const char *what, struct err *e)
{
    struct weights_map *m;
    enum status st = weights_map_decode(&m, c, file, what, e);

    *out = NULL;
    return st ? st : widen(out, &m, e);
}

enum status weights_load(struct weights **out, const char *dir, struct err *e)
{
    struct weights_map *m;
    enum status st = weights_map_open(&m, dir, e);

    *out = NULL;
    return st ? st : widen(out, &m, e);
}

enum status weights_save(const struct weights *w, const char *dir, enum dtype dtype,
                         struct err *e)
{
    const struct weights_map_save how = {.dtype = dtype};
    struct weights_map_tensor *tensors = NULL;
    enum status st = alloc_array(&tensors, w->n_tensors, sizeof(tensors[0]), "tensor table", e);

    for (size_t i = 0; !st && i < w->n_tensors; i++) {
        const struct weights_tensor *t = &w->tensors[i];

        tensors[i].shape = *t;
        tensors[i].dtype = DTYPE_F32; /* little-endian, as asserted above */
        tensors[i].data =
            (struct bytes){(const uint8_t *)t->data, t->rows * t->cols * sizeof(float)};
    }
    if (!st)
        st = weights_map_save(tensors, w->n_tensors, &w->config, dir, &how, e);
    free(tensors);
    return st;
}
