/*
 * shardcast/cast_inside.h - inside the machine of cast_state.h
 *
 *   cast_rules.h   its numbers
 *   cast_parts.h   its structs
 *   cast_state.c   inputs
 *   cast_timers.c  timers
 *   cast_peer.c    peers and their links
 *   cast_holding.c contents: what is known of them and what is here, retention
 *   cast_check.c   what the trainer signed: is it right, do two of them contradict each other
 *   cast_pick.c    the rarest shard that a neighbour has
 *   cast_pull.c    what is asked of whom
 *   cast_serve.c   who is given what, and when
 *   cast_lend.c    the origin: what is shown to whom until everything is out
 *   cast_talk.c    the messages, out and in
 *
 * A message costs some table look-ups and no walk over peers, contents or shards: what a message
 * changes is noted (s->stirred, due()), and settle() does what follows from the notes.
 */
#ifndef SHARDCAST_CAST_INSIDE_H
#define SHARDCAST_CAST_INSIDE_H

#include "proto/digest.h"
#include "shardcast/cast_parts.h"

/* ---- cast_peer.c ------------------------------------------------------------------------- */

bool peer_is_linked(const struct peer *p);
struct peer *peer_find(struct cast_state *s, const struct public_key *key);
struct peer *peer_new(struct cast_state *s, const struct public_key *key); /* NULL: no room */
void peer_free(struct peer *p);
/* It is reached by this link from now on; false: there are neighbours enough. */
bool peer_link(struct cast_state *s, struct peer *p, uint64_t link, int64_t now_ms);
void peer_deactivate(struct cast_state *s, struct peer *p);
void peer_ban(struct cast_state *s, struct peer *p, const struct holding *h, uint32_t index,
              const char *why, int64_t now_ms, struct cast_out *out);
/* The next neighbour that can be asked, in turn; the trainer first if `trainer_first`. NULL. */
struct peer *peer_in_turn(struct cast_state *s, bool trainer_first);

/* ---- cast_check.c ------------------------------------------------------------------------ */

/* A SEGMENT envelope, as cast_manifest_check. */
MUST_USE enum status segment_check(struct bytes envelope, const struct digest *run,
                                   const struct public_key *trainer, struct msg_envelope *env,
                                   struct msg_segment *m, struct err *e);
/* The same without the signature, for what was on disk, or where the options say otherwise. */
MUST_USE enum status signed_open(struct bytes envelope, enum msg_kind kind,
                                 const struct digest *run, const struct public_key *trainer,
                                 struct msg_envelope *env, struct err *e);
MUST_USE enum status segment_numbers(const struct msg_segment *m, struct err *e);

/* ---- cast_holding.c ---------------------------------------------------------------------- */

struct holding *holding_find(struct cast_state *s, const struct content *c);
const struct holding *holding_peek(const struct cast_state *s, const struct content *c);
/* Known or new; NULL: too old, or too many. */
struct holding *holding_get(struct cast_state *s, const struct content *c);
/* A checked manifest or segment from anywhere: *h is its content. *is_new: it was not here.
 * ERR_EXISTS: it contradicts what is; *other is that then. ERR_FULL: nobody here wants it. */
MUST_USE enum status holding_manifest(struct cast_state *s, const struct msg_envelope *env,
                                      const struct msg_manifest *m, struct holding **h,
                                      bool *is_new, struct bytes *other, struct cast_out *out,
                                      struct err *e);
MUST_USE enum status holding_segment(struct cast_state *s, const struct msg_envelope *env,
                                     const struct msg_segment *m, struct holding **h,
                                     bool *is_new, struct bytes *other, struct cast_out *out,
                                     struct err *e);
const struct digest *holding_leaf(const struct holding *h,
                                  uint32_t index);                /* NULL: not known */
uint32_t holding_length(const struct holding *h, uint32_t index); /* of a shard, nominal */
uint32_t holding_limit(const struct holding *h); /* one more than the last shard known */
/* The shard is on disk. */
void holding_gained(struct cast_state *s, struct holding *h, uint32_t index, int64_t now_ms,
                    struct cast_out *out);
