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

#include "engine/config.h"

/* ---- products: open_products.c ---- */

/* Finds cuBLASLt, once. ERR_UNSUPPORTED: it is not on this machine. */
MUST_USE enum status open_products_load(struct err *e);

enum open_kind {
    OPEN_FORWARD, /* (M, N) = a (M, K) b (N, K)' */
    OPEN_DX,      /* (M, N) = a (M, K) b (K, N) */
    OPEN_DW       /* (M, N) = a (K, M)' b (K, N) */
};

/* The norm of rows x (M, C) in two halves: rmsnorm(x) W' = (x w) W' / sqrt(mean of a row's squares + eps), so that who
 * computes parts of a row needs not know the others, and who multiplies h divides. */
struct open_normed {
    uint16_t *h;    /* (M, C): x w */
    float *squares; /* (M, n): sums of parts of the rows; room for C / 16 + 1 a row */
    size_t n;       /* 0: h is the norm itself, already divided */
    size_t C;
    float eps;
};

struct open_product {
    enum open_kind kind;
    bool is_f32;    /* y is f32, else bf16 */
    size_t M, N, K; /* of y, and the length of the sums */
    size_t a_stride, b_stride, y_stride;
    const void *a, *b; /* bf16 */
    void *y;
    const void *add; /* y = add + a b, of y's type and stride; may be y. NULL: y = a b */
    /* Of OPEN_FORWARD in bf16: b is gate, then up, and y (M, N / 2) = swiglu of the product, for which
     * there is `room` (M, N), dense, which is overwritten or not. */
    bool is_gated;
    uint16_t *room;
    /* Of OPEN_FORWARD. Rows of a are h of this, and what is made of them is divided; NULL: they are not. Where
     * takes->n > 0 and !is_gated, open_thin_fits must say so. */
    const struct open_normed *takes;
    /* In f32, with y dense: the norm of y by `norm` (N) is wanted too, in whichever form: gives->n is set. NULL: not. */
    struct open_normed *gives;
    const float *norm;
};

void open_multiply(struct device *d, const struct open_product *x);
size_t open_products_ways(struct device *d, struct device_way *ways,
                          const struct device_product *p);
void open_products_close(struct device *d);

/* ---- products of few rows: open_thin.cu ---- */

#define OPEN_THIN_ROWS  64u        /* of x, at most */
#define OPEN_THIN_SIZE  (1u << 16) /* of W, at least: below nothing is worth a choice */
#define OPEN_THIN_SPLIT 8u         /* blocks that share the channels of a tile, at most */
#define OPEN_THIN_WAYS  12u

/* One way to compute a product: the shape of tiles, and among how many blocks channels are split. */
struct open_thin {
    unsigned shape, split;
};
/* Those that may be the fastest, OPEN_THIN_WAYS at most; 0: the kernel does not compute such. */
size_t open_thin_ways(const struct device *d, const struct open_product *p,
                      struct open_thin *ways);
/* Whether it computes such: few rows, of sizes and alignments that it can. */
bool open_thin_fits(const struct open_product *p);
/* "64x64/2": rows and columns of a tile, split */
void open_thin_name(char *to, size_t cap, struct open_thin way);
/* b and norm are read before the kernel that was launched just before has ended, which must not write them. */
void open_thin_multiply(struct device *d, const struct open_product *p, struct open_thin way);

/* ---- rows: open_rows.cu, open_grad.cu. Widths are multiples of 8, arrays aligned to 16 bytes --- */

void open_narrow(struct device *d, uint16_t *y, const float *x, size_t n);
/* y (N, C) = rmsnorm of x; w is none that the kernel launched just before writes. C <= OPEN_WIDTH_MAX */
void open_norm(struct device *d, uint16_t *y, const float *x, const float *w, size_t N,
               size_t C, float eps);
/* act (T, F) = swiglu of gu (T, 2F): gate, then up. `takes`: as a product's, which gave gu undivided; or NULL. */
void open_swiglu(struct device *d, uint16_t *act, const uint16_t *gu, size_t T, size_t F,
                 const struct open_normed *takes);
/* x (T, C) += bias */
void open_bias(struct device *d, float *x, const float *bias, size_t T, size_t C);

/* What is done to heads between the products and attention: bias, norm (Qwen3), rotation, and filing
 * keys and values in pages. */
struct open_heads {
    uint16_t *y;       /* (rows, (H + 2G) D): queries, keys, values; may be x */
    const uint16_t *x; /* as they come from the products */
    const float *q_bias, *k_bias, *v_bias, *q_norm, *k_norm; /* each or NULL */
    const float *cos, *sin;
    const struct device_run *runs;
    size_t n_runs, max_n;
    uint16_t *const *pages; /* or NULL */
    size_t page_at;
    size_t H, G, D;
    float eps;
};
void open_heads_forward(struct device *d, const struct open_heads *h);

