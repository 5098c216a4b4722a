/* What a machine does because time has passed, and what follows from any input. */
#include "base/check.h"
#include "shardcast/cast_inside.h"

/* Silent links: more and more seldom while nobody answers, now and then once somebody did. */
static void greet(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (uint64_t all = s->linked_mask; all;) {
        struct peer *p = s->slot[mask_take(&all)];
        if (p->greet_ms > now_ms) {
            due(s, p->greet_ms);
            continue;
        }
        if (p->is_heard && p->heard_ms + GREET_IDLE_MS > now_ms) {
            p->greet_ms = p->heard_ms + GREET_IDLE_MS;
            due(s, p->greet_ms);
            continue;
        }
        talk_ask_head(s, p, out);
        if (p->is_heard) {
            p->is_heard = false;
            p->greet_wait_ms = GREET_MIN_MS;
        }
        if (p->greet_wait_ms < GREET_MIN_MS)
            p->greet_wait_ms = GREET_MIN_MS;
        p->greet_ms = now_ms + p->greet_wait_ms;
        due(s, p->greet_ms);
        p->greet_wait_ms =
            p->greet_wait_ms < GREET_MAX_MS / 2 ? 2 * p->greet_wait_ms : GREET_MAX_MS;
    }
}

/* The newest version that anybody spoke of. */
int64_t newest_named(const struct cast_state *s)
{
    int64_t newest = holding_newest_known(s);

    if (s->head && s->head_version > newest)
        newest = s->head_version;
    return newest;
}

static void ask_newest(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    struct peer *p;

    if (s->hint <= newest_named(s))
        s->hint_ms = NEVER_MS;
    if (s->hint_ms <= now_ms) {
        /* First the trainer, who must know; if that does not help, everybody in turn. */
        struct content c = content_full(s->hint);
        p = peer_in_turn(s, s->hint_wait_ms == HINT_MIN_MS);
        if (p) {
            talk_ask_head(s, p, out);
            talk_ask_manifest(s, p, &c, out);
        }
        s->hint_ms = now_ms + s->hint_wait_ms;
        s->hint_wait_ms = s->hint_wait_ms < POLL_MS / 2 ? 2 * s->hint_wait_ms : POLL_MS;
    }
    due(s, s->hint_ms);
    if (s->poll_ms <= now_ms) {
        bool is_lately = s->head && s->head_ms + HEAD_EVERY_MS + POLL_MS > now_ms;
        p = is_lately || s->is_origin ? NULL : peer_in_turn(s, false);
        if (p)
            talk_ask_head(s, p, out);
        s->poll_ms = now_ms + POLL_MS;
    }
    due(s, s->poll_ms);
}

void gaps_restart(struct cast_state *s, int64_t now_ms)
{
    s->gap_wait_ms = GAP_MIN_MS;
    if (s->gap_ms > now_ms + GAP_MIN_MS)
        s->gap_ms = now_ms + GAP_MIN_MS;
    due(s, s->gap_ms);
}

/* The first run of segments that are missing, of those that there must be, or may. */
static bool ask_missing_segments(struct cast_state *s, const struct holding *h,
                                 struct cast_out *out)
{
    uint32_t n = h->n_shards ? (h->n_shards - 1) / MSG_MAX_LEAVES + 1 : h->n_segments + 1;
    uint32_t first = 0;
    struct peer *p;

    while (first < h->n_segments && h->segment[first].envelope)
        first++;
    if (first == n)
        return false;
    p = peer_in_turn(s, false);
    if (p)
        talk_ask_segments(s, p, &h->content, first,
                          n - first < SEGMENTS_ASKED ? n - first : SEGMENTS_ASKED, out);
    return true;
}

static bool ask_gap(struct cast_state *s, const struct content *c, struct cast_out *out)
{
    const struct holding *h = holding_find(s, c);
    struct peer *p = h && h->envelope ? NULL : peer_in_turn(s, false);
    bool is_missing = !h || !h->envelope;

    if (p)
        talk_ask_manifest(s, p, c, out);
    if (h ? holding_is_pulled(h) : c->kind == CONTENT_FULL && p) {
        if (h)
            is_missing |= ask_missing_segments(s, h, out);
        else
            talk_ask_segments(s, p, c, 0, SEGMENTS_ASKED, out);
    }
    return is_missing;
}

/* What was signed and should be here and is not: of the row of the newest, of what the trainer
 * offers, and of what is pinned. */
static void ask_gaps(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    int64_t newest = newest_named(s);
    bool any = false;

    if (s->gap_ms > now_ms) {
        due(s, s->gap_ms);
        return;
    }
    for (int64_t i = 0; i < (int64_t)s->opt.keep && newest >= i; i++) {
        struct content c = content_full(newest - i);
        any |= ask_gap(s, &c, out);
    }
    for (uint32_t i = 0; i < s->n_offers; i++) {
        struct content c = {s->offer[i].version, s->offer[i].kind, s->offer[i].base};
        bool is_done = c.kind == CONTENT_FULL && c.version <= newest;
        if (!is_done && content_is_valid(&c) && !cast_state_is_past(s, &c))
            any |= ask_gap(s, &c, out);
    }
    for (size_t i = 0; i < s->n_pins; i++) {
        struct content c = content_full(s->pin[i]);
        if (c.version <= newest - (int64_t)s->opt.keep)
            any |= ask_gap(s, &c, out);
    }
    s->gap_ms = any ? now_ms + s->gap_wait_ms : NEVER_MS;
    s->gap_wait_ms = s->gap_wait_ms < GAP_MAX_MS / 2 ? 2 * s->gap_wait_ms : GAP_MAX_MS;
    due(s, s->gap_ms);
}

