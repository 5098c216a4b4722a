#include "cli/bench_gallery.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "cli/bench_line.h"
#include "ledger/books.h"
#include "proto/digest.h"
#include "proto/submission.h"
#include "rollout/restate.h"

#define TOGETHER 16u /* units generated, and checked, at a time */

/* One class, and the models of version 1 in it. */
struct side {
    enum numerics numerics;
    const struct kernels *kernels;
    struct model *prover, *verifier; /* owned */
    struct model *second;            /* owned: f32-1, for open classes */
};

struct gallery {
    const struct bench_world *w;
    const struct bench_gallery_options *o;
    const struct side *side;
    struct digest *honest;      /* owned: of the submissions of the units in f32-1 */
    struct ledger_commit *said; /* owned: what they say of themselves */
    bool *is_cheated;           /* owned, of the cheat at hand: said by f32-1 */
};

static enum status side_open(struct side *s, const struct bench_world *w, enum numerics n,
                             struct pool *pool, struct err *e)
{
    struct model_options mo = {.pool = pool};
    enum status st = kernels_choose(&s->kernels, n, NULL, e);

    s->numerics = n;
    mo.kernels = s->kernels;
    if (!st)
        st = model_new(&s->prover, w->weights[1], &mo, e);
    if (!st)
        st = model_new(&s->verifier, w->weights[1], &mo, e);
    mo.kernels = kernels_best();
    if (!st && n == NUMERICS_OPEN_OPENBLAS)
        st = model_new(&s->second, w->weights[1], &mo, e);
    return st;
}

static void side_close(struct side *s)
{
    model_free(&s->prover);
    model_free(&s->verifier);
    model_free(&s->second);
}

/* ---- units ------------------------------------------------------------------------------- */

struct lot {
    struct rollout_unit unit[TOGETHER];
    struct msg_submit *m[TOGETHER]; /* owned */
    struct msg_opening opening[TOGETHER];
    struct rollout_finding finding[TOGETHER];
    size_t n;
};

static void lot_init(struct lot *l, uint64_t first, size_t n)
{
    l->n = n;
    for (size_t i = 0; i < n; i++) {
        rollout_unit_init(&l->unit[i], first + i, first + i);
        l->m[i] = xcalloc(1, sizeof(*l->m[i]));
    }
}

static void lot_clear(struct lot *l)
{
    for (size_t i = 0; i < l->n; i++) {
        rollout_unit_clear(&l->unit[i]);
        free(l->m[i]);
    }
}

static enum status lot_decode(struct lot *l, struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; !st && i < l->n; i++) {
        st = msg_submit_decode(l->m[i], buf_bytes(&l->unit[i].body), e);
        if (!st && l->unit[i].opening.len)
            st = msg_opening_decode(&l->opening[i], buf_bytes(&l->unit[i].opening), e);
    }
    return st;
}

static enum status lot_check(struct lot *l, const struct rollout_world *w, struct err *e)
{
    const struct msg_submit *m[TOGETHER];
    const struct msg_opening *opening[TOGETHER];

    for (size_t i = 0; i < l->n; i++) {
        m[i] = l->m[i];
        opening[i] = l->unit[i].opening.len ? &l->opening[i] : NULL;
    }
    return rollout_check_all(w, m, opening, l->n, CHECK_FULL, NULL, l->finding, e);
}

/* Sampled tokens up to and with the one at which the check ended; none for what needs no prefill. */
static uint64_t tokens_seen(const struct msg_submit *m, const struct rollout_finding *f)
{
    uint64_t n = f->position + 1;

    if (f->code == REASON_BOUNDS || f->code == REASON_PROMPT || f->code == REASON_FINISH ||
        f->code == REASON_REWARD || f->code == REASON_UNOPENED)
        return 0;
    for (uint32_t i = 0; i < f->sample; i++)
        n += submission_sample_tokens(&m->sample[i]);
    return n;
}

/* ---- one cheat --------------------------------------------------------------------------- */

static bool is_honest(const struct gallery *g, const struct rollout_unit *u)
{
    struct digest d;

    digest_of(&d, buf_bytes(&u->body));
    return digest_equal(&d, &g->honest[u->unit]);
}

