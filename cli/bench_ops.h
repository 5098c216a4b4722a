/*
 * cli/bench_ops.h - one hash per operation and model for each way of computing a class
 */
#ifndef CLI_BENCH_OPS_H
#define CLI_BENCH_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/config.h"
#include "engine/device.h"

#define BENCH_OPS_COLUMNS 8u /* kernels of a class, and the GPU's */

/* A table's columns: what computes. */
struct bench_columns {
    const struct kernels *k[BENCH_OPS_COLUMNS]; /* borrowed; NULL: not on this machine */
    const char *name[BENCH_OPS_COLUMNS];
    size_t n;
};

/* All kernels of the class, and those of the device unless it is NULL. */
MUST_USE enum status bench_columns_init(struct bench_columns *c, enum numerics numerics,
                                        struct device *device, struct err *e);

/* A row of the table: prints what every column gave (hash (c->n); 0: nothing) and whether all are
 * equal, which is returned. */
bool bench_columns_print(const struct bench_columns *c, const char *what, const uint64_t *hash,
                         bool is_json);

/* Every operation, forward and backward, over the same numbers in every column. *n_different is the
 * number of rows that are not equal; it is added to, as *n_rows is. */
MUST_USE enum status bench_ops(const struct bench_columns *c, bool is_json, size_t *n_rows,
                               size_t *n_different, struct err *e);

/* The same of a model: logits, sampled tokens, gradients, and what ten steps of the optimizer leave. */
MUST_USE enum status bench_ops_model(const struct bench_columns *c,
                                     const struct model_config *config, const char *name,
                                     bool is_json, size_t *n_rows, size_t *n_different,
                                     struct err *e);

#endif
