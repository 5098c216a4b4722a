/*
 * node/shell_peers.h - inside node/: numbers for the clients of our servers
 *
 * A client is known by (link, routing id, key). It is forgotten after PEER_SILENT_MS without a
 * message, or when it is the most silent of its link and there are PEERS_PER_LINK others.
 */
#ifndef NODE_SHELL_PEERS_H
#define NODE_SHELL_PEERS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "proto/types.h"

#define PEER_ROUTING_ID_MAX                                                                    \
    32u /* libzmq makes 5 bytes; other lengths are a client's own idea */
#define PEER_SILENT_MS (10L * 60 * 1000)
#define PEERS_PER_LINK 1024u

struct peer {
    uint64_t number;
    uint32_t link;
    uint8_t routing_id[PEER_ROUTING_ID_MAX];
    size_t n_routing_id;
    struct public_key key;
    int64_t heard_ms;
};

struct peers;

void peers_new(struct peers **out);
void peers_free(struct peers **p);
/* Numbers are never used twice, and never 0. */
uint64_t peers_next_number(struct peers *p);
/* The number of this client, made up if it is new. */
uint64_t peers_note(struct peers *p, uint32_t link, struct bytes routing_id,
                    const struct public_key *key, int64_t now_ms);
const struct peer *peers_find(const struct peers *p, uint64_t number); /* or NULL */
void peers_forget(struct peers *p, uint64_t number);
void peers_expire(struct peers *p, int64_t now_ms); /* cheap: looks once a minute */

#endif
