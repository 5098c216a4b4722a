#include "trainer/train_run.h"

#include <inttypes.h>
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
#include "proto/digest.h"
#include "replay/course.h"
#include "replay/dispute_jobs.h"
#include "replay/dispute_state.h"
#include "shardcast/station.h"
#include "trainer/train_state.h"

#define LOG_MODULE "trainer"
#include "base/log.h"

#define N_CHECKPOINTS 2
#define DISPUTE_BOOT  1u /* tells the questions of disputes from the trainer's own */
#define SKIP          4  /* versions that the longer patches pass over */

struct trainer {
    const struct train_run_options *opt;
    struct station at;
    struct train_state *state;
    struct pool *pool;
    struct device *device; /* owned; NULL: the CPU */
    const struct kernels *kernels;
    struct setup *setup;
    struct dispute_state *answers; /* for versions that were challenged */
    struct dispute_jobs replays;   /* of the job thread; set up with `setup` */
    struct course course;          /* of the job thread while a job runs, else of the shell's */
    struct digest run;
    bool is_stopping; /* read by the warm-up's progress */
    char said[MSG_TEXT_BYTES];
};

/* ---- on the job thread ------------------------------------------------------------------- */

static char *path_of(const struct trainer *t, const char *name)
{
    return file_join(t->opt->node.dir, name);
}

static char *checkpoint_path(const struct trainer *t, unsigned i)
{
    char name[32];

    snprintf(name, sizeof(name), "checkpoint.%u", i);
    return path_of(t, name);
}

static enum status save(struct trainer *t, struct err *e)
{
    int64_t every = t->opt->checkpoint_every;
    int64_t v = t->course.version;
    bool is_last = v >= t->setup->task.algorithm.steps;
    char *path;
    enum status st;

    if (v % every && !is_last)
        return OK;
    path = checkpoint_path(t, (unsigned)(v / every + (is_last && v % every)) % N_CHECKPOINTS);
    st = course_save(&t->course, path, e);
    free(path);
    return st;
}

/* The newest checkpoint that loads. ERR_NOT_FOUND: there is none. */
static enum status load_newest(struct trainer *t, struct err *e)
{
    int64_t best = -1;
    unsigned best_i = 0;

    for (unsigned i = 0; i < N_CHECKPOINTS; i++) {
        char *path = checkpoint_path(t, i);
        struct err why;
        enum status st = course_load(&t->course, path, &why);

        free(path);
        if (!st && t->course.version > best) {
            best = t->course.version;
            best_i = i;
        }
        if (st && st != ERR_NOT_FOUND)
            LOG_WARN("checkpoint.%u is passed over why=\"%s\"", i, why.text);
    }
    if (best < 0)
        return err_set(e, ERR_NOT_FOUND, "no checkpoint");
    if (t->course.version == best)
        return OK;
    char *path = checkpoint_path(t, best_i);
    enum status st = course_load(&t->course, path, e);
    free(path);
    return st;
}

/* What else the directory that the task began with says of its tokenizer, a chat template for one.
 * That it is gone by now does no harm. */
static void save_tokenizer_of(const char *model, const char *dir)
{
    struct tokenizer *t = NULL;
    enum status st = tokenizer_load(&t, model, NULL);

    if (!st)
        st = tokenizer_save(t, dir, NULL);
    if (st)
        LOG_WARN("nothing is taken over of the tokenizer's files dir=%s", model);
    tokenizer_free(&t);
}

static enum status export_model(struct trainer *t, const char *name, struct err *e)
{
    const char *model = course_model_dir(t->setup, &t->course.options);
    char *dir = path_of(t, name);
    enum status st =
        weights_save(learner_published(t->course.learner), dir, t->setup->config.dtype, e);

    if (!st && model)
        save_tokenizer_of(model, dir);
    if (!st)
        st = tokenizer_save(t->setup->tokenizer, dir, e);
    if (!st)
        LOG_INFO("exported version=%" PRId64 " dir=%s", t->course.version, dir);
    free(dir);
    return st;
}

