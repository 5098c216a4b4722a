/*
 * cli/bench_engine.c - matrix products, decoding and prefill, beside what the machine allows
 *
 * Models are llama-shaped with random weights: speed does not depend on what they say. Decoding
 * is counted as llama.cpp's bench does, without sampling: one forward and the logits of every
 * sequence. The bound of a figure is the smaller of the cores' peak and of what reading the
 * weights once takes at the bandwidth measured for a working set of that size.
 */
#include "cli/bench_engine.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/pool.h"
#include "cli/bench_blas.h"
#include "cli/bench_line.h"
#include "cli/bench_machine.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "engine/arena.h"
#include "engine/device.h"
#include "engine/matmul.h"
#include "engine/model.h"

#define N_OF(a)      (sizeof(a) / sizeof((a)[0]))
#define COLD_BYTES   ((size_t)256 << 20) /* of matrices taken in turn: more than any cache */
#define PREFILL_ROWS 512u
#define NAME_BYTES   96

struct shape {
    const char *name;
    struct model_config c;
};

#define LLAMA .arch = MODEL_ARCH_LLAMA, .max_len = 2048, .norm_eps = 1e-5f, .rope_theta = 1e4

static const struct shape shapes[] = {
    {"15m",
     {LLAMA, .vocab = 32000, .dim = 288, .layers = 6, .heads = 6, .kv_heads = 6, .head_dim = 48,
      .ffn = 768, .tie = true}},
    {"110m",
     {LLAMA, .vocab = 32000, .dim = 768, .layers = 12, .heads = 12, .kv_heads = 12,
      .head_dim = 64, .ffn = 2048, .tie = true}},
    {"0.5b",
     {LLAMA, .vocab = 151936, .dim = 896, .layers = 24, .heads = 14, .kv_heads = 2,
      .head_dim = 64, .ffn = 4864, .tie = true}},
};

struct bench {
    struct bench_blas libraries;
    const struct kernels *k;
    struct pool *pool; /* owned */
    struct bench_machine machine;
    char *what, *shape, *dtype, *numerics, *kernels,
        *device;       /* owned by the table of options */
    struct device *on; /* owned; NULL: the CPU */
    const char *dir;   /* NULL: the shapes */
    int64_t threads, n_prompt, n_new, batch, group;
};

static bool is_chosen(const char *choice, const char *name)
{
    return strcmp(choice, "all") == 0 || strcmp(choice, name) == 0;
}

static double seconds_since(int64_t start)
{
    return (double)(clock_mono_us() - start) * 1e-6;
}

static void print_plain(const char *name, double value, const char *unit)
{
    bench_line_print(&(struct bench_line){.name = name, .value = value, .unit = unit});
}

/* ---- numbers --------------------------------------------------------------------------------- */

struct fill {
    float *x;
    float scale;
};

/* Even numbers in (-scale, scale), with eight bits: exact in bf16. */
static void fill_range(void *arg, size_t lo, size_t hi)
{
    const struct fill *f = arg;

    for (size_t i = lo; i < hi; i++) {
        uint32_t h = (uint32_t)i * 0x9e3779b9u;

        h ^= h >> 15;
        h *= 0x85ebca6bu;
        f->x[i] = ((float)(h >> 25) - 63.5f) * f->scale;
    }
}

/* Like trained weights in size, so that nothing overflows or becomes subnormal. */
// NOLINTNEXTLINE(readability-non-const-parameter): written to through f
static void fill(struct pool *pool, float *x, size_t rows, size_t cols)
{
    struct fill f = {x, ldexpf(1.0f, -6 - ilogb(sqrt((double)cols)))};

    pool_run(pool, rows * cols, 1u << 16, fill_range, &f);
}

static const char *dtype_text(enum dtype t)
{
    return t == DTYPE_F32 ? "f32" : "bf16";
}

/* "f32", or "f32_bf16-1" for what another class than f32-1 makes of f32 weights. */
static const char *manner_text(const struct bench *b, enum dtype dtype)
{
    static char text[64];

    if (kernels_numerics(b->k) == NUMERICS_F32_1)
        return dtype_text(dtype);
    snprintf(text, sizeof(text), "%s_%s", dtype_text(dtype),
             numerics_name(kernels_numerics(b->k)));
    return text;
}

