#include "replay/course.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/checkpoint.h"
#include "engine/device.h"
#include "engine/safetensors.h"
#include "shardcast/cast_cut.h"

#define MICRO_ROWS 1024u       /* rows of a micro-batch: cut so, activations stay in cache */
#define META_MAGIC 0x3152434du /* "MCR1" */

void course_init(struct course *c, struct setup *setup, const struct course_options *options)
{
    memset(c, 0, sizeof(*c));
    c->setup = setup;
    c->options = *options;
    c->version = -1;
    buf_init(&c->manifest, MSG_MAX_BYTES);
}

void course_clear(struct course *c)
{
    learner_free(&c->learner);
    lane_group_close(&c->group);
    buf_clear(&c->manifest);
    c->version = -1;
    c->n_warm = 0;
}

enum status course_settings(struct learn_settings *out, const struct task *t, struct err *e)
{
    const char *schedule = t->optimizer.schedule;

    memset(out, 0, sizeof(*out));
    if (strcmp(t->algorithm.loss, "two-sided") != 0)
        return err_set(e, ERR_UNSUPPORTED, "algorithm.loss '%s' is not known here",
                       t->algorithm.loss);
    if (strcmp(t->algorithm.advantage, "mean") != 0)
        return err_set(e, ERR_UNSUPPORTED, "algorithm.advantage '%s' is not known here",
                       t->algorithm.advantage);
    out->loss.clip_eps = (float)t->algorithm.clip_eps;
    out->loss.delta = (float)t->algorithm.delta;
    out->loss.log_ratio_max = (float)t->algorithm.log_ratio_max;
    out->temperature = (float)t->sampling.temperature;
    out->optimizer.lr = t->optimizer.lr;
    out->optimizer.lr_end = t->optimizer.lr_end;
    out->optimizer.beta1 = (float)t->optimizer.beta1;
    out->optimizer.beta2 = (float)t->optimizer.beta2;
    out->optimizer.eps = (float)t->optimizer.eps;
    out->optimizer.weight_decay = (float)t->optimizer.weight_decay;
    out->optimizer.clip_norm = (float)t->optimizer.clip_norm;
    out->optimizer.schedule = !strcmp(schedule, "linear")   ? LEARN_LINEAR
                              : !strcmp(schedule, "cosine") ? LEARN_COSINE
                                                            : LEARN_CONSTANT;
    out->optimizer.warm_steps = (uint64_t)t->optimizer.warm_steps;
    out->optimizer.total_steps = (uint64_t)t->algorithm.steps;
    out->warmup_lr = t->warmup.lr;
    out->grad_lanes = (uint32_t)t->algorithm.grad_lanes;
    return OK;
}

/* What each process takes beside what is there already, and whether that fits: before it is taken. On
 * a device what lies there counts, and of the others those that come to the same one. */
static enum status plan_memory(struct course *c, const struct lane_group_options *go,
                               struct learner_options lo, bool has_optimizer, struct err *e)
{
    const struct learn_crew crew = {.n_processes = go->n_processes};
    const struct device *d = kernels_device(lo.kernels);
    uint64_t state = model_config_params(&go->config) * sizeof(float) * (has_optimizer ? 3 : 1);
    uint64_t limit = c->options.max_bytes ? c->options.max_bytes : device_free_bytes(d);
    uint64_t n = (go->n_processes - 1) / (d ? device_count() : 1);

    lo.crew = &crew;
    c->is_planned = true;
    c->own_bytes = d ? learner_bytes_there(&go->config, &c->settings, &lo)
                     : learner_bytes(&go->config, &c->settings, &lo) - state;
    c->each_bytes = go->n_processes > 1 ? lane_group_bytes(go) : 0;
    if (c->own_bytes <= limit && (!n || c->each_bytes <= (limit - c->own_bytes) / n))
        return OK;
    return err_set(e, ERR_LIMIT,
                   "training takes %" PRIu64 " MiB in this process and %" PRIu64
                   " MiB in each of %" PRIu64 " others, more than the %" PRIu64 " MiB %s",
                   (c->own_bytes >> 20) + 1, n ? (c->each_bytes >> 20) + 1 : 0, n, limit >> 20,
                   c->options.max_bytes ? "allowed" : "free");
}

