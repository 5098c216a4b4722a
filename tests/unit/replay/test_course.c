/*
 * replay/course: a small task from its first weights through real batches; saved, loaded and
 * gone on with, and what its manifests commit to.
 */
#include "replay/course.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "engine/checkpoint.h"
#include "engine/kernels.h"
#include "engine/safetensors.h"
#include "proto/content.h"
#include "proto/digest.h"
#include "rollout/model_set.h"
#include "shardcast/cast.h"
#include "support/close.h"
#include "support/tempdir.h"
#include "support/test.h"

#include "unit/learn/batches.h"

#define UNITS 3u

static const char yaml[] =
    "name: letters\n"
    "seed: 3\n"
    "model: {dim: 16, layers: 1, heads: 2, ffn: 24, max_len: 12, alphabet: \"abc\"}\n"
    "sampling: {group: 4, temperature: 1, max_new_tokens: 4}\n"
    "warmup: {steps: %d, batch: 8, lr: 3e-3, stop_loss: %s}\n"
    "algorithm: {units_per_batch: 3, steps: 4, lag: 1}\n"
    "optimizer: {lr: 1e-3}\n";
static const char lua[] = "return {prompt = function(p) return 'ab' end,"
                          " demo = function(p) return 'ca' end,"
                          " score = function(p, m)"
                          "   local _, n = m[1].text:gsub('c', '') return n / 4 end}";

static const struct digest run = {{5}};

struct fixture {
    char *dir;
    struct setup *setup;
    struct course c;
    struct err e;
};

static void open_task(struct fixture *f, int warmup_steps, const char *stop_loss)
{
    struct bundle b = {0};
    struct buf encoded;
    char text[1024];

    snprintf(text, sizeof(text), yaml, warmup_steps, stop_loss);
    b.file[BUNDLE_TASK] = bytes_str(text);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    buf_init(&encoded, BUNDLE_MAX_BYTES);
    assert_ok(bundle_encode(&encoded, &b, &f->e), &f->e);
    assert_ok(setup_open(&f->setup, buf_bytes(&encoded), NULL, &f->e), &f->e);
    buf_clear(&encoded);
}

static void new_course(struct fixture *f, struct course *c, const char *kernels)
{
    struct course_options opt = {.run = run};

    assert_ok(kernels_choose(&opt.kernels, NUMERICS_F32_1, kernels, &f->e), &f->e);
    course_init(c, f->setup, &opt);
}

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));

    f->dir = tempdir_make();
    open_task(f, 5, "0");
    new_course(f, &f->c, "scalar");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    course_clear(&f->c);
    setup_close(&f->setup);
    tempdir_remove(&f->dir);
    test_free(f);
    return 0;
}

static void warm_up(struct fixture *f, struct course *c)
{
    assert_ok(course_begin(c, &f->e), &f->e);
    assert_ok(course_warm_up(c, NULL, NULL, &f->e), &f->e);
}

static struct msg_manifest manifest_of(struct fixture *f, const struct course *c)
{
    struct msg_manifest m;

    assert_ok(msg_manifest_decode(&m, buf_bytes(&c->manifest), &f->e), &f->e);
    return m;
}

/* Batch c->version as honest workers make it with the newest weights. Units without signal are
 * passed over. */
static struct batch_made *next_batch(struct fixture *f, const struct course *c)
{
    const struct model_set_options mo = {.kernels = c->options.kernels, .cap = 1};
    struct batch_made *b = batch_new((uint64_t)c->version);
    struct model_set *models;
    struct buf file;
    uint64_t unit = (uint64_t)c->version * UNITS;

    model_set_new(&models, &f->setup->config, &mo);
    buf_init(&file, course_file_bytes(c));
    assert_ok(course_file(c, &file, &f->e), &f->e);
    assert_ok(model_set_add(models, c->version, buf_bytes(&file), &f->e), &f->e);
    for (; b->m.n < UNITS; unit++) {
        const struct rollout_world w =
            setup_world(f->setup, model_set_find(models, c->version), c->version, &c->weights);
        struct msg_submit *s = xcalloc(1, sizeof(*s));
        struct rollout_unit u;
        bool has_signal = false;

        rollout_unit_init(&u, unit, unit);
        assert_ok(rollout_generate(&w, &u, 1, NULL, NULL, &f->e), &f->e);
        assert_ok(msg_submit_decode(s, buf_bytes(&u.body), &f->e), &f->e);
        for (uint32_t i = 1; i < s->n_samples; i++)
            has_signal |= s->sample[i].reward != s->sample[0].reward;
        if (has_signal)
            batch_add(b, MSG_SUBMIT, &run, (uint8_t)(1 + unit % 4), buf_bytes(&u.body));
        rollout_unit_clear(&u);
        free(s);
    }
    buf_clear(&file);
    model_set_free(&models);
    return b;
}

