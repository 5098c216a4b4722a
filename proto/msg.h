/*
 * proto/msg.h - every message that travels, as plain C
 *
 * The wire format is protobuf (proto/muster.proto, compiled by nanopb; docs/protocol.md). This
 * header is what the rest of the program sees: one struct a message, msg_<name>_encode and
 * msg_<name>_decode.
 *
 * Decoding copies nothing large: `struct bytes` fields are lent from the input and live as long
 * as it does. Counts, lengths and ranges are checked while decoding, against the constants below;
 * what does not fit is ERR_MALFORMED and names the field. Unknown fields are refused: two
 * different byte strings must not mean the same message.
 *
 * Every message travels inside an envelope. The bytes of the body, as received, are what the
 * signature covers and what is hashed: nothing is re-encoded to be checked.
 */
#ifndef PROTO_MSG_H
#define PROTO_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/types.h"

#define MSG_PROTOCOL    1u          /* version of the wire; others are refused with a reason */
#define MSG_MAX_BYTES   (64u << 20) /* of one envelope */
#define MSG_JOIN_MAX    1024u       /* on the enrolment socket */
#define MSG_MAX_SAMPLES 64u         /* in a unit's group */
#define MSG_MAX_TOKENS  65536u      /* in one sample */
#define MSG_MAX_LEASES  32u
#define MSG_MAX_CHECKS  32u   /* light ones in a CHECKS */
#define MSG_MAX_ORDER   1024u /* bytes of a CANARY_ORDER envelope */
#define MSG_MAX_ROSTER  4096u
#define MSG_MAX_SHARDS  262144u /* of a content */
#define MSG_MAX_LEAVES  64u     /* in a segment */
#define MSG_MAX_INDICES 64u     /* of shards in a HAVE_NEWS or CANCEL; a SHARD_ASK: */
#define MSG_MAX_ASKED   16u
#define MSG_MAX_OFFERS  64u   /* contents in a HEAD */
#define MSG_MAX_OPENED  7u    /* validators whose states a VERDICT opens */
#define MSG_MAX_UNITS   4096u /* in a batch */
#define MSG_MAX_PROOF                                                                          \
    (SHARD_BYTES + (64u << 10)) /* in a STEP_VERDICT: a shard, a tile, their ways up */
#define MSG_TEXT_BYTES 256u     /* a reason or an endpoint, NUL included */

/* X(kind, number, signed). A signed kind is refused without a valid signature. Each kind's
 * signature has its own prefix, "muster/1/<KIND>" and a NUL. */
