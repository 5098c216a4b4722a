#include "replay/transcript_play.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/memory.h"
#include "base/pool.h"
#include "engine/kernels.h"
#include "proto/digest.h"
#include "replay/course.h"
#include "replay/file_proof.h"

/* ---- the step -------------------------------------------------------------------------------- */

/* What the bundle says of the step, and that it is the manifest's. */
struct terms {
    struct task task;
    struct model_config config;
    struct learn_settings settings;
    enum numerics numerics;
    struct digest id;
    bool is_contradicted; /* by the manifest: of this task, and with other settings */
};

/* The task, and the shape of its model. */
static enum status open_bundle(struct terms *t, struct bytes bundle, struct err *e)
{
    struct tokenizer *tokenizer = NULL;
    struct bundle b;
    enum status st = bundle_decode(&b, bundle, e);

    if (!st)
        st = task_parse(&t->task, b.file[BUNDLE_TASK], "task.yaml", e);
    if (!st)
        st = setup_model_config(&t->config, &tokenizer, &t->task, &b, e);
    tokenizer_free(&tokenizer);
    return st;
}

enum status transcript_first_bytes(uint64_t *out, struct bytes bundle, struct err *e)
{
    struct terms terms = {0};
    enum status st = open_bundle(&terms, bundle, e);

    if (!st)
        st = course_first_bytes(out, &terms.task, &terms.config, e);
    task_clear(&terms.task);
    return st;
}

static enum status open_terms(struct terms *t, struct bytes bundle,
                              const struct msg_manifest *m, struct err *e)
{
    struct digest settings;
    enum status st = open_bundle(t, bundle, e);

    if (!st)
        st = course_settings(&t->settings, &t->task, e);
    if (!st)
        st = numerics_parse(&t->numerics, m->numerics, e);
    if (st)
        return st;
    bundle_id(t->id.b, bundle);
    learn_settings_digest(&settings, &t->settings);
    t->is_contradicted = !digest_equal(&settings, &m->settings);
    if (!digest_equal(&t->id, &m->task))
        return err_set(e, ERR_DIGEST, "the bundle is not that of the manifest");
    return OK;
}

static enum status open_batch(struct learn_batch *out, const struct terms *t, struct bytes in,
                              const struct msg_manifest *m, const struct digest *run,
                              struct err *e)
{
    const struct learn_rules rules =
        course_rules(&t->task, &t->id, t->config.vocab, m->version - 1, run);
    struct msg_batch *b = xcalloc(1, sizeof(*b));
    enum status st = msg_batch_decode(b, in, e);

    if (!st)
        st = learn_batch_build(out, b, &rules, e);
    if (!st && !digest_equal(&out->root, &m->batch)) {
        learn_batch_clear(out);
        st = err_set(e, ERR_DIGEST, "the batch is not that of the manifest");
    }
    free(b);
    return st;
}

/* The challenge of a dispute without moves: whose it is, and what it proves. */
static enum status open_challenge(struct transcript_step *s, const struct transcript *t,
                                  struct err *e)
{
    struct msg_step_verdict m;
    struct msg_envelope env;
    struct digest manifest;
    enum status st = msg_envelope_decode(&env, t->challenge, e);

    if (!st && (env.kind != MSG_STEP_VERDICT || !digest_equal(&env.run, &s->run) ||
                !key_equal(&env.signer, &t->challenger)))
        st = err_set(e, ERR_DENIED, "the challenge is not the challenger's");
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_step_verdict_decode(&m, env.body, e);
    if (st)
        return st;
    digest_of(&manifest, t->manifest);
    if (!digest_equal(&m.manifest, &manifest) || m.is_accepted || t->moves.len || t->batch.len)
        return err_set(e, ERR_DENIED, "the challenge is of another dispute");
    s->proof = m.proof;
    s->is_first = digest_is_zero(&s->manifest.batch);
    s->is_file = !s->is_first && m.proof.len;
    return s->is_first || s->is_file
               ? OK
               : err_set(e, ERR_DENIED, "the challenge has no proof, and no game was played");
}

static enum status open_game(struct transcript_step *s, const struct transcript *t,
                             const struct terms *terms, struct err *e)
{
    const struct msg_manifest *m = &s->manifest;
    struct learn_batch batch = {0};
    enum status st = OK;

    if (!m->version)
        return err_set(e, ERR_DENIED, "version 0 has no game");
    st = open_batch(&batch, terms, t->batch, m, &s->run, e);
    s->is_empty = !st && !s->is_contradicted && (!batch.n_samples || !batch.n_tokens);
    if (!st && !s->is_contradicted && !s->is_empty)
        st = graph_new(&s->graph, &terms->config, &terms->settings, terms->numerics, &batch,
                       (uint64_t)m->version - 1, t->opt_steps, e);
    learn_batch_clear(&batch);
    return st;
}

