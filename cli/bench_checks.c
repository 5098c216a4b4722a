#include "cli/bench_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cli/bench_bytes.h"
#include "cli/bench_line.h"
#include "engine/ops.h"
#include "proto/submission.h"
#include "proto/toploc.h"
#include "rollout/check.h"
#include "rollout/prefill.h"

#define UNITS      16u
#define ROUNDS     4u
#define LOGIT_ROWS 64u

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_line(bool is_json, const char *name, double value, const char *unit,
                       double target)
{
    if (is_json)
        bench_line_print(&(struct bench_line){
            .name = name, .value = value, .unit = unit, .target = target, .at_most = true});
    else if (target > 0.0)
        printf("%-28s %10.3f %s (at most %g)\n", name, value, unit, target);
    else
        printf("%-28s %10.3f %s\n", name, value, unit);
    fflush(stdout);
}

/* ---- checks ------------------------------------------------------------------------------ */

struct checks {
    struct rollout_world world;
    struct rollout_unit unit[UNITS];
    struct msg_submit *m[UNITS]; /* owned */
    struct rollout_finding finding[UNITS];
    int32_t *prompt[UNITS];         /* owned */
    struct prefill_sample *samples; /* owned */
    float *logits, *picked;         /* owned, (LOGIT_ROWS, ...) */
};

static enum status make_units(struct checks *x, struct err *e)
{
    const struct model_config *c = model_config(x->world.model);
    enum status st;

    for (size_t i = 0; i < UNITS; i++) {
        rollout_unit_init(&x->unit[i], i, i);
        x->m[i] = xcalloc(1, sizeof(*x->m[i]));
    }
    x->samples = xcalloc((size_t)UNITS * MSG_MAX_SAMPLES, sizeof(*x->samples));
    st = rollout_generate(&x->world, x->unit, UNITS, NULL, NULL, e);
    for (size_t i = 0; !st && i < UNITS; i++) {
        st = msg_submit_decode(x->m[i], buf_bytes(&x->unit[i].body), e);
        if (st)
            break;
        x->prompt[i] = xmalloc(x->m[i]->prompt.len);
        memcpy(x->prompt[i], x->m[i]->prompt.data, x->m[i]->prompt.len);
    }
    if (!st)
        st = alloc_array(&x->logits, (size_t)LOGIT_ROWS * c->vocab, sizeof(float), "logits", e);
    if (!st)
        st = alloc_array(&x->picked, (size_t)LOGIT_ROWS * c->dim, sizeof(float), "states", e);
    return st;
}

static void clear_units(struct checks *x)
{
    for (size_t i = 0; i < UNITS; i++) {
        rollout_unit_clear(&x->unit[i]);
        free(x->m[i]);
        free(x->prompt[i]);
    }
    free(x->samples);
    free(x->logits);
    free(x->picked);
}

/* Sampled tokens of the first n units. */
static uint64_t tokens_of(const struct checks *x, size_t n)
{
    uint64_t tokens = 0;

    for (size_t i = 0; i < n; i++)
        tokens += submission_tokens(x->m[i]);
    return tokens;
}

/* What log-probabilities need and no more: the states' logits. */
static enum status logits_of(void *ctx, size_t sample, const struct prefill_rows *rows,
                             struct err *e)
{
    struct checks *x = ctx;

    enum status st = OK;

    (void)sample;
    for (size_t at = 0; !st && at < rows->n; at += LOGIT_ROWS) {
        size_t left = rows->n - at, n = left < LOGIT_ROWS ? left : LOGIT_ROWS;

        for (size_t i = 0; i < n; i++)
            memcpy(x->picked + i * rows->dim, prefill_row(rows, at + i),
                   rows->dim * sizeof(float));
        st = model_logits(x->world.model, x->logits, x->picked, n, e);
    }
    return st;
}

static enum status time_prefill(struct checks *x, size_t n, double *took, struct err *e)
{
    size_t n_samples = 0;
    double start = seconds();
    enum status st;

