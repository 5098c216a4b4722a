/* replay/replica: from whatever state is nearest it comes to the same bits, also after a restart. */
#include "replay/replica.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/adamw.h"
#include "engine/kernels.h"
#include "support/tempdir.h"
#include "support/test.h"

#include "unit/learn/batches.h"

static const char yaml[] =
    "name: letters\n"
    "seed: 3\n"
    "model: {dim: 16, layers: 1, heads: 2, ffn: 24, max_len: 12, alphabet: \"abc\"}\n"
    "sampling: {group: 4, temperature: 1, max_new_tokens: 4}\n"
    "warmup: {steps: 6, batch: 8, lr: 3e-3}\n"
    "algorithm: {units_per_batch: 2, steps: 200, lag: 1}\n"
    "optimizer: {lr: 1e-3}\n";
static const char lua[] = "return {prompt = function(p) return 'ab' end,"
                          " demo = function(p) return 'ca' end,"
                          " score = function(p, m) return 0 end}";
static const struct digest run = {{5}};

struct fixture {
    char *dir;
    struct setup *setup;
    struct course c; /* the truth */
    struct replica r;
    char first[256]; /* path of version 0's file; "": nobody has it */
    unsigned n_asked;
    struct err e;
};

static enum status published(void *ctx, int64_t version, struct file_map *file, struct err *e)
{
    struct fixture *f = ctx;

    f->n_asked++;
    assert_int_equal(version, 0);
    return f->first[0] ? file_map_open(file, f->first, e)
                       : err_set(e, ERR_NOT_FOUND, "nobody has it");
}

static void new_replica(struct fixture *f)
{
    const struct replica_options o = {.setup = f->setup,
                                      .course = {.run = run, .kernels = kernels_best()},
                                      .dir = f->dir,
                                      .ctx = f,
                                      .published = published};

    replica_init(&f->r, &o);
}

/* The process ends, and another begins. */
static void restart(struct fixture *f)
{
    replica_clear(&f->r);
    new_replica(f);
}

/* Has version 0 at hand, with the last number's last bit turned if it is to be another. */
static void publish_first(struct fixture *f, bool is_other)
{
    struct buf file;

    buf_init(&file, course_file_bytes(&f->c));
    assert_ok(course_file(&f->c, &file, &f->e), &f->e);
    file.data[file.len - 4] ^= is_other;
    snprintf(f->first, sizeof(f->first), "%s", tempdir_path(f->dir, "version-0"));
    assert_ok(file_write_atomic(f->first, buf_bytes(&file), 0644, &f->e), &f->e);
    buf_clear(&file);
}

