/*
 * node/guard, over real TCP connections on the loopback and a clock of the tests' own; and in a shell.
 */
#include "node/guard.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "base/check.h"
#include "node/key.h"
#include "node/shell.h"
#include "node/sock.h"
#include "support/test.h"
#include "support/wait.h"

#define N_MAX     400
#define FRAME_MAX 4096

/* A listening socket, and connections to it: `theirs` as who dialled has it, `ours` as we do. */
struct room {
    struct guard_limits limits;
    struct guard *guard;
    struct sockaddr_in at;
    int listener;
    int theirs[N_MAX], ours[N_MAX];
    int n;
    int64_t now_ms;
};

static void open_room(struct room *r, bool is_for_strangers)
{
    socklen_t len = sizeof(r->at);

    memset(r, 0, sizeof(*r));
    r->limits = guard_limits_for(FRAME_MAX, is_for_strangers, true);
    guard_new(&r->guard, &r->limits);
    r->at.sin_family = AF_INET;
    r->at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(r->listener, (struct sockaddr *)&r->at, sizeof(r->at)), 0);
    assert_int_equal(listen(r->listener, N_MAX), 0);
    assert_int_equal(getsockname(r->listener, (struct sockaddr *)&r->at, &len), 0);
    r->now_ms = 1000;
}

static void close_room(struct room *r)
{
    for (int i = 0; i < r->n; i++) {
        close(r->theirs[i]);
        close(r->ours[i]);
    }
    close(r->listener);
    guard_free(&r->guard);
}

static int come(struct room *r)
{
    int i = r->n++;

    CHECK(i < N_MAX);
    r->theirs[i] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(r->theirs[i], (struct sockaddr *)&r->at, sizeof(r->at)), 0);
    r->ours[i] = accept(r->listener, NULL, NULL);
    assert_true(r->ours[i] >= 0);
    guard_came(r->guard, r->ours[i], r->now_ms);
    return i;
}

/* `bytes` come by connection i, and are read, as libzmq's thread does. */
static void bring(struct room *r, int i, size_t bytes)
{
    static char buffer[8192];

    while (bytes > 0) {
        size_t n = bytes < sizeof(buffer) ? bytes : sizeof(buffer);

        assert_int_equal(send(r->theirs[i], buffer, n, 0), (ssize_t)n);
        assert_int_equal(recv(r->ours[i], buffer, n, MSG_WAITALL), (ssize_t)n);
        bytes -= n;
    }
}

static void hear(struct room *r, int i, uint8_t who)
{
    struct public_key key = {{who}};

    guard_heard(r->guard, r->ours[i], &key, r->now_ms);
}

static void look_after(struct room *r, int64_t ms)
{
    r->now_ms += ms;
    (void)guard_look(r->guard, r->now_ms);
}

/* What was shut down on our side ends on theirs. */
static bool is_cut(const struct room *r, int i)
{
    char c;

    return recv(r->theirs[i], &c, 1, MSG_DONTWAIT) == 0;
}

static int n_cut(const struct room *r)
{
    int n = 0;

    for (int i = 0; i < r->n; i++)
        n += is_cut(r, i);
    return n;
}

static void of_too_many_strangers_the_oldest_are_cut(void **state)
{
    (void)state;
    struct room r;
    int most;
    open_room(&r, true);
    most = (int)r.limits.silent_max;

    for (int i = 0; i < most; i++)
        (void)come(&r);
    look_after(&r, 100);
    assert_int_equal(n_cut(&r), 0);
    for (int i = 0; i < 9; i++)
        (void)come(&r);
    hear(&r, 0, 1); /* what a stranger says makes it no friend */
    look_after(&r, 100);

    assert_int_equal(n_cut(&r), 9);
    for (int i = 0; i < 9; i++)
        assert_true(is_cut(&r, i));
    assert_int_equal(guard_n_open(r.guard), most);
    close_room(&r);
}

static void a_stranger_may_send_so_much_and_stay_so_long(void **state)
{
    (void)state;
    struct room r;
    int talker, idler;
    open_room(&r, true);

    talker = come(&r);
    idler = come(&r);
    bring(&r, talker, r.limits.unfinished_bytes);
    look_after(&r, 100);
    assert_int_equal(n_cut(&r), 0);
    hear(&r, talker, 1);
    bring(&r, talker, 1);
    look_after(&r, 100);
    assert_true(is_cut(&r, talker));
    look_after(&r, r.limits.silent_ms - 201);
    assert_false(is_cut(&r, idler));
    look_after(&r, 100);
    assert_true(is_cut(&r, idler));
    close_room(&r);
}

