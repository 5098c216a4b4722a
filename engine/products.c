#include "engine/products.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"

#define ADD_FLOATS 65536u /* 256 KiB of stack */

size_t packed_bytes(const struct kernels *k, size_t N, size_t K)
{
    return packed_bytes_as(k, N, K, DTYPE_F32);
}

enum status packed_init(struct packed *p, const struct kernels *k, size_t N, size_t K,
                        struct err *e)
{
    size_t bytes = packed_bytes(k, N, K);
    enum status st;

    CHECK(N > 0 && K > 0 && !k->device);
    memset(p, 0, sizeof(*p));
    if (bytes == SIZE_MAX)
        return err_set(e, ERR_NO_MEMORY, "packed matrix of %zu x %zu does not fit memory", N,
                       K);
    st = alloc_array(&p->data, bytes, 1, "packed matrix", e);
    if (st)
        return st;
    p->N = N;
    p->K = K;
    return OK;
}

enum dtype packed_keeps(const struct kernels *k, enum dtype dtype)
{
    if (k->device)
        return k->ops->keeps(dtype);
    return dtype == DTYPE_BF16 && k->products->keeps_bf16 ? DTYPE_BF16 : DTYPE_F32;
}

size_t packed_bytes_as(const struct kernels *k, size_t N, size_t K, enum dtype dtype)
{
    size_t wide;

    if (k->device)
        return k->ops->bytes(N, K, dtype);
    wide = k->products->bytes(N, K);
    CHECK(packed_keeps(k, dtype) == dtype);
    return wide == SIZE_MAX || dtype == DTYPE_F32 ? wide : wide / 2;
}

void packed_place(struct packed *p, size_t N, size_t K, enum dtype dtype, void *at)
{
    *p = (struct packed){.data = at, .N = N, .K = K, .dtype = dtype, .is_placed = true};
}

void packed_clear(struct packed *p)
{
    if (!p->is_placed)
        free(p->data);
    memset(p, 0, sizeof(*p));
}

void packed_set(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                enum dtype dtype)
{
    if (k->device)
        k->ops->set(k->device, p, W, dtype, true);
    else
        k->products->set(k, pool, p, W, dtype);
}

bool packed_row(const struct kernels *k, float *to, const struct packed *p, size_t n)
{
    CHECK(n < p->N && !k->device);
    if (k->products->row)
        k->products->row(to, p, n);
    return k->products->row;
}

void matmul_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                    const struct packed *W, const float *bias, size_t M)
{
    const struct product p = {.y = y, .W = W, .bias = bias};

    if (k->device)
        k->ops->forward(k->device, &p, x, M);
    else
        k->products->forward(k, pool, y, x, W, bias, M);
}

/* What a class without a forward_all of its own does. */
static void one_by_one(const struct kernels *k, struct pool *pool, const float *x,
                       const struct product *p, size_t M)
{
    const size_t N = p->W->N;
    float rows[ADD_FLOATS];

    if (!p->add || p->add != p->y) {
        matmul_forward(k, pool, p->y, x, p->W, p->bias, M);
        if (p->add)
            k->add(p->y, p->add, p->y, M * N);
        return;
    }
    CHECK(N <= ADD_FLOATS);
    for (size_t m = 0, n; m < M; m += n) {
        n = ADD_FLOATS / N < M - m ? ADD_FLOATS / N : M - m;
        matmul_forward(k, pool, rows, x + m * p->W->K, p->W, p->bias, n);
        k->add(p->y + m * N, p->y + m * N, rows, n * N);
    }
}

void matmul_forward_all(const struct kernels *k, struct pool *pool, const float *x,
                        const struct product *p, size_t n, size_t M)
{
    if (k->device) {
        for (size_t i = 0; i < n; i++)
            k->ops->forward(k->device, &p[i], x, M);
        return;
    }
    if (k->products->forward_all) {
        k->products->forward_all(k, pool, x, p, n, M);
        return;
    }
    for (size_t i = 0; i < n; i++)
        one_by_one(k, pool, x, &p[i], M);
}

void matmul_swiglu(const struct kernels *k, struct pool *pool, float *act, const float *x,
                   const struct product p[2], size_t M)
{
    if (!k->device && k->products->swiglu) {
        k->products->swiglu(k, pool, act, x, p, M);
        return;
    }
    matmul_forward(k, pool, p[0].y, x, p[0].W, NULL, M);
    matmul_forward(k, pool, p[1].y, x, p[1].W, NULL, M);
    swiglu_forward(k, pool, act, p[0].y, p[1].y, M * p[0].W->N);
}

void matmul_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
               const float *W, size_t M, size_t N, size_t K)
{
    if (k->device)
        k->ops->dx(k->device, dx, dy, W, M, N, K, false);
    else
        k->products->dx(k, pool, dx, dy, W, M, N, K, false);
}

void matmul_dx_add(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                   const float *W, size_t M, size_t N, size_t K)
{
    if (k->device)
        k->ops->dx(k->device, dx, dy, W, M, N, K, true);
    else
        k->products->dx(k, pool, dx, dy, W, M, N, K, true);
}

void matmul_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
               const float *x, size_t T, size_t N, size_t K)
{
    if (k->device)
        k->ops->dw(k->device, dW, dy, x, T, N, K);
    else
        k->products->dw(k, pool, dW, dy, x, T, N, K);
}

// NOLINTNEXTLINE(readability-function-size): as many as matmul_dw, and what cuts the tokens
void matmul_dw_seqs(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                    const float *x, const size_t *lengths, size_t n_seqs, size_t N, size_t K)
{
    size_t T = 0;

    if (!k->device && k->products->dw_seqs) {
        k->products->dw_seqs(k, pool, dW, dy, x, lengths, n_seqs, (size_t[2]){N, K});
        return;
    }
    for (size_t i = 0; i < n_seqs; i++)
        T += lengths[i];
    matmul_dw(k, pool, dW, dy, x, T, N, K);
}

void bias_backward(const struct kernels *k, float *dbias, const float *dy, size_t T, size_t N)
{
    if (k->device) {
        k->ops->bias_backward(k->device, dbias, dy, T, N);
        return;
    }
    for (size_t t = 0; t < T; t++)
        k->add(dbias, dbias, dy + t * N, N);
}
