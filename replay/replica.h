/*
 * replay/replica.h - a second walk along a run's course, for whoever answers for its versions
 *
 * A validator that recomputes drawn versions, and a trainer that must show how it made one, need the
 * state before that version: masters and optimizer's moments. A replica goes there from the nearest
 * state it has: where it stands, the last ones it kept on disk (every REPLICA_KEEP_EVERY versions), or
 * version 0. It remembers the state before its last step, so that a step found wrong can be argued
 * about at once.
 *
 * On disk:  DIR/kept-V, V a multiple of REPLICA_KEEP_EVERY (course_save), the last REPLICA_KEPT of them
 * Threads:  one at a time.
 */
#ifndef REPLAY_REPLICA_H
#define REPLAY_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "replay/course.h"

#define REPLICA_KEEP_EVERY 16
#define REPLICA_KEPT       4

struct replica_options {
    struct setup *setup;          /* borrowed */
    struct course_options course; /* what a cheat would do it does again */
    const char *dir;              /* borrowed */
    void *ctx;
    /* Maps the published file of a version, to be closed with file_map_close. ERR_NOT_FOUND: it is not at
     * hand; of version 0, the warm-up is done again. */
    enum status (*published)(void *ctx, int64_t version, struct file_map *file, struct err *e);
};

struct replica {
    struct replica_options options;
    struct course course;
    struct weights
        *masters;      /* owned: before the last step, of version `before`; NULL: none yet */
    struct adamw *opt; /* owned */
    int64_t before;    /* -1: none */
};

void replica_init(struct replica *r, const struct replica_options *options);
void replica_clear(struct replica *r);

/* Goes to a version at or before `version`, which *at gets. If it is `version`, replica_state has it;
 * replica_step leads on from *at, unless `is_to_look`: then it may have stepped past. Errors as course_load, course_warm_up. */
MUST_USE enum status replica_seek(struct replica *r, int64_t version, bool is_to_look,
                                  int64_t *at, struct err *e);
/* Makes version 0 from what the task says, whatever was published, some supervised steps a call:
 * *is_done, and r->course has what it gives. Where the directory of model.init is not here, it is what was
 * published of it, as replica_seek would begin. The first call begins; so does one after replica_seek. */
MUST_USE enum status replica_first(struct replica *r, bool *is_done, struct err *e);
/* From where it stands to the next version (r->course has what it gives). After a failure it begins
 * anew by replica_seek. */
MUST_USE enum status replica_step(struct replica *r, const struct msg_batch *batch,
                                  struct err *e);
/* Lends the state at `version`: where it stands, or was before. False: neither. */
bool replica_state(const struct replica *r, int64_t version, const struct weights **masters,
                   const struct adamw **opt);

#endif
