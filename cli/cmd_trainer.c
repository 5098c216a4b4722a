/*
 * muster trainer: update the policy and publish its weights
 */
#include "cli/commands.h"
#include "cli/role_options.h"
#include "cli/usage.h"
#include "trainer/train_run.h"

int cmd_trainer(int argc, char **argv)
{
    struct role_options o = {0};
    struct train_run_options run = {0};
    char *cheat = NULL, *model = NULL;
    struct opt table[ROLE_OPTIONS_COUNT + 5] = {
        [ROLE_OPTIONS_COUNT] = {"checkpoint-every", OPT_INT, &run.checkpoint_every, "4",
                                "1..1000",
                                "versions between checkpoints; a restart redoes the others",
                                false},
        [ROLE_OPTIONS_COUNT + 1] = {"state-every", OPT_INT, &run.state_every, "16", "0..1000",
                                    "versions between publications of the optimizer's state; "
                                    "0: none",
                                    false},
        [ROLE_OPTIONS_COUNT + 2] = {"processes", OPT_INT, &run.processes, "1", "1..8",
                                    "processes, each of --threads, that share the task's "
                                    "grad_lanes, which they must divide",
                                    false},
        [ROLE_OPTIONS_COUNT + 3] = {"cheat", OPT_CHOICE, &cheat, "none", TRAIN_CHEATS,
                                    "behave dishonestly, for trying a network's defences",
                                    false},
        [ROLE_OPTIONS_COUNT + 4] = ROLE_MODEL_ROW(&model),
    };
    struct usage u = {
        .line = "muster trainer --dir DIR [--join LINK] [options]",
        .about = "Warms the model up, takes a step on every batch, publishes every version.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
    };
    struct err e = {0};
    int status;

    role_options_table(table, &o);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN) {
        run.node = role_options_apply(&o);
        run.model = model;
        run.cheat = train_cheat_parse(cheat);
        run.allow_unsandboxed = o.allow_unsandboxed;
        status = role_finish("trainer", train_run(&run, &e), &e);
    }
    opt_clear(table, u.n);
    return status;
}
