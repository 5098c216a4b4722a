/*
 * orchestrator/orch_terms.h - what a task file's money says in a TASK_OPEN entry
 */
#ifndef ORCHESTRATOR_ORCH_TERMS_H
#define ORCHESTRATOR_ORCH_TERMS_H

#include "envs/task.h"
#include "ledger/body.h"

/* Fills in all but the task's digest and the initiator. */
void orch_task_terms(struct ledger_task_open *x, const struct task *t, int64_t deposit);

#endif
