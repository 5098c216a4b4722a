/* The task that `muster up` runs: a file of the user's with another seed or number of steps. */
#include "cli/up_task.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "support/tempdir.h"
#include "support/test.h"

struct fixture {
    char *dir;
    struct task task;
    struct buf bundle;
    struct err e;
};

static int setup(void **state)
{
    static struct fixture f;

    f.dir = tempdir_make();
    buf_init(&f.bundle, BUNDLE_MAX_BYTES);
    task_init(&f.task);
    f.e = (struct err){0};
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    task_clear(&f->task);
    buf_clear(&f->bundle);
    tempdir_remove(&f->dir);
    return 0;
}

static void write_text(const struct fixture *f, const char *name, const char *text)
{
    assert_ok(file_write_atomic(tempdir_path(f->dir, name), bytes_str(text), 0644, NULL), NULL);
}

static enum status load(struct fixture *f, const char *yaml, int64_t seed, int64_t steps)
{
    write_text(f, "task.yaml", yaml);
    write_text(f, "env.lua", "return {}");
    return up_task_load(&f->bundle, &f->task, f->dir, seed, steps, &f->e);
}

/* What the bundle's task file is after the overrides. */
static void assert_becomes(struct fixture *f, const char *yaml, int64_t seed, int64_t steps,
                           const char *want)
{
    struct bundle b;
    char *text;

    assert_ok(load(f, yaml, seed, steps), &f->e);
    assert_ok(bundle_decode(&b, buf_bytes(&f->bundle), &f->e), &f->e);

    text = strndup((const char *)b.file[BUNDLE_TASK].data, b.file[BUNDLE_TASK].len);
    assert_string_equal(text, want);
    free(text);
}

static void without_overrides_not_a_byte_changes(void **state)
{
    struct fixture *f = *state;
    const char *yaml = "# mine\nname: x # a name\nseed: 5\nalgorithm:\n    steps: 9\n";

    assert_becomes(f, yaml, -1, -1, yaml);

    assert_int_equal(f->task.seed, 5);
    assert_int_equal(f->task.algorithm.steps, 9);
}

static void a_value_that_is_there_is_replaced(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f, "name: x\nseed: 5\nalgorithm:\n  lag: 1\n  steps: 9\n", 6, 10,
                   "name: x\nseed: 6\nalgorithm:\n  lag: 1\n  steps: 10\n");

    assert_int_equal(f->task.seed, 6);
    assert_int_equal(f->task.algorithm.steps, 10);
}

static void a_value_that_is_not_there_is_put_in(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f, "name: x\nalgorithm:\n  lag: 1\n", 6, 10,
                   "seed: 6\nname: x\nalgorithm:\n  steps: 10\n  lag: 1\n");
}

static void comments_are_kept(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f,
                   "# seed: 1\nname: x\nseed: 5   # lucky\nalgorithm: # how\n"
                   "# steps: 2\n  # steps: 3\n  steps: 9 # few\n",
                   6, 10,
                   "# seed: 1\nname: x\nseed: 6   # lucky\nalgorithm: # how\n"
                   "# steps: 2\n  # steps: 3\n  steps: 10 # few\n");
}

static void the_section_s_own_indent_is_used(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f, "name: x\nalgorithm:\n    lag: 1\n", -1, 10,
                   "name: x\nalgorithm:\n    steps: 10\n    lag: 1\n");
}

/* "warmup.steps" and a seed among the environment's own parameters are others. */
static void keys_of_the_same_name_elsewhere_are_left_alone(void **state)
{
    struct fixture *f = *state;

    assert_becomes(
        f,
        "name: x\nwarmup:\n  steps: 3\nenvironment:\n  params:\n    seed: 1\n"
        "algorithm:\n  steps: 9\n",
        6, 10,
        "seed: 6\nname: x\nwarmup:\n  steps: 3\nenvironment:\n  params:\n    seed: 1\n"
        "algorithm:\n  steps: 10\n");
}

static void a_last_line_without_an_end_is_fine(void **state)
{
    struct fixture *f = *state;

    assert_becomes(f, "name: x\nalgorithm:\n  steps: 9", -1, 10,
                   "name: x\nalgorithm:\n  steps: 10");
}

static void without_the_section_it_refuses(void **state)
{
    struct fixture *f = *state;

    assert_status(load(f, "name: x\n", -1, 10), ERR_INVALID, &f->e);

    assert_contains(f->e.text, "no section 'algorithm:'");
}

static void a_section_on_one_line_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_int_not_equal(load(f, "name: x\nalgorithm: {steps: 9}\n", -1, 10), OK);

    assert_contains(f->e.text, "with the given seed or steps");
}

static void a_value_out_of_range_is_refused(void **state)
{
    struct fixture *f = *state;

    assert_status(load(f, "name: x\nalgorithm:\n  steps: 9\n", -1, 100000000), ERR_INVALID,
                  &f->e);

    assert_contains(f->e.text, "steps");
}

static void a_wrong_file_is_told_as_it_is(void **state)
{
    struct fixture *f = *state;

    assert_status(load(f, "name: x\nsede: 5\n", 6, -1), ERR_INVALID, &f->e);

    assert_contains(f->e.text, "'sede'");
}

static void one_that_is_not_there_is_answered_with_those_that_are(void **state)
{
    struct fixture *f = *state;
    char *before = getcwd(NULL, 0);
    enum status st;

    assert_int_equal(chdir(MUSTER_SOURCE_DIR), 0);
    st = up_task_load(&f->bundle, &f->task, "tasks/nope", -1, -1, &f->e);
    assert_int_equal(chdir(before), 0);

    assert_status(st, ERR_NOT_FOUND, &f->e);
    assert_string_equal(
        f->e.text, "a task is wanted, which is a YAML file or a directory with a task.yaml: "
                   "there is no 'tasks/nope'; tasks that are here: tasks/arithmetic, "
                   "tasks/reverse-text, tasks/sort-letters");
    free(before);
}

/* It is the user's own: the others are no help. */
static void a_directory_without_a_task_is_told_what_it_lacks(void **state)
{
    struct fixture *f = *state;

    assert_status(up_task_load(&f->bundle, &f->task, f->dir, -1, -1, &f->e), ERR_NOT_FOUND,
                  &f->e);
    assert_contains(f->e.text, "/task.yaml'");
    assert_null(strstr(f->e.text, "tasks that are here"));
}

static void the_default_task_is_found_beside_the_program(void **state)
{
    char *before = getcwd(NULL, 0), *here, *there;
    (void)state;

    assert_int_equal(chdir(MUSTER_SOURCE_DIR), 0);
    here = up_task_default();
    assert_int_equal(chdir(before), 0);
    assert_string_equal(here, "tasks/reverse-text");

    there = up_task_default(); /* found if this build tree is inside the source tree */
    if (there)
        assert_contains(there, "/tasks/reverse-text");
    free(here);
    free(there);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_overrides_not_a_byte_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_that_is_there_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_that_is_not_there_is_put_in, setup, teardown),
        cmocka_unit_test_setup_teardown(comments_are_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(the_section_s_own_indent_is_used, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_of_the_same_name_elsewhere_are_left_alone, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_last_line_without_an_end_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(without_the_section_it_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(a_section_on_one_line_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_out_of_range_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_file_is_told_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_not_there_is_answered_with_those_that_are,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_without_a_task_is_told_what_it_lacks, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_default_task_is_found_beside_the_program, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("cli/up_task", tests, NULL, NULL);
}
