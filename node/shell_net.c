#include "node/shell_net.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <zmq.h>

#include "base/alloc.h"
#include "base/check.h"
#include "node/guard.h"
#include "node/shell_peers.h"
#include "node/sock.h"

#define BATCH_MESSAGES  256 /* of one link in one round */
#define OUTBOX_MESSAGES 64u
#define OUTBOX_BYTES    (128u << 20)
#define OPEN_RATE       20L  /* messages a second from strangers */
#define FRAME_MIN       512u /* the handshake's own frames must fit */
#define EVENTS_MAX      64   /* of one round; the others come in the next */
#define WAITING_MS      3 /* between looks whether a paced server's clients have room again */
#define OPEN_FILES      65536 /* of which a server's connections are */

/* What waits for a server that is away. */
struct outbox {
    struct buf message[OUTBOX_MESSAGES]; /* owned; a ring */
    size_t first;
    size_t n;
    size_t bytes;
};

/* What waits for clients of a paced server, oldest first. */
struct waiting {
    uint64_t peer;
    struct buf message; /* owned */
};

struct link {
    uint32_t id;
    void *socket; /* NULL: closed, to be removed */
    struct shell_part *part;
    size_t max_frame;
    bool is_server, is_paced;
    bool open_to_all;
    int64_t rate_ms;   /* open_to_all: when the allowance was last counted, and what it was */
    int64_t allowance; /* in thousandths of a message */
    uint64_t peer;     /* client: the server's number */
    struct public_key server; /* client */
    struct outbox *outbox;    /* client; owned */
    struct waiting *waiting;  /* owned; paced server */
    size_t n_waiting;
    struct guard *guard; /* owned */
    void *monitor;       /* tells of the socket's connections */
    int monitor_fd;
    int64_t look_ms; /* in how long the guard is to look again */
    int fd;          /* libzmq's: readable while the socket has not seen what happened to it */
    bool is_stirred; /* it was sent to or received from since `events` were looked at */
    int events;      /* ZMQ_POLLIN, and ZMQ_POLLOUT where an outbox waits for it */
};

struct net {
    void *ctx;
    const struct node_key *key; /* borrowed */
    struct zap *zap;
    struct link **link; /* owned */
    size_t n_links, cap_links;
    uint32_t next_link;
    struct peers *peers;
    int epoll;   /* the `fd` of all links, and who wakes the loop */
    int wake_fd; /* -1: not there yet */
    atomic_uint_least64_t received, sent, dropped, cut; /* read by any thread */
};

/* ---- outbox ------------------------------------------------------------------------------ */

static struct buf *outbox_at(struct outbox *o, size_t i)
{
    return &o->message[(o->first + i) % OUTBOX_MESSAGES];
}

/* False if there is no room. */
static bool outbox_add(struct outbox *o, struct bytes m)
{
    struct buf *b;

    for (size_t i = 0; i < o->n; i++) {
        if (bytes_equal(buf_bytes(outbox_at(o, i)), m))
            return true; /* the same question, asked again */
    }
    if (o->n == OUTBOX_MESSAGES || m.len > OUTBOX_BYTES - o->bytes)
        return false;
    b = outbox_at(o, o->n);
    buf_init(b, m.len);
    buf_append(b, m);
    if (b->bad) {
        buf_clear(b);
        return false;
    }
    o->n++;
    o->bytes += m.len;
    return true;
}

static void outbox_drop_first(struct outbox *o)
{
    o->bytes -= outbox_at(o, 0)->len;
    buf_clear(outbox_at(o, 0));
    o->first = (o->first + 1) % OUTBOX_MESSAGES;
    o->n--;
}

/* ---- links ------------------------------------------------------------------------------- */

/* Of the soft limit, by custom 1,024, strangers' connections alone could take an eighth. */
static void allow_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= OPEN_FILES)
        return;
    limit.rlim_cur = limit.rlim_max < OPEN_FILES ? limit.rlim_max : OPEN_FILES;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

enum status net_open(struct net **out, const struct node_key *key, struct err *e)
{
    struct net *n = xcalloc(1, sizeof(*n));
    enum status st;

