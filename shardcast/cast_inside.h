/*
 * shardcast/cast_inside.h - inside the machine of cast_state.h
 *
 *   cast_rules.h   its numbers
 *   cast_parts.h   its structs
 *   cast_state.c   inputs
 *   cast_timers.c  timers
 *   cast_peer.c    peers, links, the roster
 *   cast_holding.c contents: what is known of them and what is here, retention
 *   cast_check.c   what the trainer signed: is it right, do two of them contradict each other
 *   cast_pick.c    the rarest shard that a neighbour has
 *   cast_pull.c    what is asked of whom
 *   cast_serve.c   who is given what, and when
 *   cast_talk.c    the messages, out and in
 *
 * A message costs some table look-ups and no walk over peers, contents or shards: what a message
 * changes is noted (s->stirred, due()), and settle() does what follows from the notes.
 */
#ifndef SHARDCAST_CAST_INSIDE_H
#define SHARDCAST_CAST_INSIDE_H

#include "proto/digest.h"
<<<<<<< HEAD
#include "shardcast/cast_state.h"

#define CAST_PEERS_MAX  512u /* the roster twice: those that left it are remembered a while */
#define CAST_PINS_MAX   64u
#define NEVER_MS        INT64_MAX
#define NOWHERE         UINT32_MAX
#define POLL_MS         2000  /* between questions for a newer HEAD */
#define HEAD_EVERY_MS   5000  /* between the origin's HEADs */
#define SKEW_MS         60000 /* a HEAD counts this long after its end: clocks differ */
#define GREET_MIN_MS    50   /* a link that was never heard is greeted again after this, then */
#define GREET_MAX_MS    2000 /* twice as long each time, up to this */
#define GREET_IDLE_MS   10000 /* a silent link, so that the other side does not forget it */
#define STALL_MS        1000 /* without a new shard, all are asked what they have; then twice as */
#define STALL_MAX_MS    10000 /* long each time, up to this */
#define PUSH_MS         50    /* news of shards gained wait for this long after those before, */
#define PUSH_COUNT      MSG_MAX_INDICES /* or until there are so many */
#define GAP_MIN_MS      100 /* before what is missing of the signed is asked for, then twice as */
#define GAP_MAX_MS      5000 /* long each time, up to this */
#define HINT_MIN_MS     50
#define SEGMENTS_ASKED  16u /* at a time */
#define WINDOW_MIN      2u
#define WINDOW_MAX      32u
#define WINDOW_SLACK_MS 50
#define RTT_MAX_MS      2000
#define LIES_MAX        3u
#define DEADLINE_MIN_MS 1000
#define DEADLINE_MAX_MS 120000
#define RATE_GUESS      250u /* bytes per ms, before anything was measured */
#define ENDGAME         16u  /* so few missing may be asked of two */
#define RANDOM_FIRST    4u   /* so many shards are drawn before the rarest count */
#define COPIES_TOP      16u  /* shards with more copies than that are equally common */
#define SLOTS_MIN       16u  /* links served at a time, one of them by lot */
#define SERVE_AHEAD     1u   /* shards on their way out on one link, */
#define DEPRIVED_PART   256u /* so much of a content, */
#define DEPRIVED_MIN    4u   /* and some shards, behind another: deprived */
#define DEPRIVED_LEAD   64u
#define SERVE_TOTAL     8u    /* and on all */
#define CHOKE_MS        1000  /* between choices of whom to serve */
#define LOT_ROUNDS      5u    /* choices that the one drawn by lot stays */
#define CHOKED_MS       10000 /* a choked peer asks again after this */
#define LEND_MAX        32u /* shards that the origin shows one neighbour at a time, unserved */
#define LEND_KEPT       16u /* a neighbour that passes nothing on is lent no more than so many */
#define LEND_IDLE_MS    120000 /* longer than any shard lies in a socket */
#define GIVEN_SPAN_MS   10000  /* half of what was received counts for this long */

struct holding;

struct ask {
    struct holding *h;
    uint32_t index;
    int64_t sent_ms;
};
struct want {
    struct holding *h;
    uint32_t index;
};

struct peer {
    bool is_active, is_banned, is_trainer;
    bool is_chosen;  /* this node dials it */
    bool is_heard;   /* since the link was opened */
    bool is_choking; /* it serves others now */
    bool is_choked;  /* we serve others now */
    bool is_telling; /* that it is choked, as soon as what is on its way is out */
    uint8_t slot;    /* among the neighbours; CAST_LINKS_MAX: it has no link */
    struct public_key key;
    char *endpoint;   /* owned; NULL: not known */
    uint64_t dialled; /* the link we opened; 0: none */
    uint64_t inbound; /* the link it opened; 0: none */
    uint64_t via;     /* the one in use; 0: none */
    int64_t heard_ms;
    int64_t greet_ms; /* when to greet next */
    int32_t greet_wait_ms;
    int64_t choking_ms; /* until when */
    int64_t wanted_ms;  /* when it asked us last; 0: never */

