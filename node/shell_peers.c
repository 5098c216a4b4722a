#include "node/shell_peers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define LOOK_EVERY_MS 60000

struct peers {
    struct peer *v; /* owned */
    size_t n, cap;
    uint64_t last_number;
    int64_t looked_ms;
};

void peers_new(struct peers **out)
{
    *out = xcalloc(1, sizeof(**out));
}

void peers_free(struct peers **p)
{
    if (!*p)
        return;
    free((*p)->v);
    free(*p);
    *p = NULL;
}

uint64_t peers_next_number(struct peers *p)
{
    return ++p->last_number;
}

static void drop_at(struct peers *p, size_t i)
{
    p->v[i] = p->v[--p->n];
}

static bool is_same(const struct peer *x, uint32_t link, struct bytes routing_id,
                    const struct public_key *key)
{
    return x->link == link && x->n_routing_id == routing_id.len &&
           memcmp(x->routing_id, routing_id.data, routing_id.len) == 0 &&
           key_equal(&x->key, key);
}

/* Before a newcomer of this link is added. */
static void make_room(struct peers *p, uint32_t link)
{
    size_t most_silent = 0;
    size_t n = 0;

    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].link != link)
            continue;
        if (n == 0 || p->v[i].heard_ms < p->v[most_silent].heard_ms)
            most_silent = i;
        n++;
    }
    if (n >= PEERS_PER_LINK)
        drop_at(p, most_silent);
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 16;
        p->v = xrealloc(p->v, p->cap * sizeof(*p->v));
    }
}

uint64_t peers_note(struct peers *p, uint32_t link, struct bytes routing_id,
                    const struct public_key *key, int64_t now_ms)
{
    struct peer *x;

    CHECK(routing_id.len <= PEER_ROUTING_ID_MAX);
    for (size_t i = 0; i < p->n; i++) {
        if (is_same(&p->v[i], link, routing_id, key)) {
            p->v[i].heard_ms = now_ms;
            return p->v[i].number;
        }
    }
    make_room(p, link);
    x = &p->v[p->n++];
    *x = (struct peer){.number = peers_next_number(p),
                       .link = link,
                       .n_routing_id = routing_id.len,
                       .key = *key,
                       .heard_ms = now_ms};
    memcpy(x->routing_id, routing_id.data, routing_id.len);
    return x->number;
}

const struct peer *peers_find(const struct peers *p, uint64_t number)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].number == number)
            return &p->v[i];
    }
    return NULL;
}

void peers_forget(struct peers *p, uint64_t number)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].number == number) {
            drop_at(p, i);
            return;
        }
    }
}

void peers_expire(struct peers *p, int64_t now_ms)
{
    if (now_ms - p->looked_ms < LOOK_EVERY_MS)
        return;
    p->looked_ms = now_ms;
    for (size_t i = p->n; i-- > 0;) {
        if (now_ms - p->v[i].heard_ms > PEER_SILENT_MS)
            drop_at(p, i);
    }
}
