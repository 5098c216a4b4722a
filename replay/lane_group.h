/*
 * replay/lane_group.h - several processes that share the lanes of every step
 *
 * The leading process and N - 1 helpers (base/helper.h), each a part of the lanes (learn/lanes.h). For a
 * step the leader hands every helper the published weights and the step's work, makes its own lanes,
 * and adds what the others send in the order that the class has; the one optimizer, and with it all
 * state, is the leader's. So the answer does not depend on N.
 *
 * A helper that ends in the middle of a step: all are started again, and the gradient is made
 * again from the beginning. Nothing has changed until it is complete, so nothing half-done can be
 * seen. A step that fails so LANE_TRIES times fails for good, saying how the helpers ended.
 *
 * Threads: one; the same that the learner belongs to.
 */
#ifndef REPLAY_LANE_GROUP_H
#define REPLAY_LANE_GROUP_H

#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"
#include "engine/kernels.h"
#include "learn/learner.h"

#define LANE_WORKER_COMMAND "lane-worker"
#define LANE_TRIES          3u

struct lane_group;

struct lane_group_options {
    uint32_t n_processes; /* this one included */
    uint32_t n_lanes;     /* grad_lanes of the settings */
    struct model_config config;
    const struct kernels *kernels; /* borrowed */
    size_t threads;                /* of each process */
    size_t max_rows;
    bool recompute;
    const char *program; /* borrowed; NULL: this one, whose main() asks lane_is_worker() */
};

/* ERR_INVALID: n_processes is not a power of two that divides n_lanes. */
MUST_USE enum status lane_group_check(uint32_t n_processes, uint32_t n_lanes, struct err *e);
/* What each of the helpers takes. UINT64_MAX: does not fit. */
uint64_t lane_group_bytes(const struct lane_group_options *o);

/* Starts the helpers and waits until each has its memory. ERR_INVALID, ERR_IO, and whatever a helper says:
 * ERR_NO_MEMORY, ERR_UNSUPPORTED. */
MUST_USE enum status lane_group_open(struct lane_group **out,
                                     const struct lane_group_options *o, struct err *e);
/* Ends them. */
void lane_group_close(struct lane_group **p);

/* What a learner takes as options.crew. It must be closed before the group. ERR_IO: see above. */
const struct learn_crew *lane_group_crew(const struct lane_group *g);
/* Helper i from 1 on: its process, for tests that end it; 0: it does not run. */
pid_t lane_group_pid(const struct lane_group *g, uint32_t i);

/* The helper. Returns its exit status. */
bool lane_is_worker(int argc, char **argv);
int lane_worker_main(void);

#endif
