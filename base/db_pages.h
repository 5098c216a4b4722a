/*
 * base/db_pages.h - whether the pages of an LMDB file hang together
 *
 * LMDB trusts its file: a pointer that a failing disk or a hostile hand has changed makes it read
 * beyond the map. This walks every tree of one snapshot beforehand: page numbers, flags, offsets and
 * lengths, each page once. Keys and values are not judged.
 *
 * Failure:  ERR_CORRUPT, and the page; ERR_NOT_FOUND: the file has no such snapshot (any more).
 * Threads:  any.
 */
#ifndef BASE_DB_PAGES_H
#define BASE_DB_PAGES_H

#include <stdint.h>

#include "base/status.h"

/* `txn` is the number of the snapshot, which a read transaction must hold meanwhile if there may
 * be a writer; `dir` is for the error. */
MUST_USE enum status db_pages_check(int fd, uint64_t txn, const char *dir, struct err *e);

#endif