/* ---- the machine ----------------------------------------------------------------------------- */

static void print_machine(const struct bench *b)
{
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "fma_peak_t%zu", pool_threads(b->pool));
    print_plain(name, b->machine.flops * 1e-9, "GFLOP/s");
    for (size_t i = 0; i < BENCH_READ_SIZES; i++) {
        snprintf(name, sizeof(name), "read_%zuk_t%zu", b->machine.bytes[i] >> 10,
                 pool_threads(b->pool));
        print_plain(name, b->machine.read[i] * 1e-9, "GB/s");
    }
}

/* ---- matrix products ------------------------------------------------------------------------- */

/* y = x W', with n_copies of W in turn. */
struct trial {
    size_t M, N, K, n_copies;
    struct arena arena; /* of what follows; on large pages where the system has them */
    float *x, *y, *W;
    struct packed *packed; /* owned */
    enum dtype dtype;
};

static void product_clear(struct trial *p)
{
    free(p->packed);
    arena_clear(&p->arena);
}

static enum status product_init(struct trial *p, const struct bench *b, size_t N, size_t K,
                                size_t rows, size_t model_bytes, enum dtype dtype,
                                struct err *e)
{
    const enum dtype keeps = packed_keeps(b->k, dtype);
    const size_t total = model_bytes < COLD_BYTES ? model_bytes : COLD_BYTES;
    const size_t bytes = packed_bytes_as(b->k, N, K, keeps);
    const size_t n_copies = total / (N * K * sizeof(float)) + 1;
    const size_t floats = rows * (K + N) + n_copies * N * K;
    enum status st;

    *p = (struct trial){.N = N, .K = K, .n_copies = n_copies, .dtype = dtype};
    st = arena_init(&p->arena, NULL, n_copies * bytes + floats * sizeof(float), "matrices", e);
    if (st)
        return st;
    p->packed = xcalloc(n_copies, sizeof(p->packed[0]));
    p->W = (float *)(void *)((char *)p->arena.data + n_copies * bytes);
    p->x = p->W + n_copies * N * K;
    p->y = p->x + rows * K;
    fill(b->pool, p->x, rows, K);
    fill(b->pool, p->W, n_copies * N, K);
    for (size_t i = 0; i < n_copies; i++) {
        packed_place(&p->packed[i], N, K, keeps, (char *)p->arena.data + i * bytes);
        packed_set(b->k, b->pool, &p->packed[i], p->W + i * N * K, DTYPE_F32);
    }
    return OK;
}

/* One product with copy i; by a library, if given. */
static void multiply(const struct bench *b, struct trial *p, const struct bench_library *other,
                     size_t i)
{
    if (other)
        bench_blas_multiply(other, p->y, p->x, p->W + i * p->N * p->K,
                            (size_t[3]){p->M, p->N, p->K});
    else
        matmul_forward(b->k, b->pool, p->y, p->x, &p->packed[i], NULL, p->M);
}

/* Seconds of one product: the better of three runs of at least 40 ms and of every copy. */
static double product_seconds(const struct bench *b, struct trial *p,
                              const struct bench_library *other)
{
    double best = 0.0;

    for (int run = 0; run < 3; run++) {
        int64_t start = clock_mono_us();
        size_t n = 0;

        do {
            for (size_t i = 0; i < p->n_copies && (n < p->n_copies || i < 4); i++, n++)
                multiply(b, p, other, i);
        } while (seconds_since(start) < 0.04);
        double s = seconds_since(start) / (double)n;
        if (run == 0 || s < best)
            best = s;
    }
    return best;
}

