#include "engine/products.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

/* Sums are cut into pieces of about STEPS that go on from what is in memory: a piece of a panel
 * (20 KiB) and of a tile's rows then stay in the first-level cache. With FEW rows the matrix
 * comes from memory at the speed of the sum, and is read in one stream. */
#define STEPS  320u
#define FEW    6u
#define TILE   12u    /* rows of the tallest tile of any backend, and of two of the others */
#define ROWS   192u   /* rows of one task; with STEPS, 240 KiB of them */
#define SUMS   32768u /* unfinished sums, in floats: 128 KiB */
#define PANELS 4u     /* of a task that adds: what is added to may be what is read */
#define COLS   (PANELS * PACK_LANES)
/* Below this many fma, handing work to another thread costs more than it saves. */
#define INLINE_OPS (1u << 17)

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t pieces(size_t n, size_t of)
{
    return (n + of - 1) / of;
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
    const bool is_narrow = job->p->dtype == DTYPE_BF16;
    float wide[PACK_LANES * STEPS], panel[PACK_LANES * STEPS];

    /* A file may have its numbers at any byte. */
    if (job->dtype == DTYPE_F32 && !is_narrow && (uintptr_t)job->w % sizeof(float) == 0) {
        size_t n0 = lo * PACK_LANES, n = min(hi * PACK_LANES, job->p->N) - n0;
        job->k->pack((float *)job->p->data + n0 * K,
                     (const float *)(const void *)job->w + n0 * K, K, n, K);
        return;
    }
    for (size_t p = lo; p < hi; p++) {
        size_t n0 = p * PACK_LANES, n = min(PACK_LANES, job->p->N - n0);
        for (size_t s = 0; s < K; s += STEPS) {
            size_t len = min(STEPS, K - s), at = n0 * K + s * PACK_LANES;
            float *to = is_narrow ? panel : (float *)job->p->data + at;
            for (size_t j = 0; j < n; j++)
                dtype_widen(wide + j * STEPS, job->w + ((n0 + j) * K + s) * width, job->dtype,
                            len);
            job->k->pack(to, wide, STEPS, n, len);
            if (is_narrow)
                job->k->narrow((uint32_t *)job->p->data + at / 2, panel, len);
        }
    }
}

static void f32_set(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                    enum dtype dtype)
{
    struct pack_job job = {k, p, W, dtype};
    pool_run(p->N * p->K < INLINE_OPS ? NULL : pool, pieces(p->N, PACK_LANES), 1, pack_panels,
             &job);
}

static void f32_row(float *to, const struct packed *p, size_t n)
{
    const size_t lane = n % PACK_LANES, half = PACK_LANES / 2;

    if (p->dtype == DTYPE_F32) {
        const float *panel = (const float *)p->data + (n - lane) * p->K;
        for (size_t k = 0; k < p->K; k++)
            to[k] = panel[k * PACK_LANES + lane];
        return;
    }
    const uint32_t *panel = (const uint32_t *)p->data + (n - lane) * p->K / 2;
    for (size_t k = 0; k < p->K; k++) {
        uint32_t word = panel[k * half + lane % half];
        uint32_t bits = lane < half ? word << 16 : word & 0xffff0000u;
        memcpy(&to[k], &bits, sizeof(bits));
    }
}

/* Products of x (M, K). Tasks are single panels of columns, numbered through the products, then
 * through the blocks of rows: what one thread gets of a block shares rows of x. */
struct forward_job {
    const struct kernels *k;
    const float *x;
    const struct product *p;
    size_t n;
    size_t M, K;
    size_t rows;     /* of a block */
    size_t n_panels; /* of all products together */
    float *act;      /* swiglu: products 0 and 1 go together, and tasks are panels of one */
};

/* The whole sum for some rows and columns, so many columns at once that their unfinished sums stay
 * in the second-level cache. */
static void multiply(const struct forward_job *j, const struct packed *W, float *c,
                     size_t c_row, size_t m0, size_t rows, size_t n0, size_t n1)
{
    const bool is_narrow = W->dtype == DTYPE_BF16;
    const size_t step = is_narrow ? PACK_LANES / 2 : PACK_LANES, K = j->K;
    const size_t len = rows <= FEW ? K : pieces(K, pieces(K, STEPS));
    const size_t width = len == K ? n1 - n0 : pieces(SUMS, rows * PACK_LANES) * PACK_LANES;
    struct gemm g = {.c_row = c_row,
                     .a_row = K,
                     .a_step = 1,
                     .b_step = step,
                     .b_panel = K * step,
                     .rows = rows};

    for (size_t n = n0; n < n1; n += g.cols) {
        g.cols = min(width, n1 - n);
        g.c = c + (n - n0);
        for (size_t s = 0; s < K; s += len) {
            const size_t at = n / PACK_LANES * g.b_panel + s * step;

            g.a = j->x + m0 * K + s;
            g.b = is_narrow ? NULL : (const float *)W->data + at;
            g.narrow = is_narrow ? (const uint32_t *)W->data + at : NULL;
            g.steps = min(len, K - s);
            g.resume = s > 0;
            g.after = (const uint32_t *)W->data +
                      (s + len < K ? at + len * step : (n + g.cols) / PACK_LANES * g.b_panel);
            j->k->gemm(&g);
        }
    }
}

