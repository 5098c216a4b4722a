/*
 * engine/kernels.h - which numerics class is computed, and by which inner loops
 *
 * A numerics class (docs/numerics.md) is a function from weights and tokens to bits. A backend is
 * a table of inner loops for one kind of CPU. All backends of one class give the same bits:
 * choosing one chooses a speed and nothing else. The code of "scalar" is the definition of a
 * class; the others are held to it by tests. ("open-openblas" and "open-cuda" define no bits: their
 * products are whatever OpenBLAS gives on this machine, or cuBLASLt in bf16 on this GPU. The latter
 * has no backend on a CPU: engine/device.h.)
 *
 * Backends: "scalar", "neon" (aarch64), "avx2" (AVX2 and FMA), "avx512" (AVX-512 F, BW, VL, DQ),
 * and "amx" (AVX-512 and AMX-BF16) in class bf16-1. What the CPU offers is asked of CPUID, XCR0
 * and the system, never of model numbers; "amx" is offered only after it gave the bits of the
 * definition on this machine.
 *
 * Threads: tables do not change and are shared by all.
 */
#ifndef ENGINE_KERNELS_H
#define ENGINE_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/status.h"

/* X(member, name) */
#define NUMERICS_MAP(X)                                                                        \
    X(NUMERICS_F32_1, "f32-1")                                                                 \
    X(NUMERICS_BF16_1, "bf16-1")                                                               \
    X(NUMERICS_OPEN_OPENBLAS, "open-openblas")                                                 \
    X(NUMERICS_OPEN_CUDA, "open-cuda")

#define NUMERICS_MEMBER(member, name) member,
enum numerics { NUMERICS_MAP(NUMERICS_MEMBER) NUMERICS_COUNT };
#undef NUMERICS_MEMBER

struct kernels; /* private: engine/cpu/table.h */

const char *numerics_name(enum numerics n);
/* ERR_INVALID: no such class; the text names those there are. */
MUST_USE enum status numerics_parse(enum numerics *out, const char *name, struct err *e);

/* Chooses a backend of a class by name; NULL or "auto" is the fastest that this CPU has.
 * ERR_INVALID: the class has no such backend. ERR_UNSUPPORTED: this machine cannot run it. */
MUST_USE enum status kernels_choose(const struct kernels **out, enum numerics numerics,
                                    const char *name, struct err *e);

/* The fastest backend of this CPU in class f32-1. */
const struct kernels *kernels_best(void);

/* The backend of k in another class: of the fastest in f32-1 the fastest there, of any other the
 * one of its name. For the classes that define bits. */
const struct kernels *kernels_in_class(const struct kernels *k, enum numerics numerics);

const char *kernels_name(const struct kernels *k);
enum numerics kernels_numerics(const struct kernels *k);

/* The i-th backend that a class has, fastest last, whether or not this machine can run it; NULL
 * past the end. */
const char *kernels_name_at(enum numerics numerics, size_t i);

/* Whether this machine can run it. False for unknown names. */
bool kernels_available(enum numerics numerics, const char *name);

#endif
