#include "learn/referee.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "learn/loss.h"
#include "learn/referee_inside.h"
#include "learn/trace.h"

/* ---- reading --------------------------------------------------------------------------------- */

float *referee_room(struct judging *j, size_t n)
{
    struct referee_block *b;

    if (j->st)
        return NULL;
    b = calloc(1, sizeof(*b) + n * sizeof(float));
    if (!b) {
        j->st = err_set(j->e, ERR_NO_MEMORY, "no memory for %zu numbers of a tile's inputs", n);
        return NULL;
    }
    b->next = j->blocks;
    j->blocks = b;
    return b->numbers;
}

static void release(struct judging *j)
{
    while (j->blocks) {
        struct referee_block *b = j->blocks;

        j->blocks = b->next;
        free(b);
    }
}

const struct tiling *referee_shape(const struct judging *j, size_t in)
{
    return &j->r->g->tensor[j->op->in[in]].shape;
}

/* Copies what region and tile share. */
static void copy_part(float *to, size_t stride, const struct region *want,
                      const struct tile *tile, const float *numbers)
{
    size_t r0 = want->row > tile->row ? want->row : tile->row;
    size_t c0 = want->col > tile->col ? want->col : tile->col;
    size_t r1 = want->row + want->rows, c1 = want->col + want->cols;

    r1 = r1 < tile->row + tile->rows ? r1 : tile->row + tile->rows;
    c1 = c1 < tile->col + tile->cols ? c1 : tile->col + tile->cols;
    for (size_t r = r0; r < r1; r++)
        memcpy(to + (r - want->row) * stride + (c0 - want->col),
               numbers + (r - tile->row) * tile->cols + (c0 - tile->col),
               (c1 - c0) * sizeof(float));
}

void referee_read(struct judging *j, size_t in, struct region want, float *to, size_t stride)
{
    uint32_t tensor = j->op->in[in];
    const struct tiling *s;
    size_t across;

    if (j->st || tensor == GRAPH_NONE || !want.rows || !want.cols)
        return;
    s = &j->r->g->tensor[tensor].shape;
    across = (s->cols + s->tile_cols - 1) / s->tile_cols;
    CHECK(want.row + want.rows <= s->rows && want.col + want.cols <= s->cols);
    for (size_t i = want.row / s->tile_rows; i <= (want.row + want.rows - 1) / s->tile_rows;
         i++)
        for (size_t k = want.col / s->tile_cols; k <= (want.col + want.cols - 1) / s->tile_cols;
             k++) {
            uint64_t index = (uint64_t)i * across + k;
            struct tile tile = tiling_at(s, index);
            const float *numbers = j->r->source(j->r->arg, tensor, index);

            if (!numbers) {
                j->st = err_set(j->e, ERR_NOT_FOUND,
                                "tile %" PRIu64 " of tensor %" PRIu32 " was not shown", index,
                                tensor);
                return;
            }
            copy_part(to, stride, &want, &tile, numbers);
        }
}

float *referee_region(struct judging *j, size_t in, struct region want)
{
    float *to = referee_room(j, want.rows * want.cols);

    referee_read(j, in, want, to, want.cols);
    return to;
}

static struct region region_of_tile(const struct judging *j)
{
    return (struct region){j->at.row, j->at.col, j->at.rows, j->at.cols};
}

/* The tile of an input that lies where the output's does. */
static float *same_tile(struct judging *j, size_t in)
{
    return referee_region(j, in, region_of_tile(j));
}

static const struct graph_micro *micro(const struct judging *j)
{
    return &j->r->g->micro[j->op->micro];
}

static size_t loss_row(const struct judging *j, size_t i)
{
    return j->r->g->loss_row[j->r->g->chunk[j->op->chunk].first + i];
}

static int32_t target(const struct judging *j, size_t i)
{
    return j->r->g->target[micro(j)->first_row + loss_row(j, i)];
}

/* ---- running sums ---------------------------------------------------------------------------- */

/* Terms of the segments asked for. */
struct terms {
    size_t lo, hi;
    bool is_last;
};

static struct terms terms_of(const struct judging *j)
{
    size_t all = graph_terms(j->r->g, j->op, j->q->out);
    size_t end = (j->q->first + j->q->n) * GRAPH_SEGMENT;

    return (struct terms){
        .lo = j->q->first * GRAPH_SEGMENT, .hi = end < all ? end : all, .is_last = end >= all};
}

