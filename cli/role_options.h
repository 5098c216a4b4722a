/*
 * cli/role_options.h - the options that every role has
 */
#ifndef CLI_ROLE_OPTIONS_H
#define CLI_ROLE_OPTIONS_H

#include <stddef.h>

#include "base/options.h"
#include "node/node_options.h"

struct role_options {
    char *dir, *join, *listen, *advertise, *kernels, *device, *log_level;
    int64_t threads;
    double up_mbps, down_mbps;
    bool allow_unsandboxed;
};

#define ROLE_OPTIONS_COUNT 11u
/* A row of its own for those who make version 0. */
#define ROLE_MODEL_ROW(place)                                                                  \
    {                                                                                          \
        "model", OPT_STRING, (place), "", NULL,                                                \
            "directory of the model that the task begins with; empty: as model.init says",     \
            false                                                                              \
    }

/* Fills the first ROLE_OPTIONS_COUNT rows of `table`; a role adds its own behind them. */
void role_options_table(struct opt *table, struct role_options *o);
/* What the rows were set to, as roles take it (strings lent), and the log level. */
struct node_options role_options_apply(const struct role_options *o);

#define ROLE_REFUSED 3 /* status of one that the orchestrator refused for good */

/* The end of every role command: OK is 0, a failure is told and is 1, or ROLE_REFUSED on ERR_DENIED:
 * starting it again changes nothing. */
int role_finish(const char *role, enum status st, const struct err *e);

#endif
