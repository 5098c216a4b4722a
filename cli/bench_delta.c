/*
 * cli/bench_delta.c - muster bench delta: how small patches are, and how fast
 *
 * Weights like those of a large model, and what Adam does to them at a small rate; or two files
 * of the user's. Beside each patch stand what the entropy of its changes allows if they were
 * independent of everything else, and what two simpler ways would have sent.
 */
#include "cli/bench_delta.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/bench_line.h"
#include "cli/bench_weights.h"
#include "cli/memory.h"
#include "cli/usage.h"
#include "shardcast/delta.h"

#define N(table)     (sizeof(table) / sizeof((table)[0]))
#define STEPS_LISTED 65536

struct delta_bench {
    int64_t mib, rounds, threads;
    char *loops, *base, *full;
    bool is_json;
    struct pool *pool;
    const struct delta_loops *chosen, *scalar;
};

/* What one pair of files gives. */
struct pair_result {
    double changed, entropy_ratio, patch_ratio, zstd_ratio,
        index_ratio;                                         /* ratios: times smaller */
    double encode, apply, scalar_encode, scalar_apply, copy; /* bytes of model a second */
    size_t patch_bytes, full_bytes;
    bool pays;
};

/* ---- what others would send -------------------------------------------------------------- */

static double zstd_ratio(struct bytes in, int level)
{
    size_t bound = ZSTD_compressBound(in.len), got;
    uint8_t *out = malloc(bound);

    got = out ? ZSTD_compress(out, bound, in.data, in.len, level) : 0;
    free(out);
    return got && !ZSTD_isError(got) ? (double)in.len / (double)got : 0.0;
}

static uint32_t number_at(struct bytes file, size_t width, size_t i)
{
    uint32_t u = 0;

    memcpy(&u, file.data + width * i, width);
    return u;
}

/* Of the bits: index of each number that changed (u32), then its new value; zstd -3. */
static double index_ratio(struct bytes base, struct bytes full, size_t width)
{
    struct buf b;
    double ratio;

    buf_init(&b, 8 * full.len + 64);
    for (size_t i = 0; i < full.len / width; i++)
        if (number_at(base, width, i) != number_at(full, width, i))
            buf_put_u32(&b, (uint32_t)i);
    for (size_t i = 0; i < full.len / width; i++) {
        uint32_t u = number_at(full, width, i);

        if (number_at(base, width, i) != u)
            buf_append(&b, (struct bytes){(const uint8_t *)&u, width});
    }
    ratio =
        b.bad || !b.len ? 0.0 : zstd_ratio(buf_bytes(&b), 3) * (double)full.len / (double)b.len;
    buf_clear(&b);
    return ratio;
}

static int64_t ordered_at(struct bytes file, size_t width, size_t i)
{
    uint32_t u = number_at(file, width, i), sign = 1u << (8 * width - 1);
    return u & sign ? -(int64_t)(u & ~sign) - 1 : (int64_t)u;
}

static double plogp(double p)
{
    return p > 0.0 ? -p * log2(p) : 0.0;
}

/* Times smaller, if whether a number changes and by how much were independent draws. Only for bf16:
 * the differences of f32 are too many to count. */
static void entropy_of(struct pair_result *r, struct bytes base, struct bytes full,
                       size_t width)
{
    static uint32_t count[2 * STEPS_LISTED + 1];
    size_t n = full.len / width, changed = 0;
    double bits;

    memset(count, 0, sizeof(count));
    for (size_t i = 0; i < n; i++) {
        int64_t k = ordered_at(full, width, i) - ordered_at(base, width, i);

        k = k < -STEPS_LISTED ? -STEPS_LISTED : k > STEPS_LISTED ? STEPS_LISTED : k;
        count[k + STEPS_LISTED]++;
        changed += k != 0;
    }
    r->changed = (double)changed / (double)n;
    bits = plogp(r->changed) + plogp(1.0 - r->changed);
    for (size_t k = 0; changed && k <= 2 * STEPS_LISTED; k++)
        if (k != STEPS_LISTED)
            bits += r->changed * plogp((double)count[k] / (double)changed);
    r->entropy_ratio = width == 2 && bits > 0.0 ? 16.0 / bits : 0.0;
}

/* ---- measuring --------------------------------------------------------------------------- */

static double gain(double best, size_t bytes, int64_t start_us)
{
    double got = (double)bytes / (double)(clock_mono_us() - start_us + 1) * 1e6;
    return got > best ? got : best;
}

/* Once with each: the best of the rounds counts, and every result is compared. */
static enum status time_loops(struct pair_result *r, const struct delta_bench *b,
                              const struct delta_loops *loops, struct buf *patch, uint8_t *out,
                              struct bytes base, struct bytes full, struct err *e)
{
    const struct delta_options opt = {.loops = loops, .pool = b->pool};
    double *encode = loops == b->scalar ? &r->scalar_encode : &r->encode;
    double *apply = loops == b->scalar ? &r->scalar_apply : &r->apply;
    struct delta d;
    int64_t start = clock_mono_us();
    enum status st;

