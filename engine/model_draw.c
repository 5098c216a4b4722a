#include <string.h>

#include "base/check.h"
#include "base/rng.h"
#include "engine/cpu/table.h"
#include "engine/device_ops.h"
#include "engine/layer.h"
#include "engine/model.h"

/* Rows whose logits are at hand at once. Never changes a result. */
#define LOGIT_ROWS 1024u
#define HOST_ROWS  64u  /* of claims, on the CPU */
#define DRAW_GRAIN 4096 /* vocabulary entries: fewer are not worth another thread */

static size_t min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* With how many rows of hidden states the logits of `rows` are computed; there must be room for them. */
static size_t head_rows(const struct model *m, size_t rows)
{
    return device_padded_rows(m->kernels->ops, rows, SIZE_MAX);
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
    st = room_grow(&m->hidden, m->device, (uint64_t)head_rows(m, min(rows, LOGIT_ROWS)) * C,
                   "hidden states", e);
    if (!st)
        st = model_draw_room(m, min(rows, LOGIT_ROWS), e);
    for (size_t at = 0, n; !st && at < rows; at += n) {
        n = min(rows - at, LOGIT_ROWS);
        device_put(m->device, m->hidden.at, hidden + at * C, n * C * sizeof(float));
        matmul_forward(m->kernels, NULL, m->logits.at, m->hidden.at, &m->head, NULL,
                       head_rows(m, n));
        device_get(m->device, logits + at * V, m->logits.at, n * V * sizeof(float));
    }
    return st ? st : device_wait(m->device, e);
}

/* Floats that results of the device take. */
static size_t drawn_floats(size_t n)
{
    return n * (sizeof(struct device_drawn) / sizeof(float));
}

uint64_t model_draw_bytes(const struct model_config *c, const struct kernels *k, size_t n)
{
    const struct device_ops *ops = k ? k->ops : NULL;
    const uint64_t rows = device_padded_rows(ops, min(n, LOGIT_ROWS), SIZE_MAX);

    return (rows * c->vocab + (uint64_t)device_padded_rows(ops, n, SIZE_MAX) * c->dim +
            drawn_floats(n)) *
           sizeof(float);
}

enum status model_draw_room(struct model *m, size_t n, struct err *e)
{
    enum status st =
        room_grow(&m->logits, m->device,
                  (uint64_t)head_rows(m, min(n, LOGIT_ROWS)) * m->config.vocab, "logits", e);

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

/* Floats of one row of the largest states: indices, then values. */
#define TOP_FLOATS (MODEL_TOP + MODEL_TOP / 2)

/* What the device has come to when it was handed over. */
enum { DRAWN_MARK, TOP_MARK };

static uint16_t *top_values(const struct model *m, const float *top)
{
    return (uint16_t *)(void *)(top + m->n_top * MODEL_TOP);
}

/* Asks for them, where they are due. */
static void get_top_later(struct model *m)
{
    if (!m->is_top_due)
        return;
    m->is_top_due = false;
    m->kernels->ops->top(m->device, (uint32_t *)(void *)m->top.at, top_values(m, m->top.at),
                         m->last, m->n_top, m->config.dim);
    device_get_later(m->device, m->host_top.at, m->top.at,
                     m->n_top * TOP_FLOATS * sizeof(float));
    device_mark(m->device, TOP_MARK);
}

static enum status get_drawn(struct model *m, struct model_draw *draws, size_t n, struct err *e)
{
    const struct device_drawn *d;
    enum status st = room_grow_host(&m->host_drawn, m->device, drawn_floats(n), "draws", e);

