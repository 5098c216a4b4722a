/* Joining, greetings, the roster, invites, draining, and reading the ledger. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ledger/tables.h"
#include "node/key.h"
#include "orchestrator/orch_internal.h"
#include "proto/digest.h"
#include "proto/invite.h"

#define META_ROSTER   "roster"
#define META_ENDPOINT "endpoint/" /* followed by the node's key */

uint32_t orch_find_node(const struct orch *s, const struct public_key *node)
{
    for (size_t i = 0; i < s->n_nodes; i++)
        if (key_equal(&s->node[i].node, node))
            return (uint32_t)i;
    return ORCH_NONE_NODE;
}

uint32_t orch_find_transport(const struct orch *s, const struct public_key *transport)
{
    for (size_t i = 0; i < s->n_nodes; i++)
        if (key_equal(&s->node[i].transport, transport))
            return (uint32_t)i;
    return ORCH_NONE_NODE;
}

bool orch_is_alive(const struct orch *s, uint32_t node, int64_t now_ms)
{
    const struct orch_node *n = &s->node[node];

    return !n->is_revoked && n->seen_ms && now_ms - n->seen_ms < ORCH_ALIVE_MS;
}

uint32_t orch_n_alive(const struct orch *s, enum role role, int64_t now_ms)
{
    uint32_t n = 0;

    for (size_t i = 1; i < s->n_nodes; i++)
        n += s->node[i].role == role && !s->node[i].is_draining &&
             orch_is_alive(s, (uint32_t)i, now_ms);
    return n;
}

uint32_t orch_trainer(const struct orch *s)
{
    for (size_t i = 1; i < s->n_nodes; i++)
        if (s->node[i].role == ROLE_TRAINER && !s->node[i].is_revoked)
            return (uint32_t)i;
    return ORCH_NONE_NODE;
}

void orch_node_short(char out[17], const struct orch *s, uint32_t node)
{
    if (node == ORCH_NONE_NODE)
        snprintf(out, 17, "-");
    else
        hex_encode(out, (struct bytes){s->node[node].node.b, 8});
}

/* ---- the roster ------------------------------------------------------------------------ */

void orch_roster_changed(struct orch *s)
{
    s->roster_seq++;
    s->is_roster_new = true;
}

void orch_put_roster(struct orch *s, struct turn *t)
{
    uint8_t v[8];

    if (!s->is_roster_new)
        return;
    s->is_roster_new = false;
    for (int i = 0; i < 8; i++)
        v[i] = (uint8_t)(s->roster_seq >> (8 * i));
    effects_put(t->out, LEDGER_TABLE_META, BYTES_LIT(META_ROSTER), BYTES_OF(v));
}

void orch_set_meta(struct orch *s, struct bytes key, struct bytes value)
{
    const size_t prefix = sizeof(META_ENDPOINT) - 1;
    struct public_key node;
    uint32_t i;

    if (bytes_equal(key, BYTES_LIT(META_ROSTER)) && value.len == 8) {
        struct reader r = reader_of(value);
        uint64_t seq = reader_u64(&r);
        if (seq > s->roster_seq)
            s->roster_seq = seq;
    } else if (key.len == prefix + KEY_BYTES && !memcmp(key.data, META_ENDPOINT, prefix)) {
        memcpy(node.b, key.data + prefix, KEY_BYTES);
        i = orch_find_node(s, &node);
        if (i != ORCH_NONE_NODE && value.len < sizeof(s->node[i].endpoint)) {
            memcpy(s->node[i].endpoint, value.data, value.len);
            s->node[i].endpoint[value.len] = 0;
        }
    }
}

static bool may_move(struct orch_node *n, int64_t now_ms)
{
    int64_t less = (now_ms - n->moved_ms) / ORCH_MOVE_MS;

    n->n_moves = less < n->n_moves ? n->n_moves - (uint32_t)less : 0;
    if (n->n_moves == ORCH_MOVES)
        return false;
    n->moved_ms += n->n_moves ? less * ORCH_MOVE_MS : now_ms - n->moved_ms;
    n->n_moves++;
    return true;
}

static void set_endpoint(struct orch *s, struct turn *t, const char *endpoint)
{
    struct orch_node *n = &s->node[t->from];
    uint8_t key[sizeof(META_ENDPOINT) - 1 + KEY_BYTES];

    if (t->from == 0 || !strcmp(n->endpoint, endpoint) || !may_move(n, t->now_ms))
        return; /* a later HELLO says it again */
    snprintf(n->endpoint, sizeof(n->endpoint), "%s", endpoint);
    memcpy(key, META_ENDPOINT, sizeof(META_ENDPOINT) - 1);
    memcpy(key + sizeof(META_ENDPOINT) - 1, n->node.b, KEY_BYTES);
    effects_put(t->out, LEDGER_TABLE_META, BYTES_OF(key), bytes_str(n->endpoint));
    orch_roster_changed(s);
}

