#include "shardcast/cast_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/cast_graph.h"
#include "shardcast/cast_inside.h"

/* ---- the list of acts -------------------------------------------------------------------- */

void cast_out_init(struct cast_out *l)
{
    *l = (struct cast_out){0};
}

void cast_out_clear(struct cast_out *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].owned);
    free(l->v);
    *l = (struct cast_out){0};
}

struct cast_act *cast_out_add(struct cast_out *out, enum cast_act_kind kind, struct bytes value)
{
    if (out->n == out->cap) {
        out->cap = out->cap ? 2 * out->cap : 16;
        out->v = xrealloc(out->v, out->cap * sizeof(*out->v));
    }
    struct cast_act *a = &out->v[out->n++];
    *a = (struct cast_act){.kind = kind};
    if (value.len) {
        a->owned = xmalloc(value.len);
        memcpy(a->owned, value.data, value.len);
        a->value = (struct bytes){a->owned, value.len};
    }
    return a;
}

/* ---- peers ------------------------------------------------------------------------------- */

bool peer_is_linked(const struct peer *p)
{
    return p->is_active && p->via != 0;
}

struct peer *peer_find(struct cast_state *s, const struct public_key *key)
{
    for (uint32_t i = 0; i < s->n_peers; i++)
        if (s->peer[i].is_used && key_equal(&s->peer[i].key, key))
            return &s->peer[i];
    return NULL;
}

struct peer *peer_in_turn(struct cast_state *s, bool trainer_first)
{
    for (uint32_t i = 0; i < s->n_peers && trainer_first; i++)
        if (s->peer[i].is_trainer && peer_is_linked(&s->peer[i]))
            return &s->peer[i];
    for (uint32_t i = 0; i < s->n_peers; i++) {
        struct peer *p = &s->peer[s->turn++ % s->n_peers];
        if (peer_is_linked(p))
            return p;
    }
    return NULL;
}

/* A slot for a key that is new: a free one, or one of those that left the roster. */
static struct peer *peer_new(struct cast_state *s, const struct public_key *key)
{
    struct peer *p = NULL;

    if (s->n_peers < CAST_PEERS_MAX) {
        p = &s->peer[s->n_peers++];
    } else {
        for (uint32_t i = 0; i < s->n_peers && !p; i++)
            if (!s->peer[i].is_active && !s->peer[i].is_banned)
                p = &s->peer[i];
    }
    if (!p)
        return NULL;
    version_forget_peer(s, (uint32_t)(p - s->peer));
    *p = (struct peer){.is_used = true, .key = *key, .timeout_ms = TIMEOUT_ONE_MS};
    return p;
}

static void hang_up(struct cast_state *s, struct peer *p, struct cast_out *out)
{
    if (!p->dialled)
        return;
    pull_cancel_peer(s, (uint32_t)(p - s->peer));
    cast_out_add(out, CAST_HANG_UP, (struct bytes){0})->link = p->dialled;
    if (p->via == p->dialled)
        p->via = p->inbound;
    p->dialled = 0;
}

static void dial(struct peer *p, struct cast_out *out)
{
    struct cast_act *a = cast_out_add(out, CAST_DIAL, bytes_str(p->endpoint));

    a->key = p->key;
}

static void deactivate(struct cast_state *s, struct peer *p, struct cast_out *out)
{
    hang_up(s, p, out);
    pull_cancel_peer(s, (uint32_t)(p - s->peer));
    version_forget_peer(s, (uint32_t)(p - s->peer));
    p->is_active = p->is_chosen = p->is_heard = false;
    p->via = p->inbound = 0;
}

static void apply_entry(struct cast_state *s, const struct roster_entry *n, bool is_chosen,
                        struct cast_out *out)
{
    struct peer *p = peer_find(s, &n->transport);

    if (!p && !n->is_revoked)
        p = peer_new(s, &n->transport);
    if (!p)
        return;
    if (n->is_revoked) {
        deactivate(s, p, out);
        return;
    }
    bool has_moved = strcmp(p->endpoint, n->endpoint) != 0;
    p->is_active = true;
    p->is_trainer = n->role == ROLE_TRAINER;
    memcpy(p->endpoint, n->endpoint, sizeof(p->endpoint));
    if (p->dialled && (has_moved || !is_chosen))
        hang_up(s, p, out);
    p->is_chosen = is_chosen;
    if (is_chosen && !p->dialled)
        dial(p, out);
}

static bool is_listed(const struct msg_roster *r, const struct public_key *key)
{
    for (uint32_t i = 0; i < r->n; i++)
        if (key_equal(&r->entry[i].transport, key))
            return true;
    return false;
}

/* ---- timers ------------------------------------------------------------------------------ */

static void earliest(int64_t *first, int64_t at)
{
    if (at < *first)
        *first = at;
}

