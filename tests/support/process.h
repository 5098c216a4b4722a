/*
 * support/process.h - child processes with their output kept
 *
 * stdout and stderr of a child go to two files of its own in `dir`. A child that is still alive
 * when its test program ends is killed by the kernel (PR_SET_PDEATHSIG).
 */
#ifndef SUPPORT_PROCESS_H
#define SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
    pid_t pid;      /* 0: not running */
    char *out_path; /* owned */
    char *err_path; /* owned */
    char name[64];
    bool has_ended;
    int wait_status; /* of waitpid(2), once has_ended */
};

/* Starts argv[0] (searched in PATH) with stdout in dir/<name>.out and stderr in dir/<name>.err,
 * both appended to, so that a restart keeps the story. argv is NULL-terminated. */
void process_start(struct process *p, const char *dir, const char *name,
                   const char *const *argv);
/* Whether it still runs; reaps it when it has ended. */
bool process_is_running(struct process *p);
void process_signal(struct process *p, int sig);
/* True when it ended within `ms`; then *exit_status is its status, or 128 + signal. */
bool process_wait(struct process *p, int64_t ms, int *exit_status);
/* SIGKILL if it runs, reaps, frees. Leaves *p as zeros. */
void process_clear(struct process *p);
/* What it wrote, NUL-terminated; the caller frees. "" when nothing. */
char *process_stdout(const struct process *p);
char *process_stderr(const struct process *p);
/* Prints both to stderr, for a test that is about to fail. */
void process_show(const struct process *p);

/* The muster program that integration tests run: $MUSTER. Ends with status 77 (skipped) when
 * there is none. */
const char *process_muster(void);

#endif
