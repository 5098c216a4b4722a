/*
 * base/memory.h - how much memory there is
 *
 * Threads: any.
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdint.h>

/* Bytes that can be had without pushing others out (MemAvailable); UINT64_MAX where the system does
 * not say. */
uint64_t memory_available(void);
/* The most memory that this process has held, in bytes; 0 where the system does not say. */
uint64_t memory_peak(void);

#endif
