#include "verifier/verify_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/witness.h"

#define RETRY_MS       2000
#define AFTER_ERROR_MS 1000
#define SEAL_MS        500  /* its answer waits for others */
#define HELD_MS        3000 /* a question that is answered when there is something */

/* Marks the tags of sealed verdicts and their seals; no unit has such a number. */
#define SEALED (1ull << 63)

/* A check: one may run while another waits its turn. */
struct task_slot {
    bool is_set;
    uint32_t job;     /* VERIFY_JOB_... */
    struct buf check; /* owned: the encoded msg_check, or msg_checks */
    int64_t until_ms; /* its deadline: somebody else has it afterwards */
};

struct verify {
    struct rpc *rpc;            /* owned */
    const struct node_key *key; /* borrowed */
    uint64_t boot;
    bool is_welcome, is_ready, is_stopped, is_drained;
    bool is_witness;
    uint64_t have;       /* the last head it was called for */
    uint64_t n_nonces;   /* made in this life */
    struct digest nonce; /* committed to, not given yet; zero: none */
    int64_t oldest, newest;
    int64_t ask_at_ms;
    bool is_asking;
    bool is_running; /* a job is under way for slot[0] */
    bool is_parked;  /* slot[0] waits for weights */
    bool is_news;    /* the versions here changed since the job began */
    uint64_t job;
    uint64_t n_sealed; /* verdicts that were sealed: what ties a seal to its verdict */
    struct task_slot slot[2];
    struct verify_counts counts;
    char why[MSG_TEXT_BYTES];
};

void verify_new(struct verify **out, const struct verify_options *opt)
{
    struct verify *s = xcalloc(1, sizeof(*s));

    rpc_new(&s->rpc, opt->key, opt->boot);
    s->key = opt->key;
    s->boot = opt->boot;
    s->oldest = s->newest = -1;
    for (size_t i = 0; i < 2; i++)
        buf_init(&s->slot[i].check, MSG_MAX_BYTES);
    snprintf(s->why, sizeof(s->why), "not admitted yet");
    *out = s;
}

void verify_free(struct verify **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < 2; i++)
        buf_clear(&(*s)->slot[i].check);
    rpc_free(&(*s)->rpc);
    free(*s);
    *s = NULL;
}

void verify_welcome(struct verify *s, uint64_t peer, const struct digest *run)
{
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, run);
    s->is_welcome = true;
}

void verify_ready(struct verify *s)
{
    s->is_ready = true;
}

void verify_witness(struct verify *s, uint64_t have)
{
    s->is_witness = true;
    s->have = have;
}

void verify_stop(struct verify *s)
{
    s->is_stopped = true;
}

bool verify_is_idle(const struct verify *s)
{
    return !s->is_running && rpc_open(s->rpc, MSG_VERDICT) == 0 &&
           rpc_open(s->rpc, MSG_VERDICTS) == 0;
}

bool verify_is_drained(const struct verify *s)
{
    return s->is_drained;
}

const struct verify_counts *verify_counts(const struct verify *s)
{
    return &s->counts;
}

const char *verify_why(const struct verify *s)
{
    return s->is_running ? "" : s->why;
}

static void ask(struct verify *s, int64_t now_ms, struct effects *out)
{
    const struct msg_check_ask m = {.newest_version = s->newest, .oldest_version = s->oldest};
    struct buf body;

    if (!s->is_welcome || !s->is_ready || s->is_stopped || s->is_asking || s->slot[1].is_set ||
        s->is_parked)
        return;
    if (now_ms < s->ask_at_ms) {
        effects_timer(out, s->ask_at_ms);
        return;
    }
    buf_init(&body, 256);
    CHECK(!msg_check_ask_encode(&body, &m, NULL));
    if (!rpc_ask(s->rpc, MSG_CHECK_ASK, buf_bytes(&body), 0, RETRY_MS, now_ms, out, NULL))
        s->is_asking = true;
    buf_clear(&body);
}

static void ask_head(struct verify *s, int64_t now_ms, struct effects *out)
{
    const struct msg_witness_ask m = {.have = s->have};
    struct buf body;

    if (!s->is_witness || !s->is_welcome || s->is_stopped ||
        rpc_open(s->rpc, MSG_WITNESS_ASK) || rpc_open(s->rpc, MSG_WITNESS))
        return;
    buf_init(&body, 256);
    CHECK(!msg_witness_ask_encode(&body, &m, NULL));
    (void)!rpc_ask(s->rpc, MSG_WITNESS_ASK, buf_bytes(&body), 0, HELD_MS, now_ms, out, NULL);
    buf_clear(&body);
}

/* Unknown to all until it is given: a function of the secret key and of this life. */
static void next_nonce(struct verify *s)
{
    struct digest_state d;

    digest_begin_keyed(&d, (struct bytes){s->key->node_secret->b, 32});
    digest_add(&d, BYTES_LIT("muster/nonce"));
    digest_add_u64(&d, s->boot);
    digest_add_u64(&d, ++s->n_nonces);
    digest_end(&d, &s->nonce);
}

