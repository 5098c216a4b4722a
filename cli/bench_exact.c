/*
 * cli/bench_exact.c - muster bench exact: one answer, whichever way it is computed
 *
 * The same prompts go through every way of computing them that there is: each backend, one thread
 * and two, batches of 1, 7 and 64, prompts whole, in chunks and token by token, the forward pass
 * of inference and that of training; and the same training step in micro-batches of 1, 3 and 8.
 * What came out is hashed. A class of numerics promises that the hashes are one.
 */
#include "cli/bench_exact.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/bench_hash.h"
#include "cli/bench_ops.h"
#include "cli/usage.h"
#include "engine/adamw.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "engine/model.h"
#include "engine/ops.h"
#include "engine/train.h"

#define N_PROMPTS   64u
#define N_STEP      8u /* sequences of the training step */
#define CHUNK       13u
#define TEMPERATURE 0.7f

struct prompt {
    size_t n_prompt, n; /* tokens of the prompt, and with what was sampled */
    int32_t *tokens;    /* owned, (n) */
};

struct exact {
    struct weights *w; /* owned */
    struct prompt prompts[N_PROMPTS];
    size_t longest;
    size_t n_new;
    enum numerics numerics;
    bool is_json, wants_ways, wants_operations;
    struct device *device;   /* owned; NULL: the CPU alone */
    const struct kernels *k; /* of the configuration at hand, like the pool */
    struct pool *pool;

    size_t n_runs;
    uint64_t logprobs, logits, weights; /* the first configuration's */
    size_t n_different;
    size_t n_rows, n_rows_different; /* of the table of operations and models */
};

/* What a configuration gave; 0: it has none. */
struct result {
    uint64_t logprobs, logits, weights;
};

/* ---- inference ------------------------------------------------------------------------------- */

/* A batch of prompts, one in each slot. */
struct batch {
    struct exact *x;
    struct model *m;
    struct kv_cache *kv;
    float *hidden, *logits, *logp;
    struct prompt *prompts;
    uint64_t *h_logits, *h_logprobs; /* of each prompt */
    size_t first, n;
};

/* The rows of prompt i from position `at` on: their logits, and the log-probability that each
 * gives to the token after it. */
static void take_rows(struct batch *b, size_t i, size_t at, size_t n, const float *logits)
{
    const struct prompt *p = &b->prompts[i];
    size_t V = b->x->w->config.vocab, with_next = at + n < p->n ? n : p->n - 1 - at;

    bench_hash_words(&b->h_logits[i], logits, n * V);
    logprob_forward(kernels_host(b->x->k), b->x->pool, b->logp, logits, p->tokens + at + 1,
                    TEMPERATURE, with_next, V);
    bench_hash_words(&b->h_logprobs[i], b->logp, with_next);
}

/* Draws the tokens that come after the runs of a call, where the model computes. */
static enum status draw(struct batch *b, const struct model_run *runs, const size_t *of,
                        size_t n_runs, struct err *e)
{
    struct model_draw d[N_PROMPTS];
    struct prompt *to[N_PROMPTS];
    size_t n = 0, rows = 0;
    enum status st;

    for (size_t r = 0; r < n_runs; r++) {
        struct prompt *p = &b->prompts[of[r]];
        size_t after = runs[r].first + runs[r].n;

        rows += runs[r].n;
        if (after < p->n_prompt || after >= p->n)
            continue;
        to[n] = p;
        d[n++] = (struct model_draw){.row = rows - 1,
                                     .seed = b->first + of[r],
                                     .position = (uint32_t)after,
                                     .temperature = TEMPERATURE};
    }
    st = model_draw(b->m, d, n, NULL, NULL, e);
    for (size_t i = 0; !st && i < n; i++)
        to[i]->tokens[d[i].position] = d[i].token;
    return st;
}

