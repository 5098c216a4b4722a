#include "replay/dispute_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "learn/dispute.h"
#include "node/rpc.h"
#include "proto/digest.h"
#include "proto/transcript.h"
#include "replay/dispute_jobs.h"

#define RETRY_MS    2000
#define ASK_MS      1000  /* whether there is anything to do */
#define FOLLOW_MS   100   /* whether the other side has moved */
#define FAILED_MS   2000  /* until what failed is tried again */
#define REFUSED_MS  5000  /* until a verdict that was not taken is said again */
#define BARRED_MS   60000 /* and what is wrong in a way that no game is about */
#define LARGE_BYTES MSG_MAX_BYTES

enum goal { GOAL_NONE, GOAL_AUDIT, GOAL_DISPUTE };
enum phase {
    PHASE_SEEK, /* wants to know from where it goes */
    PHASE_WALK, /* wants the batch, and what was published, of the next version */
    PHASE_OPEN, /* of a dispute: wants the batch of the version before */
    PHASE_PLAY, /* of a dispute */
    PHASE_SAID, /* the verdict waits for its receipt */
};

struct dispute_state {
    struct rpc *rpc; /* owned */
    struct dispute_state_options opt;
    bool is_ready, is_stopped, recomputes;

    enum goal goal;
    enum phase phase;
    int64_t version; /* that the goal is about */
    uint64_t opt_steps;
    struct public_key challenger; /* of a dispute */
    struct digest dispute;
    struct buf manifest; /* owned: PUBLISH envelope of `version`, then of the one walked to */

    int64_t at;         /* where the replica stands */
    struct buf batch;   /* owned: the body of the batch that leads on */
    struct buf publish; /* owned: what was published of version at + 1 */
    struct buf moves;   /* owned: of the dispute, as known */
    uint32_t n_moves;
    uint32_t n_sent; /* moves, with the one that was sent last */
    bool is_over;
    struct msg_step_verdict
        *seen; /* owned, proofs as well: versions recomputed, and what is to be said of them */
    size_t n_seen;
    struct msg_step_verdict unproven; /* of which only the file is another */

    bool doubts_first; /* version 0 is to be made: what begins there begins elsewhere */
    bool is_busy;      /* a job is under way */
    uint32_t job;
    uint64_t number;
    int64_t again_ms;             /* nothing is begun before */
    int64_t audit_ms, dispute_ms; /* when to ask for work, for a dispute */
    char why[MSG_TEXT_BYTES];
};

void dispute_state_new(struct dispute_state **out, const struct dispute_state_options *opt)
{
    struct dispute_state *s = xcalloc(1, sizeof(*s));

    rpc_new(&s->rpc, opt->key, opt->boot);
    s->opt = *opt;
    buf_init(&s->manifest, LARGE_BYTES);
    buf_init(&s->batch, LARGE_BYTES);
    buf_init(&s->publish, LARGE_BYTES);
    buf_init(&s->moves, TRANSCRIPT_MAX_BYTES);
    *out = s;
}

void dispute_state_free(struct dispute_state **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->n_seen; i++)
        free((void *)(*s)->seen[i].proof.data);
    free((*s)->seen);
    buf_clear(&(*s)->moves);
    buf_clear(&(*s)->publish);
    buf_clear(&(*s)->batch);
    buf_clear(&(*s)->manifest);
    rpc_free(&(*s)->rpc);
    free(*s);
    *s = NULL;
}

void dispute_state_stop(struct dispute_state *s)
{
    s->is_stopped = true;
}

int64_t dispute_state_needs(const struct dispute_state *s)
{
    return s->goal == GOAL_AUDIT ? s->version : -1;
}

const char *dispute_state_why(const struct dispute_state *s)
{
    return s->why;
}

/* ---- what is asked ------------------------------------------------------------------------- */

static void ask(struct dispute_state *s, enum msg_kind kind, const struct buf *body,
                uint64_t tag, int64_t now_ms, struct effects *out)
{
    (void)!rpc_ask(s->rpc, kind, buf_bytes(body), tag, RETRY_MS, now_ms, out, NULL);
}

