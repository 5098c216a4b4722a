#include "node/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"

#define LOG_MODULE "node"
#include "base/log.h"

#define ZAP_ENDPOINT        "inproc://zeromq.zap.01"
#define DOMAIN_OPEN         "open"
#define DOMAIN_ADMITTED     "admitted"
#define CURVE_OVERHEAD      64 /* of an encrypted frame: 33 bytes and what libzmq may add */
#define LINGER_MS           250 /* a last answer may still leave; a peer that is away holds nobody up */
#define CLIENT_HANDSHAKE_MS 2000 /* also how soon a refused client tries again */
#define GONE_AFTER_S        30   /* of silence on the wire */
#define LOGGED_KEYS         64
#define LOG_LINES_A_SECOND  20

/* ---- sockets ----------------------------------------------------------------------------- */

static bool is_port(const char *text, bool is_bind)
{
    size_t n = strspn(text, "0123456789");
    long port = n >= 1 && n <= 5 ? strtol(text, NULL, 10) : 65536;

    if (is_bind && strcmp(text, "*") == 0)
        return true;
    return text[n] == '\0' && port <= 65535 && (port > 0 || is_bind);
}

static bool is_host(const char *text, size_t len, bool is_bind)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789.-_:%[]";

    return len > 0 && (strspn(text, chars) >= len || (is_bind && len == 1 && *text == '*'));
}

enum status sock_check_endpoint(const char *endpoint, bool is_bind, struct err *e)
{
    const char *host = strncmp(endpoint, "tcp://", 6) == 0 ? endpoint + 6 : NULL;
    const char *colon = host ? strrchr(host, ':') : NULL;

    if (!colon || !is_host(host, (size_t)(colon - host), is_bind) ||
        !is_port(colon + 1, is_bind))
        return err_set(e, ERR_INVALID, "'%s' is no endpoint tcp://HOST:PORT", endpoint);
    return OK;
}

/* A datagram socket that is connected has an address, and nothing leaves. */
static bool address_towards(char out[SOCK_ADDRESS_BYTES], const struct addrinfo *to)
{
    struct sockaddr_in own;
    socklen_t len = sizeof(own);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && !connect(fd, to->ai_addr, to->ai_addrlen) &&
                !getsockname(fd, (struct sockaddr *)&own, &len) &&
                inet_ntop(AF_INET, &own.sin_addr, out, SOCK_ADDRESS_BYTES);

    if (fd >= 0)
        close(fd);
    return good;
}

enum status sock_own_address(char out[SOCK_ADDRESS_BYTES], const char *endpoint, struct err *e)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM};
    const char *host = strncmp(endpoint, "tcp://", 6) == 0 ? endpoint + 6 : endpoint;
    const char *colon = strrchr(host, ':');
    struct addrinfo *found = NULL;
    char name[256], port[8];
    enum status st = OK;
    int failed;

    if (!colon || (size_t)(colon - host) >= sizeof(name) || strlen(colon + 1) >= sizeof(port))
        return err_set(e, ERR_IO, "'%s' is no endpoint tcp://HOST:PORT", endpoint);
    snprintf(name, sizeof(name), "%.*s", (int)(colon - host), host);
    snprintf(port, sizeof(port), "%s", colon + 1);
    failed = getaddrinfo(name, port, &hints, &found);
    if (failed)
        st = err_set(e, ERR_IO, "cannot find '%s': %s", name, gai_strerror(failed));
    else if (!address_towards(out, found))
        st = err_set(e, ERR_IO, "no way to '%s': %s", name, strerror(errno));
    if (found)
        freeaddrinfo(found);
    return st;
}

void sock_set_int(void *socket, int option, int value)
{
    CHECK(zmq_setsockopt(socket, option, &value, sizeof(value)) == 0);
}

void sock_set_common(void *socket, const char *endpoint, size_t max_frame)
{
    int64_t max = (int64_t)(max_frame + CURVE_OVERHEAD);

    CHECK(zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max, sizeof(max)) == 0);
    sock_set_int(socket, ZMQ_LINGER, LINGER_MS);
    sock_set_int(socket, ZMQ_SNDHWM, 128);
    sock_set_int(socket, ZMQ_RCVHWM, 64);
    sock_set_int(socket, ZMQ_RECONNECT_IVL, 100);
    sock_set_int(socket, ZMQ_RECONNECT_IVL_MAX, 2000);
    /* The kernel finds out that a peer is gone, not ZMTP heartbeats: where a full queue has stopped
     * the input of a connection that is then lost, libzmq 4.3.4 aborts at its next heartbeat. */
    sock_set_int(socket, ZMQ_TCP_KEEPALIVE, 1);
    sock_set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, GONE_AFTER_S / 3);
    sock_set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, GONE_AFTER_S / 3);
    sock_set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, 2);
    sock_set_int(socket, ZMQ_TCP_MAXRT, GONE_AFTER_S * 1000);
    if (strchr(endpoint, '['))
        sock_set_int(socket, ZMQ_IPV6, 1);
}

