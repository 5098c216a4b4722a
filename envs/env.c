#include "envs/env.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <lua.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/helper.h"
#include "envs/env_wire.h"
#include "envs/sandbox.h"

/* Starting a program may take long on a busy machine, and says nothing about the script. */
#define START_MS 30000

struct env {
    char *program; /* owned */
    bool keep_stderr;
    bool allow_unsandboxed;
    struct buf setup; /* the SETUP frame, sent to each worker */
    int64_t wall_ms;
    double reward_min, reward_max;

    struct helper worker;
    struct buf out, in;

    uint64_t n_tasks; /* as the first worker's hello says */
    bool has_demo, has_step, is_sandboxed;
    struct env_usage usage;
    char step_why[sizeof(((struct env_score *)0)->why)]; /* why the last step failed, or "" */
};

const char *env_lua_release(void)
{
    return LUA_RELEASE;
}

enum status env_sandbox_check(struct err *e)
{
    return sandbox_check(e);
}

/* ---- the worker process -------------------------------------------------------------------- */

/* In the worker's environment. */
#define WORKER_MARK "MUSTER_ENV_WORKER=1"

/* The worker is gone: says how. */
static enum status report_death(struct env *env, struct err *e)
{
    int status = helper_stop(&env->worker);

    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return err_set(e, ERR_TIMEOUT, "the environment took more than %" PRId64 " ms",
                       env->wall_ms);
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        return err_set(e, ERR_IO, "the environment's worker died: %s",
                       strsignal(WTERMSIG(status)));
    return err_set(e, ERR_IO, "the environment's worker ended");
}

/* What helper_send or helper_receive came to. */
static enum status conclude(struct env *env, enum status st, struct err *e)
{
    if (!st)
        return OK;
    if (st != ERR_TIMEOUT)
        return report_death(env, e);
    helper_stop(&env->worker);
    return err_set(e, ERR_TIMEOUT, "the environment took more than %" PRId64 " ms",
                   env->wall_ms);
}

/* A worker that does not read what it is sent is one that is too slow. */
static enum status send_frame(struct env *env, struct bytes b, int64_t within_ms, struct err *e)
{
    return conclude(env, helper_send(&env->worker, b, clock_mono_ms() + within_ms), e);
}

static enum status receive(struct env *env, uint8_t *p, size_t n, int64_t deadline_ms,
                           struct err *e)
{
    return conclude(env, helper_receive(&env->worker, p, n, deadline_ms), e);
}

/* The next frame into env->in. */
static enum status receive_frame(struct env *env, int64_t within_ms, struct err *e)
{
    int64_t deadline_ms = clock_mono_ms() + within_ms;
    uint8_t head[4], *body;
    struct reader r = reader_of(BYTES_OF(head));
    enum status st;
    uint32_t len;

    buf_reset(&env->in);
    st = receive(env, head, sizeof(head), deadline_ms, e);
    if (st)
        return st;
    len = reader_u32(&r);
    body = buf_extend(&env->in, len);
    if (!body) {
        helper_stop(&env->worker);
        return err_set(e, ERR_IO, "the environment's worker sent a frame of %u bytes", len);
    }
    return receive(env, body, len, deadline_ms, e);
}

static void start_frame(struct buf *out)
{
    buf_reset(out);
    buf_put_u32(out, 0);
}

static enum status finish_frame(struct buf *out, struct err *e)
{
    enum status st = buf_status(out, e);

    for (int i = 0; i < 4 && !st; i++)
        out->data[i] = (uint8_t)((uint32_t)(out->len - 4) >> (8 * i));
    return st;
}

static enum status take_hello(struct env *env, struct err *e)
{
    struct env_hello hello;
    enum status st;

    st = receive_frame(env, env->wall_ms + START_MS, e);
    if (st)
        return st;
    st = env_hello_decode(&hello, buf_bytes(&env->in), e);
    if (!st && hello.st)
        st = err_set(e, hello.st, "%.*s", (int)hello.text.len, (const char *)hello.text.data);
    if (!st && !hello.is_sandboxed && !env->allow_unsandboxed)
        st = err_set(e, ERR_DENIED, "the environment's worker is not confined");
    if (st) {
        helper_stop(&env->worker);
        return st;
    }
    env->n_tasks = hello.n_tasks;
    env->has_demo = hello.has_demo;
    env->has_step = hello.has_step;
    env->is_sandboxed = hello.is_sandboxed;
    return OK;
}