// clang-format off
#define MSG_KIND_MAP(X)                                                                        \
    X(JOIN, 1, true) X(JOINED, 2, true) X(REFUSED, 3, false)                                   \
    X(HELLO, 4, false) X(WELCOME, 5, false) X(BUNDLE_ASK, 6, false) X(BUNDLE, 7, false)        \
    X(ROSTER_ASK, 8, false) X(ROSTER, 9, true) X(LEASE_ASK, 10, false) X(LEASE, 11, false)     \
    X(WAIT, 12, false) X(HEARTBEAT, 13, false) X(BEAT, 14, false) X(SUBMIT, 15, true)          \
    X(RECEIPT, 16, true) X(CHECK_ASK, 17, false) X(CHECK, 18, false) X(VERDICT, 19, true)      \
    X(BATCH_ASK, 20, false) X(BATCH, 21, false) X(PUBLISH, 22, true) X(STATUS_ASK, 23, false)  \
    X(STATUS, 24, false) X(DRAIN, 25, true) X(TASK_PUBLISH, 26, true) X(TASK_CLOSE, 27, true)  \
    X(LEDGER_ASK, 28, false) X(LEDGER, 29, false) X(INVITE_ASK, 30, true) X(INVITE, 31, false) \
    X(ABANDON, 32, true) X(OPENING, 33, true) X(DRAWN_ASK, 34, false) X(DRAWN, 35, false)      \
    X(CHECKS, 36, false) X(VERDICTS, 37, true)                                                \
    X(DISPUTE, 70, true) X(AUDIT_ASK, 85, false) X(AUDIT, 86, false)                           \
    X(STEP_VERDICT, 87, true) X(DISPUTE_ASK, 88, false) X(DISPUTE_STATE, 89, false)            \
    X(CANARY_ORDER, 80, true)                                                                  \
    X(HEAD, 40, true) X(SEGMENT, 41, true) X(HEAD_ASK, 42, false) X(MANIFEST_ASK, 43, false)   \
    X(SEGMENT_ASK, 44, false) X(HAVE_ASK, 45, false) X(HAVE, 46, false)                        \
    X(HAVE_NEWS, 47, false) X(SHARD_ASK, 48, false) X(SHARD, 49, false) X(CANCEL, 50, false)   \
    X(CHOKE, 51, false) X(PROOF, 52, false)                                                    \
    X(NEIGHBOUR, 61, false) X(NEIGHBOUR_REPLY, 62, false) X(LEAVE, 66, false)                  \
    X(PING, 67, false) X(PONG, 68, false) X(PING_ASK, 69, false)                               \
    X(WITNESS_ASK, 81, false) X(WITNESS_CALL, 82, true) X(WITNESS, 83, true)                   \
    X(VERDICT_SEAL, 84, true)
// clang-format on

#define MSG_KIND_MEMBER(name, number, is_signed) MSG_##name = number,
enum msg_kind { MSG_KIND_MAP(MSG_KIND_MEMBER) };
#undef MSG_KIND_MEMBER

const char *msg_kind_name(enum msg_kind kind); /* "SUBMIT"; NULL if unknown */
bool msg_kind_is_signed(enum msg_kind kind);

/* ---- the envelope ------------------------------------------------------------------------ */

struct msg_envelope {
    enum msg_kind kind;
    struct digest run;        /* all zero before a run is known (JOIN, HELLO of a fresh node) */
    struct public_key signer; /* node (or owner) key; all zero when unsigned */
    struct idem idem;         /* an answer repeats the idem of its request */
    struct bytes body;        /* lent */
    struct signature sig;
    struct bytes raw; /* decode: the whole envelope, lent; what evidence stores */
};

/* Checks protocol version, known kind, presence of what the kind needs. Not the signature.
 * ERR_UNSUPPORTED: another protocol version; m->idem is then the sender's if it stands where ours
 * does, so that a REFUSED can be addressed to it, and zero otherwise. */
MUST_USE enum status msg_envelope_decode(struct msg_envelope *m, struct bytes in,
                                         struct err *e);
/* Appends the envelope to `out`. `secret` signs it if the kind is a signed one, else NULL. */
MUST_USE enum status msg_envelope_encode(struct buf *out, enum msg_kind kind,
                                         const struct digest *run, const struct idem *idem,
                                         struct bytes body, const struct secret_key *secret,
                                         struct err *e);
/* ERR_DIGEST unless the signature is m->signer's over (kind, run, signer, idem, body). */
MUST_USE enum status msg_envelope_verify(const struct msg_envelope *m, struct err *e);

/* ---- enrolment --------------------------------------------------------------------------- */

struct msg_join {
    struct public_key transport; /* Curve25519 */
    struct public_key node;      /* Ed25519, also the envelope's signer */
    struct public_key owner;     /* Ed25519, receives the pay */
    struct signature owner_sig;  /* over "muster/1/cert\0" || node || transport || role (u8) */
    uint32_t role;               /* enum role */
    uint8_t invite[16];
    struct digest
        mac; /* BLAKE2b-256 keyed by the invite's secret, of the five keys' fields above */
};
struct msg_joined {
    struct public_key node, transport, owner;
    uint32_t role;
    uint64_t roster_seq;
};
struct msg_refused {
    uint32_t code; /* enum reason */
    char text[MSG_TEXT_BYTES];
};

