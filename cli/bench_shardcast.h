/*
 * cli/bench_shardcast.h - muster bench shardcast
 */
#ifndef CLI_BENCH_SHARDCAST_H
#define CLI_BENCH_SHARDCAST_H

int bench_shardcast(int argc, char **argv);

#endif
