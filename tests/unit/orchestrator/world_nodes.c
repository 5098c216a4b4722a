/* The network, and what simulated nodes do and hear. */
#include "unit/orchestrator/world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/digest.h"
#include "proto/invite.h"
#include "proto/states.h"
#include "proto/witness.h"

#define RESEND_MS 300

/* ---- the network ----------------------------------------------------------------------- */

static void add_packet(struct world *w, uint32_t node, bool is_up, bool is_enrolment,
                       struct bytes data)
{
    struct world_packet *p;

    if (w->n_packets == w->cap_packets) {
        w->cap_packets = w->cap_packets ? 2 * w->cap_packets : 64;
        w->packet = xrealloc(w->packet, w->cap_packets * sizeof(*w->packet));
    }
    p = &w->packet[w->n_packets++];
    *p = (struct world_packet){
        .at_ms =
            w->now_ms + (w->opt.delay_ms ? (int64_t)rng_below(&w->rng, w->opt.delay_ms) : 0),
        .node = node,
        .is_up = is_up,
        .is_enrolment = is_enrolment};
    buf_init(&p->data, MSG_MAX_BYTES);
    buf_append(&p->data, data);
}

/* Drops, repeats, delays. */
void world_post(struct world *w, uint32_t node, bool is_up, bool is_enrolment,
                struct bytes data)
{
    if (rng_below(&w->rng, 1000) < w->opt.drop)
        return;
    add_packet(w, node, is_up, is_enrolment, data);
    if (rng_below(&w->rng, 1000) < w->opt.twice)
        add_packet(w, node, is_up, is_enrolment, data);
}

void world_encode(const struct world *w, struct world_node *n, enum msg_kind kind,
                  struct bytes body, struct buf *out)
{
    static const struct digest none;

    n->counter++;
    memset(&n->idem, 0, sizeof(n->idem));
    memcpy(n->idem.b, &n->counter, 8);
    memcpy(n->idem.b + 8, &n->boot, 8);
    buf_reset(out);
    CHECK(!msg_envelope_encode(out, kind, kind == MSG_JOIN ? &none : orch_run_id(w->orch),
                               &n->idem, body,
                               msg_kind_is_signed(kind) ? n->key->node_secret : NULL, NULL));
}

static void ask(struct world *w, uint32_t node, enum msg_kind kind, struct bytes body)
{
    struct world_node *n = &w->node[node];

    world_encode(w, n, kind, body, &n->request);
    n->kind = kind;
    n->resend_ms = w->now_ms + RESEND_MS;
    world_post(w, node, true, kind == MSG_JOIN, buf_bytes(&n->request));
}

/* A message beside the open question, whose answer is not waited for. */
static void tell(struct world *w, uint32_t node, enum msg_kind kind, struct bytes body)
{
    struct world_node *n = &w->node[node];
    struct idem open = n->idem;
    struct buf b;

    buf_init(&b, MSG_MAX_BYTES);
    world_encode(w, n, kind, body, &b);
    world_post(w, node, true, false, buf_bytes(&b));
    n->idem = open;
    buf_clear(&b);
}

/* ---- what nodes do --------------------------------------------------------------------- */

void world_join_body(const struct world_node *n, struct buf *body)
{
    struct msg_join j = {.transport = n->key->transport,
                         .node = n->key->node,
                         .owner = n->key->owner,
                         .role = (uint32_t)n->role};
    struct invite v;

    CHECK(!invite_decode(&v, (const char *)n->invite_link, NULL));
    memcpy(j.invite, v.id, sizeof(j.invite));
    CHECK(!key_certify(&j.owner_sig, n->key, j.role, NULL));
    invite_mac(&j.mac, v.secret, &j);
    buf_reset(body);
    CHECK(!msg_join_encode(body, &j, NULL));
}

static void act_worker(struct world *w, uint32_t i, struct buf *body)
{
    struct world_node *n = &w->node[i];
    struct msg_lease_ask ask_body = {.newest_version = WORLD_SERVES,
                                     .oldest_version = 0,
                                     .max = 1 + (uint32_t)rng_below(&w->rng, 4)};

    if (n->n_leases) {
        world_ordered_submission(w, n, body, &n->lease[0],
                                 w->opt.has_cheat && i == world_node_of(w, ROLE_INFERENCE, 0));
        ask(w, i, MSG_SUBMIT, buf_bytes(body));
        return;
    }
    CHECK(!msg_lease_ask_encode(body, &ask_body, NULL));
    ask(w, i, MSG_LEASE_ASK, buf_bytes(body));
}

