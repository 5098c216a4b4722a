/*
 * shardcast/overlay_inside.h - inside the machine of overlay.h
 *
 *   overlay.c         inputs, links, probes, timers
 *   overlay_roster.c  who there is, who may dial whom, whom to dial next
 *   overlay_json.c    what people see
 */
#ifndef SHARDCAST_OVERLAY_INSIDE_H
#define SHARDCAST_OVERLAY_INSIDE_H

#include "base/rng.h"
#include "shardcast/overlay.h"

#define OVERLAY_LINKS_MAX 64u
#define OVERLAY_STRANGERS 16u /* that are remembered, of those dialled without being assigned */
#define OVERLAY_NEVER     INT64_MAX

/* A node of the roster. */
struct listed {
    struct public_key key, owner;
    uint64_t subnet; /* hash of the /24, the /48, or the host's name; 0: it cannot be dialled */
    uint32_t place;  /* in the roster as it was signed */
    uint32_t role;
    char endpoint[128]; /* "": it cannot be dialled */
};
struct overlay_roster {
    struct listed *v; /* owned, by key */
    uint32_t n;
    bool is_diverse_owner, is_diverse_subnet;
};

/* One that may be dialled. */
struct candidate {
    struct public_key key;
    uint64_t rank; /* of two assigned ones the lower came first */
    bool is_assigned, is_seed;
    uint8_t n_failed; /* in a row */
    int64_t again_ms; /* not dialled before */
};

enum stage {
    STAGE_DIALLING,
    STAGE_ASKED,
    STAGE_LEAVING,
    STAGE_UP,
    STAGE_PINGED,
    STAGE_INDIRECT,
    STAGE_SUSPECT
};

struct active {
    struct public_key key, owner;
    uint64_t subnet, link, nonce;
    uint32_t role;
    enum stage stage;
    bool is_chosen, is_assigned;
    uint8_t n_vouched;           /* times that others said it lives, since it last did itself */
    uint64_t asker, asker_nonce; /* the link of who wants to hear that it lives; 0: nobody */
    int64_t heard_ms, met_ms;
    int64_t step_ms; /* when its stage ends */
};

struct overlay {
    struct overlay_options opt;
    struct digest run;
    bool has_run;
    const struct overlay_roster *roster; /* borrowed; NULL: none yet */
    const struct listed *self;           /* in it; NULL: it does not list us */
    int64_t *knock_ms; /* owned, by index in the roster: no NEIGHBOUR of it is heard before */
    struct candidate candidate[OVERLAY_ASSIGNED + OVERLAY_SEEDS + OVERLAY_STRANGERS];
    uint32_t n_candidates;
    struct active active[OVERLAY_LINKS_MAX];
    uint32_t n_active;
    int64_t born_ms, turn_ms, fill_ms, armed_ms;
    uint32_t n_extra;
    struct rng rng;
    struct overlay_counters counters;
};

/* ---- overlay_roster.c -------------------------------------------------------------------- */

bool roster_is_seed(uint32_t role);
const struct listed *roster_find(const struct overlay_roster *r, const struct public_key *key);
/* Is this peer one of those that the dialler may dial, or a seed of it? */
bool roster_may_dial(const struct overlay *o, const struct listed *dialler,
                     const struct listed *peer);
/* The peers that this roster assigns to us. What was learnt of those that stay is kept. */
void candidates_renew(struct overlay *o);
/* Whom to dial next: assigned ones by lot, those within OVERLAY_SAME first; others of the roster if
 * no assigned one can be tried. NULL: nobody at this time. */
struct candidate *candidate_choose(struct overlay *o, bool wants_seed, int64_t now_ms);
struct candidate *candidate_find(struct overlay *o, const struct public_key *key);
void candidate_failed(struct candidate *c, int64_t now_ms); /* NULL: nothing is done */
/* When somebody could be dialled who cannot now. */
int64_t candidates_again_ms(const struct overlay *o, int64_t now_ms);
/* One more of this owner and subnet would be too many among those that we chose (or did not). */
bool roster_is_crowded(const struct overlay *o, const struct listed *k, bool is_chosen);

/* ---- overlay.c --------------------------------------------------------------------------- */

const struct active *active_find(const struct overlay *o, const struct public_key *key);
bool active_is_up(const struct active *a);

#endif
