/*
 * muster eval: how good a model is at a task
 */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/pool.h"
#include "cli/commands.h"
#include "cli/up_eval.h"
#include "cli/usage.h"
#include "envs/env.h"

#define SHOWN 3u /* answers, for people */

struct eval {
    const char *word[2]; /* the task, the model's directory */
    char *out;
    int64_t problems, threads;
    double temperature;
    bool is_json, allow_unsandboxed;
    struct task task;
    struct rollout_sample *samples; /* owned, (n) */
    size_t n;
    float reward;
};

/* ---- what came out ----------------------------------------------------------------------- */

/* The standard error of the mean reward. */
static double reward_error(const struct eval *v)
{
    double sum = 0.0;

    if (v->n < 2)
        return NAN;
    for (size_t i = 0; i < v->n; i++)
        sum += pow((double)v->samples[i].reward - (double)v->reward, 2);
    return sqrt(sum / (double)(v->n - 1) / (double)v->n);
}

static double tokens_mean(const struct eval *v)
{
    double sum = 0.0;

    for (size_t i = 0; i < v->n; i++)
        sum += (double)v->samples[i].tokens;
    return sum / (double)v->n;
}

/* Means by name, over the answers that have the metric; the caller's to decref. */
static json_t *metrics_of(const struct eval *v)
{
    json_t *means = json_object();

    for (size_t i = 0; i < v->n; i++)
        for (size_t k = 0; k < v->samples[i].score.n_metrics; k++) {
            const char *name = v->samples[i].score.metric[k].name;
            double sum = 0.0, n = 0.0;

            if (json_object_get(means, name))
                continue;
            for (size_t j = i; j < v->n; j++)
                for (size_t m = 0; m < v->samples[j].score.n_metrics; m++)
                    if (!strcmp(v->samples[j].score.metric[m].name, name)) {
                        sum += v->samples[j].score.metric[m].value;
                        n++;
                    }
            json_object_set_new(means, name, json_real(sum / n));
        }
    return means;
}

static json_t *text_json(const struct buf *text)
{
    json_t *o = json_stringn((const char *)text->data, text->len);

    return o ? o : json_null(); /* not UTF-8 */
}

/* One line for each problem. */
static enum status write_answers(const struct eval *v, struct err *e)
{
    struct buf lines;
    enum status st;

    buf_init(&lines, (size_t)1 << 31);
    for (size_t i = 0; i < v->n; i++) {
        const struct rollout_sample *x = &v->samples[i];
        json_t *metrics = json_object();
        json_t *o =
            json_pack("{s:I, s:f, s:o, s:I, s:o, s:o}", "problem", (json_int_t)i, "reward",
                      (double)x->reward, "metrics", metrics, "tokens", (json_int_t)x->tokens,
                      "prompt", text_json(&x->prompt), "completion", text_json(&x->completion));
        char *line;

        for (size_t k = 0; k < x->score.n_metrics; k++)
            json_object_set_new(metrics, x->score.metric[k].name,
                                json_real(x->score.metric[k].value));
        line = json_dumps(o, JSON_COMPACT);
        buf_printf(&lines, "%s\n", line);
        free(line);
        json_decref(o);
    }
    st = buf_status(&lines, e);
    if (!st)
        st = file_write_atomic(v->out, buf_bytes(&lines), 0666, e);
    buf_clear(&lines);
    return st;
}

static void print_json(const struct eval *v)
{
    double error = reward_error(v);
    json_t *o = json_pack("{s:s, s:s, s:I, s:f, s:f, s:o, s:f, s:o}", "task", v->task.name,
                          "model", v->word[1], "problems", (json_int_t)v->n, "temperature",
                          v->temperature, "reward", (double)v->reward, "reward_error",
                          isnan(error) ? json_null() : json_real(error), "answer_tokens",
                          tokens_mean(v), "metrics", metrics_of(v));
    json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(o);
}

static void print_clean(const struct buf *text)
{
    for (size_t i = 0; i < text->len; i++)
        putchar(text->data[i] < 0x20 || text->data[i] == 0x7f ? '?' : text->data[i]);
}

