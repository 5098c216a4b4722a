/*
 * cli/bench_device.h - muster bench device: the matrix products of a GPU beside its limits
 */
#ifndef CLI_BENCH_DEVICE_H
#define CLI_BENCH_DEVICE_H

/* As any subcommand of cli/commands.h. */
int bench_device(int argc, char **argv);

#endif