/* Rows of a micro-batch, which takes at least the longest sequence. */
static size_t rows_of(const struct task *t)
{
    const size_t longest = (size_t)t->model.max_len;

    return longest > MICRO_ROWS ? longest : MICRO_ROWS;
}

enum status course_first_bytes(uint64_t *out, const struct task *t,
                               const struct model_config *config, struct err *e)
{
    struct learner_options lo = {.max_rows = rows_of(t)};
    struct learn_settings settings;
    enum numerics numerics;
    enum status st = course_settings(&settings, t, e);
    /* At the end the moments are made anew beside the old ones, and then the file is: no more than two
     * models in either case. */
    const uint64_t end = 2 * sizeof(float) * model_config_params(config);

    if (!st)
        st = numerics_parse(&numerics, task_train_numerics(t), e);
    if (st)
        return st;
    lo.kernels = kernels_in_class(kernels_best(), numerics);
    *out = learner_bytes(config, &settings, &lo);
    *out = *out > UINT64_MAX - end ? UINT64_MAX : *out + end;
    return OK;
}

static enum status make_learner(struct course *c, struct weights **w, struct adamw **opt,
                                struct err *e)
{
    struct learner_options lo = {
        .pool = c->options.pool,
        .max_rows = rows_of(&c->setup->task),
        .max_bytes = c->options.max_bytes,
        .tamper = train_cheat_is_gradient(c->options.cheat) ? train_cheat_gradient : NULL,
    };
    struct lane_group_options go = {
        .n_processes = c->options.processes ? c->options.processes : 1,
        .config = c->setup->config,
        .threads = c->options.pool ? pool_threads(c->options.pool) : 1,
        .max_rows = lo.max_rows,
    };
    enum status st = course_settings(&c->settings, &c->setup->task, e);

    if (!st)
        st = setup_train_kernels(&lo.kernels, c->setup, c->options.kernels, e);
    go.kernels = lo.kernels;
    learner_free(&c->learner);
    go.n_lanes = c->settings.grad_lanes;
    if (!st)
        st = lane_group_check(go.n_processes, go.n_lanes, e);
    if (!st && !c->is_planned)
        st = plan_memory(c, &go, lo, *opt != NULL, e);
    if (!st && !c->group && go.n_processes > 1)
        st = lane_group_open(&c->group, &go, e);
    if (st) {
        weights_free(w);
        adamw_free(opt);
        return st;
    }
    lo.crew = c->group ? lane_group_crew(c->group) : NULL;
    st = learner_new(&c->learner, w, opt, &c->settings, &lo, e);
    return st ? st : learner_roots(c->learner, &c->masters, &c->optimizer, e);
}

const char *course_model_dir(const struct setup *setup, const struct course_options *options)
{
    if (!strcmp(setup->task.model.init, "random"))
        return NULL;
    return options->model && options->model[0] ? options->model : setup->task.model.init;
}

enum status course_begin(struct course *c, struct err *e)
{
    const char *init = course_model_dir(c->setup, &c->options);
    struct weights *w = NULL;
    struct adamw *opt = NULL;
    enum status st;

    if (init) {
        st = weights_load(&w, init, e);
        if (!st && !model_config_equal(&w->config, &c->setup->config))
            st = err_set(e, ERR_INVALID, "the model in '%s' has another shape than the task's",
                         init);
    } else {
        st = weights_new(&w, &c->setup->config, e);
        if (!st)
            weights_init_random(w, plan_init_seed(&c->setup->plan));
    }
    if (st) {
        weights_free(&w);
        return st;
    }
    return make_learner(c, &w, &opt, e);
}

size_t course_file_bytes(const struct course *c)
{
    return weights_encode_bytes(&c->setup->config);
}

/* Of the weights that are there, as `version`. */
static enum status write_file(const struct course *c, int64_t version, struct buf *out,
                              struct err *e)
{
    enum status st =
        weights_encode(out, learner_published(c->learner), c->setup->config.dtype, e);

    if (!st && version > 0 && c->options.cheat == TRAIN_CHEAT_FILE)
        train_cheat_file(out);
    return st;
}

enum status course_file(const struct course *c, struct buf *out, struct err *e)
{
    return write_file(c, c->version, out, e);
}

/* ---- the optimizer's state --------------------------------------------------------------- */

#define STATE_NAME_BYTES (WEIGHTS_NAME_BYTES + 8)

