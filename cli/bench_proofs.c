/*
 * cli/bench_proofs.c - muster bench proofs: how far apart two implementations of an open class are
 *
 * Work is decoded in class open-cuda, with proofs, and then looked at as a validator does: by the prefill of
 * the same class, whose products have other shapes and orders; by class f32-1; and by whoever writes states into
 * a file. Of each: the errors of proofs, the distances of states, log-probabilities and margins, and what the check
 * of the class says.
 *
 * Weights are random, and so made that states and logits are of the size of a trained model's: matrices have
 * the deviation 1 / sqrt(inputs), which lets the residual stream grow to a hundred times the embeddings; those of
 * queries twice that, so that attention looks at a tenth of the positions; biases 0.3; norms are 1, but for the last, whose
 * every 128th channel is four times as loud as the others, and which gives logits the deviation asked for. A random model is
 * less sure of a token than a trained one is, so more of them stand close to another.
 */
#include "cli/bench_proofs.h"

#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"
#include "cli/bench_line.h"
#include "cli/bench_passes.h"
#include "cli/proofs_cost.h"
#include "cli/proofs_work.h"
#include "cli/usage.h"
#include "engine/weights_map.h"
#include "inference/cheat.h"
#include "rollout/rollout.h"

#define N_OF(a)       (sizeof(a) / sizeof((a)[0]))
#define WEIGHTS_SEED  5u
#define QUERIES       2.0
#define BIASES        0.3
#define LOUD_EVERY    128u
#define LOUD          4.0
#define NEIGHBOURHOOD 64u /* tokens */
#define NAME_BYTES    128

struct bench {
    char *what, *device, *shape, *draft, *peer, *dir; /* owned by the table of options */
    int64_t chunks, exact, n_prompt, n_new, batch, rounds;
    double deviation;
    struct model_config c;
    struct device *on;       /* owned */
    struct pool *pool;       /* owned */
    struct weights_map *map; /* owned: the weights that were assigned */
    struct proofs_work w;    /* owned */
    bool *is_refused;        /* owned, of each unit: by all that have looked so far */
    bool is_within;          /* the proofs of honest work */
};

/* ---- weights --------------------------------------------------------------------------------- */

struct filling {
    struct weights_tensor *t;
    uint64_t stream;
    double deviation;
};

/* The sum of four even numbers, nearly normal. Two of them take one draw. */
static void fill_range(void *arg, size_t lo, size_t hi)
{
    const struct filling *f = arg;
    const size_t n = f->t->rows * f->t->cols;
    const double unit = f->deviation * sqrt(3.0) / 65536.0;

    for (size_t i = lo; i < hi; i++) {
        uint32_t word[4];

        philox4x32(
            word, WEIGHTS_SEED,
            (const uint32_t[4]){(uint32_t)i, (uint32_t)(i >> 32), (uint32_t)f->stream, 0});
        for (size_t j = 0; j < 2 && 2 * i + j < n; j++) {
            const uint32_t a = word[2 * j], b = word[2 * j + 1];
            const int32_t sum = (int32_t)((a & 0xffff) + (a >> 16) + (b & 0xffff) + (b >> 16));

            f->t->data[2 * i + j] = (float)(unit * ((double)sum - 131070.0));
        }
    }
}

static void fill_tensor(struct weights_tensor *t, uint64_t stream, double deviation,
                        struct pool *pool)
{
    struct filling f = {t, stream, deviation};

    pool_run(pool, (t->rows * t->cols + 1) / 2, 1u << 14, fill_range, &f);
}

static void fill_norm(struct weights_tensor *t, double deviation)
{
    double squares = 0.0;

    for (size_t i = 0; i < t->cols; i++) {
        t->data[i] = i % LOUD_EVERY == 7 ? (float)LOUD : 1.0f;
        squares += (double)t->data[i] * (double)t->data[i];
    }
    for (size_t i = 0; i < t->cols; i++)
        t->data[i] *= (float)(deviation / sqrt(squares / (double)t->cols));
}

static void fill_weights(const struct bench *b, struct weights *w)
{
    for (size_t i = 0; i < w->n_tensors; i++) {
        struct weights_tensor *t = &w->tensors[i];
        const bool is_query = strstr(t->name, "q_proj.weight") != NULL;

        if (t->is_matrix)
            fill_tensor(t, i, (is_query ? QUERIES : 1.0) / sqrt((double)t->cols), b->pool);
        else if (strstr(t->name, ".bias"))
            fill_tensor(t, i, BIASES, b->pool);
        else if (strcmp(t->name, "model.norm.weight") == 0)
            fill_norm(t, b->deviation);
        else
            for (size_t j = 0; j < t->cols; j++)
                t->data[j] = 1.0f;
    }
}

