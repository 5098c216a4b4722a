/*
 * replay/lane_group: several processes make the bits of one, also when some of them die. This program
 * is its own worker; as LANE_TEST_DEATHS says ("file:deaths:when"), one that ends in the middle of
 * its first step.
 */
#include "replay/lane_group.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/helper.h"
#include "replay/lane_wire.h"
#include "support/tempdir.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"
#include "unit/learn/tiny_step.h"

#define SEQS    9u
#define LONGEST 13u
#define STEPS   2u
#define DEATHS  "LANE_TEST_DEATHS"

struct fixture {
    struct tiny_step s;
    char *dir;
    struct err e;
};

static int setup(void **state)
{
    struct fixture *f = test_calloc(1, sizeof(*f));
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);

    c.dtype = DTYPE_BF16; /* published weights are not the masters */
    tiny_step_init(&f->s, &c, SEQS, LONGEST);
    f->s.settings.grad_lanes = 4;
    f->dir = tempdir_make();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    unsetenv(DEATHS);
    tempdir_remove(&f->dir);
    tiny_step_clear(&f->s);
    test_free(f);
    return 0;
}

static struct lane_group *group_of(struct fixture *f, uint32_t n_processes, size_t threads,
                                   size_t max_rows)
{
    const struct lane_group_options o = {.n_processes = n_processes,
                                         .n_lanes = f->s.settings.grad_lanes,
                                         .config = f->s.c,
                                         .kernels = kernels_best(),
                                         .threads = threads,
                                         .max_rows = max_rows};
    struct lane_group *g;

    assert_ok(lane_group_open(&g, &o, &f->e), &f->e);
    return g;
}

/* A learner before the step, with the processes of `g`, or alone. */
static struct learner *learner_of(struct fixture *f, const struct lane_group *g,
                                  size_t max_rows)
{
    const struct learner_options o = {
        .kernels = kernels_best(), .max_rows = max_rows, .crew = g ? lane_group_crew(g) : NULL};
    struct weights *w;
    struct adamw *opt;
    struct learner *l;

    assert_ok(weights_new(&w, &f->s.c, &f->e), &f->e);
    weights_copy(w, f->s.masters);
    assert_ok(adamw_new(&opt, &f->s.c, &f->e), &f->e);
    weights_copy(opt->m, f->s.opt->m);
    weights_copy(opt->v, f->s.opt->v);
    opt->step = f->s.opt->step;
    assert_ok(learner_new(&l, &w, &opt, &f->s.settings, &o, &f->e), &f->e);
    return l;
}

struct outcome {
    struct digest masters, optimizer;
    struct learn_report report;
};

static struct outcome outcome_of(struct learner *l, const struct learn_report *report)
{
    struct outcome o;
    struct err e;

    memset(&o, 0, sizeof(o));
    o.report = *report;
    assert_ok(learner_roots(l, &o.masters, &o.optimizer, &e), &e);
    return o;
}

static struct outcome walk(struct fixture *f, struct learner *l)
{
    struct learn_report r;

    for (uint64_t i = 0; i < STEPS; i++)
        assert_ok(learner_step(l, &f->s.batch, TINY_STEP + i, &r, &f->e), &f->e);
    return outcome_of(l, &r);
}

static struct outcome alone(struct fixture *f)
{
    struct learner *l = learner_of(f, NULL, 64);
    struct outcome o = walk(f, l);

    learner_free(&l);
    return o;
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
    assert_memory_equal(a->masters.b, b->masters.b, DIGEST_BYTES);
    assert_memory_equal(a->optimizer.b, b->optimizer.b, DIGEST_BYTES);
    /* Up to the padding before n_tokens. */
    assert_memory_equal(&a->report, &b->report,
                        offsetof(struct learn_report, lr) + sizeof(float));
    assert_int_equal(a->report.n_tokens, b->report.n_tokens);
}

static void several_processes_make_the_bits_of_one(void **state)
{
    struct fixture *f = *state;

    for (uint32_t lanes = 2; lanes <= 8; lanes *= 2) {
        f->s.settings.grad_lanes = lanes;
        struct outcome want = alone(f);

        for (uint32_t n = 2; n <= lanes; n *= 2) {
            const size_t max_rows = LONGEST - 1 + 9 * n;
            struct lane_group *g = group_of(f, n, n % 4 ? 2 : 1, max_rows);
            struct learner *l = learner_of(f, g, max_rows);
            struct outcome got = walk(f, l);

            assert_same(&got, &want);
            learner_free(&l);
            lane_group_close(&g);
        }
    }
}

