/*
 * shardcast/cast.h - weights outward: the part of a process that shares weight versions
 *
 * Every node of a run adds one to its shell. It binds a ROUTER of its own, has neighbours among the
 * roster (shardcast/overlay.h says who), learns of new versions from them, pulls the shards it lacks
 * from whoever has them, and serves what it has. The trainer's signature on the manifest and the digest of
 * each shard are checked here, so peers and relays need not be trusted: at worst they withhold.
 *
 *     key_load(&key); shell_new(&shell, key);
 *     cast_new(&cast, shell, key, dir, &options);      before shell_run
 *     ... member_new() (shardcast/member.h) feeds it run, roster and head version ...
 *     on_version(): remember it, shell_wake(own part);  then, in on_timer or a job:
 *     cast_map(cast, version, &file);
 *
 * Versions:  one is "here" when its manifest and all its shards are. The last `keep` versions
 *            and the pinned ones are kept, and fetched if missing, the newest first.
 * On disk:   DIR/contents and DIR/meta (shardcast/content_store.h). A restart fetches nothing
 *            that is there.
 * Threads:   everything on the shell's thread, from any callback; cast_read and cast_manifest
 *            also from the job thread.
 */
#ifndef SHARDCAST_CAST_H
#define SHARDCAST_CAST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/status.h"
#include "node/key.h"
#include "node/shell.h"
#include "proto/msg.h"
#include "proto/types.h"
#include "shardcast/cast_state.h"

struct cast;

#define CAST_HIDDEN "none"

struct cast_options {
    const char *listen;    /* NULL: "tcp://127.0.0.1:*" */
    const char *advertise; /* host name or address that peers reach us by; NULL: as bound;
                              CAST_HIDDEN: nobody can, it serves over the links that it dials */
    uint32_t keep;         /* how many of the newest versions are kept; 0: 6 (cast_set_keep) */
    uint64_t max_bytes;    /* quota of the contents on disk; 0: 64 GiB */
    uint64_t up_bytes_s; /* what may be served, and what is asked for; 0: what the links give */
    uint64_t down_bytes_s;
    void *ctx; /* passed to the callbacks */
    /* A version is here, whole. At start it is called, from the first round of shell_run, for
     * each version found on disk, oldest first. May be NULL. */
    void (*on_version)(void *ctx, int64_t version);
    /* A version that was not heard of before. May be NULL. */
    void (*on_known)(void *ctx, int64_t version);
    /* No HEAD of the trainer was heard for CAST_FRESH_MS, or one is again. May be NULL. */
    void (*on_fresh)(void *ctx, bool is_fresh);
    bool wants_state; /* CONTENT_STATE is fetched as well, to pass it on */
    /* The trainer signed two contents for one version: the proof is in DIR/evidence (cast_proof.h),
     * nothing is fetched, served or published any more, and after a restart neither. May be NULL. */
    void (*on_equivocation)(void *ctx, int64_t version);
};

/* Opens the store below `dir`, binds, and adds a part to the shell. `key` is borrowed until
 * cast_free. Free it after shell_run ended and before shell_free. */
MUST_USE enum status cast_new(struct cast **out, struct shell *s, const struct node_key *key,
                              const char *dir, const struct cast_options *opt, struct err *e);
void cast_free(struct cast **p);

/* Set when the disk could not keep what must be kept, or give it up (ERR_FULL, ERR_IO, ERR_CORRUPT): the
 * shell was stopped, nothing that is not on disk was said to be here, and the run file returns this. OK
 * otherwise. */
MUST_USE enum status cast_failure(const struct cast *c, struct err *e);

/* Where peers reach us: what HELLO reports; "": nobody can. Lent until cast_free. */
const char *cast_endpoint(const struct cast *c);

/* ---- what the orchestrator says (member.h calls these) ----------------------------------- */

/* Whose manifests count. `trainer` may be all zero: none is known yet. */
void cast_set_run(struct cast *c, const struct digest *run, const struct public_key *trainer);
/* Who the peers are. Does not call shell_admit. */
void cast_set_roster(struct cast *c, const struct msg_roster *roster);
/* Version `head` exists: peers are asked for its manifest at once if it is not known. */
void cast_hint(struct cast *c, int64_t head);

/* ---- versions ---------------------------------------------------------------------------- */

int64_t cast_newest(const struct cast *c); /* the newest that is here; -1: none */
/* The oldest such that every version from it to cast_newest() is here; -1: none. These two are
 * what LEASE_ASK and CHECK_ASK report. */
int64_t cast_oldest(const struct cast *c);
bool cast_has(const struct cast *c, int64_t version);
/* False: the trainer has been silent for so long that there may be newer versions which are kept
 * from us. Nothing more should be made with those that are here. */
bool cast_is_fresh(const struct cast *c);
/* How many of the newest versions are kept, at most 64: at least the task's lag + 2, or units for
 * old versions find nobody. For on_bundle, where the lag becomes known. */
