/*
 * orchestrator/orch_run.h - the process: files, sockets and clocks around orch_state
 *
 * On disk, in `dir`:
 *   ledger/       LMDB: entries, blobs, and in "meta" the roster's number, the nodes' endpoints
 *                 and the beacon's salt (ledger/tables.h)
 *   keys/         node, owner and transport key (node/key.h), unless told otherwise
 *   ready.json    {"ready":true,"control":...,"enrol":...,"run":...,"key":...}: its place
 *   invites.json  0600: the links of all invites, {"invites":[{"role":...,"link":...}]}
 *   lock          held while it runs: a second orchestrator on the directory is refused
 *
 * Failure:  a transaction that fails (disk full) ends the process with status 1; everything
 *           it had acknowledged is on disk, and started again it goes on.
 */
#ifndef ORCHESTRATOR_ORCH_RUN_H
#define ORCHESTRATOR_ORCH_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/status.h"
#include "ledger/steps.h"
#include "orchestrator/orch_state.h"

struct orch_config {
    const char *dir;
    const char *keys;      /* NULL or "": dir/keys; made if there are none */
    const char *listen;    /* control socket: "tcp://127.0.0.1:*" */
    const char *enrol;     /* enrolment socket */
    const char *advertise; /* NULL or "": host name in links instead of the one listened on */
    const char *invites;   /* "inference:4,verifier:2": made when the run begins; NULL or "" */
    uint64_t beacon_length, mature_window; /* of a new run */
    uint64_t map_bytes;                    /* ceiling of the ledger's file */
    ledger_judge *judge;                   /* of disputes; NULL: they stay open */
    orch_first_bytes *first_bytes;         /* that judging version 0 takes; NULL: none */
    bool exit_when_done;                   /* return some seconds after the task is closed */
};

/* Runs until it is told to stop (OK) or fails. Once it listens, prints ready.json's line to
 * stdout. Logs. */
MUST_USE enum status orch_run(const struct orch_config *c, struct err *e);

#endif
