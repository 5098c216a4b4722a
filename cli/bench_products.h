/*
 * cli/bench_products.h - muster bench products: what a numerics class costs
 */
#ifndef CLI_BENCH_PRODUCTS_H
#define CLI_BENCH_PRODUCTS_H

/* As any subcommand of cli/commands.h. */
int bench_products(int argc, char **argv);

#endif
