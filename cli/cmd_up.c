/*
 * muster up: a whole network on this machine, every role a process of its own
 *
 * Starts the children, publishes the task as its initiator, shows what happens, starts again what
 * dies, and when the task is closed evaluates the first and the last weights on held-out
 * problems, audits the ledger and says in one JSON object how it went.
 */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/children.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/json_view.h"
#include "cli/up_options.h"
#include "cli/up_result.h"
#include "cli/up_screen.h"
#include "cli/up_stall.h"
#include "cli/up_task.h"
#include "cli/usage.h"
#include "inference/cheat.h"
#include "node/key.h"

#define STEP_MS      100   /* how often children are looked after */
#define STATUS_MS    500   /* how often the orchestrator is asked */
#define ASK_MS       2000  /* how long an answer may take */
#define START_MS     30000 /* how long the orchestrator may take to listen */
#define END_MS       15000 /* how long children may take to end by themselves, */
#define EXPORT_BYTES 10000 /* of the model that are a millisecond more: a slow disk */
#define NAME_BYTES   CHILD_NAME_BYTES

static volatile sig_atomic_t interrupted;

struct up {
    struct up_options o;
    char accomplice[2 * KEY_BYTES + 1]; /* of a colluding validator */
    char *named;                        /* owned: the task's path; NULL: DIR has begun one */
    int lock_fd;
    struct task task;
    struct buf bundle;
    struct children children;
    struct client *client;
    struct screen screen;
    json_t *links;      /* {"invites": [...]} */
    json_t *status;     /* the last one */
    int64_t start_ms;   /* when the first child was started */
    int64_t seconds_ms; /* from there to the end of the last */
    struct up_stall stall;
};

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void sleep_ms(int64_t ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static char *in_dir(const struct up *u, const char *name)
{
    return file_join(u->o.dir, name);
}

/* ---- the children ------------------------------------------------------------------------ */

static enum status tend(struct up *u, struct err *e)
{
    enum status st = children_tick(&u->children, clock_mono_ms(), e);

    for (size_t i = 0; !st && i < u->children.n; i++) {
        struct child *ch = &u->children.v[i];

        if (!ch->is_given_up)
            continue;
        char *tail = children_log_tail(ch, 2);
        st = err_set(e, ERR_INVALID, "%s does not accept its command line: %s", ch->name, tail);
        free(tail);
    }
    return st;
}

/* The same while there is nothing to show yet: whom the others wait for has to live. */
static enum status tend_first(struct up *u, struct err *e)
{
    enum status st = tend(u, e);
    const struct child *ch = &u->children.v[0];

    if (!st && children_is_stuck(ch, clock_mono_ms()))
        st = err_set(e, ERR_INVALID, "%s ends again and again: %s", ch->name, ch->why);
    return st;
}

static void add_orchestrator(struct up *u)
{
    char *dir = in_dir(u, "orchestrator");
    char invites[128], relays[32] = "";

    if (u->o.relays)
        snprintf(relays, sizeof(relays), ",relay:%" PRId64, u->o.relays);
    snprintf(invites, sizeof(invites),
             "trainer:1,initiator:1,inference:%" PRId64 ",verifier:%" PRId64 "%s",
             u->o.inference, u->o.validators, relays);
    const char *args[] = {"orchestrator",     "--dir", dir, "--invites", invites,
                          "--exit-when-done", NULL};
    children_add(&u->children, "orchestrator", u->o.dir, args);
    free(dir);
}

/* The i-th link for a role, or NULL. */
static const char *link_of(const struct up *u, const char *role, int64_t i)
{
    const json_t *list = json_object_get(u->links, "invites");
    size_t at;
    json_t *o;

    json_array_foreach(list, at, o)
    {
        const char *found = json_string_value(json_object_get(o, "role"));

        if (found && !strcmp(found, role) && i-- == 0)
            return json_string_value(json_object_get(o, "link"));
    }
    return NULL;
}

/* The i-th link is not there. */
static enum status too_many(const struct up *u, const char *role, int64_t i, struct err *e)
{
    const char *option = !strcmp(role, "verifier") ? "validators"
                         : !strcmp(role, "relay")  ? "relays"
                                                   : role;

    while (i > 0 && !link_of(u, role, i - 1))
        i--;
    return err_set(e, ERR_NOT_FOUND,
                   "'%s' was begun with %" PRId64
                   " nodes of role %s, and none can be added: say --%s %" PRId64,
                   u->o.dir, i, role, option, i);
}

/* Waits until the orchestrator listens and its links are there. */
static enum status await_links(struct up *u, struct err *e)
{
    char *ready = in_dir(u, "orchestrator/ready.json");
    char *path = in_dir(u, "orchestrator/invites.json");
    int64_t until = clock_mono_ms() + START_MS;
    enum status st = OK;

    while (!st && !interrupted) {
        st = tend_first(u, e);
        json_decref(u->links);
        u->links = NULL;
        if (!st && file_exists(ready))
            (void)!json_view_load(&u->links, path, NULL);
        if (st || link_of(u, "initiator", 0))
            break;
        if (clock_mono_ms() > until) {
            char *tail = children_log_tail(&u->children.v[0], 3);
            st = err_set(e, ERR_TIMEOUT, "the orchestrator does not come up: %s", tail);
            free(tail);
            break;
        }
        sleep_ms(STEP_MS);
    }
    free(path);
    free(ready);
    return st;
}

static const char *device_of(const struct up *u, const char *role)
{
    return !strcmp(role, "trainer")    ? u->o.trainer_device
           : !strcmp(role, "verifier") ? u->o.verifier_device
                                       : u->o.worker_device;
}

static enum status add_role(struct up *u, const char *role, const char *name, int64_t i,
                            const char *cheat, struct err *e)
{
    const char *link = link_of(u, role, i);
    char *dir = in_dir(u, name), *model = in_dir(u, UP_MODEL);
    char threads[24], processes[24];
    const char *args[24] = {role, "--dir", dir, "--join", link, "--listen", u->o.listen};
    size_t n = 7;

    if (!link) {
        free(model);
        free(dir);
        return too_many(u, role, i, e);
    }
    if (strcmp(role, "relay") != 0) {
        snprintf(threads, sizeof(threads), "%" PRId64, u->o.threads);
        args[n++] = "--threads";
        args[n++] = threads;
        args[n++] = "--kernels";
        args[n++] = u->o.kernels;
        args[n++] = "--device";
        args[n++] = device_of(u, role);
    }
    if (file_exists(model) && (!strcmp(role, "trainer") || !strcmp(role, "verifier"))) {
        args[n++] = "--model";
        args[n++] = model;
    }
    if (!strcmp(role, "trainer")) {
        snprintf(processes, sizeof(processes), "%" PRId64, u->o.trainer_processes);
        args[n++] = "--processes";
        args[n++] = processes;
    }
    if (cheat) {
        args[n++] = "--cheat";
        args[n++] = cheat;
    }
    if (cheat && !strcmp(cheat, "colluding")) {
        args[n++] = "--accomplice";
        args[n++] = u->accomplice;
    }
    args[n] = NULL;
    children_add(&u->children, name, u->o.dir, args);
    free(model);
    free(dir);
    return OK;
}

static bool is_cheat(const struct up *u, int64_t worker)
{
    return worker >= u->o.inference - u->o.cheats;
}

/* The last validator cheats if any does. A colluding one has to know its worker, the last: whose
 * keys are made now. */
static enum status meet_accomplice(struct up *u, struct err *e)
{
    char name[NAME_BYTES], *home, *keys;
    enum status st = OK;

    if (strcmp(u->o.cheat_verifier, "colluding") != 0)
        return OK;
    snprintf(name, sizeof(name), "inference-%" PRId64, u->o.inference);
    home = in_dir(u, name);
    keys = file_join(home, "keys");
    if (!up_node_name(u->o.dir, name, u->accomplice)) {
        st = file_mkdirs(keys, 0700, e);
        if (!st)
            st = key_create(keys, e);
        if (!st && !up_node_name(u->o.dir, name, u->accomplice))
            st = err_set(e, ERR_IO, "the keys of '%s' cannot be read", name);
    }
    free(keys);
    free(home);
    return st;
}

static enum status add_roles(struct up *u, struct err *e)
{
    char name[NAME_BYTES];
    enum status st = add_role(u, "trainer", "trainer", 0, u->o.cheat_trainer, e);

    if (!st)
        st = meet_accomplice(u, e);

    for (int64_t i = 0; !st && i < u->o.validators; i++) {
        snprintf(name, sizeof(name), "verifier-%" PRId64, i + 1);
        st = add_role(u, "verifier", name, i,
                      i + 1 == u->o.validators && strcmp(u->o.cheat_verifier, "none") != 0
                          ? u->o.cheat_verifier
                          : NULL,
                      e);
    }
    for (int64_t i = 0; !st && i < u->o.relays; i++) {
        snprintf(name, sizeof(name), "relay-%" PRId64, i + 1);
        st = add_role(u, "relay", name, i, NULL, e);
    }
    for (int64_t i = 0; !st && i < u->o.inference; i++) {
        snprintf(name, sizeof(name), "inference-%" PRId64, i + 1);
        st = add_role(u, "inference", name, i, is_cheat(u, i) ? u->o.cheat : NULL, e);
    }
    return st;
}

/* ---- the task ---------------------------------------------------------------------------- */

static enum status fetch_status(struct up *u, struct err *e)
{
    struct buf text;
    enum status st;

    buf_init(&text, (size_t)16 << 20);
    st = client_status(u->client, STATUS_SUMMARY, 0, ASK_MS, &text, e);
    if (!st) {
        json_t *o = json_loadb((const char *)text.data, text.len, 0, NULL);

        if (!o)
            st = err_set(e, ERR_MALFORMED, "the orchestrator's status is no JSON");
        else {
            json_decref(u->status);
            u->status = o;
        }
    }
    buf_clear(&text);
    return st;
}

static enum status publish(struct up *u, struct err *e)
{
    const struct msg_task_publish m = {.bundle = buf_bytes(&u->bundle),
                                       .deposit = u->task.budget.deposit};
    struct msg_envelope env;
    struct msg_receipt r;
    struct buf body, reply;
    enum status st;

    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&reply, MSG_MAX_BYTES);
    st = msg_task_publish_encode(&body, &m, e);
    if (!st)
        st = client_ask(u->client, MSG_TASK_PUBLISH, buf_bytes(&body), ASK_MS, &reply, &env, e);
    if (!st)
        st = msg_receipt_decode(&r, env.body, e);
    if (!st && !r.is_accepted)
        st = err_set(e, ERR_DENIED, "the task was refused: %s",
                     r.text[0] ? r.text : reason_text((enum reason)r.code));
    buf_clear(&body);
    buf_clear(&reply);
    return st;
}

