#include "trainer/train_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define RETRY_MS       2000
#define AFTER_ERROR_MS 1000

enum phase {
    PHASE_NEW,     /* no bundle yet */
    PHASE_OPEN,    /* the job runs */
    PHASE_PUBLISH, /* waits for the receipt of `version` */
    PHASE_BATCH,   /* wants batch `version` */
    PHASE_STEP,    /* the job runs */
    PHASE_EXPORT,  /* the job runs */
    PHASE_DONE,
};

struct train_state {
    struct rpc *rpc; /* owned */
    enum phase phase;
    bool is_asking;
    int64_t ask_at_ms;
    uint64_t steps;
    int64_t version;
    struct buf manifest; /* owned: the body that is published */
    bool must_announce;
    enum status failure;
    struct err err;
    char why[MSG_TEXT_BYTES];
};

void train_state_new(struct train_state **out, const struct train_state_options *opt)
{
    struct train_state *s = xcalloc(1, sizeof(*s));

    rpc_new(&s->rpc, opt->key, opt->boot);
    buf_init(&s->manifest, MSG_MAX_BYTES);
    s->version = -1;
    snprintf(s->why, sizeof(s->why), "not admitted yet");
    *out = s;
}

void train_state_free(struct train_state **s)
{
    if (!*s)
        return;
    buf_clear(&(*s)->manifest);
    rpc_free(&(*s)->rpc);
    free(*s);
    *s = NULL;
}

void train_state_welcome(struct train_state *s, uint64_t peer, const struct digest *run)
{
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, run);
}

bool train_state_is_done(const struct train_state *s)
{
    return s->phase == PHASE_DONE;
}

enum status train_state_failure(const struct train_state *s, struct err *e)
{
    if (s->failure && e)
        *e = s->err;
    return s->failure;
}

const char *train_state_why(const struct train_state *s)
{
    return s->phase == PHASE_OPEN || s->phase == PHASE_STEP || s->phase == PHASE_EXPORT
               ? ""
               : s->why;
}

int64_t train_state_take_announcement(struct train_state *s, struct bytes *manifest)
{
    if (!s->must_announce)
        return -1;
    s->must_announce = false;
    *manifest = buf_bytes(&s->manifest);
    return s->version;
}

static void start(struct train_state *s, enum phase phase, enum train_job job,
                  struct bytes args, struct effects *out)
{
    s->phase = phase;
    effects_start(out, job, 0, args);
}

void train_state_ready(struct train_state *s, uint64_t steps, int64_t now_ms,
                       struct effects *out)
{
    (void)now_ms;
    if (s->phase != PHASE_NEW)
        return;
    s->steps = steps;
    start(s, PHASE_OPEN, TRAIN_JOB_OPEN, (struct bytes){NULL, 0}, out);
}

static void publish(struct train_state *s, int64_t now_ms, struct effects *out)
{
    s->phase = PHASE_PUBLISH;
    s->must_announce = true;
    snprintf(s->why, sizeof(s->why), "version %lld waits for its receipt",
             (long long)s->version);
    (void)!rpc_ask(s->rpc, MSG_PUBLISH, buf_bytes(&s->manifest), (uint64_t)s->version, RETRY_MS,
                   now_ms, out, NULL);
}

static void ask_batch(struct train_state *s, int64_t now_ms, struct effects *out)
{
    const struct msg_batch_ask m = {.batch = (uint64_t)s->version};
    struct buf body;

    if (s->phase != PHASE_BATCH || s->is_asking)
        return;
    if (now_ms < s->ask_at_ms) {
        effects_timer(out, s->ask_at_ms);
        return;
    }
    buf_init(&body, 64);
    CHECK(!msg_batch_ask_encode(&body, &m, NULL));
    if (!rpc_ask(s->rpc, MSG_BATCH_ASK, buf_bytes(&body), m.batch, RETRY_MS, now_ms, out, NULL))
        s->is_asking = true;
    buf_clear(&body);
}

static void export(struct train_state *s, struct effects *out)
{
    start(s, PHASE_EXPORT, TRAIN_JOB_EXPORT, (struct bytes){NULL, 0}, out);
}

/* A version is on record: on to the next, or to the end. */
static void go_on(struct train_state *s, int64_t now_ms, struct effects *out)
{
    if ((uint64_t)s->version >= s->steps) {
        export(s, out);
        return;
    }
    s->phase = PHASE_BATCH;
    s->ask_at_ms = now_ms;
    snprintf(s->why, sizeof(s->why), "batch %lld is not complete yet", (long long)s->version);
    ask_batch(s, now_ms, out);
}

