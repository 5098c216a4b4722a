/*
 * engine/cuda/open.h - class open-cuda (private to engine/cuda/)
 *
 * bf16 numbers (as uint16_t) between operations, products by the tensor cores through cuBLASLt with
 * f32 sums, the residual stream, logits and gradients of weights in f32. Here: what its files share.
 * All arrays are the device's, dense rows unless strides (in elements) are given; nothing waits.
 */
#ifndef ENGINE_CUDA_OPEN_H
#define ENGINE_CUDA_OPEN_H

#include <stdbool.h>

#include "engine/cuda/inside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- products: open_products.c ---- */

/* Finds cuBLASLt, once. ERR_UNSUPPORTED: it is not on this machine. */
MUST_USE enum status open_products_load(struct err *e);

enum open_kind {
    OPEN_FORWARD, /* (M, N) = a (M, K) b (N, K)' */
    OPEN_DX,      /* (M, N) = a (M, K) b (K, N) */
    OPEN_DW       /* (M, N) = a (K, M)' b (K, N) */
};

struct open_product {
    enum open_kind kind;
    bool is_f32;     /* y is f32, else bf16 */
    size_t M, N, K;  /* of y, and the length of the sums */
    size_t a_stride, b_stride, y_stride;
    const void *a, *b; /* bf16 */
    void *y;
    const void *add; /* y = add + a b, of y's type and stride; may be y. NULL: y = a b */
};

void open_product(struct device *d, const struct open_product *p);
void open_products_close(struct device *d);

/* ---- graphs: open_graphs.c ---- */

#define OPEN_GRAPH_KEY_BYTES 128u /* padded with zeros */

typedef void open_launches(struct device *d, const void *arg);

/* launches(d, arg), or what it launched when it was called with this key before. */
void open_graph_run(struct device *d, const void *key, open_launches *launches,
                    const void *arg);
void open_graphs_close(struct device *d);

/* ---- attention ---- */

struct open_attention {
    uint16_t *out; /* (rows, H, D) */
    float *lse;    /* (rows, H): m + log l; or NULL */
    const uint16_t *q, *k, *v;
    size_t q_stride, kv_stride, out_stride; /* from one row to the next */
    /* Or NULL: k and v are rows of the batch, and every run begins at position 0. Else keys and
     * values are all filed, this batch's too: those of position p of a run in
     * pages[run.pages + p / 64] + page_at, which holds keys (G, 64, D), then values (G, 64, D). */
    uint16_t *const *pages;
    size_t page_at;
    const struct device_run *runs;
    size_t n_runs, rows, max_n, max_len;
    size_t H, G, D;
    float scale;
};

struct open_attention_grad {
    uint16_t *dq, *dk, *dv; /* strides as q, k, v; assigned */
    const uint16_t *dout, *out, *q, *k, *v;
    const float *lse;
    size_t q_stride, kv_stride, out_stride; /* the last also of dout */
    const struct device_run *runs;          /* first = 0 */
    size_t n_runs, rows, max_n;
    size_t H, G, D;
    float scale;
};

/* One row a run (max_n = 1), pages: open_decode.cu. Groups of at most 16 heads. */
void open_attention_decode(struct device *d, const struct open_attention *a);
/* Into how many parts it cuts the positions, which fixes what it launches. */
size_t open_attention_parts(const struct device *d, const struct open_attention *a);
/* Any rows: open_attention.cu */
void open_attention_forward(struct device *d, const struct open_attention *a);
void open_attention_backward(struct device *d, const struct open_attention_grad *a);

#ifdef __cplusplus
}
#endif

#endif
