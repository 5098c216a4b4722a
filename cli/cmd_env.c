/*
 * muster env check / try: an environment before anybody pays for it
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "envs/env.h"
#include "envs/task.h"

#define PROBLEMS    12  /* of each process; every fourth is held out */
#define LIMITS_MAX  3   /* so many scores that end at a limit are enough to know */
#define PROGRESS_MS 200 /* between two looks of somebody who waits */

/* ---- opening ------------------------------------------------------------------------------- */

struct subject {
    struct buf bytes;
    struct bundle bundle;
    struct task task;
    struct env_options opt;
};

static enum status subject_load(struct subject *s, const char *path, struct err *e)
{
    enum status st;

    memset(s, 0, sizeof(*s));
    buf_init(&s->bytes, BUNDLE_MAX_BYTES);
    task_init(&s->task);
    st = bundle_load(&s->bytes, path, e);
    if (!st)
        st = bundle_decode(&s->bundle, buf_bytes(&s->bytes), e);
    if (!st) {
        task_clear(&s->task);
        st = task_parse(&s->task, s->bundle.file[BUNDLE_TASK], "task.yaml", e);
    }
    return st;
}

static void subject_clear(struct subject *s)
{
    task_clear(&s->task);
    buf_clear(&s->bytes);
}

static struct env_problem problem_of(const struct env *env, uint64_t i)
{
    return (struct env_problem){.index = i % env_n_tasks(env),
                                .seed = i * 0x9e3779b97f4a7c15u + 1,
                                .split = i % 4 == 3 ? ENV_HELDOUT : ENV_TRAIN};
}

/* ---- env check ----------------------------------------------------------------------------- */

/* What the first process answered, in order; later ones must say the same. */
struct audit {
    struct subject subject;
    char **value; /* owned */
    size_t n, cap, at;
    bool is_first;
    char difference[ERR_TEXT_BYTES]; /* the first one found */
    uint64_t calls, failures;
    uint64_t limits;               /* of the failures, those at a limit */
    int64_t n_processes, n_wanted; /* so far, of so many */
    bool is_watched;               /* stderr is a terminal */
    int64_t told_us;               /* when progress was last shown */
    int64_t total_us, longest_us;
    char failure[160]; /* the first one found */
    double reward_min, reward_max, demo_sum;
    uint64_t demos;
    bool has_demo, has_step;
    struct env_usage most;
};

static void note(struct audit *a, const char *what, const struct env_problem *p,
                 const char *value)
{
    if (a->is_first) {
        if (a->n == a->cap) {
            a->cap = a->cap ? 2 * a->cap : 64;
            a->value = xrealloc(a->value, a->cap * sizeof(*a->value));
        }
        a->value[a->n++] = xstrdup(value);
    } else if (!a->difference[0] && (a->at >= a->n || strcmp(a->value[a->at], value) != 0)) {
        snprintf(a->difference, sizeof(a->difference),
                 "%s of problem index %" PRIu64 " seed %" PRIu64
                 ": first '%.120s', then '%.120s'",
                 what, p->index, p->seed, a->at < a->n ? a->value[a->at] : "nothing", value);
    }
    a->at++;
}

static void show_progress(struct audit *a, int64_t now_us)
{
    if (!a->is_watched || now_us - a->told_us < PROGRESS_MS * 1000)
        return;
    a->told_us = now_us;
    fprintf(stderr, "\r\x1b[Kprocess %" PRId64 " of %" PRId64 ", %" PRIu64 " calls",
            a->n_processes + 1, a->n_wanted, a->calls);
}

static void count_call(struct audit *a, const struct env *env, int64_t began_us)
{
    int64_t now_us = clock_mono_us(), us = now_us - began_us;
    struct env_usage u = env_last_usage(env);

    a->calls++;
    a->total_us += us;
    if (us > a->longest_us)
        a->longest_us = us;
    if (u.instructions > a->most.instructions)
        a->most.instructions = u.instructions;
    if (u.memory_bytes > a->most.memory_bytes)
        a->most.memory_bytes = u.memory_bytes;
    show_progress(a, now_us);
}

