/*
 * engine/products.h - how a numerics class multiplies (private to engine/)
 *
 * The functions of engine/matmul.h go through this table, which hangs on the `struct kernels`.
 * Backends of one class share it: what differs between them are the inner loops. The contracts
 * are those of engine/matmul.h.
 */
#ifndef ENGINE_PRODUCTS_H
#define ENGINE_PRODUCTS_H

#include <stdbool.h>

#include "engine/matmul.h"

struct products {
    size_t (*bytes)(size_t N, size_t K); /* of packed.data; SIZE_MAX: does not fit */
    void (*set)(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                enum dtype dtype);
    void (*forward)(const struct kernels *k, struct pool *pool, float *y, const float *x,
                    const struct packed *W, const float *bias, size_t M);
    /* NULL: one after the other, by `forward` */
    void (*forward_all)(const struct kernels *k, struct pool *pool, const float *x,
                        const struct product *p, size_t n, size_t M);
    void (*swiglu)(const struct kernels *k, struct pool *pool, float *act, const float *x,
                   const struct product p[2], size_t M);
    /* Row n of the matrix, (K) f32, as it was packed. NULL: the class cannot give it back */
    void (*row)(float *to, const struct packed *p, size_t n);
    bool keeps_bf16; /* packed BF16 is half of `bytes`, and stays BF16 */
    /* is_added: matmul_dx_add */
    void (*dx)(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
               const float *W, size_t M, size_t N, size_t K, bool is_added);
    void (*dw)(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
               const float *x, size_t T, size_t N, size_t K);
    /* matmul_dw_seqs, of shape (N, K). NULL: how tokens are cut into sequences is nothing to the
     * class, and dw takes them as one. */
    void (*dw_seqs)(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                    const float *x, const size_t *lengths, size_t n_seqs,
                    const size_t shape[2]);
    bool is_cache_bf16; /* keys and values are rounded to bf16 before attention sees them */
};

extern const struct products products_f32;  /* class f32-1: engine/matmul.c */
extern const struct products products_bf16; /* class bf16-1 */
extern const struct products products_openblas;

/* Finds OpenBLAS, once; before that products_openblas must not be used. ERR_UNSUPPORTED: it is
 * not on this machine. */
MUST_USE enum status products_openblas_load(struct err *e);

/* Its dx and dw: engine/matmul_backward.c. */
void products_f32_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                     const float *W, size_t M, size_t N, size_t K, bool is_added);
void products_f32_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                     const float *x, size_t T, size_t N, size_t K);

#endif