static bool warm_up_progress(void *arg, uint64_t step, uint64_t steps, float loss)
{
    struct trainer *t = arg;

    if (step % 10 == 0 || step == steps)
        LOG_INFO("warm-up step=%" PRIu64 "/%" PRIu64 " loss=%.4f", step, steps, (double)loss);
    return !__atomic_load_n(&t->is_stopping, __ATOMIC_RELAXED);
}

static void tell_plan(const struct trainer *t)
{
    LOG_INFO("plan processes=%" PRId64 " mib=%" PRIu64 " each_other_mib=%" PRIu64,
             t->opt->processes, t->course.own_bytes >> 20, t->course.each_bytes >> 20);
}

static enum status open_course(struct trainer *t, struct err *e)
{
    enum status st = load_newest(t, e);

    if (!st) {
        tell_plan(t);
        LOG_INFO("resumed version=%" PRId64, t->course.version);
        return OK;
    }
    if (st != ERR_NOT_FOUND)
        return st;
    st = course_begin(&t->course, e);
    if (!st)
        tell_plan(t);
    if (!st)
        st = course_warm_up(&t->course, warm_up_progress, t, e);
    if (!st)
        st = export_model(t, "model-v0", e);
    return st ? st : save(t, e);
}

static enum status take_step(struct trainer *t, struct bytes args, struct err *e)
{
    struct msg_batch *m = xcalloc(1, sizeof(*m));
    int64_t start_us = clock_mono_us();
    enum status st = msg_batch_decode(m, args, e);
    const struct learn_report *r = &t->course.report;

    if (!st)
        st = course_step(&t->course, m, e);
    if (!st)
        st = save(t, e);
    if (!st)
        LOG_INFO("step n=%" PRId64 " version=%" PRId64 " units=%" PRIu32
                 " loss=%.5f reward=%.4f kl=%.5f clipped=%.3f grad=%.4f lr=%.2e ms=%" PRId64,
                 t->course.version - 1, t->course.version, m->n, (double)r->loss,
                 (double)r->reward_mean, (double)r->kl, (double)r->clipped,
                 (double)r->grad_norm, (double)r->lr, (clock_mono_us() - start_us) / 1000);
    free(m);
    return st;
}

static enum status run_job(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e)
{
    struct trainer *t = ctx;
    enum status st;

    (void)number;
    if (dispute_job_is(job))
        return dispute_jobs_run(&t->replays, job, args, result, e);
    if (job == TRAIN_JOB_EXPORT)
        return export_model(t, "model", e);
    st = job == TRAIN_JOB_OPEN ? open_course(t, e) : take_step(t, args, e);
    if (st)
        return st;
    buf_put_u64(result, (uint64_t)t->course.version);
    buf_put_blob(result, buf_bytes(&t->course.manifest));
    return buf_status(result, e);
}

/* ---- on the shell's thread --------------------------------------------------------------- */

/* Patches from the version before, and from four before where that is a multiple of four: who lags
 * takes fewer of those. What cannot be made is done without. */
static void announce_patches(struct trainer *t, const struct msg_manifest *m, struct bytes file)
{
    const int64_t bases[] = {m->version - 1, m->version % SKIP ? -1 : m->version - SKIP};

    for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        bool pays = false;
        struct err e;

        if (bases[i] < 0)
            continue;
        if (cast_publish_delta(t->at.cast, m, bases[i], file, &pays, &e))
            LOG_WARN("patch version=%" PRId64 " base=%" PRId64 " why=\"%s\"", m->version,
                     bases[i], e.text);
        LOG_DEBUG("patch version=%" PRId64 " base=%" PRId64 " pays=%d", m->version, bases[i],
                  pays);
    }
}

static void announce_state(struct trainer *t, const struct msg_manifest *m)
{
    struct buf file;
    struct err e;
    enum status st;

    if (!t->opt->state_every || m->version % t->opt->state_every)
        return;
    buf_init(&file, course_state_bytes(&t->course));
    st = course_state_file(&t->course, &file, &e);
    if (!st)
        st = cast_publish_other(t->at.cast, m, CONTENT_STATE, buf_bytes(&file), &e);
    if (st)
        LOG_WARN("state version=%" PRId64 " why=\"%s\"", m->version, e.text);
    buf_clear(&file);
}