/* acc[r, c] = running fma over terms of a[r, t] * b[c, t]. */
static void run_rows_rows(const struct judging *j, const float *a, const float *b, size_t n)
{
    for (size_t r = 0; r < j->at.rows; r++)
        for (size_t c = 0; c < j->at.cols; c++) {
            float sum = j->result[r * j->at.cols + c];

            for (size_t t = 0; t < n; t++)
                sum = fmaf(a[r * n + t], b[c * n + t], sum);
            j->result[r * j->at.cols + c] = sum;
        }
}

static void linear(struct judging *j)
{
    struct terms t = terms_of(j);
    size_t n = t.hi - t.lo;
    const float *x = referee_region(j, 0, (struct region){j->at.row, t.lo, j->at.rows, n});
    const float *w = referee_region(j, 1, (struct region){j->at.col, t.lo, j->at.cols, n});
    const float *bias = NULL, *add = NULL;

    if (t.is_last && j->op->in[2] != GRAPH_NONE)
        bias = referee_region(j, 2, (struct region){0, j->at.col, 1, j->at.cols});
    if (t.is_last && j->op->in[3] != GRAPH_NONE)
        add = same_tile(j, 3);
    if (j->st)
        return;
    run_rows_rows(j, x, w, n);
    for (size_t i = 0; i < j->n; i++) {
        if (bias)
            j->result[i] += bias[i % j->at.cols];
        if (add)
            j->result[i] = add[i] + j->result[i];
    }
}

static void product_dx(struct judging *j)
{
    struct terms t = terms_of(j);
    size_t n = t.hi - t.lo, R = j->at.rows, C = j->at.cols;
    const float *dy = referee_region(j, 0, (struct region){j->at.row, t.lo, R, n});
    const float *w = referee_region(j, 1, (struct region){t.lo, j->at.col, n, C});
    const float *add = NULL;

    if (t.is_last && j->op->in[2] != GRAPH_NONE)
        add = same_tile(j, 2);
    if (j->st)
        return;
    for (size_t r = 0; r < R; r++)
        for (size_t k = 0; k < n; k++)
            for (size_t c = 0; c < C; c++)
                j->result[r * C + c] = fmaf(dy[r * n + k], w[k * C + c], j->result[r * C + c]);
    for (size_t i = 0; add && i < j->n; i++)
        j->result[i] = add[i] + j->result[i];
}

static void product_dw(struct judging *j)
{
    struct terms t = terms_of(j);
    size_t n = t.hi - t.lo, R = j->at.rows, C = j->at.cols;
    const float *dy = referee_region(j, 0, (struct region){t.lo, j->at.row, n, R});
    const float *x = referee_region(j, 1, (struct region){t.lo, j->at.col, n, C});
    const float *weight = NULL;

    if (j->op->in[2] != GRAPH_NONE)
        weight = referee_region(j, 2, (struct region){t.lo, 0, n, 1});
    for (size_t k = 0; !j->st && k < n; k++)
        for (size_t r = 0; r < R && (!weight || weight[k] != 0.0f); r++)
            for (size_t c = 0; c < C; c++)
                j->result[r * C + c] = fmaf(dy[k * R + r], x[k * C + c], j->result[r * C + c]);
}

static void bias_back(struct judging *j)
{
    struct terms t = terms_of(j);
    const float *dy =
        referee_region(j, 0, (struct region){t.lo, j->at.col, t.hi - t.lo, j->at.cols});

    for (size_t k = 0; !j->st && k < t.hi - t.lo; k++)
        for (size_t c = 0; c < j->at.cols; c++)
            j->result[c] = j->result[c] + dy[k * j->at.cols + c];
}

static void embed_back(struct judging *j)
{
    const int32_t *token = j->r->g->token + micro(j)->first_row;
    struct terms t = terms_of(j);
    float row[TILE_SIDE];

    for (size_t k = t.lo; !j->st && k < t.hi; k++) {
        size_t at = (size_t)token[k];

        if (at < j->at.row || at >= j->at.row + j->at.rows)
            continue;
        referee_read(j, 0, (struct region){k, j->at.col, 1, j->at.cols}, row, j->at.cols);
        for (size_t c = 0; !j->st && c < j->at.cols; c++)
            j->result[(at - j->at.row) * j->at.cols + c] += row[c];
    }
}