static void ask_audit(struct dispute_state *s, int64_t version, int64_t now_ms,
                      struct effects *out)
{
    const struct msg_audit_ask m = {.version = version};
    struct buf body;

    if (rpc_open(s->rpc, MSG_AUDIT_ASK))
        return;
    buf_init(&body, 64);
    CHECK(!msg_audit_ask_encode(&body, &m, NULL));
    ask(s, MSG_AUDIT_ASK, &body, (uint64_t)version, now_ms, out);
    buf_clear(&body);
}

static void ask_batch(struct dispute_state *s, int64_t batch, int64_t now_ms,
                      struct effects *out)
{
    const struct msg_batch_ask m = {.batch = (uint64_t)batch};
    struct buf body;

    if (rpc_open(s->rpc, MSG_BATCH_ASK))
        return;
    buf_init(&body, 64);
    CHECK(!msg_batch_ask_encode(&body, &m, NULL));
    ask(s, MSG_BATCH_ASK, &body, m.batch, now_ms, out);
    buf_clear(&body);
}

static void ask_dispute(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    struct msg_dispute_ask m = {0};
    struct buf body;

    if (rpc_open(s->rpc, MSG_DISPUTE_ASK))
        return; /* the answer is what it waits for, and rpc_tick says until when */
    if (now_ms < s->dispute_ms) {
        effects_timer(out, s->dispute_ms);
        return;
    }
    if (s->goal == GOAL_DISPUTE) {
        m.dispute = s->dispute;
        m.have = s->n_moves;
    }
    buf_init(&body, 128);
    CHECK(!msg_dispute_ask_encode(&body, &m, NULL));
    ask(s, MSG_DISPUTE_ASK, &body, 0, now_ms, out);
    s->dispute_ms =
        now_ms + (s->phase == PHASE_PLAY && s->goal == GOAL_DISPUTE ? FOLLOW_MS : ASK_MS);
    buf_clear(&body);
}

/* ---- goals --------------------------------------------------------------------------------- */

static void set_goal(struct dispute_state *s, enum goal goal, int64_t version)
{
    s->goal = goal;
    s->phase = PHASE_SEEK;
    s->version = version;
    s->doubts_first &= version > 0;
    s->n_moves = s->n_sent = 0;
    s->is_over = false;
    buf_reset(&s->moves);
    buf_reset(&s->batch);
    buf_reset(&s->publish);
}

static void fail(struct dispute_state *s, const char *text, int64_t now_ms)
{
    snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1, text);
    s->phase = PHASE_SEEK;
    s->again_ms = now_ms + FAILED_MS;
    buf_reset(&s->batch);
    buf_reset(&s->publish);
    if (s->goal == GOAL_AUDIT)
        s->goal = GOAL_NONE; /* it is asked for again */
}

static void start(struct dispute_state *s, uint32_t job, struct bytes args, struct effects *out)
{
    s->is_busy = true;
    s->job = job;
    effects_start(out, job, ++s->number, args);
}

static void seek(struct dispute_state *s, struct effects *out)
{
    struct buf args;

    if (!s->version) { /* has none before it, and no game */
        start(s, DISPUTE_JOB_FIRST, (struct bytes){NULL, 0}, out);
        return;
    }
    buf_init(&args, 16);
    buf_put_u64(&args, (uint64_t)(s->version - 1));
    buf_put_u8(&args, s->goal == GOAL_DISPUTE);
    start(s, DISPUTE_JOB_SEEK, buf_bytes(&args), out);
    buf_clear(&args);
}

static void open_side(struct dispute_state *s, struct effects *out)
{
    const struct transcript t = {.manifest = buf_bytes(&s->manifest),
                                 .batch = buf_bytes(&s->batch),
                                 .opt_steps = s->opt_steps,
                                 .challenger = s->challenger};
    struct buf args;

    buf_init(&args, TRANSCRIPT_MAX_BYTES);
    CHECK(!transcript_encode(&args, &t, NULL));
    buf_put_u8(&args, s->opt.is_validator ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER);
    start(s, DISPUTE_JOB_OPEN, buf_bytes(&args), out);
    buf_clear(&args);
}

