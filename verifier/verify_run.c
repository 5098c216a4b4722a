#include "verifier/verify_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"
#include "base/pool.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "proto/digest.h"
#include "proto/states.h"
#include "replay/dispute_jobs.h"
#include "replay/dispute_state.h"
#include "rollout/check.h"
#include "rollout/evidence.h"
#include "rollout/model_set.h"
#include "rollout/room.h"
#include "rollout/setup.h"
#include "shardcast/station.h"
#include "verifier/head_file.h"
#include "verifier/standing.h"
#include "verifier/verify_cheat.h"
#include "verifier/verify_copy.h"
#include "verifier/verify_state.h"

#define LOG_MODULE "verifier"
#include "base/log.h"

_Static_assert(1 + MSG_MAX_OPENED <= ROLLOUT_PROBE_MAX, "one's own and those to be opened");

#define RESULT_MAX   ((size_t)256 << 10) /* of so many light checks */
#define DISPUTE_BOOT 1u /* tells the questions of disputes from the validator's own */

struct validator {
    const struct verify_run_options *opt;
    struct station at;
    struct verify *verify;
    struct verify_copy *copy; /* of a cheat; else NULL */
    struct head_file heads;
    struct dispute_state *steps; /* versions to be recomputed */
    bool recomputes;
    int64_t pinned;              /* beside version 0; -1: none */
    struct dispute_jobs replays; /* of the job thread; set up with `setup` */
    struct digest run;
    struct pool *pool;
    struct device *device; /* owned; NULL: the CPU */
    const struct kernels *kernels;
    struct setup *setup; /* of the job thread, set before the first job starts */
    struct model_set *models;
    struct standing *standing; /* owned: of the job thread */
    struct model_set *exact;   /* owned; in open classes: what refuses only with `models` */
    char said[MSG_TEXT_BYTES];
};

/* ---- on the job thread ------------------------------------------------------------------- */

/* The model of a version in a set, read from its file when it is not loaded. ERR_NOT_FOUND: the file is
 * not here yet. */
static enum status model_of(struct validator *v, struct model_set *set, int64_t version,
                            struct model **model, struct err *e)
{
    struct file_map file = {0};
    enum status st = OK;

    *model = model_set_find(set, version);
    if (*model)
        return OK;
    st = cast_map(v->at.cast, version, &file, e);
    if (!st)
        st = model_set_add(set, version, file.bytes, e);
    *model = model_set_find(set, version);
    file_map_close(&file);
    return st;
}

/* The version's root and, for a full check, its model. ERR_NOT_FOUND: not here yet. */
static enum status version_of(struct validator *v, int64_t version, bool full,
                              struct model **model, struct digest *root, struct err *e)
{
    struct msg_manifest m;
    struct buf envelope;
    enum status st;

    *model = NULL;
    buf_init(&envelope, MSG_MAX_BYTES);
    st = cast_manifest_decoded(v->at.cast, version, &envelope, &m, e);
    if (!st)
        *root = m.weights;
    if (!st && full)
        st = model_of(v, v->models, version, model, e);
    buf_clear(&envelope);
    return st;
}

/* The worker's opening, which the orchestrator has from it. *o: NULL if it did not open. */
static enum status read_opening(const struct msg_check *c, const struct public_key *worker,
                                struct msg_opening *opening, const struct msg_opening **o,
                                struct err *e)
{
    struct msg_envelope env;
    enum status st;

    *o = NULL;
    if (!c->opening.len)
        return OK;
    st = msg_envelope_decode(&env, c->opening, e);
    if (!st && (env.kind != MSG_OPENING || !key_equal(&env.signer, worker)))
        st = err_set(e, ERR_MALFORMED, "the opening is not the worker's");
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_opening_decode(opening, env.body, e);
    if (!st)
        *o = opening;
    return st; /* the orchestrator's fault, and no verdict on anybody */
}

static enum status judge(struct validator *v, const struct msg_check *c,
                         const struct public_key *worker, const struct msg_submit *s,
                         struct rollout_probe *probe, struct rollout_finding *f, struct err *e)
{
    const struct msg_opening *o;
    struct msg_opening opening;
    struct model *model;
    struct digest root;
    enum status st;

    if (verify_cheat_says(f, probe, v->opt, worker, s))
        return OK;
    st = version_of(v, s->version, c->depth == CHECK_FULL, &model, &root, e);
    if (!st)
        st = read_opening(c, worker, &opening, &o, e);
    if (st)
        return st;
    struct rollout_world w = setup_world(v->setup, model, s->version, &root);
    const struct rollout_heights before = standing_of(v->standing, worker, c->lease);
    struct rollout_heights heights = before;

