/*
 * node/http, by requests over a socket.
 */
#include "node/http.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/test.h"

struct fixture {
    struct http *http;
    uint16_t port;
    char answer[4096];
};

static int setup(void **state)
{
    static struct fixture f;
    struct err e = {0};

    memset(&f, 0, sizeof(f));
    assert_ok(http_open(&f.http, 0, &f.port, &e), &e);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    http_close(&f->http);
    return 0;
}

/* Sends `request` and reads until the server closes. */
static const char *request(struct fixture *f, const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(f->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t n = 0;
    ssize_t got;

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
    while ((got = recv(fd, f->answer + n, sizeof(f->answer) - 1 - n, 0)) > 0)
        n += (size_t)got;
    f->answer[n] = '\0';
    close(fd);
    return f->answer;
}

#define GET(path)  "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
#define POST(path) "POST " path " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void a_page_is_what_was_put_last(void **state)
{
    struct fixture *f = *state;

    http_put(f->http, HTTP_STATUS, BYTES_LIT("{\"step\": 1}"));
    http_put(f->http, HTTP_STATUS, BYTES_LIT("{\"step\": 2}"));
    http_put(f->http, HTTP_METRICS, BYTES_LIT("muster_step 2\n"));

    assert_contains(request(f, GET("/status")), "200 OK");
    assert_contains(f->answer, "application/json");
    assert_contains(f->answer, "{\"step\": 2}");
    assert_contains(request(f, GET("/metrics")), "muster_step 2\n");
}

static void a_page_that_was_not_put_is_unavailable(void **state)
{
    assert_contains(request(*state, GET("/status")), "503");
}

static void other_paths_and_methods_are_refused(void **state)
{
    assert_contains(request(*state, GET("/")), "404");
    assert_contains(request(*state, GET("/status/..")), "404");
    assert_contains(request(*state, POST("/status")), "405");
}

static void a_port_in_use_is_an_error_that_names_it(void **state)
{
    struct fixture *f = *state;
    struct http *other;
    struct err e = {0};
    uint16_t bound;

    assert_status(http_open(&other, f->port, &bound, &e), ERR_IO, &e);

    assert_contains(e.text, "127.0.0.1");
    assert_null(other);
}

int main(void)
{
#define WITH_HTTP(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_HTTP(a_page_is_what_was_put_last),
        WITH_HTTP(a_page_that_was_not_put_is_unavailable),
        WITH_HTTP(other_paths_and_methods_are_refused),
        WITH_HTTP(a_port_in_use_is_an_error_that_names_it),
    };

    return cmocka_run_group_tests_name("node/http", tests, NULL, NULL);
}