static void take_step(struct fixture *f, struct course *c)
{
    struct batch_made *b = next_batch(f, c);

    assert_ok(course_step(c, &b->m, &f->e), &f->e);
    batch_free(&b);
}

static void version_0_commits_to_the_warm_up(void **state)
{
    struct fixture *f = *state;
    struct digest masters, optimizer, settings;
    struct msg_manifest m;

    assert_ok(course_begin(&f->c, &f->e), &f->e);
    masters = f->c.masters;
    optimizer = f->c.optimizer;
    assert_int_equal(f->c.version, -1);
    assert_ok(course_warm_up(&f->c, NULL, NULL, &f->e), &f->e);
    m = manifest_of(f, &f->c);

    assert_int_equal(m.version, 0);
    assert_int_equal(f->c.version, 0);
    assert_true(digest_is_zero(&m.parent));
    assert_true(digest_is_zero(&m.batch));
    assert_true(digest_equal(&m.task, &f->setup->task_id));
    assert_true(digest_equal(&m.masters_before, &masters));
    assert_true(digest_equal(&m.optimizer_before, &optimizer));
    assert_false(digest_equal(&m.masters_after, &masters));
    assert_true(
        digest_equal(&m.optimizer_after, &optimizer)); /* a fresh one for what follows */
    learn_settings_digest(&settings, &f->c.settings);
    assert_true(digest_equal(&m.settings, &settings));
    assert_true(digest_equal(&m.weights, &f->c.weights));
    assert_string_equal(m.numerics, "f32-1");
    assert_true(m.loss > 0.0f && m.loss == f->c.report.loss);
}

static void manifests_name_the_file_that_travels(void **state)
{
    struct fixture *f = *state;
    struct digest root;
    struct msg_manifest m;
    struct buf file;

    warm_up(f, &f->c);
    m = manifest_of(f, &f->c);
    buf_init(&file, course_file_bytes(&f->c));
    assert_ok(course_file(&f->c, &file, &f->e), &f->e);
    assert_int_equal(m.file_bytes, file.len);
    assert_int_equal(m.shard_bytes, content_shard_bytes(file.len));
    assert_true(content_equal(&m.content, &(struct content){0, CONTENT_FULL, -1}));
    assert_ok(content_manifest_check(&m, &f->e), &f->e);
    content_root(&root, m.shard_bytes, buf_bytes(&file));
    assert_true(digest_equal(&m.weights, &root));
    buf_clear(&file);
}

static void a_step_commits_to_what_was_before_and_to_its_batch(void **state)
{
    struct fixture *f = *state;
    struct batch_made *b;
    struct msg_manifest m;
    struct course before;

    warm_up(f, &f->c);
    b = next_batch(f, &f->c);
    before = f->c;
    assert_ok(course_step(&f->c, &b->m, &f->e), &f->e);
    m = manifest_of(f, &f->c);

    assert_int_equal(m.version, 1);
    assert_true(digest_equal(&m.parent, &before.weights));
    assert_true(digest_equal(&m.batch, &b->m.root));
    assert_true(digest_equal(&m.masters_before, &before.masters));
    assert_true(digest_equal(&m.optimizer_before, &before.optimizer));
    assert_true(digest_equal(&m.masters_after, &f->c.masters));
    assert_false(digest_equal(&f->c.masters, &before.masters));
    assert_false(digest_equal(&f->c.optimizer, &before.optimizer));
    assert_int_equal(m.tokens_trained, f->c.report.n_tokens);
    assert_true(m.tokens_trained > 0);
    assert_true(f->c.report.ratio_max ==
                1.0f); /* lag 0: sampling and training agree to the bit */
    assert_true(m.kl == 0.0f);
    assert_true(m.grad_norm > 0.0f);
    batch_free(&b);
}

