/*
 * cli/bench_verify.c - muster bench verify: what checks find, what they cost, whom they wrong
 */
#include "cli/bench_verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_checks.h"
#include "cli/bench_gallery.h"
#include "cli/usage.h"

struct verify_bench {
    int64_t units, honest, from, tokens, dim, layers, warmup, threads;
    char *what, *cheat, *class;
    bool is_json;
    struct pool *pool;
};

static bool wants(const struct verify_bench *b, const char *what)
{
    return !strcmp(b->what, "all") || !strcmp(b->what, what);
}

/* Of a model and units so large that their size does not matter any more. */
static enum status cost(const struct verify_bench *b, struct err *e)
{
    const struct bench_world_options wo = {
        .dim = 256, .layers = 6, .group = 8, .tokens = 64, .warmup = 0, .pool = b->pool};
    struct bench_world w;
    enum status st = bench_world_open(&w, &wo, e);

    if (st)
        return st;
    st = bench_checks(&w, b->pool, b->is_json, e);
    bench_world_close(&w);
    return st;
}

static enum status run(const struct verify_bench *b, struct err *e)
{
    const struct bench_world_options wo = {.dim = (size_t)b->dim,
                                           .layers = (size_t)b->layers,
                                           .group = 2,
                                           .tokens = (size_t)b->tokens / 2,
                                           .warmup = (size_t)b->warmup,
                                           .pool = b->pool};
    const struct bench_gallery_options go = {
        .units = (size_t)b->units, .only = b->cheat, .pool = b->pool, .is_json = b->is_json};
    struct bench_world w;
    enum status st = wants(b, "toploc") ? bench_toploc(b->is_json, e) : OK;

    if (!st && (wants(b, "cost") || wants(b, "bytes")))
        st = bench_wire(b->is_json, e);
    if (!st && wants(b, "cost"))
        st = cost(b, e);
    if (st || (!wants(b, "gallery") && !wants(b, "honest")))
        return st;
    st = bench_world_open(&w, &wo, e);
    if (st)
        return st;
    if (wants(b, "gallery"))
        st = bench_gallery(&w, &go, e);
    if (!st && wants(b, "honest") && strcmp(b->class, "open-openblas") != 0)
        st = bench_honest(&w, NUMERICS_F32_1, (uint64_t)b->from, (uint64_t)b->honest,
                          b->is_json, e);
    if (!st && wants(b, "honest") && strcmp(b->class, "f32-1") != 0)
        st = bench_honest(&w, NUMERICS_OPEN_OPENBLAS, (uint64_t)b->from, (uint64_t)b->honest,
                          b->is_json, e);
    bench_world_close(&w);
    return st;
}

int bench_verify(int argc, char **argv)
{
    struct verify_bench b = {0};
    struct err e = {0};
    struct opt table[] = {
        {"what", OPT_CHOICE, &b.what, "all", "all|gallery|honest|cost|bytes|toploc",
         "which part", false},
        {"units", OPT_INT, &b.units, "40", "1..1000000", "units of each cheat", false},
        {"cheat", OPT_CHOICE, &b.cheat, "", CHEAT_CHOICES, "one cheat only", false},
        {"honest", OPT_INT, &b.honest, "1000", "1..100000000",
         "chunks of honest work to check in each class", false},
        {"from", OPT_INT, &b.from, "16777216", "0..1000000000000",
         "first unit of the honest work: runs that begin far apart add up", false},
        {"class", OPT_CHOICE, &b.class, "all", "all|f32-1|open-openblas", "of the honest work",
         false},
        {"tokens", OPT_INT, &b.tokens, "64", "4..4096", "of a unit", false},
        {"dim", OPT_INT, &b.dim, "64", "64..4096", "width of the model, a multiple of 64",
         false},
        {"layers", OPT_INT, &b.layers, "4", "1..64", "layers of the model", false},
        {"warmup", OPT_INT, &b.warmup, "150", "1..100000", "supervised steps it has had",
         false},
        {"threads", OPT_INT, &b.threads, "1", "1..256", "threads of the kernels", false},
        {"json", OPT_FLAG, &b.is_json, "false", NULL, "JSON objects, one a line", false},
    };
    struct usage u = {
        .line = "muster bench verify [options]",
        .about =
            "Every cheat of the gallery, as 'muster inference --help' lists them, against\n"
            "the check, in class f32-1 and in open-openblas: the share of cheated units\n"
            "that one full check finds and the tokens it needs; and how often honest work\n"
            "is refused, by provers and verifiers of other kernels, threads and batches.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        if (b.dim % 64 != 0) {
            status = usage_complain(u.line, "option 'dim' is '%lld', not a multiple of 64",
                                    (long long)b.dim);
        } else {
            pool_new(&b.pool, (size_t)b.threads);
            status = run(&b, &e) ? usage_fail(e.text) : 0;
            pool_free(&b.pool);
        }
    }
    opt_clear(table, u.n);
    return status;
}