/* The gradient of a norm's weights: a term for each head of each row. */
static void norm_weight_back(struct judging *j)
{
    const size_t H = j->op->heads, D = referee_shape(j, 1)->cols / H, C = j->at.cols;
    struct terms t = terms_of(j);
    size_t row = t.lo / H, rows = (t.hi + H - 1) / H - row;
    float *dy = referee_room(j, rows * H * C), *x = referee_room(j, rows * H * C);
    const float *r = referee_region(j, 3, (struct region){row, 0, rows, H});

    for (size_t h = 0; !j->st && h < H; h++) {
        struct region want = {row, h * D + j->at.col, rows, C};

        referee_read(j, 0, want, dy + h * C, H * C);
        referee_read(j, 1, want, x + h * C, H * C);
    }
    for (size_t i = t.lo - row * H; !j->st && i < t.hi - row * H; i++)
        for (size_t c = 0; c < C; c++)
            j->result[c] = fmaf(dy[i * C + c], x[i * C + c] * r[i], j->result[c]);
}

/* The sum that an operation goes on with, where it starts. */
static void begin_sum(struct judging *j)
{
    static const uint8_t slots[GRAPH_KIND_COUNT] = {
        [GRAPH_DW] = 3, [GRAPH_BIAS_BACK] = 1, [GRAPH_EMBED_BACK] = 1, [GRAPH_NORM_BACK] = 5};
    uint8_t slot = slots[j->op->kind];

    if (slot)
        referee_read(j, slot, region_of_tile(j), j->result, j->at.cols);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The columns of whole heads that the tile reaches into. */
static struct region whole_heads(const struct judging *j, size_t D)
{
    size_t first = j->at.col / D, end = (j->at.col + j->at.cols + D - 1) / D;

    return (struct region){j->at.row, first * D, j->at.rows, (end - first) * D};
}

/* The tile's part of a region's numbers. */
static void take_tile(struct judging *j, const struct region *from, const float *numbers)
{
    for (size_t r = 0; !j->st && r < j->at.rows; r++)
        memcpy(j->result + r * j->at.cols, numbers + r * from->cols + (j->at.col - from->col),
               j->at.cols * sizeof(float));
}

static void embed(struct judging *j)
{
    for (size_t r = 0; r < j->at.rows; r++) {
        size_t row = (size_t)j->r->g->token[micro(j)->first_row + j->at.row + r];

        referee_read(j, 0, (struct region){row, j->at.col, 1, j->at.cols},
                     j->result + r * j->at.cols, j->at.cols);
    }
}

static void norm(struct judging *j)
{
    const size_t D = referee_shape(j, 0)->cols / j->op->heads;
    const float eps = j->r->g->config.norm_eps;
    struct region want =
        j->q->out == 0 ? whole_heads(j, D)
                       : (struct region){j->at.row, j->at.col * D, j->at.rows, j->at.cols * D};
    const float *x = referee_region(j, 0, want);
    const float *w;
    float *y;

    if (j->q->out == 1) {
        for (size_t i = 0; !j->st && i < j->n; i++)
            j->result[i] = trace_rms(j->r->kernels, x + i * D, D, eps);
        return;
    }
    w = referee_region(j, 1, (struct region){0, 0, 1, D});
    y = referee_room(j, want.rows * want.cols);
    if (j->st)
        return;
    rmsnorm_forward(j->r->kernels, y, x, w, want.rows * want.cols / D, D, eps);
    take_tile(j, &want, y);
}

static void norm_back(struct judging *j)
{
    const size_t D = referee_shape(j, 1)->cols / j->op->heads;
    struct region want = whole_heads(j, D);
    const float *dy = referee_region(j, 0, want), *x = referee_region(j, 1, want);
    const float *w = referee_region(j, 2, (struct region){0, 0, 1, D});
    float *dx = referee_region(j, 4, want), *dw = referee_room(j, D);

    if (j->st)
        return;
    rmsnorm_backward(j->r->kernels, dx, dw, dy, x, w, want.rows * want.cols / D, D,
                     j->r->g->config.norm_eps);
    take_tile(j, &want, dx);
}

static void rope(struct judging *j, bool is_back)
{
    const struct model_config *c = &j->r->g->config;
    const size_t D = c->head_dim, half = D / 2;
    const int32_t *pos = j->r->g->pos + micro(j)->first_row + j->at.row;
    struct region want = whole_heads(j, D);
    float *x = referee_region(j, 0, want);
    size_t n_pos = 0;
    float *cos, *sin;

    for (size_t i = 0; i < j->at.rows; i++)
        n_pos = (size_t)pos[i] >= n_pos ? (size_t)pos[i] + 1 : n_pos;
    cos = referee_room(j, n_pos * half);
    sin = referee_room(j, n_pos * half);
    if (j->st)
        return;
    rope_table(cos, sin, c->rope_theta, &c->rope_scaling, 0, n_pos, D);
    (is_back ? rope_backward : rope_forward)(j->r->kernels, x, cos, sin, pos, want.rows,
                                             want.cols / D, D);
    take_tile(j, &want, x);
}

static void swiglu(struct judging *j)
{
    const float *g = same_tile(j, 0), *u = same_tile(j, 1);

    if (!j->st)
        swiglu_forward(j->r->kernels, NULL, j->result, g, u, j->n);
}

static void swiglu_back(struct judging *j)
{
    const float *dy = same_tile(j, 0), *g = same_tile(j, 1), *u = same_tile(j, 2);
    float *other = referee_room(j, j->n);

    if (j->st)
        return;
    if (j->q->out == 0)
        swiglu_backward(j->r->kernels, NULL, j->result, other, dy, g, u, j->n);
    else
        swiglu_backward(j->r->kernels, NULL, other, j->result, dy, g, u, j->n);
}

static void round_weights(struct judging *j)
{
    const float *x = same_tile(j, 0);
    uint16_t narrow[TILE_MAX];

    if (j->st)
        return;
    bf16_from_f32_row(j->r->kernels, narrow, x, j->n);
    f32_from_bf16_row(j->r->kernels, j->result, narrow, j->n);
}

static void add(struct judging *j)
{
    const float *a = same_tile(j, 0), *b = same_tile(j, 1);

    if (!j->st)
        add_forward(j->r->kernels, j->result, a, b, j->n);
}

/* ---- the loss -------------------------------------------------------------------------------- */

static void gather(struct judging *j)
{
    for (size_t r = 0; r < j->at.rows; r++)
        referee_read(j, 0,
                     (struct region){loss_row(j, j->at.row + r), j->at.col, 1, j->at.cols},
                     j->result + r * j->at.cols, j->at.cols);
}

static void spread(struct judging *j)
{
    size_t n = j->op->in[0] == GRAPH_NONE ? 0 : referee_shape(j, 0)->rows;

    referee_read(j, 1, region_of_tile(j), j->result, j->at.cols);
    for (size_t i = 0; i < n; i++) {
        size_t row = loss_row(j, i);

        if (row >= j->at.row && row < j->at.row + j->at.rows)
            referee_read(j, 0, (struct region){i, j->at.col, 1, j->at.cols},
                         j->result + (row - j->at.row) * j->at.cols, j->at.cols);
    }
}

static void logprob(struct judging *j)
{
    const float T = j->r->g->settings.temperature;
    size_t V = referee_shape(j, 0)->cols;

    for (size_t r = 0; r < j->at.rows; r++) {
        const float *x = referee_region(j, 0, (struct region){j->at.row + r, 0, 1, V});
        float top, sum;

        if (j->st)
            return;
        sum = exp_sum_forward(j->r->kernels, x, &top, T, V);
        j->result[r] = j->q->out == 1 ? top
                       : j->q->out == 2
                           ? sum
                           : (x[target(j, j->at.row + r)] / T - top) - log_f32(sum);
    }
}

static void weigh(struct judging *j)
{
    const float *logp = referee_region(j, 0, (struct region){j->at.row, 0, j->at.rows, 1});

    for (size_t i = 0; !j->st && i < j->at.rows; i++)
        j->result[i] = trace_loss_weight(j->r->g, j->op, j->at.row + i, logp[i]);
}

static void logprob_back(struct judging *j)
{
    const float T = j->r->g->settings.temperature;
    const struct region column = {j->at.row, 0, j->at.rows, 1};
    const float *x = same_tile(j, 0), *top = referee_region(j, 1, column);
    const float *sum = referee_region(j, 2, column), *weight = referee_region(j, 3, column);

    for (size_t i = 0; !j->st && i < j->n; i++) {
        size_t r = i / j->at.cols, c = j->at.col + i % j->at.cols;
        float inv = 1.0f / sum[r], p = exp_f32(x[i] / T - top[r]) * inv;

        if ((size_t)target(j, j->at.row + r) == c)
            p = p - 1.0f;
        j->result[i] = weight[r] == 0.0f ? 0.0f : (p * weight[r]) / T;
    }
}

/* ---- the optimizer --------------------------------------------------------------------------- */

static void row_squares(struct judging *j)
{
    size_t C = referee_shape(j, 0)->cols;
    const float *g = referee_region(j, 0, (struct region){j->at.row, 0, j->at.rows, C});

    for (size_t r = 0; !j->st && r < j->at.rows; r++)
        j->result[r] = dot_forward(j->r->kernels, g + r * C, g + r * C, C);
}

static void squares(struct judging *j)
{
    size_t n = referee_shape(j, 0)->rows, at = j->op->parameter;
    const float *row;

    referee_read(j, 1, region_of_tile(j), j->result, j->at.cols);
    if (at < j->at.col || at >= j->at.col + j->at.cols)
        return;
    row = referee_region(j, 0, (struct region){0, 0, n, 1});
    if (!j->st)
        j->result[at - j->at.col] = sum_forward(j->r->kernels, row, n);
}

static void scale(struct judging *j)
{
    size_t n = referee_shape(j, 0)->cols;
    const float *square = referee_region(j, 0, (struct region){0, 0, 1, n});

    if (!j->st)
        j->result[0] =
            grad_clip_scale(grad_norm(square, n), j->r->g->settings.optimizer.clip_norm);
}

static void adamw(struct judging *j)
{
    float *part[3] = {same_tile(j, 0), same_tile(j, 1), same_tile(j, 2)};
    const float *g = same_tile(j, 3);
    const float *factor = referee_region(j, 4, (struct region){0, 0, 1, 1});
    struct adamw_scalars s = j->r->g->adamw;

    if (j->st)
        return;
    s.grad_scale = *factor;
    adamw_update(j->r->kernels, NULL, part[0], part[1], part[2], g, &s, j->n);
    memcpy(j->result, part[j->q->out], j->n * sizeof(float));
}

/* ---- the question ---------------------------------------------------------------------------- */

static void answer_sum(struct judging *j)
{
    switch (j->op->kind) {
    case GRAPH_LINEAR: linear(j); break;
    case GRAPH_DX: product_dx(j); break;
    case GRAPH_DW: product_dw(j); break;
    case GRAPH_BIAS_BACK: bias_back(j); break;
    case GRAPH_EMBED_BACK: embed_back(j); break;
    default: norm_weight_back(j); break;
    }
}

static void answer(struct judging *j)
{
    switch (j->op->kind) {
    case GRAPH_ROUND: round_weights(j); break;
    case GRAPH_EMBED: embed(j); break;
    case GRAPH_NORM: norm(j); break;
    case GRAPH_NORM_BACK: norm_back(j); break;
    case GRAPH_ROPE: rope(j, false); break;
    case GRAPH_ROPE_BACK: rope(j, true); break;
    case GRAPH_ATTEND: referee_attend(j); break;
    case GRAPH_ATTEND_BACK: referee_attend_back(j); break;
    case GRAPH_SWIGLU: swiglu(j); break;
    case GRAPH_SWIGLU_BACK: swiglu_back(j); break;
    case GRAPH_GATHER: gather(j); break;
    case GRAPH_SPREAD: spread(j); break;
    case GRAPH_LOGPROB: logprob(j); break;
    case GRAPH_WEIGH: weigh(j); break;
    case GRAPH_LOGPROB_BACK: logprob_back(j); break;
    case GRAPH_ADD: add(j); break;
    case GRAPH_ROW_SQUARES: row_squares(j); break;
    case GRAPH_SQUARES: squares(j); break;
    case GRAPH_SCALE: scale(j); break;
    case GRAPH_ADAMW: adamw(j); break;
    default: CHECK(!"a tile of an operation of this kind"); break;
    }
}

enum status referee_compute(float result[TILE_MAX], const struct referee *r,
                            const struct referee_question *q, const float *from, struct err *e)
{
    const struct graph_op *op = &r->g->op[q->op];
    struct judging j = {.r = r, .q = q, .op = op, .result = result, .e = e};
    bool is_sum = graph_terms(r->g, op, q->out) > 0;

    CHECK(op->kind != GRAPH_CONCLUDE && q->out < op->n_outs && !from == (q->first == 0));
    CHECK(q->n > 0 && q->first + q->n <= graph_segments(r->g, op, q->out));
    j.at = tiling_at(&r->g->tensor[op->out[q->out]].shape, q->tile);
    j.n = j.at.rows * j.at.cols;
    memset(result, 0, j.n * sizeof(float));
    if (from)
        memcpy(result, from, j.n * sizeof(float));
    else if (is_sum)
        begin_sum(&j);
    if (is_sum)
        answer_sum(&j);
    else
        answer(&j);
    release(&j);
    return j.st;
}
