#include "orchestrator/orch_run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/file.h"
#include "ledger/tables.h"
#include "node/key.h"
#include "node/shell.h"
#include "orchestrator/orch_judge.h"
#include "orchestrator/orch_state.h"
#include "proto/digest.h"

#define LOG_MODULE "orchestrator"
#include "base/log.h"

#define META_SALT       "beacon-salt"
#define META_CONTROL    "bound/control" /* where it listens */
#define META_ENROL      "bound/enrol"
#define ADMITTED_MAX    (MSG_MAX_ROSTER + 2u)
#define READY_MAX_BYTES 65536u
#define DONE_LINGER_MS  5000 /* for the nodes to hear that the run is over */

struct run {
    const struct orch_config *c;
    int lock_fd;
    struct node_key *key;     /* owned */
    struct db *db;            /* owned */
    struct orch *orch;        /* owned */
    struct shell *shell;      /* owned */
    struct orch_judge *judge; /* owned */
    struct shell_part *part;
    uint32_t control_link, enrol_link;
    char control[256], enrol[256]; /* as bound */
    uint64_t admission_seq;        /* of the keys the shell admits */
    int64_t done_ms;               /* when the run was first seen done; 0: not yet */
};

/* ---- reading back ---------------------------------------------------------------------- */

static enum status get_value(struct db *db, unsigned table, struct bytes key, struct buf *out,
                             struct err *e)
{
    struct db_txn *txn = NULL;
    struct bytes value;
    enum status st = db_begin(&txn, db, false, e);

    if (st)
        return st;
    st = db_get(txn, table, key, &value, e);
    if (!st) {
        buf_append(out, value);
        st = buf_status(out, e);
    }
    db_abort(&txn);
    return st;
}

static enum status get_blob(void *ctx, const struct digest *digest, struct buf *out,
                            struct err *e)
{
    struct run *r = ctx;
    enum status st = get_value(r->db, LEDGER_TABLE_BLOBS, BYTES_OF(digest->b), out, e);

    return st == ERR_NOT_FOUND ? err_set(e, st, "the blob is not there") : st;
}

static enum status get_entry(void *ctx, uint64_t seq, struct buf *out, struct err *e)
{
    struct run *r = ctx;
    struct db_key8 key = db_key_u64(seq);

    return get_value(r->db, LEDGER_TABLE_ENTRIES, BYTES_OF(key.b), out, e);
}

/* ---- the shell's part ------------------------------------------------------------------ */

static void log_notes(struct run *r)
{
    struct buf notes;
    struct bytes left;

    buf_init(&notes, 1u << 20);
    orch_take_notes(r->orch, &notes);
    left = buf_bytes(&notes);
    while (left.len) { /* "W text\n" */
        const uint8_t *end = memchr(left.data, '\n', left.len);
        size_t n = end ? (size_t)(end - left.data) : left.len;
        char c = (char)left.data[0];
        if (n > 2)
            log_line(c == 'E'   ? LOG_E
                     : c == 'W' ? LOG_W
                                : LOG_I,
                     LOG_MODULE, "%.*s", (int)(n - 2), (const char *)left.data + 2);
        n += end != NULL;
        left = bytes_slice(left, n, left.len - n);
    }
    buf_clear(&notes);
}

static void admit_roster(struct run *r)
{
    struct public_key admitted[ADMITTED_MAX];

    if (r->admission_seq == orch_admission_seq(r->orch))
        return;
    r->admission_seq = orch_admission_seq(r->orch);
    shell_admit(r->shell, admitted, orch_admitted(r->orch, admitted, ADMITTED_MAX));
}

static void after_move(struct run *r, int64_t now_ms)
{
    log_notes(r);
    admit_roster(r);
    if (!r->c->exit_when_done || !orch_is_done(r->orch))
        return;
    if (!r->done_ms)
        r->done_ms = now_ms;
    else if (now_ms - r->done_ms >= DONE_LINGER_MS)
        shell_stop(r->shell);
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct run *r = ctx;
    struct orch_input in = {.peer = m->peer,
                            .transport = &m->transport,
                            .is_enrolment = m->link == r->enrol_link,
                            .data = m->data};

    orch_message(r->orch, &in, now_ms, out);
    after_move(r, now_ms);
}

static void judged(struct run *r, enum status st, const struct ledger_judgement *j,
                   const struct err *e, int64_t now_ms, struct effects *out)
{
    if (st)
        LOG_ERROR("judge failed why=\"%s\"", e ? e->text : status_text(st));
    orch_judged(r->orch, st, j, now_ms, out);
}

