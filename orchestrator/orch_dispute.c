/* Versions that are recomputed, and disputes: relays and records the moves (ledger/steps.h). */
#include <inttypes.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "ledger/tables.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"

/* Of a move as a message: an opening (the last one), and any other, of which there are up to
 * LEDGER_MOVES_MAX. The other side must be able to fetch it, and the whole game to be judged. */
#define OPENING_BYTES_MAX ((size_t)20 << 20)
#define MOVE_BYTES_MAX    ((size_t)1 << 20)

#define JUDGE_MS        10000 /* until what could not be judged is tried again */
#define JUDGE_MEMORY_MS 60000 /* for want of memory */

#define ASK_MS 1000u /* a party without a dispute, a validator without a version, asks again */

static const struct ledger_task_open *terms_of(const struct orch *s)
{
    return &ledger_books_task(orch_books(s))->open;
}

static struct ledger_source source_of(struct orch *s)
{
    return (struct ledger_source){s->opt.store.ctx, s->opt.store.blob, s->opt.store.entry};
}

static bool is_due(const struct ledger_step_state *x)
{
    return x->is_wanted && !x->is_done && !x->is_disputed && !x->is_abandoned;
}

/* ---- who recomputes ---------------------------------------------------------------------- */

static bool has_challenged(const struct orch *s, const struct ledger_step_state *x,
                           const struct public_key *node)
{
    for (size_t i = 0; i < ledger_books_n_disputes(orch_books(s)); i++) {
        const struct ledger_dispute *d = ledger_books_dispute_at(orch_books(s), i);
        if (d->step == x->seq && key_equal(&d->challenger, node))
            return true;
    }
    return false;
}

static size_t count_due(const struct orch *s, const struct public_key *node)
{
    size_t n = 0;

    for (size_t i = 0; i < ledger_books_n_steps(orch_books(s)); i++) {
        const struct ledger_step_state *x = ledger_books_step_at(orch_books(s), i);
        n += is_due(x) && key_equal(&x->validator, node);
    }
    return n;
}

static size_t count_given(const struct ledger_step_state *x, const struct public_key *node)
{
    size_t n = 0;

    for (uint32_t i = 0; i < x->n_given; i++)
        n += key_equal(&x->given[i], node);
    return n;
}

/* Whoever was asked least often, and has least to do; of the trainer's owner only if there is nobody else. */
static uint32_t choose_validator(const struct orch *s, const struct ledger_step_state *x,
                                 int64_t now_ms)
{
    uint32_t trainer = orch_find_node(s, &x->trainer), best = ORCH_NONE_NODE;
    size_t least = SIZE_MAX;

    if (x->n_given == LEDGER_GIVEN_MAX)
        return ORCH_NONE_NODE; /* enough time was spent on who says nothing */

    for (uint32_t i = 1; i < s->n_nodes; i++) {
        const struct orch_node *n = &s->node[i];
        size_t load;

        if (n->role != ROLE_VERIFIER || n->is_revoked || n->is_draining ||
            !orch_is_alive(s, i, now_ms) || key_equal(&n->node, &x->validator) ||
            !ledger_books_has_bond(orch_books(s), &n->node) || has_challenged(s, x, &n->node))
            continue;
        load = count_due(s, &n->node) + count_given(x, &n->node) * (SIZE_MAX / 64);
        if (trainer != ORCH_NONE_NODE && key_equal(&n->owner, &s->node[trainer].owner))
            load += SIZE_MAX / 2;
        if (load < least) {
            best = i;
            least = load;
        }
    }
    return best;
}

/* Is whoever was given the version still at it? To make the first takes as long as the warm-up. */
static bool is_in_hands(const struct orch *s, const struct ledger_step_state *x, size_t i,
                        int64_t now_ms)
{
    uint32_t node =
        key_is_zero(&x->validator) ? ORCH_NONE_NODE : orch_find_node(s, &x->validator);

    return node != ORCH_NONE_NODE && !s->node[node].is_revoked &&
           orch_is_alive(s, node, now_ms) &&
           (!x->has_batch || now_ms - s->step_since[i] < s->task.leases.hard_deadline_ms);
}

