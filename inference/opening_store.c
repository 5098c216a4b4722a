#include "inference/opening_store.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "proto/msg.h"

static char *path_of(const char *dir, uint64_t unit, uint64_t lease)
{
    char name[96];

    snprintf(name, sizeof(name), "openings/unit-%" PRIu64 "-lease-%" PRIu64 ".opening", unit,
             lease);
    return file_join(dir, name);
}

enum status opening_store_put(const char *dir, uint64_t unit, uint64_t lease,
                              struct bytes opening, struct err *e)
{
    char *all = file_join(dir, "openings"), *path = path_of(dir, unit, lease);
    enum status st = file_mkdirs(all, 0700, e);

    if (!st)
        st = file_write_atomic(path, opening, 0600, e);
    free(path);
    free(all);
    return st;
}

enum status opening_store_get(const char *dir, uint64_t unit, uint64_t lease, struct buf *out,
                              struct err *e)
{
    char *path = path_of(dir, unit, lease);
    size_t from = out->len;
    struct msg_opening o;
    enum status st = file_read(out, path, e);

    if (!st)
        st = msg_opening_decode(&o, bytes_slice(buf_bytes(out), from, out->len - from), e);
    if (!st && (o.unit != unit || o.lease != lease))
        st = err_set(e, ERR_MALFORMED, "'%s' is the opening of another attempt", path);
    free(path);
    return st;
}

/* The lease of the attempt whose opening a file of this name is; a crash may have left one half written,
 * with ".tmp" at its end. False: it is none. */
static bool parse_name(const char *name, uint64_t *lease, bool *is_whole)
{
    int end = 0;

    if (sscanf(name, "unit-%*u-lease-%" SCNu64 ".opening%n", lease, &end) != 1 || !end)
        return false;
    *is_whole = !name[end];
    return *is_whole || !strcmp(name + end, ".tmp");
}

/* All that are here: drops those below `settled`, and of the others takes the newest lease. */
static enum status sweep(const char *dir, uint64_t settled, uint64_t *last, struct err *e)
{
    char *all = file_join(dir, "openings");
    enum status st = OK;
    struct dirent *each;
    DIR *d = opendir(all);

    *last = 0;
    if (!d && errno != ENOENT)
        st = err_set(e, ERR_IO, "cannot list '%s': %s", all, strerror(errno));
    while (d && !st && (each = readdir(d))) {
        uint64_t lease;
        bool is_whole;
        char *path;

        if (!parse_name(each->d_name, &lease, &is_whole))
            continue;
        if (lease >= settled) {
            *last = is_whole && lease > *last ? lease : *last;
            continue;
        }
        path = file_join(all, each->d_name);
        if (unlink(path) && errno != ENOENT)
            st = err_set(e, ERR_IO, "cannot remove '%s': %s", path, strerror(errno));
        free(path);
    }
    if (d)
        closedir(d);
    free(all);
    return st;
}

enum status opening_store_settle(const char *dir, uint64_t settled, struct err *e)
{
    uint64_t last;

    return sweep(dir, settled, &last, e);
}

enum status opening_store_last(const char *dir, uint64_t *last, struct err *e)
{
    return sweep(dir, 0, last, e);
}