/* `peer` is a library and `theirs` its seconds; or NULL. */
static void print_product(const struct bench *b, const struct trial *p, const char *shape,
                          double ours, const char *peer, double theirs)
{
    const double flops = 2.0 * (double)p->M * (double)p->N * (double)p->K;
    const size_t w_bytes = p->N * p->K * dtype_bytes(p->dtype);
    double bytes = (double)w_bytes + 4.0 * (double)p->M * (double)(p->N + p->K);
    double bound = bytes / bench_machine_read(&b->machine, p->n_copies * w_bytes);
    char name[NAME_BYTES];

    if (bound < flops / b->machine.flops)
        bound = flops / b->machine.flops;
    snprintf(name, sizeof(name), "matmul_%s_%zux%zu_m%zu_%s", shape, p->N, p->K, p->M,
             manner_text(b, p->dtype));
    bench_line_print(&(struct bench_line){name, flops / ours * 1e-9, "GFLOP/s", peer,
                                          peer ? flops / theirs * 1e-9 : 0.0,
                                          0.85 * flops / bound * 1e-9, false});
}

/* A line for each library that is here, with our figure of the same minute; one without a peer where
 * there is none. */
static void bench_product(const struct bench *b, struct trial *p, const char *shape)
{
    const double ours = product_seconds(b, p, NULL);
    size_t n = 0;

    for (size_t i = 0; i < BENCH_LIBRARIES; i++) {
        const struct bench_library *l = &b->libraries.library[i];

        if (!l->handle)
            continue;
        print_product(b, p, shape, ours, l->name, product_seconds(b, p, l));
        n++;
    }
    if (n == 0)
        print_product(b, p, shape, ours, NULL, 0.0);
}

static enum status bench_products(const struct bench *b, const struct shape *s,
                                  enum dtype dtype, struct err *e)
{
    static const size_t rows[] = {1, 4, 8, 16, 32, 64, 128, 512};
    const struct model_config *c = &s->c;
    const size_t q = (size_t)c->heads * c->head_dim, bytes = model_config_params(c) * 4;
    const size_t sizes[][2] = {
        {q, c->dim}, {c->ffn, c->dim}, {c->dim, c->ffn}, {c->vocab, c->dim}};
    enum status st = OK;

    for (size_t i = 0; !st && i < N_OF(sizes); i++) {
        struct trial p;

        st = product_init(&p, b, sizes[i][0], sizes[i][1], rows[N_OF(rows) - 1], bytes, dtype,
                          e);
        for (size_t j = 0; !st && j < N_OF(rows); j++) {
            p.M = rows[j];
            bench_product(b, &p, s->name);
        }
        product_clear(&p);
    }
    return st;
}

/* ---- whole models ---------------------------------------------------------------------------- */

struct subject {
    const char *name;
    enum dtype dtype;
    struct weights *w;       /* owned, or NULL */
    struct weights_map *map; /* owned, or NULL */
    struct model *m;         /* owned */
};

static void subject_clear(struct subject *s)
{
    model_free(&s->m);
    weights_map_close(&s->map);
    weights_free(&s->w);
}

static enum status subject_init(struct subject *s, const struct bench *b,
                                const struct shape *shape, enum dtype dtype, struct err *e)
{
    const struct model_options opt = {
        .kernels = b->k, .pool = b->pool, .max_rows = PREFILL_ROWS};
    enum status st;

    *s = (struct subject){.name = shape->name, .dtype = dtype};
    st = weights_new(&s->w, &shape->c, e);
    if (st)
        return st;
    for (size_t i = 0; i < s->w->n_tensors; i++) {
        struct weights_tensor *t = &s->w->tensors[i];

        fill(b->pool, t->data, t->rows, t->cols);
        for (size_t j = 0; !t->is_matrix && j < t->cols; j++)
            t->data[j] = 1.0f;
    }
    if (dtype == DTYPE_F32)
        return model_new(&s->m, s->w, &opt, e);
    st = weights_map_of(&s->map, s->w, dtype, e);
    weights_free(&s->w);
    return st ? st : model_open(&s->m, s->map, &opt, e);
}

/* The model in a directory. */
static enum status subject_open(struct subject *s, const struct bench *b, const char *dir,
                                struct err *e)
{
    const struct model_options opt = {
        .kernels = b->k, .pool = b->pool, .max_rows = PREFILL_ROWS};
    enum status st;

