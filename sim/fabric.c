#include "sim/fabric.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/rng.h"
#include "sim/event_queue.h"

#define NONE         UINT32_MAX
#define HEADER_SHARE (66.0 / 1448.0) /* Ethernet 14, IP 20, TCP 32 with time stamps */
#define RESENT_SHARE 0.016 /* of segments, by cubic on links with a queue of 50 ms: measured */
#define ACK_SHARE    (66.0 / (2 * 1448.0)) /* delayed acknowledgements */
#define SPAN_NS      2000000000LL          /* for which a stream's part is drawn */
#define QUEUE_MIN_MS 50.0

enum { EV_UPLINK = 1, EV_SENT, EV_ARRIVE, EV_READY, EV_DELIVER, EV_TIMER, EV_OWN };

struct message {
    uint8_t *data; /* owned */
    uint64_t wire; /* bytes */
    uint32_t len, next;
    uint32_t stream, age, tag;
    uint64_t end; /* bytes of its stream up to it */
};

/* One direction of a connection: number 2c from the dialler of connection c, 2c + 1 to it. */
struct stream {
    uint32_t from, to;
    int64_t latency_ns;
    uint32_t first, last; /* bulk messages that wait; NONE */
    uint64_t left;        /* of `first`: bytes not on the uplink yet */
    uint64_t taken, gone; /* bytes that entered the queue, and that left the uplink */
    uint32_t report;      /* the first message that does not count as sent; NONE */
    uint32_t next;        /* in its sender's round */
    uint32_t n_flying;    /* chunks that have not reached the downlink */
    int64_t passed_ns[2]; /* when the last two that did have passed it */
    uint32_t age;         /* grows when the connection breaks: what is of another age is lost */
    int64_t small_ns;     /* arrival of the last small message: they stay in order */
    bool is_in_round, is_waiting;
};

struct node {
    double up_ns, down_ns; /* for a byte */
    int64_t up_free_ns, down_free_ns;
    uint64_t queued; /* bytes of all its streams that have not left */
    uint64_t coming; /* bytes on their way to the downlink */
    uint32_t round_first, round_last, n_round;
    bool is_up, is_sending;
    uint32_t life;
    uint64_t bytes_out;
};

struct fabric {
    struct fabric_options opt;
    struct event_queue *queue; /* owned */
    struct node *node;         /* owned */
    struct stream *stream;     /* owned */
    uint32_t n_streams, cap_streams;
    struct message *message; /* owned */
    uint32_t n_messages, cap_messages, free_message;
    int64_t now_ns, queue_ns;
    double share, ack_share;
    struct fabric_counters counters;
};

/* ---- life -------------------------------------------------------------------------------- */

void fabric_new(struct fabric **out, const struct fabric_options *opt)
{
    struct fabric *n = xcalloc(1, sizeof(*n));
    double queue_ms = opt->queue_ms > 0 ? opt->queue_ms : 2 * opt->latency_ms;

    if (queue_ms < QUEUE_MIN_MS)
        queue_ms = QUEUE_MIN_MS;
    n->opt = *opt;
    n->queue_ns = (int64_t)(queue_ms * 1e6);
    n->share = opt->has_headers ? 1.0 + HEADER_SHARE + RESENT_SHARE : 1.0;
    n->ack_share = opt->has_headers ? ACK_SHARE : 0.0;
    n->node = xcalloc(opt->n_nodes, sizeof(*n->node));
    for (uint32_t i = 0; i < opt->n_nodes; i++) {
        n->node[i].round_first = NONE;
        n->node[i].is_up = true;
    }
    n->free_message = NONE;
    event_queue_new(&n->queue);
    *out = n;
}

void fabric_free(struct fabric **p)
{
    struct fabric *n = *p;

    if (!n)
        return;
    for (uint32_t i = 0; i < n->n_messages; i++)
        free(n->message[i].data);
    event_queue_free(&n->queue);
    free(n->message);
    free(n->stream);
    free(n->node);
    free(n);
    *p = NULL;
}

void fabric_set_rates(struct fabric *n, uint32_t node, double up, double down)
{
    n->node[node].up_ns = 8e9 / up * n->share;
    n->node[node].down_ns = 8e9 / down * n->share;
}

static void put(struct fabric *n, int64_t at_ns, uint32_t kind, uint32_t node, uint32_t a,
                uint32_t b, uint64_t c)
{
    event_queue_put(n->queue, (struct event){.at_ns = at_ns < n->now_ns ? n->now_ns : at_ns,
                                             .kind = kind,
                                             .node = node,
                                             .a = a,
                                             .b = b,
                                             .c = c});
}

