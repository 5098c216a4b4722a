#include "ledger/audit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/db.h"
#include "ledger/log.h"
#include "ledger/tables.h"
#include "proto/canary.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "proto/sign.h"
#include "proto/submission.h"
#include "proto/transcript.h"
#include "proto/witness.h"

#define AUDIT_MAP_BYTES                                                                        \
    (64ull << 30) /* room for what a live writer adds; a larger file raises it */

struct audit {
    struct audit_report *report;
    struct db *db;
    struct db_txn *txn;
    struct ledger_log *log;
    const struct audit_options *options;
    union ledger_body *body;   /* owned: of the entry under audit */
    struct msg_submit *submit; /* owned; large */
    uint64_t n_idem;           /* entries that answered a request */
    uint64_t n_rows;           /* of the table being walked */
};

/* ---- what entries refer to ------------------------------------------------------------------- */

static enum status find_blob(struct bytes *out, struct audit *a, const struct digest *name,
                             const char *what, struct err *e)
{
    struct digest is;
    enum status st = db_get(a->txn, LEDGER_TABLE_BLOBS, BYTES_OF(*name), out, e);

    if (st == ERR_NOT_FOUND)
        return err_set(e, ERR_CORRUPT, "I10: %s is not in table blobs", what);
    if (st)
        return st;
    digest_of(&is, *out);
    if (!digest_equal(&is, name))
        return err_set(e, ERR_CORRUPT, "I10: %s has another digest than its name", what);
    return OK;
}

/* The envelope `name` is there, of this kind, and signed by `signer` for this request. */
static enum status find_envelope(struct msg_envelope *m, struct audit *a,
                                 const struct ledger_entry *en, const struct digest *name,
                                 enum msg_kind kind, const struct public_key *signer,
                                 struct err *e)
{
    const char *what = msg_kind_name(kind);
    struct bytes blob;
    enum status st = find_blob(&blob, a, name, what, e);

    if (!st)
        st = msg_envelope_decode(m, blob, e);
    if (st)
        return st;
    if (m->kind != kind || !digest_equal(&m->run, &en->run))
        return err_set(e, ERR_CORRUPT, "I10: the envelope is no %s of this run", what);
    if (!key_equal(&m->signer, signer))
        return err_set(e, ERR_CORRUPT, "I10: %s is from another key than the entry names",
                       what);
    if (!idem_is_zero(&en->idem) && !idem_equal(&m->idem, &en->idem))
        return err_set(e, ERR_CORRUPT, "I5: %s is of another request than the entry", what);
    st = msg_envelope_verify(m, e);
    if (st)
        return err_prefix(e, st, "I10: %s", what);
    a->report->n_signatures++;
    return OK;
}

static bool is_same_sample(const struct ledger_sample *a, const struct ledger_sample *b)
{
    return a->print == b->print && a->tokens == b->tokens && a->surprise == b->surprise &&
           a->has_ended == b->has_ended && a->reward == b->reward;
}

