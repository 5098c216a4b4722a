/*
 * engine/matmul.h - the matrix products of a linear layer and of its gradients
 *
 *   forward   y[m,n]  = sum_k x[m,k] * W[n,k]   (+ bias[n])
 *   dx        dx[m,k] = sum_n dy[m,n] * W[n,k]
 *   dW        dW[n,k] += sum_t dy[t,n] * x[t,k]
 *
 * Every sum is ONE running fma in ascending order of its index, so neither the number of rows,
 * nor the tiling, nor the number of threads changes a bit of any element. Products are
 * vectorised over independent outputs and never over the sum.
 *
 * This is what class f32-1 computes; another class has sums of its own (docs/numerics.md). The
 * class is that of the `struct kernels`, whose products do the work (engine/products.h).
 *
 * All arrays are row-major and dense. The forward product reads W in packed form, made once per
 * weight version; the two gradients read W and x as they are.
 *
 * Devices: with kernels of a device the arrays are the device's, but for what packed_set reads, and
 * what is "packed" is whatever engine/device_ops.h says.
 *
 * Threads: the functions with a pool split the outputs over it (NULL: inline). None allocates,
 * except packed_init; each thread uses less than 512 KiB of stack.
 */
#ifndef ENGINE_MATMUL_H
#define ENGINE_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/pool.h"
#include "base/status.h"
#include "engine/dtype.h"
#include "engine/kernels.h"

#define PACK_LANES 16u

/* W (N, K) for matmul_forward, in the layout of a numerics class; backends of one class share it. */
struct packed {
    void *data; /* owned, or borrowed from what packed_place was given */
    size_t N;
    size_t K;
    enum dtype dtype; /* how numbers are kept: F32, or BF16, which takes half the room */
    bool is_placed;
};

/* Bytes that packed_init allocates; SIZE_MAX if that does not fit a size_t. */
size_t packed_bytes(const struct kernels *k, size_t N, size_t K);

/* How numbers of this dtype are kept packed: BF16 stays BF16 where the class widens as it multiplies
 * (which gives the bits of the widened numbers), everything else is F32. */
enum dtype packed_keeps(const struct kernels *k, enum dtype dtype);
/* Bytes of W (N, K) kept as `dtype`, a value of packed_keeps. */
size_t packed_bytes_as(const struct kernels *k, size_t N, size_t K, enum dtype dtype);
/* A matrix in memory of the caller's, aligned to 64 bytes, packed_bytes_as of them, zeros. */
void packed_place(struct packed *p, size_t N, size_t K, enum dtype dtype, void *at);

/* Room for W (N, K), all zeros. N, K > 0. ERR_NO_MEMORY. */
MUST_USE enum status packed_init(struct packed *p, const struct kernels *k, size_t N, size_t K,
                                 struct err *e);
void packed_clear(struct packed *p);

/* Fills p from W (N, K) of this dtype, as often as W changes: it costs about one copy of W.
 * Narrow numbers are widened exactly. Into a matrix kept as BF16 only numbers may go that are
 * exactly bf16. */
void packed_set(const struct kernels *k, struct pool *pool, struct packed *p, const void *W,
                enum dtype dtype);

/* Row n of W as f32, (K): a look-up in an embedding that is the head as well. False: the class does
 * not keep the numbers as they were. Not for a device. */
bool packed_row(const struct kernels *k, float *to, const struct packed *p, size_t n);

/*
 *   y     (M, N)  out  assigned
 *   x     (M, K)  in
 *   W     (N, K)  in   packed
 *   bias  (N)     in   or NULL; one add after the running fma
 */
void matmul_forward(const struct kernels *k, struct pool *pool, float *y, const float *x,
                    const struct packed *W, const float *bias, size_t M);

/* One of several products of the same x. */
struct product {
    float *y;               /* (M, N) out */
    const struct packed *W; /* (N, K) */
    const float *bias;      /* (N), or NULL */
    const float *add;       /* (M, N), or NULL: y = add + (x W' + bias). It may be y */
};

/* Products p[0..n) of x (M, K), handed to the pool together. */
void matmul_forward_all(const struct kernels *k, struct pool *pool, const float *x,
                        const struct product *p, size_t n, size_t M);

/*
 * act = swiglu(gate, up) of the two products p[0] = gate, p[1] = up, which have no bias and
 * nothing to add. act (M, N) may be one of their y.
 */
void matmul_swiglu(const struct kernels *k, struct pool *pool, float *act, const float *x,
                   const struct product p[2], size_t M);

/*
 * Gradient of the input: a running fma over n ascending from +0.
 *
 *   dx  (M, K)  out     assigned
 *   dy  (M, N)  in
 *   W   (N, K)  in      not packed
 */
void matmul_dx(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
               const float *W, size_t M, size_t N, size_t K);

/* The same, but the finished sum is added to dx (M, K) in/out by one add. */
void matmul_dx_add(const struct kernels *k, struct pool *pool, float *dx, const float *dy,
                   const float *W, size_t M, size_t N, size_t K);

/*
 * Gradient of the weights: the running fma over tokens goes on from what dW holds, so
 * micro-batches one after the other give the bits of one large batch.
 *
 *   dW  (N, K)  in/out  continued
 *   dy  (T, N)  in
 *   x   (T, K)  in
 */
void matmul_dw(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
               const float *x, size_t T, size_t N, size_t K);

/* The same for n_seqs sequences end to end, of so many tokens each. That is one and the same in
 * f32-1; in bf16-1 the blocks of a sequence start at its first token, which makes the gradient
 * independent of how the batch is cut between sequences. matmul_dw takes all tokens as one
 * sequence. */
void matmul_dw_seqs(const struct kernels *k, struct pool *pool, float *dW, const float *dy,
                    const float *x, const size_t *lengths, size_t n_seqs, size_t N, size_t K);

/* Gradient of the bias: dbias[n] = dbias[n] + dy[t,n] for t ascending; dy (T, N). */
void bias_backward(const struct kernels *k, float *dbias, const float *dy, size_t T, size_t N);

#endif
