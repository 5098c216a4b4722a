#include "trainer/transcript.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/kernels.h"
#include "proto/digest.h"
#include "proto/sign.h"
#include "trainer/course.h"

#define VERSION 1u

/* ---- the file -------------------------------------------------------------------------------- */

enum status transcript_encode(struct buf *out, const struct transcript *t, struct err *e)
{
    struct digest d;
    size_t from = out->len;

    buf_append(out, BYTES_LIT(TRANSCRIPT_MAGIC));
    buf_put_u32(out, VERSION);
    buf_put_blob(out, t->bundle);
    buf_put_blob(out, t->manifest);
    buf_put_blob(out, t->batch);
    buf_put_u64(out, t->opt_steps);
    buf_append(out, BYTES_OF(t->challenger.b));
    buf_put_blob(out, t->moves);
    if (!out->bad) {
        digest_of(&d, bytes_slice(buf_bytes(out), from, out->len - from));
        buf_append(out, BYTES_OF(d.b));
    }
    return buf_status(out, e);
}

enum status transcript_decode(struct transcript *t, struct bytes in, struct err *e)
{
    struct digest want, found;
    struct reader r;
    struct bytes magic;
    uint32_t version;

    if (in.len < DIGEST_BYTES)
        return err_set(e, ERR_MALFORMED, "%zu bytes are no dispute", in.len);
    r = reader_of(bytes_slice(in, 0, in.len - DIGEST_BYTES));
    magic = reader_bytes(&r, sizeof(TRANSCRIPT_MAGIC) - 1);
    version = reader_u32(&r);
    if (r.bad || !bytes_equal(magic, BYTES_LIT(TRANSCRIPT_MAGIC)))
        return err_set(e, ERR_MALFORMED, "this is no dispute of muster's");
    if (version != VERSION)
        return err_set(e, ERR_UNSUPPORTED, "a dispute of format %u; this program knows %u",
                       version, VERSION);
    memcpy(want.b, in.data + in.len - DIGEST_BYTES, DIGEST_BYTES);
    digest_of(&found, bytes_slice(in, 0, in.len - DIGEST_BYTES));
    if (!digest_equal(&want, &found))
        return err_set(e, ERR_DIGEST, "the dispute is damaged: its digest does not match");
    t->bundle = reader_blob(&r);
    t->manifest = reader_blob(&r);
    t->batch = reader_blob(&r);
    t->opt_steps = reader_u64(&r);
    reader_copy(&r, t->challenger.b, sizeof(t->challenger.b));
    t->moves = reader_blob(&r);
    return reader_done(&r, "a dispute", e);
}

void transcript_id(struct digest *out, struct bytes manifest_envelope, uint64_t opt_steps,
                   const struct public_key *challenger)
{
    struct digest manifest;
    struct digest_state s;

    digest_of(&manifest, manifest_envelope);
    digest_begin(&s, "muster/dispute");
    digest_add(&s, BYTES_OF(manifest.b));
    digest_add_u64(&s, opt_steps);
    digest_add(&s, BYTES_OF(challenger->b));
    digest_end(&s, out);
}

enum status transcript_add(struct buf *moves, const struct digest *id, const struct digest *run,
                           struct bytes move, const struct secret_key *secret, struct err *e)
{
    struct reader r = reader_of(buf_bytes(moves));
    struct msg_dispute m = {.dispute = *id, .move = move};
    struct idem idem = {{0}};
    struct buf body, envelope;
    enum status st;

    while (reader_left(&r) > 0) {
        struct bytes last = reader_blob(&r);

        if (r.bad)
            return err_set(e, ERR_MALFORMED, "moves that are cut short");
        digest_of(&m.previous, last);
        m.number++;
    }
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&envelope, MSG_MAX_BYTES);
    memcpy(idem.b, id->b, 12);
    for (size_t i = 0; i < 4; i++)
        idem.b[12 + i] = (uint8_t)(m.number >> 8 * i);
    st = msg_dispute_encode(&body, &m, e);
    if (!st)
        st = msg_envelope_encode(&envelope, MSG_DISPUTE, run, &idem, buf_bytes(&body), secret,
                                 e);
    if (!st) {
        buf_put_blob(moves, buf_bytes(&envelope));
        st = buf_status(moves, e);
    }
    buf_clear(&body);
    buf_clear(&envelope);
    return st;
}

/* ---- the step -------------------------------------------------------------------------------- */

/* What the bundle says of the step, and that it is the manifest's. */
struct terms {
    struct task task;
    struct model_config config;
    struct learn_settings settings;
    enum numerics numerics;
    struct digest id;
};

