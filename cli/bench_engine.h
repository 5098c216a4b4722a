/*
 * cli/bench_engine.h - muster bench engine
 */
#ifndef CLI_BENCH_ENGINE_H
#define CLI_BENCH_ENGINE_H

/* As any subcommand of cli/commands.h. */
int bench_engine(int argc, char **argv);

#endif