/* The weights that are assigned, and those that are computed with (*draft; NULL: the same). */
static enum status make_weights(struct bench *b, struct weights_map **draft, struct err *e)
{
    struct weights *w = NULL;
    enum status st = weights_new(&w, &b->c, e);

    *draft = NULL;
    if (!st) {
        fill_weights(b, w);
        st = weights_map_of(&b->map, w, DTYPE_BF16, e);
    }
    if (!st && b->draft[0]) {
        cheat_weights(infer_cheat_parse(b->draft), w);
        st = weights_map_of(draft, w, DTYPE_BF16, e);
    }
    weights_free(&w);
    return st;
}

static enum status open_model(struct model **out, const struct bench *b,
                              const struct weights_map *map, enum numerics class, struct err *e)
{
    struct model_options mo = {.pool = b->pool};
    enum status st = device_kernels(&mo.kernels, b->on, class, e);

    *out = NULL;
    return st ? st : model_open(out, map, &mo, e);
}

/* ---- figures --------------------------------------------------------------------------------- */

/* Where figures belong: "proofs_0.5b_prefill", or "proofs_0.5b_int4_prefill". */
struct report {
    struct bench *b;
    const struct proofs_seen *s;
    char name[NAME_BYTES / 2];
};

static void print(const struct report *r, const char *what, double value, const char *unit,
                  double at_most)
{
    const bool is_honest = !r->b->draft[0];
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%s_%s", r->name, what);
    bench_line_print(&(struct bench_line){.name = name,
                                          .value = value,
                                          .unit = unit,
                                          .target = is_honest ? at_most : 0.0,
                                          .at_most = true});
    if (at_most > 0.0 && !(value <= at_most))
        r->b->is_within = false;
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;

    return (x > y) - (x < y);
}

/* Quantiles of x (n), and its maximum, which is to be at most `at_most` (0: nothing is asked). */
static void print_quantiles(const struct report *r, const char *what, const float *x, size_t n,
                            const char *unit, double at_most)
{
    static const double at[] = {0.5, 0.99, 0.999, 0.9999};
    float *sorted = xcalloc(n, sizeof(*sorted));
    char name[NAME_BYTES / 2];

    memcpy(sorted, x, n * sizeof(*x));
    qsort(sorted, n, sizeof(*sorted), ascending);
    for (size_t i = 0; i < N_OF(at); i++) {
        snprintf(name, sizeof(name), "%s_q%g", what, at[i]);
        print(r, name, (double)sorted[(size_t)(at[i] * (double)(n - 1))], unit, 0.0);
    }
    snprintf(name, sizeof(name), "%s_max", what);
    print(r, name, (double)sorted[n - 1], unit, at_most);
    free(sorted);
}

/* How many of x are beyond thresholds, and how many of them at most within a neighbourhood of a unit: were they
 * independent, that would follow from the share. */
static void print_beyond(const struct report *r, const char *what, const float *x)
{
    static const double from[] = {1e-3, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0};
    const struct proofs_work *w = &r->b->w;
    const size_t n = w->n_units * w->n_new;
    char name[NAME_BYTES / 2];

    for (size_t k = 0, all = 1; k < N_OF(from) && all > 0; k++) {
        size_t near = 0, most = 0;

        all = 0;
        for (size_t i = 0; i < n; i++) {
            if (i % w->n_new == 0)
                near = 0;
            else if (i % w->n_new >= NEIGHBOURHOOD)
                near -= (double)x[i - NEIGHBOURHOOD] > from[k];
            near += (double)x[i] > from[k];
            all += (double)x[i] > from[k];
            most = near > most ? near : most;
        }
        snprintf(name, sizeof(name), "%s_beyond_%g", what, from[k]);
        print(r, name, 1e6 * (double)all / (double)n, "ppm", 0.0);
        snprintf(name, sizeof(name), "%s_beyond_%g_within_%u", what, from[k], NEIGHBOURHOOD);
        print(r, name, (double)most, "tokens", 0.0);
    }
}

