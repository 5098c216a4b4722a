/*
 * verifier/head_file.h - the heads that a validator was called to witness, on disk
 *
 * DIR/heads.witness (proto/witness.h) grows by one signed call at a time, synced before the call is
 * answered: what a third party holds against an orchestrator that shows another ledger later
 * (`muster ledger audit --witness`). What a crash cut short is cut off when it is opened again.
 *
 * Threads: one.
 */
#ifndef VERIFIER_HEAD_FILE_H
#define VERIFIER_HEAD_FILE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

struct head_file {
    int fd;
    char *path;   /* owned */
    uint64_t seq; /* of the last head; 0: none */
    struct digest entry;
};
#define HEAD_FILE_CLOSED                                                                       \
    {                                                                                          \
        .fd = -1                                                                               \
    }

MUST_USE enum status head_file_open(struct head_file *f, const char *dir, struct err *e);
void head_file_close(struct head_file *f);
/* Files the WITNESS_CALL in `envelope`, which `orchestrator` must have signed; the last one again is
 * fine. ERR_DENIED: it is of an entry that was shown before, with another hash, or of an earlier one;
 * it is filed all the same, for it is the proof. ERR_MALFORMED, ERR_DIGEST; ERR_FULL, ERR_IO: the file may
 * have a piece of it at its end, and takes no more before it is opened again. */
MUST_USE enum status head_file_put(struct head_file *f, struct bytes envelope,
                                   const struct public_key *orchestrator, struct err *e);

#endif
