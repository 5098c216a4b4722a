/*
 * shardcast/cast_shell.h - inside cast.h: what cast.c, cast_write.c and cast_store.c share
 */
#ifndef SHARDCAST_CAST_SHELL_H
#define SHARDCAST_CAST_SHELL_H

#include "shardcast/cast.h"
#include "shardcast/cast_lane.h"
#include "shardcast/cast_state.h"
#include "shardcast/content_store.h"

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
    struct cast_out acts; /* not carried out yet */
    struct lanes lanes;
    struct cast_pending *pending; /* owned, oldest first */
    size_t n_pending, cap_pending;
    struct buf shard; /* scratch: as it is on disk */
    int64_t hello_ms;
    struct content *found; /* owned: complete at start, until the run is known */
    size_t n_found;
    uint64_t found_bytes;
    struct digest run;
    bool has_run, is_frozen;
    char *status_path;     /* owned: DIR/shardcast.json */
    int64_t status_ms;     /* when it is written next */
    uint64_t status_moved; /* bytes moved when it was written last */
    char endpoint[256];
};

/* ---- cast_disk.c ------------------------------------------------------------------------- */

/* Opens the store, and tells the machine what is in it. */
MUST_USE enum status cast_disk_open(struct cast *c, const char *dir, struct err *e);
void cast_disk_keep(struct cast *c, const struct cast_act *a);
void cast_disk_store(struct cast *c, const struct cast_act *a, int64_t now_ms);
void cast_disk_forget(struct cast *c, const struct content *content);

#endif
