/*
 * cli/up_result.h - how a run of `muster up` went
 *
 * Made of what the orchestrator said last, of the run's directory, and of an evaluation of the
 * first and the last weights on held-out problems.
 */
#ifndef CLI_UP_RESULT_H
#define CLI_UP_RESULT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/status.h"
#include "envs/task.h"
#include "ledger/audit.h"
#include "proto/types.h"
#include "rollout/rollout.h"

#define UP_SAMPLES 3u

/* The hex name of the node whose home is dir/name; false if it has no keys yet. */
bool up_node_name(const char *dir, const char *name, char hex[2 * KEY_BYTES + 1]);

/* The run, lent. */
struct up_run {
    const char *dir;
    const struct task *task;
    struct bytes bundle;
    const json_t *status;      /* the last STATUS_ASK's answer */
    int64_t inference, cheats; /* workers, and how many of them, the last ones, cheat */
    int64_t validators;
    const char *cheat_verifier; /* how the last validator cheats; "none" */
    int64_t seconds_ms;         /* from the first child's start to the last one's end */
};

struct up_result {
    float before, after; /* mean reward of version 0 and of the last */
    struct rollout_sample was[UP_SAMPLES], is[UP_SAMPLES];
    struct audit_report audit;
    int64_t units_accepted, units_refused, units_late; /* refused: wrong; late: for its time */
    int64_t honest_refused; /* units of workers that do not cheat, found wrong: must be 0 */
    int64_t canaries, contradicted; /* units revealed as such; verdicts that they contradict */
    int64_t honest_contradicted;    /* of these, by validators that do not cheat: must be 0 */
    int64_t validators_barred;
    int64_t cheats_slashed, staleness_max, tokens_trained, version;
    int64_t unit_refused; /* one, to look at; -1: none */
    char *evidence;       /* owned: the file that shows why; NULL: none */
    char weights[65];     /* hash of the last version, hex */
    char *model_dir;      /* owned */
};

/* Not to be called while the network runs. *r need not be initialised, and is to be cleared in any case. Errors as up_evaluate; the
 * ledger's audit is in r->audit. */
MUST_USE enum status up_result_make(struct up_result *r, const struct up_run *run,
                                    struct err *e);
void up_result_clear(struct up_result *r);

/* The one JSON object, with a newline. */
void up_result_json(FILE *to, const struct up_result *r, const struct up_run *run);
/* For people: samples before and after, what it took, what to look at next. */
void up_result_print(FILE *to, const struct up_result *r, const struct up_run *run);

#endif
