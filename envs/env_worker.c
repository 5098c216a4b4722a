/*
 * The worker process: one socket on descriptor 0, one script, one call at a time.
 */
#include "envs/env.h"

#include <ctype.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/helper.h"
#include "envs/env_wire.h"
#include "envs/sandbox.h"

/* Address space beyond the script's own: the saved image comes on top of this. */
#define SLACK_BYTES ((size_t)128 << 20)

bool env_is_worker(int argc, char **argv)
{
    return argc > 1 && !strcmp(argv[1], ENV_WORKER_COMMAND);
}

/* The next frame into `in`; false at the end of the stream, and for what is too large. */
static bool read_frame(struct buf *in)
{
    uint8_t head[4], *body;
    struct reader r = reader_of(BYTES_OF(head));
    uint32_t len;

    buf_reset(in);
    if (!helper_read(head, sizeof(head)))
        return false;
    len = reader_u32(&r);
    body = buf_extend(in, len);
    return body && helper_read(body, len);
}

/* A frame begins with room for its length, which finish_frame fills in. */
static void start_frame(struct buf *out)
{
    buf_reset(out);
    buf_put_u32(out, 0);
}

static bool finish_frame(struct buf *out)
{
    uint32_t len;

    if (out->bad)
        return false;
    len = (uint32_t)out->len - 4;
    for (int i = 0; i < 4; i++)
        out->data[i] = (uint8_t)(len >> (8 * i));
    return helper_write(buf_bytes(out));
}

/* Ends this process after a call's time and a second, should the host not be there to do it. */
static void set_alarm(uint64_t ms)
{
    struct itimerval t = {.it_value = {(time_t)(ms / 1000 + (ms ? 1 : 0)), 0}};

    setitimer(ITIMER_REAL, &t, NULL);
}

/* Confines the process and loads the script; says how it went. */
static bool begin(struct script **s, const struct env_setup *setup, struct buf *out)
{
    struct env_hello hello = {0};
    struct err e = {0};
    enum status st;

    st = script_open(s, &setup->src, &e);
    if (!st) {
        st = sandbox_enter(setup->src.memory_bytes + SLACK_BYTES, &e);
        hello.is_sandboxed = !st;
        if (st && setup->allow_unsandboxed)
            st = OK;
    }
    if (!st) {
        set_alarm(setup->wall_ms);
        st = script_load(*s, &e);
        set_alarm(0);
    }
    hello.st = st;
    hello.text = st ? bytes_str(e.text) : (struct bytes){0};
    if (!st) {
        hello.n_tasks = script_n_tasks(*s);
        hello.has_demo = script_has(*s, SCRIPT_DEMO);
        hello.has_step = script_has(*s, SCRIPT_STEP);
    }
    start_frame(out);
    env_hello_encode(out, &hello);
    return finish_frame(out) && !st;
}

static void serve(struct script *s, uint64_t wall_ms, struct buf *in, struct buf *out)
{
    struct env_message room[ENV_MESSAGES_MAX];
    struct script_result result;
    struct script_call call;

    while (read_frame(in)) {
        if (env_call_decode(&call, room, buf_bytes(in), NULL))
            return;
        set_alarm(wall_ms);
        script_run(s, &call, &result);
        set_alarm(0);
        start_frame(out);
        env_result_encode(out, &result);
        if (!finish_frame(out))
            return;
    }
}

int env_worker_main(void)
{
    struct buf setup_bytes, in, out;
    struct env_setup setup;
    struct script *s = NULL;
    int rc = 1;

    script_prepare();
    buf_init(&setup_bytes, ENV_FRAME_MAX_BYTES);
    buf_init(&in, ENV_CALL_MAX_BYTES);
    buf_init(&out, ENV_REPLY_MAX_BYTES);
    if (read_frame(&setup_bytes) && !env_setup_decode(&setup, buf_bytes(&setup_bytes), NULL)) {
        if (begin(&s, &setup, &out)) {
            serve(s, setup.wall_ms, &in, &out);
            rc = 0;
        }
    }
    /* Nothing is freed: exit handlers may want system calls that are gone. */
    _exit(rc);
}
