/*
 * cli/up_stall.h - when `muster up` tells that a process cannot live, and when it gives up
 *
 * Any process may die and is started again, so a single death is no news. One that dies again and
 * again, after seconds each time or after minutes in which the run got no further, is told, with its
 * last word; a run that gets no further for a minute while there is such a process, or when all
 * workers were barred, has failed. Getting further is a new version, an accepted unit, or a trainer
 * that has something to compute, however long that takes.
 *
 * Threads: one. Time is a parameter.
 */
#ifndef CLI_UP_STALL_H
#define CLI_UP_STALL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "cli/children.h"

#define UP_STALL_MS 60000

struct up_stall {
    int64_t progress;    /* how far the run is */
    int64_t progress_ms; /* since when */
};

/* "trainer ends again and again: ..." into `text`, or "inference-4 is not started again: ..." of the last
 * that was refused; NULL if there is neither. */
const char *up_stuck_note(const struct children *c, int64_t now_ms, char *text, size_t size);

void up_stall_init(struct up_stall *s, int64_t now_ms);
/* To be called as often as the status is asked; `status` is the last answer, NULL before the
 * first. Give up on ERR_IO, with the last word of the process that cannot live, and on ERR_DENIED:
 * every worker was barred, or every validator. */
MUST_USE enum status up_stall_check(struct up_stall *s, struct children *c,
                                    const json_t *status, int64_t now_ms, struct err *e);

#endif
