/*
 * engine/kernels.h - which implementation of the inner loops runs
 *
 * A backend is a table of inner loops for one kind of CPU. All of them give the same bits
 * (docs/numerics.md): choosing one chooses a speed and nothing else. The code of "scalar" is
 * the definition of the numerics class; the others are held to it by tests.
 *
 * Names: "scalar", "avx2" (AVX2 and FMA), "avx512" (AVX-512 F, BW, VL, DQ). What the CPU offers
 * is asked of CPUID and XCR0, never of model numbers.
 *
 * Threads: tables are constant and shared by all.
 */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/status.h"

struct kernels; /* private: engine/cpu/table.h */

/* Chooses a backend by name; NULL or "auto" is the fastest that this CPU has. ERR_INVALID: no
 * such name. ERR_UNSUPPORTED: this CPU cannot run it. */
MUST_USE enum status kernels_choose(const struct kernels **out, const char *name,
                                    struct err *e);

/* The fastest backend of this CPU. */
const struct kernels *kernels_best(void);

const char *kernels_name(const struct kernels *k);

/* The i-th name there is, fastest last, whether or not this CPU has it; NULL past the end. */
const char *kernels_name_at(size_t i);

/* Whether this CPU can run it. False for unknown names. */
bool kernels_available(const char *name);

#endif
