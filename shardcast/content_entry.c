#include "shardcast/content_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "shardcast/content_meta.h"

#define SCRATCH     ".made"
#define WRITE_PIECE 32768u

/* ---- entries ----------------------------------------------------------------------------- */

static int compare(const struct content *a, const struct content *b)
{
    if (a->version != b->version)
        return a->version < b->version ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    return (a->base > b->base) - (a->base < b->base);
}

/* Where `c` stands or would stand. */
size_t entry_place(const struct content_store *s, const struct content *c)
{
    size_t i = s->n;

    while (i > 0 && compare(&s->entry[i - 1]->c, c) >= 0)
        i--;
    return i;
}

struct entry *entry_find(const struct content_store *s, const struct content *c)
{
    size_t i = entry_place(s, c);

    return i < s->n && content_equal(&s->entry[i]->c, c) ? s->entry[i] : NULL;
}

struct entry *entry_add(struct content_store *s, const struct content *c, uint32_t shard_bytes,
                        uint64_t total_bytes, bool is_own)
{
    struct entry *x = xcalloc(1, sizeof(*x));
    size_t i = entry_place(s, c);

    x->c = *c;
    x->shard_bytes = shard_bytes;
    x->total_bytes = total_bytes;
    x->is_own = is_own;
    x->fd = -1;
    x->serial = ++s->serial;
    s->entry = xrealloc(s->entry, (s->n + 1) * sizeof(struct entry *));
    memmove(s->entry + i + 1, s->entry + i, (s->n - i) * sizeof(struct entry *));
    s->entry[i] = x;
    s->n++;
    return x;
}

void entry_close(struct entry *x)
{
    if (x->fd >= 0)
        close(x->fd);
    x->fd = -1;
}

void entry_free(struct entry *x)
{
    entry_close(x);
    free(x->have);
    free(x->checked);
    free(x);
}

uint32_t entry_n_shards(const struct entry *x)
{
    return (uint32_t)((x->total_bytes + x->shard_bytes - 1) / x->shard_bytes);
}

bool entry_is_complete(const struct entry *x)
{
    return x->total_bytes && x->n_have == entry_n_shards(x);
}

bool entry_bit(const uint8_t *map, const struct entry *x, uint32_t i)
{
    return i < x->cap_bits && ((map[i / 8] >> (i % 8)) & 1);
}

/* Room for shard i in the bitmaps. */
static void reach(struct entry *x, uint32_t i)
{
    uint32_t cap = x->cap_bits ? x->cap_bits : 64;

    while (cap <= i)
        cap *= 2;
    if (cap == x->cap_bits)
        return;
    x->have = xrealloc(x->have, cap / 8);
    x->checked = xrealloc(x->checked, cap / 8);
    memset(x->have + x->cap_bits / 8, 0, (cap - x->cap_bits) / 8);
    memset(x->checked + x->cap_bits / 8, 0, (cap - x->cap_bits) / 8);
    x->cap_bits = cap;
}

/* How long shard i is; the whole shard_bytes where the end is not known. */
size_t entry_length(const struct entry *x, uint32_t i)
{
    uint64_t from = (uint64_t)i * x->shard_bytes;

    if (!x->total_bytes || x->total_bytes - from > x->shard_bytes)
        return x->shard_bytes;
    return (size_t)(x->total_bytes - from);
}

void entry_gain(struct content_store *s, struct entry *x, uint32_t i, size_t len)
{
    reach(x, i);
    set_bit(x->have, i);
    set_bit(x->checked, i);
    x->n_have++;
    x->dirty_bytes += len;
    s->bytes += entry_length(x, i);
}

void entry_end(struct content_store *s, struct entry *x, uint64_t total_bytes)
{
    uint32_t last;

    x->total_bytes = total_bytes;
    last = entry_n_shards(x) - 1;
    if (entry_bit(x->have, x, last))
        s->bytes -= x->shard_bytes - entry_length(x, last);
}

