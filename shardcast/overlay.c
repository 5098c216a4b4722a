#include "shardcast/overlay_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define VOUCHED_MAX 2u /* times in a row that others' word for a silent peer counts */

/* ---- out --------------------------------------------------------------------------------- */

void overlay_out_init(struct overlay_out *l)
{
    *l = (struct overlay_out){0};
}

void overlay_out_reset(struct overlay_out *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].owned);
    l->n = 0;
}

void overlay_out_clear(struct overlay_out *l)
{
    overlay_out_reset(l);
    free(l->v);
    *l = (struct overlay_out){0};
}

static struct overlay_act *act(struct overlay_out *out, enum overlay_act_kind kind,
                               struct bytes value)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->v = xrealloc(out->v, out->cap * sizeof(*out->v));
    }
    struct overlay_act *a = &out->v[out->n++];
    *a = (struct overlay_act){.kind = kind};
    if (value.len) {
        a->owned = xmalloc(value.len);
        memcpy(a->owned, value.data, value.len);
        a->value = (struct bytes){a->owned, value.len};
    }
    return a;
}

static void send(struct overlay *o, uint64_t link, enum msg_kind kind, struct buf *body,
                 struct overlay_out *out)
{
    struct idem idem = {{0}};
    struct buf envelope;

    o->counter++;
    memcpy(idem.b, &o->counter, sizeof(o->counter));
    idem.b[15] = 1; /* never all zero */
    CHECK(!buf_status(body, NULL));
    buf_init(&envelope, MSG_MAX_BYTES);
    CHECK(!msg_envelope_encode(&envelope, kind, &o->run, &idem, buf_bytes(body), NULL, NULL));
    struct overlay_act *a = act(out, OVERLAY_SEND, (struct bytes){0});
    a->link = link;
    a->value = buf_bytes(&envelope);
    a->owned = envelope.data; /* handed over */
}

#define SEND(o, link, KIND, name, message, out)                                                \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        CHECK(!msg_##name##_encode(&body_, &(message), NULL));                                 \
        send(o, link, MSG_##KIND, &body_, out);                                                \
        buf_clear(&body_);                                                                     \
    } while (0)

/* ---- links ------------------------------------------------------------------------------- */

struct active *active_find(struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_active; i++)
        if (key_equal(&o->active[i].key, key))
            return &o->active[i];
    return NULL;
}

static bool is_up(const struct active *a)
{
    return a->stage >= STAGE_UP;
}

static void set_up(struct active *a, int64_t now_ms, struct overlay_out *out)
{
    a->stage = STAGE_UP;
    a->heard_ms = a->met_ms = now_ms;
    a->n_vouched = 0;
    a->step_ms = now_ms + OVERLAY_PING_MS;
    struct overlay_act *x = act(out, OVERLAY_MEET, (struct bytes){0});
    x->key = a->key;
    x->link = a->link;
}

/* Whoever is dropped is not dialled for a while, so that another has a try. */
static void drop(struct overlay *o, struct active *a, int64_t now_ms, struct overlay_out *out)
{
    struct known *k = known_find(o, &a->key);

    if (k)
        k->again_ms = now_ms + OVERLAY_AGAIN_MS;
    if (is_up(a))
        act(out, OVERLAY_PART, (struct bytes){0})->key = a->key;
    if (a->is_chosen && a->link)
        act(out, OVERLAY_HANG_UP, (struct bytes){0})->link = a->link;
    *a = o->active[--o->n_active];
    o->fill_ms = now_ms;
}

/* Those that are suspected do not count: another is dialled in time. */
static uint32_t count_chosen(const struct overlay *o, bool is_seed)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += o->active[i].is_chosen && o->active[i].is_seed == is_seed &&
             o->active[i].stage != STAGE_SUSPECT && o->active[i].stage != STAGE_LEAVING;
    return n;
}

static uint32_t wanted(const struct overlay *o)
{
    return o->is_hidden ? OVERLAY_OUT_HIDDEN : OVERLAY_OUT;
}

static void say_leave(struct overlay *o, uint64_t link, enum reason why,
                      struct overlay_out *out)
{
    struct msg_leave m = {.code = why};

    SEND(o, link, LEAVE, leave, m, out);
}

