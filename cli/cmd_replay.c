/*
 * muster replay: recompute every weight version of a run from its records
 *
 * Everything a version depends on is on record: the bundle, and for each batch which submissions
 * it was made of. This walks the course again from nothing and compares each version's weights
 * with the hash that the trainer signed and the ledger holds.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/db.h"
#include "base/file.h"
#include "base/pool.h"
#include "cli/commands.h"
#include "cli/look.h"
#include "cli/replay_states.h"
#include "cli/up_task.h"
#include "cli/usage.h"
#include "engine/device.h"
#include "engine/kernels.h"
#include "ledger/body.h"
#include "ledger/log.h"
#include "ledger/tables.h"
#include "proto/digest.h"
#include "replay/course.h"
#include "rollout/model_set.h"

struct manner { /* of running: it changes no bit */
    int64_t threads, processes;
    char *device, *model;
    bool as_json;
};

struct accepted { /* a unit's submission that was accepted last */
    bool is_set;
    struct digest envelope;
};

struct record {              /* what one batch was trained on */
    struct digest *envelope; /* owned */
    uint32_t n;
};

struct replay {
    union ledger_body *body; /* owned scratch */
    struct accepted *committed, *accepted;
    size_t n_units;
    struct record *batch; /* owned, by number */
    size_t n_batches;
    struct ledger_step *step; /* owned, by version */
    size_t n_steps;
    struct digest task, run;
    bool has_task;
    struct ledger_log *log; /* owned; while the entries are read */
    struct replay_states states;
};

static void *grow(void *array, size_t *n, size_t wanted, size_t size)
{
    uint8_t *p = array;

    if (wanted <= *n)
        return array;
    p = xrealloc(array, wanted * size);
    memset(p + *n * size, 0, (wanted - *n) * size);
    *n = wanted;
    return p;
}

static void need_unit(struct replay *r, uint64_t unit)
{
    size_t n = r->n_units;

    r->committed = grow(r->committed, &n, unit + 1, sizeof(*r->committed));
    r->accepted = grow(r->accepted, &r->n_units, unit + 1, sizeof(*r->accepted));
}

static void note_batch(struct replay *r, const struct ledger_batch *b)
{
    struct record *rec;

    r->batch = grow(r->batch, &r->n_batches, b->batch + 1, sizeof(*r->batch));
    rec = &r->batch[b->batch];
    free(rec->envelope);
    rec->n = 0;
    rec->envelope = xcalloc(b->n_rows ? b->n_rows : 1, sizeof(*rec->envelope));
    for (uint32_t i = 0; i < b->n_rows; i++) {
        uint64_t unit = b->row[i].unit;

        if (b->row[i].use == LEDGER_TRAINED && unit < r->n_units && r->accepted[unit].is_set)
            rec->envelope[rec->n++] = r->accepted[unit].envelope;
    }
}

static enum status visit(void *arg, const struct ledger_entry *en, struct bytes encoded,
                         struct err *e)
{
    struct replay *r = arg;
    union ledger_body *b = r->body;
    enum status st = OK;

    (void)encoded;
    if (en->seq == 1) /* GENESIS itself cannot name the run: its hash is the name */
        r->run = en->run;
    switch (en->type) {
    case LEDGER_TASK_OPEN:
    case LEDGER_COMMIT:
    case LEDGER_ACCEPT:
    case LEDGER_BATCH:
    case LEDGER_VERDICT:
    case LEDGER_STATES_JUDGE:
    case LEDGER_STEP: st = ledger_body_decode(b, en->type, en->body, e); break;
    default: return OK;
    }
    if (st)
        return st;
    replay_states_note(&r->states, ledger_log_books(r->log), en->type, b);
    if (en->type == LEDGER_TASK_OPEN) {
        r->task = b->task_open_.task;
        r->has_task = true;
    } else if (en->type == LEDGER_COMMIT) {
        need_unit(r, b->commit_.unit);
        r->committed[b->commit_.unit] = (struct accepted){true, b->commit_.envelope};
    } else if (en->type == LEDGER_ACCEPT) {
        need_unit(r, b->accept_.unit);
        r->accepted[b->accept_.unit] = r->committed[b->accept_.unit];
    } else if (en->type == LEDGER_BATCH) {
        note_batch(r, &b->batch_);
    } else if (en->type == LEDGER_STEP) {
        r->step = grow(r->step, &r->n_steps, (size_t)b->step_.version + 1, sizeof(*r->step));
        r->step[b->step_.version] = b->step_;
    }
    return OK;
}

