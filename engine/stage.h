/*
 * engine/stage.h - what a call tells its operations, sent to the device at once (private to engine/)
 *
 * Positions, runs and tables of pages are small and written by the host for every call: each array
 * sent by itself would cost more than all of them together. On the CPU they are read where they were
 * written, and nothing is sent.
 *
 *   stage_begin(s, bytes, e);                  bytes: the sum of stage_bytes() of all arrays
 *   pos = stage_take(s, n * sizeof(*pos), &pos_there);   to write, and to hand to operations
 *   stage_send(s);
 *
 * What was handed out is good until the next stage_begin; an operation that was asked before that still
 * finds its numbers.
 */
#ifndef ENGINE_STAGE_H
#define ENGINE_STAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/device.h"

struct stage {
    struct device *device; /* borrowed; NULL: the CPU */
    uint8_t *host, *there; /* owned; the same on the CPU */
    size_t cap, n;
};

static inline size_t stage_bytes(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* ERR_NO_MEMORY; ERR_IO: the device failed. */
MUST_USE enum status stage_begin(struct stage *s, size_t bytes, struct err *e);
/* *there: the address for operations. */
void *stage_take(struct stage *s, size_t bytes, const void **there);
void stage_send(struct stage *s);
void stage_clear(struct stage *s);

#endif