static enum status audit_commit(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_commit *x = &a->body->commit_;
    const struct ledger_books *books = ledger_log_books(a->log);
    const struct ledger_unit *u = ledger_books_unit(books, x->unit);
    struct msg_submit *m = a->submit;
    struct ledger_commit says;
    struct msg_envelope env;
    struct digest root;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_SUBMIT, &u->worker, e);

    if (!st)
        st = msg_submit_decode(m, env.body, e);
    if (st)
        return st;
    st = submission_check_bounds(m, NULL, e);
    if (st)
        return err_prefix(e, ERR_CORRUPT, "I10: SUBMIT");
    submission_root(&root, m);
    if (m->unit != x->unit || m->lease != x->lease || m->version != x->version ||
        !digest_equal(&m->task, &ledger_books_task(books)->open.task))
        return err_set(e, ERR_CORRUPT,
                       "I10: SUBMIT is of another unit, lease, version or task");
    if (!digest_equal(&m->root, &x->root) || !digest_equal(&root, &x->root))
        return err_set(e, ERR_CORRUPT, "I10: SUBMIT has another root than the entry");
    ledger_commit_of(&says, m);
    if (says.tokens != x->tokens)
        return err_set(e, ERR_CORRUPT,
                       "I6: SUBMIT has %" PRIu64 " sampled tokens, not %" PRIu64, says.tokens,
                       x->tokens);
    if (says.is_flat != x->is_flat)
        return err_set(e, ERR_CORRUPT, "I10: the rewards in SUBMIT are%s all equal",
                       x->is_flat ? " not" : "");
    if (says.n_samples != x->n_samples)
        return err_set(e, ERR_CORRUPT, "I10: SUBMIT has %u samples, not %u", says.n_samples,
                       x->n_samples);
    for (uint32_t i = 0; i < x->n_samples; i++)
        if (!is_same_sample(&says.sample[i], &x->sample[i]))
            return err_set(e, ERR_CORRUPT, "I10: SUBMIT has another sample %u", i);
    return OK;
}

/* The envelope is one of many light checks: does it speak of this one, and of submissions on record? */
static enum status audit_verdicts(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_verdict *x = &a->body->verdict_;
    struct msg_envelope env;
    struct msg_verdicts m;
    struct digest_state d;
    struct digest all;
    bool is_named = false;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_VERDICTS, &x->validator, e);

    if (!st)
        st = msg_verdicts_decode(&m, env.body, e);
    if (st)
        return st;
    digest_begin(&d, "muster/1/submissions");
    for (uint32_t i = 0; i < m.n; i++) {
        const struct ledger_unit *u =
            ledger_books_unit(ledger_log_books(a->log), m.item[i].unit);
        if (!u || u->lease != m.item[i].lease || !u->commit)
            return err_set(e, ERR_CORRUPT, "I10: VERDICTS is about no live attempt");
        digest_add(&d, BYTES_OF(u->envelope.b));
        is_named |= m.item[i].unit == x->unit && m.item[i].lease == x->lease;
    }
    digest_end(&d, &all);
    if (!is_named || x->depth != CHECK_LIGHT || !x->is_accepted)
        return err_set(e, ERR_CORRUPT, "I10: VERDICTS says something else than the entry");
    if (!digest_equal(&all, &m.submissions))
        return err_set(e, ERR_CORRUPT, "I10: VERDICTS is about other submissions");
    return OK;
}

/* Is the blob a VERDICTS? Whatever else it is, others find out. */
static bool is_of_many(struct audit *a, const struct digest *name)
{
    struct msg_envelope env;
    struct bytes blob;

    return !find_blob(&blob, a, name, "", NULL) && !msg_envelope_decode(&env, blob, NULL) &&
           env.kind == MSG_VERDICTS;
}

static enum status audit_verdict(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_verdict *x = &a->body->verdict_;
    const struct ledger_unit *u = ledger_books_unit(ledger_log_books(a->log), x->unit);
    struct msg_envelope env;
    struct msg_verdict m;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_VERDICT, &x->validator, e);

    if (!st)
        st = msg_verdict_decode(&m, env.body, e);
    if (st)
        return st;
    if (m.unit != x->unit || m.lease != x->lease || m.depth != x->depth ||
        m.is_accepted != x->is_accepted || m.code != x->code)
        return err_set(e, ERR_CORRUPT, "I10: VERDICT says something else than the entry");
    if (!digest_equal(&m.submission, &u->envelope))
        return err_set(e, ERR_CORRUPT, "I10: VERDICT is about another submission");
    if (!digest_equal(&m.states, &x->states) ||
        !bytes_equal(m.opened, (struct bytes){(const uint8_t *)x->opened,
                                              x->n_opened * sizeof(x->opened[0])}))
        return err_set(e, ERR_CORRUPT, "I10: VERDICT has other states than the entry");
    return OK;
}

