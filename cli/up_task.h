/*
 * cli/up_task.h - the task that `muster up` runs: a file of the user's, with a few overrides
 */
#ifndef CLI_UP_TASK_H
#define CLI_UP_TASK_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "envs/task.h"

/* In the run's directory: a link to the directory of model.init, if the task begins with one. Who
 * goes on with the run, or replays it, may stand elsewhere. */
#define UP_MODEL "model-init"

/* The directory of the task that is run when none is named: tasks/reverse-text, below the current
 * directory or beside the program's build tree. The caller frees; NULL: not found. */
char *up_task_default(void);

/* Reads the bundle of `path`, sets `seed` and `algorithm.steps` in its task file when they are
 * >= 0, appends the encoded bundle to `out` and parses the task into *t (which was task_init'ed).
 * Errors as bundle_load and task_parse; one that is not there is answered with those that come with
 * muster. */
MUST_USE enum status up_task_load(struct buf *out, struct task *t, const char *path,
                                  int64_t seed, int64_t steps, struct err *e);

/* Makes DIR/model-init lead to where model.init of the task in `path` leads. Does nothing if the
 * weights begin random. ERR_IO. */
MUST_USE enum status up_task_link_model(const char *dir, const char *path, const struct task *t,
                                        struct err *e);

#endif
