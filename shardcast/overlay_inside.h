/*
 * shardcast/overlay_inside.h - inside the machine of overlay.h
 *
 *   overlay.c       inputs, links, probes, timers
 *   overlay_known.c who is certified, who may dial whom, whom to dial next
 */
#ifndef SHARDCAST_OVERLAY_INSIDE_H
#define SHARDCAST_OVERLAY_INSIDE_H

#include "base/rng.h"
#include "shardcast/overlay.h"

#define OVERLAY_LINKS_MAX 64u
#define OVERLAY_NEVER     INT64_MAX

/* A certified node. */
struct known {
    struct public_key key, owner;
    uint64_t subnet; /* hash of the /24, the /48, or the host's name */
    uint64_t seq;    /* of its certificate */
    uint8_t *cert;   /* owned; NULL: from the roster */
    uint32_t cert_len;
    bool is_assigned, is_seed, is_seed_role;
    int64_t again_ms; /* not dialled before */
    char endpoint[128];
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
    enum stage stage;
    bool is_chosen, is_seed, is_assigned;
    uint8_t n_vouched;           /* times that others said it lives, since it last did itself */
    uint64_t asker, asker_nonce; /* the link of who wants to hear that it lives; 0: nobody */
    int64_t heard_ms, met_ms;
    int64_t step_ms; /* when its stage ends */
    int64_t shuffled_ms;
};

struct overlay {
    struct overlay_options opt;
    struct digest run;
    struct public_key orchestrator;
    bool has_run, has_roster, is_hidden, is_seed, has_walked;
    struct known *known; /* owned */
    uint32_t n_known, cap_known;
    struct public_key peer[MSG_MAX_PEERS]; /* that our certificate names */
    uint32_t n_peers;
    uint8_t *cert; /* owned: ours */
    uint32_t cert_len;
    struct public_key *revoked; /* owned */
    uint32_t n_revoked;
    struct active active[OVERLAY_LINKS_MAX];
    uint32_t n_active;
    uint64_t counter;
    int64_t born_ms, turn_ms, shuffle_ms, fill_ms, armed_ms;
    uint32_t n_extra;
    bool is_diverse_owner, is_diverse_subnet, is_dirty;
    struct rng rng;
    struct overlay_counters counters;
};

/* ---- overlay_known.c --------------------------------------------------------------------- */

struct known *known_find(const struct overlay *o, const struct public_key *key);
void known_clear(struct overlay *o);
/* The roster's entries, and which of them are assigned to us. */
void known_set_roster(struct overlay *o, const struct msg_roster *r);
/* A certificate from anywhere; a forged or revoked one is refused. *k may be NULL. `is_given`: by
 * the orchestrator, not by gossip. */
MUST_USE enum status known_certify(struct overlay *o, struct bytes cert, bool is_given,
                                   struct msg_cert *m, struct known **k, struct err *e);
void known_revoke(struct overlay *o, const struct public_key *key);
bool known_may_dial(const struct overlay *o, const struct public_key *dialler,
                    const struct public_key *peer);
/* Whom to dial next: assigned ones by lot, those within OVERLAY_SAME first; others if there is no
 * assigned one to try. NULL: nobody at this time. */
struct known *known_choose(struct overlay *o, bool wants_seed, int64_t now_ms);
/* When somebody could be dialled who cannot now. */
int64_t known_again_ms(const struct overlay *o, int64_t now_ms);
/* At most `max` certificates by lot. */
uint32_t known_some(struct overlay *o, struct bytes *cert, uint32_t max);
/* One more of this owner and subnet would be too many among those that we chose (or did not). */
bool known_is_crowded(struct overlay *o, const struct public_key *owner, uint64_t subnet,
                      bool is_chosen);

/* ---- overlay.c --------------------------------------------------------------------------- */

struct active *active_find(struct overlay *o, const struct public_key *key);

#endif
