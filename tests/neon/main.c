/* `muster bench exact` without the rest of muster. */
#include "cli/bench_exact.h"

int main(int argc, char **argv)
{
    return bench_exact(argc, argv);
}