static void on_job(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out)
{
    struct run *r = ctx;

    (void)result;
    if (job != ORCH_JOB_JUDGE)
        orch_job(r->orch, job, number, now_ms, out);
    else if (st) /* it could not even begin */
        judged(r, st, NULL, e, now_ms, out);
    after_move(r, now_ms);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct run *r = ctx;
    struct ledger_judgement j;
    enum status st;
    struct err e;

    if (orch_judge_take(r->judge, &st, &j, &e))
        judged(r, st, &j, &e, now_ms, out);
    orch_tick(r->orch, now_ms, out);
    after_move(r, now_ms);
}

static void wake(void *ctx)
{
    struct run *r = ctx;

    shell_wake(r->part);
}

/* DRAW computes nothing: that the job came back says that its round was committed. JUDGE only begins here, or
 * draws would wait for it. */
static enum status run_job(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e)
{
    struct run *r = ctx;

    (void)number;
    (void)result;
    return job == ORCH_JOB_JUDGE ? orch_judge_start(r->judge, args, e) : OK;
}

/* ---- start: directory, keys, ledger ---------------------------------------------------- */

static enum status take_lock(struct run *r, struct err *e)
{
    char *path = file_join(r->c->dir, "lock");
    enum status st = file_lock(&r->lock_fd, path, r->c->dir, e);

    free(path);
    return st;
}

static enum status load_keys(struct run *r, struct err *e)
{
    bool is_told = r->c->keys && r->c->keys[0];
    char *dir = is_told ? xstrdup(r->c->keys) : file_join(r->c->dir, "keys");
    char *node = file_join(dir, "node.key");
    enum status st = OK;

    if (!file_exists(node))
        st = key_create(dir, e);
    if (!st)
        st = key_load(&r->key, dir, e);
    free(node);
    free(dir);
    return st;
}

static enum status open_ledger(struct run *r, struct err *e)
{
    struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                             .version = LEDGER_DB_VERSION,
                             .tables = ledger_tables,
                             .map_bytes = r->c->map_bytes};
    char *dir = file_join(r->c->dir, "ledger");
    enum status st = file_mkdirs(dir, 0700, e);

    if (!st)
        st = db_open(&r->db, dir, &opt, e);
    free(dir);
    return st;
}

/* The PUTs and DELs of `out` in one transaction; other effects are left for nobody. */
static enum status write_now(struct run *r, const struct effects *out, struct err *e)
{
    struct db_txn *txn = NULL;
    enum status st = db_begin(&txn, r->db, true, e);

    for (size_t i = 0; i < out->n && !st; i++)
        if (out->v[i].kind == EFFECT_PUT)
            st = db_put(txn, out->v[i].table, out->v[i].key, out->v[i].value, e);
    if (!st)
        st = db_commit(&txn, e);
    db_abort(&txn);
    return st;
}

/* A salt of this run's own: one key may serve several runs, and no two share a beacon. */
static enum status beacon_seed(struct run *r, struct digest *seed, struct err *e)
{
    struct bytes secret = {r->key->node_secret->b, 32};
    struct digest_state d;
    struct effects out;
    struct buf salt;
    enum status st;

    buf_init(&salt, 64);
    st = get_value(r->db, LEDGER_TABLE_META, BYTES_LIT(META_SALT), &salt, NULL);
    if (st == ERR_NOT_FOUND) {
        uint8_t *fresh = buf_extend(&salt, 32);
        randombytes_buf(fresh, 32);
        effects_init(&out);
        effects_put(&out, LEDGER_TABLE_META, BYTES_LIT(META_SALT), buf_bytes(&salt));
        st = write_now(r, &out, e);
        effects_clear(&out);
    } else if (st) {
        st = err_set(e, st, "cannot read the beacon's salt");
    }
    digest_begin_keyed(&d, secret);
    digest_add(&d, BYTES_LIT("muster/beacon"));
    digest_add(&d, buf_bytes(&salt));
    digest_end(&d, seed);
    buf_clear(&salt);
    return st;
}

static enum status visit_entry(void *arg, const struct ledger_entry *en, struct bytes encoded,
                               struct err *e)
{
    struct run *r = arg;

    (void)encoded;
    return orch_apply(r->orch, en, NULL, e);
}

static enum status visit_meta(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct run *r = arg;

    (void)e;
    orch_set_meta(r->orch, key, value);
    return OK;
}

static enum status load_orch(struct run *r, struct err *e)
{
    struct orch_options opt = {.key = r->key,
                               .first_bytes = r->c->first_bytes,
                               .store = {r, get_blob, get_entry},
                               .beacon_length = r->c->beacon_length,
                               .mature_window = r->c->mature_window};
    struct db_txn *txn = NULL;
    enum status st = beacon_seed(r, &opt.beacon_seed, e);