/* ---- messages and connections ------------------------------------------------------------ */

static uint32_t message_new(struct fabric *n)
{
    uint32_t i = n->free_message;

    if (i != NONE) {
        n->free_message = n->message[i].next;
        return i;
    }
    if (n->n_messages == n->cap_messages) {
        n->cap_messages = n->cap_messages ? 2 * n->cap_messages : 1024;
        n->message = xrealloc(n->message, n->cap_messages * sizeof(*n->message));
    }
    return n->n_messages++;
}

static void message_drop(struct fabric *n, uint32_t i)
{
    free(n->message[i].data);
    n->message[i].data = NULL;
    n->message[i].next = n->free_message;
    n->free_message = i;
}

/* Between half and one and a half times the mean, the same both ways and at each dial. */
static int64_t latency_of(const struct fabric *n, uint32_t a, uint32_t b)
{
    uint32_t lo = a < b ? a : b, hi = a < b ? b : a, x[4];

    philox4x32(x, n->opt.seed, (uint32_t[]){lo, hi, 0x6c617465u, 0});
    return (int64_t)(n->opt.latency_ms * 1e6 * (0.5 + x[0] * 0x1p-32));
}

/* A link is (age of its stream, stream + 1): the number of the stream that leaves by it. */
static uint64_t link_of(const struct fabric *n, uint32_t stream)
{
    /* The dialler's end keeps its number when the connection is made anew. */
    uint32_t age = stream % 2 ? n->stream[stream].age : 0;

    return (uint64_t)age << 32 | (stream + 1);
}

static uint32_t stream_of(const struct fabric *n, uint32_t from, uint64_t link)
{
    uint32_t s = (uint32_t)link - 1;

    if (s >= n->n_streams || n->stream[s].from != from || link_of(n, s) != link)
        return NONE;
    return s;
}

uint64_t fabric_dial(struct fabric *n, uint32_t from, uint32_t to)
{
    uint32_t s = n->n_streams;
    int64_t latency = latency_of(n, from, to);

    if (n->n_streams + 2 > n->cap_streams) {
        n->cap_streams = n->cap_streams ? 2 * n->cap_streams : 1024;
        n->stream = xrealloc(n->stream, n->cap_streams * sizeof(*n->stream));
    }
    n->n_streams += 2;
    n->stream[s] = (struct stream){.from = from,
                                   .to = to,
                                   .latency_ns = latency,
                                   .first = NONE,
                                   .last = NONE,
                                   .next = NONE,
                                   .report = NONE};
    n->stream[s + 1] = n->stream[s];
    n->stream[s + 1].from = to;
    n->stream[s + 1].to = from;
    return link_of(n, s);
}

static void list_push(struct fabric *n, uint32_t *first, uint32_t *last, uint32_t s)
{
    n->stream[s].next = NONE;
    if (*first == NONE)
        *first = s;
    else
        n->stream[*last].next = s;
    *last = s;
}

static uint32_t list_pop(struct fabric *n, uint32_t *first)
{
    uint32_t s = *first;

    *first = n->stream[s].next;
    return s;
}

/* What is in the stream and on its way is lost. It stays in the list it is in. */
static void stream_break(struct fabric *n, uint32_t s)
{
    struct stream *t = &n->stream[s];

    while (t->first != NONE) {
        uint32_t m = t->first;
        t->first = n->message[m].next;
        message_drop(n, m);
    }
    if (t->from != NONE)
        n->node[t->from].queued -= t->taken - t->gone;
    t->last = NONE;
    t->left = t->n_flying = 0;
    t->taken = t->gone = 0;
    t->report = NONE;
    t->is_waiting = false;
    t->age++;
}

void fabric_hang_up(struct fabric *n, uint32_t from, uint64_t link)
{
    uint32_t s = stream_of(n, from, link);

    if (s == NONE)
        return;
    stream_break(n, s);
    stream_break(n, s ^ 1);
    n->stream[s].from = n->stream[s ^ 1].from = NONE; /* never again */
}

