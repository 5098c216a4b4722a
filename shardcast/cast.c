#include "shardcast/cast.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "shardcast/cast_state.h"
#include "shardcast/shard_store.h"

#define LOG_MODULE "shardcast"
#include "base/log.h"

#define FRAME_MAX      ((size_t)4 << 20) /* a manifest of MSG_MAX_SHARDS, or one shard */
#define ENDPOINT_BYTES 256u
#define FULL_PAUSE_MS  5000

struct cast {
    struct shell *shell;        /* borrowed */
    struct shell_part *part;    /* the shell's */
    const struct node_key *key; /* borrowed */
    struct cast_options opt;    /* strings not kept */
    struct shard_store *store;
    struct cast_state *state;
    struct cast_out acts; /* not carried out yet */
    struct buf message;
    int64_t *found; /* owned: versions complete at start, until the run is known */
    size_t n_found;
    struct digest run;
    bool has_run;
    struct buf checked; /* digests of shards that this process has seen to be good, sorted */
    char endpoint[ENDPOINT_BYTES];
};

/* ---- shards seen to be good -------------------------------------------------------------- */

/* Where `d` stands or would stand among the sorted digests. */
static size_t checked_place(const struct cast *c, const struct digest *d, bool *is_there)
{
    size_t lo = 0, hi = c->checked.len / DIGEST_BYTES;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(c->checked.data + mid * DIGEST_BYTES, d->b, DIGEST_BYTES) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *is_there = lo * DIGEST_BYTES < c->checked.len &&
                memcmp(c->checked.data + lo * DIGEST_BYTES, d->b, DIGEST_BYTES) == 0;
    return lo;
}

static void checked_add(struct cast *c, const struct digest *d)
{
    bool is_there;
    size_t at = checked_place(c, d, &is_there);

    if (is_there)
        return;
    if (!buf_extend(&c->checked, DIGEST_BYTES)) {
        buf_reset(&c->checked); /* full of what was forgotten long ago: begin again */
        return;
    }
    uint8_t *p = c->checked.data + at * DIGEST_BYTES;
    memmove(p + DIGEST_BYTES, p, c->checked.len - (at + 1) * DIGEST_BYTES);
    memcpy(p, d->b, DIGEST_BYTES);
}

/* Spares the neighbours, and us their ban, a shard that the disk spoilt. */
static enum status open_good(struct cast *c, struct shard_view *v, const struct digest *d,
                             struct err *e)
{
    bool is_checked;
    enum status st = shard_view_open(v, c->store, d, e);

    if (st)
        return st;
    checked_place(c, d, &is_checked);
    if (!is_checked)
        st = shard_view_check(v, d, e);
    if (st)
        shard_view_close(v);
    else if (!is_checked)
        checked_add(c, d);
    return st;
}

/* ---- carrying out ------------------------------------------------------------------------ */

static void do_dial(struct cast *c, const struct cast_act *a, int64_t now_ms)
{
    char endpoint[ENDPOINT_BYTES];
    uint64_t link;
    struct err e;

    snprintf(endpoint, sizeof(endpoint), "%.*s", (int)a->value.len,
             (const char *)a->value.data);
    if (shell_connect(c->shell, c->part, endpoint, &a->key, FRAME_MAX, &link, &e)) {
        LOG_WARN("dial why=\"%s\"", e.text);
        return;
    }
    cast_state_linked(c->state, &a->key, link, now_ms, &c->acts);
}

static void do_serve(struct cast *c, const struct cast_act *a, int64_t now_ms,
                     struct effects *out)
{
    struct shard_view v;
    struct err e;
    enum status st = open_good(c, &v, &a->digest, &e);

    if (st) {
        LOG_WARN("lost why=\"%s\"", e.text);
        if (st != ERR_NOT_FOUND && shard_store_drop(c->store, &a->digest, 1, &e))
            LOG_WARN("lost why=\"%s\"", e.text);
        cast_state_lost(c->state, &a->digest, 0);
        cast_state_tick(c->state, now_ms, &c->acts);
    }
    buf_reset(&c->message);
    cast_state_shard(c->state, &c->message, &a->digest, &a->idem, v.data);
    cast_state_served(c->state, v.data.len);
    shard_view_close(&v);
    if (c->opt.serves_garbage)
        c->message.data[c->message.len / 2] ^= 1;
    effects_send(out, a->link, buf_bytes(&c->message));
}

static void do_store(struct cast *c, const struct cast_act *a, int64_t now_ms)
{
    struct err e;
    enum status st = shard_store_put_hashed(c->store, &a->digest, a->value, &e);

    if (!st) {
        checked_add(c, &a->digest);
        return;
    }
    LOG_WARN("store why=\"%s\"", e.text);
    /* Room is made for the next shards; this one is asked for again. */
    if (st == ERR_FULL)
        (void)cast_state_make_room(c->state, &c->acts);
    cast_state_lost(c->state, &a->digest, now_ms + FULL_PAUSE_MS);
}

