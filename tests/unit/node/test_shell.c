/*
 * node/shell, over real sockets: servers and clients in one process, each loop in its own thread.
 */
#include "node/shell.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "node/sock.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "support/wait.h"

#define FRAME_MAX 4096
#define HEARD_MAX 256

/* One process of the network, were it one: a shell with one part. The part does what a message
 * says: "echo X" answers X, "put X" stores and answers it, "job X" answers X reversed by a job,
 * "bad" asks for a PUT that no database takes. */
struct node {
    struct node_key *key;
    struct shell *shell;
    struct shell_part *part;
    struct db *db;
    pthread_t thread;
    bool is_running;
    enum status result;
    struct err e;

    pthread_mutex_t lock; /* of all below */
    char heard[HEARD_MAX][64];
    struct public_key from[HEARD_MAX];
    int n_heard;
    char to_send[HEARD_MAX][64];
    uint64_t to_peer;
    int n_to_send;
    int n_timers;
    int64_t fired_ms[8];
    int64_t ask_timer_ms;
};

static void reply(struct effects *out, uint64_t peer, const char *text)
{
    effects_send(out, peer, bytes_str(text));
}

static void on_message(void *ctx, const struct shell_message *m, int64_t now_ms,
                       struct effects *out)
{
    struct node *n = ctx;
    char text[64] = "";

    (void)now_ms;
    memcpy(text, m->data.data, m->data.len < 63 ? m->data.len : 63);
    pthread_mutex_lock(&n->lock);
    CHECK(n->n_heard < HEARD_MAX);
    memcpy(n->heard[n->n_heard], text, sizeof(text));
    n->from[n->n_heard++] = m->transport;
    pthread_mutex_unlock(&n->lock);
    if (strncmp(text, "echo ", 5) == 0) {
        reply(out, m->peer, text + 5);
    } else if (strncmp(text, "put ", 4) == 0) {
        reply(out, m->peer, text + 4); /* asked for before the PUT, sent after it */
        effects_put(out, 0, bytes_str(text + 4), BYTES_LIT("here"));
    } else if (strncmp(text, "job ", 4) == 0) {
        effects_start(out, 7, m->peer, bytes_str(text + 4));
    } else if (strcmp(text, "bad") == 0) {
        effects_put(out, 0, (struct bytes){NULL, 0}, BYTES_LIT("a key of no bytes"));
        reply(out, m->peer, "sent all the same");
    }
}

static enum status run_job(void *ctx, uint32_t job, uint64_t number, struct bytes args,
                           struct buf *result, struct err *e)
{
    (void)ctx;
    (void)number;
    if (args.len == 0)
        return err_set(e, ERR_INVALID, "job %u got nothing", job);
    for (size_t i = args.len; i-- > 0;)
        buf_put_u8(result, args.data[i]);
    return OK;
}

static void on_job(void *ctx, uint32_t job, uint64_t number, enum status st,
                   struct bytes result, const struct err *e, int64_t now_ms,
                   struct effects *out)
{
    (void)ctx;
    (void)now_ms;
    CHECK(job == 7);
    if (st)
        reply(out, number, e->text);
    else
        effects_send(out, number, result);
}

static void on_timer(void *ctx, int64_t now_ms, struct effects *out)
{
    struct node *n = ctx;

    pthread_mutex_lock(&n->lock);
    if (n->n_timers < 8)
        n->fired_ms[n->n_timers] = now_ms;
    if (n->n_timers++ == 0 && n->ask_timer_ms) {
        effects_timer(out, now_ms + 2 * n->ask_timer_ms);
        effects_timer(out, now_ms + n->ask_timer_ms);
        effects_timer(out, now_ms + n->ask_timer_ms);
    }
    for (int i = 0; i < n->n_to_send; i++) {
        static const uint8_t nothing[FRAME_MAX];
        const char *text = n->to_send[i];

        if (strncmp(text, "size ", 5) == 0)
            effects_send(out, n->to_peer,
                         (struct bytes){nothing, (size_t)strtol(text + 5, NULL, 10)});
        else
            reply(out, n->to_peer, text);
    }
    n->n_to_send = 0;
    pthread_mutex_unlock(&n->lock);
}