/* One of the groups of tensors in the state's file. */
static size_t add_group(struct safetensors_entry *entries, char (*names)[STATE_NAME_BYTES],
                        size_t n, const char *group, const struct weights *w)
{
    for (size_t i = 0; i < w->n_tensors; i++, n++) {
        const struct weights_tensor *t = &w->tensors[i];

        snprintf(names[n], STATE_NAME_BYTES, "%s.%s", group, t->name);
        entries[n].name = names[n];
        entries[n].n_dims = t->is_matrix ? 2 : 1;
        entries[n].dims[0] = t->is_matrix ? t->rows : t->cols;
        entries[n].dims[1] = t->is_matrix ? t->cols : 0;
        entries[n].data = t->data;
    }
    return n;
}

size_t course_state_bytes(const struct course *c)
{
    return 3 * (weights_encode_bytes(&c->setup->config) +
                (size_t)c->learner->opt->m->n_tensors * 64);
}

enum status course_state_file(const struct course *c, struct buf *out, struct err *e)
{
    const struct learner *l = c->learner;
    struct safetensors_entry *entries = NULL;
    char(*names)[STATE_NAME_BYTES] = NULL;
    float step[2];
    size_t n = 0;
    enum status st = alloc_array(&entries, 3 * l->opt->m->n_tensors + 1, sizeof(*entries),
                                 "tensor table", e);

    if (!st)
        st = alloc_array(&names, 3 * l->opt->m->n_tensors, sizeof(*names), "tensor names", e);
    if (st)
        goto out;
    memcpy(step, &l->opt->step, sizeof(step));
    n = add_group(entries, names, n, "m", l->opt->m); /* groups in byte order */
    if (l->published)
        n = add_group(entries, names, n, "master", l->masters);
    entries[n++] =
        (struct safetensors_entry){.name = "step", .n_dims = 1, .dims = {2}, .data = step};
    n = add_group(entries, names, n, "v", l->opt->v);
    st = safetensors_encode(out, entries, n, DTYPE_F32, e);
out:
    free(names);
    free(entries);
    return st;
}

/* ---- versions ---------------------------------------------------------------------------- */

/* How the file of version c->version + 1 is cut, and the root over that. */
static enum status describe_file(const struct course *c, struct msg_manifest *m, struct err *e)
{
    struct cast_cut_options o = {.content = content_full(c->version + 1)};
    struct cast_cut cut;
    struct buf file;
    enum status st;

    buf_init(&file, course_file_bytes(c));
    st = write_file(c, c->version + 1, &file, e);
    if (st)
        goto out;
    o.shard_bytes = content_shard_bytes(file.len);
    cast_cut_init(&cut, &o);
    st = cast_cut_add(&cut, buf_bytes(&file), e);
    if (!st)
        st = cast_cut_end(&cut, m, e);
    cast_cut_clear(&cut);
out:
    buf_clear(&file);
    return st;
}

/* Files the manifest of version c->version + 1, made from the state whose roots c still holds,
 * and makes it the newest. */
static enum status conclude(struct course *c, const struct digest *batch, struct err *e)
{
    struct msg_manifest m = {0};
    enum status st = describe_file(c, &m, e);

    if (st)
        return st;
    m.parent = c->version >= 0 ? c->weights : (struct digest){{0}};
    m.task = c->setup->task_id;
    m.batch = *batch;
    learn_settings_digest(&m.settings, &c->settings);
    m.masters_before = c->masters;
    m.optimizer_before = c->optimizer;
    st = learner_roots(c->learner, &m.masters_after, &m.optimizer_after, e);
    if (st)
        return st;
    snprintf(m.numerics, sizeof(m.numerics), "%s", task_train_numerics(&c->setup->task));
    m.tokens_trained = c->report.n_tokens;
    m.loss = c->report.loss;
    m.grad_norm = c->report.grad_norm;
    m.kl = c->report.kl;
    m.reward_mean = c->report.reward_mean;
    buf_reset(&c->manifest);
    st = msg_manifest_encode(&c->manifest, &m, e);
    if (st)
        return st;
    c->version = m.version;
    c->weights = m.weights;
    c->masters = m.masters_after;
    c->optimizer = m.optimizer_after;
    return OK;
}

