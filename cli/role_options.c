#include "cli/role_options.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/usage.h"

void role_options_table(struct opt *table, struct role_options *o)
{
    const struct opt rows[ROLE_OPTIONS_COUNT] = {
        {"dir", OPT_STRING, &o->dir, NULL, NULL,
         "directory of this node: keys, shards, all that survives a restart", false},
        {"join", OPT_STRING, &o->join, "", NULL, "invite link; needed the first time only",
         false},
        {"listen", OPT_STRING, &o->listen, "", NULL,
         "where weights are served to peers, like tcp://0.0.0.0:4002; empty: a free port, of "
         "all "
         "interfaces if the orchestrator is on another machine",
         false},
        {"advertise", OPT_STRING, &o->advertise, "", NULL,
         "host by which peers reach this node; empty: the address that leads to the "
         "orchestrator; none: they cannot (NAT)",
         false},
        {"kernels", OPT_CHOICE, &o->kernels, "auto", USAGE_KERNELS,
         "inner loops to use; all give the same bits", false},
        {"device", OPT_STRING, &o->device, "cpu", NULL, USAGE_DEVICE, false},
        {"threads", OPT_INT, &o->threads, "1", "1..256", "threads of the kernels", false},
        {"up-mbps", OPT_REAL, &o->up_mbps, "0", "0..1000000",
         "most that serving weights may take of the link, in Mb/s; 0: all", false},
        {"down-mbps", OPT_REAL, &o->down_mbps, "0", "0..1000000",
         "most that fetching weights may take of the link, in Mb/s; 0: all", false},
        {"allow-unsandboxed", OPT_FLAG, &o->allow_unsandboxed, "false", NULL,
         "run environments even where the kernel gives no sandbox", false},
        {"log-level", OPT_CHOICE, &o->log_level, "info", "error|warn|info|debug",
         "least important lines that are written", false},
    };

    memcpy(table, rows, sizeof(rows));
}

struct node_options role_options_apply(const struct role_options *o)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (int level = LOG_E; level <= LOG_D; level++)
        if (!strcmp(o->log_level, names[level]))
            log_set_level((enum log_level)level);
    return (struct node_options){
        .dir = o->dir,
        .link = o->join,
        .listen = o->listen,
        .advertise = o->advertise,
        .kernels = o->kernels,
        .device = o->device,
        .threads = o->threads,
        .up_mbps = o->up_mbps,
        .down_mbps = o->down_mbps,
    };
}

int role_finish(const char *role, enum status st, const struct err *e)
{
    if (!st)
        return 0;
    fprintf(stderr, "muster %s: %s%s\n", role, e->text,
            st == ERR_FULL ? ": make room there and start it again, it goes on" : "");
    return st == ERR_DENIED ? ROLE_REFUSED : 1;
}