void fabric_set_up(struct fabric *n, uint32_t node, bool is_up)
{
    struct node *x = &n->node[node];

    if (x->is_up == is_up)
        return;
    x->is_up = is_up;
    x->life++;
    for (uint32_t s = 0; s < n->n_streams; s += 2) {
        struct stream *t = &n->stream[s];
        if (t->from == NONE || (t->from != node && t->to != node))
            continue;
        stream_break(n, s);
        stream_break(n, s + 1);
        if (t->from == node)
            t->from = n->stream[s + 1].from = NONE; /* it dials anew when it is back */
    }
    while (x->round_first != NONE)
        n->stream[list_pop(n, &x->round_first)].is_in_round = false;
    x->n_round = 0;
    x->is_sending = false;
    x->up_free_ns = x->down_free_ns = n->now_ns;
}

bool fabric_is_up(const struct fabric *n, uint32_t node)
{
    return n->node[node].is_up;
}

/* ---- the uplink -------------------------------------------------------------------------- */

static int64_t backlog_ns(const struct fabric *n, const struct node *to)
{
    int64_t busy = to->down_free_ns - n->now_ns;

    return (busy > 0 ? busy : 0) + (int64_t)((double)to->coming * to->down_ns);
}

/* Two chunks of a stream may be under way whatever else is, and more while the receiver's queue is
 * short. */
static bool is_ready(const struct fabric *n, const struct stream *t)
{
    uint32_t n_out =
        t->n_flying + (t->passed_ns[0] > n->now_ns) + (t->passed_ns[1] > n->now_ns);

    return n_out < 2 || backlog_ns(n, &n->node[t->to]) <= n->queue_ns;
}

/* Flows of TCP are equal in the long run only: the part of each is drawn anew now and then. */
static double weight_of(const struct fabric *n, uint32_t s)
{
    uint32_t x[4], span = (uint32_t)(n->now_ns / SPAN_NS);

    if (n->opt.unevenness <= 0)
        return 1.0;
    philox4x32(x, n->opt.seed, (uint32_t[]){s, span, 0x70617274u, 0});
    return 1.0 + n->opt.unevenness * (x[0] * 0x1p-31 - 1.0);
}

static uint64_t chunk_of(const struct fabric *n, uint32_t s)
{
    const struct stream *t = &n->stream[s];
    uint64_t size = (uint64_t)((double)n->opt.chunk_bytes * weight_of(n, s)) + 1;

    return t->left < size ? t->left : size;
}

/* Tells of what counts as sent once `at_ns` has come. */
static void report_sent(struct fabric *n, uint32_t s, int64_t at_ns)
{
    struct stream *t = &n->stream[s];

    while (t->report != NONE) {
        const struct message *m = &n->message[t->report];
        if (m->end > t->gone + n->opt.buffer_bytes)
            return;
        if (n->opt.sent)
            put(n, at_ns, EV_SENT, t->from, s, m->tag, m->wire << 24 | (t->age & 0xffffffu));
        t->report = m->next;
    }
}

/* Puts the next chunk of a stream on its sender's uplink. */
static void chunk_send(struct fabric *n, uint32_t s)
{
    struct stream *t = &n->stream[s];
    struct node *from = &n->node[t->from], *to = &n->node[t->to];
    struct message *m = &n->message[t->first];
    uint64_t size = chunk_of(n, s);
    bool is_last = size == t->left;
    int64_t start = from->up_free_ns > n->now_ns ? from->up_free_ns : n->now_ns;
    uint32_t id = is_last ? t->first : NONE;

    from->up_free_ns = start + (int64_t)((double)size * from->up_ns);
    from->bytes_out += size;
    to->up_free_ns += (int64_t)((double)size * n->ack_share * to->up_ns);
    n->counters.bulk_bytes += size;
    to->coming += size;
    t->n_flying++;
    t->left -= size;
    t->gone += size;
    from->queued -= size;
    if (is_last) {
        m->stream = s;
        m->age = t->age;
    }
    report_sent(n, s, from->up_free_ns);
    if (is_last) {
        t->first = m->next;
        if (t->first != NONE)
            t->left = n->message[t->first].wire;
    }
    /* The first byte arrives; its last one cannot come before it has left. */
    put(n, start + t->latency_ns, EV_ARRIVE, t->to, s, id, size << 24 | (t->age & 0xffffffu));
}

/* Until one of its chunks has passed the downlink. One that flies will say when that is. */
static void stream_wait(struct fabric *n, uint32_t s)
{
    struct stream *t = &n->stream[s];
    bool is_first = t->passed_ns[0] > n->now_ns;
    int64_t at_ns = is_first ? t->passed_ns[0] : t->passed_ns[1];

    t->is_waiting = true;
    if (at_ns > n->now_ns)
        put(n, at_ns, EV_READY, t->from, s, t->age, 0);
}

