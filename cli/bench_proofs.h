/*
 * cli/bench_proofs.h - muster bench proofs
 */
#ifndef CLI_BENCH_PROOFS_H
#define CLI_BENCH_PROOFS_H

int bench_proofs(int argc, char **argv);

#endif
