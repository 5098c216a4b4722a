/*
 * cli/cmd_sft.c - muster sft: supervised fine-tuning
 *
 * On a task's demonstrations: the warm-up of a trainer, by hand; the same course from the same task
 * gives the same weights. On JSONL: cli/sft_run.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/pool.h"
#include "cli/commands.h"
#include "cli/sft_run.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "learn/lanes.h"
#include "replay/course.h"

#define LOG_MODULE "sft"
#include "base/log.h"

#define SFT_LINE "muster sft TASK|MODEL --out DIR [--data FILE] [options]"

struct sft {
    char *out, *kernels, *device;
    int64_t steps, batch, threads, processes;
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
    struct course_options options = {0};
    struct course course = {0};
    struct device *device = NULL;
    struct setup *setup = NULL;
    struct buf bundle;
    enum numerics class = NUMERICS_F32_1;
    enum status st;

    options.processes = (uint32_t)o->processes;
    pool_new(&options.pool, usage_threads(o->threads));
    buf_init(&bundle, BUNDLE_MAX_BYTES);
    st = bundle_load(&bundle, path, e);
    if (!st)
        st = setup_open(&setup, buf_bytes(&bundle), &env, e);
    if (!st)
        st = numerics_parse(&class, task_train_numerics(&setup->task), e);
    if (!st)
        st = device_choose(&device, &options.kernels, o->device, class, o->kernels, e);
    if (st)
        goto out;
    override(&setup->task, o);
    course_init(&course, setup, &options);
    st = course_begin(&course, e);
    if (!st)
        LOG_INFO("plan processes=%" PRId64 " mib=%" PRIu64 " each_other_mib=%" PRIu64,
                 o->processes, course.own_bytes >> 20, course.each_bytes >> 20);
    if (!st)
        st = course_warm_up(&course, report, NULL, e);
    if (!st)
        st = export_model(&course, o->out, e);
    course_clear(&course);
out:
    setup_close(&setup);
    buf_clear(&bundle);
    pool_free(&options.pool);
    device_close(&device);
    return st;
}

/* Options that only one of the two ways knows: said in the other, they are an error. */
static int refuse_others(const struct opt *table, size_t n, bool is_data)
{
    bool is_data_only = false; /* from --eval on */

    for (size_t i = 0; i < n; i++) {
        is_data_only = is_data_only || strcmp(table[i].name, "eval") == 0;
        bool is_other =
            is_data ? strcmp(table[i].name, "allow-unsandboxed") == 0 : is_data_only;

        if (table[i].was_set && is_other)
            return usage_complain(SFT_LINE, "--%s is for %s --data", table[i].name,
                                  is_data ? "a task, without" : "a model, with");
    }
    return USAGE_RUN;
}

struct out {
    const char *dir;
    char *lock; /* owned: the path */
    int fd;
    bool was_there;
};

/* Two trainings into one directory would spoil each other's files. */
static enum status open_out(struct out *o, const char *dir, struct err *e)
{
    enum status st;

    *o = (struct out){dir, file_join(dir, ".lock"), -1, file_exists(dir)};
    st = file_mkdirs(dir, 0777, e);
    return st ? st : file_lock(&o->fd, o->lock, dir, e);
}

/* Of a training that came to nothing nothing stays, but what --resume goes on from. */
static void close_out(struct out *o, enum status st)
{
    if (o->fd >= 0)
        (void)unlink(o->lock);
    if (o->fd >= 0 && st && !o->was_there)
        (void)rmdir(o->dir); /* which takes only an empty one */
    file_unlock(&o->fd);
    free(o->lock);
}

/* Whether a directory is a model's and not a task's. */
static bool is_model(const char *dir)
{
    char *task = file_join(dir, "task.yaml"), *config = file_join(dir, "config.json");
    const bool is = !file_exists(task) && file_exists(config);

    free(task);
    free(config);
    return is;
}