static enum status try_open_task(struct up *u, struct err *e)
{
    char *dir = in_dir(u, "initiator");
    enum status st = OK;

    if (!u->client)
        st = client_open(&u->client, dir, link_of(u, "initiator", 0), ASK_MS, e);
    free(dir);
    if (!st)
        st = fetch_status(u, e);
    if (!st && json_is_null(json_object_get(u->status, "task")))
        st = publish(u, e);
    return st;
}

/* Joins as the initiator and publishes, unless an earlier life of this run did. The orchestrator
 * may die meanwhile, like any process: it is started again and asked again. */
static enum status open_task(struct up *u, struct err *e)
{
    int64_t until = clock_mono_ms() + START_MS;
    enum status st;

    do {
        st = tend_first(u, e);
        if (!st)
            st = try_open_task(u, e);
    } while (st == ERR_TIMEOUT && clock_mono_ms() < until && !interrupted);
    return st;
}

static const char *state_of(const struct up *u)
{
    const char *s = json_string_value(json_object_get(u->status, "state"));

    return s ? s : "";
}

/* Asks how far the run is, and shows it. An orchestrator that does not answer is waited for: it
 * is one of the children and will be back. */
static void look(struct up *u)
{
    char text[2 * CHILD_WHY_BYTES];
    int64_t now_ms;
    struct err why;

    (void)!fetch_status(u, &why);
    now_ms = clock_mono_ms();
    if (!u->o.as_json)
        screen_update(&u->screen, u->status,
                      up_stuck_note(&u->children, now_ms, text, sizeof(text)), now_ms);
}

