/*
 * cli/bench_passes.c - muster bench passes: decoding, prefill and training of a GPU beside the floor
 *
 * The floor of a step is the larger of its bytes over the memory's rate and of its operations over the
 * matrix rate; both rates were measured on an H200 and are options. Decoding reads all matrices once
 * and every sequence's keys and values; training does three products with every matrix, and attention
 * over half of the positions forward and two and a half times that backward. What proofs cost is
 * measured too: how much longer a step of decoding takes that also gives each state's largest numbers.
 */
#include "cli/bench_passes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_line.h"
#include "cli/usage.h"
#include "engine/device_speed.h"
#include "engine/model.h"

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

struct shape {
    const char *name;
    struct model_config c;
    double decode, train_2k, train_16k; /* shares of the floor to reach */
};

#define QWEN .arch = MODEL_ARCH_QWEN2, .max_len = 32768, .norm_eps = 1e-6f, .rope_theta = 1e6

static const struct shape shapes[] = {
    {"0.5b",
     {QWEN, .vocab = 151936, .dim = 896, .layers = 24, .heads = 14, .kv_heads = 2,
      .head_dim = 64, .ffn = 4864, .tie = true, .qkv_bias = true},
     0.40,
     0.35,
     0.20},
    {"1.5b",
     {QWEN, .vocab = 151936, .dim = 1536, .layers = 28, .heads = 12, .kv_heads = 2,
      .head_dim = 128, .ffn = 8960, .tie = true, .qkv_bias = true},
     0.55,
     0.45,
     0.30},
    {"7b",
     {QWEN, .vocab = 152064, .dim = 3584, .layers = 28, .heads = 28, .kv_heads = 4,
      .head_dim = 128, .ffn = 18944, .qkv_bias = true},
     0.70,
     0.0,
     0.0},
    {"tiny",
     {QWEN, .vocab = 256, .dim = 128, .layers = 2, .heads = 2, .kv_heads = 1, .head_dim = 32,
      .ffn = 128, .tie = true, .qkv_bias = true},
     0.0,
     0.0,
     0.0},
};

struct bench {
    char *what, *shape, *device, *numerics; /* owned by the table of options */
    int64_t batch, context, length, rows, steps;
    double bandwidth, rate; /* GB/s, TFLOP/s */
    bool recompute;
    const struct shape *s;
    struct device *on;
    struct device_speed *speed;
};

