#include "sim/event_queue.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"

#define BUCKET_SHIFT 17u
#define BUCKETS      (1u << 16)
#define NONE         UINT32_MAX

struct heap {
    struct event *v; /* owned */
    size_t n, cap;
};

struct waiting {
    struct event e;
    uint32_t next;
};

struct event_queue {
    uint32_t bucket[BUCKETS]; /* chains of `waiting` */
    uint64_t full[BUCKETS / 64];
    struct waiting *w; /* owned */
    uint32_t n_w, cap_w, free_w;
    struct heap now, far;
    int64_t at; /* number of the bucket that is in `now` */
    size_t n_ring;
    uint64_t seq;
};

/* ---- heaps ------------------------------------------------------------------------------- */

static bool is_before(const struct event *a, const struct event *b)
{
    return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->seq < b->seq);
}

static void heap_put(struct heap *h, const struct event *e)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? 2 * h->cap : 64;
        h->v = xrealloc(h->v, h->cap * sizeof(*h->v));
    }
    size_t i = h->n++;
    for (; i > 0 && is_before(e, &h->v[(i - 1) / 4]); i = (i - 1) / 4)
        h->v[i] = h->v[(i - 1) / 4];
    h->v[i] = *e;
}

static struct event heap_take(struct heap *h)
{
    struct event first = h->v[0], last = h->v[--h->n];
    size_t i = 0;

    for (;;) {
        size_t best = 4 * i + 1;
        if (best >= h->n)
            break;
        for (size_t k = best + 1; k < h->n && k <= 4 * i + 4; k++)
            if (is_before(&h->v[k], &h->v[best]))
                best = k;
        if (!is_before(&h->v[best], &last))
            break;
        h->v[i] = h->v[best];
        i = best;
    }
    h->v[i] = last;
    return first;
}

/* ---- the ring ---------------------------------------------------------------------------- */

static uint32_t waiting_new(struct event_queue *q)
{
    uint32_t i = q->free_w;

    if (i != NONE) {
        q->free_w = q->w[i].next;
        return i;
    }
    if (q->n_w == q->cap_w) {
        q->cap_w = q->cap_w ? 2 * q->cap_w : 1024;
        q->w = xrealloc(q->w, q->cap_w * sizeof(*q->w));
    }
    return q->n_w++;
}

static void ring_put(struct event_queue *q, const struct event *e, int64_t number)
{
    uint32_t at = (uint32_t)number % BUCKETS, i = waiting_new(q);

    q->w[i] = (struct waiting){*e, q->bucket[at]};
    q->bucket[at] = i;
    q->full[at / 64] |= (uint64_t)1 << (at % 64);
    q->n_ring++;
}

static void ring_open(struct event_queue *q, uint32_t at)
{
    uint32_t i = q->bucket[at];

    while (i != NONE) {
        uint32_t next = q->w[i].next;
        heap_put(&q->now, &q->w[i].e);
        q->w[i].next = q->free_w;
        q->free_w = i;
        q->n_ring--;
        i = next;
    }
    q->bucket[at] = NONE;
    q->full[at / 64] &= ~((uint64_t)1 << (at % 64));
}

/* How many buckets further the next one stands that is not empty. */
static uint32_t ring_distance(const struct event_queue *q)
{
    uint32_t at = (uint32_t)(q->at + 1) % BUCKETS, d = 1;

    for (;;) {
        uint64_t word = q->full[at / 64] >> (at % 64);
        for (; word && !(word & 1); word >>= 1)
            d++;
        if (word)
            return d;
        d += 64 - at % 64;
        at = (at + 64 - at % 64) % BUCKETS;
    }
}

/* ---- the queue --------------------------------------------------------------------------- */

void event_queue_new(struct event_queue **out)
{
    struct event_queue *q = xcalloc(1, sizeof(*q));

    for (uint32_t i = 0; i < BUCKETS; i++)
        q->bucket[i] = NONE;
    q->free_w = NONE;
    *out = q;
}

void event_queue_free(struct event_queue **q)
{
    if (!*q)
        return;
    free((*q)->w);
    free((*q)->now.v);
    free((*q)->far.v);
    free(*q);
    *q = NULL;
}

void event_queue_put(struct event_queue *q, struct event e)
{
    int64_t number = e.at_ns >> BUCKET_SHIFT;

    CHECK(number >= q->at);
    e.seq = q->seq++;
    if (number <= q->at)
        heap_put(&q->now, &e);
    else if (number < q->at + (int64_t)BUCKETS)
        ring_put(q, &e, number);
    else
        heap_put(&q->far, &e);
}

bool event_queue_take(struct event_queue *q, struct event *e)
{
    if (q->now.n == 0) {
        if (q->n_ring == 0 && q->far.n == 0)
            return false;
        int64_t far = q->far.n ? q->far.v[0].at_ns >> BUCKET_SHIFT : INT64_MAX;
        int64_t near = q->n_ring ? q->at + ring_distance(q) : INT64_MAX;
        q->at = near < far ? near : far;
        if (near == q->at)
            ring_open(q, (uint32_t)q->at % BUCKETS);
        while (q->far.n && q->far.v[0].at_ns >> BUCKET_SHIFT <= q->at) {
            struct event f = heap_take(&q->far);
            heap_put(&q->now, &f);
        }
    }
    *e = heap_take(&q->now);
    return true;
}

size_t event_queue_length(const struct event_queue *q)
{
    return q->now.n + q->n_ring + q->far.n;
}
