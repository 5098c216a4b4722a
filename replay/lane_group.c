#include "replay/lane_group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/helper.h"
#include "engine/device.h"
#include "replay/lane_wire.h"

#define LOG_MODULE "lanes"
#include "base/log.h"

#define WORKER_MARK "MUSTER_LANE_WORKER=1"
#define START_MS    120000 /* reading the program and taking memory, on a busy machine */
#define PIECE_BYTES ((size_t)1 << 20) /* of a gradient on its way in */

struct lane_group {
    struct lane_group_options o;
    char *program; /* owned, or NULL */
    struct lane_setup setup;
    struct learn_crew crew;
    struct helper helper[LANES_MAX]; /* [0] is this process */
    struct buf in, out;
    uint8_t *piece; /* owned */
};

enum status lane_group_check(uint32_t n_processes, uint32_t n_lanes, struct err *e)
{
    if (lanes_is_count(n_processes) && n_lanes % n_processes == 0)
        return OK;
    return err_set(e, ERR_INVALID,
                   "%u processes cannot share %u grad_lanes: wants 1, 2, 4 or 8 processes that "
                   "divide them",
                   n_processes, n_lanes);
}

uint64_t lane_group_bytes(const struct lane_group_options *o)
{
    uint64_t train = train_bytes(&o->config, o->kernels, o->max_rows, o->recompute);
    uint64_t rest = model_config_params(&o->config) * sizeof(float) +
                    lanes_bytes(&o->config, lanes_levels(o->n_lanes / o->n_processes, 1));

    return train > UINT64_MAX - rest ? UINT64_MAX : train + rest;
}

/* ---- helpers --------------------------------------------------------------------------------- */

static void stop_all(struct lane_group *g)
{
    for (uint32_t i = 1; i < g->o.n_processes; i++)
        helper_stop(&g->helper[i]);
}

/* Helper i is gone: says how. */
static enum status report_death(struct lane_group *g, uint32_t i, struct err *e)
{
    int pid = (int)g->helper[i].pid;
    int status = helper_stop(&g->helper[i]); /* its own end: a second one changes nothing */

    if (WIFSIGNALED(status))
        return err_set(e, ERR_IO, "lane worker %u (process %d) was ended by signal %d: %s", i,
                       pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
    return err_set(e, ERR_IO, "lane worker %u (process %d) ended with status %d", i, pid,
                   WEXITSTATUS(status));
}

static enum status send_to(struct lane_group *g, uint32_t i, struct bytes b, struct err *e)
{
    return helper_send(&g->helper[i], b, INT64_MAX) ? report_death(g, i, e) : OK;
}

/* g->out as a frame. */
static enum status send_frame(struct lane_group *g, uint32_t i, struct err *e)
{
    struct buf head;
    enum status st = buf_status(&g->out, e);

    buf_init(&head, 8);
    buf_put_u64(&head, g->out.len);
    if (!st)
        st = send_to(g, i, buf_bytes(&head), e);
    buf_clear(&head);
    return st ? st : send_to(g, i, buf_bytes(&g->out), e);
}

static enum status receive(struct lane_group *g, uint32_t i, void *p, size_t n,
                           int64_t deadline_ms, struct err *e)
{
    enum status st = helper_receive(&g->helper[i], p, n, deadline_ms);

    if (st == ERR_TIMEOUT)
        return err_set(e, ERR_TIMEOUT, "lane worker %u did not start within %d s", i,
                       START_MS / 1000);
    return st ? report_death(g, i, e) : OK;
}

/* What helper i says; ERR_IO and ERR_TIMEOUT if it says nothing, else its own status. */
static enum status take_answer(struct lane_group *g, uint32_t i, struct lane_answer *a,
                               int64_t deadline_ms, struct err *e)
{
    uint8_t head[8], *body;
    struct reader r = reader_of(BYTES_OF(head));
    uint64_t len;
    enum status st = receive(g, i, head, sizeof(head), deadline_ms, e);

    if (st)
        return st;
    len = reader_u64(&r);
    buf_reset(&g->in);
    body = buf_extend(&g->in, len);
    if (!body)
        return err_set(e, ERR_IO, "lane worker %u sent a frame of %llu bytes", i,
                       (unsigned long long)len);
    st = receive(g, i, body, len, deadline_ms, e);
    if (!st)
        st = lane_answer_decode(a, buf_bytes(&g->in), e);
    if (!st && a->st)
        st = err_set(e, a->st, "lane worker %u: %s", i, a->why.text);
    return st;
}

/* Helper i computes as this process does; of several GPUs each takes the next. */
static void choose_device(struct lane_group *g, uint32_t i)
{
    const struct device *d = kernels_device(g->o.kernels);
    size_t own = 0;

    snprintf(g->setup.device, sizeof(g->setup.device), "cpu");
    if (!d)
        return;
    (void)sscanf(device_name(d), "cuda:%zu", &own);
    snprintf(g->setup.device, sizeof(g->setup.device), "cuda:%zu", (own + i) % device_count());
}

/* Those that do not run. Their memory is taken side by side. */
static enum status start_all(struct lane_group *g, struct err *e)
{
    const struct helper_options ho = {.program = g->program,
                                      .command = LANE_WORKER_COMMAND,
                                      .mark = WORKER_MARK,
                                      .keep_environment = true,
                                      .keep_stderr = true};
    bool is_new[LANES_MAX] = {false};
    int64_t deadline_ms = clock_mono_ms() + START_MS;
    struct lane_answer a;
    enum status st = OK;