static void set_key(void *socket, int option, const uint8_t key[KEY_BYTES])
{
    CHECK(zmq_setsockopt(socket, option, key, KEY_BYTES) == 0);
}

void sock_set_server(void *socket, const uint8_t secret[32], bool open_to_all)
{
    const char *domain = open_to_all ? DOMAIN_OPEN : DOMAIN_ADMITTED;

    sock_set_int(socket, ZMQ_CURVE_SERVER, 1);
    sock_set_int(socket, ZMQ_HANDSHAKE_IVL, 5000);
    set_key(socket, ZMQ_CURVE_SECRETKEY, secret);
    CHECK(zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0);
}

void sock_set_client(void *socket, const struct public_key *own, const uint8_t secret[32],
                     const struct public_key *server)
{
    sock_set_int(socket, ZMQ_HANDSHAKE_IVL, CLIENT_HANDSHAKE_MS);
    set_key(socket, ZMQ_CURVE_SERVERKEY, server->b);
    set_key(socket, ZMQ_CURVE_PUBLICKEY, own->b);
    set_key(socket, ZMQ_CURVE_SECRETKEY, secret);
}

/* ---- the admitted set -------------------------------------------------------------------- */

struct logged_key {
    struct public_key key;
    int64_t at_ms;
};

struct zap {
    pthread_t thread;
    void *socket; /* the thread's, once it runs */
    pthread_mutex_t lock;
    struct public_key *admitted; /* owned, sorted */
    size_t n_admitted;
    uint64_t n_refused;
    struct logged_key logged[LOGGED_KEYS];
    int64_t second; /* of the last line, and how many were written in it */
    int n_lines;
};

static int compare_keys(const void *a, const void *b)
{
    return memcmp(a, b, KEY_BYTES);
}

void zap_admit(struct zap *z, const struct public_key *key, size_t n)
{
    struct public_key *set = n ? xcalloc(n, sizeof(*set)) : NULL;

    if (n) {
        memcpy(set, key, n * sizeof(*set));
        qsort(set, n, sizeof(*set), compare_keys);
    }
    pthread_mutex_lock(&z->lock);
    free(z->admitted);
    z->admitted = set;
    z->n_admitted = n;
    pthread_mutex_unlock(&z->lock);
}

bool zap_is_admitted(struct zap *z, const struct public_key *key)
{
    bool is_there;

    pthread_mutex_lock(&z->lock);
    is_there = z->n_admitted > 0 &&
               bsearch(key, z->admitted, z->n_admitted, sizeof(*key), compare_keys);
    pthread_mutex_unlock(&z->lock);
    return is_there;
}

/* Once a second for a key, and a score of lines a second for all: keys cost a stranger nothing. */
static bool may_log(struct zap *z, const struct public_key *key, int64_t now)
{
    struct logged_key *slot = &z->logged[0];

    for (size_t i = 0; i < LOGGED_KEYS; i++) {
        if (key_equal(&z->logged[i].key, key)) {
            slot = &z->logged[i];
            break;
        }
        if (z->logged[i].at_ms < slot->at_ms)
            slot = &z->logged[i];
    }
    if (key_equal(&slot->key, key) && now - slot->at_ms < 1000)
        return false;
    if (z->second != now / 1000) {
        z->second = now / 1000;
        z->n_lines = 0;
    }
    if (z->n_lines++ >= LOG_LINES_A_SECOND)
        return false;
    *slot = (struct logged_key){*key, now};
    return true;
}

void zap_refused(struct zap *z, const struct public_key *key, const char *why)
{
    char hex[2 * KEY_BYTES + 1];
    bool shall_log;

    pthread_mutex_lock(&z->lock);
    z->n_refused++;
    shall_log = may_log(z, key, clock_mono_ms());
    pthread_mutex_unlock(&z->lock);
    if (!shall_log)
        return;
    hex_encode(hex, BYTES_OF(key->b));
    LOG_WARN("refused key=%s why=%s", hex, why);
}

