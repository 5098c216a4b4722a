/*
 * cli/cmd_bench.c - muster bench: figures, and whether they may be trusted
 */
#include <stdio.h>
#include <string.h>

#include "cli/bench_exact.h"
#include "cli/bench_products.h"
#include "cli/commands.h"

#define BENCH_LINE "muster bench exact|products [options]"

int cmd_bench(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf("usage: " BENCH_LINE "\n\n"
               "  exact     whether every way of computing gives the same bits\n"
               "  products  what a numerics class costs\n\n"
               "'muster bench exact --help' tells more of exact, and so on.\n");
        return 0;
    }
    if (argc > 1 && !strcmp(argv[1], "exact"))
        return bench_exact(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "products"))
        return bench_products(argc - 1, argv + 1);
    fprintf(stderr, "muster: %s\nusage: " BENCH_LINE " (--help tells more)\n",
            argc > 1 ? "unknown word after 'bench'" : "bench what?");
    return 2;
}