/* ---- greetings --------------------------------------------------------------------------- */

struct msg_hello {
    uint32_t role;
    char endpoint[MSG_TEXT_BYTES]; /* where this node serves shards, "" if it does not */
    char numerics[32];             /* "f32-1" */
    int64_t newest_version;        /* -1: none yet */
};
struct msg_welcome {
    struct digest run;
    struct digest task; /* all zero: no task is open */
    uint64_t roster_seq;
    int64_t head_version; /* -1: none yet */
    uint64_t steps_total;
    bool is_done;
    struct public_key trainer; /* whose manifests count; all zero: none admitted yet */
};
struct msg_bundle_ask {
    struct digest task;
};
struct msg_bundle {
    struct bytes data;
};
struct msg_roster_ask {
    uint64_t since;
};
struct roster_entry {
    struct public_key node, transport, owner;
    uint32_t role;
    bool is_revoked;
    char endpoint[128];
};
struct msg_roster {
    uint64_t seq;
    uint32_t n;
    struct roster_entry entry[MSG_MAX_ROSTER];
};

/* ---- work -------------------------------------------------------------------------------- */

struct msg_lease_ask {
    int64_t
        newest_version; /* the worker has this one, and wants units for it or older it kept */
    int64_t oldest_version;
    uint32_t max; /* units wanted, 1..MSG_MAX_LEASES */
};
struct lease_item {
    uint64_t unit;
    int64_t version;
    uint64_t lease;       /* ledger sequence of the LEASE entry */
    uint32_t deadline_ms; /* from now: the lease expires unless renewed */
    uint32_t hard_ms;     /* from now: it expires then, renewed or not */
    struct bytes order;   /* a CANARY_ORDER envelope, or empty */
};
/* Signed: the worker shall alter its submission (proto/canary.h), is paid for it as for any other
 * and keeps this, for with it no third party takes it for a cheat. */
struct msg_canary_order {
    uint64_t unit, lease;
    uint32_t attempt;
    struct digest salt; /* whose seal is in the LEASE entry */
};
struct msg_lease {
    uint32_t n;
    struct lease_item item[MSG_MAX_LEASES];
};
struct msg_wait {
    uint32_t code; /* enum reason: why */
    char text[MSG_TEXT_BYTES];
    uint32_t retry_ms;
    int64_t head_version;
    uint64_t roster_seq;
    bool is_done; /* the run is over */
};
struct progress_item {
    uint64_t unit;
    uint64_t lease;
    uint64_t tokens; /* made so far; a lease is renewed only when this grows */
};
struct msg_heartbeat {
    uint32_t n;
    struct progress_item item[MSG_MAX_LEASES];
};
struct msg_beat {
    int64_t head_version;
    uint64_t roster_seq;
    bool is_done;
    uint32_t n_dropped; /* leases no longer held: stop working on them */
    uint64_t dropped[MSG_MAX_LEASES];
};

struct msg_sample {
    struct bytes tokens;   /* i32 each: everything after the prompt */
    struct bytes logprobs; /* f32 each; +0 where mask is 0 */
    struct bytes mask;     /* u8 each: 1 sampled by the policy, 0 written by the environment;
                            * empty, and only then, if all were sampled */
    float reward;
    uint32_t finish; /* enum finish */
};
struct msg_submit {
    uint64_t unit;
    uint64_t lease;
    int64_t version;
    struct digest task;
    struct digest weights; /* root of the version's manifest */
    char numerics[32];
    struct bytes prompt;   /* i32 each */
    struct digest root;    /* submission_root(), proto/submission.h */
    struct digest opening; /* opening_root(), proto/opening.h; zero where bits are defined */
    uint32_t n_samples;
    struct msg_sample sample[MSG_MAX_SAMPLES];
};
/* What the root `opening` stands for, shown when the unit is drawn (proto/opening.h). */
struct msg_opening {
    uint64_t unit, lease;
    struct bytes proofs; /* TOPLOC_PROOF_BYTES for each started 32 sampled tokens of a sample */
    struct digest states; /* root over a digest of each of these chunks of states */
};
/* A worker of an open class waits for units that it is to open: answered when there are some, or when
 * it may forget others, which may be long. */
