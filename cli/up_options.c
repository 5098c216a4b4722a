#include "cli/up_options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "inference/cheat.h"
#include "node/sock.h"
#include "replay/cheat.h"

#define KEPT      "options"
#define MAX_BYTES 65536u
#define NOT_KEPT  4u /* dir, seed, steps and json: of one command, or of the task that is kept */

static const char line[] = "muster up [TASK.yaml] [options]";

static const char about[] =
    "Runs a whole network on this machine: orchestrator, trainer, inference workers,\n"
    "validators and a relay, each a process of its own, until the task's last weight\n"
    "version. TASK.yaml may be a directory with one; the default is "
    "tasks/reverse-text.\n"
    "Ctrl-C ends all; the same --dir goes on, with the same options. One worker cheats\n"
    "unless --cheats is 0.\n\n"
    "  muster up                                  a first look\n"
    "  muster up my-task --cheats 0 --dir my-run  a task of yours\n"
    "  muster up --dir my-run                     goes on with it\n"
    "  muster status --dir my-run --watch         from another terminal";

static void set_table(struct up_options *o)
{
    const struct opt table[] = {
        {"dir", OPT_STRING, &o->dir, "", NULL,
         "directory of the run; one that was interrupted goes on. Empty: a new muster-run",
         false},
        {"seed", OPT_INT, &o->seed, "-1", "-1..9007199254740991",
         "seed instead of the task's; -1: the task's", false},
        {"steps", OPT_INT, &o->steps, "-1", "-1..100000000",
         "weight versions instead of the task's; -1: the task's", false},
        {"json", OPT_FLAG, &o->as_json, "false", NULL,
         "print nothing but one JSON object, on stdout", false},
        {"inference", OPT_INT, &o->inference, "4", "1..32",
         "inference workers, cheats included", false},
        {"cheats", OPT_INT, &o->cheats, "1", "0..32", "how many of them cheat", false},
        {"cheat", OPT_CHOICE, &o->cheat, "int8", "none" CHEAT_CHOICES,
         "how they cheat: see 'muster inference --help'", false},
        {"trainer-processes", OPT_INT, &o->trainer_processes, "1", "1..8",
         "processes that share the trainer's grad_lanes", false},
        {"cheat-trainer", OPT_CHOICE, &o->cheat_trainer, "none", TRAIN_CHEATS,
         "how the trainer cheats; 'muster replay DIR' finds it", false},
        {"validators", OPT_INT, &o->validators, "2", "1..16", "validators", false},
        {"cheat-verifier", OPT_CHOICE, &o->cheat_verifier, "none",
         "none|lazy|framing|copying|colluding|challenging", "how the last validator cheats",
         false},
        {"relays", OPT_INT, &o->relays, "1", "0..8", "relays", false},
        {"threads", OPT_INT, &o->threads, "1", "1..256", "kernel threads of each role", false},
        {"kernels", OPT_CHOICE, &o->kernels, "auto", USAGE_KERNELS,
         "inner loops; all give the same bits", false},
        {"worker-device", OPT_STRING, &o->worker_device, "cpu", NULL,
         "where inference workers compute: cpu, cuda, cuda:N or auto", false},
        {"verifier-device", OPT_STRING, &o->verifier_device, "cpu", NULL, "where validators do",
         false},
        {"trainer-device", OPT_STRING, &o->trainer_device, "cpu", NULL,
         "where the trainer does", false},
        {"listen", OPT_STRING, &o->listen, "tcp://127.0.0.1:*", NULL, "where shards are served",
         false},
    };

    _Static_assert(sizeof(table) == sizeof(o->table), "UP_OPTIONS of them");
    memcpy(o->table, table, sizeof(table));
}

static char *path_of(const struct up_options *o, const char *name)
{
    return file_join(o->dir, name);
}

/* What DIR/options says, into *kept, which is to be cleared in any case. ERR_NOT_FOUND, with nothing said: there is none. */
static enum status load_kept(struct up_options *kept, const struct up_options *o, struct err *e)
{
    char *path = path_of(o, KEPT);
    struct buf text;
    enum status st = file_exists(path) ? OK : ERR_NOT_FOUND;

    set_table(kept);
    opt_defaults(kept->table, UP_OPTIONS);
    kept->cheats = 0;
    buf_init(&text, MAX_BYTES);
    if (!st)
        st = file_read(&text, path, e);
    if (!st)
        st = opt_read(kept->table + NOT_KEPT, UP_OPTIONS - NOT_KEPT, buf_bytes(&text), e);
    if (st && file_exists(path))
        st = err_prefix(e, ERR_CORRUPT, "'%s'", path);
    buf_clear(&text);
    free(path);
    return st;
}

bool up_options_is_begun(const struct up_options *o)
{
    char *path = o->dir[0] ? path_of(o, UP_BEGUN) : NULL;
    const bool is = path && file_exists(path);

    free(path);
    return is;
}