    for (size_t i = 0; i < n; i++)
        for (uint32_t s = 0; s < x->m[i]->n_samples; s++)
            x->samples[n_samples++] =
                (struct prefill_sample){.prompt = x->prompt[i],
                                        .n_prompt = x->m[i]->prompt.len / sizeof(int32_t),
                                        .tokens = x->m[i]->sample[s].tokens};
    st = prefill_run(x->world.model, (size_t)x->world.task->model.max_len, x->samples,
                     n_samples, logits_of, x, e);
    *took = seconds() - start;
    return st;
}

static enum status time_check(struct checks *x, size_t n, enum check_depth depth, double *took,
                              struct err *e)
{
    const struct msg_submit *m[UNITS];
    double start = seconds();
    enum status st;

    for (size_t i = 0; i < n; i++)
        m[i] = x->m[i];
    st = rollout_check_all(&x->world, m, NULL, n, depth, NULL, x->finding, e);
    *took = seconds() - start;
    for (size_t i = 0; !st && i < n; i++)
        if (!x->finding[i].is_accepted)
            st = err_set(e, ERR_INVALID, "an honest unit was refused: %s", x->finding[i].text);
    return st;
}

/* The best of some rounds that take turns. */
static enum status measure(struct checks *x, size_t n, bool is_json, struct err *e)
{
    double full = 1e9, light = 1e9, prefill = 1e9;
    double tokens = (double)tokens_of(x, n);
    enum status st = OK;
    char name[64];

    for (unsigned round = 0; !st && round < ROUNDS; round++) {
        double took = 0.0;

        st = time_prefill(x, n, &took, e);
        prefill = took < prefill ? took : prefill;
        if (!st)
            st = time_check(x, n, CHECK_FULL, &took, e);
        full = took < full ? took : full;
        if (!st)
            st = time_check(x, n, CHECK_LIGHT, &took, e);
        light = took < light ? took : light;
    }
    if (st)
        return st;
    snprintf(name, sizeof(name), "check_prefill_b%zu", n);
    print_line(is_json, name, 1e6 * prefill / tokens, "us/token", 0.0);
    snprintf(name, sizeof(name), "check_light_b%zu", n);
    print_line(is_json, name, 1e6 * light / tokens, "us/token", 0.0);
    snprintf(name, sizeof(name), "check_full_b%zu", n);
    print_line(is_json, name, 1e6 * full / tokens, "us/token", 0.0);
    snprintf(name, sizeof(name), "check_ratio_b%zu", n);
    print_line(is_json, name, full / prefill, "prefills", 1.1);
    return OK;
}

enum status bench_checks(const struct bench_world *w, struct pool *pool, bool is_json,
                         struct err *e)
{
    static const size_t together[] = {1, 4, UNITS};
    const struct model_options mo = {.kernels = kernels_best(), .pool = pool};
    struct checks *x = xcalloc(1, sizeof(*x));
    struct model *m = NULL;
    double generate;
    enum status st = model_new(&m, w->weights[1], &mo, e);

    if (st) {
        free(x);
        return st;
    }
    x->world = bench_world_view(w, NUMERICS_F32_1, m);
    generate = seconds();
    st = make_units(x, e);
    generate = seconds() - generate;
    if (!st)
        print_line(is_json, "check_generate_b16", 1e6 * generate / (double)tokens_of(x, UNITS),
                   "us/token", 0.0);
    for (size_t i = 0; !st && i < sizeof(together) / sizeof(together[0]); i++)
        st = measure(x, together[i], is_json, e);
    clear_units(x);
    model_free(&m);
    free(x);
    return st;
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void print_bytes(bool is_json, const char *class, const char *what, double value,
                        double target)
{
    char name[64];

    snprintf(name, sizeof(name), "verify_bytes_%s_%s", class, what);
    print_line(is_json, name, value, "bytes/token", target);
}

enum status bench_wire(bool is_json, struct err *e)
{
    static const struct {
        const char *class;
        double target;
    } classes[] = {{"f32-1", 0.15}, {"open-openblas", 0.5}};
    static const uint32_t samples[] = {1, 8, 64};

