/*
 * verifier/standing.h - what a validator remembers of the workers of an open class
 *
 * A cheat that alters a token now and then passes the tests of a single unit, which forgive one that is far
 * off (rollout/check_open.c). So they go on over a worker's units, in the order in which this validator
 * checks them in full: the chance that honest work is refused is one a token, whichever unit it is in. It is
 * a validator's own memory, lost when it is restarted; what follows from it is an opinion like the others.
 *
 * Threads: one.
 */
#ifndef VERIFIER_STANDING_H
#define VERIFIER_STANDING_H

#include <stdint.h>

#include "proto/types.h"
#include "rollout/rollout.h"

struct standing;

void standing_new(struct standing **out);
void standing_free(struct standing **s);

/* Where the worker's tests stand; at zero if the attempt under this lease was counted before. */
struct rollout_heights standing_of(struct standing *s, const struct public_key *worker,
                                   uint64_t lease);
/* The attempt was judged and `h` is what came of it; of a refused one, zero: it begins anew. Counts an
 * attempt once. */
void standing_put(struct standing *s, const struct public_key *worker, uint64_t lease,
                  struct rollout_heights h);

#endif