static int64_t next_wake(const struct cast_state *s)
{
    int64_t first = pull_deadline(s);

    for (uint32_t i = 0; i < s->n_peers; i++)
        if (peer_is_linked(&s->peer[i]))
            earliest(&first, s->peer[i].greet_ms);
    for (size_t i = 0; i < s->n_versions; i++) {
        const struct version *v = s->version[i];
        earliest(&first, v->push_ms);
        if (!v->is_complete)
            earliest(&first, v->have_ask_ms);
    }
    earliest(&first, s->poll_ms);
    earliest(&first, s->hint_ms);
    earliest(&first, s->gap_ms);
    return first;
}

static void arm(struct cast_state *s, struct cast_out *out)
{
    int64_t at = next_wake(s);

    if (at >= s->armed_ms)
        return;
    s->armed_ms = at;
    cast_out_add(out, CAST_WAKE, (struct bytes){0})->at_ms = at;
}

/* Silent links: more and more seldom while nobody answers, now and then once somebody did. */
static void greet(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (uint32_t i = 0; i < s->n_peers; i++) {
        struct peer *p = &s->peer[i];
        if (!peer_is_linked(p) || p->greet_ms > now_ms)
            continue;
        if (p->is_heard && p->heard_ms + GREET_IDLE_MS > now_ms) {
            p->greet_ms = p->heard_ms + GREET_IDLE_MS;
            continue;
        }
        talk_ask_manifest(s, p, -1, out);
        if (p->is_heard) {
            p->is_heard = false;
            p->greet_wait_ms = GREET_MIN_MS;
            p->via = p->dialled ? p->dialled : p->inbound;
        }
        if (p->greet_wait_ms < GREET_MIN_MS)
            p->greet_wait_ms = GREET_MIN_MS;
        p->greet_ms = now_ms + p->greet_wait_ms;
        p->greet_wait_ms =
            p->greet_wait_ms < GREET_MAX_MS / 2 ? 2 * p->greet_wait_ms : GREET_MAX_MS;
    }
}

static void ask_newest(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    bool is_behind = s->hint > version_newest_known(s);

    if (!is_behind)
        s->hint_ms = NEVER_MS;
    if (is_behind && s->hint_ms <= now_ms) {
        /* First the trainer, who must know; if that does not help, everybody in turn. */
        struct peer *p = peer_in_turn(s, s->hint_wait_ms == HINT_MIN_MS);
        if (p)
            talk_ask_manifest(s, p, -1, out);
        s->hint_ms = now_ms + s->hint_wait_ms;
        s->hint_wait_ms = s->hint_wait_ms < POLL_MS / 2 ? 2 * s->hint_wait_ms : POLL_MS;
    }
    if (s->poll_ms <= now_ms) {
        struct peer *p = peer_in_turn(s, false);
        if (p)
            talk_ask_manifest(s, p, -1, out);
        s->poll_ms = now_ms + POLL_MS;
    }
}

void gaps_restart(struct cast_state *s, int64_t now_ms)
{
    s->gap_wait_ms = GAP_MIN_MS;
    if (s->gap_ms > now_ms + GAP_MIN_MS)
        s->gap_ms = now_ms + GAP_MIN_MS;
}

static bool ask_gap(struct cast_state *s, int64_t number, struct cast_out *out)
{
    struct peer *p;

    if (number < 0 || version_find(s, number))
        return false;
    p = peer_in_turn(s, false);
    if (p)
        talk_ask_manifest(s, p, number, out);
    return true;
}

/* Manifests that should be here and are not: the row of the newest, and what is pinned. */
static void ask_gaps(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    int64_t newest = version_newest_known(s);
    bool any = false;

    if (s->gap_ms > now_ms)
        return;
    for (int64_t i = 1; i < (int64_t)s->opt.keep && newest >= i; i++)
        any |= ask_gap(s, newest - i, out);
    for (size_t i = 0; i < s->n_pins; i++)
        any |= ask_gap(s, s->pin[i], out);
    s->gap_ms = any ? now_ms + s->gap_wait_ms : NEVER_MS;
    s->gap_wait_ms = s->gap_wait_ms < GAP_MAX_MS / 2 ? 2 * s->gap_wait_ms : GAP_MAX_MS;
}

static void ask_haves(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        if (v->is_complete || v->have_ask_ms > now_ms)
            continue;
        v->have_ask_ms = now_ms + HAVE_ASK_MS;
        for (uint32_t k = 0; k < s->n_peers; k++)
            if (peer_is_linked(&s->peer[k]) && !s->peer[k].is_banned)
                talk_ask_have(s, &s->peer[k], v, out);
    }
}

