#include "shardcast/shard_store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "proto/digest.h"
#include "proto/merkle.h"

#define DEFAULT_MAX_BYTES ((uint64_t)64 << 30)
#define SIGNED_MAP_BYTES  ((uint64_t)4 << 30) /* sparse: 2 MiB for each of 2,000 versions */
#define SHARDS_PER_TXN    32u                 /* dirty pages stay in memory until the commit */
#define DROPS_PER_TXN     256u
#define FORMAT_VERSION    1u

enum { SHARDS_BYTES, SHARDS_MANIFESTS, SHARDS_PINS, SHARDS_TURNS };
enum { SIGNED_MANIFESTS, SIGNED_PROOFS };

struct shard_store {
    struct db *shards;     /* owned: not synced */
    struct db *signed_too; /* owned: synced */
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
    static const char *const tables[] = {"shards", "manifests", "pins", "turns", NULL};
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

static enum status open_signed(struct db **out, const char *dir,
                               const struct shard_store_options *opt, struct err *e)
{
    static const char *const tables[] = {"manifests", "proofs", NULL};
    struct db_options o = {
        .magic = "muster/signed",
        .version = FORMAT_VERSION,
        .tables = tables,
        .map_bytes = SIGNED_MAP_BYTES,
        .read_only = opt->read_only,
    };

    return db_open(out, dir, &o, e);
}

enum status shard_store_open(struct shard_store **out, const char *dir,
                             const struct shard_store_options *opt, struct err *e)
{
    static const struct shard_store_options defaults = {0};
    struct shard_store *s = xcalloc(1, sizeof(*s));
    char *shards = file_join(dir, "shards"), *signed_too = file_join(dir, "signed");
    enum status st;

    *out = NULL;
    if (!opt)
        opt = &defaults;
    st = open_shards(&s->shards, shards, opt, e);
    if (st)
        goto out;
    st = open_signed(&s->signed_too, signed_too, opt, e);
    if (st)
        goto out;
    *out = s;
    s = NULL;
out:
    shard_store_close(&s);
    free(shards);
    free(signed_too);
    return st;
}

void shard_store_close(struct shard_store **s)
{
    if (!*s)
        return;
    db_close(&(*s)->shards);
    db_close(&(*s)->signed_too);
    free(*s);
    *s = NULL;
}

/* ---- shards ------------------------------------------------------------------------------ */

static enum status put_checked(struct db_txn *t, const struct digest *digest, struct bytes data,
                               struct err *e)
{
    struct bytes old;
    enum status st = db_get(t, SHARDS_BYTES, BYTES_OF(digest->b), &old, e);

    if (st != ERR_NOT_FOUND)
        return st;
    return db_put(t, SHARDS_BYTES, BYTES_OF(digest->b), data, e);
}

enum status shard_store_put(struct shard_store *s, const struct digest *digest,
                            struct bytes data, struct err *e)
{
    struct digest found;

    digest_of(&found, data);
    if (!digest_equal(&found, digest))
        return err_set(e, ERR_DIGEST, "the shard's bytes do not hash to its name");
    return shard_store_put_hashed(s, digest, data, e);
}

enum status shard_store_put_hashed(struct shard_store *s, const struct digest *digest,
                                   struct bytes data, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st;

    if (data.len == 0 || data.len > SHARD_BYTES)
        return err_set(e, ERR_INVALID, "a shard of %zu bytes, not 1..%u", data.len,
                       SHARD_BYTES);
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
                             struct buf *digests, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->shards, true, e);

    for (size_t i = from; !st && i < to; i++) {
        size_t at = i * SHARD_BYTES, left = file.len - at;
        struct bytes data = bytes_slice(file, at, left < SHARD_BYTES ? left : SHARD_BYTES);
        struct digest d;
        digest_of(&d, data);
        st = put_checked(t, &d, data, e);
        if (digests)
            buf_append(digests, BYTES_OF(d.b));
    }
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

enum status shard_store_put_file(struct shard_store *s, struct bytes file, struct buf *digests,
                                 struct err *e)
{
    size_t n = file.len / SHARD_BYTES + (file.len % SHARD_BYTES != 0);
    enum status st = OK;

    for (size_t i = 0; !st && i < n; i += SHARDS_PER_TXN)
        st = put_range(s, file, i, i + SHARDS_PER_TXN < n ? i + SHARDS_PER_TXN : n, digests, e);
    return !st && digests ? buf_status(digests, e) : st;
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
        st = db_get(v->txn, SHARDS_BYTES, BYTES_OF(digest->b), &v->data, e);
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

/* LMDB gives the pages that a transaction freed to the second one after it. This is the one
 * between, so that what was dropped makes room at once. */
static enum status turn_pages(struct shard_store *s, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->shards, true, e);

    if (!st)
        st = db_put(t, SHARDS_TURNS, BYTES_LIT("turn"), BYTES_LIT("x"), e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
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
            st = db_del(t, SHARDS_BYTES, BYTES_OF(digest[i].b), e);
        if (st == ERR_NOT_FOUND)
            st = OK;
        if (!st && (i + 1) % DROPS_PER_TXN == 0)
            st = db_commit(&t, e);
    }
    if (!st && t)
        st = db_commit(&t, e);
    db_abort(&t);
    return st || n == 0 ? st : turn_pages(s, e);
}

/* ---- manifests --------------------------------------------------------------------------- */

static enum status write_one(struct db *d, unsigned table, int64_t version, struct bytes value,
                             struct err *e)
{
    CHECK(version >= 0);
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, true, e);

