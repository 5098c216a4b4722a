/*
 * shardcast/cast_state.h - how contents spread, as a pure state machine
 *
 * What spreads is a content (proto/content.h): a weight version, a delta between two, the state of
 * an optimizer; one file, cut into shards that are asked for by index. Three things signed by the
 * trainer flood over the links, byte for byte: HEAD (which contents there are; made anew every 5 s,
 * so that its absence is noticed), SEGMENT (the hashes of 64 shards, as soon as those are written,
 * so that they can be checked and passed on while the rest is not made yet), and PUBLISH (the
 * manifest: how long the content is, and the root over all its leaves). Shards are pulled, from
 * neighbours who said that they have them. docs/shardcast.md has the protocol.
 *
 *   - nothing counts that the trainer did not sign for this run, and no shard is stored or passed
 *     on before it was hashed: one that differs bans its sender. A banned peer is served, but
 *     nothing of it is believed;
 *   - two signed statements that contradict each other are a proof against the trainer: it is
 *     passed on, and the machine stops for good (cast_state_is_stopped);
 *   - no message is needed: what is lost is asked for again; what was on disk is not fetched.
 *
 * Neighbours: who is one, and by which link it is reached, says the overlay (shardcast/overlay.h),
 * by cast_state_meet() and cast_state_part(). A link carries messages both ways.
 *
 * The shell carries out what is appended to `struct cast_out`, in order. Time comes in as a
 * parameter; lots are drawn from Philox keyed by the node's own key. No bytes of shards are held.
 */
#ifndef SHARDCAST_CAST_STATE_H
#define SHARDCAST_CAST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "proto/content.h"
#include "proto/msg.h"
#include "proto/types.h"

#define CAST_LINKS_MAX    64u /* neighbours at one time; further ones are not heard */
#define CAST_CONTENTS_MAX 256u
#define CAST_PINS_MAX     64u
#define CAST_KEEP_DEFAULT 6u
#define CAST_FRESH_MS     30000      /* after this time without a new HEAD the node is frozen */
#define CAST_MANIFEST     UINT32_MAX /* CAST_KEEP: `index` of what is no segment */

struct cast_state;

enum cast_act_kind {
    CAST_SEND,  /* link, value: an envelope */
    CAST_SERVE, /* link, content, index, bytes: read that shard, send it (cast_state_shard), and
                     once it is out of the way say cast_state_served(). Gone: cast_state_lost(),
                     and send it empty */
    CAST_STORE, /* content, index, shard_bytes, value: a shard that was checked; it belongs at
                     index * shard_bytes. Failed: cast_state_lost() */
    CAST_KEEP,  /* content, shard_bytes, index, value: an envelope that was checked; segment
                     `index`, or CAST_MANIFEST with bytes: the length of the file. Before the
                     content's first CAST_STORE comes the segment of its shard */
    CAST_FORGET,      /* content: all of it */
    CAST_COMPLETE,    /* content, bytes: the length of the file */
    CAST_SIGN,        /* value: the body of a HEAD. Sign it, answer with cast_state_head() */
    CAST_FRESH,       /* is_fresh: a HEAD was heard in time, or none was for CAST_FRESH_MS */
    CAST_EQUIVOCATED, /* content, value: two blobs, the envelopes. Comes once; nothing after it */
    CAST_BANNED,      /* peer key, content (version -1: none), index, why */
    CAST_REFUSED, /* peer key, why, index: how often; what it said was signed does not count */
    CAST_WAKE,    /* at_ms: call cast_state_tick no later than this */
};

struct cast_act {
    enum cast_act_kind kind;
    uint32_t index;
    uint64_t link;
    struct content content;
    uint32_t shard_bytes;
    bool is_fresh;
    uint64_t bytes;
    int64_t at_ms;
    const char *why;
    struct public_key key;
    struct bytes
        value;      /* lent from `owned`, or (CAST_STORE) from the frame: until the input that
                           brought it returns the list is carried out */
    uint8_t *owned; /* owned by the list; may be NULL */
};
struct cast_out {
    struct cast_act *v; /* owned */
    size_t n;
    size_t cap;
};
void cast_out_init(struct cast_out *l);
void cast_out_clear(struct cast_out *l);
/* Empties the list and keeps its memory. */
void cast_out_reset(struct cast_out *l);
/* Appends an act with a copy of `value`; the caller fills in the rest. */
struct cast_act *cast_out_add(struct cast_out *out, enum cast_act_kind kind,
                              struct bytes value);