static bool is_my_turn(const struct dispute_state *s)
{
    return !s->is_over && s->n_sent <= s->n_moves &&
           (s->n_moves % 2 == 1) == s->opt.is_validator;
}

/* ---- one thing after the other ------------------------------------------------------------- */

static void walk(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    bool compares = s->goal == GOAL_AUDIT;

    if (!s->batch.len)
        ask_batch(s, s->at, now_ms, out);
    if (compares && !s->publish.len)
        ask_audit(s, s->at + 1, now_ms, out);
    if (s->batch.len && (!compares || s->publish.len))
        start(s, DISPUTE_JOB_STEP, buf_bytes(&s->batch), out);
}

static void play(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    if (is_my_turn(s) && !rpc_open(s->rpc, MSG_DISPUTE) && !s->opt.is_silent)
        start(s, DISPUTE_JOB_MOVE, buf_bytes(&s->moves), out);
    else
        ask_dispute(s, now_ms, out);
}

static void say(struct dispute_state *s, const struct msg_step_verdict *m, int64_t now_ms,
                struct effects *out)
{
    struct buf body;

    buf_init(&body, m->proof.len + 512);
    CHECK(!msg_step_verdict_encode(&body, m, NULL));
    ask(s, MSG_STEP_VERDICT, &body, 0, now_ms, out);
    buf_clear(&body);
    s->phase = PHASE_SAID;
}

/* Without computing anything. */
static void pretend(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    struct msg_step_verdict m = {.version = s->version, .is_accepted = true};
    struct msg_manifest *is = xcalloc(1, sizeof(*is));
    struct msg_envelope env;

    digest_of(&m.manifest, buf_bytes(&s->manifest));
    if (!msg_envelope_decode(&env, buf_bytes(&s->manifest), NULL) &&
        !msg_manifest_decode(is, env.body, NULL)) {
        m.weights = is->weights;
        m.masters = is->masters_after;
        m.optimizer = is->optimizer_after;
        say(s, &m, now_ms, out);
    }
    free(is);
}

static void go_on(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    if (now_ms < s->again_ms) {
        effects_timer(out, s->again_ms);
        return;
    }
    switch (s->phase) {
    case PHASE_SEEK:
        if (s->opt.is_lazy && s->goal == GOAL_AUDIT)
            pretend(s, now_ms, out);
        else
            seek(s, out);
        break;
    case PHASE_WALK: walk(s, now_ms, out); break;
    case PHASE_OPEN:
        if (s->batch.len)
            open_side(s, out);
        else
            ask_batch(s, s->version - 1, now_ms, out);
        break;
    case PHASE_PLAY: play(s, now_ms, out); break;
    case PHASE_SAID: break;
    }
}

void dispute_state_tick(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    if (!s->is_ready || s->is_stopped)
        return;
    if (s->goal != GOAL_NONE && !s->is_busy)
        go_on(s, now_ms, out);
    if (s->goal != GOAL_DISPUTE || s->phase != PHASE_PLAY)
        ask_dispute(s, now_ms, out);
    if (s->goal == GOAL_NONE && s->opt.is_validator && s->recomputes &&
        !rpc_open(s->rpc, MSG_AUDIT_ASK)) {
        if (now_ms >= s->audit_ms) {
            s->audit_ms = now_ms + ASK_MS;
            ask_audit(s, s->doubts_first ? 0 : -1, now_ms, out);
        }
        effects_timer(out, s->audit_ms);
    }
    rpc_tick(s->rpc, now_ms, out);
}

void dispute_state_ready(struct dispute_state *s, uint64_t peer, const struct digest *run,
                         bool recomputes, int64_t now_ms, struct effects *out)
{
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, run);
    s->is_ready = true;
    s->recomputes = recomputes;
    dispute_state_tick(s, now_ms, out);
}

/* ---- answers ------------------------------------------------------------------------------- */

