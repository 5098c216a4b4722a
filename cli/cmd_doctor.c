/*
 * muster doctor: what this machine has of what muster needs, what to do about the rest, and what the
 * work of published tasks would bring it
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <lmdb.h>
#include <sodium.h>
#include <zmq.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/options.h"
#include "cli/bench_machine.h"
#include "cli/commands.h"
#include "cli/earnings.h"
#include "cli/json_view.h"
#include "cli/usage.h"
#include "cli/version.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "envs/env.h"
#include "rollout/setup.h"

#define DISK_LEAST_BYTES   ((uint64_t)2 << 30)
#define MEMORY_LEAST_BYTES ((uint64_t)1 << 30)
#define CLOCK_LEAST        ((time_t)1700000000) /* November 2023: a clock before it was never set */

struct report {
    bool as_json;
    bool all_good;
};

/* What goes wrong here is told, not hidden: a line that is no UTF-8 is shown as such. */
static void print_json(bool good, const char *what, const char *found, const char *advice)
{
    json_t *text = json_string(found);
    json_t *o = json_object();

    json_object_set_new(o, "name", json_string(what));
    json_object_set_new(o, "ok", json_boolean(good));
    json_object_set_new(o, "found", text ? text : json_string("(not UTF-8)"));
    json_object_set_new(o, "advice", json_string(good ? "" : advice));
    json_view_print(o);
    json_decref(o);
}

static void line(struct report *r, bool good, const char *what, const char *found,
                 const char *advice)
{
    r->all_good = r->all_good && good;
    if (r->as_json)
        print_json(good, what, found, advice);
    else if (good)
        printf("  ok    %-12s %s\n", what, found);
    else
        printf("  FAIL  %-12s %s\n        %-12s -> %s\n", what, found, "", advice);
}

static void check_libraries(struct report *r)
{
    char text[160];
    int major, minor, patch;

    zmq_version(&major, &minor, &patch);
    snprintf(text, sizeof(text), "libzmq %d.%d.%d, CURVE %s", major, minor, patch,
             zmq_has("curve") ? "yes" : "no");
    line(r, zmq_has("curve"), "messaging", text,
         "install a libzmq that was built with CURVE (Debian's libzmq5 is)");
    snprintf(text, sizeof(text), "libsodium %s", sodium_version_string());
    line(r, sodium_init() >= 0, "crypto", text, "libsodium cannot start: check /dev/urandom");
    line(r, true, "store", mdb_version(NULL, NULL, NULL), "");
}

/* "2 cores; kernels scalar avx2, of which avx2 would run; not on this machine: avx512" */
static void check_processor(struct report *r)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct buf text;
    const char *name, *title = "; not on this machine:";

    buf_init(&text, 1024);
    buf_printf(&text, "%ld core%s; kernels", cores, cores == 1 ? "" : "s");
    for (size_t i = 0; (name = kernels_name_at(NUMERICS_F32_1, i)); i++)
        if (kernels_available(NUMERICS_F32_1, name))
            buf_printf(&text, " %s", name);
    buf_printf(&text, ", of which %s would run", kernels_name(kernels_best()));
    for (size_t i = 0; (name = kernels_name_at(NUMERICS_F32_1, i)); i++)
        if (!kernels_available(NUMERICS_F32_1, name)) {
            buf_printf(&text, "%s %s", title, name);
            title = "";
        }
    line(r, cores > 0, "processor", buf_cstr(&text), "");
    buf_clear(&text);
}

static void check_machine(struct report *r, const char *dir)
{
    char text[256];
    struct statvfs fs;
    struct rlimit files;
    struct err e;
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    check_processor(r);
    snprintf(text, sizeof(text), "%.1f GiB", (double)memory / (double)((uint64_t)1 << 30));
    line(r, memory >= MEMORY_LEAST_BYTES, "memory", text, "a role wants 1 GiB at the least");

    if (statvfs(dir, &fs)) {
        snprintf(text, sizeof(text), "cannot look at '%.100s': %s", dir, strerror(errno));
        line(r, false, "disk", text, "name an existing directory with --dir");
    } else {
        uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
        snprintf(text, sizeof(text), "%.1f GiB free in '%.100s'",
                 (double)left / (double)((uint64_t)1 << 30), dir);
        line(r, left >= DISK_LEAST_BYTES, "disk", text,
             "free some space, or use --dir with another disk");
    }
    getrlimit(RLIMIT_NOFILE, &files);
    snprintf(text, sizeof(text), "%llu open files allowed", (unsigned long long)files.rlim_cur);
    line(r, files.rlim_cur >= 256, "files", text, "raise it: ulimit -n 1024");
    snprintf(text, sizeof(text), "%lld seconds since 1970", (long long)time(NULL));
    line(r, time(NULL) > CLOCK_LEAST, "clock", text, "set the clock (timedatectl)");

    if (env_sandbox_check(&e))
        line(r, false, "sandbox", e.text,
             "environments will be refused here; use a kernel with seccomp");
    else
        line(r, true, "sandbox", env_lua_release(), "");
}

