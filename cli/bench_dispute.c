/*
 * cli/bench_dispute.c - muster bench dispute: what it costs to settle a step
 *
 * A reinforcement step of a random model is taken by the learner, then traced twice: honestly, and
 * with one gradient altered by one bit. The two traces play the game of learn/dispute.h. Then every
 * kind of operation is opened once and judged, for not every operation is as cheap as another.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/rng.h"
#include "cli/bench_dispute.h"
#include "cli/bench_line.h"
#include "cli/bench_shape.h"
#include "cli/usage.h"
#include "learn/dispute.h"

#define ROUNDS_TARGET  25.0
#define OPENED_TARGET  1e6
#define REFEREE_TARGET 1.0

struct bench {
    char *shape, *parameter;
    int64_t batch, length, threads;
    bool json, kinds;
};

/* A step that is argued about. */
struct match {
    struct learn_settings settings;
    struct learn_batch batch;
    struct weights *masters;
    struct adamw *opt;
    struct graph *graph;
    struct trace *honest, *altered;
    struct trace_fault fault;
    struct pool *pool;
    const struct kernels *kernels, *scalar;
};

struct figures {
    double step_s, trace_s, game_s; /* of one party */
    double referee_s;               /* by the scalar definitions, one thread */
    uint32_t n_moves;
    uint64_t opened, shown;
    bool is_right; /* the trace has the learner's roots, and the defender lost */
};

static double seconds_since(int64_t start_us)
{
    return (double)(clock_mono_us() - start_us) * 1e-6;
}

/* ---- the step -------------------------------------------------------------------------------- */

static void make_batch(struct learn_batch *b, const struct bench *o, uint32_t vocab)
{
    size_t n = (size_t)o->length + 1;
    struct rng rng = rng_of(1, 1);

    b->n_samples = (size_t)o->batch;
    b->sample = xcalloc(b->n_samples, sizeof(*b->sample));
    for (size_t i = 0; i < b->n_samples; i++) {
        int32_t *tokens = xcalloc(n, sizeof(*tokens));
        float *logprobs = xcalloc(n, sizeof(*logprobs));
        uint8_t *mask = xcalloc(n, 1);

        for (size_t t = 0; t < n; t++) {
            tokens[t] = (int32_t)rng_below(&rng, vocab);
            logprobs[t] = -10.5f + rng_f32(&rng); /* about what a random model says */
            mask[t] = t >= n / 4;
            b->n_tokens += mask[t];
        }
        b->sample[i] = (struct learn_sample){
            .tokens = tokens,
            .logprobs = logprobs,
            .mask = mask,
            .n = n,
            .advantage = i % 2 ? -0.5f : 0.5f,
        };
    }
}

static void match_clear(struct match *m)
{
    trace_free(&m->honest);
    trace_free(&m->altered);
    graph_free(&m->graph);
    for (size_t i = 0; i < m->batch.n_samples; i++) {
        free((void *)m->batch.sample[i].tokens);
        free((void *)m->batch.sample[i].logprobs);
        free((void *)m->batch.sample[i].mask);
    }
    free(m->batch.sample);
    weights_free(&m->masters);
    adamw_free(&m->opt);
    pool_free(&m->pool);
}

static enum status match_init(struct match *m, const struct bench *o, struct err *e)
{
    struct model_config c = bench_shape_config(bench_shape_find(o->shape), o->length);
    enum status st;

    m->settings = (struct learn_settings){
        .loss = {.clip_eps = 0.2f, .delta = 4.0f, .log_ratio_max = 20.0f},
        .temperature = 1.0f,
        .optimizer = {.lr = 1e-4,
                      .lr_end = 1.0,
                      .beta1 = 0.9f,
                      .beta2 = 0.95f,
                      .eps = 1e-8f,
                      .clip_norm = 1.0f},
        .grad_lanes = 1,
    };
    pool_new(&m->pool, usage_threads(o->threads));
    m->kernels = kernels_best();
    make_batch(&m->batch, o, c.vocab);
    st = kernels_choose(&m->scalar, NUMERICS_F32_1, "scalar", e);
    if (!st)
        st = weights_new(&m->masters, &c, e);
    if (!st)
        st = adamw_new(&m->opt, &c, e);
    if (st)
        return st;
    weights_init_random(m->masters, 1);
    return graph_new(&m->graph, &c, &m->settings, NUMERICS_F32_1, &m->batch, 0, 0, e);
}

