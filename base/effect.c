#include "base/effect.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static struct bytes copy(struct bytes b)
{
    uint8_t *p;

    if (b.len == 0)
        return (struct bytes){NULL, 0};
    p = xmalloc(b.len);
    memcpy(p, b.data, b.len);
    return (struct bytes){p, b.len};
}

static void release(struct bytes b)
{
    free((void *)b.data); /* the list made it, so it may drop the const */
}

void effects_init(struct effects *l)
{
    *l = (struct effects){0};
}

void effects_clear(struct effects *l)
{
    effects_reset(l);
    free(l->v);
    effects_init(l);
}

void effects_reset(struct effects *l)
{
    for (size_t i = 0; i < l->n; i++) {
        release(l->v[i].key);
        release(l->v[i].value);
    }
    l->n = 0;
}

/* Appends `f` with copies of its key and value. */
static void append(struct effects *l, struct effect f)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    f.key = copy(f.key);
    f.value = copy(f.value);
    l->v[l->n++] = f;
}

void effects_put(struct effects *l, unsigned table, struct bytes key, struct bytes value)
{
    append(l, (struct effect){.kind = EFFECT_PUT, .table = table, .key = key, .value = value});
}

void effects_del(struct effects *l, unsigned table, struct bytes key)
{
    append(l, (struct effect){.kind = EFFECT_DEL, .table = table, .key = key});
}

void effects_send(struct effects *l, uint64_t peer, struct bytes message)
{
    append(l, (struct effect){.kind = EFFECT_SEND, .peer = peer, .value = message});
}

void effects_start(struct effects *l, uint32_t job, uint64_t number, struct bytes args)
{
    append(l, (struct effect){.kind = EFFECT_START, .job = job, .peer = number, .value = args});
}

void effects_timer(struct effects *l, int64_t at_ms)
{
    append(l, (struct effect){.kind = EFFECT_TIMER, .at_ms = at_ms});
}
