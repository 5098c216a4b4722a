/*
 * cli/cmd_bench.c - muster bench: figures
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/commands.h"

#define BENCH_LINE "muster bench train [options]"

void bench_print(const char *name, const char *unit, double value,
                 const struct bench_peer *peer)
{
    bool is_ok = peer->target < 0 ? value < -peer->target : value >= peer->target;

    printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\"", name, value, unit);
    if (peer->value > 0)
        printf(", \"peer\": \"%s\", \"peer_value\": %.4g", peer->name, peer->value);
    else
        printf(", \"peer\": null, \"peer_value\": null");
    if (peer->value > 0)
        printf(", \"target\": %.4g, \"ok\": %s}\n", fabs(peer->target),
               is_ok ? "true" : "false");
    else
        printf(", \"target\": null, \"ok\": null}\n");
}

static void print_help(void)
{
    printf("usage: " BENCH_LINE "\n\n"
           "  train  training steps\n\n"
           "'muster bench train --help' tells more of each.\n");
}

int cmd_bench(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_help();
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "train"))
        return bench_train(argc - 1, argv + 1);
    fprintf(stderr, "muster: %s\nusage: " BENCH_LINE " (--help tells more)\n",
            argc > 1 ? "unknown word after 'bench'" : "bench what?");
    return 2;
}
