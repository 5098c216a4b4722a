/*
 * envs/sandbox.h - gives up, for this process and for good, all that an environment does not need
 *
 * What is left: read and write on descriptors that are open already, memory without execution,
 * a timer, exit. Another system call ends the process.
 */
#ifndef ENVS_SANDBOX_H
#define ENVS_SANDBOX_H

#include <stddef.h>

#include "base/status.h"

/* OK if this kernel offers what sandbox_enter needs; else ERR_DENIED naming what is missing. */
MUST_USE enum status sandbox_check(struct err *e);

/* Limits resources, gives up new privileges and installs the filter. `more_bytes` is how much
 * address space may still be added. ERR_DENIED: something of it was refused, and the process is
 * not confined. */
MUST_USE enum status sandbox_enter(size_t more_bytes, struct err *e);

#endif