static void a_warm_up_in_parts_gives_the_same_bits(void **state)
{
    struct fixture *f = *state;
    struct course c;
    unsigned parts = 0;

    warm_up(f, &f->c);
    course_init(&c, f->setup, &f->c.options);
    assert_ok(course_begin(&c, &f->e), &f->e);
    while (c.version < 0) {
        assert_ok(course_warm_up_some(&c, 2, &f->e), &f->e);
        parts++;
    }
    assert_int_equal(parts, 3); /* of 5 steps */
    assert_true(bytes_equal(buf_bytes(&c.manifest), buf_bytes(&f->c.manifest)));
    course_clear(&c);
}

/* What a replay of the same batch sees: every cheat has other weights, from the first step on. */
static void a_cheating_trainer_has_other_weights(void **state)
{
    struct fixture *f = *state;
    struct batch_made *b;
    struct digest first;

    warm_up(f, &f->c);
    first = f->c.weights;
    b = next_batch(f, &f->c);
    assert_ok(course_step(&f->c, &b->m, &f->e), &f->e);
    for (unsigned cheat = 0; cheat < TRAIN_CHEAT_COUNT; cheat++) {
        struct course_options opt = f->c.options;
        struct course c;

        assert_int_equal(train_cheat_parse(train_cheat_name((enum train_cheat)cheat)), cheat);
        opt.cheat = (enum train_cheat)cheat;
        course_init(&c, f->setup, &opt);
        warm_up(f, &c);
        assert_int_equal(digest_equal(&c.weights, &first), cheat != TRAIN_CHEAT_FIRST);
        assert_ok(course_step(&c, &b->m, &f->e), &f->e);
        assert_int_equal(digest_equal(&c.weights, &f->c.weights), cheat == TRAIN_CHEAT_NONE);
        assert_int_equal(digest_equal(&c.masters, &f->c.masters),
                         cheat == TRAIN_CHEAT_NONE || cheat == TRAIN_CHEAT_FILE);
        course_clear(&c);
    }
    batch_free(&b);
}

static void an_empty_batch_makes_a_version_with_the_same_weights(void **state)
{
    struct fixture *f = *state;
    struct batch_made *b = batch_new(0);
    struct msg_manifest m;
    struct digest weights, optimizer;

    warm_up(f, &f->c);
    weights = f->c.weights;
    optimizer = f->c.optimizer;
    assert_ok(course_step(&f->c, &b->m, &f->e), &f->e);
    m = manifest_of(f, &f->c);
    assert_int_equal(m.version, 1);
    assert_true(digest_equal(&m.weights, &weights));
    assert_true(digest_equal(&m.parent, &weights));
    assert_true(digest_equal(&m.optimizer_after, &optimizer));
    assert_int_equal(m.tokens_trained, 0);
    batch_free(&b);
}

static void two_runs_of_a_task_are_the_same(void **state)
{
    struct fixture *f = *state;
    static const char *const kernels[] = {"scalar", "avx2"};

    warm_up(f, &f->c);
    take_step(f, &f->c);
    take_step(f, &f->c);
    for (size_t k = 0; k < 2; k++) {
        struct course other;

        if (!kernels_available(NUMERICS_F32_1, kernels[k]))
            continue;
        new_course(f, &other, kernels[k]);
        warm_up(f, &other);
        take_step(f, &other);
        take_step(f, &other);
        assert_true(bytes_equal(buf_bytes(&other.manifest), buf_bytes(&f->c.manifest)));
        course_clear(&other);
    }
}

static void a_loaded_course_goes_on_with_the_same_bits(void **state)
{
    struct fixture *f = *state;
    const char *path = tempdir_path(f->dir, "checkpoint");
    struct course other;

    warm_up(f, &f->c);
    take_step(f, &f->c);
    assert_ok(course_save(&f->c, path, &f->e), &f->e);
    new_course(f, &other, "scalar");
    assert_ok(course_load(&other, path, &f->e), &f->e);
    assert_int_equal(other.version, 1);
    assert_true(bytes_equal(buf_bytes(&other.manifest), buf_bytes(&f->c.manifest)));
    assert_true(digest_equal(&other.weights, &f->c.weights));
    for (int i = 0; i < 2; i++) {
        take_step(f, &f->c);
        take_step(f, &other);
        assert_true(bytes_equal(buf_bytes(&other.manifest), buf_bytes(&f->c.manifest)));
    }
    course_clear(&other);
}