/* Until the task is closed. */
static enum status watch(struct up *u, struct err *e)
{
    int64_t ask_ms = 0;
    enum status st = OK;

    up_stall_init(&u->stall, clock_mono_ms());
    while (!st && !interrupted && strcmp(state_of(u), "done") != 0) {
        st = tend(u, e);
        if (!st && !strcmp(state_of(u), "stopped"))
            st = err_set(e, ERR_DENIED, "the run was stopped: %s",
                         json_view_text(u->status, "why"));
        if (!st)
            st = up_stall_check(&u->stall, &u->children, u->status, clock_mono_ms(), e);
        if (!st && clock_mono_ms() >= ask_ms) {
            ask_ms = clock_mono_ms() + STATUS_MS;
            look(u);
        }
        sleep_ms(STEP_MS);
    }
    return st;
}

/* Whether a child is to end by itself. A node that was barred is never told that the run is over.
 * The orchestrator and relays stay some seconds for the others: if those are all ours, once they
 * have ended there is nobody to stay for. */
static bool is_wanted(const struct up *u, const struct child *ch)
{
    size_t i, n_nodes = 0;
    json_t *node;
    char hex[2 * KEY_BYTES + 1];
    bool is_known = up_node_name(u->o.dir, ch->name, hex), is_barred = false;

    json_array_foreach(json_object_get(u->status, "nodes"), i, node)
    {
        n_nodes += strcmp(json_view_text(node, "role"), "initiator") != 0;
        is_barred = is_barred || (is_known && !strcmp(json_view_text(node, "node"), hex) &&
                                  json_is_true(json_object_get(node, "barred")));
    }
    if (ch == &u->children.v[0] || !strncmp(ch->name, "relay-", 6))
        return n_nodes + 1 != u->children.n;
    return !is_barred && !ch->is_refused;
}

