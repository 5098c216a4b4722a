#include "inference/infer_run.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/pool.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "inference/cheat.h"
#include "inference/infer_state.h"
#include "inference/opening_store.h"
#include "proto/canary.h"
#include "proto/opening.h"
#include "rollout/model_set.h"
#include "rollout/room.h"
#include "rollout/setup.h"
#include "shardcast/station.h"

#define LOG_MODULE "inference"
#include "base/log.h"

#define RESULT_MAX ((size_t)MSG_MAX_BYTES * 2)

struct progress {
    uint64_t unit, tokens;
};

struct worker {
    const struct infer_run_options *opt;
    struct station at;
    struct infer *infer;
    struct pool *pool;
    struct device *device; /* owned; NULL: the CPU */
    const struct kernels *kernels;
    /* of the job thread, set before the first job starts */
    struct setup *setup;
    struct model_set *models;
    struct cheat *cheat;     /* NULL: honest */
    struct model_set *other; /* what a cheat computes with, if that is not `models` */
    pthread_mutex_t lock;    /* guards progress */
    struct progress progress[MSG_MAX_LEASES];
    size_t n_progress;
    uint64_t earlier;          /* the newest lease with an opening from an earlier life */
    uint64_t settled;          /* openings under leases below it were dropped */
    char said[MSG_TEXT_BYTES]; /* the last reason logged */
};

/* ---- on the job thread ------------------------------------------------------------------- */

static void note_progress(void *arg, uint64_t unit, uint64_t tokens)
{
    struct worker *w = arg;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n_progress; i++)
        if (w->progress[i].unit == unit)
            w->progress[i].tokens = tokens;
    pthread_mutex_unlock(&w->lock);
}

static enum status root_of(struct worker *w, int64_t version, struct digest *root,
                           struct err *e)
{
    struct msg_manifest m;
    struct buf envelope;
    enum status st;

    buf_init(&envelope, MSG_MAX_BYTES);
    st = cast_manifest_decoded(w->at.cast, version, &envelope, &m, e);
    if (!st)
        *root = m.weights;
    buf_clear(&envelope);
    return st;
}

/* The model of a version, read from its file when it is not loaded. */
static enum status model_of(struct worker *w, struct model_set *set, int64_t version,
                            struct model **model, struct err *e)
{
    struct file_map file = {0};
    enum status st;

    *model = model_set_find(set, version);
    if (*model)
        return OK;
    st = cast_map(w->at.cast, version, &file, e);
    if (!st)
        st = model_set_add(set, version, file.bytes, e);
    *model = model_set_find(set, version);
    file_map_close(&file);
    return st;
}

static enum status generate(struct worker *w, int64_t version, struct rollout_unit *units,
                            size_t n, struct err *e)
{
    bool is_oldest = cheat_model(w->opt->cheat) == CHEAT_MODEL_OLDEST;
    int64_t oldest = cast_oldest(w->at.cast);
    struct model *model = NULL, *other = NULL;
    struct digest root;
    enum status st = root_of(w, version, &root, e);

    if (!st)
        st = model_of(w, w->models, version, &model, e);
    if (st)
        return st;
    const struct rollout_world world = setup_world(w->setup, model, version, &root);
    if (!w->cheat)
        return rollout_generate(&world, units, n, note_progress, w, e);
    if (w->other)
        st = model_of(w, w->other, is_oldest && oldest >= 0 ? oldest : version, &other, e);
    return st ? st
              : cheat_generate(w->cheat, &world, other ? other : model, units, n, note_progress,
                               w, e);
}

/* Obeys the order: kept on disk as DIR/orders/unit-U-lease-L.order before anything is altered. */
static enum status obey(const struct worker *w, struct rollout_unit *unit, struct bytes order,
                        struct err *e)
{
    char *dir = file_join(w->opt->node.dir, "orders"), name[80], *path;
    struct msg_canary_order o;
    struct msg_envelope env;
    enum status st = file_mkdirs(dir, 0700, e);

