/*
 * verifier/verify_cheat.h - the dishonest validators of the test bench
 *
 * Threads: the job's.
 */
#ifndef VERIFIER_VERIFY_CHEAT_H
#define VERIFIER_VERIFY_CHEAT_H

#include "proto/msg.h"
#include "rollout/check.h"
#include "verifier/verify_run.h"

/* True: *f and *probe are what the cheat says of a submission that decodes, whatever it is, and nothing need
 * be checked. False: the cheat has this one checked like anybody. */
bool verify_cheat_says(struct rollout_finding *f, struct rollout_probe *probe,
                       const struct verify_run_options *opt, const struct public_key *worker,
                       const struct msg_submit *s);

#endif
