/*
 * unit/ledger/world.h - a small run whose every entry is real
 *
 * Keys, certificates, envelopes and roots are what a true run would have, so that the audit finds
 * nothing to complain about. Each move appends one entry and fails the test if it is refused;
 * world_try_* give the status back instead.
 */
#ifndef WORLD_H
#define WORLD_H

#include "base/db.h"
#include "base/effect.h"
#include "ledger/beacon.h"
#include "ledger/log.h"
#include "proto/msg.h"
#include "proto/types.h"

#define WORLD_WORKERS    3u
#define WORLD_VALIDATORS 3u
#define WORLD_NODES      (2u + WORLD_WORKERS + WORLD_VALIDATORS)
#define WORLD_STAKE      10000
#define WORLD_DEPOSIT    1000000
#define WORLD_WINDOW     20u

enum { WORLD_INITIATOR, WORLD_TRAINER, WORLD_WORKER, WORLD_VALIDATOR = WORLD_WORKER + 3 };

/* How the next entry and its envelope are made to disagree, though every rule of the books holds. */
enum world_bend {
    BEND_NOTHING,
    BEND_SIGNATURE,  /* any: one bit of it */
    BEND_SIGNER,     /* any: signed by the initiator */
    BEND_IDEM,       /* any: of another request */
    BEND_TOKENS,     /* COMMIT: one less than in SUBMIT */
    BEND_FLAT,       /* COMMIT */
    BEND_SAMPLE,     /* COMMIT */
    BEND_ROOT,       /* COMMIT and SUBMIT agree on a root that is not the content's */
    BEND_SUBMISSION, /* VERDICT: about another */
    BEND_CODE,       /* VERDICT: for another reason */
    BEND_STATES,     /* VERDICT: with others */
    BEND_SEAL,       /* VERDICT_SEAL: of another verdict */
    BEND_WEIGHTS,    /* STEP: of another content */
    BEND_STATE,      /* STEP: begins with another state than the one before ended with */
    BEND_GAME,       /* DISPUTE_OPEN: with moves where there are none, and the reverse */
    BEND_PREVIOUS,   /* DISPUTE_MOVE: it follows another move */
};

struct world_node {
    struct public_key node, transport, owner;
    struct secret_key secret, owner_secret;
    enum role role;
};
struct world_verdict {
    struct ledger_verdict entry;
    struct idem idem;
};
struct world {
    struct ledger_log *log;
    struct effects out; /* not yet on disk */
    struct db *db;      /* NULL: memory only */
    struct beacon *beacon;
    struct world_node node[WORLD_NODES];
    struct digest task;
    int64_t now_us;
    uint64_t n_idem;
    enum world_bend bend;
    uint64_t canary_rate;
    uint32_t witnesses;             /* that draws need */
    struct secret_key orchestrator; /* of the key in GENESIS */
    uint32_t n_nonces[WORLD_VALIDATORS];
    uint64_t salts; /* other numbers, other salts */
    uint64_t recheck_rate;
    int64_t dispute_bond, fee_step; /* 0: versions are not recomputed */
    int64_t stake_granted;          /* as TASK_OPEN says: every stake is as large */
    bool lies[WORLD_VALIDATORS];    /* it makes no prefills, and invents states */
    struct world_verdict sealed[WORLD_VALIDATORS];
    bool is_sole;   /* of ACCEPT */
    bool surprises; /* every token of a submission has a log-probability of -5 */
    bool alters;    /* submissions are altered as a bad canary's order says */
    struct err e;
};

/* Genesis, nodes with stakes, and a task that is open. `dir` NULL: memory only. worker(0) and
 * validator(0) have one owner. */
