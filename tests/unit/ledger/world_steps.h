/*
 * unit/ledger/world_steps.h - moves of the small world about recomputed versions
 */
#ifndef WORLD_STEPS_H
#define WORLD_STEPS_H

#include "ledger/steps.h"
#include "unit/ledger/world.h"

/* Not accepted: it is challenged. */
enum status world_try_step_verdict(struct world *w, int64_t version, unsigned validator,
                                   bool is_accepted);
/* Of the open dispute, by whose turn it is by number. */
enum status world_try_dispute_move(struct world *w, enum ledger_move kind);
enum status world_try_dispute_close(struct world *w, const struct public_key *loser,
                                    bool is_silent, uint32_t op);

#endif
