/*
 * cli/bench_device.c - muster bench device: the matrix products of a GPU beside its limits
 *
 * The limits are measured in the same run: fused multiply-adds on registers, and a copy within the
 * device's memory, whose bytes count as read and as written. Weights are taken from copies that do
 * not fit a cache together. The best of three times counts. With --decode: the products of a step of
 * decoding by every kernel among which a class chooses.
 */
#include "cli/bench_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cli/bench_line.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "engine/device_speed.h"
#include "engine/matmul.h"

#define ROOM_BYTES  ((size_t)512 << 20) /* weights that are read in turn */
#define FILL_FLOATS ((size_t)1 << 22)
#define TRIES       3

enum what { FORWARD, FORWARD_BF16, DX, DW, WHATS };
static const char *const what_names[WHATS] = {"forward", "forward_bf16", "dx", "dw"};

struct shape {
    size_t M, N, K;
    bool is_square; /* all four products, else both forward ones */
};
static const struct shape shapes[] = {
    {64, 64, 64, true},       {2048, 2048, 2048, true},  {4096, 4096, 4096, true},
    {8192, 8192, 8192, true}, {1, 4864, 896, false},     {64, 4864, 896, false},
    {1, 18944, 3584, false},  {8, 18944, 3584, false},   {16, 18944, 3584, false},
    {64, 18944, 3584, false}, {256, 18944, 3584, false}, {1, 3584, 18944, false},
    {64, 3584, 18944, false}, {1, 3584, 3584, false},    {64, 3584, 3584, false},
    {1, 151936, 896, false},  {64, 151936, 896, false},
};

/* The products of a layer's step of decoding, and the last one. */
struct decode_shape {
    const char *of;
    size_t N, K;
    bool is_f32, is_gated;
};
static const struct decode_shape decode_shapes[] = {
    {"0.5b_qkv", 1152, 896, false, false},    {"0.5b_o", 896, 896, true, false},
    {"0.5b_gate_up", 9728, 896, false, true}, {"0.5b_down", 896, 4864, true, false},
    {"0.5b_head", 151936, 896, true, false},  {"1.5b_qkv", 2048, 1536, false, false},
    {"1.5b_o", 1536, 1536, true, false},      {"1.5b_gate_up", 17920, 1536, false, true},
    {"1.5b_down", 1536, 8960, true, false},   {"7b_qkv", 4608, 3584, false, false},
    {"7b_o", 3584, 3584, true, false},        {"7b_gate_up", 37888, 3584, false, true},
    {"7b_down", 3584, 18944, true, false},    {"7b_head", 152064, 3584, true, false},
};
static const size_t decode_rows[] = {1, 16, 32, 64, 256, 512};

#define DECODE_FEW 64u /* rows, of which the class has a kernel of its own */
#define N_OF(a)    (sizeof(a) / sizeof((a)[0]))

struct device_bench {
    char *device, *numerics;
    int64_t max;
    bool decode, each;
    struct device *on;
    const struct kernels *kernels;
    float *x, *y; /* on the device */
    char *weights;
    size_t activation_floats, weight_bytes;
    double flops, bytes; /* limits, a second */
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print(const char *name, double value, const char *unit, const char *peer,
                  double limit)
{
    const struct bench_line line = {
        .name = name, .value = value, .unit = unit, .peer = peer, .peer_value = limit};

    bench_line_print(&line);
}

/* Numbers of moderate size everywhere: those of one piece, over and over. Halves of them are bf16
 * of moderate size as well. */
static enum status fill(struct device_bench *b, void *to, size_t bytes, struct err *e)
{
    const size_t piece = FILL_FLOATS * sizeof(float);
    struct rng r = rng_of(1, 1);
    float *x = NULL;
    enum status st = alloc_array(&x, FILL_FLOATS, sizeof(float), "numbers", e);

