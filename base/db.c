#include "base/db.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/db_pages.h"
#include "base/file.h"

#define FORMAT_TABLE     "format"
#define FORMAT_MAX_BYTES 256u
#define READERS_MAX      512u
#define CHECK_TRIES      100 /* a writer may overtake the check of a snapshot */

struct db {
    MDB_env *env;
    char *dir; /* owned */
    unsigned n_tables;
    bool read_only;
    MDB_dbi tables[DB_TABLES_MAX];
    const char *names[DB_TABLES_MAX]; /* borrowed from the options */
};

struct db_txn {
    struct db *db; /* borrowed */
    MDB_txn *txn;
    bool is_write;
    enum status failed; /* what the first failed write of this transaction said */
};

static enum status db_error(const struct db *d, int rc, const char *doing, struct err *e)
{
    enum status st = ERR_IO;

    if (rc == EIO && file_disk_is_full(d->dir) /* which LMDB says of a short write */)
        rc = ENOSPC;
    switch (rc) {
    case MDB_MAP_FULL:
    case MDB_TXN_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG: st = ERR_FULL; break;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INCOMPATIBLE: st = ERR_CORRUPT; break;
    case MDB_VERSION_MISMATCH: st = ERR_UNSUPPORTED; break;
    case MDB_BAD_VALSIZE: st = ERR_INVALID; break;
    case ENOMEM: st = ERR_NO_MEMORY; break;
    default: break;
    }
    return err_set(e, st, "cannot %s database '%s': %s", doing, d->dir, mdb_strerror(rc));
}

static MDB_val val_of(struct bytes b)
{
    return (MDB_val){b.len, (void *)b.data}; /* LMDB does not write through it */
}

static struct bytes bytes_of(MDB_val v)
{
    return (struct bytes){v.mv_data, v.mv_size};
}

/* Opens table "format", or creates it in an environment that holds nothing yet. */
static enum status open_format(struct db *d, MDB_txn *txn, MDB_dbi *format, bool *is_new,
                               struct err *e)
{
    MDB_dbi root;
    MDB_stat stat;
    int rc = mdb_dbi_open(txn, FORMAT_TABLE, 0, format);

    *is_new = false;
    if (rc == 0)
        return OK;
    if (rc != MDB_NOTFOUND)
        return db_error(d, rc, "open", e);
    rc = mdb_dbi_open(txn, NULL, 0, &root);
    if (rc == 0)
        rc = mdb_stat(txn, root, &stat);
    if (rc)
        return db_error(d, rc, "open", e);
    if (stat.ms_entries || d->read_only)
        return err_set(e, ERR_CORRUPT, "'%s' is a database, but not one of muster's", d->dir);
    rc = mdb_dbi_open(txn, FORMAT_TABLE, MDB_CREATE, format);
    if (rc)
        return db_error(d, rc, "create", e);
    *is_new = true;
    return OK;
}

/* Holds the stored magic and version to those wanted, or stores them in a new environment. */
static enum status check_format(struct db *d, MDB_txn *txn, const struct db_options *opt,
                                struct err *e)
{
    MDB_val key = val_of(BYTES_LIT(FORMAT_TABLE)), value;
    struct buf want;
    struct reader r;
    struct bytes magic;
    uint32_t version;
    MDB_dbi format;
    bool is_new;
    enum status st;
    int rc;