    if (st)
        return st;
    device_get_later(m->device, m->host_drawn.at, m->drawn.at, n * sizeof(*d));
    device_mark(m->device, DRAWN_MARK);
    get_top_later(m); /* which the device does while the host takes in what was drawn */
    st = device_await(m->device, DRAWN_MARK, e);
    if (st)
        return st;
    d = (const struct device_drawn *)(const void *)m->host_drawn.at;
    for (size_t i = 0; i < n; i++) {
        draws[i].token = d[i].token;
        draws[i].logp = d[i].logp;
        draws[i].is_finite = d[i].is_finite != 0;
    }
    return OK;
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
        if (m->device) /* all that was computed may be read */
            rows = device_padded_rows(m->kernels->ops, rows, m->hidden.n / C - row);
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

/* ---- claims ---------------------------------------------------------------------------------- */

/* Claims by logits of the host. */
struct claims_job {
    const struct model *m;
    struct model_claim *claims;
    float temperature;
};

static void claims_range(void *arg, size_t lo, size_t hi)
{
    const struct claims_job *j = arg;
    const struct kernels *k = kernels_host(j->m->kernels);
    const size_t V = j->m->config.vocab;

    for (size_t i = lo; i < hi; i++) {
        struct model_claim *c = &j->claims[i];
        const float *logits = j->m->logits.at + i * V;

        c->is_finite = all_finite(k, logits, V);
        c->margin = sample_margin(k, logits, V, j->temperature, c->seed, c->position, c->token);
        logprob_forward(k, NULL, &c->logp, logits, &c->token, j->temperature, 1, V);
    }
}

/* The Gumbel noise of a token. */
static float noise_of(const struct model_claim *c, int32_t token)
{
    uint32_t word[4];

    philox4x32(word, c->seed, (const uint32_t[4]){(uint32_t)token / 4, c->position, 0, 0});
    return gumbel_f32(word[token % 4]);
}

/* What the device drew and what it gives the claimed token: the margin is between log-probability plus noise of
 * the two. */
static void claim_set(struct model_claim *c, const struct device_drawn *drawn, float logp)
{
    c->logp = logp;
    c->is_finite = drawn->is_finite != 0;
    c->margin = 0.0f;
    if (drawn->token != c->token)
        c->margin = drawn->logp + noise_of(c, drawn->token) - (logp + noise_of(c, c->token));
    if (c->margin < 0.0f) /* by rounding */
        c->margin = 0.0f;
}

/* n <= LOGIT_ROWS, whose logits are at hand. */
static enum status claims_there(struct model *m, struct model_claim *claims, size_t n,
                                float temperature, struct err *e)
{
    struct device_drawn *drawn = (void *)m->drawn.at;
    float *logp = m->drawn.at + drawn_floats(n);
    const void *draws_there, *tokens_there;
    struct device_draw *draws;
    int32_t *tokens;
    enum status st = stage_begin(
        &m->stage, stage_bytes(n * sizeof(*draws)) + stage_bytes(n * sizeof(*tokens)), e);

    if (st)
        return st;
    draws = stage_take(&m->stage, n * sizeof(*draws), &draws_there);
    tokens = stage_take(&m->stage, n * sizeof(*tokens), &tokens_there);
    for (size_t i = 0; i < n; i++) {
        draws[i] = (struct device_draw){.seed = claims[i].seed,
                                        .position = claims[i].position,
                                        .row = (uint32_t)i,
                                        .temperature = temperature};
        tokens[i] = claims[i].token;
    }
    stage_send(&m->stage);
    m->kernels->ops->sample(m->device, drawn, draws_there, m->logits.at, n, m->config.vocab);
    m->kernels->ops->logprob(m->device, logp, m->logits.at, tokens_there, temperature, n,
                             m->config.vocab);
    device_get(m->device, m->host_logits.at, m->drawn.at,
               (drawn_floats(n) + n) * sizeof(float));
    st = device_wait(m->device, e);
    drawn = (void *)m->host_logits.at;
    logp = m->host_logits.at + drawn_floats(n);
    for (size_t i = 0; !st && i < n; i++)
        claim_set(&claims[i], &drawn[i], logp[i]);
    return st;
}

/* Rows whose logits are at hand at once. */
static size_t claims_rows(const struct model *m, size_t n)
{
    return min(n, m->device ? LOGIT_ROWS : HOST_ROWS);
}

static enum status claims_room(struct model *m, size_t rows, struct err *e)
{
    const size_t floats = drawn_floats(rows) + rows;
    enum status st =
        room_grow(&m->logits, m->device, (uint64_t)rows * m->config.vocab, "logits", e);

    if (st || !m->device)
        return st;
    st = room_grow(&m->hidden, m->device, (uint64_t)rows * m->config.dim, "hidden states", e);
    if (!st)
        st = room_grow(&m->drawn, m->device, floats, "claims", e);
    return st ? st : room_grow(&m->host_logits, NULL, floats, "claims", e);
}

enum status model_claims(struct model *m, struct model_claim *claims, const float *hidden,
                         size_t n, float temperature, struct err *e)
{
    const size_t C = m->config.dim, V = m->config.vocab;
    enum status st;

    CHECK(temperature > 0.0f);
    m->last = NULL; /* what is there is not needed again */
    st = claims_room(m, head_rows(m, claims_rows(m, n)), e);
    for (size_t at = 0, k; !st && at < n; at += k) {
        const float *x = hidden + at * C;
        struct claims_job j = {m, claims + at, temperature};

        k = claims_rows(m, n - at);
        if (m->device) {
            device_put(m->device, m->hidden.at, x, k * C * sizeof(float));
            x = m->hidden.at;
        }
        matmul_forward(m->kernels, m->pool, m->logits.at, x, &m->head, NULL, head_rows(m, k));
        if (m->device)
            st = claims_there(m, claims + at, k, temperature, e);
        else
            pool_run(m->pool, k, 1 + DRAW_GRAIN / V, claims_range, &j);
    }
    return st;
}

/* ---- the largest states ---------------------------------------------------------------------- */

bool model_has_top(const struct model *m)
{
    return m->device && m->kernels->ops->top && m->config.dim >= MODEL_TOP;
}

enum status model_top_begin(struct model *m, struct err *e)
{
    const uint64_t n = (uint64_t)m->n_last * TOP_FLOATS;
    enum status st;

    CHECK(model_has_top(m) && (m->last || m->n_last == 0));
    st = room_grow(&m->top, m->device, n, "the largest states", e);
    if (!st)
        st = room_grow_host(&m->host_top, m->device, n, "the largest states", e);
    m->n_top = m->n_last;
    m->is_top_due = !st && m->n_top > 0;
    return st;
}

enum status model_top_end(struct model *m, const uint32_t **index, const uint16_t **value,
                          struct err *e)
{
    const float *at = m->host_top.at;

    get_top_later(m);
    *index = (const uint32_t *)(const void *)at;
    *value = at ? top_values(m, at) : NULL;
    return device_await(m->device, TOP_MARK, e);
}