void holding_settle(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out); /* is it complete? */
void holding_forget(struct cast_state *s, struct holding *h, int64_t now_ms,
                    struct cast_out *out);
void holding_free(struct holding *h);
void holding_trim(struct cast_state *s, int64_t now_ms, struct cast_out *out);
int64_t holding_newest_known(const struct cast_state *s); /* CONTENT_FULL; -1: none */
bool holding_is_pulled(const struct holding *h);
bool holding_is_pinned(const struct cast_state *s, const struct content *c);
void holding_replan(struct cast_state *s, int64_t now_ms); /* makes s->pulling */

/* ---- cast_pick.c ------------------------------------------------------------------------- */

struct picker *pick_new(void);
void pick_free(struct picker **p);
void pick_grow(struct picker *p, uint32_t cap);
/* A shard becomes open, or is not any more. */
void pick_open(struct picker *p, struct rng *r, uint32_t index);
void pick_close(struct picker *p, uint32_t index);
/* Neighbour `slot` has it, or not. */
void pick_learn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index);
void pick_unlearn(struct picker *p, struct rng *r, uint32_t slot, uint32_t index);
void pick_unlearn_all(struct picker *p, struct rng *r, uint32_t slot);
/* The rarest open shard that `slot` has, or any by lot. NOWHERE: none. */
uint32_t pick_rarest(const struct picker *p, uint32_t slot);
uint32_t pick_random(const struct picker *p, struct rng *r, uint32_t slot);

/* ---- cast_pull.c ------------------------------------------------------------------------- */

/* Replaces what is known of what it has. */
void pull_learn_have(struct cast_state *s, struct peer *p, struct holding *h,
                     const struct msg_have *m, int64_t now_ms, struct cast_out *out);
void pull_learn_news(struct cast_state *s, struct peer *p, struct holding *h,
                     struct bytes indices, int64_t now_ms);
/* Closes the ask of this shard to this peer; true if there was one. */
bool pull_answered(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                   int64_t now_ms);
/* A shard came (`from` may be NULL): others of whom it is asked need not send it. */
void pull_cancel_others(struct cast_state *s, struct holding *h, uint32_t index,
                        const struct peer *from, struct cast_out *out);
