#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "shardcast/overlay_inside.h"

#define TRIES 32u /* draws of a stranger */

/* ---- the roster -------------------------------------------------------------------------- */

/* How much of "tcp://host:port" names its subnet: the first three numbers of an IPv4 address, the
 * first three groups of an IPv6 one, all of a name. */
static size_t subnet_length(const char *host, size_t len)
{
    bool is_v6 = host[0] == '[', is_v4 = true;
    size_t n = 0, i;

    for (i = 0; i < len; i++)
        is_v4 &= host[i] == '.' || (host[i] >= '0' && host[i] <= '9');
    if (!is_v6 && !is_v4)
        return len;
    for (i = 0; i < len && n < 3; i++)
        n += host[i] == (is_v6 ? ':' : '.');
    return i;
}

static uint64_t subnet_of(const char *endpoint)
{
    const char *host = strstr(endpoint, "://"), *port;
    struct digest d;
    uint64_t x;

    if (!endpoint[0])
        return 0;
    host = host ? host + 3 : endpoint;
    port = strrchr(host, ':');
    size_t len = port ? (size_t)(port - host) : strlen(host);
    digest_tagged(&d, "muster/subnet",
                  (struct bytes){(const uint8_t *)host, subnet_length(host, len)});
    memcpy(&x, d.b, sizeof(x));
    return x | 1;
}

static int compare_listed(const void *a, const void *b)
{
    const struct listed *x = a, *y = b;

    return memcmp(x->key.b, y->key.b, KEY_BYTES);
}

/* Whether there are OVERLAY_DIVERSE owners, and as many subnets. */
static void count_diversity(struct overlay_roster *r)
{
    const struct listed *owner[OVERLAY_DIVERSE], *subnet[OVERLAY_DIVERSE];
    uint32_t n_owners = 0, n_subnets = 0;

    for (uint32_t i = 0; i < r->n; i++) {
        const struct listed *k = &r->v[i];
        bool is_owner_new = n_owners < OVERLAY_DIVERSE;
        bool is_subnet_new = n_subnets < OVERLAY_DIVERSE && k->subnet != 0;
        for (uint32_t j = 0; j < n_owners; j++)
            is_owner_new &= !key_equal(&owner[j]->owner, &k->owner);
        for (uint32_t j = 0; j < n_subnets; j++)
            is_subnet_new &= subnet[j]->subnet != k->subnet;
        if (is_owner_new)
            owner[n_owners++] = k;
        if (is_subnet_new)
            subnet[n_subnets++] = k;
    }
    r->is_diverse_owner = n_owners == OVERLAY_DIVERSE;
    r->is_diverse_subnet = n_subnets == OVERLAY_DIVERSE;
}

void overlay_roster_new(struct overlay_roster **out, const struct msg_roster *m)
{
    struct overlay_roster *r = xcalloc(1, sizeof(*r));

    r->v = xcalloc(m->n + 1, sizeof(*r->v));
    for (uint32_t i = 0; i < m->n; i++) {
        const struct roster_entry *e = &m->entry[i];
        if (e->is_revoked)
            continue;
        struct listed *k = &r->v[r->n++];
        *k = (struct listed){.key = e->transport,
                             .owner = e->owner,
                             .subnet = subnet_of(e->endpoint),
                             .place = i,
                             .role = e->role};
        memcpy(k->endpoint, e->endpoint, sizeof(k->endpoint));
    }
    qsort(r->v, r->n, sizeof(*r->v), compare_listed);
    count_diversity(r);
    *out = r;
}

void overlay_roster_free(struct overlay_roster **r)
{
    if (!*r)
        return;
    free((*r)->v);
    free(*r);
    *r = NULL;
}

const struct listed *roster_find(const struct overlay_roster *r, const struct public_key *key)
{
    struct listed wanted = {.key = *key};

    return r && r->n ? bsearch(&wanted, r->v, r->n, sizeof(*r->v), compare_listed) : NULL;
}

bool roster_is_seed(uint32_t role)
{
    return role == ROLE_RELAY || role == ROLE_TRAINER;
}

/* ---- who may dial whom ------------------------------------------------------------------- */

/* The peer's rank in the order that is the dialler's alone: the first 64 bits of Philox with the
 * run as key and the two places as counter; no two peers have the same. */
static uint64_t rank_of(const struct overlay *o, const struct listed *dialler,
                        const struct listed *peer)
{
    const uint32_t at[4] = {dialler->place, peer->place, 0, 0x6f76};
    uint32_t x[4];
    uint64_t key = 0;

    for (size_t i = 0; i < sizeof(key); i++)
        key |= (uint64_t)o->run.b[i] << (8 * i);
    philox4x32(x, key, at);
    /* The places make it unique: they fit the bits that are given up for it. */
    return ((uint64_t)x[1] << 32 | x[0]) / MSG_MAX_ROSTER * MSG_MAX_ROSTER + peer->place;
}

bool roster_may_dial(const struct overlay *o, const struct listed *dialler,
                     const struct listed *peer)
{
    uint64_t own = rank_of(o, dialler, peer);
    uint32_t n = 0, n_seeds = 0;

    if (!peer->endpoint[0])
        return false;
    for (uint32_t i = 0; i < o->roster->n; i++) {
        const struct listed *k = &o->roster->v[i];
        if (!k->endpoint[0] || k == dialler || rank_of(o, dialler, k) >= own)
            continue;
        n++;
        n_seeds += roster_is_seed(k->role);
    }
    return n < OVERLAY_ASSIGNED || (roster_is_seed(peer->role) && n_seeds < OVERLAY_SEEDS);
}

