/*
 * cli/bench_train.h - muster bench train
 */
#ifndef CLI_BENCH_TRAIN_H
#define CLI_BENCH_TRAIN_H

/* As any subcommand of cli/commands.h. */
int bench_train(int argc, char **argv);

#endif
