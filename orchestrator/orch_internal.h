/*
 * orchestrator/orch_internal.h - what the files of the machine share; not for others
 *
 * orch_state.c   life, replay, dispatch          orch_nodes.c   joining, greetings, roster
 * orch_facts.c   orch_apply: the fold            orch_task.c    opening and closing the task
 * orch_units.c   leases and submissions          orch_checks.c  draws, checks, verdicts
 * orch_train.c   batches and weight versions     orch_status.c  what people see
 * orch_proven.c  the share of the unproven       orch_light.c   light checks, many at once
 * orch_canary.c  salts, orders, reveals          orch_round.c   witnesses of draws
 * orch_seals.c   sealed verdicts, their states   orch_openings.c  what open classes are shown
 * orch_dispute.c who recomputes versions, disputes
 */
#ifndef ORCHESTRATOR_ORCH_INTERNAL_H
#define ORCHESTRATOR_ORCH_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "orchestrator/orch_memory.h"

/* One call from outside, and all that handlers need of it. */
struct turn {
    struct effects *out;
    int64_t now_ms, wall_us;
    uint64_t peer;
    const struct msg_envelope *m; /* NULL in a tick */
    uint32_t from;                /* node index of the sender */
};

/* ---- orch_state.c ---------------------------------------------------------------------- */
struct turn orch_turn(const struct orch *s, int64_t now_ms, struct effects *out);
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

/* ---- orch_nodes.c ---------------------------------------------------------------------- */
uint32_t orch_find_node(const struct orch *s, const struct public_key *node);
uint32_t orch_find_transport(const struct orch *s, const struct public_key *transport);
bool orch_is_alive(const struct orch *s, uint32_t node, int64_t now_ms);
uint32_t orch_n_alive(const struct orch *s, enum role role, int64_t now_ms);
uint32_t orch_trainer(const struct orch *s); /* the first admitted and not revoked */
void orch_roster_changed(struct orch *s);
void orch_node_short(char out[17], const struct orch *s, uint32_t node); /* 16 hex digits */
/* May the sender be answered from the store now? Else it was told to wait. */
bool orch_may_read(struct orch *s, struct turn *t);
/* So much was read for it, whether or not it can be answered. */
void orch_has_read(struct orch *s, const struct turn *t, size_t bytes);
/* The same of what anybody may look at; then s->body is the answer. */
bool orch_may_look(struct orch *s, struct turn *t);
void orch_show_body(struct orch *s, struct turn *t, enum msg_kind kind);
void orch_on_join(struct orch *s, struct turn *t, const struct public_key *transport);
void orch_on_hello(struct orch *s, struct turn *t);
void orch_on_roster_ask(struct orch *s, struct turn *t);
void orch_on_bundle_ask(struct orch *s, struct turn *t);
void orch_on_ledger_ask(struct orch *s, struct turn *t);
void orch_on_drain(struct orch *s, struct turn *t);
void orch_on_invite_ask(struct orch *s, struct turn *t);
void orch_put_roster(struct orch *s, struct turn *t); /* PUTs of what changed */

/* ---- orch_task.c ----------------------------------------------------------------------- */
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

/* ---- orch_units.c ---------------------------------------------------------------------- */
struct orch_unit *orch_unit_at(struct orch *s, uint64_t unit); /* made when new */
uint64_t orch_batch_size(const struct orch *s);
uint64_t orch_n_steps(const struct orch *s);
bool orch_is_arrival(const struct orch *s);
/* One past the last unit that may be leased or is of use now. */
uint64_t orch_unit_limit(const struct orch *s);
int64_t orch_unit_version(const struct orch *s, uint64_t unit);
/* FREE, whatever the ledger knows of it. */
enum ledger_unit_state orch_unit_state(const struct orch *s, uint64_t unit);
/* An attempt of this worker came to nothing. */
void orch_failed(struct orch *s, struct turn *t, uint32_t worker, enum reason code);
/* An attempt ended without pay; gives the unit up after the last try. */
void orch_void(struct orch *s, struct turn *t, uint64_t unit, enum reason code);
void orch_maybe_give_up(struct orch *s, struct turn *t, uint64_t unit, enum reason code);
void orch_on_lease_ask(struct orch *s, struct turn *t);
void orch_on_heartbeat(struct orch *s, struct turn *t);
void orch_on_submit(struct orch *s, struct turn *t);
void orch_expire(struct orch *s, struct turn *t);

/* ---- orch_proven.c --------------------------------------------------------------------- */
bool orch_is_proven(const struct orch *s, uint32_t node); /* audit_first units were accepted */
/* For one request: what a worker may still have of units that are capped for the unproven. */
struct orch_quota {
    bool is_capped; /* the asker is unproven, and others exist */
    uint64_t first, n,
        taken; /* of the units among which it counts; n = 0: none looked at yet */
};
void orch_quota_open(struct orch_quota *q, const struct orch *s, const struct turn *t);
bool orch_quota_allows(struct orch_quota *q, const struct orch *s, uint64_t unit);
void orch_quota_take(struct orch_quota *q); /* the unit that it allowed last */

