/*
 * rollout/evidence.h - a rejection that anyone can replay
 *
 * One self-contained file: the task's bundle, the worker's submission as it was signed, the
 * trainer's manifest of the version and the weights themselves. A validator writes it when it
 * rejects a unit for fraud; `muster verify FILE` replays it, on any machine, without a network.
 *
 *   "MUSTEREV" | u32 1 | blob bundle | blob submission envelope | blob manifest envelope |
 *   blob weights file | BLAKE2b-256 of all before it          (blob: u32 length, bytes)
 *
 * Numbers are little-endian. Threads: any; a replay has a model and an environment of its own.
 */
#ifndef ROLLOUT_EVIDENCE_H
#define ROLLOUT_EVIDENCE_H

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "rollout/check.h"

#define EVIDENCE_MAX_BYTES ((size_t)2 << 30)

struct evidence { /* all lent: after evidence_decode, parts of `in` */
    struct bytes bundle, submission, manifest, weights;
};

MUST_USE enum status evidence_encode(struct buf *out, const struct evidence *v, struct err *e);
/* ERR_MALFORMED, ERR_UNSUPPORTED (a later version), ERR_DIGEST (damaged). */
MUST_USE enum status evidence_decode(struct evidence *v, struct bytes in, struct err *e);

struct evidence_result {
    /* Who signed. Whether they are this run's worker and trainer only its ledger can say. */
    struct public_key worker, trainer;
    struct digest run;
    uint64_t unit, lease;
    int64_t version;
    struct rollout_finding finding;
};

/* `env_opt` may be NULL. Checks that the pieces belong together (signatures, task id, weights root), then runs the full
 * check. OK: the replay reached a finding, for or against the worker. ERR_DIGEST and
 * ERR_MALFORMED: the evidence itself is unsound and accuses nobody. */
MUST_USE enum status evidence_replay(const struct evidence *v,
                                     const struct env_options *env_opt,
                                     struct evidence_result *out, struct err *e);

#endif