/* Says so, and hangs up when that has had time to arrive. */
static void leave(struct overlay *o, struct active *a, enum reason why, int64_t now_ms,
                  struct overlay_out *out)
{
    say_leave(o, a->link, why, out);
    if (!a->is_chosen) {
        drop(o, a, now_ms, out);
        return;
    }
    act(out, OVERLAY_PART, (struct bytes){0})->key = a->key;
    a->stage = STAGE_LEAVING;
    a->step_ms = now_ms + OVERLAY_LEAVE_MS;
    o->fill_ms = now_ms;
}

/* Of more chosen links than there should be, one goes, by lot; not the last that came. */
static void trim(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    struct active *newest = NULL, *one = NULL;
    uint32_t n_up = 0, n = 0;

    for (uint32_t i = 0; i < o->n_active; i++) {
        struct active *a = &o->active[i];
        if (!a->is_chosen || a->is_seed || !is_up(a))
            continue;
        n_up += a->stage != STAGE_SUSPECT;
        if (!newest || a->met_ms > newest->met_ms)
            newest = a;
    }
    if (n_up <= wanted(o))
        return;
    for (uint32_t i = 0; i < o->n_active; i++) {
        struct active *a = &o->active[i];
        if (a->is_chosen && !a->is_seed && is_up(a) && a != newest &&
            rng_u32(&o->rng) % ++n == 0)
            one = a;
    }
    leave(o, one, REASON_NONE, now_ms, out);
}

/* Now and then one more is dialled, in place of whom it comes: so that who was there first keeps
 * no advantage. Often at first, when most are new. */
static void turn(struct overlay *o, int64_t now_ms)
{
    if (o->turn_ms > now_ms)
        return;
    int64_t pause = (now_ms - o->born_ms) / 8;
    pause = pause < OVERLAY_TURN_MIN_MS ? OVERLAY_TURN_MIN_MS : pause;
    pause = pause > OVERLAY_TURN_MAX_MS ? OVERLAY_TURN_MAX_MS : pause;
    o->turn_ms = now_ms + pause;
    o->n_extra = 1;
    o->fill_ms = now_ms;
}

static void dial(struct overlay *o, struct known *k, int64_t now_ms, struct overlay_out *out)
{
    struct active *a = &o->active[o->n_active++];

    *a = (struct active){.key = k->key,
                         .owner = k->owner,
                         .subnet = k->subnet,
                         .stage = STAGE_DIALLING,
                         .is_chosen = true,
                         .is_seed = k->is_seed,
                         .is_assigned = k->is_assigned,
                         .step_ms = now_ms + OVERLAY_DIAL_MS};
    o->counters.dialled++;
    act(out, OVERLAY_DIAL, bytes_str(k->endpoint))->key = k->key;
}

/* Dials until there are as many links of our choice as there should be. */
static void fill(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    uint32_t want = wanted(o) + o->n_extra;
    struct known *k;

    if (o->fill_ms > now_ms)
        return;
    o->fill_ms = OVERLAY_NEVER;
    if (count_chosen(o, true) == 0 && o->n_active < OVERLAY_LINKS_MAX &&
        (k = known_choose(o, true, now_ms)) != NULL)
        dial(o, k, now_ms, out);
    while (count_chosen(o, false) < want && o->n_active < OVERLAY_LINKS_MAX) {
        k = known_choose(o, false, now_ms);
        if (!k)
            break;
        dial(o, k, now_ms, out);
    }
    o->n_extra = 0;
    want = wanted(o);
    if (count_chosen(o, false) < want || count_chosen(o, true) == 0)
        o->fill_ms = known_again_ms(o, now_ms);
}

/* ---- probes ------------------------------------------------------------------------------ */

static void ping(struct overlay *o, struct active *a, struct overlay_out *out)
{
    struct msg_ping m;

    if (!a->nonce)
        a->nonce = rng_u64(&o->rng) | 1;
    m.nonce = a->nonce;
    SEND(o, a->link, PING, ping, m, out);
}

static void ask_others(struct overlay *o, const struct active *a, struct overlay_out *out)
{
    struct msg_ping_ask m = {.nonce = a->nonce, .about = a->key};
    uint32_t from = o->n_active > 1 ? rng_u32(&o->rng) % o->n_active : 0, n = 0;

    for (uint32_t i = 0; i < o->n_active && n < 2; i++) {
        const struct active *b = &o->active[(from + i) % o->n_active];
        if (b == a || b->stage != STAGE_UP)
            continue;
        SEND(o, b->link, PING_ASK, ping_ask, m, out);
        n++;
    }
}

