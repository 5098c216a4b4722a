/*
 * orchestrator/orch_internal.h - what the files of the machine share; not for others
 *
 * orch_state.c   life, replay, dispatch          orch_nodes.c   joining, greetings, roster
 * orch_facts.c   orch_apply: the fold            orch_task.c    opening and closing the task
 * orch_units.c   leases and submissions          orch_checks.c  draws, checks, verdicts
 * orch_train.c   batches and weight versions     orch_status.c  what people see
 */
#ifndef ORCHESTRATOR_ORCH_INTERNAL_H
#define ORCHESTRATOR_ORCH_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "envs/task.h"
#include "ledger/beacon.h"
#include "ledger/body.h"
#include "ledger/books.h"
#include "ledger/log.h"
#include "orchestrator/orch_state.h"
#include "proto/msg.h"

#define ORCH_NONE_NODE   UINT32_MAX
#define ORCH_NONE_UNIT   UINT64_MAX
#define ORCH_UNITS_MAX   (1u << 24)
#define ORCH_TICK_MS     250  /* at least so often */
#define ORCH_RETRY_MS    50   /* in a WAIT, when work is near */
#define ORCH_RETRY_FAR   500  /* when it is not */
#define ORCH_RESEND_MS   1500 /* a check is handed again to a validator that lost it ... */
#define ORCH_RESEND_LONE 5000 /* ... or may still be at it */
#define ORCH_STALE_BINS  8u
#define ORCH_NOTES_BYTES (64u << 10)

/* One validator's part in the checks of an attempt. */
struct orch_check {
    uint32_t node;
    uint32_t depth;
    int64_t since_ms; /* 0: to be set at the next tick */
    int64_t sent_ms;  /* 0: not yet */
    bool is_over;     /* judged, or handed to another */
    bool is_judged;
};

struct orch_unit {
    uint64_t
        last_fact;   /* seq of its newest entry, the head of a chain through facts; 0: none */
    uint32_t worker; /* of the live attempt */
    int64_t deadline_ms, hard_ms; /* of the live lease; 0: to be set at the next tick */
    uint64_t progress;            /* tokens the worker last said */
    int64_t listed_ms;            /* when the worker was last known to know of the lease */
    int64_t failed_ms;            /* when its last attempt ended without pay; 0: none */
    uint64_t draw;                /* seq of the DRAW entry of the live attempt; 0: not drawn */
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

struct orch_node {
    struct public_key node, transport, owner;
    enum role role;
    uint8_t invite[16];
    bool is_revoked, is_draining;
    uint64_t tokens_paid;
    uint32_t refused[REASON_COUNT]; /* attempts that ended so */
    /* volatile */
    int64_t seen_ms;  /* 0: never */
    int64_t asked_ms; /* a validator: when it last asked for a check */
    bool is_back;     /* heard from again after a silence */
    char endpoint[128];
    char numerics[32];
    int64_t newest_version;
    char waits[MSG_TEXT_BYTES]; /* why it was last told to wait; "" if it was given work */
};

/* A version that stands: published, not abandoned. Its index is the number of batches trained. */
struct orch_version {
    int64_t number;
    struct digest weights, batch, settings, body, envelope;
    uint64_t seq;
    struct public_key trainer;
    float loss, reward_mean, kl;
    uint64_t tokens_trained;
};

struct orch_batch {
    struct digest root;
    uint64_t seq;
    uint32_t n_rows, n_trained, n_flat;
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

    uint64_t n_rounds;       /* draws made */
    uint64_t newest_commit;  /* seq; 0: none */
    uint64_t durable_commit; /* COMMITs up to here are known to be on disk */
    uint64_t drawn_commit;   /* COMMITs up to here are drawn */
    bool is_draw_started;    /* a DRAW job is on its way */
    uint64_t n_given_up, n_flat, n_accepted;
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
    struct buf body, frame, blob;
    struct msg_submit *submit;   /* owned */
    struct msg_batch *out_batch; /* owned */
    struct msg_roster *roster;   /* owned */
    union ledger_body *entry;    /* owned; for decoding in orch_apply */
    union ledger_body *make;     /* owned; for building */
    struct buf notes;
};

/* One call from outside, and all that handlers need of it. */
struct turn {
    struct effects *out;
    int64_t now_ms, wall_us;
    uint64_t peer;
    const struct msg_envelope *m; /* NULL in a tick */
    uint32_t from;                /* node index of the sender */
};

/* ---- orch_state.c ---- */
/* A line for the log: level 'W' or 'I'. */
void orch_note(struct orch *s, char level, const char *fmt, ...) PRINTF(3, 4);
/* Sends s->body as an answer of `kind` to the message of this turn. */
void orch_answer(struct orch *s, struct turn *t, enum msg_kind kind);
void orch_refuse(struct orch *s, struct turn *t, enum reason code, const char *fmt, ...)
    PRINTF(4, 5);
void orch_wait(struct orch *s, struct turn *t, enum reason code, uint32_t retry_ms,
               const char *fmt, ...) PRINTF(5, 6);
/* RECEIPT for an entry, or a refusal for good (seq 0: no entry records it). */
void orch_receipt(struct orch *s, struct turn *t, uint64_t seq);
void orch_receipt_refused(struct orch *s, struct turn *t, uint64_t seq, enum reason code,
                          const char *fmt, ...) PRINTF(5, 6);
/* Who caused an entry: the orchestrator, the sender of this turn's message, or that message, so
 * that a repeat of it finds the entry. */
enum orch_cause { BY_ITSELF, BY_SENDER, AS_ANSWER };
/* After an append: folds the entry in. CHECKs that it can be. */
void orch_applied(struct orch *s, const struct ledger_entry *en, const struct bytes *blob);
/* ledger_append_<body> and orch_applied; on a refusal notes it and returns the status. */
#define ORCH_APPEND_DECLARE(NAME, number, body, moves_money, text)                             \
    MUST_USE enum status orch_append_##body(                                                   \
        struct orch *s, const struct turn *t, const struct ledger_##body *b,                   \
        enum orch_cause cause, const struct bytes *blob, uint64_t *seq);
