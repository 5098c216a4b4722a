#include "engine/attend.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

uint64_t attend_room(uint64_t cap)
{
    return cap * (sizeof(struct attend_run) + sizeof(struct attention_run) +
                  sizeof(struct attention_grad));
}

enum status attend_init(struct attend *a, size_t cap, struct err *e)
{
    enum status st = alloc_array(&a->run, cap, sizeof(a->run[0]), "attention runs", e);

    if (!st)
        st = alloc_array(&a->parts, cap, sizeof(a->parts[0]), "attention runs", e);
    if (!st)
        st = alloc_array(&a->grads, cap, sizeof(a->grads[0]), "attention runs", e);
    a->cap = st ? 0 : cap;
    return st;
}

void attend_clear(struct attend *a)
{
    free(a->run);
    free(a->parts);
    free(a->grads);
    memset(a, 0, sizeof(*a));
}

void attend_reset(struct attend *a)
{
    a->n = a->rows = a->n_pages = a->max_n = a->max_len = 0;
}

void attend_add(struct attend *a, size_t n, size_t first, float *const *table)
{
    CHECK(a->n < a->cap);
    a->run[a->n++] = (struct attend_run){
        .at = {.row = (uint32_t)a->rows,
               .n = (uint32_t)n,
               .first = (uint32_t)first,
               .pages = (uint32_t)a->n_pages},
        .table = table,
    };
    a->rows += n;
    a->n_pages += table ? kv_cache_pages(first + n) : 0;
    a->max_n = n > a->max_n ? n : a->max_n;
    a->max_len = first + n > a->max_len ? first + n : a->max_len;
}

void attend_pad(struct attend *a, size_t rows)
{
    CHECK(rows >= a->rows && rows <= a->cap);
    for (size_t row = a->rows; a->max_n == 1 && row < rows; row++)
        a->run[a->n++] = (struct attend_run){.at = {.row = (uint32_t)row}};
    a->rows = rows;
}

size_t attend_bytes(const struct attend *a, const struct kernels *k)
{
    if (!k->device)
        return 0;
    return stage_bytes(a->n * sizeof(struct device_run)) +
           stage_bytes(a->n_pages * sizeof(float *));
}

static int compare(uintptr_t a, uintptr_t b)
{
    return (a > b) - (a < b);
}

/* By their pages, so that those which begin with the same are together. */
static int compare_pages(const struct attend_run *a, const struct attend_run *b)
{
    const size_t n[] = {kv_cache_pages((size_t)a->at.first + 1),
                        kv_cache_pages((size_t)b->at.first + 1)};
    int order = 0;

    for (size_t i = 0; order == 0 && i < n[0] && i < n[1]; i++)
        order = compare((uintptr_t)a->table[i], (uintptr_t)b->table[i]);
    return order ? order : compare(n[0], n[1]);
}

/* Runs of several queries as they come, then those of one. */
static int compare_runs(const void *x, const void *y)
{
    const struct attend_run *a = x, *b = y;
    const bool decodes[] = {a->at.n == 1 && a->table, b->at.n == 1 && b->table};
    int order = compare(decodes[0], decodes[1]);

    if (order == 0 && decodes[0])
        order = compare_pages(a, b);
    return order ? order : compare(a->at.row, b->at.row);
}

void attend_stage(struct attend *a, const struct kernels *k, struct stage *s)
{
    const void *there;
    struct device_run *runs;
    float **pages;

    a->runs = NULL;
    a->pages = NULL;
    if (!k->device) {
        qsort(a->run, a->n, sizeof(a->run[0]), compare_runs);
        return;
    }
    runs = stage_take(s, a->n * sizeof(*runs), &there);
    a->runs = there;
    pages = stage_take(s, a->n_pages * sizeof(*pages), &there);
    if (a->n_pages > 0)
        a->pages = there;
    for (size_t i = 0; i < a->n; i++) {
        const struct attend_run *r = &a->run[i];

        runs[i] = r->at;
        if (r->table)
            memcpy(pages + r->at.pages, r->table,
                   kv_cache_pages((size_t)r->at.first + r->at.n) * sizeof(*pages));
    }
}

void attend_forward(struct attend *a, const struct model *m, const struct layer_acts *acts,
                    size_t page_at)
{
    const struct kernels *k = m->kernels;
    const struct attention_shape shape = layer_attention_shape(m);

    if (k->device) {
        k->ops->attention(k->device, &(struct device_attention){
                                         .out = acts->att,
                                         .lse = acts->lse,
                                         .q = acts->q,
                                         .k = acts->k,
                                         .v = acts->v,
                                         .runs = a->runs,
                                         .n_runs = a->n,
                                         .rows = a->rows,
                                         .max_n = a->max_n,
                                         .max_len = a->max_len,
                                         .pages = a->pages,
                                         .page_at = page_at,
                                         .shape = &shape,
                                     });
        return;
    }
    for (size_t i = 0; i < a->n; i++) {
        const struct attend_run *r = &a->run[i];
        const size_t row = r->at.row;

        a->parts[i] = (struct attention_run){
            .out = acts->att + row * shape.out_stride,
            .lse = acts->lse ? acts->lse + row * shape.H : NULL,
            .q = acts->q + row * shape.q_stride,
            .k = acts->k + row * shape.k_stride,
            .v = acts->v + row * shape.v_stride,
            .first = r->at.first,
            .n = r->at.n,
            .pages = r->table,
            .page_at = page_at,
        };
    }
    attention_forward(k, m->pool, a->parts, a->n, &shape);
}

void attend_backward(struct attend *a, const struct model *m, const struct attention_grad *d)
{
    const struct kernels *k = m->kernels;
    const struct attention_shape shape = layer_attention_shape(m);

    if (k->device) {
        k->ops->attention_backward(k->device, &(struct device_attention_grad){
                                                  .dq = d->dq,
                                                  .dk = d->dk,
                                                  .dv = d->dv,
                                                  .dout = d->dout,
                                                  .out = d->out,
                                                  .lse = d->lse,
                                                  .q = d->q,
                                                  .k = d->k,
                                                  .v = d->v,
                                                  .runs = a->runs,
                                                  .n_runs = a->n,
                                                  .rows = a->rows,
                                                  .max_n = a->max_n,
                                                  .shape = &shape,
                                              });
        return;
    }
    for (size_t i = 0; i < a->n; i++) {
        const size_t row = a->run[i].at.row;

        a->grads[i] = (struct attention_grad){
            .dq = d->dq + row * shape.q_stride,
            .dk = d->dk + row * shape.k_stride,
            .dv = d->dv + row * shape.v_stride,
            .dout = d->dout + row * shape.out_stride,
            .out = d->out + row * shape.out_stride,
            .lse = d->lse + row * shape.H,
            .q = d->q + row * shape.q_stride,
            .k = d->k + row * shape.k_stride,
            .v = d->v + row * shape.v_stride,
            .n = a->run[i].at.n,
        };
    }
    attention_backward(k, m->pool, a->grads, a->n, &shape);
}