    snprintf(name, sizeof(name), "unit-%" PRIu64 "-lease-%" PRIu64 ".order", unit->unit,
             unit->lease);
    path = file_join(dir, name);
    if (!st)
        st = msg_envelope_decode(&env, order, e);
    if (!st)
        st = msg_canary_order_decode(&o, env.body, e);
    if (!st)
        st = file_write_atomic(path, order, 0600, e);
    if (!st)
        st = canary_alter(&unit->body, &o.salt, e);
    free(path);
    free(dir);
    return st;
}

static enum status put_result(const struct worker *w, struct rollout_unit *units,
                              const struct bytes *order, uint32_t n, struct buf *result,
                              struct err *e)
{
    buf_put_u32(result, n);
    for (uint32_t i = 0; i < n; i++) {
        enum status st = order[i].len ? obey(w, &units[i], order[i], e) : OK;

        if (!st && units[i].opening.len)
            st = opening_store_put(w->opt->node.dir, units[i].unit, units[i].lease,
                                   buf_bytes(&units[i].opening), e);
        if (st)
            return st;
        buf_put_u64(result, units[i].unit);
        buf_put_u64(result, units[i].lease);
        buf_put_u64(result, units[i].tokens);
        buf_put_blob(result, buf_bytes(&units[i].body));
    }
    return buf_status(result, e);
}

static enum status run_job(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e)
{
    struct worker *w = ctx;
    struct reader r = reader_of(args);
    int64_t version = (int64_t)reader_u64(&r);
    uint32_t n = reader_u32(&r);
    struct rollout_unit units[MSG_MAX_LEASES];
    struct bytes order[MSG_MAX_LEASES];
    enum status st;

    (void)job;
    (void)number;
    CHECK(n >= 1 && n <= MSG_MAX_LEASES);
    pthread_mutex_lock(&w->lock);
    w->n_progress = n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t unit = reader_u64(&r);
        rollout_unit_init(&units[i], unit, reader_u64(&r));
        order[i] = reader_blob(&r);
        w->progress[i] = (struct progress){unit, 0};
    }
    pthread_mutex_unlock(&w->lock);
    st = generate(w, version, units, n, e);
    if (!st)
        st = put_result(w, units, order, n, result, e);
    for (uint32_t i = 0; i < n; i++)
        rollout_unit_clear(&units[i]);
    return st;
}

/* ---- on the shell's thread --------------------------------------------------------------- */

static void say_why(struct worker *w)
{
    const char *why = infer_why(w->infer);

    if (!why[0] || !strncmp(why, w->said, sizeof(w->said) - 1))
        return;
    snprintf(w->said, sizeof(w->said), "%s", why);
    LOG_INFO("wait why=\"%s\"", why);
}

static void maybe_stop(struct worker *w)
{
    bool over = member_is_done(w->at.member) ||
                (infer_is_drained(w->infer) && !infer_has_closed(w->infer));

    if (over && infer_is_idle(w->infer))
        shell_stop(w->at.shell);
}

/* Shows what was drawn, and drops what is over. */
static void serve_openings(struct worker *w, int64_t now_ms, struct effects *out)
{
    const char *dir = w->opt->node.dir;
    struct attempt item;
    struct buf opening;
    struct err e;

    buf_init(&opening, MSG_MAX_BYTES);
    while (infer_to_open(w->infer, &item)) {
        buf_reset(&opening);
        if (opening_store_get(dir, item.unit, item.lease, &opening, &e)) {
            LOG_WARN("cannot open unit=%" PRIu64 " lease=%" PRIu64 " why=\"%s\"", item.unit,
                     item.lease, e.text);
            buf_reset(&opening);
        } else {
            LOG_INFO("opens unit=%" PRIu64 " lease=%" PRIu64 " earlier=%s", item.unit,
                     item.lease, item.lease <= w->earlier ? "yes" : "no");
        }
        infer_open(w->infer, &item, buf_bytes(&opening), now_ms, out);
    }
    buf_clear(&opening);
    if (infer_settled(w->infer) > w->settled) {
        w->settled = infer_settled(w->infer);
        if (opening_store_settle(dir, w->settled, &e))
            LOG_WARN("openings are kept why=\"%s\"", e.text);
    }
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct worker *w = ctx;
    struct run_news news;

    if (member_message(w->at.member, m, now_ms, out))
        return;
    infer_message(w->infer, m->data, now_ms, &news, out);
    serve_openings(w, now_ms, out);
    if (news.is_set)
        member_note(w->at.member, news.head_version, news.roster_seq, news.is_done, now_ms,
                    out);
    say_why(w);
    maybe_stop(w);
}