    for (size_t i = 0; !st && i < FILL_FLOATS; i++) {
        uint32_t u = rng_u32(&r);
        x[i] = (float)(int32_t)(u >> 8) * 0x1p-24f - 0.5f;
    }
    for (size_t at = 0; !st && at < bytes; at += piece) {
        size_t n = bytes - at < piece ? bytes - at : piece;
        if (at == 0)
            device_put(b->on, to, x, n);
        else
            device_copy(b->on, (char *)to + at, to, n);
    }
    free(x);
    return st ? st : device_wait(b->on, e);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool is_left_out(const struct device_bench *b, const struct shape *s)
{
    return larger(s->M, larger(s->N, s->K)) > (size_t)b->max;
}

/* Of the larger arrays, what the products of decoding need. */
static void make_room(struct device_bench *b)
{
    for (size_t i = 0; i < N_OF(decode_shapes); i++) {
        const struct decode_shape *s = &decode_shapes[i];
        const size_t M = decode_rows[N_OF(decode_rows) - 1];

        if (larger(s->N, s->K) > (size_t)b->max)
            continue;
        b->weight_bytes = larger(b->weight_bytes, s->N * s->K * 2);
        b->activation_floats = larger(b->activation_floats, M * larger(s->N, s->K));
    }
}

static enum status prepare(struct device_bench *b, struct err *e)
{
    const size_t min_bytes = b->max < 4096 ? 1u << 20 : ROOM_BYTES;
    enum status st;

    b->weight_bytes = min_bytes;
    b->activation_floats = min_bytes / 8;
    for (size_t i = 0; i < N_OF(shapes); i++) {
        const struct shape *s = &shapes[i];
        if (is_left_out(b, s))
            continue;
        b->weight_bytes = larger(b->weight_bytes, s->N * s->K * sizeof(float));
        b->activation_floats = larger(b->activation_floats, s->M * larger(s->N, s->K));
    }
    if (b->decode)
        make_room(b);
    st = device_alloc(b->on, (void **)&b->x, b->activation_floats * sizeof(float), "rows", e);
    if (!st)
        st = device_alloc(b->on, (void **)&b->y, b->activation_floats * sizeof(float),
                          "results", e);
    if (!st)
        st = device_alloc(b->on, (void **)&b->weights, b->weight_bytes, "weights", e);
    if (!st)
        st = fill(b, b->x, b->activation_floats * sizeof(float), e);
    if (!st)
        st = fill(b, b->weights, b->weight_bytes, e);
    return st;
}

/* One of the products, with the round's copy of the weights. */
static void compute(const struct device_bench *b, const struct shape *s, enum what what,
                    size_t round)
{
    const enum dtype dtype = what == FORWARD_BF16 ? DTYPE_BF16 : DTYPE_F32;
    const size_t bytes =
        what == FORWARD || what == FORWARD_BF16
            ? packed_bytes_as(b->kernels, s->N, s->K, packed_keeps(b->kernels, dtype))
            : s->N * s->K * sizeof(float);
    const size_t apart = (bytes + 255) / 256 * 256, copies = b->weight_bytes / apart;
    char *at = b->weights + (copies ? round % copies : 0) * apart;
    struct packed W;

    switch (what) {
    case DX:
        matmul_dx(b->kernels, NULL, b->y, b->x, (const float *)(const void *)at, s->M, s->N,
                  s->K);
        break;
    case DW:
        matmul_dw(b->kernels, NULL, b->y, b->x, (const float *)(const void *)at, s->M, s->N,
                  s->K);
        break;
    default:
        packed_place(&W, s->N, s->K, packed_keeps(b->kernels, dtype), at);
        matmul_forward(b->kernels, NULL, b->y, b->x, &W, NULL, s->M);
        break;
    }
}

/* Seconds of one product: as many as take about 30 ms, the best of some tries. */
static enum status time_product(const struct device_bench *b, const struct shape *s,
                                enum what what, double *best, struct err *e)
{
    size_t n = 1, round = 0;
    double took = 0.0;
    enum status st = OK;