    buf_reset(patch);
    st = delta_encode(patch, &r->pays, base, full, &opt, e);
    *encode = gain(*encode, full.len, start);
    if (st || !r->pays)
        return st;
    start = clock_mono_us();
    st = delta_open(&d, buf_bytes(patch), e);
    if (!st)
        st = delta_apply(out, base, &d, &opt, e);
    *apply = gain(*apply, full.len, start);
    if (!st && memcmp(out, full.data, full.len) != 0)
        st = err_set(e, ERR_CORRUPT, "the patch does not give the file back");
    return st;
}

static enum status measure(struct pair_result *r, const struct delta_bench *b,
                           struct bytes base, struct bytes full, size_t width, struct err *e)
{
    struct buf patch;
    uint8_t *out = NULL;
    enum status st = alloc_array(&out, full.len, 1, "the result", e);

    *r = (struct pair_result){.full_bytes = full.len};
    buf_init(&patch, full.len);
    for (int64_t i = 0; !st && i < b->rounds; i++) {
        int64_t start = clock_mono_us();

        memcpy(out, base.data, base.len);
        r->copy = gain(r->copy, full.len, start);
        st = time_loops(r, b, b->chosen, &patch, out, base, full, e);
        r->patch_bytes = patch.len;
        if (!st && b->chosen != b->scalar)
            st = time_loops(r, b, b->scalar, &patch, out, base, full, e);
        if (!st && patch.len != r->patch_bytes)
            st = err_set(e, ERR_CORRUPT, "the loops do not give the same patch");
    }
    if (!st) {
        r->patch_ratio = r->pays ? (double)full.len / (double)r->patch_bytes : 1.0;
        r->zstd_ratio = zstd_ratio(full, 3);
        r->index_ratio = index_ratio(base, full, width);
        entropy_of(r, base, full, width);
    }
    buf_clear(&patch);
    free(out);
    return st;
}

/* ---- printing ---------------------------------------------------------------------------- */

static void print_head(void)
{
    printf("%-16s %9s %8s %8s %8s %8s  %17s  %17s  %6s\n", "", "changed", "patch", "entropy",
           "index", "zstd", "encode (scalar)", "apply (scalar)", "copy");
    printf("%-16s %9s %8s %8s %8s %8s  %17s  %17s  %6s\n", "", "%", "x", "x", "x", "x", "GB/s",
           "GB/s", "GB/s");
}

static void print_row(const char *name, const struct pair_result *r)
{
    printf("%-16s %9.3f %8.1f %8.1f %8.1f %8.2f  %8.2f %8.2f  %8.2f %8.2f  %6.1f%s\n", name,
           100.0 * r->changed, r->patch_ratio, r->entropy_ratio, r->index_ratio, r->zstd_ratio,
           r->encode * 1e-9, r->scalar_encode * 1e-9, r->apply * 1e-9, r->scalar_apply * 1e-9,
           r->copy * 1e-9, r->pays ? "" : "  full is sent instead");
    fflush(stdout);
}

/* `is_target`: this row is the one with figures to reach. */
static void print_lines(const char *name, const struct pair_result *r, bool is_target)
{
    char text[64];
    const struct bench_line lines[] = {
        {.name = "changed", .value = 100.0 * r->changed, .unit = "%"},
        {.name = "patch",
         .value = r->patch_ratio,
         .unit = "times smaller",
         .peer = "index and value, zstd",
         .peer_value = r->index_ratio,
         .target = is_target ? 150.0 : 0.0},
        {.name = "of_entropy",
         .value = r->entropy_ratio > 0 ? r->patch_ratio / r->entropy_ratio : 0.0,
         .unit = "ratio",
         .target = is_target ? 1 / 1.2 : 0.0},
        {.name = "zstd_of_file", .value = r->zstd_ratio, .unit = "times smaller"},
        {.name = "encode",
         .value = r->encode * 1e-9,
         .unit = "GB/s",
         .peer = "scalar",
         .peer_value = r->scalar_encode * 1e-9,
         .target = is_target ? 2.0 : 0.0},
        {.name = "apply",
         .value = r->apply * 1e-9,
         .unit = "GB/s",
         .peer = "memcpy",
         .peer_value = r->copy * 1e-9,
         .target = is_target ? 5.0 : 0.0},
        {.name = "apply_scalar", .value = r->scalar_apply * 1e-9, .unit = "GB/s"},
    };

    for (size_t i = 0; i < N(lines); i++) {
        struct bench_line l = lines[i];

        snprintf(text, sizeof(text), "delta_%s_%s", name, l.name);
        l.name = text;
        bench_line_print(&l);
    }
}

static enum status report(const struct delta_bench *b, const char *name, struct bytes base,
                          struct bytes full, size_t width, bool is_target, struct err *e)
{
    struct pair_result r;
    enum status st = measure(&r, b, base, full, width, e);

    if (st)
        return st;
    if (b->is_json)
        print_lines(name, &r, is_target);
    else
        print_row(name, &r);
    return OK;
}