static struct node *make_node(uint8_t who, struct db *db)
{
    const uint8_t seed[32] = {who};
    struct node *n = calloc(1, sizeof(*n));
    struct err e = {0};

    CHECK(n);
    pthread_mutex_init(&n->lock, NULL);
    key_derive(&n->key, seed);
    assert_ok(shell_new(&n->shell, n->key, &e), &e);
    n->db = db;
    n->part = shell_add_part(n->shell,
                             &(struct shell_part_ops){.ctx = n,
                                                      .on_message = on_message,
                                                      .on_job = on_job,
                                                      .on_timer = on_timer,
                                                      .run_job = run_job},
                             db, 1000);
    return n;
}

static void *loop(void *arg)
{
    struct node *n = arg;

    n->result = shell_run(n->shell, &n->e);
    return NULL;
}

static void start(struct node *n)
{
    n->is_running = true;
    CHECK(pthread_create(&n->thread, NULL, loop, n) == 0);
}

static void join(struct node *n)
{
    CHECK(pthread_join(n->thread, NULL) == 0);
    n->is_running = false;
}

static void drop_node(struct node *n)
{
    if (n->is_running) {
        shell_stop(n->shell);
        join(n);
    }
    shell_free(&n->shell);
    key_free(&n->key);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static int n_heard(struct node *n)
{
    int k;

    pthread_mutex_lock(&n->lock);
    k = n->n_heard;
    pthread_mutex_unlock(&n->lock);
    return k;
}

static int n_timers(struct node *n)
{
    int k;

    pthread_mutex_lock(&n->lock);
    k = n->n_timers;
    pthread_mutex_unlock(&n->lock);
    return k;
}

static uint64_t n_refused(struct node *n)
{
    struct shell_stats s;

    shell_get_stats(n->shell, &s);
    return s.refused;
}

static void say(struct node *n, const char *text)
{
    pthread_mutex_lock(&n->lock);
    CHECK(n->n_to_send < HEARD_MAX);
    (void)snprintf(n->to_send[n->n_to_send++], 64, "%s", text);
    pthread_mutex_unlock(&n->lock);
    shell_wake(n->part);
}

static bool has_said_all(struct node *n)
{
    int k;

    pthread_mutex_lock(&n->lock);
    k = n->n_to_send;
    pthread_mutex_unlock(&n->lock);
    return k == 0;
}

static void listen_at(struct node *n, const char *endpoint, bool open, char bound[256])
{
    struct err e = {0};
    uint32_t link;

    assert_ok(shell_bind(n->shell, n->part, endpoint, open, FRAME_MAX, &link, bound, &e), &e);
}

static void dial(struct node *n, const char *endpoint, const struct node *server)
{
    struct err e = {0};

    assert_ok(shell_connect(n->shell, n->part, endpoint, &server->key->transport, FRAME_MAX,
                            &n->to_peer, &e),
              &e);
}

/* A server and a client that it admits, both running. */
struct pair {
    struct node *server, *client;
    char endpoint[256];
};

static struct pair make_pair(struct db *db)
{
    struct pair p = {make_node(1, db), make_node(2, NULL), ""};

    listen_at(p.server, "tcp://127.0.0.1:*", false, p.endpoint);
    shell_admit(p.server->shell, &p.client->key->transport, 1);
    dial(p.client, p.endpoint, p.server);
    start(p.server);
    start(p.client);
    return p;
}

static void drop_pair(struct pair *p)
{
    drop_node(p->client);
    drop_node(p->server);
}

static void a_question_reaches_the_server_and_its_answer_comes_back(void **state)
{
    (void)state;
    struct pair p = make_pair(NULL);

    say(p.client, "echo hello");

    assert_within(5000, n_heard(p.client) == 1);
    assert_int_equal(n_heard(p.server), 1);
    assert_string_equal(p.client->heard[0], "hello");
    assert_string_equal(p.server->heard[0], "echo hello");
    assert_true(key_equal(&p.server->from[0], &p.client->key->transport));
    assert_true(key_equal(&p.client->from[0], &p.server->key->transport));
    drop_pair(&p);
}

static void an_unknown_key_is_refused_and_gets_in_once_admitted(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *stranger = make_node(3, NULL);
    char endpoint[256];
    listen_at(server, "tcp://127.0.0.1:*", false, endpoint);
    dial(stranger, endpoint, server);
    start(server);
    start(stranger);

    say(stranger, "echo let me in");
    assert_within(5000, n_refused(server) >= 1);
    assert_int_equal(n_heard(server), 0);
    shell_admit(server->shell, &stranger->key->transport, 1);

    assert_within(5000, n_heard(stranger) == 1);
    assert_int_equal(n_heard(server), 1);
    drop_node(stranger);
    drop_node(server);
}

static void a_server_with_another_key_is_not_spoken_to(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *client = make_node(2, NULL);
    struct node *other = make_node(9, NULL), *control = make_node(4, NULL);
    char endpoint[256];
    listen_at(server, "tcp://127.0.0.1:*", true, endpoint);
    dial(client, endpoint, other); /* expects the key of `other` there */
    dial(control, endpoint, server);
    start(server);
    start(client);
    start(control);

    say(client, "echo secret");
    say(control, "echo public");

    assert_within(5000, n_heard(control) == 1);
    say(control, "echo again");
    assert_within(5000, n_heard(control) == 2);
    assert_int_equal(n_heard(server), 2);
    drop_node(control);
    drop_node(other);
    drop_node(client);
    drop_node(server);
}

static void a_revoked_key_is_not_heard_any_more(void **state)
{
    (void)state;
    struct pair p = make_pair(NULL);
    uint64_t before;
    say(p.client, "echo one");
    assert_within(5000, n_heard(p.client) == 1);

    before = n_refused(p.server);
    shell_admit(p.server->shell, NULL, 0);
    say(p.client, "echo two"); /* over the connection that is still open */

    assert_within(5000, n_refused(p.server) > before);
    assert_int_equal(n_heard(p.server), 1);
    drop_pair(&p);
}

static void the_enrolment_socket_hears_any_key_but_not_often(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *stranger = make_node(3, NULL);
    struct shell_stats stats;
    char endpoint[256], text[64];
    int64_t start_ms = clock_mono_ms();
    listen_at(server, "tcp://127.0.0.1:*", true, endpoint);
    dial(stranger, endpoint, server);
    start(server);
    start(stranger);

    for (int i = 0; i < 60; i++) {
        (void)snprintf(text, sizeof(text), "message %d", i);
        say(stranger, text);
    }

    do {
        wait_pause();
        shell_get_stats(server->shell, &stats);
    } while (stats.received + stats.dropped < 60 && clock_mono_ms() - start_ms < 5000);
    assert_int_equal(stats.received + stats.dropped, 60);
    assert_true(stats.received >= 20);
    /* 20 at once, then 20 a second */
    assert_true((int64_t)stats.received <= 21 + (clock_mono_ms() - start_ms) * 20 / 1000);
    drop_node(stranger);
    drop_node(server);
}

/* The greeting of ZMTP 3.0 with CURVE as the mechanism, then a command frame of 2^31 bytes. */
static void a_frame_that_announces_two_gigabytes_ends_its_connection(void **state)
{
    (void)state;
    struct pair p = make_pair(NULL);
    struct sockaddr_in at = {.sin_family = AF_INET};
    uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0, 'C', 'U', 'R', 'V', 'E'};
    const uint8_t frame[9] = {0x06, 0, 0, 0, 0, 0x80, 0, 0, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint8_t in[256];
    ssize_t n;
    at.sin_port = htons((uint16_t)strtol(strrchr(p.endpoint, ':') + 1, NULL, 10));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);

    assert_int_equal(send(fd, greeting, sizeof(greeting), 0), sizeof(greeting));
    assert_int_equal(send(fd, frame, sizeof(frame), 0), sizeof(frame));

    /* Its greeting comes, and then the end: sooner than the 5 s of a handshake that hangs. */
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    do {
        assert_int_equal(poll(&wait, 1, 3000), 1);
        n = recv(fd, in, sizeof(in), 0);
    } while (n > 0);
    close(fd);
    say(p.client, "echo still here");
    assert_within(5000, n_heard(p.client) == 1);
    drop_pair(&p);
}

