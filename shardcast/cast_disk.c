/*
 * shardcast/cast_disk.c - between the machine and the store: what is found at start, what is kept
 */
#include "shardcast/cast_shell.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "shardcast/cast_proof.h"
#include "shardcast/content_check.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

#define FULL_PAUSE_MS 5000 /* nothing is asked for so long after the quota was used up */

/* What has been signed and what is said to be here must be on disk: without a disk there is no going on.
 * Anything else is the fault of what came, and no reason to end. */
static bool is_of_the_disk(enum status st)
{
    return st == ERR_FULL || st == ERR_IO || st == ERR_CORRUPT;
}

/* ---- is it right? ------------------------------------------------------------------------ */

static bool check_shard(void *arg, const struct content *content, uint32_t index,
                        struct bytes data)
{
    const struct cast *c = arg;

    return content_check_by_segment(c->store, content, index, data);
}

/* ---- at start ---------------------------------------------------------------------------- */

static void restore_pin(void *arg, int64_t version)
{
    struct cast *c = arg;

    cast_state_pin(c->state, version, 0, &c->acts);
}

static enum status restore_segment(void *arg, uint32_t number, struct bytes envelope,
                                   struct err *e)
{
    struct cast *c = arg;

    (void)number;
    return cast_state_restore(c->state, envelope, &c->acts, e);
}

static enum status restore_signed(struct cast *c, const struct content *content, struct err *e)
{
    struct buf envelope;
    enum status st = content_store_segments(c->store, content, restore_segment, c, e);

    buf_init(&envelope, MSG_MAX_BYTES);
    if (!st) {
        st = content_store_envelope(c->store, content, &envelope, e);
        if (!st)
            st = cast_state_restore(c->state, buf_bytes(&envelope), &c->acts, e);
        else if (st == ERR_NOT_FOUND)
            st = OK; /* its origin was still writing */
    }
    buf_clear(&envelope);
    return st;
}

/* What is on disk is known before anybody speaks. */
static enum status restore_one(struct cast *c, const struct content *content, struct err *e)
{
    struct content_info info;
    struct buf have;
    enum status st = restore_signed(c, content, e);

    if (st)
        return st;
    st = content_store_scan(c->store, content, NULL, e);
    if (st)
        return st;
    buf_init(&have, MSG_MAX_BYTES);
    st = content_store_have(c->store, content, &have, e);
    if (!st)
        st = content_store_info(c->store, content, &info, e);
    if (!st) {
        cast_state_found(c->state, content, buf_bytes(&have), clock_mono_ms(), &c->acts);
        c->found_bytes +=
            info.is_complete ? info.total_bytes : (uint64_t)info.n_have * info.shard_bytes;
    }
    buf_clear(&have);
    return st;
}

struct list {
    struct content *v; /* owned */
    size_t n;
};

static enum status add_content(void *arg, const struct content_info *info, struct err *e)
{
    struct list *l = arg;

    (void)e;
    l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
    l->v[l->n++] = info->content;
    return OK;
}

/* What cannot be restored is spoilt, of no use any more, or fetched again: it makes room. */
static enum status restore_all(struct cast *c, struct err *e)
{
    struct list l = {0};
    struct err why;
    enum status st = content_store_pins(c->store, restore_pin, c, e);

    if (!st)
        st = content_store_each(c->store, add_content, &l, e);
    for (size_t i = 0; !st && i < l.n; i++) {
        enum status one = restore_one(c, &l.v[i], &why);
        if (one == ERR_NO_MEMORY)
            st = err_set(e, one, "%s", why.text);
        if (!one || st)
            continue;
        LOG_WARN("restore why=\"%s\"", why.text);
        cast_disk_forget(c, &l.v[i]);
        st = cast_failure(c, e);
    }
    free(l.v);
    return st;
}

/* Of what the machine made of it, only what is complete is news, and only once the run is known. */
static void note_found(struct cast *c)
{
    c->found = xcalloc(c->acts.n + 1, sizeof(*c->found));
    for (size_t i = 0; i < c->acts.n; i++)
        if (c->acts.v[i].kind == CAST_COMPLETE)
            c->found[c->n_found++] = c->acts.v[i].content;
    cast_out_clear(&c->acts);
}

enum status cast_disk_open(struct cast *c, const char *dir, struct err *e)
{
    const struct content_store_options o = {
        .max_bytes = c->opt.max_bytes, .check = check_shard, .arg = c};
    enum status st = content_store_open(&c->store, dir, &o, e);

    if (!st)
        st = restore_all(c, e);
    if (!st)
        note_found(c);
    return st;
}

/* ---- later ------------------------------------------------------------------------------- */

/* The oldest version that nobody holds on to goes, at once, if it is older than what is to be stored: else
 * it would only be fetched again. */
static bool make_room(struct cast *c, const struct content *content)
{
    size_t from = c->acts.n;
    bool is = cast_state_make_room(c->state, content->version, &c->acts);

    for (size_t i = from; i < c->acts.n; i++)
        if (c->acts.v[i].kind == CAST_FORGET)
            cast_disk_forget(c, &c->acts.v[i].content);
    return is && !c->st;
}

static enum status keep(struct content_store *s, const struct cast_act *a, struct err *e)
{
    enum status st = content_store_begin(s, &a->content, a->shard_bytes, e);