/* A worker that was honest would become a cheat, and lose its stake, or the result would count others than did. */
static enum status check_same_cheats(const struct up_options *o, const struct up_options *kept,
                                     struct err *e)
{
    const bool has_cheats = kept->cheats > 0 || o->cheats > 0;

    if (o->cheats == kept->cheats && (!has_cheats || o->inference == kept->inference) &&
        (!has_cheats || !strcmp(o->cheat, kept->cheat)) &&
        !strcmp(o->cheat_verifier, kept->cheat_verifier) &&
        !strcmp(o->cheat_trainer, kept->cheat_trainer))
        return OK;
    return err_set(
        e, ERR_INVALID,
        "'%s' was begun with --inference %" PRId64 " --cheats %" PRId64
        " --cheat %s --cheat-verifier %s --cheat-trainer %s, and who cheats stays as it "
        "was: leave these out",
        o->dir, kept->inference, kept->cheats, kept->cheat, kept->cheat_verifier,
        kept->cheat_trainer);
}

/* Options that the command line left out, of the run that it names. *has_read: there were some. */
static enum status read_kept(struct up_options *o, bool *has_read, struct err *e)
{
    struct up_options kept;
    struct buf text;
    enum status st;

    *has_read = false;
    if (!up_options_is_begun(o))
        return OK;
    buf_init(&text, MAX_BYTES);
    st = load_kept(&kept, o, e);
    *has_read = st == OK;
    if (st == OK || st == ERR_NOT_FOUND) {
        opt_print(&text, kept.table + NOT_KEPT, UP_OPTIONS - NOT_KEPT);
        st = opt_read(o->table + NOT_KEPT, UP_OPTIONS - NOT_KEPT, buf_bytes(&text), e);
    }
    if (!st && *has_read)
        st = check_same_cheats(o, &kept, e);
    buf_clear(&text);
    up_options_clear(&kept);
    return st;
}

/* What the table cannot say of them. */
static enum status check(const struct up_options *o, struct err *e)
{
    for (size_t i = NOT_KEPT; i < UP_OPTIONS; i++)
        if (o->table[i].type == OPT_STRING && strchr(*(char *const *)o->table[i].at, '\n'))
            return err_set(e, ERR_INVALID, "option '%s' has more than one line",
                           o->table[i].name);
    if (o->cheats > o->inference)
        return err_set(e, ERR_INVALID,
                       "option 'cheats' is '%" PRId64 "', more than the %" PRId64
                       " workers of option 'inference'",
                       o->cheats, o->inference);
    if (sock_check_endpoint(o->listen, true, e))
        return err_prefix(e, ERR_INVALID, "option 'listen'");
    if (device_check_name(o->worker_device, e))
        return err_prefix(e, ERR_INVALID, "option 'worker-device'");
    if (device_check_name(o->verifier_device, e))
        return err_prefix(e, ERR_INVALID, "option 'verifier-device'");
    if (device_check_name(o->trainer_device, e))
        return err_prefix(e, ERR_INVALID, "option 'trainer-device'");
    return OK;
}

int up_options_parse(struct up_options *o, const char **path, int argc, char **argv)
{
    struct usage usage = {.line = line,
                          .about = about,
                          .table = o->table,
                          .n = UP_OPTIONS,
                          .operand = path,
                          .max_operands = 1};
    bool has_read = false;
    struct err e;
    int status;

    set_table(o);
    status = usage_parse(&usage, argc, argv);
    if (status != USAGE_RUN)
        return status;
    if (read_kept(o, &has_read, &e)) {
        (void)usage_fail(e.text);
        if (!has_read)
            fprintf(stderr,
                    "this is what '%s/" KEPT
                    "' keeps of the run: mend it, or remove it and say all "
                    "options again\n",
                    o->dir);
        return 1;
    }
    if (!check(o, &e))
        return USAGE_RUN;
    status = usage_complain(line, "%s", e.text);
    if (has_read)
        fprintf(stderr, "what was not said now is what '%s/" KEPT "' keeps of the run\n",
                o->dir);
    return status;
}

enum status up_options_keep(const struct up_options *o, struct err *e)
{
    char *path;
    struct up_options kept;
    struct buf text;
    enum status st;

    if (up_options_is_begun(o))
        return OK;
    path = path_of(o, KEPT);
    buf_init(&text, MAX_BYTES);
    opt_print(&text, o->table + NOT_KEPT, UP_OPTIONS - NOT_KEPT);
    st = load_kept(&kept, o, e); /* of a beginning that was interrupted */
    if (st && st != ERR_NOT_FOUND)
        st = err_set(e, ERR_INVALID, "'%s' is there, and not of a run: name another directory",
                     path);
    else if (text.bad)
        st = err_set(e, ERR_LIMIT, "options are longer than %u bytes", MAX_BYTES);
    else
        st = file_write_atomic(path, buf_bytes(&text), 0666, e);
    up_options_clear(&kept);
    buf_clear(&text);
    free(path);
    return st;
}

void up_options_clear(struct up_options *o)
{
    opt_clear(o->table, UP_OPTIONS);
}
