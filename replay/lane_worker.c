/*
 * A process that makes some lanes of each step.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/helper.h"
#include "base/pool.h"
#include "engine/device.h"
#include "engine/train.h"
#include "replay/lane_group.h"
#include "replay/lane_wire.h"

struct worker {
    struct lane_setup setup;
    const struct kernels *kernels;
    struct pool *pool;
    struct weights *weights; /* owned */
    struct train *train;
    struct lanes *lanes;
    struct device *device; /* owned; NULL: the CPU */
    struct buf in, out;
};

bool lane_is_worker(int argc, char **argv)
{
    return argc > 1 && !strcmp(argv[1], LANE_WORKER_COMMAND);
}

/* The next frame into w->in. */
static bool read_frame(struct worker *w)
{
    uint8_t head[8], *body;
    struct reader r = reader_of(BYTES_OF(head));
    uint64_t len;

    buf_reset(&w->in);
    if (!helper_read(head, sizeof(head)))
        return false;
    len = reader_u64(&r);
    body = buf_extend(&w->in, len);
    return body && helper_read(body, len);
}

static bool answer(struct worker *w, const struct lane_answer *a)
{
    struct buf head;
    bool is_sent;

    buf_reset(&w->out);
    lane_answer_encode(&w->out, a);
    buf_init(&head, 8);
    buf_put_u64(&head, w->out.len);
    is_sent = !w->out.bad && helper_write(buf_bytes(&head)) && helper_write(buf_bytes(&w->out));
    buf_clear(&head);
    return is_sent;
}

static enum status begin(struct worker *w, struct err *e)
{
    const struct lane_setup *s = &w->setup;
    struct train_options o;
    enum numerics class = NUMERICS_F32_1;
    enum status st = lane_setup_decode(&w->setup, buf_bytes(&w->in), e);

    if (!st)
        st = numerics_parse(&class, s->numerics, e);
    if (!st)
        st = device_open(&w->device, s->device, e);
    if (!st)
        st = w->device ? device_kernels(&w->kernels, w->device, class, e)
                       : kernels_choose(&w->kernels, class, s->kernels, e);
    if (!st)
        st = weights_new(&w->weights, &s->config, e);
    if (st)
        return st;
    pool_new(&w->pool, s->threads);
    o = (struct train_options){.kernels = w->kernels,
                               .pool = w->pool,
                               .max_rows = s->max_rows,
                               .recompute = s->recompute};
    st = train_new(&w->train, w->weights, &o, e);
    if (!st)
        st = lanes_new(&w->lanes, w->train, w->kernels, s->max_rows, lanes_levels(s->lanes, 1),
                       e);
    return st;
}

/* One step. False: the leader is gone, or talks nonsense. */
static bool serve(struct worker *w)
{
    struct lane_answer a = {0};
    struct weights *grads;
    struct lane_work work;

    if (!read_frame(w) || lane_work_decode(&work, buf_bytes(&w->in), NULL))
        return false;
    if (work.n != w->setup.lanes ||
        !helper_read(w->weights->data, w->weights->n_data * sizeof(float))) {
        lane_work_clear(&work);
        return false;
    }
    a.n = work.n;
    a.st = train_reload(w->train, w->weights, &a.why);
    if (!a.st)
        a.st = lanes_gradient(w->lanes, &work.work, work.first, work.n, a.tally, &a.why);
    if (!a.st)
        a.st = train_grads(&grads, w->train, &a.why);
    lane_work_clear(&work);
    return answer(w, &a) &&
           (a.st || helper_write((struct bytes){(const uint8_t *)grads->data,
                                                grads->n_data * sizeof(float)}));
}

static void end(struct worker *w)
{
    lanes_free(&w->lanes);
    train_free(&w->train);
    weights_free(&w->weights);
    pool_free(&w->pool);
    device_close(&w->device);
    buf_clear(&w->in);
    buf_clear(&w->out);
}

int lane_worker_main(void)
{
    struct worker w = {0};
    struct lane_answer a = {0};

    /* Nobody waits for the rest of a step whose leader is gone. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    buf_init(&w.in, LANE_FRAME_MAX);
    buf_init(&w.out, LANE_FRAME_MAX);
    if (read_frame(&w)) {
        a.st = begin(&w, &a.why);
        if (answer(&w, &a) && !a.st)
            while (serve(&w))
                ;
    }
    end(&w);
    return a.st ? 1 : 0;
}
