#include "shardcast/overlay_inside.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"

#define VOUCHED_MAX 2u   /* times in a row that others' word for a silent peer counts */
#define FRAME_MAX   512u /* none of its messages is longer */

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
    struct buf envelope;

    CHECK(!buf_status(body, NULL));
    buf_init(&envelope, MSG_MAX_BYTES);
    CHECK(!msg_envelope_encode(&envelope, kind, &o->run, NULL, buf_bytes(body), NULL, NULL));
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

const struct active *active_find(const struct overlay *o, const struct public_key *key)
{
    for (uint32_t i = 0; i < o->n_active; i++)
        if (key_equal(&o->active[i].key, key))
            return &o->active[i];
    return NULL;
}

static struct active *find(struct overlay *o, const struct public_key *key)
{
    const struct active *a = active_find(o, key);

    return a ? &o->active[a - o->active] : NULL;
}

bool active_is_up(const struct active *a)
{
    return a->stage >= STAGE_UP;
}

static void say_met(const struct active *a, struct overlay_out *out)
{
    struct overlay_act *x = act(out, OVERLAY_MEET, (struct bytes){0});

    x->key = a->key;
    x->link = a->link;
    x->role = a->role;
}

static void set_up(struct overlay *o, struct active *a, int64_t now_ms, struct overlay_out *out)
{
    struct candidate *c = candidate_find(o, &a->key);

    if (c)
        c->n_failed = 0;
    a->stage = STAGE_UP;
    a->heard_ms = a->met_ms = now_ms;
    a->n_vouched = 0;
    a->step_ms = now_ms + OVERLAY_PING_MS;
    say_met(a, out);
}

static void say_part(const struct active *a, const char *why, struct overlay_out *out)
{
    struct overlay_act *x = act(out, OVERLAY_PART, (struct bytes){0});

    x->key = a->key;
    x->why = why;
}

static void drop(struct overlay *o, struct active *a, const char *why, int64_t now_ms,
                 struct overlay_out *out)
{
    if (active_is_up(a))
        say_part(a, why, out);
    if (a->is_chosen && a->link)
        act(out, OVERLAY_HANG_UP, (struct bytes){0})->link = a->link;
    *a = o->active[--o->n_active];
    o->fill_ms = now_ms;
}

/* It is not dialled for a while, so that another has a try. */
static void rest(struct overlay *o, const struct public_key *key, int64_t now_ms)
{
    struct candidate *c = candidate_find(o, key);

    if (c)
        c->again_ms = now_ms + OVERLAY_AGAIN_MS;
}

/* Those that are suspected do not count: another is dialled in time. */
static bool counts(const struct active *a)
{
    return a->stage != STAGE_SUSPECT && a->stage != STAGE_LEAVING;
}

static uint32_t count_chosen(const struct overlay *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += o->active[i].is_chosen && counts(&o->active[i]);
    return n;
}

/* Links to seeds, whoever dialled. */
static uint32_t count_seeds(const struct overlay *o)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += roster_is_seed(o->active[i].role) && counts(&o->active[i]);
    return n;
}

static uint32_t wanted(const struct overlay *o)
{
    return o->self && !o->self->endpoint[0] ? OVERLAY_OUT_HIDDEN : OVERLAY_OUT;
}

static void say_leave(struct overlay *o, uint64_t link, enum reason why,
                      struct overlay_out *out)
{
    struct msg_leave m = {.code = why};

    SEND(o, link, LEAVE, leave, m, out);
}

/* Says so, and hangs up when that has had time to arrive. */
static void leave(struct overlay *o, struct active *a, enum reason code, const char *why,
                  int64_t now_ms, struct overlay_out *out)
{
    rest(o, &a->key, now_ms);
    say_leave(o, a->link, code, out);
    if (!a->is_chosen) {
        drop(o, a, why, now_ms, out);
        return;
    }
    say_part(a, why, out);
    a->stage = STAGE_LEAVING;
    a->step_ms = now_ms + OVERLAY_LEAVE_MS;
    o->fill_ms = now_ms;
}

/* Of more chosen links than there should be, one goes, by lot; not the last that came, nor the only
 * one to a seed. */
