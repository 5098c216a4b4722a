/*
 * muster lane-worker: what a trainer with several processes executes again as one of them
 */
#include "cli/commands.h"
#include "replay/lane_group.h"

int cmd_lane_worker(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return lane_worker_main();
}