/* The bitmap as others see it. */
void entry_put_have(const struct entry *x, struct buf *out)
{
    uint32_t n = x->total_bytes ? entry_n_shards(x) : x->cap_bits;
    size_t len = (n + 7) / 8, here = x->cap_bits / 8 < len ? x->cap_bits / 8 : len;
    uint8_t *p = buf_extend(out, len);

    if (!p)
        return;
    memset(p, 0, len);
    if (here)
        memcpy(p, x->have, here);
}

/* ---- files ------------------------------------------------------------------------------- */

static char *path_of(const struct content_store *s, const struct content *c, bool is_part)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%" PRId64 "-%" PRIu32 "-%" PRId64 "%s", c->version, c->kind,
             c->base, is_part ? ".part" : "");
    return file_join(s->dir, name);
}

enum status entry_failed(struct err *e, const char *what, const struct content_store *s,
                         const struct entry *x)
{
    int n = errno;

    return err_set(e, n == ENOSPC || n == EDQUOT || n == EFBIG ? ERR_FULL : ERR_IO,
                   "cannot %s content %" PRId64 "-%" PRIu32 "-%" PRId64 " in '%s': %s", what,
                   x->c.version, x->c.kind, x->c.base, s->dir, strerror(n));
}

bool entry_has_file(const struct content_store *s, const struct entry *x)
{
    char *final = path_of(s, &x->c, false), *part = path_of(s, &x->c, true);
    bool has = file_exists(final) || file_exists(part);

    free(final);
    free(part);
    return has;
}

enum status entry_open(struct content_store *s, struct entry *x, struct err *e)
{
    int flags = (s->opt.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    char *final = path_of(s, &x->c, false), *part = path_of(s, &x->c, true);
    enum status st = OK;

    if (x->fd < 0) {
        x->fd = open(final, flags);
        x->is_named = x->fd >= 0;
        if (x->fd < 0)
            x->fd = open(part, s->opt.read_only ? flags : flags | O_CREAT, 0644);
        if (x->fd < 0)
            st = entry_failed(e, "open", s, x);
    }
    free(final);
    free(part);
    return st;
}

/* For people who look into the directory: a failure changes nothing. */
void entry_name(struct content_store *s, struct entry *x)
{
    char *final = path_of(s, &x->c, false), *part = path_of(s, &x->c, true);

    if (!x->is_named && rename(part, final) == 0)
        x->is_named = true;
    free(final);
    free(part);
}

char *entry_scratch(const struct content_store *s, const struct content *c)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%" PRId64 "-%" PRIu32 "-%" PRId64 SCRATCH, c->version,
             c->kind, c->base);
    return file_join(s->dir, name);
}

bool entry_is_scratch(const char *name)
{
    size_t n = strlen(name), end = strlen(SCRATCH);

    return n > end && !strcmp(name + n - end, SCRATCH);
}

enum status entry_adopt(struct content_store *s, struct entry *x, struct err *e)
{
    char *scratch = entry_scratch(s, &x->c), *final = path_of(s, &x->c, false);
    char *part = path_of(s, &x->c, true);
    struct stat sb;
    enum status st = OK;

    if (stat(scratch, &sb) || (uint64_t)sb.st_size != x->total_bytes)
        st = err_set(e, ERR_IO, "'%s' is not the content", scratch);
    else if (rename(scratch, final))
        st = entry_failed(e, "rename", s, x);
    if (!st) {
        (void)unlink(part);
        entry_close(x);
        x->is_named = true;
    }
    free(scratch);
    free(final);
    free(part);
    return st;
}

/* What the quota leaves beside what is here and what others have blocks for. */
static uint64_t room_of(const struct content_store *s, const struct entry *x)
{
    uint64_t taken = s->bytes;

    for (size_t i = 0; i < s->n; i++) {
        const struct entry *y = s->entry[i];
        uint64_t came = (uint64_t)y->n_have * y->shard_bytes;

        taken += y != x && y->reserved > came ? y->reserved - came : 0;
    }
    return taken < s->opt.max_bytes ? s->opt.max_bytes - taken : 0;
}