static void print_text(const struct eval *v)
{
    json_t *means = metrics_of(v), *mean;
    const char *name;

    printf("task     %s, %zu held-out problems, temperature %g\n", v->task.name, v->n,
           v->temperature);
    printf("reward   %.4f, standard error %.4f\n", (double)v->reward, reward_error(v));
    json_object_foreach(means, name, mean)
        printf("  %-20s %.4f\n", name, json_real_value(mean));
    printf("length   %.1f tokens on average\n\n", tokens_mean(v));
    for (size_t i = 0; i < v->n && i < SHOWN; i++) {
        printf("  %.2f  ", (double)v->samples[i].reward);
        print_clean(&v->samples[i].prompt);
        print_clean(&v->samples[i].completion);
        printf("\n");
    }
    json_decref(means);
}

/* ---- the command ------------------------------------------------------------------------- */

static enum status evaluate(struct eval *v, struct err *e)
{
    const struct env_options env = {.allow_unsandboxed = v->allow_unsandboxed};
    struct pool *pool = NULL;
    struct buf bytes;
    struct bundle b;
    enum status st;

    buf_init(&bytes, BUNDLE_MAX_BYTES);
    st = bundle_load(&bytes, v->word[0], e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&bytes), e);
    if (!st)
        st = task_parse(&v->task, b.file[BUNDLE_TASK], v->word[0], e);
    if (!st) {
        v->n = (size_t)(v->problems ? v->problems : v->task.eval.prompts);
        if (v->temperature < 0)
            v->temperature = v->task.eval.temperature;
        if (!v->n)
            st = err_set(e, ERR_INVALID, "the task's eval.prompts is 0: give --problems");
    }
    if (!st) {
        usage_pool(&pool, v->threads);
        v->samples = xcalloc(v->n, sizeof(*v->samples));
        st = up_evaluate(&(struct up_eval){.bundle = buf_bytes(&bytes),
                                           .dir = v->word[1],
                                           .n = v->n,
                                           .temperature = (float)v->temperature,
                                           .pool = pool,
                                           .env = &env},
                         &v->reward, v->samples, v->n, e);
        if (st)
            v->n = 0;
    }
    pool_free(&pool);
    buf_clear(&bytes);
    return st;
}

int cmd_eval(int argc, char **argv)
{
    struct eval v = {0};
    struct opt table[] = {
        {"problems", OPT_INT, &v.problems, "0", "0..1000000",
         "how many; 0: as the task's eval.prompts says", false},
        {"temperature", OPT_REAL, &v.temperature, "-1", "-1..100",
         "0: the likeliest token; -1: as the task's eval.temperature says", false},
        {"out", OPT_STRING, &v.out, "", NULL,
         "JSONL to write: a line for each problem, with prompt, answer, reward and metrics",
         false},
        {"threads", OPT_INT, &v.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"allow-unsandboxed", OPT_FLAG, &v.allow_unsandboxed, "false", NULL,
         "run the environment also where the kernel gives no sandbox", false},
        {"json", OPT_FLAG, &v.is_json, "false", NULL, "one JSON object", false},
    };
    struct usage u = {
        .line = "muster eval TASK MODEL [options]",
        .about =
            "Poses held-out problems of a task (its directory or task.yaml) to the model in\n"
            "a directory, answers each once, and says the mean reward and the means of what\n"
            "else the environment's score gives. The same problems each time.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = v.word,
        .max_operands = 2,
    };
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && u.n_operands != 2)
        status = usage_complain(u.line, "which task, and which model?");
    if (status == USAGE_RUN) {
        enum status st = evaluate(&v, &e);

        if (!st && v.out[0])
            st = write_answers(&v, &e);
        if (!st)
            (v.is_json ? print_json : print_text)(&v);
        status = st ? usage_fail(e.text) : 0;
    }
    for (size_t i = 0; i < v.n; i++)
        rollout_sample_clear(&v.samples[i]);
    free(v.samples);
    task_clear(&v.task);
    opt_clear(table, u.n);
    return status;
}
