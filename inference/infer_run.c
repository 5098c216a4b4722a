#include "inference/infer_run.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/pool.h"
#include "engine/kernels.h"
#include "inference/cheat.h"
#include "inference/infer_state.h"
#include "rollout/model_set.h"
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
    const struct kernels *kernels;
    /* of the job thread, set before the first job starts */
    struct setup *setup;
    struct model_set *models;
    pthread_mutex_t lock; /* guards progress */
    struct progress progress[MSG_MAX_LEASES];
    size_t n_progress;
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

/* The model of a version, read from its file when it is not loaded. */
static enum status model_of(struct worker *w, int64_t version, struct model **model,
                            struct digest *root, struct err *e)
{
    struct msg_manifest m;
    struct file_map file = {0};
    struct buf envelope;
    int64_t loaded = version;
    enum status st;

    if (w->opt->cheat == CHEAT_STALE && cast_oldest(w->at.cast) >= 0)
        loaded = cast_oldest(w->at.cast);
    buf_init(&envelope, MSG_MAX_BYTES);
    st = cast_manifest_decoded(w->at.cast, version, &envelope, &m, e);
    if (!st)
        *root = m.weights;
    *model = model_set_find(w->models, loaded);
    if (!st && !*model) {
        st = cast_map(w->at.cast, loaded, &file, e);
        if (!st)
            st = model_set_add(w->models, loaded, file.bytes, e);
        *model = model_set_find(w->models, loaded);
    }
    file_map_close(&file);
    buf_clear(&envelope);
    return st;
}

static enum status put_result(const struct worker *w, struct rollout_unit *units, uint32_t n,
                              struct buf *result, struct err *e)
{
    buf_put_u32(result, n);
    for (uint32_t i = 0; i < n; i++) {
        enum status st = cheat_submission(&units[i].body, w->opt->cheat, &w->setup->task, e);

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
    struct model *model = NULL;
    struct digest root;
    enum status st;

    (void)job;
    (void)number;
    CHECK(n >= 1 && n <= MSG_MAX_LEASES);
    pthread_mutex_lock(&w->lock);
    w->n_progress = n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t unit = reader_u64(&r);
        rollout_unit_init(&units[i], unit, reader_u64(&r));
        w->progress[i] = (struct progress){unit, 0};
    }
    pthread_mutex_unlock(&w->lock);
    st = model_of(w, version, &model, &root, e);
    if (!st) {
        struct rollout_world world = setup_world(w->setup, model, version, &root);

        if (w->opt->cheat == CHEAT_SEED)
            world.plan.seed ^= 1;
        st = rollout_generate(&world, units, n, note_progress, w, e);
    }
    if (!st)
        st = put_result(w, units, n, result, e);
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
    bool over = member_is_done(w->at.member) || infer_is_drained(w->infer);

    if (over && infer_is_idle(w->infer))
        shell_stop(w->at.shell);
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct worker *w = ctx;
    struct run_news news;

    if (member_message(w->at.member, m, now_ms, out))
        return;
    infer_message(w->infer, m->data, now_ms, &news, out);
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

    (void)job;
    infer_job(w->infer, number, st, result, e, now_ms, out);
    c = infer_counts(w->infer);
    if (st)
        LOG_WARN("units failed why=\"%s\"", e ? e->text : status_text(st));
    else
        LOG_INFO("made units=%" PRIu64 " tokens=%" PRIu64 " accepted=%" PRIu64
                 " refused=%" PRIu64,
                 c->units_made, c->tokens, c->accepted, c->refused);
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

    (void)now_ms;
    (void)out;
    infer_stop(w->infer);
    maybe_stop(w);
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
    st = setup_open(&w->setup, bundle, &eo, &e);
    if (st) {
        station_fail(&w->at, st, &e);
        return;
    }
    const struct model_set_options mo = {
        .kernels = setup_kernels(w->setup, w->kernels),
        .pool = w->pool,
        .cap = setup_versions(w->setup),
        .tamper = w->opt->cheat == CHEAT_INT8 ? cheat_quantise : NULL,
    };
    model_set_new(&w->models, &w->setup->config, &mo);
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
    enum status st = kernels_choose(&w->kernels, NUMERICS_F32_1, n->kernels, e);

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
        LOG_INFO("start dir=%s threads=%" PRId64 " kernels=%s units=%" PRId64 " cheat=%s",
                 opt->node.dir, opt->node.threads, kernels_name(w.kernels), opt->units,
                 infer_cheat_name(opt->cheat));
        st = station_run(&w.at, e);
    }
    station_close(&w.at);
    infer_free(&w.infer);
    model_set_free(&w.models);
    setup_close(&w.setup);
    pool_free(&w.pool);
    return st;
}
