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

#include <lmdb.h>
#include <sodium.h>
#include <zmq.h>

#include "base/options.h"
#include "cli/commands.h"
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

static void line(struct report *r, bool good, const char *what, const char *found,
                 const char *advice)
{
    r->all_good = r->all_good && good;
    if (r->as_json)
        printf("{\"name\": \"%s\", \"ok\": %s, \"found\": \"%s\", \"advice\": \"%s\"}\n", what,
               good ? "true" : "false", found, good ? "" : advice);
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
    snprintf(text, sizeof(text), "LMDB %s", mdb_version(NULL, NULL, NULL));
    line(r, true, "store", text, "");
}

static void check_machine(struct report *r, const char *dir)
{
    char text[256];
    struct statvfs fs;
    struct rlimit files;
    struct err e;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    snprintf(text, sizeof(text), "%ld cores, kernels %s", cores,
             kernels_name(kernels_best()));
    line(r, cores > 0, "processor", text, "");
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
