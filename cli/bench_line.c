#include "cli/bench_line.h"

#include <stdio.h>

/* Four digits that count, whatever the size. */
static void print_number(const char *key, double x)
{
    if (x > 0.0)
        printf(", \"%s\": %.*f", key, x < 10.0 ? 3 : x < 1000.0 ? 1 : 0, x);
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
    print_number("peer_value", l->peer_value);
    print_number("target", l->target);
    bool is_ok = l->at_most ? l->value <= l->target : l->value >= l->target;
    printf(", \"ok\": %s}\n", l->target > 0.0 ? is_ok ? "true" : "false" : "null");
    fflush(stdout);
}