static void trim(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    struct active *newest = NULL, *one = NULL;
    bool has_one_seed = count_seeds(o) == 1;
    uint32_t n_up = 0, n = 0;

    for (uint32_t i = 0; i < o->n_active; i++) {
        struct active *a = &o->active[i];
        if (!a->is_chosen || !active_is_up(a))
            continue;
        n_up += a->stage != STAGE_SUSPECT;
        if (!newest || a->met_ms > newest->met_ms)
            newest = a;
    }
    if (n_up <= wanted(o))
        return;
    for (uint32_t i = 0; i < o->n_active; i++) {
        struct active *a = &o->active[i];
        if (a->is_chosen && active_is_up(a) && a != newest &&
            !(has_one_seed && roster_is_seed(a->role)) && rng_u32(&o->rng) % ++n == 0)
            one = a;
    }
    leave(o, one, REASON_NONE, "exchanged", now_ms, out);
}

/* Now and then one more is dialled, in place of whom it comes: so that who was there first keeps
 * no advantage. Often at first, when most are new; not where half of all are neighbours anyway. */
static void turn(struct overlay *o, int64_t now_ms)
{
    if (o->turn_ms > now_ms)
        return;
    int64_t pause = (now_ms - o->born_ms) / 8;
    pause = pause < OVERLAY_TURN_MIN_MS ? OVERLAY_TURN_MIN_MS : pause;
    pause = pause > OVERLAY_TURN_MAX_MS ? OVERLAY_TURN_MAX_MS : pause;
    o->turn_ms = now_ms + pause;
    if (!o->roster || 2 * o->n_active >= o->roster->n)
        return;
    o->n_extra = 1;
    o->fill_ms = now_ms;
}

static void dial(struct overlay *o, const struct candidate *c, int64_t now_ms,
                 struct overlay_out *out)
{
    const struct listed *k = roster_find(o->roster, &c->key);
    struct active *a = &o->active[o->n_active++];

    *a = (struct active){.key = k->key,
                         .owner = k->owner,
                         .subnet = k->subnet,
                         .role = k->role,
                         .stage = STAGE_DIALLING,
                         .is_chosen = true,
                         .is_assigned = c->is_assigned,
                         .step_ms = now_ms + OVERLAY_DIAL_MS};
    o->counters.dialled++;
    act(out, OVERLAY_DIAL, bytes_str(k->endpoint))->key = k->key;
}

/* Dials until there are as many links of our choice as there should be, and one to a seed. */
static void fill(struct overlay *o, int64_t now_ms, struct overlay_out *out)
{
    uint32_t want = wanted(o) + o->n_extra;
    const struct candidate *c;

    if (o->fill_ms > now_ms || !o->roster)
        return;
    o->fill_ms = OVERLAY_NEVER;
    if (count_seeds(o) == 0 && o->n_active < OVERLAY_LINKS_MAX &&
        (c = candidate_choose(o, true, now_ms)) != NULL)
        dial(o, c, now_ms, out);
    while (count_chosen(o) < want && o->n_active < OVERLAY_LINKS_MAX) {
        c = candidate_choose(o, false, now_ms);
        if (!c)
            break;
        dial(o, c, now_ms, out);
    }
    o->n_extra = 0;
    if (count_chosen(o) < wanted(o) || count_seeds(o) == 0)
        o->fill_ms = candidates_again_ms(o, now_ms);
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
        if (a->heard_ms + OVERLAY_PING_MS > now_ms) {
            a->step_ms = a->heard_ms + OVERLAY_PING_MS;
            return true;
        }
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
        act(out, OVERLAY_SUSPECT, (struct bytes){0})->key = a->key;
        o->fill_ms = now_ms;
        return true;
    case STAGE_LEAVING: drop(o, a, NULL, now_ms, out); return false;
    case STAGE_SUSPECT: o->counters.lost++; break;
    case STAGE_DIALLING:
    case STAGE_ASKED: o->counters.failed++; break;
    }
    candidate_failed(candidate_find(o, &a->key), now_ms);
    drop(o, a, "silent", now_ms, out);
    return false;
}

/* ---- neighbours -------------------------------------------------------------------------- */

static uint32_t count_in(const struct overlay *o, bool is_assigned)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < o->n_active; i++)
        n += !o->active[i].is_chosen && o->active[i].is_assigned == is_assigned;
    return n;
}

/* Those of one owner or subnet beyond OVERLAY_SAME get half of the places at most. */
static bool has_place(const struct overlay *o, const struct listed *k, bool is_assigned)
{
    bool is_seed = o->self && roster_is_seed(o->self->role);
    uint32_t most = !is_assigned ? OVERLAY_FREE : is_seed ? OVERLAY_IN_SEED : OVERLAY_IN;

    if (roster_is_crowded(o, k, false))
        most /= 2;
    return count_in(o, is_assigned) < most && o->n_active < OVERLAY_LINKS_MAX;
}