/* Contents that do not get on: everybody is asked what they have. In the end, those that could be
 * asked of another are looked for. */
static void ask_haves(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_pulling; i++) {
        struct holding *h = s->pulling[i];
        bool is_end = h->n_shards && h->n_shards - h->n_have <= ENDGAME && h->n_asked > 0;
        if (is_end) {
            pull_stir(s);
            due(s, now_ms + 100);
        }
        if (h->stall_ms > now_ms || h->n_segments == 0) {
            due(s, h->n_segments ? h->stall_ms : NEVER_MS);
            continue;
        }
        h->stall_ms = now_ms + h->stall_wait_ms;
        if (h->stall_wait_ms < STALL_MAX_MS)
            h->stall_wait_ms *= 2;
        due(s, h->stall_ms);
        for (uint64_t all = s->linked_mask; all;) {
            struct peer *p = s->slot[mask_take(&all)];
            if (!p->is_banned && p->is_heard)
                talk_ask_have(s, p, h, now_ms, out);
        }
    }
}

/* Who has a shard need not hear that we have it too; but the trainer counts where it got to. */
static void push_to(struct cast_state *s, struct peer *p, struct holding *h,
                    struct cast_out *out)
{
    uint32_t list[PUSH_COUNT], n = 0;

    if (h->has_whole_news) {
        talk_have(s, p, h, out);
        return;
    }
    for (uint32_t i = 0; i < h->n_news; i++) {
        bool knows = h->pick && !p->is_trainer && (h->pick->who[h->news[i]] & slot_bit(p));
        if (!knows)
            list[n++] = h->news[i];
    }
    if (n)
        talk_news(s, p, h, list, n, out);
}

static void push_haves(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    for (size_t i = 0; i < s->n_holdings; i++) {
        struct holding *h = s->holding[i];
        if (h->push_ms > now_ms) {
            due(s, h->push_ms);
            continue;
        }
        for (uint64_t all = s->linked_mask & ~h->all_mask; all;)
            push_to(s, s->slot[mask_take(&all)], h, out);
        h->n_news = 0;
        h->has_whole_news = false;
        h->pushed_ms = now_ms;
        h->push_ms = NEVER_MS;
    }
}

/* The origin's word on what there is, made anew before the last one ends. */
static void make_head(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    struct msg_head m = {.version = -1};
    int64_t wall_ms = s->opt.wall_ms + now_ms;

    if (!s->is_origin)
        return;
    if (s->sign_ms > now_ms) {
        due(s, s->sign_ms);
        return;
    }
    /* Its clock was set back since an earlier life: it goes on by the one the others know. */
    if (wall_ms <= (int64_t)s->head_made_ms) {
        wall_ms = (int64_t)s->head_made_ms + 1;
        s->opt.wall_ms = wall_ms - now_ms;
    }
    m.made_ms = (uint64_t)wall_ms;
    m.until_ms = m.made_ms + CAST_FRESH_MS;
    for (size_t i = s->n_holdings; i-- > 0 && m.n < MSG_MAX_OFFERS;) {
        const struct holding *h = s->holding[i];
        if (!h->is_own && !h->is_complete)
            continue;
        m.offer[m.n++] =
            (struct msg_offer){h->content.version, h->content.kind, h->content.base};
        if (h->content.kind == CONTENT_FULL && h->envelope && m.version < h->content.version)
            m.version = h->content.version;
    }
    buf_reset(&s->body);
    CHECK(!msg_head_encode(&s->body, &m, NULL));
    cast_out_add(out, CAST_SIGN, buf_bytes(&s->body));
    s->sign_ms = now_ms + HEAD_EVERY_MS;
    due(s, s->sign_ms);
}

static void look_whether_fresh(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    if (s->is_frozen)
        return;
    if (s->head_ms + CAST_FRESH_MS > now_ms) {
        due(s, s->head_ms + CAST_FRESH_MS);
        return;
    }
    talk_freeze(s, out);
}

static void run_timers(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    s->due_ms = NEVER_MS;
    make_head(s, now_ms, out);
    look_whether_fresh(s, now_ms, out);
    pull_timeouts(s, now_ms, out);
    greet(s, now_ms, out);
    if (s->is_stopped)
        return;
    ask_newest(s, now_ms, out);
    ask_gaps(s, now_ms, out);
    ask_haves(s, now_ms, out);
    lend_look(s, now_ms, out);
    push_haves(s, now_ms, out);
    serve_choose(s, now_ms, out);
}

static void arm(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    int64_t at = s->due_ms > now_ms ? s->due_ms : now_ms + 1;

    if (s->due_ms == NEVER_MS || at >= s->armed_ms)
        return;
    s->armed_ms = at;
    cast_out_add(out, CAST_WAKE, (struct bytes){0})->at_ms = at;
}

/* What follows from any input. */
void settle(struct cast_state *s, int64_t now_ms, struct cast_out *out)
{
    if (s->is_replanned)
        holding_replan(s, now_ms);
    if (s->due_ms <= now_ms)
        run_timers(s, now_ms, out);
    pull(s, now_ms, out);
    serve(s, now_ms, out);
    arm(s, now_ms, out);
}
