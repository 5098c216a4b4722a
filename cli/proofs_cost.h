/*
 * cli/proofs_cost.h - for bench proofs: what proofs cost a worker
 *
 * Threads: one at a time.
 */
#ifndef CLI_PROOFS_COST_H
#define CLI_PROOFS_COST_H

#include <stddef.h>

#include "engine/model.h"

/* Decodes n_new tokens of `batch` sequences `rounds` times, in turn without and with what a worker of class open-cuda
 * does for its openings (the largest of each state, proofs, digests), and gives the tokens a second of the best
 * of each. ERR_UNSUPPORTED: the model's states are too narrow for it. */
MUST_USE enum status proofs_cost(double *without, double *with, struct model *m, size_t batch,
                                 size_t n_new, size_t rounds, struct err *e);

#endif