static enum status open_step(struct transcript_step *s, const struct transcript *t,
                             struct err *e)
{
    struct terms terms = {0};
    enum status st = open_terms(&terms, t->bundle, &s->manifest, e);

    s->is_contradicted = !st && terms.is_contradicted;
    s->config = terms.config;
    if (!st)
        st = t->challenge.len ? open_challenge(s, t, e) : open_game(s, t, &terms, e);
    task_clear(&terms.task);
    return st;
}

enum status transcript_open(struct transcript_step *s, const struct transcript *t,
                            struct err *e)
{
    struct msg_envelope env;
    struct digest manifest;
    struct msg_manifest *m = &s->manifest;
    enum status st = msg_envelope_decode(&env, t->manifest, e);

    memset(s, 0, sizeof(*s));
    if (!st && env.kind != MSG_PUBLISH)
        st = err_set(e, ERR_MALFORMED, "what is disputed is no manifest");
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_manifest_decode(m, env.body, e);
    if (!st) {
        s->run = env.run;
        s->defender = env.signer;
        s->version = m->version;
        s->claim = (struct opening_claim){.masters_before = m->masters_before,
                                          .optimizer_before = m->optimizer_before,
                                          .masters_after = m->masters_after,
                                          .optimizer_after = m->optimizer_after};
        digest_of(&manifest, t->manifest);
        transcript_id(&s->id, &manifest, t->opt_steps, &t->challenger);
        st = open_step(s, t, e);
    }
    return st;
}

void transcript_step_clear(struct transcript_step *s)
{
    graph_free(&s->graph);
}

/* ---- the moves ------------------------------------------------------------------------------- */

/* One envelope: by whom, and that it follows the one before. What is said in a game that is over is
 * of no account, but must be said in turn. */
static enum status take_move(struct dispute *d, const struct transcript_step *s,
                             const struct public_key *challenger, struct bytes in,
                             uint32_t number, struct digest *previous, struct err *e)
{
    enum dispute_side side = number % 2 ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER;
    struct msg_envelope env;
    struct msg_dispute m;
    enum status st = msg_envelope_decode(&env, in, e);

    if (!st && (env.kind != MSG_DISPUTE || !digest_equal(&env.run, &s->run)))
        st = err_set(e, ERR_MALFORMED, "an envelope is no move of this run");
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_dispute_decode(&m, env.body, e);
    if (st)
        return err_prefix(e, st, "move %" PRIu32, number);
    if (!digest_equal(&m.dispute, &s->id) || m.number != number ||
        !digest_equal(&m.previous, previous))
        return err_set(e, ERR_DENIED, "move %" PRIu32 " belongs elsewhere", number);
    if (!key_equal(&env.signer, side == DISPUTE_DEFENDER ? &s->defender : challenger))
        return err_set(e, ERR_DENIED, "move %" PRIu32 " is not signed by whose turn it was",
                       number);
    digest_of(previous, in);
    return d->level == DISPUTE_CLOSED ? OK : dispute_move(d, side, m.move, 0, e);
}

void transcript_begin(struct dispute *d, const struct transcript_step *s)
{
    const struct dispute_rules rules = {.kernels = kernels_best()};

    if (!s->is_contradicted) {
        dispute_init(d, s->graph, &s->claim, &rules, 0);
        return;
    }
    *d = (struct dispute){.level = DISPUTE_CLOSED, .loser = DISPUTE_DEFENDER};
    snprintf(d->why, sizeof(d->why), "signed other settings than those of its task");
}

enum status transcript_moves(struct dispute *d, uint32_t *n, const struct transcript_step *s,
                             const struct public_key *challenger, struct bytes moves,
                             struct err *e)
{
    struct reader r = reader_of(moves);
    struct digest previous = {{0}};
    enum status st = OK;

    for (*n = 0; !st && reader_left(&r) > 0; (*n)++) {
        struct bytes in = reader_blob(&r);

        st = r.bad ? err_set(e, ERR_MALFORMED, "the moves are cut short")
                   : take_move(d, s, challenger, in, *n, &previous, e);
    }
    return st;
}