    for (int i = -1; !st && i < TRIES; i++) { /* the first one warms up and counts */
        double start = seconds();
        for (size_t j = 0; j < n; j++)
            compute(b, s, what, round++);
        st = device_wait(b->on, e);
        took = (seconds() - start) / (double)n;
        if (i < 0 || took < *best)
            *best = took;
        if (i < 1)
            n = (size_t)(0.03 / took) + 1;
    }
    return st;
}

static enum status measure(const struct device_bench *b, const struct shape *s, enum what what,
                           struct err *e)
{
    const double ops = 2.0 * (double)s->M * (double)s->N * (double)s->K;
    const double width = what == FORWARD_BF16 ? 2.0 : 4.0;
    const double bytes = width * (double)s->N * (double)s->K +
                         4.0 * (double)s->M * (double)(s->N + s->K) +
                         (what == DW ? 4.0 * (double)s->N * (double)s->K : 0.0);
    double took = 0.0;
    char name[96];
    enum status st = time_product(b, s, what, &took, e);

    if (st)
        return st;
    snprintf(name, sizeof(name), "%s_%s_%zux%zux%zu",
             numerics_name(kernels_numerics(b->kernels)), what_names[what], s->M, s->N, s->K);
    if (ops / b->flops > bytes / b->bytes)
        print(name, ops / took * 1e-12, "TFLOP/s", "fma on registers", b->flops * 1e-12);
    else
        print(name, bytes / took * 1e-9, "GB/s", "copy", b->bytes * 1e-9);
    return OK;
}

/* GB/s. Where no clock goes, of a nanosecond. */
static double rate_of(double bytes, const struct device_way *way)
{
    return bytes / (way->seconds > 1e-9 ? way->seconds : 1e-9) * 1e-9;
}

/* Of products that operations bound rather than weights. */
static void print_rate(const struct decode_shape *s, size_t M, const struct device_way *way)
{
    const double ops = 2.0 * (double)M * (double)s->N * (double)s->K;
    char name[96];

    snprintf(name, sizeof(name), "%s_b%zu by %s", s->of, M, way->name);
    print(name, rate_of(ops, way) * 1e-3, "TFLOP/s", NULL, 0.0);
}

/* The best way of the class's own beside the best of the library's, or each beside the copy. The weights'
 * bytes count; of more rows than the class's own has a kernel for, the library's operations. */
static enum status measure_ways(const struct device_bench *b, const struct decode_shape *s,
                                size_t M, struct err *e)
{
    const struct device_product p = {.M = M,
                                     .N = s->N,
                                     .K = s->K,
                                     .is_f32 = s->is_f32,
                                     .is_gated = s->is_gated,
                                     .x = b->x,
                                     .w = b->weights,
                                     .y = b->y,
                                     .room = s->is_gated ? b->y : NULL};
    const double bytes = 2.0 * (double)s->N * (double)s->K;
    const struct device_way *best[2] = {NULL, NULL}; /* the library's, the class's own */
    struct device_way ways[DEVICE_WAYS];
    size_t n;
    char name[96];
    enum status st = device_speed_ways(ways, &n, b->kernels, &p, e);

    if (st)
        return st;
    for (size_t i = 0; i < n; i++) {
        const struct device_way **of = &best[strncmp(ways[i].name, "cuBLASLt", 8) != 0];

        if (!*of || ways[i].seconds < (*of)->seconds)
            *of = &ways[i];
        snprintf(name, sizeof(name), "%s_b%zu by %s", s->of, M, ways[i].name);
        if (b->each && M > DECODE_FEW)
            print_rate(s, M, &ways[i]);
        else if (b->each)
            print(name, rate_of(bytes, &ways[i]), "GB/s", "copy", b->bytes * 1e-9);
    }
    if (!b->each && M > DECODE_FEW && best[0])
        print_rate(s, M, best[0]);
    else if (!b->each && best[1]) {
        snprintf(name, sizeof(name), "%s_b%zu by %s", s->of, M, best[1]->name);
        print(name, rate_of(bytes, best[1]), "GB/s", best[0] ? best[0]->name : NULL,
              best[0] ? rate_of(bytes, best[0]) : 0.0);
    }
    return OK;
}

static enum status measure_decode(const struct device_bench *b, struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; i < N_OF(decode_shapes); i++)
        for (size_t j = 0; !st && j < N_OF(decode_rows); j++)
            if (larger(decode_shapes[i].N, decode_shapes[i].K) <= (size_t)b->max)
                st = measure_ways(b, &decode_shapes[i], decode_rows[j], e);
    return st;
}

/* Both limits. */
static enum status measure_limits(struct device_bench *b, struct err *e)
{
    const size_t n = b->weight_bytes / 2;
    enum status st = OK;

