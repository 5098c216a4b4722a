/*
 * cli/bench_machine.h - what this machine can do at best, measured beside what the engine does
 *
 * Two limits bound an engine: how many fused multiply-adds the cores make, and how fast they read
 * memory. The second depends on how much is read over and over: what fits a cache comes faster.
 */
#ifndef CLI_BENCH_MACHINE_H
#define CLI_BENCH_MACHINE_H

#include <stddef.h>

#include "base/pool.h"
#include "base/status.h"
#include "engine/kernels.h"

#define BENCH_READ_SIZES 8u

struct bench_machine {
    double flops;                   /* a second, all threads of the pool together */
    size_t bytes[BENCH_READ_SIZES]; /* read over and over, by all threads together, ascending */
    double read[BENCH_READ_SIZES];  /* bytes a second */
};

/* Takes some three seconds, and memory of the largest size. ERR_NO_MEMORY. */
MUST_USE enum status bench_machine_measure(struct bench_machine *m, const struct kernels *k,
                                           struct pool *pool, struct err *e);
/* The two limits alone, reading the largest size but two (128 MiB): a fraction of a second. */
MUST_USE enum status bench_machine_glance(double *flops, double *read, const struct kernels *k,
                                          struct pool *pool, struct err *e);
/* Bytes a second when `bytes` are read over and over: that of the next larger size measured. */
double bench_machine_read(const struct bench_machine *m, size_t bytes);

#endif
