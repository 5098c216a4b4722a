/*
 * shardcast/cast_parts.h - what the machine of cast_state.h consists of
 */
#ifndef SHARDCAST_CAST_PARTS_H
#define SHARDCAST_CAST_PARTS_H

#include "base/rng.h"
#include "shardcast/cast_rules.h"
#include "shardcast/cast_state.h"

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
    bool is_heard;   /* since the link was opened */
    bool is_choking; /* it serves others now */
    bool is_choked;  /* we serve others now */
    bool is_telling; /* that it is choked, as soon as what is on its way is out */
    uint8_t slot;    /* among the neighbours; CAST_LINKS_MAX: it has no link */
    struct public_key key;
    uint64_t link; /* by which it is reached; 0: it is no neighbour */
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
    uint32_t refused;  /* things it said were signed by the trainer, and that do not count */
    int64_t mute_ms;   /* nothing is asked before */
    int64_t pinged_ms; /* a HAVE_ASK is out since; 0: none */
    int32_t rtt_ms;    /* the shortest seen; 0: none yet */
    int64_t last_ms;   /* when its last shard came */
    uint64_t busy_bytes, busy_ms; /* of shards, while some were asked */

    /* what it asks of us */
    struct want *want; /* owned: a ring */
    uint32_t want_first, n_wants, cap_wants;
    uint32_t n_serving;
    bool has_given;  /* a shard that was right, ever */
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
    uint32_t *order; /* owned: to be lent, by lot */
    int64_t *at_ms;  /* owned: when it was lent or given */
    uint32_t cap, n_order;
    uint32_t n_unserved; /* left for nobody yet */
    uint32_t n_unspread; /* seen at less than two */
    uint32_t n_lent[CAST_LINKS_MAX];
    uint32_t n_kept[CAST_LINKS_MAX]; /* given to each, and not seen at another yet */
    uint32_t n_anew;           /* how often it was lent anew since somebody fetched something */
    int64_t idle_ms;           /* since when nobody fetches anything */
    int64_t recall_ms;         /* not before */
    bool is_lent_again;        /* something was: what is served is not counted any more */
    int64_t begin_ms, last_ms; /* when the first and the last of n_served left */
    uint64_t n_served;
};
/* Nobody's; shown to one; left for it; it said that it has it; another said so too. */
enum { LEND_NONE, LEND_LENT, LEND_SERVED, LEND_TAKEN, LEND_SPREAD };

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
    bool has_run, has_trainer, is_origin, is_stopped, is_fresh, is_frozen;
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

#endif
