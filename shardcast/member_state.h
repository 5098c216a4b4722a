/*
 * shardcast/member_state.h - the pure half of member.h
 *
 *   JOINING   JOIN is asked on the enrolment link until JOINED or a refusal comes
 *   GREETING  HELLO is asked on the control link; nothing is known of the run yet
 *   MEMBER    HELLO once a second; roster and bundle are fetched when WELCOME names newer ones
 *   REFUSED   for good: a spent or false invite, a revoked key, another run
 *
 * Every question goes through an rpc of its own, so lost messages and a restarted orchestrator
 * cost time only. What the caller has to act upon comes back as a set of events.
 */
#ifndef SHARDCAST_MEMBER_STATE_H
#define SHARDCAST_MEMBER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "proto/invite.h"
#include "proto/msg.h"
#include "proto/types.h"

struct member_state;

enum member_phase { MEMBER_JOINING, MEMBER_GREETING, MEMBER_MEMBER, MEMBER_REFUSED };

enum member_event {
    MEMBER_EVENT_JOINED =
        1, /* member_state_server() is known: keep it, open the control link */
    MEMBER_EVENT_WELCOME = 2,
    MEMBER_EVENT_ROSTER = 4,
    MEMBER_EVENT_BUNDLE = 8,
    MEMBER_EVENT_DONE = 16,    /* once */
    MEMBER_EVENT_REFUSED = 32, /* once */
};

/* The classes that every CPU computes (docs/numerics.md). */
#define MEMBER_NUMERICS "f32-1,bf16-1"

struct member_state_options {
    const struct node_key *key; /* borrowed */
    enum role role;
    const char *numerics; /* borrowed; NULL: MEMBER_NUMERICS */
    bool wants_bundle;
    uint64_t boot; /* as rpc_new */
};

void member_state_new(struct member_state **out, const struct member_state_options *opt);
void member_state_free(struct member_state **s);

/* ---- how it begins ----------------------------------------------------------------------- */

/* Not admitted yet: `peer` is the enrolment link. ERR_INVALID: the certificate cannot be made. */
MUST_USE enum status member_state_join(struct member_state *s, const struct invite *v,
                                       uint64_t peer, struct err *e);
/* Admitted, now or in an earlier life: `peer` is the control link, `server` the orchestrator's
 * node key. */
void member_state_greet(struct member_state *s, const struct digest *run,
                        const struct public_key *server, uint64_t peer);
/* A bundle from disk; ignored unless its digest is `task`. */
void member_state_restore_bundle(struct member_state *s, struct bytes bundle);

/* ---- inputs ------------------------------------------------------------------------------ */

/* What HELLO reports. A change makes the next tick say it at once. */
void member_state_report(struct member_state *s, const char *endpoint, int64_t newest_version);
/* False: no part of this conversation. *events is a set of enum member_event. */
bool member_state_message(struct member_state *s, uint64_t peer, struct bytes frame,
                          int64_t now_ms, struct effects *out, unsigned *events);
void member_state_tick(struct member_state *s, int64_t now_ms, struct effects *out);
/* The orchestrator's roster number and end of run, from BEAT or WAIT. */
void member_state_note(struct member_state *s, uint64_t roster_seq, bool is_done,
                       int64_t now_ms, struct effects *out, unsigned *events);

/* ---- what is known ----------------------------------------------------------------------- */

enum member_phase member_state_phase(const struct member_state *s);
const struct digest *member_state_run(const struct member_state *s);
const struct public_key *member_state_server(const struct member_state *s); /* NULL: unknown */
const struct msg_welcome *
member_state_welcome(const struct member_state *s);                         /* NULL: none yet */
const struct msg_roster *member_state_roster(const struct member_state *s); /* NULL: none yet */
const struct digest *member_state_task(const struct member_state *s); /* of the bundle; zero */
struct bytes member_state_bundle(const struct member_state *s);
bool member_state_is_done(const struct member_state *s);
int64_t member_state_answered_ms(const struct member_state *s); /* the last answer; -1: never */
/* Why REFUSED, as an error. */
MUST_USE enum status member_state_failure(const struct member_state *s, struct err *e);

#endif