static void print_proofs(const struct report *r)
{
    const struct toploc_thresholds *t = &toploc_bf16_thresholds;
    const size_t n = proofs_work_chunks(&r->b->w);
    float *x = xcalloc(n, sizeof(*x));
    size_t outside = 0;

    for (size_t i = 0; i < n; i++) {
        x[i] = (float)r->s->proof[i].exp_mismatches;
        outside += !toploc_passes(&r->s->proof[i], t);
    }
    print_quantiles(r, "exponents", x, n, "of 128", t->exp_mismatches);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)r->s->proof[i].mant_err_mean;
    print_quantiles(r, "mantissa_mean", x, n, "steps", t->mant_err_mean);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)r->s->proof[i].mant_err_median;
    print_quantiles(r, "mantissa_median", x, n, "steps", t->mant_err_median);
    print(r, "chunks", (double)n, "chunks", 0.0);
    print(r, "chunks_outside", (double)outside, "chunks", 0.0);
    free(x);
}

static void print_check(const struct report *r)
{
    const size_t n = r->b->w.n_units;
    size_t refused = 0, by_all = 0;

    for (size_t i = 0; i < n; i++) {
        refused += r->s->is_refused[i];
        r->b->is_refused[i] = r->b->is_refused[i] && r->s->is_refused[i];
        by_all += r->b->is_refused[i];
    }
    print(r, "units", (double)n, "units", 0.0);
    print(r, "units_refused", (double)refused, "units", 0.0);
    print(r, "units_refused_by_all", (double)by_all, "units", 0.0);
    if (refused > 0)
        print(r, "tokens_to_refuse", (double)r->s->n_judged / (double)refused, "tokens", 0.0);
}

static enum status write_file(const char *dir, const char *name, struct bytes data,
                              struct err *e)
{
    char *path = file_join(dir, name);
    enum status st = file_write_atomic(path, data, 0644, e);

    free(path);
    return st;
}

/* One float a token into NAME_WHAT.f32. */
static enum status keep(const struct report *r, const char *what, const float *x, struct err *e)
{
    const struct proofs_work *w = &r->b->w;
    char name[NAME_BYTES];

    snprintf(name, sizeof(name), "%s_%s.f32", r->name, what);
    return write_file(r->b->dir, name,
                      (struct bytes){(const uint8_t *)x, w->n_units * w->n_new * sizeof(*x)},
                      e);
}

static enum status keep_all(const struct report *r, struct err *e)
{
    enum status st = keep(r, "distance", r->s->distance, e);

    if (!st)
        st = keep(r, "logp", r->s->off, e);
    return st ? st : keep(r, "margin", r->s->margin, e);
}

static enum status report(struct bench *b, const struct proofs_seen *s, const char *who,
                          int64_t start, struct err *e)
{
    const size_t n = b->w.n_units * b->w.n_new;
    struct report r = {.b = b, .s = s};
    size_t differ = 0;

    snprintf(r.name, sizeof(r.name), "proofs_%s_%s%s%s", b->shape, b->draft,
             b->draft[0] ? "_" : "", who);
    for (size_t i = 0; i < n; i++)
        differ += s->margin[i] > 0.0f;
    print_proofs(&r);
    print_quantiles(&r, "distance", s->distance, n, "of the state", 0.0);
    print_quantiles(&r, "logp", s->off, n, "nats", 0.0);
    print_beyond(&r, "logp", s->off);
    print(&r, "drawn_otherwise", 1e6 * (double)differ / (double)n, "ppm", 0.0);
    print_quantiles(&r, "margin", s->margin, n, "Gumbel units", 0.0);
    print_beyond(&r, "margin", s->margin);
    print_check(&r);
    print(&r, "seconds", (double)(clock_mono_us() - start) * 1e-6, "s", 0.0);
    return b->dir[0] ? keep_all(&r, e) : OK;
}

/* ---- another implementation's states ---------------------------------------------------------- */

/* Runs COMMAND DIR by the shell. */
static enum status run_peer(const struct bench *b, struct err *e)
{
    const size_t room = strlen(b->peer) + strlen(b->dir) + 2;
    char *command = xcalloc(room, 1);
    char *const argv[] = {(char *)"sh", (char *)"-c", command, NULL};
    int status = 0;
    pid_t pid;
    enum status st = OK;

    snprintf(command, room, "%s %s", b->peer, b->dir);
    if (posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) != 0 ||
        waitpid(pid, &status, 0) != pid || status != 0)
        st = err_set(e, ERR_IO, "'%s' failed", command);
    free(command);
    return st;
}