static enum status get_blob(struct db_txn *t, const struct digest *d, struct bytes *out,
                            struct err *e)
{
    char hex[DIGEST_HEX_BYTES];
    enum status st = db_get(t, LEDGER_TABLE_BLOBS, BYTES_OF(d->b), out, e);

    if (st == ERR_NOT_FOUND) {
        digest_to_hex(hex, d);
        return err_set(e, ERR_CORRUPT, "blob %s is missing from the ledger", hex);
    }
    return st;
}

static enum status fill_batch(struct msg_batch *m, struct db_txn *t, const struct record *rec,
                              uint64_t number, struct err *e)
{
    m->batch = number;
    m->n = rec->n;
    for (uint32_t i = 0; i < rec->n; i++) {
        enum status st = get_blob(t, &rec->envelope[i], &m->envelope[i], e);

        if (st)
            return st;
    }
    learn_batch_root(&m->root, m);
    return OK;
}

static enum status compare(const struct course *c, const struct replay *r, bool as_json,
                           struct err *e)
{
    char want[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    const struct ledger_step *s = &r->step[c->version];

    digest_to_hex(want, &s->weights);
    digest_to_hex(found, &c->weights);
    if (!digest_equal(&s->weights, &c->weights))
        return err_set(e, ERR_DIGEST,
                       "version %" PRId64 " is on record as %s, and its records give %s",
                       c->version, want, found);
    if (as_json)
        printf("{\"version\": %" PRId64 ", \"weights\": \"%s\", \"ok\": true}\n", c->version,
               found);
    else
        printf("version %" PRId64 " %s ok\n", c->version, found);
    fflush(stdout);
    return OK;
}

static bool has_case(const struct replay *r, int64_t version)
{
    for (size_t i = 0; i < r->states.n; i++)
        if (r->states.v[i].version == version)
            return true;
    return false;
}

/* The validators that were struck for their states on units of this version. */
static enum status judge_states(const struct course *c, const struct replay *r,
                                struct db_txn *t, bool as_json, struct err *e)
{
    struct model_set_options mo = {.pool = c->options.pool, .cap = 1};
    struct model_set *models = NULL;
    struct buf file;
    enum status st;

    if (!has_case(r, c->version))
        return OK;
    buf_init(&file, course_file_bytes(c));
    st = course_file(c, &file, e);
    if (!st)
        st = setup_kernels(&mo.kernels, c->setup, c->options.kernels, e);
    if (!st) {
        model_set_new(&models, &c->setup->config, &mo);
        st = model_set_add(models, c->version, buf_bytes(&file), e);
    }
    for (size_t i = 0; i < r->states.n && !st; i++) {
        const struct states_case *x = &r->states.v[i];
        struct bytes submission;

        if (x->version != c->version)
            continue;
        const struct rollout_world w =
            setup_world(c->setup, model_set_find(models, c->version), c->version, &c->weights);
        st = get_blob(t, &x->submission, &submission, e);
        if (!st)
            st = replay_states_judge(x, &w, submission, as_json, e);
    }
    model_set_free(&models);
    buf_clear(&file);
    return st;
}

static enum status walk(struct course *c, const struct replay *r, struct db_txn *t,
                        bool as_json, struct err *e)
{
    struct msg_batch *m = xcalloc(1, sizeof(*m));
    enum status st = course_begin(c, e);

    if (!st)
        st = course_warm_up(c, NULL, NULL, e);
    if (!st)
        st = compare(c, r, as_json, e);
    if (!st)
        st = judge_states(c, r, t, as_json, e);
    while (!st && (size_t)c->version + 1 < r->n_steps) {
        if ((size_t)c->version >= r->n_batches)
            st = err_set(e, ERR_CORRUPT, "version %" PRId64 " is on record without its batch",
                         c->version + 1);
        if (!st)
            st = fill_batch(m, t, &r->batch[c->version], (uint64_t)c->version, e);
        if (!st)
            st = course_step(c, m, e);
        if (!st)
            st = compare(c, r, as_json, e);
        if (!st)
            st = judge_states(c, r, t, as_json, e);
    }
    free(m);
    return st;
}

static enum status recompute(const struct replay *r, struct db_txn *t, const struct manner *how,
                             struct err *e)
{
    struct course_options co = {
        .run = r->run, .model = how->model, .processes = (uint32_t)how->processes};
    struct device *device = NULL;
    struct pool *pool = NULL;
    struct setup *setup = NULL;
    struct course c;
    struct bytes bundle;
    enum status st;