    *out = NULL;
    /* A process that moves frames of a megabyte allocates and frees little else: that memory is not
     * given back to the kernel, and zeroed again, each time. */
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
    allow_files();
    n->key = key;
    n->next_link = 1;
    n->wake_fd = -1;
    n->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (n->epoll < 0) {
        st = err_set(e, ERR_IO, "cannot open an epoll: %s", strerror(errno));
        free(n);
        return st;
    }
    peers_new(&n->peers);
    n->ctx = zmq_ctx_new();
    CHECK(n->ctx);
    st = zap_start(&n->zap, n->ctx, e);
    if (st) {
        net_close(&n);
        return st;
    }
    *out = n;
    return OK;
}

/* The monitor is stopped before who hears it is gone: libzmq's thread would wait for another, for ever, when what the
 * socket still has to send comes to an end. */
static void close_both(void *socket, void *monitor)
{
    (void)zmq_socket_monitor(socket, NULL, 0); /* fails in a context that is over */
    zmq_close(monitor);
    zmq_close(socket);
}

static void close_link(struct link *l)
{
    if (l->socket)
        close_both(l->socket, l->monitor);
    guard_free(&l->guard);
    while (l->outbox && l->outbox->n > 0)
        outbox_drop_first(l->outbox);
    free(l->outbox);
    for (size_t i = 0; i < l->n_waiting; i++)
        buf_clear(&l->waiting[i].message);
    free(l->waiting);
    free(l);
}

void net_close(struct net **out)
{
    struct net *n = *out;

    if (!n)
        return;
    zmq_ctx_shutdown(n->ctx);
    zap_stop(&n->zap);
    for (size_t i = 0; i < n->n_links; i++)
        close_link(n->link[i]);
    free(n->link);
    close(n->epoll);
    peers_free(&n->peers);
    while (zmq_ctx_term(n->ctx) != 0 && errno == EINTR)
        continue;
    free(n);
    *out = NULL;
}

/* Before the socket listens or dials. */
static void *open_monitor(struct net *n, void *socket)
{
    void *monitor = zmq_socket(n->ctx, ZMQ_PAIR);
    char name[64];

    snprintf(name, sizeof(name), "inproc://connections-%u", n->next_link);
    CHECK(monitor &&
          !zmq_socket_monitor(
              socket, name, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED));
    sock_set_int(monitor, ZMQ_RCVHWM, 0); /* libzmq's thread waits for no reader */
    sock_set_int(monitor, ZMQ_LINGER, 0);
    CHECK(zmq_connect(monitor, name) == 0);
    return monitor;
}

/* `l` NULL: who wakes the loop. */
static void await(struct net *n, int fd, struct link *l)
{
    struct epoll_event x = {.events = EPOLLIN, .data.ptr = l};

    CHECK(epoll_ctl(n->epoll, EPOLL_CTL_ADD, fd, &x) == 0);
}

/* Before its socket is closed: a number that is free is soon another's. */
static void await_no_more(struct net *n, struct link *l)
{
    CHECK(epoll_ctl(n->epoll, EPOLL_CTL_DEL, l->fd, NULL) == 0);
    CHECK(epoll_ctl(n->epoll, EPOLL_CTL_DEL, l->monitor_fd, NULL) == 0);
}

static int fd_of(void *socket)
{
    size_t fd_bytes = sizeof(int);
    int fd;

    CHECK(zmq_getsockopt(socket, ZMQ_FD, &fd, &fd_bytes) == 0);
    return fd;
}

static struct link *add_link(struct net *n, struct shell_part *p, void *socket, void *monitor,
                             const struct net_manner *how, bool is_server)
{
    const struct guard_limits limits =
        guard_limits_for(how->max_frame, how->open_to_all, is_server);
    struct link *l = xcalloc(1, sizeof(*l));

    l->id = n->next_link++;
    l->socket = socket;
    l->fd = fd_of(socket);
    await(n, l->fd, l);
    l->monitor = monitor;
    l->monitor_fd = fd_of(monitor);
    await(n, l->monitor_fd, l);
    guard_new(&l->guard, &limits);
    l->is_server = is_server;
    l->is_stirred = true;
    l->part = p;
    l->max_frame = how->max_frame;
    l->open_to_all = how->open_to_all;
    l->is_paced = how->is_paced;
    if (n->n_links == n->cap_links) {
        n->cap_links = n->cap_links ? 2 * n->cap_links : 8;
        n->link = xrealloc(n->link, n->cap_links * sizeof(struct link *));
    }
    n->link[n->n_links++] = l;
    return l;
}

