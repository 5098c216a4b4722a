#include "cli/look.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/file.h"
#include "cli/client.h"
#include "cli/json_view.h"
#include "ledger/body.h"
#include "ledger/log.h"
#include "ledger/tables.h"
#include "node/key.h"
#include "orchestrator/orch_state.h"

struct look {
    struct client *client; /* owned; NULL: the ledger is read */
    struct db *db;         /* owned */
    struct orch *orch;     /* owned */
    struct node_key key;   /* the orchestrator's public halves; nothing is signed */
};

/* ---- reading the ledger ------------------------------------------------------------------ */

static enum status get(struct db *db, unsigned table, struct bytes key, struct buf *out,
                       struct err *e)
{
    struct db_txn *t = NULL;
    struct bytes value;
    enum status st = db_begin(&t, db, false, e);

    if (st)
        return st;
    st = db_get(t, table, key, &value, e);
    if (!st) {
        buf_append(out, value);
        st = buf_status(out, e);
    }
    db_abort(&t);
    return st == ERR_NOT_FOUND ? err_set(e, st, "it is not in the ledger") : st;
}

static enum status get_blob(void *ctx, const struct digest *digest, struct buf *out,
                            struct err *e)
{
    return get(((struct look *)ctx)->db, LEDGER_TABLE_BLOBS, BYTES_OF(digest->b), out, e);
}

static enum status get_entry(void *ctx, uint64_t seq, struct buf *out, struct err *e)
{
    struct db_key8 key = db_key_u64(seq);

    return get(((struct look *)ctx)->db, LEDGER_TABLE_ENTRIES, BYTES_OF(key.b), out, e);
}

/* Who keeps this ledger says its first entry. */
static enum status read_key(struct look *l, struct db_txn *t, struct err *e)
{
    union ledger_body *b = xcalloc(1, sizeof(*b));
    struct ledger_entry en;
    struct bytes encoded;
    enum status st = ledger_read(&encoded, t, 0, e);

    if (st == ERR_NOT_FOUND)
        st = err_set(e, st, "the ledger has no entry yet");
    if (!st)
        st = ledger_entry_decode(&en, encoded, e);
    if (!st)
        st = ledger_body_decode(b, en.type, en.body, e);
    if (!st && en.type != LEDGER_GENESIS)
        st = err_set(e, ERR_CORRUPT, "the ledger does not begin with GENESIS");
    if (!st) {
        l->key.node = b->genesis_.node;
        l->key.transport = b->genesis_.transport;
        l->key.owner = b->genesis_.owner;
    }
    free(b);
    return st;
}

static enum status visit(void *arg, const struct ledger_entry *en, struct bytes encoded,
                         struct err *e)
{
    (void)encoded;
    return orch_apply(((struct look *)arg)->orch, en, NULL, e);
}

static enum status open_ledger(struct look *l, const char *dir, struct err *e)
{
    const struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                                   .version = LEDGER_DB_VERSION,
                                   .tables = ledger_tables,
                                   .read_only = true};
    const struct orch_options oo = {.key = &l->key, .store = {l, get_blob, get_entry}};
    struct db_txn *t = NULL;
    enum status st = db_open(&l->db, dir, &opt, e);

    if (!st)
        st = db_begin(&t, l->db, false, e);
    if (!st)
        st = read_key(l, t, e);
    if (!st) {
        orch_new(&l->orch, &oo);
        st = ledger_log_load(orch_log(l->orch), t, visit, l, e);
    }
    db_abort(&t);
    return st;
}

char *look_find_ledger(const char *dir)
{
    static const char *const below[] = {".", "ledger", "orchestrator/ledger"};

    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
        char *path = i ? file_join(dir, below[i]) : xstrdup(dir);
        char *file = file_join(path, "data.mdb");
        bool found = file_exists(file);

        free(file);
        if (found)
            return path;
        free(path);
    }
    return NULL;
}

/* ---- which way --------------------------------------------------------------------------- */

/* Whether an orchestrator holds the lock of its directory. A lock that this user may not even
 * open is taken for free: reading harms nobody. */
static bool is_served(const char *dir)
{
    char *path = file_join(dir, "lock");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0;

    if (fd >= 0)
        close(fd);
    free(path);
    return held;
}

/* The orchestrator's directory that `dir` is or has; NULL if there is none. */
static char *orchestrator_of(const char *dir)
{
    static const char *const below[] = {".", "orchestrator"};

    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
        char *home = i ? file_join(dir, below[i]) : xstrdup(dir),
             *data = file_join(home, "ledger/data.mdb");
        bool is_it = file_exists(data);

        free(data);
        if (is_it)
            return home;
        free(home);
    }
    return NULL;
}

enum status look_open(struct look **out, const char *dir, int64_t wait_ms, struct err *e)
{
    struct look *l = xcalloc(1, sizeof(*l));
    char *home = orchestrator_of(dir);
    enum status st;

    if (home && !is_served(home)) {
        char *ledger = file_join(home, "ledger");

        st = open_ledger(l, ledger, e);
        free(ledger);
    } else {
        st = client_open(&l->client, home ? home : dir, NULL, wait_ms, e);
    }
    free(home);
    if (st)
        look_close(&l);
    *out = l;
    return st;
}

void look_close(struct look **p)
{
    if (!*p)
        return;
    client_close(&(*p)->client);
    orch_free(&(*p)->orch);
    db_close(&(*p)->db);
    free(*p);
    *p = NULL;
}

bool look_is_live(const struct look *l)
{
    return l->client;
}

/* What the ledger does not say: that nobody waits for anybody. */
static void set_why(json_t *o)
{
    if (json_object_get(o, "why") && json_object_get(o, "entries") &&
        strcmp(json_view_text(o, "state"), "done") != 0)
        json_object_set_new(
            o, "why",
            json_string("the orchestrator does not run; this is what its ledger "
                        "says"));
}

enum status look_fetch(json_t **out, struct look *l, enum status_view what, uint64_t number,
                       int64_t wait_ms, struct err *e)
{
    struct buf text;
    enum status st;

    if (l->client)
        return json_view_fetch(out, l->client, what, number, wait_ms, e);
    buf_init(&text, (size_t)64 << 20);
    orch_status(l->orch, what, number, clock_mono_ms(), &text);
    st = buf_status(&text, e);
    *out = st ? NULL : json_loadb((const char *)text.data, text.len, 0, NULL);
    if (!st && !*out)
        st = err_set(e, ERR_MALFORMED, "the answer is no JSON");
    if (!st)
        set_why(*out);
    buf_clear(&text);
    return st;
}