/* It came by it on the way to another version. */
static void say_seen(struct dispute_state *s, int64_t now_ms, struct effects *out)
{
    struct digest manifest;

    digest_of(&manifest, buf_bytes(&s->manifest));
    for (size_t i = 0; i < s->n_seen && s->phase != PHASE_SAID; i++)
        if (s->seen[i].version == s->version && digest_equal(&s->seen[i].manifest, &manifest))
            say(s, &s->seen[i], now_ms, out);
}

static void on_audit(struct dispute_state *s, struct bytes body, int64_t asked, int64_t now_ms,
                     struct effects *out)
{
    struct msg_audit m;

    if (msg_audit_decode(&m, body, NULL))
        return;
    if (s->goal == GOAL_NONE &&
        ((asked < 0 && m.is_wanted) || (asked == 0 && m.version == 0 && s->doubts_first))) {
        set_goal(s, GOAL_AUDIT, m.version);
        buf_reset(&s->manifest);
        buf_append(&s->manifest, m.manifest);
        if (!m.version)
            buf_append(&s->publish, m.manifest);
        say_seen(s, now_ms, out);
    } else if (asked >= 0 && m.version == s->at + 1 && s->goal != GOAL_NONE) {
        buf_reset(&s->publish);
        buf_append(&s->publish, m.manifest);
    }
}

static void on_batch(struct dispute_state *s, struct bytes body, int64_t asked)
{
    int64_t wanted = s->phase == PHASE_OPEN ? s->version - 1 : s->at;

    if (s->goal == GOAL_NONE || asked != wanted)
        return;
    buf_reset(&s->batch);
    buf_append(&s->batch, body);
}

static void on_state(struct dispute_state *s, struct bytes body)
{
    struct msg_dispute_state m;
    struct reader r;

    if (msg_dispute_state_decode(&m, body, NULL))
        return;
    if (s->goal != GOAL_DISPUTE || !digest_equal(&m.dispute, &s->dispute)) {
        if (m.is_over || s->is_busy)
            return; /* its result belongs to the other goal: the question comes again */
        set_goal(s, GOAL_DISPUTE, m.version);
        s->dispute = m.dispute;
        s->opt_steps = m.opt_steps;
        s->challenger = m.challenger;
        buf_reset(&s->manifest);
        buf_append(&s->manifest, m.manifest);
    }
    if (m.from != s->n_moves)
        return;
    r = reader_of(m.moves);
    while (reader_left(&r) > 0 && !r.bad) {
        struct bytes move = reader_blob(&r);

        if (r.bad)
            return;
        buf_put_blob(&s->moves, move);
        s->n_moves++;
    }
    s->is_over = m.is_over;
}

static void on_wait(struct dispute_state *s, enum msg_kind asked, uint64_t tag,
                    struct bytes body, int64_t now_ms)
{
    struct msg_wait m;

    if (msg_wait_decode(&m, body, NULL))
        return;
    if (asked == MSG_AUDIT_ASK && !tag && s->doubts_first) {
        s->doubts_first = false; /* it cannot be had now: other versions are looked at */
        s->audit_ms = now_ms + BARRED_MS;
    }
    if (asked == MSG_DISPUTE_ASK && m.code != REASON_NO_WORK)
        s->dispute_ms = now_ms + m.retry_ms;
    else if (asked == MSG_DISPUTE_ASK && s->goal == GOAL_DISPUTE && !s->is_busy)
        s->goal = GOAL_NONE; /* it is closed */
    else if (asked != MSG_DISPUTE_ASK && s->goal != GOAL_NONE)
        s->again_ms = now_ms + m.retry_ms;
}

static bool is_taken(const struct msg_envelope *env)
{
    struct msg_receipt m;

    return env->kind == MSG_RECEIPT && !msg_receipt_decode(&m, env->body, NULL) &&
           m.is_accepted;
}

static void on_moved(struct dispute_state *s, const struct msg_envelope *env, int64_t now_ms)
{
    s->dispute_ms = now_ms; /* the move is among them now */
    if (is_taken(env))
        return;
    s->n_sent = 0; /* it was not taken: look again, then move again */
    s->again_ms = now_ms + FAILED_MS;
}

bool dispute_state_message(struct dispute_state *s, struct bytes data, int64_t now_ms,
                           struct effects *out)
{
    struct msg_envelope env;
    enum msg_kind asked;
    uint64_t tag;