static int warm_up(const struct sft *o, const char *path)
{
    struct out out;
    struct err e;
    enum status st = open_out(&out, o->out, &e);

    if (!st)
        st = run(o, path, &e);
    close_out(&out, st);
    if (st)
        return usage_fail(e.text);
    printf("%s\n", o->out);
    return 0;
}

static int tune(const struct sft *o, struct sft_settings *s, struct sft_manner *m,
                const char *path)
{
    struct out out;
    struct err e;
    enum status st;

    if ((float)s->beta1 >= 1.0f || (float)s->beta2 >= 1.0f)
        return usage_complain(SFT_LINE, "--beta1 and --beta2 are %g and %g, want less than 1",
                              s->beta1, s->beta2);
    if (!lanes_is_count(s->grad_lanes))
        return usage_complain(SFT_LINE, "--grad-lanes is %" PRId64 ", wants 1, 2, 4 or 8",
                              s->grad_lanes);
    s->steps = o->steps;
    s->batch = o->batch ? o->batch : 8;
    s->lr = o->lr > 0 ? o->lr : 1e-5;
    m->threads = o->threads;
    m->processes = o->processes;
    m->kernels = o->kernels;
    m->device = o->device;
    st = open_out(&out, o->out, &e);
    if (!st)
        st = sft_run(s, m, path, o->out, &e);
    close_out(&out, st);
    return st ? usage_fail(e.text) : 0;
}

static const char about[] =
    "Trains on the demonstrations of a task (its directory or task.yaml): the warm-up that\n"
    "comes before reinforcement learning. With --data, fine-tunes the model in a directory on\n"
    "JSONL:\n\n"
    "  {\"text\": \"...\"}                                loss on all of it\n"
    "  {\"prompt\": \"...\", \"completion\": \"...\"}         loss on the completion\n"
    "  {\"messages\": [{\"role\": ..., \"content\": ...}]}  loss on what the assistant says\n"
    "\nOptions from --eval on are for --data.";

/* The options from --eval on, which are for --data. */
#define DATA_OPTIONS 24u

static void put_data_options(struct opt *to, struct sft_settings *s, struct sft_manner *m)
{
    const struct opt table[DATA_OPTIONS] = {
        {"eval", OPT_STRING, &m->eval, "", NULL, "JSONL to evaluate on, not trained on", false},
        {"eval-fraction", OPT_REAL, &s->eval_fraction, "0", "0..1",
         "part of the data that is held out and evaluated on", false},
        {"eval-every", OPT_INT, &m->eval_every, "0", "0..",
         "steps between evaluations; 0: at the beginning and the end", false},
        {"numerics", OPT_CHOICE, &s->numerics, "f32-1", "f32-1|bf16-1", "class of the numbers",
         false},
        {"epochs", OPT_INT, &s->epochs, "1", "1..1000000", "times through the data", false},
        {"max-length", OPT_INT, &s->max_length, "0", "0..16777216",
         "tokens of a sequence; 0: as the model", false},
        {"too-long", OPT_CHOICE, &s->too_long, "refuse", "refuse|cut|drop",
         "what becomes of longer ones: an error, the part that fits, or nothing", false},
        {"template", OPT_STRING, &s->template, "", NULL,
         "for messages: a chat template by its name, instead of the model's own", false},
        {"special", OPT_FLAG, &m->special, "false", NULL,
         "texts are rendered already: read special tokens spelt out in them", false},
        {"schedule", OPT_CHOICE, &s->schedule, "cosine", "constant|linear|cosine",
         "how the learning rate falls", false},
        {"lr-end", OPT_REAL, &s->lr_end, "0.1", "0..1",
         "where it falls to in the last step, as a part of --lr; 0.1: a tenth", false},
        {"warm-steps", OPT_INT, &s->warm_steps, "0", "0..",
         "steps at the beginning in which it rises to --lr", false},
        {"weight-decay", OPT_REAL, &s->weight_decay, "0", "0..1",
         "what AdamW takes off each weight in a step, times the learning rate", false},
        {"beta1", OPT_REAL, &s->beta1, "0.9", "0..1", "AdamW: decay of the gradient's mean",
         false},
        {"beta2", OPT_REAL, &s->beta2, "0.95", "0..1", "AdamW: decay of its square's mean",
         false},
        {"clip-norm", OPT_REAL, &s->clip_norm, "1", "0..1000000",
         "largest norm of a step's gradient; 0: any", false},
        {"seed", OPT_INT, &s->seed, "0", "0..",
         "of the sequences' order, and of what is held out", false},
        {"grad-lanes", OPT_INT, &s->grad_lanes, "1", "1..8",
         "runs of a step whose gradients are summed apart: 1, 2, 4 or 8", false},
        {"rows", OPT_INT, &m->rows, "0", "0..16777216",
         "tokens computed at once; changes memory, never the result; 0: 512", false},
        {"recompute", OPT_FLAG, &m->recompute, "false", NULL,
         "keep less in memory and compute it again; the same result", false},
        {"max-memory", OPT_INT, &m->max_memory, "0", "0..",
         "MiB it may take; 0: what is available", false},
        {"checkpoint-every", OPT_INT, &m->checkpoint_every, "100", "0..",
         "steps between checkpoints; 0: none", false},
        {"resume", OPT_FLAG, &m->resume, "false", NULL,
         "go on from the checkpoint in --out, if there is one", false},
        {"json", OPT_FLAG, &m->json, "false", NULL, "what came out as one JSON object", false},
    };

    memcpy(to, table, sizeof(table));
}