static enum status audit_seal(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_verdict_seal *x = &a->body->verdict_seal_;
    struct msg_envelope env;
    struct msg_verdict_seal m;
    enum status st =
        find_envelope(&env, a, en, &x->envelope, MSG_VERDICT_SEAL, &x->validator, e);

    if (!st)
        st = msg_verdict_seal_decode(&m, env.body, e);
    if (st)
        return st;
    if (m.unit != x->unit || m.lease != x->lease || !digest_equal(&m.verdict, &x->verdict))
        return err_set(e, ERR_CORRUPT, "I10: VERDICT_SEAL says something else than the entry");
    return OK;
}

static enum status audit_opening(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_opening *x = &a->body->opening_;
    const struct ledger_unit *u = ledger_books_unit(ledger_log_books(a->log), x->unit);
    struct msg_envelope env;
    struct msg_opening m;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_OPENING, &u->worker, e);

    if (!st)
        st = msg_opening_decode(&m, env.body, e);
    if (st)
        return st;
    if (m.unit != x->unit || m.lease != x->lease)
        return err_set(e, ERR_CORRUPT, "I10: OPENING is of another attempt");
    return OK;
}

static enum status audit_manifest(struct audit *a, const struct ledger_entry *en,
                                  const struct digest *name, const struct public_key *trainer,
                                  struct msg_manifest *m, struct err *e)
{
    struct msg_envelope env;
    enum status st = find_envelope(&env, a, en, name, MSG_PUBLISH, trainer, e);

    return st ? st : msg_manifest_decode(m, env.body, e);
}

/* The state that a version begins with is the one that the version before ended with: a referee takes it
 * from the manifest. */
static enum status audit_state(struct audit *a, const struct ledger_entry *en,
                               const struct msg_manifest *m, struct err *e)
{
    const struct ledger_books *books = ledger_log_books(a->log);
    const struct ledger_step_state *before = NULL;
    struct msg_envelope env;
    struct msg_manifest was;
    struct bytes blob;
    enum status st;

    for (size_t i = ledger_books_n_steps(books); i-- > 0 && !before;) {
        const struct ledger_step_state *s = ledger_books_step_at(books, i);
        if (s->seq < en->seq && !s->is_abandoned)
            before = s;
    }
    if (!before)
        return OK;
    st = find_blob(&blob, a, &before->envelope, "PUBLISH", e);
    if (!st)
        st = msg_envelope_decode(&env, blob, e);
    if (!st)
        st = msg_manifest_decode(&was, env.body, e);
    if (st)
        return st;
    if (!digest_equal(&m->masters_before, &was.masters_after) ||
        !digest_equal(&m->optimizer_before, &was.optimizer_after))
        return err_set(e, ERR_CORRUPT,
                       "I10: PUBLISH begins with another state than version %" PRId64
                       " ended with",
                       was.version);
    return OK;
}

static enum status audit_step(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_step *x = &a->body->step_;
    const struct ledger_task *task = ledger_books_task(ledger_log_books(a->log));
    struct msg_manifest m;
    enum status st = audit_manifest(a, en, &x->envelope, &x->trainer, &m, e);

    if (st)
        return st;
    if (m.version != x->version || !digest_equal(&m.parent, &x->parent) ||
        !digest_equal(&m.weights, &x->weights) || !digest_equal(&m.batch, &x->batch) ||
        !digest_equal(&m.task, &task->open.task))
        return err_set(e, ERR_CORRUPT, "I10: PUBLISH says something else than the entry");
    return audit_state(a, en, &m, e);
}

static enum status audit_equivocation(struct audit *a, const struct ledger_entry *en,
                                      struct err *e)
{
    const struct ledger_equivocation *x = &a->body->equivocation_;
    const struct digest *name[2] = {&x->first, &x->second};
    struct ledger_entry any = *en; /* two envelopes cannot both have the entry's idem */
    struct digest weights[2];