/* A dialler that was heard of before begins anew; of two that dial each other at once, the one
 * with the lower key goes on. */
static bool settle_double(struct overlay *o, struct active *a, int64_t now_ms,
                          struct overlay_out *out)
{
    bool is_ours =
        a->is_chosen && (active_is_up(a) || memcmp(o->opt.self.b, a->key.b, KEY_BYTES) < 0);

    if (is_ours)
        return false;
    drop(o, a, "began anew", now_ms, out);
    return true;
}

/* Each acceptance is a neighbour gone and one met, for all that stands on this: one key may knock so often. */
static bool is_hasty(struct overlay *o, const struct listed *k, int64_t now_ms)
{
    int64_t *next_ms = k ? &o->knock_ms[k - o->roster->v] : NULL;

    if (next_ms && now_ms < *next_ms) {
        o->counters.hasty++;
        return true;
    }
    if (next_ms)
        *next_ms = now_ms + OVERLAY_KNOCK_MS;
    return false;
}

static enum status on_neighbour(struct overlay *o, uint64_t link, const struct public_key *from,
                                const struct msg_envelope *env, int64_t now_ms,
                                struct overlay_out *out)
{
    struct msg_neighbour_reply answer = {0};
    const struct listed *k = roster_find(o->roster, from);
    struct active *a = find(o, from);

    if (env->body.len)
        return ERR_MALFORMED;
    if (is_hasty(o, k, now_ms))
        return OK;
    bool is_assigned = k && o->self && roster_may_dial(o, k, o->self);
    if (k && (!a || settle_double(o, a, now_ms, out)) && has_place(o, k, is_assigned)) {
        a = &o->active[o->n_active++];
        *a = (struct active){.key = *from,
                             .owner = k->owner,
                             .subnet = k->subnet,
                             .role = k->role,
                             .link = link,
                             .is_assigned = is_assigned};
        answer.is_accepted = true;
    }
    SEND(o, link, NEIGHBOUR_REPLY, neighbour_reply, answer, out);
    if (answer.is_accepted)
        set_up(o, a, now_ms, out);
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
        set_up(o, a, now_ms, out);
        return OK;
    }
    o->counters.failed++;
    candidate_failed(candidate_find(o, &a->key), now_ms);
    drop(o, a, NULL, now_ms, out);
    return OK;
}

/* It exchanged us for another, and is left alone for a while; or knows nothing of us (any more). */
static enum status on_leave(struct overlay *o, struct active *a, const struct msg_envelope *env,
                            int64_t now_ms, struct overlay_out *out, struct err *e)
{
    struct msg_leave m;
    enum status st = msg_leave_decode(&m, env->body, e);

    if (st)
        return st;
    if (m.code == REASON_NONE)
        rest(o, &a->key, now_ms);
    else
        candidate_failed(candidate_find(o, &a->key), now_ms);
    drop(o, a, "left", now_ms, out);
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
    struct active *about = st ? NULL : find(o, &m.about);

    if (!about || !active_is_up(about))
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
    struct active *about = st || key_is_zero(&m.about) ? NULL : find(o, &m.about);

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
    free(o->knock_ms);
    free(o);
    *p = NULL;
}

void overlay_set_run(struct overlay *o, const struct digest *run, int64_t now_ms)
{
    if (o->has_run && digest_equal(&o->run, run))
        return;
    o->run = *run;
    o->has_run = true;
    o->born_ms = now_ms;
    o->turn_ms = now_ms + OVERLAY_TURN_MIN_MS;
}

void overlay_set_roster(struct overlay *o, const struct overlay_roster *r, int64_t now_ms,
                        struct overlay_out *out)
{
    o->roster = r;
    free(o->knock_ms);
    o->knock_ms = xcalloc(r->n ? r->n : 1, sizeof(*o->knock_ms));
    o->self = roster_find(r, &o->opt.self);
    candidates_renew(o);
    for (uint32_t i = o->n_active; i-- > 0;) {
        struct active *a = &o->active[i];
        if (roster_find(r, &a->key) || a->stage == STAGE_LEAVING)
            continue;
        if (active_is_up(a))
            leave(o, a, REASON_REVOKED, "revoked", now_ms, out);
        else
            drop(o, a, NULL, now_ms, out);
    }
    o->fill_ms = now_ms;
    settle(o, now_ms, out);
}

