/*
 * engine/arena.h - large memory that is read over and over
 *
 * Zeroed pages straight from the system, in huge ones where it offers them: reading gigabytes of
 * weights through 4 KiB pages costs a walk of the page table every 64 cache lines. Memory that is
 * not touched is not taken. On a device: its memory.
 *
 * Threads: as who made it.
 */
#ifndef ENGINE_ARENA_H
#define ENGINE_ARENA_H

#include <stddef.h>

#include "base/status.h"
#include "engine/device.h"

struct arena {
    struct device *device; /* where it is; NULL: the host */
    void *data;            /* owned; on the host aligned to ARENA_ALIGN */
    size_t bytes;
};

#define ARENA_ALIGN ((size_t)2 << 20)

/* ERR_NO_MEMORY, whose text names `what` and the size. */
MUST_USE enum status arena_init(struct arena *a, struct device *d, size_t bytes,
                                const char *what, struct err *e);
void arena_clear(struct arena *a);

#endif
