#include "cli/bench_blas.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

/* POSIX promises that a function's address fits a void *. */
static void find(const struct bench_library *l, const char *name, void **to)
{
    *to = l->handle ? dlsym(l->handle, name) : NULL;
}

/* Wakes the library's threads, which stay where this one may run now. */
static void start_threads(const struct bench_library *l)
{
    static float zero[256 * 256], y[256 * 256];

    if (l->handle)
        bench_blas_multiply(l, y, zero, zero, (size_t[3]){256, 256, 256});
}

static void drop_unless(struct bench_library *l, bool has_product)
{
    if (!l->handle || has_product)
        return;
    dlclose(l->handle);
    l->handle = NULL;
}

void bench_blas_open(struct bench_blas *b, size_t threads)
{
    struct bench_library *blas = &b->library[0], *dnnl = &b->library[1];
    void (*set_threads)(int) = NULL;
    char number[32];

    *blas = (struct bench_library){.name = "OpenBLAS"};
    *dnnl = (struct bench_library){.name = "oneDNN"};
    snprintf(number, sizeof(number), "%zu", threads);
    (void)setenv("OMP_NUM_THREADS", number, 1);
    blas->handle = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    find(blas, "cblas_sgemm", (void **)&blas->cblas);
    find(blas, "openblas_set_num_threads", (void **)&set_threads);
    drop_unless(blas, blas->cblas);
    if (blas->handle && set_threads)
        set_threads((int)threads);
    dnnl->handle = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!dnnl->handle)
        dnnl->handle = dlopen("libdnnl.so.3", RTLD_NOW | RTLD_LOCAL);
    find(dnnl, "dnnl_sgemm", (void **)&dnnl->dnnl);
    drop_unless(dnnl, dnnl->dnnl);
    start_threads(blas);
    start_threads(dnnl);
}

void bench_blas_close(struct bench_blas *b)
{
    for (size_t i = 0; i < BENCH_LIBRARIES; i++)
        if (b->library[i].handle)
            dlclose(b->library[i].handle);
}

void bench_blas_multiply(const struct bench_library *l, float *y, const float *x,
                         const float *W, const size_t dims[3])
{
    const ptrdiff_t M = (ptrdiff_t)dims[0], N = (ptrdiff_t)dims[1], K = (ptrdiff_t)dims[2];

    CHECK(l->handle);
    if (l->cblas)
        l->cblas(101, 111, 112, (int)M, (int)N, (int)K, 1.0f, x, (int)K, W, (int)K, 0.0f, y,
                 (int)N);
    else
        CHECK(l->dnnl('N', 'T', M, N, K, 1.0f, x, K, W, K, 0.0f, y, N) == 0);
}