/* The learner's own step, from copies of the state. */
static enum status take_step(const struct match *m, double *s, struct digest *masters,
                             struct digest *optimizer, struct err *e)
{
    const struct learner_options lo = {
        .kernels = m->kernels, .pool = m->pool, .max_rows = GRAPH_ROWS};
    struct learn_report report;
    struct weights *w = NULL;
    struct learner *l = NULL;
    enum status st = weights_new(&w, &m->masters->config, e);
    int64_t start;

    if (st)
        return st;
    weights_copy(w, m->masters);
    st = learner_new(&l, &w, NULL, &m->settings, &lo, e);
    start = clock_mono_us();
    if (!st)
        st = learner_step(l, &m->batch, 0, &report, e);
    *s = seconds_since(start);
    if (!st)
        st = learner_roots(l, masters, optimizer, e);
    learner_free(&l);
    return st;
}

/* The last product that goes into the gradient of the parameter: one number of it is altered. */
static enum status choose_fault(struct match *m, const char *parameter, struct err *e)
{
    const struct graph *g = m->graph;

    for (uint32_t i = 0; i < g->n_ops; i++)
        if (g->op[i].kind == GRAPH_DW &&
            !strcmp(g->parameter[g->op[i].parameter].name, parameter))
            m->fault = (struct trace_fault){
                .op = i, .at = g->tensor[g->op[i].out[0]].shape.cols + 7, .flip = 1};
    return m->fault.flip
               ? OK
               : err_set(e, ERR_INVALID, "no product makes a gradient of '%s'", parameter);
}

static enum status trace_one(const struct match *m, struct trace **t,
                             const struct trace_fault *fault, double *s, struct err *e)
{
    const struct trace_options o = {.kernels = m->kernels, .pool = m->pool, .fault = fault};
    enum status st = trace_new(t, m->graph, m->masters, m->opt, &o, e);
    int64_t start = clock_mono_us();

    if (!st)
        st = trace_commit(*t, e);
    *s = seconds_since(start);
    return st;
}

/* ---- the game -------------------------------------------------------------------------------- */

static enum status one_move(struct dispute *d, struct dispute_party *p, struct figures *f,
                            struct err *e)
{
    bool is_opening = d->level == DISPUTE_OPENING;
    struct buf move;
    int64_t start = clock_mono_us();
    enum status st;

    buf_init(&move, OPENING_MAX_BYTES);
    st = dispute_party_move(p, d, &move, e);
    if (p->side == DISPUTE_CHALLENGER)
        f->game_s += seconds_since(start);
    start = clock_mono_us();
    if (!st)
        st = dispute_move(d, p->side, buf_bytes(&move), 0, e);
    if (is_opening)
        f->referee_s = seconds_since(start);
    buf_clear(&move);
    return st;
}

static struct opening_claim claim_of(const struct trace *t)
{
    return (struct opening_claim){.trace = t->all,
                                  .masters_before = t->masters_before,
                                  .optimizer_before = t->optimizer_before,
                                  .masters_after = t->masters_after,
                                  .optimizer_after = t->optimizer_after};
}

static enum status play(struct match *m, struct figures *f, bool is_told, struct err *e)
{
    const struct opening_claim claim = claim_of(m->altered);
    const struct dispute_rules rules = {.kernels = m->scalar, .move_ms = 60000};
    struct dispute_party c, v;
    struct dispute d;
    char text[160];
    enum status st = OK;

    dispute_init(&d, m->graph, &claim, &rules, 0);
    dispute_party_init(&c, DISPUTE_CHALLENGER, m->honest);
    dispute_party_init(&v, DISPUTE_DEFENDER, m->altered);
    while (!st && d.level != DISPUTE_CLOSED)
        st = one_move(&d, d.turn == DISPUTE_DEFENDER ? &v : &c, f, e);
    f->n_moves = d.n_moves;
    f->opened = d.opened_bytes;
    f->shown = d.shown_bytes;
    f->is_right = f->is_right && d.loser == DISPUTE_DEFENDER && d.op == m->fault.op;
    graph_describe(text, sizeof(text), m->graph, d.op);
    if (!st && is_told)
        printf("found    operation %" PRIu32 " of %zu: %s, tile %" PRIu64 "\n         %s: %s\n",
               d.op, m->graph->n_ops, text, d.tile,
               d.loser == DISPUTE_DEFENDER ? "the defender loses" : "the challenger loses",
               d.why);
    dispute_clear(&d);
    dispute_party_clear(&c);
    dispute_party_clear(&v);
    return st;
}

/* ---- every kind of operation ----------------------------------------------------------------- */

