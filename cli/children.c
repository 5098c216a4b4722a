#include "cli/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "cli/role_options.h"

#define RESTART_FIRST_MS 200
#define RESTART_LAST_MS  5000
#define TAIL_BYTES       16384 /* of a log are looked at */
#define HEALTHY_MS       10000 /* after a longer life it starts over at the first pause */

void children_init(struct children *c)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    memset(c, 0, sizeof(*c));
    CHECK(n > 0);
    path[n] = '\0';
    c->program = xstrdup(path);
}

struct child *children_add(struct children *c, const char *name, const char *dir,
                           const char *const *args)
{
    struct child *ch = &c->v[c->n];
    char log_name[CHILD_NAME_BYTES + 8];
    size_t i;

    CHECK(c->n < CHILDREN_MAX);
    c->n++;
    snprintf(ch->name, sizeof(ch->name), "%s", name);
    snprintf(log_name, sizeof(log_name), "%s.log", ch->name);
    ch->log_path = file_join(dir, log_name);
    ch->argv[0] = xstrdup("muster");
    for (i = 0; args[i]; i++) {
        CHECK(i + 1 < CHILD_ARGS_MAX);
        ch->argv[i + 1] = xstrdup(args[i]);
    }
    return ch;
}

/* In the child, between fork and exec: only what is safe there. */
NO_RETURN static void become(const struct children *c, const struct child *ch, int log_fd,
                             pid_t parent)
{
    int null_fd = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    setpgid(0, 0); /* Ctrl-C reaches the parent, which ends its children in order */
    dup2(null_fd, 0);
    dup2(log_fd, 1);
    dup2(log_fd, 2);
    execv(c->program, ch->argv);
    _exit(127);
}

static enum status child_start(struct children *c, struct child *ch, int64_t now_ms,
                               struct err *e)
{
    int log_fd = open(ch->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    pid_t parent = getpid();
    pid_t pid;

    if (log_fd < 0)
        return err_set(e, ERR_IO, "cannot open the log '%s': %s", ch->log_path,
                       strerror(errno));
    pid = fork();
    if (pid == 0)
        become(c, ch, log_fd, parent);
    close(log_fd);
    if (pid < 0)
        return err_set(e, ERR_IO, "cannot start %s: %s", ch->name, strerror(errno));
    ch->pid = pid;
    ch->start_ms = now_ms;
    return OK;
}

/* The text of a log line: what follows the time, where it begins with one. */
static const char *without_time(const char *line)
{
    const char *blank = strchr(line, ' ');

    return line[0] >= '0' && line[0] <= '9' && blank && blank[-1] == 'Z' ? blank + 1 : line;
}

static void note_end(struct child *ch, int status)
{
    char *tail;

    if (WIFSIGNALED(status)) {
        snprintf(ch->why, sizeof(ch->why), "killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
        return;
    }
    tail = children_log_tail(ch, 1);
    if (*tail)
        snprintf(ch->why, sizeof(ch->why), "%s", without_time(tail));
    else
        snprintf(ch->why, sizeof(ch->why), "ended with status %d%s", WEXITSTATUS(status),
                 file_disk_is_full(ch->log_path) ? " and without a word, for the disk is full"
                                                 : "");
    free(tail);
}

static void child_reap(struct child *ch, int64_t now_ms)
{
    int64_t pause = RESTART_FIRST_MS;
    int status;

    if (!ch->pid || waitpid(ch->pid, &status, WNOHANG) != ch->pid)
        return;
    ch->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        ch->is_done = true;
        return;
    }
    note_end(ch, status);
    ch->is_given_up = WIFEXITED(status) && WEXITSTATUS(status) == 2;
    ch->is_refused = WIFEXITED(status) && WEXITSTATUS(status) == ROLE_REFUSED;
    ch->restart_at_ms = now_ms;
    if (ch->is_given_up || ch->is_refused)
        return;
    if (now_ms - ch->start_ms > HEALTHY_MS)
        ch->quick_lives = 0;
    for (unsigned i = 0; i < ch->quick_lives && pause < RESTART_LAST_MS; i++)
        pause *= 2;
    ch->quick_lives++;
    ch->vain_lives++;
    ch->restart_at_ms = now_ms + (pause < RESTART_LAST_MS ? pause : RESTART_LAST_MS);
}

void children_progress(struct children *c)
{
    for (size_t i = 0; i < c->n; i++)
        c->v[i].vain_lives = 0;
}

bool children_is_stuck(const struct child *ch, int64_t now_ms)
{
    bool is_healthy = ch->pid && now_ms - ch->start_ms > HEALTHY_MS;

    return !ch->is_done && ((ch->quick_lives >= CHILD_QUICK_LIVES && !is_healthy) ||
                            ch->vain_lives >= CHILD_QUICK_LIVES);
}

enum status children_tick(struct children *c, int64_t now_ms, struct err *e)
{
    for (size_t i = 0; i < c->n; i++) {
        struct child *ch = &c->v[i];

        child_reap(ch, now_ms);
        if (ch->pid || ch->is_done || ch->is_given_up || ch->is_refused || c->is_stopping ||
            now_ms < ch->restart_at_ms)
            continue;
        enum status st = child_start(c, ch, now_ms, e);
        if (st)
            return st;
    }
    return OK;
}

static bool any_running(struct children *c)
{
    bool any = false;

    for (size_t i = 0; i < c->n; i++) {
        child_reap(&c->v[i], 0);
        any = any || c->v[i].pid;
    }
    return any;
}

static void signal_all(struct children *c, int sig)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->v[i].pid)
            kill(c->v[i].pid, sig);
}

void children_clear(struct children *c, int64_t grace_ms)
{
    const struct timespec pause = {0, 20 * 1000 * 1000};
    int64_t give_up = clock_mono_ms() + grace_ms;

    c->is_stopping = true;
    signal_all(c, SIGTERM);
    while (any_running(c) && clock_mono_ms() < give_up)
        nanosleep(&pause, NULL);
    signal_all(c, SIGKILL);
    for (size_t i = 0; i < c->n; i++) {
        struct child *ch = &c->v[i];

        if (ch->pid)
            waitpid(ch->pid, NULL, 0);
        for (size_t a = 0; ch->argv[a]; a++)
            free(ch->argv[a]);
        free(ch->log_path);
    }
    free(c->program);
    memset(c, 0, sizeof(*c));
}

/* The last bytes of a file, in `text`; how many. */
static size_t read_end(char *text, size_t size, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t len = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    off_t from = len > (off_t)size ? len - (off_t)size : 0;
    ssize_t got = len > 0 ? pread(fd, text, size, from) : 0;

    if (fd >= 0)
        close(fd);
    return got > 0 ? (size_t)got : 0;
}

char *children_log_tail(const struct child *ch, size_t n)
{
    char text[TAIL_BYTES + 1];
    size_t end = read_end(text, TAIL_BYTES, ch->log_path), at;

    while (end && text[end - 1] == '\n')
        end--;
    text[end] = '\0';
    for (at = end; at && n; at--)
        if (text[at - 1] == '\n' && --n == 0)
            break;
    return xstrdup(text + at);
}
