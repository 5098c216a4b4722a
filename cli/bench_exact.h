/*
 * cli/bench_exact.h - muster bench exact: one answer, whichever way it is computed
 */
#ifndef CLI_BENCH_EXACT_H
#define CLI_BENCH_EXACT_H

/* As any subcommand of cli/commands.h. */
int bench_exact(int argc, char **argv);

#endif
