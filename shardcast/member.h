/*
 * shardcast/member.h - an admitted node's standing conversation with the orchestrator
 *
 * What relay, trainer, inference worker and verifier have in common: join by an invite link if
 * not admitted yet, then HELLO every second (and at once when the endpoint or the newest version
 * changes), refetch the roster when its number grows, fetch the task's bundle, notice that the
 * run is over. It feeds shardcast (run, trainer, roster, head) and the shell (admitted keys).
 *
 * A role keeps its own part, its own rpc and its own questions; the control link belongs to the
 * role's part, and the role lends member the messages and the timer:
 *
 *     part = shell_add_part(shell, &role_ops, db, max);
 *     member_new(&member, shell, part, cast, key, dir, &options);
 *     on_message(m, now, out):  if (!member_message(member, m, now, out)) ... the role's own ...
 *     on_timer(now, out):       member_tick(member, now, out); ... the role's own ...
 *     rpc_set_peer(role_rpc, member_peer(member)), rpc_set_run(role_rpc, member_run(member))
 *                               in on_welcome, which comes before anything can be asked.
 *
 * On disk:  DIR/membership (who admitted us: run, orchestrator's keys and endpoint), written when
 *           JOINED arrives; DIR/bundle (the task's bundle, checked against the task id).
 * Threads:  the shell's.
 */
#ifndef SHARDCAST_MEMBER_H
#define SHARDCAST_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "node/shell.h"
#include "proto/msg.h"
#include "proto/types.h"
#include "shardcast/cast.h"

struct member;

/* Any callback may be NULL. `out` is the role's own list: it may send and start in them. */
struct member_options {
    enum role role;
    const char *link;     /* invite link; NULL or "": DIR/membership must be there */
    const char *numerics; /* classes it computes, reported in HELLO; NULL: all that a CPU can */
    bool wants_bundle;
    void *ctx;
    /* Each WELCOME (about one a second). */
    void (*on_welcome)(void *ctx, const struct msg_welcome *w, int64_t now_ms,
                       struct effects *out);
    /* A new roster; shardcast and the shell know it already. */
    void (*on_roster)(void *ctx, const struct msg_roster *r, int64_t now_ms,
                      struct effects *out);
    /* The open task's bundle is here, its digest checked. Once a task, also after a restart. */
    void (*on_bundle)(void *ctx, const struct digest *task, struct bytes bundle, int64_t now_ms,
                      struct effects *out);
    /* The run is over. Once. A role that has nothing left to do calls shell_stop. */
    void (*on_done)(void *ctx, int64_t now_ms, struct effects *out);
};

/* Where a directory's node belongs: what DIR/membership keeps. */
struct member_home {
    struct digest run;
    struct public_key transport, node; /* the orchestrator's */
    char control[MSG_TEXT_BYTES];      /* its control socket */
    enum role role;                    /* ours */
};
/* ERR_NOT_FOUND: this directory was never admitted anywhere. ERR_CORRUPT, ERR_IO. */
MUST_USE enum status member_home_load(struct member_home *out, const char *dir, struct err *e);

/* Loads the keys of DIR/keys, which are made if there are none. */
MUST_USE enum status member_keys(struct node_key **out, const char *dir, struct err *e);

/* Connects (enrolment or control socket) and says nothing yet: the first member_tick does. `cast`
 * may be NULL (an initiator serves no shards). All pointers are borrowed until member_free.
 * ERR_NOT_FOUND: neither link nor membership. ERR_INVALID: the link is for another role, or for
 * another run than the one this directory is a member of. */
MUST_USE enum status member_new(struct member **out, struct shell *s, struct shell_part *p,
                                struct cast *cast, const struct node_key *key, const char *dir,
                                const struct member_options *opt, struct err *e);
void member_free(struct member **m);

/* True: it was part of this conversation and is dealt with. False: the role's own, decode it. */
bool member_message(struct member *m, const struct shell_message *msg, int64_t now_ms,
                    struct effects *out);
void member_tick(struct member *m, int64_t now_ms, struct effects *out);

/* ---- what is known ----------------------------------------------------------------------- */

bool member_is_admitted(const struct member *m); /* JOINED, now or in an earlier life */
uint64_t member_peer(const struct member *m);    /* the control link; 0 before admission */
const struct digest *member_run(const struct member *m);
const struct msg_welcome *member_welcome(const struct member *m); /* the last; NULL: none yet */
const struct msg_roster *member_roster(const struct member *m);   /* the last; NULL: none yet */
const struct roster_entry *member_find(const struct member *m, const struct public_key *node);
struct bytes
member_bundle(const struct member *m); /* empty: not here; lent until the next task */
const struct digest *member_task(const struct member *m); /* of the bundle; zero: none */
bool member_is_done(const struct member *m);
/* The orchestrator's node key, which signs ROSTER and RECEIPT; NULL before admission. */
const struct public_key *member_server(const struct member *m);

/* What BEAT and WAIT say travels here too: asks for the roster or hints shardcast if needed. */
void member_note(struct member *m, int64_t head_version, uint64_t roster_seq, bool is_done,
                 int64_t now_ms, struct effects *out);

/* Set when the orchestrator refused us for good (bad invite, revoked key), or that it admitted us cannot be
 * kept (ERR_FULL, ERR_IO): the shell was stopped and the run file returns this. OK otherwise. */
MUST_USE enum status member_failure(const struct member *m, struct err *e);

#endif