/* Signs the verdict, keeps it, and asks whether it may be shown. */
static void seal_verdict(struct world *w, uint32_t i, struct buf *body)
{
    struct world_node *n = &w->node[i];
    struct msg_verdict_seal m = {.unit = n->verdict.unit, .lease = n->verdict.lease};

    n->verdict.opened =
        (struct bytes){(const uint8_t *)n->opened, n->n_opened * sizeof(n->opened[0])};
    CHECK(!msg_verdict_encode(body, &n->verdict, NULL));
    world_encode(w, n, MSG_VERDICT, buf_bytes(body), &n->sealed);
    n->sealed_idem = n->idem;
    digest_of(&m.verdict, buf_bytes(&n->sealed));
    buf_reset(body);
    CHECK(!msg_verdict_seal_encode(body, &m, NULL));
    ask(w, i, MSG_VERDICT_SEAL, buf_bytes(body));
}

static void show_verdict(struct world *w, uint32_t i)
{
    struct world_node *n = &w->node[i];

    buf_reset(&n->request);
    buf_append(&n->request, buf_bytes(&n->sealed));
    n->kind = MSG_VERDICT;
    n->idem = n->sealed_idem;
    n->resend_ms = w->now_ms + RESEND_MS;
    world_post(w, i, true, false, buf_bytes(&n->request));
}

/* What a prefill finds at a validator's places: here a function of the unit and of whose they are. */
static void find_states(struct digest *found, uint64_t unit, const uint8_t validator[KEY_BYTES],
                        bool is_invented)
{
    struct digest_state s;

    digest_begin(&s, is_invented ? "invented" : "found");
    digest_add_u64(&s, unit);
    digest_add(&s, (struct bytes){validator, KEY_BYTES});
    digest_end(&s, found);
}

static void add_states(struct world_node *n, const struct msg_check *c, bool is_invented)
{
    struct digest found;

    n->is_sealing = !digest_is_zero(&c->draw);
    n->n_opened = (uint32_t)(c->peers.len / KEY_BYTES);
    if (!n->is_sealing)
        return;
    find_states(&found, c->unit, n->key->node.b, is_invented);
    states_seal(&n->verdict.states, &n->key->node, &found);
    for (uint32_t k = 0; k < n->n_opened; k++) {
        memcpy(n->opened[k].validator.b, c->peers.data + k * KEY_BYTES, KEY_BYTES);
        find_states(&n->opened[k].found, c->unit, n->opened[k].validator.b, is_invented);
    }
}

static void act_verifier(struct world *w, uint32_t i, struct buf *body)
{
    struct world_node *n = &w->node[i];
    struct msg_check_ask c = {.newest_version = WORLD_SERVES};

    if (n->has_verdict && n->is_sealing) {
        seal_verdict(w, i, body);
        return;
    }
    if (n->verdicts.n) {
        CHECK(!msg_verdicts_encode(body, &n->verdicts, NULL));
        ask(w, i, MSG_VERDICTS, buf_bytes(body));
        return;
    }
    if (n->has_verdict) {
        CHECK(!msg_verdict_encode(body, &n->verdict, NULL));
        ask(w, i, MSG_VERDICT, buf_bytes(body));
        return;
    }
    CHECK(!msg_check_ask_encode(body, &c, NULL));
    ask(w, i, MSG_CHECK_ASK, buf_bytes(body));
}

static void act_trainer(struct world *w, uint32_t i, struct buf *body)
{
    struct world_node *n = &w->node[i];
    struct msg_batch_ask b = {.batch = (uint64_t)(n->next_version - 1)};

    if (n->next_version > w->opt.steps)
        return;
    if (n->next_version == 0 || n->has_batch) {
        world_manifest(w, body, n->next_version, &n->batch_root, 0);
        ask(w, i, MSG_PUBLISH, buf_bytes(body));
        return;
    }
    CHECK(!msg_batch_ask_encode(body, &b, NULL));
    ask(w, i, MSG_BATCH_ASK, buf_bytes(body));
}

static void act_initiator(struct world *w, uint32_t i, struct buf *body)
{
    struct msg_task_publish p = {.bundle = buf_bytes(&w->bundle), .deposit = 0};

    if (w->node[i].counter > 1 && w->node[i].has_batch)
        return; /* published */
    CHECK(!msg_task_publish_encode(body, &p, NULL));
    ask(w, i, MSG_TASK_PUBLISH, buf_bytes(body));
}

