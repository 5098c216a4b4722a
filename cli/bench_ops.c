#include "cli/bench_ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cli/bench_hash.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/ops.h"

/* Shapes that no tile divides. */
enum { ROWS = 21, N_OUT = 70, N_IN = 131, HEADS = 4, GROUPS = 2, D = 24, V = 301 };

/* Where an operation is tried: what it takes lies there, and what it gives is hashed from there. */
struct lab {
    const struct kernels *k;
    struct device *d; /* NULL: the CPU */
    struct rng rng;
    uint64_t hash;
    void *arrays[32]; /* owned */
    size_t n;
    enum status st; /* the first failure; then nothing is computed any more */
    struct err *e;
};

/* ---- arrays ----------------------------------------------------------------------------------- */

static void *room(struct lab *l, size_t bytes)
{
    void *at = NULL;

    if (!l->st)
        l->st = device_alloc(l->d, &at, bytes, "an array", l->e);
    if (!l->st)
        l->arrays[l->n++] = at;
    return at;
}

static void *array(struct lab *l, const void *from, size_t bytes)
{
    void *at = room(l, bytes);

    if (at)
        device_put(l->d, at, from, bytes);
    return at;
}

/* In (-size, size), with a few that are far smaller. Of the host, to free. */
static float *host_numbers(struct lab *l, size_t n, float size)
{
    float *x = xcalloc(n, sizeof(*x));

    for (size_t i = 0; i < n; i++) {
        uint32_t u = rng_u32(&l->rng);
        float small = (u & 63) == 0 ? 0x1p-60f : 1.0f;

        x[i] = ((float)(int32_t)(u >> 8) * 0x1p-23f - 1.0f) * size * small;
    }
    return x;
}

static float *numbers(struct lab *l, size_t n, float size)
{
    float *x = host_numbers(l, n, size), *at = array(l, x, n * sizeof(*x));

    free(x);
    return at;
}

static void hash_of(struct lab *l, const void *at, size_t words)
{
    uint32_t *x = xcalloc(words, sizeof(*x));

    if (!l->st) {
        device_get(l->d, x, at, words * sizeof(*x));
        bench_hash_words(&l->hash, x, words);
    }
    free(x);
}

static int32_t *tokens(struct lab *l, size_t n, uint32_t below)
{
    int32_t *x = xcalloc(n, sizeof(*x)), *at;

    for (size_t i = 0; i < n; i++)
        x[i] = (int32_t)rng_below(&l->rng, below);
    at = array(l, x, n * sizeof(*x));
    free(x);
    return at;
}

/* ---- products --------------------------------------------------------------------------------- */

static void product(struct lab *l, enum dtype dtype)
{
    const enum dtype kept = packed_keeps(l->k, dtype);
    float *W = host_numbers(l, N_OUT * N_IN, 1.0f), *x = numbers(l, ROWS * N_IN, 1.0f);
    float *bias = numbers(l, N_OUT, 1.0f), *y = room(l, ROWS * N_OUT * sizeof(*y));
    void *at = room(l, packed_bytes_as(l->k, N_OUT, N_IN, kept));
    uint8_t *file =
        xcalloc(N_OUT * N_IN, sizeof(float)); /* the weights as they are published */
    struct packed p;

    dtype_narrow(file, W, dtype, N_OUT * N_IN);
    if (!l->st) {
        packed_place(&p, N_OUT, N_IN, kept, at);
        packed_set(l->k, NULL, &p, file, dtype);
        matmul_forward(l->k, NULL, y, x, &p, bias, ROWS);
    }
    free(file);
    free(W);
    hash_of(l, y, ROWS * N_OUT);
}

static void product_forward(struct lab *l)
{
    product(l, DTYPE_F32);
}

static void product_bf16(struct lab *l)
{
    product(l, DTYPE_BF16);
}

static void product_dx(struct lab *l)
{
    float *dy = numbers(l, ROWS * N_OUT, 1.0f), *W = numbers(l, N_OUT * N_IN, 1.0f);
    float *dx = room(l, ROWS * N_IN * sizeof(*dx));

    if (!l->st)
        matmul_dx(l->k, NULL, dx, dy, W, ROWS, N_OUT, N_IN);
    if (!l->st)
        matmul_dx_add(l->k, NULL, dx, dy, W, ROWS, N_OUT, N_IN);
    hash_of(l, dx, ROWS * N_IN);
}

