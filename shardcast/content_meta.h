/*
 * shardcast/content_meta.h - inside the content store: its LMDB environment, DIR/meta
 *
 *   contents   content -> shard size u32, total bytes u64, is_own u8
 *   manifests  content -> PUBLISH envelope          segments  content, number u32 -> envelope
 *   have       content -> bitmap of shards that are on the disk
 *   pins       version -> "pin"                     proofs    content -> two blobs
 *
 * A content as a key is version u64, kind u32, base + 1 u64, big-endian.
 *
 * Threads: as base/db.h. Every function that writes is one transaction, synced.
 */
#ifndef SHARDCAST_CONTENT_META_H
#define SHARDCAST_CONTENT_META_H

#include "base/db.h"
#include "shardcast/content_store.h"

enum { META_CONTENTS, META_MANIFESTS, META_SEGMENTS, META_HAVE, META_PINS, META_PROOFS };

struct content_row {
    uint32_t shard_bytes;
    uint64_t total_bytes; /* 0: not known */
    bool is_own;
};

MUST_USE enum status meta_open(struct db **out, const char *dir, bool read_only, struct err *e);

MUST_USE enum status meta_put_row(struct db *d, const struct content *c,
                                  const struct content_row *row, struct err *e);
/* The row, and the manifest that makes it one's own, in one transaction. */
MUST_USE enum status meta_put_manifest(struct db *d, const struct content *c,
                                       const struct content_row *row, struct bytes envelope,
                                       struct err *e);
MUST_USE enum status meta_put_segment(struct db *d, const struct content *c, uint32_t number,
                                      struct bytes envelope, struct err *e);
/* In META_HAVE or META_PROOFS. */
MUST_USE enum status meta_put(struct db *d, unsigned table, const struct content *c,
                              struct bytes value, struct err *e);
MUST_USE enum status meta_pin(struct db *d, int64_t version, bool is_pinned, struct err *e);
/* All but the proof. */
MUST_USE enum status meta_drop(struct db *d, const struct content *c, struct err *e);

/* Appends the value of META_MANIFESTS or META_HAVE. ERR_NOT_FOUND. */
MUST_USE enum status meta_get(struct db *d, unsigned table, const struct content *c,
                              struct buf *out, struct err *e);
MUST_USE enum status meta_get_segment(struct db *d, const struct content *c, uint32_t number,
                                      struct buf *out, struct err *e);
MUST_USE enum status meta_segments(struct db *d, const struct content *c,
                                   content_segment_visit *fn, void *arg, struct err *e);
typedef enum status meta_row_visit(void *arg, const struct content *c,
                                   const struct content_row *row, struct err *e);
MUST_USE enum status meta_rows(struct db *d, meta_row_visit *fn, void *arg, struct err *e);
MUST_USE enum status meta_pins(struct db *d, content_pin_visit *fn, void *arg, struct err *e);
MUST_USE enum status meta_proofs(struct db *d, content_proof_visit *fn, void *arg,
                                 struct err *e);
MUST_USE enum status meta_n_proofs(struct db *d, uint64_t *n, struct err *e);

#endif