    memset(&any.idem, 0, sizeof(any.idem));
    for (int i = 0; i < 2; i++) {
        struct msg_manifest m;
        enum status st = audit_manifest(a, &any, name[i], &x->trainer, &m, e);
        if (st)
            return st;
        if (m.version != x->version)
            return err_set(e, ERR_CORRUPT, "I10: PUBLISH is of version %" PRId64, m.version);
        weights[i] = m.weights;
    }
    if (digest_equal(&weights[0], &weights[1]))
        return err_set(e, ERR_CORRUPT, "I10: both contents are the same");
    return OK;
}

static enum status audit_node(struct audit *a, struct err *e)
{
    const struct ledger_node_admit *x = &a->body->node_admit_;
    uint8_t message[2 * KEY_BYTES + 1];
    enum status st;

    memcpy(message, x->node.b, KEY_BYTES);
    memcpy(message + KEY_BYTES, x->transport.b, KEY_BYTES);
    message[sizeof(message) - 1] = (uint8_t)x->role;
    st = sign_check(&x->owner_sig, "muster/1/cert", BYTES_OF(message), &x->owner, e);
    if (st)
        return err_prefix(e, st, "I10: the owner's certificate");
    a->report->n_signatures++;
    return OK;
}

/* The two submissions of a unit that was a canary say what the entry says. */
static enum status audit_judge(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_canary_judge *x = &a->body->canary_judge_;
    const struct ledger_unit *u = ledger_books_unit(ledger_log_books(a->log), x->unit);
    struct ledger_entry any = *en; /* the envelope answered another request */
    struct msg_envelope env;
    struct digest root;
    bool is_bad;
    enum status st;

    if (x->outcome == LEDGER_CANARY_GOOD)
        return OK; /* the books have compared the roots */
    memset(&any.idem, 0, sizeof(any.idem));
    st = find_envelope(&env, a, &any, &u->envelope, MSG_SUBMIT, &u->worker, e);
    if (!st)
        st = canary_altered_root(&root, env.body, &u->canary->salt, e);
    if (st)
        return st;
    is_bad = u->version == u->canary->version && digest_equal(&root, &u->canary->root);
    if (is_bad != (x->outcome == LEDGER_CANARY_BAD))
        return err_set(e, ERR_CORRUPT, "I9: the two submissions of unit %" PRIu64 " %s",
                       x->unit, is_bad ? "prove a bad canary" : "prove no bad canary");
    return OK;
}

static enum status audit_witness(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    const struct ledger_witness *x = &a->body->witness_;
    struct msg_envelope env;
    struct msg_witness m;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_WITNESS, &x->validator, e);

    if (!st)
        st = msg_witness_decode(&m, env.body, e);
    if (st)
        return st;
    if (m.seq != x->seq || !digest_equal(&m.nonce, &x->nonce) ||
        !digest_equal(&m.next, &x->next))
        return err_set(e, ERR_CORRUPT, "I10: WITNESS says something else than the entry");
    if (!digest_equal(&m.entry, ledger_log_hash(a->log, x->seq)))
        return err_set(e, ERR_CORRUPT, "I10: the witness has seen another head %" PRIu64,
                       x->seq);
    return OK;
}

/* ---- recomputed versions, and disputes ------------------------------------------------------- */

/* What a validator signed of the version that the entry names. */
static enum status audit_recomputed(struct audit *a, const struct ledger_entry *en,
                                    int64_t version, const struct public_key *validator,
                                    const struct digest *envelope, struct msg_step_verdict *m,
                                    struct err *e)
{
    const struct ledger_step_state *s = ledger_books_step(ledger_log_books(a->log), version);
    struct msg_envelope env;
    enum status st = find_envelope(&env, a, en, envelope, MSG_STEP_VERDICT, validator, e);