enum status net_bind(struct net *n, struct shell_part *p, const char *endpoint,
                     const struct net_manner *how, uint32_t *link, char bound[256],
                     struct err *e)
{
    enum status st = sock_check_endpoint(endpoint, true, e);
    size_t bound_bytes = 256;
    void *socket, *monitor;
    struct link *l;

    CHECK(how->max_frame >= FRAME_MIN);
    if (st)
        return st;
    socket = zmq_socket(n->ctx, ZMQ_ROUTER);
    if (!socket)
        return err_set(e, ERR_IO, "cannot open a socket: %s", zmq_strerror(errno));
    sock_set_common(socket, endpoint, how->max_frame);
    if (how->is_paced)
        sock_set_int(socket, ZMQ_SNDHWM, SHELL_AHEAD);
    sock_set_server(socket, n->key->transport_secret, how->open_to_all);
    sock_set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
    monitor = open_monitor(n, socket);
    if (zmq_bind(socket, endpoint) != 0) {
        st = err_set(e, ERR_IO, "cannot listen on '%s': %s", endpoint, zmq_strerror(errno));
        close_both(socket, monitor);
        return st;
    }
    CHECK(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &bound_bytes) == 0);
    l = add_link(n, p, socket, monitor, how, true);
    l->allowance = OPEN_RATE * 1000;
    *link = l->id;
    return OK;
}

enum status net_connect(struct net *n, struct shell_part *p, const char *endpoint,
                        const struct public_key *server, const struct net_manner *how,
                        uint64_t *peer, struct err *e)
{
    enum status st = sock_check_endpoint(endpoint, false, e);
    void *socket, *monitor;
    struct link *l;

    CHECK(how->max_frame >= FRAME_MIN);
    if (st)
        return st;
    socket = zmq_socket(n->ctx, ZMQ_DEALER);
    if (!socket)
        return err_set(e, ERR_IO, "cannot open a socket: %s", zmq_strerror(errno));
    sock_set_common(socket, endpoint, how->max_frame);
    if (how->is_paced)
        sock_set_int(socket, ZMQ_SNDHWM, SHELL_AHEAD);
    sock_set_client(socket, &n->key->transport, n->key->transport_secret, server);
    sock_set_int(socket, ZMQ_IMMEDIATE, 1); /* what waits, waits in our outbox */
    monitor = open_monitor(n, socket);
    if (zmq_connect(socket, endpoint) != 0) {
        st = err_set(e, ERR_INVALID, "cannot dial '%s': %s", endpoint, zmq_strerror(errno));
        close_both(socket, monitor);
        return st;
    }
    l = add_link(n, p, socket, monitor, how, false);
    l->peer = peers_next_number(n->peers);
    l->server = *server;
    l->outbox = xcalloc(1, sizeof(*l->outbox));
    *peer = l->peer;
    return OK;
}

static struct link *find_client(struct net *n, uint64_t peer)
{
    for (size_t i = 0; i < n->n_links; i++) {
        if (!n->link[i]->is_server && n->link[i]->peer == peer)
            return n->link[i];
    }
    return NULL;
}

static struct link *find_server(struct net *n, uint32_t id)
{
    for (size_t i = 0; i < n->n_links; i++) {
        if (n->link[i]->is_server && n->link[i]->id == id)
            return n->link[i];
    }
    return NULL;
}

/* The link itself stays until the next poll: a callback may be in the middle of its messages. */
void net_disconnect(struct net *n, uint64_t peer)
{
    struct link *l = find_client(n, peer);

    if (!l || !l->socket)
        return;
    await_no_more(n, l);
    close_both(l->socket, l->monitor);
    l->socket = l->monitor = NULL;
}

static void remove_closed(struct net *n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n->n_links; i++) {
        if (n->link[i]->socket)
            n->link[kept++] = n->link[i];
        else
            close_link(n->link[i]);
    }
    n->n_links = kept;
}

void net_admit(struct net *n, const struct public_key *key, size_t n_keys)
{
    zap_admit(n->zap, key, n_keys);
}

