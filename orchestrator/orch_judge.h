/*
 * orchestrator/orch_judge.h - the thread that judges disputes
 *
 * A game is replayed in milliseconds, but of version 0 the referee makes the warm-up (docs/disputes.md), which
 * takes as long as it took the trainer. The job thread brings back every draw, so nothing long may run
 * on it.
 *
 * Threads: any; one judgement at a time.
 */
#ifndef ORCHESTRATOR_ORCH_JUDGE_H
#define ORCHESTRATOR_ORCH_JUDGE_H

#include <stdbool.h>

#include "base/status.h"
#include "ledger/steps.h"

struct orch_judge;

/* `notify(arg)` is called on the thread when a judgement can be taken. `judge` may be NULL: there is none. */
void orch_judge_new(struct orch_judge **out, ledger_judge *judge, void (*notify)(void *arg),
                    void *arg);
/* Tells the one that runs to stop, and waits for it: of a warm-up that is one step. Then none can be started. */
void orch_judge_stop(struct orch_judge *j);
void orch_judge_free(struct orch_judge **p); /* stops it */
/* Copies the transcript. ERR_UNSUPPORTED: there is no judge; ERR_EXISTS: it is at another, or what it came to
 * was not taken, or it was stopped; ERR_NO_MEMORY, ERR_IO: no thread. */
MUST_USE enum status orch_judge_start(struct orch_judge *j, struct bytes transcript,
                                      struct err *e);
/* False: nothing has ended. Else once: what it came to, with the status of the judge in *st. */
bool orch_judge_take(struct orch_judge *j, enum status *st, struct ledger_judgement *out,
                     struct err *e);

#endif
