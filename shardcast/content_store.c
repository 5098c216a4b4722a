#include "shardcast/content_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/db.h"
#include "shardcast/content_inside.h"
#include "shardcast/content_meta.h"

#define DEFAULT_MAX_BYTES ((uint64_t)64 << 30)
#define CONTENTS_MAX      4096u

/* ---- opening ----------------------------------------------------------------------------- */

static enum status load_one(void *arg, const struct content *c, const struct content_row *row,
                            struct err *e)
{
    struct content_store *s = arg;
    struct buf have;
    struct entry *x;
    enum status st;

    if (row->shard_bytes == 0 || row->shard_bytes > SHARD_BYTES || s->n == CONTENTS_MAX ||
        row->total_bytes / row->shard_bytes >= SHARDS_MAX)
        return err_set(e, ERR_CORRUPT, "DIR/meta has a content that cannot be");
    x = entry_add(s, c, row->shard_bytes, row->total_bytes, row->is_own);
    buf_init(&have, SHARDS_MAX / 8);
    st = entry_has_file(s, x) ? meta_get(s->meta, META_HAVE, c, &have, e) : ERR_NOT_FOUND;
    for (uint32_t i = 0; !st && i < have.len * 8; i++) {
        if (!((have.data[i / 8] >> (i % 8)) & 1) ||
            (row->total_bytes && i >= entry_n_shards(x)))
            continue;
        entry_gain(s, x, i, entry_length(x, i));
        clear_bit(x->checked, i);
    }
    x->dirty_bytes = 0;
    buf_clear(&have);
    return st == ERR_NOT_FOUND ? OK : st;
}

static bool parse_name(struct content *c, const char *name)
{
    char again[NAME_BYTES], part[NAME_BYTES + 8];

    *c = (struct content){0};
    if (sscanf(name, "%" SCNd64 "-%" SCNu32 "-%" SCNd64, &c->version, &c->kind, &c->base) != 3)
        return false;
    snprintf(again, sizeof(again), "%" PRId64 "-%" PRIu32 "-%" PRId64, c->version, c->kind,
             c->base);
    snprintf(part, sizeof(part), "%s.part", again);
    return !strcmp(name, again) || !strcmp(name, part);
}

static void unlink_unknown(struct content_store *s)
{
    DIR *d = opendir(s->dir);
    struct dirent *f;
    struct content c;

    while (d && (f = readdir(d)))
        if (entry_is_scratch(f->d_name))
            (void)unlinkat(dirfd(d), f->d_name, 0);
        else if (parse_name(&c, f->d_name) && !entry_find(s, &c))
            entry_unlink(s, &c);
    if (d)
        closedir(d);
}

enum status content_store_open(struct content_store **out, const char *dir,
                               const struct content_store_options *opt, struct err *e)
{
    struct content_store *s = xcalloc(1, sizeof(*s));
    char *meta = file_join(dir, "meta");
    enum status st = OK;

    *out = NULL;
    if (opt)
        s->opt = *opt;
    if (!s->opt.max_bytes)
        s->opt.max_bytes = DEFAULT_MAX_BYTES;
    s->dir = file_join(dir, "contents");
    CHECK(pthread_mutex_init(&s->lock, NULL) == 0);
    CHECK(pthread_cond_init(&s->has_work, NULL) == 0);
    if (!s->opt.read_only)
        st = file_mkdirs(s->dir, 0700, e);
    if (!st)
        st = meta_open(&s->meta, meta, s->opt.read_only, e);
    if (!st)
        st = meta_rows(s->meta, load_one, s, e);
    if (!st && !s->opt.read_only)
        unlink_unknown(s);
    if (st)
        content_store_close(&s);
    *out = s;
    free(meta);
    return st;
}

void content_store_close(struct content_store **p)
{
    struct content_store *s = *p;

    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n; i++)
        if (s->entry[i]->dirty_bytes)
            entry_sync_soon(s, s->entry[i]);
    s->is_closing = true;
    pthread_cond_signal(&s->has_work);
    pthread_mutex_unlock(&s->lock);
    if (s->has_syncer)
        CHECK(pthread_join(s->syncer, NULL) == 0);
    for (size_t i = 0; i < s->n; i++)
        entry_free(s->entry[i]);
    free(s->entry);
    db_close(&s->meta);
    pthread_cond_destroy(&s->has_work);
    pthread_mutex_destroy(&s->lock);
    free(s->dir);
    free(s);
    *p = NULL;
}

/* ---- contents ---------------------------------------------------------------------------- */