static bool is_last_made(const struct orch *s)
{
    return s->n_versions > orch_n_steps(s);
}

/* To be recomputed, and nobody does or can be asked to. */
static void give_out(struct orch *s, struct turn *t, size_t i)
{
    const struct ledger_step_state *x = ledger_books_step_at(orch_books(s), i);
    struct ledger_step_assign a = {.version = x->version, .from = x->validator};
    uint32_t to;

    if (!s->step_since[i] || ledger_books_open_dispute(orch_books(s)))
        s->step_since[i] = t->now_ms; /* while one is open, no other challenge is taken */
    if (is_in_hands(s, x, i, t->now_ms))
        return;
    to = choose_validator(s, x, t->now_ms);
    if (to == ORCH_NONE_NODE)
        return;
    a.to = s->node[to].node;
    s->step_since[i] = t->now_ms;
    (void)!orch_append_step_assign(s, t, &a, BY_ITSELF, NULL, NULL);
}

/* A draw covers all versions but the last ones, after which nothing is committed: those are always
 * recomputed. */
static void give_out_all(struct orch *s, struct turn *t)
{
    size_t n = ledger_books_n_steps(orch_books(s));

    s->step_since = orch_grow(s->step_since, &s->cap_step_since, n, sizeof(*s->step_since));
    for (size_t i = 0; i < n; i++) {
        const struct ledger_step_state *x = ledger_books_step_at(orch_books(s), i);
        if (is_due(x) || (is_last_made(s) && !x->is_drawn && !x->is_wanted &&
                          !x->is_abandoned && terms_of(s)->step_rate))
            give_out(s, t, i);
    }
}

bool orch_has_open_steps(struct orch *s, struct turn *t)
{
    if (ledger_books_open_dispute(orch_books(s)))
        return true;
    give_out_all(s, t);
    for (size_t i = 0; i < ledger_books_n_steps(orch_books(s)); i++) {
        const struct ledger_step_state *x = ledger_books_step_at(orch_books(s), i);
        if (is_due(x) && is_in_hands(s, x, i, t->now_ms))
            return true;
    }
    return false;
}

static void answer_audit(struct orch *s, struct turn *t, const struct ledger_step_state *x)
{
    struct msg_audit m = {.version = x->version, .opt_steps = x->opt_steps};
    struct err e;

    m.is_wanted = is_due(x) && key_equal(&x->validator, &s->node[t->from].node);
    if (orch_read_blob(s, &x->envelope, &e)) {
        orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "version %" PRId64 ": %.100s",
                  x->version, e.text);
        return;
    }
    m.manifest = buf_bytes(&s->blob);
    buf_reset(&s->body);
    CHECK(!msg_audit_encode(&s->body, &m, NULL));
    orch_answer(s, t, MSG_AUDIT);
}

void orch_on_audit_ask(struct orch *s, struct turn *t)
{
    const struct ledger_step_state *x = NULL;
    struct msg_audit_ask ask;

    if (msg_audit_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "AUDIT_ASK does not decode");
        return;
    }
    if (ask.version >= 0)
        x = ledger_books_step(orch_books(s), ask.version);
    for (size_t i = 0; ask.version < 0 && i < ledger_books_n_steps(orch_books(s)); i++) {
        const struct ledger_step_state *is = ledger_books_step_at(orch_books(s), i);
        if (is_due(is) && key_equal(&is->validator, &s->node[t->from].node)) {
            x = is;
            break;
        }
    }
    if (x)
        answer_audit(s, t, x);
    else
        orch_wait(s, t, REASON_NO_WORK, ASK_MS, "no version is to be recomputed");
}

/* Nobody need have the model that a task begins with, nor the memory to make one. What could not be judged would
 * stay open for ever: it is not begun. */