/* One call of the model: `step` more tokens of each prompt that has some left before `end[i]`. */
static enum status advance(struct batch *b, size_t *at, const size_t *end, size_t step,
                           size_t *moved, struct err *e)
{
    struct model_run runs[N_PROMPTS];
    size_t of[N_PROMPTS], n_runs = 0, rows = 0, V = b->x->w->config.vocab;
    int32_t *tokens = xcalloc(b->n * b->x->longest, sizeof(*tokens));
    enum status st = OK;

    for (size_t i = 0; i < b->n; i++) {
        size_t left = end[i] - at[i], n = left < step ? left : step;
        if (n == 0)
            continue;
        of[n_runs] = i;
        runs[n_runs++] = (struct model_run){.slot = i, .first = at[i], .n = n, .n_out = n};
        memcpy(tokens + rows, b->prompts[i].tokens + at[i], n * sizeof(*tokens));
        rows += n;
    }
    *moved = n_runs;
    if (n_runs > 0)
        st = model_forward(b->m, b->kv, b->hidden, runs, n_runs, tokens, e);
    if (!st && n_runs > 0)
        st = draw(b, runs, of, n_runs, e);
    if (!st && n_runs > 0)
        st = model_logits(b->m, b->logits, b->hidden, rows, e);
    rows = 0;
    for (size_t r = 0; !st && r < n_runs; r++) {
        size_t i = of[r], after = at[i] + runs[r].n;
        const float *logits = b->logits + rows * V;
        take_rows(b, i, at[i], runs[r].n, logits);
        at[i] = after;
        rows += runs[r].n;
    }
    free(tokens);
    return st;
}

static enum status run_batch(struct batch *b, size_t chunk, struct err *e)
{
    size_t at[N_PROMPTS] = {0}, end[N_PROMPTS], moved = 1;
    enum status st = OK;

    for (size_t i = 0; i < b->n; i++) {
        kv_cache_truncate(b->kv, i, 0);
        end[i] = b->prompts[i].n_prompt;
    }
    while (!st && moved > 0)
        st = advance(b, at, end, chunk ? chunk : b->x->longest, &moved, e);
    for (size_t i = 0; i < b->n; i++)
        end[i] = b->prompts[i].n;
    moved = 1;
    while (!st && moved > 0)
        st = advance(b, at, end, 1, &moved, e);
    return st;
}

/* All prompts, `size` at a time. */
static enum status infer(struct exact *x, size_t size, size_t chunk, struct result *out,
                         struct err *e)
{
    struct model_options mo = {.kernels = x->k, .pool = x->pool};
    uint64_t h_logits[N_PROMPTS], h_logprobs[N_PROMPTS];
    size_t rows = size * x->longest, V = x->w->config.vocab;
    struct batch b = {.x = x};
    enum status st = model_new(&b.m, x->w, &mo, e);

    if (!st)
        st = model_cache_new(&b.kv, b.m, size, x->longest, 0, e);
    if (!st)
        st = alloc_array(&b.hidden, rows, x->w->config.dim * sizeof(float), "states", e);
    if (!st)
        st = alloc_array(&b.logits, rows, V * sizeof(float), "logits", e);
    if (!st)
        st = alloc_array(&b.logp, rows, sizeof(float), "log-probabilities", e);
    for (size_t i = 0; i < N_PROMPTS; i++) {
        h_logits[i] = h_logprobs[i] = BENCH_HASH_START;
        for (size_t j = x->prompts[i].n_prompt; x->n_runs > 0 && j < x->prompts[i].n; j++)
            x->prompts[i].tokens[j] = 0; /* what an earlier configuration drew is no help */
    }
    for (b.first = 0; !st && b.first < N_PROMPTS; b.first += b.n) {
        b.n = N_PROMPTS - b.first < size ? N_PROMPTS - b.first : size;
        b.prompts = x->prompts + b.first;
        b.h_logits = h_logits + b.first;
        b.h_logprobs = h_logprobs + b.first;
        st = run_batch(&b, chunk, e);
    }
    *out = (struct result){BENCH_HASH_START, BENCH_HASH_START, 0};
    bench_hash_words(&out->logits, h_logits, 2 * (size_t)N_PROMPTS);
    bench_hash_words(&out->logprobs, h_logprobs, 2 * (size_t)N_PROMPTS);
    for (size_t i = 0; i < N_PROMPTS; i++)
        bench_hash_words(&out->logprobs, x->prompts[i].tokens, x->prompts[i].n);
    kv_cache_free(&b.kv);
    model_free(&b.m);
    free(b.hidden);
    free(b.logits);
    free(b.logp);
    return st;
}

/* ---- training -------------------------------------------------------------------------------- */

/* Prompts first .. first + n - 1 as a batch; the arrays are the caller's to free. */
static struct train_batch batch_of(const struct exact *x, size_t first, size_t n)
{
    size_t room = n * x->longest;
    int32_t *tokens = xcalloc(room, sizeof(*tokens)),
            *targets = xcalloc(room, sizeof(*targets));
    size_t *lengths = xcalloc(n, sizeof(*lengths)), rows = 0;

