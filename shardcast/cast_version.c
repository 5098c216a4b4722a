#include "shardcast/cast_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/merkle.h"

/* ---- the manifest ------------------------------------------------------------------------ */

static enum status check_numbers(const struct msg_manifest *m, struct err *e)
{
    struct digest root;
    uint64_t n = m->shards.len / DIGEST_BYTES;

    if (m->shard_bytes != SHARD_BYTES)
        return err_set(e, ERR_UNSUPPORTED, "manifest: shards of %u bytes, not %u",
                       m->shard_bytes, SHARD_BYTES);
    if (m->file_bytes == 0 || (m->file_bytes - 1) / SHARD_BYTES + 1 != n)
        return err_set(e, ERR_MALFORMED, "manifest: %llu shards do not make %llu bytes",
                       (unsigned long long)n, (unsigned long long)m->file_bytes);
    merkle_root_of_digests(&root, m->shards);
    if (!digest_equal(&root, &m->weights))
        return err_set(e, ERR_DIGEST, "manifest: the root is not that of the shards");
    return OK;
}

enum status cast_manifest_check(struct bytes envelope, const struct digest *run,
                                const struct public_key *trainer, struct msg_envelope *env,
                                struct msg_manifest *m, struct err *e)
{
    enum status st = msg_envelope_decode(env, envelope, e);

    if (st)
        return st;
    if (env->kind != MSG_PUBLISH)
        return err_set(e, ERR_MALFORMED, "manifest: the envelope is no PUBLISH");
    if (run && !digest_equal(&env->run, run))
        return err_set(e, ERR_DENIED, "manifest: of another run");
    if (trainer && !key_equal(&env->signer, trainer))
        return err_set(e, ERR_DENIED, "manifest: not signed by the trainer");
    st = msg_envelope_verify(env, e);
    if (st)
        return st;
    st = msg_manifest_decode(m, env->body, e);
    if (st)
        return st;
    return check_numbers(m, e);
}

/* ---- finding ----------------------------------------------------------------------------- */

struct version *version_find(const struct cast_state *s, int64_t number)
{
    for (size_t i = 0; i < s->n_versions; i++)
        if (s->version[i]->number == number)
            return s->version[i];
    return NULL;
}

struct version *version_by_weights(const struct cast_state *s, const struct digest *weights)
{
    struct version *best = NULL;

    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        if (digest_equal(&v->weights, weights) && (!best || v->n_have > best->n_have))
            best = v;
    }
    return best;
}

size_t version_places(const struct version *v, const struct digest *d, size_t *first)
{
    size_t lo = 0, hi = v->n_shards, n = 0;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(v->shard[v->order[mid]].b, d->b, DIGEST_BYTES) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *first = lo;
    while (lo + n < v->n_shards && digest_equal(&v->shard[v->order[lo + n]], d))
        n++;
    return n;
}

int64_t version_newest_known(const struct cast_state *s)
{
    return s->n_versions ? s->version[s->n_versions - 1]->number : -1;
}

bool version_is_here(const struct cast_state *s, const struct digest *shard)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        const struct version *v = s->version[i];
        size_t first;
        if (version_places(v, shard, &first) && bit_get(v->have, v->order[first]))
            return true;
    }
    return false;
}

bool version_is_missing(const struct cast_state *s, const struct digest *shard)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        const struct version *v = s->version[i];
        size_t first;
        if (version_places(v, shard, &first) && !bit_get(v->have, v->order[first]))
            return true;
    }
    return false;
}

/* ---- making and forgetting --------------------------------------------------------------- */

void version_free(struct version *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < CAST_PEERS_MAX; i++)
        free(v->theirs[i]);
    free(v->envelope);
    free(v->order);
    free(v->have);
    free(v->busy);
    free(v->copies);
    free(v);
}

struct sorted {
    struct digest d;
    uint32_t index;
};