#define TASK_OPTIONS 10u

int cmd_sft(int argc, char **argv)
{
    const char *path = NULL;
    struct sft o = {0};
    struct sft_settings s = {0};
    struct sft_manner m = {0};
    struct opt table[TASK_OPTIONS + DATA_OPTIONS] = {
        {"out", OPT_STRING, &o.out, NULL, NULL, "directory for the model", false},
        {"data", OPT_STRING, &m.data, "", NULL, "JSONL to fine-tune a model on", false},
        {"steps", OPT_INT, &o.steps, "-1", "-1..",
         "steps, in place of --epochs; -1: as the task or --epochs say", false},
        {"batch", OPT_INT, &o.batch, "0", "0..1048576",
         "sequences a step, however many are computed at once (--rows); 0: as the task says, "
         "or 8",
         false},
        {"lr", OPT_REAL, &o.lr, "0", "0..1", "learning rate; 0: as the task says, or 1e-5",
         false},
        {"threads", OPT_INT, &o.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"processes", OPT_INT, &o.processes, "1", "1..8",
         "processes, each of --threads, that share the grad_lanes; changes no bit", false},
        {"kernels", OPT_CHOICE, &o.kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"device", OPT_STRING, &o.device, "cpu", NULL, USAGE_DEVICE, false},
        {"allow-unsandboxed", OPT_FLAG, &o.allow_unsandboxed, "false", NULL,
         "run the environment also where the kernel gives no sandbox", false},
    };
    struct usage u = {
        .line = SFT_LINE,
        .about = about,
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &path,
        .max_operands = 1,
    };
    int status;

    put_data_options(table + TASK_OPTIONS, &s, &m);
    status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    if (u.n_operands != 1) {
        status = usage_complain(u.line, "which %s?", m.data[0] ? "model" : "task");
        goto out;
    }
    if (!m.data[0] && is_model(path)) {
        status =
            usage_complain(u.line, "'%s' is a model: --data names what to train it on", path);
        goto out;
    }
    status = refuse_others(table, u.n, m.data[0]);
    if (status == USAGE_RUN)
        status = m.data[0] ? tune(&o, &s, &m, path) : warm_up(&o, path);
out:
    opt_clear(table, u.n);
    return status;
}
