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
    bool keeps_bf16; /* packed BF16 is half of `bytes`, and stays BF16 */
    /* is_added: matmul_dx_add */
    void (*dx)(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
               const float *W, size_t M, size_t N, size_t K, bool is_added);
    void (*dw)(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
               const float *x, size_t T, size_t N, size_t K);
};

extern const struct products products_f32; /* class f32-1: engine/matmul.c */
/* Its dx and dw: engine/matmul_backward.c. */
void products_f32_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                     const float *W, size_t M, size_t N, size_t K, bool is_added);
void products_f32_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                     const float *x, size_t T, size_t N, size_t K);

#endif
