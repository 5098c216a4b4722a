#include "engine/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/file.h"

#define CHECKPOINT_VERSION 1u
#define CONFIG_MAX         (1u << 20)

static const char magic[8] = {'M', 'U', 'S', 'T', 'E', 'R', 'C', 'K'};

/* ---- saving ---------------------------------------------------------------------------------- */

/* A file being written beside the one it will replace. Not file_write_atomic: the arrays are the
 * largest thing in memory, and are not copied to be written. */
struct writer {
    int fd;
    char *tmp; /* owned */
    crypto_generichash_state hash;
};

static enum status io_failed(struct err *e, const char *verb, const char *path)
{
    enum status st = errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
    return err_set(e, st, "cannot %s '%s': %s", verb, path, strerror(errno));
}

static enum status put_raw(struct writer *w, const void *data, size_t n, struct err *e)
{
    const uint8_t *at = data;

    while (n > 0) {
        ssize_t done = write(w->fd, at, n < (1u << 30) ? n : 1u << 30);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return io_failed(e, "write", w->tmp);
        at += done;
        n -= (size_t)done;
    }
    return OK;
}

static enum status put(struct writer *w, const void *data, size_t n, struct err *e)
{
    crypto_generichash_update(&w->hash, data, n);
    return put_raw(w, data, n, e);
}

static enum status put_all(struct writer *w, struct bytes head, const struct weights *masters,
                           const struct adamw *opt, struct err *e)
{
    uint8_t digest[WEIGHTS_DIGEST_BYTES];
    enum status st = put(w, head.data, head.len, e);

    if (!st)
        st = put(w, masters->data, masters->n_data * sizeof(float), e);
    if (!st)
        st = put(w, opt->m->data, opt->m->n_data * sizeof(float), e);
    if (!st)
        st = put(w, opt->v->data, opt->v->n_data * sizeof(float), e);
    if (st)
        return st;
    crypto_generichash_final(&w->hash, digest, sizeof(digest));
    return put_raw(w, digest, sizeof(digest), e);
}

static enum status sync_directory(const char *path, struct err *e)
{
    char *copy = xstrdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status st = OK;

    if (fd < 0 || fsync(fd) != 0)
        st = io_failed(e, "sync the directory of", path);
    if (fd >= 0)
        close(fd);
    free(copy);
    return st;
}

static enum status encode_head(struct buf *head, const struct weights *masters,
                               const struct adamw *opt, struct bytes meta, struct err *e)
{
    struct buf config;

    buf_init(&config, CONFIG_MAX);
    model_config_encode(&config, &masters->config);
    buf_append(head, (struct bytes){(const uint8_t *)magic, sizeof(magic)});
    buf_put_u32(head, CHECKPOINT_VERSION);
    buf_put_blob(head, buf_bytes(&config));
    buf_put_blob(head, meta);
    buf_put_u64(head, opt->step);
    buf_clear(&config);
    return buf_status(head, e);
}

enum status checkpoint_save(const char *path, const struct weights *masters,
                            const struct adamw *opt, struct bytes meta, struct err *e)
{
    struct writer w = {.fd = -1, .tmp = xmalloc(strlen(path) + 5)};
    struct buf head;
    enum status st;

    memcpy(w.tmp, path, strlen(path));
    memcpy(w.tmp + strlen(path), ".tmp", 5);
    buf_init(&head, CONFIG_MAX + CHECKPOINT_META_MAX + 64);
    crypto_generichash_init(&w.hash, NULL, 0, WEIGHTS_DIGEST_BYTES);
    if (meta.len > CHECKPOINT_META_MAX)
        st = err_set(e, ERR_INVALID, "metadata of %zu bytes, more than %u", meta.len,
                     CHECKPOINT_META_MAX);
    else
        st = encode_head(&head, masters, opt, meta, e);
    if (st)
        goto out;
    w.fd = open(w.tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w.fd < 0) {
        st = io_failed(e, "create", w.tmp);
        goto out;
    }
    st = put_all(&w, buf_bytes(&head), masters, opt, e);
    if (!st && fsync(w.fd) != 0)
        st = io_failed(e, "sync", w.tmp);
    if (close(w.fd) != 0 && !st)
        st = io_failed(e, "close", w.tmp);
    if (!st && rename(w.tmp, path) != 0)
        st = io_failed(e, "replace", path);
    if (st)
        unlink(w.tmp);
    else
        st = sync_directory(path, e);
out:
    buf_clear(&head);
    free(w.tmp);
    return st;
}

/* ---- loading --------------------------------------------------------------------------------- */

struct head {
    struct model_config config;
    struct bytes meta;
    uint64_t step;
};

static enum status corrupt(struct err *e, const char *path, const char *why)
{
    return err_set(e, ERR_CORRUPT, "checkpoint '%s' %s", path, why);
}

/* Checks the digest first: after that the file is one that we wrote. */
static enum status decode_head(struct head *h, struct reader *r, struct bytes file,
                               const char *path, struct err *e)
{
    uint8_t digest[WEIGHTS_DIGEST_BYTES];
    struct bytes body = {file.data, file.len - sizeof(digest)};
    struct bytes config;

    if (file.len < sizeof(magic) + 4 + sizeof(digest) ||
        memcmp(file.data, magic, sizeof(magic)) != 0)
        return corrupt(e, path, "is not a checkpoint, or is cut short");
    *r = reader_of(body);
    (void)reader_bytes(r, sizeof(magic));
    uint32_t version = reader_u32(r);
    if (version != CHECKPOINT_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "checkpoint '%s' has version %" PRIu32 ", not %u",
                       path, version, CHECKPOINT_VERSION);
    crypto_generichash(digest, sizeof(digest), body.data, body.len, NULL, 0);
    if (memcmp(digest, body.data + body.len, sizeof(digest)) != 0)
        return corrupt(e, path, "is cut short or altered: its digest does not match");
    config = reader_blob(r);
    h->meta = reader_blob(r);
    h->step = reader_u64(r);
    if (r->bad || h->meta.len > CHECKPOINT_META_MAX ||
        model_config_decode(&h->config, config, e) != OK)
        return corrupt(e, path, "has a bad header");
    if (reader_left(r) != 3 * model_config_params(&h->config) * sizeof(float))
        return corrupt(e, path, "does not have the size of its model");
    return OK;
}

enum status checkpoint_load(struct weights **masters, struct adamw **opt, struct buf *meta,
                            const char *path, struct err *e)
{
    struct file_map map;
    struct weights *w = NULL;
    struct adamw *a = NULL;
    struct head h = {0};
    struct reader r;
    enum status st = file_map_open(&map, path, e);

    *masters = NULL;
    *opt = NULL;
    if (st)
        return st;
    st = decode_head(&h, &r, map.bytes, path, e);
    if (!st)
        st = weights_new(&w, &h.config, e);
    if (!st)
        st = adamw_new(&a, &h.config, e);
    if (st)
        goto out;
    reader_copy(&r, w->data, w->n_data * sizeof(float));
    reader_copy(&r, a->m->data, w->n_data * sizeof(float));
    reader_copy(&r, a->v->data, w->n_data * sizeof(float));
    a->step = h.step;
    buf_append(meta, h.meta);
    st = reader_done(&r, "checkpoint", e);
    if (!st)
        st = buf_status(meta, e);
    if (st)
        goto out;
    *masters = w;
    *opt = a;
    w = NULL; /* both are the caller's now */
    a = NULL;
out:
    weights_free(&w);
    adamw_free(&a);
    file_map_close(&map);
    return st;
}
