#include "engine/products.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

/* Sums are cut into pieces of STEPS that go on from what is in memory: a piece of a panel (16
 * KiB) and of a tile's rows then stay in the first-level cache. */
#define STEPS 256u
#define ROWS  96u /* rows of one task; with STEPS, 96 KiB of them */
#define COLS  64u /* columns of one task, in whole panels */
/* Below this many fma, handing work to another thread costs more than it saves. */
#define INLINE_OPS (1u << 18)

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pieces(size_t n, size_t of)
{
    return (n + of - 1) / of;
}

static void run(struct pool *pool, size_t n_tasks, size_t ops, pool_fn *fn, void *arg)
{
    pool_run(ops < INLINE_OPS ? NULL : pool, n_tasks, 1, fn, arg);
}

static size_t f32_bytes(size_t N, size_t K)
{
    size_t rows = pieces(N, PACK_LANES);

    if (N > SIZE_MAX - PACK_LANES || K == 0 ||
        rows > SIZE_MAX / (PACK_LANES * sizeof(float)) / K)
        return SIZE_MAX;
    return rows * PACK_LANES * K * sizeof(float);
}

struct pack_job {
    const struct kernels *k;
    struct packed *p;
    const uint8_t *w;
    enum dtype dtype;
};

/* Panels of PACK_LANES outputs, k innermost: (K, PACK_LANES) each, zero-padded. */
static void pack_panels(void *arg, size_t lo, size_t hi)
{
    const struct pack_job *job = arg;
    const size_t K = job->p->K, width = dtype_bytes(job->dtype);
    float *panels = job->p->data, wide[PACK_LANES * STEPS];

    if (job->dtype == DTYPE_F32) {
        size_t n0 = lo * PACK_LANES, n = min(hi * PACK_LANES, job->p->N) - n0;
        job->k->pack(panels + n0 * K, (const float *)(const void *)job->w + n0 * K, K, n, K);
        return;
    }
    for (size_t p = lo; p < hi; p++) {
        size_t n0 = p * PACK_LANES, n = min(PACK_LANES, job->p->N - n0);
        for (size_t s = 0; s < K; s += STEPS) {
            size_t len = min(STEPS, K - s);
            for (size_t j = 0; j < n; j++)
                dtype_widen(wide + j * STEPS, job->w + ((n0 + j) * K + s) * width, job->dtype,
                            len);
            job->k->pack(panels + n0 * K + s * PACK_LANES, wide, STEPS, n, len);
        }
    }
}

static void f32_set(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                    enum dtype dtype)
{
    struct pack_job job = {k, p, W, dtype};
    run(pool, pieces(p->N, PACK_LANES), p->N * p->K, pack_panels, &job);
}

/* y (M, N) = a (M, K) b, where b is W packed. */
struct matmul_job {
    const struct kernels *k;
    float *y;
    const float *a;
    const float *b;
    const float *bias;
    size_t M, N, K;
    size_t n_groups; /* tasks side by side */
};

/* Tasks are numbered along the columns first, so those of one thread share rows of x; runs of
 * them within one block of rows are one product. */
static void forward_tasks(void *arg, size_t lo, size_t hi)
{
    const struct matmul_job *j = arg;

    while (lo < hi) {
        size_t block = lo / j->n_groups, last = min(hi, (block + 1) * j->n_groups);
        size_t m0 = block * ROWS, rows = min(ROWS, j->M - m0);
        size_t n0 = (lo - block * j->n_groups) * COLS;
        size_t n1 = min(j->N, (last - block * j->n_groups) * COLS);
        struct gemm g = {.c = j->y + m0 * j->N + n0,
                         .c_row = j->N,
                         .a_row = j->K,
                         .a_step = 1,
                         .b_step = PACK_LANES,
                         .b_panel = j->K * PACK_LANES,
                         .rows = rows,
                         .cols = n1 - n0};

        for (size_t s = 0; s < j->K; s += STEPS) {
            g.a = j->a + m0 * j->K + s;
            g.b = j->b + n0 * j->K + s * PACK_LANES;
            g.steps = min(STEPS, j->K - s);
            g.resume = s > 0;
            j->k->gemm(&g);
        }
        for (size_t m = 0; j->bias && m < rows; m++)
            j->k->add(g.c + m * j->N, g.c + m * j->N, j->bias + n0, n1 - n0);
        lo = last;
    }
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
static void f32_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                        const struct packed *W, const float *bias, size_t M)
{
    struct matmul_job job = {.k = k,
                             .y = y,
                             .a = x,
                             .b = W->data,
                             .bias = bias,
                             .M = M,
                             .N = W->N,
                             .K = W->K,
                             .n_groups = pieces(W->N, COLS)};
    run(pool, pieces(M, ROWS) * job.n_groups, M * W->N * W->K, forward_tasks, &job);
}

const struct products products_f32 = {
    .bytes = f32_bytes,
    .set = f32_set,
    .forward = f32_forward,
    .dx = products_f32_dx,
    .dw = products_f32_dw,
};
