/*
 * rollout/probe.h - private: what a prefill shows of its middle (proto/states.h)
 *
 * Sample after sample of a submission passes by; at each the places that lie in it are looked up in
 * the cache.
 */
#ifndef ROLLOUT_PROBE_H
#define ROLLOUT_PROBE_H

#include "proto/msg.h"
#include "proto/states.h"
#include "rollout/check.h"
#include "rollout/prefill.h"

struct probe {
    struct rollout_probe *want; /* borrowed; NULL: nothing is looked up */
    struct states_place place[ROLLOUT_PROBE_MAX][STATES_PLACES];
    struct digest seen[ROLLOUT_PROBE_MAX][STATES_PLACES];
};

void probe_begin(struct probe *p, struct rollout_probe *want, const struct msg_submit *s,
                 size_t n_prompt, size_t n_layers);
void probe_sample(struct probe *p, size_t sample, const struct prefill_rows *rows);
void probe_end(struct probe *p);

#endif
