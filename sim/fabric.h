/*
 * sim/fabric.h - machines, their links and timers in virtual time
 *
 * What is modelled
 *   - Each node has one uplink and one downlink of given rates; nothing else in the network is
 *     ever full. A connection has a latency each way, a function of (seed, pair): uniform between
 *     half and one and a half times the mean.
 *   - Bulk messages (shards) leave in chunks. Those of one direction of a connection are a stream:
 *     in order, one after the other. The streams of a node share its uplink a chunk at a time in
 *     turn, and chunks pass the receiver's downlink in the order in which they come. A message is
 *     delivered when its last byte has passed both (store and forward per message, cut through
 *     per chunk).
 *   - A stream has at most two chunks under way when its receiver's downlink has more than
 *     `queue_ms` of work before it, and its sender's uplink goes to the others meanwhile, as with
 *     TCP's windows. So a full downlink is shared evenly between streams, and so is a full uplink:
 *     near the max-min fair rates that equal TCP flows tend to. Each stream's part of them is
 *     drawn anew every 2 s, between 1 - `unevenness` and 1 + `unevenness`.
 *   - Small messages (everything but shards) have a connection of their own, as between real nodes.
 *     They take their time on both links as well, and wait for what is queued at the receiver. When
 *     shards are simulated `coarse` times larger than real ones, that wait is that of the real
 *     ones: divided by `coarse`.
 *   - A bulk message counts as sent when no more than `buffer_bytes` of its stream have not left yet:
 *     sockets take that much in advance.
 *   - Each message costs MESSAGE_BYTES more than its own bytes (framing of ZMTP, box of CURVE).
 *     With `has_headers` each byte also pays its share of Ethernet, IP and TCP headers (66 bytes
 *     for 1,448), of segments that TCP sends again (1.6 in a hundred: measured between real nodes
 *     on links whose queue holds 50 ms), and of acknowledgements the other way (one for two
 *     segments). Without, a link's rate is that of the payload of TCP.
 *
 * What is not: losses and their delays, slow start, limits of socket buffers, routes shared
 * between nodes, and the time that a node computes (real nodes need 3 core-seconds a GB or less).
 *
 * A node that is down hears nothing, and what was on its way to or from it is lost. Connections
 * heal as ZeroMQ's do: the dialler's end keeps its link number, and the other end gets a new one.
 */
#ifndef SIM_FABRIC_H
#define SIM_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define FABRIC_MESSAGE_BYTES 42u /* 9 of ZMTP, 33 of CURVE */

struct fabric;

struct fabric_options {
    uint64_t seed;
    uint32_t n_nodes;
    double latency_ms; /* mean, one way */
    double queue_ms;   /* 0: the mean round trip, and at least 50 */
    double coarse;     /* at least 1 */
    uint64_t chunk_bytes, buffer_bytes;
    double unevenness; /* 0..1 */
    bool has_headers;
    void *ctx;
    /* A message for `node`; the bytes are lent. `peer` is who sent it. */
    void (*message)(void *ctx, uint32_t node, uint64_t link, uint32_t peer, struct bytes data);
    void (*timer)(void *ctx, uint32_t node, uint32_t tag);
    /* A bulk message counts as sent. May be NULL. */
    void (*sent)(void *ctx, uint32_t node, uint64_t link, uint32_t tag, uint64_t wire_bytes);
};

void fabric_new(struct fabric **out, const struct fabric_options *opt);
void fabric_free(struct fabric **p);
/* Bits a second. Before anything is sent. */
void fabric_set_rates(struct fabric *n, uint32_t node, double up, double down);

/* Opens a connection, and returns the dialler's link. */
uint64_t fabric_dial(struct fabric *n, uint32_t from, uint32_t to);
void fabric_hang_up(struct fabric *n, uint32_t from, uint64_t link);
/* `data` is the network's from now on: malloc'ed, *data NULL afterwards. A message on a link that is
 * no longer there is dropped. */
void fabric_send(struct fabric *n, uint32_t from, uint64_t link, uint8_t **data, size_t len);
/* A bulk message, which weighs `wire_bytes`. False: it was dropped, and there will be no `sent`. */
bool fabric_send_bulk(struct fabric *n, uint32_t from, uint64_t link, uint8_t **data,
                      size_t len, uint64_t wire_bytes, uint32_t tag);
/* Calls back at `at_ms`, or at once if that has passed. Timers of a node that is down are lost. */
void fabric_wake(struct fabric *n, uint32_t node, int64_t at_ms, uint32_t tag);
/* A timer of the caller's own, for no node: it comes whatever is up. */
void fabric_schedule(struct fabric *n, int64_t at_ns, uint32_t node, uint32_t tag);

/* A node that goes down loses what is queued at it, and all that it dialled. */
void fabric_set_up(struct fabric *n, uint32_t node, bool is_up);
bool fabric_is_up(const struct fabric *n, uint32_t node);

/* Deals with the next event. False: there is none. */
bool fabric_step(struct fabric *n);
int64_t fabric_now_ns(const struct fabric *n);
int64_t fabric_now_ms(const struct fabric *n);

struct fabric_counters {
    uint64_t events, messages;
    uint64_t bulk_bytes, small_bytes; /* put on uplinks, in bytes on the wire */
};
struct fabric_counters fabric_counters(const struct fabric *n);
uint64_t fabric_bytes_out(const struct fabric *n, uint32_t node); /* that left its uplink */

#endif
