/*
 * numerics.h - what the tests of the kernels share
 *
 * Each program runs once per backend, whose name is its first argument; where the CPU lacks it
 * the program exits 77 before its first test, which ctest shows as skipped. *state is the
 * backend.
 */
#ifndef NUMERICS_H
#define NUMERICS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/ops.h"
#include "support/close.h"
#include "support/random.h"
#include "support/test.h"

#define BACKEND_TEST(f) cmocka_unit_test_prestate(f, (void *)k)

static inline const struct kernels *backend_in(enum numerics numerics, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "scalar";
    const struct kernels *k;
    struct err e;

    switch (kernels_choose(&k, numerics, name, &e)) {
    case OK: return k;
    case ERR_UNSUPPORTED: printf("skipped: %s\n", e.text); exit(77);
    default: fprintf(stderr, "%s\n", e.text); exit(1);
    }
}

static inline const struct kernels *backend_of(int argc, char **argv)
{
    return backend_in(NUMERICS_F32_1, argc, argv);
}

/* n uniform floats in [-scale, scale], the caller's to free. */
static inline float *some_floats(struct rng *r, size_t n, float scale)
{
    float *x = xcalloc(n + 1, sizeof(float));
    random_floats(r, x, n, scale);
    return x;
}

/* For results that are to be assigned: whoever reads them first, or skips one, shows. */
static inline float *garbage(size_t n)
{
    float *x = xcalloc(n + 1, sizeof(float));
    memset(x, 0xff, n * sizeof(float));
    return x;
}

static inline float *zeros(size_t n)
{
    return xcalloc(n + 1, sizeof(float));
}

#endif
