/*
 * tests/unit/orchestrator/world.h - an orchestrator among simulated nodes, in virtual time
 *
 * The orchestrator is the real state machine over a real ledger directory (not synced).
 * Workers, validators, the trainer and the initiator are a few lines each: they ask, resend
 * until they are answered, and forget everything when they crash. Rollouts are made up: what a
 * unit's submission must be is a function of its number, so a validator can tell whether a
 * worker cheated.
 *
 * The network drops, repeats, delays and reorders. A crash of the orchestrator falls before the
 * commit of a round (its effects are lost whole) or right after it (its messages are lost).
 */
#ifndef ORCHESTRATOR_WORLD_H
#define ORCHESTRATOR_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/db.h"
#include "base/effect.h"
#include "base/rng.h"
#include "node/key.h"
#include "orchestrator/orch_state.h"
#include "proto/msg.h"

#define WORLD_NODES_MAX 16u
#define WORLD_SERVES    (1 << 30) /* newest version that simulated nodes say they have */

struct world_options {
    uint32_t n_workers, n_verifiers;
    int64_t steps, units_per_batch, lag;
    const char *order;    /* "unit" or "arrival" */
    int64_t tries;        /* 0: 1000 */
    uint32_t drop, twice; /* of 1000 messages */
    uint32_t delay_ms;    /* most */
    uint32_t crash;       /* of the orchestrator: of 1000 rounds */
    uint32_t node_crash;  /* of a node: of 10000 rounds */
    bool has_cheat;       /* the first worker alters its tokens */
    bool has_liar;        /* the first validator accuses at random */
    bool has_lazy;        /* the first validator accepts all it is given */
    bool has_framer;      /* the first validator accuses everybody */
    int64_t recheck_ppm;  /* of full checks; 0: verdicts are not sealed */
    int64_t check_ms;     /* 0: WORLD_CHECK_MS */
    int64_t canary_ppm;   /* of first attempts; workers obey orders */
    int64_t witnesses;    /* that a draw needs; all validators are */
    int64_t step_ppm;     /* least share of versions that are recomputed; nobody here does it */
    bool is_open;         /* class open-openblas: workers open what is drawn */
    bool has_closed;      /* the first worker does not */
    bool is_light;        /* nothing is drawn for a full check but the first units of workers */
    bool has_two_trainers;         /* the second is not the run's; for moves only */
    const char *init;              /* model.init; NULL: random */
    orch_first_bytes *first_bytes; /* that judging version 0 takes; NULL: none */
    bool has_two_initiators;       /* the second publishes nothing */
    int64_t ahead_ms; /* of the wall clock, when the run begins: another time, another run */
    bool has_mute;    /* the first validator gives no nonce it has committed to */
};

#define WORLD_ORDERS 64u /* a worker remembers */
struct world_order {
    uint64_t lease;
    struct digest salt;
};

struct world_node {
    struct node_key *key; /* owned */
    enum role role;
    uint8_t invite_link[INVITE_LINK_BYTES];
    bool is_joined, is_dead, knows_done;
    uint64_t boot, counter;
    /* the one open question */
    struct buf request;
    enum msg_kind kind;
    struct idem idem;
    int64_t resend_ms, hello_ms, beat_ms, idle_ms, drawn_ms;
    /* a worker's leases; a validator's check; the trainer's course */
    struct lease_item lease[MSG_MAX_LEASES];
    uint32_t n_leases;
    struct world_order order[WORLD_ORDERS]; /* a ring */
    uint32_t n_orders;
    uint64_t tokens;
    uint64_t head, n_nonces; /* a witness: the last head it saw; nonces made */
    int64_t call_ms;         /* when it asks for one again */
    struct msg_verdict verdict;
    bool has_verdict, is_sealing;
    struct msg_verdicts verdicts; /* n > 0: to be said */
    struct ledger_opened opened[LEDGER_OPENED_MAX];
    uint32_t n_opened;
    struct buf sealed; /* the VERDICT envelope that was sealed */
    struct idem sealed_idem;
    int64_t next_version;
    struct digest batch_root;
    bool has_batch;
    struct buf answer; /* the last answer, for world_ask */
    bool has_answer;
};

