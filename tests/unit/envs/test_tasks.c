/*
 * The tasks in tasks/: each parses, fits its model, and rewards its own demonstrations. This
 * program is its own worker.
 */
#include "envs/env.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"

#define PROBLEMS 200

static const char *const names[] = {"reverse-text", "sort-letters", "arithmetic"};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

struct opened {
    struct buf bytes;
    struct bundle bundle;
    struct task task;
    struct env *env;
};

/* `slips`: how often a demonstration's letter is a random one; negative: as the task says. Only
 * reverse-text has such a parameter. */
static void open_careless(struct opened *o, const char *name, double slips)
{
    char path[512];
    struct err e = {0};

    snprintf(path, sizeof(path), "%s/tasks/%s", MUSTER_SOURCE_DIR, name);
    buf_init(&o->bytes, BUNDLE_MAX_BYTES);
    assert_ok(bundle_load(&o->bytes, path, &e), &e);
    assert_ok(bundle_decode(&o->bundle, buf_bytes(&o->bytes), &e), &e);
    assert_ok(task_parse(&o->task, o->bundle.file[BUNDLE_TASK], name, &e), &e);
    for (size_t i = 0; slips >= 0.0 && i < o->task.environment.n_params; i++)
        if (!strcmp(o->task.environment.param[i].name, "slips"))
            o->task.environment.param[i].real = slips;
    assert_ok(env_open(&o->env, &o->task, &o->bundle, NULL, &e), &e);
}

static void open_task(struct opened *o, const char *name)
{
    open_careless(o, name, 0.0);
}

static void close_task(struct opened *o)
{
    env_close(&o->env);
    task_clear(&o->task);
    buf_clear(&o->bytes);
}

static struct env_problem problem(uint64_t i, enum env_split split)
{
    return (struct env_problem){0, i * 0x9e3779b97f4a7c15u + 1, split};
}

/* The answer text of problem i, which the caller frees. */
static char *text_of(struct opened *o, uint64_t i, enum env_split split, bool is_demo)
{
    struct env_problem p = problem(i, split);
    struct buf text;
    struct err e = {0};
    char *copy;

    buf_init(&text, ENV_TEXT_MAX_BYTES);
    if (is_demo)
        assert_ok(env_demo(o->env, &p, &text, &e), &e);
    else
        assert_ok(env_prompt(o->env, &p, &text, &e), &e);
    copy = strdup(buf_cstr(&text));
    buf_clear(&text);
    return copy;
}

static struct env_score score_of(struct opened *o, uint64_t i, const char *answer)
{
    struct env_problem p = problem(i, ENV_TRAIN);
    struct env_score s;
    struct err e = {0};

    assert_ok(env_score_text(o->env, &p, bytes_str(answer), &s, &e), &e);
    assert_int_equal(s.outcome, ENV_SCORED);
    return s;
}

static void demonstrations_get_the_whole_reward(void **state)
{
    (void)state;

    for (size_t k = 0; k < N_NAMES; k++) {
        struct opened o;

        open_task(&o, names[k]);
        for (uint64_t i = 0; i < PROBLEMS; i++) {
            char *demo = text_of(&o, i, ENV_TRAIN, true);

            assert_true(score_of(&o, i, demo).reward == 1.0f);
            free(demo);
        }
        close_task(&o);
    }
}

static void spoilt_answers_get_less(void **state)
{
    (void)state;

    for (size_t k = 0; k < N_NAMES; k++) {
        struct opened o;

        open_task(&o, names[k]);
        for (uint64_t i = 0; i < PROBLEMS; i++) {
            char *demo = text_of(&o, i, ENV_TRAIN, true);
            size_t n = strlen(demo);
            char longer[128];

            assert_true(score_of(&o, i, "").reward == 0.0f);
            snprintf(longer, sizeof(longer), "%sa", demo);
            assert_true(score_of(&o, i, longer).reward < 1.0f);
            demo[n - 1] = demo[n - 1] == '1' ? '2' : '1';
            assert_true(score_of(&o, i, demo).reward < 1.0f);
            demo[n - 1] = '\0';
            assert_true(score_of(&o, i, demo).reward < 1.0f);
            free(demo);
        }
        close_task(&o);
    }
}