static void on_job(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out)
{
    struct worker *w = ctx;
    const struct infer_counts *c;
    struct err why;

    (void)job;
    infer_job(w->infer, number, st, result, e, now_ms, out);
    c = infer_counts(w->infer);
    if (st)
        LOG_WARN("units failed why=\"%s\"", e ? e->text : status_text(st));
    else
        LOG_INFO("made units=%" PRIu64 " tokens=%" PRIu64 " accepted=%" PRIu64
                 " refused=%" PRIu64,
                 c->units_made, c->tokens, c->accepted, c->refused);
    if (st && device_wait(w->device, &why))
        station_fail(&w->at, ERR_IO, &why); /* its leases end, and others make the units */
    else if (st == ERR_FULL)
        station_fail(&w->at, st, e);
    maybe_stop(w);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct worker *w = ctx;

    /* Where the trainer was not heard for long, newer weights may be kept from us: it makes nothing
     * more with old ones. */
    bool is_fresh = cast_is_fresh(w->at.cast);

    member_tick(w->at.member, now_ms, out);
    infer_versions(w->infer, is_fresh ? cast_oldest(w->at.cast) : -1,
                   is_fresh ? cast_newest(w->at.cast) : -1);
    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->n_progress; i++)
        infer_progress(w->infer, w->progress[i].unit, w->progress[i].tokens);
    pthread_mutex_unlock(&w->lock);
    infer_tick(w->infer, now_ms, out);
    say_why(w);
    maybe_stop(w);
}

static void on_version(void *ctx, int64_t version)
{
    struct worker *w = ctx;

    LOG_DEBUG("weights version=%" PRId64, version);
    shell_wake(w->at.part);
}

static void on_fresh(void *ctx, bool is_fresh)
{
    struct worker *w = ctx;

    (void)is_fresh;
    shell_wake(w->at.part);
}

static void on_welcome(void *ctx, const struct msg_welcome *m, int64_t now_ms,
                       struct effects *out)
{
    struct worker *w = ctx;

    (void)now_ms;
    (void)out;
    infer_welcome(w->infer, member_peer(w->at.member), &m->run);
}

static void on_done(void *ctx, int64_t now_ms, struct effects *out)
{
    struct worker *w = ctx;
    struct err e;

    (void)now_ms;
    (void)out;
    infer_stop(w->infer);
    if (opening_store_settle(w->opt->node.dir, UINT64_MAX, &e))
        LOG_WARN("openings are kept why=\"%s\"", e.text);
    maybe_stop(w);
}

static void tamper(void *ctx, struct weights *weights)
{
    const struct worker *w = ctx;

    if (cheat_model(w->opt->cheat) == CHEAT_MODEL_ALTERED)
        cheat_weights(w->opt->cheat, weights);
}

static void start_cheating(struct worker *w, struct model_set_options mo)
{
    enum infer_cheat kind = w->opt->cheat;

    if (kind == CHEAT_NONE)
        return;
    cheat_new(&w->cheat, kind);
    mo.tamper = tamper;
    mo.tamper_ctx = w;
    mo.round_cache = cheat_cache(kind);
    if (cheat_model(kind) != CHEAT_MODEL_TRUE)
        model_set_new(&w->other, &w->setup->config, &mo);
}