    w.heights = &heights;
    st = rollout_check(&w, s, o, (enum check_depth)c->depth, probe, f, e);
    if (!st && !f->is_accepted && reason_is_opinion(f->code)) {
        /* Two stages: only what exact sums refuse as well is refused. Their model is loaded for this. */
        heights = before;
        st = model_of(v, v->exact, s->version, &w.second, e);
        if (!st)
            st = rollout_check(&w, s, o, (enum check_depth)c->depth, probe, f, e);
    }
    if (!st && o)
        standing_put(v->standing, worker, c->lease,
                     f->is_accepted ? heights : (struct rollout_heights){0});
    return st;
}

/* Files what anyone needs to replay this rejection as DIR/evidence/unit-U-lease-L.evidence. A
 * failure is told and changes nothing about the verdict. */
static enum status keep_evidence(struct validator *v, const struct msg_check *c,
                                 const struct msg_submit *s, struct err *e)
{
    char *dir = file_join(v->opt->node.dir, "evidence");
    char name[80], *path;
    struct file_map weights = {0};
    struct buf manifest, out;
    struct evidence ev = {.submission = c->submission, .bundle = buf_bytes(&v->setup->bundle)};
    enum status st = file_mkdirs(dir, 0700, e);

    snprintf(name, sizeof(name), "unit-%" PRIu64 "-lease-%" PRIu64 ".evidence", c->unit,
             c->lease);
    path = file_join(dir, name);
    buf_init(&manifest, MSG_MAX_BYTES);
    buf_init(&out, EVIDENCE_MAX_BYTES);
    if (!st)
        st = cast_manifest(v->at.cast, s->version, &manifest, e);
    if (!st)
        st = cast_map(v->at.cast, s->version, &weights, e);
    ev.manifest = buf_bytes(&manifest);
    ev.weights = weights.bytes;
    if (!st)
        st = evidence_encode(&out, &ev, e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&out), 0644, e);
    buf_clear(&out);
    file_map_close(&weights);
    buf_clear(&manifest);
    free(path);
    free(dir);
    return st;
}

/* Whose places the check looks at: its own, then those it is to open. */
static void probe_of(struct rollout_probe *p, const struct validator *v,
                     const struct msg_check *c)
{
    *p = (struct rollout_probe){.draw = c->draw, .n = 1, .who = {v->at.key->node}};
    if (c->peers.len)
        memcpy(&p->who[1], c->peers.data, c->peers.len);
    p->n += (uint32_t)(c->peers.len / KEY_BYTES);
}

/* What a verdict says of them; into `opened`, which the verdict lends. */
static void add_states(struct msg_verdict *out, const struct rollout_probe *p,
                       uint8_t opened[MSG_MAX_OPENED * (KEY_BYTES + DIGEST_BYTES)])
{
    bool is_made =
        out->code == REASON_NONE || out->code == REASON_TOKEN || out->code == REASON_LOGPROB;

    if (digest_is_zero(&p->draw) || !is_made)
        return;
    states_seal(&out->states, &p->who[0], &p->found[0]);
    out->opened.data = opened;
    for (uint32_t i = 1; i < p->n; i++, out->opened.len += KEY_BYTES + DIGEST_BYTES) {
        memcpy(opened + out->opened.len, p->who[i].b, KEY_BYTES);
        memcpy(opened + out->opened.len + KEY_BYTES, p->found[i].b, DIGEST_BYTES);
    }
}

static void verdict_of(struct msg_verdict *out, const struct msg_check *c,
                       const struct rollout_finding *f)
{
    memset(out, 0, sizeof(*out));
    out->unit = c->unit;
    out->lease = c->lease;
    digest_of(&out->submission, c->submission);
    out->depth = c->depth;
    out->is_accepted = f->is_accepted;
    out->code = (uint32_t)f->code;
    out->sample = f->sample;
    out->position = f->position;
    out->claimed = f->claimed;
    out->found = f->found;
    memcpy(out->text, f->text, sizeof(out->text));
}

/* Appends the encoded verdict on the submission of `c`. */
static enum status check_one(struct validator *v, const struct msg_check *c, struct buf *result,
                             struct err *e)
{
    struct msg_submit *s = xcalloc(1, sizeof(*s));
    struct rollout_finding f = {.code = REASON_MALFORMED};
    struct rollout_probe probe;
    uint8_t opened[MSG_MAX_OPENED * (KEY_BYTES + DIGEST_BYTES)];
    struct msg_envelope env;
    struct msg_verdict verdict;
    enum status st = OK;

