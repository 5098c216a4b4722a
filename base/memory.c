#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