    for (size_t i = 0; i < n; i++) {
        const struct prompt *p = &x->prompts[first + i];
        for (size_t j = 0; j < p->n; j++, rows++) {
            tokens[rows] = p->tokens[j];
            targets[rows] = j + 1 < p->n ? p->tokens[j + 1] : -1;
        }
        lengths[i] = p->n;
    }
    return (struct train_batch){tokens, targets, lengths, n, rows, TEMPERATURE};
}

static void batch_clear(struct train_batch *b)
{
    free((void *)b->tokens);
    free((void *)b->targets);
    free((void *)b->lengths);
}

/* Weight of the loss at each row: prompts bear none, and what was sampled bears it unevenly. */
static void weigh(float *weight, const struct exact *x, const struct train_batch *b,
                  size_t first)
{
    size_t row = 0;

    for (size_t i = 0; i < b->n_seqs; i++)
        for (size_t j = 0; j < b->lengths[i]; j++, row++) {
            bool is_lost = b->targets[row] >= 0 && j % 3 != 0 &&
                           (first + i == 0 || j + 1 >= x->prompts[first + i].n_prompt);
            weight[row] = is_lost ? (float)(1 + j % 5) * 0x1p-9f : 0.0f;
        }
}

/* The log-probabilities of all prompts in the training forward, `size` sequences at a time. */
static enum status train_logprobs(struct exact *x, struct train *t, size_t size, float *logp,
                                  uint64_t *out, struct err *e)
{
    uint64_t h[N_PROMPTS];
    enum status st = OK;

    for (size_t first = 0; !st && first < N_PROMPTS; first += size) {
        size_t n = N_PROMPTS - first < size ? N_PROMPTS - first : size, row = 0;
        struct train_batch b = batch_of(x, first, n);
        st = train_forward(t, &b, logp, e);
        for (size_t i = 0; !st && i < n; i++) {
            h[first + i] = BENCH_HASH_START;
            bench_hash_words(&h[first + i], logp + row, b.lengths[i] - 1);
            row += b.lengths[i];
        }
        batch_clear(&b);
    }
    if (st)
        return st;
    *out = BENCH_HASH_START;
    bench_hash_words(out, h, 2 * (size_t)N_PROMPTS);
    for (size_t i = 0; i < N_PROMPTS; i++)
        bench_hash_words(out, x->prompts[i].tokens, x->prompts[i].n);
    return OK;
}

/* Gradients of the first N_STEP prompts, `size` sequences at a time, and a step along them. */
static enum status train_step(struct exact *x, struct train *t, struct weights *w, size_t size,
                              float *logp, uint64_t *out, struct err *e)
{
    const struct adamw_settings s = {.lr = 0.01f,
                                     .beta1 = 0.9f,
                                     .beta2 = 0.99f,
                                     .eps = 1e-8f,
                                     .weight_decay = 0.01f,
                                     .clip_norm = 0.5f};
    float *weight = xcalloc(N_STEP * x->longest, sizeof(*weight));
    struct adamw_report report;
    struct adamw *a = NULL;
    enum status st = adamw_new(&a, &w->config, e);

    train_zero(t);
    for (size_t first = 0; !st && first < N_STEP; first += size) {
        struct train_batch b =
            batch_of(x, first, N_STEP - first < size ? N_STEP - first : size);
        weigh(weight, x, &b, first);
        st = train_gradients(t, &b, train_weigh_known, weight, logp, e);
        batch_clear(&b);
    }
    train_finish(t);
    if (!st)
        st = train_update(t, a, w, &s, &report, e);
    if (!st)
        st = train_fetch(t, a, w, e);
    *out = BENCH_HASH_START;
    if (!st) {
        bench_hash_words(out, w->data, w->n_data);
        bench_hash_words(out, a->m->data, a->m->n_data);
        bench_hash_words(out, a->v->data, a->v->n_data);
    }
    adamw_free(&a);
    free(weight);
    return st;
}

static enum status train(struct exact *x, size_t size, struct result *out, struct err *e)
{
    struct train_options to = {.kernels = x->k, .pool = x->pool, .max_rows = size * x->longest};
    struct weights *w = NULL;
    struct train *t = NULL;
    float *logp = xcalloc(size * x->longest, sizeof(*logp));
    enum status st = weights_new(&w, &x->w->config, e);

    *out = (struct result){0};
    if (!st) {
        memcpy(w->data, x->w->data, w->n_data * sizeof(float));
        st = train_new(&t, w, &to, e);
    }
    if (!st)
        st = train_logprobs(x, t, size, logp, &out->logprobs, e);
    if (!st)
        st = train_step(x, t, w, size, logp, &out->weights, e);
    train_free(&t);
    weights_free(&w);
    free(logp);
    return st;
}

