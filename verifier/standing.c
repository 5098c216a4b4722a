#include "verifier/standing.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define LEASES_KEPT 64u /* the last of each worker: a check may be made twice */

struct row {
    struct public_key worker;
    struct rollout_heights heights;
    uint64_t lease[LEASES_KEPT];
    uint64_t n; /* ever */
};
struct standing {
    struct row *row; /* owned: workers are of the roster, so there are not many */
    size_t n, cap;
};

void standing_new(struct standing **out)
{
    *out = xcalloc(1, sizeof(**out));
}

void standing_free(struct standing **s)
{
    if (!*s)
        return;
    free((*s)->row);
    free(*s);
    *s = NULL;
}

static struct row *row_of(struct standing *s, const struct public_key *worker)
{
    for (size_t i = 0; i < s->n; i++)
        if (key_equal(&s->row[i].worker, worker))
            return &s->row[i];
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->row = xrealloc(s->row, s->cap * sizeof(*s->row));
    }
    s->row[s->n] = (struct row){.worker = *worker};
    return &s->row[s->n++];
}

static bool is_counted(const struct row *r, uint64_t lease)
{
    for (uint64_t i = 0; i < r->n && i < LEASES_KEPT; i++)
        if (r->lease[i] == lease)
            return true;
    return false;
}

struct rollout_heights standing_of(struct standing *s, const struct public_key *worker,
                                   uint64_t lease)
{
    const struct row *r = row_of(s, worker);

    return is_counted(r, lease) ? (struct rollout_heights){0} : r->heights;
}

void standing_put(struct standing *s, const struct public_key *worker, uint64_t lease,
                  struct rollout_heights h)
{
    struct row *r = row_of(s, worker);

    if (is_counted(r, lease))
        return;
    r->heights = h;
    r->lease[r->n++ % LEASES_KEPT] = lease;
}
