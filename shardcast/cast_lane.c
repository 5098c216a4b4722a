#include "shardcast/cast_lane.h"

#include <string.h>

static bool is_hello(struct bytes frame)
{
    return bytes_equal(frame, bytes_str(LANE_HELLO));
}

/* A place for one more: of those that dialled us, the one heard longest ago, if all are taken. */
static struct lane *make_room(struct lanes *l)
{
    struct lane *oldest = NULL;

    if (l->n < LANES_MAX)
        return &l->v[l->n++];
    for (size_t i = 0; i < l->n; i++)
        if (!l->v[i].is_ours && (!oldest || l->v[i].heard_ms < oldest->heard_ms))
            oldest = &l->v[i];
    return oldest;
}

static struct lane *find_ours(struct lanes *l, uint64_t number)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].is_ours && (l->v[i].control == number || l->v[i].data == number))
            return &l->v[i];
    return NULL;
}

static struct lane *find_theirs(struct lanes *l, const struct public_key *key)
{
    for (size_t i = 0; i < l->n; i++)
        if (!l->v[i].is_ours && key_equal(&l->v[i].key, key))
            return &l->v[i];
    return NULL;
}

void lanes_opened(struct lanes *l, const struct public_key *key, uint64_t control,
                  uint64_t data)
{
    struct lane *x = make_room(l);

    if (x)
        *x = (struct lane){*key, true, control, data, 0};
}

uint64_t lanes_closed(struct lanes *l, uint64_t control)
{
    struct lane *x = find_ours(l, control);
    uint64_t data = x ? x->data : 0;

    if (x)
        *x = l->v[--l->n];
    return data;
}

uint64_t lanes_heard(struct lanes *l, const struct shell_message *m, int64_t now_ms)
{
    struct lane *x = find_ours(l, m->peer);

    if (x) {
        x->heard_ms = now_ms;
        return x->control;
    }
    x = find_theirs(l, &m->transport);
    if (!x) {
        x = make_room(l);
        if (!x)
            return is_hello(m->data) ? 0 : m->peer;
        *x = (struct lane){m->transport, false, 0, 0, 0};
    }
    x->heard_ms = now_ms;
    if (is_hello(m->data)) {
        x->data = m->peer;
        return 0;
    }
    if (m->peer != x->data)
        x->control = m->peer;
    return x->control ? x->control : m->peer;
}

uint64_t lanes_data(const struct lanes *l, uint64_t control)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->v[i].control == control && l->v[i].data)
            return l->v[i].data;
    return control;
}