struct msg_drawn_ask {
    uint64_t settled; /* as it was told last */
};
struct attempt { /* at a unit */
    uint64_t unit, lease;
};
struct msg_drawn {
    uint64_t
        settled; /* nothing of this worker under leases below it will be asked for any more */
    uint32_t n;  /* which may be 0 */
    struct attempt item[MSG_MAX_LEASES];
};
struct msg_receipt {
    uint64_t seq;        /* of the ledger entry, when is_accepted */
    struct digest entry; /* its hash */
    bool is_accepted;    /* false: refused for good, see code */
    uint32_t code;       /* enum reason */
    char text[MSG_TEXT_BYTES];
};
struct msg_check_ask {
    int64_t newest_version;
    int64_t oldest_version;
};
struct msg_check {
    uint64_t unit;
    uint64_t lease; /* of the submission: with `unit` it names what is judged */
    uint32_t depth; /* enum check_depth */
    uint32_t deadline_ms;
    struct bytes submission; /* the worker's envelope, as received */
    struct digest draw; /* the verdict is to be sealed, with states of the places that follow
                                from this (proto/states.h); zero: neither */
    struct bytes peers; /* validators whose places are to be opened, 32 bytes each */
    struct bytes
        opening; /* the worker's OPENING envelope; empty: none is wanted, or none came */
};
/* Light checks at once, for units whose checks can wait for one another. */
struct check_item {
    uint64_t unit, lease;
    struct bytes submission; /* as in CHECK */
};
struct msg_checks {
    uint32_t deadline_ms;
    uint32_t n;
    struct check_item item[MSG_MAX_CHECKS];
};
/* One signature for light checks that found nothing. */
struct msg_verdicts {
    struct digest
        submissions; /* BLAKE2b-256("muster/1/submissions" NUL || digests of the workers'
                                * envelopes, in order) */
    uint32_t n;
    struct attempt item[MSG_MAX_CHECKS];
};
/* Before anybody shows a verdict: `verdict` is the digest of the VERDICT envelope to come. */
struct msg_verdict_seal {
    uint64_t unit;
    uint64_t lease;
    struct digest verdict;
};
/* A validator waits for the next head to witness: answered when there is one, which may be long. */
struct msg_witness_ask {
    uint64_t have; /* the HEAD entry it was called for last; 0: none */
};
/* Signed by the orchestrator: what stands in its ledger at `seq`. A witness keeps it. */
struct msg_witness_call {
    uint64_t seq;        /* of a HEAD entry */
    struct digest entry; /* its hash */
    struct digest next;  /* the commitment of this witness that is on record; zero: none */
};
/* Signed by the validator: it has seen this head, and no other at this place. */
struct msg_witness {
    uint64_t seq;
    struct digest entry;
    struct digest nonce; /* what was committed to before; zero: it begins, or begins anew */
    struct digest next;  /* witness_commitment() of the nonce for the next head */
};
struct msg_verdict {
    uint64_t unit;
    uint64_t lease;
    struct digest submission; /* BLAKE2b-256 of the worker's envelope */
    uint32_t depth;           /* the check that was made */
    bool is_accepted;
    uint32_t code;        /* enum reason; REASON_NONE when accepted */
    uint32_t sample;      /* where it first differs */
    uint32_t position;    /* index into the sample's tokens */
    uint64_t claimed;     /* bits the worker gave (token, log-prob, reward ...) */
    uint64_t found;       /* bits that recomputation gives */
    struct digest states; /* states_seal() of what was found at its own places */
    char text[MSG_TEXT_BYTES];
    struct bytes opened; /* 64 bytes each: a validator, what was found at its places */
};

