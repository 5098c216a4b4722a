/*
 * orchestrator/orch_memory.h - what the machine remembers; not for others
 *
 * Fields are a fold over the entries (orch_facts.c) unless they are marked volatile: those are
 * lost in a restart and do not matter for long.
 */
#ifndef ORCHESTRATOR_ORCH_MEMORY_H
#define ORCHESTRATOR_ORCH_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "envs/task.h"
#include "ledger/beacon.h"
#include "ledger/body.h"
#include "ledger/books.h"
#include "ledger/log.h"
#include "ledger/steps.h"
#include "orchestrator/orch_state.h"
#include "proto/msg.h"
#include "proto/transcript.h"

#define ORCH_NONE_NODE UINT32_MAX
#define ORCH_NONE_UNIT UINT64_MAX
#define ORCH_UNITS_MAX (1u << 24)
#define ORCH_TICK_MS   250 /* at least so often */
#define ORCH_RETRY_MS  50  /* in a WAIT, when work is near */
#define ORCH_RETRY_FAR 500 /* when it is not */
/* Of the store one node is read so much at once, and a second later so much more; an answer counts with
 * what it holds, and at least this. A batch is at most 64 MiB, and is asked for once a step. */
#define ORCH_READ_BURST ((uint64_t)256 << 20)
#define ORCH_READ_RATE  ((uint64_t)16 << 20)
#define ORCH_READ_LEAST ((uint64_t)1 << 20)
/* The parties of the open dispute have an account of their own: one that was killed goes over as many as 16
 * batches again and reads the game, while its clock runs. Twice that. */
#define ORCH_READ_PARTY ((uint64_t)2 << 30)
/* The same of what anybody may look at: the roster, the bundle, the ledger, the status. A round of the loop takes 256
 * questions, and holds their answers. */
#define ORCH_LOOK_BURST  ((uint64_t)32 << 20)
#define ORCH_LOOK_LEAST  ((uint64_t)32 << 10)
#define ORCH_RESEND_MS   1500 /* a check is handed again to a validator that lost it ... */
#define ORCH_RESEND_LONE 5000 /* ... or may still be at it */
#define ORCH_HELD_MS     3000 /* whose VERDICT_SEAL was not repeated for so long has lost it */
#define ORCH_GATHER      16u  /* light checks of a validator that go out together */
#define ORCH_OPINIONS                                                                          \
    3u /* units refused by opinions, before a worker is proven again, bar it */
#define ORCH_WITNESS_MS  1000  /* a round waits so long for its witnesses */
#define ORCH_MOVES       4u    /* changes of an endpoint at once, and one more each */
#define ORCH_MOVE_MS     10000 /* of these: everybody fetches the roster after each */
#define ORCH_TWIN_MS     3000 /* a connection that another took the place of is heard so long */
#define ORCH_STALE_BINS  8u
#define ORCH_NOTES_BYTES (64u << 10)
#define ORCH_REFUSALS    20u /* noted in a second: a refusal costs its sender nothing */

/* One validator's part in the checks of an attempt. */
struct orch_check {
    uint32_t node;
    uint32_t depth;
    int64_t since_ms; /* 0: to be set at the next tick */
    int64_t sent_ms;  /* 0: not yet */
    uint32_t n_seals; /* that came in this life */
    bool is_over;     /* judged, or handed to another */
    bool is_judged;
    /* volatile, where verdicts are sealed: */
    bool is_waiting; /* its VERDICT_SEAL is to be answered when all have sealed: */
    uint64_t peer;   /* to whom */
    struct idem idem;
    int64_t heard_ms; /* when it last came */
    bool is_told;     /* it was answered: the verdict may come */
    bool is_skipped;  /* late, and nobody else is there: others do not wait for it */
    bool is_lost;     /* it sealed, forgot what, and others have shown: it cannot seal anew */
};

