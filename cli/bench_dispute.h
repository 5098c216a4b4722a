/*
 * cli/bench_dispute.h - muster bench dispute
 */
#ifndef CLI_BENCH_DISPUTE_H
#define CLI_BENCH_DISPUTE_H

/* As any subcommand of cli/commands.h. */
int bench_dispute(int argc, char **argv);

#endif