static void a_message_larger_than_the_link_allows_is_not_delivered(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *client = make_node(2, NULL);
    struct err e = {0};
    char endpoint[256];
    uint32_t link;
    assert_ok(shell_bind(server->shell, server->part, "tcp://127.0.0.1:*", true, 512, &link,
                         endpoint, &e),
              &e);
    dial(client, endpoint, server);
    start(server);
    start(client);

    say(client, "size 512");
    say(client, "size 513");
    say(client, "echo small");

    assert_within(5000, n_heard(client) == 1);
    assert_int_equal(n_heard(server), 2); /* 512 bytes, and the small one */
    drop_node(client);
    drop_node(server);
}

static void a_job_runs_beside_the_loop_and_its_result_comes_back(void **state)
{
    (void)state;
    struct pair p = make_pair(NULL);

    say(p.client, "job abc");
    say(p.client, "job xyz");
    say(p.client, "job ");

    assert_within(5000, n_heard(p.client) == 3);
    assert_string_equal(p.client->heard[0], "cba");
    assert_string_equal(p.client->heard[1], "zyx");
    assert_string_equal(p.client->heard[2], "job 7 got nothing");
    drop_pair(&p);
}

/* While messages keep the loop awake, which is when a timer could be taken too soon. */
static void timers_fire_once_each_and_never_early(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *client = make_node(2, NULL);
    char endpoint[256];
    listen_at(server, "tcp://127.0.0.1:*", false, endpoint);
    shell_admit(server->shell, &client->key->transport, 1);
    dial(client, endpoint, server);
    server->ask_timer_ms = 60;

    start(server);
    start(client);
    for (int i = 0; n_timers(server) < 3 && i < HEARD_MAX; i++) {
        say(client, "echo x");
        assert_within(5000, n_heard(client) > i || n_timers(server) == 3);
        wait_pause();
    }

    assert_within(5000, n_timers(server) == 3); /* the start, 60 ms (asked twice), 120 ms */
    assert_true(server->fired_ms[1] - server->fired_ms[0] >= 60);
    assert_true(server->fired_ms[2] - server->fired_ms[0] >= 120);
    drop_node(client);
    drop_node(server);
}

