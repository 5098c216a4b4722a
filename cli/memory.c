#include "cli/memory.h"

#include <math.h>

#include "base/memory.h"
#include "engine/device.h"

#define LOG_MODULE "memory"
#include "base/log.h"

enum status memory_check(const struct device *d, uint64_t bytes, int64_t max_mib,
                         const char *what, struct err *e)
{
    uint64_t limit = max_mib > INT64_MAX >> 20 ? UINT64_MAX
                     : max_mib                 ? (uint64_t)max_mib << 20
                     : d                       ? device_free_bytes(d)
                                               : memory_available();
    /* Rounded so that what does not fit shows. */
    double mib = ceil((double)bytes / 1048576.0), limit_mib = floor((double)limit / 1048576.0);

    if (bytes > limit)
        return err_set(e, ERR_LIMIT, "%s takes %.0f MiB, more than the %.0f MiB %s%s", what,
                       mib, limit_mib, max_mib ? "allowed" : "of memory available on ",
                       max_mib ? "" : device_name(d));
    LOG_INFO("plan what=\"%s\" mib=%.0f", what, mib);
    return OK;
}