static bool can_judge_first(struct orch *s, struct err *e)
{
    const uint64_t limit = memory_available();
    enum status st = OK;

    if (strcmp(s->task.model.init, "random") != 0) {
        (void)err_set(e, ERR_UNSUPPORTED, "this task begins with a model of a directory");
        return false;
    }
    if (!s->first_bytes && s->opt.first_bytes) {
        st = orch_read_blob(s, &s->task_id, e);
        if (!st)
            st = s->opt.first_bytes(&s->first_bytes, buf_bytes(&s->blob), e);
        if (st || s->first_bytes > limit) /* told once: anybody may ask again and again */
            orch_note(s, 'W',
                      "no challenge of version 0 is taken here mib=%" PRIu64 " free=%" PRIu64,
                      (s->first_bytes >> 20) + 1, limit >> 20);
    }
    if (!st && s->first_bytes > limit)
        st = err_set(e, ERR_LIMIT, "it takes %" PRIu64 " MiB, more than the %" PRIu64 " free",
                     (s->first_bytes >> 20) + 1, limit >> 20);
    return !st;
}

static void challenge(struct orch *s, struct turn *t, const struct msg_step_verdict *m,
                      const struct ledger_step_state *x)
{
    struct ledger_dispute_open o = {.version = m->version,
                                    .challenger = s->node[t->from].node,
                                    .opt_steps = x->opt_steps,
                                    .is_direct = !x->has_batch || m->proof.len,
                                    .weights = m->weights,
                                    .masters = m->masters,
                                    .optimizer = m->optimizer};
    struct err e;
    char who[17];
    uint64_t seq;

    if (!x->has_batch && !can_judge_first(s, &e)) {
        orch_receipt_refused(s, t, 0, REASON_UNSUPPORTED,
                             "version 0 is not judged here: %.150s", e.text);
        return;
    }
    transcript_id(&o.dispute, &x->envelope, x->opt_steps, &o.challenger);
    digest_of(&o.envelope, t->m->raw);
    if (orch_append_dispute_open(s, t, &o, AS_ANSWER, NULL, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_DUPLICATE, "the ledger refused the challenge");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    orch_node_short(who, s, t->from);
    orch_note(s, 'W', "dispute opened version=%" PRId64 " challenger=%s", m->version, who);
    orch_receipt(s, t, seq);
}

static void confirm(struct orch *s, struct turn *t, const struct msg_step_verdict *m)
{
    struct ledger_step_verdict v = {.version = m->version, .validator = s->node[t->from].node};
    uint64_t seq;

    digest_of(&v.envelope, t->m->raw);
    if (orch_append_step_verdict(s, t, &v, AS_ANSWER, NULL, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_DUPLICATE, "the ledger refused the verdict");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    orch_note(s, 'I', "version n=%" PRId64 " recomputed", m->version);
    orch_receipt(s, t, seq);
}

void orch_on_step_verdict(struct orch *s, struct turn *t)
{
    const struct ledger_step_state *x;
    struct msg_step_verdict m;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_step_verdict_decode(&m, t->m->body, NULL) || (m.is_accepted && m.proof.len)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "STEP_VERDICT does not decode");
        return;
    }
    x = ledger_books_step(orch_books(s), m.version);
    if (!x || !digest_equal(&x->envelope, &m.manifest))
        orch_receipt_refused(s, t, 0, REASON_OUT_OF_ORDER,
                             "version %" PRId64 " is another, or none", m.version);
    else if (m.is_accepted && !digest_equal(&m.weights, &x->weights))
        orch_receipt_refused(s, t, 0, REASON_ROOT, "these are other weights than accepted");
    else if (m.is_accepted)
        confirm(s, t, &m);
    else
        challenge(s, t, &m, x);
}

/* ---- moves ------------------------------------------------------------------------------- */

/* All moves from `have` on that can be read: what is put in this round cannot yet. */
static void read_moves(struct orch *s, const struct ledger_dispute *d,
                       struct msg_dispute_state *m)
{
    const size_t length = sizeof(uint32_t);

    buf_reset(&s->frame);
    for (m->n = m->from; m->n < d->n_moves; m->n++) {
        if (orch_read_blob(s, ledger_books_move(orch_books(s), &d->id, m->n), NULL) ||
            s->frame.len + s->blob.len + length > MSG_MAX_BYTES / 2)
            break;
        buf_put_blob(&s->frame, buf_bytes(&s->blob));
    }
    m->moves = buf_bytes(&s->frame);
}

