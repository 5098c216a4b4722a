/*
 * cli/bench_checks.h - what a check costs, beside a prefill of the same tokens; and TOPLOC alone
 *
 * Threads: one at a time.
 */
#ifndef CLI_BENCH_CHECKS_H
#define CLI_BENCH_CHECKS_H

#include <stdbool.h>

#include "cli/bench_world.h"

/* Full checks of 1, 4 and 16 units together: microseconds a token, and how often that is what the
 * prefill alone takes. */
MUST_USE enum status bench_checks(const struct bench_world *w, struct pool *pool, bool is_json,
                                  struct err *e);

/* What verification adds to the wire in units of 4,096 tokens, in f32-1 and in open-openblas. */
MUST_USE enum status bench_wire(bool is_json, struct err *e);

/* Building and checking proofs of 32 rows, on one core. */
MUST_USE enum status bench_toploc(bool is_json, struct err *e);

#endif
