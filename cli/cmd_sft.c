/*
 * cli/cmd_sft.c - muster sft: supervised fine-tuning on a task's demonstrations
 *
 * The warm-up of a trainer, by hand: the same course from the same task gives the same weights.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "engine/kernels.h"
#include "trainer/course.h"

#define LOG_MODULE "sft"
#include "base/log.h"

struct sft {
    char *out, *kernels;
    int64_t steps, batch, threads;
    double lr;
    bool allow_unsandboxed;
};

static bool report(void *arg, uint64_t step, uint64_t steps, float loss)
{
    (void)arg;
    if (step % 10 == 0 || step == steps)
        LOG_INFO("step n=%" PRIu64 "/%" PRIu64 " loss=%.4f", step, steps, (double)loss);
    return true;
}

/* What the command line says takes the place of what task.yaml says. */
static void override(struct task *t, const struct sft *o)
{
    if (o->steps >= 0)
        t->warmup.steps = o->steps;
    if (o->batch > 0)
        t->warmup.batch = o->batch;
    if (o->lr > 0)
        t->warmup.lr = o->lr;
}

static enum status export_model(const struct course *c, const char *dir, struct err *e)
{
    enum status st =
        weights_save(learner_published(c->learner), dir, c->setup->config.dtype, e);

    return st ? st : tokenizer_save(c->setup->tokenizer, dir, e);
}

static enum status run(const struct sft *o, const char *path, struct err *e)
{
    const struct env_options env = {.allow_unsandboxed = o->allow_unsandboxed};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct course_options options = {0};
    struct course course = {0};
    struct setup *setup = NULL;
    struct buf bundle;
    enum status st = kernels_choose(&options.kernels, NUMERICS_F32_1, o->kernels, e);

    pool_new(&options.pool, o->threads > 0 ? (size_t)o->threads
                            : cores > 0    ? (size_t)cores
                                           : 1);
    buf_init(&bundle, BUNDLE_MAX_BYTES);
    if (!st)
        st = bundle_load(&bundle, path, e);
    if (!st)
        st = setup_open(&setup, buf_bytes(&bundle), &env, e);
    if (st)
        goto out;
    override(&setup->task, o);
    course_init(&course, setup, &options);
    st = course_begin(&course, e);
    if (!st)
        st = course_warm_up(&course, report, NULL, e);
    if (!st)
        st = export_model(&course, o->out, e);
    course_clear(&course);
out:
    setup_close(&setup);
    buf_clear(&bundle);
    pool_free(&options.pool);
    return st;
}

int cmd_sft(int argc, char **argv)
{
    const char *path = NULL;
    struct sft o = {0};
    struct err e;
    struct opt table[] = {
        {"out", OPT_STRING, &o.out, NULL, NULL, "directory for the model", false},
        {"steps", OPT_INT, &o.steps, "-1", "-1..", "steps; -1: as the task says", false},
        {"batch", OPT_INT, &o.batch, "0", "0..", "demonstrations a step; 0: as the task says",
         false},
        {"lr", OPT_REAL, &o.lr, "0", "0..1", "learning rate; 0: as the task says", false},
        {"threads", OPT_INT, &o.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"kernels", OPT_CHOICE, &o.kernels, "auto", "auto|scalar|avx2|avx512",
         "which code computes", false},
        {"allow-unsandboxed", OPT_FLAG, &o.allow_unsandboxed, "false", NULL,
         "run the environment also where the kernel gives no sandbox", false},
    };
    struct usage u = {
        .line = "muster sft TASK --out DIR [options]",
        .about = "Trains a model on the demonstrations of a task (its directory or task.yaml): "
                 "the warm-up\nthat comes before reinforcement learning.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &path,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    if (u.n_operands != 1) {
        fprintf(stderr, "muster: which task?\nusage: %s (--help tells more)\n", u.line);
        status = 2;
        goto out;
    }
    status = run(&o, path, &e) ? usage_fail(e.text) : 0;
    if (!status)
        printf("%s\n", o.out);
out:
    opt_clear(table, u.n);
    return status;
}
