/*
 * support/scratch.h - bytes as a file, for fuzz targets of what reads from a path
 *
 * The files lie in one directory of the process, which is made on first use and removed at exit.
 */
#ifndef SUPPORT_SCRATCH_H
#define SUPPORT_SCRATCH_H

#include "base/bytes.h"

const char *scratch_dir(void);
/* Makes or replaces DIR/name, mode 0600, without waiting for the disk. The path lives as
 * tempdir_path's do. */
const char *scratch_write(const char *name, struct bytes data);
/* It need not be there. */
void scratch_remove(const char *name);

#endif