/* Stand-ins for what a simulation cannot afford: NULL takes the real ones. */
typedef bool cast_verify_fn(void *arg, const struct msg_envelope *env);
typedef bool cast_check_fn(void *arg, const struct content *c, uint32_t index,
                           const struct digest *leaf, struct bytes data);

struct cast_state_options {
    struct public_key self; /* transport key */
    struct public_key node; /* the key it signs with: the origin is who is the run's trainer */
    uint32_t keep;          /* newest versions kept and fetched; 0: CAST_KEEP_DEFAULT */
    int64_t wall_ms;        /* what the wall clock says when now_ms is 0 */
    uint64_t up_bytes_s;    /* ceilings; 0: none */
    uint64_t down_bytes_s;
    cast_verify_fn *verify; /* is it signed by env->signer? */
    cast_check_fn *check;   /* is it the shard of this leaf? */
    void *arg;
};
void cast_state_new(struct cast_state **out, const struct cast_state_options *opt);
void cast_state_free(struct cast_state **s);

/* ---- what was on disk -------------------------------------------------------------------- */

/* A PUBLISH or SEGMENT envelope found on disk, before anything else: cast_state_set_run forgets
 * those of other runs. ERR_MALFORMED, ERR_DIGEST: it is not one. */
MUST_USE enum status cast_state_restore(struct cast_state *s, struct bytes envelope,
                                        struct cast_out *out, struct err *e);
/* These shards are on disk and were found right: at start, or because something else than this
 * machine made them (a delta that was applied). Bits without a leaf are ignored. */
void cast_state_found(struct cast_state *s, const struct content *c, struct bytes bitmap,
                      int64_t now_ms, struct cast_out *out);

/* ---- who there is ------------------------------------------------------------------------ */

/* Contents of another run are forgotten. */
void cast_state_set_run(struct cast_state *s, const struct digest *run,
                        const struct public_key *trainer, int64_t now_ms, struct cast_out *out);
/* A neighbour from now on, by this link (messages may still be lost): it is heard and greeted.
 * Again with another link: the old one is gone, and what was under way on it. */
void cast_state_meet(struct cast_state *s, const struct public_key *key, uint64_t link,
                     bool is_trainer, int64_t now_ms, struct cast_out *out);
/* None any more: what was asked of it is asked of others at once. */
void cast_state_part(struct cast_state *s, const struct public_key *key, int64_t now_ms,
                     struct cast_out *out);

/* A proof found on disk: the end, as when it is heard, if it accuses this run's trainer. */
void cast_state_accuse(struct cast_state *s, struct bytes first, struct bytes second,
                       struct cast_out *out);

/* ---- inputs ------------------------------------------------------------------------------ */

/* One frame from the peer authenticated as `from`; of one that is no neighbour it is ignored. */
void cast_state_message(struct cast_state *s, const struct public_key *from, struct bytes frame,
                        int64_t now_ms, struct cast_out *out);
