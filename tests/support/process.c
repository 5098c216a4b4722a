#include "support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/file.h"
#include "support/wait.h"

#define OUTPUT_MAX_BYTES (64u << 20)

static char *output_path(const char *dir, const char *name, const char *suffix)
{
    size_t n = strlen(name) + strlen(suffix) + 1;
    char *file = xmalloc(n), *path;

    (void)snprintf(file, n, "%s%s", name, suffix);
    path = file_join(dir, file);
    free(file);
    return path;
}

/* In the child, between fork and exec: only calls that are safe there. */
static void become(const char *const *argv, int out, int err, pid_t parent)
{
    int in = open("/dev/null", O_RDONLY);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126); /* the parent died before prctl */
    (void)dup2(in, 0);
    (void)dup2(out, 1);
    (void)dup2(err, 2);
    execvp(argv[0], (char *const *)argv);
    dprintf(2, "cannot run '%s': %s\n", argv[0], strerror(errno));
    _exit(127);
}

void process_start(struct process *p, const char *dir, const char *name,
                   const char *const *argv)
{
    pid_t parent = getpid();
    int out, err;

    memset(p, 0, sizeof(*p));
    (void)snprintf(p->name, sizeof(p->name), "%s", name);
    p->out_path = output_path(dir, name, ".out");
    p->err_path = output_path(dir, name, ".err");
    out = open(p->out_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    err = open(p->err_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    CHECK(out >= 0 && err >= 0);
    (void)fflush(NULL);
    p->pid = fork();
    CHECK(p->pid >= 0);
    if (p->pid == 0)
        become(argv, out, err, parent);
    close(out);
    close(err);
}

bool process_is_running(struct process *p)
{
    pid_t got;

    if (p->pid == 0)
        return false;
    do
        got = waitpid(p->pid, &p->wait_status, WNOHANG);
    while (got < 0 && errno == EINTR);
    CHECK(got >= 0);
    if (got == 0)
        return true;
    p->pid = 0;
    p->has_ended = true;
    return false;
}

void process_signal(struct process *p, int sig)
{
    if (process_is_running(p))
        (void)kill(p->pid, sig);
}

static bool has_ended(void *arg)
{
    return !process_is_running(arg);
}

bool process_wait(struct process *p, int64_t ms, int *exit_status)
{
    if (!wait_until(has_ended, p, ms))
        return false;
    if (WIFSIGNALED(p->wait_status))
        *exit_status = 128 + WTERMSIG(p->wait_status);
    else
        *exit_status = WEXITSTATUS(p->wait_status);
    return true;
}

void process_clear(struct process *p)
{
    if (process_is_running(p)) {
        (void)kill(p->pid, SIGKILL);
        (void)waitpid(p->pid, &p->wait_status, 0);
    }
    free(p->out_path);
    free(p->err_path);
    memset(p, 0, sizeof(*p));
}

static char *read_text(const char *path)
{
    struct buf b;
    char *text;

    buf_init(&b, OUTPUT_MAX_BYTES);
    if (!path || file_read(&b, path, NULL))
        buf_reset(&b);
    text = xstrdup(buf_cstr(&b));
    buf_clear(&b);
    return text;
}

char *process_stdout(const struct process *p)
{
    return read_text(p->out_path);
}

char *process_stderr(const struct process *p)
{
    return read_text(p->err_path);
}

void process_show(const struct process *p)
{
    char *out = process_stdout(p), *err = process_stderr(p);

    (void)fprintf(stderr, "--- stdout of %s\n%s--- stderr of %s\n%s---\n", p->name, out,
                  p->name, err);
    free(out);
    free(err);
}

const char *process_muster(void)
{
    const char *path = getenv("MUSTER");

    if (path && path[0] && access(path, X_OK) == 0)
        return path;
    (void)fprintf(stderr, "skipped: MUSTER names no program ('%s')\n", path ? path : "");
    exit(77);
}