void orch_on_roster_ask(struct orch *s, struct turn *t)
{
    struct msg_roster *r = s->roster;

    if (!orch_may_look(s, t))
        return;
    r->seq = s->roster_seq;
    r->n = 0;
    for (size_t i = 1; i < s->n_nodes && r->n < MSG_MAX_ROSTER; i++) {
        struct roster_entry *en = &r->entry[r->n++];
        const struct orch_node *n = &s->node[i];
        *en = (struct roster_entry){.node = n->node,
                                    .transport = n->transport,
                                    .owner = n->owner,
                                    .role = (uint32_t)n->role,
                                    .is_revoked = n->is_revoked};
        snprintf(en->endpoint, sizeof(en->endpoint), "%s", n->endpoint);
    }
    buf_reset(&s->body);
    CHECK(!msg_roster_encode(&s->body, r, NULL));
    orch_show_body(s, t, MSG_ROSTER);
}

/* ---- greetings ------------------------------------------------------------------------- */

/* A node that comes back after a silence has begun anew: it is no longer draining. */
static void end_drain(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    struct ledger_param p = {.name = "undrain"};

    if (n->is_draining && n->is_back) {
        hex_encode(p.value, BYTES_OF(n->node.b));
        if (orch_append_param(s, t, &p, BY_ITSELF, NULL, NULL))
            return;
    }
    n->is_back = false;
}

/* Of two processes with one key the one that began later stays. A connection that was lost has another in its place, and
 * never speaks again; one that still does, behind what was on its way, is another process's. */
static bool is_twin(struct orch *s, const struct turn *t)
{
    struct orch_node *n = &s->node[t->from];

    if (n->voice.peer == t->peer)
        return false;
    if (n->voice.before == t->peer)
        return t->now_ms - n->voice.since_ms >= ORCH_TWIN_MS;
    n->voice.before = n->voice.peer;
    n->voice.peer = t->peer;
    n->voice.since_ms = t->now_ms;
    return false;
}

