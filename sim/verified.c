#include "sim/verified.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define SLOTS 4096u /* of the last messages; one that was pushed out is checked again */

struct slot {
    uint8_t *raw; /* owned */
    size_t len;
    bool is_good;
};

struct verified {
    struct slot slot[SLOTS];
};

void verified_new(struct verified **out)
{
    *out = xcalloc(1, sizeof(**out));
}

void verified_free(struct verified **v)
{
    if (!*v)
        return;
    for (size_t i = 0; i < SLOTS; i++)
        free((*v)->slot[i].raw);
    free(*v);
    *v = NULL;
}

bool verified_check(struct verified *v, const struct msg_envelope *env)
{
    struct slot *s = &v->slot[(env->sig.b[0] | env->sig.b[1] << 8) % SLOTS];

    if (s->raw && s->len == env->raw.len && memcmp(s->raw, env->raw.data, s->len) == 0)
        return s->is_good;
    free(s->raw);
    s->raw = xmalloc(env->raw.len);
    s->len = env->raw.len;
    memcpy(s->raw, env->raw.data, s->len);
    s->is_good = !msg_envelope_verify(env, NULL);
    return s->is_good;
}
