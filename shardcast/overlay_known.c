#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "shardcast/overlay_inside.h"

#define REVOKED_MAX 4096u

/* ---- names ------------------------------------------------------------------------------- */

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

/* Of one that cannot be dialled nobody knows it: it has its own. */
static uint64_t subnet_of(const char *endpoint, const struct public_key *key)
{
    const char *host = strstr(endpoint, "://"), *port;
    struct digest d;
    uint64_t x;

    host = host ? host + 3 : endpoint;
    port = strrchr(host, ':');
    size_t len = port ? (size_t)(port - host) : strlen(host);
    struct bytes name = {(const uint8_t *)host, subnet_length(host, len)};
    digest_tagged(&d, "muster/subnet", endpoint[0] ? name : BYTES_OF(key->b));
    memcpy(&x, d.b, sizeof(x));
    return x;
}

/* The place of `peer` in the order that is the dialler's alone. */
static uint64_t rank_of(const struct digest *run, const struct public_key *dialler,
                        const struct public_key *peer)
{
    struct digest_state s;
    struct digest d;
    uint64_t x;

    digest_begin(&s, "muster/overlay");
    digest_add(&s, BYTES_OF(run->b));
    digest_add(&s, BYTES_OF(dialler->b));
    digest_add(&s, BYTES_OF(peer->b));
    digest_end(&s, &d);
    memcpy(&x, d.b, sizeof(x));
    return x;
}

static bool is_seed_role(uint32_t role)
{
    return role == ROLE_RELAY || role == ROLE_TRAINER;
}

/* ---- the list ---------------------------------------------------------------------------- */

struct known *known_find(const struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_known; i++)
        if (key_equal(&o->known[i].key, key))
            return &o->known[i];
    return NULL;
}

void known_clear(struct overlay *o)
{
    for (uint32_t i = 0; i < o->n_known; i++)
        free(o->known[i].cert);
    o->n_known = 0;
    o->is_dirty = true;
}

static struct known *known_add(struct overlay *o)
{
    if (o->n_known == o->cap_known) {
        o->cap_known = o->cap_known ? 2 * o->cap_known : 32;
        o->known = xrealloc(o->known, o->cap_known * sizeof(*o->known));
    }
    o->is_dirty = true;
    o->known[o->n_known] = (struct known){0};
    return &o->known[o->n_known++];
}

static void known_remove(struct overlay *o, struct known *k)
{
    free(k->cert);
    *k = o->known[--o->n_known];
    o->is_dirty = true;
}

static bool is_revoked(const struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_revoked; i++)
        if (key_equal(&o->revoked[i], key))
            return true;
    return false;
}

void known_revoke(struct overlay *o, const struct public_key *key)
{
    struct known *k = known_find(o, key);

    if (k)
        known_remove(o, k);
    if (is_revoked(o, key) || o->n_revoked == REVOKED_MAX)
        return;
    o->revoked = xrealloc(o->revoked, (o->n_revoked + 1) * sizeof(*o->revoked));
    o->revoked[o->n_revoked++] = *key;
}

/* ---- who may dial whom ------------------------------------------------------------------- */

/* How many of the same sort (seeds, or all) that can be dialled stand before `peer`. */
static uint32_t place_of(const struct overlay *o, const struct public_key *dialler,
                         const struct known *peer, bool among_seeds)
{
    uint64_t own = rank_of(&o->run, dialler, &peer->key);
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_known; i++) {
        const struct known *k = &o->known[i];
        if (k == peer || !k->endpoint[0] || (among_seeds && !k->is_seed_role) ||
            key_equal(&k->key, dialler))
            continue;
        n += rank_of(&o->run, dialler, &k->key) < own;
    }
    return n;
}

static bool is_near(const struct overlay *o, const struct public_key *dialler,
                    const struct known *peer, bool *is_seed)
{
    *is_seed = peer->is_seed_role && place_of(o, dialler, peer, true) < OVERLAY_SEEDS;
    return *is_seed || place_of(o, dialler, peer, false) < OVERLAY_ASSIGNED;
}

bool known_may_dial(const struct overlay *o, const struct public_key *dialler,
                    const struct public_key *peer)
{
    const struct known *k = known_find(o, peer);
    bool is_seed;

    return k && k->endpoint[0] && is_near(o, dialler, k, &is_seed);
}