static void count(const struct gallery *g, enum infer_cheat kind, const struct lot *l,
                  struct bench_caught *c)
{
    bool is_open = g->side->numerics == NUMERICS_OPEN_OPENBLAS;
    uint64_t reasons = cheat_reasons(kind, is_open);

    for (size_t i = 0; i < l->n; i++) {
        const struct rollout_finding *f = &l->finding[i];
        uint64_t unit = l->unit[i].unit, seen;

        if (!is_open)
            g->is_cheated[unit] = !is_honest(g, &l->unit[i]);
        else if (!cheat_applies(kind, NUMERICS_F32_1))
            g->is_cheated[unit] = true; /* of openings alone, and in each unit */
        c->units++;
        c->cheated += g->is_cheated[unit];
        if (f->is_accepted)
            continue;
        if (!g->is_cheated[unit]) {
            c->honest_off++;
            continue;
        }
        seen = tokens_seen(l->m[i], f);
        c->detected++;
        c->otherwise += !(reasons >> f->code & 1);
        c->by[f->code]++;
        c->tokens += seen;
        c->tokens_max = seen > c->tokens_max ? seen : c->tokens_max;
    }
}

/* The same lot among the honest work of three others, who are a lot ahead. */
static void watch_lot(const struct gallery *g, struct watch *w, size_t *n_honest,
                      const struct lot *l, struct bench_caught *c)
{
    struct ledger_commit *said = xcalloc(1, sizeof(*said));
    uint64_t ahead = l->unit[0].unit + 2 * (uint64_t)TOGETHER;
    struct watch_finding f;

    for (; *n_honest < g->o->units && *n_honest < ahead; (*n_honest)++)
        watch_commit(w, (uint32_t)(*n_honest % 3), &g->said[*n_honest], &f);
    for (size_t i = 0; i < l->n; i++) {
        said->unit = l->unit[i].unit;
        ledger_commit_of(said, l->m[i]);
        watch_commit(w, 3, said, &f);
        if (!g->is_cheated[said->unit] || f.code == REASON_NONE)
            continue;
        c->seen++;
        c->seen_by[f.code]++;
    }
    free(said);
}

/* All units of one cheat, which computes with `other`. */
static enum status try_cheat(const struct gallery *g, enum infer_cheat kind,
                             struct model *other, struct bench_caught *c, struct err *e)
{
    const struct rollout_world made =
        bench_world_view(g->w, g->side->numerics, g->side->prover);
    struct rollout_world seen = bench_world_view(g->w, g->side->numerics, g->side->verifier);
    struct lot *l = xcalloc(1, sizeof(*l));
    struct watch *watch = xcalloc(1, sizeof(*watch));
    size_t n_honest = 0;
    struct cheat *cheat;
    enum status st = OK;

    watch_init(watch);
    seen.second = g->side->second;
    *c = (struct bench_caught){0};
    cheat_new(&cheat, kind);
    for (size_t at = 0; !st && at < g->o->units; at += TOGETHER) {
        size_t left = g->o->units - at;

        lot_init(l, at, left < TOGETHER ? left : TOGETHER);
        st = cheat_generate(cheat, &made, other, l->unit, l->n, NULL, NULL, e);
        if (!st)
            st = lot_decode(l, e);
        if (!st)
            st = lot_check(l, &seen, e);
        if (!st) {
            count(g, kind, l, c);
            watch_lot(g, watch, &n_honest, l, c);
        }
        lot_clear(l);
    }
    cheat_free(&cheat);
    watch_clear(watch);
    free(watch);
    free(l);
    return st;
}

/* ---- what a cheat computes with ---------------------------------------------------------- */

struct altered {
    struct weights *weights; /* owned */
    struct model *model;     /* owned */
};

static void altered_clear(struct altered *a)
{
    model_free(&a->model);
    weights_free(&a->weights);
}

/* Gaussian enough (twelve uniforms), as large as `sigma` times the tensor's own deviation. */
static void add_noise(struct weights *w, double sigma)
{
    for (size_t t = 0; t < w->n_tensors; t++) {
        struct weights_tensor *x = &w->tensors[t];
        size_t n = x->rows * x->cols;
        struct rng r = rng_of(41, t);
        double square = 0.0;

        for (size_t i = 0; i < n; i++)
            square += (double)x->data[i] * (double)x->data[i];
        for (size_t i = 0; x->is_matrix && i < n; i++) {
            float z = -6.0f;

            for (int k = 0; k < 12; k++)
                z += rng_f32(&r);
            x->data[i] += z * (float)(sigma * sqrt(square / (double)n));
        }
    }
}