/* Sums over answers, from what COMMIT entries tell of them. */
struct orch_answers {
    uint64_t n, n_ended; /* all; those that an end token ended */
    uint64_t tokens;
    double reward; /* each exact to a thousandth */
};

struct orch_unit {
    uint64_t
        last_fact;   /* seq of its newest entry, the head of a chain through facts; 0: none */
    uint32_t worker; /* of the live attempt */
    int64_t deadline_ms, hard_ms; /* of the live lease; 0: to be set at the next tick */
    uint64_t progress;            /* tokens the worker last said */
    int64_t listed_ms;            /* when the worker was last known to know of the lease */
    int64_t failed_ms;            /* when its last attempt ended without pay; 0: none */
    struct orch_answers answers;  /* of its newest COMMIT */
    uint64_t draw;                /* seq of the DRAW entry of the live attempt; 0: not drawn */
    int64_t opening_ms;           /* when its opening was first wanted; 0: not yet */
    uint32_t n_checks;
    struct orch_check check[LEDGER_VERDICTS_MAX];
};

/* What is remembered of each entry; its bytes are in the store. */
struct orch_fact {
    uint8_t type;     /* enum ledger_type */
    uint8_t code;     /* enum reason, where it has one */
    bool has_idem;    /* it answered a request itself */
    bool is_accepted; /* VERDICT */
    uint32_t node;    /* who: worker, validator, joiner ... */
    uint64_t unit;
    uint64_t lease;  /* of a DRAW: through which commit it draws */
    uint64_t before; /* the entry before it about the same unit; 0: none */
};

/* What a node was answered with from the store: less with time (orch_may_read). */
struct orch_reads {
    int64_t ms; /* as of then */
    uint64_t bytes;
};

struct orch_node {
    struct public_key node, transport, owner;
    enum role role;
    uint8_t invite[16];
    bool is_revoked, is_draining;
    uint64_t drain; /* the entry by which it is draining, or no more */
    uint64_t tokens_paid;
    uint32_t refused[REASON_COUNT]; /* attempts that ended so */
    uint32_t n_opinions;            /* of them, by opinions, since it was proven */
    /* volatile */
    uint32_t n_refused; /* questions, since it was barred; a HELLO counts as many */
    int64_t told_ms;    /* when it was told that; 0: not yet */
    bool is_told;       /* and long ago: what it says is not heard any more */
    int64_t seen_ms;    /* 0: never */
    int64_t asked_ms;   /* when it last asked for a check, or for units */
    bool is_waiting;    /* its WITNESS_ASK is to be answered when there is a head: */
    uint64_t peer;      /* to whom */
    struct idem idem;   /* and to which question */
    struct {            /* its DRAWN_ASK, to be answered when units are to be opened: */
        bool is_set;
        uint64_t peer;
        struct idem idem;
        uint64_t settled; /* as it was told last */
    } opener;
    uint32_t n_failed; /* attempts that came to nothing since one was accepted */
    int64_t failed_ms; /* when the last did */
    uint32_t n_moves;  /* changes of its endpoint that count, the last of them at */
    int64_t moved_ms;
    struct {           /* the processes that speak with its key: */
        uint64_t peer; /* whose HELLO came last to begin with, */
        uint64_t before;
        int64_t since_ms;
    } voice;
    bool is_back;                         /* heard from again after a silence */
    struct orch_reads reads, party_reads; /* the second as a party of the open dispute */
    struct orch_reads looks;
    char endpoint[128];
    char numerics[32];
    int64_t newest_version;
    char waits[MSG_TEXT_BYTES]; /* why it was last told to wait; "" if it was given work */
};

/* A version that stands: published, not abandoned. Its index counts batches. */
struct orch_version {
    int64_t number;
    struct digest weights, batch, settings, body, envelope;
    struct digest masters, optimizer; /* that it ended with: the next one begins there */
    uint64_t seq;
    struct public_key trainer;
    float loss, reward_mean, kl, grad_norm; /* as the trainer says: of groups it trained on */
    uint64_t tokens_trained;
    int64_t time_us; /* of its entry */
    int64_t paid;    /* ucr, to everybody since the task was opened */
};