/* Hands the version to shardcast: shards stored, manifest durable, then announced. No job runs
 * now, so the course is ours to read. */
static void announce(struct trainer *t)
{
    struct bytes manifest;
    int64_t version = train_state_take_announcement(t->state, &manifest);
    struct msg_manifest m;
    struct buf envelope, file;
    struct digest d;
    struct idem idem;
    struct err e;
    enum status st;

    if (version < 0)
        return;
    digest_of(&d, manifest);
    memcpy(idem.b, d.b, sizeof(idem.b)); /* the same version, the same bytes, in every life */
    buf_init(&envelope, MSG_MAX_BYTES);
    buf_init(&file, course_file_bytes(&t->course));
    st = msg_envelope_encode(&envelope, MSG_PUBLISH, &t->run, &idem, manifest,
                             t->at.key->node_secret, &e);
    if (!st)
        st = course_file(&t->course, &file, &e);
    if (!st)
        st = msg_manifest_decode(&m, manifest, &e);
    if (!st) /* first, so that who hears of the version has heard of them */
        announce_patches(t, &m, buf_bytes(&file));
    if (!st)
        st = cast_publish(t->at.cast, buf_bytes(&envelope), buf_bytes(&file), &e);
    if (!st)
        announce_state(t, &m);
    if (st)
        station_fail(&t->at, st, &e);
    buf_clear(&file);
    buf_clear(&envelope);
}

static void look(struct trainer *t)
{
    const char *why = train_state_why(t->state);
    struct err e;
    enum status st = train_state_failure(t->state, &e);

    announce(t);
    if (st)
        station_fail(&t->at, st, &e);
    if (train_state_is_done(t->state) && member_is_done(t->at.member))
        shell_stop(t->at.shell);
    if (!why[0] || !strncmp(why, t->said, sizeof(t->said) - 1))
        return;
    snprintf(t->said, sizeof(t->said), "%s", why);
    LOG_DEBUG("wait why=\"%s\"", why);
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct trainer *t = ctx;
    struct run_news news;

    if (member_message(t->at.member, m, now_ms, out)) {
        look(t);
        return;
    }
    if (dispute_state_message(t->answers, m->data, now_ms, out))
        return;
    train_state_message(t->state, m->data, now_ms, &news, out);
    if (news.is_set)
        member_note(t->at.member, news.head_version, news.roster_seq, news.is_done, now_ms,
                    out);
    look(t);
}

static void on_job(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out)
{
    struct trainer *t = ctx;

    if (dispute_job_is(job)) {
        if (st)
            LOG_WARN("dispute job=%" PRIu32 " why=\"%s\"", job, e ? e->text : status_text(st));
        if (st == ERR_FULL)
            station_fail(&t->at, st, e);
        dispute_state_job(t->answers, job, number, st, result, e, now_ms, out);
        return;
    }
    if (st)
        LOG_ERROR("job failed job=%" PRIu32 " why=\"%s\"", job, e ? e->text : status_text(st));
    train_state_job(t->state, job, st, result, e, now_ms, out);
    look(t);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct trainer *t = ctx;

    member_tick(t->at.member, now_ms, out);
    train_state_tick(t->state, now_ms, out);
    dispute_state_tick(t->answers, now_ms, out);
    look(t);
}

static void on_welcome(void *ctx, const struct msg_welcome *m, int64_t now_ms,
                       struct effects *out)
{
    struct trainer *t = ctx;

    (void)now_ms;
    (void)out;
    t->run = m->run;
    train_state_welcome(t->state, member_peer(t->at.member), &m->run);
}

static enum status published(void *ctx, int64_t version, struct file_map *file, struct err *e)
{
    struct trainer *t = ctx;

    return cast_map(t->at.cast, version, file, e);
}