/* Scores at their limits are slow, and a few tell as much as thousands. */
static bool is_hopeless(const struct audit *a)
{
    return a->limits >= LIMITS_MAX;
}

/* Scores an episode and writes all of the result down as text. */
static enum status audit_messages(struct audit *a, struct env *env, const struct env_problem *p,
                                  const struct env_message *m, size_t n, bool is_demo,
                                  struct err *e)
{
    int64_t began_us = clock_mono_us();
    struct env_score s;
    struct buf text;
    enum status st = env_score(env, p, m, n, &s, e);

    if (st)
        return st;
    count_call(a, env, began_us);
    buf_init(&text, 1u << 16);
    buf_printf(&text, "%a outcome %d %s", (double)s.reward, (int)s.outcome, s.why);
    for (size_t i = 0; i < s.n_metrics; i++)
        buf_printf(&text, " %s=%a", s.metric[i].name, s.metric[i].value);
    buf_printf(&text, " instructions %" PRIu64 " bytes %" PRIu64,
               env_last_usage(env).instructions, env_last_usage(env).memory_bytes);
    note(a, "score", p, buf_cstr(&text));
    buf_clear(&text);
    if (s.outcome) {
        if (!a->failures++)
            snprintf(a->failure, sizeof(a->failure), "%s", s.why);
        a->limits += s.outcome == ENV_FAILED_LIMIT;
    } else {
        a->reward_min = fmin(a->reward_min, (double)s.reward);
        a->reward_max = fmax(a->reward_max, (double)s.reward);
    }
    if (is_demo) {
        a->demos++;
        a->demo_sum += (double)s.reward;
    }
    return OK;
}

static enum status audit_score(struct audit *a, struct env *env, const struct env_problem *p,
                               struct bytes answer, bool is_demo, struct err *e)
{
    const struct env_message m = {ENV_MODEL, answer};

    return audit_messages(a, env, p, &m, 1, is_demo, e);
}

/* What the world says to an answer, and the score of both with the answer once more: wherever a model
 * may get. Nothing where `step` is not called. */
static enum status audit_step(struct audit *a, struct env *env, const struct env_problem *p,
                              struct bytes answer, struct err *e)
{
    struct env_message m[] = {{ENV_MODEL, answer}, {ENV_WORLD, {0}}, {ENV_MODEL, answer}};
    int64_t began_us = clock_mono_us();
    bool is_done;
    struct buf says;
    enum status st;

    if (!env_has_step(env) || a->subject.task.environment.turns < 2)
        return OK;
    buf_init(&says, ENV_TEXT_MAX_BYTES);
    st = env_step(env, p, m, 1, &is_done, &says, e);
    if (st) {
        st = err_prefix(e, st, "step after '%.40s'", (const char *)answer.data);
    } else {
        count_call(a, env, began_us);
        note(a, "step", p, is_done ? "nil" : buf_cstr(&says));
        if (env_step_failure(env)[0] && !a->failures++)
            snprintf(a->failure, sizeof(a->failure), "step: %s", env_step_failure(env));
        m[1].text = buf_bytes(&says);
        if (!is_done)
            st = audit_messages(a, env, p, m, 3, false, e);
    }
    buf_clear(&says);
    return st;
}

/* The demonstration and half of it; a script without one is fine. */
static enum status audit_demo(struct audit *a, struct env *env, const struct env_problem *p,
                              struct err *e)
{
    struct buf demo;
    enum status st;

    if (!env_has_demo(env))
        return OK;
    buf_init(&demo, ENV_TEXT_MAX_BYTES);
    st = env_demo(env, p, &demo, e);
    if (!st) {
        note(a, "demonstration", p, buf_cstr(&demo));
        a->has_demo = true;
        st = audit_score(a, env, p, buf_bytes(&demo), !env_has_step(env), e);
        if (!st)
            st = audit_step(a, env, p, buf_bytes(&demo), e);
    }
    if (!st && !is_hopeless(a))
        st = audit_score(a, env, p, bytes_slice(buf_bytes(&demo), 0, demo.len / 2), false, e);
    buf_clear(&demo);
    return st;
}