    if (st)
        return st;
    orch_new(&r->orch, &opt);
    st = db_begin(&txn, r->db, false, e);
    if (st)
        return st;
    st = ledger_log_load(orch_log(r->orch), txn, visit_entry, r, e);
    if (!st)
        st = db_each(txn, LEDGER_TABLE_META, (struct bytes){NULL, 0}, visit_meta, r, e);
    db_abort(&txn);
    return st;
}

/* ---- start: sockets -------------------------------------------------------------------- */

/* Where an earlier life listened, which links and memberships name, or "". */
static void earlier_place(const struct run *r, const char *key, char out[256])
{
    struct buf text;

    buf_init(&text, 255);
    if (!get_value(r->db, LEDGER_TABLE_META, bytes_str(key), &text, NULL) &&
        !memchr(text.data, 0, text.len))
        snprintf(out, 256, "%s", buf_cstr(&text));
    else
        out[0] = 0;
    buf_clear(&text);
}

static enum status bind_one(struct run *r, const char *key, const char *wanted, bool is_enrol,
                            uint32_t *link, char bound[256], struct err *e)
{
    size_t n = strlen(wanted);
    char earlier[256];
    size_t max = is_enrol ? MSG_JOIN_MAX : MSG_MAX_BYTES;
    enum status st;

    earlier_place(r, key, earlier);
    if (n < 2 || strcmp(wanted + n - 2, ":*") != 0 || strncmp(earlier, wanted, n - 1) != 0)
        earlier[0] = 0;
    st = shell_bind(r->shell, r->part, earlier[0] ? earlier : wanted, is_enrol, max, link,
                    bound, e);
    if (st && earlier[0])
        return err_prefix(e, st,
                          "cannot listen where it did before (a fixed port in --%s "
                          "would change that)",
                          is_enrol ? "enrol" : "listen");
    return st;
}

static enum status open_sockets(struct run *r, struct err *e)
{
    static const struct shell_part_ops handlers = {
        .on_message = on_message, .on_job = on_job, .on_timer = on_timer, .run_job = run_job};
    struct shell_part_ops ops = handlers;
    enum status st = shell_new(&r->shell, r->key, e);

    if (st)
        return st;
    ops.ctx = r;
    r->part = shell_add_part(r->shell, &ops, r->db, 0);
    orch_judge_new(&r->judge, r->c->judge, wake, r);
    st = bind_one(r, META_CONTROL, r->c->listen, false, &r->control_link, r->control, e);
    if (!st)
        st = bind_one(r, META_ENROL, r->c->enrol, true, &r->enrol_link, r->enrol, e);
    return st;
}

/* "tcp://0.0.0.0:4000" as others shall see it: with the advertised host. */
static void seen_from_outside(const struct run *r, char out[MSG_TEXT_BYTES], const char *bound)
{
    const char *port = strrchr(bound, ':');

    if (r->c->advertise && r->c->advertise[0] && port)
        snprintf(out, MSG_TEXT_BYTES, "tcp://%s%s", r->c->advertise, port);
    else
        snprintf(out, MSG_TEXT_BYTES, "%s", bound);
}

/* ---- start: what others read ----------------------------------------------------------- */

static enum status write_json(struct run *r, const char *name, json_t *o, unsigned mode,
                              bool is_printed, struct err *e)
{
    char *path = file_join(r->c->dir, name), *text = json_dumps(o, JSON_COMPACT);
    enum status st = ERR_NO_MEMORY;

    if (text) {
        st = file_write_atomic(path, bytes_str(text), mode, e);
        if (!st && is_printed) {
            printf("%s\n", text);
            fflush(stdout);
        }
    }
    free(text);
    free(path);
    json_decref(o);
    return st;
}

static enum status write_invites(struct run *r, struct err *e)
{
    json_t *o = json_object(), *list = json_array();
    char link[INVITE_LINK_BYTES];
    enum status st = OK;

    for (size_t i = 0; i < orch_n_invites(r->orch) && !st; i++) {
        enum role role;
        st = orch_invite_at(r->orch, i, &role, link, e);
        if (!st)
            json_array_append_new(
                list, json_pack("{s:s, s:s}", "role", role_name(role), "link", link));
    }
    json_object_set_new(o, "invites", list);
    if (!st)
        return write_json(r, "invites.json", o, 0600, false, e);
    json_decref(o);
    return st;
}

static enum status write_ready(struct run *r, struct err *e)
{
    char run[DIGEST_HEX_BYTES], key[DIGEST_HEX_BYTES];

    digest_to_hex(run, orch_run_id(r->orch));
    hex_encode(key, BYTES_OF(r->key->transport.b));
    return write_json(r, "ready.json",
                      json_pack("{s:b, s:s, s:s, s:s, s:s}", "ready", 1, "control", r->control,
                                "enrol", r->enrol, "run", run, "key", key),
                      0644, true, e);
}

