#include "inference/opening_store.h"

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

enum status opening_store_drop(const char *dir, uint64_t unit, uint64_t lease, struct err *e)
{
    char *path = path_of(dir, unit, lease);
    enum status st = OK;

    if (unlink(path) && errno != ENOENT)
        st = err_set(e, ERR_IO, "cannot remove '%s': %s", path, strerror(errno));
    free(path);
    return st;
}
