#include "learn/lanes.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/device.h"
#include "engine/ops.h"

bool lanes_is_count(int64_t n)
{
    return n == 1 || n == 2 || n == 4 || n == 8;
}

uint32_t lanes_of(uint64_t row, uint64_t n_rows, uint32_t n_lanes)
{
    return (uint32_t)(row * n_lanes / n_rows);
}

static uint32_t log2_of(uint32_t n)
{
    uint32_t k = 0;

    while (n >> (k + 1))
        k++;
    return k;
}

/* ---- making ---------------------------------------------------------------------------------- */

uint32_t lanes_levels(uint32_t n_lanes, uint32_t n_processes)
{
    uint32_t own = log2_of(n_lanes / n_processes), others = log2_of(n_processes);

    return own > others ? own : others;
}

uint64_t lanes_bytes(const struct model_config *c, uint32_t n_levels)
{
    return n_levels * model_config_params(c) * sizeof(float);
}

enum status lanes_new(struct lanes **out, struct train *t, const struct kernels *kernels,
                      size_t max_rows, uint32_t n_levels, struct err *e)
{
    struct lanes *x = xcalloc(1, sizeof(*x));
    enum status st = OK;

    CHECK(n_levels <= LANES_LEVELS);
    x->train = t;
    x->kernels = kernels;
    x->max_rows = max_rows;
    x->n_levels = n_levels;
    for (uint32_t i = 0; !st && i < n_levels; i++)
        st = device_alloc(kernels_device(kernels), (void **)&x->level[i],
                          train_grads_there(t)->n_data * sizeof(float),
                          "the gradient of a lane", e);
    if (st)
        lanes_free(&x);
    *out = x;
    return st;
}

void lanes_free(struct lanes **p)
{
    if (!*p)
        return;
    for (uint32_t i = 0; i < LANES_LEVELS; i++)
        device_release(kernels_device((*p)->kernels), (*p)->level[i]);
    free(*p);
    *p = NULL;
}

/* ---- micro-batches --------------------------------------------------------------------------- */

/* The arrays of one micro-batch, of max_rows rows. */
struct micro {
    int32_t *tokens, *targets;
    float *logp;
    size_t *lengths;
    size_t rows, n_seqs, first; /* `first`: index of its first sequence */
};

static enum status micro_init(struct micro *m, size_t max_rows, struct err *e)
{
    enum status st;

    memset(m, 0, sizeof(*m));
    st = alloc_array(&m->tokens, max_rows, sizeof(*m->tokens), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->targets, max_rows, sizeof(*m->targets), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->logp, max_rows, sizeof(*m->logp), "a micro-batch", e);
    if (!st)
        st = alloc_array(&m->lengths, max_rows, sizeof(*m->lengths), "a micro-batch", e);
    return st;
}

static void micro_clear(struct micro *m)
{
    free(m->tokens);
    free(m->targets);
    free(m->logp);
    free(m->lengths);
}

static void micro_reset(struct micro *m, size_t first)
{
    m->rows = 0;
    m->n_seqs = 0;
    m->first = first;
}

static void micro_add(struct micro *m, const struct learn_seq *s)
{
    for (size_t r = 0; r + 1 < s->n; r++) {
        bool wanted = s->is_target ? s->is_target[r + 1] == 1 : r + 1 >= s->from;

        m->tokens[m->rows + r] = s->tokens[r];
        m->targets[m->rows + r] = wanted ? s->tokens[r + 1] : -1;
    }
    m->rows += s->n - 1;
    m->lengths[m->n_seqs++] = s->n - 1;
}

/* What loss weights are made of. Rows come in order, so the sequence is one that is walked along. */
struct weighing {
    const struct learn_work *w;
    const struct micro *m;
    struct learn_tally *t;
    size_t seq, start; /* of the micro-batch, and its first row */
};

static float weigh_policy(void *arg, size_t row, float logp)
{
    struct weighing *p = arg;

    while (row - p->start >= p->m->lengths[p->seq])
        p->start += p->m->lengths[p->seq++];
    const struct learn_seq *s = &p->w->seq[p->m->first + p->seq];
    float mu = s->logprobs[row - p->start + 1];
    struct loss_token k = loss_token_of(logp, mu, s->advantage, &p->w->loss);

    p->t->objective += (double)k.objective;
    p->t->kl += (double)(k.ratio - 1.0f - (logp - mu));
    p->t->n_clipped += k.is_clipped;
    p->t->ratio_max = k.ratio > p->t->ratio_max ? k.ratio : p->t->ratio_max;
    return k.coef / (float)p->w->n_tokens;
}