/* ---- what is tried, and what is said ---------------------------------------------------------- */

static bool differs(uint64_t got, uint64_t *first)
{
    if (*first == 0)
        *first = got;
    return got != 0 && got != *first;
}

static void print_hash(const struct exact *x, const char *name, uint64_t h)
{
    if (h && x->is_json)
        printf(", \"%s\": \"%016" PRIx64 "\"", name, h);
    else if (h)
        printf("  %s %016" PRIx64, name, h);
}

/* `how` is free text without quotes: "batch 7, prompts in chunks". */
static void report(struct exact *x, const char *what, size_t threads, const char *how,
                   const struct result *r)
{
    bool is_different = differs(r->logprobs, &x->logprobs) | differs(r->logits, &x->logits) |
                        differs(r->weights, &x->weights);

    x->n_runs++;
    x->n_different += is_different;
    if (x->is_json)
        printf("{\"kernels\": \"%s\", \"threads\": %zu, \"forward\": \"%s\", \"how\": \"%s\"",
               kernels_name(x->k), threads, what, how);
    else
        printf("%-7s %zu thread%s  %-9s %-34s", kernels_name(x->k), threads,
               threads == 1 ? " " : "s", what, how);
    print_hash(x, "logits", r->logits);
    print_hash(x, "logprobs", r->logprobs);
    print_hash(x, "weights", r->weights);
    if (x->is_json)
        printf(", \"equal\": %s}\n", is_different ? "false" : "true");
    else
        printf("%s\n", is_different ? "  DIFFERENT" : "");
    fflush(stdout);
}

static enum status try_threads(struct exact *x, size_t threads, struct err *e)
{
    static const size_t batches[] = {1, 7, N_PROMPTS}, micro[] = {1, 3, N_STEP};
    static const struct {
        size_t chunk;
        const char *text;
    } pieces[] = {{0, "prompts whole"}, {CHUNK, "prompts in chunks"}, {1, "token by token"}};
    struct result r;
    enum status st = OK;
    char how[64];

    for (size_t b = 0; !st && b < 3; b++)
        for (size_t p = 0; !st && p < 3; p++) {
            st = infer(x, batches[b], pieces[p].chunk, &r, e);
            snprintf(how, sizeof(how), "batch %zu, %s", batches[b], pieces[p].text);
            if (!st)
                report(x, "inference", threads, how, &r);
        }
    for (size_t m = 0; !st && m < 3; m++) {
        st = train(x, micro[m], &r, e);
        snprintf(how, sizeof(how), "micro-batches of %zu", micro[m]);
        if (!st)
            report(x, "training", threads, how, &r);
    }
    return st;
}

/* Of a GPU: how it works has no threads. */
static enum status try_device(struct exact *x, struct err *e)
{
    enum status st;

    if (!x->device)
        return OK;
    st = device_kernels(&x->k, x->device, x->numerics, e);
    return st ? st : try_threads(x, 1, e);
}

static enum status try_backend(struct exact *x, const char *name, struct err *e)
{
    enum status st = kernels_choose(&x->k, x->numerics, name, e);

    if (st == ERR_UNSUPPORTED) {
        if (x->is_json)
            printf("{\"kernels\": \"%s\", \"here\": false}\n", name);
        else
            printf("%-7s not on this CPU\n", name);
        return OK;
    }
    for (size_t threads = 1; !st && threads <= 2; threads++) {
        pool_new(&x->pool, threads);
        st = try_threads(x, threads, e);
        pool_free(&x->pool);
    }
    return st;
}

/* One hash for each operation, and of a model of each family with the shape of `c`. */
static enum status try_operations(struct exact *x, const struct model_config *c, struct err *e)
{
    static const struct {
        enum model_arch arch;
        const char *name;
    } families[] = {
        {MODEL_ARCH_LLAMA, "llama"}, {MODEL_ARCH_QWEN2, "qwen2"}, {MODEL_ARCH_QWEN3, "qwen3"}};
    struct bench_columns columns;
    enum status st = bench_columns_init(&columns, x->numerics, x->device, e);

