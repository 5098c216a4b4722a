/*
 * proto/types.h - the small fixed-size things that every message is made of
 */
#ifndef PROTO_TYPES_H
#define PROTO_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define DIGEST_BYTES    32u
#define KEY_BYTES       32u
#define SIGNATURE_BYTES 64u
#define SHARD_BYTES     1048576u /* the largest shard */

struct digest {
    uint8_t b[DIGEST_BYTES]; /* BLAKE2b-256 */
};
struct public_key {
    uint8_t b[KEY_BYTES];
};
/* Lives in locked memory (node/key.h); never on the stack of anything that may be swapped. */
struct secret_key {
    uint8_t b[64]; /* Ed25519: seed and public half, as libsodium keeps it */
};
struct signature {
    uint8_t b[SIGNATURE_BYTES];
};
struct idem {
    uint8_t b[16]; /* unique per request of a signer; a repeat gets the first answer */
};

bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_zero(const struct digest *a);
bool key_equal(const struct public_key *a, const struct public_key *b);
bool key_is_zero(const struct public_key *a);
bool idem_equal(const struct idem *a, const struct idem *b);

/* What is announced, asked for, stored and served: one file, cut into shards by index. */
enum content_kind {
    CONTENT_FULL = 1,  /* the weights of `version`; base -1 */
    CONTENT_DELTA = 2, /* what makes the weights of `version` out of those of `base` */
    CONTENT_STATE = 3, /* the optimizer's state after `version`; base -1 */
};
struct content {
    int64_t version;
    uint32_t kind; /* enum content_kind */
    int64_t base;
};
bool content_equal(const struct content *a, const struct content *b);

enum role {
    ROLE_NONE,
    ROLE_ORCHESTRATOR,
    ROLE_TRAINER,
    ROLE_INFERENCE,
    ROLE_VERIFIER,
    ROLE_RELAY,
    ROLE_INITIATOR, /* publishes and closes tasks */
    ROLE_COUNT
};
const char *role_name(enum role r);     /* "inference" */
enum role role_parse(const char *name); /* ROLE_NONE if unknown */

enum finish {
    FINISH_END = 1,    /* an end token was sampled (it is the last token) */
    FINISH_LENGTH = 2, /* max_new_tokens reached */
    FINISH_ENV = 3,    /* the environment ended the episode */
};

enum check_depth {
    CHECK_LIGHT = 1, /* schema, bounds, prompt, seeds, reward */
    CHECK_FULL = 2,  /* and one prefill: tokens, log-probabilities, TOPLOC */
};

enum status_view {
    STATUS_SUMMARY = 1,
    STATUS_NODES,
    STATUS_EXPLAIN,
    STATUS_TASK,
    STATUS_SHARDS,
    STATUS_VERSIONS, /* figures of each, from a number on */
};

/* Why something was refused, rejected or has to wait. X(name, is_hard, text): a hard reason is
 * fraud that any third party can replay, and costs stake; others cost the unit at most. */
#define REASON_MAP(X)                                                                          \
    X(NONE, false, "none")                                                                     \
    X(MALFORMED, false, "message does not decode")                                             \
    X(SIGNATURE, false, "signature does not verify")                                           \
    X(UNKNOWN_NODE, false, "key is not in the roster")                                         \
    X(REVOKED, false, "key was revoked")                                                       \
    X(WRONG_ROLE, false, "role may not do this")                                               \
    X(WRONG_RUN, false, "another run")                                                         \
    X(NO_TASK, false, "no task is open")                                                       \
    X(NO_WORK, false, "no unit is waiting")                                                    \
    X(NO_VERSION, false, "the needed weight version is not published yet")                     \
    X(WANT_VERSION, false, "fetch the newer weights first")                                    \
    X(NO_STAKE, false, "stake is below what the task requires")                                \
    X(NO_ESCROW, false, "the task's escrow is spent")                                          \
    X(NO_LEASE, false, "no live lease for this unit")                                          \
    X(EXPIRED, false, "lease expired")                                                         \
    X(STALE, false, "weights too stale for admission")                                         \
    X(DUPLICATE, false, "submitted already")                                                   \
    X(BOUNDS, false, "sizes or counts out of bounds")                                          \
    X(NUMERICS, false, "numerics class not accepted by the task")                              \
    X(ROOT, false, "Merkle root does not match the content")                                   \
    X(PROMPT, true, "prompt is not the assigned one")                                          \
    X(REWARD, true, "reward is not what the environment gives")                                \
    X(TOKEN, true, "token is not what the assigned seed samples")                              \
    X(LOGPROB, true, "log-probability differs")                                                \
    X(FINISH, true, "episode ends where it should not")                                        \
    X(MARGIN, false, "tokens are too far from what the assigned seed samples")                 \
    X(LIKELIHOOD, false, "log-probabilities are too far off")                                  \
    X(STATES, false, "TOPLOC proof is malformed or outside the thresholds")                    \
    X(COPIED, false, "tokens that another sample had before")                                  \
    X(DRIFT, false, "units unlike those of other workers")                                     \
    X(OUTLIER, false, "a unit unlike the others")                                              \
    X(UNOPENED, false, "drawn, and not opened in time")                                        \
    X(WEIGHTS, true, "submission names other weights than its version")                        \
    X(NOT_FINITE, false, "a number is not finite")                                             \
    X(BATCH_PENDING, false, "the batch is not complete yet")                                   \
    X(EQUIVOCATION, true, "two contents for one version")                                      \
    X(FALSE_VERDICT, false, "verdicts that others' work contradicts")                          \
    X(OUT_OF_ORDER, false, "not the next version")                                             \
    X(DRAINING, false, "node is draining")                                                     \
    X(DONE, false, "the run is over")                                                          \
    X(INVITE, false, "invite unknown, used or expired")                                        \
    X(BUSY, false, "too many requests")                                                        \
    X(DISK_FULL, false, "disk is full")                                                        \
    X(UNSUPPORTED, false, "protocol version or feature not supported")                         \
    X(INTERNAL, false, "internal failure, see the log")

#define REASON_MEMBER(name, is_hard, text) REASON_##name,
enum reason { REASON_MAP(REASON_MEMBER) REASON_COUNT };
#undef REASON_MEMBER
const char *reason_text(enum reason r);
const char *reason_name(enum reason r); /* "TOKEN" */
bool reason_is_hard(enum reason r);
/* Found by a tolerance, in an open class: an opinion, however sure. */
bool reason_is_opinion(enum reason r);

#endif
