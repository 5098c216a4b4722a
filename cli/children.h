/*
 * cli/children.h - the processes that `muster up` starts and keeps alive
 *
 * Each child is this very program with another subcommand, its stderr in DIR/<name>.log. A child
 * that dies is started again after a pause that doubles from 0.2 s to 5 s; one that exits with
 * status 0 is done, one that exits with ROLE_REFUSED is not wanted any more, and both stay so. All die with their parent (PR_SET_PDEATHSIG).
 *
 * Threads: one.
 */
#ifndef CLI_CHILDREN_H
#define CLI_CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

#define CHILDREN_MAX      64u
#define CHILD_ARGS_MAX    32u
#define CHILD_NAME_BYTES  32u
#define CHILD_WHY_BYTES   256u
#define CHILD_QUICK_LIVES 5u /* so many in a row, or so many in vain, and it is stuck */

struct child {
    char name[CHILD_NAME_BYTES];
    char *argv[CHILD_ARGS_MAX + 1]; /* owned strings, NULL-terminated */
    char *log_path;                 /* owned */
    pid_t pid;                      /* 0: not running */
    bool is_done;                   /* exited with status 0 */
    bool is_given_up;               /* exited with status 2: its command line is wrong */
    bool is_refused;                /* exited with ROLE_REFUSED */
    unsigned quick_lives;           /* in a row, each shorter than ten seconds */
    unsigned vain_lives;            /* that failed since the run last got further */
    char why[CHILD_WHY_BYTES];      /* how its last life ended; "" if it never did */
    int64_t start_ms;               /* when it was last started */
    int64_t restart_at_ms;          /* when to start it again; refused: when that was */
};

struct children {
    struct child v[CHILDREN_MAX];
    size_t n;
    char *program; /* owned: /proc/self/exe resolved */
    bool is_stopping;
};

void children_init(struct children *c);
/* Terminates what still runs (SIGTERM, then SIGKILL after `grace_ms`), then frees. */
void children_clear(struct children *c, int64_t grace_ms);

/* Adds a child of `muster <args...>`; args is NULL-terminated and copied. Not yet started. */
struct child *children_add(struct children *c, const char *name, const char *dir,
                           const char *const *args);
/* Starts everything that should run now and is not running, reaps what has ended. Call it every
 * 100 ms or so. ERR_IO when a process cannot be started. */
MUST_USE enum status children_tick(struct children *c, int64_t now_ms, struct err *e);
/* The run got further: no life so far was in vain. */
void children_progress(struct children *c);
/* Whether it dies again and again, soon or late: trying on may help, but somebody should know. */
bool children_is_stuck(const struct child *ch, int64_t now_ms);
/* The last `n` lines of a child's log, without the last newline; the caller frees. "" if there
 * are none. */
char *children_log_tail(const struct child *ch, size_t n);

#endif