static const struct shape *shape_of(const char *name)
{
    for (size_t i = 0; i < N_OF(shapes); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

const struct model_config *bench_passes_config(const char *name)
{
    return &shape_of(name)->c;
}

/* Numbers of all matrices that a token is multiplied with, the head's too. */
static double matrix_numbers(const struct model_config *c)
{
    const double q = (double)c->heads * c->head_dim, kv = (double)c->kv_heads * c->head_dim;
    const double layer = c->dim * (2.0 * q + 2.0 * kv) + 3.0 * c->dim * (double)c->ffn;

    return c->layers * layer + (double)c->vocab * c->dim;
}

static double floor_seconds(const struct bench *b, double bytes, double ops)
{
    const double by_bytes = bytes / (b->bandwidth * 1e9), by_ops = ops / (b->rate * 1e12);

    return by_bytes > by_ops ? by_bytes : by_ops;
}

static void tell(const char *name, double tokens, double seconds, double floor, double share)
{
    char share_name[112];

    bench_line_print(&(struct bench_line){.name = name,
                                          .value = tokens / seconds,
                                          .unit = "tokens/s",
                                          .peer = "floor",
                                          .peer_value = tokens / floor,
                                          .target = share * tokens / floor});
    snprintf(share_name, sizeof(share_name), "%s_share", name);
    bench_line_print(&(struct bench_line){.name = share_name,
                                          .value = 100.0 * floor / seconds,
                                          .unit = "%",
                                          .target = 100.0 * share});
}

static enum status decode(const struct bench *b, size_t batch, struct err *e)
{
    const struct model_config *c = &b->s->c;
    const double B = (double)batch, context = (double)b->context;
    const double cache =
        B * context * c->layers * 2.0 * (double)c->kv_heads * c->head_dim * 2.0;
    const double ops = B * (2.0 * matrix_numbers(c) +
                            4.0 * context * c->layers * (double)c->heads * c->head_dim);
    double seconds = 0.0, with_top = 0.0;
    char name[96];
    enum status st = device_speed_decode(&seconds, b->speed, batch, (size_t)b->context, false,
                                         (size_t)b->steps, e);

    snprintf(name, sizeof(name), "decode_b%zu_c%lld_%s", batch, (long long)b->context,
             b->s->name);
    if (st)
        return st;
    tell(name, B, seconds, floor_seconds(b, 2.0 * matrix_numbers(c) + cache, ops),
         batch >= 64 ? b->s->decode : 0.0);
    if (c->dim < MODEL_TOP)
        return OK;
    st = device_speed_decode(&with_top, b->speed, batch, (size_t)b->context, true,
                             (size_t)b->steps, e);
    snprintf(name, sizeof(name), "toploc_b%zu_c%lld_%s_cost", batch, (long long)b->context,
             b->s->name);
    if (!st)
        bench_line_print(&(struct bench_line){.name = name,
                                              .value = 100.0 * (with_top / seconds - 1.0),
                                              .unit = "%",
                                              .target = batch >= 64 ? 1.0 : 0.0,
                                              .at_most = true});
    return st;
}

/* A worker whose batch shrinks by one sequence every second step, tuning and capturing as it goes. */
static enum status shrinking(const struct bench *b, size_t batch, struct err *e)
{
    const double tokens = (double)batch * ((double)batch + 1.0);
    double seconds = 0.0;
    size_t graphs = 0;
    char name[96];
    enum status st =
        device_speed_shrinking(&seconds, &graphs, b->speed, batch, (size_t)b->context, e);

    if (st)
        return st;
    snprintf(name, sizeof(name), "shrinking_b%zu_c%lld_%s", batch, (long long)b->context,
             b->s->name);
    bench_line_print(
        &(struct bench_line){.name = name, .value = tokens / seconds, .unit = "tokens/s"});
    snprintf(name, sizeof(name), "shrinking_b%zu_c%lld_%s_graphs", batch, (long long)b->context,
             b->s->name);
    bench_line_print(
        &(struct bench_line){.name = name, .value = (double)graphs, .unit = "graphs"});
    return OK;
}

/* Keys and values read in a second, beside the memory's rate. */
static enum status attention(const struct bench *b, size_t batch, struct err *e)
{
    const struct model_config *c = &b->s->c;
    const double bytes = (double)batch * (double)b->context * c->layers * 4.0 *
                         (double)c->kv_heads * c->head_dim;
    double seconds = 0.0;
    char name[96];
    enum status st = device_speed_attention(&seconds, b->speed, batch, (size_t)b->context,
                                            (size_t)b->steps, e);

    snprintf(name, sizeof(name), "attention_b%zu_c%lld_%s", batch, (long long)b->context,
             b->s->name);
    if (!st)
        bench_line_print(&(struct bench_line){.name = name,
                                              .value = bytes / seconds * 1e-9,
                                              .unit = "GB/s",
                                              .peer = "memory",
                                              .peer_value = b->bandwidth});
    return st;
}

static enum status sampling(const struct bench *b, size_t batch, struct err *e)
{
    const double bytes = 4.0 * (double)batch * b->s->c.vocab;
    double seconds = 0.0;
    char name[96];
    enum status st = device_speed_sampling(&seconds, b->speed, batch, (size_t)b->steps, e);

    snprintf(name, sizeof(name), "sampling_b%zu_%u", batch, b->s->c.vocab);
    if (!st)
        bench_line_print(&(struct bench_line){.name = name,
                                              .value = seconds * 1e6,
                                              .unit = "us",
                                              .peer = "floor",
                                              .peer_value = bytes / b->bandwidth * 1e-3});
    return st;
}

static enum status decode_part(const struct bench *b, size_t batch, struct err *e)
{
    return strcmp(b->what, "attention") == 0  ? attention(b, batch, e)
           : strcmp(b->what, "sampling") == 0 ? sampling(b, batch, e)
                                              : decode(b, batch, e);
}

/* Operations of attention over a whole sequence, forward, of all layers. */
static double attention_ops(const struct model_config *c, double length)
{
    return 2.0 * length * length * c->layers * (double)c->heads * c->head_dim;
}

static enum status prefill(const struct bench *b, struct err *e)
{
    const struct model_config *c = &b->s->c;
    const size_t length = (size_t)b->length,
                 n = (size_t)b->rows / length ? (size_t)b->rows / length : 1;
    const double tokens = (double)(n * length);
    const double ops = tokens * 2.0 * (matrix_numbers(c) - (double)c->vocab * c->dim) +
                       (double)n * attention_ops(c, (double)length);
    double seconds = 0.0;
    char name[96];
    enum status st = device_speed_prefill(&seconds, b->speed, n, length, (size_t)b->steps, e);

    snprintf(name, sizeof(name), "prefill_%zux%zu_%s", n, length, b->s->name);
    if (!st)
        tell(name, tokens, seconds, floor_seconds(b, 2.0 * matrix_numbers(c), ops), 0.0);
    return st;
}

static enum status train(const struct bench *b, struct err *e)
{
    const struct model_config *c = &b->s->c;
    const size_t length = (size_t)b->length,
                 n = (size_t)b->rows / length ? (size_t)b->rows / length : 1;
    const double tokens = (double)(n * length);
    const double ops =
        tokens * 6.0 * matrix_numbers(c) + 3.0 * (double)n * attention_ops(c, (double)length);
    double seconds = 0.0;
    char name[96];
    enum status st =
        device_speed_train(&seconds, b->speed, n, length, b->recompute, (size_t)b->steps, e);

    snprintf(name, sizeof(name), "train_%zux%zu_%s%s", n, length, b->s->name,
             b->recompute ? "_recompute" : "");
    if (!st)
        tell(name, tokens, seconds, ops / (b->rate * 1e12),
             length >= 16384 ? b->s->train_16k : b->s->train_2k);
    return st;
}

static enum status run(struct bench *b, struct err *e)
{
    static const size_t batches[] = {1, 64, 256, 512};
    const bool is_train = strcmp(b->what, "train") == 0;
    const struct kernels *k;
    enum numerics class;
    enum status st = numerics_parse(&class, b->numerics, e);

    b->s = shape_of(b->shape);
    if (!st)
        st = device_open(&b->on, b->device, e);
    if (!st)
        st = device_kernels(&k, b->on, class, e);
    if (!st)
        st = device_speed_new(&b->speed, k, &b->s->c, is_train, e);
    if (!st && is_train)
        return train(b, e);
    if (!st && strcmp(b->what, "prefill") == 0)
        return prefill(b, e);
    if (!st && strcmp(b->what, "shrinking") == 0)
        return shrinking(b, b->batch ? (size_t)b->batch : 512, e);
    if (!st && b->batch)
        return decode_part(b, (size_t)b->batch, e);
    for (size_t i = 0; !st && i < N_OF(batches); i++)
        st = decode_part(b, batches[i], e);
    return st;
}

int bench_passes(int argc, char **argv)
{
    struct bench b = {0};
    struct err e;
    struct opt table[] = {
        {"what", OPT_CHOICE, &b.what, "decode",
         "decode|attention|sampling|shrinking|prefill|train",
         "which figures; attention and sampling of a decode step alone, or a batch that "
         "shrinks "
         "by one every second step",
         false},
        {"shape", OPT_CHOICE, &b.shape, "0.5b", BENCH_PASSES_SHAPES,
         "of which model (Qwen2.5's shapes)", false},
        {"device", OPT_STRING, &b.device, "cuda", NULL, "cuda or cuda:N", false},
        {"numerics", OPT_CHOICE, &b.numerics, "open-cuda", USAGE_NUMERICS,
         "class of the numbers", false},
        {"batch", OPT_INT, &b.batch, "0", "0..512",
         "sequences decoded together; 0: 1, 64, 256 and 512, or shrinking from 512", false},
        {"context", OPT_INT, &b.context, "1024", "1..30000", "tokens before those decoded",
         false},
        {"length", OPT_INT, &b.length, "2048", "1..32768",
         "tokens of a sequence, of prefill and training", false},
        {"rows", OPT_INT, &b.rows, "16384", "1..262144", "tokens of a step, likewise", false},
        {"steps", OPT_INT, &b.steps, "8", "1..10000", "steps that are timed", false},
        {"recompute", OPT_FLAG, &b.recompute, "false", NULL,
         "training keeps only the layers' inputs", false},
        {"bandwidth", OPT_REAL, &b.bandwidth, "4300", "1..1e6", "GB/s of the memory", false},
        {"rate", OPT_REAL, &b.rate, "788", "0.001..1e6", "TFLOP/s of bf16 products", false},
    };
    struct usage u = {
        .line = "muster bench passes [options]",
        .about = "Times whole steps of a GPU in class open-cuda, with weights made up there, "
                 "beside the floor\nthat bytes and operations set. One JSON object a line.",
        .table = table,
        .n = N_OF(table),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN)
        status = run(&b, &e) ? usage_fail(e.text) : 0;
    device_speed_free(&b.speed);
    device_close(&b.on);
    opt_clear(table, u.n);
    return status;
}