static void a_peer_that_says_nothing_is_cut_and_one_that_is_slow_is_not(void **state)
{
    (void)state;
    struct room r;
    int silent, slow, heard;
    open_room(&r, false);

    silent = come(&r);
    slow = come(&r);
    heard = come(&r);
    hear(&r, heard, 1);
    for (int i = 0; i < 20; i++) {
        bring(&r, slow, 10);
        look_after(&r, 1000);
        assert_int_equal(is_cut(&r, silent), i + 1 >= r.limits.silent_ms / 1000);
    }

    assert_false(is_cut(&r, slow));
    assert_false(is_cut(&r, heard));
    close_room(&r);
}

static void a_message_without_end_is_cut_and_those_of_others_go_on(void **state)
{
    (void)state;
    struct room r;
    int bad, good, fresh;
    open_room(&r, false);

    bad = come(&r);
    good = come(&r);
    hear(&r, bad, 1);
    hear(&r, good, 2);
    look_after(&r, 1000);
    for (int i = 0; i < 4; i++) { /* much, but in messages that end */
        bring(&r, good, r.limits.unfinished_bytes / 2);
        hear(&r, good, 2);
        look_after(&r, 1000);
    }
    bring(&r, bad, r.limits.unfinished_bytes);
    look_after(&r, 1000);
    assert_int_equal(n_cut(&r), 0);
    bring(&r, bad, 1);
    fresh = come(&r);
    bring(&r, fresh, 1000); /* its first message is on its way */
    look_after(&r, 1000);

    assert_true(is_cut(&r, bad));
    assert_int_equal(n_cut(&r), 1);
    close_room(&r);
}

static void what_connections_of_one_key_hold_counts_together(void **state)
{
    (void)state;
    struct room r;
    int one, other;
    open_room(&r, false);

    one = come(&r);
    other = come(&r);
    hear(&r, one, 1);
    hear(&r, other, 1);
    look_after(&r, 1000);
    bring(&r, one, r.limits.unfinished_bytes / 2);
    bring(&r, other, r.limits.unfinished_bytes / 2 + 1);
    look_after(&r, 1000);

    assert_false(is_cut(&r, one));
    assert_true(is_cut(&r, other));
    close_room(&r);
}

static void of_one_keys_many_connections_the_least_used_are_cut(void **state)
{
    (void)state;
    struct room r;
    int most, first, other;
    open_room(&r, false);
    most = (int)r.limits.per_key;

    other = come(&r);
    hear(&r, other, 2);
    first = come(&r);
    hear(&r, first, 1);
    r.now_ms++;
    for (int i = 1; i < most; i++)
        hear(&r, come(&r), 1);
    look_after(&r, 1000);
    assert_int_equal(n_cut(&r), 0);
    hear(&r, come(&r), 1);
    look_after(&r, 1000);

    assert_true(is_cut(&r, first));
    assert_int_equal(n_cut(&r), 1);
    close_room(&r);
}

static void a_descriptor_that_is_anothers_now_is_left_alone(void **state)
{
    (void)state;
    struct room r;
    int i, fd, again;
    open_room(&r, true);

    i = come(&r);
    fd = r.ours[i];
    close(fd);
    again = socket(AF_INET, SOCK_STREAM, 0); /* a connection that the guard was not told of */
    assert_int_equal(again, fd);
    assert_int_equal(connect(again, (struct sockaddr *)&r.at, sizeof(r.at)), 0);
    look_after(&r, r.limits.silent_ms);

    assert_int_equal(guard_n_cut(r.guard), 0);
    assert_int_equal(guard_n_open(r.guard), 0);
    assert_int_equal(send(again, "x", 1, MSG_NOSIGNAL), 1);
    close_room(&r);
}

/* ---- in a shell ---------------------------------------------------------------------------- */

/* A server for strangers, which answers what it is sent. */
struct server {
    struct node_key *key;
    struct shell *shell;
    pthread_t thread;
    char endpoint[256];
    enum status result;
};

static void answer(void *ctx, const struct shell_message *m, int64_t now_ms,
                   struct effects *out)
{
    (void)ctx;
    (void)now_ms;
    effects_send(out, m->peer, m->data);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    (void)ctx;
    (void)now_ms;
    (void)out;
}

static void *serve(void *arg)
{
    struct server *s = arg;
    struct err e;

    s->result = shell_run(s->shell, &e);
    return NULL;
}