static void push_haves(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        if (v->push_ms > now_ms && v->n_news < HAVE_PUSH_COUNT)
            continue;
        for (uint32_t k = 0; k < s->n_peers && v->n_news > 0; k++)
            if (v->wants[k] && peer_is_linked(&s->peer[k]))
                talk_have(s, &s->peer[k], v, out);
        if (v->is_complete)
            memset(v->wants, 0, sizeof(v->wants));
        v->n_news = 0;
        v->push_ms = NEVER_MS;
    }
}

/* What follows from any input. */
static void settle(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    pull_timeouts(s, now_ms);
    greet(s, now_ms, out);
    ask_newest(s, now_ms, out);
    ask_gaps(s, now_ms, out);
    ask_haves(s, now_ms, out);
    push_haves(s, now_ms, out);
    pull(s, now_ms, out);
    arm(s, out);
}

/* ---- life -------------------------------------------------------------------------------- */

void cast_state_new(struct cast_state **out, const struct cast_state_options *opt)
{
    struct cast_state *s = xcalloc(1, sizeof(*s));
    uint64_t seed = 0;

    s->opt = *opt;
    if (s->opt.keep == 0)
        s->opt.keep = CAST_KEEP_DEFAULT;
    memcpy(&seed, opt->self.b, sizeof(seed));
    s->rng = rng_of(seed, 0);
    s->hint = -1;
    s->hint_ms = s->gap_ms = NEVER_MS;
    s->armed_ms = NEVER_MS;
    *out = s;
}

void cast_state_free(struct cast_state **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < (*s)->n_versions; i++)
        version_free((*s)->version[i]);
    free(*s);
    *s = NULL;
}

enum status cast_state_restore(struct cast_state *s, struct bytes envelope,
                               struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct version *v;
    bool is_new;
    enum status st = cast_manifest_check(envelope, NULL, NULL, &env, &m, e);

    if (!st)
        st = version_learn(s, envelope, &env, &m, &v, &is_new, out, e);
    return st;
}

/* ---- inputs ------------------------------------------------------------------------------ */

void cast_state_set_run(struct cast_state *s, const struct digest *run,
                        const struct public_key *trainer, int64_t now_ms, struct cast_out *out)
{
    bool is_same = s->has_run && digest_equal(&s->run, run) && key_equal(&s->trainer, trainer);

    if (is_same)
        return;
    s->run = *run;
    s->has_run = true;
    s->trainer = *trainer;
    s->has_trainer = !key_is_zero(trainer);
    for (size_t i = s->n_versions; i-- > 0;)
        if (!digest_equal(&s->version[i]->run, run))
            version_forget(s, s->version[i], out);
    s->poll_ms = now_ms;
    settle(s, now_ms, out);
}

void cast_state_set_roster(struct cast_state *s, const struct msg_roster *r, int64_t now_ms,
                           struct cast_out *out)
{
    size_t pick[CAST_DIAL_MAX + MSG_MAX_ROSTER];
    size_t n =
        cast_graph_choose(pick, CAST_DIAL_MAX + MSG_MAX_ROSTER, r, &s->opt.self, CAST_DIAL_MAX);

    for (uint32_t i = 0; i < s->n_peers; i++)
        if (s->peer[i].is_active && !is_listed(r, &s->peer[i].key))
            deactivate(s, &s->peer[i], out);
    for (uint32_t i = 0; i < r->n; i++) {
        bool is_chosen = false;
        for (size_t k = 0; k < n; k++)
            is_chosen |= pick[k] == i;
        if (!key_equal(&r->entry[i].transport, &s->opt.self))
            apply_entry(s, &r->entry[i], is_chosen, out);
    }
    settle(s, now_ms, out);
}

void cast_state_linked(struct cast_state *s, const struct public_key *key, uint64_t link,
                       int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_find(s, key);

    if (!p || !p->is_active)
        return;
    p->dialled = link;
    if (!p->via)
        p->via = link;
    p->is_heard = false;
    p->greet_ms = now_ms;
    p->greet_wait_ms = GREET_MIN_MS;
    settle(s, now_ms, out);
}

void cast_state_message(struct cast_state *s, uint64_t link, const struct public_key *from,
                        struct bytes frame, int64_t now_ms, struct cast_out *out)
{
    struct peer *p = peer_find(s, from);

    if (!p || !p->is_active)
        return;
    if (link != p->dialled)
        p->inbound = link;
    p->via = link;
    p->heard_ms = now_ms;
    if (!p->is_heard) {
        p->is_heard = true;
        for (size_t i = 0; i < s->n_versions && !p->is_banned; i++)
            if (!s->version[i]->is_complete)
                talk_ask_have(s, p, s->version[i], out);
    }
    talk_message(s, p, frame, now_ms, out);
    settle(s, now_ms, out);
}

void cast_state_tick(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    s->armed_ms = NEVER_MS;
    settle(s, now_ms, out);
}

