/*
 * tests/unit/orchestrator/moves.h - what nodes do by hand, one line each
 *
 * Each asks through world_ask and decodes the answer; a kind of answer that the name does not
 * promise fails the test. Nodes are named by role and number.
 */
#ifndef ORCHESTRATOR_MOVES_H
#define ORCHESTRATOR_MOVES_H

#include "ledger/books.h"
#include "support/test.h"
#include "unit/orchestrator/world.h"

const struct ledger_books *move_books(const struct world *w);
const struct ledger_unit *move_unit(const struct world *w, uint64_t unit);
/* HELLO of every node: all are alive. */
void move_hello(struct world *w);
/* Version `version` is published by the trainer; `variant` 0 is the honest content. */
void move_publish(struct world *w, int64_t version, const struct digest *batch,
                  uint32_t variant, struct msg_receipt *r);
/* A world that is settled, alive, and has version 0. */
void move_world(struct world **w, const struct world_options *o);

/* False, with *wait filled, if the answer was WAIT. */
bool move_lease(struct world *w, uint32_t worker, uint32_t max, struct msg_lease *l,
                struct msg_wait *wait);
void move_beat(struct world *w, uint32_t worker, const struct lease_item *l, uint64_t tokens,
               struct msg_beat *b);
void move_submit(struct world *w, uint32_t worker, const struct lease_item *l, bool is_cheating,
                 struct msg_receipt *r);
/* False: WAIT. The submission is lent until the next move of this validator. */
bool move_check(struct world *w, uint32_t verifier, struct msg_check *c);
void move_verdict(struct world *w, uint32_t verifier, const struct msg_check *c,
                  enum reason code, struct msg_receipt *r);
/* Takes checks and judges them as `code` until none is left for this validator; how many. */
uint32_t move_judge_all(struct world *w, uint32_t verifier, enum reason code);
/* Leases, submits and has accepted everything that can be. */
void move_all_units(struct world *w);
/* False, with *wait filled, if the answer was WAIT. *b is large: static in the callee. */
bool move_batch(struct world *w, uint64_t batch, const struct msg_batch **b,
                struct msg_wait *wait);
/* The same, asked by the first node of a role. */
bool move_batch_of(struct world *w, enum role role, uint64_t batch, const struct msg_batch **b,
                   struct msg_wait *wait);
/* How many entries of a type the ledger has. */
uint64_t move_count(struct world *w, enum ledger_type type);

#endif
