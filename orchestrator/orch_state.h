/*
 * orchestrator/orch_state.h - who works on what, who is paid: the pure machine
 *
 * All durable facts are ledger entries (ledger/log.h); orch_apply is the fold over them, used
 * for each entry at start and right after each append, so a restart knows what was known.
 * What is not in the ledger is volatile: deadlines (every live lease and check gets a fresh one
 * after a restart), who was heard from when, and how far a worker says it is.
 *
 * Inputs are messages, the DRAW and JUDGE jobs and the time; outputs are effects. No clock, socket or file
 * is touched; what was PUT in an earlier round is read back through struct orch_store, which is
 * content that never changes. A message is answered by at most one message, with the idem of
 * the question. A repeat of a request that made an entry finds that entry and gets its answer.
 *
 * Decisions are level-triggered: orch_tick looks at what is, not at what has just happened, so
 * nothing hangs on a message that was lost or on the moment of a crash.
 *
 * Failure:  what a peer does wrong is answered (REFUSED, WAIT, RECEIPT) and noted. A ledger
 *           that refuses an entry is noted too, and the request gets REASON_INTERNAL.
 * Threads:  one.
 */
#ifndef ORCHESTRATOR_ORCH_STATE_H
#define ORCHESTRATOR_ORCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "ledger/entry.h"
#include "ledger/log.h"
#include "ledger/steps.h"
#include "node/key.h"
#include "proto/invite.h"
#include "proto/msg.h"
#include "proto/types.h"

/* Nothing to compute. It is started with a COMMIT and comes back when that COMMIT
 * is durable; only then is the beacon revealed that draws it. */
#define ORCH_JOB_DRAW 1u

/* Has a dispute judged: args are its transcript (proto/transcript.h). What came out goes to
 * orch_judged; the machine itself knows no model. */
#define ORCH_JOB_JUDGE 2u

/* A node not heard from for so long is not counted on. Nodes say HELLO each second. */
#define ORCH_ALIVE_MS 10000

/* Reads back what was PUT in earlier rounds: OK with the bytes appended to `out`, or
 * ERR_NOT_FOUND. Both may be called from any function below. */
struct orch_store {
    void *ctx;
    enum status (*blob)(void *ctx, const struct digest *digest, struct buf *out, struct err *e);
    enum status (*entry)(void *ctx, uint64_t seq, struct buf *out, struct err *e);
};

/* What judging version 0 of a bundle's task takes of memory: replay/transcript_play.h, lent. */
typedef enum status orch_first_bytes(uint64_t *out, struct bytes bundle, struct err *e);

struct orch_options {
    const struct node_key *key; /* borrowed: signs rosters, receipts, orders, calls */
    struct orch_store store;
    orch_first_bytes *first_bytes; /* NULL: none */
    struct digest beacon_seed;     /* secret */
    uint64_t beacon_length;        /* of a new run's GENESIS: rounds of draws it can have */
    uint64_t mature_window;        /* of a new run's GENESIS: entries */
    char control[MSG_TEXT_BYTES], enrol[MSG_TEXT_BYTES]; /* for the links of invites */
};

struct orch;

void orch_new(struct orch **out, const struct orch_options *opt);
void orch_free(struct orch **s);

/* ---- at start -------------------------------------------------------------------------- */

struct ledger_log *orch_log(struct orch *s);
/* Takes in one entry. `blob`: what it names, when at hand (TASK_OPEN: the bundle; STEP: the
 * PUBLISH envelope); NULL: orch_store has it. Only facts that are in the log may come here.
 * ERR_CORRUPT: the blob is missing or does not decode. */
MUST_USE enum status orch_apply(struct orch *s, const struct ledger_entry *en,
                                const struct bytes *blob, struct err *e);
/* ledger_replay, then orch_apply. */
MUST_USE enum status orch_replay(struct orch *s, struct bytes encoded, struct err *e);
/* A pair of the table "meta". Unknown keys are left alone. */
void orch_set_meta(struct orch *s, struct bytes key, struct bytes value);
void orch_set_endpoints(struct orch *s, const char *control, const char *enrol);
/* After the last entry and before the first message. Begins a new run if the log is empty. The wall clock is looked at
 * here only: from then on entries' times follow now_ms, from no less than the last entry's. A clock that is set,
 * forward or back, neither shortens a deadline nor stops one. */
MUST_USE enum status orch_begin(struct orch *s, int64_t now_ms, int64_t wall_us,
                                struct effects *out, struct err *e);
/* A new invite, or one made before: the links are functions of the ledger and the key. */
MUST_USE enum status orch_invite(struct orch *s, enum role role, int64_t now_ms,
                                 struct effects *out, char link[INVITE_LINK_BYTES],
                                 struct err *e);
size_t orch_n_invites(const struct orch *s);
MUST_USE enum status orch_invite_at(const struct orch *s, size_t i, enum role *role,
                                    char link[INVITE_LINK_BYTES], struct err *e);

/* ---- one move -------------------------------------------------------------------------- */

struct orch_input {
    uint64_t peer;                      /* to answer to */
    const struct public_key *transport; /* authenticated */
    bool is_enrolment;                  /* came by the socket that admits any key */
    struct bytes data;                  /* one envelope, unchecked */
};
void orch_message(struct orch *s, const struct orch_input *in, int64_t now_ms,
                  struct effects *out);
/* The DRAW job with this number has come back. */
void orch_job(struct orch *s, uint32_t job, uint64_t number, int64_t now_ms,
              struct effects *out);
/* The JUDGE job is back. *j counts if it is OK. */
void orch_judged(struct orch *s, enum status st, const struct ledger_judgement *j,
                 int64_t now_ms, struct effects *out);
/* Expiries, reassignments, draws; asks for the next timer. */
void orch_tick(struct orch *s, int64_t now_ms, struct effects *out);

/* ---- looking --------------------------------------------------------------------------- */

const struct digest *orch_run_id(const struct orch *s);
bool orch_is_done(const struct orch *s);
uint64_t orch_roster_seq(const struct orch *s); /* grows with every change of the roster */
/* Grows with every change of what orch_admitted gives. */
uint64_t orch_admission_seq(const struct orch *s);
/* Transport keys that the control socket admits: the orchestrator's own and every node that was
 * not revoked, or has not been told so yet. Returns how many, at most `cap`. */
size_t orch_admitted(const struct orch *s, struct public_key *out, size_t cap);
/* Appends one JSON object: the answer to STATUS_ASK. */
void orch_status(struct orch *s, enum status_view what, uint64_t number, int64_t now_ms,
                 struct buf *json);
/* Hands over the lines noted since, each "W text\n" or "I text\n", for the log. */
void orch_take_notes(struct orch *s, struct buf *out);

#endif
