/*
 * shardcast/cast_apply.c - a patch becomes the version it leads to, beside the loop
 *
 * Block by block from the mapped base and patch into a file beside the content's own, hashed on
 * the way: only if its root is the one that the trainer signed does it become the content.
 */
#include "shardcast/cast_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "shardcast/cast_cut.h"
#include "shardcast/delta.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

struct applying {
    struct apply_order order;
    struct content_store *store; /* borrowed */
    struct shell_part *part;     /* borrowed */
    pthread_t thread;
    atomic_bool is_done;
    enum status st;
    bool is_spoilt; /* the base or the patch is not on disk any more as it was */
    struct err e;
    int64_t begun_ms;
};

static enum status write_all(int fd, const char *path, struct bytes data, struct err *e)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return file_failed(e, "write", path);
        data = bytes_slice(data, (size_t)n, data.len - (size_t)n);
    }
    return OK;
}

static enum status make_blocks(int fd, const char *path, struct cast_cut *cut,
                               const struct delta *d, struct bytes base, struct err *e)
{
    const struct delta_loops *loops = delta_loops_find(NULL);
    struct delta_at at = {0};
    struct delta_block b;
    uint8_t *block = malloc(DELTA_BLOCK_BYTES);
    enum status st = block ? OK : err_set(e, ERR_NO_MEMORY, "no memory to apply a patch");

    while (!st && delta_next(d, &at, &b)) {
        struct bytes made = {block, b.n_bytes};

        st = delta_apply_block(block, base.data + b.from, &b, loops, e);
        if (!st)
            st = cast_cut_add(cut, made, e);
        if (!st)
            st = write_all(fd, path, made, e);
    }
    free(block);
    return st;
}

static enum status make_file(const struct apply_order *o, int fd, const char *path,
                             const struct delta *d, struct bytes base, struct err *e)
{
    const struct cast_cut_options co = {.run = o->run,
                                        .content = content_full(o->patch.version),
                                        .shard_bytes = o->shard_bytes};
    struct msg_manifest made = {0};
    struct cast_cut cut;
    enum status st;

    if (d->file_bytes != o->file_bytes || base.len != o->file_bytes)
        return err_set(e, ERR_DIGEST, "the patch is for files of another length");
    cast_cut_init(&cut, &co);
    st = make_blocks(fd, path, &cut, d, base, e);
    if (!st)
        st = cast_cut_end(&cut, &made, e);
    if (!st && !digest_equal(&made.weights, &o->root))
        st = err_set(e, ERR_DIGEST, "what the patch makes is not the version");
    cast_cut_clear(&cut);
    return st;
}

static enum status apply(struct applying *a, struct err *e)
{
    const struct content base = content_full(a->order.patch.base);
    const struct content full = content_full(a->order.patch.version);
    struct file_map from = {0}, patch = {0};
    char *path = content_store_scratch(a->store, &full);
    struct delta d;
    int fd = -1;
    enum status st = content_store_map(a->store, &base, &from, e);

    if (!st)
        st = content_store_map(a->store, &a->order.patch, &patch, e);
    a->is_spoilt = st == ERR_DIGEST;
    if (!st)
        st = delta_open(&d, patch.bytes, e);
    if (!st) {
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
            st = file_failed(e, "open", path);
    }
    if (!st)
        st = make_file(&a->order, fd, path, &d, from.bytes, e);
    if (fd >= 0)
        close(fd);
    if (st)
        (void)unlink(path);
    file_map_close(&patch);
    file_map_close(&from);
    free(path);
    return st;
}

static void *apply_main(void *arg)
{
    struct applying *a = arg;

    a->st = apply(a, &a->e);
    atomic_store(&a->is_done, true);
    shell_wake(a->part);
    return NULL;
}

void cast_apply_begin(struct cast *c, const struct apply_order *order)
{
    struct applying *a = xcalloc(1, sizeof(*a));

    CHECK(!c->applying);
    a->order = *order;
    a->store = c->store;
    a->part = c->part;
    a->begun_ms = clock_mono_ms();
    if (pthread_create(&a->thread, NULL, apply_main, a)) {
        free(a); /* tried again when something else changes */
        return;
    }
    c->applying = a;
}

/* Nothing can be made of it, now or later. */
static void refuse(struct cast *c, const struct content *patch, int64_t now_ms)
{
    c->refused[c->n_refused++ % REFUSED_MAX] = *patch;
    cast_state_drop(c->state, patch, now_ms, &c->acts);
}

static void take(struct cast *c, struct applying *a, int64_t now_ms)
{
    const struct content full = content_full(a->order.patch.version);
    char text[CONTENT_TEXT_BYTES];
    enum status st = a->st;

    content_text(text, &a->order.patch);
    if (!st)
        st = content_store_adopt(c->store, &full, &a->e);
    if (!st) {
        LOG_INFO("applied content=\"%s\" ms=%" PRId64, text, now_ms - a->begun_ms);
        cast_disk_found(c, &full, now_ms);
        return;
    }
    LOG_WARN("apply content=\"%s\" why=\"%s\"", text, a->e.text);
    if (a->is_spoilt)
        cast_disk_reconcile(c); /* and applied when it is here again */
    else if (st == ERR_FULL && cast_state_make_room(c->state, full.version, &c->acts))
        return;                 /* and applied in that room */
    else if (a->st == ERR_FULL) /* and not only the quota */
        cast_fail(c, st, &a->e);
    else
        refuse(c, &a->order.patch, now_ms);
}

void cast_apply_settle(struct cast *c, int64_t now_ms)
{
    struct applying *a = c->applying;

    if (!a || !atomic_load(&a->is_done))
        return;
    CHECK(pthread_join(a->thread, NULL) == 0);
    c->applying = NULL;
    c->is_plan_due = true;
    take(c, a, now_ms);
    free(a);
}

void cast_apply_end(struct cast *c)
{
    if (!c->applying)
        return;
    CHECK(pthread_join(c->applying->thread, NULL) == 0);
    free(c->applying);
    c->applying = NULL;
}
