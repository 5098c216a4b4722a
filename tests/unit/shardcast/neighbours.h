/*
 * unit/shardcast/neighbours.h - one machine of cast_state.h, and a test that plays its neighbours
 *
 * The machine is node 1 of three; LINK_A leads to the trainer, LINK_B to another node. What it
 * wants done is in f->out, which feeding it does not clear.
 */
#ifndef NEIGHBOURS_H
#define NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shardcast/cast_state.h"
#include "support/test.h"
#include "unit/shardcast/versions.h"

#define LINK_A 11u /* to the trainer, node 0 */
#define LINK_B 12u /* to node 2 */

struct fixture {
    struct node_key *key[3]; /* trainer, this node, another */
    struct digest run;
    struct cast_state *s;
    struct cast_out out;
    int64_t now_ms;
};

int neighbours_setup(void **state);
int neighbours_teardown(void **state);
const struct node_key *at_end(const struct fixture *f, uint64_t link);
/* A frame as it is. */
void say_raw(struct fixture *f, uint64_t link, struct bytes frame);
void say(struct fixture *f, uint64_t link, enum msg_kind kind, const struct buf *body);
/* A message of this kind, from its struct. */
#define SAY(f, link, KIND, name, message)                                                      \
    do {                                                                                       \
        struct buf body_;                                                                      \
        buf_init(&body_, MSG_MAX_BYTES);                                                       \
        assert_ok(msg_##name##_encode(&body_, &(message), NULL), NULL);                        \
        say(f, link, MSG_##KIND, &body_);                                                      \
        buf_clear(&body_);                                                                     \
    } while (0)

void say_signed(struct fixture *f, uint64_t link, const struct version_made *v);
void say_have_all(struct fixture *f, uint64_t link, const struct version_made *v);
void say_shard(struct fixture *f, uint64_t link, const struct version_made *v, uint32_t index,
               struct bytes data);
void say_shard_ask(struct fixture *f, uint64_t link, const struct version_made *v,
                   uint32_t index);
void say_head(struct fixture *f, uint64_t link, uint64_t made_ms, int64_t version);
size_t count(const struct fixture *f, enum cast_act_kind kind);
/* The i-th message of a kind that was sent by a link (0: any); false: there are not so many. */
bool find_sent(const struct fixture *f, uint64_t link, enum msg_kind kind, size_t nth,
               struct msg_envelope *env);
size_t count_sent(const struct fixture *f, uint64_t link, enum msg_kind kind);
/* How many shards were asked of a link. */
size_t count_asked_of(const struct fixture *f, uint64_t link);
/* The i-th shard that was asked of a link. */
uint32_t nth_asked(const struct fixture *f, uint64_t link, size_t i);
/* Shards that a link was told of: by lists, not maps. */
size_t count_told(const struct fixture *f, uint64_t link);
void tick(struct fixture *f, int64_t now_ms);
void make(struct fixture *f, struct version_made *v, int64_t number, size_t n_bytes);
void feed_whole(struct fixture *f, const struct version_made *v);
bool is_complete(const struct fixture *f, int64_t number);
/* The machine is the origin's from now on. */
void become_origin(struct fixture *f);
void publish(struct fixture *f, const struct version_made *v);

#endif