void net_get_stats(struct net *n, struct shell_stats *out)
{
    *out = (struct shell_stats){.received = n->received,
                                .sent = n->sent,
                                .refused = zap_n_refused(n->zap),
                                .dropped = n->dropped,
                                .cut = n->cut};
}

/* ---- sending ----------------------------------------------------------------------------- */

static void client_flush(struct net *n, struct link *l)
{
    CHECK(l->outbox);
    l->is_stirred = true;
    while (l->outbox->n > 0) {
        struct buf *b = outbox_at(l->outbox, 0);

        if (zmq_send(l->socket, b->data, b->len, ZMQ_DONTWAIT) < 0)
            return;
        n->sent++;
        outbox_drop_first(l->outbox);
    }
}

static void client_send(struct net *n, struct link *l, struct bytes m)
{
    if (!l->socket)
        return;
    client_flush(n, l);
    if (l->outbox->n == 0 && zmq_send(l->socket, m.data, m.len, ZMQ_DONTWAIT) >= 0) {
        n->sent++;
        return;
    }
    if (!outbox_add(l->outbox, m))
        n->dropped++;
}

/* Names the client to whom the next frame goes. ERR_FULL, ERR_NOT_FOUND: it does not. */
static enum status server_address(struct net *n, struct link *l, const struct peer *p)
{
    if (!l->open_to_all && !zap_is_admitted(n->zap, &p->key))
        return ERR_NOT_FOUND;
    l->is_stirred = true;
    if (zmq_send(l->socket, p->routing_id, p->n_routing_id, ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0)
        return OK;
    if (errno == EAGAIN)
        return ERR_FULL;
    if (errno == EHOSTUNREACH)
        peers_forget(n->peers, p->number);
    return ERR_NOT_FOUND;
}

static enum status server_send(struct net *n, struct link *l, const struct peer *p,
                               struct bytes m)
{
    enum status st = server_address(n, l, p);

    if (!st && zmq_send(l->socket, m.data, m.len, ZMQ_DONTWAIT) < 0)
        st = ERR_NOT_FOUND;
    n->sent += st == OK;
    return st;
}

static bool waits(const struct link *l, uint64_t peer)
{
    for (size_t i = 0; i < l->n_waiting; i++)
        if (l->waiting[i].peer == peer)
            return true;
    return false;
}

static bool wait_for_room(struct link *l, uint64_t peer, struct bytes m)
{
    struct waiting *w;

    if (!l->is_paced || l->n_waiting == SHELL_WAITING_MAX)
        return false;
    if (!l->waiting)
        l->waiting = xcalloc(SHELL_WAITING_MAX, sizeof(*l->waiting));
    w = &l->waiting[l->n_waiting++];
    w->peer = peer;
    buf_init(&w->message, m.len);
    buf_append(&w->message, m);
    return true;
}

/* Order stays: behind one that finds no room, those for the same peer do not try. */
static void server_flush(struct net *n, struct link *l)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->n_waiting; i++) {
        struct waiting w = l->waiting[i];
        const struct peer *p = peers_find(n->peers, w.peer);
        bool is_behind = false;
        enum status st;

        for (size_t k = 0; k < kept; k++)
            is_behind = is_behind || l->waiting[k].peer == w.peer;
        st = !p          ? ERR_NOT_FOUND
             : is_behind ? ERR_FULL
                         : server_send(n, l, p, buf_bytes(&w.message));
        if (st == ERR_FULL) {
            l->waiting[kept++] = w;
            continue;
        }
        n->dropped += st != OK;
        buf_clear(&w.message);
    }
    l->n_waiting = kept;
}

void net_send(struct net *n, uint64_t peer, struct bytes message)
{
    struct link *l = find_client(n, peer);
    const struct peer *p;
    enum status st;

    if (l) {
        client_send(n, l, message);
        return;
    }
    p = peers_find(n->peers, peer);
    l = p ? find_server(n, p->link) : NULL;
    if (!l)
        st = ERR_NOT_FOUND;
    else
        st = waits(l, peer) ? ERR_FULL : server_send(n, l, p, message);
    if (st == OK || (st == ERR_FULL && wait_for_room(l, peer, message)))
        return;
    n->dropped++;
}

