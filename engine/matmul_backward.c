#include "engine/products.h"

#include <string.h>

#include "engine/cpu/table.h"

/* Sums are cut into pieces of so many STEPS that go on from what is in memory: a tile of rows then
 * stays in the first-level cache, and what a task copies in the second. */
#define DX_STEPS 288u
#define DW_STEPS 384u
#define DX_ROWS  384u /* of one task, at most */
#define DX_COLS  64u
#define DW_ROWS  12u  /* rows copied together: whole tiles of any backend */
#define DW_TASK  240u /* rows of one task, at most */
#define DW_COLS  64u  /* columns copied together */
#define DW_WIDE  384u /* columns of one task, at most */
/* Rows that a copy looks ahead, for about as long as memory takes to answer. */
#define PANEL_AHEAD  32u
#define COLUMN_AHEAD 8u
/* Tasks for each thread, at least, if the matrix allows: what is left over at the end is waited for. */
#define TASKS_PER_THREAD 2u
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

/* n cut into the fewest pieces of nearly one size, a multiple of `unit` and at most `most`. */
static size_t even(size_t n, size_t most, size_t unit)
{
    size_t size = pieces(n, pieces(n, most));

    return min(pieces(size, unit) * unit, most);
}

/* dx (M, K) = a (M, N) b (N, K), or dW (N, K) += a^T b with a (T, N), b (T, K), T being M here.
 */
struct matmul_job {
    const struct kernels *k;
    float *y;
    const float *a;
    const float *b;
    size_t M, N, K;
    size_t rows, cols; /* of a task */
    size_t n_groups;   /* tasks side by side */
    bool is_added;
};

/* What the busiest thread has to do when tasks are so wide: in columns of one block of rows. */
static size_t longest_share(const struct matmul_job *j, size_t n_rows, size_t n_cols,
                            size_t cols, size_t threads)
{
    return pieces(pieces(n_rows, j->rows) * pieces(n_cols, cols), threads) * cols;
}

/* Cuts the result, of n_rows by n_cols, into tasks and runs them. */
static void run(struct pool *pool, struct matmul_job *j, size_t n_rows, size_t n_cols,
                pool_fn *fn)
{
    const size_t threads = pool_threads(pool);
    const size_t wanted = threads > 1 ? TASKS_PER_THREAD * threads : 1;
    size_t least;

    j->rows = even(n_rows, j->rows, DW_ROWS);
    j->cols = even(n_cols, j->cols, PACK_LANES);
    while (pieces(n_rows, j->rows) * pieces(n_cols, j->cols) < wanted) {
        if (j->cols > (size_t)4 * PACK_LANES && 2 * j->cols > j->rows)
            j->cols = even(n_cols, j->cols / 2, PACK_LANES);
        else if (j->rows > (size_t)4 * DW_ROWS)
            j->rows = even(n_rows, j->rows / 2, DW_ROWS);
        else
            break;
    }
    least = j->cols / 2;
    for (size_t cols = j->cols - PACK_LANES; cols > least && cols < j->cols; cols -= PACK_LANES)
        if (longest_share(j, n_rows, n_cols, cols, threads) <
            longest_share(j, n_rows, n_cols, j->cols, threads))
            j->cols = cols;
    j->n_groups = pieces(n_cols, j->cols);
    pool_run(j->M * j->N * j->K < INLINE_OPS ? NULL : pool,
             pieces(n_rows, j->rows) * j->n_groups, 1, fn, j);
}

/* Panels, and groups of columns, are so many floats apart: one cache line more than they take, or
 * all would begin in the same sets of the cache. */
static size_t apart(size_t width, size_t steps)
{
    return width * steps + PACK_LANES;
}

/* Copies columns c0 .. c0 + cols of `steps` rows of w into panels of (steps, PACK_LANES). */
static void copy_panels(float *to, const float *w, size_t w_row, size_t c0, size_t cols,
                        size_t steps)
{
    for (size_t p = 0; p < cols; p += PACK_LANES, to += apart(PACK_LANES, steps)) {
        const float *from = w + c0 + p;
        size_t n = min(PACK_LANES, cols - p);

        if (n == PACK_LANES) {
            for (size_t s = 0; s < steps; s++) {
                PREFETCH(from + min(s + PANEL_AHEAD, steps - 1) * w_row);
                memcpy(to + s * PACK_LANES, from + s * w_row, PACK_LANES * sizeof(float));
            }
            continue;
        }
        memset(to, 0, steps * PACK_LANES * sizeof(float));
        for (size_t s = 0; s < steps; s++)
            memcpy(to + s * PACK_LANES, from + s * w_row, n * sizeof(float));
    }
}