/* What a step needs besides its batch: a reader of the file has the learner's own numbers. */
static void the_state_file_holds_the_moments_and_the_step(void **state)
{
    struct fixture *f = *state;
    const struct adamw *opt;
    struct safetensors st;
    struct buf file;
    char name[SAFETENSORS_NAME_MAX];

    warm_up(f, &f->c);
    take_step(f, &f->c);
    opt = f->c.learner->opt;
    buf_init(&file, course_state_bytes(&f->c));
    assert_ok(course_state_file(&f->c, &file, &f->e), &f->e);
    assert_ok(safetensors_decode(&st, buf_bytes(&file), "state", &f->e), &f->e);

    assert_int_equal(st.n, 2 * opt->m->n_tensors + 1);
    assert_true(bytes_equal(safetensors_find(&st, "step")->data, BYTES_OF(opt->step)));
    for (size_t i = 0; i < opt->m->n_tensors; i++) {
        const struct weights_tensor *t = &opt->v->tensors[i];

        snprintf(name, sizeof(name), "v.%s", t->name);
        assert_true(bytes_equal(
            safetensors_find(&st, name)->data,
            (struct bytes){(const uint8_t *)t->data, t->rows * t->cols * sizeof(float)}));
    }
    safetensors_clear(&st);
    buf_clear(&file);
}

static void a_refused_batch_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct batch_made *b;
    struct buf manifest;
    struct roots {
        struct digest masters, optimizer;
    } before, after;

    warm_up(f, &f->c);
    b = next_batch(f, &f->c);
    buf_init(&manifest, MSG_MAX_BYTES);
    buf_append(&manifest, buf_bytes(&f->c.manifest));
    assert_ok(learner_roots(f->c.learner, &before.masters, &before.optimizer, &f->e), &f->e);
    b->m.root.b[0] ^= 1;
    assert_status(course_step(&f->c, &b->m, &f->e), ERR_DIGEST, NULL);
    b->m.root.b[0] ^= 1;
    b->m.batch = 1;
    assert_status(course_step(&f->c, &b->m, &f->e), ERR_DENIED, NULL);
    assert_contains(f->e.text, "batch 1 came where batch 0 was due");
    b->m.batch = 0;
    f->c.options.run.b[0] ^= 1;
    assert_status(course_step(&f->c, &b->m, &f->e), ERR_DENIED, NULL);
    f->c.options.run.b[0] ^= 1;
    assert_ok(learner_roots(f->c.learner, &after.masters, &after.optimizer, &f->e), &f->e);
    assert_memory_equal(&after, &before, sizeof(before));
    assert_int_equal(f->c.version, 0);
    assert_true(bytes_equal(buf_bytes(&manifest), buf_bytes(&f->c.manifest)));
    assert_ok(course_step(&f->c, &b->m, &f->e), &f->e); /* and now the right one */
    buf_clear(&manifest);
    batch_free(&b);
}

static void a_damaged_checkpoint_is_refused(void **state)
{
    struct fixture *f = *state;
    const char *path = tempdir_path(f->dir, "checkpoint");
    struct buf file;
    struct course other;
    size_t step;

    warm_up(f, &f->c);
    assert_ok(course_save(&f->c, path, &f->e), &f->e);
    buf_init(&file, 1u << 24);
    assert_ok(file_read(&file, path, &f->e), &f->e);
    step = file.len / 7;
    for (size_t at = 5; at < file.len; at += step) {
        file.data[at] ^= 1;
        assert_ok(file_write_atomic(path, buf_bytes(&file), 0600, &f->e), &f->e);
        file.data[at] ^= 1;
        new_course(f, &other, "scalar");
        assert_status(course_load(&other, path, &f->e), ERR_CORRUPT, NULL);
        assert_int_equal(other.version, -1);
        assert_null(other.learner);
        course_clear(&other);
    }
    assert_ok(file_write_atomic(path, (struct bytes){file.data, file.len - 1}, 0600, &f->e),
              &f->e);
    new_course(f, &other, "scalar");
    assert_status(course_load(&other, path, &f->e), ERR_CORRUPT, NULL);
    assert_status(course_load(&other, tempdir_path(f->dir, "none"), &f->e), ERR_NOT_FOUND,
                  NULL);
    course_clear(&other);
    buf_clear(&file);
}