    if (msg_envelope_decode(&env, data, NULL) || !rpc_answered(s->rpc, &env, &asked, &tag))
        return false;
    if (asked == MSG_AUDIT_ASK && env.kind == MSG_AUDIT)
        on_audit(s, env.body, (int64_t)tag, now_ms, out);
    else if (asked == MSG_BATCH_ASK && env.kind == MSG_BATCH)
        on_batch(s, env.body, (int64_t)tag);
    else if (asked == MSG_DISPUTE_ASK && env.kind == MSG_DISPUTE_STATE)
        on_state(s, env.body);
    else if (env.kind == MSG_WAIT)
        on_wait(s, asked, tag, env.body, now_ms);
    else if (env.kind == MSG_REFUSED)
        s->again_ms = now_ms + FAILED_MS;
    if (asked == MSG_STEP_VERDICT && s->phase == PHASE_SAID && s->goal == GOAL_AUDIT) {
        s->goal = GOAL_NONE;
        s->dispute_ms = s->audit_ms = now_ms;
        if (!is_taken(&env)) /* there is one dispute at a time */
            s->audit_ms = now_ms + REFUSED_MS;
    } else if (asked == MSG_DISPUTE) {
        on_moved(s, &env, now_ms);
    }
    dispute_state_tick(s, now_ms, out);
    return true;
}

/* ---- results ------------------------------------------------------------------------------- */

static void after_walk(struct dispute_state *s)
{
    int64_t last = s->goal == GOAL_DISPUTE ? s->version - 1 : s->version;

    buf_reset(&s->batch);
    buf_reset(&s->publish);
    s->phase = s->at < last ? PHASE_WALK : PHASE_OPEN;
}

/* What is to be said of a version, again if it is not taken. */
static void note_seen(struct dispute_state *s, const struct msg_step_verdict *m)
{
    struct msg_step_verdict *to;
    uint8_t *proof = NULL;

    s->seen = xrealloc(s->seen, (s->n_seen + 1) * sizeof(*s->seen));
    to = &s->seen[s->n_seen++];
    *to = *m;
    if (m->proof.len) {
        proof = xmalloc(m->proof.len); /* at most MSG_MAX_PROOF */
        memcpy(proof, m->proof.data, m->proof.len);
    }
    to->proof.data = proof;
}

/* Of the version that was compared. */
static void conclude(struct dispute_state *s, const struct msg_step_verdict *m, int64_t now_ms,
                     struct effects *out)
{
    if (m->is_accepted || m->version == s->version)
        note_seen(s, m);
    if (!m->is_accepted || m->version == s->version)
        say(s, m, now_ms, out);
    else
        after_walk(s);
}

/* Is what came out what was published? Says so, of the version that is the goal, and of one before that is
 * another. */
static void compare(struct dispute_state *s, struct bytes result, int64_t now_ms,
                    struct effects *out)
{
    struct reader r = reader_of(result);
    struct msg_step_verdict m = {.version = (int64_t)reader_u64(&r)};
    struct msg_manifest *is = xcalloc(1, sizeof(*is));
    struct msg_envelope env;
    struct digest before[2];
    bool begins_there, only_file;

