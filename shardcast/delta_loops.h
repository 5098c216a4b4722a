/*
 * shardcast/delta_loops.h - the inner loops of patches, one table an instruction set (private to
 * shardcast/)
 *
 * Each function is what shardcast/delta_block.h says of its mode; the tables give the same bytes.
 * Arrays of numbers are little-endian and may be unaligned.
 */
#ifndef SHARDCAST_DELTA_LOOPS_H
#define SHARDCAST_DELTA_LOOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DELTA_CLASSES_GAPS 4u /* classes that have gaps */
#define DELTA_STREAMS      14u

enum delta_stream_of_classes {
    DELTA_EACH = 0,  /* class 0 */
    DELTA_GAPS = 1,  /* + class - 1 */
    DELTA_STEPS = 5, /* + class - 1 */
    DELTA_WIDE = 9,  /* + class */
};
enum delta_stream_of_dense { DELTA_HIGH, DELTA_FAR, DELTA_LOW, DELTA_DENSE_STREAMS };

/* One list. Encoding appends up to `cap`; decoding reads on from `len` up to `cap`. */
struct delta_stream {
    uint8_t *data;
    size_t len, cap;
};

/* How the exponent of a number is found, and what the block's parameter says of it. */
struct delta_shape {
    unsigned mantissa; /* bits right of the exponent */
    unsigned exponent; /* its largest value */
    unsigned low_max;  /* most noisy bits */
    unsigned parameter;
};

struct delta_loops {
    const char *name;
    /* Encoding returns false when a list is full: the block is coded otherwise. Decoding returns false
     * when a list ends early or has something left. n numbers of 16 bits. */
    bool (*classes_encode)(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape);
    bool (*classes_decode)(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape);
    /* n numbers of 16 or 32 bits. */
    bool (*dense16_encode)(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape);
    bool (*dense16_decode)(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape);
    bool (*dense32_encode)(struct delta_stream s[DELTA_STREAMS], const uint8_t *base,
                           const uint8_t *now, size_t n, const struct delta_shape *shape);
    bool (*dense32_decode)(uint8_t *out, const uint8_t *base, size_t n,
                           struct delta_stream s[DELTA_STREAMS],
                           const struct delta_shape *shape);
};

extern const struct delta_loops delta_loops_scalar;
#if defined(__x86_64__)
extern const struct delta_loops delta_loops_avx2; /* needs AVX2, BMI1, BMI2, POPCNT, LZCNT */
#endif

#endif