    if (!st)
        st = msg_step_verdict_decode(m, env.body, e);
    if (st)
        return st;
    if (m->version != version || !digest_equal(&m->manifest, &s->envelope))
        return err_set(e, ERR_CORRUPT, "I10: STEP_VERDICT is of another version");
    if (m->is_accepted != (en->type == LEDGER_STEP_VERDICT) ||
        (m->is_accepted && (m->proof.len || !digest_equal(&m->weights, &s->weights))))
        return err_set(e, ERR_CORRUPT, "I10: STEP_VERDICT says something else than the entry");
    return OK;
}

static enum status audit_step_verdict(struct audit *a, const struct ledger_entry *en,
                                      struct err *e)
{
    const struct ledger_step_verdict *x = &a->body->step_verdict_;
    struct msg_step_verdict m;

    a->report->n_steps_recomputed++;
    return audit_recomputed(a, en, x->version, &x->validator, &x->envelope, &m, e);
}

static enum status audit_dispute_open(struct audit *a, const struct ledger_entry *en,
                                      struct err *e)
{
    const struct ledger_dispute_open *x = &a->body->dispute_open_;
    const struct ledger_step_state *s = ledger_books_step(ledger_log_books(a->log), x->version);
    struct msg_step_verdict m;
    enum status st = audit_recomputed(a, en, x->version, &x->challenger, &x->envelope, &m, e);

    a->report->n_disputes++;
    if (!st &&
        (!digest_equal(&m.weights, &x->weights) || !digest_equal(&m.masters, &x->masters) ||
         !digest_equal(&m.optimizer, &x->optimizer)))
        st = err_set(e, ERR_CORRUPT, "I10: STEP_VERDICT has other roots than the entry");
    if (!st && (m.proof.len || !s->has_batch) != x->is_direct)
        st = err_set(e, ERR_CORRUPT, "I10: a dispute of another kind than its challenge");
    return st;
}

static enum status audit_move(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    static const struct digest none;
    const struct ledger_dispute_move *x = &a->body->dispute_move_;
    const struct ledger_books *books = ledger_log_books(a->log);
    const struct ledger_dispute *d = ledger_books_dispute(books, &x->dispute);
    const struct digest *previous =
        x->number ? ledger_books_move(books, &x->dispute, x->number - 1) : &none;
    struct msg_envelope env;
    struct msg_dispute m;
    enum status st = find_envelope(&env, a, en, &x->envelope, MSG_DISPUTE,
                                   x->number % 2 ? &d->challenger : &d->trainer, e);

    if (!st)
        st = msg_dispute_decode(&m, env.body, e);
    if (st)
        return st;
    if (!digest_equal(&m.dispute, &x->dispute) || m.number != x->number ||
        m.move.data[0] != x->kind)
        return err_set(e, ERR_CORRUPT, "I10: DISPUTE says something else than the entry");
    if (!digest_equal(&m.previous, previous))
        return err_set(e, ERR_CORRUPT, "I10: DISPUTE follows another move");
    return OK;
}

static enum status read_value(struct audit *a, unsigned table, struct bytes key,
                              struct buf *out, struct err *e)
{
    struct bytes value;
    enum status st = db_get(a->txn, table, key, &value, e);

    if (st == ERR_NOT_FOUND)
        return err_set(e, ERR_CORRUPT, "I10: what a dispute is about is missing");
    if (st)
        return st;
    buf_append(out, value);
    return buf_status(out, e);
}

static enum status read_blob(void *ctx, const struct digest *digest, struct buf *out,
                             struct err *e)
{
    return read_value(ctx, LEDGER_TABLE_BLOBS, BYTES_OF(digest->b), out, e);
}

static enum status read_entry(void *ctx, uint64_t seq, struct buf *out, struct err *e)
{
    struct db_key8 key = db_key_u64(seq);

    return read_value(ctx, LEDGER_TABLE_ENTRIES, BYTES_OF(key.b), out, e);
}