static void open_server(struct server *s)
{
    const struct shell_part_ops ops = {.ctx = s, .on_message = answer, .on_timer = on_timer};
    const uint8_t seed[32] = {1};
    struct shell_part *part;
    struct err e = {0};
    uint32_t link;

    key_derive(&s->key, seed);
    assert_ok(shell_new(&s->shell, s->key, &e), &e);
    part = shell_add_part(s->shell, &ops, NULL, 0);
    assert_ok(shell_bind(s->shell, part, "tcp://127.0.0.1:*", true, FRAME_MAX, &link,
                         s->endpoint, &e),
              &e);
    CHECK(pthread_create(&s->thread, NULL, serve, s) == 0);
}

static void close_server(struct server *s)
{
    shell_stop(s->shell);
    CHECK(pthread_join(s->thread, NULL) == 0);
    assert_int_equal(s->result, OK);
    shell_free(&s->shell);
    key_free(&s->key);
}

static uint64_t n_cut_of(const struct server *s)
{
    struct shell_stats stats;

    shell_get_stats(s->shell, &stats);
    return stats.cut;
}

/* libzmq's own client: it can send what no shell would. */
struct client {
    void *ctx, *socket, *monitor;
};

static struct client dial(const struct server *s, uint8_t who)
{
    const uint8_t seed[32] = {who};
    struct client c = {.ctx = zmq_ctx_new()};
    struct node_key *key;

    key_derive(&key, seed);
    c.socket = zmq_socket(c.ctx, ZMQ_DEALER);
    c.monitor = zmq_socket(c.ctx, ZMQ_PAIR);
    sock_set_client(c.socket, &key->transport, key->transport_secret, &s->key->transport);
    sock_set_int(c.socket, ZMQ_SNDHWM, 0);
    sock_set_int(c.socket, ZMQ_LINGER, 0);
    sock_set_int(c.socket, ZMQ_RECONNECT_IVL, -1);
    CHECK(!zmq_socket_monitor(c.socket, "inproc://m", ZMQ_EVENT_DISCONNECTED));
    CHECK(!zmq_connect(c.monitor, "inproc://m") && !zmq_connect(c.socket, s->endpoint));
    key_free(&key);
    return c;
}

static void hang_up(struct client *c)
{
    CHECK(!zmq_close(c->socket) && !zmq_close(c->monitor));
    while (zmq_ctx_term(c->ctx) != 0)
        CHECK(errno == EINTR);
}

static bool is_answered(const struct client *c)
{
    char in[16];

    return zmq_recv(c->socket, in, sizeof(in), ZMQ_DONTWAIT) >= 0;
}

static bool is_disconnected(const struct client *c)
{
    uint8_t in[6];

    return zmq_recv(c->monitor, in, sizeof(in), ZMQ_DONTWAIT) >= 0;
}

static void a_message_of_many_frames_ends_its_connection_and_no_other(void **state)
{
    (void)state;
    const uint8_t part[1000] = {0};
    struct server s = {0};
    struct client bad, good;
    open_server(&s);
    bad = dial(&s, 2);
    good = dial(&s, 3);

    for (int i = 0; i < 200; i++)
        assert_int_equal(zmq_send(bad.socket, part, sizeof(part), ZMQ_SNDMORE), sizeof(part));
    assert_int_equal(zmq_send(bad.socket, part, 1, 0), 1); /* libzmq sends none before */

    assert_within(5000, is_disconnected(&bad));
    assert_int_equal(zmq_send(good.socket, "hello", 5, 0), 5);
    assert_within(5000, is_answered(&good));
    assert_false(is_answered(&bad));
    assert_int_equal(n_cut_of(&s), 1);
    hang_up(&bad);
    hang_up(&good);
    close_server(&s);
}

static void strangers_that_stay_keep_nobody_out(void **state)
{
    (void)state;
    enum { MANY = 200 };
    const struct guard_limits limits = guard_limits_for(FRAME_MAX, true, true);
    struct sockaddr_in at = {.sin_family = AF_INET};
    struct server s = {0};
    struct client good;
    int fd[MANY];
    open_server(&s);
    at.sin_port = htons((uint16_t)strtol(strrchr(s.endpoint, ':') + 1, NULL, 10));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    for (int i = 0; i < MANY; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd[i], (struct sockaddr *)&at, sizeof(at)), 0);
    }
    assert_within(5000, n_cut_of(&s) >= MANY - limits.silent_max);
    good = dial(&s, 3);
    assert_int_equal(zmq_send(good.socket, "hello", 5, 0), 5);

    assert_within(5000, is_answered(&good));
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
    hang_up(&good);
    close_server(&s);
}