static void do_forget(struct cast *c, const struct cast_act *a)
{
    struct err e;
    enum status st = shard_store_forget(c->store, a->version, &e);

    if (!st)
        st = shard_store_drop(c->store, (const struct digest *)a->value.data,
                              a->value.len / DIGEST_BYTES, &e);
    if (st)
        LOG_WARN("forget version=%" PRId64 " why=\"%s\"", a->version, e.text);
}

static void do_complete(struct cast *c, const struct cast_act *a)
{
    if (!cast_state_is_complete(c->state, a->version))
        return; /* a shard of it could not be stored after all */
    LOG_INFO("complete version=%" PRId64, a->version);
    if (c->opt.on_version)
        c->opt.on_version(c->opt.ctx, a->version);
}

static void do_equivocated(struct cast *c, const struct cast_act *a)
{
    struct err e;

    LOG_ERROR("equivocation version=%" PRId64 " proof=kept", a->version);
    if (shard_store_proof(c->store, a->version, a->value, &e))
        LOG_ERROR("equivocation why=\"%s\"", e.text);
    if (c->opt.on_equivocation)
        c->opt.on_equivocation(c->opt.ctx, a->version);
}

static void do_keep(struct cast *c, const struct cast_act *a)
{
    struct err e;

    if (shard_store_keep(c->store, a->version, a->value, &e))
        LOG_WARN("keep version=%" PRId64 " why=\"%s\"", a->version, e.text);
    if (c->opt.on_known)
        c->opt.on_known(c->opt.ctx, a->version);
}

static void do_banned(const struct cast_act *a)
{
    char hex[2 * KEY_BYTES + 1];

    hex_encode(hex, BYTES_OF(a->key.b));
    LOG_WARN("banned peer=%.16s why=digest", hex);
}

static void do_act(struct cast *c, const struct cast_act *a, int64_t now_ms,
                   struct effects *out)
{
    switch (a->kind) {
    case CAST_DIAL: do_dial(c, a, now_ms); break;
    case CAST_HANG_UP: shell_disconnect(c->shell, a->link); break;
    case CAST_SEND: effects_send(out, a->link, a->value); break;
    case CAST_SERVE: do_serve(c, a, now_ms, out); break;
    case CAST_STORE: do_store(c, a, now_ms); break;
    case CAST_KEEP: do_keep(c, a); break;
    case CAST_FORGET: do_forget(c, a); break;
    case CAST_COMPLETE: do_complete(c, a); break;
    case CAST_EQUIVOCATED: do_equivocated(c, a); break;
    case CAST_BANNED: do_banned(a); break;
    case CAST_WAKE: effects_timer(out, a->at_ms); break;
    }
}

/* Acts may lead to further acts, which go to the end of the list. */
static void carry_out(struct cast *c, int64_t now_ms, struct effects *out)
{
    for (size_t i = 0; i < c->acts.n; i++) {
        struct cast_act a = c->acts.v[i];
        do_act(c, &a, now_ms, out);
    }
    cast_out_clear(&c->acts);
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct cast *c = ctx;

    cast_state_message(c->state, m->peer, &m->transport, m->data, now_ms, &c->acts);
    carry_out(c, now_ms, out);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct cast *c = ctx;

    cast_state_tick(c->state, now_ms, &c->acts);
    carry_out(c, now_ms, out);
}

/* ---- making ------------------------------------------------------------------------------ */

static bool has_shard(void *arg, const struct digest *shard)
{
    struct cast *c = arg;

    return shard_store_has(c->store, shard);
}

static enum status restore_one(void *arg, int64_t version, struct bytes envelope, struct err *e)
{
    struct cast *c = arg;
    enum status st = cast_state_restore(c->state, envelope, &c->acts, e);

    if (st)
        LOG_WARN("restore version=%" PRId64 " why=\"%s\"", version, e ? e->text : "");
    return st == ERR_NO_MEMORY ? st
                               : OK; /* what is spoilt or too old is fetched or forgotten */
}