void entry_reserve(const struct content_store *s, struct entry *x)
{
    uint64_t came = (uint64_t)x->n_have * x->shard_bytes, room = room_of(s, x);
    uint64_t most = CONTENT_AHEAD_BYTES + CONTENT_AHEAD_TIMES * came;
    struct stat sb;

    most = most < x->total_bytes ? most : x->total_bytes;
    most = most < came + room ? most : came + room;
    if (!x->total_bytes || x->reserved >= most || came < x->reserved / CONTENT_AHEAD_TIMES / 2)
        return;
    if (!x->reserved && (fstat(x->fd, &sb) || (uint64_t)sb.st_blocks * 512 >= x->total_bytes)) {
        x->reserved = x->total_bytes; /* it was there before, as a whole */
        return;
    }
    if (!x->reserved)
        (void)!ftruncate(x->fd, (off_t)x->total_bytes);
    (void)!fallocate(x->fd, 0, (off_t)x->reserved, (off_t)(most - x->reserved));
    x->reserved = most;
}

/* In pieces: one write of a whole shard makes the page cache look for blocks of pages as long as it, and
 * in a virtual machine those are mostly such as the host took back and has to give again, page by page,
 * at several times the price of the copy. */
enum status entry_write(const struct content_store *s, struct entry *x, uint64_t at,
                        struct bytes data, struct err *e)
{
    while (data.len) {
        size_t len = data.len < WRITE_PIECE ? data.len : WRITE_PIECE;
        ssize_t n = pwrite(x->fd, data.data, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return entry_failed(e, "write", s, x);
        data = bytes_slice(data, (size_t)n, data.len - (size_t)n);
        at += (uint64_t)n;
    }
    return OK;
}

/* How many bytes of `len` there are; fewer only at the end of the file. */
enum status entry_read(const struct content_store *s, struct entry *x, uint64_t at, uint8_t *to,
                       size_t len, size_t *got, struct err *e)
{
    *got = 0;
    while (*got < len) {
        ssize_t n = pread(x->fd, to + *got, len - *got, (off_t)(at + *got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return entry_failed(e, "read", s, x);
        if (n == 0)
            return OK;
        *got += (size_t)n;
    }
    return OK;
}

void entry_unlink(struct content_store *s, const struct content *c)
{
    char *final = path_of(s, c, false), *part = path_of(s, c, true);

    (void)unlink(final);
    (void)unlink(part);
    free(final);
    free(part);
}

/* ---- the disk ---------------------------------------------------------------------------- */

void entry_claim(struct content_store *s, const struct content *c, struct bytes have)
{
    struct err e;
    enum status st = meta_put(s->meta, META_HAVE, c, have, &e);

    (void)st; /* a claim that is not made costs hashing after a crash, and nothing else */
}

/* One content onto the disk. Called and left with the lock held. */
static void entry_sync(struct content_store *s, struct entry *x)
{
    struct content c = x->c;
    uint64_t serial = x->serial;
    struct buf have;
    int fd = x->fd >= 0 ? dup(x->fd) : -1;
    bool is_synced;

    x->shall_sync = false;
    x->dirty_bytes = 0;
    if (fd < 0)
        return;
    buf_init(&have, SHARDS_MAX / 8);
    entry_put_have(x, &have);
    pthread_mutex_unlock(&s->lock);
    is_synced = fdatasync(fd) == 0;
    close(fd);
    pthread_mutex_lock(&s->lock);
    x = entry_find(s, &c); /* it may be gone, or be another one of the same name */
    if (is_synced && x && x->serial == serial)
        entry_claim(s, &c, buf_bytes(&have));
    buf_clear(&have);
}

static struct entry *next_to_sync(const struct content_store *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->entry[i]->shall_sync)
            return s->entry[i];
    return NULL;
}

static void *syncer_main(void *arg)
{
    struct content_store *s = arg;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct entry *x = next_to_sync(s);
        if (x)
            entry_sync(s, x);
        else if (s->is_closing)
            break;
        else
            pthread_cond_wait(&s->has_work, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

void entry_sync_soon(struct content_store *s, struct entry *x)
{
    x->shall_sync = true;
    if (!s->has_syncer)
        s->has_syncer = pthread_create(&s->syncer, NULL, syncer_main, s) == 0;
    pthread_cond_signal(&s->has_work);
    if (!s->has_syncer)
        entry_sync(s, x); /* no thread to be had: here and now */
}