void orch_on_hello(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    uint32_t trainer = orch_trainer(s);
    struct msg_hello h;
    struct msg_welcome w = {.run = *orch_run_id(s)};
    struct err e;

    if (msg_hello_decode(&h, t->m->body, &e)) {
        orch_refuse(s, t, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (strlen(h.endpoint) >= sizeof(n->endpoint)) {
        orch_refuse(s, t, REASON_BOUNDS, "an endpoint has at most %zu characters",
                    sizeof(n->endpoint) - 1);
        return;
    }
    if (is_twin(s, t)) {
        orch_refuse(s, t, REASON_DUPLICATE,
                    "another process began to speak with this node's key: only one may run. If "
                    "the other is not yours, its directory was copied: give this machine "
                    "another key, and an invite of its own");
        return;
    }
    end_drain(s, t);
    set_endpoint(s, t, h.endpoint);
    snprintf(n->numerics, sizeof(n->numerics), "%s", h.numerics);
    n->newest_version = h.newest_version;
    if (s->has_task)
        w.task = s->task_id;
    w.roster_seq = s->roster_seq;
    w.head_version = orch_head(s);
    w.steps_total = s->has_task ? orch_n_steps(s) : 0;
    w.is_done = orch_is_done(s);
    if (trainer != ORCH_NONE_NODE)
        w.trainer = s->node[trainer].node;
    buf_reset(&s->body);
    CHECK(!msg_welcome_encode(&s->body, &w, NULL));
    orch_answer(s, t, MSG_WELCOME);
}

void orch_on_bundle_ask(struct orch *s, struct turn *t)
{
    struct msg_bundle_ask ask;
    struct msg_bundle b;

    if (msg_bundle_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "BUNDLE_ASK does not decode");
    } else if (!s->has_task || !digest_equal(&ask.task, &s->task_id)) {
        orch_refuse(s, t, REASON_NO_TASK, "this task is not in this run");
    } else if (!orch_may_look(s, t)) {
        return;
    } else if (orch_read_blob(s, &s->task_id, NULL)) {
        orch_wait(s, t, REASON_BUSY, ORCH_RETRY_MS, "the task is being filed");
    } else {
        b.data = buf_bytes(&s->blob);
        buf_reset(&s->body);
        CHECK(!msg_bundle_encode(&s->body, &b, NULL));
        orch_show_body(s, t, MSG_BUNDLE);
    }
}

void orch_on_ledger_ask(struct orch *s, struct turn *t)
{
    struct msg_ledger_ask ask;
    struct msg_ledger l = {0};
    struct buf one, all;

    if (msg_ledger_ask_decode(&ask, t->m->body, NULL)) {
        orch_refuse(s, t, REASON_MALFORMED, "LEDGER_ASK does not decode");
        return;
    }
    if (!orch_may_look(s, t))
        return;
    buf_init(&one, LEDGER_ENTRY_MAX);
    buf_init(&all, MSG_MAX_BYTES / 2);
    for (uint32_t i = 0; i < ask.max && all.len < (8u << 20); i++) {
        buf_reset(&one);
        if (s->opt.store.entry(s->opt.store.ctx, ask.from + i, &one, NULL))
            break; /* the end of what is on disk */
        buf_put_blob(&all, buf_bytes(&one));
    }
    l.from = ask.from;
    l.entries = buf_bytes(&all);
    buf_reset(&s->body);
    CHECK(!msg_ledger_encode(&s->body, &l, NULL));
    orch_show_body(s, t, MSG_LEDGER);
    buf_clear(&one);
    buf_clear(&all);
}

void orch_on_drain(struct orch *s, struct turn *t)
{
    struct orch_node *n = &s->node[t->from];
    struct ledger_param p = {.name = "drain"};
    uint64_t seq;

    if (n->role != ROLE_INFERENCE && n->role != ROLE_VERIFIER) {
        orch_refuse(s, t, REASON_WRONG_ROLE,
                    "a node of role %s takes no work to finish: end its process, and started "
                    "again it goes on",
                    role_name(n->role));
        return;
    }
    if (ledger_books_find_idem(orch_books(s), &n->node, &t->m->idem, &seq)) {
        orch_receipt(s, t, seq);
        return;
    }
    if (n->is_draining) { /* said again, it is nothing new for the ledger */
        orch_receipt(s, t, n->drain);
        return;
    }
    hex_encode(p.value, BYTES_OF(n->node.b));
    if (orch_append_param(s, t, &p, AS_ANSWER, NULL, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
        return;
    }
    orch_receipt(s, t, seq);
}

/* ---- invites --------------------------------------------------------------------------- */

/* Id and secret of the invite whose entry is `seq`: functions of the key and the run, so that they are kept
 * nowhere, are given out again after a restart, and open no other run of this key. */
static void derive_invite(const struct orch *s, uint64_t seq, struct invite *v)
{
    struct bytes secret = {s->opt.key->node_secret->b, sizeof(s->opt.key->node_secret->b)};
    struct digest_state d;
    struct digest h;

    digest_begin_keyed(&d, secret);
    digest_add(&d, BYTES_LIT("muster/invite/id"));
    digest_add(&d, BYTES_OF(orch_run_id(s)->b));
    digest_add_u64(&d, seq);
    digest_end(&d, &h);
    memcpy(v->id, h.b, sizeof(v->id));
    digest_begin_keyed(&d, secret);
    digest_add(&d, BYTES_LIT("muster/invite/secret"));
    digest_add(&d, BYTES_OF(orch_run_id(s)->b));
    digest_add_u64(&d, seq);
    digest_add(&d, BYTES_OF(v->id));
    digest_end(&d, &h);
    memcpy(v->secret, h.b, sizeof(v->secret));
}

static enum status make_link(const struct orch *s, uint64_t seq, enum role role,
                             char link[INVITE_LINK_BYTES], struct err *e)
{
    struct invite v;

    memset(&v, 0, sizeof(v));
    derive_invite(s, seq, &v);
    memcpy(v.control, s->opt.control, sizeof(v.control));
    memcpy(v.enrol, s->opt.enrol, sizeof(v.enrol));
    v.run = *orch_run_id(s);
    v.server = s->opt.key->transport;
    v.role = role;
    return invite_encode(link, &v, e);
}

static enum status append_invite(struct orch *s, const struct turn *t, enum role role,
                                 enum orch_cause cause, uint64_t *seq)
{
    struct ledger_invite body = {.role = (uint32_t)role};
    struct invite v;

    derive_invite(s, ledger_log_length(s->log), &v);
    memcpy(body.id, v.id, sizeof(body.id));
    digest_of(&body.secret, BYTES_OF(v.secret));
    return orch_append_invite(s, t, &body, cause, NULL, seq);
}

enum status orch_invite(struct orch *s, enum role role, int64_t now_ms, struct effects *out,
                        char link[INVITE_LINK_BYTES], struct err *e)
{
    struct turn t = orch_turn(s, now_ms, out);
    uint64_t seq;

    if (role <= ROLE_ORCHESTRATOR || role >= ROLE_COUNT)
        return err_set(e, ERR_INVALID, "nobody is invited to this role");
    if (append_invite(s, &t, role, BY_ITSELF, &seq))
        return err_set(e, ERR_INVALID, "the ledger refused the invite");
    return make_link(s, seq, role, link, e);
}

size_t orch_n_invites(const struct orch *s)
{
    return s->n_invites;
}

enum status orch_invite_at(const struct orch *s, size_t i, enum role *role,
                           char link[INVITE_LINK_BYTES], struct err *e)
{
    CHECK(i < s->n_invites);
    *role = s->invite[i].role;
    return make_link(s, s->invite[i].seq, *role, link, e);
}

void orch_on_invite_ask(struct orch *s, struct turn *t)
{
    struct msg_invite_ask ask;
    struct msg_invite answer = {{0}};
    struct err e;
    uint64_t seq;

    if (msg_invite_ask_decode(&ask, t->m->body, &e) || ask.role <= ROLE_ORCHESTRATOR ||
        ask.role >= ROLE_COUNT) {
        orch_refuse(s, t, REASON_MALFORMED, "nobody is invited to this role");
        return;
    }
    if (!ledger_books_find_idem(orch_books(s), &s->node[t->from].node, &t->m->idem, &seq) &&
        append_invite(s, t, (enum role)ask.role, AS_ANSWER, &seq)) {
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the invite");
        return;
    }
    if (s->fact[seq].type != LEDGER_INVITE ||
        make_link(s, seq, (enum role)ask.role, answer.link, &e)) {
        orch_refuse(s, t, REASON_INTERNAL, "the link cannot be made: %s", e.text);
        return;
    }
    buf_reset(&s->body);
    CHECK(!msg_invite_encode(&s->body, &answer, NULL));
    orch_answer(s, t, MSG_INVITE);
}

/* ---- joining --------------------------------------------------------------------------- */

static void answer_joined(struct orch *s, struct turn *t, uint32_t node)
{
    const struct orch_node *n = &s->node[node];
    struct msg_joined j = {.node = n->node,
                           .transport = n->transport,
                           .owner = n->owner,
                           .role = (uint32_t)n->role,
                           .roster_seq = s->roster_seq};

    buf_reset(&s->body);
    CHECK(!msg_joined_encode(&s->body, &j, NULL));
    orch_answer(s, t, MSG_JOINED);
}

/* The invite a JOIN names, with its secret in *v; false if there is none. */
static bool find_invite(const struct orch *s, const struct msg_join *j, struct invite *v)
{
    for (size_t i = 0; i < s->n_invites; i++) {
        if (memcmp(s->invite[i].id, j->invite, sizeof(j->invite)) != 0)
            continue;
        derive_invite(s, s->invite[i].seq, v);
        v->role = s->invite[i].role;
        return true;
    }
    return false;
}

static enum status check_join(struct orch *s, const struct turn *t, const struct msg_join *j,
                              const struct public_key *transport, struct err *e)
{
    struct invite v;
    bool is_zero = digest_is_zero(&t->m->run);
    enum status st;

    if (!is_zero && !digest_equal(&t->m->run, orch_run_id(s)))
        return err_set(e, ERR_DENIED, "this orchestrator serves another run");
    if (!key_equal(&t->m->signer, &j->node) || !key_equal(transport, &j->transport))
        return err_set(e, ERR_DENIED, "the keys are not those of the sender");
    st = msg_envelope_verify(t->m, e);
    if (!st)
        st = key_verify_cert(&j->owner, &j->node, &j->transport, j->role, &j->owner_sig, e);
    if (st)
        return st;
    if (!find_invite(s, j, &v))
        return err_set(e, ERR_DENIED, "there is no such invite");
    if (j->role != (uint32_t)v.role)
        return err_set(e, ERR_DENIED, "the invite is for role %s", role_name(v.role));
    return invite_check_mac(j, v.secret, e);
}

static enum status admit_node(struct orch *s, struct turn *t, const struct msg_join *j)
{
    struct ledger_node_admit body = {.node = j->node,
                                     .transport = j->transport,
                                     .owner = j->owner,
                                     .role = j->role,
                                     .owner_sig = j->owner_sig};
    struct ledger_cause why = {.actor = &j->node, .idem = &t->m->idem, .wall_us = t->wall_us};
    struct ledger_entry en;
    struct err e;
    enum status st;

    memcpy(body.invite, j->invite, sizeof(body.invite));
    st = ledger_append_node_admit(s->log, &body, &why, t->out, &en, &e);
    if (st)
        return st;
    orch_applied(s, &en, NULL);
    return OK;
}

static bool is_party(const struct orch *s, uint32_t node)
{
    const struct ledger_dispute *d = ledger_books_open_dispute(orch_books(s));
    const struct public_key *key = &s->node[node].node;

    return d && (key_equal(&d->trainer, key) || key_equal(&d->challenger, key));
}

static struct orch_reads *reads_of(struct orch *s, const struct turn *t)
{
    struct orch_node *n = &s->node[t->from];

    return is_party(s, t->from) ? &n->party_reads : &n->reads;
}

static bool has_room(struct orch *s, struct turn *t, struct orch_reads *r, uint64_t burst)
{
    uint64_t less = (uint64_t)(t->now_ms - r->ms) * ORCH_READ_RATE / 1000;

    r->ms = t->now_ms;
    r->bytes = less < r->bytes ? r->bytes - less : 0;
    if (r->bytes < burst)
        return true;
    orch_wait(s, t, REASON_BUSY,
              (uint32_t)((r->bytes - burst) * 1000 / ORCH_READ_RATE) + ORCH_RETRY_MS,
              "it was answered with %" PRIu64 " MiB lately", r->bytes >> 20);
    return false;
}

bool orch_may_read(struct orch *s, struct turn *t)
{
    return has_room(s, t, reads_of(s, t),
                    is_party(s, t->from) ? ORCH_READ_PARTY : ORCH_READ_BURST);
}

void orch_has_read(struct orch *s, const struct turn *t, size_t bytes)
{
    reads_of(s, t)->bytes += bytes > ORCH_READ_LEAST ? bytes : ORCH_READ_LEAST;
}

bool orch_may_look(struct orch *s, struct turn *t)
{
    return has_room(s, t, &s->node[t->from].looks, ORCH_LOOK_BURST);
}

void orch_show_body(struct orch *s, struct turn *t, enum msg_kind kind)
{
    s->node[t->from].looks.bytes +=
        s->body.len > ORCH_LOOK_LEAST ? s->body.len : ORCH_LOOK_LEAST;
    orch_answer(s, t, kind);
}

void orch_on_join(struct orch *s, struct turn *t, const struct public_key *transport)
{
    struct msg_join j;
    struct digest unused;
    struct err e;
    uint32_t node;
    char who[17];

    if (msg_join_decode(&j, t->m->body, &e)) {
        orch_refuse(s, t, REASON_MALFORMED, "%s", e.text);
        return;
    }
    if (check_join(s, t, &j, transport, &e)) {
        orch_refuse(s, t, REASON_INVITE, "%s", e.text);
        return;
    }
    node = orch_find_node(s, &j.node);
    if (node != ORCH_NONE_NODE) {
        const struct orch_node *n = &s->node[node];
        if (n->is_revoked)
            orch_refuse(s, t, REASON_REVOKED, "this node was barred");
        else if ((uint32_t)n->role == j.role && key_equal(&n->transport, &j.transport))
            answer_joined(s, t, node);
        else
            orch_refuse(s, t, REASON_INVITE, "this node joined before, otherwise");
        return;
    }
    if (orch_find_transport(s, &j.transport) != ORCH_NONE_NODE)
        orch_refuse(s, t, REASON_INVITE, "another node has this transport key");
    else if (s->n_nodes > MSG_MAX_ROSTER)
        orch_refuse(s, t, REASON_BOUNDS, "the roster is full");
    else if (ledger_books_invite(orch_books(s), j.invite, &unused) == ROLE_NONE)
        orch_refuse(s, t, REASON_INVITE, "the invite was used before");
    else if (admit_node(s, t, &j))
        orch_refuse(s, t, REASON_INTERNAL, "the ledger refused the entry");
    else {
        node = orch_find_node(s, &j.node);
        s->node[node].seen_ms = t->now_ms;
        orch_node_short(who, s, node);
        orch_note(s, 'I', "joined node=%s role=%s", who, role_name((enum role)j.role));
        orch_grant_stakes(s, t);
        answer_joined(s, t, node);
    }
}