/* Whole, but its metadata speak of other weights: version 1's beside the masters of 0. */
static void pieces_of_two_checkpoints_are_refused(void **state)
{
    struct fixture *f = *state;
    const char *first = tempdir_path(f->dir, "0"), *second = tempdir_path(f->dir, "1");
    struct weights *w[2];
    struct adamw *opt[2];
    struct buf meta[2];

    warm_up(f, &f->c);
    assert_ok(course_save(&f->c, first, &f->e), &f->e);
    take_step(f, &f->c);
    assert_ok(course_save(&f->c, second, &f->e), &f->e);
    for (size_t i = 0; i < 2; i++) {
        buf_init(&meta[i], CHECKPOINT_META_MAX);
        assert_ok(checkpoint_load(&w[i], &opt[i], &meta[i], i ? second : first, &f->e), &f->e);
    }
    assert_ok(checkpoint_save(first, w[0], opt[0], buf_bytes(&meta[1]), &f->e), &f->e);
    assert_status(course_load(&f->c, first, &f->e), ERR_CORRUPT, NULL);
    assert_contains(f->e.text, "weights and manifest do not belong together");
    assert_ok(checkpoint_save(first, w[1], opt[0], buf_bytes(&meta[1]), &f->e), &f->e);
    assert_status(course_load(&f->c, first, &f->e), ERR_CORRUPT, NULL);
    assert_ok(checkpoint_save(first, w[0], opt[1], buf_bytes(&meta[1]), &f->e), &f->e);
    assert_status(course_load(&f->c, first, &f->e), ERR_CORRUPT, NULL);
    assert_ok(checkpoint_save(first, w[1], opt[1], (struct bytes){meta[1].data, 20}, &f->e),
              &f->e);
    assert_status(course_load(&f->c, first, &f->e), ERR_CORRUPT, NULL);
    assert_contains(f->e.text, "is no checkpoint of a trainer");
    assert_ok(course_load(&f->c, second, &f->e), &f->e);
    for (size_t i = 0; i < 2; i++) {
        weights_free(&w[i]);
        adamw_free(&opt[i]);
        buf_clear(&meta[i]);
    }
}

static void a_checkpoint_of_another_task_is_refused(void **state)
{
    struct fixture *f = *state;
    const char *path = tempdir_path(f->dir, "checkpoint");

    warm_up(f, &f->c);
    assert_ok(course_save(&f->c, path, &f->e), &f->e);
    course_clear(&f->c);
    setup_close(&f->setup);
    open_task(f, 6, "0"); /* the same shape */
    new_course(f, &f->c, "scalar");
    assert_status(course_load(&f->c, path, &f->e), ERR_CORRUPT, NULL);
    assert_contains(f->e.text, "belongs to another task");
}

static bool stop_at_3(void *arg, uint64_t step, uint64_t steps, float loss)
{
    uint64_t *last = arg;

    assert_int_equal(steps, 5);
    assert_true(loss > 0.0f);
    assert_int_equal(step, *last + 1);
    *last = step;
    return step < 3;
}

static void a_warm_up_can_be_stopped(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;

    assert_ok(course_begin(&f->c, &f->e), &f->e);
    assert_status(course_warm_up(&f->c, stop_at_3, &last, &f->e), ERR_TIMEOUT, NULL);
    assert_int_equal(last, 3);
    assert_int_equal(f->c.version, -1);
}

static bool count(void *arg, uint64_t step, uint64_t steps, float loss)
{
    uint64_t *last = arg;

    (void)steps;
    (void)loss;
    *last = step;
    return true;
}

static void a_warm_up_ends_early_at_its_loss(void **state)
{
    struct fixture *f = *state;
    uint64_t last = 0;

    course_clear(&f->c);
    setup_close(&f->setup);
    open_task(f, 100, "1.0");
    new_course(f, &f->c, "scalar");
    assert_ok(course_begin(&f->c, &f->e), &f->e);
    assert_ok(course_warm_up(&f->c, count, &last, &f->e), &f->e);
    assert_true(last > 1 && last < 100);
    assert_true(f->c.report.loss < 1.0f);
}

