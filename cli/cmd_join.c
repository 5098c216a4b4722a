/*
 * muster join: a link names the run and the role; this starts that role
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "proto/invite.h"

static int run_role(enum role role, int argc, char **argv)
{
    switch (role) {
    case ROLE_TRAINER: return cmd_trainer(argc, argv);
    case ROLE_INFERENCE: return cmd_inference(argc, argv);
    case ROLE_VERIFIER: return cmd_verifier(argc, argv);
    case ROLE_RELAY: return cmd_relay(argc, argv);
    default:
        fprintf(stderr, "muster join: the link is for the role '%s', which is not joined so\n",
                role_name(role));
        return 2;
    }
}

static bool has_dir(int argc, char **argv)
{
    for (int i = 2; i < argc; i++)
        if (!strncmp(argv[i], "--dir", 5))
            return true;
    return false;
}

int cmd_join(int argc, char **argv)
{
    struct invite invite;
    struct err e;
    char dir[64], role[32], join[] = "--join", dir_word[] = "--dir";
    char **args;
    int n = 0, status;

    if (argc < 2 || argv[1][0] == '-') {
        bool asked = argc >= 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));

        fprintf(asked ? stdout : stderr,
                "%susage: muster join 'LINK' [options of the role]\n\n"
                "Joins the run that the link names, in the role it names, and works for it.\n"
                "--dir defaults to muster-ROLE in this directory. 'muster ROLE --help' tells "
                "the rest.\n"
                "A link works once. What ended, for whatever reason, goes on with\n"
                "'muster ROLE --dir DIR'.\n",
                asked ? "" : "muster join: the link comes first\n");
        return asked ? 0 : 2;
    }
    if (invite_decode(&invite, argv[1], &e)) {
        fprintf(stderr, "muster join: %s%s\nusage: muster join 'LINK' [options of the role]\n",
                e.text,
                strchr(argv[1], '&') ? ""
                                     : ": put it in quotes, a shell cuts it at the first '&'");
        return 2;
    }
    args = xcalloc((size_t)argc + 6, sizeof(*args));
    snprintf(role, sizeof(role), "%s", role_name(invite.role));
    args[n++] = role;
    args[n++] = join;
    args[n++] = argv[1];
    if (!has_dir(argc, argv)) {
        snprintf(dir, sizeof(dir), "muster-%s", role_name(invite.role));
        args[n++] = dir_word;
        args[n++] = dir;
    }
    for (int i = 2; i < argc; i++)
        args[n++] = argv[i];
    status = run_role(invite.role, n, args);
    free(args);
    return status;
}
