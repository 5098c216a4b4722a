/*
 * verifier/verify_copy.h - the dishonest validator that says what others said
 *
 * Reads the ledger as it grows, by LEDGER_ASK as anybody may, and remembers the verdicts in it. Its
 * own verdict on a unit is then another's on the same attempt, states and all, if there is one;
 * else it accepts with numbers of its own invention. Where verdicts are sealed before they are shown
 * there is none in time, and states are of the validator's own places.
 *
 * Threads: the shell's.
 */
#ifndef VERIFIER_VERIFY_COPY_H
#define VERIFIER_VERIFY_COPY_H

#include "base/bytes.h"
#include "base/effect.h"
#include "node/key.h"
#include "proto/msg.h"

struct verify_copy;

void verify_copy_new(struct verify_copy **out, const struct node_key *key, uint64_t boot);
void verify_copy_free(struct verify_copy **c);
void verify_copy_welcome(struct verify_copy *c, uint64_t peer, const struct digest *run,
                         int64_t now_ms, struct effects *out);
/* True: it was an answer to this one's questions. */
bool verify_copy_message(struct verify_copy *c, struct bytes data, int64_t now_ms,
                         struct effects *out);
void verify_copy_tick(struct verify_copy *c, int64_t now_ms, struct effects *out);
/* Appends the encoded verdict that is to be given instead of this one. */
void verify_copy_verdict(const struct verify_copy *c, struct buf *out, struct bytes verdict);

#endif
