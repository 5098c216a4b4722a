/*
 * muster verifier: earn by checking rollouts
 */
#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/role_options.h"
#include "cli/usage.h"
#include "verifier/verify_run.h"

int cmd_verifier(int argc, char **argv)
{
    struct role_options o = {0};
    struct verify_run_options run = {.cheat = VERIFY_CHEAT_NONE};
    char *cheat = NULL, *accomplice = NULL, *model = NULL;
    struct opt table[ROLE_OPTIONS_COUNT + 3] = {
        [ROLE_OPTIONS_COUNT] = {"cheat", OPT_CHOICE, &cheat, "none",
                                "none|lazy|framing|copying|colluding|challenging",
                                "how to cheat, to try a network's defences", false},
        {"accomplice", OPT_STRING, &accomplice, "", NULL,
         "key of the worker whose units a colluding validator accepts, in hexadecimal", false},
        ROLE_MODEL_ROW(&model),
    };
    struct usage u = {
        .line = "muster verifier --dir DIR [--join LINK] [options]",
        .about = "Checks the rollouts of others, to the last bit or, in open classes, within "
                 "tolerances, for a\n"
                 "fee per verdict.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status;

    role_options_table(table, &o);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN) {
        run.cheat = verify_cheat_parse(cheat);
        if (run.cheat == VERIFY_CHEAT_COLLUDING &&
            hex_decode(run.accomplice.b, KEY_BYTES, accomplice, &e))
            status = usage_complain(u.line, "option 'accomplice': %s", e.text);
    }
    if (status == USAGE_RUN) {
        run.model = model;
        run.node = role_options_apply(&o);
        run.allow_unsandboxed = o.allow_unsandboxed;
        status = role_finish("verifier", verify_run(&run, &e), &e);
    }
    opt_clear(table, u.n);
    return status;
}
