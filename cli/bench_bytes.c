#include "cli/bench_bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "proto/digest.h"
#include "proto/msg.h"
#include "proto/opening.h"
#include "proto/sign.h"
#include "proto/submission.h"
#include "proto/toploc.h"

#define PROMPT 64u /* tokens */

/* Numbers as a run has them: none is zero, for the codec leaves out what is. */
static const struct digest some = {{1, 2, 3}};
static const uint64_t number = 1000000;

struct maker {
    struct secret_key secret;
    struct buf body, envelope; /* owned */
};

/* The size of the envelope around x->body. */
static enum status seal(struct maker *x, enum msg_kind kind, size_t *bytes, struct err *e)
{
    const struct idem idem = {{1}};
    enum status st;

    buf_reset(&x->envelope);
    st = msg_envelope_encode(&x->envelope, kind, &some, &idem, buf_bytes(&x->body),
                             msg_kind_is_signed(kind) ? &x->secret : NULL, e);
    *bytes = x->envelope.len;
    buf_reset(&x->body);
    return st;
}

/* Leaves SUBMIT in x->envelope. */
static enum status size_of_submit(struct maker *x, struct msg_submit *m,
                                  struct bench_bytes *out, struct err *e)
{
    struct msg_submit *plain = xmalloc(sizeof(*plain));
    size_t with = 0, without = 0;
    enum status st;

    *plain = *m;
    plain->task = plain->weights = plain->root = plain->opening = (struct digest){{0}};
    plain->numerics[0] = '\0';
    st = msg_submit_encode(&x->body, plain, e);
    if (!st)
        st = seal(x, MSG_HEARTBEAT, &without, e); /* any kind that is not signed */
    if (!st)
        st = msg_submit_encode(&x->body, m, e);
    if (!st)
        st = seal(x, MSG_SUBMIT, &with, e);
    for (uint32_t i = 0; i < m->n_samples; i++)
        out->payload += m->sample[i].tokens.len + m->sample[i].logprobs.len;
    out->plain = without;
    out->commit = with - without;
    free(plain);
    return st;
}

static enum status size_of_receipt(struct maker *x, size_t *bytes, struct err *e)
{
    const struct msg_receipt receipt = {.seq = number, .entry = some, .is_accepted = true};
    enum status st = msg_receipt_encode(&x->body, &receipt, e);

    return st ? st : seal(x, MSG_RECEIPT, bytes, e);
}

static enum status size_of_ask(struct maker *x, size_t *bytes, struct err *e)
{
    const struct msg_check_ask ask = {(int64_t)number, (int64_t)number};
    enum status st = msg_check_ask_encode(&x->body, &ask, e);

    return st ? st : seal(x, MSG_CHECK_ASK, bytes, e);
}

/* A full check of the SUBMIT in `submit`, and what comes of it. */
static enum status size_of_full(struct maker *x, struct bytes submit, uint64_t *out,
                                struct err *e)
{
    const struct msg_check check = {.unit = number,
                                    .lease = number,
                                    .depth = CHECK_FULL,
                                    .deadline_ms = 60000,
                                    .submission = submit};
    const struct msg_verdict verdict = {.unit = number,
                                        .lease = number,
                                        .submission = some,
                                        .depth = CHECK_FULL,
                                        .is_accepted = true,
                                        .states = some};
    size_t ask = 0, asked = 0, said = 0, answered = 0;
    enum status st = size_of_ask(x, &ask, e);

    if (!st)
        st = msg_check_encode(&x->body, &check, e);
    if (!st)
        st = seal(x, MSG_CHECK, &asked, e);
    if (!st)
        st = msg_verdict_encode(&x->body, &verdict, e);
    if (!st)
        st = seal(x, MSG_VERDICT, &said, e);
    if (!st)
        st = size_of_receipt(x, &answered, e);
    *out = ask + asked - submit.len + said + answered;
    return st;
}

/* One of BENCH_LIGHT light checks that go together. */
static enum status size_of_light(struct maker *x, struct bytes submit, double *out,
                                 struct err *e)
{
    struct msg_checks checks = {.deadline_ms = 60000, .n = BENCH_LIGHT};
    struct msg_verdicts verdicts = {.submissions = some, .n = BENCH_LIGHT};
    size_t ask = 0, asked = 0, said = 0, answered = 0;
    enum status st = size_of_ask(x, &ask, e);

