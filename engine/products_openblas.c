/*
 * The products of class open-openblas: cblas_sgemm on slices of the output, one a task.
 *
 * OpenBLAS is opened when the class is first chosen: a program that does not use it does not
 * load its thirty megabytes, and runs where it is not installed. Its own threads stay off, for
 * two pools would fight over the cores.
 */
#include "engine/products.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "engine/cpu/table.h"

#define LIBRARY    "libopenblas.so.0"
#define SLICE      64u
#define INLINE_OPS (1u << 18)

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 }; /* of cblas.h */

typedef void sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                      const float *a, int lda, const float *b, int ldb, float beta, float *c,
                      int ldc);
typedef void set_threads_fn(int n);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_fn *sgemm;
static char why[200];

/* ISO C knows no way from a data pointer to a function's but to copy its bytes. */
static void open_library(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void *gemm = library ? dlsym(library, "cblas_sgemm") : NULL;
    void *set = library ? dlsym(library, "openblas_set_num_threads") : NULL;
    set_threads_fn *set_threads;

    if (!gemm || !set) {
        const char *text = dlerror();
        strncpy(why, text ? text : "not OpenBLAS", sizeof(why) - 1);
        return;
    }
    memcpy(&set_threads, &set, sizeof(set_threads));
    set_threads(1);
    memcpy(&sgemm, &gemm, sizeof(sgemm));
}

enum status products_openblas_load(struct err *e)
{
    pthread_once(&once, open_library);
    if (!sgemm)
        return err_set(e, ERR_UNSUPPORTED, "class open-openblas: %s", why);
    return OK;
}

static size_t openblas_bytes(size_t N, size_t K)
{
    if (K == 0 || N > SIZE_MAX / sizeof(float) / K)
        return SIZE_MAX;
    return N * K * sizeof(float);
}

static void openblas_set(const struct kernels *k, struct pool *pool, struct packed *p,
                         const void *W, enum dtype dtype)
{
    (void)k;
    (void)pool;
    dtype_widen(p->data, W, dtype, p->N * p->K);
}

/* C (m, n) = A B, or += if is_added, cut along n (columns) or along m (rows of dW). */
struct slice_job {
    const struct kernels *k;
    int trans_a, trans_b;
    size_t m, n, depth;
    const float *a, *b;
    size_t lda, ldb;
    float *c;
    const float *bias;
    bool is_added, is_along_m;
};

static void slices(void *arg, size_t lo, size_t hi)
{
    const struct slice_job *j = arg;
    size_t all = j->is_along_m ? j->m : j->n, at = lo * SLICE;
    size_t end = hi * SLICE < all ? hi * SLICE : all;
    size_t m = j->is_along_m ? end - at : j->m, n = j->is_along_m ? j->n : end - at;
    const float *a = j->is_along_m ? j->a + at : j->a;
    const float *b = j->is_along_m ? j->b : j->b + at * (j->trans_b == TRANS ? j->ldb : 1);
    float *c = j->c + (j->is_along_m ? at * j->n : at);

    sgemm(ROW_MAJOR, j->trans_a, j->trans_b, (int)m, (int)n, (int)j->depth, 1.0f, a,
          (int)j->lda, b, (int)j->ldb, j->is_added ? 1.0f : 0.0f, c, (int)j->n);
    for (size_t r = 0; j->bias && r < m; r++)
        j->k->add(c + r * j->n, c + r * j->n, j->bias + at, n);
}

static void run(struct pool *pool, struct slice_job *j)
{
    size_t all = j->is_along_m ? j->m : j->n, ops = j->m * j->n * j->depth;

    pool_run(ops < INLINE_OPS ? NULL : pool, (all + SLICE - 1) / SLICE, 1, slices, j);
}

static void openblas_forward(const struct kernels *k, struct pool *pool, float *y,
                             const float *x, const struct packed *W, const float *bias,
                             size_t M)
{
    run(pool, &(struct slice_job){.k = k,
                                  .trans_a = NO_TRANS,
                                  .trans_b = TRANS,
                                  .m = M,
                                  .n = W->N,
                                  .depth = W->K,
                                  .a = x,
                                  .lda = W->K,
                                  .b = W->data,
                                  .ldb = W->K,
                                  .c = y,
                                  .bias = bias});
}

// NOLINTNEXTLINE(readability-function-size): as many as matmul_dx_add
static void openblas_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                        const float *W, size_t M, size_t N, size_t K, bool is_added)
{
    run(pool, &(struct slice_job){.k = k,
                                  .trans_a = NO_TRANS,
                                  .trans_b = NO_TRANS,
                                  .m = M,
                                  .n = K,
                                  .depth = N,
                                  .a = dy,
                                  .lda = N,
                                  .b = W,
                                  .ldb = K,
                                  .c = dx,
                                  .is_added = is_added});
}

static void openblas_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                        const float *x, size_t T, size_t N, size_t K)
{
    run(pool, &(struct slice_job){.k = k,
                                  .trans_a = TRANS,
                                  .trans_b = NO_TRANS,
                                  .m = N,
                                  .n = K,
                                  .depth = T,
                                  .a = dy,
                                  .lda = N,
                                  .b = x,
                                  .ldb = K,
                                  .c = dW,
                                  .is_added = true,
                                  .is_along_m = true});
}

const struct products products_openblas = {
    .bytes = openblas_bytes,
    .set = openblas_set,
    .forward = openblas_forward,
    .dx = openblas_dx,
    .dw = openblas_dw,
};
