#include "shardcast/shard_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "proto/digest.h"
#include "proto/merkle.h"

#define DEFAULT_MAX_BYTES  ((uint64_t)64 << 30)
#define MANIFEST_MAP_BYTES ((uint64_t)4 << 30) /* sparse: 2 MiB for each of 2,000 versions */
#define SHARDS_PER_TXN     32u                 /* dirty pages stay in memory until the commit */
#define FORMAT_VERSION     1u

enum { TABLE_SHARDS };
enum { TABLE_MANIFESTS, TABLE_PINS, TABLE_PROOFS };

struct shard_store {
    struct db *shards;    /* owned */
    struct db *manifests; /* owned */
};

/* ---- opening ----------------------------------------------------------------------------- */

static void unlink_in(const char *dir, const char *name)
{
    char *path = file_join(dir, name);

    (void)unlink(path); /* what cannot be removed fails again when the environment is opened */
    free(path);
}

static enum status open_shards(struct db **out, const char *dir,
                               const struct shard_store_options *opt, struct err *e)
{
    static const char *const tables[] = {"shards", NULL};
    struct db_options o = {
        .magic = "muster/shards",
        .version = FORMAT_VERSION,
        .tables = tables,
        .map_bytes = opt->max_bytes ? opt->max_bytes : DEFAULT_MAX_BYTES,
        .read_only = opt->read_only,
        .no_sync = true,
    };
    enum status st = db_open(out, dir, &o, e);

    if (st != ERR_CORRUPT || opt->read_only)
        return st;
    unlink_in(dir, "data.mdb");
    unlink_in(dir, "lock.mdb");
    return db_open(out, dir, &o, e);
}

static enum status open_manifests(struct db **out, const char *dir,
                                  const struct shard_store_options *opt, struct err *e)
{
    static const char *const tables[] = {"manifests", "pins", "proofs", NULL};
    struct db_options o = {
        .magic = "muster/manifests",
        .version = FORMAT_VERSION,
        .tables = tables,
        .map_bytes = MANIFEST_MAP_BYTES,
        .read_only = opt->read_only,
    };

    return db_open(out, dir, &o, e);
}

enum status shard_store_open(struct shard_store **out, const char *dir,
                             const struct shard_store_options *opt, struct err *e)
{
    static const struct shard_store_options defaults = {0};
    struct shard_store *s = xcalloc(1, sizeof(*s));
    char *shards = file_join(dir, "shards"), *manifests = file_join(dir, "manifests");
    enum status st;

    *out = NULL;
    if (!opt)
        opt = &defaults;
    st = open_shards(&s->shards, shards, opt, e);
    if (st)
        goto out;
    st = open_manifests(&s->manifests, manifests, opt, e);
    if (st)
        goto out;
    *out = s;
    s = NULL;
out:
    shard_store_close(&s);
    free(shards);
    free(manifests);
    return st;
}

void shard_store_close(struct shard_store **s)
{
    if (!*s)
        return;
    db_close(&(*s)->shards);
    db_close(&(*s)->manifests);
    free(*s);
    *s = NULL;
}

/* ---- shards ------------------------------------------------------------------------------ */

static enum status put_checked(struct db_txn *t, const struct digest *digest, struct bytes data,
                               struct err *e)
{
    struct bytes old;
    enum status st = db_get(t, TABLE_SHARDS, BYTES_OF(digest->b), &old, e);

    if (st != ERR_NOT_FOUND)
        return st;
    return db_put(t, TABLE_SHARDS, BYTES_OF(digest->b), data, e);
}

enum status shard_store_put(struct shard_store *s, const struct digest *digest, struct bytes data,
                            struct err *e)
{
    struct db_txn *t = NULL;
    struct digest found;
    enum status st;