/* And who asked about it is told. */
static void alive(struct overlay *o, struct active *a, int64_t now_ms, struct overlay_out *out)
{
    a->heard_ms = now_ms;
    a->nonce = 0;
    a->n_vouched = 0;
    a->stage = STAGE_UP;
    a->step_ms = now_ms + OVERLAY_PING_MS;
    if (a->asker) {
        struct msg_pong m = {.nonce = a->asker_nonce, .about = a->key};
        SEND(o, a->asker, PONG, pong, m, out);
        a->asker = 0;
    }
}

/* One stage further. False: it is gone. */
static bool probe(struct overlay *o, struct active *a, int64_t now_ms, struct overlay_out *out)
{
    switch (a->stage) {
    case STAGE_UP:
        ping(o, a, out);
        a->stage = STAGE_PINGED;
        a->step_ms = now_ms + OVERLAY_ANSWER_MS;
        return true;
    case STAGE_PINGED:
        ping(o, a, out);
        ask_others(o, a, out);
        a->stage = STAGE_INDIRECT;
        a->step_ms = now_ms + OVERLAY_ANSWER_MS;
        return true;
    case STAGE_INDIRECT:
        ping(o, a, out);
        a->stage = STAGE_SUSPECT;
        a->step_ms = now_ms + OVERLAY_SUSPECT_MS;
        o->fill_ms = now_ms;
        return true;
    case STAGE_LEAVING: break;
    case STAGE_SUSPECT: o->counters.lost++; break;
    case STAGE_DIALLING:
    case STAGE_ASKED: o->counters.refused++; break;
    }
    drop(o, a, now_ms, out);
    return false;
}

/* ---- gossip ------------------------------------------------------------------------------ */

static struct active *some_neighbour(struct overlay *o, const struct public_key *except)
{
    struct active *found = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++) {
        struct active *a = &o->active[i];
        bool fits = a->stage == STAGE_UP && !(except && key_equal(&a->key, except));
        if (fits && rng_u32(&o->rng) % ++n == 0)
            found = a;
    }
    return found;
}

static void shuffle(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    struct msg_shuffle m = {0};
    struct active *a;

    if (o->has_roster || !o->cert || o->shuffle_ms > now_ms)
        return;
    o->shuffle_ms = now_ms + OVERLAY_SHUFFLE_MS;
    a = some_neighbour(o, NULL);
    if (!a)
        return;
    m.cert[0] = (struct bytes){o->cert, o->cert_len};
    m.n = 1 + known_some(o, m.cert + 1, MSG_MAX_CERTS - 1);
    SEND(o, a->link, SHUFFLE, shuffle, m, out);
    if (o->has_walked)
        return;
    struct msg_walk w = {.cert = m.cert[0], .ttl = MSG_MAX_WALK};
    SEND(o, a->link, WALK, walk, w, out);
    o->has_walked = true;
}

static void learn_certs(struct overlay *o, const struct bytes *cert, uint32_t n)
{
    struct msg_cert m;

    for (uint32_t i = 0; i < n; i++)
        if (known_certify(o, cert[i], false, &m, NULL, NULL))
            o->counters.denied++;
}

static enum status on_shuffle(struct overlay *o, struct active *a,
                              const struct msg_envelope *env, int64_t now_ms,
                              struct overlay_out *out, struct err *e)
{
    struct msg_shuffle m;
    struct msg_shuffle_reply answer = {0};
    enum status st = msg_shuffle_decode(&m, env->body, e);

    if (st || a->shuffled_ms > now_ms)
        return st; /* more often than anybody needs to */
    a->shuffled_ms = now_ms + OVERLAY_SHUFFLE_MS / 2;
    answer.n = known_some(o, answer.cert, MSG_MAX_CERTS);
    SEND(o, a->link, SHUFFLE_REPLY, shuffle_reply, answer, out);
    learn_certs(o, m.cert, m.n);
    return OK;
}

static enum status on_shuffle_reply(struct overlay *o, struct active *a,
                                    const struct msg_envelope *env, int64_t now_ms,
                                    struct err *e)
{
    struct msg_shuffle_reply m;
    enum status st = msg_shuffle_reply_decode(&m, env->body, e);

    if (st || a->shuffled_ms > now_ms)
        return st;
    a->shuffled_ms = now_ms + OVERLAY_SHUFFLE_MS / 2;
    learn_certs(o, m.cert, m.n);
    return OK;
}