static int events_of(struct link *l)
{
    int events = 0;
    size_t len = sizeof(events);

    while (zmq_getsockopt(l->socket, ZMQ_EVENTS, &events, &len) != 0)
        CHECK(errno == EINTR);
    return events;
}

static enum status client_room(struct link *l)
{
    l->is_stirred = true;
    return l->outbox->n == 0 && events_of(l) & ZMQ_POLLOUT ? OK : ERR_FULL;
}

static void free_frame(void *data, void *hint)
{
    (void)hint;
    free(data);
}

enum status net_try_send(struct net *n, uint64_t peer, struct buf *message)
{
    struct link *l = find_client(n, peer);
    const struct peer *p = l ? NULL : peers_find(n->peers, peer);
    enum status st;
    zmq_msg_t m;

    if (p)
        l = find_server(n, p->link);
    if (!l || !l->socket)
        return ERR_NOT_FOUND;
    if (!p)
        st = client_room(l);
    else
        st = waits(l, peer) ? ERR_FULL : server_address(n, l, p);
    if (st)
        return st;
    CHECK(zmq_msg_init_data(&m, message->data, message->len, free_frame, NULL) == 0);
    buf_init(message, message->max); /* the bytes are the message's now */
    if (zmq_msg_send(&m, l->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&m);
        return ERR_NOT_FOUND;
    }
    n->sent++;
    return OK;
}

/* ---- polling ----------------------------------------------------------------------------- */

static void look(struct link *l)
{
    l->events =
        events_of(l) & (l->outbox && l->outbox->n > 0 ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN);
    l->is_stirred = false;
}

/* What is to be done before anything is awaited; how long that may be. */
static int64_t prepare(struct net *n, int64_t timeout_ms)
{
    for (size_t i = 0; i < n->n_links; i++) {
        struct link *l = n->link[i];

        if (l->n_waiting)
            server_flush(n, l);
        if (l->n_waiting && (timeout_ms < 0 || timeout_ms > WAITING_MS))
            timeout_ms = WAITING_MS;
        l->events = 0;
        if (l->is_stirred)
            look(l);
        if (l->events)
            timeout_ms = 0;
        if (timeout_ms < 0 || timeout_ms > l->look_ms)
            timeout_ms = l->look_ms;
    }
    return timeout_ms < INT_MAX ? timeout_ms : INT_MAX;
}

/* Not zmq_poll(), which asks each socket twice, and so the kernel, each time that one has a message. */
void net_poll(struct net *n, int wake_fd, int64_t timeout_ms, bool *is_woken)
{
    struct epoll_event event[EVENTS_MAX];
    int k;

    remove_closed(n);
    if (n->wake_fd < 0)
        await(n, wake_fd, NULL);
    n->wake_fd = wake_fd;
    *is_woken = false;
    k = epoll_wait(n->epoll, event, EVENTS_MAX, (int)prepare(n, timeout_ms));
    while (k-- > 0) { /* none: time is over, or a signal: its handler wrote to wake_fd */
        if (event[k].data.ptr)
            look(event[k].data.ptr);
        else
            *is_woken = true;
    }
    for (size_t i = 0; i < n->n_links; i++)
        if (n->link[i]->events & ZMQ_POLLOUT)
            client_flush(n, n->link[i]);
}

/* ---- receiving --------------------------------------------------------------------------- */

/* One message as it came: a routing id (servers only) and one frame. */
struct incoming {
    uint8_t routing_id[PEER_ROUTING_ID_MAX];
    size_t n_routing_id;
    zmq_msg_t body;
    bool is_well_formed;
};

/* False when nothing is there. */
static bool take_message(struct link *l, struct incoming *in)
{
    size_t want = l->is_server ? 2 : 1;
    size_t n_frames = 0;
    int more = 1;

    CHECK(zmq_msg_init(&in->body) == 0);
    in->n_routing_id = 0;
    in->is_well_formed = true;
    while (more) {
        if (zmq_msg_recv(&in->body, l->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&in->body);
            return false;
        }
        more = zmq_msg_more(&in->body);
        n_frames++;
        if (l->is_server && n_frames == 1) {
            in->n_routing_id = zmq_msg_size(&in->body);
            if (in->n_routing_id <= sizeof(in->routing_id))
                memcpy(in->routing_id, zmq_msg_data(&in->body), in->n_routing_id);
            else
                in->is_well_formed = false;
        }
    }
    if (n_frames != want || zmq_msg_size(&in->body) > l->max_frame)
        in->is_well_formed = false;
    return true;
}

