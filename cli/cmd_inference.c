/*
 * muster inference: earn by generating rollouts
 */
#include "cli/commands.h"
#include "cli/role_options.h"
#include "cli/usage.h"
#include "inference/infer_run.h"

int cmd_inference(int argc, char **argv)
{
    struct role_options o = {0};
    struct infer_run_options run = {.cheat = CHEAT_NONE};
    char *cheat = NULL;
    struct opt table[ROLE_OPTIONS_COUNT + 2] = {
        [ROLE_OPTIONS_COUNT] = {"units", OPT_INT, &run.units, "4", "1..32",
                                "units generated together", false},
        {"cheat", OPT_CHOICE, &cheat, "none", "none" CHEAT_CHOICES,
         "be dishonest, to try a network's defences: such a worker loses its stake", false},
    };
    struct usage u = {
        .line = "muster inference --dir DIR [--join LINK] [options]",
        .about =
            "Generates rollouts for a run and is paid by the token. Started again with the\n"
            "same --dir it goes on where it was.\n\n"
            "How a worker may cheat, to try a network's defences:\n" CHEAT_LINES,
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status;

    role_options_table(table, &o);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN) {
        run.node = role_options_apply(&o);
        run.allow_unsandboxed = o.allow_unsandboxed;
        run.cheat = infer_cheat_parse(cheat);
        status = role_finish("inference", infer_run(&run, &e), &e);
    }
    opt_clear(table, u.n);
    return status;
}
