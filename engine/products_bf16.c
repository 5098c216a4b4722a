#include "engine/products.h"

#include <string.h>

#include "engine/cpu/table.h"

/* As in matmul.c; the pieces that a sum is cut into are whole blocks. A task rounds its part of
 * both operands anew, which many columns and rows of a task make cheap. */
#define STEPS   256u
#define ROWS    96u
#define COLS    64u
#define DX_ROWS 96u
#define DX_COLS 64u
#define DW_ROWS 32u  /* rows rounded together: whole tiles of any backend */
#define DW_TASK 192u /* rows of one task */
#define DW_COLS 128u
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

/* Numbers from one panel of `steps` steps to the next. */
static size_t panel_of(size_t steps)
{
    return BF16_PADDED(steps) * PACK_LANES;
}

static size_t bf16_bytes(size_t N, size_t K)
{
    size_t panels = pieces(N, PACK_LANES);

    if (N > SIZE_MAX - PACK_LANES || K == 0 || K > SIZE_MAX / 4 / PACK_LANES ||
        panels > SIZE_MAX / sizeof(uint16_t) / panel_of(K))
        return SIZE_MAX;
    return panels * panel_of(K) * sizeof(uint16_t);
}

struct pack_job {
    const struct kernels *k;
    struct packed *p;
    const uint8_t *w;
    enum dtype dtype;
};

/* Rows of W are columns of the right operand: they are turned as they are, and then rounded. */
static void pack_panels(void *arg, size_t lo, size_t hi)
{
    const struct pack_job *job = arg;
    const size_t K = job->p->K, width = dtype_bytes(job->dtype);
    float wide[PACK_LANES * STEPS], turned[STEPS * PACK_LANES];
    uint16_t *panels = job->p->data;

    for (size_t p = lo; p < hi; p++) {
        size_t n0 = p * PACK_LANES, n = min(PACK_LANES, job->p->N - n0);
        for (size_t s = 0; s < K; s += STEPS) {
            size_t len = min(STEPS, K - s);
            for (size_t j = 0; j < n; j++)
                dtype_widen(wide + j * STEPS, job->w + ((n0 + j) * K + s) * width, job->dtype,
                            len);
            job->k->pack(turned, wide, STEPS, n, len);
            job->k->bf16->right(panels + p * panel_of(K) + s * PACK_LANES, turned, PACK_LANES,
                                len, PACK_LANES);
        }
    }
}

static void bf16_set(const struct kernels *k, struct pool *pool, struct packed *p,
                     const void *W, enum dtype dtype)
{
    struct pack_job job = {k, p, W, dtype};
    run(pool, pieces(p->N, PACK_LANES), p->N * p->K, pack_panels, &job);
}

/* y (M, N) = a (M, K) b, where b is W packed (forward) or W itself (dx), or dW += dy^T x. */
struct product_job {
    const struct kernels *k;
    float *y;
    const float *a;
    const void *b;
    const float *bias;
    size_t M, N, K;
    const size_t *lengths; /* of dw's sequences */
    size_t n_seqs;
    size_t n_groups; /* tasks side by side */
    bool is_added;
};

