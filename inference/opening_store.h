/*
 * inference/opening_store.h - openings on disk until their units are decided
 *
 * In open classes a worker commits to an opening by its root and is asked for it later, perhaps after
 * a restart; to have lost it is to have failed the check (proto/opening.h). So it is here, synced,
 * before its SUBMIT leaves.
 *
 * On disk:  DIR/openings/unit-U-lease-L.opening, the encoded OPENING; whole or not there.
 * Threads:  any; nothing is kept in memory.
 */
#ifndef INFERENCE_OPENING_STORE_H
#define INFERENCE_OPENING_STORE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

/* `dir`: of the node. Durable once it returned OK; ERR_FULL, ERR_IO. */
MUST_USE enum status opening_store_put(const char *dir, uint64_t unit, uint64_t lease,
                                       struct bytes opening, struct err *e);
/* Appends it. ERR_NOT_FOUND: it is not here; ERR_MALFORMED: the file holds no OPENING of this attempt. */
MUST_USE enum status opening_store_get(const char *dir, uint64_t unit, uint64_t lease,
                                       struct buf *out, struct err *e);
/* All attempts under leases below `settled` are over: what is here of them is removed. */
MUST_USE enum status opening_store_settle(const char *dir, uint64_t settled, struct err *e);
/* The newest lease of which there is one; 0: the store is empty. */
MUST_USE enum status opening_store_last(const char *dir, uint64_t *last, struct err *e);

#endif