static enum status make_altered(const struct gallery *g, struct altered *a,
                                enum infer_cheat kind, double sigma, struct err *e)
{
    bool is_stale = cheat_model(kind) == CHEAT_MODEL_OLDEST;
    const struct model_options mo = {
        .kernels = g->side->kernels, .pool = g->o->pool, .round_cache = cheat_cache(kind)};
    enum status st = weights_new(&a->weights, &g->w->setup->config, e);

    if (st)
        return st;
    weights_copy(a->weights, g->w->weights[is_stale ? 0 : 1]);
    if (sigma > 0.0)
        add_noise(a->weights, sigma);
    else
        cheat_weights(kind, a->weights);
    return model_new(&a->model, a->weights, &mo, e);
}

/* The share of `draft`'s tokens that the true model draws as well, over some units. */
static enum status agreement(const struct gallery *g, struct model *draft, double *share,
                             struct err *e)
{
    const struct rollout_world own = bench_world_view(g->w, g->side->numerics, draft);
    const struct rollout_world truth =
        bench_world_view(g->w, g->side->numerics, g->side->prover);
    struct lot *l = xcalloc(1, sizeof(*l));
    uint64_t drawn = 0, all = 0;
    enum status st;

    lot_init(l, 1u << 20, TOGETHER);
    st = rollout_generate(&own, l->unit, l->n, NULL, NULL, e);
    if (!st)
        st = lot_decode(l, e);
    for (size_t i = 0; !st && i < l->n; i++) {
        struct buf logprobs[MSG_MAX_SAMPLES];
        uint64_t n = 0;

        for (uint32_t s = 0; s < l->m[i]->n_samples; s++)
            buf_init(&logprobs[s], MSG_MAX_BYTES);
        st = restate_samples(&truth, l->m[i], logprobs, NULL, &n, e);
        drawn += n;
        all += submission_tokens(l->m[i]);
        for (uint32_t s = 0; s < l->m[i]->n_samples; s++)
            buf_clear(&logprobs[s]);
    }
    *share = all ? (double)drawn / (double)all : 0.0;
    lot_clear(l);
    free(l);
    return st;
}

/* A draft whose tokens agree with the true model's about so often: weights with noise on them. */
static enum status make_draft(const struct gallery *g, struct altered *a, double wanted,
                              double *share, struct err *e)
{
    double lo = 1e-3, hi = 4.0;
    enum status st = OK;

    for (int i = 0; !st && i < 12; i++) {
        double sigma = sqrt(lo * hi);

        altered_clear(a);
        st = make_altered(g, a, CHEAT_DRAFT, sigma, e);
        if (!st)
            st = agreement(g, a->model, share, e);
        if (fabs(*share - wanted) < 0.004)
            break;
        if (*share > wanted)
            lo = sigma;
        else
            hi = sigma;
    }
    return st;
}

/* ---- telling ----------------------------------------------------------------------------- */

static const char *most_often(const uint32_t by[REASON_COUNT])
{
    int best = 0;

    for (int i = 1; i < REASON_COUNT; i++)
        if (by[i] > by[best])
            best = i;
    return by[best] ? reason_name((enum reason)best) : "-";
}