    if (!st && a->index != CAST_MANIFEST)
        return content_store_segment(s, &a->content, a->index, a->value, e);
    if (!st)
        st = content_store_size(s, &a->content, a->bytes, e);
    return st ? st : content_store_publish(s, &a->content, a->value, false, e);
}

void cast_disk_keep(struct cast *c, const struct cast_act *a)
{
    struct content_info info;
    bool is_new = content_store_info(c->store, &a->content, &info, NULL) != OK;
    bool is_over_quota = a->index == CAST_MANIFEST && a->bytes > content_store_quota(c->store);
    struct err e;
    enum status st;

    do
        st = keep(c->store, a, &e);
    while (st == ERR_FULL && !is_over_quota && make_room(c, &a->content));
    if (is_of_the_disk(st) && !is_over_quota) {
        cast_fail(c, st, &e);
        return;
    }
    if (st)
        LOG_WARN("keep why=\"%s\"", e.text);
    /* A version that was made from a patch waits for the rest of its leaves. */
    else if (!is_new && info.is_complete)
        cast_disk_found(c, &a->content, clock_mono_ms());
    c->is_plan_due |= is_new || a->index == CAST_MANIFEST;
    if (is_new && a->content.kind == CONTENT_FULL && c->opt.on_known)
        c->opt.on_known(c->opt.ctx, a->content.version);
}

enum status cast_disk_put(struct cast *c, const struct content *content, uint32_t index,
                          struct bytes shard, struct err *e)
{
    enum status st;

    do
        st = content_store_put(c->store, content, index, shard, NULL, e);
    while (st == ERR_FULL && make_room(c, content));
    return st;
}

void cast_disk_store(struct cast *c, const struct cast_act *a, int64_t now_ms)
{
    struct err e;
    enum status st = cast_disk_put(c, &a->content, a->index, a->value, &e);
    bool is_over_quota =
        content_store_bytes(c->store) + a->value.len > content_store_quota(c->store);

    if (!st)
        return;
    cast_state_lost(c->state, &a->content, a->index, now_ms + FULL_PAUSE_MS);
    if (is_of_the_disk(st) && !is_over_quota)
        cast_fail(c, st, &e);
    else
        LOG_WARN("store why=\"%s\"", e.text);
}

static void reconcile_one(struct cast *c, const struct cast_content_info *x)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < x->n_shards; i++) {
        if (content_store_has(c->store, &x->content, i))
            continue;
        cast_state_lost(c->state, &x->content, i, 0);
        n++;
    }
    if (n)
        LOG_WARN("lost version=%" PRId64 " shards=%" PRIu32 " why=\"the disk spoilt them\"",
                 x->content.version, n);
}

void cast_disk_reconcile(struct cast *c)
{
    for (size_t i = 0; i < cast_state_n_contents(c->state); i++) {
        const struct cast_content_info x = cast_state_content(c->state, i);
        if (x.is_complete)
            reconcile_one(c, &x);
    }
}

void cast_disk_found(struct cast *c, const struct content *content, int64_t now_ms)
{
    struct buf have;

    buf_init(&have, MSG_MAX_BYTES);
    if (!content_store_have(c->store, content, &have, NULL))
        cast_state_found(c->state, content, buf_bytes(&have), now_ms, &c->acts);
    buf_clear(&have);
}

static enum status accuse(void *arg, const struct content *about, struct bytes both,
                          struct err *e)
{
    struct cast *c = arg;
    struct reader r = reader_of(both);
    struct bytes first = reader_blob(&r), second = reader_blob(&r);

    (void)about;
    if (reader_done(&r, "a proof on disk", e))
        return ERR_CORRUPT;
    cast_state_accuse(c->state, first, second, &c->acts);
    return OK;
}

void cast_disk_accuse(struct cast *c)
{
    struct err e;

    if (content_store_proofs(c->store, accuse, c, &e))
        LOG_WARN("restore why=\"%s\"", e.text);
}

void cast_disk_proof(struct cast *c, const struct content *about, struct bytes both)
{
    struct reader r = reader_of(both);
    struct cast_proof proof = {0};
    char name[96], *path;
    struct buf file;
    struct err e;
    enum status st = content_store_proof(c->store, about, both, &e);

    proof.first = reader_blob(&r);
    proof.second = reader_blob(&r);
    snprintf(name, sizeof(name), "equivocation-%" PRId64 "-%" PRIu32 "-%" PRId64 ".proof",
             about->version, about->kind, about->base);
    path = file_join(c->evidence_dir, name);
    buf_init(&file, (size_t)3 * MSG_MAX_BYTES);
    if (!st)
        st = file_mkdirs(c->evidence_dir, 0700, &e);
    if (!st)
        st = cast_proof_encode(&file, &proof, &e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&file), 0644, &e);
    if (st)
        LOG_ERROR("equivocation version=%" PRId64 " why=\"%s\"", about->version, e.text);
    else
        LOG_ERROR("equivocation version=%" PRId64 " proof=\"%s\"", about->version, path);
    buf_clear(&file);
    free(path);
}

void cast_disk_forget(struct cast *c, const struct content *content)
{
    struct err e;
    enum status st = content_store_drop(c->store, content, &e);

    if (st)
        cast_fail(c, st, &e);
}
