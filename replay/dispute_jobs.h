/*
 * replay/dispute_jobs.h - what replay/dispute_state.h has computed, for a role's job thread
 *
 * Job, args, result (blob: u32 length, bytes):
 *
 *   FIRST                                            u8: done; then as of STEP, of version 0; or to go on
 *   SEEK  i64 version, u8: only to look                 i64 version at or before it
 *   STEP  BATCH body                                   i64 version, roots of weights, masters, optimizer,
 *                                                     and of masters and optimizer before
 *   PROVE PUBLISH envelope of the version it is at       that its file is another (replay/file_proof.h)
 *   OPEN  transcript without bundle and moves, u8 side
 *   MOVE  moves, a blob each                           the next move, or nothing
 *
 * Threads: the job thread; init and clear where none runs.
 */
#ifndef REPLAY_DISPUTE_JOBS_H
#define REPLAY_DISPUTE_JOBS_H

#include "base/bytes.h"
#include "base/status.h"
#include "replay/party.h"
#include "replay/replica.h"

/* Beside the role's own, from 1 on. */
enum dispute_job {
    DISPUTE_JOB_FIRST = 101,
    DISPUTE_JOB_SEEK,
    DISPUTE_JOB_STEP,
    DISPUTE_JOB_PROVE,
    DISPUTE_JOB_OPEN,
    DISPUTE_JOB_MOVE,
    DISPUTE_JOB_END,
};
static inline bool dispute_job_is(uint32_t job)
{
    return job >= DISPUTE_JOB_FIRST && job < DISPUTE_JOB_END;
}
#define DISPUTE_RESULT_MAX ((size_t)OPENING_MAX_BYTES + 64)

struct dispute_jobs {
    struct replica replica;
    struct party *party; /* owned; NULL: none is open */
};

void dispute_jobs_init(struct dispute_jobs *j, const struct replica_options *options);
void dispute_jobs_clear(struct dispute_jobs *j);
MUST_USE enum status dispute_jobs_run(struct dispute_jobs *j, uint32_t job, struct bytes args,
                                      struct buf *result, struct err *e);

#endif
