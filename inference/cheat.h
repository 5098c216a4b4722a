/*
 * inference/cheat.h - the dishonest workers of the test bench
 *
 * Threads: the job's.
 */
#ifndef INFERENCE_CHEAT_H
#define INFERENCE_CHEAT_H

#include "engine/weights.h"
#include "inference/infer_run.h"
#include "rollout/rollout.h"

/* Rounds each row of every matrix to 127 steps of its largest magnitude. */
void cheat_quantise(struct weights *w);
/* Rewrites an encoded msg_submit as the cheat would have it, Merkle root included; cheats that do
 * not alter what was made leave it alone. ERR_MALFORMED: it is no msg_submit. */
MUST_USE enum status cheat_submission(struct buf *body, enum infer_cheat cheat,
                                      const struct task *t, struct err *e);

#endif
