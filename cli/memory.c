#include "cli/memory.h"

#include <inttypes.h>
#include <stdio.h>

#define LOG_MODULE "memory"
#include "base/log.h"

uint64_t memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    uint64_t kib = UINT64_MAX;
    char line[128];

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib > UINT64_MAX / 1024 ? UINT64_MAX : kib * 1024;
}

enum status memory_check(uint64_t bytes, int64_t max_mib, const char *what, struct err *e)
{
    uint64_t limit = max_mib ? (uint64_t)max_mib << 20 : memory_available();
    double mib = (double)bytes / 1048576.0, limit_mib = (double)limit / 1048576.0;

    if (bytes > limit)
        return err_set(e, ERR_LIMIT, "%s takes %.0f MiB, more than the %.0f %s", what, mib,
                       limit_mib, max_mib ? "allowed" : "MiB of memory available");
    LOG_INFO("plan what=\"%s\" mib=%.0f", what, mib);
    return OK;
}
