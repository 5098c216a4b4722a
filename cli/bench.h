/*
 * cli/bench.h - what the parts of `muster bench` share
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

/* Each takes its own argument vector, argv[0] being its word, and returns the exit status. */
int bench_train(int argc, char **argv);

/* A figure of somebody else's beside ours. */
struct bench_peer {
    const char *name;
    double value;  /* 0: not measured */
    double target; /* what ours should reach; negative: what it should stay below; 0: none */
};

/* One line of `--json`: {"name", "value", "unit", "peer", "peer_value", "target", "ok"}. */
void bench_print(const char *name, const char *unit, double value,
                 const struct bench_peer *peer);

#endif