/* `target`: of the share detected; 0: none. */
static void tell(const struct gallery *g, const char *name, const struct bench_caught *c,
                 double target, double tokens_target)
{
    const char *class = numerics_name(g->side->numerics);
    double share = c->cheated ? (double)c->detected / (double)c->cheated : 0.0;
    double seen = c->cheated ? (double)c->seen / (double)c->cheated : 0.0;
    double tokens = c->detected ? (double)c->tokens / (double)c->detected : 0.0;
    char id[96];

    if (!g->o->is_json) {
        printf("%-16s %-14s %6" PRIu64 " %8" PRIu64 "   %7.3f %% %9.1f %6" PRIu64
               "  %-10s %5" PRIu64 " %5" PRIu64 "   %5.1f %% %s\n",
               name, class, c->cheated, c->detected, 100.0 * share, tokens, c->tokens_max,
               most_often(c->by), c->otherwise, c->honest_off, 100.0 * seen,
               most_often(c->seen_by));
        fflush(stdout);
        return;
    }
    snprintf(id, sizeof(id), "verify_%s_%s_detected", name, class);
    bench_line_print(&(struct bench_line){
        .name = id, .value = share, .unit = "share of cheated units", .target = target});
    snprintf(id, sizeof(id), "verify_%s_%s_units", name, class);
    bench_line_print(
        &(struct bench_line){.name = id, .value = (double)c->cheated, .unit = "cheated units"});
    snprintf(id, sizeof(id), "verify_%s_%s_tokens", name, class);
    bench_line_print(&(struct bench_line){.name = id,
                                          .value = tokens,
                                          .unit = "tokens, mean",
                                          .target = tokens_target,
                                          .at_most = true});
    snprintf(id, sizeof(id), "verify_%s_%s_seen", name, class);
    bench_line_print(&(struct bench_line){
        .name = id, .value = seen, .unit = "share of cheated units, without a model"});
    snprintf(id, sizeof(id), "verify_%s_%s_unexpected", name, class);
    bench_line_print(&(struct bench_line){
        .name = id, .value = (double)(c->otherwise + c->honest_off), .unit = "units"});
}

/* A cheat for which there is nothing to do in this class. */
static void tell_nothing(const struct gallery *g, const char *name)
{
    const char *class = numerics_name(g->side->numerics);
    char id[96];

    if (!g->o->is_json) {
        printf("%-16s %-14s does not apply: such submissions hold no proofs\n", name, class);
        return;
    }
    snprintf(id, sizeof(id), "verify_%s_%s_applies", name, class);
    bench_line_print(&(struct bench_line){.name = id, .value = 0.0, .unit = "yes or no"});
}

/* ---- the gallery ------------------------------------------------------------------------- */

static enum status honest_units(struct gallery *g, struct err *e)
{
    const struct rollout_world w = bench_world_view(g->w, g->side->numerics, g->side->prover);
    struct lot *l = xcalloc(1, sizeof(*l));
    enum status st = OK;

    for (size_t at = 0; !st && at < g->o->units; at += TOGETHER) {
        size_t left = g->o->units - at;

        lot_init(l, at, left < TOGETHER ? left : TOGETHER);
        st = rollout_generate(&w, l->unit, l->n, NULL, NULL, e);
        if (!st)
            st = lot_decode(l, e);
        for (size_t i = 0; !st && i < l->n; i++) {
            digest_of(&g->honest[at + i], buf_bytes(&l->unit[i].body));
            g->said[at + i].unit = at + i;
            ledger_commit_of(&g->said[at + i], l->m[i]);
        }
        lot_clear(l);
    }
    free(l);
    return st;
}

static enum status one_kind(struct gallery *g, enum infer_cheat kind, struct err *e)
{
    bool is_open = g->side->numerics == NUMERICS_OPEN_OPENBLAS;
    double target = is_open ? 0.0 : 1.0, tokens = 0.0;
    struct altered a = {0};
    struct bench_caught c;
    enum status st = OK;

    if (!cheat_applies(kind, g->side->numerics)) {
        tell_nothing(g, infer_cheat_name(kind));
        return OK;
    }
    if (cheat_model(kind) != CHEAT_MODEL_TRUE)
        st = make_altered(g, &a, kind, 0.0, e);
    if (!st)
        st = try_cheat(g, kind, a.model ? a.model : g->side->prover, &c, e);
    if (is_open && kind == CHEAT_INT4) {
        target = 1.0;
        tokens = 100.0;
    }
    if (!st)
        tell(g, infer_cheat_name(kind), &c, target, tokens);
    altered_clear(&a);
    return st;
}

static enum status one_draft(struct gallery *g, double wanted, struct err *e)
{
    bool is_open = g->side->numerics == NUMERICS_OPEN_OPENBLAS;
    double share = 0.0, target = !is_open ? 1.0 : wanted <= 0.8 ? 0.999 : 0.0;
    struct altered a = {0};
    struct bench_caught c;
    char name[32];
    enum status st = make_draft(g, &a, wanted, &share, e);