static enum status not_here(struct err *e, const struct content *c)
{
    return err_set(e, ERR_NOT_FOUND, "content %" PRId64 "-%" PRIu32 "-%" PRId64 " is not here",
                   c->version, c->kind, c->base);
}

static enum status begin_locked(struct content_store *s, const struct content *c,
                                uint32_t shard_bytes, struct err *e)
{
    const struct content_row row = {.shard_bytes = shard_bytes};
    struct entry *x = entry_find(s, c);
    enum status st;

    if (shard_bytes == 0 || shard_bytes > SHARD_BYTES || (x && x->shard_bytes != shard_bytes))
        return err_set(e, ERR_INVALID, "shards of %" PRIu32 " bytes, not %" PRIu32, shard_bytes,
                       x ? x->shard_bytes : SHARD_BYTES);
    if (x)
        return entry_open(s, x, e);
    if (s->n == CONTENTS_MAX)
        return err_set(e, ERR_LIMIT, "more than %u contents", CONTENTS_MAX);
    st = meta_put_row(s->meta, c, &row, e);
    return st ? st : entry_open(s, entry_add(s, c, shard_bytes, 0, false), e);
}

enum status content_store_begin(struct content_store *s, const struct content *c,
                                uint32_t shard_bytes, struct err *e)
{
    enum status st;

    pthread_mutex_lock(&s->lock);
    st = begin_locked(s, c, shard_bytes, e);
    pthread_mutex_unlock(&s->lock);
    return st;
}

static bool has_beyond(const struct entry *x, uint64_t total_bytes)
{
    uint64_t n = (total_bytes + x->shard_bytes - 1) / x->shard_bytes;

    for (uint64_t i = n; i < x->cap_bits; i++)
        if (entry_bit(x->have, x, (uint32_t)i))
            return true;
    return false;
}

static enum status size_locked(struct content_store *s, const struct content *c,
                               uint64_t total_bytes, struct err *e)
{
    struct entry *x = entry_find(s, c);
    enum status st;

    if (!x)
        return not_here(e, c);
    if (x->total_bytes == total_bytes)
        return OK;
    if (total_bytes == 0 || x->total_bytes || has_beyond(x, total_bytes) ||
        total_bytes / x->shard_bytes >= SHARDS_MAX)
        return err_set(e, ERR_INVALID, "a content of %" PRIu64 " bytes cannot have %" PRIu64,
                       x->total_bytes, total_bytes);
    if (total_bytes > s->opt.max_bytes)
        return err_set(e, ERR_FULL, "%" PRIu64 " bytes are more than the quota of %" PRIu64,
                       total_bytes, s->opt.max_bytes);
    const struct content_row row = {x->shard_bytes, total_bytes, x->is_own};
    st = meta_put_row(s->meta, c, &row, e);
    if (st)
        return st;
    entry_end(s, x, total_bytes);
    if (entry_is_complete(x)) {
        entry_name(s, x);
        entry_sync_soon(s, x);
    }
    return OK;
}

enum status content_store_size(struct content_store *s, const struct content *c,
                               uint64_t total_bytes, struct err *e)
{
    enum status st;

    pthread_mutex_lock(&s->lock);
    st = size_locked(s, c, total_bytes, e);
    pthread_mutex_unlock(&s->lock);
    return st;
}

/* Shard i as the file has it, if it is right. */
static enum status try_shard(struct content_store *s, struct entry *x, uint32_t i,
                             uint8_t *scratch, struct buf *gained, struct err *e)
{
    size_t got;
    enum status st =
        entry_read(s, x, (uint64_t)i * x->shard_bytes, scratch, entry_length(x, i), &got, e);

    if (st)
        return st;
    if (got == 0 || !s->opt.check(s->opt.arg, &x->c, i, (struct bytes){scratch, got}))
        return OK;
    entry_gain(s, x, i, got);
    if (gained)
        buf_put_u32(gained, i);
    return OK;
}

static enum status scan_locked(struct content_store *s, struct entry *x, struct buf *gained,
                               struct err *e)
{
    uint8_t *scratch = xmalloc(x->shard_bytes);
    enum status st = entry_open(s, x, e);
    off_t at = 0;