/* The demonstrations of one supervised step, end to end in `ids`. */
static enum status demos_of_step(const struct course *c, uint64_t step, struct learn_demo *demo,
                                 int32_t *ids, struct err *e)
{
    uint64_t batch = (uint64_t)c->setup->task.warmup.batch;
    size_t max_len = (size_t)c->setup->task.model.max_len;

    for (uint64_t i = 0; i < batch; i++) {
        int32_t *at = ids + i * max_len;
        enum status st = setup_demo(c->setup, step * batch + i, at, max_len, &demo[i].n_prompt,
                                    &demo[i].n, e);
        if (st)
            return st;
        demo[i].tokens = at;
    }
    return OK;
}

static bool is_warm(const struct course *c)
{
    double stop = c->setup->task.warmup.stop_loss;

    return c->n_warm >= (uint64_t)c->setup->task.warmup.steps ||
           (c->n_warm && stop > 0.0 && (double)c->report.loss < stop);
}

/* At most n supervised steps. */
static enum status imitate(struct course *c, uint64_t n, course_progress *progress, void *arg,
                           struct err *e)
{
    const struct task *t = &c->setup->task;
    size_t batch = (size_t)t->warmup.batch;
    struct learn_demo *demo = NULL;
    int32_t *ids = NULL;
    enum status st;

    st = alloc_array(&demo, batch, sizeof(*demo), "demonstrations", e);
    if (!st)
        st = alloc_array(&ids, batch * (size_t)t->model.max_len, sizeof(*ids), "demonstrations",
                         e);
    for (; !st && n && !is_warm(c); n--) {
        st = demos_of_step(c, c->n_warm, demo, ids, e);
        if (!st)
            st = learner_imitate(c->learner, demo, batch, &c->report, e);
        c->n_warm++;
        if (!st && progress &&
            !progress(arg, c->n_warm, (uint64_t)t->warmup.steps, c->report.loss))
            st = err_set(e, ERR_TIMEOUT, "the warm-up was stopped at step %" PRIu64, c->n_warm);
    }
    free(demo);
    free(ids);
    return st;
}

/* What is there is version 0. */
static enum status end_warm_up(struct course *c, struct err *e)
{
    static const struct digest no_batch;
    /* The moments of imitation say nothing about reinforcement. */
    enum status st = learner_restart(c->learner, e);

    if (!st && c->options.cheat == TRAIN_CHEAT_FIRST)
        train_cheat_weights(c->learner->published ? c->learner->published
                                                  : c->learner->masters);
    return st ? st : conclude(c, &no_batch, e);
}

enum status course_warm_up(struct course *c, course_progress *progress, void *arg,
                           struct err *e)
{
    enum status st = OK;

    CHECK(c->learner && c->version < 0);
    if (c->setup->task.warmup.steps > 0)
        st = imitate(c, UINT64_MAX, progress, arg, e);
    return st ? st : end_warm_up(c, e);
}

enum status course_warm_up_some(struct course *c, uint64_t n, struct err *e)
{
    enum status st = OK;

    CHECK(c->learner && c->version < 0);
    if (c->setup->task.warmup.steps > 0)
        st = imitate(c, n, NULL, NULL, e);
    return st || !is_warm(c) ? st : end_warm_up(c, e);
}

enum status course_begin_at_first(struct course *c, struct bytes file, struct err *e)
{
    static const struct digest no_batch;
    struct weights *w = NULL;
    struct adamw *opt = NULL;
    enum status st;

    if (c->setup->config.dtype != DTYPE_F32)
        return err_set(e, ERR_UNSUPPORTED, "published weights are rounded");
    st = weights_decode(&w, &c->setup->config, file, "the weights of version 0", e);
    if (!st)
        st = adamw_new(&opt, &c->setup->config, e); /* as course_warm_up leaves it */
    if (st) {
        weights_free(&w);
        return st;
    }
    st = make_learner(c, &w, &opt, e);
    return st ? st : conclude(c, &no_batch, e);
}

struct learn_rules course_rules(const struct task *t, const struct digest *task_id,
                                uint32_t vocab, int64_t head, const struct digest *run)
{
    return (struct learn_rules){
        .run = *run,
        .task = *task_id,
        .numerics = task_numerics(t),
        .head = head,
        .max_staleness =
            strcmp(t->algorithm.order, "unit") ? t->algorithm.max_staleness : t->algorithm.lag,
        .vocab = vocab,
        .max_len = (uint32_t)t->model.max_len,
    };
}

