#include "shardcast/cast_graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"

struct place {
    struct digest at;
    size_t index; /* into the roster */
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    return memcmp(x->at.b, y->at.b, sizeof(x->at.b));
}

static void place_of(struct digest *at, const struct public_key *transport)
{
    digest_tagged(at, "muster/cast-ring", BYTES_OF(transport->b));
}

static bool is_dialable(const struct roster_entry *n, const struct public_key *self)
{
    return !n->is_revoked && n->endpoint[0] != '\0' && !key_equal(&n->transport, self);
}

static size_t add(size_t *pick, size_t n, size_t index)
{
    for (size_t i = 0; i < n; i++)
        if (pick[i] == index)
            return n;
    pick[n] = index;
    return n + 1;
}

/* Those that can be dialled, in ring order, beginning with the first after `self`. */
static size_t ring_after(struct place *ring, const struct msg_roster *r,
                         const struct public_key *self)
{
    struct digest own;
    size_t n = 0;

    place_of(&own, self);
    for (size_t i = 0; i < r->n; i++) {
        if (!is_dialable(&r->entry[i], self))
            continue;
        place_of(&ring[n].at, &r->entry[i].transport);
        /* Distance from us: subtract, so that the smallest is the next on the ring. */
        unsigned borrow = 0;
        for (size_t k = DIGEST_BYTES; k-- > 0;) {
            unsigned d = 256u + ring[n].at.b[k] - own.b[k] - borrow;
            ring[n].at.b[k] = (uint8_t)d;
            borrow = d < 256u;
        }
        ring[n++].index = i;
    }
    qsort(ring, n, sizeof(*ring), compare_places);
    return n;
}

size_t cast_graph_choose(size_t *pick, size_t max, const struct msg_roster *r,
                         const struct public_key *self, size_t degree)
{
    struct place *ring = xcalloc(MSG_MAX_ROSTER, sizeof(*ring));
    size_t n_ring = ring_after(ring, r, self);
    size_t n = 0;

    if (degree > max)
        degree = max;
    for (size_t d = 1; d <= n_ring && n < degree; d *= 2)
        n = add(pick, n, ring[d - 1].index);
    for (size_t d = 1; d <= n_ring && n < degree; d++)
        n = add(pick, n, ring[d - 1].index);
    for (size_t i = 0; i < n_ring && n_ring <= CAST_GRAPH_SMALL && n < max; i++)
        if (r->entry[ring[i].index].role == ROLE_TRAINER)
            n = add(pick, n, ring[i].index);
    free(ring);
    return n;
}