/* ---- orch_checks.c --------------------------------------------------------------------- */
void orch_start_draw(struct orch *s, struct turn *t);
void orch_draw(struct orch *s, struct turn *t);
void orch_on_check_ask(struct orch *s, struct turn *t);
void orch_on_verdict(struct orch *s, struct turn *t);
void orch_look_after_checks(struct orch *s, struct turn *t);
void orch_judge(struct orch *s, struct turn *t, uint64_t unit);
/* Takes back everything unbatched of nodes that were barred. */
void orch_sweep_barred(struct orch *s, struct turn *t);

struct orch_check *orch_find_check(struct orch *s, uint64_t unit, uint32_t node);
/* Gives the unit to one more validator, for a full check. False: nobody is there. */
bool orch_ask_another(struct orch *s, struct turn *t, uint64_t unit);

/* Is this a verdict on a live check of this validator? REASON_NONE, or why not. */
enum reason orch_check_verdict(struct orch *s, const struct turn *t,
                               const struct msg_verdict *m);

/* ---- orch_light.c ---------------------------------------------------------------------- */
/* May this validator's light checks be handed out, or are more to be gathered first? */
bool orch_light_is_ripe(struct orch *s, const struct turn *t);
/* CHECKS: those of this validator that have not been sent, from `unit` on. */
void orch_send_light(struct orch *s, struct turn *t, const struct msg_check_ask *ask,
                     uint64_t unit);
void orch_on_verdicts(struct orch *s, struct turn *t);

/* ---- orch_seals.c ---------------------------------------------------------------------- */
void orch_on_verdict_seal(struct orch *s, struct turn *t);
/* Lets those that have sealed show their verdicts, if nobody is to be waited for. */
void orch_show(struct orch *s, struct turn *t, uint64_t unit);
/* Sealed, and not let to show yet: this check, or any of the unit's. */
bool orch_is_held(const struct orch *s, const struct turn *t, uint64_t unit,
                  const struct orch_check *c);
bool orch_has_held(const struct orch *s, const struct turn *t, uint64_t unit);
bool orch_is_rechecked(const struct orch *s, uint64_t unit);   /* drawn for two full checks */
uint32_t orch_count_full(const struct orch *s, uint64_t unit); /* verdicts */
void orch_judge_states(struct orch *s, struct turn *t, uint64_t unit);

/* ---- orch_openings.c ------------------------------------------------------------------- */
void orch_on_drawn_ask(struct orch *s, struct turn *t);
void orch_on_opening(struct orch *s, struct turn *t);
/* Is a full check of the unit to wait, for its worker may still open it? */
bool orch_awaits_opening(struct orch *s, const struct turn *t, uint64_t unit);
void orch_call_openers(struct orch *s, struct turn *t); /* answers those who wait for a draw */

/* ---- orch_canary.c --------------------------------------------------------------------- */
/* What the LEASE of this attempt seals: a function of the beacon's seed. */
void orch_salt(const struct orch *s, uint64_t unit, uint32_t attempt, struct digest *salt);
/* The same, of the unit's live or accepted attempt. */
struct digest orch_salt_shown(const struct orch *s, uint64_t unit);
struct ledger_salts orch_salts(struct orch *s);
bool orch_is_canary(const struct orch *s, uint64_t unit); /* the live attempt is one */
/* A canary was revealed, and its unit is not made again or not compared yet. */
bool orch_has_canary(const struct orch *s, uint64_t unit);
/* Puts the orders for the canaries among these leases into them; lent from s->orders. */
void orch_put_orders(struct orch *s, const struct turn *t, struct msg_lease *l);
/* Ends a judged canary attempt. */
void orch_reveal(struct orch *s, struct turn *t, uint64_t unit);
/* If the unit was a canary and is made again and accepted: says what that proves. */
void orch_judge_canary(struct orch *s, struct turn *t, uint64_t unit);
void orch_bar_struck(struct orch *s, struct turn *t); /* validators whose last strike it was */

/* ---- orch_round.c ---------------------------------------------------------------------- */
/* May what was committed be drawn now? If witnesses are wanted, opens a round and waits for them. */
bool orch_round_is_ready(struct orch *s, struct turn *t);
void orch_on_witness_ask(struct orch *s, struct turn *t);
void orch_on_witness(struct orch *s, struct turn *t);

/* ---- orch_dispute.c -------------------------------------------------------------------- */
void orch_on_audit_ask(struct orch *s, struct turn *t);
void orch_on_step_verdict(struct orch *s, struct turn *t);
void orch_on_dispute_ask(struct orch *s, struct turn *t);
void orch_on_dispute(struct orch *s, struct turn *t);
/* Gives versions out, watches deadlines, has games that are over judged. */
void orch_look_after_steps(struct orch *s, struct turn *t);
/* Somebody is at a version, or a dispute is open: the task is not closed yet. */
bool orch_has_open_steps(struct orch *s, struct turn *t);

/* ---- orch_train.c ---------------------------------------------------------------------- */
void orch_on_batch_ask(struct orch *s, struct turn *t);
void orch_on_publish(struct orch *s, struct turn *t);
void orch_on_abandon(struct orch *s, struct turn *t);

/* ---- orch_status.c --------------------------------------------------------------------- */
void orch_on_status_ask(struct orch *s, struct turn *t);

#endif
