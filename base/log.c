#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_BYTES 4096

static _Atomic int max_level = LOG_I;
static _Atomic int log_fd = 2;

void log_set_level(enum log_level level)
{
    max_level = (int)level;
}

void log_set_fd(int fd)
{
    log_fd = fd;
}

/* "2026-08-22T11:03:07.123Z" */
static void format_time(char *out, size_t cap, int64_t us)
{
    time_t s = (time_t)(us / 1000000);
    char date[32] = "";
    struct tm tm;

    if (gmtime_r(&s, &tm))
        (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out, cap, "%s.%03dZ", date, (int)(us / 1000 % 1000));
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(fd, p, n);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return; /* nobody to tell */
        p += w;
        n -= (size_t)w;
    }
}

void log_line(enum log_level level, const char *module, const char *fmt, ...)
{
    int saved_errno = errno, fd = log_fd, n, m;
    char line[LINE_BYTES], now[48];
    size_t len;
    va_list ap;

    if ((int)level > max_level || fd < 0)
        return;
    format_time(now, sizeof(now), clock_wall_us());
    n = snprintf(line, sizeof(line), "%s %c %s ", now, "EWID"[level], module);
    if (n < 0 || (size_t)n >= sizeof(line) - 1)
        return;
    va_start(ap, fmt);
    m = vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
    va_end(ap);
    if (m < 0)
        return;
    len = (size_t)n + (size_t)m;
    if (len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    for (size_t i = (size_t)n; i < len; i++) /* one event, one line, whatever a peer sent */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[len++] = '\n';
    write_all(fd, line, len);
    errno = saved_errno;
}