void pull_drop_peer(struct cast_state *s, struct peer *p);   /* its asks */
void pull_forget_peer(struct cast_state *s, struct peer *p); /* and what it has */
void pull_drop_holding(struct cast_state *s, struct holding *h, struct cast_out *out);
void pull_timeouts(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void pull(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void pull_stir(struct cast_state *s); /* something may be asked of anybody */
void pull_begin(struct cast_state *s, struct holding *h);
uint64_t pull_rate(const struct cast_state *s, const struct peer *p); /* bytes per s; 0: none */

/* ---- cast_serve.c ------------------------------------------------------------------------ */

void serve_wanted(struct cast_state *s, struct peer *p, struct holding *h,
                  const struct msg_shard_ask *m, int64_t now_ms, struct cast_out *out);
void serve_cancelled(struct peer *p, const struct holding *h, struct bytes indices);
void serve_given(struct peer *p, uint64_t bytes); /* it gave us so much */
void serve_served(struct cast_state *s, struct peer *p, struct holding *h, uint32_t index,
                  uint64_t bytes, int64_t now_ms, struct cast_out *out);
void serve_forget_peer(struct cast_state *s, struct peer *p);
void serve_drop_holding(struct cast_state *s, const struct holding *h);
void serve_choose(struct cast_state *s, int64_t now_ms, struct cast_out *out);
void serve(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* ---- cast_lend.c ------------------------------------------------------------------------- */

/* The origin's shards [from, to) are here. */
void lend_begin(struct cast_state *s, struct holding *h);
void lend_more(struct cast_state *s, struct holding *h, uint32_t from, uint32_t to);
void lend(struct cast_state *s, struct holding *h, int64_t now_ms, struct cast_out *out);
void lend_free(struct lending **l);
/* That neighbour says that it has a shard. */
void lend_heard(struct cast_state *s, struct holding *h, uint32_t slot, uint32_t index,
                int64_t now_ms);
/* A shard left for that neighbour. */
void lend_served(struct cast_state *s, struct holding *h, uint32_t slot, uint32_t index,
                 int64_t now_ms, struct cast_out *out);
void lend_look(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The bitmap of what this neighbour may see, appended. */
void lend_shown(const struct holding *h, uint32_t slot, struct buf *bitmap);
void lend_forget_peer(struct cast_state *s, struct holding *h, uint32_t slot);

/* ---- cast_talk.c ------------------------------------------------------------------------- */

void talk_raw(struct cast_state *s, struct peer *p, struct bytes frame, struct cast_out *out);
void talk_ask_head(struct cast_state *s, struct peer *p, struct cast_out *out);
void talk_head(struct cast_state *s, struct peer *p, struct cast_out *out);
void talk_ask_manifest(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out);
void talk_ask_segments(struct cast_state *s, struct peer *p, const struct content *c,
                       uint32_t first, uint32_t n, struct cast_out *out);
void talk_ask_have(struct cast_state *s, struct peer *p, const struct holding *h,
                   int64_t now_ms, struct cast_out *out);
void talk_have(struct cast_state *s, struct peer *p, struct holding *h, struct cast_out *out);
void talk_have_nothing(struct cast_state *s, struct peer *p, const struct content *c,
                       struct cast_out *out);
void talk_news(struct cast_state *s, struct peer *p, const struct holding *h,
               const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_ask_shards(struct cast_state *s, struct peer *p, const struct holding *h,
                     const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_cancel(struct cast_state *s, struct peer *p, const struct holding *h,
                 const uint32_t *index, uint32_t n, struct cast_out *out);
void talk_choke(struct cast_state *s, struct peer *p, bool is_choked, struct cast_out *out);
void talk_no_shard(struct cast_state *s, struct peer *p, const struct content *c,
                   uint32_t index, struct cast_out *out);
/* A frame to all neighbours but `from` (may be NULL). */
void talk_flood(struct cast_state *s, struct bytes frame, const struct peer *from,
                struct cast_out *out);
/* Nothing new should be made with what is here. */
void talk_freeze(struct cast_state *s, struct cast_out *out);
/* Two envelopes that contradict each other: the end. */
void talk_stop(struct cast_state *s, struct bytes first, struct bytes second,
               const struct content *about, struct cast_out *out);
void talk_message(struct cast_state *s, struct peer *p, struct bytes frame, int64_t now_ms,
                  struct cast_out *out);
MUST_USE enum status talk_take_head(struct cast_state *s, const struct peer *from,
                                    struct bytes envelope, int64_t now_ms, struct cast_out *out,
                                    struct err *e);
MUST_USE enum status talk_take_manifest(struct cast_state *s, const struct peer *from,
                                        struct bytes envelope, bool is_own, int64_t now_ms,
                                        struct cast_out *out, struct err *e);
MUST_USE enum status talk_take_segment(struct cast_state *s, const struct peer *from,
                                       struct bytes envelope, bool is_own, int64_t now_ms,
                                       struct cast_out *out, struct err *e);

/* ---- cast_timers.c ----------------------------------------------------------------------- */

/* What follows from any input. */
void settle(struct cast_state *s, int64_t now_ms, struct cast_out *out);
/* The newest version that anybody spoke of; -1: none. */
int64_t newest_named(const struct cast_state *s);
/* Looks for missing manifests and segments soon. */
void gaps_restart(struct cast_state *s, int64_t now_ms);

/* ---- cast_state.c ------------------------------------------------------------------------ */

/* Room for `n` elements; cap doubles. */
void *grow(void *p, uint32_t *cap, uint32_t n, size_t size);

#endif