static void product_dw(struct lab *l)
{
    float *dy = numbers(l, ROWS * N_OUT, 1.0f), *x = numbers(l, ROWS * N_IN, 1.0f);
    float *dW = numbers(l, N_OUT * N_IN, 1.0f), *db = numbers(l, N_OUT, 1.0f);

    if (!l->st) {
        matmul_dw(l->k, NULL, dW, dy, x, ROWS, N_OUT, N_IN);
        bias_backward(l->k, db, dy, ROWS, N_OUT);
    }
    hash_of(l, dW, N_OUT * N_IN);
    hash_of(l, db, N_OUT);
}

/* ---- rows ------------------------------------------------------------------------------------- */

static void norm_forward(struct lab *l)
{
    float *x = numbers(l, ROWS * N_IN, 3.0f), *w = numbers(l, N_IN, 1.0f);
    float *y = room(l, ROWS * N_IN * sizeof(*y));

    if (!l->st)
        rmsnorm_forward(l->k, y, x, w, ROWS, N_IN, 1e-6f);
    hash_of(l, y, ROWS * N_IN);
}

static void norm_backward(struct lab *l)
{
    float *x = numbers(l, ROWS * N_IN, 3.0f), *w = numbers(l, N_IN, 1.0f);
    float *dy = numbers(l, ROWS * N_IN, 1.0f), *dx = numbers(l, ROWS * N_IN, 1.0f);
    float *dw = numbers(l, N_IN, 1.0f);

    if (!l->st)
        rmsnorm_backward(l->k, dx, dw, dy, x, w, ROWS, N_IN, 1e-6f);
    hash_of(l, dx, ROWS * N_IN);
    hash_of(l, dw, N_IN);
}

static void rope(struct lab *l, bool is_backward)
{
    float table[2][64 * D / 2], *cos, *sin, *x = numbers(l, ROWS * HEADS * D, 2.0f);
    int32_t *pos = tokens(l, ROWS, 64);

    rope_table(table[0], table[1], 1e4, NULL, 0, 64, D);
    cos = array(l, table[0], sizeof(table[0]));
    sin = array(l, table[1], sizeof(table[1]));
    if (!l->st && is_backward)
        rope_backward(l->k, x, cos, sin, pos, ROWS, HEADS, D);
    else if (!l->st)
        rope_forward(l->k, x, cos, sin, pos, ROWS, HEADS, D);
    hash_of(l, x, ROWS * HEADS * D);
}

static void rotation(struct lab *l)
{
    rope(l, false);
}

static void rotation_back(struct lab *l)
{
    rope(l, true);
}

static void swiglu(struct lab *l)
{
    const size_t n = ROWS * N_IN;
    float *g = numbers(l, n, 20.0f), *u = numbers(l, n, 2.0f), *y = room(l, n * sizeof(*y));

    if (!l->st)
        swiglu_forward(l->k, NULL, y, g, u, n);
    hash_of(l, y, n);
}

static void swiglu_back(struct lab *l)
{
    const size_t n = ROWS * N_IN;
    float *g = numbers(l, n, 20.0f), *u = numbers(l, n, 2.0f), *dy = numbers(l, n, 1.0f);
    float *dg = room(l, n * sizeof(*dg)), *du = room(l, n * sizeof(*du));

    if (!l->st)
        swiglu_backward(l->k, NULL, dg, du, dy, g, u, n);
    hash_of(l, dg, n);
    hash_of(l, du, n);
}

static void sums(struct lab *l)
{
    const size_t n = ROWS * N_IN;
    float *a = numbers(l, n, 1.0f), *b = numbers(l, n, 1.0f), *y = room(l, n * sizeof(*y));

    if (!l->st) {
        add_forward(l->k, y, a, b, n);
        scale_forward(l->k, y, y, 0.3f, n);
    }
    hash_of(l, y, n);
}

static void embedding(struct lab *l)
{
    float *table = numbers(l, V * D, 1.0f), *y = room(l, ROWS * D * sizeof(*y));
    int32_t *id = tokens(l, ROWS, V);

    if (!l->st)
        embed_forward(l->k, y, table, id, ROWS, D);
    hash_of(l, y, ROWS * D);
}

