/*
 * sim/event_queue.h - what happens next, in virtual time
 *
 * Events come out in the order of their time, those of one moment in the order in which they were
 * put: a simulation is a function of its inputs. Times are nanoseconds from the beginning.
 *
 * The near future is a ring of buckets of 2^17 ns (0.13 ms), 2^16 of them: to put an event is to
 * link it to its bucket. Only the bucket that has come up is ordered, in a heap that stays small;
 * what is further away than the ring reaches (8.6 s) waits in a heap of its own. A simulation of
 * ten thousand nodes puts some hundred million events, most of them a few milliseconds ahead.
 * (R. Brown, "Calendar queues", CACM 31, 1988, doi:10.1145/63039.63045.)
 */
#ifndef SIM_EVENT_QUEUE_H
#define SIM_EVENT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event {
    int64_t at_ns;
    uint64_t seq;        /* the queue's: order of putting */
    uint32_t kind, node; /* the user's, like what follows */
    uint32_t a, b;
    uint64_t c;
};

struct event_queue;

void event_queue_new(struct event_queue **out);
void event_queue_free(struct event_queue **q);
/* Not before the time of the last event taken. */
void event_queue_put(struct event_queue *q, struct event e);
/* False: there is none. */
bool event_queue_take(struct event_queue *q, struct event *e);
size_t event_queue_length(const struct event_queue *q);

#endif
