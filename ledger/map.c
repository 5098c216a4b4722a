#include "ledger/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"

void map_init(struct map *m)
{
    *m = (struct map){NULL, 0, 0};
}

void map_clear(struct map *m)
{
    free(m->v);
    map_init(m);
}

/* The finisher of MurmurHash3: consecutive unit numbers spread over the table. */
static uint64_t mix(const struct map_key *key)
{
    uint64_t a, b;

    memcpy(&a, key->b, 8);
    memcpy(&b, key->b + 8, 8);
    a ^= b * 0x9e3779b97f4a7c15u;
    a = (a ^ (a >> 33)) * 0xff51afd7ed558ccdu;
    a = (a ^ (a >> 33)) * 0xc4ceb9fe1a85ec53u;
    return a ^ (a >> 33);
}

/* The row of `key`, or the free one where it would stand. cap > n. */
static struct map_row *slot(const struct map *m, const struct map_key *key)
{
    size_t i = (size_t)mix(key) & (m->cap - 1);

    while (m->v[i].is_used && memcmp(m->v[i].key.b, key->b, sizeof(key->b)) != 0)
        i = (i + 1) & (m->cap - 1);
    return &m->v[i];
}

bool map_find(const struct map *m, const struct map_key *key, uint64_t *value)
{
    const struct map_row *row;

    if (!m->cap)
        return false;
    row = slot(m, key);
    if (row->is_used && value)
        *value = row->value;
    return row->is_used;
}

static void grow(struct map *m)
{
    struct map old = *m;

    m->cap = old.cap ? 2 * old.cap : 64;
    m->v = xcalloc(m->cap, sizeof(*m->v));
    for (size_t i = 0; i < old.cap; i++)
        if (old.v[i].is_used)
            *slot(m, &old.v[i].key) = old.v[i];
    free(old.v);
}

void map_put(struct map *m, const struct map_key *key, uint64_t value)
{
    struct map_row *row;

    if (2 * (m->n + 1) > m->cap)
        grow(m);
    row = slot(m, key);
    m->n += !row->is_used;
    *row = (struct map_row){*key, value, true};
}

struct map_key map_key_u64(uint64_t n)
{
    struct map_key k = {{0}};

    memcpy(k.b, &n, sizeof(n));
    return k;
}

struct map_key map_key_of(const void *data, size_t n)
{
    struct map_key k;
    struct digest d;

    digest_of(&d, (struct bytes){data, n});
    memcpy(k.b, d.b, sizeof(k.b));
    return k;
}
