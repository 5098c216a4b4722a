/*
 * cli/bench_verify.h - muster bench verify
 */
#ifndef CLI_BENCH_VERIFY_H
#define CLI_BENCH_VERIFY_H

/* As any subcommand of cli/commands.h. */
int bench_verify(int argc, char **argv);

#endif
