/*
 * rollout/room.h - whether a run fits where it is to be computed, before anything of it is loaded
 *
 * Sized from the task: every weight version that a node keeps (packed copies, scratch), pages for the
 * longest sequences of what is computed together, logits and draws. On the CPU the decoded weights lie in
 * the same memory and count as well; beside a device they are the host's.
 *
 * Threads: any.
 */
#ifndef ROLLOUT_ROOM_H
#define ROLLOUT_ROOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/kernels.h"
#include "rollout/setup.h"

/* Of a worker that generates n_units at a time, and of a validator that checks one. */
uint64_t room_to_generate(const struct setup *s, const struct kernels *k, size_t n_units);
uint64_t room_to_check(const struct setup *s, const struct kernels *k);

/* ERR_LIMIT: that many bytes are more than are free where k computes; the text says both, and what the
 * larger parts are. `what`: "generating 4 units at a time". */
MUST_USE enum status room_check(const struct setup *s, const struct kernels *k, uint64_t bytes,
                                const char *what, struct err *e);

#endif
