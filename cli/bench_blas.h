/*
 * cli/bench_blas.h - the matrix products of other libraries, to measure ours beside
 *
 * OpenBLAS and oneDNN, found when the program runs: a bench needs no library to link, and one that
 * is not installed has no figures. Both get the weights as they lie in a checkpoint, (N, K); ours are
 * packed once. (What oneDNN makes of weights in its own layout: tests/reference/bench_onednn.cc.)
 *
 * Threads: one at a time.
 */
#ifndef CLI_BENCH_BLAS_H
#define CLI_BENCH_BLAS_H

#include <stddef.h>

struct bench_library {
    const char *name;
    void *handle; /* owned; NULL: not here */
    void (*cblas)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c,
                  int ldc);
    int (*dnnl)(char trans_a, char trans_b, ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, float alpha,
                const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, float beta,
                float *c, ptrdiff_t ldc);
};

#define BENCH_LIBRARIES 2u

struct bench_blas {
    struct bench_library library[BENCH_LIBRARIES];
};

/* Before the calling thread is pinned to a core: theirs start where it may run. Changes
 * OMP_NUM_THREADS in this process. */
void bench_blas_open(struct bench_blas *b, size_t threads);
void bench_blas_close(struct bench_blas *b);

/* y (M, N) = x (M, K) W (N, K)', dims = {M, N, K}, by a library that is here. */
void bench_blas_multiply(const struct bench_library *l, float *y, const float *x,
                         const float *W, const size_t dims[3]);

#endif