void known_set_roster(struct overlay *o, const struct msg_roster *r)
{
    struct known *before = o->known;
    uint32_t n_before = o->n_known;

    o->known = NULL;
    o->n_known = o->cap_known = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        const struct roster_entry *e = &r->entry[i];
        if (e->is_revoked)
            continue;
        struct known *k = known_add(o);
        k->key = e->transport;
        k->owner = e->owner;
        k->subnet = subnet_of(e->endpoint, &k->key);
        k->is_seed_role = is_seed_role(e->role);
        memcpy(k->endpoint, e->endpoint, sizeof(k->endpoint));
        for (uint32_t b = 0; b < n_before; b++)
            if (key_equal(&before[b].key, &k->key))
                k->again_ms = before[b].again_ms;
        if (key_equal(&k->key, &o->opt.self))
            o->is_hidden = !k->endpoint[0];
    }
    for (uint32_t i = 0; i < n_before; i++)
        free(before[i].cert);
    free(before);
    for (uint32_t i = 0; i < o->n_known; i++) {
        struct known *k = &o->known[i];
        k->is_assigned = !key_equal(&k->key, &o->opt.self) && k->endpoint[0] &&
                         is_near(o, &o->opt.self, k, &k->is_seed);
    }
}

/* ---- certificates ------------------------------------------------------------------------ */

static bool names(const struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_peers; i++)
        if (key_equal(&o->peer[i], key))
            return true;
    return false;
}

static void take_own(struct overlay *o, struct bytes cert, const struct msg_cert *m)
{
    o->is_hidden = !m->endpoint[0];
    o->n_peers = (uint32_t)(m->peers.len / KEY_BYTES);
    memcpy(o->peer, m->peers.data, m->peers.len);
    free(o->cert);
    o->cert = xmalloc(cert.len);
    memcpy(o->cert, cert.data, cert.len);
    o->cert_len = (uint32_t)cert.len;
    for (uint32_t i = 0; i < o->n_known; i++) {
        o->known[i].is_assigned = names(o, &o->known[i].key);
        o->known[i].is_seed = o->known[i].is_assigned && o->known[i].is_seed_role;
    }
}

/* Room among those that are not assigned: one of them goes, by lot. */
static void make_room(struct overlay *o)
{
    uint32_t n = 0, at;

    for (uint32_t i = 0; i < o->n_known; i++)
        n += !o->known[i].is_assigned;
    if (n < OVERLAY_PASSIVE)
        return;
    at = rng_u32(&o->rng) % n;
    for (uint32_t i = 0; i < o->n_known; i++)
        if (!o->known[i].is_assigned && at-- == 0) {
            known_remove(o, &o->known[i]);
            return;
        }
}

static struct known *known_learn(struct overlay *o, struct bytes cert, const struct msg_cert *m)
{
    struct known *k = known_find(o, &m->transport);

    if (k && k->seq >= m->seq)
        return k;
    if (!k) {
        if (!names(o, &m->transport))
            make_room(o);
        k = known_add(o);
    }
    free(k->cert);
    k->cert = xmalloc(cert.len);
    memcpy(k->cert, cert.data, cert.len);
    k->cert_len = (uint32_t)cert.len;
    k->key = m->transport;
    k->owner = m->owner;
    k->seq = m->seq;
    k->subnet = subnet_of(m->endpoint, &k->key);
    k->is_seed_role = is_seed_role(m->role);
    k->is_assigned = names(o, &m->transport);
    k->is_seed = k->is_assigned && k->is_seed_role;
    memcpy(k->endpoint, m->endpoint, sizeof(k->endpoint));
    o->is_dirty = true;
    return k;
}

enum status known_certify(struct overlay *o, struct bytes cert, bool is_given,
                          struct msg_cert *m, struct known **out, struct err *e)
{
    struct msg_envelope env;
    struct known *k = NULL;
    enum status st = msg_envelope_decode(&env, cert, e);