/* Dials a server that breaks off, sends it much, and hangs up at once; then asks another. */
struct dialler {
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    pthread_t thread;
    uint64_t peer;
    struct buf much;
    const struct server *other;
    atomic_int n_answers;
    enum status result;
};

static void hang_up_on(void *ctx, int64_t now_ms, struct effects *out)
{
    struct dialler *d = ctx;
    struct err e;

    if (!d->peer)
        return;
    if (shell_try_send(d->shell, d->peer, &d->much) != OK) { /* not connected yet */
        effects_timer(out, now_ms + 2);
        return;
    }
    shell_disconnect(d->shell, d->peer);
    d->peer = 0;
    CHECK(!shell_connect(d->shell, d->part, d->other->endpoint, &d->other->key->transport,
                         FRAME_MAX, &d->peer, &e));
    effects_send(out, d->peer, BYTES_LIT("hello"));
    d->peer = 0;
}

static void count_answer(void *ctx, const struct shell_message *m, int64_t now_ms,
                         struct effects *out)
{
    struct dialler *d = ctx;

    (void)m;
    (void)now_ms;
    (void)out;
    d->n_answers++;
}

static void *run_dialler(void *arg)
{
    struct dialler *d = arg;
    struct err e;

    d->result = shell_run(d->shell, &e);
    return NULL;
}

/* libzmq tells the end of a connection that is closed on our side, too: nobody hears it then. */
static void who_hangs_up_in_the_middle_is_connected_to_others(void **state)
{
    (void)state;
    const size_t bytes = (size_t)32 << 20; /* more than lies in the kernel */
    const uint8_t seed[32] = {5}, rude_seed[32] = {6};
    struct shell_part_ops ops = {.on_message = count_answer, .on_timer = hang_up_on};
    struct dialler d = {0};
    struct server s = {0};
    struct node_key *rude_key;
    void *ctx = zmq_ctx_new(), *rude = zmq_socket(ctx, ZMQ_ROUTER);
    char endpoint[256];
    size_t len = sizeof(endpoint);
    struct err e = {0};
    open_server(&s);
    key_derive(&rude_key, rude_seed);
    sock_set_common(rude, "tcp://", 1000); /* breaks off at the first bytes of a larger frame */
    sock_set_int(rude, ZMQ_CURVE_SERVER, 1);
    CHECK(!zmq_setsockopt(rude, ZMQ_CURVE_SECRETKEY, rude_key->transport_secret, 32));
    CHECK(!zmq_bind(rude, "tcp://127.0.0.1:*"));
    CHECK(!zmq_getsockopt(rude, ZMQ_LAST_ENDPOINT, endpoint, &len));

    ops.ctx = &d;
    d.other = &s;
    key_derive(&d.key, seed);
    assert_ok(shell_new(&d.shell, d.key, &e), &e);
    d.part = shell_add_part(d.shell, &ops, NULL, 0);
    buf_init(&d.much, bytes);
    (void)buf_extend(&d.much, bytes);
    assert_ok(
        shell_connect(d.shell, d.part, endpoint, &rude_key->transport, FRAME_MAX, &d.peer, &e),
        &e);
    CHECK(pthread_create(&d.thread, NULL, run_dialler, &d) == 0);

    assert_within(5000, d.n_answers == 1);
    shell_stop(d.shell);
    CHECK(pthread_join(d.thread, NULL) == 0);
    assert_int_equal(d.result, OK);
    shell_free(&d.shell);
    key_free(&d.key);
    buf_clear(&d.much);
    close_server(&s);
    CHECK(!zmq_close(rude) && !zmq_ctx_term(ctx));
    key_free(&rude_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_too_many_strangers_the_oldest_are_cut),
        cmocka_unit_test(a_stranger_may_send_so_much_and_stay_so_long),
        cmocka_unit_test(a_peer_that_says_nothing_is_cut_and_one_that_is_slow_is_not),
        cmocka_unit_test(a_message_without_end_is_cut_and_those_of_others_go_on),
        cmocka_unit_test(what_connections_of_one_key_hold_counts_together),
        cmocka_unit_test(of_one_keys_many_connections_the_least_used_are_cut),
        cmocka_unit_test(a_descriptor_that_is_anothers_now_is_left_alone),
        cmocka_unit_test(a_message_of_many_frames_ends_its_connection_and_no_other),
        cmocka_unit_test(strangers_that_stay_keep_nobody_out),
        cmocka_unit_test(who_hangs_up_in_the_middle_is_connected_to_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
