/*
 * node/guard.h - inside node/: what the connections of our sockets may hold
 *
 * libzmq bounds a frame and the time of a handshake. It does not bound how many connections there are, and it
 * gathers the frames of a message until the last has come, however many: a stranger could take all descriptors, or
 * have us gather without end. The guard is told of each TCP connection, looks at how much came by it, and cuts:
 *
 *   - those by which no message has come: beyond `silent_max` the oldest, what has been still for `silent_ms`, and
 *     while all of them together have sent more than `unfinished_bytes` bytes, the one that has sent most;
 *   - of one key: beyond `per_key` the one heard least lately, and while all of them together have sent more than
 *     `unfinished_bytes` bytes since their last whole message, the one that has sent most;
 *   - of a server for strangers: what is older than `silent_ms`, or has sent more than `unfinished_bytes` bytes in all.
 *
 * An honest peer whose connection is cut dials again and asks again. Between two looks a connection brings what its
 * line carries.
 *
 * Threads: all on the thread of the loop.
 */
#ifndef NODE_GUARD_H
#define NODE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

struct guard_limits {
    bool is_for_strangers;
    uint32_t silent_max;
    uint32_t per_key;
    int64_t silent_ms;
    uint64_t unfinished_bytes;
};

struct guard;

/* What suits a socket of frames of at most `max_frame` bytes. By a connection that we dialled nothing comes that was not
 * asked for: it is not still too long. */
struct guard_limits guard_limits_for(size_t max_frame, bool is_for_strangers, bool is_server);

void guard_new(struct guard **out, const struct guard_limits *limits);
void guard_free(struct guard **g); /* NULL is fine */

void guard_came(struct guard *g, int fd, int64_t now_ms);
void guard_gone(struct guard *g, int fd);
/* A whole message came by `fd`, which may be none that we know. */
void guard_heard(struct guard *g, int fd, const struct public_key *key, int64_t now_ms);

/* Cuts what is to be cut, if it is time to look. In how many ms it is to be called again. */
int64_t guard_look(struct guard *g, int64_t now_ms);

size_t guard_n_open(const struct guard *g);
uint64_t guard_n_cut(const struct guard *g);

#endif