void cast_state_tick(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* A CAST_SERVE was carried out: its bytes left, and the next may go. */
void cast_state_served(struct cast_state *s, uint64_t link, const struct content *c,
                       uint32_t index, uint64_t bytes, int64_t now_ms, struct cast_out *out);
/* A shard could not be stored, or the disk gave it back spoilt: it is missing again. When the
 * store is full, nothing is asked for until `resume_ms`. */
void cast_state_lost(struct cast_state *s, const struct content *c, uint32_t index,
                     int64_t resume_ms);
/* The orchestrator says that this version exists. */
void cast_state_hint(struct cast_state *s, int64_t head, int64_t now_ms, struct cast_out *out);

/* ---- what is kept ------------------------------------------------------------------------ */

/* How many of the newest versions are kept and fetched, 1..64. */
void cast_state_set_keep(struct cast_state *s, uint32_t keep, int64_t now_ms,
                         struct cast_out *out);
/* CONTENT_FULL of this version, whatever its age. */
void cast_state_pin(struct cast_state *s, int64_t version, int64_t now_ms,
                    struct cast_out *out);
void cast_state_unpin(struct cast_state *s, int64_t version, int64_t now_ms,
                      struct cast_out *out);
/* Whether shards of a content are fetched. At first those of CONTENT_FULL are, others are not. */
void cast_state_want(struct cast_state *s, const struct content *c, bool is_wanted,
                     int64_t now_ms, struct cast_out *out);
/* Forgets it, wanted or not. */
void cast_state_drop(struct cast_state *s, const struct content *c, int64_t now_ms,
                     struct cast_out *out);
/* So old that nobody here wants it: neither here nor pinned. */
bool cast_state_is_past(const struct cast_state *s, const struct content *c);
/* Forgets the oldest version below `before` that is neither pinned nor the newest; false: there is none. */
bool cast_state_make_room(struct cast_state *s, int64_t before, struct cast_out *out);

/* ---- the origin -------------------------------------------------------------------------- */

/* A segment of our own (shardcast/cast_cut.h), all of whose shards are stored: it and they are
 * announced. Segments of a content in order. ERR_EXISTS: another was signed before. */
MUST_USE enum status cast_state_append(struct cast_state *s, struct bytes envelope,
                                       int64_t now_ms, struct cast_out *out, struct err *e);
/* Its manifest, when all segments are there. ERR_EXISTS: another content has this name. */
MUST_USE enum status cast_state_publish(struct cast_state *s, struct bytes envelope,
                                        int64_t now_ms, struct cast_out *out, struct err *e);
/* The HEAD that CAST_SIGN asked for, signed. */
MUST_USE enum status cast_state_head(struct cast_state *s, struct bytes envelope,
                                     int64_t now_ms, struct cast_out *out, struct err *e);
/* Another manifest is known under the name of this one. */
bool cast_state_contradicts(const struct cast_state *s, const struct msg_envelope *env,
                            const struct msg_manifest *m);

/* ---- frames and checks ------------------------------------------------------------------- */

/* What precedes the `n` bytes of a shard in the envelope that answers a CAST_SERVE, appended: the
 * bytes follow. 0: it is not here. */
void cast_state_shard(const struct cast_state *s, struct buf *envelope, const struct content *c,
                      uint32_t index, size_t n);

/* Checks a PUBLISH envelope: signature, run, that its numbers agree. *m lends from it. `trainer`
 * may be NULL: any signer. */
MUST_USE enum status cast_manifest_check(struct bytes envelope, const struct digest *run,
                                         const struct public_key *trainer,
                                         struct msg_envelope *env, struct msg_manifest *m,
                                         struct err *e);
/* ERR_DIGEST unless these two envelopes prove that `trainer` equivocates: both are its, of this
 * run, about one content, and (two manifests, two segments of one number) differ, or name another
 * segment before them than the one given (a segment and the next; the last one and the manifest). */
MUST_USE enum status cast_proof_check(struct bytes first, struct bytes second,
                                      const struct digest *run,
                                      const struct public_key *trainer, struct content *about,
                                      struct err *e);

/* ---- what is known ----------------------------------------------------------------------- */

bool cast_state_is_complete(const struct cast_state *s, const struct content *c);
int64_t cast_state_newest(const struct cast_state *s); /* CONTENT_FULL, complete; -1: none */
int64_t cast_state_oldest(const struct cast_state *s); /* of the row up to the newest */
/* A HEAD was heard within CAST_FRESH_MS. The origin's own counts. */
bool cast_state_is_fresh(const struct cast_state *s, int64_t now_ms);
struct bytes cast_state_newest_head(const struct cast_state *s); /* signed, lent; empty: none */
/* An equivocation was proved: nothing is fetched, served or published any more. */
bool cast_state_is_stopped(const struct cast_state *s);

struct cast_content_info {
    struct content content;
    uint32_t shard_bytes;
    uint32_t n_shards; /* 0: its manifest is not here */
    uint32_t n_leaves; /* known so far */
    uint32_t n_have, n_asked;
    uint64_t file_bytes;
    struct digest weights, base_root, apply_root; /* zero until the manifest is here */
    bool is_complete, is_wanted, is_pinned;
};
size_t cast_state_n_contents(const struct cast_state *s);
/* By version, kind and base, ascending; i < cast_state_n_contents. */
struct cast_content_info cast_state_content(const struct cast_state *s, size_t i);

struct cast_counters {
    uint64_t shards_in, bytes_in;   /* checked and stored */
    uint64_t shards_out, bytes_out; /* served */
    uint64_t repeats;               /* shards that came again */
    uint64_t timeouts, garbage, lies, refused, malformed, cancelled;
};
struct cast_counters cast_state_counters(const struct cast_state *s);
/* Appends one JSON object. */
void cast_state_json(const struct cast_state *s, int64_t now_ms, struct buf *out);

#endif