static void on_bundle(void *ctx, const struct digest *task, struct bytes bundle, int64_t now_ms,
                      struct effects *out)
{
    struct worker *w = ctx;
    const struct env_options eo = {.allow_unsandboxed = w->opt->allow_unsandboxed};

    struct err e;
    enum status st;

    (void)task;
    if (w->setup)
        return;
    const struct kernels *kernels = NULL;

    st = setup_open(&w->setup, bundle, &eo, &e);
    if (!st && opening_is_wanted(task_numerics(&w->setup->task))) {
        st = opening_store_last(w->opt->node.dir, &w->earlier, &e);
        infer_opens(w->infer, w->earlier);
    }
    if (!st)
        st = setup_kernels(&kernels, w->setup, w->kernels, &e);
    if (!st && !cheat_applies(w->opt->cheat, kernels_numerics(kernels)))
        st = err_set(&e, ERR_INVALID, "cheat '%s' has nothing to do in class %s",
                     infer_cheat_name(w->opt->cheat), task_numerics(&w->setup->task));
    if (!st) {
        char what[64];

        snprintf(what, sizeof(what), "generating %" PRId64 " units at a time", w->opt->units);
        st = room_check(w->setup, kernels,
                        room_to_generate(w->setup, kernels, (size_t)w->opt->units), what, &e);
    }
    if (st) {
        station_fail(&w->at, st, &e);
        return;
    }
    struct model_set_options mo = {
        .kernels = kernels,
        .pool = w->pool,
        .cap = setup_versions(w->setup),
    };
    model_set_new(&w->models, &w->setup->config, &mo);
    start_cheating(w, mo);
    cast_set_keep(w->at.cast, setup_versions(w->setup));
    LOG_INFO("task name=%s numerics=%s sandbox=%s", w->setup->task.name,
             task_numerics(&w->setup->task), env_is_sandboxed(w->setup->env) ? "yes" : "no");
    infer_ready(w->infer);
    infer_tick(w->infer, now_ms, out);
}

static enum status start(struct worker *w, struct err *e)
{
    const struct node_options *n = &w->opt->node;
    const struct station_options so = {
        .node = n,
        .ops = {w, on_message, on_job, on_timer, run_job},
        .max_job_result = RESULT_MAX,
        .cast = {.ctx = w, .on_version = on_version, .on_fresh = on_fresh},
        .member = {.role = ROLE_INFERENCE,
                   .wants_bundle = true,
                   .ctx = w,
                   .on_welcome = on_welcome,
                   .on_bundle = on_bundle,
                   .on_done = on_done},
    };
    struct infer_options io = {.units = (uint32_t)w->opt->units};
    enum status st =
        device_choose(&w->device, &w->kernels, n->device, NUMERICS_F32_1, n->kernels, e);

    if (!st)
        st = station_open(&w->at, &so, e);
    if (st)
        return st;
    pool_new(&w->pool, (size_t)n->threads);
    randombytes_buf(&io.boot, sizeof(io.boot));
    io.key = w->at.key;
    infer_new(&w->infer, &io);
    return OK;
}

enum status infer_run(const struct infer_run_options *opt, struct err *e)
{
    struct worker w = {.opt = opt, .at = STATION_CLOSED, .lock = PTHREAD_MUTEX_INITIALIZER};
    enum status st = start(&w, e);

    if (!st) {
        LOG_INFO("start dir=%s threads=%" PRId64 " device=\"%s\" kernels=%s units=%" PRId64
                 " cheat=%s",
                 opt->node.dir, opt->node.threads, device_name(w.device),
                 kernels_name(w.kernels), opt->units, infer_cheat_name(opt->cheat));
        st = station_run(&w.at, e);
    }
    station_close(&w.at);
    infer_free(&w.infer);
    model_set_free(&w.models);
    model_set_free(&w.other);
    cheat_free(&w.cheat);
    setup_close(&w.setup);
    pool_free(&w.pool);
    device_close(&w.device);
    return st;
}