void cast_state_hint(struct cast_state *s, int64_t head, int64_t now_ms, struct cast_out *out)
{
    if (head <= s->hint || head <= version_newest_known(s))
        return;
    s->hint = head;
    s->hint_ms = now_ms;
    s->hint_wait_ms = HINT_MIN_MS;
    settle(s, now_ms, out);
}

void cast_state_set_keep(struct cast_state *s, uint32_t keep, int64_t now_ms,
                         struct cast_out *out)
{
    const uint32_t most = CAST_VERSIONS_MAX / 2;

    s->opt.keep = keep < 1 ? 1 : keep > most ? most : keep;
    gaps_restart(s, now_ms);
    version_trim(s, out);
    settle(s, now_ms, out);
}

void cast_state_pin(struct cast_state *s, int64_t version, int64_t now_ms, struct cast_out *out)
{
    struct version *v = version_find(s, version);

    for (size_t i = 0; i < s->n_pins; i++)
        if (s->pin[i] == version)
            return;
    if (s->n_pins == CAST_PINS_MAX)
        memmove(&s->pin[0], &s->pin[1], --s->n_pins * sizeof(s->pin[0]));
    s->pin[s->n_pins++] = version;
    if (v)
        v->is_pinned = true;
    gaps_restart(s, now_ms);
    s->gap_ms = now_ms;
    settle(s, now_ms, out);
}

void cast_state_unpin(struct cast_state *s, int64_t version, int64_t now_ms,
                      struct cast_out *out)
{
    struct version *v = version_find(s, version);

    for (size_t i = 0; i < s->n_pins; i++)
        if (s->pin[i] == version) {
            memmove(&s->pin[i], &s->pin[i + 1], (--s->n_pins - i) * sizeof(s->pin[0]));
            break;
        }
    if (v)
        v->is_pinned = false;
    version_trim(s, out);
    settle(s, now_ms, out);
}

enum status cast_state_publish(struct cast_state *s, struct bytes envelope, int64_t now_ms,
                               struct cast_out *out, struct err *e)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct version *v;
    bool is_new;
    enum status st =
        cast_manifest_check(envelope, s->has_run ? &s->run : NULL, NULL, &env, &m, e);

    if (st)
        return st;
    /* Contradicting ourselves is refused before it could become a proof. */
    if (cast_state_contradicts(s, &env, &m))
        return err_set(e, ERR_EXISTS, "version %" PRId64 " was published with another content",
                       m.version);
    st = version_learn(s, envelope, &env, &m, &v, &is_new, out, e);
    if (st)
        return st;
    /* The caller stored the shards: here they are, whatever the disk says of them yet. */
    for (uint32_t k = 0; k < v->n_shards && !v->is_complete; k++)
        version_gained(s, &v->shard[k], now_ms, out);
    memset(v->knows, 0, sizeof(v->knows));
    talk_flood(s, v, NULL, out);
    version_trim(s, out);
    settle(s, now_ms, out);
    return OK;
}

void cast_state_served(struct cast_state *s, size_t bytes)
{
    s->counters.shards_out++;
    s->counters.bytes_out += bytes;
}

void cast_state_lost(struct cast_state *s, const struct digest *shard, int64_t resume_ms)
{
    for (size_t i = 0; i < s->n_versions; i++) {
        struct version *v = s->version[i];
        size_t first, n = version_places(v, shard, &first);
        for (size_t k = first; k < first + n; k++) {
            if (!bit_get(v->have, v->order[k]))
                continue;
            bit_clear(v->have, v->order[k]);
            v->n_have--;
            v->is_complete = false;
            v->have_ask_ms = 0;
        }
    }
    if (resume_ms > s->resume_ms)
        s->resume_ms = resume_ms;
}

bool cast_state_make_room(struct cast_state *s, struct cast_out *out)
{
    for (size_t i = 0; i + 1 < s->n_versions; i++)
        if (!s->version[i]->is_pinned) {
            version_forget(s, s->version[i], out);
            return true;
        }
    return false;
}

/* ---- what is known ----------------------------------------------------------------------- */

bool cast_state_is_complete(const struct cast_state *s, int64_t version)
{
    const struct version *v = version_find(s, version);

    return v && v->is_complete;
}

int64_t cast_state_newest(const struct cast_state *s)
{
    for (size_t i = s->n_versions; i-- > 0;)
        if (s->version[i]->is_complete)
            return s->version[i]->number;
    return -1;
}

int64_t cast_state_oldest(const struct cast_state *s)
{
    int64_t at = cast_state_newest(s);

    while (at > 0 && cast_state_is_complete(s, at - 1))
        at--;
    return at;
}

struct cast_counters cast_state_counters(const struct cast_state *s)
{
    return s->counters;
}