static enum status on_walk(struct overlay *o, const struct active *a,
                           const struct msg_envelope *env, struct overlay_out *out,
                           struct err *e)
{
    struct msg_walk m;
    struct active *next;
    enum status st = msg_walk_decode(&m, env->body, e);

    if (st)
        return st;
    learn_certs(o, &m.cert, 1);
    next = m.ttl > 0 ? some_neighbour(o, &a->key) : NULL;
    if (next) {
        m.ttl--;
        SEND(o, next->link, WALK, walk, m, out);
    }
    return OK;
}

/* ---- neighbours -------------------------------------------------------------------------- */

static uint32_t count_in(const struct overlay *o, bool is_assigned)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += !o->active[i].is_chosen && o->active[i].is_assigned == is_assigned;
    return n;
}

static bool is_seed_self(const struct overlay *o)
{
    const struct known *k = known_find(o, &o->opt.self);

    return o->is_seed || (k && k->is_seed_role);
}

static bool names_us(const struct overlay *o, struct bytes peers)
{
    for (size_t i = 0; i + KEY_BYTES <= peers.len; i += KEY_BYTES)
        if (memcmp(peers.data + i, o->opt.self.b, KEY_BYTES) == 0)
            return true;
    return false;
}

/* Is the dialler certified, and were we assigned to it? NULL: not certified. */
static struct known *admit(struct overlay *o, const struct public_key *from, struct bytes cert,
                           bool *is_assigned)
{
    struct msg_cert m;
    struct known *k = NULL;

    if (o->has_roster) {
        *is_assigned = known_may_dial(o, from, &o->opt.self);
        return known_find(o, from);
    }
    if (known_certify(o, cert, false, &m, &k, NULL) || !k || !key_equal(&k->key, from)) {
        o->counters.denied++;
        return NULL;
    }
    *is_assigned = names_us(o, m.peers);
    return k;
}

static bool has_place(struct overlay *o, const struct known *k, bool is_assigned)
{
    uint32_t most = is_assigned ? is_seed_self(o) ? OVERLAY_IN_SEED : OVERLAY_IN : OVERLAY_FREE;

    return count_in(o, is_assigned) < most && o->n_active < OVERLAY_LINKS_MAX &&
           !known_is_crowded(o, &k->owner, k->subnet, false);
}

/* A dialler that was heard of before begins anew; of two that dial each other at once, the one
 * with the lower key goes on. */
static bool settle_double(struct overlay *o, struct active *a, int64_t now_ms,
                          struct overlay_out *out)
{
    bool is_ours = a->is_chosen && (is_up(a) || memcmp(o->opt.self.b, a->key.b, KEY_BYTES) < 0);

    if (is_ours)
        return false;
    drop(o, a, now_ms, out);
    return true;
}

static enum status on_neighbour(struct overlay *o, uint64_t link, const struct public_key *from,
                                const struct msg_envelope *env, int64_t now_ms,
                                struct overlay_out *out, struct err *e)
{
    struct msg_neighbour m;
    struct msg_neighbour_reply answer = {0};
    struct active *a = active_find(o, from);
    bool is_assigned = false;
    enum status st = msg_neighbour_decode(&m, env->body, e);

    if (st)
        return st;
    struct known *k = admit(o, from, m.cert, &is_assigned);
    if (k && (!a || settle_double(o, a, now_ms, out)) && has_place(o, k, is_assigned)) {
        a = &o->active[o->n_active++];
        *a = (struct active){.key = *from,
                             .owner = k->owner,
                             .subnet = k->subnet,
                             .link = link,
                             .is_assigned = is_assigned};
        answer.is_accepted = true;
    }
    SEND(o, link, NEIGHBOUR_REPLY, neighbour_reply, answer, out);
    if (answer.is_accepted)
        set_up(a, now_ms, out);
    return OK;
}

static enum status on_neighbour_reply(struct overlay *o, struct active *a,
                                      const struct msg_envelope *env, int64_t now_ms,
                                      struct overlay_out *out, struct err *e)
{
    struct msg_neighbour_reply m;
    enum status st = msg_neighbour_reply_decode(&m, env->body, e);

    if (st || a->stage != STAGE_ASKED)
        return st;
    if (m.is_accepted) {
        set_up(a, now_ms, out);
        return OK;
    }
    o->counters.refused++;
    drop(o, a, now_ms, out);
    return OK;
}

/* ---- questions about life ---------------------------------------------------------------- */

