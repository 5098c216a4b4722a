#include "base/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

/* The variables of this process if they are to be kept, then the mark. */
static char **environment_of(const struct helper_options *o)
{
    size_t n = 0, at = 0;
    char **all;

    while (o->keep_environment && environ[n])
        n++;
    all = xcalloc(n + 2, sizeof(*all));
    for (; at < n; at++)
        all[at] = environ[at];
    all[at] = (char *)o->mark;
    return all;
}

static enum status spawn(struct helper *h, const struct helper_options *o, int fd,
                         struct err *e)
{
    const char *program = o->program ? o->program : "/proc/self/exe";
    char *argv[] = {(char *)"muster", (char *)o->command, NULL};
    char **environment = environment_of(o);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t signals;
    int rc;

    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&files, fd, HELPER_SOCKET);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    if (!o->keep_stderr)
        posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&files, 3);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF);
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attr, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attr, &signals);
    rc = posix_spawn(&h->pid, program, &files, &attr, argv, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    free(environment);
    if (!rc)
        return OK;
    h->pid = 0;
    return err_set(e, ERR_IO, "cannot start '%s' as %s: %s", program, o->command, strerror(rc));
}

enum status helper_start(struct helper *h, const struct helper_options *o, struct err *e)
{
    enum status st;
    int fd[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
        return err_set(e, ERR_IO, "cannot make a socket pair: %s", strerror(errno));
    st = spawn(h, o, fd[1], e);
    close(fd[1]);
    if (st)
        close(fd[0]);
    else
        h->fd = fd[0];
    return st;
}

int helper_stop(struct helper *h)
{
    int status = 0;

    if (!h->pid)
        return 0;
    kill(h->pid, SIGKILL);
    while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(h->fd);
    *h = HELPER_NONE;
    return status;
}

bool helper_is_marked(const char *mark)
{
    size_t n = strcspn(mark, "=");

    for (char **v = environ; *v; v++)
        if (!strncmp(*v, mark, n) && (*v)[n] == '=')
            return true;
    return false;
}

/* Milliseconds as poll takes them. */
static int left_until(int64_t deadline_ms)
{
    int64_t left;

    if (deadline_ms == INT64_MAX)
        return -1;
    left = deadline_ms - clock_mono_ms();
    return left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* Until the socket gives or takes something. ERR_TIMEOUT: not by then. */
static enum status await(const struct helper *h, short what, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd poll_fd = {h->fd, what, 0};
        int wait_ms = left_until(deadline_ms);
        int rc = poll(&poll_fd, 1, wait_ms);

        if (rc > 0 || (rc < 0 && errno != EINTR))
            return OK; /* and if it is an error, the next call has it too */
        if (rc == 0 && wait_ms == 0)
            return ERR_TIMEOUT;
    }
}

enum status helper_send(const struct helper *h, struct bytes b, int64_t deadline_ms)
{
    while (b.len) {
        enum status st = await(h, POLLOUT, deadline_ms);
        ssize_t n = st ? 0 : send(h->fd, b.data, b.len, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (st)
            return st;
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return ERR_IO;
        b.data += n;
        b.len -= (size_t)n;
    }
    return OK;
}

enum status helper_receive(const struct helper *h, void *p, size_t n, int64_t deadline_ms)
{
    uint8_t *to = p;

    while (n) {
        enum status st = await(h, POLLIN, deadline_ms);
        ssize_t got = st ? 0 : recv(h->fd, to, n, MSG_DONTWAIT);

        if (st)
            return st;
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return ERR_IO;
        to += got;
        n -= (size_t)got;
    }
    return OK;
}

bool helper_read(void *p, size_t n)
{
    uint8_t *to = p;

    while (n) {
        ssize_t got = read(HELPER_SOCKET, to, n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        to += got;
        n -= (size_t)got;
    }
    return true;
}

bool helper_write(struct bytes b)
{
    while (b.len) {
        ssize_t n = write(HELPER_SOCKET, b.data, b.len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        b.data += n;
        b.len -= (size_t)n;
    }
    return true;
}
