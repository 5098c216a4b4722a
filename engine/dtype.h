/*
 * engine/dtype.h - how a stored number is written
 *
 * Everything is computed in binary32. What differs is how weights are kept in files: the kinds
 * below are those that widen to binary32 exactly. A NaN stays one (docs/numerics.md, section 1).
 */
#ifndef ENGINE_DTYPE_H
#define ENGINE_DTYPE_H

#include <stddef.h>
#include <stdint.h>

/* X(member, bytes, name in safetensors, name in config.json) */
#define DTYPE_MAP(X)                                                                           \
    X(DTYPE_F32, 4, "F32", "float32")                                                          \
    X(DTYPE_BF16, 2, "BF16", "bfloat16")                                                       \
    X(DTYPE_F16, 2, "F16", "float16")

#define DTYPE_MEMBER(member, bytes, st, hf) member,
enum dtype { DTYPE_MAP(DTYPE_MEMBER) DTYPE_COUNT };
#undef DTYPE_MEMBER

size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t);    /* "BF16" */
const char *dtype_hf_name(enum dtype t); /* "bfloat16" */

/* Widens n numbers, exactly. `in` may be unaligned. */
void dtype_widen(float *out, const uint8_t *in, enum dtype t, size_t n);
/* Rounds n numbers to nearest, ties to even; DTYPE_F32 copies. DTYPE_F16 is read, not written. */
void dtype_narrow(uint8_t *out, const float *in, enum dtype t, size_t n);

#endif