/* Gives the nonce that is on record, if it is this one, and commits to another. A nonce is given
 * for one head only. */
static void on_call(struct verify *s, struct bytes body, int64_t now_ms, struct effects *out)
{
    struct msg_witness_call c;
    struct msg_witness m = {0};
    struct digest mine;
    struct buf reply;

    if (msg_witness_call_decode(&c, body, NULL) || c.seq <= s->have)
        return;
    s->have = c.seq;
    m.seq = c.seq;
    m.entry = c.entry;
    witness_commitment(&mine, &s->key->node, &s->nonce);
    if (!digest_is_zero(&s->nonce) && digest_equal(&mine, &c.next))
        m.nonce = s->nonce;
    next_nonce(s);
    witness_commitment(&m.next, &s->key->node, &s->nonce);
    buf_init(&reply, 512);
    CHECK(!msg_witness_encode(&reply, &m, NULL));
    (void)!rpc_ask(s->rpc, MSG_WITNESS, buf_bytes(&reply), 0, RETRY_MS, now_ms, out, NULL);
    buf_clear(&reply);
}

static void drop_first(struct verify *s)
{
    struct task_slot first = s->slot[0];

    s->slot[0] = s->slot[1];
    s->slot[1] = first;
    s->slot[1].is_set = false;
    buf_reset(&s->slot[1].check);
    s->is_parked = false;
}

static void run_next(struct verify *s, int64_t now_ms, struct effects *out)
{
    while (s->slot[0].is_set && !s->is_running && now_ms >= s->slot[0].until_ms)
        drop_first(s);
    if (!s->slot[0].is_set || s->is_running)
        return;
    if (s->is_parked) {
        effects_timer(out, s->slot[0].until_ms);
        return;
    }
    s->is_running = true;
    s->is_news = false;
    s->job++;
    effects_start(out, s->slot[0].job, s->job, buf_bytes(&s->slot[0].check));
}

/* Its deadline. ERR_MALFORMED. */
static enum status read_check(uint32_t *deadline_ms, uint32_t job, struct bytes body)
{
    struct msg_checks many;
    struct msg_check one;
    enum status st = job == VERIFY_JOB_LIGHT ? msg_checks_decode(&many, body, NULL)
                                             : msg_check_decode(&one, body, NULL);

    if (!st)
        *deadline_ms = job == VERIFY_JOB_LIGHT ? many.deadline_ms : one.deadline_ms;
    return st;
}

static void on_check(struct verify *s, uint32_t job, struct bytes body, int64_t now_ms)
{
    struct task_slot *slot = s->slot[0].is_set ? &s->slot[1] : &s->slot[0];
    uint32_t deadline_ms;

    if (slot->is_set || read_check(&deadline_ms, job, body)) {
        s->ask_at_ms = now_ms + AFTER_ERROR_MS;
        return;
    }
    buf_reset(&slot->check);
    buf_append(&slot->check, body);
    slot->job = job;
    slot->is_set = !slot->check.bad;
    slot->until_ms = now_ms + deadline_ms;
}

static void on_wait(struct verify *s, struct bytes body, int64_t now_ms, struct run_news *news)
{
    struct msg_wait m;

    s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    if (msg_wait_decode(&m, body, NULL))
        return;
    s->ask_at_ms = now_ms + m.retry_ms;
    s->is_drained = m.code == REASON_DRAINING;
    snprintf(s->why, sizeof(s->why), "%s", m.text[0] ? m.text : reason_text(m.code));
    *news = (struct run_news){true, m.head_version, m.roster_seq, m.is_done};
}

/* Everybody has sealed, and the verdict may be shown; or it is too late for it. */
static void on_sealed(struct verify *s, const struct msg_envelope *env, uint64_t tag,
                      int64_t now_ms, struct effects *out)
{
    struct msg_receipt r;

    if (env->kind == MSG_RECEIPT && !msg_receipt_decode(&r, env->body, NULL) && r.is_accepted)
        rpc_release(s->rpc, MSG_VERDICT, tag, now_ms, out);
    else
        rpc_cancel(s->rpc, tag);
}

void verify_message(struct verify *s, struct bytes data, int64_t now_ms, struct run_news *news,
                    struct effects *out)
{
    struct msg_envelope env;
    enum msg_kind asked;
    uint64_t tag;

    memset(news, 0, sizeof(*news));
    if (msg_envelope_decode(&env, data, NULL) || !rpc_answered(s->rpc, &env, &asked, &tag))
        return;
    if (asked == MSG_CHECK_ASK) {
        s->is_asking = false;
        if (env.kind == MSG_CHECK || env.kind == MSG_CHECKS)
            on_check(s, env.kind == MSG_CHECKS ? VERIFY_JOB_LIGHT : VERIFY_JOB_CHECK, env.body,
                     now_ms);
        else if (env.kind == MSG_WAIT)
            on_wait(s, env.body, now_ms, news);
        else
            s->ask_at_ms = now_ms + AFTER_ERROR_MS;
    } else if (asked == MSG_WITNESS_ASK && env.kind == MSG_WITNESS_CALL) {
        on_call(s, env.body, now_ms, out);
    } else if (asked == MSG_VERDICT_SEAL) {
        on_sealed(s, &env, tag, now_ms, out);
    } else if ((asked == MSG_VERDICT || asked == MSG_VERDICTS) && env.kind == MSG_RECEIPT) {
        s->counts.receipts++;
    }
    verify_tick(s, now_ms, out);
}