static void answer_state(struct orch *s, struct turn *t, const struct ledger_dispute *d,
                         uint32_t have)
{
    struct msg_dispute_state m = {.dispute = d->id,
                                  .version = d->version,
                                  .opt_steps = d->opt_steps,
                                  .challenger = d->challenger,
                                  .from = have < d->n_moves ? have : d->n_moves,
                                  .is_over = d->is_called || d->is_closed};
    int64_t left = s->dispute_since_ms +
                   ledger_books_dispute_patience_us(orch_books(s), d) / 1000 - t->now_ms;
    struct buf moves;
    enum status st;
    struct err e;

    if (!orch_may_read(s, t))
        return;
    m.deadline_ms = left > 0 && !m.is_over ? (uint32_t)left : 0;
    buf_init(&moves, MSG_MAX_BYTES);
    read_moves(s, d, &m);
    buf_append(&moves, m.moves); /* s->frame is the answer's */
    m.moves = buf_bytes(&moves);
    st = orch_read_blob(s, &d->manifest, &e);
    orch_has_read(s, t, moves.len + s->blob.len);
    if (st) {
        orch_wait(s, t, REASON_INTERNAL, ORCH_RETRY_FAR, "the dispute cannot be read: %.100s",
                  e.text);
    } else {
        m.manifest = buf_bytes(&s->blob);
        buf_reset(&s->body);
        CHECK(!msg_dispute_state_encode(&s->body, &m, NULL));
        orch_answer(s, t, MSG_DISPUTE_STATE);
    }
    buf_clear(&moves);
}

void orch_on_dispute_ask(struct orch *s, struct turn *t)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(orch_books(s));
    const struct public_key *me = &s->node[t->from].node;
    struct msg_dispute_ask ask;

    if (msg_dispute_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "DISPUTE_ASK does not decode");
        return;
    }
    if (!d || (!key_equal(&d->trainer, me) && !key_equal(&d->challenger, me)))
        orch_wait(s, t, REASON_NO_WORK, ASK_MS, "no dispute of yours is open");
    else
        answer_state(s, t, d, digest_equal(&ask.dispute, &d->id) ? ask.have : 0);
}

