#include "cli/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "memory"
#include "base/log.h"

/* The number of "Key:   123 kB" in a file of /proc, in bytes. */
static uint64_t find_kb(const char *path, const char *key, uint64_t otherwise)
{
    FILE *f = fopen(path, "r");
    char line[256];

    while (f && fgets(line, sizeof(line), f)) {
        const char *number = line + strlen(key);
        char *end;

        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const uint64_t kb = strtoull(number, &end, 10);
        if (end != number)
            otherwise = kb * 1024;
        break;
    }
    if (f)
        fclose(f);
    return otherwise;
}

uint64_t memory_available(void)
{
    return find_kb("/proc/meminfo", "MemAvailable:", UINT64_MAX);
}

uint64_t memory_peak(void)
{
    return find_kb("/proc/self/status", "VmHWM:", 0);
}

enum status memory_check(uint64_t bytes, int64_t max_mib, const char *what, struct err *e)
{
    uint64_t limit = max_mib ? (uint64_t)max_mib << 20 : memory_available();
    /* Rounded so that what does not fit shows. */
    double mib = ceil((double)bytes / 1048576.0), limit_mib = floor((double)limit / 1048576.0);

    if (bytes > limit)
        return err_set(e, ERR_LIMIT, "%s takes %.0f MiB, more than the %.0f MiB %s", what, mib,
                       limit_mib, max_mib ? "allowed" : "of memory available");
    LOG_INFO("plan what=\"%s\" mib=%.0f", what, mib);
    return OK;
}