    probe_of(&probe, v, c);
    if (msg_envelope_decode(&env, c->submission, NULL) || env.kind != MSG_SUBMIT ||
        msg_submit_decode(s, env.body, NULL))
        snprintf(f.text, sizeof(f.text), "the submission does not decode");
    else if (msg_envelope_verify(&env, NULL))
        f.code = REASON_SIGNATURE;
    else if (s->unit != c->unit || s->lease != c->lease)
        f.code = REASON_NO_LEASE;
    else
        st = judge(v, c, &env.signer, s, &probe, &f, e);
    if (!st && !f.is_accepted && reason_is_hard(f.code))
        st = keep_evidence(v, c, s, e); /* nobody is accused without */
    if (!st) {
        verdict_of(&verdict, c, &f);
        add_states(&verdict, &probe, opened);
        st = msg_verdict_encode(result, &verdict, e);
    }
    free(s);
    return st;
}

/* Light checks, one after the other; one that comes to no verdict is somebody else's later. */
static enum status check_light_ones(struct validator *v, const struct msg_checks *m,
                                    struct buf *result, struct err *e)
{
    struct buf one, all;
    uint32_t n = 0;

    buf_init(&one, RESULT_MAX);
    buf_init(&all, RESULT_MAX);
    for (uint32_t i = 0; i < m->n; i++) {
        const struct msg_check c = {.unit = m->item[i].unit,
                                    .lease = m->item[i].lease,
                                    .depth = CHECK_LIGHT,
                                    .submission = m->item[i].submission};
        enum status st;

        buf_reset(&one);
        st = check_one(v, &c, &one, e);
        if (st == ERR_NOT_FOUND && !n) { /* the version is not here yet */
            buf_clear(&one);
            buf_clear(&all);
            return st;
        }
        if (st) {
            LOG_WARN("check failed unit=%" PRIu64 " why=\"%s\"", c.unit, e->text);
            continue;
        }
        buf_put_blob(&all, buf_bytes(&one));
        n++;
    }
    buf_put_u32(result, n);
    buf_append(result, buf_bytes(&all));
    buf_clear(&one);
    buf_clear(&all);
    return buf_status(result, e);
}

static enum status run_job(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e)
{
    struct validator *v = ctx;
    struct msg_checks many;
    struct msg_check one;
    enum status st;

    (void)number;
    if (dispute_job_is(job))
        return dispute_jobs_run(&v->replays, job, args, result, e);
    if (job == VERIFY_JOB_LIGHT) {
        st = msg_checks_decode(&many, args, e);
        return st ? st : check_light_ones(v, &many, result, e);
    }
    st = msg_check_decode(&one, args, e);
    return st ? st : check_one(v, &one, result, e);
}

/* ---- on the shell's thread --------------------------------------------------------------- */

/* Version 0, which others are recomputed from, and the one whose file is looked at. */
static void pin(struct validator *v)
{
    const int64_t version[] = {0, dispute_state_needs(v->steps)};
    struct err e;
    enum status st;

    if (!v->recomputes || version[1] == v->pinned)
        return;
    v->pinned = version[1];
    st = cast_set_pins(v->at.cast, version, version[1] > 0 ? 2 : 1, &e);
    if (st)
        station_fail(&v->at, st, &e);
}

static void say_why(struct validator *v)
{
    const char *why = verify_why(v->verify);

    if (!why[0] || !strncmp(why, v->said, sizeof(v->said) - 1))
        return;
    snprintf(v->said, sizeof(v->said), "%s", why);
    LOG_INFO("wait why=\"%s\"", why);
}

static void maybe_stop(struct validator *v)
{
    bool over = member_is_done(v->at.member) || verify_is_drained(v->verify);

    if (over && verify_is_idle(v->verify))
        shell_stop(v->at.shell);
}

/* A head is on disk before it is answered. False: it is not, and the message is to be ignored. */
static bool keep_head(struct validator *v, struct bytes data)
{
    const struct public_key *server = member_server(v->at.member);
    struct msg_envelope env;
    struct err e;
    enum status st = ERR_DENIED;

    if (msg_envelope_decode(&env, data, NULL) || env.kind != MSG_WITNESS_CALL)
        return true;
    if (server)
        st = head_file_put(&v->heads, data, server, &e);
    if (st == ERR_FULL || st == ERR_IO)
        station_fail(&v->at, st, &e);
    else if (st)
        LOG_ERROR("head refused why=\"%s\"", server ? e.text : "not admitted yet");
    return !st;
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct validator *v = ctx;
    struct run_news news;

    if (member_message(v->at.member, m, now_ms, out))
        return;
    if (!keep_head(v, m->data) ||
        (v->copy && verify_copy_message(v->copy, m->data, now_ms, out)))
        return;
    if (dispute_state_message(v->steps, m->data, now_ms, out)) {
        pin(v);
        return;
    }
    verify_message(v->verify, m->data, now_ms, &news, out);
    if (news.is_set)
        member_note(v->at.member, news.head_version, news.roster_seq, news.is_done, now_ms,
                    out);
    say_why(v);
    maybe_stop(v);
}