static enum status on_ping(struct overlay *o, uint64_t link, const struct msg_envelope *env,
                           struct overlay_out *out, struct err *e)
{
    struct msg_ping m;
    enum status st = msg_ping_decode(&m, env->body, e);

    if (st)
        return st;
    struct msg_pong answer = {.nonce = m.nonce};
    SEND(o, link, PONG, pong, answer, out);
    return OK;
}

/* The answer comes when that peer is heard next; of two who ask about it, the last gets it. */
static enum status on_ping_ask(struct overlay *o, uint64_t link, const struct msg_envelope *env,
                               struct overlay_out *out, struct err *e)
{
    struct msg_ping_ask m;
    enum status st = msg_ping_ask_decode(&m, env->body, e);
    struct active *about = st ? NULL : active_find(o, &m.about);

    if (!about || !is_up(about))
        return st;
    about->asker = link;
    about->asker_nonce = m.nonce;
    ping(o, about, out);
    return OK;
}

static enum status on_pong(struct overlay *o, const struct msg_envelope *env, int64_t now_ms,
                           struct err *e)
{
    struct msg_pong m;
    enum status st = msg_pong_decode(&m, env->body, e);
    struct active *about = st || key_is_zero(&m.about) ? NULL : active_find(o, &m.about);

    if (!about || about->nonce != m.nonce || about->stage < STAGE_INDIRECT ||
        about->n_vouched == VOUCHED_MAX)
        return st;
    about->n_vouched++;
    about->stage = STAGE_UP;
    about->step_ms = now_ms + OVERLAY_PING_MS;
    return OK;
}

/* ---- inputs ------------------------------------------------------------------------------ */

static void arm(struct overlay *o, struct overlay_out *out)
{
    int64_t first = o->fill_ms < o->turn_ms ? o->fill_ms : o->turn_ms;

    for (uint32_t i = 0; i < o->n_active; i++)
        if (o->active[i].step_ms < first)
            first = o->active[i].step_ms;
    if (!o->has_roster && o->cert && o->n_active && o->shuffle_ms < first)
        first = o->shuffle_ms;
    if (first >= o->armed_ms)
        return;
    o->armed_ms = first;
    act(out, OVERLAY_WAKE, (struct bytes){0})->at_ms = first;
}

static void settle(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    if (!o->has_run)
        return;
    for (uint32_t i = 0; i < o->n_active;)
        if (o->active[i].step_ms > now_ms || probe(o, &o->active[i], now_ms, out))
            i++;
    trim(o, now_ms, out);
    turn(o, now_ms);
    fill(o, now_ms, out);
    shuffle(o, now_ms, out);
    arm(o, out);
}

void overlay_new(struct overlay **out, const struct overlay_options *opt)
{
    struct overlay *o = xcalloc(1, sizeof(*o));
    uint64_t seed;

    o->opt = *opt;
    memcpy(&seed, opt->self.b, sizeof(seed));
    o->rng = rng_of(seed ^ opt->salt, 0x6f76);
    o->turn_ms = OVERLAY_NEVER;
    o->armed_ms = OVERLAY_NEVER;
    *out = o;
}

void overlay_free(struct overlay **p)
{
    struct overlay *o = *p;

    if (!o)
        return;
    known_clear(o);
    free(o->known);
    free(o->cert);
    free(o->revoked);
    free(o);
    *p = NULL;
}

void overlay_set_run(struct overlay *o, const struct digest *run,
                     const struct public_key *orchestrator, int64_t now_ms)
{
    o->run = *run;
    o->orchestrator = *orchestrator;
    o->has_run = true;
    o->born_ms = now_ms;
    o->turn_ms = now_ms + OVERLAY_TURN_MIN_MS;
}

void overlay_set_roster(struct overlay *o, const struct msg_roster *r, int64_t now_ms,
                        struct overlay_out *out)
{
    o->has_roster = true;
    known_set_roster(o, r);
    for (uint32_t i = o->n_active; i-- > 0;) {
        struct active *a = &o->active[i];
        if (known_find(o, &a->key))
            continue;
        if (is_up(a))
            leave(o, a, REASON_REVOKED, now_ms, out);
        else
            drop(o, a, now_ms, out);
    }
    o->fill_ms = now_ms;
    settle(o, now_ms, out);
}

enum status overlay_certify(struct overlay *o, struct bytes cert, int64_t now_ms,
                            struct overlay_out *out, struct err *e)
{
    struct msg_cert m;
    enum status st = known_certify(o, cert, true, &m, NULL, e);