/* The next chunk, of the next stream in turn whose receiver can take it. */
static void uplink_turn(struct fabric *n, uint32_t node)
{
    struct node *x = &n->node[node];

    x->is_sending = true; /* whoever enters the round meanwhile waits for its turn */
    while (x->round_first != NONE) {
        uint32_t s = list_pop(n, &x->round_first);
        struct stream *t = &n->stream[s];
        x->n_round--;
        t->is_in_round = false;
        if (t->first == NONE)
            continue;
        if (!is_ready(n, t)) {
            stream_wait(n, s);
            continue;
        }
        chunk_send(n, s);
        if (t->first != NONE) {
            t->is_in_round = true;
            x->n_round++;
            list_push(n, &x->round_first, &x->round_last, s);
        }
        put(n, x->up_free_ns, EV_UPLINK, node, 0, 0, x->life);
        return;
    }
    x->is_sending = false;
}

/* ---- the downlink ------------------------------------------------------------------------ */

static void round_enter(struct fabric *n, uint32_t s)
{
    struct stream *t = &n->stream[s];
    struct node *x = &n->node[t->from];

    t->is_in_round = true;
    x->n_round++;
    list_push(n, &x->round_first, &x->round_last, s);
    if (!x->is_sending)
        uplink_turn(n, t->from);
}

/* ---- the downlink ------------------------------------------------------------------------ */

static void on_ready(struct fabric *n, const struct event *e)
{
    struct stream *t = &n->stream[e->a];

    if (!t->is_waiting || t->age != e->b)
        return;
    t->is_waiting = false;
    if (t->first != NONE)
        round_enter(n, e->a);
}

static void on_arrive(struct fabric *n, const struct event *e)
{
    struct stream *t = &n->stream[e->a];
    struct node *x = &n->node[e->node];
    uint64_t size = e->c >> 24;

    x->coming -= size;
    if ((t->age & 0xffffffu) != (e->c & 0xffffffu)) {
        if (e->b != NONE)
            message_drop(n, e->b);
        return;
    }
    int64_t start = x->down_free_ns > n->now_ns ? x->down_free_ns : n->now_ns;
    int64_t left_ns = n->now_ns + (int64_t)((double)size * n->node[t->from].up_ns);
    x->down_free_ns = start + (int64_t)((double)size * x->down_ns);
    t->n_flying--;
    t->passed_ns[0] = t->passed_ns[1];
    t->passed_ns[1] = x->down_free_ns > left_ns ? x->down_free_ns : left_ns;
    if (e->b != NONE)
        put(n, t->passed_ns[1], EV_DELIVER, e->node, e->b, 0, 0);
    if (t->is_waiting)
        put(n, t->passed_ns[1], EV_READY, t->from, e->a, t->age, 0);
}

static void on_deliver(struct fabric *n, const struct event *e)
{
    struct message m = n->message[e->a];
    const struct stream *t = &n->stream[m.stream];

    n->message[e->a].data = NULL;
    message_drop(n, e->a);
    if (t->age == m.age && n->node[e->node].is_up) {
        n->counters.messages++;
        n->opt.message(n->opt.ctx, e->node, link_of(n, m.stream ^ 1), t->from,
                       (struct bytes){m.data, m.len});
    }
    free(m.data);
}

static void on_sent(struct fabric *n, const struct event *e)
{
    if ((n->stream[e->a].age & 0xffffffu) == (e->c & 0xffffffu))
        n->opt.sent(n->opt.ctx, e->node, link_of(n, e->a), e->b, e->c >> 24);
}

/* ---- sending ----------------------------------------------------------------------------- */

/* Small messages are not cut and take no turn: what they wait for is computed at once. */
static void small_send(struct fabric *n, uint32_t s, uint32_t id)
{
    struct stream *t = &n->stream[s];
    struct node *from = &n->node[t->from], *to = &n->node[t->to];
    struct message *m = &n->message[id];
    double up = (double)m->wire * from->up_ns, down = (double)m->wire * to->down_ns;
    double wait = (double)from->queued * from->up_ns;
    int64_t behind = to->down_free_ns - n->now_ns;

    if (wait > (double)n->queue_ns)
        wait = (double)n->queue_ns;
    wait = (wait + (behind > 0 ? (double)behind : 0)) / n->opt.coarse;
    from->up_free_ns =
        (from->up_free_ns > n->now_ns ? from->up_free_ns : n->now_ns) + (int64_t)up;
    to->down_free_ns =
        (to->down_free_ns > n->now_ns ? to->down_free_ns : n->now_ns) + (int64_t)down;
    from->bytes_out += m->wire;
    n->counters.small_bytes += m->wire;
    int64_t at = n->now_ns + t->latency_ns + (int64_t)(wait + up + down);
    if (at < t->small_ns)
        at = t->small_ns;
    t->small_ns = at;
    put(n, at, EV_DELIVER, t->to, id, 0, 0);
}