/* A problem with answers good, half good, empty, long and foul. */
static enum status audit_problem(struct audit *a, struct env *env, const struct env_problem *p,
                                 struct err *e)
{
    static const char foul[] = "\xff\xfe\0%s%n\n\x1b[2J";
    struct buf prompt, longer;
    int64_t began_us = clock_mono_us();
    enum status st;

    buf_init(&prompt, ENV_TEXT_MAX_BYTES);
    buf_init(&longer, ENV_TEXT_MAX_BYTES);
    for (int i = 0; i < 3000; i++)
        buf_put_u8(&longer, (uint8_t)("0a. "[i % 4]));
    st = env_prompt(env, p, &prompt, e);
    if (!st) {
        const struct bytes answer[] = {BYTES_LIT(""), buf_bytes(&prompt), buf_bytes(&longer),
                                       BYTES_LIT(foul)};
        count_call(a, env, began_us);
        note(a, "prompt", p, buf_cstr(&prompt));
        st = audit_demo(a, env, p, e);
        for (size_t i = 0; i < sizeof(answer) / sizeof(answer[0]) && !st && !is_hopeless(a);
             i++) {
            st = audit_score(a, env, p, answer[i], false, e);
            if (!st && !is_hopeless(a))
                st = audit_step(a, env, p, answer[i], e);
        }
    }
    buf_clear(&prompt);
    buf_clear(&longer);
    return st;
}

static enum status audit_process(struct audit *a, struct err *e)
{
    struct env *env;
    enum status st;

    a->at = 0;
    st = env_open(&env, &a->subject.task, &a->subject.bundle, &a->subject.opt, e);
    a->has_step = !st && env_has_step(env);
    for (uint64_t i = 0; i < PROBLEMS && !st && !is_hopeless(a); i++) {
        struct env_problem p = problem_of(env, i);

        st = audit_problem(a, env, &p, e);
        if (st)
            st = err_prefix(e, st, "problem index %" PRIu64 " seed %" PRIu64, p.index, p.seed);
    }
    env_close(&env);
    a->is_first = false;
    a->n_processes++;
    return st;
}

static enum status audit_all(struct audit *a, struct err *e)
{
    enum status st = OK;

    a->is_watched = isatty(STDERR_FILENO);
    while (a->n_processes < a->n_wanted && !st && !a->difference[0] && !is_hopeless(a))
        st = audit_process(a, e);
    if (a->is_watched && a->told_us)
        fputs("\r\x1b[K", stderr);
    return st;
}

/* Why the environment will not do, and what to do about it; NULL if it will. */
static const char *audit_objection(const struct audit *a, char *text, size_t size)
{
    if (a->difference[0])
        snprintf(text, size,
                 "the environment is not deterministic: let nothing it answers depend on more "
                 "than the problem and the messages");
    else if (is_hopeless(a))
        snprintf(text, size,
                 "%" PRIu64 " of the first %" PRIu64
                 " calls ended at a limit (%s): make the script cheaper, or raise "
                 "environment.instructions or environment.memory_bytes in task.yaml",
                 a->limits, a->calls, a->failure);
    else if (a->failures)
        snprintf(text, size,
                 "%" PRIu64 " of %" PRIu64 " calls failed (%s): step and score must take every "
                 "answer, foul ones too, and score "
                 "gives a number from acceptance.reward_min to reward_max",
                 a->failures, a->calls, a->failure);
    else
        return NULL;
    return text;
}

/* A field of the JSON object; what was never seen is null. */
static void print_number(const char *name, double v)
{
    if (isfinite(v))
        printf(", \"%s\": %.9g", name, v);
    else
        printf(", \"%s\": null", name);
}