    for (int i = 0; !st && i < 1 + TRIES; i++) {
        const uint64_t want = i == 0 ? 1 : b->max < 4096 ? 1u << 24 : (uint64_t)1 << 39;
        double start = seconds(), took;
        uint64_t made = device_fma_peak(b->on, b->y, want);

        st = device_wait(b->on, e);
        took = seconds() - start;
        if (!st && 2.0 * (double)made / took > b->flops)
            b->flops = 2.0 * (double)made / took;
        if (st)
            break;
        start = seconds();
        for (int j = 0; j < 8; j++)
            device_copy(b->on, b->weights, b->weights + n, n);
        st = device_wait(b->on, e);
        took = (seconds() - start) / 8;
        if (!st && 2.0 * (double)n / took > b->bytes)
            b->bytes = 2.0 * (double)n / took;
    }
    if (!st) {
        print("fma_on_registers", b->flops * 1e-12, "TFLOP/s", NULL, 0.0);
        print("copy_within_device", b->bytes * 1e-9, "GB/s", NULL, 0.0);
    }
    return st;
}

static enum status run(struct device_bench *b, struct err *e)
{
    enum numerics numerics = b->decode ? NUMERICS_OPEN_CUDA : NUMERICS_F32_1;
    enum status st = device_open(&b->on, b->device, e);

    if (!st)
        st = strcmp(b->numerics, "auto") != 0 ? numerics_parse(&numerics, b->numerics, e) : OK;
    if (!st)
        st = device_kernels(&b->kernels, b->on, numerics, e);
    if (!st)
        st = prepare(b, e);
    if (!st)
        st = measure_limits(b, e);
    if (!st && b->decode)
        return measure_decode(b, e);
    for (size_t i = 0; !st && i < N_OF(shapes); i++)
        for (int what = 0; !st && what < (shapes[i].is_square ? WHATS : DX); what++)
            if (!is_left_out(b, &shapes[i]))
                st = measure(b, &shapes[i], (enum what)what, e);
    return st;
}

int bench_device(int argc, char **argv)
{
    struct device_bench b = {0};
    struct err e;
    struct opt table[] = {
        {"device", OPT_STRING, &b.device, "cuda", NULL, "cuda or cuda:N", false},
        {"numerics", OPT_STRING, &b.numerics, "auto", NULL,
         "which class; auto is f32-1, with --decode open-cuda", false},
        {"max", OPT_INT, &b.max, "262144", "1..262144", "leave larger shapes out", false},
        {"decode", OPT_FLAG, &b.decode, "false", NULL,
         "instead the products of decoding, weights' bytes beside the library's best", false},
        {"each", OPT_FLAG, &b.each, "false", NULL, "with --decode, every way beside the copy",
         false},
    };
    struct usage u = {
        .line = "muster bench device [options]",
        .about = "The matrix products of a GPU, each beside the limit that bounds it, which is "
                 "measured in the\nsame run. JSON objects, one a line.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        status = run(&b, &e) ? usage_fail(e.text) : 0;
        device_release(b.on, b.x);
        device_release(b.on, b.y);
        device_release(b.on, b.weights);
        device_close(&b.on);
    }
    opt_clear(table, u.n);
    return status;
}
