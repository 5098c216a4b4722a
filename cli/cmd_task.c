/*
 * muster task check: a task file before it is published
 *
 * Parses it, prints every setting, starts its environment, and sees that problems fit the model.
 * The words of 'muster task' that need a network are in cli/cmd_task_net.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/usage.h"
#include "rollout/setup.h"

#define PROBLEMS 32u

int cmd_task_check(int argc, char **argv); /* cli/cmd_task_net.c finds the word */

static enum status encode(const struct setup *s, struct bytes text, size_t *n, struct err *e)
{
    size_t cap = text.len + 1;
    int32_t *ids = xcalloc(cap, sizeof(*ids));
    enum status st = tokenizer_encode(s->tokenizer, text, ids, cap, n, e);

    free(ids);
    return st;
}

/* A problem's prompt and demonstration can be written in the model's tokens, and are short
 * enough for it. */
static enum status check_problem(const struct setup *s, const struct env_problem *p,
                                 struct err *e)
{
    const struct task *t = &s->task;
    struct env_score score;
    size_t n_prompt, n_demo;
    struct buf text;
    enum status st;

    buf_init(&text, ENV_TEXT_MAX_BYTES);
    st = env_prompt(s->env, p, &text, e);
    if (!st) {
        st = encode(s, buf_bytes(&text), &n_prompt, e);
        if (st)
            st = err_prefix(e, st, "prompt '%.64s'", buf_cstr(&text));
    }
    if (!st && (int64_t)n_prompt + 1 + t->sampling.max_new_tokens > t->model.max_len)
        st = err_set(e, ERR_INVALID,
                     "prompt '%.64s' has %zu tokens: with a start token and "
                     "sampling.max_new_tokens %" PRId64
                     " that is more than model.max_len %" PRId64,
                     buf_cstr(&text), n_prompt, t->sampling.max_new_tokens, t->model.max_len);
    if (!st && t->warmup.steps > 0) {
        buf_reset(&text);
        st = env_demo(s->env, p, &text, e);
        if (!st)
            st = encode(s, buf_bytes(&text), &n_demo, e);
        if (!st && !env_has_step(s->env) && (int64_t)n_demo + 1 > t->sampling.max_new_tokens)
            st = err_set(e, ERR_INVALID,
                         "demonstration '%.64s' has %zu tokens: with an end token that is more "
                         "than sampling.max_new_tokens %" PRId64,
                         buf_cstr(&text), n_demo, t->sampling.max_new_tokens);
    }
    if (!st)
        st = env_score_text(s->env, p, buf_bytes(&text), &score, e);
    if (!st && score.outcome)
        st = err_set(e, ERR_INVALID, "score of '%.64s' fails: %s", buf_cstr(&text), score.why);
    buf_clear(&text);
    return st;
}

static enum status check_problems(const struct setup *s, struct err *e)
{
    enum status st = OK;

    for (uint64_t i = 0; i < PROBLEMS && !st; i++) {
        bool is_heldout = i % 4 == 3;
        struct env_problem p = {.index = is_heldout ? plan_heldout_index(&s->plan, i)
                                                    : plan_task_index(&s->plan, i),
                                .seed = is_heldout ? plan_heldout_seed(&s->plan, i)
                                                   : plan_env_seed(&s->plan, i),
                                .split = is_heldout ? ENV_HELDOUT : ENV_TRAIN};

        st = check_problem(s, &p, e);
        if (st)
            st = err_prefix(e, st, "problem index %" PRIu64 " seed %" PRIu64, p.index, p.seed);
    }
    return st;
}

static void print_task(const struct setup *s)
{
    char id[2 * TASK_ID_BYTES + 1];
    struct buf text;

    hex_encode(id, BYTES_OF(s->task_id.b));
    buf_init(&text, 1u << 20);
    task_print(&text, &s->task);
    printf("task id  %s\n", id);
    printf("bundle   %zu bytes\n", s->bundle.len);
    printf("model    %s, %" PRIu64 " parameters, %" PRIu32 " layers of dim %" PRIu32
           ", vocabulary %" PRIu32 "\n",
           model_arch_type(s->config.arch), model_config_params(&s->config), s->config.layers,
           s->config.dim, s->config.vocab);
    if (strcmp(s->task.model.init, "random") != 0)
        printf(
            "         as its directory says: of the keys of model below only init, max_len and "
            "template count\n");
    if (env_n_tasks(s->env) > 1)
        printf("problems %" PRIu64 ", %s\n\n%s", env_n_tasks(s->env), env_lua_release(),
               buf_cstr(&text));
    else
        printf("problems drawn by their seeds, %s\n\n%s", env_lua_release(), buf_cstr(&text));
    buf_clear(&text);
}

int cmd_task_check(int argc, char **argv)
{
    bool quiet, allow;
    struct opt table[] = {
        {"quiet", OPT_FLAG, &quiet, "false", NULL, "print nothing if all is well", 0},
        {"allow-unsandboxed", OPT_FLAG, &allow, "false", NULL,
         "go on where the kernel gives no sandbox", 0},
    };
    const char *operand[1] = {NULL};
    struct usage u = {.line = "muster task check FILE [options]",
                      .about = "Parses a task file (or the task.yaml of a directory), prints "
                               "every setting, and\nsees that its environment runs and its "
                               "problems fit the model.",
                      .table = table,
                      .n = sizeof(table) / sizeof(table[0]),
                      .operand = operand,
                      .max_operands = 1};
    struct env_options env_opt = {0};
    struct setup *s = NULL;
    struct buf bundle;
    struct err e;
    enum status st;
    int rc = usage_parse(&u, argc, argv);

    if (rc != USAGE_RUN)
        return rc;
    buf_init(&bundle, BUNDLE_MAX_BYTES);
    env_opt.allow_unsandboxed = allow;
    st = bundle_load(&bundle, operand[0] ? operand[0] : ".", &e);
    if (!st)
        st = setup_open(&s, buf_bytes(&bundle), &env_opt, &e);
    if (!st)
        st = check_problems(s, &e);
    if (!st && !quiet)
        print_task(s);
    setup_close(&s);
    buf_clear(&bundle);
    return st ? usage_fail(e.text) : 0;
}