    buf_init(&want, FORMAT_MAX_BYTES);
    st = open_format(d, txn, &format, &is_new, e);
    if (st)
        goto out;
    buf_put_u32(&want, opt->version);
    buf_append(&want, bytes_str(opt->magic));
    st = buf_status(&want, e);
    if (st)
        goto out;
    if (is_new) {
        value = val_of(buf_bytes(&want));
        rc = mdb_put(txn, format, &key, &value, 0);
        st = rc ? db_error(d, rc, "create", e) : OK;
        goto out;
    }
    rc = mdb_get(txn, format, &key, &value);
    if (rc) {
        st = err_set(e, ERR_CORRUPT, "database '%s' does not say what it is", d->dir);
        goto out;
    }
    r = reader_of(bytes_of(value));
    version = reader_u32(&r);
    magic = reader_bytes(&r, reader_left(&r));
    if (r.bad || !bytes_equal(magic, bytes_str(opt->magic)))
        st = err_set(e, ERR_UNSUPPORTED, "database '%s' is not of kind '%s' but '%.*s'", d->dir,
                     opt->magic, (int)(magic.len < 64 ? magic.len : 64),
                     magic.data ? (const char *)magic.data : "");
    else if (version != opt->version)
        st = err_set(e, ERR_UNSUPPORTED,
                     "database '%s' has version %u of format '%s', this program reads %u",
                     d->dir, version, opt->magic, opt->version);
out:
    buf_clear(&want);
    return st;
}

static enum status open_tables(struct db *d, const struct db_options *opt, struct err *e)
{
    MDB_txn *txn;
    enum status st;
    int rc = mdb_txn_begin(d->env, NULL, d->read_only ? MDB_RDONLY : 0, &txn);

    if (rc)
        return db_error(d, rc, "open", e);
    st = check_format(d, txn, opt, e);
    for (unsigned i = 0; !st && opt->tables[i]; i++) {
        CHECK(i < DB_TABLES_MAX && strcmp(opt->tables[i], FORMAT_TABLE) != 0);
        rc = mdb_dbi_open(txn, opt->tables[i], d->read_only ? 0 : MDB_CREATE, &d->tables[i]);
        if (rc == MDB_NOTFOUND)
            st = err_set(e, ERR_CORRUPT, "database '%s' has no table '%s'", d->dir,
                         opt->tables[i]);
        else if (rc)
            st = db_error(d, rc, "open", e);
        d->names[i] = opt->tables[i];
        d->n_tables = i + 1;
    }
    if (st) {
        mdb_txn_abort(txn);
        return st;
    }
    rc = mdb_txn_commit(txn); /* keeps the table handles of a reader, too */
    return rc ? db_error(d, rc, "open", e) : OK;
}

static enum status open_env(struct db *d, const struct db_options *opt, struct err *e)
{
    unsigned flags = MDB_NOTLS; /* a reader belongs to its transaction, not to a thread */
    int rc, dead;

    if (d->read_only)
        flags |= MDB_RDONLY;
    if (opt->no_sync)
        flags |= MDB_NOSYNC;
    rc = mdb_env_create(&d->env);
    if (rc)
        return db_error(d, rc, "open", e);
    rc = mdb_env_set_maxdbs(d->env, DB_TABLES_MAX + 1);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(d->env, READERS_MAX);
    if (rc == 0 && opt->map_bytes)
        rc = mdb_env_set_mapsize(d->env, (size_t)opt->map_bytes);
    if (rc == 0)
        rc = mdb_env_open(d->env, d->dir, flags, 0600);
    if (rc)
        return db_error(d, rc, "open", e);
    (void)mdb_reader_check(d->env, &dead); /* a killed reader would keep old pages for ever */
    return OK;
}

/* Before LMDB follows a pointer of the file. */
static enum status check_pages(const struct db *d, struct err *e)
{
    enum status st = ERR_NOT_FOUND;
    mdb_filehandle_t fd;
    MDB_txn *txn;
    int rc = mdb_env_get_fd(d->env, &fd);

    for (int i = 0; rc == 0 && st == ERR_NOT_FOUND && i < CHECK_TRIES; i++) {
        rc = mdb_txn_begin(d->env, NULL, MDB_RDONLY, &txn);
        if (rc)
            break;
        st = db_pages_check(fd, mdb_txn_id(txn), d->dir, e);
        mdb_txn_abort(txn);
    }
    if (rc)
        return db_error(d, rc, "open", e);
    return st == ERR_NOT_FOUND ? ERR_CORRUPT : st;
}