    while (!st && (at = lseek(x->fd, at, SEEK_DATA)) >= 0) {
        uint64_t i = (uint64_t)at / x->shard_bytes;
        if (i >= (x->total_bytes ? entry_n_shards(x) : SHARDS_MAX))
            break;
        if (!entry_bit(x->have, x, (uint32_t)i))
            st = try_shard(s, x, (uint32_t)i, scratch, gained, e);
        at = (off_t)((i + 1) * x->shard_bytes);
    }
    free(scratch);
    if (x->dirty_bytes)
        entry_sync_soon(s, x);
    if (!st && entry_is_complete(x))
        entry_name(s, x);
    return st ? st : gained ? buf_status(gained, e) : OK;
}

enum status content_store_scan(struct content_store *s, const struct content *c,
                               struct buf *gained, struct err *e)
{
    struct entry *x;
    enum status st;

    CHECK(s->opt.check);
    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    st = x ? scan_locked(s, x, gained, e) : not_here(e, c);
    pthread_mutex_unlock(&s->lock);
    return st;
}

static uint64_t bytes_of(const struct entry *x)
{
    uint64_t n = (uint64_t)x->n_have * x->shard_bytes;
    uint32_t last = x->total_bytes ? entry_n_shards(x) - 1 : 0;

    return x->total_bytes && entry_bit(x->have, x, last)
               ? n - x->shard_bytes + entry_length(x, last)
               : n;
}