/* ---- what is compared -------------------------------------------------------------------- */

struct synthetic_row {
    const char *name;
    bool is_wide;
    double lr;
    unsigned steps;
    bool is_target;
};

static const struct synthetic_row rows[] = {
    {"bf16_1e-6_1", false, 1e-6, 1, true},  {"bf16_1e-6_4", false, 1e-6, 4, false},
    {"bf16_1e-6_8", false, 1e-6, 8, false}, {"bf16_1e-6_32", false, 1e-6, 32, false},
    {"bf16_3e-6_1", false, 3e-6, 1, false}, {"bf16_1e-5_1", false, 1e-5, 1, false},
    {"bf16_1e-4_1", false, 1e-4, 1, false}, {"f32_1e-6_1", true, 1e-6, 1, false},
    {"f32_1e-5_1", true, 1e-5, 1, false},   {"f32_1e-4_1", true, 1e-4, 1, false},
};

static enum status run_row(const struct delta_bench *b, const struct synthetic_row *row,
                           struct err *e)
{
    size_t bytes = (size_t)b->mib << 20;
    struct bench_weights s;
    struct buf base, full;
    enum status st = bench_weights_new(&s, bytes / (row->is_wide ? 4 : 2), e);

    buf_init(&base, bytes + 4096);
    buf_init(&full, bytes + 4096);
    if (!st)
        st = bench_weights_file(&base, &s, row->is_wide, e);
    for (unsigned i = 0; !st && i < row->steps; i++)
        bench_weights_step(&s, row->lr);
    if (!st)
        st = bench_weights_file(&full, &s, row->is_wide, e);
    bench_weights_clear(&s);
    if (!st)
        st = report(b, row->name, buf_bytes(&base), buf_bytes(&full), row->is_wide ? 4 : 2,
                    row->is_target, e);
    buf_clear(&base);
    buf_clear(&full);
    return st;
}

/* The width that most of a file has, for counting what changed. */
static size_t width_of(struct bytes file)
{
    size_t n = file.len < 4096 ? file.len : 4096;
    return memmem(file.data, n, "\"F32\"", 5) ? 4 : 2;
}

static enum status run_files(const struct delta_bench *b, struct err *e)
{
    struct file_map base = {0}, full = {0};
    enum status st = file_map_open(&base, b->base, e);

    if (!st)
        st = file_map_open(&full, b->full, e);
    if (!st && base.bytes.len != full.bytes.len)
        st = err_set(e, ERR_INVALID, "'%s' and '%s' have different lengths", b->base, b->full);
    if (!st)
        st = report(b, "files", base.bytes, full.bytes, width_of(full.bytes), false, e);
    file_map_close(&full);
    file_map_close(&base);
    return st;
}

static enum status run(struct delta_bench *b, struct err *e)
{
    enum status st = OK;

    b->scalar = delta_loops_find("scalar");
    b->chosen = delta_loops_find(strcmp(b->loops, "auto") ? b->loops : NULL);
    if (!b->chosen)
        return err_set(e, ERR_UNSUPPORTED, "this machine has no '%s'", b->loops);
    if (!*b->base != !*b->full)
        return err_set(e, ERR_INVALID, "--base and --new go together");
    if (!b->is_json)
        print_head();
    if (*b->base)
        return run_files(b, e);
    st = memory_check(NULL, 16 * ((uint64_t)b->mib << 20), 0, "the synthetic weights", e);
    for (size_t i = 0; !st && i < N(rows); i++)
        st = run_row(b, &rows[i], e);
    return st;
}

int bench_delta(int argc, char **argv)
{
    struct delta_bench b = {0};
    struct err e;
    struct opt table[] = {
        {"mib", OPT_INT, &b.mib, "64", "1..16384", "size of the synthetic files", false},
        {"rounds", OPT_INT, &b.rounds, "5", "1..1000", "times each is done; the best counts",
         false},
        {"threads", OPT_INT, &b.threads, "1", "1..1024", "threads", false},
        {"loops", OPT_CHOICE, &b.loops, "auto", "auto|scalar|avx2",
         "which code encodes and applies", false},
        {"base", OPT_STRING, &b.base, "", NULL,
         "a safetensors file, instead of synthetic weights", false},
        {"new", OPT_STRING, &b.full, "", NULL, "and what became of it", false},
        {"json", OPT_FLAG, &b.is_json, "false", NULL, "JSON objects, one a line", false},
    };
    struct usage u = {
        .line = "muster bench delta [options]",
        .about =
            "Patches between weight versions: how many times smaller than the file, beside "
            "the entropy\nof independent changes, a list of indices and values, and zstd of "
            "the file; bytes of model a\nsecond encoded and applied. Synthetic weights are "
            "N(0, 0.02) after steps of Adam (rate, steps),\nor give --base and --new.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        pool_new(&b.pool, (size_t)b.threads);
        status = run(&b, &e) ? usage_fail(e.text) : 0;
        pool_free(&b.pool);
    }
    opt_clear(table, u.n);
    return status;
}