struct kind_cost {
    uint64_t bytes; /* the most */
    double s;
};

/* One question, opened by the honest trace and judged. */
static enum status open_one(const struct match *m, const struct referee_question *q,
                            struct kind_cost *cost, struct err *e)
{
    const struct opening_claim claim = claim_of(m->honest);
    struct opening_result found;
    struct buf opening;
    int64_t start;
    enum status st;

    buf_init(&opening, OPENING_MAX_BYTES);
    st = opening_make(&opening, m->honest, q, e);
    start = clock_mono_us();
    if (!st)
        st = opening_judge(&found, buf_bytes(&opening), m->graph, m->scalar, &claim, q, e);
    if (!st) {
        double s = seconds_since(start);

        cost->s = s > cost->s ? s : cost->s;
        cost->bytes = opening.len > cost->bytes ? opening.len : cost->bytes;
    }
    buf_clear(&opening);
    return st;
}

/* Operations of one kind differ in their shapes: the largest of each, in numbers read. */
static void choose_ops(const struct graph *g, uint32_t op[GRAPH_KIND_COUNT])
{
    uint64_t most[GRAPH_KIND_COUNT] = {0};

    for (uint32_t i = 0; i < g->n_ops; i++) {
        uint64_t n = 1;

        for (size_t j = 0; j < GRAPH_INS; j++)
            if (g->op[i].in[j] != GRAPH_NONE)
                n += (uint64_t)g->tensor[g->op[i].in[j]].shape.rows *
                     g->tensor[g->op[i].in[j]].shape.cols;
        if (n > most[g->op[i].kind]) {
            most[g->op[i].kind] = n;
            op[g->op[i].kind] = i;
        }
    }
}

static enum status open_op(const struct match *m, uint32_t op, struct kind_cost *cost,
                           struct err *e)
{
    const struct graph_op *x = &m->graph->op[op];
    bool is_conclusion = x->kind == GRAPH_CONCLUDE;
    enum status st = is_conclusion ? OK : trace_seek(m->honest, op, e);

    for (uint32_t out = 0; !st && out < (is_conclusion ? 1 : x->n_outs); out++) {
        uint64_t tiles = is_conclusion ? 1 : tiling_count(&m->graph->tensor[x->out[out]].shape);
        size_t last = graph_segments(m->graph, x, out) - 1;

        /* The first tile, the middle one and the last; the first segment and a later one. */
        for (uint64_t i = 0; !st && i < 3; i++) {
            struct referee_question q = {op, out, i * (tiles - 1) / 2, 0, 1};

            st = open_one(m, &q, cost, e);
            q.first = last > 1 ? 1 : last;
            if (!st && last > 0)
                st = open_one(m, &q, cost, e);
        }
    }
    return st;
}

static enum status open_kinds(const struct match *m, struct kind_cost *cost, struct err *e)
{
    uint32_t op[GRAPH_KIND_COUNT];
    enum status st = OK;

    for (size_t i = 0; i < GRAPH_KIND_COUNT; i++)
        op[i] = GRAPH_NONE;
    choose_ops(m->graph, op);
    for (uint32_t i = 0; !st && i < m->graph->n_ops; i++) /* in order: one pass does */
        if (op[m->graph->op[i].kind] == i)
            st = open_op(m, i, &cost[m->graph->op[i].kind], e);
    return st;
}

/* ---- telling --------------------------------------------------------------------------------- */

static void tell(const struct bench *o, const struct match *m, const struct figures *f)
{
    printf("%s, %" PRId64 " sequences of %" PRId64 ", %zu operations\n", o->shape, o->batch,
           o->length, m->graph->n_ops);
    printf("step     %10.2f s\n", f->step_s);
    printf("trace    %10.2f s, %.2f times the step (only when disputed, once for each party)\n",
           f->trace_s, f->trace_s / f->step_s);
    printf("second   %10.2f s: the challenger's pass to the operation, and its moves\n",
           f->game_s);
    printf("rounds   %10" PRIu32 " signed moves, %" PRIu32 " of each side at most\n",
           f->n_moves, (f->n_moves + 1) / 2);
    printf("shown    %10" PRIu64 " bytes of hashes\n", f->shown);
    printf("opened   %10" PRIu64 " bytes\n", f->opened);
    printf("referee  %10.4f s, scalar code, one core\n", f->referee_s);
    printf("right    %10s\n", f->is_right ? "yes" : "NO");
}

