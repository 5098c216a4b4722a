/*
 * shardcast/cast_inside.h - inside the machine of cast_state.h
 *
 *   cast_state.c   inputs, peers, links, timers
 *   cast_version.c manifests, what of them is here, retention
 *   cast_pull.c    who has what, what is asked of whom
 *   cast_talk.c    the messages, out and in
 */
#ifndef SHARDCAST_CAST_INSIDE_H
#define SHARDCAST_CAST_INSIDE_H

#include "base/rng.h"
#include "shardcast/cast_state.h"

#define CAST_ASKS_MAX   1024u
#define CAST_PINS_MAX   64u
#define NEVER_MS        INT64_MAX
#define POLL_MS         2000 /* between questions for the newest manifest */
#define GREET_MIN_MS    50   /* a link that was never heard is greeted again after this, then */
#define GREET_MAX_MS    2000 /* twice as long each time, up to this */
#define GREET_IDLE_MS   10000 /* a silent link, so that the other side does not forget it */
#define HAVE_ASK_MS     1000 /* between questions for have-maps while a version is incomplete */
#define HAVE_PUSH_MS    50   /* news of shards gained are gathered for this long, */
#define HAVE_PUSH_COUNT 64u  /* or until there are so many */
#define GAP_MIN_MS      100 /* before manifests missing in the row are asked for, then twice as */
#define GAP_MAX_MS      5000 /* long each time, up to this */
#define HINT_MIN_MS     50
#define TIMEOUT_MIN_MS  500
#define TIMEOUT_ONE_MS  1000 /* before anything was measured */
#define TIMEOUT_MAX_MS  30000
#define SCAN_CANDIDATES 512u /* looked at to find the rarest */

struct peer {
    bool is_used, is_active, is_banned, is_trainer;
    bool is_chosen; /* this node dials it */
    bool is_heard;  /* since the link was opened */
    struct public_key key;
    char endpoint[128];
    uint64_t dialled; /* the link we opened; 0: none */
    uint64_t inbound; /* the link it opened; 0: none */
    uint64_t via;     /* the one in use; 0: none */
    int64_t heard_ms;
    int64_t greet_ms; /* when to greet next */
    int32_t greet_wait_ms;
    uint32_t n_asked; /* shards it owes us */
    int32_t timeout_ms;
    int32_t answer_ms; /* smoothed time of an answer; 0: none yet */
    uint32_t strikes;  /* timeouts in a row */
};

struct version {
    int64_t number;
    bool is_complete, is_pinned, is_equivocated;
    uint8_t *envelope; /* owned; `shard` points into it */
    size_t envelope_len;
    struct digest run, weights, body;
    struct public_key signer;
    uint64_t file_bytes;
    uint32_t n_shards, n_have, n_busy;
    const struct digest *shard;
    uint32_t *order;                 /* owned: indices sorted by digest */
    uint8_t *have;                   /* owned bitmaps */
    uint8_t *busy;                   /* asked of somebody */
    uint16_t *copies;                /* owned: neighbours known to have each */
    uint8_t *theirs[CAST_PEERS_MAX]; /* owned bitmaps; NULL: nothing known */
    bool knows[CAST_PEERS_MAX];      /* has the manifest */
    bool wants[CAST_PEERS_MAX];      /* asked what we have while we had not all */
    uint32_t n_news;
    int64_t push_ms;     /* NEVER_MS: no news */
    int64_t have_ask_ms; /* when to ask everybody again */
};

struct ask {
    bool is_used;
    uint32_t peer;
    struct digest shard;
    int64_t sent_ms;
};

struct cast_state {
    struct cast_state_options opt;
    struct digest run;
    struct public_key trainer;
    bool has_run, has_trainer;
    struct peer peer[CAST_PEERS_MAX];
    uint32_t n_peers;                           /* slots in use are below this */
    struct version *version[CAST_VERSIONS_MAX]; /* ascending */
    size_t n_versions;
    int64_t pin[CAST_PINS_MAX];
    size_t n_pins;
    struct ask ask[CAST_ASKS_MAX];
    int64_t hint; /* -1: none */
    int64_t hint_ms, gap_ms, poll_ms;
    int32_t hint_wait_ms, gap_wait_ms;
    uint32_t turn;     /* rotates through the peers for questions */
    int64_t resume_ms; /* nothing is pulled before */
    int64_t armed_ms;  /* a CAST_WAKE is out for this moment */
    struct rng rng;
    struct cast_counters counters;
};