static int setup(void **state)
{
    const struct course_options opt = {.run = run, .kernels = kernels_best()};
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct bundle b = {0};
    struct buf encoded;

    f->dir = tempdir_make();
    b.file[BUNDLE_TASK] = bytes_str(yaml);
    b.file[BUNDLE_ENV] = bytes_str(lua);
    buf_init(&encoded, BUNDLE_MAX_BYTES);
    assert_ok(bundle_encode(&encoded, &b, &f->e), &f->e);
    assert_ok(setup_open(&f->setup, buf_bytes(&encoded), NULL, &f->e), &f->e);
    buf_clear(&encoded);
    course_init(&f->c, f->setup, &opt);
    assert_ok(course_begin(&f->c, &f->e), &f->e);
    assert_ok(course_warm_up(&f->c, NULL, NULL, &f->e), &f->e);
    new_replica(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    replica_clear(&f->r);
    course_clear(&f->c);
    setup_close(&f->setup);
    tempdir_remove(&f->dir);
    test_free(f);
    return 0;
}

/* Batch `number`: the first ones train, later ones are empty. */
static struct batch_made *batch_of(const struct fixture *f, uint64_t number)
{
    const struct submission_spec spec = {.unit = 2 * number,
                                         .version = (int64_t)number,
                                         .task = f->setup->task_id,
                                         .numerics = "f32-1",
                                         .n_samples = 4,
                                         .reward = {0.0f, 1.0f, 0.5f, 0.25f},
                                         .n_tokens = 4,
                                         .token = 1,
                                         .vocab = (int32_t)f->setup->config.vocab};
    struct batch_made *b = batch_new(number);

    if (number < 3)
        batch_add_units(b, &run, &spec, 2);
    return b;
}

/* Both go on to `version`; the truth from where it stands, if it is behind. */
static void walk(struct fixture *f, int64_t version)
{
    while (f->r.course.version < version) {
        struct batch_made *b = batch_of(f, (uint64_t)f->r.course.version);

        if (f->c.version == f->r.course.version)
            assert_ok(course_step(&f->c, &b->m, &f->e), &f->e);
        assert_ok(replica_step(&f->r, &b->m, &f->e), &f->e);
        batch_free(&b);
    }
}

static void is_where_the_truth_is(const struct fixture *f)
{
    assert_int_equal(f->r.course.version, f->c.version);
    assert_true(bytes_equal(buf_bytes(&f->r.course.manifest), buf_bytes(&f->c.manifest)) ||
                f->c.version == 0); /* of version 0 the loss of the warm-up is not known */
    assert_true(digest_equal(&f->r.course.weights, &f->c.weights));
    assert_true(digest_equal(&f->r.course.masters, &f->c.masters));
    assert_true(digest_equal(&f->r.course.optimizer, &f->c.optimizer));
}

static int64_t seek(struct fixture *f, int64_t version)
{
    int64_t at;

    assert_ok(replica_seek(&f->r, version, false, &at, &f->e), &f->e);
    assert_int_equal(at, f->r.course.version);
    return at;
}

static bool is_kept(const struct fixture *f, int64_t version)
{
    char name[32];

    snprintf(name, sizeof(name), "kept-%d", (int)version);
    return access(tempdir_path(f->dir, name), F_OK) == 0;
}

static void it_begins_at_the_published_version_0(void **state)
{
    struct fixture *f = *state;

    publish_first(f, false);
    assert_int_equal(seek(f, 3), 0);
    assert_int_equal(f->n_asked, 1);
    is_where_the_truth_is(f);
}

static void without_it_the_warm_up_is_made_again(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(seek(f, 3), 0);
    is_where_the_truth_is(f);
}

static void its_steps_are_those_of_the_course(void **state)
{
    struct fixture *f = *state;

    publish_first(f, false);
    seek(f, 3);
    walk(f, 3);
    is_where_the_truth_is(f);
    assert_int_equal(seek(f, 5), 3); /* from where it stands */
    assert_int_equal(f->n_asked, 1);
}

/* A step that was found wrong is argued about from the state before it. */
static void the_state_before_the_last_step_is_at_hand(void **state)
{
    struct fixture *f = *state;
    const struct weights *masters;
    const struct adamw *opt;
    struct weights *before;
    int64_t at;

    seek(f, 2);
    walk(f, 1);
    assert_ok(weights_new(&before, &f->setup->config, &f->e), &f->e);
    weights_copy(before, f->c.learner->masters);
    walk(f, 2);

    assert_ok(replica_seek(&f->r, 1, true, &at, &f->e), &f->e);
    assert_int_equal(at, 1);
    assert_int_equal(f->r.course.version, 2); /* it only looks */
    assert_true(replica_state(&f->r, 1, &masters, &opt));
    assert_memory_equal(masters->data, before->data, before->n_data * sizeof(float));
    assert_int_equal(opt->step, 1);
    assert_true(replica_state(&f->r, 2, &masters, &opt));
    assert_int_equal(opt->step, 2);
    assert_false(replica_state(&f->r, 0, &masters, &opt));
    weights_free(&before);
}

static void what_is_behind_is_gone_to_from_the_start(void **state)
{
    struct fixture *f = *state;

    publish_first(f, false);
    seek(f, 3);
    walk(f, 3);
    assert_int_equal(seek(f, 1), 0);
    walk(f, 3);
    is_where_the_truth_is(f);
}

static void a_state_that_was_kept_outlives_a_restart(void **state)
{
    struct fixture *f = *state;

    publish_first(f, false);
    seek(f, 17);
    walk(f, 17);
    assert_true(is_kept(f, 16));
    restart(f);
    assert_int_equal(seek(f, 18), 16);
    assert_int_equal(f->n_asked, 1);
    walk(f, 17);
    is_where_the_truth_is(f);
    assert_int_equal(seek(f, 15), 0); /* what was kept is of a later version */
}

static void a_damaged_one_is_passed_over(void **state)
{
    struct fixture *f = *state;
    struct buf file;

    publish_first(f, false);
    seek(f, 33);
    walk(f, 33);
    buf_init(&file, 1u << 20);
    assert_ok(file_read(&file, tempdir_path(f->dir, "kept-32"), &f->e), &f->e);
    file.data[file.len / 2] ^= 1;
    assert_ok(file_write_atomic(tempdir_path(f->dir, "kept-32"), buf_bytes(&file), 0644, &f->e),
              &f->e);
    buf_clear(&file);
    restart(f);
    assert_int_equal(seek(f, 40), 16);
    walk(f, 33);
    is_where_the_truth_is(f);
}

static void the_last_four_are_kept(void **state)
{
    struct fixture *f = *state;

    publish_first(f, false);
    seek(f, 81);
    walk(f, 81);
    assert_false(is_kept(f, 16));
    for (int64_t v = 32; v <= 80; v += 16)
        assert_true(is_kept(f, v));
}

static void a_refused_batch_leaves_nothing_to_go_on_from(void **state)
{
    struct fixture *f = *state;
    struct batch_made *wrong = batch_of(f, 2);
    const struct weights *masters;
    const struct adamw *opt;

    publish_first(f, false);
    seek(f, 3);
    walk(f, 1);
    assert_status(replica_step(&f->r, &wrong->m, &f->e), ERR_DENIED, NULL);
    assert_false(replica_state(&f->r, 1, &masters, &opt));
    assert_int_equal(seek(f, 3), 0);
    walk(f, 3);
    assert_int_equal(f->c.version, 3);
    is_where_the_truth_is(f);
    batch_free(&wrong);
}

/* ---- version 0 from the task -------------------------------------------------------------- */

/* How many calls it took. */
static unsigned make_first(struct fixture *f)
{
    bool is_done = false;
    unsigned n = 0;

    for (; !is_done; n++)
        assert_ok(replica_first(&f->r, &is_done, &f->e), &f->e);
    return n;
}

static void version_0_is_made_whatever_was_published(void **state)
{
    struct fixture *f = *state;

    publish_first(f, true);
    seek(f, 1); /* stands at the other one */
    assert_false(digest_equal(&f->r.course.masters, &f->c.masters));
    assert_int_equal(make_first(f), 2); /* six steps, four a call */
    is_where_the_truth_is(f);
    assert_int_equal(f->n_asked, 1);
}

/* A dispute of another version comes between. */
static void one_that_was_left_begins_anew(void **state)
{
    struct fixture *f = *state;
    bool is_done;

    publish_first(f, false);
    assert_ok(replica_first(&f->r, &is_done, &f->e), &f->e);
    assert_false(is_done);
    assert_int_equal(seek(f, 2), 0);
    walk(f, 2);
    assert_int_equal(make_first(f), 2);
    assert_int_equal(f->r.course.version, 0);
    assert_int_equal(seek(f, 2), 0);
    walk(f, 2);
    is_where_the_truth_is(f);
}

static void of_a_model_that_is_not_here_it_is_what_was_published(void **state)
{
    struct fixture *f = *state;
    char *init = f->setup->task.model.init;
    char nowhere[] = "/nowhere/at/all";
    bool is_done;

    publish_first(f, true);
    f->setup->task.model.init = nowhere;
    assert_ok(replica_first(&f->r, &is_done, &f->e), &f->e);
    assert_true(is_done);
    assert_int_equal(f->n_asked, 1);
    assert_false(digest_equal(&f->r.course.masters, &f->c.masters));
    assert_true(digest_equal(&f->r.course.optimizer, &f->c.optimizer)); /* no moments */
    f->setup->task.model.init = init;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (env_is_worker(argc, argv))
        return env_worker_main();
    const struct CMUnitTest tests[] = {
        TEST(it_begins_at_the_published_version_0),
        TEST(without_it_the_warm_up_is_made_again),
        TEST(its_steps_are_those_of_the_course),
        TEST(the_state_before_the_last_step_is_at_hand),
        TEST(what_is_behind_is_gone_to_from_the_start),
        TEST(a_state_that_was_kept_outlives_a_restart),
        TEST(a_damaged_one_is_passed_over),
        TEST(the_last_four_are_kept),
        TEST(a_refused_batch_leaves_nothing_to_go_on_from),
        TEST(version_0_is_made_whatever_was_published),
        TEST(one_that_was_left_begins_anew),
        TEST(of_a_model_that_is_not_here_it_is_what_was_published),
    };

    return cmocka_run_group_tests_name("replay/replica", tests, NULL, NULL);
}
