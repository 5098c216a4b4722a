/*
 * cli/up_options.h - the options of `muster up`, and those that a run was begun with
 *
 * DIR/options holds what the network of a run is made of, as "name=value" lines, so that `muster up --dir DIR`
 * goes on with the same one. What is said again on the command line counts, and is kept in turn.
 */
#ifndef CLI_UP_OPTIONS_H
#define CLI_UP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"
#include "base/status.h"

#define UP_OPTIONS 18u
#define UP_BEGUN   "bundle" /* in DIR: the task, encoded; a run was begun there */

/* Strings are owned; table is of up_options_parse and points into the struct, which must stay where it is. */
struct up_options {
    char *dir;           /* "": one is to be chosen */
    int64_t seed, steps; /* -1: the task's */
    bool as_json;
    int64_t inference, cheats, validators, relays;
    char *cheat, *cheat_verifier, *cheat_trainer; /* the latter two "none": honest */
    int64_t trainer_processes, threads;
    char *kernels, *worker_device, *verifier_device, *trainer_device, *listen;
    struct opt table[UP_OPTIONS];
};

/* The command line, and what it leaves out of the run that it goes on with, if DIR has begun one. *path: the task's file or directory, of argv;
 * NULL: not named. USAGE_RUN, or an exit status, as usage_parse: it was told. *o is to be cleared in any case. */
int up_options_parse(struct up_options *o, const char **path, int argc, char **argv);
/* Into DIR/options, unless it is there: before anything of the run is. ERR_IO. */
MUST_USE enum status up_options_begin(const struct up_options *o, struct err *e);
/* Into DIR/options, if that has others: once the run has gone on with these. ERR_IO. */
MUST_USE enum status up_options_keep(const struct up_options *o, struct err *e);
void up_options_clear(struct up_options *o);

#endif
