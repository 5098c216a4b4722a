#include "node/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <microhttpd.h>

#include "base/alloc.h"
#include "base/check.h"

#define CONNECTIONS_MAX 8u
#define TIMEOUT_S       10u
#define MEMORY_BYTES    ((size_t)16 << 10) /* of a connection: bounds what a request may send */

struct http {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    struct MHD_Response *page[HTTP_PAGE_COUNT]; /* owned; NULL before the first http_put */
};

static const struct {
    const char *path;
    const char *type;
} pages[HTTP_PAGE_COUNT] = {
    [HTTP_STATUS] = {"/status", "application/json"},
    [HTTP_METRICS] = {"/metrics", "text/plain; version=0.0.4"},
};

static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned code, const char *text)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result rc;

    if (!r)
        return MHD_NO;
    rc = MHD_queue_response(c, code, r);
    MHD_destroy_response(r);
    return rc;
}

/* Responses are counted by reference: one that http_put replaces lives until its last reader has
 * it. */
static enum MHD_Result answer_page(struct http *h, struct MHD_Connection *c, size_t page)
{
    enum MHD_Result rc;

    pthread_mutex_lock(&h->lock);
    if (h->page[page])
        rc = MHD_queue_response(c, MHD_HTTP_OK, h->page[page]);
    else
        rc = answer_text(c, MHD_HTTP_SERVICE_UNAVAILABLE, "not yet\n");
    pthread_mutex_unlock(&h->lock);
    return rc;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  /* NOLINTNEXTLINE(readability-non-const-parameter) */
                                  size_t *n_upload, void **state)
{
    (void)version;
    (void)upload;
    (void)state;
    if (strcmp(method, "GET") != 0 || *n_upload > 0)
        return answer_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
    for (size_t i = 0; i < HTTP_PAGE_COUNT; i++) {
        if (strcmp(url, pages[i].path) == 0)
            return answer_page(arg, c, i);
    }
    return answer_text(c, MHD_HTTP_NOT_FOUND, "there are /status and /metrics\n");
}

enum status http_open(struct http **out, uint16_t port, uint16_t *bound, struct err *e)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct http *h = xcalloc(1, sizeof(*h));
    const union MHD_DaemonInfo *info;

    *out = NULL;
    CHECK(pthread_mutex_init(&h->lock, NULL) == 0);
    h->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD, port, NULL, NULL, on_request, h, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&at, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        MEMORY_BYTES, MHD_OPTION_END);
    if (!h->daemon) {
        int saved_errno = errno;
        http_close(&h);
        return err_set(e, ERR_IO, "cannot serve http://127.0.0.1:%u: %s", port,
                       strerror(saved_errno));
    }
    info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    CHECK(info);
    *bound = info->port;
    *out = h;
    return OK;
}

void http_close(struct http **out)
{
    struct http *h = *out;

    if (!h)
        return;
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    for (size_t i = 0; i < HTTP_PAGE_COUNT; i++) {
        if (h->page[i])
            MHD_destroy_response(h->page[i]);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
    *out = NULL;
}

void http_put(struct http *h, enum http_page page, struct bytes text)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(text.len, (void *)text.data, MHD_RESPMEM_MUST_COPY);
    struct MHD_Response *old;

    if (!r)
        return; /* out of memory: the page before stays */
    (void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, pages[page].type);
    pthread_mutex_lock(&h->lock);
    old = h->page[page];
    h->page[page] = r;
    pthread_mutex_unlock(&h->lock);
    if (old)
        MHD_destroy_response(old);
}
