/*
 * cli/memory.h - whether what was computed fits the machine
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"

struct device; /* engine/device.h; NULL: the CPU */

/* Logs what `what` will take, and refuses more than max_mib MiB or, if that is 0, more than is
 * available there. ERR_LIMIT tells both figures. */
MUST_USE enum status memory_check(const struct device *d, uint64_t bytes, int64_t max_mib,
                                  const char *what, struct err *e);

#endif
