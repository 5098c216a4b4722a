#include <string.h>

#include "base/check.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/layer.h"
#include "engine/model.h"

/* Rows whose logits are at hand at once. Never changes a result. */
#define LOGIT_ROWS 1024u
#define DRAW_GRAIN 4096 /* vocabulary entries: fewer are not worth another thread */

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

enum status model_logits(struct model *m, float *logits, const float *hidden, size_t rows,
                         struct err *e)
{
    const size_t C = m->config.dim, V = m->config.vocab;
    enum status st = OK;

    if (!m->device) {
        matmul_forward(m->kernels, m->pool, logits, hidden, &m->head, NULL, rows);
        return OK;
    }
    m->last = NULL; /* what is there is not needed again */
    st = room_grow(&m->hidden, m->device, (uint64_t)min(rows, LOGIT_ROWS) * C, "hidden states",
                   e);
    if (!st)
        st = model_draw_room(m, min(rows, LOGIT_ROWS), e);
    for (size_t at = 0, n; !st && at < rows; at += n) {
        n = min(rows - at, LOGIT_ROWS);
        device_put(m->device, m->hidden.at, hidden + at * C, n * C * sizeof(float));
        matmul_forward(m->kernels, NULL, m->logits.at, m->hidden.at, &m->head, NULL, n);
        device_get(m->device, logits + at * V, m->logits.at, n * V * sizeof(float));
    }
    return st ? st : device_wait(m->device, e);
}

/* Floats that results of the device take. */
static size_t drawn_floats(size_t n)
{
    return n * (sizeof(struct device_drawn) / sizeof(float));
}

uint64_t model_draw_bytes(const struct model_config *c, size_t n)
{
    return ((uint64_t)min(n, LOGIT_ROWS) * c->vocab + (uint64_t)n * c->dim + drawn_floats(n)) *
           sizeof(float);
}

enum status model_draw_room(struct model *m, size_t n, struct err *e)
{
    enum status st = room_grow(&m->logits, m->device,
                               (uint64_t)min(n, LOGIT_ROWS) * m->config.vocab, "logits", e);

    if (!st && m->device)
        st = room_grow(&m->drawn, m->device, drawn_floats(n), "draws", e);
    return st;
}

/* Draws from logits of the host, whose first row is number `row` of the call. */
struct draw_job {
    const struct model *m;
    const float *logits;
    struct model_draw *draws;
    size_t row;
    draw_fn *choose;
    void *ctx;
};

static void draw_range(void *arg, size_t lo, size_t hi)
{
    const struct draw_job *j = arg;
    const size_t V = j->m->config.vocab;

    for (size_t i = lo; i < hi; i++) {
        struct model_draw *d = &j->draws[i];
        const struct draw_place at = {.kernels = kernels_host(j->m->kernels),
                                      .logits = j->logits + (d->row - j->row) * V,
                                      .V = V,
                                      .temperature = d->temperature,
                                      .seed = d->seed,
                                      .position = d->position};

        d->is_finite = all_finite(at.kernels, at.logits, V);
        d->token = j->choose ? j->choose(j->ctx, &at, &d->logp)
                             : sample_token(at.kernels, &d->logp, at.logits, V, at.temperature,
                                            at.seed, at.position);
    }
}

/* On the device: results go to `drawn`, from its element `at` on. */
static enum status draw_there(struct model *m, const struct model_draw *draws, size_t n,
                              size_t row, size_t at, struct err *e)
{
    struct device_drawn *out = (struct device_drawn *)(void *)m->drawn.at + at;
    const void *there;
    struct device_draw *to;
    enum status st = stage_begin(&m->stage, stage_bytes(n * sizeof(*to)), e);

    if (st)
        return st;
    to = stage_take(&m->stage, n * sizeof(*to), &there);
    for (size_t i = 0; i < n; i++)
        to[i] = (struct device_draw){.seed = draws[i].seed,
                                     .position = draws[i].position,
                                     .row = (uint32_t)(draws[i].row - row),
                                     .temperature = draws[i].temperature};
    stage_send(&m->stage);
    m->kernels->ops->sample(m->device, out, there, m->logits.at, n, m->config.vocab);
    return OK;
}