static inline bool bit_get(const uint8_t *map, size_t i)
{
    return (map[i / 8] >> (i % 8)) & 1;
}
static inline void bit_set(uint8_t *map, size_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] | 1u << (i % 8));
}
static inline void bit_clear(uint8_t *map, size_t i)
{
    map[i / 8] = (uint8_t)(map[i / 8] & ~(1u << (i % 8)));
}

/* ---- cast_state.c ------------------------------------------------------------------------ */

bool peer_is_linked(const struct peer *p); /* active, and there is a way to send to it */
struct peer *peer_find(struct cast_state *s, const struct public_key *key);
/* Looks for missing manifests soon. */
void gaps_restart(struct cast_state *s, int64_t now_ms);
/* The next peer that can be asked, in turn; the trainer's first if `trainer_first`. NULL: none. */
struct peer *peer_in_turn(struct cast_state *s, bool trainer_first);

/* ---- cast_version.c ---------------------------------------------------------------------- */

struct version *version_find(const struct cast_state *s, int64_t number);
/* The version with these weights that has most shards here; NULL. */
struct version *version_by_weights(const struct cast_state *s, const struct digest *weights);
/* Where shard d stands in v->order, and how often; 0 times if it is none of v's. */
size_t version_places(const struct version *v, const struct digest *d, size_t *first);
int64_t version_newest_known(const struct cast_state *s); /* -1: none */
/* A checked manifest from anywhere: *v is the version, new or known. *is_new says which.
 * ERR_EXISTS: it contradicts what is known (CAST_EQUIVOCATED is out). ERR_FULL: too many or too
 * old. */
MUST_USE enum status version_learn(struct cast_state *s, struct bytes envelope,
                                   const struct msg_envelope *env, const struct msg_manifest *m,
                                   struct version **v, bool *is_new, struct cast_out *out,
                                   struct err *e);
/* The shard is on disk: marks it wherever it stands, and says what became complete. */
void version_gained(struct cast_state *s, const struct digest *shard, int64_t now_ms,
                    struct cast_out *out);
bool version_is_missing(const struct cast_state *s, const struct digest *shard);
bool version_is_here(const struct cast_state *s, const struct digest *shard);
void version_trim(struct cast_state *s, struct cast_out *out);
void version_forget(struct cast_state *s, struct version *v, struct cast_out *out);
void version_free(struct version *v);
void version_forget_peer(struct cast_state *s, uint32_t peer);

/* ---- cast_pull.c ------------------------------------------------------------------------- */

void pull_learn_have(struct cast_state *s, uint32_t peer, const struct msg_have *m);
/* Closes the ask of this shard to this peer; true if there was one, with when it was sent. */
bool pull_answered(struct cast_state *s, uint32_t peer, const struct digest *shard,
                   int64_t *sent_ms);
void pull_not_there(struct cast_state *s, uint32_t peer, const struct digest *shard);
void pull_cancel_peer(struct cast_state *s, uint32_t peer);
void pull_timeouts(struct cast_state *s, int64_t now_ms);
int64_t pull_deadline(const struct cast_state *s); /* of the ask that times out first */
void pull(struct cast_state *s, int64_t now_ms, struct cast_out *out);

/* ---- cast_talk.c ------------------------------------------------------------------------- */

void talk_ask_manifest(struct cast_state *s, struct peer *p, int64_t version,
                       struct cast_out *out);
void talk_head(struct cast_state *s, struct peer *p, struct version *v, struct cast_out *out);
void talk_ask_have(struct cast_state *s, struct peer *p, struct version *v,
                   struct cast_out *out);
void talk_have(struct cast_state *s, struct peer *p, const struct version *v,
               struct cast_out *out);
void talk_ask_shard(struct cast_state *s, struct peer *p, const struct digest *shard,
                    struct cast_out *out);
/* To all that do not know it yet, except `from` (may be NULL). */
void talk_flood(struct cast_state *s, struct version *v, const struct peer *from,
                struct cast_out *out);
void talk_message(struct cast_state *s, struct peer *p, struct bytes frame, int64_t now_ms,
                  struct cast_out *out);

#endif
