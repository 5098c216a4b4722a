/*
 * verifier/verify_state.h - what a validator does next: the pure machine
 *
 * Asks for a submission to check, judges it in a job, signs and sends the verdict, asks again;
 * while a check runs, the next is already asked for. A check that cannot be made (its weights are
 * not here yet, the environment ran out of time) gives no verdict: the orchestrator hands it on
 * at its deadline. Where the check names a draw the verdict is sealed first (VERDICT_SEAL) and shown
 * when the seal is answered.
 *
 * Threads: one.
 */
#ifndef VERIFIER_VERIFY_STATE_H
#define VERIFIER_VERIFY_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/effect.h"
#include "base/status.h"
#include "node/key.h"
#include "node/rpc.h"
#include "proto/msg.h"

/* A full or a single check: args are an encoded msg_check, the result an encoded msg_verdict. ERR_NOT_FOUND:
 * the weights are not here yet; it is started again when a version arrives. */
#define VERIFY_JOB_CHECK 1u
/* The same of an encoded msg_checks; the result is u32 n, then n blobs, each an encoded msg_verdict of a
 * light check; those without a verdict are not in it. */
#define VERIFY_JOB_LIGHT 2u

struct verify;

struct verify_options {
    const struct node_key *key; /* borrowed */
    uint64_t boot;              /* differs between lives of the process */
};

struct verify_counts {
    uint64_t checked, full, rejected, receipts;
};

void verify_new(struct verify **out, const struct verify_options *opt);
void verify_free(struct verify **s);

/* The orchestrator answered: it is `peer` of the shell, and this is its run. */
void verify_welcome(struct verify *s, uint64_t peer, const struct digest *run);
void verify_ready(struct verify *s); /* the bundle is here */
/* The task wants its validators as witnesses of draws (proto/witness.h). `have`: the last head this
 * node was called for, in an earlier life; 0: none. */
void verify_witness(struct verify *s, uint64_t have);
/* Which weight versions are here; -1: none. A check that waited for one is started. */
void verify_versions(struct verify *s, int64_t oldest, int64_t newest, int64_t now_ms,
                     struct effects *out);
/* An envelope from the orchestrator that is not part of membership. Rubbish is ignored. A
 * WITNESS_CALL must have been filed before (verifier/head_file.h): it is answered. */
void verify_message(struct verify *s, struct bytes data, int64_t now_ms, struct run_news *news,
                    struct effects *out);
/* The job with this number ended. On failure there is no verdict; verify_why says it. */
void verify_job(struct verify *s, uint64_t number, enum status st, struct bytes result,
                const struct err *e, int64_t now_ms, struct effects *out);
void verify_tick(struct verify *s, int64_t now_ms, struct effects *out);
void verify_stop(struct verify *s); /* no more checks are asked for */

bool verify_is_idle(
    const struct verify *s); /* nothing runs, no verdict waits for its receipt */
bool verify_is_drained(const struct verify *s);
const struct verify_counts *verify_counts(const struct verify *s);
const char *verify_why(const struct verify *s); /* why nothing happens; lent */

#endif