    /* what we ask of it */
    struct ask *ask; /* owned, in the order they were sent */
    uint32_t n_asks, cap_asks;
    uint32_t ceiling;  /* of the window: halved by each timeout */
    uint32_t answered; /* since the ceiling changed */
    uint32_t strikes;  /* timeouts in a row */
    uint32_t lies;
    int64_t mute_ms;              /* nothing is asked before */
    int64_t pinged_ms;            /* a HAVE_ASK is out since; 0: none */
    int32_t rtt_ms;               /* the shortest seen; 0: none yet */
    int64_t last_ms;              /* when its last shard came */
    uint64_t busy_bytes, busy_ms; /* of shards, while some were asked */

    /* what it asks of us */
    struct want *want; /* owned: a ring */
    uint32_t want_first, n_wants, cap_wants;
    uint32_t n_serving;
    bool is_served;  /* it has one of the slots */
    uint32_t n_have; /* shards it had of what it asked for last */
    uint64_t turn;   /* bytes it had, on the scale of all that are served: the least is next */
    uint64_t given, given_before; /* bytes of it in this span, and in the one before */
    uint32_t slot_spans;          /* how many it was a neighbour for */
};

struct segment {
    uint8_t *envelope; /* owned; NULL: not here */
    size_t len;
    const struct digest *leaf; /* in the envelope */
    uint32_t n;
    struct digest body;
};

/* What a content needs while shards are missing, or lent by the origin. */
struct picker {
    uint64_t *who;   /* owned: bit s = neighbour s has it, by shard */
    uint32_t *order; /* owned: the open shards, those with fewest copies first */
    uint32_t *place; /* owned: where in `order`; NOWHERE: not open */
    uint8_t *asked;  /* owned: slot + 1 of whom it is asked; 0: nobody */
    uint32_t cap, n_open;
    uint32_t start[COPIES_TOP + 2];  /* of those with so many copies, in `order` */
    uint32_t offers[CAST_LINKS_MAX]; /* open shards that each has */
};
/* The origin's first pass. */
struct lending {
    uint8_t *state;  /* owned: LEND_*, by shard */
    uint8_t *to;     /* owned: slot it was lent to */
    uint32_t *order; /* owned: not lent yet, by lot */
    uint32_t cap, n_order, n_unserved;
    uint32_t n_lent[CAST_LINKS_MAX];
    uint32_t n_kept[CAST_LINKS_MAX]; /* given to each, and not seen at another yet */
    int64_t idle_ms;                 /* since when nobody fetches anything */
};
enum { LEND_NONE, LEND_LENT, LEND_SERVED, LEND_SPREAD };

struct holding {
    struct content content;
    bool is_complete, is_wanted, is_pinned, is_own;
    bool is_void; /* the root is not that of the leaves: nobody can complete it */
    struct digest run;
    struct public_key signer;
    uint8_t *envelope; /* owned: PUBLISH; NULL: not known yet */
    size_t envelope_len;
    struct digest body; /* of it */
    struct digest weights, base_root, apply_root, last_segment;
    uint64_t file_bytes;
    uint32_t shard_bytes;
    uint32_t n_shards;                 /* 0: not known yet */
    struct segment *segment;           /* owned */
    uint32_t n_segments, cap_segments; /* n: one more than the highest here */
    uint32_t n_leaves;
    uint32_t cap;  /* shards that the arrays have room for */
    uint8_t *have; /* owned bitmap */
    uint32_t n_have, n_asked;
    struct picker *pick;  /* owned; NULL: not pulled */
    struct lending *lend; /* owned; NULL: not our own, or all served once */
    uint64_t all_mask;    /* neighbours that have all of it */
    uint64_t told_mask;   /* neighbours told what we have: they get the news */
    uint64_t withdrew_mask;
    uint32_t news[PUSH_COUNT];
    uint32_t n_news;
    bool has_whole_news; /* everybody is told what is here, not only what is new */
    int64_t push_ms, pushed_ms;
    int64_t gained_ms; /* when something of it came last */
    int64_t each_ms;   /* smoothed, between two shards */
    int64_t stall_ms;
    int32_t stall_wait_ms;
};

