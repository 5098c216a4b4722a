#include "engine/products.h"

#include <string.h>

#include "engine/cpu/table.h"

/* Sums are cut into pieces of STEPS that go on from what is in memory: a piece of a panel (16
 * KiB) and of a tile's rows then stay in the first-level cache. */
#define STEPS    256u
#define COLS     64u /* columns of one task of dx, in whole panels */
#define DX_ROWS  192u
#define DW_STEPS 256u
#define DW_ROWS  24u  /* rows copied together: whole tiles of any backend */
#define DW_TASK  192u /* rows of one task */
#define DW_COLS  128u
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

/* dx (M, K) = a (M, N) b (N, K), or dW (N, K) += a^T b with a (T, N), b (T, K), T being M here.
 */
struct matmul_job {
    const struct kernels *k;
    float *y;
    const float *a;
    const float *b;
    size_t M, N, K;
    size_t n_groups; /* tasks side by side */
    bool is_added;
};

/* Copies columns c0 .. c0 + cols of `steps` rows of w into panels of (steps, PACK_LANES). */
static void copy_panels(float *to, const float *w, size_t w_row, size_t c0, size_t cols,
                        size_t steps)
{
    for (size_t p = 0; p < cols; p += PACK_LANES) {
        size_t n = min(PACK_LANES, cols - p);
        for (size_t s = 0; s < steps; s++, to += PACK_LANES) {
            const float *from = w + s * w_row + c0 + p;
            if (n == PACK_LANES) {
                memcpy(to, from, PACK_LANES * sizeof(float));
            } else {
                memset(to, 0, PACK_LANES * sizeof(float));
                memcpy(to, from, n * sizeof(float));
            }
        }
    }
}

/* Here j->y is dx (M, K), j->a is dy (M, N), and the sum runs over n. */
static void dx_task(const struct matmul_job *j, size_t task)
{
    float panels[COLS * STEPS], sum[DX_ROWS * COLS];
    size_t m0 = task / j->n_groups * DX_ROWS, k0 = task % j->n_groups * COLS;
    float *dx = j->y + m0 * j->K + k0;
    struct gemm g = {.c = j->is_added ? sum : dx,
                     .b = panels,
                     .c_row = j->is_added ? COLS : j->K,
                     .a_row = j->N,
                     .a_step = 1,
                     .b_step = PACK_LANES,
                     .rows = min(DX_ROWS, j->M - m0),
                     .cols = min(COLS, j->K - k0)};

    for (size_t s = 0; s < j->N; s += STEPS) {
        g.steps = min(STEPS, j->N - s);
        g.a = j->a + m0 * j->N + s;
        g.b_panel = g.steps * PACK_LANES;
        g.resume = s > 0;
        copy_panels(panels, j->b + s * j->K, j->K, k0, g.cols, g.steps);
        j->k->gemm(&g);
    }
    for (size_t m = 0; j->is_added && m < g.rows; m++)
        j->k->add(dx + m * j->K, dx + m * j->K, sum + m * g.c_row, g.cols);
}

static void dx_tasks(void *arg, size_t lo, size_t hi)
{
    for (size_t task = lo; task < hi; task++)
        dx_task(arg, task);
}

void products_f32_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                     const float *W, size_t M, size_t N, size_t K, bool is_added)
{
    struct matmul_job job = {.k = k,
                             .y = dx,
                             .a = dy,
                             .b = W,
                             .M = M,
                             .N = N,
                             .K = K,
                             .n_groups = pieces(K, COLS),
                             .is_added = is_added};
    run(pool, pieces(M, DX_ROWS) * job.n_groups, M * N * K, dx_tasks, &job);
}

/* Copies n <= DW_ROWS columns of `steps` rows of dy to (steps, DW_ROWS). */
static void copy_columns(float *to, const float *dy, size_t row, size_t n, size_t steps)
{
    if (n == DW_ROWS) {
        for (size_t t = 0; t < steps; t++)
            memcpy(to + t * DW_ROWS, dy + t * row, DW_ROWS * sizeof(float));
        return;
    }
    for (size_t t = 0; t < steps; t++)
        for (size_t i = 0; i < n; i++)
            to[t * DW_ROWS + i] = dy[t * row + i];
}

/* Here j->y is dW (N, K), j->a is dy (T, N), j->b is x (T, K), and the sum runs over t. Columns
 * of dy are copied next to each other: in place they lie a whole row apart, in few cache sets.
 * */
static void dw_task(const struct matmul_job *j, size_t task)
{
    float panels[DW_COLS * DW_STEPS], columns[DW_ROWS * DW_STEPS];
    size_t n0 = task / j->n_groups * DW_TASK, n1 = min(j->N, n0 + DW_TASK);
    size_t k0 = task % j->n_groups * DW_COLS;
    struct gemm g = {.a = columns,
                     .b = panels,
                     .c_row = j->K,
                     .a_row = 1,
                     .a_step = DW_ROWS,
                     .b_step = PACK_LANES,
                     .cols = min(DW_COLS, j->K - k0),
                     .resume = true};

    for (size_t s = 0; s < j->M; s += DW_STEPS) {
        g.steps = min(DW_STEPS, j->M - s);
        g.b_panel = g.steps * PACK_LANES;
        copy_panels(panels, j->b + s * j->K, j->K, k0, g.cols, g.steps);
        for (size_t n = n0; n < n1; n += DW_ROWS) {
            g.rows = min(DW_ROWS, n1 - n);
            g.c = j->y + n * j->K + k0;
            copy_columns(columns, j->a + s * j->N + n, j->N, g.rows, g.steps);
            j->k->gemm(&g);
        }
    }
}

static void dw_tasks(void *arg, size_t lo, size_t hi)
{
    for (size_t task = lo; task < hi; task++)
        dw_task(arg, task);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void products_f32_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                     const float *x, size_t T, size_t N, size_t K)
{
    struct matmul_job job = {.k = k,
                             .y = dW,
                             .a = dy,
                             .b = x,
                             .M = T,
                             .N = N,
                             .K = K,
                             .n_groups = pieces(K, DW_COLS)};
    run(pool, pieces(N, DW_TASK) * job.n_groups, T * N * K, dw_tasks, &job);
}