    if (!st)
        st = try_cheat(g, CHEAT_DRAFT, a.model, &c, e);
    snprintf(name, sizeof(name), "draft-%.0f", 100.0 * share);
    if (!st)
        tell(g, name, &c, target, 0.0);
    altered_clear(&a);
    return st;
}

enum status bench_gallery(const struct bench_world *w, const struct bench_gallery_options *o,
                          struct err *e)
{
    static const double drafts[] = {0.8, 0.9, 0.95};
    struct side sides[2] = {{0}};
    struct gallery g = {.w = w, .o = o};
    enum status st = side_open(&sides[0], w, NUMERICS_F32_1, o->pool, e);

    if (!st)
        st = side_open(&sides[1], w, NUMERICS_OPEN_OPENBLAS, o->pool, e);
    g.honest = xcalloc(o->units, sizeof(*g.honest));
    g.said = xcalloc(o->units, sizeof(*g.said));
    g.is_cheated = xcalloc(o->units, sizeof(*g.is_cheated));
    g.side = &sides[0];
    if (!st)
        st = honest_units(&g, e);
    if (!o->is_json)
        printf("%-16s %-14s %6s %8s %11s %9s %6s  %-10s %5s %5s   %7s\n", "cheat", "class",
               "units", "detected", "share", "tokens", "most", "by", "other", "wrong", "seen");
    for (int kind = CHEAT_NONE + 1; !st && kind < CHEAT_COUNT; kind++)
        for (size_t s = 0; !st && s < 2; s++) {
            if (o->only[0] && strcmp(o->only, infer_cheat_name((enum infer_cheat)kind)) != 0)
                break;
            g.side = &sides[s];
            st = one_kind(&g, (enum infer_cheat)kind, e);
        }
    for (size_t d = 0; !st && d < 3 && (!o->only[0] || !strcmp(o->only, "draft")); d++)
        for (size_t s = 0; !st && s < 2; s++) {
            g.side = &sides[s];
            st = one_draft(&g, drafts[d], e);
        }
    for (size_t s = 0; s < 2; s++)
        side_close(&sides[s]);
    free(g.honest);
    free(g.said);
    free(g.is_cheated);
    return st;
}

/* ---- honest work ------------------------------------------------------------------------- */

#define WAYS_MAX 8u

/* The ways in which the same model is computed: kernels, threads, rows at once. */
struct ways {
    struct model *model[WAYS_MAX]; /* owned */
    struct pool *pool[2];          /* owned: one thread and two */
    size_t n;
};

static enum status ways_open(struct ways *x, const struct bench_world *w, enum numerics n,
                             struct err *e)
{
    static const size_t rows[] = {256, 48};
    bool is_open = n == NUMERICS_OPEN_OPENBLAS;
    enum status st = OK;
    const char *name;

    for (size_t t = 0; t < 2; t++)
        pool_new(&x->pool[t], t + 1);
    for (size_t i = 0; !st && x->n < WAYS_MAX && (name = kernels_name_at(n, i)); i++) {
        struct model_options mo = {0};

        st = kernels_choose(&mo.kernels, n, name, e);
        if (st == ERR_UNSUPPORTED && (i > 0 || !is_open)) {
            st = OK; /* not a CPU for it */
            continue;
        }
        /* Open classes have one backend: there every pool with every number of rows. */
        for (size_t t = 0; !st && t < (is_open ? 4 : 2) && x->n < WAYS_MAX; t++) {
            mo.pool = x->pool[t % 2];
            mo.max_rows = rows[(is_open ? t / 2 : x->n + t) % 2];
            st = model_new(&x->model[x->n], w->weights[1], &mo, e);
            x->n += !st;
        }
    }
    return st;
}

static void ways_close(struct ways *x)
{
    for (size_t i = 0; i < x->n; i++)
        model_free(&x->model[i]);
    for (size_t t = 0; t < 2; t++)
        pool_free(&x->pool[t]);
}

struct honest {
    /* Each as often as it was checked. first: refused by the first kernels asked */
    uint64_t chunks, units, refused, first;
    struct rollout_noise noise;
};

