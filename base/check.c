#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *cond)
{
    (void)fprintf(stderr, "%s:%d: this must hold, and does not: %s\n", file, line, cond);
    (void)fflush(stderr);
    abort();
}