static void greet(struct world *w, uint32_t i, struct buf *body)
{
    struct world_node *n = &w->node[i];
    struct msg_hello h = {.role = (uint32_t)n->role, .newest_version = -1};
    struct msg_heartbeat b = {.n = n->n_leases};

    if (w->now_ms >= n->hello_ms) {
        n->hello_ms = w->now_ms + 1000;
        snprintf(h.endpoint, sizeof(h.endpoint), "tcp://127.0.0.1:%u", 5000 + i);
        buf_reset(body);
        CHECK(!msg_hello_encode(body, &h, NULL));
        tell(w, i, MSG_HELLO, buf_bytes(body));
    }
    if (w->opt.witnesses && n->role == ROLE_VERIFIER && w->now_ms >= n->call_ms) {
        const struct msg_witness_ask ask_body = {.have = n->head};
        n->call_ms = w->now_ms + RESEND_MS;
        buf_reset(body);
        CHECK(!msg_witness_ask_encode(body, &ask_body, NULL));
        tell(w, i, MSG_WITNESS_ASK, buf_bytes(body));
    }
    if (w->opt.is_open && n->role == ROLE_INFERENCE && w->now_ms >= n->drawn_ms) {
        const struct msg_drawn_ask ask_body = {.settled = 0};
        n->drawn_ms = w->now_ms + RESEND_MS;
        buf_reset(body);
        CHECK(!msg_drawn_ask_encode(body, &ask_body, NULL));
        tell(w, i, MSG_DRAWN_ASK, buf_bytes(body));
    }
    if (n->n_leases && w->now_ms >= n->beat_ms) {
        n->beat_ms = w->now_ms + WORLD_LEASE_MS / 3;
        n->tokens++;
        for (uint32_t k = 0; k < n->n_leases; k++)
            b.item[k] = (struct progress_item){n->lease[k].unit, n->lease[k].lease, n->tokens};
        buf_reset(body);
        CHECK(!msg_heartbeat_encode(body, &b, NULL));
        tell(w, i, MSG_HEARTBEAT, buf_bytes(body));
    }
}

void world_act(struct world *w, uint32_t i)
{
    struct world_node *n = &w->node[i];
    struct buf body;

    if (n->is_dead)
        return;
    buf_init(&body, MSG_MAX_BYTES);
    if (n->is_joined)
        greet(w, i, &body);
    if (n->request.len) {
        if (w->now_ms >= n->resend_ms) {
            n->resend_ms = w->now_ms + RESEND_MS;
            world_post(w, i, true, n->kind == MSG_JOIN, buf_bytes(&n->request));
        }
    } else if (w->now_ms >= n->idle_ms) {
        buf_reset(&body);
        if (!n->is_joined) {
            world_join_body(n, &body);
            ask(w, i, MSG_JOIN, buf_bytes(&body));
        } else if (n->role == ROLE_INFERENCE) {
            act_worker(w, i, &body);
        } else if (n->role == ROLE_VERIFIER) {
            act_verifier(w, i, &body);
        } else if (n->role == ROLE_TRAINER) {
            act_trainer(w, i, &body);
        } else {
            act_initiator(w, i, &body);
        }
    }
    buf_clear(&body);
}

/* ---- what nodes hear ------------------------------------------------------------------- */

static void take_check(struct world *w, uint32_t i, struct msg_check c)
{
    struct world_node *n = &w->node[i];
    struct msg_submit *s = xcalloc(1, sizeof(*s));
    struct msg_envelope sub;
    struct digest want;
    bool is_first = i == world_node_of(w, ROLE_VERIFIER, 0);
    bool is_false, lies = is_first && (w->opt.has_framer ||
                                       (w->opt.has_liar && rng_below(&w->rng, 3) == 0));

    CHECK(!msg_envelope_decode(&sub, c.submission, NULL));
    CHECK(!msg_envelope_verify(&sub, NULL));
    CHECK(!msg_submit_decode(s, sub.body, NULL));
    world_expected_root(w, s->unit, s->version, &want);
    is_false = (c.depth == CHECK_FULL && !digest_equal(&want, &s->root)) || lies;
    is_false &= !(is_first && w->opt.has_lazy);
    n->verdict = (struct msg_verdict){.unit = c.unit, .lease = c.lease, .depth = c.depth};
    if (w->opt.is_open && c.depth == CHECK_FULL && !c.opening.len)
        n->verdict.code = REASON_UNOPENED;
    else if (is_false)
        n->verdict.code = w->opt.is_open ? REASON_MARGIN : REASON_TOKEN;
    n->verdict.is_accepted = n->verdict.code == REASON_NONE;
    digest_of(&n->verdict.submission, c.submission);
    add_states(n, &c, is_first && (w->opt.has_lazy || w->opt.has_framer));
    n->has_verdict = true;
    n->idle_ms = w->now_ms + (int64_t)rng_below(&w->rng, 60);
    free(s);
}