static void imitations_are_shared_likewise(void **state)
{
    struct fixture *f = *state;
    struct lane_group *g = group_of(f, 4, 1, 64);
    struct learner *l[2] = {learner_of(f, NULL, 64), learner_of(f, g, 64)};
    struct learn_demo demo[SEQS];
    struct outcome o[2];

    for (size_t i = 0; i < SEQS; i++)
        demo[i] = (struct learn_demo){
            .tokens = f->s.batch.sample[i].tokens, .n_prompt = 1, .n = f->s.batch.sample[i].n};
    for (size_t i = 0; i < 2; i++) {
        struct learn_report r;

        l[i]->settings.warmup_lr = 1e-2;
        assert_ok(learner_imitate(l[i], demo, SEQS, &r, &f->e), &f->e);
        o[i] = outcome_of(l[i], &r);
    }
    assert_same(&o[0], &o[1]);
    learner_free(&l[0]);
    learner_free(&l[1]);
    lane_group_close(&g);
}

/* ---- death ----------------------------------------------------------------------------------- */

/* From now on helpers die in their first step, until so many have. */
static const char *let_die(struct fixture *f, unsigned deaths, const char *when)
{
    const char *path = tempdir_path(f->dir, "deaths");
    char text[512];

    snprintf(text, sizeof(text), "%s:%u:%s", path, deaths, when);
    assert_int_equal(setenv(DEATHS, text, 1), 0);
    return path;
}

static void assert_deaths(const char *path, off_t n)
{
    struct stat s;

    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, n);
}

static void a_step_whose_helper_dies_is_made_again(void **state)
{
    static const char *const when[] = {"working", "answering"};
    struct fixture *f = *state;
    const struct outcome want = alone(f);

    for (size_t i = 0; i < 2; i++) {
        const char *path = let_die(f, 1, when[i]);
        struct lane_group *g = group_of(f, 2, 1, 64);
        struct learner *l = learner_of(f, g, 64);
        struct outcome got = walk(f, l);

        assert_same(&got, &want);
        assert_deaths(path, 1);
        learner_free(&l);
        lane_group_close(&g);
        assert_int_equal(unlink(path), 0);
    }
}

static void a_helper_killed_between_steps_is_replaced(void **state)
{
    struct fixture *f = *state;
    const struct outcome want = alone(f);
    struct lane_group *g = group_of(f, 4, 1, 64);
    struct learner *l = learner_of(f, g, 64);
    pid_t pid = lane_group_pid(g, 2);
    struct outcome got;
    struct learn_report r;

    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_ok(learner_step(l, &f->s.batch, TINY_STEP, &r, &f->e), &f->e);
    assert_true(lane_group_pid(g, 2) != pid);
    pid = lane_group_pid(g, 1);
    assert_ok(learner_step(l, &f->s.batch, TINY_STEP + 1, &r, &f->e), &f->e);
    assert_int_equal(lane_group_pid(g, 1), pid); /* and stays */
    got = outcome_of(l, &r);

    assert_same(&got, &want);
    learner_free(&l);
    lane_group_close(&g);
}

