#include "shardcast/member_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "node/rpc.h"
#include "proto/digest.h"

#define HELLO_MS       1000
#define HELLO_RETRY_MS 500
#define JOIN_RETRY_MS                                                                          \
    1000 /* the enrolment socket takes twenty messages a second of everybody */
#define ASK_RETRY_MS    1000
#define BUNDLE_RETRY_MS 5000 /* it may be megabytes */
#define AGAIN_MS        1000 /* after an answer that says "not now" */

enum { TAG_JOIN = 1, TAG_HELLO, TAG_ROSTER, TAG_BUNDLE };

struct member_state {
    struct member_state_options opt;
    struct rpc *rpc;
    enum member_phase phase;
    uint64_t peer;
    struct digest run;
    struct public_key server;
    bool has_server;
    struct msg_join join;
    char endpoint[MSG_TEXT_BYTES];
    int64_t newest_version;
    int64_t hello_ms; /* when to say HELLO again */
    int64_t again_ms; /* JOIN, roster or bundle: not before */
    int64_t answered_ms;
    struct msg_welcome welcome;
    bool has_welcome, is_done;
    uint64_t roster_wanted;
    struct msg_roster *roster; /* owned; NULL: none yet */
    struct msg_roster *spare;  /* owned */
    struct digest task;
    struct buf bundle;
    enum reason refused;
    char refused_text[MSG_TEXT_BYTES];
};

void member_state_new(struct member_state **out, const struct member_state_options *opt)
{
    struct member_state *s = xcalloc(1, sizeof(*s));

    s->opt = *opt;
    if (!s->opt.numerics)
        s->opt.numerics = MEMBER_NUMERICS;
    rpc_new(&s->rpc, opt->key, opt->boot);
    s->phase = MEMBER_GREETING;
    s->newest_version = -1;
    s->answered_ms = -1;
    s->hello_ms = s->again_ms = INT64_MIN;
    buf_init(&s->bundle, MSG_MAX_BYTES);
    *out = s;
}

void member_state_free(struct member_state **s)
{
    if (!*s)
        return;
    rpc_free(&(*s)->rpc);
    free((*s)->roster);
    free((*s)->spare);
    buf_clear(&(*s)->bundle);
    free(*s);
    *s = NULL;
}

/* ---- how it begins ----------------------------------------------------------------------- */

enum status member_state_join(struct member_state *s, const struct invite *v, uint64_t peer,
                              struct err *e)
{
    const struct node_key *k = s->opt.key;
    struct msg_join *j = &s->join;
    enum status st;

    *j = (struct msg_join){.transport = k->transport,
                           .node = k->node,
                           .owner = k->owner,
                           .role = (uint32_t)s->opt.role};
    memcpy(j->invite, v->id, sizeof(j->invite));
    st = key_certify(&j->owner_sig, k, j->role, e);
    if (st)
        return st;
    invite_mac(&j->mac, v->secret, j);
    s->phase = MEMBER_JOINING;
    s->peer = peer;
    s->run = v->run;
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, &v->run);
    return OK;
}

void member_state_greet(struct member_state *s, const struct digest *run,
                        const struct public_key *server, uint64_t peer)
{
    s->phase = MEMBER_GREETING;
    s->peer = peer;
    s->run = *run;
    s->server = *server;
    s->has_server = true;
    rpc_set_peer(s->rpc, peer);
    rpc_set_run(s->rpc, run);
}

void member_state_restore_bundle(struct member_state *s, struct bytes bundle)
{
    digest_of(&s->task, bundle);
    buf_reset(&s->bundle);
    buf_append(&s->bundle, bundle);
}

/* ---- asking ------------------------------------------------------------------------------ */

/* A full rpc table or a text that does not fit would be our own mistake: there are four kinds of
 * questions, and each is open once. */