    *s = (struct subject){.name = "dir"};
    st = weights_map_open(&s->map, dir, e);
    if (st)
        return st;
    s->dtype = s->map->tensors[0].dtype;
    return model_open(&s->m, s->map, &opt, e);
}

/* Bytes of weights that one forward of few rows reads. */
static double read_bytes(const struct subject *s)
{
    const struct model_config *c = model_config(s->m);
    uint64_t n = model_config_params(c) - (c->tie ? 0 : (uint64_t)c->vocab * c->dim);

    return (double)n * (double)dtype_bytes(s->dtype);
}

/* B sequences, `group` of them to a prompt, and what a step of them reads and writes. */
struct decoding {
    size_t B, group, n_prompt;
    struct model *m;     /* borrowed */
    struct kv_cache *kv; /* the rest is owned */
    struct model_run *runs;
    struct model_draw *draws;
    int32_t *tokens;
    float *hidden, *logits;
};

static void decoding_clear(struct decoding *d)
{
    kv_cache_free(&d->kv);
    free(d->runs);
    free(d->draws);
    free(d->tokens);
    free(d->hidden);
    free(d->logits);
}

static enum status decoding_init(struct decoding *d, const struct bench *b,
                                 const struct subject *s, size_t B, struct err *e)
{
    const struct model_config *c = model_config(s->m);
    const size_t n_prompt = (size_t)b->n_prompt;
    enum status st;

    *d = (struct decoding){.B = B, .group = (size_t)b->group, .n_prompt = n_prompt, .m = s->m};
    d->runs = xcalloc(B, sizeof(d->runs[0]));
    d->draws = xcalloc(B, sizeof(d->draws[0]));
    d->tokens = xcalloc(B * n_prompt, sizeof(d->tokens[0]));
    for (size_t i = 0; i < B * n_prompt; i++)
        d->tokens[i] = (int32_t)(i * 7919 % c->vocab);
    st = alloc_array(&d->hidden, B, c->dim * sizeof(float), "hidden states", e);
    if (!st)
        st = alloc_array(&d->logits, B, c->vocab * sizeof(float), "logits", e);
    if (!st)
        st = model_cache_new(&d->kv, s->m, B, n_prompt + (size_t)b->n_new, 0, e);
    return st;
}

/* The first of each group computes the prompt, the others share its pages. */
static enum status decoding_prefill(struct decoding *d, struct err *e)
{
    enum status st;
    size_t n = 0;

    for (size_t i = 0; i < d->B; i += d->group)
        d->runs[n++] = (struct model_run){.slot = i, .n = d->n_prompt, .n_out = 1};
    st = model_forward(d->m, d->kv, d->hidden, d->runs, n, d->tokens, e);
    for (size_t i = 0; !st && i < d->B; i++)
        if (i % d->group > 0)
            kv_cache_copy(d->kv, i, i - i % d->group, d->n_prompt);
    return st;
}

/* The next token of each; of a device tokens, not logits, come back. */
static enum status decoding_step(struct decoding *d, size_t position, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < d->B; i++) {
        d->runs[i] = (struct model_run){.slot = i, .first = position, .n = 1, .n_out = 1};
        d->draws[i] = (struct model_draw){
            .row = i, .seed = i, .position = (uint32_t)position, .temperature = 1.0f};
    }
    if (model_device(d->m)) {
        st = model_forward(d->m, d->kv, NULL, d->runs, d->B, d->tokens, e);
        return st ? st : model_draw(d->m, d->draws, d->B, NULL, NULL, e);
    }
    st = model_forward(d->m, d->kv, d->hidden, d->runs, d->B, d->tokens, e);
    return st ? st : model_logits(d->m, d->logits, d->hidden, d->B, e);
}

static enum status decode_seconds(const struct bench *b, const struct subject *s, size_t B,
                                  double *seconds, struct err *e)
{
    struct decoding d;
    enum status st = decoding_init(&d, b, s, B, e);

    if (!st)
        st = decoding_prefill(&d, e);
    int64_t start = clock_mono_us();
    for (size_t t = 0; !st && t < (size_t)b->n_new; t++)
        st = decoding_step(&d, d.n_prompt + t, e);
    *seconds = seconds_since(start);
    decoding_clear(&d);
    return st;
}