static int compare_sorted(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    int c = memcmp(x->d.b, y->d.b, DIGEST_BYTES);

    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static enum status sort_shards(struct version *v, struct err *e)
{
    struct sorted *t = NULL;
    enum status st = alloc_array(&t, v->n_shards, sizeof(*t), "shard index", e);

    if (st)
        return st;
    for (uint32_t i = 0; i < v->n_shards; i++)
        t[i] = (struct sorted){v->shard[i], i};
    qsort(t, v->n_shards, sizeof(*t), compare_sorted);
    for (uint32_t i = 0; i < v->n_shards; i++)
        v->order[i] = t[i].index;
    free(t);
    return OK;
}

/* `m` lends from `envelope`; the version gets a copy, and points into that. */
static enum status version_new(struct version **out, struct bytes envelope,
                               const struct msg_envelope *env, const struct msg_manifest *m,
                               struct err *e)
{
    struct version *v = xcalloc(1, sizeof(*v));
    size_t n = m->shards.len / DIGEST_BYTES;
    enum status st = alloc_array(&v->envelope, envelope.len, 1, "manifest", e);

    if (!st)
        st = alloc_array(&v->order, n, sizeof(*v->order), "shard index", e);
    if (!st)
        st = alloc_array(&v->have, n / 8 + 1, 1, "shard map", e);
    if (!st)
        st = alloc_array(&v->busy, n / 8 + 1, 1, "shard map", e);
    if (!st)
        st = alloc_array(&v->copies, n, sizeof(*v->copies), "shard counts", e);
    if (st)
        goto out;
    memcpy(v->envelope, envelope.data, envelope.len);
    v->envelope_len = envelope.len;
    v->number = m->version;
    v->run = env->run;
    v->signer = env->signer;
    v->weights = m->weights;
    v->file_bytes = m->file_bytes;
    v->n_shards = (uint32_t)n;
    v->shard = (const struct digest *)(v->envelope + (m->shards.data - envelope.data));
    v->push_ms = NEVER_MS;
    digest_of(&v->body, env->body);
    st = sort_shards(v, e);
    if (st)
        goto out;
    *out = v;
    v = NULL;
out:
    version_free(v);
    return st;
}

void version_forget_peer(struct cast_state *s, uint32_t peer)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        v->knows[peer] = v->wants[peer] = false;
        if (!v->theirs[peer])
            continue;
        for (uint32_t k = 0; k < v->n_shards; k++)
            if (bit_get(v->theirs[peer], k))
                v->copies[k]--;
        free(v->theirs[peer]);
        v->theirs[peer] = NULL;
    }
}

/* The shards of `v` that no other version needs, each once. */
static void list_orphans(const struct cast_state *s, const struct version *v, struct buf *list)
{
    for (uint32_t k = 0; k < v->n_shards; k++) {
        const struct digest *d = &v->shard[v->order[k]];
        bool is_needed = k > 0 && digest_equal(d, &v->shard[v->order[k - 1]]);
        for (size_t i = 0; i < s->n_versions && !is_needed; i++) {
            size_t first;
            is_needed = s->version[i] != v && version_places(s->version[i], d, &first) > 0;
        }
        if (!is_needed)
            buf_append(list, BYTES_OF(d->b));
    }
}

void version_forget(struct cast_state *s, struct version *v, struct cast_out *out)
{
    struct buf orphans;
    size_t at = 0;

    buf_init(&orphans, (size_t)MSG_MAX_SHARDS * DIGEST_BYTES);
    list_orphans(s, v, &orphans);
    struct cast_act *a = cast_out_add(out, CAST_FORGET, buf_bytes(&orphans));
    a->version = v->number;
    buf_clear(&orphans);
    while (s->version[at] != v)
        at++;
    for (; at + 1 < s->n_versions; at++)
        s->version[at] = s->version[at + 1];
    s->n_versions--;
    version_free(v);
}

void version_trim(struct cast_state *s, struct cast_out *out)
{
    int64_t newest = version_newest_known(s);
    uint32_t n_complete = 0;

    for (size_t i = s->n_versions; i-- > 0;) {
        struct version *v = s->version[i];
        bool is_old = v->is_complete ? n_complete >= s->opt.keep
                                     : v->number <= newest - (int64_t)s->opt.keep;
        n_complete += v->is_complete;
        if (is_old && !v->is_pinned)
            version_forget(s, v, out);
    }
}

/* ---- learning and gaining ---------------------------------------------------------------- */

static bool is_pinned(const struct cast_state *s, int64_t number)
{
    for (size_t i = 0; i < s->n_pins; i++)
        if (s->pin[i] == number)
            return true;
    return false;
}