/* model/ (a Hugging Face directory), tokens.i32, and what they are in shape.json. */
static enum status write_folder(const struct bench *b, struct err *e)
{
    const struct proofs_work *w = &b->w;
    const struct weights_map_save how = {.dtype = DTYPE_BF16};
    const size_t n = w->n_units * (w->n_prompt + w->n_new);
    char text[160], *model = file_join(b->dir, "model");
    enum status st =
        weights_map_save(b->map->tensors, b->map->n_tensors, &b->c, model, &how, e);

    if (!st)
        st = write_file(b->dir, "tokens.i32",
                        (struct bytes){(const uint8_t *)w->tokens, n * sizeof(*w->tokens)}, e);
    snprintf(text, sizeof(text),
             "{\"units\": %zu, \"prompt\": %zu, \"new\": %zu, \"dim\": %zu}\n", w->n_units,
             w->n_prompt, w->n_new, w->dim);
    if (!st)
        st = write_file(b->dir, "shape.json", bytes_str(text), e);
    free(model);
    return st;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum status see_prefill(struct bench *b, enum numerics class, size_t units,
                               const char *who, struct err *e)
{
    const int64_t start = clock_mono_us();
    const size_t all = b->w.n_units;
    struct proofs_seen s = {0};
    struct model *m;
    enum status st = open_model(&m, b, b->map, class, e);

    fprintf(stderr, "prefill in class %s\n", numerics_name(class));
    b->w.n_units = units;
    if (!st)
        st = proofs_see_prefill(&s, &b->w, m, e);
    if (!st)
        st = report(b, &s, who, start, e);
    b->w.n_units = all;
    proofs_seen_clear(&s);
    model_free(&m);
    return st;
}

static enum status see_peer(struct bench *b, struct err *e)
{
    const int64_t start = clock_mono_us();
    char *path = file_join(b->dir, "states.bf16");
    struct proofs_seen s = {0};
    struct model *m = NULL;
    enum status st = write_folder(b, e);

    fprintf(stderr, "running %s %s\n", b->peer, b->dir);
    if (!st)
        st = run_peer(b, e);
    if (!st)
        st = open_model(&m, b, b->map, NUMERICS_OPEN_CUDA, e);
    if (!st)
        st = proofs_see_file(&s, &b->w, m, path, e);
    if (!st)
        st = report(b, &s, "peer", start, e);
    proofs_seen_clear(&s);
    model_free(&m);
    free(path);
    return st;
}

static enum status make_work(struct bench *b, struct err *e)
{
    const int64_t start = clock_mono_us();
    struct weights_map *draft = NULL;
    struct model *m = NULL;
    enum status st;

    fprintf(stderr, "making weights\n");
    st = make_weights(b, &draft, e);
    if (!st)
        st = open_model(&m, b, draft ? draft : b->map, NUMERICS_OPEN_CUDA, e);
    if (!st)
        st = proofs_work_init(&b->w, &b->c, e);
    if (!st)
        st = proofs_work_make(&b->w, m, (size_t)b->batch, e);
    fprintf(stderr, "made in %.1f s\n", (double)(clock_mono_us() - start) * 1e-6);
    model_free(&m);
    weights_map_close(&draft);
    return st;
}

/* At a few sizes of the batch, up to --batch. */
static enum status cost(struct bench *b, struct err *e)
{
    static const size_t batches[] = {1, 64, 256, 512};
    struct weights_map *draft;
    struct model *m = NULL;
    enum status st = make_weights(b, &draft, e);

    if (!st)
        st = open_model(&m, b, b->map, NUMERICS_OPEN_CUDA, e);
    for (size_t i = 0; !st && i < N_OF(batches) && batches[i] <= (size_t)b->batch; i++) {
        double without, with;
        char name[NAME_BYTES];

        st =
            proofs_cost(&without, &with, m, batches[i], (size_t)b->n_new, (size_t)b->rounds, e);
        snprintf(name, sizeof(name), "proofs_%s_decode_b%zu", b->shape, batches[i]);
        if (!st)
            bench_line_print(&(struct bench_line){.name = name,
                                                  .value = with,
                                                  .unit = "tokens/s",
                                                  .peer = "without proofs",
                                                  .peer_value = without,
                                                  .target = 0.99 * without});
    }
    model_free(&m);
    return st;
}

static enum status distances(struct bench *b, struct err *e)
{
    const size_t unit = (size_t)b->n_new / ROLLOUT_PROOF_EVERY;
    const size_t units = ((size_t)b->chunks + unit - 1) / unit;
    const size_t exact = ((size_t)b->exact + unit - 1) / unit;
    enum status st = OK;

