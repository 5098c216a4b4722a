/*
 * shardcast/content_store.h - the contents this node has on disk, whole or in part
 *
 * A content (proto/types.h) is one file cut into shards of equal length, the last perhaps
 * shorter, and addressed by index. The store keeps each as one flat file, in which shard i
 * stands at i * shard_bytes from the first on, whatever the order they came in. So a content that
 * is complete is the file itself: it is mapped, never put together, and dropped by unlinking.
 *
 *   - what the store says it has was found right by this process, or was on the disk (fdatasync)
 *     before a bitmap in DIR/meta claimed it;
 *   - what a killed process left beyond that claim is hashed again at the next start and kept, so
 *     nothing that was verified is fetched twice. Holes of the file are not read;
 *   - a shard that the disk spoilt is found when it is first lent, and is missing from then on.
 *
 * The store does not know leaves: `check` of the options, which asks whoever does (the machine),
 * says whether bytes are a shard. What a manifest or a segment says is not known here either: they
 * are kept as the envelopes they came in.
 *
 * On disk:  DIR/contents/<version>-<kind>-<base>.part, renamed to the same without .part when
 *           complete; the name decides nothing. DIR/meta, an LMDB environment synced at each
 *           write: shard sizes, manifests, segments, bitmaps, pins, proofs.
 *           Written to disk: the file once, 10 KiB a segment, 16 KiB a bitmap.
 * Failure:  ERR_FULL: the quota or the disk is reached, and nothing changed: drop a content, try
 *           again. ERR_CORRUPT from opening: DIR/meta is damaged. It is synced, so no crash does
 *           that; whoever removes it fetches everything again and forgets what it signed.
 * Threads:  content_store_map, _get, _info, _envelope, _segment_get and _segments from any thread;
 *           the rest from one. fdatasync runs on a thread of the store's own, at most once each
 *           CONTENT_SYNC_BYTES of a content, and when it is complete.
 */
#ifndef SHARDCAST_CONTENT_STORE_H
#define SHARDCAST_CONTENT_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/status.h"
#include "proto/types.h"

#define CONTENT_SYNC_BYTES ((uint64_t)256 << 20)
/* Of a content blocks are taken on the disk for so many bytes when its first shard comes, and for so many
 * times as much as has come. */
#define CONTENT_AHEAD_BYTES ((uint64_t)1 << 30)
#define CONTENT_AHEAD_TIMES 8u

struct content_store;

/* Whether `data` is shard `index` of `c`: its leaf is known and this is its hash. Called on the
 * thread of the call that needs it, any of those below: of the store it may use
 * content_store_segment_get and _envelope, no more. */
typedef bool content_check_fn(void *arg, const struct content *c, uint32_t index,
                              struct bytes data);

struct content_store_options {
    uint64_t max_bytes;      /* quota of the files in DIR/contents; 0: 64 GiB */
    bool read_only;          /* for looking at the directory of a running node */
    content_check_fn *check; /* NULL: what this process did not write is believed */
    void *arg;
};

/* Creates what is missing below `dir`, and unlinks files of contents that DIR/meta does not know.
 * `opt` may be NULL. */
MUST_USE enum status content_store_open(struct content_store **out, const char *dir,
                                        const struct content_store_options *opt, struct err *e);
/* Waits until all that is complete or half-way is on the disk, bitmaps included. */
void content_store_close(struct content_store **p);

/* ---- contents ---------------------------------------------------------------------------- */

struct content_info {
    struct content content;
    uint32_t shard_bytes;
    uint32_t n_shards; /* 0: not known yet, the origin is still writing */
    uint32_t n_have;
    uint64_t total_bytes; /* 0: not known yet */
    bool is_complete;     /* all n_shards are here */
    bool is_own;          /* published by this node */
};

/* Begins a content, or finds it begun. The file may have grown in an earlier life: see
 * content_store_scan. ERR_INVALID: begun with another shard size. ERR_LIMIT: 4096 contents. */
MUST_USE enum status content_store_begin(struct content_store *s, const struct content *c,
                                         uint32_t shard_bytes, struct err *e);
/* How long it is in all, once that is known: reserves nothing. ERR_FULL: more than the quota
 * leaves. ERR_INVALID: begun with another length, or shards stand beyond it. */
MUST_USE enum status content_store_size(struct content_store *s, const struct content *c,
                                        uint64_t total_bytes, struct err *e);
/* Hashes again what the file has beyond the bitmap, and gains what `check` finds right. Appends
 * the indices gained, u32 little-endian, to `gained` (may be NULL). Needs the leaves: call it when
 * the machine has the content's segments. */
MUST_USE enum status content_store_scan(struct content_store *s, const struct content *c,
                                        struct buf *gained, struct err *e);
/* Unlinks it with all that DIR/meta has of it, its proof excepted. OK also when it is not here.
 * Maps of it stay valid. On a full disk the file goes first; on failure it may be gone, and what
 * DIR/meta has of it is not believed when it is opened next. */
MUST_USE enum status content_store_drop(struct content_store *s, const struct content *c,
                                        struct err *e);
