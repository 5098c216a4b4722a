/*
 * shardcast/content_inside.h - inside the content store
 *
 *   content_store.c  what content_store.h offers
 *   content_entry.c  one content: its bitmaps, its file, getting it onto the disk
 *   content_meta.c   DIR/meta
 *
 * Functions of an entry are called with the store's lock held.
 */
#ifndef SHARDCAST_CONTENT_INSIDE_H
#define SHARDCAST_CONTENT_INSIDE_H

#include <pthread.h>

#include "shardcast/content_store.h"

#define SHARDS_MAX (1u << 22) /* of one content */
#define NAME_BYTES 80u        /* of a file in DIR/contents */

struct entry {
    struct content c;
    uint32_t shard_bytes;
    uint64_t total_bytes;  /* 0: not known */
    bool is_own, is_named; /* has its final name */
    uint32_t n_have;
    uint8_t *have;    /* owned bitmaps of cap_bits, a multiple of 8 */
    uint8_t *checked; /* found right by this process */
    uint32_t cap_bits;
    int fd; /* -1: not opened yet */
    uint64_t
        reserved; /* bytes from the start that have blocks, if the disk gave any; 0: not looked */
    uint64_t dirty_bytes; /* written since the last fdatasync began */
    bool shall_sync;
    uint64_t serial; /* no two entries of a store have the same */
};

struct content_store {
    char *dir; /* owned: DIR/contents */
    struct db *meta;
    struct content_store_options opt;
    pthread_mutex_t lock; /* of all below, and of what the entries hold */
    struct entry **entry; /* owned, ascending */
    size_t n;
    uint64_t bytes, serial;
    pthread_t syncer;
    bool has_syncer, is_closing;
    pthread_cond_t has_work;
};

static inline void set_bit(uint8_t *map, uint32_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] | 1u << (i % 8));
}

static inline void clear_bit(uint8_t *map, uint32_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] & ~(1u << (i % 8)));
}

/* The entry of a content, or NULL; and where it stands or would stand. */
struct entry *entry_find(const struct content_store *s, const struct content *c);
size_t entry_place(const struct content_store *s, const struct content *c);
struct entry *entry_add(struct content_store *s, const struct content *c, uint32_t shard_bytes,
                        uint64_t total_bytes, bool is_own);
void entry_close(struct entry *x); /* its file */
void entry_free(struct entry *x);

uint32_t entry_n_shards(const struct entry *x); /* 0: not known */
bool entry_is_complete(const struct entry *x);
bool entry_bit(const uint8_t *map, const struct entry *x, uint32_t i);
/* How long shard i is; the whole shard_bytes where the end is not known. */
size_t entry_length(const struct entry *x, uint32_t i);
/* Shard i of `len` bytes is in the file, and was found right. A short one counts as whole until the end is
 * known: see entry_end. */
void entry_gain(struct content_store *s, struct entry *x, uint32_t i, size_t len);
/* It has so many bytes in all. */
void entry_end(struct content_store *s, struct entry *x, uint64_t total_bytes);
/* Appends the bitmap as others see it. */
void entry_put_have(const struct entry *x, struct buf *out);

bool entry_has_file(const struct content_store *s, const struct entry *x);
MUST_USE enum status entry_open(struct content_store *s, struct entry *x, struct err *e);
/* Takes ".part" off the name. For people who look into the directory: a failure changes nothing. */
void entry_name(struct content_store *s, struct entry *x);
/* The file beside its own, and that file in its place. */
char *entry_scratch(const struct content_store *s, const struct content *c);
bool entry_is_scratch(const char *name);
MUST_USE enum status entry_adopt(struct content_store *s, struct entry *x, struct err *e);
void entry_unlink(struct content_store *s, const struct content *c);
/* Once its length is known, and before its first shard: the file's length and blocks. Shards come in any
 * order, and blocks given piece by piece cost the kernel several times what the copying does. What
 * the disk cannot give now is seen when it is written to. The length is what somebody says: not more than
 * CONTENT_AHEAD_BYTES is taken on that, nor than the quota leaves, and more as shards come. */
void entry_reserve(const struct content_store *s, struct entry *x);
MUST_USE enum status entry_write(const struct content_store *s, struct entry *x, uint64_t at,
                                 struct bytes data, struct err *e);
/* *got is less than `len` only at the end of the file. */
MUST_USE enum status entry_read(const struct content_store *s, struct entry *x, uint64_t at,
                                uint8_t *to, size_t len, size_t *got, struct err *e);
/* From errno: ERR_FULL or ERR_IO. */
enum status entry_failed(struct err *e, const char *what, const struct content_store *s,
                         const struct entry *x);

/* Has it written to the disk, and then claimed, by the store's own thread. */
void entry_sync_soon(struct content_store *s, struct entry *x);
/* Writes a bitmap to DIR/meta. A claim that is not made costs hashing after a crash, no more. */
void entry_claim(struct content_store *s, const struct content *c, struct bytes have);

#endif