static void without_a_warm_up_version_0_is_the_first_weights(void **state)
{
    struct fixture *f = *state;
    struct weights *w;

    course_clear(&f->c);
    setup_close(&f->setup);
    open_task(f, 0, "0");
    new_course(f, &f->c, "scalar");
    warm_up(f, &f->c);
    assert_ok(weights_new(&w, &f->setup->config, &f->e), &f->e);
    weights_init_random(w, plan_init_seed(&f->setup->plan));
    assert_same_bits(learner_published(f->c.learner)->data, w->data, w->n_data);
    weights_free(&w);
}

static void a_course_may_begin_with_a_model_on_disk(void **state)
{
    struct fixture *f = *state;
    const char *dir = tempdir_path(f->dir, "model");
    struct weights *w;
    char *init;

    assert_ok(weights_new(&w, &f->setup->config, &f->e), &f->e);
    weights_init_random(w, 99);
    assert_ok(weights_save(w, dir, DTYPE_F32, &f->e), &f->e);
    init = f->setup->task.model.init;
    f->setup->task.model.init = xstrdup(dir);
    assert_ok(course_begin(&f->c, &f->e), &f->e);
    assert_same_bits(f->c.learner->masters->data, w->data, w->n_data);
    free(f->setup->task.model.init);
    f->setup->task.model.init = xstrdup(tempdir_path(f->dir, "none"));
    assert_int_not_equal(course_begin(&f->c, &f->e), OK);
    free(f->setup->task.model.init);
    f->setup->task.model.init = init;
    weights_free(&w);
}

static void settings_are_the_tasks(void **state)
{
    struct fixture *f = *state;
    struct learn_settings s;
    struct task t = f->setup->task; /* shares its strings */
    char unknown[] = "other", cosine[] = "cosine";

    assert_ok(course_settings(&s, &t, &f->e), &f->e);
    assert_true(s.loss.clip_eps == 0.2f && s.loss.delta == 4.0f &&
                s.loss.log_ratio_max == 20.0f);
    assert_true(s.optimizer.lr == 1e-3 && s.warmup_lr == 3e-3 && s.temperature == 1.0f);
    assert_int_equal(s.optimizer.total_steps, 4);
    assert_int_equal(s.optimizer.schedule, LEARN_CONSTANT);
    t.optimizer.schedule = cosine;
    assert_ok(course_settings(&s, &t, &f->e), &f->e);
    assert_int_equal(s.optimizer.schedule, LEARN_COSINE);
    t.algorithm.loss = unknown;
    assert_status(course_settings(&s, &t, &f->e), ERR_UNSUPPORTED, NULL);
    t.algorithm.loss = f->setup->task.algorithm.loss;
    t.algorithm.advantage = unknown;
    assert_status(course_settings(&s, &t, &f->e), ERR_UNSUPPORTED, NULL);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (env_is_worker(argc, argv))
        return env_worker_main();
    const struct CMUnitTest tests[] = {
        CASE(version_0_commits_to_the_warm_up),
        CASE(manifests_name_the_file_that_travels),
        CASE(a_step_commits_to_what_was_before_and_to_its_batch),
        CASE(a_warm_up_in_parts_gives_the_same_bits),
        CASE(a_cheating_trainer_has_other_weights),
        CASE(an_empty_batch_makes_a_version_with_the_same_weights),
        CASE(two_runs_of_a_task_are_the_same),
        CASE(a_loaded_course_goes_on_with_the_same_bits),
        CASE(the_state_file_holds_the_moments_and_the_step),
        CASE(a_refused_batch_changes_nothing),
        CASE(a_damaged_checkpoint_is_refused),
        CASE(pieces_of_two_checkpoints_are_refused),
        CASE(a_checkpoint_of_another_task_is_refused),
        CASE(a_warm_up_can_be_stopped),
        CASE(a_warm_up_ends_early_at_its_loss),
        CASE(without_a_warm_up_version_0_is_the_first_weights),
        CASE(a_course_may_begin_with_a_model_on_disk),
        CASE(settings_are_the_tasks),
    };
    return cmocka_run_group_tests_name("replay/course", tests, NULL, NULL);
}