/* ERR_NOT_FOUND. */
MUST_USE enum status content_store_info(struct content_store *s, const struct content *c,
                                        struct content_info *out, struct err *e);
/* Calls fn for each content, ascending by version, kind and base. */
typedef enum status content_visit(void *arg, const struct content_info *info, struct err *e);
MUST_USE enum status content_store_each(struct content_store *s, content_visit *fn, void *arg,
                                        struct err *e);
uint64_t content_store_bytes(struct content_store *s); /* on disk, against the quota */
uint64_t content_store_quota(const struct content_store *s);

/* ---- shards ------------------------------------------------------------------------------ */

/* Writes shard `index`, which the caller has found right: it is not hashed again. Writing what is
 * here already is OK and writes nothing. *is_last (may be NULL): the content is complete by it.
 * ERR_INVALID: not begun, longer than a shard, or short and not the last. */
MUST_USE enum status content_store_put(struct content_store *s, const struct content *c,
                                       uint32_t index, struct bytes data, bool *is_last,
                                       struct err *e);
/* For a content that is made here from others: the path of a file beside its own, the caller's to
 * free, and then that file, whole and found right by the caller, in the place of whatever was here
 * of it. The content must have been begun and its length be known. What stays there is unlinked
 * when the store is opened. ERR_FULL as content_store_put; ERR_IO: there is no such file, or it is of
 * another length. content_store_scratch from any thread. */
char *content_store_scratch(const struct content_store *s, const struct content *c);
MUST_USE enum status content_store_adopt(struct content_store *s, const struct content *c,
                                         struct err *e);
bool content_store_has(struct content_store *s, const struct content *c, uint32_t index);
/* The bitmap of what is here, bit i % 8 of byte i / 8, appended to `out`; (n_shards + 7) / 8 bytes,
 * or as many as are needed while n_shards is not known. ERR_NOT_FOUND. */
MUST_USE enum status content_store_have(struct content_store *s, const struct content *c,
                                        struct buf *out, struct err *e);
/* Appends shard `index`. What this process neither wrote nor checked yet is checked first, once.
 * ERR_NOT_FOUND: not here. ERR_DIGEST, ERR_IO: the disk spoilt it, and it is not here any more. */
MUST_USE enum status content_store_get(struct content_store *s, const struct content *c,
                                       uint32_t index, struct buf *out, struct err *e);
/* Maps a complete content for reading: the whole file, checked as by content_store_get. ERR_NOT_FOUND:
 * it is not complete. Give it to file_map_close; it outlives a drop, and the store. */
MUST_USE enum status content_store_map(struct content_store *s, const struct content *c,
                                       struct file_map *out, struct err *e);

/* ---- what signs them --------------------------------------------------------------------- */

/* Files the PUBLISH envelope of a content, durable on OK. `is_own`: then it may be announced. The
 * content must have been begun. */
MUST_USE enum status content_store_publish(struct content_store *s, const struct content *c,
                                           struct bytes envelope, bool is_own, struct err *e);
/* Files the envelope of segment `number`, durable on OK. */
MUST_USE enum status content_store_segment(struct content_store *s, const struct content *c,
                                           uint32_t number, struct bytes envelope,
                                           struct err *e);
/* Appends the PUBLISH envelope. ERR_NOT_FOUND. */
MUST_USE enum status content_store_envelope(struct content_store *s, const struct content *c,
                                            struct buf *out, struct err *e);
/* Appends one segment's envelope. ERR_NOT_FOUND. */
MUST_USE enum status content_store_segment_get(struct content_store *s, const struct content *c,
                                               uint32_t number, struct buf *out, struct err *e);
/* Calls fn for each segment that is here, ascending; `envelope` is lent for the call. */
typedef enum status content_segment_visit(void *arg, uint32_t number, struct bytes envelope,
                                          struct err *e);
MUST_USE enum status content_store_segments(struct content_store *s, const struct content *c,
                                            content_segment_visit *fn, void *arg,
                                            struct err *e);
/* Two blobs (buf_put_blob): envelopes of one content that contradict each other. Durable on OK. */
MUST_USE enum status content_store_proof(struct content_store *s, const struct content *c,
                                         struct bytes both, struct err *e);
MUST_USE enum status content_store_n_proofs(struct content_store *s, uint64_t *n,
                                            struct err *e);
/* Calls fn for each proof; `both` is lent for the call. */
typedef enum status content_proof_visit(void *arg, const struct content *c, struct bytes both,
                                        struct err *e);
MUST_USE enum status content_store_proofs(struct content_store *s, content_proof_visit *fn,
                                          void *arg, struct err *e);

/* ---- retention --------------------------------------------------------------------------- */

/* Versions that retention leaves alone, durable on OK. */
MUST_USE enum status content_store_pin(struct content_store *s, int64_t version, bool is_pinned,
                                       struct err *e);
/* Calls fn for each pinned version; nothing of it need be here. */
typedef void content_pin_visit(void *arg, int64_t version);
MUST_USE enum status content_store_pins(struct content_store *s, content_pin_visit *fn,
                                        void *arg, struct err *e);

#endif
