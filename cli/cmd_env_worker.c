/*
 * muster env-worker: what an environment's host executes again as its sandboxed worker
 */
#include "cli/commands.h"
#include "envs/env.h"

int cmd_env_worker(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return env_worker_main();
}
