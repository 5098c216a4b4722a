#include "support/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "support/tempdir.h"

static char *dir;

static void remove_dir(void)
{
    tempdir_remove(&dir);
}

const char *scratch_dir(void)
{
    if (!dir) {
        dir = tempdir_make();
        CHECK(atexit(remove_dir) == 0);
    }
    return dir;
}

const char *scratch_write(const char *name, struct bytes data)
{
    const char *path = tempdir_path(scratch_dir(), name);
    int fd;

    scratch_remove(name); /* to cut a file short instead makes some file systems write it out */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);

        CHECK(n > 0 || (n < 0 && errno == EINTR));
        if (n > 0)
            data = bytes_slice(data, (size_t)n, data.len - (size_t)n);
    }
    close(fd);
    return path;
}

void scratch_remove(const char *name)
{
    CHECK(unlink(tempdir_path(scratch_dir(), name)) == 0 || errno == ENOENT);
}