struct orch_batch {
    struct digest root;
    uint64_t seq;
    uint32_t n_rows, n_trained, n_flat;
    struct orch_answers answers;  /* of all units that are paid, flat ones too */
    struct ledger_batch_row *row; /* owned */
};

struct orch_invite_row {
    uint64_t seq; /* of its INVITE entry: id and secret derive from it */
    uint8_t id[16];
    enum role role;
};

struct orch {
    struct orch_options opt;
    struct ledger_log *log; /* owned */
    struct beacon *beacon;  /* owned; NULL before GENESIS */
    bool has_begun;
    int64_t told_second; /* of refusals, in which */
    uint32_t n_told_in;  /* so many were noted, */
    uint64_t n_untold;   /* and so many not */
    int64_t began_us;    /* an entry's time when now_ms was 0 */

    struct orch_node *node; /* owned; [0] is the orchestrator itself */
    size_t n_nodes, cap_nodes;
    struct orch_unit *unit; /* owned; by unit number */
    size_t n_units, cap_units;
    struct orch_fact *fact; /* owned; by seq */
    size_t n_facts, cap_facts;
    struct orch_version *version; /* owned; a stack */
    size_t n_versions, cap_versions;
    struct orch_batch *batch; /* owned; by batch number */
    size_t n_batches, cap_batches;
    struct orch_invite_row *invite; /* owned */
    size_t n_invites, cap_invites;

    bool has_task;
    struct digest task_id;
    struct task task;
    const char *numerics; /* the class of the run; static text */
    uint64_t task_seq;

    uint64_t n_told;         /* barred nodes that were told so */
    uint64_t n_rounds;       /* draws made */
    uint64_t newest_commit;  /* seq; 0: none */
    uint64_t durable_commit; /* COMMITs up to here are known to be on disk */
    uint64_t drawn_commit;   /* COMMITs up to here are drawn */
    bool is_draw_started;    /* a DRAW job is on its way */
    uint64_t round;          /* seq of the HEAD that its witnesses were called for; 0: none */
    int64_t round_ms;        /* when */
    bool is_judging;         /* a JUDGE job is on its way */
    int64_t judge_ms;        /* volatile: none before */
    uint64_t first_bytes;    /* of memory that judging version 0 takes; 0: not reckoned yet */
    int64_t
        dispute_since_ms; /* volatile: the open dispute's move is due since; 0: not looked yet */
    int64_t *step_since;  /* volatile, owned, by index in the books: who has it, has it since */
    size_t cap_step_since;
    uint64_t n_given_up, n_flat, n_accepted, n_canaries;
    uint64_t canaries[LEDGER_CANARY_OPEN + 1]; /* judged, by outcome */
    uint32_t rejected[REASON_COUNT];
    uint64_t staleness[ORCH_STALE_BINS];
    uint64_t first_open;   /* units below are in batches or given up (order unit) */
    uint64_t arrival_from; /* order arrival: no ACCEPT before this seq is of use */
    bool is_stopped;       /* equivocation: no more work is given */
    char why_stopped[MSG_TEXT_BYTES];
    uint64_t n_abandoned;
    int64_t next_version; /* published and abandoned numbers are below */

    uint64_t roster_seq;
    bool is_roster_new; /* it must be PUT */

    /* scratch, kept to save allocations */
    struct buf body, frame, blob, orders;
    struct msg_submit *submit;   /* owned */
    struct msg_batch *out_batch; /* owned */
    struct msg_roster *roster;   /* owned */
    union ledger_body *entry;    /* owned; for decoding in orch_apply */
    union ledger_body *make;     /* owned; for building */
    struct buf notes;
};

#endif
