#include "engine/stage.h"

#include <stdlib.h>

#include "base/check.h"

/* Of a device at once: where runs and pages lie is part of what graphs of launches are found by, and a stage that
 * has grown lies elsewhere. Enough for 512 sequences of 3,500 positions. */
#define DEVICE_LEAST ((size_t)256 << 10)

static void release(struct stage *s)
{
    if (s->device)
        device_release(s->device, s->there);
    device_release(NULL, s->host);
    s->host = s->there = NULL;
    s->cap = 0;
}

enum status stage_begin(struct stage *s, size_t bytes, struct err *e)
{
    size_t cap = 2 * s->cap > bytes ? 2 * s->cap : bytes;
    void *host = NULL, *there = NULL;
    enum status st;

    s->n = 0;
    if (bytes <= s->cap)
        return OK;
    if (s->device && cap < DEVICE_LEAST)
        cap = DEVICE_LEAST;
    release(s);
    st = device_alloc(NULL, &host, cap, "positions and pages of a call", e);
    if (!st && s->device)
        st = device_alloc(s->device, &there, cap, "positions and pages of a call", e);
    s->host = host;
    s->there = s->device ? there : host;
    if (st)
        release(s);
    else
        s->cap = cap;
    return st;
}

void *stage_take(struct stage *s, size_t bytes, const void **there)
{
    size_t at = s->n;

    CHECK(stage_bytes(bytes) <= s->cap - at);
    s->n += stage_bytes(bytes);
    *there = s->there + at;
    return s->host + at;
}

void stage_send(struct stage *s)
{
    if (s->device)
        device_put(s->device, s->there, s->host, s->n);
}

void stage_clear(struct stage *s)
{
    release(s);
}
