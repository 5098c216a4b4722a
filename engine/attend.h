/*
 * engine/attend.h - the attention of a call, described once for all layers (private to engine/)
 *
 * The sequences of a call are the same in every layer; what differs are the arrays. The CPU is given
 * pointers for every run and layer, those of one query in an order in which sequences that share pages
 * are neighbours (attention_forward reads such a page once for all); a device is given its runs once.
 *
 *   attend_reset, attend_add for every run, attend_pad, attend_stage into a stage of attend_bytes more,
 *   then attend_forward for every layer (and attend_backward, of runs without pages)
 */
#ifndef ENGINE_ATTEND_H
#define ENGINE_ATTEND_H

#include <stddef.h>
#include <stdint.h>

#include "engine/device_ops.h"
#include "engine/layer.h"
#include "engine/stage.h"

struct attend_run {
    struct device_run at;
    float *const *table; /* the pages of its sequence, or NULL */
};

struct attend {
    struct attend_run *run;       /* owned, (cap) */
    struct attention_run *parts;  /* owned, (cap): for the CPU */
    struct attention_grad *grads; /* owned, (cap): likewise */
    size_t cap, n;
    size_t rows, n_pages, max_n, max_len;
    const struct device_run *runs; /* of the device, in a stage */
    float *const *pages;           /* likewise, or NULL */
};

/* Room for `cap` runs. ERR_NO_MEMORY. */
MUST_USE enum status attend_init(struct attend *a, size_t cap, struct err *e);
void attend_clear(struct attend *a);
uint64_t attend_room(uint64_t cap); /* bytes of attend_init */

void attend_reset(struct attend *a);
/* The next n rows of the batch are positions first.. of a sequence. */
void attend_add(struct attend *a, size_t n, size_t first, float *const *table);
/* Rows behind those of the runs, up to `rows`, that nobody wants (engine/device_ops.h, padded_rows). */
void attend_pad(struct attend *a, size_t rows);
size_t attend_bytes(const struct attend *a, const struct kernels *k);
void attend_stage(struct attend *a, const struct kernels *k, struct stage *s);

/* acts->att and, if there, acts->lse from acts->q, k, v. page_at: where the layer begins in a page. */
void attend_forward(struct attend *a, const struct model *m, const struct layer_acts *acts,
                    size_t page_at);
/* Of d->q.. : what attention_backward wants, for all rows together; n is not read. */
void attend_backward(struct attend *a, const struct model *m, const struct attention_grad *d);

#endif
