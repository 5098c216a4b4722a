#include "engine/products.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"

size_t packed_bytes(const struct kernels *k, size_t N, size_t K)
{
    return k->products->bytes(N, K);
}

enum status packed_init(struct packed *p, const struct kernels *k, size_t N, size_t K,
                        struct err *e)
{
    size_t bytes = packed_bytes(k, N, K);
    enum status st;

    CHECK(N > 0 && K > 0);
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

void packed_clear(struct packed *p)
{
    free(p->data);
    memset(p, 0, sizeof(*p));
}

void packed_set(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                enum dtype dtype)
{
    k->products->set(k, pool, p, W, dtype);
}

void matmul_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                    const struct packed *W, const float *bias, size_t M)
{
    k->products->forward(k, pool, y, x, W, bias, M);
}

void matmul_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
               const float *W, size_t M, size_t N, size_t K)
{
    k->products->dx(k, pool, dx, dy, W, M, N, K, false);
}

void matmul_dx_add(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                   const float *W, size_t M, size_t N, size_t K)
{
    k->products->dx(k, pool, dx, dy, W, M, N, K, true);
}

void matmul_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
               const float *x, size_t T, size_t N, size_t K)
{
    k->products->dw(k, pool, dW, dy, x, T, N, K);
}

// NOLINTNEXTLINE(readability-function-size): as many as matmul_dw, and what cuts the tokens
void matmul_dw_seqs(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                    const float *x, const size_t *lengths, size_t n_seqs, size_t N, size_t K)
{
    size_t T = 0;

    if (k->products->dw_seqs) {
        k->products->dw_seqs(k, pool, dW, dy, x, lengths, n_seqs, (size_t[2]){N, K});
        return;
    }
    for (size_t i = 0; i < n_seqs; i++)
        T += lengths[i];
    matmul_dw(k, pool, dW, dy, x, T, N, K);
}

void bias_backward(const struct kernels *k, float *dbias, const float *dy, size_t T, size_t N)
{
    for (size_t t = 0; t < T; t++)
        k->add(dbias, dbias, dy + t * N, N);
}