    if (!r->has_task || !r->n_steps)
        return err_set(e, ERR_NOT_FOUND, "the ledger records no weight version");
    st = get_blob(t, &r->task, &bundle, e);
    if (!st)
        st = setup_open(&setup, bundle, NULL, e);
    if (!st)
        st = device_choose(&device, &co.kernels, how->device, NUMERICS_F32_1, NULL, e);
    if (st) {
        setup_close(&setup);
        return st;
    }
    pool_new(&pool, (size_t)how->threads);
    co.pool = pool;
    course_init(&c, setup, &co);
    st = walk(&c, r, t, how->as_json, e);
    course_clear(&c);
    pool_free(&pool);
    device_close(&device);
    setup_close(&setup);
    return st;
}

static void replay_clear(struct replay *r)
{
    for (size_t i = 0; i < r->n_batches; i++)
        free(r->batch[i].envelope);
    free(r->batch);
    free(r->step);
    free(r->committed);
    free(r->accepted);
    replay_states_clear(&r->states);
    free(r->body);
}

static enum status replay_dir(const char *dir, const struct manner *how, struct err *e)
{
    const struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                                   .version = LEDGER_DB_VERSION,
                                   .tables = ledger_tables,
                                   .read_only = true};
    struct replay r = {.body = xcalloc(1, sizeof(union ledger_body))};
    char *path = look_find_ledger(dir);
    struct db *db = NULL;
    struct db_txn *t = NULL;
    enum status st;

    if (!path) {
        replay_clear(&r);
        return err_set(e, ERR_NOT_FOUND, "'%s' holds no ledger", dir);
    }
    st = db_open(&db, path, &opt, e);
    if (!st)
        st = db_begin(&t, db, false, e);
    if (!st) {
        ledger_log_new(&r.log);
        st = ledger_log_load(r.log, t, visit, &r, e);
        ledger_log_free(&r.log);
    }
    if (!st)
        st = recompute(&r, t, how, e);
    db_abort(&t);
    db_close(&db);
    replay_clear(&r);
    free(path);
    return st;
}

/* What `muster up` began with, if DIR is its directory. */
static void find_model(char **model, const char *dir)
{
    char *path = file_join(dir, UP_MODEL);

    if (file_exists(path)) {
        free(*model);
        *model = path;
    } else {
        free(path);
    }
}

int cmd_replay(int argc, char **argv)
{
    const char *dir = NULL;
    struct manner how = {0};
    struct opt table[] = {
        {"threads", OPT_INT, &how.threads, "1", "1..256", "threads of the kernels", false},
        {"device", OPT_STRING, &how.device, "cpu", NULL, USAGE_DEVICE, false},
        {"processes", OPT_INT, &how.processes, "1", "1..8",
         "processes, each of --threads, that share the task's grad_lanes", false},
        {"model", OPT_STRING, &how.model, "", NULL,
         "directory of the model that the task begins with; empty: what 'muster up' began "
         "with, "
         "or as model.init says",
         false},
        {"json", OPT_FLAG, &how.as_json, "false", NULL, "one JSON object a line", false},
    };
    struct usage u = {
        .line = "muster replay DIR [options]",
        .about =
            "Recomputes every weight version of a run from its ledger and compares the\n"
            "hashes, and the states of validators that were struck for theirs. DIR is that\n"
            "of 'muster up', of an orchestrator, or of a ledger. Status 0: all is confirmed;\n"
            "1: something is not, or the records are incomplete.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = &dir,
        .max_operands = 1,
    };
    struct err e = {0};
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && !dir)
        status = usage_complain(u.line, "no directory was named");
    if (status == USAGE_RUN && !how.model[0])
        find_model(&how.model, dir);
    if (status == USAGE_RUN)
        status = replay_dir(dir, &how, &e) ? usage_fail(e.text) : 0;
    opt_clear(table, u.n);
    return status;
}