void world_init(struct world *w, const char *dir);
/* With canaries among first attempts, and validators with stakes of which 1000 are required. */
void world_init_canaries(struct world *w, const char *dir, uint64_t rate);
/* With so many full checks made twice, and so all of their verdicts sealed. */
void world_init_rechecks(struct world *w, const char *dir, uint64_t rate);
/* With so many witnesses needed for a draw. */
void world_init_witnesses(struct world *w, const char *dir, uint32_t witnesses);
/* With the first two versions recomputed, for `fee`, and challenges that bind `bond`. */
void world_init_steps(struct world *w, const char *dir, int64_t bond, int64_t fee);
/* The same, and all that anybody has at stake was granted. */
void world_init_granted(struct world *w, const char *dir, int64_t bond, int64_t fee);
#define WORLD_DISPUTE_MS 60000
void world_clear(struct world *w);
/* Everything put since the last time, in one transaction. */
void world_flush(struct world *w);

const struct world_node *world_worker(const struct world *w, unsigned i);
const struct world_node *world_validator(const struct world *w, unsigned i);
const struct ledger_books *world_books(const struct world *w);
const struct ledger_unit *world_unit(const struct world *w, uint64_t unit);
int64_t world_balance(const struct world *w, enum account_kind kind,
                      const struct public_key *key);
int64_t world_escrow(const struct world *w);
int64_t world_reserved(const struct world *w);
struct ledger_salts world_salts(struct world *w);
void world_begin(struct world *w, const char *dir); /* what all of world_init_* end with */
struct idem world_idem(struct world *w);
/* Files what the node signs; *envelope is its digest. */
void world_file(struct world *w, enum msg_kind kind, const struct world_node *n,
                const struct idem *idem, const struct buf *body, struct digest *name);
/* A cause of its own time, without actor. */
struct ledger_cause world_cause(struct world *w);

enum status world_try_lease(struct world *w, uint64_t unit, unsigned worker);
enum status world_try_commit(struct world *w, uint64_t unit, uint32_t tokens, bool is_flat);
enum status world_try_draw(struct world *w);
enum status world_try_assign(struct world *w, uint64_t unit, unsigned validator,
                             uint32_t depth);
enum status world_try_verdict(struct world *w, uint64_t unit, unsigned validator,
                              enum reason code);
/* The two halves of a verdict where they are sealed, and what comes of states. */
enum status world_try_seal(struct world *w, uint64_t unit, unsigned validator,
                           enum reason code);
enum status world_try_show(struct world *w, unsigned validator);
enum status world_try_judge_states(struct world *w, uint64_t unit, unsigned validator,
                                   unsigned first, unsigned second);
enum status world_try_accept(struct world *w, uint64_t unit);
enum status world_try_void(struct world *w, uint64_t unit, enum reason code);
enum status world_try_reject_soft(struct world *w, uint64_t unit, enum reason code);
enum status world_try_reject_hard(struct world *w, uint64_t unit, enum reason code,
                                  bool is_sole);
enum status world_try_reveal(struct world *w, uint64_t unit);
enum status world_try_judge_canary(struct world *w, uint64_t unit, uint32_t outcome);
/* The validator gives the nonce it committed to, and commits to another; `anew`: it begins. */
enum status world_try_witness(struct world *w, unsigned validator, bool anew);
/* Appends to a file of heads what a witness is shown of entry `seq`. */
void world_show_head(struct world *w, struct buf *file, uint64_t seq);
enum status world_try_giveup(struct world *w, uint64_t unit);
enum status world_try_mature(struct world *w, const struct public_key *node);
/* A batch of these units, each with the use that its state has. */
enum status world_try_batch(struct world *w, const uint64_t *unit, uint32_t n);
/* The next weight version, from the batch that is next to train. */
enum status world_try_step(struct world *w);
enum status world_try_head(struct world *w);
enum status world_try_close(struct world *w);

/* Lease to accepted, all by the rules: checks by whoever was drawn. */
void world_accept_unit(struct world *w, uint64_t unit, unsigned worker, bool is_flat);
/* To committed and drawn. */
void world_commit_unit(struct world *w, uint64_t unit, unsigned worker);
/* A second validator in addition to the one drawn; returns its index. Both are given back. */
void world_two_judges(struct world *w, uint64_t unit, unsigned judge[2]);
/* The validator that a drawn unit was given to first. */
unsigned world_judge(struct world *w, uint64_t unit);

/* The move was refused with this status, for this reason. */
void world_refused(const struct world *w, enum status got, enum status want, const char *why);

#endif