/* dx (N, C) += of the norm of x; dw += ; and *narrow (N, C) = the new dx, or NULL. */
void open_norm_backward(struct device *d, float *dx, float *dw, uint16_t *narrow,
                        const uint16_t *dy, const float *x, const float *w, size_t N, size_t C,
                        float eps);
/* In place: gu (T, 2F) becomes its gradient, and dact (T, F) the activation. */
void open_swiglu_backward(struct device *d, uint16_t *gu, uint16_t *dact, size_t T, size_t F);
/* In place: the gradients of y become those of x. Biases' and norms' gradients are added to. */
struct open_heads_grad {
    uint16_t *dy;
    const uint16_t *x; /* with q_norm and k_norm: as they came from the products */
    const float *q_norm, *k_norm;
    float *dq_norm, *dk_norm, *dq_bias, *dk_bias, *dv_bias; /* each or NULL */
    const float *q_bias, *k_bias;
    const float *cos, *sin;
    const struct device_run *runs;
    size_t n_runs, rows, max_n;
    size_t H, G, D;
    float eps;
};
void open_heads_backward(struct device *d, const struct open_heads_grad *h);
/* dbias (N) += the columns of dy (T, N), f32, or bf16 in rows of `stride`. */
void open_bias_backward(struct device *d, float *dbias, const float *dy, size_t T, size_t N);
void open_columns(struct device *d, float *dbias, const uint16_t *dy, size_t stride, size_t T,
                  size_t N);

/* ---- logits: open_loss.cu. As the members of struct device_ops ---- */
void open_logprob(struct device *d, float *logp, const float *logits, const int32_t *token,
                  float temperature, size_t N, size_t V);
void open_logprob_backward(struct device *d, float *dlogits, const float *weight,
                           const float *logits, const int32_t *token, float temperature,
                           size_t N, size_t V);

/* open_sample.cu */
void open_sample(struct device *d, struct device_drawn *out, const struct device_draw *draws,
                 const float *logits, size_t n, size_t V);

/* ---- how many rows: open.c ---- */

/* 1, 2, 4, 8, 16, 24, 32, 48 and 64, where products take as long as reading their weights does, whatever
 * the rows; then eight sizes from one power of two to the next, at most an eighth more than `rows`. So a
 * batch that shrinks from 512 sequences to one meets 33 numbers of rows, each of which is tuned and
 * captured once. */
size_t open_padded_rows(size_t rows);

/* ---- graphs: open_graphs.c ---- */

#define OPEN_GRAPH_KEY_BYTES 128u /* padded with zeros */
#define OPEN_GRAPHS          64u  /* that a device keeps; then the one longest unused goes */

typedef void open_launches(struct device *d, const void *arg);

/* What launches(d, arg) launches, which is not run: the caller's, to destroy. NULL: the device failed. */
cudaGraphExec_t open_graph_make(struct device *d, open_launches *launches, const void *arg);
/* launches(d, arg), or what it launched when it was called with this key before. */
void open_graph_run(struct device *d, const void *key, open_launches *launches,
                    const void *arg);
size_t open_graphs_made(const struct device *d); /* so far */
void open_graphs_close(struct device *d);

/* ---- attention: D is 32, 64 or 128, groups have at most 16 heads ---- */

#define OPEN_PARTS_MAX 64u
#define OPEN_BLOCKS    DEVICE_COUNTS /* that one launch merges: parts of all groups */

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
    float *partial; /* of decode: OPEN_BLOCKS * (H / G) * (D + 4) */
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

/* One row a run (max_n = 1), pages, `partial`, no lse: open_decode.cu. The rows are h->x, as they come
 * from the products, and h->y is not written: it does open_heads_forward's work too; q, k and v of `a` are
 * not read. A run with n = 0 reads and files nothing, and its row of `out` becomes zeros. `runs`, `pages`, and
 * what the pages hold may not be written by the kernel before. */
void open_attention_decode(struct device *d, const struct open_attention *a,
                           const struct open_heads *h);
/* Into how many parts it cuts the positions, by n_runs, G and max_len; a power of two. With it, what it
 * launches is fixed. */
size_t open_attention_parts(const struct device *d, const struct open_attention *a);
/* Any rows: open_attention.cu */
void open_attention_forward(struct device *d, const struct open_attention *a);
void open_attention_backward(struct device *d, const struct open_attention_grad *a);

#ifdef __cplusplus
}
#endif

#endif