static enum status draw_here(struct model *m, const float *logits, size_t rows,
                             struct draw_job *j, size_t n, struct err *e)
{
    const size_t V = m->config.vocab;
    enum status st = OK;

    if (m->device) {
        st = room_grow(&m->host_logits, NULL, (uint64_t)rows * V, "logits", e);
        if (st)
            return st;
        device_get(m->device, m->host_logits.at, logits, rows * V * sizeof(float));
        st = device_wait(m->device, e);
        logits = m->host_logits.at;
    }
    j->logits = logits;
    if (!st)
        pool_run(m->pool, n, 1 + DRAW_GRAIN / V, draw_range, j);
    return st;
}

static enum status get_drawn(struct model *m, struct model_draw *draws, size_t n, struct err *e)
{
    const struct device_drawn *d;
    enum status st = room_grow(&m->host_logits, NULL, drawn_floats(n), "draws", e);

    if (st)
        return st;
    device_get(m->device, m->host_logits.at, m->drawn.at, n * sizeof(*d));
    d = (const struct device_drawn *)(const void *)m->host_logits.at;
    for (size_t i = 0; i < n; i++) {
        draws[i].token = d[i].token;
        draws[i].logp = d[i].logp;
        draws[i].is_finite = d[i].is_finite != 0;
    }
    return device_wait(m->device, e);
}

enum status model_draw(struct model *m, struct model_draw *draws, size_t n, draw_fn *choose,
                       void *ctx, struct err *e)
{
    const size_t C = m->config.dim;
    const bool is_there = m->device && !choose;
    size_t at = 0, k;
    enum status st = model_draw_room(m, n, e);

    CHECK(m->last || n == 0);
    for (; !st && at < n; at += k) {
        size_t row = draws[at].row, rows;

        for (k = 1; at + k < n && draws[at + k].row < row + LOGIT_ROWS; k++)
            CHECK(draws[at + k].row >= draws[at + k - 1].row);
        rows = draws[at + k - 1].row + 1 - row;
        CHECK(row + rows <= m->n_last);
        st = room_grow(&m->logits, m->device, (uint64_t)rows * m->config.vocab, "logits", e);
        if (st)
            break;
        matmul_forward(m->kernels, m->pool, m->logits.at, m->last + row * C, &m->head, NULL,
                       rows);
        if (is_there) {
            st = draw_there(m, draws + at, k, row, at, e);
        } else {
            struct draw_job j = {
                .m = m, .draws = draws + at, .row = row, .choose = choose, .ctx = ctx};
            st = draw_here(m, m->logits.at, rows, &j, k, e);
        }
    }
    return !st && is_there ? get_drawn(m, draws, n, e) : st;
}

/* Floats of one row: indices, then values. */
#define TOP_FLOATS (MODEL_TOP + MODEL_TOP / 2)

bool model_has_top(const struct model *m)
{
    return m->device && m->kernels->ops->top && m->config.dim >= MODEL_TOP;
}

static uint16_t *top_values(const struct model *m)
{
    return (uint16_t *)(void *)(m->top.at + m->n_last * MODEL_TOP);
}

enum status model_top_begin(struct model *m, struct err *e)
{
    enum status st;

    CHECK(model_has_top(m) && (m->last || m->n_last == 0));
    st = room_grow(&m->top, m->device, (uint64_t)m->n_last * TOP_FLOATS, "the largest states",
                   e);
    if (!st && m->n_last > 0)
        m->kernels->ops->top(m->device, (uint32_t *)(void *)m->top.at, top_values(m), m->last,
                             m->n_last, m->config.dim);
    return st;
}

enum status model_top_end(struct model *m, uint32_t *index, uint16_t *value, struct err *e)
{
    const size_t n = m->n_last * MODEL_TOP;

    device_get(m->device, index, m->top.at, n * sizeof(*index));
    device_get(m->device, value, top_values(m), n * sizeof(*value));
    return device_wait(m->device, e);
}
