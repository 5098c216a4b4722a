/*
 * node/http.h - two pages for browsers and Prometheus, on this machine only
 *
 *   GET /status    one JSON object       application/json
 *   GET /metrics   Prometheus' text      text/plain; version=0.0.4
 *
 * Off unless a role is told a port. It listens on 127.0.0.1, takes no input but the path, and
 * shows what was put last: a page never waits for the role, nor the role for a reader.
 *
 * Threads: http_put from any; pages are served by a thread of the library.
 */
#ifndef NODE_HTTP_H
#define NODE_HTTP_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/status.h"

struct http;

enum http_page { HTTP_STATUS, HTTP_METRICS, HTTP_PAGE_COUNT };

/* `port` 0 picks one; *bound gets it. ERR_IO when it is taken. */
MUST_USE enum status http_open(struct http **out, uint16_t port, uint16_t *bound,
                               struct err *e);
void http_close(struct http **out);
/* Replaces a page by a copy of `text`. Until the first time it is answered with 503. */
void http_put(struct http *h, enum http_page page, struct bytes text);

#endif
