#include "support/tempdir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/file.h"

#define PATHS 8u

char *tempdir_make(void)
{
    const char *top = getenv("TMPDIR");
    char *path = file_join(top && top[0] ? top : "/tmp", "muster-test-XXXXXX");

    CHECK(mkdtemp(path));
    return path;
}

static int remove_entry(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)ftw;
    (void)sb;
    if (type == FTW_DNR)
        (void)chmod(path, 0700);
    return remove(path);
}

void tempdir_remove(char **path)
{
    if (!*path)
        return;
    if (getenv("KEEP_TEMP"))
        (void)fprintf(stderr, "kept %s\n", *path);
    else
        (void)nftw(*path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(*path);
    *path = NULL;
}

const char *tempdir_path(const char *dir, const char *name)
{
    static char paths[PATHS][4096];
    static unsigned next;
    char *out = paths[next++ % PATHS];
    int n = snprintf(out, sizeof(paths[0]), "%s/%s", dir, name);

    CHECK(n > 0 && (size_t)n < sizeof(paths[0]));
    return out;
}

int tempdir_setup(void **state)
{
    *state = tempdir_make();
    return 0;
}

int tempdir_teardown(void **state)
{
    char *path = *state;

    tempdir_remove(&path);
    return 0;
}
