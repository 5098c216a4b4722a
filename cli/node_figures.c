#include "cli/node_figures.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

double figures_cpu_s(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Bytes that went to the disk, less those that were unlinked before they got there. */
static double written_bytes(void)
{
    double sum = 0.0, n;
    char line[128];
    FILE *f = fopen("/proc/self/io", "r");

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "write_bytes: %lf", &n) == 1)
            sum += n;
        if (sscanf(line, "cancelled_write_bytes: %lf", &n) == 1)
            sum -= n;
    }
    if (f)
        fclose(f);
    return sum;
}

static double link_bytes(void)
{
    double sent = 0.0;
    char line[256];
    FILE *f = fopen("/proc/net/dev", "r");

    while (f && fgets(line, sizeof(line), f)) {
        const char *at = strstr(line, "eth0:");
        if (at)
            (void)sscanf(at + 5, "%*f %*f %*f %*f %*f %*f %*f %*f %lf", &sent);
    }
    if (f)
        fclose(f);
    return sent;
}

void figures_print(bool is_netns)
{
    printf("cpu_s=%.6f written=%.0f tx_bytes=%.0f\n", figures_cpu_s(), written_bytes(),
           is_netns ? link_bytes() : 0.0);
}

void figures_generate(uint8_t *to, size_t len, uint64_t *state)
{
    for (size_t i = 0; i + 8 <= len; i += 8) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        memcpy(to + i, state, 8);
    }
}