static enum status start(struct env *env, struct err *e)
{
    const struct helper_options o = {.program = env->program,
                                     .command = ENV_WORKER_COMMAND,
                                     .mark = WORKER_MARK,
                                     .keep_stderr = env->keep_stderr};
    enum status st = helper_start(&env->worker, &o, e);

    if (!st)
        st = send_frame(env, buf_bytes(&env->setup), START_MS, e);
    return st ? st : take_hello(env, e);
}

/* ---- opening ------------------------------------------------------------------------------- */

enum status env_open(struct env **out, const struct task *t, const struct bundle *b,
                     const struct env_options *opt, struct err *e)
{
    struct env_setup setup = {0};
    struct env *env;
    enum status st;

    *out = NULL;
    if (helper_is_marked(WORKER_MARK))
        return err_set(e, ERR_DENIED,
                       "this process was started as an environment's worker and opens another: "
                       "its main() does not ask env_is_worker()");
    if (!b->file[BUNDLE_ENV].data)
        return err_set(e, ERR_INVALID, "the bundle has no env.lua");
    if (!opt || !opt->allow_unsandboxed) {
        st = sandbox_check(e);
        if (st)
            return st;
    }
    env = xcalloc(1, sizeof(*env));
    env->worker = HELPER_NONE;
    env->program = xstrdup(opt && opt->program ? opt->program : "/proc/self/exe");
    env->keep_stderr = opt && opt->keep_stderr;
    env->allow_unsandboxed = opt && opt->allow_unsandboxed;
    env->wall_ms = t->environment.wall_ms;
    env->reward_min = t->acceptance.reward_min;
    env->reward_max = t->acceptance.reward_max;
    buf_init(&env->setup, ENV_FRAME_MAX_BYTES);
    buf_init(&env->out, ENV_CALL_MAX_BYTES);
    buf_init(&env->in, ENV_REPLY_MAX_BYTES);

    setup.src.lua = b->file[BUNDLE_ENV];
    setup.src.data = b->file[BUNDLE_DATA];
    setup.src.param = t->environment.param;
    setup.src.n_params = t->environment.n_params;
    setup.src.instructions = (uint64_t)t->environment.instructions;
    setup.src.memory_bytes = (uint64_t)t->environment.memory_bytes;
    setup.wall_ms = (uint64_t)t->environment.wall_ms;
    setup.allow_unsandboxed = env->allow_unsandboxed;
    start_frame(&env->setup);
    env_setup_encode(&env->setup, &setup);
    st = finish_frame(&env->setup, e);
    if (!st)
        st = start(env, e);
    if (st)
        env_close(&env);
    *out = env;
    return st;
}

void env_close(struct env **p)
{
    struct env *env = *p;

    if (!env)
        return;
    helper_stop(&env->worker);
    buf_clear(&env->setup);
    buf_clear(&env->out);
    buf_clear(&env->in);
    free(env->program);
    free(env);
    *p = NULL;
}

uint64_t env_n_tasks(const struct env *env)
{
    return env->n_tasks;
}

bool env_has_demo(const struct env *env)
{
    return env->has_demo;
}

bool env_has_step(const struct env *env)
{
    return env->has_step;
}

bool env_is_sandboxed(const struct env *env)
{
    return env->is_sandboxed;
}

struct env_usage env_last_usage(const struct env *env)
{
    return env->usage;
}

/* ---- calling ------------------------------------------------------------------------------- */

static enum status call_once(struct env *env, struct script_result *result, struct err *e)
{
    enum status st = OK;

    if (!env->worker.pid)
        st = start(env, e);
    if (!st)
        st = send_frame(env, buf_bytes(&env->out), env->wall_ms, e);
    if (!st)
        st = receive_frame(env, env->wall_ms, e);
    if (st)
        return st;
    if (env_result_decode(result, buf_bytes(&env->in), e)) {
        helper_stop(&env->worker);
        return err_set(e, ERR_IO, "the environment's worker sent nonsense");
    }
    return OK;
}

/* A worker may have been ended by somebody else while it was idle: one that dies gets one
 * successor. */
static enum status call_worker(struct env *env, const struct script_call *call,
                               struct script_result *result, struct err *e)
{
    enum status st;

