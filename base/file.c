#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/alloc.h"

#define READ_STEP_BYTES   65536u
#define NEARLY_FULL_BYTES (1u << 20)

enum status file_failed(struct err *e, const char *doing, const char *path)
{
    int n = errno;
    enum status st = ERR_IO;

    if (n == ENOENT)
        st = ERR_NOT_FOUND;
    else if (n == ENOSPC || n == EDQUOT || n == EFBIG)
        st = ERR_FULL;
    return err_set(e, st, "cannot %s '%s': %s", doing, path, strerror(n));
}

static int open_retry(const char *path, int flags, unsigned mode)
{
    int fd;

    do
        fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static const char *kind_of(mode_t mode)
{
    return S_ISREG(mode)    ? "a file"
           : S_ISDIR(mode)  ? "a directory"
           : S_ISFIFO(mode) ? "a pipe"
           : S_ISSOCK(mode) ? "a socket"
                            : "a device";
}

/* What is no regular file may have no end, and a pipe no beginning: nothing is waited for. */
static enum status open_regular(int *fd, struct stat *sb, const char *path, struct err *e)
{
    enum status st = OK;

    *fd = open_retry(path, O_RDONLY | O_NONBLOCK, 0);
    if (*fd < 0)
        return file_failed(e, "open", path);
    if (fstat(*fd, sb))
        st = file_failed(e, "examine", path);
    else if (!S_ISREG(sb->st_mode))
        st = err_set(e, ERR_IO, "'%s' is no regular file but %s", path, kind_of(sb->st_mode));
    if (st) {
        close(*fd);
        *fd = -1;
    }
    return st;
}

/* All that is left to read of fd. */
static enum status read_all(struct buf *out, int fd, const char *path, struct err *e)
{
    for (;;) {
        size_t room = out->max - out->len;
        size_t want = room < READ_STEP_BYTES ? room + 1 : READ_STEP_BYTES;
        uint8_t chunk[READ_STEP_BYTES];
        ssize_t n = read(fd, chunk, want < sizeof(chunk) ? want : sizeof(chunk));
        enum status st;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_failed(e, "read", path);
        if (n == 0)
            return OK;
        buf_append(out, (struct bytes){chunk, (size_t)n});
        st = buf_status(out, NULL);
        if (st)
            return err_set(e, st, "'%s' is larger than the %zu bytes allowed, or out of memory",
                           path, out->max);
    }
}

enum status file_read(struct buf *out, const char *path, struct err *e)
{
    struct stat sb;
    int fd;
    enum status st = open_regular(&fd, &sb, path, e);

    if (st)
        return st;
    st = read_all(out, fd, path, e);
    close(fd);
    return st;
}

enum status file_read_stdin(struct buf *out, struct err *e)
{
    return read_all(out, STDIN_FILENO, "stdin", e);
}

enum status file_line_stdin(struct buf *out, bool *is_end, struct err *e)
{
    enum status st = OK;
    int c;

    *is_end = false;
    while (!st && (c = getc(stdin)) != EOF && c != '\n') {
        buf_put_u8(out, (uint8_t)c);
        st = buf_status(out, NULL);
    }
    if (st)
        return err_set(e, st,
                       "a line of stdin is longer than the %zu bytes allowed, or out of memory",
                       out->max);
    if (ferror(stdin))
        return err_set(e, ERR_IO, "cannot read stdin: %s", strerror(errno));
    *is_end = feof(stdin) && out->len == 0;
    return OK;
}

enum status file_check_regular(const char *path, struct err *e)
{
    struct stat sb;

    if (stat(path, &sb))
        return file_failed(e, "examine", path);
    return S_ISREG(sb.st_mode) ? OK
                               : err_set(e, ERR_IO, "'%s' is no regular file but %s", path,
                                         kind_of(sb.st_mode));
}

/* Makes the entry of `path` in its directory durable. */
static enum status sync_directory_of(const char *path, struct err *e)
{
    char *dir = xstrdup(path);
    char *slash = strrchr(dir, '/');
    enum status st = OK;
    int fd;

    if (slash)
        slash[slash == dir] = '\0';
    fd = open_retry(slash ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 || fsync(fd))
        st = file_failed(e, "sync directory of", path);
    if (fd >= 0)
        close(fd);
    free(dir);
    return st;
}

/* A rename would put a file in the place of a device, or of a link like /dev/stdout. */
static enum status check_replaceable(const char *path, struct err *e)
{
    struct stat s;

    if (lstat(path, &s))
        return OK;
    if (S_ISLNK(s.st_mode))
        return err_set(e, ERR_IO, "'%s' is a symbolic link: name the file that it leads to",
                       path);
    if (!S_ISREG(s.st_mode))
        return err_set(e, ERR_IO, "'%s' is no regular file but %s", path, kind_of(s.st_mode));
    return OK;
}

enum status file_out_open(struct file_out *f, const char *path, unsigned mode, struct err *e)
{
    size_t n = strlen(path) + sizeof(".tmp");
    enum status st = check_replaceable(path, e);

    *f = (struct file_out){.fd = -1};
    if (st)
        return st;
    f->path = xstrdup(path);
    f->tmp = xmalloc(n);
    (void)snprintf(f->tmp, n, "%s.tmp", path);
    (void)unlink(f->tmp); /* what a crash left may have another mode, or be a link */
    f->fd = open_retry(f->tmp, O_WRONLY | O_CREAT | O_EXCL, mode);
    return f->fd < 0 ? file_failed(e, "create", f->tmp) : OK;
}

enum status file_out_put(struct file_out *f, struct bytes data, struct err *e)
{
    while (data.len) {
        ssize_t n = write(f->fd, data.data, data.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return file_failed(e, "write", f->tmp);
        data = bytes_slice(data, (size_t)n, data.len - (size_t)n);
    }
    return OK;
}

enum status file_out_commit(struct file_out *f, struct err *e)
{
    enum status st = fsync(f->fd) ? file_failed(e, "sync", f->tmp) : OK;

    if (close(f->fd) && !st)
        st = file_failed(e, "close", f->tmp);
    f->fd = -1;
    if (!st && rename(f->tmp, f->path))
        st = file_failed(e, "rename over", f->path);
    if (st) {
        (void)unlink(f->tmp);
        return st;
    }
    return sync_directory_of(f->path, e);
}

void file_out_close(struct file_out *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        (void)unlink(f->tmp);
    }
    free(f->path);
    free(f->tmp);
    *f = (struct file_out){.fd = -1};
}

enum status file_write_atomic(const char *path, struct bytes data, unsigned mode, struct err *e)
{
    struct file_out f;
    enum status st = file_out_open(&f, path, mode, e);

    if (!st)
        st = file_out_put(&f, data, e);
    if (!st)
        st = file_out_commit(&f, e);
    file_out_close(&f);
    return st;
}

enum status file_mkdirs(const char *path, unsigned mode, struct err *e)
{
    char *p = xstrdup(path);
    enum status st = OK;
    struct stat sb;

    for (char *at = p; *at && !st; at++) {
        bool is_end = at[1] == '\0';
        char saved;

        if (!is_end && at[1] != '/')
            continue;
        saved = at[1];
        at[1] = '\0';
        if (mkdir(p, (mode_t)mode) && errno != EEXIST)
            st = file_failed(e, "make directory", p);
        at[1] = saved;
    }
    if (!st && (stat(path, &sb) || !S_ISDIR(sb.st_mode)))
        st = err_set(e, ERR_IO, "'%s' is no directory", path);
    free(p);
    return st;
}

enum status file_check_dir(const char *path, const char *of, struct err *e)
{
    struct stat sb;

    if (!*path)
        return err_set(e, ERR_INVALID, "the directory of %s is wanted, not an empty name", of);
    if (stat(path, &sb))
        return err_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO,
                       "the directory of %s is wanted: '%s': %s", of, path, strerror(errno));
    if (!S_ISDIR(sb.st_mode))
        return err_set(e, ERR_IO, "the directory of %s is wanted: '%s' is %s", of, path,
                       kind_of(sb.st_mode));
    return OK;
}