static void audit_print(const struct audit *a, bool as_json)
{
    const struct task *t = &a->subject.task;
    double mean_us = a->calls ? (double)a->total_us / (double)a->calls : 0.0;
    double demo = a->demos ? a->demo_sum / (double)a->demos : NAN;

    if (as_json) {
        printf("{\"name\": \"%s\", \"deterministic\": %s, \"processes\": %" PRId64
               ", \"calls\": %" PRIu64 ", \"failures\": %" PRIu64,
               t->name,
               a->difference[0] ? "false"
               : is_hopeless(a) ? "null"
                                : "true",
               a->n_processes, a->calls, a->failures);
        print_number("reward_min", a->reward_min);
        print_number("reward_max", a->reward_max);
        print_number("demo_reward", demo);
        printf(", \"call_us\": %.1f, \"longest_call_us\": %" PRId64
               ", \"instructions\": %" PRIu64 ", \"memory_bytes\": %" PRIu64
               ", \"lua\": \"%s\"}\n",
               mean_us, a->longest_us, a->most.instructions, a->most.memory_bytes,
               env_lua_release());
        return;
    }
    printf("environment    %s (%s)\n", t->name, env_lua_release());
    printf("deterministic  %s, over %" PRId64 " fresh processes\n",
           a->difference[0] ? "NO"
           : is_hopeless(a) ? "unknown"
                            : "yes",
           a->n_processes);
    if (a->difference[0])
        printf("               %s\n", a->difference);
    if (a->reward_min <= a->reward_max)
        printf("rewards seen   %g to %g (the task allows %g to %g)\n", a->reward_min,
               a->reward_max, t->acceptance.reward_min, t->acceptance.reward_max);
    if (a->demos)
        printf("demonstrations %g on average%s\n", demo,
               demo < t->acceptance.reward_max ? ": not the whole reward" : "");
    else if (a->has_demo)
        printf("demonstrations are first answers of several: not scored\n");
    else
        printf("demonstrations none, so the warm-up must have 0 steps\n");
    if (a->has_step && t->environment.turns < 2)
        printf("turns          1, so step is never called: environment.turns says how many "
               "answers there may be\n");
    printf("failed calls   %" PRIu64 " of %" PRIu64 " calls%s%s\n", a->failures, a->calls,
           a->failures ? ", first: " : "", a->failure);
    printf("time per call  %.0f us on average, %" PRId64 " us at most (killed after %" PRId64
           " ms)\n",
           mean_us, a->longest_us, t->environment.wall_ms);
    if (a->most.instructions)
        printf("instructions   %" PRIu64, a->most.instructions);
    else
        printf("instructions   fewer than %u", ENV_COUNT_STEP);
    printf(" at most, of %" PRId64 "\n", t->environment.instructions);
    printf("memory         %" PRIu64 " bytes at most, of %" PRId64 "\n", a->most.memory_bytes,
           t->environment.memory_bytes);
}

static int env_check(int argc, char **argv)
{
    int64_t processes;
    bool as_json, allow;
    struct opt table[] = {
        {"processes", OPT_INT, &processes, "100", "2..100000", "fresh processes to compare", 0},
        {"allow-unsandboxed", OPT_FLAG, &allow, "false", NULL,
         "go on where the kernel gives no sandbox", 0},
        {"json", OPT_FLAG, &as_json, "false", NULL, "the result as one JSON object", 0},
    };
    const char *operand[1] = {NULL};
    struct usage u = {.line = "muster env check DIR [options]",
                      .about = "Poses problems and scores answers, good and foul, in fresh "
                               "processes, and compares.\nStatus 1: the environment is not "
                               "deterministic, or it fails; a few scores\nthat end at the "
                               "task's limits end the check.\n"
                               "DIR holds a task.yaml; a task file does too.",
                      .table = table,
                      .n = sizeof(table) / sizeof(table[0]),
                      .operand = operand,
                      .max_operands = 1};
    struct audit a = {.is_first = true, .reward_min = INFINITY, .reward_max = -INFINITY};
    char objection[ERR_TEXT_BYTES];
    struct err e;
    enum status st;
    int rc = usage_parse(&u, argc, argv);

    if (rc != USAGE_RUN)
        return rc;
    st = subject_load(&a.subject, operand[0] ? operand[0] : ".", &e);
    a.subject.opt.allow_unsandboxed = allow;
    a.n_wanted = processes;
    if (!st)
        st = audit_all(&a, &e);
    if (!st)
        audit_print(&a, as_json);
    rc = 0;
    fflush(stdout);
    if (st || audit_objection(&a, objection, sizeof(objection)))
        rc = usage_fail(st ? e.text : objection);
    for (size_t i = 0; i < a.n; i++)
        free(a.value[i]);
    free(a.value);
    subject_clear(&a.subject);
    return rc;
}

