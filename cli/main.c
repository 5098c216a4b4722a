/*
 * cli/main.c - finds the subcommand and hands over
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/cmd_model.h"
#include "cli/commands.h"
#include "cli/version.h"

struct command {
    const char *word;
    int (*run)(int argc, char **argv);
    const char *group;
    const char *summary;
};

#define COMMAND_ROW(word, function, group, summary) {word, function, group, summary},
static const struct command commands[] = {COMMAND_MAP(COMMAND_ROW)};
#undef COMMAND_ROW

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(void)
{
    const char *group = "";

    printf("muster %s: reinforcement learning of language models among machines that do not\n"
           "trust each other.\n\nusage: muster COMMAND [options]\n",
           MUSTER_VERSION);
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!commands[i].group[0])
            continue;
        if (strcmp(group, commands[i].group) != 0) {
            group = commands[i].group;
            printf("\n%s\n", group);
        }
        printf("  %-14s %s\n", commands[i].word, commands[i].summary);
    }
    printf("\n'muster COMMAND --help' tells the options of each. A first look: 'muster up'.\n");
}

/* A result that did not arrive is a failure, whatever the command thinks. */
static int with_output(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fprintf(stderr, "muster: cannot write to stdout%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return status ? status : 1;
}

static int run(int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help")) {
        print_help();
        return argc < 2 ? 2 : 0;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("muster %s\n", MUSTER_VERSION);
        return 0;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].word))
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "muster: '%s' is not a command\n", argv[1]);
    if (cmd_model_has(argv[1]))
        fprintf(stderr, "there is 'muster model %s'\n", argv[1]);
    else
        fprintf(stderr, "'muster --help' lists them\n");
    return 2;
}

/* The next file opened takes the place of a stream that came closed, and what is logged would be
 * written into a database. In their place comes what fails as a closed one does. */
static bool hold_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    if (!hold_streams())
        return 1; /* and there is nowhere to say so */
    file_map_guard();
    return with_output(run(argc, argv));
}