struct cast_state {
    struct cast_state_options opt;
    struct digest run;
    struct public_key trainer;
    bool has_run, has_trainer, is_origin, is_stopped, is_fresh;
    struct peer **peer; /* owned, and each */
    uint64_t *tag;      /* owned: the first 8 bytes of each key */
    uint32_t n_peers, cap_peers;
    struct peer *slot[CAST_LINKS_MAX];
    uint64_t linked_mask;
    struct holding **holding; /* owned, and each; ascending */
    size_t n_holdings, cap_holdings;
    struct holding *recent;   /* found last */
    struct holding **pulling; /* owned: wanted and not complete, the most urgent first */
    size_t n_pulling;
    bool is_replanned; /* pulling must be made anew */
    int64_t pin[CAST_PINS_MAX];
    size_t n_pins;
    uint8_t *head; /* owned: the envelope; NULL: none */
    size_t head_len;
    uint64_t head_made_ms;
    int64_t head_version;
    struct msg_offer *offer; /* owned */
    uint32_t n_offers;
    int64_t head_ms; /* when it came */
    int64_t sign_ms; /* the origin: when to make the next */
    bool is_signing; /* CAST_SIGN is out */
    uint8_t *proof;  /* owned: the PROOF frame that stopped us */
    size_t proof_len;
    int64_t hint; /* -1: none */
    int64_t hint_ms, gap_ms, poll_ms, choke_ms, span_ms;
    int32_t hint_wait_ms, gap_wait_ms;
    uint32_t turn;  /* rotates through the neighbours for questions */
    uint32_t slots; /* links served at a time */
    uint32_t lot;   /* the slot drawn by lot; CAST_LINKS_MAX: none */
    uint32_t lot_rounds, busy_rounds;
    uint32_t n_serving;
    uint64_t serve_turn;           /* that of the one served last */
    bool was_idle;                 /* nobody who is served wanted anything, while others did */
    int64_t resume_ms;             /* nothing is pulled before */
    double up_credit, down_credit; /* bytes; of the ceilings */
    int64_t up_ms, down_ms;
    uint64_t rate_bytes, rate_ms; /* over all links: what a new one is taken for */
    uint64_t stirred;             /* neighbours of whom something may be asked now */
    bool is_serving_stirred;
    int64_t due_ms;         /* the first timer */
    int64_t armed_ms;       /* a CAST_WAKE is out for this moment */
    struct buf body, frame; /* for what is sent */
    struct rng rng;
    struct cast_counters counters;
};

static inline bool bit_get(const uint8_t *map, size_t i)
{
    return (map[i / 8] >> (i % 8)) & 1;
}
static inline void bit_set(uint8_t *map, size_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] | 1u << (i % 8));
}
static inline void bit_clear(uint8_t *map, size_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] & ~(1u << (i % 8)));
}
static inline uint64_t slot_bit(const struct peer *p)
{
    return (uint64_t)1 << p->slot;
}
/* The lowest bit of a mask that is not zero, taken out of it. */
static inline uint32_t mask_take(uint64_t *mask)
{
    uint64_t low = *mask & (~*mask + 1);
    uint32_t i = 0;

    *mask ^= low;
    for (uint32_t step = 32; step; step /= 2)
        if (low >> step) {
            low >>= step;
            i += step;
        }
    return i;
}
static inline void due(struct cast_state *s, int64_t at_ms)
{
    if (at_ms < s->due_ms)
        s->due_ms = at_ms;
}
/* Room for `n` elements; cap doubles. */
void *grow(void *p, uint32_t *cap, uint32_t n, size_t size);
=======
#include "shardcast/cast_parts.h"
>>>>>>> w-cast

/* ---- cast_peer.c ------------------------------------------------------------------------- */

bool peer_is_linked(const struct peer *p);
struct peer *peer_find(struct cast_state *s, const struct public_key *key);
struct peer *peer_new(struct cast_state *s, const struct public_key *key); /* NULL: no room */
void peer_free(struct peer *p);
/* Hears it on this link from now on; false: there are neighbours enough. */
bool peer_link(struct cast_state *s, struct peer *p, uint64_t link, bool is_ours,
               int64_t now_ms, struct cast_out *out);
void peer_hang_up(struct cast_state *s, struct peer *p, int64_t now_ms, struct cast_out *out);
void peer_deactivate(struct cast_state *s, struct peer *p, int64_t now_ms,
                     struct cast_out *out);
void peer_ban(struct cast_state *s, struct peer *p, const struct holding *h, uint32_t index,
              const char *why, int64_t now_ms, struct cast_out *out);