static enum status bench_decode(const struct bench *b, const struct subject *s, struct err *e)
{
    static const size_t host[] = {1, 4, 16, 32, 64}, there[] = {1, 64, 256, 512};
    const size_t one = (size_t)b->batch, *batches = one ? &one : b->on ? there : host;
    const size_t n_batches = one ? 1 : b->on ? N_OF(there) : N_OF(host);
    enum status st = OK;

    for (size_t i = 0; !st && i < n_batches; i++) {
        double best = 0.0, target = 0.0;
        char name[NAME_BYTES];

        for (int run = 0; !st && run < 2; run++) {
            double t;

            st = decode_seconds(b, s, batches[i], &t, e);
            if (run == 0 || t < best)
                best = t;
        }
        if (!b->on && batches[i] == 1 && b->machine.flops > 0.0)
            target = (s->dtype == DTYPE_F32 ? 0.85 : 0.75) *
                     bench_machine_read(&b->machine, (size_t)read_bytes(s)) / read_bytes(s);
        snprintf(name, sizeof(name), "decode_b%zu_%s_%s", batches[i], s->name,
                 manner_text(b, s->dtype));
        if (!st)
            bench_line_print(&(struct bench_line){name,
                                                  (double)batches[i] * (double)b->n_new / best,
                                                  "tokens/s", NULL, 0.0, target, false});
    }
    return st;
}

static enum status bench_prefill(const struct bench *b, const struct subject *s, struct err *e)
{
    const struct model_config *c = model_config(s->m);
    const struct model_run run = {.n = PREFILL_ROWS, .n_out = 1};
    int32_t *tokens = xcalloc(PREFILL_ROWS, sizeof(tokens[0]));
    float *hidden = xcalloc(c->dim, sizeof(hidden[0]));
    struct kv_cache *kv = NULL;
    double best = 0.0;
    char name[NAME_BYTES];
    enum status st = model_cache_new(&kv, s->m, 1, PREFILL_ROWS, 0, e);

    for (size_t i = 0; i < PREFILL_ROWS; i++)
        tokens[i] = (int32_t)(i * 7919 % c->vocab);
    for (int i = 0; !st && i < 3; i++) {
        int64_t start = clock_mono_us();

        st = model_forward(s->m, kv, hidden, &run, 1, tokens, e);
        double t = seconds_since(start);
        if (i == 0 || t < best)
            best = t;
    }
    snprintf(name, sizeof(name), "prefill_512_%s_%s", s->name, manner_text(b, s->dtype));
    if (!st)
        print_plain(name, PREFILL_ROWS / best, "tokens/s");
    kv_cache_free(&kv);
    free(tokens);
    free(hidden);
    return st;
}

static enum status bench_shape(const struct bench *b, const struct shape *shape,
                               enum dtype dtype, struct err *e)
{
    struct subject s = {0};
    enum status st = OK;

    if (!b->on && is_chosen(b->what, "matmul"))
        st = bench_products(b, shape, dtype, e);
    if (st || (!is_chosen(b->what, "decode") && !is_chosen(b->what, "prefill")))
        return st;
    st = subject_init(&s, b, shape, dtype, e);
    if (!st && is_chosen(b->what, "decode"))
        st = bench_decode(b, &s, e);
    if (!st && is_chosen(b->what, "prefill"))
        st = bench_prefill(b, &s, e);
    subject_clear(&s);
    return st;
}

static enum status check_length(const struct bench *b, const struct model_config *c,
                                struct err *e)
{
    const int64_t decode = is_chosen(b->what, "decode") ? b->n_prompt + b->n_new : 0;
    const int64_t prefill = is_chosen(b->what, "prefill") ? PREFILL_ROWS : 0;

    if (decode > c->max_len)
        return err_set(e, ERR_INVALID,
                       "the model has %" PRIu32
                       " positions, --prompt-tokens and --new-tokens want %" PRId64,
                       c->max_len, decode);
    if (prefill > c->max_len)
        return err_set(e, ERR_INVALID,
                       "the model has %" PRIu32 " positions, prefill wants %" PRId64
                       " (--what decode leaves it out)",
                       c->max_len, prefill);
    return OK;
}