/* ---- devices --------------------------------------------------------------------------------- */

#define TASKS_MAX 16u

struct doctor {
    struct report r;
    char *dir;
    int64_t threads;
    double seconds; /* for each figure */
    bool is_quick;
    const char *task[TASKS_MAX];
    size_t n_tasks;
    struct pool *pool; /* owned */
};

/* The i-th device: the CPU, then the GPUs. */
static enum status open_device(struct device **d, size_t i, struct err *e)
{
    char name[32] = "cpu";

    if (i > 0)
        snprintf(name, sizeof(name), "cuda:%zu", i - 1);
    return device_open(d, name, e);
}

static void print_and_drop(json_t *o)
{
    json_view_print(o);
    json_decref(o);
}

static void print_limit(const struct doctor *d, const char *name, double value,
                        const char *unit)
{
    if (d->r.as_json)
        print_and_drop(
            json_pack("{s:s, s:f, s:s}", "name", name, "value", value, "unit", unit));
    else
        printf("  %-18s %9.1f %s\n", name, value, unit);
}

/* What the CPU can do at best. A GPU has no such loops: its figures are those of the tasks. */
static void measure_cpu(struct doctor *d)
{
    double flops, bytes;
    struct err e;

    if (bench_machine_glance(&flops, &bytes, kernels_best(), d->pool, &e)) {
        line(&d->r, false, "speed", e.text, "free some memory");
        return;
    }
    print_limit(d, "fma", flops * 1e-9, "GFLOP/s");
    print_limit(d, "memory_read", bytes * 1e-9, "GB/s");
}

/* ---- tasks ----------------------------------------------------------------------------------- */

/* "-" or a number that fits its column. */
static const char *money(char text[32], double x)
{
    if (x < 0.0)
        snprintf(text, 32, "-");
    else
        snprintf(text, 32, "%.0f", x);
    return text;
}

static json_t *money_json(double x)
{
    return x < 0.0 ? json_null() : json_real(x);
}

/* A class that a device computes. */
static void print_earnings(const struct doctor *d, const struct task *t, const char *class,
                           const char *device, const char *kernels,
                           const struct earnings_rates *r)
{
    const struct earnings x = earnings_of(t, class, r);
    bool is_paid = task_price(t, class) > 0;
    char text[3][32];

    if (d->r.as_json) {
        print_and_drop(json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:o, s:s, s:I, s:o, s:o, s:o}", "name",
            "earnings", "task", t->name, "numerics", class, "device", device, "kernels",
            kernels, "decode_tokens_s", r->decode, "prefill_tokens_s", r->prefill,
            "train_tokens_s", money_json(r->why_no_train[0] ? -1.0 : r->train), "why_no_train",
            r->why_no_train, "price_token", (json_int_t)task_price(t, class), "inference_ucr_h",
            money_json(x.inference), "verifier_ucr_h", money_json(x.verifier), "trainer_ucr_h",
            money_json(x.trainer)));
        return;
    }
    printf("  %-14s %-8s %10.0f %10.0f %10.0f %14s %14s %14s%s\n", class, kernels, r->decode,
           r->prefill, r->train, money(text[0], x.inference), money(text[1], x.verifier),
           money(text[2], x.trainer), is_paid ? "" : "  not paid by this task");
    if (r->why_no_train[0])
        printf("  %-14s %s\n", "", r->why_no_train);
    fflush(stdout);
}

static void print_refusal(const struct doctor *d, const struct task *t, const char *class,
                          const char *device, const char *why)
{
    if (d->r.as_json)
        print_and_drop(json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", "earnings", "task",
                                 t->name, "numerics", class, "device", device, "why", why));
    else
        printf("  %-14s not here: %s\n", class, why);
}

/* Every class on one device. */
static void measure_classes(struct doctor *d, struct device *at, const struct task *t,
                            const struct model_config *c)
{
    for (unsigned class = 0; class < NUMERICS_COUNT; class ++) {
        const char *name = numerics_name((enum numerics) class);
        const struct kernels *k;
        struct earnings_rates r;
        struct err e;
        enum status st = device_kernels(&k, at, (enum numerics) class, &e);

        if (!st)
            st = earnings_measure(&r, t, c, k, d->pool, d->seconds, &e);
        if (st)
            print_refusal(d, t, name, device_name(at), e.text);
        else
            print_earnings(d, t, name, device_name(at), kernels_name(k), &r);
    }
}

