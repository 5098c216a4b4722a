/*
 * cli/bench_passes.h - whole passes of a GPU in class open-cuda, beside the floor
 */
#ifndef CLI_BENCH_PASSES_H
#define CLI_BENCH_PASSES_H

#define BENCH_PASSES_SHAPES "0.5b|1.5b|7b|tiny"

struct model_config;

/* One of them, by name. */
const struct model_config *bench_passes_config(const char *name);

/* muster bench passes */
int bench_passes(int argc, char **argv);

#endif