/* The trainer's last work is to write the model, which is as large as version 0. */
static int64_t end_ms(const struct up *u)
{
    char *path = in_dir(u, "trainer/model-v0/model.safetensors");
    struct stat about;
    int64_t ms = END_MS;

    if (stat(path, &about) == 0)
        ms += about.st_size / EXPORT_BYTES;
    free(path);
    return ms;
}

/* A trainer that did not come through has exported nothing, which is what all was for. */
static enum status check_exported(const struct up *u, struct err *e)
{
    const struct child *trainer = &u->children.v[1];

    if (interrupted || trainer->is_done || !is_wanted(u, trainer))
        return OK;
    if (!trainer->vain_lives)
        return err_set(
            e, ERR_TIMEOUT,
            "the run is over, but the trainer did not write its model within %" PRId64 " s",
            end_ms(u) / 1000);
    return err_set(e, ERR_IO, "the run is over, but the trainer did not come to its model: %s",
                   trainer->why);
}

/* The last version is exported after the task is closed: wait for the trainer and the others to
 * end by themselves. */
static enum status await_end(struct up *u, struct err *e)
{
    int64_t until = clock_mono_ms() + end_ms(u);
    enum status st = OK;
    bool running = true;

    while (!st && running && clock_mono_ms() < until && !interrupted) {
        running = false;
        st = tend(u, e);
        for (size_t i = 0; i < u->children.n; i++)
            running = running || (!u->children.v[i].is_done && is_wanted(u, &u->children.v[i]));
        if (running)
            sleep_ms(STEP_MS);
    }
    return st ? st : check_exported(u, e);
}

/* ---- the command ------------------------------------------------------------------------- */

