/*
 * cli/bench_hash.h - a short name for numbers that ought to be equal: FNV-1a with 64 bits, a 32-bit word a step
 */
#ifndef CLI_BENCH_HASH_H
#define CLI_BENCH_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_HASH_START UINT64_C(0xcbf29ce484222325)

/* Of n words of four bytes. */
static inline void bench_hash_words(uint64_t *h, const void *words, size_t n)
{
    const uint8_t *p = words;

    for (size_t i = 0; i < n; i++, p += 4) {
        uint32_t word;
        memcpy(&word, p, 4);
        *h = (*h ^ word) * UINT64_C(0x100000001b3);
    }
}

#endif