/* ---- training ---------------------------------------------------------------------------- */

struct msg_batch_ask {
    uint64_t batch;
};
struct msg_batch {
    uint64_t batch;
    struct digest root; /* Merkle root over the digests of the envelopes, in order */
    uint32_t n;
    struct bytes envelope[MSG_MAX_UNITS]; /* SUBMIT envelopes as received, ordered */
};
/* Which content a message is about: m.content, or its three fields. */
#define MSG_CONTENT                                                                            \
    union {                                                                                    \
        struct content content;                                                                \
        struct {                                                                               \
            int64_t version;                                                                   \
            uint32_t kind;                                                                     \
            int64_t base;                                                                      \
        };                                                                                     \
    }

/* The manifest of a content: the body of PUBLISH, signed by the trainer. What it holds is a
 * function of the step alone (no time, no address), so that redoing a step gives the same bytes.
 * CONTENT_FULL is a weight version, and goes to the ledger; of the others, parent to
 * optimizer_after and the figures of the step are left zero. */
struct msg_manifest {
    MSG_CONTENT;
    struct digest parent; /* root of CONTENT_FULL of version - 1; zero for version 0 */
    struct digest task;
    struct digest batch;    /* root of the batch; zero for version 0 (warm-up) */
    struct digest settings; /* digest of the algorithm and optimizer settings */
    struct digest masters_before, masters_after;
    struct digest optimizer_before, optimizer_after;
    struct digest weights; /* Merkle root over the leaves, in order */
    char numerics[32];
    uint64_t file_bytes;
    uint32_t shard_bytes;
    uint32_t n_shards;
    struct digest last_segment; /* digest of the body of the last segment */
    struct digest base_root;    /* CONTENT_DELTA: root of CONTENT_FULL of `base`; else zero */
    struct digest apply_root; /* CONTENT_DELTA: root of CONTENT_FULL of `version`; else zero */
    uint64_t tokens_trained;  /* in this step */
    float loss, grad_norm, kl, reward_mean;
};
struct msg_abandon {
    int64_t version;
    struct digest weights;
    char text[MSG_TEXT_BYTES];
};

/* Which step is to be recomputed, and what was published as its result. */
struct msg_audit_ask {
    int64_t version; /* that one; -1: whichever was drawn for the asker */
};
struct msg_audit {
    int64_t version;
    uint64_t opt_steps;    /* that the optimizer had taken before */
    struct bytes manifest; /* the trainer's PUBLISH envelope */
    bool is_wanted;        /* a verdict on it, of the asker's */
};
/* Signed: the version was recomputed. What comes out otherwise than was published is a challenge, which
 * the validator has to play to its end. */
struct msg_step_verdict {
    int64_t version;
    struct digest manifest; /* of the PUBLISH envelope */
    bool is_accepted;
    struct digest weights, masters, optimizer; /* that the records give */
    struct bytes
        proof; /* of a challenge: that the file alone is another (replay/file_proof.h); else empty */
};
/* A party asks for the dispute that it is in. */
struct msg_dispute_ask {
    struct digest dispute; /* that it knows; zero: none */
    uint32_t have;         /* moves of it */
};
struct msg_dispute_state {
    struct digest dispute;
    int64_t version;
    uint64_t opt_steps;
    struct public_key challenger;
    struct bytes manifest; /* the disputed PUBLISH envelope */
    uint32_t from, n;      /* moves before those in `moves`; of all */
    struct bytes moves;    /* u32 length and DISPUTE envelope of each, in order */
    bool is_over;          /* no more moves are due */
    uint32_t deadline_ms;  /* from now: who is silent until then loses */
};
/* One move of a dispute over a step (learn/dispute.h), by one of its two parties. */
struct msg_dispute {
    struct digest dispute;  /* what both argue about: transcript_id */
    uint32_t number;        /* of the move, from 0 */
    struct digest previous; /* of the envelope of the move before; zero for the first */
    struct bytes move;
};