/* ---- env try ------------------------------------------------------------------------------- */

static void print_score(const struct env_score *s)
{
    printf("reward         %g\n", (double)s->reward);
    if (s->outcome)
        printf("failed         %s: %s\n",
               s->outcome == ENV_FAILED_LIMIT ? "at a limit" : "with an error", s->why);
    for (size_t i = 0; i < s->n_metrics; i++)
        printf("  %-12s %g\n", s->metric[i].name, s->metric[i].value);
}

/* The messages of an episode, and their texts, which are owned. */
struct episode {
    struct env_message m[ENV_MESSAGES_MAX];
    uint8_t *text[ENV_MESSAGES_MAX];
    size_t n;
};

static void episode_add(struct episode *ep, enum env_author author, struct bytes text)
{
    uint8_t *copy = xmalloc(text.len + 1);

    memcpy(copy, text.data ? text.data : (const uint8_t *)"", text.len);
    ep->text[ep->n] = copy;
    ep->m[ep->n++] = (struct env_message){author, {copy, text.len}};
}

/* The next answer: the one given, or a line from stdin; *is_end: there is none. */
static enum status next_answer(struct episode *ep, const char *given, bool *is_end,
                               struct err *e)
{
    struct buf line;
    enum status st;

    *is_end = false;
    if (given[0] && ep->n == 0) {
        episode_add(ep, ENV_MODEL, bytes_str(given));
        return OK;
    }
    printf("your answer    ");
    fflush(stdout);
    buf_init(&line, ENV_TEXT_MAX_BYTES);
    st = file_line_stdin(&line, is_end, e);
    if (st || *is_end)
        printf("\n");
    else
        episode_add(ep, ENV_MODEL, buf_bytes(&line));
    buf_clear(&line);
    return st;
}

