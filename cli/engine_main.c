/*
 * cli/engine_main.c - the program of an engine-only build: muster-engine bench WORD
 */
#include <stdio.h>
#include <string.h>

#include "cli/bench_words.h"
#include "cli/usage.h"

int main(int argc, char **argv)
{
    static const struct bench_word words[] = {BENCH_ENGINE_WORDS};

    if (argc > 1 && strcmp(argv[1], "bench") == 0)
        return bench_words_run(words, sizeof(words) / sizeof(words[0]), argc - 1, argv + 1);
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf("usage: muster-engine bench WORD [options]\n\n"
               "The engine alone, built without the libraries that muster needs.\n");
        return 0;
    }
    return usage_complain("muster-engine bench WORD [options]", "what?");
}