static bool within_rate(struct link *l, int64_t now_ms)
{
    if (!l->open_to_all)
        return true;
    if (l->rate_ms) {
        l->allowance += (now_ms - l->rate_ms) * OPEN_RATE;
        if (l->allowance > OPEN_RATE * 1000)
            l->allowance = OPEN_RATE * 1000;
    }
    l->rate_ms = now_ms;
    if (l->allowance < 1000)
        return false;
    l->allowance -= 1000;
    return true;
}

/* Who sent it: the key that the handshake proved, as our ZAP handler noted it. It is read from
 * the body frame: libzmq 4.3.4 may lose the metadata of a routing id's. */
static bool sender_of(struct link *l, struct incoming *in, struct public_key *key)
{
    const char *user;

    if (!l->is_server) {
        *key = l->server;
        return true;
    }
    user = zmq_msg_gets(&in->body, "User-Id");
    return user && hex_decode(key->b, sizeof(key->b), user, NULL) == OK;
}

static void deliver(struct net *n, struct link *l, struct incoming *in, int64_t now_ms,
                    net_deliver *fn, void *arg)
{
    struct shell_message m = {.link = l->id, .peer = l->peer};
    bool is_of_somebody = sender_of(l, in, &m.transport);

    if (is_of_somebody)
        guard_heard(l->guard, zmq_msg_get(&in->body, ZMQ_SRCFD), &m.transport, now_ms);
    if (!in->is_well_formed || !is_of_somebody || !within_rate(l, now_ms)) {
        n->dropped++;
        return;
    }
    if (l->is_server) {
        /* The connection may be older than the roster that revoked its key. */
        if (!l->open_to_all && !zap_is_admitted(n->zap, &m.transport)) {
            zap_refused(n->zap, &m.transport, "revoked");
            return;
        }
        m.peer = peers_note(n->peers, l->id, (struct bytes){in->routing_id, in->n_routing_id},
                            &m.transport, now_ms);
    }
    n->received++;
    m.data = (struct bytes){zmq_msg_data(&in->body), zmq_msg_size(&in->body)};
    fn(arg, l->part, &m);
}

/* An event: its number, u16; a descriptor, i32; and in a frame of its own an endpoint. */
static void hear_monitor(struct link *l, int64_t now_ms)
{
    uint8_t event[6];

    while (zmq_recv(l->monitor, event, sizeof(event), ZMQ_DONTWAIT) >= 0) {
        uint16_t number;
        int32_t fd;

        memcpy(&number, event, sizeof(number));
        memcpy(&fd, event + sizeof(number), sizeof(fd));
        if (number == ZMQ_EVENT_DISCONNECTED)
            guard_gone(l->guard, fd);
        else
            guard_came(l->guard, fd, now_ms);
        (void)zmq_recv(l->monitor, NULL, 0, ZMQ_DONTWAIT);
    }
}

static void receive(struct net *n, struct link *l, int64_t now_ms, net_deliver *fn, void *arg)
{
    struct incoming in;

    if (!(l->events & ZMQ_POLLIN))
        return;
    l->is_stirred = true;
    for (int k = 0; k < BATCH_MESSAGES && l->socket && take_message(l, &in); k++) {
        deliver(n, l, &in, now_ms, fn, arg);
        zmq_msg_close(&in.body);
    }
}

void net_receive(struct net *n, int64_t now_ms, net_deliver *fn, void *arg)
{
    size_t n_links = n->n_links; /* a callback may add some */

    peers_expire(n->peers, now_ms);
    for (size_t i = 0; i < n_links; i++) {
        struct link *l = n->link[i];
        uint64_t before;

        if (!l->socket)
            continue;
        hear_monitor(l, now_ms);
        receive(n, l, now_ms, fn, arg);
        if (!l->socket)
            continue;
        before = guard_n_cut(l->guard);
        l->look_ms = guard_look(l->guard, now_ms); /* behind: what came is none unfinished */
        n->cut += guard_n_cut(l->guard) - before;
    }
}
