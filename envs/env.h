/*
 * envs/env.h - the host of environments: poses problems, answers turns, gives rewards
 *
 * An environment is a Lua script (docs/environments.md) that nobody trusts. It runs in a worker
 * process of its own: this binary executed again, with no descriptors but two pipes, no
 * environment variables, resource limits and a seccomp filter that leaves read, write, exit and
 * memory. Every call starts from the same memory image, so nothing is carried from one call to
 * the next, and a result is a function of (bundle, problem, messages): the same bits on every
 * machine with the same Lua release.
 *
 * Two kinds of limit. Counted ones (instructions, bytes) are part of the environment's meaning:
 * they are reached on every machine or on none, and a score that reaches one is reward_min.
 * The wall clock is not: a call that takes too long gives ERR_TIMEOUT, no verdict, and a new
 * worker is started for the next call.
 *
 * Failure:  ERR_TIMEOUT, ERR_IO (the worker died): nothing was learnt, try again or elsewhere.
 *           ERR_LIMIT, ERR_INVALID: the script's own deterministic failure to pose a problem.
 * Threads:  an env belongs to one thread at a time; several may be open at once.
 *
 * Programs that open an env must give env_worker_main() control at the start of main() when
 * env_is_worker(argc, argv): muster does so by its hidden command `env-worker`.
 */
#ifndef ENVS_ENV_H
#define ENVS_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "envs/task.h"

#define ENV_TEXT_MAX_BYTES (256u << 10) /* of one message, and of a reply */
#define ENV_MESSAGES_MAX   64u          /* of an episode */
#define ENV_METRICS_MAX    16u
#define ENV_METRIC_BYTES   32u

struct env;

struct env_options {
    const char *program;    /* executed as worker; NULL: this very binary */
    bool allow_unsandboxed; /* run without what the kernel refuses instead of ERR_DENIED */
    bool keep_stderr;       /* let the worker's stderr through, for debugging */
};

/* Held-out problems never occur in training: the script draws from disjoint sets. */
enum env_split { ENV_TRAIN = 0, ENV_HELDOUT = 1 };

struct env_problem {
    uint64_t index; /* in [0, env_n_tasks) */
    uint64_t seed;
    enum env_split split;
};

/* An episode after the prompt: the model speaks first, then both in turn. */
enum env_author { ENV_MODEL = 0, ENV_WORLD = 1 };
struct env_message {
    enum env_author author;
    struct bytes text; /* lent; any bytes */
};

enum env_outcome {
    ENV_SCORED,       /* the script returned a reward within the task's range */
    ENV_FAILED_ERROR, /* it raised an error or returned something else: reward_min */
    ENV_FAILED_LIMIT, /* it reached its instructions or memory: reward_min */
};

struct env_metric {
    char name[ENV_METRIC_BYTES];
    double value; /* finite */
};

struct env_score {
    float reward; /* the script's number rounded to binary32 */
    enum env_outcome outcome;
    char why[128];                             /* what failed, "" if nothing */
    struct env_metric metric[ENV_METRICS_MAX]; /* sorted by name */
    size_t n_metrics;
};

/* What the last call used, of the task's limits. */
struct env_usage {
    uint64_t instructions; /* counted in steps of ENV_COUNT_STEP */
    uint64_t memory_bytes; /* at its highest, the script itself included */
};
#define ENV_COUNT_STEP 1000u

/* Starts a worker with the environment of bundle `b`, whose task.yaml was parsed as `t`. Both
 * are copied. opt may be NULL. ERR_DENIED: this process is itself a worker, or the kernel gives no
 * sandbox; the text says what is missing. ERR_INVALID: the script does not load; the text has its message. */
MUST_USE enum status env_open(struct env **out, const struct task *t, const struct bundle *b,
                              const struct env_options *opt, struct err *e);
void env_close(struct env **p);

uint64_t env_n_tasks(const struct env *env); /* what the script's load returned, >= 1 */
bool env_has_demo(const struct env *env);
bool env_has_step(const struct env *env); /* multi-turn */
bool env_is_sandboxed(const struct env *env);

/* Appends the problem's prompt to `text`. */
MUST_USE enum status env_prompt(struct env *env, const struct env_problem *p, struct buf *text,
                                struct err *e);
/* Appends a worked answer, which need not be perfect. ERR_NOT_FOUND: it has no demonstrations. */
MUST_USE enum status env_demo(struct env *env, const struct env_problem *p, struct buf *text,
                              struct err *e);
/* After the model's message m[n-1]: either *is_done, or appends what the world says next. A
 * script without step is done after the first answer, and a failed step is done too. */
MUST_USE enum status env_step(struct env *env, const struct env_problem *p,
                              const struct env_message *m, size_t n, bool *is_done,
                              struct buf *text, struct err *e);
/* Why the script's step failed in the last call of env_step; "" if it did not. Lent until the next. */
const char *env_step_failure(const struct env *env);
/* The reward of an episode. A failing script is an outcome, not an error. */
MUST_USE enum status env_score(struct env *env, const struct env_problem *p,
                               const struct env_message *m, size_t n, struct env_score *score,
                               struct err *e);
/* The common case: one answer. */
MUST_USE enum status env_score_text(struct env *env, const struct env_problem *p,
                                    struct bytes completion, struct env_score *score,
                                    struct err *e);
struct env_usage env_last_usage(const struct env *env);

/* What this machine's kernel offers. OK, or ERR_DENIED naming what is missing. */
MUST_USE enum status env_sandbox_check(struct err *e);
/* "Lua 5.4.4": nodes of a run must agree on it. */
const char *env_lua_release(void);

#define ENV_WORKER_COMMAND "env-worker"
bool env_is_worker(int argc, char **argv); /* argv[1] is the command */
int env_worker_main(void);                 /* serves fds 0 and 1 until they close */

#endif