static void measure_task(struct doctor *d, const struct task *t, const struct model_config *c)
{
    if (!d->r.as_json)
        printf("\ntask %s: %" PRIu64 " parameters; ucr an hour, if there is always work and "
               "answers are as long as they may be\n",
               t->name, model_config_params(c));
    for (size_t i = 0; i < 1 + device_count(); i++) {
        struct device *at;
        struct err e;

        if (open_device(&at, i, &e)) {
            line(&d->r, false, "device", e.text, "look at the driver: nvidia-smi");
            continue;
        }
        if (!d->r.as_json)
            printf("%s\n  %-14s %-8s %10s %10s %10s %14s %14s %14s\n", device_name(at), "class",
                   "kernels", "decode/s", "prefill/s", "train/s", "inference", "full checks",
                   "trainer");
        measure_classes(d, at, t, c);
        device_close(&at);
    }
}

/* A task file or its directory, or the bundle that a node was given. */
static enum status read_bundle(struct buf *out, const char *path, struct err *e)
{
    const char *base = strrchr(path, '/');

    if (strcmp(base ? base + 1 : path, "bundle") == 0)
        return file_read(out, path, e);
    return bundle_load(out, path, e);
}

static enum status look_at_task(struct doctor *d, const char *path, struct err *e)
{
    struct tokenizer *tokenizer = NULL;
    struct model_config config;
    struct bundle b;
    struct task t = {0};
    struct buf bundle;
    enum status st;

    buf_init(&bundle, BUNDLE_MAX_BYTES);
    st = read_bundle(&bundle, path, e);
    if (!st)
        st = bundle_decode(&b, buf_bytes(&bundle), e);
    if (!st)
        st = task_parse(&t, b.file[BUNDLE_TASK], path, e);
    if (!st)
        st = setup_model_config(&config, &tokenizer, &t, &b, e);
    if (!st)
        measure_task(d, &t, &config);
    tokenizer_free(&tokenizer);
    task_clear(&t);
    buf_clear(&bundle);
    return st;
}

static enum status measure(struct doctor *d, struct err *e)
{
    char *bundle = file_join(d->dir, "bundle");
    enum status st = OK;

    if (!d->r.as_json)
        printf("\nspeed, %zu thread%s\n", pool_threads(d->pool),
               pool_threads(d->pool) == 1 ? "" : "s");
    measure_cpu(d);
    for (size_t i = 0; !st && i < d->n_tasks; i++)
        st = look_at_task(d, d->task[i], e);
    if (!st && d->n_tasks == 0 && file_exists(bundle))
        st = look_at_task(d, bundle, e);
    else if (!st && d->n_tasks == 0 && !d->r.as_json)
        printf("\nto see what tasks would pay, name them: muster doctor TASK.yaml\n");
    free(bundle);
    return st;
}

int cmd_doctor(int argc, char **argv)
{
    struct doctor d = {.r = {false, true}};
    struct opt table[] = {
        {"dir", OPT_STRING, &d.dir, ".", NULL,
         "directory whose disk the run would use; a node's has its task's bundle in it", false},
        {"threads", OPT_INT, &d.threads, "0", "0..1024", "threads; 0: one a core", false},
        {"seconds", OPT_REAL, &d.seconds, "0.5", "0.01..60",
         "for each figure of each class, about", false},
        {"quick", OPT_FLAG, &d.is_quick, "false", NULL, "measure nothing", false},
        {"json", OPT_FLAG, &d.r.as_json, "false", NULL, "one JSON object a line", false},
    };
    struct usage u = {
        .line = "muster doctor [TASK...] [options]",
        .about =
            "Checks this machine: libraries, memory, disk, clock, sandbox. Then measures how "
            "fast\n"
            "its devices are, and what they would earn by the hour at the prices of tasks "
            "(files\n"
            "or directories; or the one that the node of --dir works on), in each class of\n"
            "numbers, as a worker, a validator and a trainer: docs/numerics.md, "
            "docs/ledger.md.\n"
            "Status 1: something is missing.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = d.task,
        .max_operands = TASKS_MAX,
    };
    struct err e;
    int status = usage_parse(&u, argc, argv);

    d.n_tasks = u.n_operands;
    if (status == USAGE_RUN && d.is_quick && d.n_tasks)
        status = usage_complain(u.line, "--quick measures nothing, and so no task");
    if (status == USAGE_RUN) {
        if (!d.r.as_json)
            printf("muster %s\n", MUSTER_VERSION);
        check_libraries(&d.r);
        check_machine(&d.r, d.dir);
        status = d.r.all_good ? 0 : 1;
        pool_new(&d.pool, usage_threads(d.threads));
        if (!d.is_quick && measure(&d, &e))
            status = usage_fail(e.text);
        pool_free(&d.pool);
    }
    opt_clear(table, u.n);
    return status;
}
