/*
 * envs/script.h - one environment script in a Lua state of its own
 *
 * The pure part of an environment: no processes and no clock. A script is loaded once; then the
 * whole state is remembered (envs/arena.h), and every call starts from that image. Within a call
 * everything that could differ between machines is taken away or defined:
 *
 *   - pairs and next go through numbers in ascending order, then strings in byte order;
 *   - math.random is Philox keyed by the problem's seed; exp, log, sin, ^ ... are det_math's;
 *   - table.sort is a stable merge sort; tostring gives no addresses;
 *   - strings hash from a fixed seed and objects by fixed addresses, so that a table's inner
 *     layout, which `#` of a table with holes shows, is the same everywhere;
 *   - instructions and bytes are counted, and reaching a limit ends the call for good: pcall
 *     cannot catch it;
 *   - io, os, package, debug, coroutine, load and collectgarbage are not there.
 *
 * The seed is fixed by linking Lua statically with `--wrap=luaS_hash` and `--wrap=pow`
 * (envs/CMakeLists.txt).
 *
 * Threads: one.
 */
#ifndef ENVS_SCRIPT_H
#define ENVS_SCRIPT_H

#include "base/bytes.h"
#include "base/status.h"
#include "envs/env.h"
#include "envs/task.h"

struct script;

struct script_source {
    struct bytes lua;  /* env.lua */
    struct bytes data; /* data.jsonl, or empty; lent while the script lives */
    const struct task_param *param;
    size_t n_params;
    uint64_t instructions; /* limits of one call, and of loading */
    uint64_t memory_bytes;
};

enum script_op { SCRIPT_PROMPT = 1, SCRIPT_DEMO, SCRIPT_STEP, SCRIPT_SCORE };

enum script_end {
    SCRIPT_DONE,
    SCRIPT_ERROR,  /* the script raised an error, or returned what it should not */
    SCRIPT_LIMIT,  /* instructions or memory */
    SCRIPT_ABSENT, /* the script has no such function */
};

struct script_call {
    enum script_op op;
    struct env_problem problem;
    const struct env_message *message; /* STEP, SCORE */
    size_t n_messages;
};

struct script_result {
    enum script_end end;
    char why[128];     /* ERROR, LIMIT: text, printable */
    struct bytes text; /* PROMPT, DEMO, STEP; lent until the next call */
    bool is_done;      /* STEP */
    double reward;     /* SCORE: as the script gave it */
    struct env_metric metric[ENV_METRICS_MAX];
    size_t n_metrics;
    struct env_usage usage;
};

/* Takes the memory, so that the process may confine itself before a line of the script runs.
 * What src points to stays the caller's and must live as long as the script. */
MUST_USE enum status script_open(struct script **out, const struct script_source *src,
                                 struct err *e);
/* Runs the script and its load. Once, before all that follows.
 * ERR_INVALID: the script has an error, text as Lua gives it. ERR_LIMIT: it hits a limit. */
MUST_USE enum status script_load(struct script *s, struct err *e);
void script_close(struct script **s);

uint64_t script_n_tasks(const struct script *s);
bool script_has(const struct script *s, enum script_op op);

/* Never fails: what went wrong is the result. */
void script_run(struct script *s, const struct script_call *call, struct script_result *out);

/* Once per process, before any script and before the sandbox: fixes what libraries seed. */
void script_prepare(void);

#endif
