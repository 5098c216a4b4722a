/*
 * cli/cmd_bench.c - muster bench: figures of this machine, and whether they may be trusted
 */
#include "cli/bench_delta.h"
#include "cli/bench_dispute.h"
#include "cli/bench_proofs.h"
#include "cli/bench_shardcast.h"
#include "cli/bench_verify.h"
#include "cli/bench_words.h"
#include "cli/commands.h"

int cmd_bench(int argc, char **argv)
{
    static const struct bench_word words[] = {
        {"delta", bench_delta, "patches between weight versions"},
        BENCH_ENGINE_WORDS,
        {"dispute", bench_dispute,
         "an altered gradient: rounds, opened bytes, and the referee's time"},
        {"proofs", bench_proofs, "how far apart implementations of class open-cuda are"},
        {"shardcast", bench_shardcast,
         "weights to many nodes, beside the bound of their links"},
        {"verify", bench_verify, "cheats against checks, and honest work likewise"},
    };

    return bench_words_run(words, sizeof(words) / sizeof(words[0]), argc, argv);
}
