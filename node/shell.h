/*
 * node/shell.h - the loop that runs state machines: sockets, jobs, timers, disk
 *
 * A process has one shell and one or two parts (a role, and shardcast beside it). A part is a
 * pure state machine behind four callbacks; the shell feeds it messages, finished jobs and
 * timers, collects its effects (base/effect.h) and carries them out: every PUT and DEL of one
 * round of the loop in one transaction, then the SENDs. Nothing spins: the loop sleeps in
 * zmq_poll until a message, a finished job or the earliest timer.
 *
 * Sockets:  CURVE on all. shell_bind opens a ROUTER whose clients are admitted by a ZAP handler
 *           from the keys given to shell_admit; shell_connect opens a DEALER to one server.
 *           ZMQ_MAXMSGSIZE is set, so a frame that announces 2^31 bytes ends its connection.
 * Peers:    a 64-bit number the shell makes up for each (link, routing id); it is forgotten some
 *           time after the peer went silent, and a SEND to it is then dropped, as is one to a
 *           peer whose queue is full: requests are retried by whoever asked.
 * Threads:  everything but run_job is called on the thread that runs shell_run. run_job runs on
 *           the shell's one job thread, jobs of all parts in the order they were started.
 *           Sending to a server that is away keeps the message (64 of them, 128 MiB) until it
 *           is back; a second copy of one that waits is not kept, so retries do not pile up.
 * Pace:     on a paced link at most SHELL_AHEAD messages lie in a socket for one peer, so that who
 *           sends much can decide late what goes next (shell_try_send). What SEND has for a peer that
 *           has no room waits in the shell, up to SHELL_WAITING_MAX messages a link.
 * Failure:  a transaction that fails ends shell_run with its error (ERR_FULL: disk full); all
 *           that had been acknowledged is on disk.
 */
#ifndef NODE_SHELL_H
#define NODE_SHELL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/db.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "proto/types.h"

#define SHELL_AHEAD       2
#define SHELL_WAITING_MAX 1024u

struct shell;
struct shell_part;

struct shell_message {
    uint64_t peer;               /* answer to this */
    uint32_t link;               /* which bind or connect it came in by */
    struct public_key transport; /* authenticated CURVE key of the sender (ROUTER links); the
                                   * server's key on a DEALER link */
    struct bytes data;           /* one frame, lent for the call */
};

struct shell_part_ops {
    void *ctx; /* passed to each */
    void (*on_message)(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out);
    void (*on_job)(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out);
    /* Called once at the start of shell_run, at each timer asked for, and after shell_wake. */
    void (*on_timer)(void *ctx, int64_t now_ms, struct effects *out);
    /* On the job thread: args in, result out. May be NULL if the part starts no jobs. */
    enum status (*run_job)(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e);
};

/* `key` is borrowed until shell_free: its transport half is this process' CURVE identity. */
MUST_USE enum status shell_new(struct shell **out, const struct node_key *key, struct err *e);
/* Waits for a job that is running; those still waiting are dropped. */
void shell_free(struct shell **out);

/* `db` (may be NULL if the part never PUTs) is borrowed; parts may share one. Job results are at
 * most `max_job_result` bytes. */
struct shell_part *shell_add_part(struct shell *s, const struct shell_part_ops *ops,
                                  struct db *db, size_t max_job_result);

/* Listens on `endpoint` ("tcp://127.0.0.1:*" picks a port). *bound (256 bytes) gets the real
 * endpoint. `open_to_all`: the enrolment socket, which admits any key, frames of at most
 * `max_frame` bytes, and at most 20 messages a second from all strangers together. */
MUST_USE enum status shell_bind(struct shell *s, struct shell_part *p, const char *endpoint,
                                bool open_to_all, size_t max_frame, uint32_t *link,
                                char bound[256], struct err *e);
/* Connects to a server of known key at "tcp://HOST:PORT" (ERR_INVALID: it is none). `peer` is what
 * SEND names. Reconnects by itself. */
MUST_USE enum status shell_connect(struct shell *s, struct shell_part *p, const char *endpoint,
                                   const struct public_key *server, size_t max_frame,
                                   uint64_t *peer, struct err *e);
void shell_disconnect(struct shell *s, uint64_t peer);
/* The same two, paced. */
MUST_USE enum status shell_bind_paced(struct shell *s, struct shell_part *p,
                                      const char *endpoint, size_t max_frame, uint32_t *link,
                                      char bound[256], struct err *e);
MUST_USE enum status shell_connect_paced(struct shell *s, struct shell_part *p,
                                         const char *endpoint, const struct public_key *server,
                                         size_t max_frame, uint64_t *peer, struct err *e);
/* Sends at once what no PUT need precede, from any callback. On OK the bytes have been taken over
 * and *message is empty. ERR_FULL: there is no room for this peer now, or it is away; try again
 * some milliseconds later. ERR_NOT_FOUND: there is no such peer any more; *message
 * may be empty then. */
MUST_USE enum status shell_try_send(struct shell *s, uint64_t peer, struct buf *message);

/* The keys that CURVE servers of this process admit (all binds that are not open_to_all):
 * replaces the whole set. */
void shell_admit(struct shell *s, const struct public_key *transport, size_t n);

struct shell_stats {
    uint64_t received, sent;
    uint64_t refused; /* handshakes of unknown keys, and messages of keys no longer admitted */
    uint64_t dropped; /* messages not sent (peer gone or full) or not taken (shape, rate) */
    uint64_t cut;     /* connections that held too much (node/guard.h) */
};
/* From any thread. */
void shell_get_stats(struct shell *s, struct shell_stats *out);

/* Makes the part's on_timer run in the next round. The two calls below are safe from any
 * callback, run_job included; shell_stop also from a signal handler. */
void shell_wake(struct shell_part *p);
void shell_stop(struct shell *s);

/* Runs until shell_stop (OK) or a failure. SIGINT and SIGTERM call shell_stop, and then what the
 * process had installed for them (with sa_handler), which is so again afterwards. */
MUST_USE enum status shell_run(struct shell *s, struct err *e);

#endif