/* Replays the game: the entry must say what comes out. */
static enum status audit_dispute_close(struct audit *a, struct err *e)
{
    const struct ledger_dispute_close *x = &a->body->dispute_close_;
    const struct ledger_books *books = ledger_log_books(a->log);
    const struct ledger_dispute *d = ledger_books_dispute(books, &x->dispute);
    const struct ledger_source src = {a, read_blob, read_entry};
    struct ledger_judgement j;
    struct buf transcript;
    enum status st;

    if (x->is_silent || !a->options->judge)
        return OK; /* the books have looked at the clock */
    buf_init(&transcript, TRANSCRIPT_MAX_BYTES);
    st = ledger_transcript(&transcript, books, d, &src, e);
    if (!st)
        st = a->options->judge(buf_bytes(&transcript), NULL, &j, e);
    buf_clear(&transcript);
    if (st)
        return err_prefix(e, st, "I9: the dispute");
    a->report->n_replayed++;
    if (!j.is_over || j.has_trainer_lost != key_equal(&x->loser, &d->trainer) ||
        j.op != x->op || j.out != x->out || j.tile != x->tile || j.segment != x->segment)
        return err_set(e, ERR_CORRUPT, "I9: by its moves the dispute ends otherwise");
    return OK;
}

static void count_draw(struct audit *a)
{
    const struct ledger_draw *x = &a->body->draw_;

    a->report->n_drawn += x->n_rows;
    for (uint32_t i = 0; i < x->n_rows; i++)
        a->report->n_drawn_full += x->row[i].depth == CHECK_FULL;
}

static enum status audit_idem(struct audit *a, const struct ledger_entry *en, struct err *e)
{
    struct ledger_idem_key key = ledger_idem_key(&en->actor, &en->idem);
    struct bytes seq;
    enum status st;

    if (idem_is_zero(&en->idem))
        return OK;
    a->n_idem++;
    st = db_get(a->txn, LEDGER_TABLE_IDEM, BYTES_OF(key), &seq, e);
    if (st && st != ERR_NOT_FOUND)
        return st;
    if (st || seq.len != 8 || db_key_read_u64(seq) != en->seq)
        return err_set(e, ERR_CORRUPT, "I5: table idem does not lead from the request to it");
    return OK;
}

static enum status audit_reference(struct audit *a, const struct ledger_entry *en,
                                   struct err *e)
{
    struct bytes bundle;

    switch (en->type) {
    case LEDGER_NODE_ADMIT: return audit_node(a, e);
    case LEDGER_TASK_OPEN:
        return find_blob(&bundle, a, &a->body->task_open_.task, "the task's bundle", e);
    case LEDGER_COMMIT: return audit_commit(a, en, e);
    case LEDGER_DRAW: count_draw(a); return OK;
    case LEDGER_VERDICT:
        return is_of_many(a, &a->body->verdict_.envelope) ? audit_verdicts(a, en, e)
                                                          : audit_verdict(a, en, e);
    case LEDGER_VERDICT_SEAL: return audit_seal(a, en, e);
    case LEDGER_OPENING: return audit_opening(a, en, e);
    case LEDGER_CANARY_JUDGE: return audit_judge(a, en, e);
    case LEDGER_WITNESS: return audit_witness(a, en, e);
    case LEDGER_STEP: return audit_step(a, en, e);
    case LEDGER_STEP_VERDICT: return audit_step_verdict(a, en, e);
    case LEDGER_DISPUTE_OPEN: return audit_dispute_open(a, en, e);
    case LEDGER_DISPUTE_MOVE: return audit_move(a, en, e);
    case LEDGER_DISPUTE_CLOSE: return audit_dispute_close(a, e);
    case LEDGER_EQUIVOCATION: return audit_equivocation(a, en, e);
    default: return OK;
    }
}