/* What it takes to answer for a version: version 0 at hand, and a course beside its own. */
static void start_replays(struct trainer *t, const struct course_options *co, int64_t now_ms,
                          struct effects *out)
{
    struct replica_options ro = {.setup = t->setup,
                                 .course = *co,
                                 .dir = t->opt->node.dir,
                                 .ctx = t,
                                 .published = published};
    const int64_t first = 0;
    struct err e;
    enum status st;

    ro.course.processes = 1;
    dispute_jobs_init(&t->replays, &ro);
    st = cast_set_pins(t->at.cast, &first, 1, &e);
    if (st)
        station_fail(&t->at, st, &e);
    dispute_state_ready(t->answers, member_peer(t->at.member), &t->run, false, now_ms, out);
}

static void on_bundle(void *ctx, const struct digest *task, struct bytes bundle, int64_t now_ms,
                      struct effects *out)
{
    struct trainer *t = ctx;
    const struct env_options eo = {.allow_unsandboxed = t->opt->allow_unsandboxed};
    const struct course_options co = {.run = t->run,
                                      .kernels = t->kernels,
                                      .pool = t->pool,
                                      .model = t->opt->model,
                                      .processes = (uint32_t)t->opt->processes,
                                      .cheat = t->opt->cheat};
    struct err e;
    enum status st;

    (void)task;
    if (t->setup)
        return;
    st = setup_open(&t->setup, bundle, &eo, &e);
    if (st) {
        station_fail(&t->at, st, &e);
        return;
    }
    course_init(&t->course, t->setup, &co);
    start_replays(t, &co, now_ms, out);
    cast_set_keep(t->at.cast, setup_versions(t->setup));
    LOG_INFO("task name=%s parameters=%" PRIu64 " steps=%" PRId64, t->setup->task.name,
             model_config_params(&t->setup->config), t->setup->task.algorithm.steps);
    train_state_ready(t->state, (uint64_t)t->setup->task.algorithm.steps, now_ms, out);
}

static enum status start(struct trainer *t, struct err *e)
{
    const struct node_options *n = &t->opt->node;
    const struct station_options so = {
        .node = n,
        .ops = {t, on_message, on_job, on_timer, run_job},
        .max_job_result = MSG_MAX_BYTES,
        .cast = {.ctx = t},
        .member = {.role = ROLE_TRAINER,
                   .wants_bundle = true,
                   .ctx = t,
                   .on_welcome = on_welcome,
                   .on_bundle = on_bundle},
    };
    struct train_state_options tso = {0};
    enum status st =
        device_choose(&t->device, &t->kernels, n->device, NUMERICS_F32_1, n->kernels, e);

    if (!st)
        st = station_open(&t->at, &so, e);
    if (st)
        return st;
    pool_new(&t->pool, (size_t)n->threads);
    randombytes_buf(&tso.boot, sizeof(tso.boot));
    tso.key = t->at.key;
    train_state_new(&t->state, &tso);
    const struct dispute_state_options dso = {.key = t->at.key,
                                              .boot = tso.boot ^ DISPUTE_BOOT,
                                              .is_silent = t->opt->cheat == TRAIN_CHEAT_SILENT};
    dispute_state_new(&t->answers, &dso);
    return OK;
}

enum status train_run(const struct train_run_options *opt, struct err *e)
{
    struct trainer t = {.opt = opt, .at = STATION_CLOSED};
    enum status st = start(&t, e);

    if (!st) {
        LOG_INFO("start dir=%s threads=%" PRId64 " processes=%" PRId64
                 " device=\"%s\" kernels=%s checkpoint_every=%" PRId64 " cheat=%s",
                 opt->node.dir, opt->node.threads, opt->processes, device_name(t.device),
                 kernels_name(t.kernels), opt->checkpoint_every, train_cheat_name(opt->cheat));
        st = station_run(&t.at, e);
    }
    __atomic_store_n(&t.is_stopping, true, __ATOMIC_RELAXED);
    station_close(&t.at);
    train_state_free(&t.state);
    dispute_state_free(&t.answers);
    if (t.setup)
        dispute_jobs_clear(&t.replays);
    course_clear(&t.course);
    setup_close(&t.setup);
    pool_free(&t.pool);
    device_close(&t.device);
    return st;
}