/* ---- people ------------------------------------------------------------------------------ */

struct msg_status_ask {
    uint32_t what;   /* enum status_view */
    uint64_t number; /* a unit for STATUS_EXPLAIN */
};
struct msg_status {
    struct bytes json; /* one object */
};
struct msg_drain {
    char text[MSG_TEXT_BYTES];
};
struct msg_task_publish {
    struct bytes bundle;
    int64_t deposit; /* ucr put into escrow */
};
struct msg_task_close {
    struct digest task;
};
struct msg_ledger_ask {
    uint64_t from;
    uint32_t max;
};
struct msg_ledger {
    uint64_t from;
    struct bytes entries; /* u32 length and bytes of each, in order */
};
struct msg_invite_ask {
    uint32_t role;
};
struct msg_invite {
    char link[512];
};

/* ---- shardcast --------------------------------------------------------------------------- */

/* HEAD, SEGMENT and PUBLISH are signed by the trainer and passed on byte for byte; the rest is
 * between two neighbours. Shard indices are u32 little-endian each. */

struct msg_offer {
    int64_t version;
    uint32_t kind;
    int64_t base;
};
struct msg_head {
    uint64_t made_ms;  /* of the trainer's wall clock, and above that of any HEAD before */
    uint64_t until_ms; /* it says nothing after that */
    int64_t version;   /* the newest CONTENT_FULL published; -1: none yet */
    uint32_t n;
    struct msg_offer offer[MSG_MAX_OFFERS]; /* what the trainer has, unfinished ones included */
};
/* Leaves number * MSG_MAX_LEAVES and on: all but the last segment hold MSG_MAX_LEAVES. */
struct msg_segment {
    MSG_CONTENT;
    uint32_t shard_bytes;
    uint32_t number;
    struct digest previous; /* digest of the body of segment number - 1; zero for the first */
    struct bytes leaves;    /* 32 bytes each (content_leaf, proto/content.h) */
};
struct msg_head_ask {
    uint64_t made_ms; /* of the newest HEAD known; 0: none */
};
struct msg_manifest_ask {
    MSG_CONTENT;
};
struct msg_segment_ask {
    MSG_CONTENT;
    uint32_t first, n;
};
struct msg_have_ask {
    MSG_CONTENT;
};
struct msg_have {
    MSG_CONTENT;
    bool is_all; /* the manifest and all of it; `bitmap` is empty then */
    struct bytes
        bitmap; /* bit i = shard i, least significant first; may be cut off at the end */
};
struct msg_have_news {
    MSG_CONTENT;
    struct bytes indices; /* gained since */
};
struct msg_shard_ask {
    MSG_CONTENT;
    uint32_t n_have;      /* shards of it that the asker has: who has least is served first */
    struct bytes indices; /* 1..MSG_MAX_ASKED, wanted in this order */
};
struct msg_shard {
    MSG_CONTENT;
    uint32_t index;
    struct bytes data; /* empty: not here */
};
struct msg_cancel {
    MSG_CONTENT;
    struct bytes indices; /* no longer wanted; empty: nothing of this content is */
};
struct msg_choke {
    bool
        is_choked; /* what was asked and not sent is dropped, and asking is of no use for now */
};
/* Two envelopes of the trainer that contradict each other (cast_proof_check). */
struct msg_proof {
    struct bytes first, second;
};

/* ---- membership of the overlay (shardcast/overlay.h) ------------------------------------- */

/* NEIGHBOUR, by which a dialler asks to be one, has no body. */
struct msg_neighbour_reply {
    bool is_accepted;
};
struct msg_leave {
    uint32_t code; /* enum reason */
};
struct msg_ping {
    uint64_t nonce;
};
struct msg_pong {
    uint64_t nonce;
    struct public_key about; /* who is alive; zero: the sender */
};
struct msg_ping_ask {
    uint64_t nonce;
    struct public_key about;
};