    if (!st)
        st = db_put(t, table, BYTES_OF(k.b), value, e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

static bool is_in(struct db *d, unsigned table, int64_t version)
{
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    struct bytes value;
    bool found =
        !db_begin(&t, d, false, NULL) && !db_get(t, table, BYTES_OF(k.b), &value, NULL);

    db_abort(&t);
    return found;
}

/* Looks before it writes: an absent key costs no transaction, and no sync. */
static enum status delete_one(struct db *d, unsigned table, int64_t version, struct err *e)
{
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    enum status st;

    if (!is_in(d, table, version))
        return OK;
    st = db_begin(&t, d, true, e);
    if (!st)
        st = db_del(t, table, BYTES_OF(k.b), e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

enum status shard_store_keep(struct shard_store *s, int64_t version, struct bytes envelope,
                             struct err *e)
{
    return write_one(s->shards, SHARDS_MANIFESTS, version, envelope, e);
}

enum status shard_store_publish(struct shard_store *s, int64_t version, struct bytes envelope,
                                struct err *e)
{
    enum status st = write_one(s->signed_too, SIGNED_MANIFESTS, version, envelope, e);

    return st ? st : shard_store_keep(s, version, envelope, e);
}

enum status shard_store_forget(struct shard_store *s, int64_t version, struct err *e)
{
    enum status st = delete_one(s->shards, SHARDS_MANIFESTS, version, e);

    return st ? st : delete_one(s->signed_too, SIGNED_MANIFESTS, version, e);
}

enum status shard_store_pin(struct shard_store *s, int64_t version, bool is_pinned,
                            struct err *e)
{
    if (is_pinned)
        return write_one(s->shards, SHARDS_PINS, version, BYTES_LIT("pin"), e);
    return delete_one(s->shards, SHARDS_PINS, version, e);
}

enum status shard_store_proof(struct shard_store *s, int64_t version, struct bytes both,
                              struct err *e)
{
    return write_one(s->signed_too, SIGNED_PROOFS, version, both, e);
}

static enum status append_from(struct db *d, unsigned table, int64_t version, struct buf *out,
                               struct err *e)
{
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    struct bytes envelope;
    enum status st = db_begin(&t, d, false, e);

    if (!st)
        st = db_get(t, table, BYTES_OF(k.b), &envelope, e);
    if (!st) {
        buf_append(out, envelope);
        st = buf_status(out, e);
    }
    db_abort(&t);
    return st;
}

enum status shard_store_manifest(struct shard_store *s, int64_t version, struct buf *out,
                                 struct err *e)
{
    enum status st = append_from(s->shards, SHARDS_MANIFESTS, version, out, e);

    if (st == ERR_NOT_FOUND)
        st = append_from(s->signed_too, SIGNED_MANIFESTS, version, out, e);
    if (st == ERR_NOT_FOUND)
        err_set(e, st, "the manifest of version %" PRId64 " is not here", version);
    return st;
}

struct each {
    struct shard_store *except; /* versions in its table of manifests were visited; or NULL */
    shard_visit *fn;
    shard_pin_visit *pin_fn;
    void *arg;
};

static enum status visit(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;

    if (key.len != 8)
        return err_set(e, ERR_CORRUPT, "a table of versions has a key of %zu bytes", key.len);
    int64_t version = (int64_t)db_key_read_u64(key);
    if (v->except && is_in(v->except->shards, SHARDS_MANIFESTS, version))
        return OK;
    if (v->fn)
        return v->fn(v->arg, version, value, e);
    v->pin_fn(v->arg, version);
    return OK;
}

static enum status visit_table(struct db *d, unsigned table, struct each *v, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, false, e);

    if (!st)
        st = db_each(t, table, (struct bytes){0}, visit, v, e);
    db_abort(&t);
    return st;
}

enum status shard_store_each(struct shard_store *s, shard_visit *fn, void *arg, struct err *e)
{
    struct each v = {.fn = fn, .arg = arg};
    enum status st = visit_table(s->shards, SHARDS_MANIFESTS, &v, e);

    v.except = s;
    return st ? st : visit_table(s->signed_too, SIGNED_MANIFESTS, &v, e);
}

enum status shard_store_pins(struct shard_store *s, shard_pin_visit *fn, void *arg,
                             struct err *e)
{
    struct each v = {.pin_fn = fn, .arg = arg};

    return visit_table(s->shards, SHARDS_PINS, &v, e);
}

enum status shard_store_counts(struct shard_store *s, uint64_t *shards, uint64_t *manifests,
                               uint64_t *proofs, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, s->shards, false, e);

    if (!st)
        st = db_count(t, SHARDS_BYTES, shards, e);
    if (!st)
        st = db_count(t, SHARDS_MANIFESTS, manifests, e);
    db_abort(&t);
    if (!st)
        st = db_begin(&t, s->signed_too, false, e);
    if (!st)
        st = db_count(t, SIGNED_PROOFS, proofs, e);
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