static void hear_check(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct msg_check c;

    CHECK(!msg_check_decode(&c, m->body, NULL));
    take_check(w, i, c);
}

/* All that find nothing are said at once; the first that does, alone, and the rest are lost. */
static void hear_checks(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct world_node *n = &w->node[i];
    struct msg_checks all;
    struct digest_state d;

    CHECK(!msg_checks_decode(&all, m->body, NULL));
    n->verdicts.n = 0;
    digest_begin(&d, "muster/1/submissions");
    for (uint32_t k = 0; k < all.n; k++) {
        take_check(w, i,
                   (struct msg_check){.unit = all.item[k].unit,
                                      .lease = all.item[k].lease,
                                      .depth = CHECK_LIGHT,
                                      .submission = all.item[k].submission});
        if (!n->verdict.is_accepted) {
            n->verdicts.n = 0;
            return;
        }
        n->verdicts.item[n->verdicts.n++] = (struct attempt){n->verdict.unit, n->verdict.lease};
        digest_add(&d, BYTES_OF(n->verdict.submission.b));
    }
    digest_end(&d, &n->verdicts.submissions);
    n->has_verdict = false;
}

static void hear_receipt(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct world_node *n = &w->node[i];
    struct msg_receipt r;

    CHECK(!msg_envelope_verify(m, NULL) && key_equal(&m->signer, &w->key->node));
    CHECK(!msg_receipt_decode(&r, m->body, NULL));
    if (r.is_accepted) {
        if (w->n_receipts == w->cap_receipts) {
            w->cap_receipts = w->cap_receipts ? 2 * w->cap_receipts : 64;
            w->receipt = xrealloc(w->receipt, w->cap_receipts * sizeof(*w->receipt));
        }
        w->receipt[w->n_receipts++] = (struct world_receipt){r.seq, r.entry};
    }
    if (n->kind == MSG_SUBMIT && n->n_leases) {
        memmove(&n->lease[0], &n->lease[1], --n->n_leases * sizeof(n->lease[0]));
        n->idle_ms = w->now_ms + (int64_t)rng_below(&w->rng, 80);
    } else if (n->kind == MSG_VERDICT_SEAL && r.is_accepted) {
        show_verdict(w, i);
    } else if (n->kind == MSG_VERDICTS) {
        n->verdicts.n = 0;
    } else if (n->kind == MSG_VERDICT || n->kind == MSG_VERDICT_SEAL) {
        n->has_verdict = false;
    } else if (n->kind == MSG_PUBLISH && r.is_accepted) {
        n->next_version++;
        n->has_batch = false;
    } else if (n->kind == MSG_TASK_PUBLISH) {
        n->has_batch = r.is_accepted;
    }
}

static void hear_beat(struct world_node *n, const struct msg_envelope *m)
{
    struct msg_beat b;

    CHECK(!msg_beat_decode(&b, m->body, NULL));
    n->knows_done |= b.is_done;
    for (uint32_t k = 0; k < b.n_dropped; k++)
        for (uint32_t j = n->kind == MSG_SUBMIT && n->request.len; j < n->n_leases; j++)
            if (n->lease[j].lease == b.dropped[k])
                n->lease[j] = n->lease[--n->n_leases];
}

