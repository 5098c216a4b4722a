/*
 * muster doctor: what this machine has of what muster needs, and what to do about the rest
 */
#include <errno.h>
#include <stdio.h>
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
#include "base/options.h"
#include "cli/commands.h"
#include "cli/json_view.h"
#include "cli/usage.h"
#include "cli/version.h"
#include "engine/kernels.h"
#include "envs/env.h"

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

int cmd_doctor(int argc, char **argv)
{
    struct report r = {false, true};
    char *dir = NULL;
    struct opt table[] = {
        {"dir", OPT_STRING, &dir, ".", NULL, "directory whose disk the run would use", false},
        {"json", OPT_FLAG, &r.as_json, "false", NULL, "one JSON object a line", false},
    };
    struct usage u = {
        .line = "muster doctor [options]",
        .about = "Checks this machine: libraries, memory, disk, clock, sandbox.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN) {
        if (!r.as_json)
            printf("muster %s\n", MUSTER_VERSION);
        check_libraries(&r);
        check_machine(&r, dir);
        status = r.all_good ? 0 : 1;
    }
    opt_clear(table, u.n);
    return status;
}