static float weigh_demo(void *arg, size_t row, float logp)
{
    struct weighing *p = arg;

    (void)row;
    p->t->objective += (double)logp;
    return 1.0f / (float)p->w->n_tokens;
}

/* With gradients, or only the sum of log-probabilities. */
static enum status run_micro(struct lanes *x, const struct learn_work *w, struct micro *m,
                             bool is_step, struct learn_tally *t, struct err *e)
{
    const struct train_batch tb = {
        .tokens = m->tokens,
        .targets = m->targets,
        .lengths = m->lengths,
        .n_seqs = m->n_seqs,
        .rows = m->rows,
        .temperature = w->temperature,
    };
    struct weighing p = {.w = w, .m = m, .t = t};
    enum status st;

    if (is_step)
        return train_gradients(x->train, &tb, w->is_imitation ? weigh_demo : weigh_policy, &p,
                               m->logp, e);
    st = train_forward(x->train, &tb, m->logp, e);
    for (size_t r = 0; !st && r < m->rows; r++)
        if (m->targets[r] >= 0)
            t->objective += (double)m->logp[r];
    return st;
}

/* Sequences [lo, hi), in micro-batches. */
static enum status run_seqs(struct lanes *x, const struct learn_work *w, size_t lo, size_t hi,
                            bool is_step, struct learn_tally *t, struct err *e)
{
    struct micro m;
    enum status st = micro_init(&m, x->max_rows, e);

    memset(t, 0, sizeof(*t));
    micro_reset(&m, lo);
    for (size_t i = lo; !st && i < hi; i++) {
        const struct learn_seq *s = &w->seq[i];

        if (s->n < 2 || s->n - 1 > x->max_rows) {
            st = err_set(e, ERR_LIMIT, "a sequence of %zu tokens does not fit %zu rows", s->n,
                         x->max_rows);
            break;
        }
        if (m.rows + s->n - 1 > x->max_rows) {
            st = run_micro(x, w, &m, is_step, t, e);
            micro_reset(&m, i);
        }
        micro_add(&m, s);
    }
    if (!st && m.rows)
        st = run_micro(x, w, &m, is_step, t, e);
    micro_clear(&m);
    return st;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

/* The first sequence of each lane, and behind them the number of sequences. */
static void cut(size_t first[LANES_MAX + 1], const struct learn_work *w)
{
    uint64_t n_rows = 0, row = 0;
    uint32_t lane = 0;

    first[0] = 0;
    for (size_t i = 0; i < w->n_seqs; i++)
        n_rows += w->seq[i].n - 1;
    for (size_t i = 0; i < w->n_seqs; i++) {
        while (lane < lanes_of(row, n_rows, w->n_lanes))
            first[++lane] = i;
        row += w->seq[i].n - 1;
    }
    while (lane < w->n_lanes)
        first[++lane] = w->n_seqs;
}

void lanes_settle(struct lanes *x, uint32_t i, uint32_t n)
{
    struct weights *g = train_grads_there(x->train);
    uint32_t k = 0;

    for (; i >> k & 1u; k++)
        add_forward(x->kernels, g->data, x->level[k], g->data, g->n_data);
    if (n >> k == 1) /* the last pair of all */
        return;
    CHECK(k < x->n_levels);
    device_copy(kernels_device(x->kernels), x->level[k], g->data, g->n_data * sizeof(float));
}

enum status lanes_gradient(struct lanes *x, const struct learn_work *w, uint32_t first,
                           uint32_t n, struct learn_tally *tally, struct err *e)
{
    size_t at[LANES_MAX + 1];
    enum status st = OK;

    CHECK(lanes_is_count(w->n_lanes) && n > 0 && first % n == 0 && first + n <= w->n_lanes);
    for (size_t i = 0; i < w->n_seqs; i++)
        if (w->seq[i].n < 2)
            return err_set(e, ERR_LIMIT, "sequence %zu of a step has %zu tokens, wants 2", i,
                           w->seq[i].n);
    cut(at, w);
    for (uint32_t i = 0; !st && i < n; i++) {
        train_zero(x->train);
        st = run_seqs(x, w, at[first + i], at[first + i + 1], true, &tally[i], e);
        if (st)
            break;
        train_finish(x->train);
        lanes_settle(x, i, n);
    }
    return st;
}

enum status lanes_evaluate(struct lanes *x, const struct learn_work *w,
                           struct learn_tally *tally, struct err *e)
{
    return run_seqs(x, w, 0, w->n_seqs, false, tally, e);
}
