/*
 * engine/device_ops.h - the operations of a GPU (private to engine/)
 *
 * What engine/ops.h and engine/matmul.h hand on to when a `struct kernels` belongs to a device. The
 * contracts are theirs, to the bit in a class that defines bits; here is what differs. Every array
 * is the device's unless it says "host". Nothing waits.
 *
 * Matrices keep the layout of the weights, (N, K) row-major: what is "packed" on a GPU is a copy, in
 * f32 or, where the class widens as it multiplies, in bf16.
 *
 * `d` is where the work is queued; a device that failed does nothing.
 */
#ifndef ENGINE_DEVICE_OPS_H
#define ENGINE_DEVICE_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/device.h"
#include "engine/ops.h"

/* One sequence's part of a call of attention: rows row .. row + n - 1 of the batch are positions
 * first .. first + n - 1 of the sequence. n = 0, in a pass of new rows: a row that nobody wants
 * (padded_rows). Array on the device. */
struct device_run {
    uint32_t row, n, first;
    uint32_t pages; /* index in `pages` of the sequence's first page */
};

struct device_attention {
    float *out;                    /* (rows, H, D) assigned */
    float *lse;                    /* (rows, H) assigned, or NULL */
    const float *q;                /* (rows, H, D) */
    const float *k, *v;            /* (rows, G, D): the batch's own */
    const struct device_run *runs; /* (n_runs) */
    size_t n_runs, rows;
    size_t max_n, max_len; /* of all runs: the largest n, and the largest first + n */
    /* Or NULL: every run starts at position 0, and k and v are all there is. Else pages[run.pages + i]
     * is page i of the run's sequence (ATTENTION_PAGE positions), this layer's part at + page_at, in a
     * layout of the class's own. The batch's k and v are filed there first. */
    float *const *pages; /* device array of device pointers */
    size_t page_at;      /* in elements of the cache */
    const struct attention_shape *shape;
};

struct device_attention_grad {
    float *dq, *dk, *dv; /* assigned */
    const float *dout, *out, *lse, *q, *k, *v;
    const struct device_run *runs; /* whole sequences: first = 0 */
    size_t n_runs, rows, max_n;
    const struct attention_shape *shape;
};

/* One row to draw from. Array on the device. */
struct device_draw {
    uint64_t seed;
    uint32_t position;
    uint32_t row; /* of the logits */
    float temperature;
};
/* What came of it. Array on the device. */
struct device_drawn {
    int32_t token; /* sample_token's */
    float logp;
    uint32_t is_finite; /* 0: a logit of the row is not; then the others are worth nothing */
};

struct device_way; /* engine/device_speed.h */
struct device_product;
struct model_config; /* engine/config.h */
struct model_layer;  /* engine/layer.h */
struct weights_layer;

/* All layers over the rows of a call, for classes that keep what is between them in a form of their
 * own. */
struct device_pass {
    /* Of `config`, `packed` and `w` with all they point to, but not of the numbers within matrices and
     * vectors: whoever changes a pointer or a size takes another one (device_next_id). */
    uint64_t weights_id;
    const struct model_config *config;
    const struct model_layer *packed; /* (layers), host: matrices as `set` keeps them */
    const struct weights_layer *w;    /* (layers), host: norms and biases on the device */
    float *x;      /* (rows, C): the embedded tokens in, the stream after the last layer out */
    void *scratch; /* pass_bytes */
    const float *cos, *sin;
    const struct device_run *runs;
    size_t n_runs, rows, max_n, max_len;
    float *const *pages; /* as in struct device_attention, or NULL */
    size_t page_layer;   /* elements of the cache between two layers of a page */
};

/* The same, keeping what the gradient needs in `scratch` (train_pass_bytes). */
struct device_train_pass {
    struct device_pass p; /* x is the embedded tokens and stays; pages NULL; first = 0 */
    const struct weights_layer *grads; /* (layers), host: f32 arrays on the device, added to */
    float *out;                        /* (rows, C): the stream after the last layer */
    float *dx;      /* (rows, C): of backward; gradient of `out` in, of x out */
    bool recompute; /* keep the layers' inputs only */
};

struct device_ops {
    /* ---- whole passes, or NULL: the caller goes operation by operation ---- */
    size_t (*pass_bytes)(const struct model_config *c, size_t rows);
    void (*pass)(struct device *d, const struct device_pass *p);
    /* Of a pass of new rows the attention alone, on whatever is in the scratch: for benches */
    void (*pass_attention)(struct device *d, const struct device_pass *p);
    /* How many rows a call of `rows` is computed with: each number of rows costs a class that tunes its
     * products and keeps graphs some, so it has few of them. The rows behind are of any token, and in a
     * pass of new rows (max_n = 1) of runs with n = 0, which read and write no page; nobody looks at
     * what comes of them. NULL: as many as there are. */
    size_t (*padded_rows)(size_t rows);
    /* Graphs that were captured so far: for benches and tests. NULL: none ever. */
    size_t (*graphs_made)(const struct device *d);
    size_t (*train_pass_bytes)(const struct model_config *c, size_t rows, bool recompute);
    void (*train_pass_forward)(struct device *d, const struct device_train_pass *p);
    void (*train_pass_backward)(struct device *d, const struct device_train_pass *p);

