#include "cli/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LOG_MODULE "memory"
#include "base/log.h"

/* The number of "Key:   123 kB" in a file of /proc, in bytes. */
static uint64_t find_kb(const char *path, const char *key, uint64_t otherwise)
{
    FILE *f = fopen(path, "r");
    char line[256];
    uint64_t kb;

    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, key, strlen(key)) == 0 &&
            sscanf(line + strlen(key), "%" SCNu64, &kb) == 1) {
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
    double mib = (double)bytes / 1048576.0, limit_mib = (double)limit / 1048576.0;

    if (bytes > limit)
        return err_set(e, ERR_LIMIT, "%s takes %.0f MiB, more than the %.0f %s", what, mib,
                       limit_mib, max_mib ? "allowed" : "MiB of memory available");
    LOG_INFO("plan what=\"%s\" mib=%.0f", what, mib);
    return OK;
}
