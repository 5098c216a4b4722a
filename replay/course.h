/*
 * replay/course.h - the weights of a run, version after version
 *
 * A course begins with initial weights, imitates demonstrations, which makes version 0, and then
 * takes batch after batch, each of which makes the next version. Every version is a function of
 * the task bundle and the batches so far; what it commits to is its manifest. The trainer walks
 * it with a disk underneath, `muster replay` without one.
 *
 * Threads: one at a time.
 */
#ifndef REPLAY_COURSE_H
#define REPLAY_COURSE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/pool.h"
#include "base/status.h"
#include "learn/learner.h"
#include "proto/msg.h"
#include "replay/cheat.h"
#include "replay/lane_group.h"
#include "rollout/setup.h"

struct course_options {
    struct digest run;             /* as in learn_rules */
    const struct kernels *kernels; /* borrowed */
    struct pool *pool;             /* borrowed; may be NULL */
    uint64_t max_bytes; /* refuse to take more memory; 0: more than the device has free */
    const char *model;  /* borrowed: the directory of model.init on this machine; NULL or "":
                             * as the task names it, seen from the working directory */
    uint32_t processes; /* that share a step's lanes (replay/lane_group.h); 0: 1 */
    enum train_cheat cheat; /* for trying a network's defences */
};

struct course {
    struct setup *setup;      /* borrowed */
    struct learner *learner;  /* owned; NULL before course_begin or course_load */
    struct lane_group *group; /* owned; NULL: one process */
    struct course_options options;
    bool
        is_planned; /* its memory, that is: what this process takes beside the weights it loaded, */
    uint64_t own_bytes, each_bytes; /* and each of the others */
    struct learn_settings settings;
    uint64_t n_warm;                  /* supervised steps taken, while there is no version */
    int64_t version;                  /* newest made; -1: none yet */
    struct digest weights;            /* its root */
    struct digest masters, optimizer; /* roots of the learner's state */
    struct buf manifest;              /* owned: its manifest's encoded body */
    struct learn_report report;       /* of the step that made it */
};

/* Leaves *c without weights: course_begin or course_load comes next. */
void course_init(struct course *c, struct setup *setup, const struct course_options *options);
void course_clear(struct course *c);

/* The task's algorithm and optimizer as the learner takes them. ERR_UNSUPPORTED names a choice
 * this program does not have. */
MUST_USE enum status course_settings(struct learn_settings *out, const struct task *t,
                                     struct err *e);

/* What course_begin and course_warm_up take of the host's memory in one process, from nothing to version 0's
 * manifest: known before anything of it is taken. UINT64_MAX: does not fit. Errors as course_settings. */
MUST_USE enum status course_first_bytes(uint64_t *out, const struct task *t,
                                        const struct model_config *config, struct err *e);

/* What batch `head` of a task must agree with; it makes version head + 1. */
struct learn_rules course_rules(const struct task *t, const struct digest *task_id,
                                uint32_t vocab, int64_t head, const struct digest *run);

/* The directory of model.init here, whether or not it is there; borrowed. NULL: random weights. */
const char *course_model_dir(const struct setup *setup, const struct course_options *options);

/* Initial weights, and the processes that work on them: random by the task's seed, or those of course_model_dir, which must
 * have the task's shape (ERR_INVALID). Errors of weights_load, course_settings, learner_new. */
MUST_USE enum status course_begin(struct course *c, struct err *e);

/* Instead: begins at version 0, with its published weights, which are the masters. ERR_UNSUPPORTED:
 * they are not (model.dtype); ERR_MALFORMED: the file is of another model. */
MUST_USE enum status course_begin_at_first(struct course *c, struct bytes file, struct err *e);

/* Called after each supervised step; returning false stops with ERR_TIMEOUT. */
typedef bool course_progress(void *arg, uint64_t step, uint64_t steps, float loss);

/* The supervised steps; then version 0 exists. Errors as learner_imitate and setup_demo. */
MUST_USE enum status course_warm_up(struct course *c, course_progress *progress, void *arg,
                                    struct err *e);
/* The same in parts: at most n of them. Version 0 exists after the last: c->version. */
MUST_USE enum status course_warm_up_some(struct course *c, uint64_t n, struct err *e);

/* Makes version c->version + 1 from batch c->version. On failure the
 * course must be cleared and loaded again, unless the batch was refused (ERR_DIGEST,
 * ERR_MALFORMED, ERR_DENIED): then nothing changed. */
MUST_USE enum status course_step(struct course *c, const struct msg_batch *m, struct err *e);

/* The newest version as one safetensors file, appended to `out`. */
MUST_USE enum status course_file(const struct course *c, struct buf *out, struct err *e);
/* An upper bound of that file's bytes, for the ceiling of `out`. */
size_t course_file_bytes(const struct course *c);

/* What the next version is made of besides the batch, as one safetensors file, appended to `out`: the
 * moments of each tensor ("m.NAME", "v.NAME"), and the masters ("master.NAME") where the published
 * weights are rounded. The number of steps taken is "step", 64 bits as two F32 patterns. */
MUST_USE enum status course_state_file(const struct course *c, struct buf *out, struct err *e);
/* An upper bound of its bytes. */
size_t course_state_bytes(const struct course *c);

/* The state after the newest version: masters, moments, and in the checkpoint's metadata version
 * and manifest. `path` is replaced as a whole, or not at all. Loading checks that they belong
 * together: ERR_CORRUPT otherwise; ERR_NOT_FOUND: no such file. After a failed load the course has
 * no weights. */
MUST_USE enum status course_save(const struct course *c, const char *path, struct err *e);
MUST_USE enum status course_load(struct course *c, const char *path, struct err *e);

#endif