    for (uint32_t i = 0; i < BENCH_LIGHT; i++) {
        checks.item[i] = (struct check_item){number + i, number + i, submit};
        verdicts.item[i] = (struct attempt){number + i, number + i};
    }
    if (!st)
        st = msg_checks_encode(&x->body, &checks, e);
    if (!st)
        st = seal(x, MSG_CHECKS, &asked, e);
    if (!st)
        st = msg_verdicts_encode(&x->body, &verdicts, e);
    if (!st)
        st = seal(x, MSG_VERDICTS, &said, e);
    if (!st)
        st = size_of_receipt(x, &answered, e);
    *out = (double)(ask + asked - BENCH_LIGHT * submit.len + said + answered) / BENCH_LIGHT;
    return st;
}

static enum status size_of_checks(struct maker *x, struct bench_bytes *out, struct err *e)
{
    struct buf submit;
    enum status st;

    buf_init(&submit, MSG_MAX_BYTES);
    buf_append(&submit, buf_bytes(&x->envelope));
    st = buf_status(&submit, e);
    if (!st)
        st = size_of_full(x, buf_bytes(&submit), &out->full, e);
    if (!st)
        st = size_of_light(x, buf_bytes(&submit), &out->light, e);
    buf_clear(&submit);
    return st;
}

/* What a worker is asked for openings with, a unit at a time. */
static enum status size_of_drawn(struct maker *x, size_t *bytes, struct err *e)
{
    const struct msg_drawn_ask ask = {.settled = number};
    const struct msg_drawn drawn = {
        .settled = number, .n = 1, .item = {{.unit = number, .lease = number}}};
    size_t asked = 0, said = 0;
    enum status st = msg_drawn_ask_encode(&x->body, &ask, e);

    if (!st)
        st = seal(x, MSG_DRAWN_ASK, &asked, e);
    if (!st)
        st = msg_drawn_encode(&x->body, &drawn, e);
    if (!st)
        st = seal(x, MSG_DRAWN, &said, e);
    *bytes = asked + said;
    return st;
}

static enum status size_of_opening(struct maker *x, struct msg_submit *m,
                                   struct bench_bytes *out, struct err *e)
{
    size_t chunks = (size_t)opening_chunks(m), bytes = 0;
    uint8_t *zeros = xcalloc(chunks, TOPLOC_PROOF_BYTES);
    const struct msg_opening o = {.unit = m->unit,
                                  .lease = m->lease,
                                  .proofs = {zeros, chunks * TOPLOC_PROOF_BYTES},
                                  .states = some};
    enum status st = msg_opening_encode(&x->body, &o, e);

    if (!st)
        st = seal(x, MSG_OPENING, &bytes, e);
    out->opening = bytes;
    if (!st)
        st = size_of_receipt(x, &bytes, e);
    out->opening += bytes;
    if (!st)
        st = size_of_drawn(x, &bytes, e);
    out->opening += bytes;
    opening_root(&m->opening, m, &o);
    free(zeros);
    return st;
}

enum status bench_bytes_of(struct bench_bytes *out, const char *numerics, uint32_t samples,
                           uint32_t tokens, struct err *e)
{
    static const uint8_t seed[32] = {1};
    struct maker *x = xcalloc(1, sizeof(*x));
    struct msg_submit *m = xcalloc(1, sizeof(*m));
    uint8_t *zeros = xcalloc(tokens, 4);
    struct public_key pub;
    enum status st = OK;

    memset(out, 0, sizeof(*out));
    sign_keys_of_seed(&pub, &x->secret, seed);
    buf_init(&x->body, MSG_MAX_BYTES);
    buf_init(&x->envelope, MSG_MAX_BYTES);
    m->unit = m->lease = number;
    m->version = (int64_t)number;
    m->task = m->weights = some;
    snprintf(m->numerics, sizeof(m->numerics), "%s", numerics);
    m->prompt = (struct bytes){zeros, 4 * (size_t)(PROMPT < tokens ? PROMPT : tokens)};
    m->n_samples = samples;
    for (uint32_t i = 0; i < samples; i++)
        m->sample[i] = (struct msg_sample){.tokens = {zeros, 4 * (size_t)tokens},
                                           .logprobs = {zeros, 4 * (size_t)tokens},
                                           .reward = 1.0f,
                                           .finish = FINISH_LENGTH};
    out->tokens = submission_tokens(m);
    if (opening_is_wanted(numerics))
        st = size_of_opening(x, m, out, e);
    submission_root(&m->root, m);
    if (!st)
        st = submission_check_bounds(m, NULL, e);
    if (!st)
        st = size_of_submit(x, m, out, e);
    if (!st)
        st = size_of_checks(x, out, e);
    buf_clear(&x->body);
    buf_clear(&x->envelope);
    free(zeros);
    free(m);
    free(x);
    return st;
}

double bench_bytes_expected(const struct bench_bytes *b)
{
    return ((double)b->commit + BENCH_AUDITS * (double)(b->opening + b->full) +
            (1.0 - BENCH_AUDITS) * b->light) /
           (double)b->tokens;
}