/* The `n` lowest so far, in order; one that is higher than all falls out. */
static uint32_t put_low(struct candidate *list, uint32_t n, uint32_t max,
                        const struct candidate *c)
{
    uint32_t at = n;

    while (at > 0 && list[at - 1].rank > c->rank)
        at--;
    if (at == max)
        return n;
    n = n < max ? n + 1 : max;
    memmove(&list[at + 1], &list[at], (n - 1 - at) * sizeof(*list));
    list[at] = *c;
    return n;
}

static bool is_in(const struct candidate *list, uint32_t n, const struct public_key *key)
{
    for (uint32_t i = 0; i < n; i++)
        if (key_equal(&list[i].key, key))
            return true;
    return false;
}

void candidates_renew(struct overlay *o)
{
    struct candidate before[OVERLAY_ASSIGNED + OVERLAY_SEEDS + OVERLAY_STRANGERS];
    struct candidate seed[OVERLAY_SEEDS];
    uint32_t n_before = o->n_candidates, n_seeds = 0, n = 0;

    memcpy(before, o->candidate, sizeof(before));
    for (uint32_t i = 0; o->self && i < o->roster->n; i++) {
        const struct listed *k = &o->roster->v[i];
        if (!k->endpoint[0] || k == o->self)
            continue;
        struct candidate c = {.key = k->key,
                              .rank = rank_of(o, o->self, k),
                              .is_assigned = true,
                              .is_seed = roster_is_seed(k->role)};
        n = put_low(o->candidate, n, OVERLAY_ASSIGNED, &c);
        if (c.is_seed)
            n_seeds = put_low(seed, n_seeds, OVERLAY_SEEDS, &c);
    }
    for (uint32_t i = 0; i < n_seeds; i++)
        if (!is_in(o->candidate, n, &seed[i].key))
            o->candidate[n++] = seed[i];
    o->n_candidates = n;
    for (uint32_t i = 0; i < n_before; i++) {
        struct candidate *c = candidate_find(o, &before[i].key);
        if (!c)
            continue;
        c->n_failed = before[i].n_failed;
        c->again_ms = before[i].again_ms;
    }
}

/* ---- choosing ---------------------------------------------------------------------------- */

struct candidate *candidate_find(struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_candidates; i++)
        if (key_equal(&o->candidate[i].key, key))
            return &o->candidate[i];
    return NULL;
}

void candidate_failed(struct candidate *c, int64_t now_ms)
{
    int64_t pause = OVERLAY_RETRY_MAX_MS;

    if (!c)
        return;
    if (c->n_failed < 6)
        pause = (int64_t)OVERLAY_RETRY_MS << c->n_failed++;
    c->again_ms = now_ms + (pause < OVERLAY_RETRY_MAX_MS ? pause : OVERLAY_RETRY_MAX_MS);
}

bool roster_is_crowded(const struct overlay *o, const struct listed *k, bool is_chosen)
{
    uint32_t n_owner = 0, n_subnet = 0;

    for (uint32_t i = 0; i < o->n_active; i++) {
        const struct active *a = &o->active[i];
        if (a->is_chosen != is_chosen)
            continue;
        n_owner += key_equal(&a->owner, &k->owner);
        n_subnet += k->subnet && a->subnet == k->subnet;
    }
    return (o->roster->is_diverse_owner && n_owner >= OVERLAY_SAME) ||
           (o->roster->is_diverse_subnet && n_subnet >= OVERLAY_SAME);
}

/* 0: cannot be dialled now; else the higher the better. */
static unsigned worth_of(struct overlay *o, const struct candidate *c, int64_t now_ms)
{
    const struct listed *k = c->again_ms > now_ms || active_find(o, &c->key)
                                 ? NULL
                                 : roster_find(o->roster, &c->key);

    if (!k)
        return 0;
    return 1 + 4u * c->is_assigned + 2u * (c->n_failed == 0) + !roster_is_crowded(o, k, true);
}

/* A place among the candidates: a new one, or that of the stranger that is tried again first. */
static struct candidate *stranger_place(struct overlay *o)
{
    struct candidate *first = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_candidates; i++) {
        struct candidate *c = &o->candidate[i];
        if (c->is_assigned)
            continue;
        n++;
        if (!first || c->again_ms < first->again_ms)
            first = c;
    }
    return n < OVERLAY_STRANGERS ? &o->candidate[o->n_candidates++] : first;
}

static struct candidate *draw_stranger(struct overlay *o)
{
    for (uint32_t i = 0; i < TRIES && o->self; i++) {
        const struct listed *k = &o->roster->v[rng_below(&o->rng, o->roster->n)];
        if (!k->endpoint[0] || k == o->self || active_find(o, &k->key) ||
            candidate_find(o, &k->key))
            continue;
        struct candidate *c = stranger_place(o);
        *c = (struct candidate){.key = k->key, .is_seed = roster_is_seed(k->role)};
        return c;
    }
    return NULL;
}

struct candidate *candidate_choose(struct overlay *o, bool wants_seed, int64_t now_ms)
{
    struct candidate *best = NULL;
    unsigned worth = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_candidates; i++) {
        struct candidate *c = &o->candidate[i];
        unsigned w = wants_seed && !c->is_seed ? 0 : worth_of(o, c, now_ms);
        if (w == 0 || w < worth)
            continue;
        n = w > worth ? 1 : n + 1;
        worth = w;
        if (rng_u32(&o->rng) % n == 0)
            best = c;
    }
    return best || wants_seed ? best : draw_stranger(o);
}

int64_t candidates_again_ms(const struct overlay *o, int64_t now_ms)
{
    int64_t first = OVERLAY_NEVER;

    for (uint32_t i = 0; i < o->n_candidates; i++)
        if (o->candidate[i].again_ms > now_ms && o->candidate[i].again_ms < first)
            first = o->candidate[i].again_ms;
    return first;
}