/* A step on nothing changes nothing: there is no game to play about that. */
static void judge_empty(struct transcript_result *out, const struct transcript_step *s)
{
    bool is_right = digest_equal(&s->claim.masters_before, &s->claim.masters_after) &&
                    digest_equal(&s->claim.optimizer_before, &s->claim.optimizer_after);

    out->loser = is_right ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER;
    snprintf(out->why, sizeof(out->why), "trained on nothing, and %s changed",
             is_right ? "nothing" : "something");
}

static void compare_first(struct transcript_result *out, const struct transcript_step *s,
                          const struct course *c)
{
    const char *other = !digest_equal(&c->masters, &s->claim.masters_after)       ? "masters"
                        : !digest_equal(&c->optimizer, &s->claim.optimizer_after) ? "moments"
                        : !digest_equal(&c->weights, &s->manifest.weights)        ? "weights"
                                                                                  : NULL;

    out->loser = other ? DISPUTE_DEFENDER : DISPUTE_CHALLENGER;
    snprintf(out->why, sizeof(out->why), "the task gives %s %s of version 0",
             other ? "other" : "these", other ? other : "weights, masters and moments");
}

static bool goes_on(void *arg, uint64_t step, uint64_t steps, float loss)
{
    const atomic_bool *is_stopped = arg;

    (void)step;
    (void)steps;
    (void)loss;
    return !is_stopped || !atomic_load(is_stopped);
}

static enum status check_memory(struct bytes bundle, struct err *e)
{
    const uint64_t limit = memory_available();
    uint64_t bytes;
    enum status st = transcript_first_bytes(&bytes, bundle, e);

    if (st || bytes <= limit)
        return st;
    return err_set(e, ERR_LIMIT,
                   "making version 0 takes %" PRIu64 " MiB, more than the %" PRIu64 " MiB free",
                   (bytes >> 20) + 1, limit >> 20);
}

/* Version 0 is what the task makes, and whoever judges makes it. */
static enum status judge_first(struct transcript_result *out, const struct transcript_step *s,
                               struct bytes bundle, const atomic_bool *is_stopped,
                               struct err *e)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct course_options co = {.run = s->run, .kernels = kernels_best()};
    struct setup *setup = NULL;
    struct course c;
    enum status st = check_memory(bundle, e);

    if (!st)
        st = setup_open(&setup, bundle, NULL, e);
    if (st)
        return st;
    pool_new(&co.pool, cores > 1 ? (size_t)cores : 1);
    course_init(&c, setup, &co);
    st = course_begin(&c, e);
    if (!st)
        st = course_warm_up(&c, goes_on, (void *)(uintptr_t)is_stopped, e);
    if (!st)
        compare_first(out, s, &c);
    course_clear(&c);
    pool_free(&co.pool);
    setup_close(&setup);
    return st;
}

/* A proof that is none is the challenger's fault. */
static enum status judge_file(struct transcript_result *out, const struct transcript_step *s,
                              struct err *e)
{
    struct err why = {OK, ""};
    enum status st = file_proof_judge(out->why, s->proof, &s->manifest, &s->config, &why);

    if (st == ERR_NO_MEMORY)
        return err_set(e, st, "%s", why.text);
    out->loser = st ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER;
    if (st)
        snprintf(out->why, sizeof(out->why), "%.190s", why.text);
    return OK;
}

static void tell(struct transcript_result *out, const struct dispute *d)
{
    out->opened_bytes = d->opened_bytes;
    out->loser = d->loser;
    out->turn = d->turn;
    snprintf(out->why, sizeof(out->why), "%s", d->why);
    if (!d->opened_bytes)
        return;
    out->question = dispute_question(d);
    graph_describe(out->where, sizeof(out->where), d->g, d->op);
}

enum status transcript_replay(struct transcript_result *out, const struct transcript *t,
                              const atomic_bool *is_stopped, struct err *e)
{
    struct transcript_step s;
    struct dispute d;
    enum status st = transcript_open(&s, t, e);

    memset(out, 0, sizeof(*out));
    out->defender = s.defender;
    out->challenger = t->challenger;
    out->run = s.run;
    out->version = s.version;
    if (!st && s.is_first && !s.is_contradicted) {
        st = judge_first(out, &s, t->bundle, is_stopped, e);
    } else if (!st && s.is_file && !s.is_contradicted) {
        st = judge_file(out, &s, e);
    } else if (!st && s.is_empty) {
        judge_empty(out, &s);
    } else if (!st) {
        transcript_begin(&d, &s);
        st = transcript_moves(&d, &out->n_moves, &s, &t->challenger, t->moves, e);
        tell(out, &d);
        dispute_clear(&d);
    }
    transcript_step_clear(&s);
    return st;
}