/* "inference:4,verifier:2" */
static enum status make_invites(struct run *r, struct effects *out, struct err *e)
{
    char *text = xstrdup(r->c->invites ? r->c->invites : ""), *rest = text, *word;
    char link[INVITE_LINK_BYTES];
    enum status st = OK;

    while (!st && (word = strsep(&rest, ","))) {
        char *count = strchr(word, ':'), *end;
        long n = 1;
        if (!*word)
            continue;
        if (count) {
            *count++ = 0;
            n = strtol(count, &end, 10);
            if (*end || end == count || n < 1 || n > (long)MSG_MAX_ROSTER)
                st = err_set(e, ERR_INVALID, "'%s' is no number of invites (1..%u)", count,
                             MSG_MAX_ROSTER);
        }
        if (!st && role_parse(word) <= ROLE_ORCHESTRATOR)
            st = err_set(e, ERR_INVALID, "nobody is invited as '%s'", word);
        for (long i = 0; i < n && !st; i++)
            st = orch_invite(r->orch, role_parse(word), clock_mono_ms(), out, link, e);
    }
    free(text);
    return st;
}

static const char *ready_run(const json_t *ready)
{
    const char *run = json_string_value(json_object_get(ready, "run"));

    return run ? run : "of a name that is lost";
}

/* A second history under the same key would be held against the orchestrator. */
static enum status check_not_lost(const struct run *r, struct err *e)
{
    char *path = file_join(r->c->dir, "ready.json");
    json_t *ready = NULL;
    struct buf text;
    enum status st;

    buf_init(&text, READY_MAX_BYTES);
    st = file_read(&text, path, e);
    if (!st) {
        ready = json_loadb((const char *)text.data, text.len, 0, NULL);
        st = err_set(e, ERR_CORRUPT,
                     "the ledger in '%s' is empty, but run %s was served from here: put its "
                     "ledger back, or begin another run in another directory",
                     r->c->dir, ready_run(ready));
    }
    json_decref(ready);
    buf_clear(&text);
    free(path);
    return st == ERR_NOT_FOUND ? OK : st;
}

/* Begins a new run, or goes on with the old one; durable before anybody hears of it. */
static enum status begin(struct run *r, struct err *e)
{
    bool is_new = ledger_log_length(orch_log(r->orch)) == 0;
    char control[MSG_TEXT_BYTES], enrol[MSG_TEXT_BYTES];
    struct effects out;
    enum status st;

    seen_from_outside(r, control, r->control);
    seen_from_outside(r, enrol, r->enrol);
    orch_set_endpoints(r->orch, control, enrol);
    effects_init(&out);
    st = orch_begin(r->orch, clock_mono_ms(), clock_wall_us(), &out, e);
    if (!st && is_new)
        st = make_invites(r, &out, e);
    effects_put(&out, LEDGER_TABLE_META, BYTES_LIT(META_CONTROL), bytes_str(r->control));
    effects_put(&out, LEDGER_TABLE_META, BYTES_LIT(META_ENROL), bytes_str(r->enrol));
    if (!st)
        st = write_now(r, &out, e);
    effects_clear(&out);
    if (!st)
        st = write_invites(r, e);
    if (!st)
        st = write_ready(r, e);
    return st;
}

static void close_run(struct run *r)
{
    if (r->judge)
        orch_judge_stop(r->judge); /* it wakes the shell */
    shell_free(&r->shell);         /* whose jobs begin it */
    orch_judge_free(&r->judge);
    orch_free(&r->orch);
    db_close(&r->db);
    key_free(&r->key);
    file_unlock(&r->lock_fd);
}

enum status orch_run(const struct orch_config *c, struct err *e)
{
    struct run r = {.c = c, .lock_fd = -1};
    char hex[DIGEST_HEX_BYTES];
    enum status st = file_mkdirs(c->dir, 0700, e);

    if (!st)
        st = take_lock(&r, e);
    if (!st)
        st = load_keys(&r, e);
    if (!st)
        st = open_ledger(&r, e);
    if (!st)
        st = load_orch(&r, e);
    if (!st && ledger_log_length(orch_log(r.orch)) == 0)
        st = check_not_lost(&r, e);
    if (!st)
        st = open_sockets(&r, e);
    if (!st)
        st = begin(&r, e);
    if (st)
        goto out;
    digest_to_hex(hex, orch_run_id(r.orch));
    LOG_INFO("start run=%s entries=%" PRIu64 " control=%s enrol=%s", hex,
             ledger_log_length(orch_log(r.orch)), r.control, r.enrol);
    log_notes(&r);
    admit_roster(&r);
    st = shell_run(r.shell, e);
    LOG_INFO("stop entries=%" PRIu64, ledger_log_length(orch_log(r.orch)));
out:
    close_run(&r);
    return st;
}
