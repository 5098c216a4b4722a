/*
 * cli/memory.h - whether what is about to be done fits this machine
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"

/* Bytes that can be had without pushing others out; UINT64_MAX where the system does not say. */
uint64_t memory_available(void);
/* The most memory that this process has held, in bytes; 0 where the system does not say. */
uint64_t memory_peak(void);

/* ERR_LIMIT, saying both numbers, when `bytes` are more than is available. */
MUST_USE enum status memory_check(uint64_t bytes, struct err *e);

#endif