static struct db *open_db(const char *dir)
{
    static const char *const tables[] = {"things", NULL};
    const struct db_options opt = {
        .magic = "muster/test", .version = 1, .tables = tables, .map_bytes = 1 << 20};
    struct err e = {0};
    struct db *d;

    assert_ok(db_open(&d, dir, &opt, &e), &e);
    return d;
}

static bool is_stored(struct db *d, const char *key)
{
    struct db_txn *t;
    struct bytes value;
    enum status st;

    assert_ok(db_begin(&t, d, false, NULL), NULL);
    st = db_get(t, 0, bytes_str(key), &value, NULL);
    db_abort(&t);
    return st == OK;
}

static void what_a_step_puts_is_on_disk_before_its_answer_leaves(void **state)
{
    struct db *d = open_db(*state);
    struct pair p = make_pair(d);
    char text[64];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof(text), "put key%d", i);
        say(p.client, text);
        assert_within(5000, n_heard(p.client) == i + 1);
        assert_true(is_stored(d, text + 4));
    }

    drop_pair(&p);
    db_close(&d);
}

static void a_transaction_that_fails_ends_the_loop_and_sends_nothing(void **state)
{
    struct db *d = open_db(*state);
    struct pair p = make_pair(d);
    struct shell_stats stats;
    say(p.client, "put first");
    assert_within(5000, n_heard(p.client) == 1);

    say(p.client, "bad");
    join(p.server);

    shell_get_stats(p.server->shell, &stats);
    assert_int_not_equal(p.server->result, OK);
    assert_true(p.server->e.text[0] != '\0');
    assert_int_equal(stats.sent, 1);
    assert_true(is_stored(d, "first"));
    drop_pair(&p);
    db_close(&d);
}

