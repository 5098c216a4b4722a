/*
 * shardcast/overlay.h - who is whose neighbour, as a pure state machine
 *
 * A node keeps a few links that it chose (OVERLAY_OUT), and accepts as many as OVERLAY_IN from
 * others; a link carries messages both ways, so one that nobody can dial takes part as well, over
 * the links that it dialled. The shape is HyParView's (Leitao, Pereira, Rodrigues, DSN 2007,
 * doi:10.1109/DSN.2007.56): a small active view of live links, and a passive one of known addresses,
 * which here is the roster, so that there is nothing to gossip. What differs is who decides, because
 * members may lie:
 *
 *   - only the keys of the roster count, which the orchestrator signed. One that leaves it, or is
 *     revoked in it, loses its links at once;
 *   - whom a node may dial is *assigned*: the OVERLAY_ASSIGNED lowest, over all that can be dialled, of
 *     a rank that is a function of the run and of the places that dialler and peer have in the
 *     roster, so both ends compute it, and nobody can choose a key that ranks well. A peer accepts
 *     assigned diallers in OVERLAY_IN places, and anybody else of the roster in OVERLAY_FREE more. So
 *     a group that holds a share p of the keys gets a share p of the places, however often it knocks;
 *   - a node's own choice among its assigned peers is by lot, at most OVERLAY_SAME of one
 *     subnet (/24, /48) and of one owner, as long as others are left to choose. Among those accepted,
 *     the ones beyond OVERLAY_SAME get at most half of the places. One of the chosen links is
 *     exchanged now and then, so that who is always there, or was there first, has no more of them
 *     than others;
 *   - seeds (relays, and the trainer) are pinned: each node may dial the OVERLAY_SEEDS that rank lowest
 *     among them as well, and one of its links is to a seed as long as one accepts it.
 *
 * With p = 0.3, and attackers who use every place they get, less than one honest node in a thousand
 * has fewer than two honest neighbours (tests/property/test_overlay.c). The same rule serves a network
 * of a handful, in which it links nearly everybody with everybody: more links than these do not make
 * a broadcast faster ('muster sim broadcast --k').
 *
 * Where no assigned peer can be dialled, others of the roster are, by lot; one that failed is tried
 * again after OVERLAY_RETRY_MS, then twice as long each time.
 *
 * Probing, after SWIM (Das, Gupta, Motivala, DSN 2002, doi:10.1109/DSN.2002.1028914): a link that was
 * silent for OVERLAY_PING_MS is pinged; without an answer after a second, two neighbours are asked
 * to ping that peer, who do it if they have a link to it; a second later it is suspected and another
 * is dialled, and after OVERLAY_SUSPECT_MS more it is dead: 2 + 1 + 1 + 5 = 9 s at most. Any
 * message of it clears it; the word of others does so twice in a row, no more. Suspicion stays
 * with the node that has it, so no incarnation numbers are needed.
 *
 * The shell carries out what is appended to `struct overlay_out`. Time comes in as a parameter; lots
 * are drawn from Philox keyed by the node's key and `salt`. One thread.
 */
#ifndef SHARDCAST_OVERLAY_H
#define SHARDCAST_OVERLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define OVERLAY_OUT        7u  /* links of one's own choice */
#define OVERLAY_OUT_HIDDEN 9u  /* of a node that cannot be dialled */
#define OVERLAY_ASSIGNED   16u /* peers that a node may dial */
#define OVERLAY_SEEDS      3u  /* and seeds */
#define OVERLAY_IN         24u /* places for assigned diallers, */
#define OVERLAY_IN_SEED    44u /* of a seed, */
#define OVERLAY_FREE       4u  /* and for others */
#define OVERLAY_SAME       2u
#define OVERLAY_DIVERSE    8u /* owners or subnets there are before OVERLAY_SAME applies to them */
#define OVERLAY_PING_MS    2000
#define OVERLAY_ANSWER_MS  1000
#define OVERLAY_SUSPECT_MS 5000
#define OVERLAY_DIAL_MS    2000 /* until a dialled peer must have accepted */
#define OVERLAY_KNOCK_MS                                                                       \
    500 /* between two NEIGHBOURs of a key: one that comes sooner is not answered */