/* The next neighbour that can be asked, in turn; the trainer first if `trainer_first`. NULL. */
struct peer *peer_in_turn(struct cast_state *s, bool trainer_first);
void peer_roster(struct cast_state *s, const struct msg_roster *r, int64_t now_ms,
                 struct cast_out *out);

/* ---- cast_check.c ------------------------------------------------------------------------ */

/* A SEGMENT envelope, as cast_manifest_check. */
MUST_USE enum status segment_check(struct bytes envelope, const struct digest *run,
                                   const struct public_key *trainer, struct msg_envelope *env,
                                   struct msg_segment *m, struct err *e);
/* The same without the signature, for what was on disk, or where the options say otherwise. */
MUST_USE enum status signed_open(struct bytes envelope, enum msg_kind kind,
                                 const struct digest *run, const struct public_key *trainer,
                                 struct msg_envelope *env, struct err *e);
MUST_USE enum status segment_numbers(const struct msg_segment *m, struct err *e);

/* ---- cast_holding.c ---------------------------------------------------------------------- */

struct holding *holding_find(struct cast_state *s, const struct content *c);
const struct holding *holding_peek(const struct cast_state *s, const struct content *c);
/* Known or new; NULL: too old, or too many. */
struct holding *holding_get(struct cast_state *s, const struct content *c);
/* A checked manifest or segment from anywhere: *h is its content. *is_new: it was not here.
 * ERR_EXISTS: it contradicts what is; *other is that then. ERR_FULL: nobody here wants it. */
MUST_USE enum status holding_manifest(struct cast_state *s, const struct msg_envelope *env,
                                      const struct msg_manifest *m, struct holding **h,
                                      bool *is_new, struct bytes *other, struct cast_out *out,
                                      struct err *e);
MUST_USE enum status holding_segment(struct cast_state *s, const struct msg_envelope *env,
                                     const struct msg_segment *m, struct holding **h,
                                     bool *is_new, struct bytes *other, struct cast_out *out,
                                     struct err *e);
const struct digest *holding_leaf(const struct holding *h,
                                  uint32_t index);                /* NULL: not known */
uint32_t holding_length(const struct holding *h, uint32_t index); /* of a shard, nominal */
uint32_t holding_limit(const struct holding *h); /* one more than the last shard known */
/* The shard is on disk. */
void holding_gained(struct cast_state *s, struct holding *h, uint32_t index, int64_t now_ms,
                    struct cast_out *out);
void holding_settle(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out); /* is it complete? */
void holding_forget(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out);
void holding_free(struct holding *h);
void holding_trim(struct cast_state *s, int64_t now_ms, struct cast_out *out);
int64_t holding_newest_known(const struct cast_state *s); /* CONTENT_FULL; -1: none */
bool holding_is_pulled(const struct holding *h);
bool holding_is_pinned(const struct cast_state *s, const struct content *c);
void holding_replan(struct cast_state *s, int64_t now_ms); /* makes s->pulling */

/* ---- cast_pick.c ------------------------------------------------------------------------- */

struct picker *pick_new(void);
void pick_free(struct picker **p);
void pick_grow(struct picker *p, uint32_t cap);
/* A shard becomes open, or is not any more. */
void pick_open(struct picker *p, struct rng *r, uint32_t index);
void pick_close(struct picker *p, uint32_t index);
/* Neighbour `slot` has it, or not. */
void pick_learn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index);
void pick_unlearn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index);
void pick_unlearn_all(struct picker *p, struct rng *r, uint32_t slot);
/* The rarest open shard that `slot` has, or any by lot. NOWHERE: none. */
uint32_t pick_rarest(const struct picker *p, uint32_t slot);
uint32_t pick_random(const struct picker *p, struct rng *r, uint32_t slot);

/* ---- cast_pull.c ------------------------------------------------------------------------- */

/* Replaces what is known of what it has. */
void pull_learn_have(struct cast_state *s, struct peer *p, struct holding *h,
                     const struct msg_have *m, int64_t now_ms, struct cast_out *out);
void pull_learn_news(struct cast_state *s, struct peer *p, struct holding *h,
                     struct bytes indices);
/* Closes the ask of this shard to this peer; true if there was one. */
bool pull_answered(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                   int64_t now_ms);
/* A shard came (`from` may be NULL): others of whom it is asked need not send it. */
void pull_cancel_others(struct cast_state *s, struct holding *h, uint32_t index,
                        const struct peer *from, struct cast_out *out);
