/*
 * shardcast/station.h - the process around a role: keys, shell, shardcast, membership
 *
 * Every role but the orchestrator stands on the same four legs, put up and taken down in the same
 * order. A role fills in its callbacks, opens a station, makes its own state, and runs:
 *
 *     station_open(&w->at, &options, e);
 *     station_run(&w->at, e);               until shell_stop, station_fail, or a failure
 *     station_close(&w->at);
 *
 * Members of struct station are lent to the role between open and close.
 *
 * Threads: the shell's; station_close after station_run has returned.
 */
#ifndef SHARDCAST_STATION_H
#define SHARDCAST_STATION_H

#include "base/status.h"
#include "node/key.h"
#include "node/node_options.h"
#include "node/shell.h"
#include "node/sock.h"
#include "shardcast/cast.h"
#include "shardcast/member.h"

struct station {
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part; /* the role's */
    struct cast *cast;
    struct member *member;
    int lock_fd;                  /* private: DIR/lock, so that DIR has one process at a time */
    char own[SOCK_ADDRESS_BYTES]; /* private: the host that peers are told, where none was */
    enum status st;               /* private: what station_fail was told */
    struct err err;
};

/* A station that is not open: station_close is fine with it. */
#define STATION_CLOSED                                                                         \
    {                                                                                          \
        .lock_fd = -1                                                                          \
    }

struct station_options {
    const struct node_options *node; /* borrowed for the call; strings until station_close */
    struct shell_part_ops ops;       /* the role's part */
    size_t max_job_result;           /* as shell_add_part */
    struct cast_options cast;        /* listen, advertise, ceilings: from `node` */
    struct member_options member;    /* link is taken from `node` */
};

/* Makes or loads the keys of DIR, binds, connects. ops.ctx must be ready for callbacks only once
 * station_run is called. On failure *s is as after station_close. ERR_EXISTS: another process
 * works in DIR; else the errors of member_keys, shell_new, cast_new and member_new. */
MUST_USE enum status station_open(struct station *s, const struct station_options *opt,
                                  struct err *e);
void station_close(struct station *s);

/* Ends station_run with this failure. From any callback; the first one told counts. */
void station_fail(struct station *s, enum status st, const struct err *e);

/* shell_run, then whatever ended it: station_fail's reason, a disk that cannot keep what must be kept, or
 * the orchestrator's refusal. */
MUST_USE enum status station_run(struct station *s, struct err *e);

#endif