LEDGER_TYPE_MAP(ORCH_APPEND_DECLARE)
#undef ORCH_APPEND_DECLARE
/* Room for one more element of `size` bytes in the array *v. */
void *orch_grow(void *v, size_t *cap, size_t need, size_t size);
const struct ledger_books *orch_books(const struct orch *s);
int64_t orch_head(const struct orch *s); /* newest version; -1 */
/* The blob into s->blob. */
MUST_USE enum status orch_read_blob(struct orch *s, const struct digest *d, struct err *e);

/* ---- orch_nodes.c ---- */
uint32_t orch_find_node(const struct orch *s, const struct public_key *node);
uint32_t orch_find_transport(const struct orch *s, const struct public_key *transport);
bool orch_is_alive(const struct orch *s, uint32_t node, int64_t now_ms);
uint32_t orch_n_alive(const struct orch *s, enum role role, int64_t now_ms);
uint32_t orch_trainer(const struct orch *s); /* the first admitted and not revoked */
void orch_roster_changed(struct orch *s);
void orch_node_short(char out[17], const struct orch *s, uint32_t node); /* 16 hex digits */
void orch_on_join(struct orch *s, struct turn *t, const struct public_key *transport);
void orch_on_hello(struct orch *s, struct turn *t);
void orch_on_roster_ask(struct orch *s, struct turn *t);
void orch_on_bundle_ask(struct orch *s, struct turn *t);
void orch_on_ledger_ask(struct orch *s, struct turn *t);
void orch_on_drain(struct orch *s, struct turn *t);
void orch_on_invite_ask(struct orch *s, struct turn *t);
void orch_put_roster(struct orch *s, struct turn *t); /* PUTs of what changed */

/* ---- orch_task.c ---- */
MUST_USE enum status orch_load_task(struct orch *s, struct bytes bundle, struct err *e);
void orch_on_task_publish(struct orch *s, struct turn *t);
void orch_on_task_close(struct orch *s, struct turn *t);
void orch_grant_stakes(struct orch *s, struct turn *t);
void orch_mature(struct orch *s, struct turn *t);
/* If the last version is published: closes the task. */
void orch_finish(struct orch *s, struct turn *t);
/* Takes back all live units and closes the task. */
MUST_USE enum status orch_close(struct orch *s, struct turn *t, enum orch_cause cause,
                                uint64_t *seq);
void orch_append_summary(struct orch *s, struct turn *t); /* a HEAD */
bool orch_is_open(const struct orch *s); /* a task is open, and the run is not stopped */

/* ---- orch_units.c ---- */
struct orch_unit *orch_unit_at(struct orch *s, uint64_t unit); /* made when new */
uint64_t orch_batch_size(const struct orch *s);
uint64_t orch_n_steps(const struct orch *s);
bool orch_is_arrival(const struct orch *s);
/* One past the last unit that may be leased or is of use now. */
uint64_t orch_unit_limit(const struct orch *s);
int64_t orch_unit_version(const struct orch *s, uint64_t unit);
/* FREE, whatever the ledger knows of it. */
enum ledger_unit_state orch_unit_state(const struct orch *s, uint64_t unit);
/* An attempt ended without pay; gives the unit up after the last try. */
void orch_void(struct orch *s, struct turn *t, uint64_t unit, enum reason code);
void orch_maybe_give_up(struct orch *s, struct turn *t, uint64_t unit, enum reason code);
void orch_on_lease_ask(struct orch *s, struct turn *t);
void orch_on_heartbeat(struct orch *s, struct turn *t);
void orch_on_submit(struct orch *s, struct turn *t);
void orch_expire(struct orch *s, struct turn *t);

/* ---- orch_checks.c ---- */
void orch_start_draw(struct orch *s, struct turn *t);
void orch_draw(struct orch *s, struct turn *t);
void orch_on_check_ask(struct orch *s, struct turn *t);
void orch_on_verdict(struct orch *s, struct turn *t);
void orch_look_after_checks(struct orch *s, struct turn *t);
void orch_judge(struct orch *s, struct turn *t, uint64_t unit);
/* Takes back everything unbatched of nodes that were barred. */
void orch_sweep_barred(struct orch *s, struct turn *t);

/* ---- orch_train.c ---- */
void orch_on_batch_ask(struct orch *s, struct turn *t);
void orch_on_publish(struct orch *s, struct turn *t);
void orch_on_abandon(struct orch *s, struct turn *t);

/* ---- orch_status.c ---- */
void orch_on_status_ask(struct orch *s, struct turn *t);

#endif