static void questions_to_an_absent_server_wait_and_repeats_do_not_pile_up(void **state)
{
    (void)state;
    struct node *server = make_node(1, NULL), *client = make_node(2, NULL);
    char endpoint[256];
    listen_at(server, "tcp://127.0.0.1:*", true, endpoint); /* only to find a free port */
    drop_node(server);
    server = make_node(1, NULL);
    dial(client, endpoint, server);
    start(client);

    for (int i = 0; i < 5; i++) {
        say(client, "echo are you there");
        assert_within(5000, has_said_all(client));
    }
    listen_at(server, endpoint, true, endpoint);
    start(server);

    assert_within(5000, n_heard(client) == 1);
    say(client, "echo once more");
    assert_within(5000, n_heard(client) == 2);
    assert_int_equal(n_heard(server), 2);
    drop_node(client);
    drop_node(server);
}

static void a_client_finds_its_server_again_after_a_restart(void **state)
{
    (void)state;
    struct pair p = make_pair(NULL);
    char bound[256];
    say(p.client, "echo before");
    assert_within(5000, n_heard(p.client) == 1);

    drop_node(p.server);
    p.server = make_node(1, NULL);
    shell_admit(p.server->shell, &p.client->key->transport, 1);
    listen_at(p.server, p.endpoint, false, bound);
    start(p.server);

    /* What was sent into the dying connection is lost: a question is asked until answered. */
    int64_t end = clock_mono_ms() + 10000;
    while (n_heard(p.client) < 2 && clock_mono_ms() < end) {
        say(p.client, "echo after");
        wait_pause();
    }
    assert_true(n_heard(p.client) >= 2);
    assert_string_equal(p.client->heard[1], "after");
    drop_pair(&p);
}

static void the_term_signal_stops_the_loop(void **state)
{
    (void)state;
    struct node *n = make_node(1, NULL);
    start(n);
    assert_within(5000, n_timers(n) == 1); /* it runs, so its handler is there */

    assert_int_equal(kill(getpid(), SIGTERM), 0);
    join(n);

    assert_ok(n->result, &n->e);
    drop_node(n);
}

static volatile sig_atomic_t n_told;

static void be_told(int number)
{
    (void)number;
    n_told++;
}

static void who_waited_for_a_signal_hears_of_it_too(void **state)
{
    (void)state;
    struct sigaction act = {.sa_handler = be_told}, old;
    struct node *n = make_node(1, NULL);
    sigemptyset(&act.sa_mask);
    assert_int_equal(sigaction(SIGTERM, &act, &old), 0);
    start(n);
    assert_within(5000, n_timers(n) == 1);

    assert_int_equal(kill(getpid(), SIGTERM), 0);
    join(n);
    assert_int_equal(n_told, 1);
    assert_int_equal(kill(getpid(), SIGTERM), 0); /* and now it is alone again */
    assert_int_equal(n_told, 2);

    assert_int_equal(sigaction(SIGTERM, &old, NULL), 0);
    assert_ok(n->result, &n->e);
    drop_node(n);
}

static void an_endpoint_in_use_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct node *a = make_node(1, NULL), *b = make_node(2, NULL);
    struct err e = {0};
    char endpoint[256], bound[256];
    uint32_t link;
    listen_at(a, "tcp://127.0.0.1:*", false, endpoint);

    enum status st =
        shell_bind(b->shell, b->part, endpoint, false, FRAME_MAX, &link, bound, &e);

    assert_status(st, ERR_IO, &e);
    assert_contains(e.text, endpoint);
    drop_node(a);
    drop_node(b);
}

/* A roster names the endpoints that a node dials: its own ZAP handler must not be one of them. */
static void an_endpoint_that_is_not_tcp_is_neither_bound_nor_dialled(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "inproc://zeromq.zap.01",
        "ipc:///tmp/x",
        "udp://127.0.0.1:1",
        "garbage",
        "",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://:80",
        "tcp://",
        "tcp://127.0.0.1:70000",
        "tcp://127.0.0.1:8x",
        "tcp://a b:80",
        "tcp://*x:80",
        "tcp://127.0.0.1:999999999999999999999",
    };
    static const char *const only_bound[] = {"tcp://127.0.0.1:*", "tcp://127.0.0.1:0"};
    struct node *n = make_node(1, NULL);
    const struct public_key *key = &n->key->transport;
    struct err e = {0};
    char bound[256];
    uint32_t link;
    uint64_t peer;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_status(shell_bind(n->shell, n->part, bad[i], true, FRAME_MAX, &link, bound, &e),
                      ERR_INVALID, &e);
        assert_contains(e.text, "no endpoint");
        assert_status(shell_connect(n->shell, n->part, bad[i], key, FRAME_MAX, &peer, &e),
                      ERR_INVALID, &e);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_ok(
            shell_bind(n->shell, n->part, only_bound[i], true, FRAME_MAX, &link, bound, &e),
            &e);
        assert_status(
            shell_connect(n->shell, n->part, only_bound[i], key, FRAME_MAX, &peer, &e),
            ERR_INVALID, &e);
    }
    drop_node(n);
}