/* Two would start every process twice, and the second of each would die of the first's lock. */
static enum status take_dir(struct up *u, struct err *e)
{
    enum status st = file_mkdirs(u->o.dir, 0700, e);
    char *path = in_dir(u, "lock");

    if (!st)
        st = file_lock(&u->lock_fd, path, u->o.dir, e);
    free(path);
    return st;
}

/* Whoever goes on with DIR need not name options or the task again, wherever it was interrupted: a run is begun
 * when its task is there. */
static enum status keep_begun(const struct up *u, struct err *e)
{
    char *path = in_dir(u, UP_BEGUN);
    enum status st = up_options_keep(&u->o, e);

    if (!st && u->named)
        st = up_task_link_model(u->o.dir, u->named, &u->task, e);
    if (!st && !file_exists(path))
        st = file_write_atomic(path, buf_bytes(&u->bundle), 0666, e);
    free(path);
    return st;
}

static enum status run(struct up *u, struct err *e)
{
    enum status st = take_dir(u, e);

    if (st)
        return st;
    st = keep_begun(u, e);
    if (st)
        return st;
    u->start_ms = clock_mono_ms();
    screen_init(&u->screen, stderr, u->start_ms);
    children_init(&u->children);
    add_orchestrator(u);
    st = await_links(u, e);
    if (!st && !interrupted)
        st = add_roles(u, e);
    if (!st && !interrupted)
        st = open_task(u, e);
    if (!st && !interrupted)
        st = watch(u, e);
    if (!st)
        st = await_end(u, e);
    if (interrupted)
        st = err_set(e, ERR_TIMEOUT, "interrupted; 'muster up --dir %s' goes on from here",
                     u->o.dir);
    screen_end(&u->screen);
    screen_clear(&u->screen);
    client_close(&u->client);
    children_clear(&u->children, 5000);
    u->seconds_ms = clock_mono_ms() - u->start_ms;
    return st;
}

/* Evaluates, audits, tells: the exit status. */
static int conclude(const struct up *u)
{
    const struct up_run run = {.dir = u->o.dir,
                               .task = &u->task,
                               .bundle = buf_bytes(&u->bundle),
                               .status = u->status,
                               .inference = u->o.inference,
                               .cheats = u->o.cheats,
                               .validators = u->o.validators,
                               .cheat_verifier = u->o.cheat_verifier,
                               .seconds_ms = u->seconds_ms};
    struct up_result r;
    struct err e;
    int status = 0;

    signal(SIGINT, SIG_DFL); /* nothing is left that would have to end in order */
    signal(SIGTERM, SIG_DFL);
    if (up_result_make(&r, &run, &e)) {
        status = usage_fail(e.text);
    } else {
        if (!u->o.as_json)
            up_result_print(stderr, &r, &run);
        up_result_json(stdout, &r, &run);
        if (r.audit.result != AUDIT_CLEAN) {
            fprintf(stderr, "muster: the ledger audit fails: %s\n", r.audit.why);
            status = 1;
        }
    }
    up_result_clear(&r);
    return status;
}

/* A directory that is not there yet: muster-run, muster-run-2, ... */
static char *fresh_dir(void)
{
    char name[64] = "muster-run";

    for (int i = 2; file_exists(name); i++)
        snprintf(name, sizeof(name), "muster-run-%d", i);
    return xstrdup(name);
}

/* The task that DIR was begun with. ERR_NOT_FOUND: it was not begun. */
static enum status read_begun(struct buf *bundle, const char *dir, struct err *e)
{
    char *path = file_join(dir, UP_BEGUN);
    struct bundle b;
    enum status st = file_exists(path) ? file_read(bundle, path, e) : ERR_NOT_FOUND;

    if (!st) {
        st = bundle_decode(&b, buf_bytes(bundle), e);
        st = st ? err_prefix(e, ERR_CORRUPT, "'%s'", path) : OK;
    }
    free(path);
    return st;
}