static int compare_versions(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void restore_pin(void *arg, int64_t version)
{
    struct cast *c = arg;

    cast_state_pin(c->state, version, 0, &c->acts);
}

/* What is on disk is known before anybody speaks. Of what the machine makes of that, only the
 * complete versions are news, and only once the run is known to be theirs. */
static enum status restore(struct cast *c, struct err *e)
{
    enum status st = shard_store_pins(c->store, restore_pin, c, e);

    if (!st)
        st = shard_store_each(c->store, restore_one, c, e);
    if (st)
        return st;
    c->found = xcalloc(c->acts.n + 1, sizeof(*c->found));
    for (size_t i = 0; i < c->acts.n; i++)
        if (c->acts.v[i].kind == CAST_COMPLETE)
            c->found[c->n_found++] = c->acts.v[i].version;
    qsort(c->found, c->n_found, sizeof(*c->found), compare_versions);
    cast_out_clear(&c->acts);
    return OK;
}

/* "tcp://0.0.0.0:4000" and "host.example" make "tcp://host.example:4000". */
static enum status set_endpoint(struct cast *c, const char *bound, const char *advertise,
                                struct err *e)
{
    const char *port = strrchr(bound, ':');
    int n = -1;

    if (!advertise || !advertise[0])
        n = snprintf(c->endpoint, sizeof(c->endpoint), "%s", bound);
    else if (port)
        n = snprintf(c->endpoint, sizeof(c->endpoint), "tcp://%s%s", advertise, port);
    if (n < 0 || (size_t)n >= sizeof(((struct roster_entry *)0)->endpoint))
        return err_set(e, ERR_INVALID, "the endpoint '%s' with host '%s' is too long", bound,
                       advertise ? advertise : "");
    return OK;
}

static enum status bind_router(struct cast *c, struct err *e)
{
    struct shell_part_ops ops = {.ctx = c, .on_message = on_message, .on_timer = on_timer};
    const char *listen = c->opt.listen ? c->opt.listen : "tcp://127.0.0.1:*";
    char bound[ENDPOINT_BYTES];
    uint32_t link;
    enum status st;

    c->part = shell_add_part(c->shell, &ops, NULL, 0);
    st = shell_bind(c->shell, c->part, listen, false, FRAME_MAX, &link, bound, e);
    return st ? st : set_endpoint(c, bound, c->opt.advertise, e);
}

enum status cast_new(struct cast **out, struct shell *s, const struct node_key *key,
                     const char *dir, const struct cast_options *opt, struct err *e)
{
    struct cast *c = xcalloc(1, sizeof(*c));
    struct shard_store_options store = {.max_bytes = opt ? opt->max_bytes : 0};
    struct cast_state_options state = {.self = key->transport, .has = has_shard, .arg = c};
    enum status st;

    *out = NULL;
    c->shell = s;
    c->key = key;
    if (opt)
        c->opt = *opt;
    state.keep = c->opt.keep;
    buf_init(&c->message, MSG_MAX_BYTES);
    buf_init(&c->checked, (size_t)4 * MSG_MAX_SHARDS * DIGEST_BYTES);
    st = shard_store_open(&c->store, dir, &store, e);
    if (st)
        goto out;
    cast_state_new(&c->state, &state);
    st = restore(c, e);
    if (st)
        goto out;
    st = bind_router(c, e);
    if (st)
        goto out;
    *out = c;
    c = NULL;
out:
    cast_free(&c);
    return st;
}

void cast_free(struct cast **c)
{
    if (!*c)
        return;
    cast_out_clear(&(*c)->acts);
    cast_state_free(&(*c)->state);
    shard_store_close(&(*c)->store);
    buf_clear(&(*c)->message);
    buf_clear(&(*c)->checked);
    free((*c)->found);
    free(*c);
    *c = NULL;
}

const char *cast_endpoint(const struct cast *c)
{
    return c->endpoint;
}

/* ---- what the orchestrator says ---------------------------------------------------------- */

void cast_set_run(struct cast *c, const struct digest *run, const struct public_key *trainer)
{
    cast_state_set_run(c->state, run, trainer, clock_mono_ms(), &c->acts);
    c->run = *run;
    c->has_run = true;
    for (size_t i = 0; i < c->n_found; i++)
        cast_out_add(&c->acts, CAST_COMPLETE, (struct bytes){0})->version = c->found[i];
    c->n_found = 0;
    if (c->acts.n)
        shell_wake(c->part);
}

void cast_set_roster(struct cast *c, const struct msg_roster *roster)
{
    cast_state_set_roster(c->state, roster, clock_mono_ms(), &c->acts);
    shell_wake(c->part);
}

void cast_hint(struct cast *c, int64_t head)
{
    cast_state_hint(c->state, head, clock_mono_ms(), &c->acts);
    if (c->acts.n)
        shell_wake(c->part);
}

/* ---- versions ---------------------------------------------------------------------------- */

int64_t cast_newest(const struct cast *c)
{
    return c->has_run ? cast_state_newest(c->state) : -1;
}

int64_t cast_oldest(const struct cast *c)
{
    return c->has_run ? cast_state_oldest(c->state) : -1;
}

bool cast_has(const struct cast *c, int64_t version)
{
    return c->has_run && cast_state_is_complete(c->state, version);
}

void cast_set_keep(struct cast *c, uint32_t keep)
{
    cast_state_set_keep(c->state, keep, clock_mono_ms(), &c->acts);
    shell_wake(c->part);
}

enum status cast_pin(struct cast *c, int64_t version, struct err *e)
{
    enum status st;

    if (version < 0)
        return err_set(e, ERR_INVALID, "there is no version %" PRId64, version);
    st = shard_store_pin(c->store, version, true, e);
    if (st)
        return st;
    cast_state_pin(c->state, version, clock_mono_ms(), &c->acts);
    shell_wake(c->part);
    return OK;
}

enum status cast_unpin(struct cast *c, int64_t version, struct err *e)
{
    enum status st;

    if (version < 0)
        return err_set(e, ERR_INVALID, "there is no version %" PRId64, version);
    st = shard_store_pin(c->store, version, false, e);
    if (st)
        return st;
    cast_state_unpin(c->state, version, clock_mono_ms(), &c->acts);
    shell_wake(c->part);
    return OK;
}

enum status cast_read(struct cast *c, int64_t version, struct buf *file, struct err *e)
{
    return shard_store_read(c->store, version, file, e);
}

enum status cast_manifest(struct cast *c, int64_t version, struct buf *envelope, struct err *e)
{
    return shard_store_manifest(c->store, version, envelope, e);
}

enum status cast_manifest_decoded(struct cast *c, int64_t version, struct buf *envelope,
                                  struct msg_manifest *m, struct err *e)
{
    size_t start = envelope->len;
    struct msg_envelope env;
    enum status st = shard_store_manifest(c->store, version, envelope, e);

    if (!st)
        st = msg_envelope_decode(
            &env, bytes_slice(buf_bytes(envelope), start, envelope->len - start), e);
    return st ? st : msg_manifest_decode(m, env.body, e);
}

/* ---- publishing -------------------------------------------------------------------------- */

void cast_cut(struct buf *digests, struct bytes file)
{
    for (size_t at = 0; at < file.len; at += SHARD_BYTES) {
        size_t left = file.len - at;
        struct digest d;
        digest_of(&d, bytes_slice(file, at, left < SHARD_BYTES ? left : SHARD_BYTES));
        buf_append(digests, BYTES_OF(d.b));
    }
}

void cast_root(struct digest *root, struct bytes digests)
{
    merkle_root_of_digests(root, digests);
}

static enum status store_file(struct cast *c, const struct msg_manifest *m, struct bytes file,
                              struct err *e)
{
    struct buf digests;
    enum status st;

    buf_init(&digests, (size_t)MSG_MAX_SHARDS * DIGEST_BYTES);
    for (;;) {
        buf_reset(&digests);
        st = shard_store_put_file(c->store, file, &digests, e);
        if (st != ERR_FULL || !cast_state_make_room(c->state, &c->acts))
            break;
        do_forget(c, &c->acts.v[c->acts.n - 1]); /* at once; once more later does no harm */
    }
    if (!st && !bytes_equal(buf_bytes(&digests), m->shards))
        st = err_set(e, ERR_DIGEST, "the file is not the one its manifest describes");
    buf_clear(&digests);
    return st;
}

enum status cast_publish(struct cast *c, struct bytes envelope, struct bytes file,
                         struct err *e)
{
    int64_t now_ms = clock_mono_ms();
    struct msg_envelope env;
    struct msg_manifest m;
    enum status st;

    if (!c->has_run)
        return err_set(e, ERR_INVALID, "cannot publish before the run is known");
    st = cast_manifest_check(envelope, &c->run, &c->key->node, &env, &m, e);
    if (st)
        return st;
    if (file.len != m.file_bytes)
        return err_set(e, ERR_INVALID, "the file has %zu bytes, its manifest says %" PRIu64,
                       file.len, m.file_bytes);
    if (cast_state_contradicts(c->state, &env, &m))
        return err_set(e, ERR_EXISTS, "version %" PRId64 " was published with another content",
                       m.version);
    if (cast_state_is_past(c->state, m.version))
        return OK;
    st = store_file(c, &m, file, e);
    if (!st)
        st = shard_store_publish(c->store, m.version, envelope, e);
    if (!st)
        st = cast_state_publish(c->state, envelope, now_ms, &c->acts, e);
    shell_wake(c->part);
    return st;
}

/* ---- people ------------------------------------------------------------------------------ */

struct cast_counters cast_counters(const struct cast *c)
{
    return cast_state_counters(c->state);
}

void cast_status_json(const struct cast *c, struct buf *out)
{
    cast_state_json(c->state, clock_mono_ms(), out);
}
