/*
 * cli/bench_passes.h - whole passes of a GPU in class open-cuda, beside the floor
 */
#ifndef CLI_BENCH_PASSES_H
#define CLI_BENCH_PASSES_H

#define BENCH_PASSES_SHAPES "0.5b|1.5b|7b|tiny"

/* muster bench passes */
int bench_passes(int argc, char **argv);

#endif
