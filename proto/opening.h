/*
 * proto/opening.h - what a worker of an open class commits to, and shows when it is drawn
 *
 * Where bits are defined a validator makes every state itself, and a submission holds tokens and
 * log-probabilities only. In classes named "open-..." states agree only nearly, and what speaks of
 * them takes more room than the tokens: a TOPLOC proof (proto/toploc.h) for each started 32 sampled
 * tokens. So SUBMIT names only a root,
 *
 *   root     of two trees (merkle_node): of the proofs, and of digests of the states
 *   proofs   leaf: sample u32 || chunk u32 || proof, sample after sample (proto/merkle.h)
 *   states   merkle_root_of_digests over the BLAKE2b-256 of each chunk's states, as float32, row
 *            after row, in the same order. In class open-cuda, where states have 128 elements or
 *            more, of each row's 128 of largest magnitude only (bf16; of equal ones the first), by
 *            index: their indices u32, then their values, as its GPU chooses them for the proof
 *
 * and OPENING, with the proofs and the root of the states, is asked for once the unit is drawn for a
 * full check. The worker keeps it on disk from before its SUBMIT leaves (inference/opening_store.h).
 * Who does not open, or opens something else, has failed the check: UNOPENED, ROOT.
 *
 * The states' root says nothing by itself to a verifier whose sums run in another order. To one of the
 * same kernels it proves that all of them are its own to the bit, and it is what the worker is held to
 * should it be asked for states later.
 *
 * Threads: any. Nothing is kept.
 */
#ifndef PROTO_OPENING_H
#define PROTO_OPENING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

/* Do submissions of this numerics class ("open-openblas") name an opening? */
bool opening_is_wanted(const char *numerics);

/* Its chunks by what the submission holds: the started 32 sampled tokens of every sample. */
uint64_t opening_chunks(const struct msg_submit *m);

/* The root over an opening of so many chunks as m has. CHECKs the length. */
void opening_root(struct digest *root, const struct msg_submit *m, const struct msg_opening *o);

/* Does it open the submission? ERR_MALFORMED: it is for another attempt or has other lengths
 * (*why: BOUNDS); ERR_DIGEST: it has another root (ROOT). `why` may be NULL. */
MUST_USE enum status opening_check(const struct msg_opening *o, const struct msg_submit *m,
                                   enum reason *why, struct err *e);

/* The proofs of one sample, lent from a checked opening. */
struct bytes opening_proofs(const struct msg_opening *o, const struct msg_submit *m,
                            uint32_t sample);

#endif
