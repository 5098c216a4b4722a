/*
 * cli/node_figures.h - what the nodes of a measurement tell of themselves, and what they move
 */
#ifndef CLI_NODE_FIGURES_H
#define CLI_NODE_FIGURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

double figures_cpu_s(void); /* of this process */
/* The rest of a line `stats`: time of the processor, bytes to the disk and, in a namespace, over
 * the link. */
void figures_print(bool is_netns);
/* Bytes that no compression helps with, a function of the state, which moves on. */
void figures_generate(uint8_t *to, size_t len, uint64_t *state);

#endif