struct world_packet {
    int64_t at_ms;
    uint32_t node; /* the node's end */
    bool is_up;    /* to the orchestrator */
    bool is_enrolment;
    struct buf data;
};

struct world_receipt {
    uint64_t seq;
    struct digest hash;
};

struct world {
    struct world_options opt;
    struct rng rng;
    char *dir; /* owned */
    struct db *db;
    struct node_key *key;
    struct orch *orch;
    struct effects out;
    struct world_node node[WORLD_NODES_MAX];
    uint32_t n_nodes;
    struct world_packet *packet;
    size_t n_packets, cap_packets;
    uint64_t job;          /* the started DRAW job; 0: none */
    uint32_t n_judged;     /* JUDGE jobs that were started, */
    struct buf transcript; /* and what the last was given */
    int64_t now_ms, timer_ms;
    int64_t ahead_ms; /* the wall clock that the orchestrator sees when it starts, of now_ms */
    uint32_t n_crashes;
    struct world_receipt *receipt;
    size_t n_receipts, cap_receipts;
    struct buf bundle;
    struct digest task;
    bool bends_masters, bends_optimizer; /* a manifest: it begins with another state */
};

void world_new(struct world **out, const struct world_options *opt, uint64_t seed);
void world_free(struct world **w);

/* Index of the i-th node of a role. */
uint32_t world_node_of(const struct world *w, enum role role, uint32_t i);
/* One round: nodes act, what is due arrives, the orchestrator answers, effects happen. */
void world_round(struct world *w);
/* Rounds until the run is over and all honest nodes know it. False: not within so much time. */
bool world_run(struct world *w, int64_t most_ms);
/* Kills the orchestrator and starts it again from what is on disk. */
void world_restart(struct world *w);

/* Asks by hand, without network or crash: sends the envelope and carries out all that follows
 * from it. The answer is lent until the next call; its kind is in *m. */
void world_ask(struct world *w, uint32_t node, enum msg_kind kind, struct bytes body,
               struct msg_envelope *m);
/* The same bytes again. */
void world_repeat(struct world *w, uint32_t node, struct msg_envelope *m);
/* An honest submission arrives; its effects are not carried out yet. */
void world_deliver_submission(struct world *w, uint32_t node, const struct lease_item *l);
/* Joins all nodes and opens the task; then nothing happens but what the test does. */
void world_settle(struct world *w);
void world_pass(struct world *w, int64_t ms); /* time goes by; ticks happen */

/* Bodies of what honest nodes send; `out` is overwritten. */
void world_submission(const struct world *w, struct buf *out, const struct lease_item *l,
                      bool is_cheating);
/* The opening of its honest or cheating submission. */
void world_opening(const struct world *w, struct buf *out, uint64_t unit, uint64_t lease);
/* The same, altered if this node was ordered to. */
void world_ordered_submission(const struct world *w, const struct world_node *n,
                              struct buf *out, const struct lease_item *l, bool is_cheating);
void world_expected_root(const struct world *w, uint64_t unit, int64_t version,
                         struct digest *root);
void world_manifest(const struct world *w, struct buf *out, int64_t version,
                    const struct digest *batch, uint32_t variant);
bool world_is_flat(uint64_t unit);

/* ---- between the files of the world ---------------------------------------------------- */
#define WORLD_GROUP      2u
#define WORLD_LEASE_MS   2000
#define WORLD_CHECK_MS   1500
#define WORLD_OPENING_MS 3000
void world_make_bundle(struct world *w);
/* Drops, repeats, delays. */
void world_post(struct world *w, uint32_t node, bool is_up, bool is_enrolment,
                struct bytes data);
void world_encode(const struct world *w, struct world_node *n, enum msg_kind kind,
                  struct bytes body, struct buf *out);
void world_join_body(const struct world_node *n, struct buf *body);
void world_act(struct world *w, uint32_t i);
void world_hear(struct world *w, uint32_t i, struct bytes data);
void world_take_orders(const struct world *w, struct world_node *n, struct msg_lease *l);
void world_crash_node(struct world *w, uint32_t i);

#endif
