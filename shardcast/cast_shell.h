/*
 * shardcast/cast_shell.h - inside cast.h: what cast.c and its parts share
 */
#ifndef SHARDCAST_CAST_SHELL_H
#define SHARDCAST_CAST_SHELL_H

#include <stdatomic.h>

#include "shardcast/cast.h"
#include "shardcast/cast_lane.h"
#include "shardcast/cast_state.h"
#include "shardcast/content_store.h"
#include "shardcast/overlay.h"

#define REFUSED_MAX    16u
#define CAST_FRAME_MAX (((size_t)1 << 20) + 65536) /* one shard, or two manifests */

/* A shard on its way out that finds no room yet. */
struct cast_pending {
    uint64_t link;
    struct content content;
    uint32_t index;
    uint64_t bytes;
    int64_t since_ms;
    struct buf frame; /* owned */
};

struct cast {
    struct shell *shell;        /* borrowed */
    struct shell_part *part;    /* the shell's */
    const struct node_key *key; /* borrowed */
    struct cast_options opt;    /* strings not kept */
    struct content_store *store;
    struct cast_state *state;
    struct cast_out acts;          /* not carried out yet */
    struct overlay *overlay;       /* owned */
    struct overlay_roster *roster; /* owned: the overlay's; NULL: none yet */
    struct overlay_out moves;      /* of the overlay, not carried out yet */
    bool has_new_links;            /* since the status was written */
    struct lanes lanes;
    struct cast_pending *pending; /* owned, oldest first */
    size_t n_pending, cap_pending;
    int64_t hello_ms;
    struct content *found; /* owned: complete at start, until the run is known */
    size_t n_found;
    uint64_t found_bytes;
    struct digest run;
    bool has_run, is_frozen, was_fresh, is_origin;
    enum status st; /* of the disk: cast_failure */
    struct err err;
    atomic_bool is_spoilt;     /* the store lost a shard that the machine counts on */
    bool is_plan_due;          /* contents came, were completed, or went */
    struct applying *applying; /* owned; NULL: no patch is being applied */
    struct content
        refused[REFUSED_MAX]; /* patches that do not give what they promise, a ring */
    size_t n_refused;
    struct cheat *cheat;   /* owned; NULL: it is honest (cast_cheat.c) */
    char *evidence_dir;    /* owned: DIR/evidence */
    char *status_path;     /* owned: DIR/shardcast.json */
    int64_t status_ms;     /* when it is written next */
    uint64_t status_moved; /* bytes moved when it was written last */
    char endpoint[256];
};

/* ---- cast_links.c ------------------------------------------------------------------------ */

void cast_links_open(struct cast *c);
void cast_links_close(struct cast *c);
void cast_links_roster(struct cast *c, const struct msg_roster *m, int64_t now_ms);
/* Carries out what the overlay wants, and tells the machine who is a neighbour. */
void cast_links_settle(struct cast *c, int64_t now_ms, struct effects *out);
/* True: a frame for the machine, of a neighbour. False: it is dealt with. */
bool cast_links_message(struct cast *c, uint64_t link, const struct public_key *from,
                        struct bytes frame, int64_t now_ms);

/* The process cannot go on with this disk: nothing more of what the machine wants is carried out, and
 * the shell ends. The first failure counts. */
void cast_fail(struct cast *c, enum status st, const struct err *e);

/* ---- cast_disk.c ------------------------------------------------------------------------- */

/* Opens the store, and tells the machine what is in it. */
MUST_USE enum status cast_disk_open(struct cast *c, const char *dir, struct err *e);
void cast_disk_keep(struct cast *c, const struct cast_act *a);
/* Stores a shard. Room is made at once: what is stored now is newer than what goes. */
MUST_USE enum status cast_disk_put(struct cast *c, const struct content *content,
                                   uint32_t index, struct bytes shard, struct err *e);
/* Tells the machine of shards of complete contents that the store found spoilt: they are fetched
 * again. */
void cast_disk_reconcile(struct cast *c);
void cast_disk_store(struct cast *c, const struct cast_act *a, int64_t now_ms);
/* Tells the machine what the store has of it. */
void cast_disk_found(struct cast *c, const struct content *content, int64_t now_ms);
void cast_disk_forget(struct cast *c, const struct content *content);

/* Says what proofs of equivocation are on disk, once the run is known. */
void cast_disk_accuse(struct cast *c);
/* Keeps a proof in the store, and as a file that others can check (cast_proof.h). */
void cast_disk_proof(struct cast *c, const struct content *about, struct bytes both);

/* ---- cast_cheat.c ------------------------------------------------------------------------ */

void cheat_end(struct cast *c);
/* What a cheat does instead of sending `frame` on `link`; false: nothing else, send it. */
bool cheat_send(struct cast *c, uint64_t link, struct bytes frame, struct effects *out);
/* What it does to a shard that is about to leave. False: it is not sent at all. */
bool cheat_serve(struct cast *c, const struct cast_act *a, struct cast_pending *p);

/* ---- cast_plan.c ------------------------------------------------------------------------- */

/* Says which contents are fetched, and begins to apply a patch that is here. */
void cast_plan(struct cast *c, int64_t now_ms);

/* ---- cast_apply.c ------------------------------------------------------------------------ */

struct applying; /* a patch on its way to being a version, on a thread of its own */

/* What a patch must give. */
struct apply_order {
    struct content patch;
    struct digest run, root;
    uint64_t file_bytes;
    uint32_t shard_bytes;
};
/* The thread calls shell_wake when it is done. */
void cast_apply_begin(struct cast *c, const struct apply_order *order);
/* Takes the result of one that is done. */
void cast_apply_settle(struct cast *c, int64_t now_ms);
void cast_apply_end(struct cast *c); /* waits for it and throws it away */

#endif