    reader_copy(&r, m.weights.b, DIGEST_BYTES);
    reader_copy(&r, m.masters.b, DIGEST_BYTES);
    reader_copy(&r, m.optimizer.b, DIGEST_BYTES);
    reader_copy(&r, before[0].b, DIGEST_BYTES);
    reader_copy(&r, before[1].b, DIGEST_BYTES);
    digest_of(&m.manifest, buf_bytes(&s->publish));
    s->at = m.version;
    if (msg_envelope_decode(&env, buf_bytes(&s->publish), NULL) ||
        msg_manifest_decode(is, env.body, NULL) || is->version != m.version) {
        fail(s, "what was published does not decode", now_ms);
        free(is);
        return;
    }
    m.is_accepted = digest_equal(&m.weights, &is->weights) &&
                    digest_equal(&m.masters, &is->masters_after) &&
                    digest_equal(&m.optimizer, &is->optimizer_after);
    begins_there = !m.version || (digest_equal(&before[0], &is->masters_before) &&
                                  digest_equal(&before[1], &is->optimizer_before));
    only_file = m.version && !m.is_accepted && digest_equal(&m.masters, &is->masters_after) &&
                digest_equal(&m.optimizer, &is->optimizer_after);
    free(is);
    if (!m.is_accepted && !begins_there) { /* no game would be won */
        s->doubts_first = m.version == 1;
        fail(s,
             "a version begins with another state than that of version 0 leads to: no game is "
             "about that",
             now_ms);
        s->again_ms = s->doubts_first ? now_ms : now_ms + BARRED_MS;
        return;
    }
    if (s->opt.accuses && m.version == s->version && m.version) {
        m.is_accepted = false;
        m.masters.b[0] ^= 1;
    }
    if (only_file && !s->opt.accuses) {
        s->unproven = m;
        start(s, DISPUTE_JOB_PROVE, buf_bytes(&s->publish), out);
    } else {
        conclude(s, &m, now_ms, out);
    }
}

/* The masters are right, so what is made from them can be. */
static void pass_over(struct dispute_state *s, const char *text, int64_t now_ms)
{
    if (s->unproven.version < s->version) {
        after_walk(s);
        return;
    }
    fail(s, text, now_ms);
    s->again_ms = now_ms + BARRED_MS;
}

static void on_proof(struct dispute_state *s, struct bytes proof, int64_t now_ms,
                     struct effects *out)
{
    struct msg_step_verdict m = s->unproven;

    m.proof = proof;
    if (proof.len && proof.len <= MSG_MAX_PROOF)
        conclude(s, &m, now_ms, out);
    else
        pass_over(s, "a file is wrong, and its proof too long", now_ms);
}

static void on_move(struct dispute_state *s, struct bytes move, int64_t now_ms,
                    struct effects *out)
{
    struct msg_dispute m;
    struct buf body;

    if (!move.len) {
        s->again_ms = now_ms + FAILED_MS;
        return;
    }
    buf_init(&body, MSG_MAX_BYTES);
    if (!transcript_next(&m, buf_bytes(&s->moves), &s->dispute, move, NULL) &&
        !msg_dispute_encode(&body, &m, NULL))
        ask(s, MSG_DISPUTE, &body, m.number, now_ms, out);
    s->n_sent = s->n_moves + 1;
    buf_clear(&body);
}

void dispute_state_job(struct dispute_state *s, uint32_t job, uint64_t number, enum status st,
                       struct bytes result, const struct err *e, int64_t now_ms,
                       struct effects *out)
{
    struct reader r = reader_of(result);

    if (!s->is_busy || number != s->number)
        return;
    s->is_busy = false;
    if (st && job == DISPUTE_JOB_PROVE) {
        pass_over(s, e && e->text[0] ? e->text : status_text(st), now_ms);
    } else if (st) {
        fail(s, e && e->text[0] ? e->text : status_text(st), now_ms);
    } else if (job == DISPUTE_JOB_PROVE) {
        on_proof(s, result, now_ms, out);
    } else if (job == DISPUTE_JOB_FIRST) {
        if (reader_u8(&r))
            compare(s, bytes_slice(result, 1, result.len - 1), now_ms, out);
    } else if (job == DISPUTE_JOB_SEEK) {
        s->at = (int64_t)reader_u64(&r);
        s->phase = s->goal == GOAL_AUDIT ? PHASE_WALK : PHASE_OPEN;
        if (s->at < s->version - 1)
            s->phase = PHASE_WALK;
    } else if (job == DISPUTE_JOB_STEP && s->goal == GOAL_AUDIT) {
        compare(s, result, now_ms, out);
    } else if (job == DISPUTE_JOB_STEP) {
        s->at = (int64_t)reader_u64(&r);
        after_walk(s);
    } else if (job == DISPUTE_JOB_OPEN) {
        s->phase = PHASE_PLAY;
    } else {
        on_move(s, result, now_ms, out);
    }
    dispute_state_tick(s, now_ms, out);
}