static void a_step_that_cannot_be_made_changes_nothing(void **state)
{
    struct fixture *f = *state;
    const struct outcome want = alone(f);
    const char *path = let_die(f, LANE_TRIES, "answering");
    struct lane_group *g = group_of(f, 2, 1, 64);
    struct learner *l = learner_of(f, g, 64);
    const struct learn_report none = {0};
    struct outcome before = outcome_of(l, &none), after, got;
    struct learn_report r;

    assert_status(learner_step(l, &f->s.batch, TINY_STEP, &r, &f->e), ERR_IO, NULL);
    assert_contains(f->e.text, "given up after 3 tries");
    assert_contains(f->e.text, "was ended by signal 9");
    assert_deaths(path, LANE_TRIES);
    after = outcome_of(l, &none);
    assert_same(&before, &after);
    got = walk(f, l); /* those that are started now live */

    assert_same(&got, &want);
    learner_free(&l);
    lane_group_close(&g);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void what_a_helper_cannot_compute_is_told_at_once(void **state)
{
    struct fixture *f = *state;
    const char *path = let_die(f, 0, "working");
    struct lane_group *g = group_of(f, 2, 1, 64);
    struct learner *l = learner_of(f, g, 64);
    struct learn_report r;
    const int32_t kept = f->s.batch.sample[SEQS - 1].tokens[0];
    struct stat s;

    ((int32_t *)f->s.batch.sample[SEQS - 1].tokens)[0] = 1000000; /* in the last lane */
    assert_status(learner_step(l, &f->s.batch, TINY_STEP, &r, &f->e), ERR_INVALID, NULL);
    assert_contains(f->e.text, "lane worker 1: ");
    assert_contains(f->e.text, "outside the vocabulary");
    ((int32_t *)f->s.batch.sample[SEQS - 1].tokens)[0] = kept;
    assert_int_equal(stat(path, &s), -1);
    learner_free(&l);
    lane_group_close(&g);
}

static void numbers_that_do_not_divide_are_refused(void **state)
{
    struct err e;

    (void)state;
    assert_ok(lane_group_check(1, 1, &e), &e);
    assert_ok(lane_group_check(4, 8, &e), &e);
    assert_status(lane_group_check(3, 8, &e), ERR_INVALID, NULL);
    assert_status(lane_group_check(0, 8, &e), ERR_INVALID, NULL);
    assert_status(lane_group_check(4, 2, &e), ERR_INVALID, NULL);
    assert_contains(e.text, "4 processes cannot share 2 grad_lanes");
}

static void a_program_that_is_no_worker_is_an_error(void **state)
{
    struct fixture *f = *state;
    const struct lane_group_options o = {.n_processes = 2,
                                         .n_lanes = 2,
                                         .config = f->s.c,
                                         .kernels = kernels_best(),
                                         .threads = 1,
                                         .max_rows = 64,
                                         .program = "/bin/true"};
    struct lane_group *g;

    assert_status(lane_group_open(&g, &o, &f->e), ERR_IO, NULL);
    assert_null(g);
    assert_contains(f->e.text, "lane worker 1");
}

/* ---- a helper that dies ---------------------------------------------------------------------- */

static void read_frame(struct buf *in)
{
    uint8_t head[8];
    struct reader r = reader_of(BYTES_OF(head));
    uint64_t len = helper_read(head, sizeof(head)) ? reader_u64(&r) : 0;
    uint8_t *body = buf_extend(in, len);

    if (!len || !body || !helper_read(body, len))
        _exit(3);
}

static void answer(uint32_t n)
{
    const struct lane_answer a = {.n = n};
    struct buf body, frame;

    buf_init(&body, 4096);
    buf_init(&frame, 4096);
    lane_answer_encode(&body, &a);
    buf_put_u64(&frame, body.len);
    buf_append(&frame, buf_bytes(&body));
    if (!helper_write(buf_bytes(&frame)))
        _exit(3);
}

/* Takes the setup and a step as a worker does, and is killed while it works or while its gradient is
 * on the way. */
static void die(const char *when)
{
    struct lane_setup s;
    struct buf in;

    buf_init(&in, LANE_FRAME_MAX);
    read_frame(&in);
    if (lane_setup_decode(&s, buf_bytes(&in), NULL))
        _exit(3);
    answer(0);
    buf_reset(&in);
    read_frame(&in);
    if (!strcmp(when, "answering")) {
        float some[100];

        for (size_t i = 0; i < 100; i++)
            some[i] = 1e9f;
        answer(s.lanes);
        if (!helper_write(BYTES_OF(some)))
            _exit(3);
    }
    raise(SIGKILL);
}

/* Whether this helper is one that dies; each counts itself. */
static void perhaps_die(void)
{
    char path[512], when[32];
    const char *text = getenv(DEATHS);
    unsigned deaths;
    struct stat s;
    int fd;

    if (!text || sscanf(text, "%511[^:]:%u:%31s", path, &deaths, when) != 3 || !deaths)
        return;
    if (!stat(path, &s) && s.st_size >= (off_t)deaths)
        return;
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(3);
    close(fd);
    die(when);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
    if (lane_is_worker(argc, argv)) {
        perhaps_die();
        return lane_worker_main();
    }
    const struct CMUnitTest tests[] = {
        CASE(several_processes_make_the_bits_of_one),
        CASE(imitations_are_shared_likewise),
        CASE(a_step_whose_helper_dies_is_made_again),
        CASE(a_helper_killed_between_steps_is_replaced),
        CASE(a_step_that_cannot_be_made_changes_nothing),
        CASE(what_a_helper_cannot_compute_is_told_at_once),
        CASE(numbers_that_do_not_divide_are_refused),
        CASE(a_program_that_is_no_worker_is_an_error),
    };

    return cmocka_run_group_tests_name("replay/lane_group", tests, NULL, NULL);
}
