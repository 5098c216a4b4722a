/*
 * shardcast/cast_state.h - how weight versions spread, as a pure state machine
 *
 * A trainer announces a version by flooding its signed manifest (HEAD). Whoever hears of it
 * passes it on, asks the neighbours which shards they have (HAVE_ASK), and pulls what is missing
 * (SHARD_ASK), the rarest first, a few at a time from each. Each shard is hashed before it is
 * stored, and stored before it is offered. Nothing depends on any single message: a lost HEAD is
 * made up for by asking for the newest manifest now and then, a lost shard is asked of another.
 *
 *   - a version's manifest counts if the trainer signed it, for this run, and its own numbers
 *     agree (count, sizes, Merkle root); nothing is stored or passed on before;
 *   - a shard that does not hash to what was asked bans its sender: over an authenticated and
 *     encrypted link that is no accident. A banned peer is served, but asked for nothing;
 *   - two manifests of one version that differ in their body prove that the trainer equivocates:
 *     the first stays, and the two together are kept as the proof;
 *   - what a restart finds on disk is not fetched again.
 *
 * Links: a node dials CAST_DIAL_MAX peers of the roster, chosen by its place on a ring of hashed
 * keys (the next, the 2nd, 4th, 8th ... after it), so that the graph is connected and has a
 * diameter of log n, and the trainer besides while the network is small. A link carries messages
 * both ways, so a node that nobody can dial takes part as well.
 *
 * The shell (cast.c) carries out what is appended to `struct cast_out`, in order. Time comes in
 * as a parameter; ties are drawn from Philox keyed by the node's own key.
 */
#ifndef SHARDCAST_CAST_STATE_H
#define SHARDCAST_CAST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/msg.h"
#include "proto/types.h"

#define CAST_DIAL_MAX     8u
#define CAST_PEERS_MAX    512u /* the roster twice: those that left it are remembered a while */
#define CAST_WINDOW       4u   /* shards asked of one peer at a time */
#define CAST_VERSIONS_MAX 128u /* known at one time, pinned ones included */
#define CAST_KEEP_DEFAULT 6u

struct cast_state;

enum cast_act_kind {
    CAST_DIAL,        /* peer key, text: endpoint. Answer with cast_state_linked() */
    CAST_HANG_UP,     /* link: close one that CAST_DIAL opened */
    CAST_SEND,        /* link, value: an envelope */
    CAST_SERVE,       /* link, digest, idem: read the shard, send it with cast_state_shard() */
    CAST_STORE,       /* digest, value: a shard that was checked. Failed: cast_state_lost() */
    CAST_KEEP,        /* version, value: a checked manifest */
    CAST_FORGET,      /* version, digests: its manifest, and the shards that no other needs */
    CAST_COMPLETE,    /* version */
    CAST_EQUIVOCATED, /* version, value: two blobs, the envelopes */
    CAST_BANNED,      /* peer key, version, digest: it sent other bytes than those */
    CAST_WAKE,        /* at_ms: call cast_state_tick no later than this */
};

struct cast_act {
    enum cast_act_kind kind;
    uint64_t link;
    int64_t version;
    int64_t at_ms;
    struct public_key key;
    struct digest digest;
    struct idem idem;
    struct bytes value; /* lent from `owned` */
    uint8_t *owned;     /* owned by the list */
};
struct cast_out {
    struct cast_act *v; /* owned */
    size_t n;
    size_t cap;
};
void cast_out_init(struct cast_out *l);
void cast_out_clear(struct cast_out *l);
/* Appends an act with a copy of `value`; the caller fills in the rest. */
struct cast_act *cast_out_add(struct cast_out *out, enum cast_act_kind kind,
                              struct bytes value);

/* Whether the disk has a shard: the one question the machine asks of the world. */
typedef bool cast_has_fn(void *arg, const struct digest *shard);

struct cast_state_options {
    struct public_key self; /* transport key */
    uint32_t keep;          /* newest versions kept and fetched; 0: CAST_KEEP_DEFAULT */
    cast_has_fn *has;       /* asked for each shard of a manifest that is new; NULL: never */
    void *arg;
};
void cast_state_new(struct cast_state **out, const struct cast_state_options *opt);
void cast_state_free(struct cast_state **s);