void pull_drop_peer(struct cast_state *s, struct peer *p);   /* its asks */
void pull_forget_peer(struct cast_state *s, struct peer *p); /* and what it has */
void pull_drop_holding(struct cast_state *s, struct holding *h, struct cast_out *out);
void pull_timeouts(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void pull(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void pull_stir(struct cast_state *s); /* something may be asked of anybody */
void pull_begin(struct cast_state *s, struct holding *h);
uint64_t pull_rate(const struct cast_state *s, const struct peer *p); /* bytes per s; 0: none */

/* ---- cast_serve.c ------------------------------------------------------------------------ */

void serve_wanted(struct cast_state *s, struct peer *p, struct holding *h,
                  const struct msg_shard_ask *m, int64_t now_ms, struct cast_out *out);
void serve_cancelled(struct peer *p, const struct holding *h, struct bytes indices);
void serve_given(struct peer *p, uint64_t bytes); /* it gave us so much */
void serve_served(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                  uint64_t bytes, struct cast_out *out);
void serve_forget_peer(struct cast_state *s, struct peer *p);
void serve_drop_holding(struct cast_state *s, const struct holding *h);
void serve_choose(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void serve(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The origin's shards [from, to) are here. */
void lend_begin(struct cast_state *s, struct holding *h);
void lend_more(struct cast_state *s, struct holding *h, uint32_t from, uint32_t to);
void lend(struct cast_state *s, struct holding *h, struct cast_out *out);
void lend_free(struct lending **l);
void lend_is_out(struct holding *h, uint32_t slot, uint32_t index); /* that neighbour has it */
void lend_look(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The bitmap of what this neighbour may see, appended. */
void lend_shown(const struct holding *h, uint32_t slot, struct buf *bitmap);
void lend_forget_peer(struct cast_state *s, struct holding *h, uint32_t slot);

/* ---- cast_talk.c ------------------------------------------------------------------------- */

void talk_raw(struct cast_state *s, struct peer *p, struct bytes frame, struct cast_out *out);
void talk_ask_head(struct cast_state *s, struct peer *p, struct cast_out *out);
void talk_head(struct cast_state *s, struct peer *p, struct cast_out *out);
void talk_ask_manifest(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out);
void talk_ask_segments(struct cast_state *s, struct peer *p, const struct content *c,
                       uint32_t first, uint32_t n, struct cast_out *out);
void talk_ask_have(struct cast_state *s, struct peer *p, const struct holding *h,
                   int64_t now_ms, struct cast_out *out);
void talk_have(struct cast_state *s, struct peer *p, struct holding *h, struct cast_out *out);
void talk_have_nothing(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out);
void talk_news(struct cast_state *s, struct peer *p, const struct holding *h,
               const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_ask_shards(struct cast_state *s, struct peer *p, const struct holding *h,
                     const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_cancel(struct cast_state *s, struct peer *p, const struct holding *h,
                 const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_choke(struct cast_state *s, struct peer *p, bool is_choked, struct cast_out *out);
void talk_no_shard(struct cast_state *s, struct peer *p, const struct content *c,
                   uint32_t index, struct cast_out *out);
/* A frame to all neighbours but `from` (may be NULL). */
void talk_flood(struct cast_state *s, struct bytes frame, const struct peer *from,
                struct cast_out *out);
/* Two envelopes that contradict each other: the end. */
void talk_stop(struct cast_state *s, struct bytes first, struct bytes second,
               const struct content *about, struct cast_out *out);
void talk_message(struct cast_state *s, struct peer *p, struct bytes frame, int64_t now_ms,
                  struct cast_out *out);
MUST_USE enum status talk_take_head(struct cast_state *s, const struct peer *from,
                                    struct bytes envelope, int64_t now_ms, struct cast_out *out,
                                    struct err *e);
MUST_USE enum status talk_take_manifest(struct cast_state *s, const struct peer *from,
                                        struct bytes envelope, bool is_own, int64_t now_ms,
                                        struct cast_out *out, struct err *e);
MUST_USE enum status talk_take_segment(struct cast_state *s, const struct peer *from,
                                       struct bytes envelope, bool is_own, int64_t now_ms,
                                       struct cast_out *out, struct err *e);

/* ---- cast_timers.c ----------------------------------------------------------------------- */

/* What follows from any input. */
void settle(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The newest version that anybody spoke of; -1: none. */
int64_t newest_named(const struct cast_state *s);
/* Looks for missing manifests and segments soon. */
void gaps_restart(struct cast_state *s, int64_t now_ms);

/* ---- cast_state.c ------------------------------------------------------------------------ */

/* Room for `n` elements; cap doubles. */
void *grow(void *p, uint32_t *cap, uint32_t n, size_t size);

#endif