static void line(const char *what, const struct bench *o, double value, const char *unit,
                 double target)
{
    char name[80];

    snprintf(name, sizeof(name), "dispute_%s_%s", what, o->shape);
    bench_line_print(
        &(struct bench_line){.name = name, .value = value, .unit = unit, .target = target});
}

/* A bench line's target is something to reach; these are not to be passed, so what is printed with
 * one is how far below it the value stays. */
static void tell_json(const struct bench *o, const struct figures *f)
{
    line("step", o, f->step_s, "s", 0);
    line("trace", o, f->trace_s, "s", 0);
    line("moves", o, f->n_moves, "moves", 0);
    line("opened", o, (double)f->opened, "bytes", 0);
    line("referee", o, f->referee_s, "s", 0);
    line("moves_to_spare", o, ROUNDS_TARGET - f->n_moves + 1e-9, "moves", 1e-9);
    line("bytes_to_spare", o, OPENED_TARGET - (double)f->opened, "bytes", 1e-9);
    line("referee_to_spare", o, REFEREE_TARGET - f->referee_s, "s", 1e-9);
}

static void tell_kinds(const struct bench *o, const struct kind_cost *cost)
{
    if (!o->json)
        printf("\nthe largest operation of each kind    opened bytes    referee s\n");
    for (size_t i = 0; i < GRAPH_KIND_COUNT; i++) {
        const char *kind = graph_kind_name((enum graph_kind)i);
        char what[64];

        if (!cost[i].bytes)
            continue;
        if (!o->json) {
            printf("%-36s  %12" PRIu64 "   %10.4f\n", kind, cost[i].bytes, cost[i].s);
            continue;
        }
        snprintf(what, sizeof(what), "opened_%s", kind);
        line(what, o, (double)cost[i].bytes, "bytes", 0);
        snprintf(what, sizeof(what), "referee_%s", kind);
        line(what, o, cost[i].s, "s", 0);
    }
}

static enum status measure(struct match *m, const struct bench *o, struct figures *f,
                           struct kind_cost *cost, struct err *e)
{
    struct digest masters, optimizer;
    double again;
    enum status st = match_init(m, o, e);

    if (!st)
        st = choose_fault(m, o->parameter, e);
    if (!st)
        st = take_step(m, &f->step_s, &masters, &optimizer, e);
    if (!st)
        st = trace_one(m, &m->honest, NULL, &f->trace_s, e);
    if (!st)
        st = trace_one(m, &m->altered, &m->fault, &again, e);
    if (st)
        return st;
    f->trace_s = again < f->trace_s ? again : f->trace_s;
    f->is_right = digest_equal(&masters, &m->honest->masters_after) &&
                  digest_equal(&optimizer, &m->honest->optimizer_after);
    st = play(m, f, !o->json, e);
    trace_free(&m->altered);
    return !st && o->kinds ? open_kinds(m, cost, e) : st;
}

int bench_dispute(int argc, char **argv)
{
    struct kind_cost cost[GRAPH_KIND_COUNT] = {{0}};
    struct figures f = {0};
    struct match m = {0};
    struct bench o = {0};
    struct err e;
    struct opt table[] = {
        {"shape", OPT_CHOICE, &o.shape, "15m", BENCH_SHAPES, "the shape; weights are random",
         false},
        {"batch", OPT_INT, &o.batch, "8", "1..4096", "sequences of the step", false},
        {"length", OPT_INT, &o.length, "256", "4..65536", "tokens of a sequence", false},
        {"parameter", OPT_STRING, &o.parameter, "model.layers.3.self_attn.q_proj.weight", NULL,
         "whose gradient is altered, by one bit of one number", false},
        {"kinds", OPT_FLAG, &o.kinds, "false", NULL,
         "open and judge every kind of operation as well", false},
        {"threads", OPT_INT, &o.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"json", OPT_FLAG, &o.json, "false", NULL, "one JSON object a figure", false},
    };
    struct usage u = {
        .line = "muster bench dispute [options]",
        .about =
            "Alters one gradient of a training step of a random model, plays the dispute over\n"
            "it, and tells how many moves it took, what was opened, and how long the referee\n"
            "needed. Status 1: the dispute did not end as it must.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    status = measure(&m, &o, &f, cost, &e) ? usage_fail(e.text) : 0;
    if (!status && o.json)
        tell_json(&o, &f);
    else if (!status)
        tell(&o, &m, &f);
    if (!status && o.kinds)
        tell_kinds(&o, cost);
    if (!status && !f.is_right)
        status = usage_fail("the dispute did not end as it must");
out:
    match_clear(&m);
    opt_clear(table, u.n);
    return status;
}