    if (out)
        *out = NULL;
    if (st)
        return st;
    if (env.kind != MSG_CERT)
        return err_set(e, ERR_MALFORMED, "certificate: the envelope is no CERT");
    if (!digest_equal(&env.run, &o->run) || !key_equal(&env.signer, &o->orchestrator))
        return err_set(e, ERR_DENIED, "certificate: of another run or signer");
    st = msg_cert_decode(m, env.body, e);
    if (st)
        return st;
    if (is_revoked(o, &m->transport))
        return err_set(e, ERR_DENIED, "certificate: of a key that was revoked");
    k = known_find(o, &m->transport);
    bool is_same =
        k && k->cert && k->cert_len == cert.len && memcmp(k->cert, cert.data, cert.len) == 0;
    if (!is_same && !(o->opt.verify ? o->opt.verify(o->opt.arg, &env)
                                    : msg_envelope_verify(&env, NULL) == OK))
        return err_set(e, ERR_DIGEST, "certificate: not signed by the orchestrator");
    if (key_equal(&m->transport, &o->opt.self)) {
        if (is_given)
            take_own(o, cert, m);
        return OK;
    }
    k = known_learn(o, cert, m);
    if (out)
        *out = k;
    return OK;
}

uint32_t known_some(struct overlay *o, struct bytes *cert, uint32_t max)
{
    uint32_t n = 0, left = 0;

    for (uint32_t i = 0; i < o->n_known; i++)
        left += o->known[i].cert != NULL;
    for (uint32_t i = 0; i < o->n_known && n < max; i++) {
        const struct known *k = &o->known[i];
        if (!k->cert)
            continue;
        if (rng_below(&o->rng, left--) < max - n)
            cert[n++] = (struct bytes){k->cert, k->cert_len};
    }
    return n;
}

/* ---- choosing ---------------------------------------------------------------------------- */

static void count_diversity(struct overlay *o)
{
    uint32_t n_owners = 0, n_subnets = 0;

    if (!o->is_dirty)
        return;
    for (uint32_t i = 0; i < o->n_known; i++) {
        bool is_owner_new = true, is_subnet_new = true;
        for (uint32_t k = 0; k < i; k++) {
            is_owner_new &= !key_equal(&o->known[i].owner, &o->known[k].owner);
            is_subnet_new &= o->known[i].subnet != o->known[k].subnet;
        }
        n_owners += is_owner_new;
        n_subnets += is_subnet_new;
    }
    o->is_diverse_owner = n_owners >= OVERLAY_DIVERSE;
    o->is_diverse_subnet = n_subnets >= OVERLAY_DIVERSE;
    o->is_dirty = false;
}

bool known_is_crowded(struct overlay *o, const struct public_key *owner, uint64_t subnet,
                      bool is_chosen)
{
    uint32_t n_owner = 0, n_subnet = 0;

    count_diversity(o);
    for (uint32_t i = 0; i < o->n_active; i++) {
        const struct active *a = &o->active[i];
        if (a->is_chosen != is_chosen)
            continue;
        n_owner += key_equal(&a->owner, owner);
        n_subnet += a->subnet == subnet;
    }
    return (o->is_diverse_owner && n_owner >= OVERLAY_SAME) ||
           (o->is_diverse_subnet && n_subnet >= OVERLAY_SAME);
}

/* 0: cannot be dialled now; else the higher the better. */
static unsigned worth_of(struct overlay *o, const struct known *k, int64_t now_ms)
{
    if (!k->endpoint[0] || k->again_ms > now_ms || key_equal(&k->key, &o->opt.self) ||
        active_find(o, &k->key))
        return 0;
    return 1 + 2u * k->is_assigned + !known_is_crowded(o, &k->owner, k->subnet, true);
}

struct known *known_choose(struct overlay *o, bool wants_seed, int64_t now_ms)
{
    struct known *best = NULL;
    unsigned worth = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_known; i++) {
        struct known *k = &o->known[i];
        unsigned w = k->is_seed == wants_seed ? worth_of(o, k, now_ms) : 0;
        if (w == 0 || w < worth)
            continue;
        n = w > worth ? 1 : n + 1;
        worth = w;
        if (rng_u32(&o->rng) % n == 0)
            best = k;
    }
    return best;
}

int64_t known_again_ms(const struct overlay *o, int64_t now_ms)
{
    int64_t first = OVERLAY_NEVER;

    for (uint32_t i = 0; i < o->n_known; i++)
        if (o->known[i].again_ms > now_ms && o->known[i].again_ms < first)
            first = o->known[i].again_ms;
    return first;
}
