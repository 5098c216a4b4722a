#include "engine/products.h"

#include <string.h>

#include "engine/cpu/table.h"

/* Sums are cut into pieces of so many STEPS that go on from what is in memory: a tile's columns of
 * what is summed over then stay in the first-level cache, and the rows of a block in the second. */
#define DX_STEPS 288u
#define DW_STEPS 384u
#define DX_ROWS  264u /* of one block, at most */
#define DX_COLS  192u /* that go on from memory together */
#define DW_TASK  240u /* rows of one block, at most */
#define WIDEST   32u  /* columns of any backend's tile, at most */
/* Rows that a copy looks ahead, for about as long as memory takes to answer. */
#define PANEL_AHEAD  32u
#define COLUMN_AHEAD 8u
/* For each thread, at least, if the matrix allows: what is left over at the end is waited for. */
#define PARTS_PER_THREAD 2u
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
    size_t rows;     /* of a block */
    size_t n_panels; /* side by side */
    bool is_added;
};

/* Cuts the result, of n_rows by n_cols, into panels of columns, numbered through blocks of rows, and
 * runs them: what one thread gets of a block shares what it copies of the rows. */
static void run(struct pool *pool, struct matmul_job *j, size_t n_rows, size_t n_cols,
                pool_fn *fn)
{
    const size_t parts = PARTS_PER_THREAD * pool_threads(pool);
    size_t n;

    j->n_panels = pieces(n_cols, PACK_LANES);
    j->rows = even(n_rows, j->rows, GEMM_GROUP);
    while (pieces(n_rows, j->rows) * j->n_panels < 2 * parts && j->rows > 4 * GEMM_GROUP)
        j->rows = even(n_rows, j->rows / 2, GEMM_GROUP);
    n = pieces(n_rows, j->rows) * j->n_panels;
    pool_run(j->M * j->N * j->K < INLINE_OPS ? NULL : pool, n, min(n / parts, j->n_panels), fn,
             j);
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

/* Here j->y is dx (M, K), j->a is dy (M, N), and the sum runs over n. Rows m0 .. m0 + rows, columns
 * k0 .. k1. */
static void dx_part(const struct matmul_job *j, size_t m0, size_t rows, size_t k0, size_t k1)
{
    float panels[WIDEST * (DX_STEPS + 1)], sum[DX_ROWS * DX_COLS];
    float *dx = j->y + m0 * j->K + k0, *c = j->is_added ? sum : dx;
    const size_t len = even(j->N, DX_STEPS, PACK_LANES), wide = j->k->tile_cols;
    struct gemm g = {.b = panels,
                     .after = panels,
                     .c_row = j->is_added ? DX_COLS : j->K,
                     .a_row = j->N,
                     .a_step = 1,
                     .b_step = PACK_LANES,
                     .ahead_row = j->K,
                     .rows = rows};

    for (size_t s = 0; s < j->N; s += len) {
        g.steps = min(len, j->N - s);
        g.a = j->a + m0 * j->N + s;
        g.b_panel = apart(PACK_LANES, g.steps);
        g.resume = s > 0;
        for (size_t k = k0; k < k1; k += wide) {
            const bool is_last = k + wide >= k1;
            const float *w = j->b + s * j->K;

            g.c = c + k - k0;
            g.cols = min(wide, k1 - k);
            g.ahead = is_last ? w + g.steps * j->K + k0 : w + k + wide;
            g.n_ahead = is_last ? min(len, j->N - s - g.steps) : g.steps;
            copy_panels(panels, w, j->K, k, g.cols, g.steps);
            j->k->gemm(&g);
        }
    }
    for (size_t m = 0; j->is_added && m < g.rows; m++)
        j->k->add(dx + m * j->K, dx + m * j->K, sum + m * g.c_row, k1 - k0);
}

static void dx_tasks(void *arg, size_t lo, size_t hi)
{
    const struct matmul_job *j = arg;

    for (size_t n; lo < hi; lo += n) {
        size_t m0 = lo / j->n_panels * j->rows, at = lo % j->n_panels;

        n = min(min(hi - lo, j->n_panels - at), DX_COLS / PACK_LANES);
        dx_part(j, m0, min(j->rows, j->M - m0), at * PACK_LANES,
                min(j->K, (at + n) * PACK_LANES));
    }
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
                             .is_added = is_added};
    run(pool, &job, M, K, dx_tasks);
}

/* Copies columns of `steps` rows of dy into groups of (steps, GEMM_GROUP), `n` columns in all. */
static void copy_columns(float *to, const float *dy, size_t row, size_t n, size_t steps)
{
    const size_t stride = apart(GEMM_GROUP, steps), whole = n / GEMM_GROUP * GEMM_GROUP;

    for (size_t t = 0; t < steps; t++, to += GEMM_GROUP) {
        const float *from = dy + t * row;
        const float *next = dy + min(t + COLUMN_AHEAD, steps - 1) * row;
        float *group = to;

        for (size_t i = 0; i < whole; i += GEMM_GROUP, group += stride) {
            PREFETCH(next + i);
            memcpy(group, from + i, GEMM_GROUP * sizeof(float));
        }
        memcpy(group, from + whole, (n - whole) * sizeof(float));
    }
}

/* Here j->y is dW (N, K), j->a is dy (T, N), j->b is x (T, K), and the sum runs over t. Columns
 * of dy are copied next to each other: in place they lie a whole row apart, in few cache sets. Rows
 * n0 .. n0 + rows of dW, columns k0 .. k1. */
static void dw_part(const struct matmul_job *j, size_t n0, size_t rows, size_t k0, size_t k1)
{
    float panels[WIDEST * (DW_STEPS + 1)];
    float columns[DW_TASK * DW_STEPS + DW_TASK / GEMM_GROUP * PACK_LANES];
    const size_t wide = j->k->tile_cols;
    struct gemm g = {.a = columns,
                     .b = panels,
                     .after = panels,
                     .c_row = j->K,
                     .a_row = 1,
                     .a_step = GEMM_GROUP,
                     .b_step = PACK_LANES,
                     .ahead_row = j->K,
                     .rows = rows,
                     .resume = true};

    for (size_t s = 0; s < j->M; s += DW_STEPS) {
        g.steps = min(DW_STEPS, j->M - s);
        g.b_panel = apart(PACK_LANES, g.steps);
        copy_columns(columns, j->a + s * j->N + n0, j->N, rows, g.steps);
        g.a_group = apart(GEMM_GROUP, g.steps);
        for (size_t k = k0; k < k1; k += wide) {
            const float *x = j->b + s * j->K;

            g.c = j->y + n0 * j->K + k;
            g.cols = min(wide, k1 - k);
            g.ahead = x + k + wide;
            g.n_ahead = k + wide < k1 ? g.steps : 0;
            copy_panels(panels, x, j->K, k, g.cols, g.steps);
            j->k->gemm(&g);
        }
    }
}

static void dw_tasks(void *arg, size_t lo, size_t hi)
{
    const struct matmul_job *j = arg;

    for (size_t n; lo < hi; lo += n) {
        size_t n0 = lo / j->n_panels * j->rows, at = lo % j->n_panels;

        n = min(hi - lo, j->n_panels - at);
        dw_part(j, n0, min(j->rows, j->N - n0), at * PACK_LANES,
                min(j->K, (at + n) * PACK_LANES));
    }
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
void products_f32_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                     const float *x, size_t T, size_t N, size_t K)
{
    struct matmul_job job = {
        .k = k, .y = dW, .a = dy, .b = x, .M = T, .N = N, .K = K, .rows = DW_TASK};
    run(pool, &job, N, K, dw_tasks);
}
