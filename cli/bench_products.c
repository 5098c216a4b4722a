/*
 * cli/bench_products.c - muster bench products: what a numerics class costs
 *
 * The product y = x W' of one size in every class that this machine can compute, one after the
 * other and around again, so that what else the machine does meets all of them. The best time of
 * each counts.
 */
#include "cli/bench_products.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "engine/matmul.h"

static const size_t rows[] = {1, 8, 32, 128, 512};
#define N_ROWS   (sizeof(rows) / sizeof(rows[0]))
#define ROWS_MAX 512u
#define ROUNDS   40u

struct products_bench {
    int64_t n, k, threads;
    char *kernels;
    bool is_json;
    struct pool *pool;
    const struct kernels *kernels_of[NUMERICS_COUNT]; /* NULL: not on this machine */
    struct packed packed[NUMERICS_COUNT];
    float *x, *y, *W; /* owned */
};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum status prepare(struct products_bench *b, struct err *e)
{
    size_t N = (size_t)b->n, K = (size_t)b->k;
    struct rng r = rng_of(1, 1);
    const uint64_t numbers = (1 + NUMERICS_COUNT) * N * K + ROWS_MAX * (N + K);
    enum status st = memory_check(NULL, numbers * sizeof(float), 0, "the products", e);

    if (!st)
        st = alloc_array(&b->x, ROWS_MAX * K, sizeof(float), "rows", e);

    if (!st)
        st = alloc_array(&b->y, ROWS_MAX * N, sizeof(float), "results", e);
    if (!st)
        st = alloc_array(&b->W, N * K, sizeof(float), "weights", e);
    for (size_t i = 0; !st && i < ROWS_MAX * K; i++)
        b->x[i] = rng_f32(&r) - 0.5f;
    for (size_t i = 0; !st && i < N * K; i++)
        b->W[i] = rng_f32(&r) - 0.5f;
    for (size_t c = 0; !st && c < NUMERICS_COUNT; c++) {
        st = kernels_choose(&b->kernels_of[c], (enum numerics)c, b->kernels, e);
        if (st == ERR_UNSUPPORTED || (st == ERR_INVALID && c != NUMERICS_BF16_1)) {
            st = OK; /* its column stays empty */
            continue;
        }
        if (!st)
            st = packed_init(&b->packed[c], b->kernels_of[c], N, K, e);
        if (!st)
            packed_set(b->kernels_of[c], b->pool, &b->packed[c], b->W, DTYPE_F32);
    }
    return st;
}

/* Calls of about 4 ms. Returns floating-point operations a second. */
static double rate(struct products_bench *b, size_t class, size_t m)
{
    double flops = 2.0 * (double)m * (double)b->n * (double)b->k, start = seconds(), took;
    size_t n = 0;

    do {
        matmul_forward(b->kernels_of[class], b->pool, b->y, b->x, &b->packed[class], NULL, m);
        n++;
        took = seconds() - start;
    } while (took < 0.004);
    return flops * (double)n / took;
}

static void measure(struct products_bench *b, size_t m)
{
    double best[NUMERICS_COUNT] = {0};

    for (size_t round = 0; round < ROUNDS; round++)
        for (size_t c = 0; c < NUMERICS_COUNT; c++) {
            double got = b->kernels_of[c] ? rate(b, c, m) : 0.0;
            best[c] = got > best[c] ? got : best[c];
        }
    if (!b->is_json)
        printf("%5zu", m);
    for (size_t c = 0; c < NUMERICS_COUNT; c++) {
        if (b->is_json && b->kernels_of[c])
            printf(
                "{\"numerics\": \"%s\", \"kernels\": \"%s\", \"m\": %zu, \"gflops\": %.1f}\n",
                numerics_name((enum numerics)c), kernels_name(b->kernels_of[c]), m,
                best[c] * 1e-9);
        else if (!b->is_json && b->kernels_of[c])
            printf("  %8.1f %-7s", best[c] * 1e-9, kernels_name(b->kernels_of[c]));
        else if (!b->is_json)
            printf("  %16s", "-");
    }
    if (!b->is_json)
        putchar('\n');
    fflush(stdout);
}

int bench_products(int argc, char **argv)
{
    struct products_bench b = {0};
    struct err e;
    struct opt table[] = {
        {"n", OPT_INT, &b.n, "1024", "1..65536", "outputs", false},
        {"k", OPT_INT, &b.k, "1024", "1..65536", "inputs", false},
        {"threads", OPT_INT, &b.threads, "1", "1..1024", "threads", false},
        {"kernels", OPT_CHOICE, &b.kernels, "auto", USAGE_KERNELS, "which code computes",
         false},
        {"json", OPT_FLAG, &b.is_json, "false", NULL, "JSON objects, one a line", false},
    };
    struct usage u = {
        .line = "muster bench products [options]",
        .about =
            "Floating-point operations a second (in 10^9) of a matrix product with 1 to 512 "
            "rows, in each\nnumerics class: the best of forty rounds that take turns.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    pool_new(&b.pool, (size_t)b.threads);
    status = prepare(&b, &e) ? usage_fail(e.text) : 0;
    if (!status && !b.is_json)
        printf("rows  %16s  %16s  %16s\n", "f32-1", "bf16-1", "open-openblas");
    for (size_t i = 0; !status && i < N_ROWS; i++)
        measure(&b, rows[i]);
    pool_free(&b.pool);
out:
    for (size_t c = 0; c < NUMERICS_COUNT; c++)
        packed_clear(&b.packed[c]);
    free(b.x);
    free(b.y);
    free(b.W);
    opt_clear(table, u.n);
    return status;
}