    for (uint32_t i = 1; !st && i < g->o.n_processes; i++) {
        if (g->helper[i].pid)
            continue;
        is_new[i] = true;
        buf_reset(&g->out);
        choose_device(g, i);
        lane_setup_encode(&g->out, &g->setup);
        st = helper_start(&g->helper[i], &ho, e);
        if (!st)
            st = send_frame(g, i, e);
    }
    for (uint32_t i = 1; !st && i < g->o.n_processes; i++)
        if (is_new[i])
            st = take_answer(g, i, &a, deadline_ms, e);
    if (st)
        stop_all(g);
    return st;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static enum status hand_out(struct lane_group *g, const struct weights *published,
                            const struct learn_work *w, struct err *e)
{
    uint32_t n = w->n_lanes / g->o.n_processes;
    const struct bytes weights = {(const uint8_t *)published->data,
                                  published->n_data * sizeof(float)};
    enum status st = OK;

    for (uint32_t i = 1; !st && i < g->o.n_processes; i++) {
        buf_reset(&g->out);
        lane_work_encode(&g->out, w, i * n, n);
        st = send_frame(g, i, e);
        if (!st)
            st = send_to(g, i, weights, e);
    }
    return st;
}

/* The gradient of helper i to train_grads_there. */
static enum status take_gradient(struct lane_group *g, uint32_t i, struct lanes *own,
                                 struct err *e)
{
    const struct weights *grads = train_grads_there(own->train);
    size_t left = grads->n_data * sizeof(float), at = 0;
    enum status st = OK;

    while (!st && at < left) {
        size_t n = left - at < PIECE_BYTES ? left - at : PIECE_BYTES;

        st = receive(g, i, g->piece, n, INT64_MAX, e);
        if (!st)
            device_put(kernels_device(own->kernels), (uint8_t *)grads->data + at, g->piece, n);
        at += n;
    }
    return st;
}

static enum status try_gradient(struct lane_group *g, struct lanes *own,
                                const struct weights *published, const struct learn_work *w,
                                struct learn_tally *tally, struct err *e)
{
    uint32_t n = w->n_lanes / g->o.n_processes;
    struct lane_answer a;
    enum status st = start_all(g, e);

    if (!st)
        st = hand_out(g, published, w, e);
    if (!st)
        st = lanes_gradient(own, w, 0, n, tally, e);
    if (!st)
        lanes_settle(own, 0, g->o.n_processes);
    for (uint32_t i = 1; !st && i < g->o.n_processes; i++) {
        st = take_answer(g, i, &a, INT64_MAX, e);
        if (!st && a.n != n)
            st = err_set(e, ERR_IO, "lane worker %u made %u lanes, not %u", i, a.n, n);
        if (!st)
            st = take_gradient(g, i, own, e);
        if (st)
            break;
        memcpy(tally + i * n, a.tally, n * sizeof(a.tally[0]));
        lanes_settle(own, i, g->o.n_processes);
    }
    return st;
}

static enum status gradient(void *ctx, struct lanes *own, const struct weights *published,
                            const struct learn_work *w, struct learn_tally *tally,
                            struct err *e)
{
    struct lane_group *g = ctx;
    struct err why = {0};

    CHECK(w->n_lanes == g->o.n_lanes);
    for (uint32_t try = 1;; try++) {
        enum status st = try_gradient(g, own, published, w, tally, &why);

        if (!st)
            return OK;
        stop_all(g);                           /* they may be anywhere in their sentences */
        if (st != ERR_IO && st != ERR_TIMEOUT) /* it is the work, and would fail again */
            return err_set(e, st, "%s", why.text);
        if (try == LANE_TRIES)
            return err_set(e, st, "a step was given up after %u tries: %s", try, why.text);
        LOG_WARN("a step is made again try=%u why=\"%s\"", try, why.text);
    }
}

/* ---- making ---------------------------------------------------------------------------------- */

enum status lane_group_open(struct lane_group **out, const struct lane_group_options *o,
                            struct err *e)
{
    struct lane_group *g;
    enum status st = lane_group_check(o->n_processes, o->n_lanes, e);

    *out = NULL;
    if (st)
        return st;
    if (helper_is_marked(WORKER_MARK))
        return err_set(e, ERR_DENIED,
                       "this process was started as a lane's worker and starts others: its "
                       "main() does not ask lane_is_worker()");
    g = xcalloc(1, sizeof(*g));
    g->o = *o;
    g->program = o->program ? xstrdup(o->program) : NULL;
    g->piece = xmalloc(PIECE_BYTES);
    g->setup = (struct lane_setup){.config = o->config,
                                   .threads = (uint32_t)o->threads,
                                   .lanes = o->n_lanes / o->n_processes,
                                   .max_rows = o->max_rows,
                                   .recompute = o->recompute};
    snprintf(g->setup.numerics, sizeof(g->setup.numerics), "%s",
             numerics_name(kernels_numerics(o->kernels)));
    snprintf(g->setup.kernels, sizeof(g->setup.kernels), "%s", kernels_name(o->kernels));
    g->crew = (struct learn_crew){g, o->n_processes, gradient};
    for (uint32_t i = 0; i < LANES_MAX; i++)
        g->helper[i] = HELPER_NONE;
    buf_init(&g->in, LANE_FRAME_MAX);
    buf_init(&g->out, LANE_FRAME_MAX);
    st = start_all(g, e);
    if (st)
        lane_group_close(&g);
    *out = g;
    return st;
}

void lane_group_close(struct lane_group **p)
{
    struct lane_group *g = *p;

    if (!g)
        return;
    stop_all(g);
    buf_clear(&g->in);
    buf_clear(&g->out);
    free(g->piece);
    free(g->program);
    free(g);
    *p = NULL;
}

const struct learn_crew *lane_group_crew(const struct lane_group *g)
{
    return &g->crew;
}

pid_t lane_group_pid(const struct lane_group *g, uint32_t i)
{
    return g->helper[i].pid;
}