uint64_t zap_n_refused(struct zap *z)
{
    uint64_t n;

    pthread_mutex_lock(&z->lock);
    n = z->n_refused;
    pthread_mutex_unlock(&z->lock);
    return n;
}

/* ---- the handler ------------------------------------------------------------------------- */

/* A ZAP request: version, id, domain, address, identity, mechanism, and for CURVE one key. */
#define ZAP_FRAMES      7
#define ZAP_FRAME_BYTES 256

struct zap_request {
    uint8_t frame[ZAP_FRAMES][ZAP_FRAME_BYTES];
    size_t len[ZAP_FRAMES];
    size_t n; /* frames there were, also those past the last */
};

/* False when the context is going down. */
static bool receive_request(void *socket, struct zap_request *q)
{
    int more = 1;

    memset(q, 0, sizeof(*q));
    while (more) {
        zmq_msg_t m;

        CHECK(zmq_msg_init(&m) == 0);
        while (zmq_msg_recv(&m, socket, 0) < 0) {
            if (errno == EINTR)
                continue;
            zmq_msg_close(&m);
            return false;
        }
        if (q->n < ZAP_FRAMES && zmq_msg_size(&m) <= ZAP_FRAME_BYTES) {
            q->len[q->n] = zmq_msg_size(&m);
            memcpy(q->frame[q->n], zmq_msg_data(&m), q->len[q->n]);
        }
        q->n++;
        more = zmq_msg_more(&m);
        zmq_msg_close(&m);
    }
    return true;
}

static bool frame_is(const struct zap_request *q, size_t i, const char *text)
{
    return q->len[i] == strlen(text) && memcmp(q->frame[i], text, q->len[i]) == 0;
}

static void send_reply(void *socket, const struct zap_request *q, bool is_ok, const char *user)
{
    (void)zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, q->frame[1], q->len[1], ZMQ_SNDMORE);
    (void)zmq_send(socket, is_ok ? "200" : "300", 3, ZMQ_SNDMORE);
    (void)zmq_send(socket, is_ok ? "OK" : "NO", 2, ZMQ_SNDMORE);
    (void)zmq_send(socket, user, strlen(user), ZMQ_SNDMORE);
    (void)zmq_send(socket, "", 0, 0);
}

static void answer(struct zap *z, const struct zap_request *q)
{
    char user[2 * KEY_BYTES + 1] = "";
    struct public_key key;
    bool is_ok;

    if (q->n != ZAP_FRAMES || !frame_is(q, 0, "1.0") || !frame_is(q, 5, "CURVE") ||
        q->len[6] != KEY_BYTES) {
        send_reply(z->socket, q, false, "");
        return;
    }
    memcpy(key.b, q->frame[6], KEY_BYTES);
    is_ok = frame_is(q, 2, DOMAIN_OPEN) ||
            (frame_is(q, 2, DOMAIN_ADMITTED) && zap_is_admitted(z, &key));
    if (is_ok)
        hex_encode(user, BYTES_OF(key.b));
    send_reply(z->socket, q, is_ok, user);
    if (!is_ok)
        zap_refused(z, &key, "unknown");
}

static void *handler_main(void *arg)
{
    struct zap_request q;
    struct zap *z = arg;

    while (receive_request(z->socket, &q))
        answer(z, &q);
    zmq_close(z->socket);
    return NULL;
}

enum status zap_start(struct zap **out, void *ctx, struct err *e)
{
    struct zap *z = xcalloc(1, sizeof(*z));
    int rc;

    *out = NULL;
    CHECK(pthread_mutex_init(&z->lock, NULL) == 0);
    z->socket = zmq_socket(ctx, ZMQ_REP);
    if (!z->socket || zmq_bind(z->socket, ZAP_ENDPOINT) != 0) {
        enum status st =
            err_set(e, ERR_IO, "cannot start the admission of keys: %s", zmq_strerror(errno));
        if (z->socket)
            zmq_close(z->socket);
        pthread_mutex_destroy(&z->lock);
        free(z);
        return st;
    }
    sock_set_int(z->socket, ZMQ_LINGER, 0);
    rc = pthread_create(&z->thread, NULL, handler_main, z);
    CHECK(rc == 0);
    *out = z;
    return OK;
}

void zap_stop(struct zap **z)
{
    if (!*z)
        return;
    CHECK(pthread_join((*z)->thread, NULL) == 0);
    pthread_mutex_destroy(&(*z)->lock);
    free((*z)->admitted);
    free(*z);
    *z = NULL;
}
