#include "engine/weights_map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/weights_files.h"

enum status weights_map_of(struct weights_map **out, const struct weights *w, enum dtype dtype,
                           struct err *e)
{
    struct weights_map *m = xcalloc(1, sizeof(*m));
    size_t width = dtype_bytes(dtype), at = 0;
    enum status st = alloc_array(&m->tensors, w->n_tensors, sizeof(m->tensors[0]), "table", e);

    m->config = w->config;
    m->config.dtype = dtype;
    if (!st)
        st = alloc_array(&m->numbers, w->n_data, width, "weights", e);
    for (size_t i = 0; !st && i < w->n_tensors; i++) {
        const size_t n = w->tensors[i].rows * w->tensors[i].cols;
        struct weights_map_tensor *t = &m->tensors[m->n_tensors++];

        dtype_narrow(m->numbers + at, w->tensors[i].data, dtype, n);
        *t = (struct weights_map_tensor){w->tensors[i], dtype, {m->numbers + at, n * width}};
        t->shape.data = NULL;
        at += n * width;
    }
    if (st)
        weights_map_close(&m);
    *out = m;
    return st;
}

void weights_map_close(struct weights_map **m)
{
    if (!*m)
        return;
    for (size_t i = 0; i < (*m)->n_files; i++) {
        file_map_close(&(*m)->files[i].map);
        free((*m)->files[i].what);
    }
    free((*m)->files);
    free((*m)->numbers);
    free((*m)->tensors);
    free(*m);
    *m = NULL;
}

void weights_map_read(float *out, const struct weights_map_tensor *t, size_t from, size_t n)
{
    size_t width = dtype_bytes(t->dtype);

    CHECK(t->data.len == t->shape.rows * t->shape.cols * width && from <= t->data.len / width &&
          n <= t->data.len / width - from);
    dtype_widen(out, t->data.data + from * width, t->dtype, n);
}

const struct weights_map_tensor *weights_map_find(const struct weights_map *m, const char *name)
{
    size_t lo = 0, hi = m->n_tensors;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, m->tensors[mid].shape.name);

        if (order == 0)
            return &m->tensors[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

void weights_map_rest(const struct weights_map *m, const struct weights_map_tensor *t)
{
    const uintptr_t page = 4096, lo = (uintptr_t)t->data.data, hi = lo + t->data.len;

    for (size_t i = 0; i < m->n_files; i++) {
        struct bytes map = m->files[i].map.bytes;
        uintptr_t from = (uintptr_t)map.data;

        if (map.len == 0 || lo < from || hi > from + map.len)
            continue;
        /* A hint, of whole pages; those on the edges may hold other tensors as well. */
        (void)madvise((void *)(map.data + (lo - from) / page * page), hi - lo / page * page,
                      MADV_DONTNEED);
    }
}
