/*
 * cli/cmd_bench.c - muster bench: figures of this machine, and whether they may be trusted
 */
#include <stdio.h>
#include <string.h>

#include "cli/bench_delta.h"
#include "cli/bench_device.h"
#include "cli/bench_dispute.h"
#include "cli/bench_engine.h"
#include "cli/bench_exact.h"
#include "cli/bench_passes.h"
#include "cli/bench_products.h"
#include "cli/bench_shardcast.h"
#include "cli/bench_train.h"
#include "cli/bench_verify.h"
#include "cli/commands.h"
#include "cli/usage.h"

#define BENCH_LINE                                                                             \
    "muster bench delta|device|dispute|exact|engine|passes|products|shardcast|train|verify "   \
    "[options]"
#define N(table) (sizeof(table) / sizeof((table)[0]))

static void print_help(void)
{
    printf("usage: " BENCH_LINE "\n\n"
           "  device    the matrix products of a GPU, beside its limits\n"
           "  dispute   an altered gradient: rounds, opened bytes, and the referee's time\n"
           "  exact     whether every way of computing gives the same bits\n"
           "  engine    matrix products, decoding and prefill, beside the machine's limits\n"
           "  passes    decoding, prefill and training of a GPU in class open-cuda\n"
           "  products  matrix products in each numerics class\n"
           "  shardcast weights to many nodes, beside the bound of their links\n"
           "  train     training steps, likewise\n"
           "  delta     patches between weight versions\n"
           "  verify    cheats against checks, and honest work likewise\n\n"
           "'muster bench WORD --help' tells more.\n");
}

int cmd_bench(int argc, char **argv)
{
    static const struct {
        const char *word;
        int (*run)(int argc, char **argv);
    } words[] = {{"delta", bench_delta},       {"device", bench_device},
                 {"dispute", bench_dispute},   {"exact", bench_exact},
                 {"engine", bench_engine},     {"passes", bench_passes},
                 {"products", bench_products}, {"shardcast", bench_shardcast},
                 {"train", bench_train},       {"verify", bench_verify}};

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_help();
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < N(words); i++)
        if (!strcmp(argv[1], words[i].word))
            return words[i].run(argc - 1, argv + 1);
    return argc > 1 ? usage_complain(BENCH_LINE, "'bench %s' is not a command", argv[1])
                    : usage_complain(BENCH_LINE, "bench what?");
}