/* Decoding and prefill of the model in a directory, and the most memory that took. */
static enum status bench_dir(const struct bench *b, struct err *e)
{
    struct subject s;
    enum status st = subject_open(&s, b, b->dir, e);

    if (!st)
        st = check_length(b, model_config(s.m), e);
    if (!st && is_chosen(b->what, "decode"))
        st = bench_decode(b, &s, e);
    if (!st && is_chosen(b->what, "prefill"))
        st = bench_prefill(b, &s, e);
    if (!st)
        print_plain("peak_memory", (double)memory_peak() * 1e-6, "MB");
    subject_clear(&s);
    return st;
}

static enum status run(struct bench *b, struct err *e)
{
    enum numerics class;
    enum status st = numerics_parse(&class, b->numerics, e);

    if (!st)
        st = device_choose(&b->on, &b->k, b->device, class, b->kernels, e);
    if (st)
        return st;
    const size_t n = usage_threads(b->threads);
    b->threads = (int64_t)n;
    /* Its threads start where this one may run, which is everywhere before it is pinned. */
    bench_blas_open(&b->libraries, n);
    usage_pool(&b->pool, b->threads);
    if (b->dir) {
        st = bench_dir(b, e);
        goto out;
    }
    st = bench_machine_measure(&b->machine, kernels_host(b->k), b->pool, e);
    if (!st)
        print_machine(b);
    for (size_t i = 0; !st && i < N_OF(shapes); i++)
        for (int d = DTYPE_F32; !st && d <= DTYPE_BF16; d++)
            if (is_chosen(b->shape, shapes[i].name) &&
                is_chosen(b->dtype, dtype_text((enum dtype)d)))
                st = bench_shape(b, &shapes[i], (enum dtype)d, e);
out:
    pool_free(&b->pool);
    bench_blas_close(&b->libraries);
    device_close(&b->on);
    return st;
}

int bench_engine(int argc, char **argv)
{
    struct bench b = {0};
    struct err e;
    struct opt table[] = {
        {"what", OPT_CHOICE, &b.what, "all", "all|machine|matmul|decode|prefill",
         "which figures", false},
        {"shape", OPT_CHOICE, &b.shape, "all", "all|15m|110m|0.5b", "of which model", false},
        {"dtype", OPT_CHOICE, &b.dtype, "all", "all|f32|bf16", "how weights are kept", false},
        {"batch", OPT_INT, &b.batch, "0", "0..4096",
         "sequences decoded together; 0: 1, 4, 16, 32 and 64, on a GPU 1, 64, 256 and 512",
         false},
        {"group", OPT_INT, &b.group, "1", "1..4096",
         "sequences that decode from the same prompt, as those of a group do", false},
        {"prompt-tokens", OPT_INT, &b.n_prompt, "128", "1..1024", "tokens before decoding",
         false},
        {"new-tokens", OPT_INT, &b.n_new, "32", "1..1024", "tokens decoded in each sequence",
         false},
        {"threads", OPT_INT, &b.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"numerics", OPT_CHOICE, &b.numerics, "f32-1", USAGE_NUMERICS, "class of the numbers",
         false},
        {"kernels", OPT_CHOICE, &b.kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"device", OPT_STRING, &b.device, "auto", NULL,
         USAGE_DEVICE "; of a GPU decoding and prefill only", false},
    };
    struct usage u = {
        .line = "muster bench engine [DIR] [options]",
        .about = "Measures matrix products, decoding and prefill of llama-shaped models with "
                 "random weights,\nbeside the machine's own limits; of DIR, the model there "
                 "and the memory "
                 "that takes.\nOne JSON object a line.",
        .table = table,
        .n = N_OF(table),
        .operand = &b.dir,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && b.dir &&
        (!strcmp(b.what, "machine") || !strcmp(b.what, "matmul")))
        status = usage_complain(u.line, "--what %s is not of a model: leave out DIR", b.what);
    if (status == USAGE_RUN)
        status = run(&b, &e) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}