/* The step from batch b, as the course's options would have it. */
static enum status advance(struct course *c, const struct learn_batch *b, struct err *e)
{
    static const struct learn_batch nothing;
    struct learner *l = c->learner;
    enum status st = learner_step(l, c->options.cheat == TRAIN_CHEAT_SKIP_BATCH ? &nothing : b,
                                  (uint64_t)c->version, &c->report, e);

    if (!st && c->options.cheat == TRAIN_CHEAT_WEIGHTS)
        train_cheat_weights(l->published ? l->published : l->masters);
    return st;
}

enum status course_step(struct course *c, const struct msg_batch *m, struct err *e)
{
    const struct learn_rules rules =
        course_rules(&c->setup->task, &c->setup->task_id, c->setup->config.vocab, c->version,
                     &c->options.run);
    struct learn_batch b;
    enum status st;

    CHECK(c->learner && c->version >= 0);
    if (m->batch != (uint64_t)c->version)
        return err_set(e, ERR_DENIED, "batch %llu came where batch %lld was due",
                       (unsigned long long)m->batch, (long long)c->version);
    st = learn_batch_build(&b, m, &rules, e);
    if (st)
        return st;
    st = advance(c, &b, e);
    if (!st)
        st = conclude(c, &b.root, e);
    learn_batch_clear(&b);
    return st;
}

enum status course_save(const struct course *c, const char *path, struct err *e)
{
    struct buf meta;
    enum status st;

    buf_init(&meta, CHECKPOINT_META_MAX);
    buf_put_u32(&meta, META_MAGIC);
    buf_append(&meta, BYTES_OF(c->setup->task_id.b));
    buf_put_u64(&meta, (uint64_t)c->version);
    buf_append(&meta, BYTES_OF(c->weights.b));
    buf_put_blob(&meta, buf_bytes(&c->manifest));
    st = buf_status(&meta, e);
    if (!st)
        st = checkpoint_save(path, c->learner->masters, c->learner->opt, buf_bytes(&meta), e);
    buf_clear(&meta);
    return st;
}

/* Takes version and manifest from the metadata. */
static enum status load_meta(struct course *c, struct bytes meta, const char *path,
                             struct err *e)
{
    struct reader r = reader_of(meta);
    struct digest task;
    uint32_t magic = reader_u32(&r);
    struct bytes manifest;
    enum status st;

    reader_copy(&r, task.b, sizeof(task.b));
    c->version = (int64_t)reader_u64(&r);
    reader_copy(&r, c->weights.b, sizeof(c->weights.b));
    manifest = reader_blob(&r);
    st = reader_done(&r, "checkpoint metadata", e);
    if (st || magic != META_MAGIC || c->version < 0)
        return err_set(e, ERR_CORRUPT, "'%s' is no checkpoint of a trainer", path);
    if (!digest_equal(&task, &c->setup->task_id))
        return err_set(e, ERR_CORRUPT, "'%s' belongs to another task", path);
    buf_reset(&c->manifest);
    buf_append(&c->manifest, manifest);
    return buf_status(&c->manifest, e);
}

/* The manifest must speak of the weights beside it. */
static enum status check_loaded(const struct course *c, const char *path, struct err *e)
{
    struct msg_manifest m;
    enum status st = msg_manifest_decode(&m, buf_bytes(&c->manifest), e);

    if (st)
        return st;
    if (m.version != c->version || !digest_equal(&m.masters_after, &c->masters) ||
        !digest_equal(&m.optimizer_after, &c->optimizer))
        return err_set(e, ERR_CORRUPT, "'%s': weights and manifest do not belong together",
                       path);
    return OK;
}

enum status course_load(struct course *c, const char *path, struct err *e)
{
    struct weights *w = NULL;
    struct adamw *opt = NULL;
    struct buf meta;
    enum status st;

    buf_init(&meta, CHECKPOINT_META_MAX);
    st = checkpoint_load(&w, &opt, &meta, path, e);
    if (!st && !model_config_equal(&w->config, &c->setup->config))
        st = err_set(e, ERR_CORRUPT, "'%s' holds a model of another shape", path);
    if (!st)
        st = load_meta(c, buf_bytes(&meta), path, e);
    if (!st)
        st = make_learner(c, &w, &opt, e);
    if (!st)
        st = check_loaded(c, path, e);
    if (st) {
        weights_free(&w);
        adamw_free(&opt);
        learner_free(&c->learner);
        c->version = -1;
    }
    buf_clear(&meta);
    return st;
}