static int option_of(void *socket, int option)
{
    int value = -1;
    size_t n = sizeof(value);

    assert_int_equal(zmq_getsockopt(socket, option, &value, &n), 0);
    return value;
}

/* libzmq 4.3.4 aborts when a connection is lost whose input a full queue has stopped, and then
 * its heartbeat is due: with a bounded queue there must be none. */
static void sockets_with_a_bounded_queue_have_no_zmtp_heartbeat(void **state)
{
    (void)state;
    void *ctx = zmq_ctx_new(), *socket = zmq_socket(ctx, ZMQ_ROUTER);

    sock_set_common(socket, "tcp://127.0.0.1:1", FRAME_MAX);

    assert_true(option_of(socket, ZMQ_RCVHWM) > 0);
    assert_int_equal(option_of(socket, ZMQ_HEARTBEAT_IVL), 0);
    assert_int_equal(option_of(socket, ZMQ_TCP_KEEPALIVE), 1);
    assert_in_range(option_of(socket, ZMQ_TCP_KEEPALIVE_IDLE), 1, 60);
    zmq_close(socket);
    zmq_ctx_term(ctx);
}

static void the_own_address_is_the_one_that_leads_there(void **state)
{
    char own[SOCK_ADDRESS_BYTES];
    struct err e;

    (void)state;
    assert_ok(sock_own_address(own, "tcp://127.0.0.1:9", &e), &e);
    assert_string_equal(own, "127.0.0.1");
    assert_status(sock_own_address(own, "tcp://127.0.0.1", &e), ERR_IO, &e);
    assert_status(sock_own_address(own, "tcp://:9", &e), ERR_IO, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: a test that fails leaves its shells running, and the signal goes to one of those. */
        cmocka_unit_test(the_term_signal_stops_the_loop),
        cmocka_unit_test(who_waited_for_a_signal_hears_of_it_too),
        cmocka_unit_test(a_question_reaches_the_server_and_its_answer_comes_back),
        cmocka_unit_test(an_unknown_key_is_refused_and_gets_in_once_admitted),
        cmocka_unit_test(a_server_with_another_key_is_not_spoken_to),
        cmocka_unit_test(a_revoked_key_is_not_heard_any_more),
        cmocka_unit_test(the_enrolment_socket_hears_any_key_but_not_often),
        cmocka_unit_test(a_frame_that_announces_two_gigabytes_ends_its_connection),
        cmocka_unit_test(a_message_larger_than_the_link_allows_is_not_delivered),
        cmocka_unit_test(a_job_runs_beside_the_loop_and_its_result_comes_back),
        cmocka_unit_test(timers_fire_once_each_and_never_early),
        cmocka_unit_test_setup_teardown(what_a_step_puts_is_on_disk_before_its_answer_leaves,
                                        tempdir_setup, tempdir_teardown),
        cmocka_unit_test_setup_teardown(
            a_transaction_that_fails_ends_the_loop_and_sends_nothing, tempdir_setup,
            tempdir_teardown),
        cmocka_unit_test(questions_to_an_absent_server_wait_and_repeats_do_not_pile_up),
        cmocka_unit_test(a_client_finds_its_server_again_after_a_restart),
        cmocka_unit_test(an_endpoint_in_use_is_an_error_that_names_it),
        cmocka_unit_test(sockets_with_a_bounded_queue_have_no_zmtp_heartbeat),
        cmocka_unit_test(the_own_address_is_the_one_that_leads_there),
        cmocka_unit_test(an_endpoint_that_is_not_tcp_is_neither_bound_nor_dialled),
    };

    log_set_level(LOG_W);
    return cmocka_run_group_tests_name("node/shell", tests, NULL, NULL);
}
