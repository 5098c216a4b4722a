/*
 * base/pool.h - a fixed set of threads that split loops
 *
 * One pool per process. The caller of pool_run is one of its threads: a pool of 1 starts none
 * and runs everything inline. Threads wait on a condition variable (nothing spins), so nine
 * processes can share two cores. How a loop is split never changes a result: kernels write
 * disjoint outputs (docs/numerics.md).
 *
 * Threads: pool_run may be called by one thread at a time and does not nest.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

struct pool;

/* `lo`..`hi` is this call's part of the range. */
typedef void pool_fn(void *arg, size_t lo, size_t hi);

/* n_threads >= 1, the caller's included. Ends the process if threads cannot be had. */
void pool_new(struct pool **out, size_t n_threads);
void pool_free(struct pool **p);
size_t pool_threads(const struct pool *p);

/* Calls fn over [0, n) in parts of at least `grain`, and returns when all are done. p may be
 * NULL: then it runs inline. */
void pool_run(struct pool *p, size_t n, size_t grain, pool_fn *fn, void *arg);

#endif