static void note(struct honest *h, const struct lot *l)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct rollout_finding *f = &l->finding[i];
        const struct rollout_noise *n = &f->noise;

        for (uint32_t s = 0; s < l->m[i]->n_samples; s++)
            h->chunks += submission_proofs(submission_sample_tokens(&l->m[i]->sample[s]));
        h->units++;
        h->refused += !f->is_accepted;
        h->first += f->is_second;
        h->noise.tokens += n->tokens;
        h->noise.n_drawn_otherwise += n->n_drawn_otherwise;
        h->noise.margin = fmax(h->noise.margin, n->margin);
        h->noise.logprob = fmax(h->noise.logprob, n->logprob);
        h->noise.mantissa = fmax(h->noise.mantissa, n->mantissa);
        h->noise.mantissa_median = fmax(h->noise.mantissa_median, n->mantissa_median);
        if (n->exponents > h->noise.exponents)
            h->noise.exponents = n->exponents;
        if (!f->is_accepted)
            fprintf(stderr, "unit %" PRIu64 " refused: %s\n", l->unit[i].unit, f->text);
    }
}

static void tell_honest(const struct honest *h, enum numerics n, bool is_json)
{
    char id[96];

    if (is_json) {
        snprintf(id, sizeof(id), "verify_honest_%s_accepted", numerics_name(n));
        bench_line_print(
            &(struct bench_line){.name = id,
                                 .value = 1.0 - (double)h->refused / (double)h->units,
                                 .unit = "share of units",
                                 .target = 1.0});
        snprintf(id, sizeof(id), "verify_honest_%s_bound", numerics_name(n));
        bench_line_print(
            &(struct bench_line){.name = id,
                                 .value = (3.0 + (double)h->refused) / (double)h->chunks,
                                 .unit = "refusals a chunk, at most",
                                 .target = 1e-6,
                                 .at_most = true});
        return;
    }
    printf("honest           %-14s %" PRIu64 " chunks of %" PRIu64 " units: %" PRIu64
           " refused%s%.2g a chunk",
           numerics_name(n), h->chunks, h->units, h->refused,
           h->refused ? ", " : ", so at most ",
           (h->refused ? (double)h->refused : 3.0) / (double)h->chunks);
    if (n == NUMERICS_OPEN_OPENBLAS)
        printf("; %" PRIu64 " by the first kernels\n"
               "  differences: %" PRIu64 " of %" PRIu64 " tokens drawn otherwise, margin %.2g, "
               "log-probability %.2g, exponents %u, mantissas %.3g (median %g)",
               h->first, h->noise.n_drawn_otherwise, h->noise.tokens, h->noise.margin,
               h->noise.logprob, h->noise.exponents, h->noise.mantissa,
               h->noise.mantissa_median);
    printf("\n");
    fflush(stdout);
}

enum status bench_honest(const struct bench_world *w, enum numerics numerics, uint64_t from,
                         uint64_t chunks, bool is_json, struct err *e)
{
    static const size_t batch[] = {1, 3, 16};
    struct ways ways = {0}, second = {0};
    struct honest h = {0};
    struct rng r = rng_of(7, from);
    struct lot *l = xcalloc(1, sizeof(*l));
    uint64_t unit = from;
    enum status st = ways_open(&ways, w, numerics, e);

    if (!st)
        st = ways_open(&second, w, NUMERICS_F32_1, e);
    while (!st && h.chunks < chunks) {
        struct rollout_world made =
            bench_world_view(w, numerics, ways.model[rng_below(&r, ways.n)]);
        lot_init(l, unit, batch[rng_below(&r, 3)]);
        unit += l->n;
        st = rollout_generate(&made, l->unit, l->n, NULL, NULL, e);
        if (!st)
            st = lot_decode(l, e);
        for (size_t v = 0; !st && v < ways.n; v++) {
            struct rollout_world seen = bench_world_view(w, numerics, ways.model[v]);

            if (numerics == NUMERICS_OPEN_OPENBLAS)
                seen.second = second.model[rng_below(&r, second.n)];
            st = lot_check(l, &seen, e);
            if (!st)
                note(&h, l);
        }
        lot_clear(l);
    }
    if (!st)
        tell_honest(&h, numerics, is_json);
    ways_close(&ways);
    ways_close(&second);
    free(l);
    return st;
}