static void problems_fit_the_model(void **state)
{
    (void)state;

    for (size_t k = 0; k < N_NAMES; k++) {
        struct opened o;

        open_task(&o, names[k]);
        for (uint64_t i = 0; i < PROBLEMS; i++) {
            char *prompt = text_of(&o, i, ENV_TRAIN, false);
            char *demo = text_of(&o, i, ENV_TRAIN, true);

            /* a start token, the prompt, the answer, an end token; one byte is one character */
            assert_true((int64_t)strlen(prompt) + 1 + o.task.sampling.max_new_tokens <=
                        o.task.model.max_len);
            assert_true((int64_t)strlen(demo) + 1 <= o.task.sampling.max_new_tokens);
            assert_int_equal(strspn(prompt, o.task.model.alphabet), strlen(prompt));
            assert_int_equal(strspn(demo, o.task.model.alphabet), strlen(demo));
            free(prompt);
            free(demo);
        }
        close_task(&o);
    }
}

static void held_out_problems_do_not_occur_in_training(void **state)
{
    (void)state;

    for (size_t k = 0; k < N_NAMES; k++) {
        char *heldout[20];
        struct opened o;

        open_task(&o, names[k]);
        for (uint64_t i = 0; i < 20; i++)
            heldout[i] = text_of(&o, i, ENV_HELDOUT, false);
        for (uint64_t i = 0; i < PROBLEMS; i++) {
            char *prompt = text_of(&o, i, ENV_TRAIN, false);

            for (size_t h = 0; h < 20; h++)
                assert_string_not_equal(prompt, heldout[h]);
            free(prompt);
        }
        for (size_t h = 0; h < 20; h++)
            free(heldout[h]);
        close_task(&o);
    }
}

static void problems_are_what_they_say(void **state)
{
    (void)state;
    struct opened o;
    char *prompt, *demo;

    open_task(&o, "reverse-text");
    prompt = text_of(&o, 0, ENV_TRAIN, false);
    demo = text_of(&o, 0, ENV_TRAIN, true);
    assert_int_equal(strlen(prompt), 9);
    assert_int_equal(prompt[8], '>');
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(prompt[i], demo[7 - i]);
    assert_true(score_of(&o, 0, demo).metric[0].value == 1.0); /* exact */
    free(prompt);
    free(demo);
    close_task(&o);

    open_task(&o, "arithmetic");
    prompt = text_of(&o, 3, ENV_TRAIN, false);
    demo = text_of(&o, 3, ENV_TRAIN, true);
    assert_int_equal(strtol(prompt, NULL, 10) + strtol(strchr(prompt, '+') + 1, NULL, 10),
                     strtol(strrchr(demo, ' ') + 1, NULL, 10));
    free(prompt);
    free(demo);
    close_task(&o);
}

/* A letter is right with probability 1 - slips + slips / 26 = 0.4615. Over 400 words of 8 letters
 * the mean's deviation is sqrt(0.4615 * 0.5385 / 3200) = 0.0088; five of them are allowed. */
static void careless_demonstrations_are_right_as_often_as_the_task_says(void **state)
{
    (void)state;
    struct opened o;
    double sum = 0.0;

    open_careless(&o, "reverse-text", -1.0);
    for (uint64_t i = 0; i < 400; i++) {
        char *demo = text_of(&o, i, ENV_TRAIN, true);

        sum += (double)score_of(&o, i, demo).reward;
        free(demo);
    }
    assert_true(fabs(sum / 400.0 - 0.4615) < 5 * 0.0088);
    close_task(&o);
}

int main(int argc, char **argv)
{
    struct err e;

    if (env_is_worker(argc, argv))
        return env_worker_main();
    if (env_sandbox_check(&e)) {
        fprintf(stderr, "skipped: %s\n", e.text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demonstrations_get_the_whole_reward),
        cmocka_unit_test(careless_demonstrations_are_right_as_often_as_the_task_says),
        cmocka_unit_test(spoilt_answers_get_less),
        cmocka_unit_test(problems_fit_the_model),
        cmocka_unit_test(held_out_problems_do_not_occur_in_training),
        cmocka_unit_test(problems_are_what_they_say),
    };

    return cmocka_run_group_tests_name("envs/tasks", tests, NULL, NULL);
}
