/*
 * muster orchestrator: leases work, has it checked, keeps the ledger
 */
#include <string.h>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/judge.h"
#include "cli/role_options.h"
#include "cli/usage.h"
#include "orchestrator/orch_run.h"
#include "replay/transcript_play.h"

struct settings {
    struct orch_config c;
    char *dir, *keys, *listen, *enrol, *advertise, *invites, *log_level;
    int64_t beacon, mature, map_mib;
};

static enum log_level parse_level(const char *text)
{
    return !strcmp(text, "error")  ? LOG_E
           : !strcmp(text, "warn") ? LOG_W
           : !strcmp(text, "info") ? LOG_I
                                   : LOG_D;
}

static int run(struct settings *o)
{
    struct err e = {0};

    log_set_level(parse_level(o->log_level));
    o->c.dir = o->dir;
    o->c.keys = o->keys;
    o->c.listen = o->listen;
    o->c.enrol = o->enrol;
    o->c.advertise = o->advertise;
    o->c.invites = o->invites;
    o->c.beacon_length = (uint64_t)o->beacon;
    o->c.mature_window = (uint64_t)o->mature;
    o->c.judge = judge_dispute;
    o->c.first_bytes = transcript_first_bytes;
    o->c.map_bytes = (uint64_t)o->map_mib << 20;
    return role_finish("orchestrator", orch_run(&o->c, &e), &e);
}

/* A link that names no machine can be used on this one only. */
static bool leads_nowhere(const struct settings *o)
{
    return !o->advertise[0] && (strstr(o->listen, "//0.0.0.0:") || strstr(o->listen, "//*:"));
}

int cmd_orchestrator(int argc, char **argv)
{
    struct settings o = {0};
    struct opt table[] = {
        {"dir", OPT_STRING, &o.dir, NULL, NULL, "directory of the run: ledger, keys, links",
         false},
        {"keys", OPT_STRING, &o.keys, "", NULL, "directory of the keys; default DIR/keys",
         false},
        {"listen", OPT_STRING, &o.listen, "tcp://127.0.0.1:*", NULL,
         "control socket; '*' picks a port, which a restart takes again", false},
        {"enrol", OPT_STRING, &o.enrol, "tcp://127.0.0.1:*", NULL, "enrolment socket", false},
        {"advertise", OPT_STRING, &o.advertise, "", NULL,
         "host name in the links of invites; default: the one listened on", false},
        {"invites", OPT_STRING, &o.invites, "", NULL,
         "made when the run begins, into DIR/invites.json: trainer:1,inference:4,verifier:2",
         false},
        {"beacon", OPT_INT, &o.beacon, "262144", "1..16777216",
         "rounds of audit draws that a new run can have", false},
        {"mature", OPT_INT, &o.mature, "4096", "0..1000000",
         "ledger entries after which pay of a new run matures", false},
        {"map-mib", OPT_INT, &o.map_mib, "65536", "1..16777216",
         "most MiB that the ledger's file may have", false},
        {"exit-when-done", OPT_FLAG, &o.c.exit_when_done, "false", NULL,
         "end some seconds after the task is closed", false},
        {"log-level", OPT_CHOICE, &o.log_level, "info", "error|warn|info|debug",
         "what is logged", false},
    };
    struct usage u = {
        .line = "muster orchestrator --dir DIR [options]",
        .about =
            "Leases units of work, has them checked, pays for what passes and keeps the\n"
            "ledger. Started again with the same --dir it goes on where it was. For nodes on\n"
            "other machines:\n"
            "\n"
            "  muster orchestrator --dir orch --listen tcp://0.0.0.0:4000 \\\n"
            "      --enrol tcp://0.0.0.0:4001 --advertise orch.example.org",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && leads_nowhere(&o))
        status =
            usage_complain(u.line,
                           "links would lead to '%s': --advertise says by which host others "
                           "reach this machine",
                           o.listen);
    if (status == USAGE_RUN)
        status = run(&o);
    opt_clear(table, u.n);
    return status;
}