/* ---- what was on disk, before anything else ---------------------------------------------- */

/* A manifest found on disk. One that does not decode is ERR_MALFORMED or ERR_DIGEST. Complete
 * ones give CAST_COMPLETE. */
MUST_USE enum status cast_state_restore(struct cast_state *s, struct bytes envelope,
                                        struct cast_out *out, struct err *e);

/* ---- inputs ------------------------------------------------------------------------------ */

/* Versions of another run are forgotten. */
void cast_state_set_run(struct cast_state *s, const struct digest *run,
                        const struct public_key *trainer, int64_t now_ms, struct cast_out *out);
void cast_state_set_roster(struct cast_state *s, const struct msg_roster *r, int64_t now_ms,
                           struct cast_out *out);
/* The link that CAST_DIAL asked for is open (messages may still be lost). */
void cast_state_linked(struct cast_state *s, const struct public_key *key, uint64_t link,
                       int64_t now_ms, struct cast_out *out);
/* One frame from the peer authenticated as `from`. */
void cast_state_message(struct cast_state *s, uint64_t link, const struct public_key *from,
                        struct bytes frame, int64_t now_ms, struct cast_out *out);
void cast_state_tick(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The orchestrator says that this version exists. */
void cast_state_hint(struct cast_state *s, int64_t head, int64_t now_ms, struct cast_out *out);
/* How many of the newest versions are kept and fetched, 1..CAST_VERSIONS_MAX / 2. */
void cast_state_set_keep(struct cast_state *s, uint32_t keep, int64_t now_ms,
                         struct cast_out *out);
void cast_state_pin(struct cast_state *s, int64_t version, int64_t now_ms,
                    struct cast_out *out);
void cast_state_unpin(struct cast_state *s, int64_t version, int64_t now_ms,
                      struct cast_out *out);
/* Another content is known under the version of this manifest. */
bool cast_state_contradicts(const struct cast_state *s, const struct msg_envelope *env,
                            const struct msg_manifest *m);
/* So old that it is not kept, nor known: nobody here wants it. */
bool cast_state_is_past(const struct cast_state *s, int64_t version);
/* A manifest of our own, whose shards are all stored. ERR_EXISTS: another content has this
 * version. */
MUST_USE enum status cast_state_publish(struct cast_state *s, struct bytes envelope,
                                        int64_t now_ms, struct cast_out *out, struct err *e);
/* A CAST_SERVE was carried out, for the counters. */
void cast_state_served(struct cast_state *s, size_t bytes);
/* A shard could not be stored, or the disk gave it back spoilt: it is missing again. When the
 * store is full, nothing is asked for until `resume_ms`. */
void cast_state_lost(struct cast_state *s, const struct digest *shard, int64_t resume_ms);
/* The disk is full: forgets the oldest version that is neither pinned nor the newest. False: there
 * is none. */
bool cast_state_make_room(struct cast_state *s, struct cast_out *out);

/* The envelope of SHARD that answers a CAST_SERVE. Empty data: not here. */
void cast_state_shard(const struct cast_state *s, struct buf *envelope,
                      const struct digest *shard, const struct idem *idem, struct bytes data);

/* ---- what is known ----------------------------------------------------------------------- */

/* Checks a PUBLISH envelope: signature, run, that its numbers agree. *m lends from it. `trainer`
 * may be NULL: any signer. */
MUST_USE enum status cast_manifest_check(struct bytes envelope, const struct digest *run,
                                         const struct public_key *trainer,
                                         struct msg_envelope *env, struct msg_manifest *m,
                                         struct err *e);

bool cast_state_is_complete(const struct cast_state *s, int64_t version);
int64_t cast_state_newest(const struct cast_state *s); /* complete; -1: none */
int64_t
cast_state_oldest(const struct cast_state *s); /* of the unbroken row up to the newest */

struct cast_counters {
    uint64_t shards_in, bytes_in;   /* checked and stored */
    uint64_t shards_out, bytes_out; /* served */
    uint64_t repeats;               /* shards that came again */
    uint64_t timeouts, garbage, refused_manifests, malformed;
};
struct cast_counters cast_state_counters(const struct cast_state *s);
/* Appends one JSON object. */
void cast_state_json(const struct cast_state *s, int64_t now_ms, struct buf *out);

#endif
