/*
 * proto/states.h - what a full check yields, and nothing else does
 *
 * A validator that accepts without looking says the same as one that looked. So the verdict after a
 * full check carries a digest over numbers from the middle of the prefill: keys and values of the
 * cache at STATES_PLACES places, each a sample, a layer and a position. The places follow from r of
 * the unit's draw (ledger/beacon.h) and the validator's key, so neither the worker, who committed
 * before, nor another validator has ever computed this digest, and none of the numbers is sent.
 *
 *   place i    h = BLAKE2b-256("muster/1/place" NUL || r || validator || i u32), as four u64: sample
 *              h0 mod their number; layer h1 mod the model's; position h2 mod (prompt + tokens of
 *              the sample - 1), the last token having no key
 *   found      BLAKE2b-256("muster/1/states" NUL || for each place in order, BLAKE2b-256 of the key
 *              and the value there, (kv_heads, head_dim) each, f32 little-endian)
 *   states     BLAKE2b-256 keyed by the validator's key over `found`: what its verdict carries
 *
 * `states` commits to `found` and tells nobody what it is. Who checks the validator makes the same
 * prefill, computes `found` for that validator's places, and opens the commitment by showing it.
 * In classes that define bits there is one `found`; elsewhere verdicts carry no states.
 *
 * Pure.
 */
#ifndef PROTO_STATES_H
#define PROTO_STATES_H

#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

#define STATES_PLACES 16u

struct states_place {
    size_t sample, layer, position;
};
struct states_shape {
    size_t n_samples, n_layers;
    const size_t *n_positions; /* of each sample: prompt and tokens, less one; >= 1 */
};
void states_place(struct states_place *out, const struct digest *draw,
                  const struct public_key *validator, uint32_t i,
                  const struct states_shape *shape);
void states_found(struct digest *found, const struct digest place[STATES_PLACES]);
void states_seal(struct digest *states, const struct public_key *validator,
                 const struct digest *found);
/* The value that decides whether a second validator makes a full check as well, from r of the draw
 * and the attempt's salt (proto/canary.h): BLAKE2b-256("muster/1/recheck" NUL || r || salt), whose
 * first eight bytes are compared with the task's rate. Who is drawn cannot tell before it is over. */
void states_recheck_value(struct digest *out, const struct digest *draw,
                          const struct digest *salt);

#endif