    if (!st)
        st = bench_ops(&columns, x->is_json, &x->n_rows, &x->n_rows_different, e);
    for (size_t i = 0; !st && i < sizeof(families) / sizeof(families[0]); i++) {
        struct model_config of = *c;

        of.arch = families[i].arch;
        of.tie = of.arch != MODEL_ARCH_LLAMA;
        of.qkv_bias = of.arch == MODEL_ARCH_QWEN2;
        of.qk_norm = of.arch == MODEL_ARCH_QWEN3;
        st = bench_ops_model(&columns, &of, families[i].name, x->is_json, &x->n_rows,
                             &x->n_rows_different, e);
    }
    return st;
}

static int conclude(const struct exact *x)
{
    const size_t n_different = x->n_different + x->n_rows_different;
    bool is_equal = n_different == 0 && x->n_runs + x->n_rows > 0;

    if (!x->is_json && x->n_rows > 0)
        printf("operations and models: %zu of %zu rows equal\n",
               x->n_rows - x->n_rows_different, x->n_rows);
    if (!x->is_json && x->n_runs == 0)
        return is_equal ? 0 : 1;

    if (x->is_json) {
        printf("{\"numerics\": \"%s\", \"configurations\": %zu, \"rows\": %zu, \"different\": "
               "%zu, "
               "\"equal\": %s",
               numerics_name(x->numerics), x->n_runs, x->n_rows, n_different,
               is_equal ? "true" : "false");
    } else if (is_equal) {
        printf("class %s: all %zu equal:", numerics_name(x->numerics), x->n_runs);
    } else {
        printf("class %s: %zu of %zu and %zu rows DIFFER from the first:",
               numerics_name(x->numerics), x->n_different, x->n_runs, x->n_rows_different);
    }
    print_hash(x, "logits", x->logits);
    print_hash(x, "logprobs", x->logprobs);
    print_hash(x, "weights", x->weights);
    printf(x->is_json ? "}\n" : "\n");
    return is_equal ? 0 : 1;
}

/* ---- the model and the prompts --------------------------------------------------------------- */

struct shape {
    int64_t dim, layers, heads, kv_heads, ffn, vocab, prompt, new, seed;
    char *dtype;
};

static enum status make_model(struct exact *x, const char *dir, const struct shape *s,
                              struct err *e)
{
    struct model_config c = {
        .arch = MODEL_ARCH_LLAMA,
        .vocab = (uint32_t)s->vocab,
        .dim = (uint32_t)s->dim,
        .layers = (uint32_t)s->layers,
        .heads = (uint32_t)s->heads,
        .kv_heads = (uint32_t)s->kv_heads,
        .head_dim = (uint32_t)(s->dim / s->heads),
        .ffn = (uint32_t)s->ffn,
        .max_len = 4096,
        .norm_eps = 1e-5f,
        .rope_theta = 10000.0,
        .tie = true,
        .dtype = strcmp(s->dtype, "bf16") ? DTYPE_F32 : DTYPE_BF16,
        .bos = -1,
        .pad = -1,
    };
    enum status st;

    if (dir)
        return weights_load(&x->w, dir, e);
    st = weights_new(&x->w, &c, e);
    if (!st) {
        weights_init_random(x->w, (uint64_t)s->seed);
        weights_round(x->w, c.dtype);
    }
    return st;
}

/* Lengths from 1 to about `prompt`, and the first prompt long enough to cross a block of attention
 * if the model takes it. */
static void make_prompts(struct exact *x, const struct shape *s)
{
    const struct model_config *c = &x->w->config;
    struct rng r = rng_of((uint64_t)s->seed, 3);

    for (size_t i = 0; i < N_PROMPTS; i++) {
        struct prompt *p = &x->prompts[i];
        p->n_prompt = i == 0 ? ATTENTION_BLOCK + 14 : 1 + rng_below(&r, (uint64_t)s->prompt);
        if (p->n_prompt + x->n_new > c->max_len)
            p->n_prompt = c->max_len > x->n_new ? c->max_len - x->n_new : 1;
        p->n = p->n_prompt + x->n_new;
        p->tokens = xcalloc(p->n, sizeof(p->tokens[0]));
        for (size_t j = 0; j < p->n_prompt; j++)
            p->tokens[j] = (int32_t)rng_below(&r, c->vocab);
        x->longest = p->n > x->longest ? p->n : x->longest;
    }
}