/* The stream to send by, and the message made for it. NONE: nobody would hear it. */
static uint32_t message_make(struct fabric *n, uint32_t from, uint64_t link, uint8_t **data,
                             size_t len, uint64_t wire_bytes, uint32_t tag)
{
    uint32_t s = stream_of(n, from, link), id;

    CHECK(len <= UINT32_MAX);
    if (s == NONE || !n->node[n->stream[s].to].is_up || !n->node[from].is_up) {
        free(*data);
        *data = NULL;
        return NONE;
    }
    id = message_new(n);
    n->message[id] = (struct message){.data = *data,
                                      .wire = wire_bytes + FABRIC_MESSAGE_BYTES,
                                      .len = (uint32_t)len,
                                      .next = NONE,
                                      .stream = s,
                                      .age = n->stream[s].age,
                                      .tag = tag};
    *data = NULL;
    return id;
}

void fabric_send(struct fabric *n, uint32_t from, uint64_t link, uint8_t **data, size_t len)
{
    uint32_t id = message_make(n, from, link, data, len, len, 0);

    if (id != NONE)
        small_send(n, n->message[id].stream, id);
}

bool fabric_send_bulk(struct fabric *n, uint32_t from, uint64_t link, uint8_t **data,
                      size_t len, uint64_t wire_bytes, uint32_t tag)
{
    uint32_t id = message_make(n, from, link, data, len, wire_bytes, tag);

    if (id == NONE)
        return false;
    struct stream *t = &n->stream[n->message[id].stream];
    if (t->first == NONE) {
        t->first = id;
        t->left = n->message[id].wire;
    } else {
        n->message[t->last].next = id;
    }
    t->last = id;
    t->taken += n->message[id].wire;
    n->node[from].queued += n->message[id].wire;
    n->message[id].end = t->taken;
    if (t->report == NONE)
        t->report = id;
    report_sent(n, n->message[id].stream, n->now_ns);
    if (!t->is_in_round && !t->is_waiting)
        round_enter(n, n->message[id].stream);
    return true;
}

/* ---- time -------------------------------------------------------------------------------- */

void fabric_wake(struct fabric *n, uint32_t node, int64_t at_ms, uint32_t tag)
{
    put(n, at_ms * 1000000, EV_TIMER, node, tag, 0, n->node[node].life);
}

void fabric_schedule(struct fabric *n, int64_t at_ns, uint32_t node, uint32_t tag)
{
    put(n, at_ns, EV_OWN, node, tag, 0, 0);
}

bool fabric_step(struct fabric *n)
{
    struct event e;

    if (!event_queue_take(n->queue, &e))
        return false;
    n->now_ns = e.at_ns;
    n->counters.events++;
    bool is_old = e.c != n->node[e.node].life;
    switch (e.kind) {
    case EV_SENT: on_sent(n, &e); break;
    case EV_UPLINK:
        if (!is_old)
            uplink_turn(n, e.node);
        break;
    case EV_ARRIVE: on_arrive(n, &e); break;
    case EV_DELIVER: on_deliver(n, &e); break;
    case EV_READY: on_ready(n, &e); break;
    case EV_TIMER:
        if (!is_old && n->node[e.node].is_up)
            n->opt.timer(n->opt.ctx, e.node, e.a);
        break;
    default: n->opt.timer(n->opt.ctx, e.node, e.a); break;
    }
    return true;
}

int64_t fabric_now_ns(const struct fabric *n)
{
    return n->now_ns;
}

int64_t fabric_now_ms(const struct fabric *n)
{
    return n->now_ns / 1000000;
}

struct fabric_counters fabric_counters(const struct fabric *n)
{
    return n->counters;
}

uint64_t fabric_bytes_out(const struct fabric *n, uint32_t node)
{
    return n->node[node].bytes_out;
}
