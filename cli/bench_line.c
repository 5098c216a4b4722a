#include "cli/bench_line.h"

#include <stdio.h>

/* Four digits that count, whatever the size. */
static void print_number(const char *key, double x)
{
    if (x > 0.0 && x < 0.1)
        printf(", \"%s\": %.3g", key, x);
    else
        printf(", \"%s\": %.*f", key, x < 10.0 ? 3 : x < 1000.0 ? 1 : 0, x);
}

static void print_if_any(const char *key, double x)
{
    if (x > 0.0)
        print_number(key, x);
    else
        printf(", \"%s\": null", key);
}

void bench_line_print(const struct bench_line *l)
{
    printf("{\"name\": \"%s\"", l->name);
    print_number("value", l->value);
    printf(", \"unit\": \"%s\"", l->unit);
    if (l->peer)
        printf(", \"peer\": \"%s\"", l->peer);
    else
        printf(", \"peer\": null");
    print_if_any("peer_value", l->peer_value);
    print_if_any("target", l->target);
    printf(", \"ok\": %s}\n", !(l->target > 0.0) ? "null"
                              : (l->is_ceiling ? l->value <= l->target : l->value >= l->target)
                                  ? "true"
                                  : "false");
    fflush(stdout);
}