static void mark_complete(struct version *v, struct cast_out *out)
{
    v->is_complete = true;
    for (size_t i = 0; i < CAST_PEERS_MAX; i++) {
        free(v->theirs[i]);
        v->theirs[i] = NULL;
    }
    memset(v->copies, 0, (size_t)v->n_shards * sizeof(*v->copies));
    cast_out_add(out, CAST_COMPLETE, (struct bytes){0})->version = v->number;
}

static void insert(struct cast_state *s, struct version *v)
{
    size_t at = s->n_versions++;

    for (; at > 0 && s->version[at - 1]->number > v->number; at--)
        s->version[at] = s->version[at - 1];
    s->version[at] = v;
}

static void find_on_disk(struct cast_state *s, struct version *v)
{
    for (uint32_t k = 0; k < v->n_shards; k++)
        if (version_is_here(s, &v->shard[k]) ||
            (s->opt.has && s->opt.has(s->opt.arg, &v->shard[k]))) {
            bit_set(v->have, k);
            v->n_have++;
        }
}

static void report_equivocation(struct version *v, struct bytes other, struct cast_out *out)
{
    struct buf both;

    if (v->is_equivocated)
        return;
    v->is_equivocated = true;
    buf_init(&both, (size_t)2 * MSG_MAX_BYTES);
    buf_put_blob(&both, (struct bytes){v->envelope, v->envelope_len});
    buf_put_blob(&both, other);
    cast_out_add(out, CAST_EQUIVOCATED, buf_bytes(&both))->version = v->number;
    buf_clear(&both);
}

bool cast_state_contradicts(const struct cast_state *s, const struct msg_envelope *env,
                            const struct msg_manifest *m)
{
    const struct version *v = version_find(s, m->version);
    struct digest body;

    if (!v)
        return false;
    digest_of(&body, env->body);
    return !digest_equal(&body, &v->body);
}

bool cast_state_is_past(const struct cast_state *s, int64_t version)
{
    return !version_find(s, version) && !is_pinned(s, version) &&
           version <= version_newest_known(s) - (int64_t)s->opt.keep;
}

enum status version_learn(struct cast_state *s, struct bytes envelope,
                          const struct msg_envelope *env, const struct msg_manifest *m,
                          struct version **out_v, bool *is_new, struct cast_out *out,
                          struct err *e)
{
    struct version *v = version_find(s, m->version);
    enum status st;

    *is_new = false;
    *out_v = v;
    if (v) {
        if (!cast_state_contradicts(s, env, m))
            return OK;
        if (key_equal(&v->signer, &env->signer))
            report_equivocation(v, envelope, out);
        return err_set(e, ERR_EXISTS, "version %lld has another content already",
                       (long long)m->version);
    }
    if (cast_state_is_past(s, m->version))
        return err_set(e, ERR_FULL, "version %lld is older than those kept",
                       (long long)m->version);
    if (s->n_versions == CAST_VERSIONS_MAX)
        return err_set(e, ERR_FULL, "%u versions are kept already", CAST_VERSIONS_MAX);
    st = version_new(&v, envelope, env, m, e);
    if (st)
        return st;
    v->is_pinned = is_pinned(s, m->version);
    find_on_disk(s, v);
    insert(s, v);
    struct cast_act *a = cast_out_add(out, CAST_KEEP, envelope);
    a->version = v->number;
    if (v->n_have == v->n_shards)
        mark_complete(v, out);
    *out_v = v;
    *is_new = true;
    return OK;
}

void version_gained(struct cast_state *s, const struct digest *shard, int64_t now_ms,
                    struct cast_out *out)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        size_t first, n = version_places(v, shard, &first);
        for (size_t k = first; k < first + n; k++) {
            if (bit_get(v->have, v->order[k]))
                continue;
            bit_set(v->have, v->order[k]);
            v->n_have++;
            v->n_news++;
            if (v->push_ms == NEVER_MS)
                v->push_ms = now_ms + HAVE_PUSH_MS;
        }
        if (n && !v->is_complete && v->n_have == v->n_shards) {
            mark_complete(v, out);
            v->push_ms = now_ms;
        }
    }
}