    if (st)
        return st;
    if (key_equal(&m.transport, &o->opt.self))
        o->is_seed = m.role == ROLE_RELAY || m.role == ROLE_TRAINER;
    o->fill_ms = now_ms;
    settle(o, now_ms, out);
    return OK;
}

void overlay_revoke(struct overlay *o, const struct public_key *key, int64_t now_ms,
                    struct overlay_out *out)
{
    struct active *a = active_find(o, key);

    known_revoke(o, key);
    if (a && is_up(a))
        leave(o, a, REASON_REVOKED, now_ms, out);
    else if (a)
        drop(o, a, now_ms, out);
    settle(o, now_ms, out);
}

void overlay_linked(struct overlay *o, const struct public_key *key, uint64_t link,
                    int64_t now_ms, struct overlay_out *out)
{
    struct active *a = active_find(o, key);
    struct msg_neighbour m = {0};

    if (!a || a->stage != STAGE_DIALLING) {
        act(out, OVERLAY_HANG_UP, (struct bytes){0})->link = link;
        return;
    }
    a->link = link;
    a->stage = STAGE_ASKED;
    if (!o->has_roster && o->cert)
        m.cert = (struct bytes){o->cert, o->cert_len};
    SEND(o, link, NEIGHBOUR, neighbour, m, out);
    settle(o, now_ms, out);
}

static enum status hear(struct overlay *o, uint64_t link, struct active *a,
                        const struct msg_envelope *env, int64_t now_ms, struct overlay_out *out,
                        struct err *e)
{
    switch (env->kind) {
    case MSG_SHUFFLE: return on_shuffle(o, a, env, now_ms, out, e);
    case MSG_SHUFFLE_REPLY: return on_shuffle_reply(o, a, env, now_ms, e);
    case MSG_WALK: return on_walk(o, a, env, out, e);
    case MSG_PING: return on_ping(o, link, env, out, e);
    case MSG_PING_ASK: return on_ping_ask(o, link, env, out, e);
    case MSG_PONG: return on_pong(o, env, now_ms, e);
    case MSG_LEAVE: drop(o, a, now_ms, out); return OK;
    default: return ERR_MALFORMED;
    }
}

void overlay_message(struct overlay *o, uint64_t link, const struct public_key *from,
                     struct bytes frame, int64_t now_ms, struct overlay_out *out)
{
    struct active *a = active_find(o, from);
    struct msg_envelope env;
    struct err e;
    enum status st = msg_envelope_decode(&env, frame, &e);

    if (!st && (!o->has_run || !digest_equal(&env.run, &o->run)))
        st = ERR_DENIED;
    if (!st && env.kind == MSG_NEIGHBOUR) {
        st = on_neighbour(o, link, from, &env, now_ms, out, &e);
    } else if (!st && env.kind == MSG_NEIGHBOUR_REPLY) {
        if (a && a->link == link)
            st = on_neighbour_reply(o, a, &env, now_ms, out, &e);
    } else if (!st && a && is_up(a)) {
        alive(o, a, now_ms, out);
        st = hear(o, link, a, &env, now_ms, out, &e);
    } else if (!st && env.kind != MSG_LEAVE) {
        say_leave(o, link, REASON_UNKNOWN_NODE, out); /* it takes us for a neighbour */
    }
    if (st)
        o->counters.malformed++;
    settle(o, now_ms, out);
}

void overlay_tick(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    o->armed_ms = OVERLAY_NEVER;
    settle(o, now_ms, out);
}

/* ---- what is known ----------------------------------------------------------------------- */

size_t overlay_n_neighbours(const struct overlay *o)
{
    size_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += is_up(&o->active[i]);
    return n;
}

struct overlay_neighbour overlay_neighbour(const struct overlay *o, size_t i)
{
    uint32_t at = 0;

    for (;; at++) {
        CHECK(at < o->n_active);
        if (is_up(&o->active[at]) && i-- == 0)
            break;
    }
    const struct active *a = &o->active[at];
    return (struct overlay_neighbour){.key = a->key,
                                      .link = a->link,
                                      .is_chosen = a->is_chosen,
                                      .is_suspect = a->stage == STAGE_SUSPECT,
                                      .is_seed = a->is_seed};
}

struct overlay_counters overlay_counters(const struct overlay *o)
{
    return o->counters;
}