/* Panels lo..hi-1 of one product, for rows m0.. of x. */
static void product_task(const struct forward_job *j, const struct product *p, size_t m0,
                         size_t rows, size_t lo, size_t hi)
{
    const size_t N = p->W->N, step = p->add ? PANELS : hi - lo;
    float sums[ROWS * COLS];

    for (size_t at = lo; at < hi; at += step) {
        size_t n0 = at * PACK_LANES, n1 = min(N, min(at + step, hi) * PACK_LANES);
        float *y = p->y + m0 * N + n0, *c = p->add ? sums : y;
        size_t c_row = p->add ? COLS : N;

        multiply(j, p->W, c, c_row, m0, rows, n0, n1);
        for (size_t m = 0; p->bias && m < rows; m++)
            j->k->add(c + m * c_row, c + m * c_row, p->bias + n0, n1 - n0);
        for (size_t m = 0; p->add && m < rows; m++)
            j->k->add(y + m * N, p->add + (m0 + m) * N + n0, c + m * c_row, n1 - n0);
    }
}

static void swiglu_task(const struct forward_job *j, size_t m0, size_t rows, size_t lo,
                        size_t hi)
{
    const size_t N = j->p[0].W->N, n0 = lo * PACK_LANES, n1 = min(N, hi * PACK_LANES);

    for (size_t i = 0; i < 2; i++)
        multiply(j, j->p[i].W, j->p[i].y + m0 * N + n0, N, m0, rows, n0, n1);
    for (size_t m = m0; m < m0 + rows; m++) {
        size_t at = m * N + n0;
        j->k->swiglu(j->act + at, j->p[0].y + at, j->p[1].y + at, n1 - n0);
    }
}

static void forward_tasks(void *arg, size_t lo, size_t hi)
{
    const struct forward_job *j = arg;

    while (lo < hi) {
        size_t block = lo / j->n_panels, at = lo - block * j->n_panels, i = 0;
        size_t m0 = block * j->rows, rows = min(j->rows, j->M - m0), last;

        if (j->act) {
            last = min(hi - lo + at, j->n_panels);
            swiglu_task(j, m0, rows, at, last);
        } else {
            size_t first = 0, n = pieces(j->p[0].W->N, PACK_LANES);
            while (at >= first + n) {
                first += n;
                n = pieces(j->p[++i].W->N, PACK_LANES);
            }
            last = min(hi - lo + at, first + n);
            product_task(j, &j->p[i], m0, rows, at - first, last - first);
        }
        lo += last - at;
    }
}

/* Blocks of nearly equal height, in whole tiles. */
static size_t rows_of_block(size_t M)
{
    size_t rows = pieces(M, pieces(M, ROWS));

    return min(ROWS, pieces(rows, TILE) * TILE);
}

static void run_forward(struct forward_job *job, struct pool *pool)
{
    /* One row takes panels by fours; and parts that are too small make more of waking than of
     * working. */
    size_t grain = job->M < 3 ? PANELS : 1, ops;

    job->K = job->p[0].W->K;
    job->rows = rows_of_block(job->M);
    for (size_t i = 0; i < job->n; i++) {
        CHECK(job->p[i].W->K == job->K);
        job->n_panels += pieces(job->p[i].W->N, PACK_LANES);
    }
    ops = job->M * job->n_panels * PACK_LANES * job->K;
    if (job->act)
        job->n_panels /= 2;
    pool_run(ops < INLINE_OPS ? NULL : pool, pieces(job->M, job->rows) * job->n_panels, grain,
             forward_tasks, job);
}

static void f32_forward_all(const struct kernels *k, struct pool *pool, const float *x,
                            const struct product *p, size_t n, size_t M)
{
    struct forward_job job = {.k = k, .x = x, .p = p, .n = n, .M = M};

    if (M > 0 && n > 0)
        run_forward(&job, pool);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
static void f32_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                        const struct packed *W, const float *bias, size_t M)
{
    const struct product one = {.y = y, .W = W, .bias = bias};

    f32_forward_all(k, pool, x, &one, 1, M);
}

// NOLINTNEXTLINE(readability-non-const-parameter): written to through the job
static void f32_swiglu(const struct kernels *k, struct pool *pool, float *act, const float *x,
                       const struct product p[2], size_t M)
{
    struct forward_job job = {.k = k, .x = x, .p = p, .n = 2, .M = M, .act = act};

    CHECK(p[0].W->N == p[1].W->N && !p[0].bias && !p[1].bias && !p[0].add && !p[1].add);
    if (M > 0)
        run_forward(&job, pool);
}

const struct products products_f32 = {
    .bytes = f32_bytes,
    .set = f32_set,
    .forward = f32_forward,
    .forward_all = f32_forward_all,
    .swiglu = f32_swiglu,
    .row = f32_row,
    .keeps_bf16 = true,
    .dx = products_f32_dx,
    .dw = products_f32_dw,
};