static void fail(struct train_state *s, enum status st, const char *text)
{
    s->failure = err_set(&s->err, st, "%s", text);
}

static void on_receipt(struct train_state *s, struct bytes body, int64_t now_ms,
                       struct effects *out)
{
    struct msg_receipt m;
    char text[MSG_TEXT_BYTES + 64];

    if (s->phase != PHASE_PUBLISH)
        return;
    if (msg_receipt_decode(&m, body, NULL)) {
        fail(s, ERR_MALFORMED, "the receipt of a version does not decode");
        return;
    }
    if (m.is_accepted) {
        go_on(s, now_ms, out);
        return;
    }
    if (m.code == REASON_DONE) { /* closed meanwhile: what was made is still a model */
        export(s, out);
        return;
    }
    snprintf(text, sizeof(text), "version %lld was refused: %s", (long long)s->version,
             m.text[0] ? m.text : reason_text((enum reason)m.code));
    fail(s, ERR_DENIED, text);
}

static void on_wait(struct train_state *s, struct bytes body, int64_t now_ms,
                    struct run_news *news, struct effects *out)
{
    struct msg_wait m;

    s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    if (msg_wait_decode(&m, body, NULL))
        return;
    s->ask_at_ms = now_ms + m.retry_ms;
    snprintf(s->why, sizeof(s->why), "%s",
             m.text[0] ? m.text : reason_text((enum reason)m.code));
    *news = (struct run_news){true, m.head_version, m.roster_seq, m.is_done};
    if (m.is_done && s->phase == PHASE_BATCH) /* closed before its last version */
        export(s, out);
}

void train_state_message(struct train_state *s, struct bytes data, int64_t now_ms,
                         struct run_news *news, struct effects *out)
{
    struct msg_envelope env;
    enum msg_kind asked;
    uint64_t tag;

    memset(news, 0, sizeof(*news));
    if (msg_envelope_decode(&env, data, NULL) || !rpc_answered(s->rpc, &env, &asked, &tag))
        return;
    if (asked == MSG_BATCH_ASK) {
        s->is_asking = false;
        if (s->phase == PHASE_BATCH && env.kind == MSG_BATCH && tag == (uint64_t)s->version)
            start(s, PHASE_STEP, TRAIN_JOB_STEP, env.body, out);
        else if (env.kind == MSG_WAIT)
            on_wait(s, env.body, now_ms, news, out);
        else
            s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    } else if (asked == MSG_PUBLISH) {
        if (env.kind == MSG_RECEIPT)
            on_receipt(s, env.body, now_ms, out);
        else if (s->phase == PHASE_PUBLISH)
            s->ask_at_ms = now_ms + AFTER_ERROR_MS; /* no receipt: the tick asks again */
    }
    train_state_tick(s, now_ms, out);
}

static void on_version(struct train_state *s, struct bytes result, int64_t now_ms,
                       struct effects *out)
{
    struct reader r = reader_of(result);
    int64_t version = (int64_t)reader_u64(&r);
    struct bytes manifest = reader_blob(&r);

    CHECK(!r.bad && version >= 0);
    s->version = version;
    buf_reset(&s->manifest);
    buf_append(&s->manifest, manifest);
    publish(s, now_ms, out);
}

void train_state_job(struct train_state *s, uint32_t job, enum status st, struct bytes result,
                     const struct err *e, int64_t now_ms, struct effects *out)
{
    const char *text = e && e->text[0] ? e->text : status_text(st);

    if (st && job == TRAIN_JOB_STEP &&
        (st == ERR_DENIED || st == ERR_DIGEST || st == ERR_MALFORMED)) {
        /* The batch was refused and nothing changed: ask for it again, in case it was the wire. */
        s->phase = PHASE_BATCH;
        s->ask_at_ms = now_ms + AFTER_ERROR_MS;
        snprintf(s->why, sizeof(s->why), "%s", text);
    } else if (st) {
        fail(s, st, text);
        return;
    } else if (job == TRAIN_JOB_EXPORT) {
        s->phase = PHASE_DONE;
    } else {
        on_version(s, result, now_ms, out);
    }
    train_state_tick(s, now_ms, out);
}

void train_state_tick(struct train_state *s, int64_t now_ms, struct effects *out)
{
    if (s->failure)
        return; /* the process ends with it */
    if (s->phase == PHASE_PUBLISH && rpc_open(s->rpc, MSG_PUBLISH) == 0) {
        if (now_ms >= s->ask_at_ms)
            publish(s, now_ms, out);
        else
            effects_timer(out, s->ask_at_ms);
    }
    ask_batch(s, now_ms, out);
    rpc_tick(s->rpc, now_ms, out);
}