enum status content_store_drop(struct content_store *s, const struct content *c, struct err *e)
{
    struct entry *x;
    enum status st = OK;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    if (x)
        st = meta_drop(s->meta, c, e);
    if (st == ERR_FULL) { /* even for this: the file makes the room */
        entry_close(x);
        entry_unlink(s, c);
        st = meta_drop(s->meta, c, e);
    }
    if (x && !st) {
        size_t i = entry_place(s, c);
        s->bytes -= bytes_of(x);
        memmove(s->entry + i, s->entry + i + 1, (s->n - i - 1) * sizeof(struct entry *));
        s->n--;
        entry_free(x);
        entry_unlink(s, c);
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

static void fill_info(struct content_info *out, const struct entry *x)
{
    *out = (struct content_info){
        .content = x->c,
        .shard_bytes = x->shard_bytes,
        .n_shards = x->total_bytes ? entry_n_shards(x) : 0,
        .n_have = x->n_have,
        .total_bytes = x->total_bytes,
        .is_complete = entry_is_complete(x),
        .is_own = x->is_own,
    };
}

enum status content_store_info(struct content_store *s, const struct content *c,
                               struct content_info *out, struct err *e)
{
    struct entry *x;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    if (x)
        fill_info(out, x);
    pthread_mutex_unlock(&s->lock);
    return x ? OK : not_here(e, c);
}

enum status content_store_each(struct content_store *s, content_visit *fn, void *arg,
                               struct err *e)
{
    enum status st = OK;

    /* fn may use the store, but not begin or drop contents. */
    for (size_t i = 0; !st && i < s->n; i++) {
        struct content_info info;
        pthread_mutex_lock(&s->lock);
        fill_info(&info, s->entry[i]);
        pthread_mutex_unlock(&s->lock);
        st = fn(arg, &info, e);
    }
    return st;
}

uint64_t content_store_bytes(struct content_store *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}

uint64_t content_store_quota(const struct content_store *s)
{
    return s->opt.max_bytes;
}

/* ---- shards ------------------------------------------------------------------------------ */

static enum status put_locked(struct content_store *s, struct entry *x, uint32_t i,
                              struct bytes data, struct err *e)
{
    enum status st;

    if (i >= (x->total_bytes ? entry_n_shards(x) : SHARDS_MAX) || data.len == 0 ||
        data.len > entry_length(x, i) || (x->total_bytes && data.len != entry_length(x, i)))
        return err_set(e, ERR_INVALID, "shard %" PRIu32 " of %zu bytes does not fit", i,
                       data.len);
    if (entry_bit(x->have, x, i))
        return OK;
    if (data.len > s->opt.max_bytes || s->bytes > s->opt.max_bytes - data.len)
        return err_set(e, ERR_FULL, "the quota of %" PRIu64 " bytes is used up",
                       s->opt.max_bytes);
    st = entry_open(s, x, e);
    if (!st)
        entry_reserve(s, x);
    if (!st)
        st = entry_write(s, x, (uint64_t)i * x->shard_bytes, data, e);
    if (st)
        return st;
    entry_gain(s, x, i, data.len);
    if (entry_is_complete(x))
        entry_name(s, x);
    if (entry_is_complete(x) || x->dirty_bytes >= CONTENT_SYNC_BYTES)
        entry_sync_soon(s, x);
    return OK;
}

enum status content_store_put(struct content_store *s, const struct content *c, uint32_t index,
                              struct bytes data, bool *is_last, struct err *e)
{
    struct entry *x;
    enum status st;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    st = x ? put_locked(s, x, index, data, e) : err_set(e, ERR_INVALID, "not begun");
    if (is_last)
        *is_last = !st && entry_is_complete(x);
    pthread_mutex_unlock(&s->lock);
    return st;
}

char *content_store_scratch(const struct content_store *s, const struct content *c)
{
    return entry_scratch(s, c);
}

static enum status adopt_locked(struct content_store *s, struct entry *x, struct err *e)
{
    uint64_t had = s->bytes, missing = 0;
    enum status st;

    if (!x->total_bytes)
        return err_set(e, ERR_INVALID, "its length is not known");
    for (uint32_t i = 0; i < entry_n_shards(x); i++)
        missing += entry_bit(x->have, x, i) ? 0 : entry_length(x, i);
    if (missing > s->opt.max_bytes || had > s->opt.max_bytes - missing)
        return err_set(e, ERR_FULL, "the quota of %" PRIu64 " bytes is used up",
                       s->opt.max_bytes);
    st = entry_adopt(s, x, e);
    if (st)
        return st;
    for (uint32_t i = 0; i < entry_n_shards(x); i++)
        if (!entry_bit(x->have, x, i))
            entry_gain(s, x, i, entry_length(x, i));
    entry_sync_soon(s, x);
    return OK;
}

enum status content_store_adopt(struct content_store *s, const struct content *c, struct err *e)
{
    struct entry *x;
    enum status st;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    st = x ? adopt_locked(s, x, e) : not_here(e, c);
    pthread_mutex_unlock(&s->lock);
    return st;
}

bool content_store_has(struct content_store *s, const struct content *c, uint32_t index)
{
    struct entry *x;
    bool has;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    has = x && entry_bit(x->have, x, index);
    pthread_mutex_unlock(&s->lock);
    return has;
}

enum status content_store_have(struct content_store *s, const struct content *c,
                               struct buf *out, struct err *e)
{
    struct entry *x;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    if (x)
        entry_put_have(x, out);
    pthread_mutex_unlock(&s->lock);
    return x ? buf_status(out, e) : not_here(e, c);
}

/* The disk spoilt it. The claim is withdrawn, so that the next start does not believe it. */
static enum status lose(struct content_store *s, struct entry *x, uint32_t i, struct err *e)
{
    struct buf have;

    if (entry_bit(x->have, x, i)) {
        s->bytes -= entry_length(x, i);
        clear_bit(x->have, i);
        x->n_have--;
    }
    buf_init(&have, SHARDS_MAX / 8);
    entry_put_have(x, &have);
    entry_claim(s, &x->c, buf_bytes(&have));
    buf_clear(&have);
    return err_set(e, ERR_DIGEST,
                   "the disk gave shard %" PRIu32 " of version %" PRId64 " back changed", i,
                   x->c.version);
}

static enum status get_locked(struct content_store *s, struct entry *x, uint32_t i,
                              struct buf *out, struct err *e)
{
    size_t len = entry_length(x, i), start = out->len, got = 0;
    enum status st;
    uint8_t *p;

    if (!entry_bit(x->have, x, i))
        return not_here(e, &x->c);
    p = buf_extend(out, len);
    if (!p)
        return buf_status(out, e);
    st = entry_open(s, x, e);
    if (!st)
        st = entry_read(s, x, (uint64_t)i * x->shard_bytes, p, len, &got, e);
    out->len = start + got;
    if (!st && !entry_bit(x->checked, x, i)) {
        if (s->opt.check && !s->opt.check(s->opt.arg, &x->c, i, (struct bytes){p, got}))
            st = ERR_DIGEST;
        else
            set_bit(x->checked, i);
    }
    if (st)
        out->len = start;
    return st ? lose(s, x, i, e) : OK;
}

enum status content_store_get(struct content_store *s, const struct content *c, uint32_t index,
                              struct buf *out, struct err *e)
{
    struct entry *x;
    enum status st;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    st = x ? get_locked(s, x, index, out, e) : not_here(e, c);
    pthread_mutex_unlock(&s->lock);
    return st;
}

/* Hashing takes as long as the file is, so the lock is not held over it. */
static enum status check_map(struct content_store *s, const struct content *c,
                             struct bytes file, struct err *e)
{
    for (uint32_t i = 0;; i++) {
        bool is_right, is_end;
        uint64_t from = 0;
        size_t len = 0;

        pthread_mutex_lock(&s->lock);
        struct entry *x = entry_find(s, c);
        is_end = !x || i >= entry_n_shards(x);
        is_right = is_end || entry_bit(x->checked, x, i);
        if (!is_end) {
            from = (uint64_t)i * x->shard_bytes;
            len = entry_length(x, i);
        }
        pthread_mutex_unlock(&s->lock);
        if (is_end)
            return OK;
        if (is_right)
            continue;
        is_right = from + len <= file.len &&
                   s->opt.check(s->opt.arg, c, i, bytes_slice(file, (size_t)from, len));
        pthread_mutex_lock(&s->lock);
        x = entry_find(s, c);
        enum status st = OK;
        if (x && is_right)
            set_bit(x->checked, i);
        else if (x)
            st = lose(s, x, i, e);
        pthread_mutex_unlock(&s->lock);
        if (st)
            return st;
    }
}

static enum status map_locked(struct content_store *s, const struct content *c,
                              struct file_map *out, struct err *e)
{
    struct entry *x = entry_find(s, c);
    enum status st;
    void *p;

    if (!x || !entry_is_complete(x))
        return not_here(e, c);
    st = entry_open(s, x, e);
    if (st)
        return st;
    p = mmap(NULL, (size_t)x->total_bytes, PROT_READ, MAP_SHARED, x->fd, 0);
    if (p == MAP_FAILED)
        return entry_failed(e, "map", s, x);
    out->bytes = (struct bytes){p, (size_t)x->total_bytes};
    return OK;
}

enum status content_store_map(struct content_store *s, const struct content *c,
                              struct file_map *out, struct err *e)
{
    enum status st;

    *out = (struct file_map){0};
    pthread_mutex_lock(&s->lock);
    st = map_locked(s, c, out, e);
    pthread_mutex_unlock(&s->lock);
    if (!st && s->opt.check)
        st = check_map(s, c, out->bytes, e);
    if (st)
        file_map_close(out);
    return st;
}

/* ---- what signs them --------------------------------------------------------------------- */

enum status content_store_publish(struct content_store *s, const struct content *c,
                                  struct bytes envelope, bool is_own, struct err *e)
{
    struct entry *x;
    enum status st;

    pthread_mutex_lock(&s->lock);
    x = entry_find(s, c);
    if (!x) {
        st = err_set(e, ERR_INVALID, "not begun");
    } else {
        const struct content_row row = {x->shard_bytes, x->total_bytes, is_own || x->is_own};
        st = meta_put_manifest(s->meta, c, &row, envelope, e);
        x->is_own = st ? x->is_own : row.is_own;
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

enum status content_store_segment(struct content_store *s, const struct content *c,
                                  uint32_t number, struct bytes envelope, struct err *e)
{
    return meta_put_segment(s->meta, c, number, envelope, e);
}

enum status content_store_envelope(struct content_store *s, const struct content *c,
                                   struct buf *out, struct err *e)
{
    enum status st = meta_get(s->meta, META_MANIFESTS, c, out, e);

    return st == ERR_NOT_FOUND ? not_here(e, c) : st;
}

enum status content_store_segment_get(struct content_store *s, const struct content *c,
                                      uint32_t number, struct buf *out, struct err *e)
{
    enum status st = meta_get_segment(s->meta, c, number, out, e);

    return st == ERR_NOT_FOUND ? not_here(e, c) : st;
}

enum status content_store_segments(struct content_store *s, const struct content *c,
                                   content_segment_visit *fn, void *arg, struct err *e)
{
    return meta_segments(s->meta, c, fn, arg, e);
}

enum status content_store_proof(struct content_store *s, const struct content *c,
                                struct bytes both, struct err *e)
{
    return meta_put(s->meta, META_PROOFS, c, both, e);
}

enum status content_store_n_proofs(struct content_store *s, uint64_t *n, struct err *e)
{
    return meta_n_proofs(s->meta, n, e);
}

enum status content_store_proofs(struct content_store *s, content_proof_visit *fn, void *arg,
                                 struct err *e)
{
    return meta_proofs(s->meta, fn, arg, e);
}

/* ---- retention --------------------------------------------------------------------------- */

enum status content_store_pin(struct content_store *s, int64_t version, bool is_pinned,
                              struct err *e)
{
    return meta_pin(s->meta, version, is_pinned, e);
}

enum status content_store_pins(struct content_store *s, content_pin_visit *fn, void *arg,
                               struct err *e)
{
    return meta_pins(s->meta, fn, arg, e);
}