static enum status visit_entry(void *arg, const struct ledger_entry *en, struct bytes encoded,
                               struct err *e)
{
    struct audit *a = arg;
    enum status st;

    (void)encoded;
    a->report->n_of_type[en->type]++;
    st = ledger_body_decode(a->body, en->type, en->body, e);
    if (!st)
        st = audit_reference(a, en, e);
    if (!st)
        st = audit_idem(a, en, e);
    if (!st)
        return OK;
    a->report->has_bad_seq = true;
    a->report->bad_seq = en->seq;
    (void)err_prefix(e, st, "entry %" PRIu64, en->seq);
    return st == ERR_IO ? st : ERR_CORRUPT;
}

/* ---- the tables beside ----------------------------------------------------------------------- */

static enum status visit_blob(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct audit *a = arg;
    struct digest is;

    digest_of(&is, value);
    if (key.len != DIGEST_BYTES || memcmp(key.data, is.b, DIGEST_BYTES) != 0)
        return err_set(e, ERR_CORRUPT,
                       "I10: a value in table blobs has another digest than its "
                       "name");
    a->n_rows++;
    return OK;
}

static enum status audit_tables(struct audit *a, struct err *e)
{
    const struct bytes from_start = {NULL, 0};
    enum status st = db_each(a->txn, LEDGER_TABLE_BLOBS, from_start, visit_blob, a, e);

    a->report->n_blobs = a->n_rows;
    if (!st)
        st = db_count(a->txn, LEDGER_TABLE_IDEM, &a->n_rows, e);
    if (!st && a->n_rows != a->n_idem)
        st = err_set(e, ERR_CORRUPT,
                     "I5: table idem has %" PRIu64 " rows, and %" PRIu64
                     " entries answered a request",
                     a->n_rows, a->n_idem);
    return st;
}

/* ---- what witnesses were shown --------------------------------------------------------------- */

static enum status see_head(void *arg, const struct witness_head *h, struct err *e)
{
    struct audit *a = arg;
    const struct ledger_books *books = ledger_log_books(a->log);

    if (!key_equal(&h->orchestrator, &ledger_books_genesis(books)->node))
        return err_set(e, ERR_INVALID, "a file of heads is not of this ledger's orchestrator");
    if (!digest_equal(&h->run, ledger_books_run(books)))
        return err_set(e, ERR_CORRUPT, "I10: a witness was shown another run");
    a->report->has_bad_seq = true;
    a->report->bad_seq = h->seq;
    if (h->seq >= ledger_log_length(a->log))
        return err_set(e, ERR_CORRUPT,
                       "I10: a witness was shown entry %" PRIu64 ", and the ledger ends before",
                       h->seq);
    if (!digest_equal(&h->entry, ledger_log_hash(a->log, h->seq)))
        return err_set(e, ERR_CORRUPT,
                       "I10: a witness was shown another entry %" PRIu64
                       ": history was rewritten, or there are two",
                       h->seq);
    a->report->has_bad_seq = false;
    a->report->bad_seq = 0;
    a->report->n_witnessed++;
    return OK;
}

static enum status compare_heads(struct audit *a, const struct bytes *file, size_t n,
                                 struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; !st && i < n; i++)
        st = witness_file_read(file[i], see_head, a, e);
    return st;
}

/* ---- the report ------------------------------------------------------------------------------ */