bool file_exists(const char *path)
{
    struct stat sb;

    return stat(path, &sb) == 0;
}

bool file_disk_is_full(const char *path)
{
    struct statvfs v;

    return statvfs(path, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < NEARLY_FULL_BYTES;
}

char *file_join(const char *dir, const char *name)
{
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
    size_t size = n + strlen(name) + 2;
    char *s = xmalloc(size);

    (void)snprintf(s, size, "%s%s%s", dir, slash, name);
    return s;
}

/* Whoever holds a lock may unlink its file: what was opened before then locks nothing. */
static bool is_still_at(int fd, const char *path)
{
    struct stat mine, there;

    return !fstat(fd, &mine) && !stat(path, &there) && mine.st_dev == there.st_dev &&
           mine.st_ino == there.st_ino;
}

static enum status lock_once(int *fd, const char *path, const char *what, struct err *e)
{
    enum status st = OK;

    *fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (*fd < 0)
        return err_set(e, ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB)) {
        st = errno == EWOULDBLOCK
                 ? err_set(e, ERR_EXISTS, "another process works in '%s'", what)
                 : err_set(e, ERR_IO, "cannot lock '%s': %s", path, strerror(errno));
        file_unlock(fd);
    }
    return st;
}

enum status file_lock(int *fd, const char *path, const char *what, struct err *e)
{
    enum status st = lock_once(fd, path, what, e);

    while (!st && !is_still_at(*fd, path)) {
        file_unlock(fd);
        st = lock_once(fd, path, what, e);
    }
    return st;
}

void file_unlock(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

enum status file_map_open(struct file_map *m, const char *path, struct err *e)
{
    enum status st;
    struct stat sb;
    void *p;
    int fd;

    *m = (struct file_map){{NULL, 0}};
    st = open_regular(&fd, &sb, path, e);
    if (st)
        return st;
    if (sb.st_size == 0)
        goto out; /* mmap refuses empty ranges; an empty view is right */
    p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        st = file_failed(e, "map", path);
        goto out;
    }
    m->bytes = (struct bytes){p, (size_t)sb.st_size};
out:
    close(fd);
    return st;
}

void file_map_close(struct file_map *m)
{
    if (m->bytes.data)
        (void)munmap((void *)m->bytes.data, m->bytes.len);
    *m = (struct file_map){{NULL, 0}};
}

static void end_by_bus(int number, siginfo_t *info, void *context)
{
    static const char text[] =
        "muster: a file was cut short, or could not be read, or the disk is full, while it was "
        "mapped\n";

    (void)context;
    if (info->si_code != BUS_ADRERR) {
        (void)signal(number,
                     SIG_DFL); /* not of a file: it happens again, and is told as ever */
        return;
    }
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
        /* a full disk, perhaps, and nobody to be told */
    }
    _exit(1);
}

void file_map_guard(void)
{
    struct sigaction act = {.sa_sigaction = end_by_bus, .sa_flags = SA_SIGINFO};

    sigemptyset(&act.sa_mask);
    (void)sigaction(SIGBUS, &act, NULL);
}