static enum status parse_begun(struct up *u, struct err *e)
{
    struct bundle b;
    enum status st = bundle_decode(&b, buf_bytes(&u->bundle), e);

    task_clear(&u->task); /* task_parse begins with an empty one */
    if (!st)
        st = task_parse(&u->task, b.file[BUNDLE_TASK], u->o.dir, e);
    return st;
}

/* The task as it is named, which has to be the one that was begun, unless that is empty. */
static enum status load_named(struct up *u, const char *path, const struct buf *begun,
                              struct err *e)
{
    char *task = path ? xstrdup(path) : up_task_default();
    enum status st;

    if (task)
        st = up_task_load(&u->bundle, &u->task, task, u->o.seed, u->o.steps, e);
    else
        st = err_set(
            e, ERR_NOT_FOUND,
            "no task was named and tasks/reverse-text is not here: muster up TASK.yaml");
    if (!st && begun->len && !bytes_equal(buf_bytes(&u->bundle), buf_bytes(begun)))
        st = err_set(e, ERR_INVALID,
                     "'%s' was begun with another task, or other values of --seed and "
                     "--steps: go on with 'muster up --dir %s', or name another directory",
                     u->o.dir, u->o.dir);
    u->named = task;
    return st;
}

/* A run that goes on has its task already; whoever names one must mean the same. */
static enum status load_task(struct up *u, const char *path, struct err *e)
{
    bool is_named = path || u->o.seed >= 0 || u->o.steps >= 0;
    struct buf begun;
    enum status st = ERR_NOT_FOUND;

    buf_init(&begun, BUNDLE_MAX_BYTES);
    if (u->o.dir[0])
        st = read_begun(&begun, u->o.dir, e);
    if (!st && !is_named) {
        buf_append(&u->bundle, buf_bytes(&begun));
        st = parse_begun(u, e);
    } else if (!st || st == ERR_NOT_FOUND) {
        st = load_named(u, path, &begun, e);
    }
    buf_clear(&begun);
    return st;
}

/* A cheat for which there is nothing to do would look like one that nobody finds. */
static enum status check_cheat(const struct up *u, struct err *e)
{
    enum numerics n;
    enum status st = numerics_parse(&n, task_numerics(&u->task), e);

    if (!st && u->o.cheats && !cheat_applies(infer_cheat_parse(u->o.cheat), n))
        st = err_set(e, ERR_INVALID,
                     "cheat '%s' has nothing to do in class %s: its submissions hold no proofs",
                     u->o.cheat, numerics_name(n));
    return st;
}

static enum status prepare(struct up *u, const char *path, struct err *e)
{
    enum status st;

    task_init(&u->task);
    buf_init(&u->bundle, BUNDLE_MAX_BYTES);
    st = load_task(u, path, e);
    if (!st)
        st = check_cheat(u, e);
    if (!st && !u->o.dir[0]) {
        free(u->o.dir);
        u->o.dir = fresh_dir();
    }
    return st;
}

/* Runs, and tells: the exit status. */
static int run_and_tell(struct up *u, struct err *e)
{
    enum status st = run(u, e);

    if (!st)
        return conclude(u);
    usage_fail(e->text);
    if (!interrupted && u->lock_fd >= 0 && up_options_is_begun(&u->o))
        fprintf(stderr, "what was done is kept: 'muster up --dir %s' goes on from there\n",
                u->o.dir);
    return 1;
}

int cmd_up(int argc, char **argv)
{
    struct up u = {.lock_fd = -1};
    struct err e = {0};
    const char *path = NULL;
    struct sigaction act = {.sa_handler = on_signal};
    int status = up_options_parse(&u.o, &path, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    log_set_level(u.o.as_json ? LOG_E : LOG_W);
    status = prepare(&u, path, &e) ? usage_fail(e.text) : run_and_tell(&u, &e);
    file_unlock(&u.lock_fd);
    json_decref(u.links);
    json_decref(u.status);
    free(u.named);
    task_clear(&u.task);
    buf_clear(&u.bundle);
out:
    up_options_clear(&u.o);
    return status;
}