    if (data.len == 0 || data.len > SHARD_BYTES)
        return err_set(e, ERR_INVALID, "a shard of %zu bytes, not 1..%u", data.len, SHARD_BYTES);
    digest_of(&found, data);
    if (!digest_equal(&found, digest))
        return err_set(e, ERR_DIGEST, "the shard's bytes do not hash to its name");
    if (shard_store_has(s, digest))
        return OK;
    st = db_begin(&t, s->shards, true, e);
    if (!st)
        st = put_checked(t, digest, data, e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

/* Shards [from, to) of the file, in one transaction. */
static enum status put_range(struct shard_store *s, struct bytes file, size_t from, size_t to,
                             struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->shards, true, e);

    for (size_t i = from; !st && i < to; i++) {
        size_t at = i * SHARD_BYTES, left = file.len - at;
        struct bytes data = bytes_slice(file, at, left < SHARD_BYTES ? left : SHARD_BYTES);
        struct digest d;
        digest_of(&d, data);
        st = put_checked(t, &d, data, e);
    }
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

enum status shard_store_put_file(struct shard_store *s, struct bytes file, struct err *e)
{
    size_t n = file.len / SHARD_BYTES + (file.len % SHARD_BYTES != 0);
    enum status st = OK;

    for (size_t i = 0; !st && i < n; i += SHARDS_PER_TXN)
        st = put_range(s, file, i, i + SHARDS_PER_TXN < n ? i + SHARDS_PER_TXN : n, e);
    return st;
}

bool shard_store_has(struct shard_store *s, const struct digest *digest)
{
    struct shard_view v;

    if (shard_view_open(&v, s, digest, NULL))
        return false;
    shard_view_close(&v);
    return true;
}

enum status shard_view_open(struct shard_view *v, struct shard_store *s,
                            const struct digest *digest, struct err *e)
{
    enum status st;

    *v = (struct shard_view){0};
    st = db_begin(&v->txn, s->shards, false, e);
    if (!st)
        st = db_get(v->txn, TABLE_SHARDS, BYTES_OF(digest->b), &v->data, e);
    if (st == ERR_NOT_FOUND)
        err_set(e, st, "the shard is not here");
    if (st)
        shard_view_close(v);
    return st;
}

void shard_view_close(struct shard_view *v)
{
    db_abort(&v->txn);
    *v = (struct shard_view){0};
}

enum status shard_view_check(const struct shard_view *v, const struct digest *digest,
                             struct err *e)
{
    struct digest found;

    digest_of(&found, v->data);
    if (!digest_equal(&found, digest))
        return err_set(e, ERR_DIGEST, "the disk gave a shard back changed");
    return OK;
}

enum status shard_store_drop(struct shard_store *s, const struct digest *digest, size_t n,
                             struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = OK;

    for (size_t i = 0; !st && i < n; i++) {
        if (!t)
            st = db_begin(&t, s->shards, true, e);
        if (!st)
            st = db_del(t, TABLE_SHARDS, BYTES_OF(digest[i].b), e);
        if (st == ERR_NOT_FOUND)
            st = OK;
        if (!st && (i + 1) % (8 * SHARDS_PER_TXN) == 0)
            st = db_commit(&t, e);
    }
    if (!st && t)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

/* ---- manifests --------------------------------------------------------------------------- */

static enum status write_note(struct db_txn *t, const struct shard_note *n, struct err *e)
{
    CHECK(n->version >= 0);
    struct db_key8 k = db_key_u64((uint64_t)n->version);
    struct bytes key = BYTES_OF(k.b);
    enum status st = OK;

    switch (n->kind) {
    case SHARD_NOTE_KEEP: return db_put(t, TABLE_MANIFESTS, key, n->value, e);
    case SHARD_NOTE_PIN: return db_put(t, TABLE_PINS, key, BYTES_LIT("pin"), e);
    case SHARD_NOTE_PROOF: return db_put(t, TABLE_PROOFS, key, n->value, e);
    case SHARD_NOTE_FORGET: st = db_del(t, TABLE_MANIFESTS, key, e); break;
    case SHARD_NOTE_UNPIN: st = db_del(t, TABLE_PINS, key, e); break;
    }
    return st == ERR_NOT_FOUND ? OK : st;
}

enum status shard_store_note(struct shard_store *s, const struct shard_note *note, size_t n,
                             struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->manifests, true, e);

    for (size_t i = 0; !st && i < n; i++)
        st = write_note(t, &note[i], e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

enum status shard_store_manifest(struct shard_store *s, int64_t version, struct buf *out,
                                 struct err *e)
{
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    struct bytes envelope;
    enum status st = db_begin(&t, s->manifests, false, e);

    if (!st)
        st = db_get(t, TABLE_MANIFESTS, BYTES_OF(k.b), &envelope, e);
    if (st == ERR_NOT_FOUND)
        err_set(e, st, "the manifest of version %" PRId64 " is not here", version);
    if (!st) {
        buf_append(out, envelope);
        st = buf_status(out, e);
    }
    db_abort(&t);
    return st;
}

struct each {
    struct db_txn *txn;
    shard_visit *fn;
    shard_pin_visit *pin_fn;
    void *arg;
};

static enum status visit_manifest(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;
    struct bytes pin;
    enum status st;

    if (key.len != 8)
        return err_set(e, ERR_CORRUPT, "the manifests' table has a key of %zu bytes", key.len);
    st = db_get(v->txn, TABLE_PINS, key, &pin, e);
    if (st && st != ERR_NOT_FOUND)
        return st;
    return v->fn(v->arg, (int64_t)db_key_read_u64(key), value, st == OK, e);
}

enum status shard_store_each(struct shard_store *s, shard_visit *fn, void *arg, struct err *e)
{
    struct each v = {.fn = fn, .arg = arg};
    enum status st = db_begin(&v.txn, s->manifests, false, e);

    if (!st)
        st = db_each(v.txn, TABLE_MANIFESTS, (struct bytes){0}, visit_manifest, &v, e);
    db_abort(&v.txn);
    return st;
}

static enum status visit_pin(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;

    (void)value;
    if (key.len != 8)
        return err_set(e, ERR_CORRUPT, "the pins' table has a key of %zu bytes", key.len);
    v->pin_fn(v->arg, (int64_t)db_key_read_u64(key));
    return OK;
}

enum status shard_store_pins(struct shard_store *s, shard_pin_visit *fn, void *arg,
                             struct err *e)
{
    struct each v = {.pin_fn = fn, .arg = arg};
    enum status st = db_begin(&v.txn, s->manifests, false, e);

    if (!st)
        st = db_each(v.txn, TABLE_PINS, (struct bytes){0}, visit_pin, &v, e);
    db_abort(&v.txn);
    return st;
}

enum status shard_store_counts(struct shard_store *s, uint64_t *shards, uint64_t *manifests,
                               uint64_t *proofs, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->shards, false, e);

    if (!st)
        st = db_count(t, TABLE_SHARDS, shards, e);
    db_abort(&t);
    if (!st)
        st = db_begin(&t, s->manifests, false, e);
    if (!st)
        st = db_count(t, TABLE_MANIFESTS, manifests, e);
    if (!st)
        st = db_count(t, TABLE_PROOFS, proofs, e);
    db_abort(&t);
    return st;
}

/* ---- whole versions ---------------------------------------------------------------------- */

static enum status read_shard(struct shard_store *s, const struct digest *d, struct buf *out,
                              struct err *e)
{
    struct shard_view v;
    enum status st = shard_view_open(&v, s, d, e);

    if (st)
        return st;
    st = shard_view_check(&v, d, e);
    if (!st) {
        buf_append(out, v.data);
        st = buf_status(out, e);
    }
    shard_view_close(&v);
    return st;
}

static enum status read_shards(struct shard_store *s, const struct msg_manifest *m,
                               struct buf *out, struct err *e)
{
    size_t start = out->len;
    struct digest root;
    enum status st = OK;

    merkle_root_of_digests(&root, m->shards);
    if (!digest_equal(&root, &m->weights))
        return err_set(e, ERR_DIGEST, "the manifest's root is not that of its shards");
    for (size_t i = 0; !st && i < m->shards.len / DIGEST_BYTES; i++)
        st = read_shard(s, (const struct digest *)(m->shards.data + i * DIGEST_BYTES), out, e);
    if (!st && out->len - start != m->file_bytes)
        st = err_set(e, ERR_DIGEST, "the shards make %zu bytes, not %" PRIu64, out->len - start,
                     m->file_bytes);
    return st;
}

enum status shard_store_read(struct shard_store *s, int64_t version, struct buf *out,
                             struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct buf envelope;
    enum status st;

    buf_init(&envelope, MSG_MAX_BYTES);
    st = shard_store_manifest(s, version, &envelope, e);
    if (!st)
        st = msg_envelope_decode(&env, buf_bytes(&envelope), e);
    if (!st)
        st = msg_manifest_decode(&m, env.body, e);
    if (!st)
        st = read_shards(s, &m, out, e);
    buf_clear(&envelope);
    return st ? err_prefix(e, st, "version %" PRId64, version) : OK;
}
