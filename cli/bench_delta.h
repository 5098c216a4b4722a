/*
 * cli/bench_delta.h - muster bench delta: how small patches are, and how fast
 */
#ifndef CLI_BENCH_DELTA_H
#define CLI_BENCH_DELTA_H

/* As any subcommand of cli/commands.h. */
int bench_delta(int argc, char **argv);

#endif