    /* ---- products. `W` (N, K) is a copy made by `set`, whose bytes `bytes` tells ---- */
    size_t (*bytes)(size_t N, size_t K, enum dtype dtype);
    enum dtype (*keeps)(enum dtype dtype);
    /* From (N, K) of this dtype, on the device or (is_host) the host */
    void (*set)(struct device *d, struct packed *p, const void *W, enum dtype dtype,
                bool is_host);
    /* y = x W' (+ bias) (+ add: y = add + (...)) */
    void (*forward)(struct device *d, const struct product *p, const float *x, size_t M);
    void (*dx)(struct device *d, float *dx, const float *dy, const float *W, size_t M, size_t N,
               size_t K, bool is_added);
    /* The same with a matrix as `set` keeps it, assigned; or NULL: the class has only the other */
    void (*dx_packed)(struct device *d, float *dx, const float *dy, const struct packed *W,
                      size_t M);
    void (*dw)(struct device *d, float *dW, const float *dy, const float *x, size_t T, size_t N,
               size_t K);
    void (*bias_backward)(struct device *d, float *dbias, const float *dy, size_t T, size_t N);

    /* ---- rows ---- */
    void (*add)(struct device *d, float *y, const float *a, const float *b, size_t n);
    void (*scale)(struct device *d, float *y, const float *x, float s, size_t n);
    void (*embed)(struct device *d, float *y, const float *table, const int32_t *id, size_t T,
                  size_t C);
    /* From a matrix as `set` keeps it */
    void (*embed_packed)(struct device *d, float *y, const struct packed *table,
                         const int32_t *id, size_t T, size_t C);
    /* order (T): the rows sorted by id and, of equal ids, ascending; start (n_ids + 1): where in
     * `order` the rows of one id begin */
    void (*embed_backward)(struct device *d, float *dtable, const float *dy, const int32_t *id,
                           const uint32_t *order, const uint32_t *start, size_t n_ids,
                           size_t C);
    /* y[i, :] = x[index[i], :], and y[index[i], :] = x[i, :] */
    void (*gather)(struct device *d, float *y, const float *x, const uint32_t *index, size_t n,
                   size_t C);
    void (*scatter)(struct device *d, float *y, const float *x, const uint32_t *index, size_t n,
                    size_t C);
    void (*rmsnorm)(struct device *d, float *y, const float *x, const float *w, size_t N,
                    size_t C, float eps);
    void (*rmsnorm_backward)(struct device *d, float *dx, float *dw, const float *dy,
                             const float *x, const float *w, size_t N, size_t C, float eps);
    /* is_inverse: the gradient's rotation */
    void (*rope)(struct device *d, float *x, const float *cos, const float *sin,
                 const int32_t *pos, size_t T, size_t H, size_t D, bool is_inverse);
    void (*swiglu_forward)(struct device *d, float *y, const float *g, const float *u,
                           size_t n);
    void (*swiglu_backward)(struct device *d, float *dg, float *du, const float *dy,
                            const float *g, const float *u, size_t n);

    /* ---- attention ---- */
    size_t (*page_floats)(
        const struct attention_shape *s); /* of one layer of a page, in floats */
    /* Position `at` of a layer's part of a page: key and value (G, D), host. Waits. NULL in a class
     * that defines no bits, of which nobody asks. */
    void (*page_read)(struct device *d, float *key, float *value, const float *layer, size_t at,
                      size_t G, size_t D);
    void (*attention)(struct device *d, const struct device_attention *a);
    void (*attention_backward)(struct device *d, const struct device_attention_grad *a);

    /* ---- logits ---- */
    void (*logprob)(struct device *d, float *logp, const float *logits, const int32_t *token,
                    float temperature, size_t N, size_t V);
    void (*logprob_backward)(struct device *d, float *dlogits, const float *weight,
                             const float *logits, const int32_t *token, float temperature,
                             size_t N, size_t V);
    void (*sample)(struct device *d, struct device_drawn *out, const struct device_draw *draws,
                   const float *logits, size_t n, size_t V);
    /* The 128 elements of largest magnitude of each row rounded to bf16, lowest index first on
     * ties, as TOPLOC wants them: index and bf16 value (N, 128), ordered by index. C >= 128 */
    void (*top)(struct device *d, uint32_t *index, uint16_t *value, const float *x, size_t N,
                size_t C);

    /* What holds the elementary functions to their definition; NULL in a class that has none:
     * *sum += (bits of f(x) ^ 0x9e3779b9) * (2 u + 1) mod 2^64 for u = first, first + step, ...,
     * n of them; x has the bits u, and f is exp (0), log (1) or log1p (2). */
    void (*math_sum)(struct device *d, uint64_t *sum, int which, uint32_t first, uint32_t step,
                     uint64_t n);

    /* ---- optimizer ---- */
    /* sums[0] = grad_square_sum; `scratch` (rows) */
    void (*square_sum)(struct device *d, float *sum, float *scratch, const float *g,
                       size_t rows, size_t cols);
    void (*adamw)(struct device *d, float *p, float *m, float *v, const float *g,
                  const struct adamw_scalars *s, size_t n);
    /* y = the nearest bf16 of x, as f32 */
    void (*round_bf16)(struct device *d, float *y, const float *x, size_t n);
    /* *flag (zeroed before) becomes 1 if some element is not finite */
    void (*not_finite)(struct device *d, uint32_t *flag, const float *x, size_t n);

    /* NULL if there is one way only. Of device_speed_ways; how many, 0: the device failed. */
    size_t (*ways)(struct device *d, struct device_way *ways, const struct device_product *p);
};

/* What is computed with for `rows` of at most `most`: by the CPU (NULL) as many. */
static inline size_t device_padded_rows(const struct device_ops *ops, size_t rows, size_t most)
{
    const size_t n = ops && ops->padded_rows ? ops->padded_rows(rows) : rows;

    return n < most ? n : most;
}

/* A number that nobody got before. Any thread. */
uint64_t device_next_id(void);

#endif