    for (size_t c = 0; c < 2; c++)
        for (size_t i = 0; i < 3; i++) {
            const char *class = classes[c].class;
            struct bench_bytes b;
            enum status st = bench_bytes_of(&b, class, samples[i], 4096 / samples[i], e);
            double tokens = (double)b.tokens;
            char name[64];

            if (st)
                return st;
            snprintf(name, sizeof(name), "of_%ux%u", samples[i], 4096 / samples[i]);
            print_bytes(is_json, class, name, bench_bytes_expected(&b), classes[c].target);
            if (samples[i] != 8)
                continue;
            print_bytes(is_json, class, "commit", (double)b.commit / tokens, 0.0);
            print_bytes(is_json, class, "opened", BENCH_AUDITS * (double)b.opening / tokens,
                        0.0);
            print_bytes(is_json, class, "full", BENCH_AUDITS * (double)b.full / tokens, 0.0);
            print_bytes(is_json, class, "light", (1.0 - BENCH_AUDITS) * b.light / tokens, 0.0);
            print_bytes(is_json, class, "plain", (double)(b.plain - b.payload) / tokens, 0.0);
            print_bytes(is_json, class, "payload", (double)b.payload / tokens, 0.0);
        }
    return OK;
}

/* ---- TOPLOC ------------------------------------------------------------------------------ */

#define ROWS  32u
#define TIMES 60u

/* As final states are: a few channels much larger than the others. */
static void fill_states(float *x, size_t width)
{
    struct rng r = rng_of(3, width);

    for (size_t row = 0; row < ROWS; row++)
        for (size_t c = 0; c < width; c++) {
            float z = -3.0f;

            for (int k = 0; k < 6; k++)
                z += rng_f32(&r);
            x[row * width + c] = z * (c % 509 == 7 ? 6.0f : 1.0f);
        }
}

/* Rounding to bf16 is part of both. */
static enum status time_proof(const float *x, uint16_t *v, size_t width, double *build,
                              double *check, struct err *e)
{
    const struct toploc_rows own = {v, ROWS, width};
    uint8_t proof[TOPLOC_PROOF_BYTES];
    struct toploc_result r;
    enum status st = OK;

    *build = *check = 1e9;
    for (unsigned i = 0; !st && i < TIMES; i++) {
        double start = seconds(), took;

        bf16_from_f32_row(kernels_best(), v, x, ROWS * width);
        st = toploc_prove(proof, v, ROWS, width, TOPLOC_K, TOPLOC_TIE_LOWEST, e);
        took = seconds() - start;
        *build = took < *build ? took : *build;
        start = seconds();
        bf16_from_f32_row(kernels_best(), v, x, ROWS * width);
        if (!st)
            st = toploc_verify(&r, (struct bytes){proof, sizeof(proof)}, &own, TOPLOC_K,
                               TOPLOC_TIE_LOWEST, TOPLOC_STRICT, e);
        took = seconds() - start;
        *check = took < *check ? took : *check;
    }
    return st;
}

enum status bench_toploc(bool is_json, struct err *e)
{
    static const size_t widths[] = {64, 1024, 4096, 8192};
    enum status st = OK;

    for (size_t i = 0; !st && i < sizeof(widths) / sizeof(widths[0]); i++) {
        size_t width = widths[i];
        float *x = xmalloc(ROWS * width * sizeof(*x));
        uint16_t *v = xmalloc(ROWS * width * sizeof(*v));
        double build, check;
        char name[64];

        fill_states(x, width);
        st = time_proof(x, v, width, &build, &check, e);
        if (!st) {
            snprintf(name, sizeof(name), "toploc_build_%zu", width);
            print_line(is_json, name, 1e6 * build / ROWS, "us/token", width == 4096 ? 5 : 0);
            snprintf(name, sizeof(name), "toploc_check_%zu", width);
            print_line(is_json, name, 1e6 * check / ROWS, "us/token", width == 4096 ? 10 : 0);
        }
        free(x);
        free(v);
    }
    return st;
}