void overlay_linked(struct overlay *o, const struct public_key *key, uint64_t link,
                    int64_t now_ms, struct overlay_out *out)
{
    struct active *a = find(o, key);
    struct buf nothing;

    if (!a || a->stage != STAGE_DIALLING) {
        act(out, OVERLAY_HANG_UP, (struct bytes){0})->link = link;
        return;
    }
    a->link = link;
    a->stage = STAGE_ASKED;
    buf_init(&nothing, 0);
    send(o, link, MSG_NEIGHBOUR, &nothing, out);
    settle(o, now_ms, out);
}

/* A dialler whose connection was made anew comes by another link. */
static void note_link(struct active *a, uint64_t link, struct overlay_out *out)
{
    if (a->is_chosen || a->link == link)
        return;
    a->link = link;
    say_met(a, out);
}

static enum status hear(struct overlay *o, uint64_t link, struct active *a,
                        const struct msg_envelope *env, int64_t now_ms, struct overlay_out *out,
                        struct err *e)
{
    switch (env->kind) {
    case MSG_PING: return on_ping(o, link, env, out, e);
    case MSG_PING_ASK: return on_ping_ask(o, link, env, out, e);
    case MSG_PONG: return on_pong(o, env, now_ms, e);
    case MSG_LEAVE: return on_leave(o, a, env, now_ms, out, e);
    default: return ERR_MALFORMED;
    }
}

bool overlay_is_message(struct bytes frame)
{
    struct msg_envelope env;

    return frame.len <= FRAME_MAX && !msg_envelope_decode(&env, frame, NULL) &&
           env.kind >= MSG_NEIGHBOUR && env.kind <= MSG_PING_ASK;
}

void overlay_message(struct overlay *o, uint64_t link, const struct public_key *from,
                     struct bytes frame, int64_t now_ms, struct overlay_out *out)
{
    struct active *a = find(o, from);
    struct msg_envelope env;
    struct err e;
    enum status st = msg_envelope_decode(&env, frame, &e);

    if (!st && (!o->has_run || !digest_equal(&env.run, &o->run)))
        st = ERR_DENIED;
    if (!st && env.kind == MSG_NEIGHBOUR) {
        st = on_neighbour(o, link, from, &env, now_ms, out);
    } else if (!st && env.kind == MSG_NEIGHBOUR_REPLY) {
        if (a && a->link == link)
            st = on_neighbour_reply(o, a, &env, now_ms, out, &e);
    } else if (!st && a && active_is_up(a)) {
        note_link(a, link, out);
        alive(o, a, now_ms, out);
        st = hear(o, link, a, &env, now_ms, out, &e);
    } else if (!st && env.kind != MSG_LEAVE) {
        say_leave(o, link, REASON_UNKNOWN_NODE, out); /* it takes us for a neighbour */
    }
    if (st)
        o->counters.malformed++;
    settle(o, now_ms, out);
}

bool overlay_heard(struct overlay *o, uint64_t link, const struct public_key *from,
                   int64_t now_ms, struct overlay_out *out)
{
    struct active *a = find(o, from);

    if (!a || !active_is_up(a)) {
        if (!a && o->has_run)
            say_leave(o, link, REASON_UNKNOWN_NODE, out);
        return false;
    }
    note_link(a, link, out);
    if (a->stage == STAGE_UP && !a->asker)
        a->heard_ms = now_ms; /* its next probe sees it */
    else
        alive(o, a, now_ms, out);
    return true;
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
        n += active_is_up(&o->active[i]);
    return n;
}

struct overlay_neighbour overlay_neighbour(const struct overlay *o, size_t i)
{
    uint32_t at = 0;

    for (;; at++) {
        CHECK(at < o->n_active);
        if (active_is_up(&o->active[at]) && i-- == 0)
            break;
    }
    const struct active *a = &o->active[at];
    return (struct overlay_neighbour){.key = a->key,
                                      .link = a->link,
                                      .is_chosen = a->is_chosen,
                                      .is_suspect = a->stage == STAGE_SUSPECT,
                                      .is_seed = roster_is_seed(a->role)};
}

struct overlay_counters overlay_counters(const struct overlay *o)
{
    return o->counters;
}
