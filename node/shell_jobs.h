/*
 * node/shell_jobs.h - inside node/: the one job thread of a shell
 */
#ifndef NODE_SHELL_JOBS_H
#define NODE_SHELL_JOBS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "node/shell.h"

struct shell_job {
    struct shell_job *next;
    struct shell_part *part;
    const struct shell_part_ops *ops;
    uint32_t job;
    uint64_t number;
    struct buf args;   /* owned */
    struct buf result; /* owned */
    enum status st;
    struct err e;
};

struct jobs;

/* `notify(arg)` is called on the job thread whenever a job is done. */
void jobs_new(struct jobs **out, void (*notify)(void *arg), void *arg);
void jobs_free(struct jobs **out); /* waits for the running job, drops the rest */
/* Queues a job; the thread starts with the first. `args` is copied. */
void jobs_start(struct jobs *j, struct shell_part *part, const struct shell_part_ops *ops,
                uint32_t job, uint64_t number, struct bytes args, size_t max_result);
/* The next finished job, or NULL: the caller's, to give back to jobs_drop. */
struct shell_job *jobs_take(struct jobs *j);
void jobs_drop(struct shell_job **j);

#endif
