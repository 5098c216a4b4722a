/*
 * cli/up_options.h - the options of `muster up`, and those that a run was begun with
 *
 * DIR/options holds what the network of a run was begun with, as "name=value" lines, so that `muster up --dir DIR`
 * goes on with the same. What is said again on the command line counts that time, but who cheats stays as it was: a
 * run for which nothing was kept goes on without cheats, if none are asked for.
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

/* The command line, and what it leaves out of the run that it goes on with, if DIR has begun one. *path: the task's
 * file or directory, of argv; NULL: not named. USAGE_RUN, or an exit status, as usage_parse: it was told. *o is to be
 * cleared in any case. */
int up_options_parse(struct up_options *o, const char **path, int argc, char **argv);
/* Whether DIR has begun a run. */
bool up_options_is_begun(const struct up_options *o);
/* Into DIR/options, unless a run was begun there: before anything of it is. ERR_IO, ERR_FULL; ERR_INVALID: there is a
 * file of that name which is something else. */
MUST_USE enum status up_options_keep(const struct up_options *o, struct err *e);
void up_options_clear(struct up_options *o);

#endif