#define OVERLAY_LEAVE_MS     1000 /* from LEAVE to the end of the link */
#define OVERLAY_RETRY_MS     1000 /* until one that failed is tried again, then twice as long */
#define OVERLAY_RETRY_MAX_MS 60000 /* each time, up to this */
#define OVERLAY_AGAIN_MS     30000 /* until one that was exchanged is */
#define OVERLAY_TURN_MIN_MS                                                                    \
    5000 /* between exchanges of a chosen link: an eighth of one's age */
#define OVERLAY_TURN_MAX_MS 60000

struct overlay;

enum overlay_act_kind {
    OVERLAY_DIAL,    /* key, value: endpoint. Answer with overlay_linked() */
    OVERLAY_HANG_UP, /* link: close one that OVERLAY_DIAL opened */
    OVERLAY_SEND,    /* link, value: an envelope */
    OVERLAY_MEET, /* key, role, link: a neighbour from now on, by this link; again when it changes */
    OVERLAY_PART,    /* key, why: none any more */
    OVERLAY_SUSPECT, /* key: its probes are not answered; another is dialled */
    OVERLAY_WAKE,    /* at_ms: call overlay_tick no later than this */
};

struct overlay_act {
    enum overlay_act_kind kind;
    uint64_t link;
    int64_t at_ms;
    uint32_t role; /* enum role */
    const char *why;
    struct public_key key;
    struct bytes value; /* lent from `owned` */
    uint8_t *owned;     /* owned by the list; may be NULL */
};
struct overlay_out {
    struct overlay_act *v; /* owned */
    size_t n, cap;
};
void overlay_out_init(struct overlay_out *l);
void overlay_out_clear(struct overlay_out *l);
void overlay_out_reset(struct overlay_out *l); /* empties it and keeps its memory */

struct overlay_options {
    struct public_key self; /* transport key */
    uint64_t salt;          /* secret, of this life: what others cannot foresee */
};
void overlay_new(struct overlay **out, const struct overlay_options *opt);
void overlay_free(struct overlay **p);

/* ---- who there is ------------------------------------------------------------------------ */

/* A ROSTER made ready: revoked nodes left out, sorted, subnets worked out. It does not change, so
 * the machines of a simulation may share one. */
struct overlay_roster;
void overlay_roster_new(struct overlay_roster **out, const struct msg_roster *m);
void overlay_roster_free(struct overlay_roster **r);

void overlay_set_run(struct overlay *o, const struct digest *run, int64_t now_ms);
/* `r` is borrowed until the next call, or overlay_free. Links to keys that are not in it are closed. */
void overlay_set_roster(struct overlay *o, const struct overlay_roster *r, int64_t now_ms,
                        struct overlay_out *out);

/* ---- inputs ------------------------------------------------------------------------------ */

/* The link that OVERLAY_DIAL asked for is open. */
void overlay_linked(struct overlay *o, const struct public_key *key, uint64_t link,
                    int64_t now_ms, struct overlay_out *out);
/* Is the frame one for overlay_message? (kinds 60 to 69) */
bool overlay_is_message(struct bytes frame);
/* Such a frame from the peer authenticated as `from`. */
void overlay_message(struct overlay *o, uint64_t link, const struct public_key *from,
                     struct bytes frame, int64_t now_ms, struct overlay_out *out);
/* Another frame came from it: it lives. False: it is no neighbour, and is told so. */
bool overlay_heard(struct overlay *o, uint64_t link, const struct public_key *from,
                   int64_t now_ms, struct overlay_out *out);
void overlay_tick(struct overlay *o, int64_t now_ms, struct overlay_out *out);

/* ---- what is known ----------------------------------------------------------------------- */

struct overlay_neighbour {
    struct public_key key;
    uint64_t link;
    bool is_chosen;  /* this node dialled it */
    bool is_suspect; /* its probes are not answered */
    bool is_seed;
};
/* Links that are up; i < overlay_n_neighbours. */
size_t overlay_n_neighbours(const struct overlay *o);
struct overlay_neighbour overlay_neighbour(const struct overlay *o, size_t i);

struct overlay_counters {
    uint64_t dialled; /* peers, */
    uint64_t failed;  /* of which so many did not answer, or had no place */
    uint64_t lost;    /* neighbours that did not answer any more */
    uint64_t malformed;
    uint64_t hasty; /* NEIGHBOURs that came too soon */
};
struct overlay_counters overlay_counters(const struct overlay *o);
/* Appends one JSON object: who was chosen, who dialled us, who is suspected. */
void overlay_json(const struct overlay *o, int64_t now_ms, struct buf *out);

#endif
