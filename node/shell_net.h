/*
 * node/shell_net.h - inside node/: the sockets of a shell and the peers behind them
 *
 * Threads: all on the thread of the loop.
 */
#ifndef NODE_SHELL_NET_H
#define NODE_SHELL_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"
#include "node/key.h"
#include "node/shell.h"

struct net;

struct net_manner {
    size_t max_frame;
    bool open_to_all; /* servers */
    bool is_paced;    /* node/shell.h */
};

MUST_USE enum status net_open(struct net **out, const struct node_key *key, struct err *e);
void net_close(struct net **out);

MUST_USE enum status net_bind(struct net *n, struct shell_part *p, const char *endpoint,
                              const struct net_manner *how, uint32_t *link, char bound[256],
                              struct err *e);
MUST_USE enum status net_connect(struct net *n, struct shell_part *p, const char *endpoint,
                                 const struct public_key *server, const struct net_manner *how,
                                 uint64_t *peer, struct err *e);
void net_disconnect(struct net *n, uint64_t peer);
void net_admit(struct net *n, const struct public_key *key, size_t n_keys);
void net_get_stats(struct net *n, struct shell_stats *out);

/* Sleeps until a socket or wake_fd is ready or the time is over; then sends what waited for room.
 * Sets *is_woken if it was wake_fd. */
void net_poll(struct net *n, int wake_fd, int64_t timeout_ms, bool *is_woken);

/* Hands over what has arrived, at most so many messages a link. */
typedef void net_deliver(void *arg, struct shell_part *p, const struct shell_message *m);
void net_receive(struct net *n, int64_t now_ms, net_deliver *fn, void *arg);

void net_send(struct net *n, uint64_t peer, struct bytes message);
/* As shell_try_send. */
MUST_USE enum status net_try_send(struct net *n, uint64_t peer, struct buf *message);

#endif