void cast_set_keep(struct cast *c, uint32_t keep);
/* Keeps these versions, and fetches those that are not here, whatever their age, and no others. At
 * most CAST_PINS_MAX, none below 0. Survives restarts. */
MUST_USE enum status cast_set_pins(struct cast *c, const int64_t *version, size_t n,
                                   struct err *e);

/* Maps the weights file of a version that is here: it is what was published, or ERR_DIGEST: the disk
 * spoilt it, and the shards in question are being fetched again. Give it to file_map_close. ERR_NOT_FOUND. Any thread. */
MUST_USE enum status cast_map(struct cast *c, int64_t version, struct file_map *file,
                              struct err *e);
/* Appends the trainer's PUBLISH envelope of a version. ERR_NOT_FOUND. Any thread. */
MUST_USE enum status cast_manifest(struct cast *c, int64_t version, struct buf *envelope,
                                   struct err *e);
/* The same, decoded: *m lends from `envelope`, to which the envelope is appended. */
MUST_USE enum status cast_manifest_decoded(struct cast *c, int64_t version,
                                           struct buf *envelope, struct msg_manifest *m,
                                           struct err *e);

/* ---- publishing (the trainer) ------------------------------------------------------------ */

/* A content is announced while it is written: its shards are stored, each MSG_MAX_LEAVES of
 * them are signed and may be fetched at once.
 *
 *     cast_write_open(&w, cast, &content, content_shard_bytes(expected), e);
 *     cast_write_add(w, bytes, e) ...
 *     cast_write_end(w, &manifest, e);     fills in what it says of the file
 *     ... encode and sign it as PUBLISH: cast_announce(cast, envelope, e);
 *     cast_write_free(&w);
 *
 * Writing the same again, as after a restart, signs the same bytes. ERR_EXISTS: another content
 * was signed under this name. ERR_FULL: the quota is used up by what must be kept. */
struct cast_writer;
MUST_USE enum status cast_write_open(struct cast_writer **out, struct cast *c,
                                     const struct content *content, uint32_t shard_bytes,
                                     struct err *e);
MUST_USE enum status cast_write_add(struct cast_writer *w, struct bytes more, struct err *e);
MUST_USE enum status cast_write_end(struct cast_writer *w, struct msg_manifest *m,
                                    struct err *e);
void cast_write_free(struct cast_writer **w);
/* Makes the manifest durable, then announces it. */
MUST_USE enum status cast_announce(struct cast *c, struct bytes envelope, struct err *e);

/* The same for a file that is there: checks the envelope (our own signature, the run set by
 * cast_set_run, what it says of `file`), writes, announces. Publishing the same again announces
 * again, unless it is older than the versions kept: nothing is done then (a trainer that resumed
 * from an old checkpoint comes by). ERR_EXISTS: another content was published under this name. */
MUST_USE enum status cast_publish(struct cast *c, struct bytes envelope, struct bytes file,
                                  struct err *e);

/* Publishes the patch from version `base` to `file`, if it pays, as *pays tells: before cast_publish
 * of `file` itself, whose manifest `full` is, so that who hears of the version has heard of the
 * patch. A base that is not here does not pay, nor does a patch that cannot be signed because
 * another was. */
MUST_USE enum status cast_publish_delta(struct cast *c, const struct msg_manifest *full,
                                        int64_t base, struct bytes file, bool *pays,
                                        struct err *e);

/* Publishes the file of another content of the version whose manifest `full` is: CONTENT_STATE.
 * Nothing is done when it is there already. Errors as cast_write_open. */
MUST_USE enum status cast_publish_other(struct cast *c, const struct msg_manifest *full,
                                        uint32_t kind, struct bytes file, struct err *e);

/* ---- people ------------------------------------------------------------------------------ */

struct cast_counters cast_counters(const struct cast *c);
uint64_t cast_found_bytes(const struct cast *c); /* that were on disk at start */
/* Appends one JSON object: versions with shards here and in all, peers, bytes, bans. */
void cast_status_json(const struct cast *c, struct buf *out);

/* ---- lies -------------------------------------------------------------------------------- */

/* What `muster cast-node` can be told to do, so that it can be measured what others do about it. No
 * role, option or file leads here. */
enum cast_cheat {
    CAST_CHEAT_NONE,
    CAST_CHEAT_GARBAGE,    /* spoils each shard that it serves */
    CAST_CHEAT_FORGE,      /* in the place of what the trainer signed: what it did not sign */
    CAST_CHEAT_STALE,      /* an old version under the new one's name, and HEADs from before */
    CAST_CHEAT_EQUIVOCATE, /* the origin: every other neighbour gets another manifest */
    CAST_CHEAT_FREEZE,     /* what the trainer signs does not get to `victim`, old HEADs do */
    CAST_CHEAT_EMPTY,      /* claims everything, and answers that it is not here */
    CAST_CHEAT_SILENT,     /* claims everything, and does not answer */
};
/* From now on. `victim` is a transport key; NULL where there is none. */
void cast_cheat(struct cast *c, enum cast_cheat kind, const struct public_key *victim);

#endif