#define ASK(s, KIND, name, message, tag, retry, now, out)                                      \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        CHECK(!msg_##name##_encode(&body_, &(message), NULL));                                 \
        CHECK(!rpc_ask((s)->rpc, MSG_##KIND, buf_bytes(&body_), tag, retry, now, out, NULL));  \
        buf_clear(&body_);                                                                     \
    } while (0)

static void ask_join(struct member_state *s, int64_t now_ms, struct effects *out)
{
    if (rpc_open(s->rpc, MSG_JOIN) == 0 && s->again_ms <= now_ms)
        ASK(s, JOIN, join, s->join, TAG_JOIN, JOIN_RETRY_MS, now_ms, out);
}

static void ask_hello(struct member_state *s, int64_t now_ms, struct effects *out)
{
    struct msg_hello m = {.role = (uint32_t)s->opt.role, .newest_version = s->newest_version};

    if (s->hello_ms > now_ms)
        return;
    rpc_cancel(s->rpc, TAG_HELLO); /* what it would report is out of date */
    memcpy(m.endpoint, s->endpoint, sizeof(m.endpoint));
    snprintf(m.numerics, sizeof(m.numerics), "%s", s->opt.numerics);
    s->hello_ms = now_ms + HELLO_MS;
    ASK(s, HELLO, hello, m, TAG_HELLO, HELLO_RETRY_MS, now_ms, out);
}

static void ask_roster(struct member_state *s, int64_t now_ms, struct effects *out)
{
    struct msg_roster_ask m = {.since = 0};
    bool is_wanted = !s->roster || s->roster_wanted > s->roster->seq;

    if (is_wanted && rpc_open(s->rpc, MSG_ROSTER_ASK) == 0 && s->again_ms <= now_ms)
        ASK(s, ROSTER_ASK, roster_ask, m, TAG_ROSTER, ASK_RETRY_MS, now_ms, out);
}

static void ask_bundle(struct member_state *s, int64_t now_ms, struct effects *out)
{
    struct msg_bundle_ask m = {.task = s->welcome.task};
    bool is_wanted =
        s->opt.wants_bundle && !digest_is_zero(&m.task) && !digest_equal(&m.task, &s->task);

    if (is_wanted && rpc_open(s->rpc, MSG_BUNDLE_ASK) == 0 && s->again_ms <= now_ms)
        ASK(s, BUNDLE_ASK, bundle_ask, m, TAG_BUNDLE, BUNDLE_RETRY_MS, now_ms, out);
}

void member_state_report(struct member_state *s, const char *endpoint, int64_t newest_version)
{
    if (strcmp(s->endpoint, endpoint) == 0 && s->newest_version == newest_version)
        return;
    CHECK(strlen(endpoint) < sizeof(s->endpoint));
    memset(s->endpoint, 0, sizeof(s->endpoint));
    memcpy(s->endpoint, endpoint, strlen(endpoint));
    s->newest_version = newest_version;
    s->hello_ms = INT64_MIN;
}

void member_state_tick(struct member_state *s, int64_t now_ms, struct effects *out)
{
    if (s->phase == MEMBER_REFUSED)
        return;
    if (s->phase == MEMBER_JOINING) {
        ask_join(s, now_ms, out);
    } else {
        ask_hello(s, now_ms, out);
        effects_timer(out, s->hello_ms);
    }
    if (s->phase == MEMBER_MEMBER) {
        ask_roster(s, now_ms, out);
        ask_bundle(s, now_ms, out);
    }
    if (s->again_ms > now_ms)
        effects_timer(out, s->again_ms);
    rpc_tick(s->rpc, now_ms, out);
}

/* ---- answers ----------------------------------------------------------------------------- */

static void refuse(struct member_state *s, enum reason code, const char *text, unsigned *events)
{
    s->phase = MEMBER_REFUSED;
    s->refused = code;
    snprintf(s->refused_text, sizeof(s->refused_text), "%s", text);
    *events |= MEMBER_EVENT_REFUSED;
}

/* Whether asking again is of no use. */
static bool is_final(enum msg_kind question, uint32_t code)
{
    switch (code) {
    case REASON_INVITE: return question == MSG_JOIN;
    case REASON_REVOKED:
    case REASON_UNKNOWN_NODE:
    case REASON_WRONG_ROLE:
    case REASON_WRONG_RUN:
    case REASON_SIGNATURE:
    case REASON_MALFORMED:
    case REASON_BOUNDS:
    case REASON_DUPLICATE: /* another process has its key */
    case REASON_UNSUPPORTED: return question == MSG_JOIN || question == MSG_HELLO;
    default: return false;
    }
}

static enum status on_refused(struct member_state *s, enum msg_kind question, struct bytes body,
                              int64_t now_ms, unsigned *events)
{
    struct msg_refused m;
    enum status st = msg_refused_decode(&m, body, NULL);

    if (st)
        return st;
    if (is_final(question, m.code))
        refuse(s, (enum reason)m.code, m.text, events);
    else
        s->again_ms = now_ms + AGAIN_MS;
    return OK;
}

static enum status on_joined(struct member_state *s, const struct msg_envelope *env,
                             unsigned *events)
{
    struct msg_joined m;
    enum status st = msg_joined_decode(&m, env->body, NULL);

    if (!st)
        st = msg_envelope_verify(env, NULL);
    if (st)
        return st;
    if (!key_equal(&m.node, &s->opt.key->node) ||
        !key_equal(&m.transport, &s->opt.key->transport) || m.role != (uint32_t)s->opt.role)
        return ERR_MALFORMED;
    s->server = env->signer;
    s->has_server = true;
    *events |= MEMBER_EVENT_JOINED;
    return OK;
}

static void note_done(struct member_state *s, unsigned *events)
{
    if (!s->is_done)
        *events |= MEMBER_EVENT_DONE;
    s->is_done = true;
}

static enum status on_welcome(struct member_state *s, const struct msg_envelope *env,
                              unsigned *events)
{
    struct msg_welcome m;
    enum status st = msg_welcome_decode(&m, env->body, NULL);

    if (st)
        return st;
    if (!digest_equal(&m.run, &s->run)) {
        refuse(s, REASON_WRONG_RUN, "the orchestrator serves another run now", events);
        return OK;
    }
    bool is_new_task = !s->has_welcome || !digest_equal(&m.task, &s->welcome.task);
    s->welcome = m;
    s->has_welcome = true;
    s->phase = MEMBER_MEMBER;
    if (m.roster_seq > s->roster_wanted)
        s->roster_wanted = m.roster_seq;
    *events |= MEMBER_EVENT_WELCOME;
    if (s->opt.wants_bundle && is_new_task && !digest_is_zero(&m.task) &&
        digest_equal(&m.task, &s->task))
        *events |= MEMBER_EVENT_BUNDLE; /* the one that was on disk */
    if (m.is_done)
        note_done(s, events);
    return OK;
}

static enum status on_roster(struct member_state *s, const struct msg_envelope *env,
                             unsigned *events)
{
    enum status st = OK;

    if (!key_equal(&env->signer, &s->server))
        return ERR_DENIED;
    st = msg_envelope_verify(env, NULL);
    if (st)
        return st;
    if (!s->spare)
        s->spare = xcalloc(1, sizeof(*s->spare));
    st = msg_roster_decode(s->spare, env->body, NULL);
    if (st)
        return st;
    if (s->roster && s->spare->seq < s->roster->seq)
        return OK; /* an old answer, late */
    struct msg_roster *old = s->roster;
    s->roster = s->spare;
    s->spare = old;
    /* An orchestrator that came back with a lower number must not make us ask for ever. */
    s->roster_wanted = s->roster->seq;
    *events |= MEMBER_EVENT_ROSTER;
    return OK;
}

static enum status on_bundle(struct member_state *s, const struct msg_envelope *env,
                             int64_t now_ms, unsigned *events)
{
    struct msg_bundle m;
    struct digest d;
    enum status st = msg_bundle_decode(&m, env->body, NULL);

    if (st)
        return st;
    digest_of(&d, m.data);
    if (!digest_equal(&d, &s->welcome.task)) {
        s->again_ms = now_ms + AGAIN_MS; /* of an older task, or nobody's */
        return OK;
    }
    member_state_restore_bundle(s, m.data);
    st = buf_status(&s->bundle, NULL);
    if (!st)
        *events |= MEMBER_EVENT_BUNDLE;
    return st;
}

static enum status on_answer(struct member_state *s, enum msg_kind question,
                             const struct msg_envelope *env, int64_t now_ms, unsigned *events)
{
    switch (env->kind) {
    case MSG_REFUSED: return on_refused(s, question, env->body, now_ms, events);
    case MSG_WAIT: s->again_ms = now_ms + AGAIN_MS; return OK;
    case MSG_JOINED: return question == MSG_JOIN ? on_joined(s, env, events) : ERR_MALFORMED;
    case MSG_WELCOME: return question == MSG_HELLO ? on_welcome(s, env, events) : ERR_MALFORMED;
    case MSG_ROSTER:
        return question == MSG_ROSTER_ASK ? on_roster(s, env, events) : ERR_MALFORMED;
    case MSG_BUNDLE:
        return question == MSG_BUNDLE_ASK ? on_bundle(s, env, now_ms, events) : ERR_MALFORMED;
    default: return ERR_MALFORMED;
    }
}

bool member_state_message(struct member_state *s, uint64_t peer, struct bytes frame,
                          int64_t now_ms, struct effects *out, unsigned *events)
{
    struct msg_envelope env;
    enum msg_kind question;
    uint64_t tag;

    *events = 0;
    if (peer != s->peer || s->phase == MEMBER_REFUSED ||
        msg_envelope_decode(&env, frame, NULL) || !rpc_answered(s->rpc, &env, &question, &tag))
        return false;
    s->answered_ms = now_ms;
    /* An answer that makes no sense is as good as none: the question is asked again. */
    if (on_answer(s, question, &env, now_ms, events))
        s->again_ms = now_ms + AGAIN_MS;
    if (!(*events & MEMBER_EVENT_JOINED)) /* the control link is not open yet */
        member_state_tick(s, now_ms, out);
    return true;
}

void member_state_note(struct member_state *s, uint64_t roster_seq, bool is_done,
                       int64_t now_ms, struct effects *out, unsigned *events)
{
    *events = 0;
    if (roster_seq > s->roster_wanted)
        s->roster_wanted = roster_seq;
    if (is_done)
        note_done(s, events);
    if (s->phase == MEMBER_MEMBER)
        ask_roster(s, now_ms, out);
}

/* ---- what is known ----------------------------------------------------------------------- */

enum member_phase member_state_phase(const struct member_state *s)
{
    return s->phase;
}

const struct digest *member_state_run(const struct member_state *s)
{
    return &s->run;
}

const struct public_key *member_state_server(const struct member_state *s)
{
    return s->has_server ? &s->server : NULL;
}

const struct msg_welcome *member_state_welcome(const struct member_state *s)
{
    return s->has_welcome ? &s->welcome : NULL;
}

const struct msg_roster *member_state_roster(const struct member_state *s)
{
    return s->roster;
}

const struct digest *member_state_task(const struct member_state *s)
{
    return &s->task;
}

struct bytes member_state_bundle(const struct member_state *s)
{
    return buf_bytes(&s->bundle);
}

bool member_state_is_done(const struct member_state *s)
{
    return s->is_done;
}

int64_t member_state_answered_ms(const struct member_state *s)
{
    return s->answered_ms;
}

enum status member_state_failure(const struct member_state *s, struct err *e)
{
    if (s->phase != MEMBER_REFUSED)
        return OK;
    if (s->refused == REASON_DUPLICATE) /* whose text is about submissions */
        return err_set(e, ERR_DENIED, "the orchestrator refused this node: %s",
                       s->refused_text);
    return err_set(e, ERR_DENIED, "the orchestrator refused this node: %s%s%s",
                   reason_text(s->refused), s->refused_text[0] ? ": " : "", s->refused_text);
}
