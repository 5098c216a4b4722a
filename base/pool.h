/*
 * base/pool.h - a fixed set of threads that split loops
 *
 * One pool per process. The caller of pool_run is one of its threads: a pool of 1 starts none
 * and runs everything inline. How a loop is split never changes a result: kernels write
 * disjoint outputs (docs/numerics.md).
 *
 * Handing a loop over takes two atomic operations when the threads are awake. Threads that have
 * nothing to do wait on a condition variable, so nine processes can share two cores. A program
 * that has the cores to itself may let them look for the next loop for some microseconds first
 * (`spin`): waking one takes as long as a matrix product of a small model.
 *
 * Threads: pool_run may be called by one thread at a time and does not nest.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct pool;

#define POOL_SPIN_ALONE 20000u /* some hundred microseconds */

struct pool_options {
    size_t n_threads; /* >= 1, the caller's included */
    unsigned spin;    /* looks for work before a thread sleeps; 0: none. Never with more threads
                         than cores, nor where other processes want them */
    bool is_pinned;   /* thread i stays on the i-th core this process may use */
};

/* `lo`..`hi` is this call's part of the range. */
typedef void pool_fn(void *arg, size_t lo, size_t hi);

/* n_threads >= 1, the caller's included; no spinning, no pinning. Ends the process if threads
 * cannot be had. */
void pool_new(struct pool **out, size_t n_threads);
void pool_new_with(struct pool **out, const struct pool_options *opt);
void pool_free(struct pool **p);
size_t pool_threads(const struct pool *p);

/* Calls fn over [0, n) in parts of at least `grain`, and returns when all are done. p may be
 * NULL: then it runs inline. */
void pool_run(struct pool *p, size_t n, size_t grain, pool_fn *fn, void *arg);

#endif