/* What LMDB is to open, where it is there: it would wait for a pipe. */
static enum status check_files(const struct db *d, struct err *e)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    enum status st = OK;
    struct stat sb;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !st; i++) {
        char *path = file_join(d->dir, names[i]);

        st = file_check_regular(path, e);
        if (st == ERR_NOT_FOUND)
            st = i == 0 && d->read_only ? err_set(e, st, "there is no database in '%s'", d->dir)
                                        : OK;
        if (!st && i == 0 && d->read_only && !stat(path, &sb) && sb.st_size == 0)
            st = err_set(e, ERR_CORRUPT, "the database in '%s' is empty: nothing was written",
                         d->dir);
        free(path);
    }
    return st;
}

enum status db_open(struct db **out, const char *dir, const struct db_options *opt,
                    struct err *e)
{
    struct db *d = xcalloc(1, sizeof(*d));
    enum status st = OK;

    *out = NULL;
    d->dir = xstrdup(dir);
    d->read_only = opt->read_only;
    if (!d->read_only)
        st = file_mkdirs(dir, 0700, e);
    if (!st)
        st = check_files(d, e);
    if (!st)
        st = open_env(d, opt, e);
    if (!st)
        st = check_pages(d, e);
    if (!st)
        st = open_tables(d, opt, e);
    if (st)
        db_close(&d);
    *out = d;
    return st;
}

void db_close(struct db **dp)
{
    struct db *d = *dp;

    if (!d)
        return;
    if (d->env)
        mdb_env_close(d->env);
    free(d->dir);
    free(d);
    *dp = NULL;
}

enum status db_begin(struct db_txn **out, struct db *d, bool write, struct err *e)
{
    struct db_txn *t;
    MDB_txn *txn;
    int rc;

    *out = NULL;
    if (write && d->read_only)
        return err_set(e, ERR_INVALID, "database '%s' is open for reading only", d->dir);
    rc = mdb_txn_begin(d->env, NULL, write ? 0 : MDB_RDONLY, &txn);
    if (rc)
        return db_error(d, rc, write ? "write to" : "read", e);
    t = xcalloc(1, sizeof(*t));
    t->db = d;
    t->txn = txn;
    t->is_write = write;
    *out = t;
    return OK;
}

enum status db_commit(struct db_txn **tp, struct err *e)
{
    struct db_txn *t = *tp;
    enum status st;
    int rc;

    CHECK(t && t->is_write);
    if (t->failed) {
        st = err_set(e, t->failed, "cannot write to database '%s': an earlier write failed: %s",
                     t->db->dir, status_text(t->failed));
        db_abort(tp);
        return st;
    }
    rc = mdb_txn_commit(t->txn); /* frees the LMDB transaction whatever it answers */
    st = rc ? db_error(t->db, rc, "write to", e) : OK;
    free(t);
    *tp = NULL;
    return st;
}

void db_abort(struct db_txn **tp)
{
    struct db_txn *t = *tp;

    if (!t)
        return;
    mdb_txn_abort(t->txn);
    free(t);
    *tp = NULL;
}

static MDB_dbi table_of(const struct db_txn *t, unsigned table)
{
    CHECK(table < t->db->n_tables);
    return t->db->tables[table];
}

/* LMDB would refuse these too, but could not name the table. */
static enum status check_key(const struct db_txn *t, unsigned table, struct bytes key,
                             struct err *e)
{
    size_t max = (size_t)mdb_env_get_maxkeysize(t->db->env);

    if (key.len == 0 || key.len > max)
        return err_set(e, ERR_INVALID, "a key of table '%s' has %zu bytes, not 1 to %zu",
                       t->db->names[table], key.len, max);
    return OK;
}

enum status db_put(struct db_txn *t, unsigned table, struct bytes key, struct bytes value,
                   struct err *e)
{
    MDB_dbi dbi = table_of(t, table);
    MDB_val k = val_of(key), v = val_of(value);
    enum status st = check_key(t, table, key, e);
    int rc;