    if (call->n_messages > ENV_MESSAGES_MAX)
        return err_set(e, ERR_LIMIT, "an episode of %zu messages, more than %u",
                       call->n_messages, ENV_MESSAGES_MAX);
    for (size_t i = 0; i < call->n_messages; i++)
        if (call->message[i].text.len > ENV_TEXT_MAX_BYTES)
            return err_set(e, ERR_LIMIT, "a message of %zu bytes, more than %u",
                           call->message[i].text.len, ENV_TEXT_MAX_BYTES);
    start_frame(&env->out);
    env_call_encode(&env->out, call);
    st = finish_frame(&env->out, e);
    if (st)
        return st;
    st = call_once(env, result, e);
    if (st == ERR_IO)
        st = call_once(env, result, e);
    if (!st)
        env->usage = result->usage;
    return st;
}

/* For calls whose failure the caller cannot use. */
static enum status status_of(const struct script_result *r, const char *function, struct err *e)
{
    switch (r->end) {
    case SCRIPT_DONE: return OK;
    case SCRIPT_ABSENT:
        return err_set(e, ERR_NOT_FOUND, "the environment has no function '%s'", function);
    case SCRIPT_LIMIT: return err_set(e, ERR_LIMIT, "%s: %s", function, r->why);
    case SCRIPT_ERROR: break;
    }
    return err_set(e, ERR_INVALID, "%s: %s", function, r->why);
}

static enum status text_call(struct env *env, enum script_op op, const char *function,
                             const struct env_problem *p, struct buf *text, struct err *e)
{
    struct script_call call = {.op = op, .problem = *p};
    struct script_result r;
    enum status st;

    st = call_worker(env, &call, &r, e);
    if (!st)
        st = status_of(&r, function, e);
    if (st)
        return st;
    buf_append(text, r.text);
    return buf_status(text, e);
}

enum status env_prompt(struct env *env, const struct env_problem *p, struct buf *text,
                       struct err *e)
{
    return text_call(env, SCRIPT_PROMPT, "prompt", p, text, e);
}

enum status env_demo(struct env *env, const struct env_problem *p, struct buf *text,
                     struct err *e)
{
    return text_call(env, SCRIPT_DEMO, "demo", p, text, e);
}

enum status env_step(struct env *env, const struct env_problem *p, const struct env_message *m,
                     size_t n, bool *is_done, struct buf *text, struct err *e)
{
    struct script_call call = {SCRIPT_STEP, *p, m, n};
    struct script_result r;
    enum status st;

    *is_done = true;
    env->step_why[0] = '\0';
    if (!env->has_step)
        return OK;
    st = call_worker(env, &call, &r, e);
    if (!st && r.end)
        memcpy(env->step_why, r.why, sizeof(env->step_why));
    if (st || r.end)
        return st;
    *is_done = r.is_done;
    buf_append(text, r.text);
    return buf_status(text, e);
}

const char *env_step_failure(const struct env *env)
{
    return env->step_why;
}

enum status env_score(struct env *env, const struct env_problem *p, const struct env_message *m,
                      size_t n, struct env_score *score, struct err *e)
{
    struct script_call call = {SCRIPT_SCORE, *p, m, n};
    struct script_result r;
    enum status st;

    memset(score, 0, sizeof(*score));
    st = call_worker(env, &call, &r, e);
    if (st)
        return st;
    score->reward = (float)env->reward_min;
    memcpy(score->why, r.why, sizeof(score->why));
    if (r.end == SCRIPT_LIMIT) {
        score->outcome = ENV_FAILED_LIMIT;
    } else if (r.end) {
        score->outcome = ENV_FAILED_ERROR;
    } else if (!(r.reward >= env->reward_min && r.reward <= env->reward_max)) {
        score->outcome = ENV_FAILED_ERROR;
        snprintf(score->why, sizeof(score->why), "reward %g is outside %g..%g", r.reward,
                 env->reward_min, env->reward_max);
    } else {
        score->reward = (float)r.reward + 0.0f; /* minus zero becomes zero */
        memcpy(score->metric, r.metric, sizeof(score->metric));
        score->n_metrics = r.n_metrics;
    }
    return OK;
}

enum status env_score_text(struct env *env, const struct env_problem *p,
                           struct bytes completion, struct env_score *score, struct err *e)
{
    struct env_message m = {ENV_MODEL, completion};

    return env_score(env, p, &m, 1, score, e);
}
