/*
 * cli/look.h - looking at a run, whether or not its orchestrator is at work
 *
 * DIR is that of any node of the run, of its orchestrator, or of `muster up`. Where the
 * orchestrator's own directory is at hand and nobody works in it, the answer is made of its ledger
 * by the orchestrator's own code (opened for reading, which needs no key); else it is asked for
 * over the network.
 */
#ifndef CLI_LOOK_H
#define CLI_LOOK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "proto/types.h"

struct look;

/* DIR itself, DIR/ledger or DIR/orchestrator/ledger: whichever holds the ledger, in a new string of
 * the caller's; NULL if none does. */
char *look_find_ledger(const char *dir);

/* ERR_NOT_FOUND: DIR is none of these. Others as client_open, and as the ledger's when it is
 * read. */
MUST_USE enum status look_open(struct look **out, const char *dir, int64_t wait_ms,
                               struct err *e);
void look_close(struct look **p);
/* False: nobody works in the run, and every look will see the same. */
bool look_is_live(const struct look *l);

/* As the answer to STATUS_ASK; *out is the caller's, for json_decref. ERR_TIMEOUT. */
MUST_USE enum status look_fetch(json_t **out, struct look *l, enum status_view what,
                                uint64_t number, int64_t wait_ms, struct err *e);

#endif