/* ---- codecs ------------------------------------------------------------------------------ */

/* X(name, type). For each: the body only, without its envelope.
 *   enum status msg_<name>_decode(struct <type> *m, struct bytes in, struct err *e);
 *   enum status msg_<name>_encode(struct buf *out, const struct <type> *m, struct err *e); */
// clang-format off
#define MSG_CODEC_MAP(X)                                                                       \
    X(join, msg_join) X(joined, msg_joined) X(refused, msg_refused) X(hello, msg_hello)        \
    X(welcome, msg_welcome) X(bundle_ask, msg_bundle_ask) X(bundle, msg_bundle)                \
    X(roster_ask, msg_roster_ask) X(roster, msg_roster) X(lease_ask, msg_lease_ask)            \
    X(lease, msg_lease) X(wait, msg_wait) X(heartbeat, msg_heartbeat) X(beat, msg_beat)        \
    X(submit, msg_submit) X(receipt, msg_receipt) X(check_ask, msg_check_ask)                  \
    X(check, msg_check) X(verdict_seal, msg_verdict_seal)                                      \
    X(verdict, msg_verdict) X(batch_ask, msg_batch_ask)                                        \
    X(batch, msg_batch) X(manifest, msg_manifest) X(abandon, msg_abandon)                      \
    X(dispute, msg_dispute)                                                                    \
    X(status_ask, msg_status_ask) X(status, msg_status) X(drain, msg_drain)                    \
    X(task_publish, msg_task_publish) X(task_close, msg_task_close)                            \
    X(ledger_ask, msg_ledger_ask) X(ledger, msg_ledger) X(invite_ask, msg_invite_ask)          \
    X(invite, msg_invite) X(head, msg_head) X(segment, msg_segment)                            \
    X(head_ask, msg_head_ask) X(manifest_ask, msg_manifest_ask)                                \
    X(segment_ask, msg_segment_ask) X(have_ask, msg_have_ask) X(have, msg_have)                \
    X(have_news, msg_have_news) X(shard_ask, msg_shard_ask) X(shard, msg_shard)                \
    X(cancel, msg_cancel) X(choke, msg_choke) X(proof, msg_proof)                              \
    X(neighbour_reply, msg_neighbour_reply)                                                    \
    X(leave, msg_leave) X(ping, msg_ping) X(pong, msg_pong) X(ping_ask, msg_ping_ask) X(canary_order, msg_canary_order) \
    X(witness_ask, msg_witness_ask) X(witness_call, msg_witness_call) X(witness, msg_witness) \
    X(opening, msg_opening) X(drawn_ask, msg_drawn_ask) X(drawn, msg_drawn)                    \
    X(checks, msg_checks) X(verdicts, msg_verdicts)                                            \
    X(audit_ask, msg_audit_ask) X(audit, msg_audit)                                            \
    X(step_verdict, msg_step_verdict) X(dispute_ask, msg_dispute_ask)                          \
    X(dispute_state, msg_dispute_state)
// clang-format on

#define MSG_CODEC_DECLARE(name, type)                                                          \
    MUST_USE enum status msg_##name##_decode(struct type *m, struct bytes in, struct err *e);  \
    MUST_USE enum status msg_##name##_encode(struct buf *out, const struct type *m,            \
                                             struct err *e);
MSG_CODEC_MAP(MSG_CODEC_DECLARE)
#undef MSG_CODEC_DECLARE

/* Appends what precedes the `n` bytes of a shard in its envelope; the bytes follow, so that they can be
 * read from disk to where they are sent from. m->data is not looked at. 0: that it is not here. */
void msg_shard_begin(struct buf *out, const struct digest *run, const struct msg_shard *m,
                     size_t n);

#endif