/* Here j->y is dx (M, K), j->a is dy (M, N), and the sum runs over n. */
static void dx_task(const struct matmul_job *j, size_t task)
{
    float panels[DX_COLS * DX_STEPS + DX_COLS], sum[DX_ROWS * DX_COLS];
    size_t m0 = task / j->n_groups * j->rows, k0 = task % j->n_groups * j->cols;
    float *dx = j->y + m0 * j->K + k0;
    struct gemm g = {.c = j->is_added ? sum : dx,
                     .b = panels,
                     .c_row = j->is_added ? DX_COLS : j->K,
                     .a_row = j->N,
                     .a_step = 1,
                     .b_step = PACK_LANES,
                     .rows = min(j->rows, j->M - m0),
                     .cols = min(j->cols, j->K - k0)};

    for (size_t s = 0; s < j->N; s += DX_STEPS) {
        g.steps = min(DX_STEPS, j->N - s);
        g.a = j->a + m0 * j->N + s;
        g.b_panel = apart(PACK_LANES, g.steps);
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

// NOLINTNEXTLINE(readability-non-const-parameter,readability-function-size): as products.h has it
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
                             .rows = DX_ROWS,
                             .cols = DX_COLS,
                             .is_added = is_added};
    run(pool, &job, M, K, dx_tasks);
}

/* Copies columns of `steps` rows of dy into groups of (steps, DW_ROWS), `n` columns in all. */
static void copy_columns(float *to, const float *dy, size_t row, size_t n, size_t steps)
{
    const size_t stride = apart(DW_ROWS, steps), whole = n / DW_ROWS * DW_ROWS;

    for (size_t t = 0; t < steps; t++, to += DW_ROWS) {
        const float *from = dy + t * row;
        const float *next = dy + min(t + COLUMN_AHEAD, steps - 1) * row;
        float *group = to;

        for (size_t i = 0; i < whole; i += DW_ROWS, group += stride) {
            PREFETCH(next + i);
            memcpy(group, from + i, DW_ROWS * sizeof(float));
        }
        memcpy(group, from + whole, (n - whole) * sizeof(float));
    }
}

/* Here j->y is dW (N, K), j->a is dy (T, N), j->b is x (T, K), and the sum runs over t. Columns
 * of dy are copied next to each other: in place they lie a whole row apart, in few cache sets.
 * */
static void dw_task(const struct matmul_job *j, size_t task)
{
    float panels[DW_COLS * DW_STEPS + DW_COLS];
    float columns[DW_TASK * DW_STEPS + DW_TASK / DW_ROWS * PACK_LANES];
    size_t n0 = task / j->n_groups * j->rows, rows = min(j->rows, j->N - n0);
    size_t k0 = task % j->n_groups * j->cols, k1 = min(j->K, k0 + j->cols);
    struct gemm g = {.b = panels,
                     .c_row = j->K,
                     .a_row = 1,
                     .a_step = DW_ROWS,
                     .b_step = PACK_LANES,
                     .resume = true};

    for (size_t s = 0; s < j->M; s += DW_STEPS) {
        g.steps = min(DW_STEPS, j->M - s);
        g.b_panel = apart(PACK_LANES, g.steps);
        copy_columns(columns, j->a + s * j->N + n0, j->N, rows, g.steps);
        for (size_t c = k0; c < k1; c += DW_COLS) {
            g.cols = min(DW_COLS, k1 - c);
            copy_panels(panels, j->b + s * j->K, j->K, c, g.cols, g.steps);
            for (size_t n = 0; n < rows; n += DW_ROWS) {
                g.a = columns + n / DW_ROWS * apart(DW_ROWS, g.steps);
                g.rows = min(DW_ROWS, rows - n);
                g.c = j->y + (n0 + n) * j->K + c;
                j->k->gemm(&g);
            }
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
                             .rows = DW_TASK,
                             .cols = DW_WIDE};
    run(pool, &job, N, K, dw_tasks);
}