/* Few ids, so that most come more than once. */
static void embedding_back(struct lab *l)
{
    enum { IDS = 5 };
    int32_t id[ROWS];
    uint32_t order[ROWS], start[IDS + 1], n = 0;
    float *table = numbers(l, IDS * D, 1.0f), *dy = numbers(l, ROWS * D, 1.0f);

    for (size_t i = 0; i < ROWS; i++)
        id[i] = (int32_t)rng_below(&l->rng, IDS);
    for (int32_t v = 0; v < IDS; v++) {
        start[v] = n;
        for (uint32_t i = 0; i < ROWS; i++)
            if (id[i] == v)
                order[n++] = i;
    }
    start[IDS] = n;
    if (l->d) {
        int32_t *ids = array(l, id, sizeof(id));
        uint32_t *orders = array(l, order, sizeof(order));
        uint32_t *starts = array(l, start, sizeof(start));

        if (!l->st)
            l->k->ops->embed_backward(l->d, table, dy, ids, orders, starts, IDS, D);
    } else if (!l->st) {
        embed_backward(l->k, table, dy, id, ROWS, D);
    }
    hash_of(l, table, IDS * D);
}

/* ---- attention -------------------------------------------------------------------------------- */

/* Two sequences without pages, of these lengths. */
static const uint32_t lengths[] = {ROWS - 9, 9};

struct heads {
    struct attention_shape s;
    float *q, *k, *v, *out, *lse;
    struct device_run runs[2];
    struct device_run *there;
};

static struct heads heads_of(struct lab *l)
{
    struct heads h = {.s = {HEADS, GROUPS, D, HEADS * D, HEADS * D, GROUPS * D, GROUPS * D,
                            attention_scale(D)},
                      .runs = {{0, lengths[0], 0, 0}, {lengths[0], lengths[1], 0, 0}}};

    h.q = numbers(l, ROWS * HEADS * D, 3.0f);
    h.k = numbers(l, ROWS * GROUPS * D, 3.0f);
    h.v = numbers(l, ROWS * GROUPS * D, 1.0f);
    h.out = room(l, ROWS * HEADS * D * sizeof(float));
    h.lse = room(l, ROWS * HEADS * sizeof(float));
    h.there = array(l, h.runs, sizeof(h.runs));
    return h;
}

static void attend(struct lab *l, const struct heads *h)
{
    if (l->st)
        return;
    if (l->d) {
        l->k->ops->attention(l->d, &(struct device_attention){.out = h->out,
                                                              .lse = h->lse,
                                                              .q = h->q,
                                                              .k = h->k,
                                                              .v = h->v,
                                                              .runs = h->there,
                                                              .n_runs = 2,
                                                              .rows = ROWS,
                                                              .max_n = lengths[0],
                                                              .max_len = lengths[0],
                                                              .shape = &h->s});
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        const size_t at = h->runs[i].row;
        struct attention_run run = {.out = h->out + at * h->s.out_stride,
                                    .lse = h->lse + at * HEADS,
                                    .q = h->q + at * h->s.q_stride,
                                    .k = h->k + at * h->s.k_stride,
                                    .v = h->v + at * h->s.v_stride,
                                    .n = h->runs[i].n};

        attention_forward(l->k, NULL, &run, 1, &h->s);
    }
}

static void attention(struct lab *l)
{
    struct heads h = heads_of(l);

    attend(l, &h);
    hash_of(l, h.out, ROWS * HEADS * D);
    hash_of(l, h.lse, ROWS * HEADS);
}

