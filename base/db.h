/*
 * base/db.h - an LMDB environment with named tables of bytes -> bytes
 *
 * One writer thread per environment; a write transaction is one state change, durable when
 * db_commit returns OK. Keys are at most 511 bytes. Keys that are numbers are big-endian
 * (db_key_u64), so that iteration runs in number order.
 *
 * On disk:  a directory with data.mdb; table "format" holds the magic and version given at open;
 *           others are refused with ERR_UNSUPPORTED, a directory that is no environment of ours
 *           with ERR_CORRUPT. So are files whose pages do not hang together (base/db_pages.h):
 *           opening reads every page but those of long values.
 * Failure:  ERR_FULL when the disk or the map is full: the transaction is aborted and nothing of
 *           it is kept; the environment stays usable.
 * Threads:  a struct db may be shared for reading; a db_txn belongs to the thread that began it.
 */
#ifndef BASE_DB_H
#define BASE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

struct db;
struct db_txn;

#define DB_TABLES_MAX 16

struct db_options {
    const char *magic;         /* what these files are: "muster/ledger" */
    uint32_t version;          /* of the format */
    const char *const *tables; /* NULL-terminated names; created when missing */
    uint64_t map_bytes;        /* ceiling of the file; sparse */
    bool read_only;            /* ERR_NOT_FOUND if it does not exist */
    bool no_sync;              /* for what can be fetched again: do not wait for the disk */
};

/* Tables are addressed by their index in opt->tables. */
MUST_USE enum status db_open(struct db **out, const char *dir, const struct db_options *opt,
                             struct err *e);
void db_close(struct db **d);

MUST_USE enum status db_begin(struct db_txn **out, struct db *d, bool write, struct err *e);
MUST_USE enum status db_commit(struct db_txn **t, struct err *e);
void db_abort(struct db_txn **t); /* also how a read transaction ends; NULL is fine */

MUST_USE enum status db_put(struct db_txn *t, unsigned table, struct bytes key,
                            struct bytes value, struct err *e);
/* *value is lent until the transaction ends or writes, and may start at any address: copy before
 * reading it as anything wider than bytes. ERR_NOT_FOUND is ordinary (e untouched). */
MUST_USE enum status db_get(struct db_txn *t, unsigned table, struct bytes key,
                            struct bytes *value, struct err *e);
MUST_USE enum status db_del(struct db_txn *t, unsigned table, struct bytes key, struct err *e);

/* Calls fn for each pair with key >= from (from.len == 0: all) in key order until it returns
 * other than OK, which is then returned, except ERR_NOT_FOUND, which means "enough". */
typedef enum status db_visit(void *arg, struct bytes key, struct bytes value, struct err *e);
MUST_USE enum status db_each(struct db_txn *t, unsigned table, struct bytes from, db_visit *fn,
                             void *arg, struct err *e);
/* The greatest key of a table, or ERR_NOT_FOUND. */
MUST_USE enum status db_last(struct db_txn *t, unsigned table, struct bytes *key,
                             struct bytes *value, struct err *e);
MUST_USE enum status db_count(struct db_txn *t, unsigned table, uint64_t *n, struct err *e);

struct db_key8 {
    uint8_t b[8];
};
struct db_key8 db_key_u64(uint64_t n);      /* big-endian */
uint64_t db_key_read_u64(struct bytes key); /* CHECKs the length */

#endif
