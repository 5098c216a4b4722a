/*
 * shardcast/overlay.h - who is whose neighbour, as a pure state machine
 *
 * A node keeps a few links that it chose (OVERLAY_OUT, and one to a seed), and accepts as many as
 * OVERLAY_IN from others; a link carries messages both ways, so one that nobody can dial takes
 * part as well, over the links that it dialled. The shape is HyParView's (Leitao, Pereira,
 * Rodrigues, DSN 2007, doi:10.1109/DSN.2007.56): a small active view of live links and a larger
 * passive one of known addresses. What differs is who decides, because members may lie:
 *
 *   - only certified keys count: those of the roster, or of a CERT that the orchestrator signed;
 *   - whom a node may dial is *assigned*: OVERLAY_ASSIGNED peers that it cannot choose. With a roster
 *     these are the lowest of BLAKE2b("muster/overlay", run, dialler, peer) over all that can be
 *     dialled, which both ends compute; without one, those that its CERT names, which the other end
 *     reads there. A peer accepts assigned diallers in OVERLAY_IN places, and anybody certified in
 *     OVERLAY_FREE more. So a group that holds a share p of the keys gets a share p of the places,
 *     however often it knocks, and what it says in gossip moves nobody's own choice;
 *   - a node's own choice among its assigned peers is by lot, at most OVERLAY_SAME of one
 *     subnet (/24, /48) and of one owner, as long as others are left to choose;
 *     One of the chosen links is exchanged now and then, so that who is always there, or was there
 *     first, has no more of them than others;
 *   - seeds (relays, and the trainer) are known to all. Each node may dial the OVERLAY_SEEDS that
 *     are assigned to it in the same way among seeds, and keeps one such link.
 *
 * With p = 0.3, and attackers who use every place they get, less than one honest node in a thousand
 * has fewer than two honest neighbours (tests/property/test_overlay.c).
 *
 * Gossip (SHUFFLE of certificates every OVERLAY_SHUFFLE_MS, WALK of a new one) keeps the passive
 * view, from which a node dials only when no assigned peer answers: the way back in when the
 * orchestrator is away. With a roster there is nothing to gossip.
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

#define OVERLAY_OUT        6u  /* links of one's own choice */
#define OVERLAY_OUT_HIDDEN 8u  /* of a node that cannot be dialled */
#define OVERLAY_ASSIGNED   16u /* peers that a node may dial */
#define OVERLAY_IN         24u /* places for assigned diallers, */
#define OVERLAY_IN_SEED    44u /* of a seed, */
#define OVERLAY_FREE       4u  /* and for others */
#define OVERLAY_SEEDS      3u
#define OVERLAY_PASSIVE    48u
#define OVERLAY_SAME       2u
#define OVERLAY_DIVERSE    8u /* owners or subnets known before OVERLAY_SAME applies to them */
#define OVERLAY_SHUFFLE_MS 10000
#define OVERLAY_PING_MS    2000
#define OVERLAY_ANSWER_MS  1000
#define OVERLAY_SUSPECT_MS 5000
#define OVERLAY_DIAL_MS    1500  /* until a dialled peer must have accepted */
#define OVERLAY_LEAVE_MS   1000  /* from LEAVE to the end of the link */
#define OVERLAY_AGAIN_MS   30000 /* until one that did not is tried again */
#define OVERLAY_TURN_MIN_MS                                                                    \
    5000 /* between exchanges of a chosen link: an eighth of one's age */
#define OVERLAY_TURN_MAX_MS 60000

struct overlay;

enum overlay_act_kind {
    OVERLAY_DIAL,    /* key, value: endpoint. Answer with overlay_linked() */
    OVERLAY_HANG_UP, /* link: close one that OVERLAY_DIAL opened */
    OVERLAY_SEND,    /* link, value: an envelope */
    OVERLAY_MEET,    /* key, link: a neighbour from now on, by this link */
    OVERLAY_PART,    /* key: none any more */
    OVERLAY_WAKE,    /* at_ms: call overlay_tick no later than this */
};

struct overlay_act {
    enum overlay_act_kind kind;
    uint64_t link;
    int64_t at_ms;
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
    /* Is it signed by env->signer? NULL: msg_envelope_verify. */
    bool (*verify)(void *arg, const struct msg_envelope *env);
    void *arg;
};
void overlay_new(struct overlay **out, const struct overlay_options *opt);
void overlay_free(struct overlay **o);

/* ---- who is certified -------------------------------------------------------------------- */

/* `orchestrator`: its node key, which signs certificates. */
void overlay_set_run(struct overlay *o, const struct digest *run,
                     const struct public_key *orchestrator, int64_t now_ms);
/* The whole roster: its keys are the certified ones, and certificates are not looked at. Links to
 * keys that are not in it, or are revoked, are closed. */
void overlay_set_roster(struct overlay *o, const struct msg_roster *r, int64_t now_ms,
                        struct overlay_out *out);
/* Without a roster: this node's own certificate, and those of the peers it names and of seeds,
 * from the orchestrator. ERR_MALFORMED, ERR_DIGEST, ERR_DENIED: not signed by it, or of another run. */
MUST_USE enum status overlay_certify(struct overlay *o, struct bytes cert, int64_t now_ms,
                                     struct overlay_out *out, struct err *e);
/* No longer certified, whatever its certificate says. */
void overlay_revoke(struct overlay *o, const struct public_key *key, int64_t now_ms,
                    struct overlay_out *out);

/* ---- inputs ------------------------------------------------------------------------------ */

/* The link that OVERLAY_DIAL asked for is open. */
void overlay_linked(struct overlay *o, const struct public_key *key, uint64_t link,
                    int64_t now_ms, struct overlay_out *out);
/* A frame of kinds 60 to 69 from the peer authenticated as `from`. */
void overlay_message(struct overlay *o, uint64_t link, const struct public_key *from,
                     struct bytes frame, int64_t now_ms, struct overlay_out *out);
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
    uint64_t dialled, refused, lost, malformed, denied;
};
struct overlay_counters overlay_counters(const struct overlay *o);

#endif
