/*
 * cli/bench_train.c - muster bench train: what a training step costs
 *
 * A whole step as learn/ takes it: gradients of all sequences, clip, AdamW, packing the new weights.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/bench_hash.h"
#include "cli/bench_line.h"
#include "cli/bench_machine.h"
#include "cli/bench_shape.h"
#include "cli/bench_train.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "learn/learner.h"

#define MIB 1048576.0

#define ROWS_FEW 256u

struct bench {
    char *shape, *numerics, *kernels, *device;
    int64_t batch, length, rows, steps, threads, max_memory;
    double peer_rate, peer_memory;
    bool recompute, json;
};

struct figures {
    double rate;   /* tokens a second, of the median step */
    double gflops; /* likewise */
    double peak;   /* GFLOP/s of fused multiply-adds alone */
    double memory; /* bytes: the most that was resident */
    uint64_t computed;
    float loss;
    uint64_t weights; /* a hash of them at the end */
};

/* What a token costs, recomputation not counted: three products with every weight (the embedding's
 * as the head), and attention over half of the positions. */
static double flop_per_token(const struct model_config *c, int64_t length)
{
    return 6.0 * (double)model_config_params(c) +
           6.0 * (double)c->layers * (double)length * c->heads * c->head_dim;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static enum status time_steps(int64_t *us, struct learner *l, const struct bench *o,
                              struct figures *f, struct err *e)
{
    size_t n = (size_t)o->length + 1, batch = (size_t)o->batch;
    int32_t *tokens = xcalloc(batch * n, sizeof(*tokens));
    struct learn_demo *demo = xcalloc(batch, sizeof(*demo));
    struct learn_report report = {0};
    struct rng rng = rng_of(1, 1);
    int64_t *times = xcalloc((size_t)o->steps, sizeof(*times));
    enum status st = OK;

    for (size_t i = 0; i < batch * n; i++)
        tokens[i] = (int32_t)rng_below(&rng, l->masters->config.vocab);
    for (size_t i = 0; i < batch; i++)
        demo[i] = (struct learn_demo){.tokens = tokens + i * n, .n_prompt = 1, .n = n};
    for (int64_t step = -1; !st && step < o->steps; step++) { /* the first one is not counted */
        int64_t start = clock_mono_us();

        st = learner_imitate(l, demo, batch, &report, e);
        if (step >= 0)
            times[step] = clock_mono_us() - start;
    }
    qsort(times, (size_t)o->steps, sizeof(*times), by_time);
    *us = times[o->steps / 2];
    f->loss = report.loss;
    if (!st)
        st = learner_fetch(l, e);
    f->weights = BENCH_HASH_START;
    bench_hash_words(&f->weights, l->masters->data, l->masters->n_data);
    free(tokens);
    free(demo);
    free(times);
    return st;
}

/* As few as keep the threads busy: activations are what a step's memory can be saved on. A GPU wants
 * many. */
static size_t rows_of(const struct bench *o, const struct device *d)
{
    const size_t all = (size_t)(o->batch * o->length), least = (size_t)o->length;

    if (o->rows)
        return (size_t)o->rows;
    if (d || all < ROWS_FEW)
        return all;
    return least > ROWS_FEW ? least : ROWS_FEW;
}

static enum status measure(struct figures *f, const struct bench *o,
                           const struct bench_shape *s, struct err *e)
{
    const struct model_config c = bench_shape_config(s, o->length);
    const struct learn_settings settings = {
        .temperature = 1.0f,
        .optimizer = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip_norm = 1.0f},
        .warmup_lr = 1e-4,
        .grad_lanes = 1,
    };
    struct learner_options lo = {
        .recompute = o->recompute,
    };
    struct weights *w = NULL;
    struct learner *l = NULL;
    struct bench_machine machine = {0};
    struct rusage use;
    int64_t us = 1;
    struct device *device = NULL;
    enum numerics class;
    enum status st = numerics_parse(&class, o->numerics, e);

    if (!st)
        st = device_choose(&device, &lo.kernels, o->device, class, o->kernels, e);
    lo.is_lazy = device != NULL;
    lo.max_rows = rows_of(o, device);
    if (!st)
        st = model_config_check(&c, e);
    if (!st && o->rows && o->rows < o->length)
        st = err_set(e, ERR_INVALID, "--rows %" PRId64 " does not hold a sequence of %" PRId64,
                     o->rows, o->length);
    f->computed = st ? 0 : learner_bytes(&c, &settings, &lo);
    if (!st)
        st = memory_check(device, f->computed, o->max_memory, "training", e);
    if (st) {
        device_close(&device);
        return st;
    }
    lo.pool = NULL;
    usage_pool(&lo.pool, o->threads);
    st = weights_new(&w, &c, e);
    if (!st) {
        weights_init_random(w, 1);
        st = learner_new(&l, &w, NULL, &settings, &lo, e);
    }
    if (!st)
        st = time_steps(&us, l, o, f, e);
    getrusage(RUSAGE_SELF, &use);
    f->memory = (double)use.ru_maxrss * 1024.0;
    f->rate = (double)(o->batch * o->length) / ((double)us * 1e-6);
    f->gflops = f->rate * flop_per_token(&c, o->length) * 1e-9;
    learner_free(&l);
    if (!st)
        st = bench_machine_measure(&machine, kernels_host(lo.kernels), lo.pool, e);
    f->peak = machine.flops * 1e-9;
    pool_free(&lo.pool);
    device_close(&device);
    return st;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void tell_json(const struct figures *f, const struct bench *o,
                      const struct bench_shape *s)
{
    char name[64];

    snprintf(name, sizeof(name), "train_b%" PRId64 "_%s", o->batch, s->name);
    bench_line_print(&(struct bench_line){.name = name,
                                          .value = f->rate,
                                          .unit = "tokens/s",
                                          .peer = o->peer_rate > 0 ? "PyTorch f32" : NULL,
                                          .peer_value = o->peer_rate,
                                          .target = s->target * o->peer_rate});
    snprintf(name, sizeof(name), "train_gflops_b%" PRId64 "_%s", o->batch, s->name);
    bench_line_print(&(struct bench_line){.name = name,
                                          .value = f->gflops,
                                          .unit = "GFLOP/s",
                                          .peer = "FMA peak",
                                          .peer_value = f->peak,
                                          .target = 0.85 * f->peak});
    snprintf(name, sizeof(name), "train_memory_b%" PRId64 "_%s", o->batch, s->name);
    bench_line_print(&(struct bench_line){.name = name,
                                          .value = f->memory / MIB,
                                          .unit = "MiB",
                                          .peer = o->peer_memory > 0 ? "PyTorch f32" : NULL,
                                          .peer_value = o->peer_memory});
}

static void tell(const struct figures *f, const struct bench *o, const struct bench_shape *s)
{
    printf("%s, %" PRId64 " sequences of %" PRId64 "%s\n", s->name, o->batch, o->length,
           o->recompute ? ", recomputing" : "");
    printf("speed    %10.1f tokens/s\n", f->rate);
    printf("         %10.1f GFLOP/s, %.0f %% of the peak of %.1f\n", f->gflops,
           100.0 * f->gflops / f->peak, f->peak);
    printf("memory   %10.1f MiB at most (computed: %.1f)\n", f->memory / MIB,
           (double)f->computed / MIB);
    printf("loss     %10.4f after %" PRId64 " steps\n", (double)f->loss, o->steps + 1);
    printf("weights  %016" PRIx64 "\n", f->weights);
}

int bench_train(int argc, char **argv)
{
    struct bench o = {0};
    struct figures f = {0};
    struct err e;
    struct opt table[] = {
        {"shape", OPT_CHOICE, &o.shape, "15m", BENCH_SHAPES, "the shape; weights are random",
         false},
        {"batch", OPT_INT, &o.batch, "8", "1..65536", "sequences a step", false},
        {"length", OPT_INT, &o.length, "256", "1..65536", "tokens of a sequence", false},
        {"rows", OPT_INT, &o.rows, "0", "0..",
         "tokens of a micro-batch; 0: 256, a sequence if it is longer, on a GPU all of the "
         "step",
         false},
        {"recompute", OPT_FLAG, &o.recompute, "false", NULL,
         "keep only the layers' inputs and compute the rest again", false},
        {"steps", OPT_INT, &o.steps, "3", "1..10000", "steps that are timed", false},
        {"threads", OPT_INT, &o.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"numerics", OPT_CHOICE, &o.numerics, "f32-1", USAGE_NUMERICS, "class of the numbers",
         false},
        {"kernels", OPT_CHOICE, &o.kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"device", OPT_STRING, &o.device, "auto", NULL, USAGE_DEVICE, false},
        {"max-memory", OPT_INT, &o.max_memory, "0", "0..",
         "MiB it may take; 0: what is available", false},
        {"peer-rate", OPT_REAL, &o.peer_rate, "0", "0..1e12",
         "tokens/s of the peer, measured beside; for --json", false},
        {"peer-memory", OPT_REAL, &o.peer_memory, "0", "0..1e12", "MiB of the peer, likewise",
         false},
        {"json", OPT_FLAG, &o.json, "false", NULL, "one JSON object a figure", false},
    };
    struct usage u = {
        .line = "muster bench train [options]",
        .about = "Times training steps of a llama-shaped model with random weights.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    const struct bench_shape *s = bench_shape_find(o.shape);
    status = measure(&f, &o, s, &e) ? usage_fail(e.text) : 0;
    if (!status && o.json)
        tell_json(&f, &o, s);
    else if (!status)
        tell(&f, &o, s);
out:
    opt_clear(table, u.n);
    return status;
}
