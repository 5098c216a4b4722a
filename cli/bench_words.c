#include "cli/bench_words.h"

#include <stdio.h>
#include <string.h>

#include "cli/usage.h"

#define LINE "muster bench WORD [options]"

static void print_help(const struct bench_word *words, size_t n)
{
    printf("usage: " LINE "\n\n");
    for (size_t i = 0; i < n; i++)
        printf("  %-9s %s\n", words[i].word, words[i].summary);
    printf("\n'muster bench WORD --help' tells more.\n");
}

int bench_words_run(const struct bench_word *words, size_t n, int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_help(words, n);
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < n; i++)
        if (!strcmp(argv[1], words[i].word))
            return words[i].run(argc - 1, argv + 1);
    return argc > 1 ? usage_complain(LINE, "'bench %s' is not a command", argv[1])
                    : usage_complain(LINE, "bench what?");
}