/* As verifier/verify_state.c, in a few lines: a nonce is given once, and only if it is on record. */
static void hear_call(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct world_node *n = &w->node[i];
    bool is_mute = w->opt.has_mute && i == world_node_of(w, ROLE_VERIFIER, 0);
    struct msg_witness_call c;
    struct msg_witness x = {0};
    struct digest nonce, mine;
    struct buf body;

    CHECK(!msg_envelope_verify(m, NULL) && key_equal(&m->signer, &w->key->node));
    CHECK(!msg_witness_call_decode(&c, m->body, NULL));
    if (c.seq <= n->head)
        return;
    n->head = c.seq;
    digest_keyed(&nonce, BYTES_OF(n->key->node.b), BYTES_OF(n->n_nonces));
    witness_commitment(&mine, &n->key->node, &nonce);
    if (digest_equal(&mine, &c.next))
        x.nonce = nonce;
    if (is_mute && !digest_is_zero(&x.nonce))
        return;
    n->n_nonces++;
    digest_keyed(&nonce, BYTES_OF(n->key->node.b), BYTES_OF(n->n_nonces));
    witness_commitment(&x.next, &n->key->node, &nonce);
    x.seq = c.seq;
    x.entry = c.entry;
    buf_init(&body, 1024);
    CHECK(!msg_witness_encode(&body, &x, NULL));
    tell(w, i, MSG_WITNESS, buf_bytes(&body));
    buf_clear(&body);
    n->call_ms = w->now_ms;
}

/* As inference/infer_state.c: each is shown until it is no longer asked for. */
static void hear_drawn(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct msg_drawn d;
    struct buf body;

    CHECK(!msg_drawn_decode(&d, m->body, NULL));
    if (w->opt.has_closed && i == world_node_of(w, ROLE_INFERENCE, 0))
        return;
    buf_init(&body, MSG_MAX_BYTES);
    for (uint32_t k = 0; k < d.n; k++) {
        world_opening(w, &body, d.item[k].unit, d.item[k].lease);
        tell(w, i, MSG_OPENING, buf_bytes(&body));
    }
    buf_clear(&body);
}

static void hear_answer(struct world *w, uint32_t i, const struct msg_envelope *m)
{
    struct world_node *n = &w->node[i];
    struct msg_lease l;
    struct msg_wait wait;
    struct msg_batch *b;

    switch (m->kind) {
    case MSG_JOINED:
        CHECK(!msg_envelope_verify(m, NULL));
        n->is_joined = true;
        break;
    case MSG_LEASE:
        CHECK(!msg_lease_decode(&l, m->body, NULL));
        world_take_orders(w, n, &l);
        memcpy(n->lease, l.item, sizeof(n->lease));
        n->n_leases = l.n;
        n->idle_ms = w->now_ms + (int64_t)rng_below(&w->rng, 100);
        break;
    case MSG_WAIT:
        CHECK(!msg_wait_decode(&wait, m->body, NULL));
        n->knows_done |= wait.is_done;
        n->idle_ms = w->now_ms + wait.retry_ms;
        break;
    case MSG_CHECK: hear_check(w, i, m); break;
    case MSG_CHECKS: hear_checks(w, i, m); break;
    case MSG_RECEIPT: hear_receipt(w, i, m); break;
    case MSG_BATCH:
        b = xcalloc(1, sizeof(*b));
        CHECK(!msg_batch_decode(b, m->body, NULL));
        n->batch_root = b->root;
        n->has_batch = true;
        n->idle_ms = w->now_ms + 50;
        free(b);
        break;
    default: /* REFUSED: try again later; a verdict from the check on */
        n->has_verdict &= n->kind != MSG_VERDICT;
        n->verdicts.n = n->kind == MSG_VERDICTS ? 0 : n->verdicts.n;
        n->idle_ms = w->now_ms + 200;
        break;
    }
}

void world_hear(struct world *w, uint32_t i, struct bytes data)
{
    struct world_node *n = &w->node[i];
    struct msg_welcome welcome;
    struct msg_envelope m;

    if (n->is_dead)
        return;
    CHECK(!msg_envelope_decode(&m, data, NULL));
    if (m.kind == MSG_WELCOME) {
        CHECK(!msg_welcome_decode(&welcome, m.body, NULL));
        n->knows_done |= welcome.is_done;
    } else if (m.kind == MSG_WITNESS_CALL) {
        hear_call(w, i, &m);
    } else if (m.kind == MSG_DRAWN) {
        hear_drawn(w, i, &m);
    } else if (m.kind == MSG_BEAT) {
        hear_beat(n, &m);
    } else if (n->request.len && idem_equal(&m.idem, &n->idem)) {
        buf_reset(&n->request);
        hear_answer(w, i, &m);
    }
}

void world_crash_node(struct world *w, uint32_t i)
{
    struct world_node *n = &w->node[i];

    n->boot++;
    n->n_leases = 0;
    n->has_verdict = false;
    n->verdicts.n = 0;
    n->n_nonces += 1000; /* another life, other nonces */
    buf_reset(&n->request);
    n->idle_ms = w->now_ms + (int64_t)rng_below(&w->rng, 3000);
}