static void forward_tasks(void *arg, size_t lo, size_t hi)
{
    const struct product_job *j = arg;
    const uint16_t *panels = j->b;
    _Alignas(64) uint8_t left[BF16_LEFT_BYTES(ROWS, STEPS)];

    while (lo < hi) {
        size_t block = lo / j->n_groups, last = min(hi, (block + 1) * j->n_groups);
        size_t m0 = block * ROWS, n0 = (lo - block * j->n_groups) * COLS;
        size_t n1 = min(j->N, (last - block * j->n_groups) * COLS);
        struct bf16_gemm g = {.c = j->y + m0 * j->N + n0,
                              .c_row = j->N,
                              .b_panel = panel_of(j->K),
                              .rows = min(ROWS, j->M - m0),
                              .cols = n1 - n0};

        for (size_t s = 0; s < j->K; s += STEPS) {
            size_t len = min(STEPS, j->K - s);
            g.steps = BF16_PADDED(len);
            g.b = panels + n0 / PACK_LANES * g.b_panel + s * PACK_LANES;
            g.resume = s > 0;
            j->k->bf16->left(&g, left, j->a + m0 * j->K + s, j->K, 1, len);
            j->k->bf16->gemm(&g);
        }
        for (size_t m = 0; j->bias && m < g.rows; m++)
            j->k->add(g.c + m * j->N, g.c + m * j->N, j->bias + n0, n1 - n0);
        lo = last;
    }
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
static void bf16_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                         const struct packed *W, const float *bias, size_t M)
{
    struct product_job job = {.k = k,
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

/* Here j->y is dx (M, K), j->a is dy (M, N), and the sum runs over n. */
static void dx_task(const struct product_job *j, size_t task)
{
    _Alignas(64) uint8_t left[BF16_LEFT_BYTES(DX_ROWS, STEPS)];
    _Alignas(64) uint16_t right[STEPS * DX_COLS];
    float sum[DX_ROWS * DX_COLS];
    size_t m0 = task / j->n_groups * DX_ROWS, k0 = task % j->n_groups * DX_COLS;
    float *dx = j->y + m0 * j->K + k0;
    const float *W = j->b;
    struct bf16_gemm g = {.c = j->is_added ? sum : dx,
                          .c_row = j->is_added ? DX_COLS : j->K,
                          .b = right,
                          .rows = min(DX_ROWS, j->M - m0),
                          .cols = min(DX_COLS, j->K - k0)};

    for (size_t s = 0; s < j->N; s += STEPS) {
        size_t len = min(STEPS, j->N - s);
        g.steps = BF16_PADDED(len);
        g.b_panel = panel_of(len);
        g.resume = s > 0;
        j->k->bf16->left(&g, left, j->a + m0 * j->N + s, j->N, 1, len);
        j->k->bf16->right(right, W + s * j->K + k0, j->K, len, g.cols);
        j->k->bf16->gemm(&g);
    }
    for (size_t m = 0; j->is_added && m < g.rows; m++)
        j->k->add(dx + m * j->K, dx + m * j->K, sum + m * g.c_row, g.cols);
}

static void dx_tasks(void *arg, size_t lo, size_t hi)
{
    for (size_t task = lo; task < hi; task++)
        dx_task(arg, task);
}

// NOLINTNEXTLINE(readability-non-const-parameter,readability-function-size)
static void bf16_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                    const float *W, size_t M, size_t N, size_t K, bool is_added)
{
    struct product_job job = {.k = k,
                              .y = dx,
                              .a = dy,
                              .b = W,
                              .M = M,
                              .N = N,
                              .K = K,
                              .n_groups = pieces(K, DX_COLS),
                              .is_added = is_added};
    run(pool, pieces(M, DX_ROWS) * job.n_groups, M * N * K, dx_tasks, &job);
}

/* Adds to rows n0 .. n1 and columns k0 .. of dW the tokens t .. t + len, in whole blocks. */
static void dw_piece(const struct product_job *j, const size_t n[2], size_t k0, size_t t,
                     size_t len)
{
    _Alignas(64) uint8_t left[BF16_LEFT_BYTES(DW_ROWS, STEPS)];
    _Alignas(64) uint16_t right[STEPS * DW_COLS];
    const float *x = j->b;
    struct bf16_gemm g = {.c_row = j->K,
                          .b = right,
                          .b_panel = panel_of(len),
                          .cols = min(DW_COLS, j->K - k0),
                          .steps = BF16_PADDED(len),
                          .resume = true};

    j->k->bf16->right(right, x + t * j->K + k0, j->K, len, g.cols);
    for (size_t row = n[0]; row < n[1]; row += DW_ROWS) {
        g.rows = min(DW_ROWS, n[1] - row);
        g.c = j->y + row * j->K + k0;
        j->k->bf16->left(&g, left, j->a + t * j->N + row, 1, j->N, len);
        j->k->bf16->gemm(&g);
    }
}

/* Here j->y is dW (N, K), j->a is dy (T, N), j->b is x (T, K), and the sum runs over t: each
 * sequence in blocks from its own start. */
static void dw_task(const struct product_job *j, size_t task)
{
    size_t n0 = task / j->n_groups * DW_TASK, k0 = task % j->n_groups * DW_COLS;
    const size_t n[2] = {n0, min(n0 + DW_TASK, j->N)};
    size_t t = 0;

    for (size_t i = 0; i < j->n_seqs; i++) {
        for (size_t s = 0; s < j->lengths[i]; s += STEPS)
            dw_piece(j, n, k0, t + s, min(STEPS, j->lengths[i] - s));
        t += j->lengths[i];
    }
}

static void dw_tasks(void *arg, size_t lo, size_t hi)
{
    for (size_t task = lo; task < hi; task++)
        dw_task(arg, task);
}

// NOLINTNEXTLINE(readability-non-const-parameter,readability-function-size)
static void bf16_dw_seqs(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                         const float *x, const size_t *lengths, size_t n_seqs,
                         const size_t shape[2])
{
    struct product_job job = {.k = k,
                              .y = dW,
                              .a = dy,
                              .b = x,
                              .N = shape[0],
                              .K = shape[1],
                              .lengths = lengths,
                              .n_seqs = n_seqs,
                              .n_groups = pieces(shape[1], DW_COLS)};
    size_t T = 0;

    for (size_t i = 0; i < n_seqs; i++)
        T += lengths[i];
    run(pool, pieces(job.N, DW_TASK) * job.n_groups, T * job.N * job.K, dw_tasks, &job);
}

static void bf16_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                    const float *x, size_t T, size_t N, size_t K)
{
    bf16_dw_seqs(k, pool, dW, dy, x, &T, 1, (size_t[2]){N, K});
}

const struct products products_bf16 = {
    .bytes = bf16_bytes,
    .set = bf16_set,
    .forward = bf16_forward,
    .dx = bf16_dx,
    .dw = bf16_dw,
    .dw_seqs = bf16_dw_seqs,
    .is_cache_bf16 = true,
};
