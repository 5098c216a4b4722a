/*
 * cli/bench_words.h - what `muster bench WORD` and the engine's own program choose from
 */
#ifndef CLI_BENCH_WORDS_H
#define CLI_BENCH_WORDS_H

#include <stddef.h>

#include "cli/bench_device.h"
#include "cli/bench_engine.h"
#include "cli/bench_exact.h"
#include "cli/bench_passes.h"
#include "cli/bench_products.h"
#include "cli/bench_train.h"

struct bench_word {
    const char *word;
    int (*run)(int argc, char **argv);
    const char *summary;
};

/* Those that need nothing but the engine. */
#define BENCH_ENGINE_WORDS                                                                     \
    {"device", bench_device, "the matrix products of a GPU, beside its limits"},               \
        {"engine", bench_engine,                                                               \
         "matrix products, decoding and prefill, beside the machine's limits"},                \
        {"exact", bench_exact, "whether every way of computing gives the same bits"},          \
        {"passes", bench_passes,                                                               \
         "decoding, prefill and training of a GPU in class open-cuda"},                        \
        {"products", bench_products, "matrix products in each numerics class"},                \
    {                                                                                          \
        "train", bench_train, "training steps, beside the machine's limits"                    \
    }

/* Runs the word argv[1], or says which there are. */
int bench_words_run(const struct bench_word *words, size_t n, int argc, char **argv);

#endif