    CHECK(t->is_write);
    if (st)
        return st;
    if (value.len > UINT32_MAX)
        return err_set(e, ERR_INVALID,
                       "a value of table '%s' has %zu bytes, more than 2^32 - 1",
                       t->db->names[table], value.len);
    rc = mdb_put(t->txn, dbi, &k, &v, 0);
    if (rc == 0)
        return OK;
    st = t->failed ? t->failed : db_error(t->db, rc, "write to", e);
    if (!t->failed)
        t->failed = st;
    else
        err_set(e, st, "cannot write to database '%s': an earlier write failed", t->db->dir);
    return st;
}

enum status db_get(struct db_txn *t, unsigned table, struct bytes key, struct bytes *value,
                   struct err *e)
{
    MDB_dbi dbi = table_of(t, table);
    MDB_val k = val_of(key), v;
    enum status st = check_key(t, table, key, e);
    int rc;

    *value = (struct bytes){NULL, 0};
    if (st)
        return st;
    rc = mdb_get(t->txn, dbi, &k, &v);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc)
        return db_error(t->db, rc, "read", e);
    *value = bytes_of(v);
    return OK;
}

enum status db_del(struct db_txn *t, unsigned table, struct bytes key, struct err *e)
{
    MDB_dbi dbi = table_of(t, table);
    MDB_val k = val_of(key);
    enum status st = check_key(t, table, key, e);
    int rc;

    CHECK(t->is_write);
    if (st)
        return st;
    rc = mdb_del(t->txn, dbi, &k, NULL);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc) {
        st = db_error(t->db, rc, "write to", e);
        t->failed = t->failed ? t->failed : st;
        return t->failed;
    }
    return OK;
}

enum status db_each(struct db_txn *t, unsigned table, struct bytes from, db_visit *fn,
                    void *arg, struct err *e)
{
    MDB_dbi dbi = table_of(t, table);
    MDB_cursor *c;
    MDB_val k = val_of(from), v;
    enum status st = OK;
    int rc = mdb_cursor_open(t->txn, dbi, &c);

    if (rc)
        return db_error(t->db, rc, "read", e);
    rc = mdb_cursor_get(c, &k, &v, from.len ? MDB_SET_RANGE : MDB_FIRST);
    while (rc == 0) {
        st = fn(arg, bytes_of(k), bytes_of(v), e);
        if (st)
            break;
        rc = mdb_cursor_get(c, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(c);
    if (st)
        return st == ERR_NOT_FOUND ? OK : st;
    return rc == MDB_NOTFOUND ? OK : db_error(t->db, rc, "read", e);
}

enum status db_last(struct db_txn *t, unsigned table, struct bytes *key, struct bytes *value,
                    struct err *e)
{
    MDB_dbi dbi = table_of(t, table);
    MDB_cursor *c;
    MDB_val k, v;
    int rc = mdb_cursor_open(t->txn, dbi, &c);

    *key = *value = (struct bytes){NULL, 0};
    if (rc)
        return db_error(t->db, rc, "read", e);
    rc = mdb_cursor_get(c, &k, &v, MDB_LAST);
    mdb_cursor_close(c);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc)
        return db_error(t->db, rc, "read", e);
    *key = bytes_of(k);
    *value = bytes_of(v);
    return OK;
}

enum status db_count(struct db_txn *t, unsigned table, uint64_t *n, struct err *e)
{
    MDB_stat stat;
    int rc = mdb_stat(t->txn, table_of(t, table), &stat);

    *n = 0;
    if (rc)
        return db_error(t->db, rc, "read", e);
    *n = stat.ms_entries;
    return OK;
}

struct db_key8 db_key_u64(uint64_t n)
{
    struct db_key8 k;

    for (int i = 0; i < 8; i++)
        k.b[i] = (uint8_t)(n >> (56 - 8 * i));
    return k;
}

uint64_t db_key_read_u64(struct bytes key)
{
    uint64_t n = 0;

    CHECK(key.len == 8);
    for (int i = 0; i < 8; i++)
        n = n << 8 | key.data[i];
    return n;
}