static void on_job(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out)
{
    struct validator *v = ctx;
    struct msg_verdict m;
    struct err why;
    struct buf copied;

    if (dispute_job_is(job)) {
        if (st)
            LOG_WARN("version is not recomputed job=%" PRIu32 " why=\"%s\"", job,
                     e ? e->text : status_text(st));
        if (st == ERR_FULL)
            station_fail(&v->at, st, e);
        dispute_state_job(v->steps, job, number, st, result, e, now_ms, out);
        return;
    }
    if (!st && job == VERIFY_JOB_CHECK && !msg_verdict_decode(&m, result, NULL)) {
        if (m.is_accepted)
            LOG_DEBUG("verdict unit=%" PRIu64 " accepted depth=%" PRIu32, m.unit, m.depth);
        else
            LOG_WARN("verdict unit=%" PRIu64 " rejected why=%s text=\"%s\"", m.unit,
                     reason_name((enum reason)m.code), m.text);
    } else if (st && st != ERR_NOT_FOUND) {
        LOG_WARN("check failed why=\"%s\"", e ? e->text : status_text(st));
    }
    buf_init(&copied, RESULT_MAX);
    if (v->copy && !st && job == VERIFY_JOB_CHECK) {
        verify_copy_verdict(v->copy, &copied, result);
        result = buf_bytes(&copied);
    }
    verify_job(v->verify, number, st, result, e, now_ms, out);
    if (st && device_wait(v->device, &why))
        station_fail(&v->at, ERR_IO, &why); /* others check what this one was to */
    else if (st == ERR_FULL)
        station_fail(&v->at, st, e);
    buf_clear(&copied);
    maybe_stop(v);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct validator *v = ctx;

    member_tick(v->at.member, now_ms, out);
    if (v->copy)
        verify_copy_tick(v->copy, now_ms, out);
    verify_versions(v->verify, cast_oldest(v->at.cast), cast_newest(v->at.cast), now_ms, out);
    dispute_state_tick(v->steps, now_ms, out);
    say_why(v);
    maybe_stop(v);
}

static void on_version(void *ctx, int64_t version)
{
    struct validator *v = ctx;

    (void)version;
    shell_wake(v->at.part);
}

static void on_welcome(void *ctx, const struct msg_welcome *m, int64_t now_ms,
                       struct effects *out)
{
    struct validator *v = ctx;

    v->run = m->run;
    verify_welcome(v->verify, member_peer(v->at.member), &m->run);
    if (v->copy)
        verify_copy_welcome(v->copy, member_peer(v->at.member), &m->run, now_ms, out);
}

static void on_done(void *ctx, int64_t now_ms, struct effects *out)
{
    struct validator *v = ctx;

    (void)now_ms;
    (void)out;
    verify_stop(v->verify);
    dispute_state_stop(v->steps);
    maybe_stop(v);
}

static enum status published(void *ctx, int64_t version, struct file_map *file, struct err *e)
{
    struct validator *v = ctx;

    return cast_map(v->at.cast, version, file, e);
}

/* What it takes to recompute versions: version 0 at hand, and a course. */
static void start_replays(struct validator *v, int64_t now_ms, struct effects *out)
{
    const struct replica_options ro = {.setup = v->setup,
                                       .course = {.run = v->run,
                                                  .kernels = v->kernels,
                                                  .pool = v->pool,
                                                  .model = v->opt->model,
                                                  .processes = 1},
                                       .dir = v->opt->node.dir,
                                       .ctx = v,
                                       .published = published};

    v->recomputes = v->setup->task.acceptance.step_ppm > 0 &&
                    !strcmp(task_train_numerics(&v->setup->task), "f32-1");
    v->pinned = INT64_MIN;
    dispute_jobs_init(&v->replays, &ro);
    pin(v);
    dispute_state_ready(v->steps, member_peer(v->at.member), &v->run, v->recomputes, now_ms,
                        out);
}

static void on_bundle(void *ctx, const struct digest *task, struct bytes bundle, int64_t now_ms,
                      struct effects *out)
{
    struct validator *v = ctx;
    const struct env_options eo = {.allow_unsandboxed = v->opt->allow_unsandboxed};