static void attention_back(struct lab *l)
{
    struct heads h = heads_of(l);
    float *dout = numbers(l, ROWS * HEADS * D, 1.0f);
    float *dq = room(l, ROWS * HEADS * D * sizeof(float));
    float *dk = room(l, ROWS * GROUPS * D * sizeof(float));
    float *dv = room(l, ROWS * GROUPS * D * sizeof(float));

    attend(l, &h);
    if (!l->st && l->d)
        l->k->ops->attention_backward(l->d, &(struct device_attention_grad){.dq = dq,
                                                                            .dk = dk,
                                                                            .dv = dv,
                                                                            .dout = dout,
                                                                            .out = h.out,
                                                                            .lse = h.lse,
                                                                            .q = h.q,
                                                                            .k = h.k,
                                                                            .v = h.v,
                                                                            .runs = h.there,
                                                                            .n_runs = 2,
                                                                            .rows = ROWS,
                                                                            .max_n = lengths[0],
                                                                            .shape = &h.s});
    for (size_t i = 0; !l->st && !l->d && i < 2; i++) {
        const size_t at = h.runs[i].row, q = at * h.s.q_stride, kv = at * h.s.k_stride;
        struct attention_grad g = {.dq = dq + q,
                                   .dk = dk + kv,
                                   .dv = dv + kv,
                                   .dout = dout + q,
                                   .out = h.out + q,
                                   .lse = h.lse + at * HEADS,
                                   .q = h.q + q,
                                   .k = h.k + kv,
                                   .v = h.v + kv,
                                   .n = h.runs[i].n};

        attention_backward(l->k, NULL, &g, 1, &h.s);
    }
    hash_of(l, dq, ROWS * HEADS * D);
    hash_of(l, dk, ROWS * GROUPS * D);
    hash_of(l, dv, ROWS * GROUPS * D);
}

/* ---- logits ----------------------------------------------------------------------------------- */

static void logprobs(struct lab *l)
{
    float *logits = numbers(l, ROWS * V, 8.0f), *logp = room(l, ROWS * sizeof(*logp));
    int32_t *id = tokens(l, ROWS, V);

    if (!l->st)
        logprob_forward(l->k, NULL, logp, logits, id, 0.7f, ROWS, V);
    hash_of(l, logp, ROWS);
}

static void logprobs_back(struct lab *l)
{
    float *logits = numbers(l, ROWS * V, 8.0f), *weight = numbers(l, ROWS, 1.0f);
    int32_t *id = tokens(l, ROWS, V);

    if (!l->st)
        logprob_backward(l->k, NULL, logits, weight, logits, id, 0.7f, ROWS, V);
    hash_of(l, logits, ROWS * V);
}

/* Every other row greedily. */
static void sampling(struct lab *l)
{
    struct device_draw draws[ROWS];
    struct device_drawn drawn[ROWS] = {0};
    float *logits = numbers(l, ROWS * V, 8.0f);

    for (uint32_t i = 0; i < ROWS; i++)
        draws[i] = (struct device_draw){rng_u32(&l->rng), i, i, i % 2 ? 0.0f : 0.7f};
    if (l->d) {
        struct device_draw *there = array(l, draws, sizeof(draws));
        struct device_drawn *out = room(l, sizeof(drawn));

        if (!l->st) {
            l->k->ops->sample(l->d, out, there, logits, ROWS, V);
            device_get(l->d, drawn, out, sizeof(drawn));
        }
    }
    for (size_t i = 0; !l->st && i < ROWS; i++) {
        if (!l->d)
            drawn[i].token =
                sample_token(l->k, &drawn[i].logp, logits + i * V, V, draws[i].temperature,
                             draws[i].seed, draws[i].position);
        bench_hash_words(&l->hash, &drawn[i].token, 1);
        bench_hash_words(&l->hash, &drawn[i].logp, 1);
    }
}

/* ---- optimizer -------------------------------------------------------------------------------- */

static void norm_of_gradient(struct lab *l)
{
    float *g = numbers(l, ROWS * N_IN, 1.0f), *sum = room(l, sizeof(*sum));
    float *scratch = room(l, ROWS * sizeof(*scratch));

    if (!l->st && l->d)
        l->k->ops->square_sum(l->d, sum, scratch, g, ROWS, N_IN);
    else if (!l->st)
        *sum = grad_square_sum(l->k, g, ROWS, N_IN);
    hash_of(l, sum, 1);
}

static void adamw(struct lab *l)
{
    const size_t n = ROWS * N_IN;
    const struct adamw_scalars s = {0.01f, 0.9f, 0.99f, 1e-8f, 0.1f, 0.1f, 0.01f, 0.5f};
    float *p = numbers(l, n, 1.0f), *m = numbers(l, n, 1e-3f), *g = numbers(l, n, 1e-2f);
    float *v = room(l, n * sizeof(*v));

    for (int i = 0; !l->st && i < 3; i++) /* the second moment starts as zeros */
        adamw_update(l->k, NULL, p, m, v, g, &s, n);
    hash_of(l, p, n);
    hash_of(l, m, n);
    hash_of(l, v, n);
}

