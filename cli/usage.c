#include "cli/usage.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

static void print_help(const struct usage *u)
{
    struct buf text;

    buf_init(&text, (size_t)1 << 20);
    opt_help(&text, u->table, u->n);
    printf("usage: %s\n\n%s\n", u->line, u->about);
    if (u->n)
        printf("\noptions:\n%s", buf_cstr(&text));
    buf_clear(&text);
}

int usage_complain(const char *line, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "muster: ");
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nusage: %s (--help tells more)\n", line);
    return 2;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

int usage_parse(struct usage *u, int argc, char **argv)
{
    struct err e;
    int at = 1;

    opt_defaults(u->table, u->n);
    u->n_operands = 0;
    if (wants_help(argc, argv)) {
        print_help(u);
        return 0;
    }
    while (at < argc) {
        if (opt_parse(u->table, u->n, argc, argv, &at, &e))
            return usage_complain(u->line, "%s", e.text);
        if (at >= argc)
            break;
        if (u->n_operands == u->max_operands)
            return usage_complain(u->line, "unexpected word '%.60s'", argv[at]);
        if (!*argv[at])
            return usage_complain(u->line, "word %zu is empty", u->n_operands + 1);
        u->operand[u->n_operands++] = argv[at++];
    }
    if (opt_check_required(u->table, u->n, &e))
        return usage_complain(u->line, "%s", e.text);
    return USAGE_RUN;
}

size_t usage_threads(int64_t n)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return n > 0 ? (size_t)n : cores > 0 ? (size_t)cores : 1;
}

void usage_pool(struct pool **out, int64_t n)
{
    const size_t threads = usage_threads(n), cores = usage_threads(0);

    pool_new_with(out, &(struct pool_options){.n_threads = threads,
                                              .spin = threads <= cores ? POOL_SPIN_ALONE : 0,
                                              .is_pinned = threads == cores});
}

int usage_fail(const char *text)
{
    fputs("muster: ", stderr);
    for (; *text; text++) /* it may quote a file of others, and a terminal obeys controls */
        fputc(((unsigned char)*text < 0x20 && *text != '\n') || *text == 0x7f ? '?' : *text,
              stderr);
    fputc('\n', stderr);
    return 1;
}