void orch_on_dispute(struct orch *s, struct turn *t)
{
    struct ledger_dispute_move x;
    const struct ledger_dispute *d;
    const struct public_key *turn, *me = &s->node[t->from].node;
    struct msg_dispute m;
    uint64_t seq;

    if (ledger_books_find_idem(orch_books(s), me, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (msg_dispute_decode(&m, t->m->body, NULL)) {
        orch_receipt_refused(s, t, 0, REASON_MALFORMED, "DISPUTE does not decode");
        return;
    }
    d = ledger_books_dispute(orch_books(s), &m.dispute);
    turn = d ? ledger_books_turn(orch_books(s), d) : NULL;
    if (!turn || !key_equal(turn, me) || m.number != d->n_moves ||
        !digest_equal(&m.previous, &d->last)) {
        orch_receipt_refused(s, t, 0, REASON_OUT_OF_ORDER, "move %u is not due of you",
                             m.number);
        return;
    }
    if (t->m->raw.len >
        (m.move.data[0] == LEDGER_MOVE_OPEN ? OPENING_BYTES_MAX : MOVE_BYTES_MAX)) {
        orch_receipt_refused(s, t, 0, REASON_BOUNDS, "move %u has %zu bytes", m.number,
                             t->m->raw.len);
        return;
    }
    x = (struct ledger_dispute_move){
        .dispute = m.dispute, .number = m.number, .kind = m.move.data[0]};
    digest_of(&x.envelope, t->m->raw);
    if (orch_append_dispute_move(s, t, &x, AS_ANSWER, NULL, &seq)) {
        orch_receipt_refused(s, t, 0, REASON_INTERNAL, "the ledger refused the move");
        return;
    }
    ledger_put_blob(t->out, t->m->raw, NULL);
    s->dispute_since_ms = t->now_ms;
    orch_receipt(s, t, seq);
}

/* ---- the end ----------------------------------------------------------------------------- */

static void close_dispute(struct orch *s, struct turn *t, struct ledger_dispute_close *x,
                          const char *why)
{
    bool has_trainer_lost =
        key_equal(&x->loser, &ledger_books_open_dispute(orch_books(s))->trainer);

    if (orch_append_dispute_close(s, t, x, BY_ITSELF, NULL, NULL))
        return;
    orch_note(s, 'W', "dispute closed loser=%s moves=%u why=\"%.150s\"",
              has_trainer_lost ? "trainer" : "challenger", x->n_moves, why);
    if (has_trainer_lost && orch_close(s, t, BY_ITSELF, NULL)) /* nothing more can be made */
        orch_note(s, 'E', "the task of a barred trainer cannot be closed");
}

static void judge(struct orch *s, struct turn *t, const struct ledger_dispute *d)
{
    const struct ledger_source src = source_of(s);
    struct buf transcript;
    struct err e;

    if (s->is_judging || t->now_ms < s->judge_ms)
        return;
    buf_init(&transcript, TRANSCRIPT_MAX_BYTES);
    if (ledger_transcript(&transcript, orch_books(s), d, &src, &e)) {
        orch_note(s, 'W', "dispute cannot be read yet: %s", e.text);
        s->judge_ms = t->now_ms + JUDGE_MS;
    } else {
        s->is_judging = true;
        effects_start(t->out, ORCH_JOB_JUDGE, d->opened, buf_bytes(&transcript));
    }
    buf_clear(&transcript);
}

static void look_after_dispute(struct orch *s, struct turn *t, const struct ledger_dispute *d)
{
    struct ledger_dispute_close x = {
        .dispute = d->id, .is_silent = true, .n_moves = d->n_moves, .last = d->last};
    int64_t us = ledger_books_dispute_patience_us(orch_books(s), d);

    if (!s->dispute_since_ms)
        s->dispute_since_ms = t->now_ms; /* after a restart everybody has the whole time */
    if (d->is_called) {
        judge(s, t, d);
        return;
    }
    if ((t->now_ms - s->dispute_since_ms) * 1000 < us || t->wall_us - d->last_us < us)
        return;
    x.loser = *ledger_books_turn(orch_books(s), d);
    close_dispute(s, t, &x, "said nothing until the deadline");
}

void orch_look_after_steps(struct orch *s, struct turn *t)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(orch_books(s));

    if (!orch_is_open(s))
        return;
    if (d)
        look_after_dispute(s, t, d);
    if (orch_is_open(s))
        give_out_all(s, t);
}

void orch_judged(struct orch *s, enum status st, const struct ledger_judgement *j,
                 int64_t now_ms, struct effects *out)
{
    struct turn t = orch_turn(s, now_ms, out);
    const struct ledger_dispute *d = ledger_books_open_dispute(orch_books(s));
    struct ledger_dispute_close x;

    s->is_judging = false;
    if (!d || !d->is_called)
        return;
    if (st || !j->is_over) {
        bool is_memory = st == ERR_LIMIT || st == ERR_NO_MEMORY;

        s->judge_ms = now_ms + (is_memory ? JUDGE_MEMORY_MS : JUDGE_MS);
        orch_note(
            s, 'E', "dispute is not judged why=\"%s\"%s",
            st ? status_text(st) : "by its moves it is not over",
            is_memory
                ? " try=\"this machine needs more free memory: end other processes, or go "
                  "on with the directory on a larger one\""
                : "");
        return;
    }
    x = (struct ledger_dispute_close){.dispute = d->id,
                                      .loser = j->has_trainer_lost ? d->trainer : d->challenger,
                                      .n_moves = d->n_moves,
                                      .last = d->last,
                                      .op = j->op,
                                      .out = j->out,
                                      .tile = j->tile,
                                      .segment = j->segment};
    close_dispute(s, &t, &x, j->why);
}