    b->w.n_units = units;
    b->w.n_prompt = (size_t)b->n_prompt;
    b->w.n_new = (size_t)b->n_new;
    b->is_refused = xcalloc(units, sizeof(*b->is_refused));
    memset(b->is_refused, true, units * sizeof(*b->is_refused));
    b->is_within = true;
    if (b->dir[0])
        st = file_mkdirs(b->dir, 0755, e);
    if (!st)
        st = make_work(b, e);
    if (!st)
        st = see_prefill(b, NUMERICS_OPEN_CUDA, units, "prefill", e);
    if (!st && exact > 0)
        st = see_prefill(b, NUMERICS_F32_1, exact < units ? exact : units, "f32-1", e);
    if (!st && b->peer[0])
        st = see_peer(b, e);
    if (!st && !b->draft[0] && !b->is_within)
        st = err_set(e, ERR_INVALID, "proofs of honest work are outside TOPLOC's thresholds");
    return st;
}

static enum status run(struct bench *b, struct err *e)
{
    const struct kernels *k;
    enum status st = device_open(&b->on, b->device, e);

    if (!st)
        st = device_kernels(&k, b->on, NUMERICS_OPEN_CUDA, e); /* before weights are made */
    b->c = *bench_passes_config(b->shape);
    b->c.dtype = DTYPE_BF16;
    b->c.bos = b->c.pad = -1;
    if (st)
        return st;
    return strcmp(b->what, "cost") == 0 ? cost(b, e) : distances(b, e);
}

int bench_proofs(int argc, char **argv)
{
    struct bench b = {0};
    struct err e;
    struct opt table[] = {
        {"what", OPT_CHOICE, &b.what, "distances", "distances|cost",
         "distances, or cost: tokens a second with and without proofs", false},
        {"device", OPT_STRING, &b.device, "cuda", NULL, "cuda or cuda:N", false},
        {"shape", OPT_CHOICE, &b.shape, "0.5b", BENCH_PASSES_SHAPES,
         "of which model (Qwen2.5's shapes)", false},
        {"chunks", OPT_INT, &b.chunks, "10240", "1..1000000",
         "how many, of 32 tokens and with a proof each", false},
        {"exact", OPT_INT, &b.exact, "10240", "0..1000000",
         "how many of them are looked at in class f32-1 as well", false},
        {"prompt", OPT_INT, &b.n_prompt, "48", "1..4096", "tokens of a prompt", false},
        {"new", OPT_INT, &b.n_new, "512", "32..8192", "tokens after it, a multiple of 32",
         false},
        {"batch", OPT_INT, &b.batch, "320", "1..512",
         "sequences decoded together; of the cost: at most", false},
        {"rounds", OPT_INT, &b.rounds, "4", "1..1000",
         "of the cost: how often, of which the best counts", false},
        {"deviation", OPT_REAL, &b.deviation, "3", "0.01..100", "of the logits", false},
        {"draft", OPT_CHOICE, &b.draft, "", "|int8|int4|half",
         "the worker computes with weights rounded to so many bits, or half of the layers",
         false},
        {"peer", OPT_STRING, &b.peer, "", NULL,
         "a command that reads the model and tokens in the folder --dir, and writes its states "
         "there",
         false},
        {"dir", OPT_STRING, &b.dir, "", NULL,
         "keep the figures of every token here, as float32", false},
    };
    struct usage u = {
        .line = "muster bench proofs [options]",
        .about =
            "How far the prefill of class open-cuda, class f32-1 and another implementation "
            "are from what\nopen-cuda decoded: TOPLOC proofs, states, log-probabilities, "
            "margins; or what proofs cost.\nRandom weights. One JSON object a line; exit "
            "status 1 "
            "if a proof of honest work is outside\nTOPLOC's thresholds.",
        .table = table,
        .n = N_OF(table),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && b.peer[0] && !b.dir[0]) {
        status = usage_complain(u.line, "option 'peer' wants option 'dir'");
    } else if (status == USAGE_RUN && b.n_new % ROLLOUT_PROOF_EVERY != 0) {
        status = usage_complain(u.line, "option 'new' is '%lld', not a multiple of %u",
                                (long long)b.n_new, ROLLOUT_PROOF_EVERY);
    } else if (status == USAGE_RUN) {
        pool_new(&b.pool, usage_threads(0));
        status = run(&b, &e) ? usage_fail(e.text) : 0;
    }
    proofs_work_clear(&b.w);
    weights_map_close(&b.map);
    free(b.is_refused);
    device_close(&b.on);
    pool_free(&b.pool);
    opt_clear(table, u.n);
    return status;
}
