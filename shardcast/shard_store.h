/*
 * shardcast/shard_store.h - the weight shards and manifests this node has on disk
 *
 * A shard is filed under the BLAKE2b-256 digest of its bytes, and under nothing else:
 *
 *   - a shard that is in the store is the right one: put refuses bytes that do not match;
 *   - a shard that did not change between two versions is kept, and fetched, once;
 *   - any peer may hand us a shard, for we never have to believe it.
 *
 * A manifest is filed under its version number: the trainer's PUBLISH envelope, as received.
 * It says which shards make up the version. Two envelopes that contradict each other are kept
 * as a proof.
 *
 * On disk:  two LMDB environments. DIR/shards (shards, manifests, pins) does not wait for the
 *           disk: what a crash of the machine takes can be fetched again, and shard_view_check
 *           finds what it spoilt. DIR/signed (what this node published, proofs) is synced at each
 *           write, and survives the machine's crash.
 * Failure:  ERR_FULL: the ceiling or the disk is reached; forget a version, then try again.
 * Threads:  views and reads from any thread; all that writes, from one.
 */
#ifndef SHARDCAST_SHARD_STORE_H
#define SHARDCAST_SHARD_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/db.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

struct shard_store;

struct shard_store_options {
    uint64_t max_bytes; /* ceiling of the shards' file; 0: 64 GiB */
    bool read_only;     /* for looking at the directory of a running node */
};

/* Creates what is missing below `dir`. A spoilt DIR/shards (a machine crash may leave one) is
 * emptied; a spoilt DIR/signed is ERR_CORRUPT. `opt` may be NULL. */
MUST_USE enum status shard_store_open(struct shard_store **out, const char *dir,
                                      const struct shard_store_options *opt, struct err *e);
void shard_store_close(struct shard_store **s); /* every view must be closed */

/* ---- shards ------------------------------------------------------------------------------ */

/* Files `data` under `digest`; filing what is there already is OK and writes nothing.
 * ERR_DIGEST: the bytes do not hash to `digest`, and nothing was stored: blame the sender.
 * ERR_INVALID: empty, or longer than SHARD_BYTES. */
MUST_USE enum status shard_store_put(struct shard_store *s, const struct digest *digest,
                                     struct bytes data, struct err *e);
/* The same for one whose digest the caller has just computed: it is not hashed again. */
MUST_USE enum status shard_store_put_hashed(struct shard_store *s, const struct digest *digest,
                                            struct bytes data, struct err *e);
/* A whole file, cut into shards of SHARD_BYTES. Appends their digests, 32 bytes each in order, to
 * `digests` (may be NULL). */
MUST_USE enum status shard_store_put_file(struct shard_store *s, struct bytes file,
                                          struct buf *digests, struct err *e);
bool shard_store_has(struct shard_store *s, const struct digest *digest);

/* A shard lent in place, straight from the memory map, until shard_view_close. Close it soon:
 * pages freed by forgetting are not reused while a view is open. */
struct shard_view {
    struct bytes data;
    struct db_txn *txn; /* private */
};
/* ERR_NOT_FOUND is an ordinary answer. */
MUST_USE enum status shard_view_open(struct shard_view *v, struct shard_store *s,
                                     const struct digest *digest, struct err *e);
void shard_view_close(struct shard_view *v);
/* Hashes the view again: ERR_DIGEST if the disk did not keep what was put. */
MUST_USE enum status shard_view_check(const struct shard_view *v, const struct digest *digest,
                                      struct err *e);
/* Forgets shards. OK also for those that are not there. */
MUST_USE enum status shard_store_drop(struct shard_store *s, const struct digest *digest,
                                      size_t n, struct err *e);

/* ---- manifests --------------------------------------------------------------------------- */

/* Files a manifest that came from a peer. */
MUST_USE enum status shard_store_keep(struct shard_store *s, int64_t version,
                                      struct bytes envelope, struct err *e);
/* Files one of our own: durable on OK, and then it may be announced. */
MUST_USE enum status shard_store_publish(struct shard_store *s, int64_t version,
                                         struct bytes envelope, struct err *e);
/* Forgets a manifest, wherever it is. OK also when it is not here. */
MUST_USE enum status shard_store_forget(struct shard_store *s, int64_t version, struct err *e);
/* Versions that retention leaves alone. */
MUST_USE enum status shard_store_pin(struct shard_store *s, int64_t version, bool is_pinned,
                                     struct err *e);
/* Two blobs (buf_put_blob), contradicting PUBLISH envelopes of one version: durable on OK. */
MUST_USE enum status shard_store_proof(struct shard_store *s, int64_t version,
                                       struct bytes both, struct err *e);

/* Appends the PUBLISH envelope of a version. ERR_NOT_FOUND. */
MUST_USE enum status shard_store_manifest(struct shard_store *s, int64_t version,
                                          struct buf *out, struct err *e);
/* Calls fn for each manifest, once a version; `envelope` is lent for the call. */
typedef enum status shard_visit(void *arg, int64_t version, struct bytes envelope,
                                struct err *e);
MUST_USE enum status shard_store_each(struct shard_store *s, shard_visit *fn, void *arg,
                                      struct err *e);
/* Calls fn for each pinned version; its manifest need not be here. */
typedef void shard_pin_visit(void *arg, int64_t version);
MUST_USE enum status shard_store_pins(struct shard_store *s, shard_pin_visit *fn, void *arg,
                                      struct err *e);
MUST_USE enum status shard_store_counts(struct shard_store *s, uint64_t *shards,
                                        uint64_t *manifests, uint64_t *proofs, struct err *e);

/* The whole file of a version, every shard hashed again and the root checked: appended to `out`,
 * whose ceiling bounds it. ERR_NOT_FOUND: manifest or a shard is missing. ERR_DIGEST: the disk
 * spoilt a shard. Any thread. */
MUST_USE enum status shard_store_read(struct shard_store *s, int64_t version, struct buf *out,
                                      struct err *e);

#endif
