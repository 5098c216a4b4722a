/*
 * cli/usage.h - what every subcommand does with its command line
 */
#ifndef CLI_USAGE_H
#define CLI_USAGE_H

#include <stddef.h>

#include "base/attr.h"
#include "base/options.h"
#include "base/pool.h"

/* Values of --kernels and --numerics (engine/kernels.h). */
#define USAGE_KERNELS  "auto|scalar|neon|avx2|avx512|amx"
#define USAGE_NUMERICS "f32-1|bf16-1|open-openblas|open-cuda"

/* What --device is about (engine/device.h). */
#define USAGE_DEVICE "where to compute: cpu, cuda, cuda:N, or auto: a GPU if there is one"

#define USAGE_RUN (-1) /* go on: the command line was fine and asked for work */

struct usage {
    const char *line;  /* "muster up [TASK.yaml] [options]" */
    const char *about; /* a sentence or more for --help */
    struct opt *table;
    size_t n;
    const char **operand; /* out: words that are no options; room for max_operands */
    size_t max_operands;
    size_t n_operands; /* out */
};

/* Sets defaults, parses argv[1...] (options and operands in any order), checks what is required.
 * --help goes to stdout and gives 0; an error gives two lines on stderr and 2; else USAGE_RUN. */
int usage_parse(struct usage *u, int argc, char **argv);

/* Two lines on stderr, what is wrong and `line`, and returns 2: the command line was not fine. */
int usage_complain(const char *line, const char *fmt, ...) PRINTF(2, 3);

/* What --threads N asks for: N, or one a core for 0. */
size_t usage_threads(int64_t n);
/* Those threads, for a command that has the machine to itself: with no more of them than cores they
 * look for work before they sleep, and with one for every core each stays on its own. */
void usage_pool(struct pool **out, int64_t n);

/* Prints "muster: text" to stderr and returns 1: it was tried and failed. */
int usage_fail(const char *text);

#endif