/* Texts of an environment are any bytes, which a terminal may obey: controls are spelt out. */
static void print_text(const char *what, const struct buf *text)
{
    printf("%-14s ", what);
    for (size_t i = 0; i < text->len; i++) {
        uint8_t c = text->data[i];

        if ((c < 0x20 && c != '\n') || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    putchar('\n');
}

static enum status play(struct env *env, const struct task *t, const struct env_problem *p,
                        const char *given, struct err *e)
{
    struct episode ep = {.n = 0};
    struct env_score score;
    struct buf text;
    bool is_done = false;
    enum status st = OK;

    buf_init(&text, ENV_TEXT_MAX_BYTES);
    for (int64_t turn = 0; turn < t->environment.turns && !is_done && !st; turn++) {
        st = next_answer(&ep, given, &is_done, e);
        if (st || is_done)
            break;
        buf_reset(&text);
        st = env_step(env, p, ep.m, ep.n, &is_done, &text, e);
        if (!st && env_step_failure(env)[0])
            printf("step failed    %s\n", env_step_failure(env));
        if (!st && !is_done) {
            print_text("world", &text);
            episode_add(&ep, ENV_WORLD, buf_bytes(&text));
        }
    }
    if (!st && ep.n > 0) {
        st = env_score(env, p, ep.m, ep.n, &score, e);
        if (!st)
            print_score(&score);
    }
    for (size_t i = 0; i < ep.n; i++)
        free(ep.text[i]);
    buf_clear(&text);
    return st;
}

static enum status try_problem(struct env *env, const struct task *t,
                               const struct env_problem *p, const char *answer, struct err *e)
{
    struct buf text;
    enum status st;

    buf_init(&text, ENV_TEXT_MAX_BYTES);
    st = env_prompt(env, p, &text, e);
    if (!st) {
        printf("problem        ");
        if (env_n_tasks(env) > 1)
            printf("index %" PRIu64 " of %" PRIu64 ", ", p->index, env_n_tasks(env));
        printf("seed %" PRIu64 ", %s\n", p->seed,
               p->split == ENV_HELDOUT ? "held out" : "training");
        print_text("prompt", &text);
    }
    if (!st && env_has_demo(env)) {
        buf_reset(&text);
        st = env_demo(env, p, &text, e);
        if (!st)
            print_text("demonstration", &text);
    }
    if (!st)
        st = play(env, t, p, answer, e);
    buf_clear(&text);
    return st;
}

static int env_try(int argc, char **argv)
{
    int64_t index, seed;
    bool heldout, allow;
    char *answer;
    struct opt table[] = {
        {"index", OPT_INT, &index, "0", "0..9223372036854775807", "which task", 0},
        {"seed", OPT_INT, &seed, "1", "0..9223372036854775807", "the problem's seed", 0},
        {"heldout", OPT_FLAG, &heldout, "false", NULL, "a held-out problem", 0},
        {"answer", OPT_STRING, &answer, "", NULL,
         "the answer to score; without it, lines of stdin", 0},
        {"allow-unsandboxed", OPT_FLAG, &allow, "false", NULL,
         "go on where the kernel gives no sandbox", 0},
    };
    const char *operand[1] = {NULL};
    struct usage u = {.line = "muster env try DIR [options]",
                      .about = "Poses one problem, shows its demonstration, and scores an "
                               "answer.",
                      .table = table,
                      .n = sizeof(table) / sizeof(table[0]),
                      .operand = operand,
                      .max_operands = 1};
    struct env_problem p;
    struct env *env = NULL;
    struct subject s;
    struct err e;
    enum status st;
    int rc = usage_parse(&u, argc, argv);

    if (rc != USAGE_RUN) {
        opt_clear(table, u.n);
        return rc;
    }
    st = subject_load(&s, operand[0] ? operand[0] : ".", &e);
    s.opt.allow_unsandboxed = allow;
    s.opt.keep_stderr = true;
    if (!st)
        st = env_open(&env, &s.task, &s.bundle, &s.opt, &e);
    if (!st) {
        p = (struct env_problem){(uint64_t)index % env_n_tasks(env), (uint64_t)seed,
                                 heldout ? ENV_HELDOUT : ENV_TRAIN};
        st = try_problem(env, &s.task, &p, answer, &e);
    }
    env_close(&env);
    subject_clear(&s);
    opt_clear(table, u.n);
    return st ? usage_fail(e.text) : 0;
}

/* -------------------------------------------------------------------------------------------- */

static int print_words(FILE *out)
{
    fprintf(out, "usage: muster env check DIR [options]\n"
                 "       muster env try DIR [options]\n\n"
                 "'muster env WORD --help' tells the rest.\n");
    return out == stdout ? 0 : 2;
}

int cmd_env(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";

    if (!strcmp(word, "--help") || !strcmp(word, "-h"))
        return print_words(stdout);
    if (!strcmp(word, "check"))
        return env_check(argc - 1, argv + 1);
    if (!strcmp(word, "try"))
        return env_try(argc - 1, argv + 1);
    if (*word)
        fprintf(stderr, "muster: 'env %s' is not a command\n", word);
    return print_words(stderr);
}

int cmd_env_worker(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return env_worker_main();
}