static enum status open_terms(struct terms *t, struct bytes bundle,
                              const struct msg_manifest *m, struct err *e)
{
    struct tokenizer *tokenizer = NULL;
    struct digest settings;
    struct bundle b;
    enum status st = bundle_decode(&b, bundle, e);

    if (!st)
        st = task_parse(&t->task, b.file[BUNDLE_TASK], "task.yaml", e);
    if (!st)
        st = setup_model_config(&t->config, &tokenizer, &t->task, &b, e);
    tokenizer_free(&tokenizer);
    if (!st)
        st = course_settings(&t->settings, &t->task, e);
    if (!st)
        st = numerics_parse(&t->numerics, m->numerics, e);
    if (st)
        return st;
    bundle_id(t->id.b, bundle);
    learn_settings_digest(&settings, &t->settings);
    if (!digest_equal(&t->id, &m->task) || !digest_equal(&settings, &m->settings))
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

    if (!st && m->version < 1)
        st = err_set(e, ERR_UNSUPPORTED,
                     "version 0 is made by supervised steps, which are "
                     "replayed from the start and not disputed");
    if (!st)
        st = learn_batch_build(out, b, &rules, e);
    if (!st && !digest_equal(&out->root, &m->batch)) {
        learn_batch_clear(out);
        st = err_set(e, ERR_DIGEST, "the batch is not that of the manifest");
    }
    free(b);
    return st;
}

static enum status open_step(struct transcript_step *s, const struct transcript *t,
                             const struct msg_manifest *m, struct err *e)
{
    struct terms terms = {0};
    struct learn_batch batch = {0};
    enum status st = open_terms(&terms, t->bundle, m, e);

    if (!st)
        st = open_batch(&batch, &terms, t->batch, m, &s->run, e);
    if (!st)
        st = graph_new(&s->graph, &terms.config, &terms.settings, terms.numerics, &batch,
                       (uint64_t)m->version - 1, t->opt_steps, e);
    learn_batch_clear(&batch);
    task_clear(&terms.task);
    return st;
}

enum status transcript_open(struct transcript_step *s, const struct transcript *t,
                            struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest *m = xcalloc(1, sizeof(*m));
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
        transcript_id(&s->id, t->manifest, t->opt_steps, &t->challenger);
        st = open_step(s, t, m, e);
    }
    free(m);
    return st;
}

void transcript_step_clear(struct transcript_step *s)
{
    graph_free(&s->graph);
}

/* ---- the moves ------------------------------------------------------------------------------- */

/* One envelope: by whom, and that it follows the one before. */
static enum status take_move(struct dispute *d, const struct transcript_step *s,
                             const struct public_key *challenger, struct bytes in,
                             struct digest *previous, struct err *e)
{
    struct msg_envelope env;
    struct msg_dispute m;
    enum dispute_side side;
    enum status st = msg_envelope_decode(&env, in, e);

    if (!st && (env.kind != MSG_DISPUTE || !digest_equal(&env.run, &s->run)))
        st = err_set(e, ERR_MALFORMED, "an envelope is no move of this run");
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st)
        st = msg_dispute_decode(&m, env.body, e);
    if (st)
        return err_prefix(e, st, "move %" PRIu32, d->n_moves);
    if (!digest_equal(&m.dispute, &s->id) || m.number != d->n_moves ||
        !digest_equal(&m.previous, previous))
        return err_set(e, ERR_DENIED, "move %" PRIu32 " belongs elsewhere", d->n_moves);
    side = d->turn;
    if (!key_equal(&env.signer, side == DISPUTE_DEFENDER ? &s->defender : challenger))
        return err_set(e, ERR_DENIED, "move %" PRIu32 " is not signed by whose turn it was",
                       d->n_moves);
    digest_of(previous, in);
    return dispute_move(d, side, m.move, 0, e);
}

enum status transcript_replay(struct transcript_result *out, const struct transcript *t,
                              struct err *e)
{
    const struct dispute_rules rules = {.kernels = kernels_best()};
    struct reader r = reader_of(t->moves);
    struct digest previous = {{0}};
    struct transcript_step s;
    struct dispute d;
    enum status st = transcript_open(&s, t, e);

    memset(out, 0, sizeof(*out));
    if (st) {
        transcript_step_clear(&s);
        return st;
    }
    dispute_init(&d, s.graph, &s.claim, &rules, 0);
    while (!st && reader_left(&r) > 0) {
        struct bytes in = reader_blob(&r);

        st = r.bad ? err_set(e, ERR_MALFORMED, "the moves are cut short")
                   : take_move(&d, &s, &t->challenger, in, &previous, e);
    }
    *out = (struct transcript_result){.defender = s.defender,
                                      .challenger = t->challenger,
                                      .run = s.run,
                                      .version = s.version,
                                      .n_moves = d.n_moves,
                                      .opened_bytes = d.opened_bytes,
                                      .loser = d.loser,
                                      .turn = d.turn};
    snprintf(out->why, sizeof(out->why), "%s", d.why);
    if (d.opened_bytes > 0)
        graph_describe(out->where, sizeof(out->where), s.graph, d.op);
    dispute_clear(&d);
    transcript_step_clear(&s);
    return st;
}
