/*
 * inference/infer_state.h - what an inference worker does next: the pure machine
 *
 * One job at a time: ask for units, generate them together, submit each, ask again. Submissions
 * are kept until their receipt (node/rpc.h); nothing but openings is on disk, for whatever is lost with
 * the process is generated again, bit for bit, by whoever gets the unit next.
 *
 *   IDLE -- LEASE_ASK --> ASKING -- LEASE --> WORKING -- job done --> IDLE, SUBMITs open
 *                           '------ WAIT ---> IDLE until retry_ms
 *
 * In open classes it also waits, at work or not, for units that it is to open (DRAWN_ASK): the run file
 * reads each opening from its store and gives it to infer_open, which keeps it until its receipt.
 * While it works it sends HEARTBEATs with its progress, which renew the leases; leases that the
 * answer no longer lists are not submitted.
 *
 * Threads: one.
 */
#ifndef INFERENCE_INFER_STATE_H
#define INFERENCE_INFER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "node/rpc.h"
#include "proto/msg.h"

/* The one job. Its arguments and its result, little-endian:
 *   args    i64 version, u32 n, then n times u64 unit, u64 lease, u32 length, CANARY_ORDER envelope
 *           (empty: none; else the submission is altered as proto/canary.h says)
 *   result  u32 n, then n times u64 unit, u64 lease, u64 tokens, u32 length, encoded msg_submit */
#define INFER_JOB_GENERATE 1u

struct infer;

struct infer_options {
    const struct node_key *key; /* borrowed */
    uint64_t boot;              /* differs between lives of the process */
    uint32_t units;             /* asked for at a time, 1..MSG_MAX_LEASES */
};

/* For people and for tests. */
struct infer_counts {
    uint64_t units_made, submitted, accepted, refused, dropped, tokens, opened;
};

void infer_new(struct infer **out, const struct infer_options *opt);
void infer_free(struct infer **s);

/* The orchestrator answered: it is `peer` of the shell, and this is its run. */
void infer_welcome(struct infer *s, uint64_t peer, const struct digest *run);
/* Units can be asked for from now on: the bundle is here. */
void infer_ready(struct infer *s);
/* Which weight versions are here; -1: none. A newer one ends a wait for it. */
void infer_versions(struct infer *s, int64_t oldest, int64_t newest);
/* How far the running job is with a unit. */
void infer_progress(struct infer *s, uint64_t unit, uint64_t tokens);

/* An envelope from the orchestrator that is not part of membership. Rubbish is ignored. */
void infer_message(struct infer *s, struct bytes data, int64_t now_ms, struct run_news *news,
                   struct effects *out);
/* The job with this number ended. On failure its leases are left to expire; infer_why says it. */
void infer_job(struct infer *s, uint64_t number, enum status st, struct bytes result,
               const struct err *e, int64_t now_ms, struct effects *out);
/* Submissions of this run have openings. `last`: the newest lease with one in the store; 0: none. */
void infer_opens(struct infer *s, uint64_t last);
/* The next unit that it was asked to open. False: none. */
bool infer_to_open(struct infer *s, struct attempt *item);
/* Its opening: an encoded msg_opening; empty: there is none, and it will be asked for again. */
void infer_open(struct infer *s, const struct attempt *item, struct bytes opening,
                int64_t now_ms, struct effects *out);
/* Attempts under leases below this are over: their openings can be dropped. It grows. */
uint64_t infer_settled(const struct infer *s);
void infer_tick(struct infer *s, int64_t now_ms, struct effects *out);
/* No more units are asked for. */
void infer_stop(struct infer *s);

/* No job runs, no submission or opening waits for its receipt. */
bool infer_is_idle(const struct infer *s);
bool infer_has_closed(const struct infer *s); /* it may yet be asked for an opening */
bool infer_is_drained(const struct infer *s); /* the orchestrator said that we are draining */
const struct infer_counts *infer_counts(const struct infer *s);
/* Why nothing happens, for the log: "" while working. Lent until the next call. */
const char *infer_why(const struct infer *s);

#endif