    struct err e;
    enum status st;

    (void)task;
    if (v->setup)
        return;
    const struct kernels *kernels = NULL, *exact = NULL;

    st = setup_open(&v->setup, bundle, &eo, &e);
    if (!st)
        st = setup_kernels(&kernels, v->setup, v->kernels, &e);
    if (!st)
        st = setup_train_kernels(&exact, v->setup, v->kernels, &e);
    if (!st)
        st = room_check(v->setup, kernels, room_to_check(v->setup, kernels), "checking units",
                        &e);
    if (st) {
        station_fail(&v->at, st, &e);
        return;
    }
    struct model_set_options mo = {
        .kernels = kernels,
        .pool = v->pool,
        .cap = setup_versions(v->setup),
    };
    model_set_new(&v->models, &v->setup->config, &mo);
    mo.kernels = exact;
    mo.cap = 1;
    model_set_new(&v->exact, &v->setup->config, &mo);
    standing_new(&v->standing);
    cast_set_keep(v->at.cast, setup_versions(v->setup));
    LOG_INFO("task name=%s numerics=%s sandbox=%s", v->setup->task.name,
             task_numerics(&v->setup->task), env_is_sandboxed(v->setup->env) ? "yes" : "no");
    start_replays(v, now_ms, out);
    verify_ready(v->verify);
    if (v->setup->task.acceptance.witnesses)
        verify_witness(v->verify, v->heads.seq);
    verify_tick(v->verify, now_ms, out);
}

static enum status start(struct validator *v, struct err *e)
{
    const struct node_options *n = &v->opt->node;
    const struct station_options so = {
        .node = n,
        .ops = {v, on_message, on_job, on_timer, run_job},
        .max_job_result = DISPUTE_RESULT_MAX,
        .cast = {.ctx = v, .on_version = on_version},
        .member = {.role = ROLE_VERIFIER,
                   .wants_bundle = true,
                   .ctx = v,
                   .on_welcome = on_welcome,
                   .on_bundle = on_bundle,
                   .on_done = on_done},
    };
    struct verify_options vo = {0};
    enum status st =
        device_choose(&v->device, &v->kernels, n->device, NUMERICS_F32_1, n->kernels, e);

    if (!st)
        st = station_open(&v->at, &so, e);
    if (st)
        return st;
    st = head_file_open(&v->heads, n->dir, e);
    if (st)
        return st;
    pool_new(&v->pool, (size_t)n->threads);
    randombytes_buf(&vo.boot, sizeof(vo.boot));
    vo.key = v->at.key;
    verify_new(&v->verify, &vo);
    const struct dispute_state_options dso = {.key = v->at.key,
                                              .boot = vo.boot ^ DISPUTE_BOOT,
                                              .is_validator = true,
                                              .accuses =
                                                  v->opt->cheat == VERIFY_CHEAT_FRAMING ||
                                                  v->opt->cheat == VERIFY_CHEAT_CHALLENGING,
                                              .is_lazy = v->opt->cheat == VERIFY_CHEAT_LAZY};
    dispute_state_new(&v->steps, &dso);
    if (v->opt->cheat == VERIFY_CHEAT_COPYING)
        verify_copy_new(&v->copy, v->at.key, ~vo.boot);
    return OK;
}

enum status verify_run(const struct verify_run_options *opt, struct err *e)
{
    struct validator v = {.opt = opt, .at = STATION_CLOSED, .heads = HEAD_FILE_CLOSED};
    enum status st = start(&v, e);

    if (!st) {
        LOG_INFO("start dir=%s threads=%" PRId64 " device=\"%s\" kernels=%s cheat=%s",
                 opt->node.dir, opt->node.threads, device_name(v.device),
                 kernels_name(v.kernels), verify_cheat_name(opt->cheat));
        st = station_run(&v.at, e);
        LOG_INFO("end checked=%" PRIu64 " full=%" PRIu64 " rejected=%" PRIu64,
                 verify_counts(v.verify)->checked, verify_counts(v.verify)->full,
                 verify_counts(v.verify)->rejected);
    }
    station_close(&v.at);
    head_file_close(&v.heads);
    verify_free(&v.verify);
    verify_copy_free(&v.copy);
    dispute_state_free(&v.steps);
    if (v.setup)
        dispute_jobs_clear(&v.replays);
    model_set_free(&v.models);
    model_set_free(&v.exact);
    standing_free(&v.standing);
    setup_close(&v.setup);
    pool_free(&v.pool);
    device_close(&v.device);
    return st;
}