static void report_totals(struct audit *a)
{
    struct audit_report *r = a->report;
    const struct ledger_books *books = ledger_log_books(a->log);
    const struct account_table *t = ledger_books_accounts(books);
    const struct ledger_task *task = ledger_books_task(books);

    r->n_entries = ledger_log_length(a->log);
    if (r->n_entries) {
        r->run = *ledger_log_hash(a->log, 0);
        r->head = *ledger_log_hash(a->log, r->n_entries - 1);
    }
    for (size_t i = 0; i < t->n; i++) {
        int64_t v = t->v[i].balance;
        switch (account_kind(&t->v[i].account)) {
        case ACCOUNT_EXTERNAL: r->deposited -= v; break;
        case ACCOUNT_AVAIL: r->avail += v; break;
        case ACCOUNT_STAKE: r->stake += v; break;
        case ACCOUNT_PENDING: r->pending += v; break;
        case ACCOUNT_ESCROW: r->escrow += v; break;
        case ACCOUNT_RESERVED: r->reserved += v; break;
        case ACCOUNT_JACKPOT: r->jackpot += v; break;
        case ACCOUNT_BURN: r->burnt += v; break;
        case ACCOUNT_BOND: r->bonds += v; break;
        case ACCOUNT_NONE:
        case ACCOUNT_KIND_COUNT: break;
        }
    }
    r->n_units = ledger_books_n_units(books);
    for (size_t i = 0; i < r->n_units; i++) {
        enum ledger_unit_state state = ledger_books_unit_at(books, i)->state;
        r->n_accepted += state == UNIT_ACCEPTED;
        r->n_given_up += state == UNIT_GIVEN_UP;
    }
    for (size_t i = 0; i < ledger_books_n_nodes(books); i++)
        r->n_contradicted += ledger_books_node_at(books, i)->n_contradicted;
    for (size_t i = 0; i < ledger_books_n_steps(books); i++)
        r->n_steps_drawn += ledger_books_step_at(books, i)->is_wanted;
    r->paid_workers = task->paid_workers;
    r->paid_validators = task->paid_validators;
    r->paid_trainer = task->paid_trainer;
    r->refunded = task->refunded;
    r->slashed = task->slashed;
}

static enum status open_ledger(struct audit *a, const char *dir, struct err *e)
{
    const struct db_options opt = {
        .magic = LEDGER_DB_MAGIC,
        .version = LEDGER_DB_VERSION,
        .tables = ledger_tables,
        .map_bytes = AUDIT_MAP_BYTES,
        .read_only = true,
    };
    enum status st = db_open(&a->db, dir, &opt, e);

    return st ? st : db_begin(&a->txn, a->db, false, e);
}

static enum status check_entries(struct audit *a, struct err *e)
{
    enum status st = ledger_log_load(a->log, a->txn, visit_entry, a, e);

    if (!st && ledger_log_length(a->log) == 0)
        return err_set(e, ERR_NOT_FOUND, "the ledger has no entry yet");
    if (!st)
        return audit_tables(a, e);
    if (!a->report->has_bad_seq) {
        a->report->has_bad_seq = true;
        a->report->bad_seq = ledger_log_length(a->log);
    }
    return st;
}

enum audit_result audit_run(struct audit_report *r, const char *dir)
{
    const struct audit_options o = {0};

    return audit_run_with(r, dir, &o);
}

enum audit_result audit_run_with(struct audit_report *r, const char *dir,
                                 const struct audit_options *o)
{
    struct audit a = {.report = r, .options = o};
    struct err e = {OK, ""};
    enum status st;

    memset(r, 0, sizeof(*r));
    ledger_log_new(&a.log);
    a.body = xcalloc(1, sizeof(*a.body));
    a.submit = xcalloc(1, sizeof(*a.submit));
    st = open_ledger(&a, dir, &e);
    if (st)
        r->result = AUDIT_UNREADABLE;
    else
        st = check_entries(&a, &e);
    if (!st)
        st = compare_heads(&a, o->file, o->n_files, &e);
    if (st && r->result != AUDIT_UNREADABLE)
        r->result =
            st == ERR_CORRUPT || st == ERR_UNSUPPORTED ? AUDIT_VIOLATION : AUDIT_UNREADABLE;
    if (st)
        memcpy(r->why, e.text, sizeof(r->why));
    report_totals(&a);
    db_abort(&a.txn);
    db_close(&a.db);
    ledger_log_free(&a.log);
    free(a.submit);
    free(a.body);
    return r->result;
}