void verify_versions(struct verify *s, int64_t oldest, int64_t newest, int64_t now_ms,
                     struct effects *out)
{
    if (newest != s->newest || oldest != s->oldest) {
        s->is_parked = false;
        s->is_news = true;
    }
    s->oldest = oldest;
    s->newest = newest;
    verify_tick(s, now_ms, out);
}

/* The verdict is made and signed, but only its digest is sent. */
static void seal_verdict(struct verify *s, const struct msg_verdict *v, struct bytes body,
                         int64_t now_ms, struct effects *out)
{
    struct msg_verdict_seal m = {.unit = v->unit, .lease = v->lease};
    uint64_t tag = SEALED | ++s->n_sealed;
    struct buf seal;

    if (rpc_hold(s->rpc, MSG_VERDICT, body, tag, RETRY_MS, &m.verdict, NULL))
        return;
    buf_init(&seal, 256);
    CHECK(!msg_verdict_seal_encode(&seal, &m, NULL));
    if (rpc_ask(s->rpc, MSG_VERDICT_SEAL, buf_bytes(&seal), tag, SEAL_MS, now_ms, out, NULL))
        rpc_cancel(s->rpc, tag);
    buf_clear(&seal);
}

static void send_verdict(struct verify *s, struct bytes body, int64_t now_ms,
                         struct effects *out)
{
    struct msg_verdict v;
    struct msg_check c;

    if (msg_verdict_decode(&v, body, NULL) ||
        msg_check_decode(&c, buf_bytes(&s->slot[0].check), NULL))
        return;
    s->counts.checked++;
    s->counts.full += v.depth == CHECK_FULL;
    s->counts.rejected += !v.is_accepted;
    if (!digest_is_zero(&c.draw))
        seal_verdict(s, &v, body, now_ms, out);
    else
        (void)!rpc_ask(s->rpc, MSG_VERDICT, body, v.unit, RETRY_MS, now_ms, out, NULL);
}

/* Those that found nothing are said with one signature, the others each by itself. */
static void send_light(struct verify *s, struct bytes result, int64_t now_ms,
                       struct effects *out)
{
    struct reader r = reader_of(result);
    uint32_t n = reader_u32(&r);
    struct msg_verdicts m = {0};
    struct digest_state d;
    struct buf body;

    digest_begin(&d, "muster/1/submissions");
    for (uint32_t i = 0; i < n && !r.bad; i++) {
        struct bytes one = reader_blob(&r);
        struct msg_verdict v;

        if (r.bad || msg_verdict_decode(&v, one, NULL))
            break;
        s->counts.checked++;
        s->counts.rejected += !v.is_accepted;
        if (!v.is_accepted || m.n == MSG_MAX_CHECKS) {
            (void)!rpc_ask(s->rpc, MSG_VERDICT, one, v.unit, RETRY_MS, now_ms, out, NULL);
            continue;
        }
        m.item[m.n++] = (struct attempt){v.unit, v.lease};
        digest_add(&d, BYTES_OF(v.submission.b));
    }
    digest_end(&d, &m.submissions);
    if (!m.n)
        return;
    buf_init(&body, 4096);
    CHECK(!msg_verdicts_encode(&body, &m, NULL));
    (void)!rpc_ask(s->rpc, MSG_VERDICTS, buf_bytes(&body), 0, RETRY_MS, now_ms, out, NULL);
    buf_clear(&body);
}

void verify_job(struct verify *s, uint64_t number, enum status st, struct bytes result,
                const struct err *e, int64_t now_ms, struct effects *out)
{
    if (!s->is_running || number != s->job)
        return;
    s->is_running = false;
    if (st == ERR_NOT_FOUND) {
        s->is_parked = !s->is_news; /* what it missed may have come meanwhile */
        snprintf(s->why, sizeof(s->why), "the weights to check with are not here yet");
    } else {
        if (!st && s->slot[0].job == VERIFY_JOB_LIGHT)
            send_light(s, result, now_ms, out);
        else if (!st)
            send_verdict(s, result, now_ms, out);
        else
            snprintf(s->why, sizeof(s->why), "%.*s", (int)sizeof(s->why) - 1,
                     e ? e->text : status_text(st));
        drop_first(s);
    }
    verify_tick(s, now_ms, out);
}

void verify_tick(struct verify *s, int64_t now_ms, struct effects *out)
{
    run_next(s, now_ms, out);
    ask(s, now_ms, out);
    ask_head(s, now_ms, out);
    rpc_tick(s->rpc, now_ms, out);
}