/* ---- the table -------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(struct lab *l);
} operations[] = {
    {"product, f32 weights", product_forward},
    {"product, bf16 weights", product_bf16},
    {"product, dx", product_dx},
    {"product, dW and dbias", product_dw},
    {"rmsnorm", norm_forward},
    {"rmsnorm, backward", norm_backward},
    {"rotation", rotation},
    {"rotation, backward", rotation_back},
    {"swiglu", swiglu},
    {"swiglu, backward", swiglu_back},
    {"add and scale", sums},
    {"embedding", embedding},
    {"embedding, backward", embedding_back},
    {"attention", attention},
    {"attention, backward", attention_back},
    {"log-probability", logprobs},
    {"cross-entropy, backward", logprobs_back},
    {"sampling", sampling},
    {"gradient's norm", norm_of_gradient},
    {"AdamW", adamw},
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

enum status bench_columns_init(struct bench_columns *c, enum numerics numerics,
                               struct device *device, struct err *e)
{
    const char *name;
    enum status st = OK;

    *c = (struct bench_columns){0};
    for (size_t i = 0; !st && (name = kernels_name_at(numerics, i)); i++) {
        st = kernels_choose(&c->k[c->n], numerics, name, e);
        if (st == ERR_UNSUPPORTED)
            st = OK;
        c->name[c->n++] = name;
    }
    if (!st && device) {
        st = device_kernels(&c->k[c->n], device, numerics, e);
        c->name[c->n++] = "cuda";
    }
    return st;
}

bool bench_columns_print(const struct bench_columns *c, const char *what, const uint64_t *hash,
                         bool is_json)
{
    uint64_t first = 0;
    bool is_equal = true;

    for (size_t i = 0; i < c->n; i++) {
        first = first ? first : hash[i];
        is_equal = is_equal && (hash[i] == 0 || hash[i] == first);
    }
    if (is_json)
        printf("{\"operation\": \"%s\"", what);
    else
        printf("%-26s", what);
    for (size_t i = 0; i < c->n; i++) {
        if (is_json && hash[i])
            printf(", \"%s\": \"%016" PRIx64 "\"", c->name[i], hash[i]);
        else if (!is_json && hash[i])
            printf("  %016" PRIx64, hash[i]);
        else if (!is_json)
            printf("  %-16s", "not here");
    }
    if (is_json)
        printf(", \"equal\": %s}\n", is_equal ? "true" : "false");
    else
        printf("  %s\n", is_equal ? "equal" : "DIFFERENT");
    fflush(stdout);
    return is_equal;
}

static enum status try_operation(const struct kernels *k, size_t which, uint64_t *hash,
                                 struct err *e)
{
    struct lab l = {.k = k,
                    .d = kernels_device(k),
                    .rng = rng_of(which, 11),
                    .hash = BENCH_HASH_START,
                    .e = e};

    operations[which].run(&l);
    if (!l.st)
        l.st = device_wait(l.d, e);
    while (l.n > 0)
        device_release(l.d, l.arrays[--l.n]);
    *hash = l.hash;
    return l.st;
}

enum status bench_ops(const struct bench_columns *c, bool is_json, size_t *n_rows,
                      size_t *n_different, struct err *e)
{
    enum status st = OK;

    if (!is_json) {
        printf("\n%-26s", "operation");
        for (size_t i = 0; i < c->n; i++)
            printf("  %-16s", c->name[i]);
        printf("\n");
    }
    for (size_t w = 0; !st && w < N_OPERATIONS; w++) {
        uint64_t hash[BENCH_OPS_COLUMNS] = {0};

        for (size_t i = 0; !st && i < c->n; i++)
            if (c->k[i])
                st = try_operation(c->k[i], w, &hash[i], e);
        if (!st)
            *n_different += !bench_columns_print(c, operations[w].name, hash, is_json);
        *n_rows += !st;
    }
    return st;
}