static int run(struct exact *x, const char *dir, const struct shape *s)
{
    const char *name;
    struct err e;
    enum status st = make_model(x, dir, s, &e);

    if (!st && x->n_new + 1 > x->w->config.max_len)
        st =
            err_set(&e, ERR_INVALID, "the model has %" PRIu32 " positions, --new-tokens is %zu",
                    x->w->config.max_len, x->n_new);
    if (st)
        return usage_fail(e.text);
    make_prompts(x, s);
    if (!x->is_json && x->wants_ways)
        printf("class %s, %" PRIu64
               " parameters, %u prompts of up to %zu tokens, %zu sampled\n",
               numerics_name(x->numerics), model_config_params(&x->w->config), N_PROMPTS,
               x->longest - x->n_new, x->n_new);
    for (size_t i = 0; !st && x->wants_ways && (name = kernels_name_at(x->numerics, i)); i++)
        st = try_backend(x, name, &e);
    if (!st && x->wants_ways)
        st = try_device(x, &e);
    if (!st && x->wants_operations && !dir)
        st = try_operations(x, &x->w->config, &e);
    return st ? usage_fail(e.text) : conclude(x);
}

/* A model that is given has a shape of its own. */
static int refuse_shape(const struct usage *u)
{
    static const char *const shape[] = {"dim", "layers", "heads", "kv-heads",
                                        "ffn", "vocab",  "dtype"};

    for (size_t i = 0; i < u->n; i++)
        for (size_t k = 0; k < sizeof(shape) / sizeof(shape[0]); k++)
            if (u->table[i].was_set && !strcmp(u->table[i].name, shape[k]))
                return usage_complain(u->line, "--%s is for the random model, without DIR",
                                      shape[k]);
    return USAGE_RUN;
}

int bench_exact(int argc, char **argv)
{
    const char *dir = NULL;
    char *numerics = NULL, *device = NULL, *what = NULL;
    struct shape s;
    struct exact x = {0};
    struct err e;
    int status;
    struct opt table[] = {
        {"numerics", OPT_CHOICE, &numerics, "f32-1", "f32-1|bf16-1", "class of the numbers",
         false},
        {"what", OPT_CHOICE, &what, "all", "all|ways|operations",
         "the ways of computing one model, or the table of operations and models", false},
        {"device", OPT_STRING, &device, "cpu", NULL,
         "cuda or cuda:N: compute on that GPU as well", false},
        {"prompt-tokens", OPT_INT, &s.prompt, "40", "1..1024",
         "longest prompt but one, which is longer than a block of attention", false},
        {"new-tokens", OPT_INT, &s.new, "6", "1..1024", "tokens sampled after each prompt",
         false},
        {"dim", OPT_INT, &s.dim, "48", "2..16384", "channels of the random model", false},
        {"layers", OPT_INT, &s.layers, "2", "1..256", "layers of it", false},
        {"heads", OPT_INT, &s.heads, "4", "1..1024", "heads of queries", false},
        {"kv-heads", OPT_INT, &s.kv_heads, "2", "1..1024", "heads of keys and values", false},
        {"ffn", OPT_INT, &s.ffn, "100", "1..65536", "width of the feed-forward part", false},
        {"vocab", OPT_INT, &s.vocab, "131", "2..1000000", "size of the vocabulary", false},
        {"dtype", OPT_CHOICE, &s.dtype, "f32", "f32|bf16", "how its weights are published",
         false},
        {"seed", OPT_INT, &s.seed, "1", "0..", "of the weights and prompts", false},
        {"json", OPT_FLAG, &x.is_json, "false", NULL, "JSON objects, one a line", false},
    };
    struct usage u = {
        .line = "muster bench exact [DIR] [options]",
        .about =
            "Computes the same prompts and the same training step in every way there is: "
            "backends, threads,\nbatches of 1, 7 and 64, prompts whole, in chunks and token by "
            "token, inference and training,\nmicro-batches of 1, 3 and 8. Prints a hash of "
            "each, and whether they are one: status 1 if not.\nWithout DIR the model is "
            "random and small, and a table follows: one hash for each operation and each "
            "family\n"
            "of models, of each backend.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &dir,
        .max_operands = 1,
    };

    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && dir)
        status = refuse_shape(&u);
    if (status == USAGE_RUN) {
        x.n_new = (size_t)s.new;
        x.wants_ways = strcmp(what, "operations") != 0;
        x.wants_operations = strcmp(what, "ways") != 0;
        status = numerics_parse(&x.numerics, numerics, &e) || device_open(&x.device, device, &e)
                     ? usage_fail(e.text)
                     : run(&x, dir, &s);
    }
    for (size_t i = 0; i < N_PROMPTS; i++)
        free(x.prompts[i].tokens);
    weights_free(&x.w);
    device_close(&x.device);
    opt_clear(table, u.n);
    return status;
}
