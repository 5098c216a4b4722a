#include "envs/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <linux/seccomp.h>
#include <seccomp.h>

#define CPU_SECONDS 3600u /* a worker serves many calls; each has its wall clock */

/* The sanitizers reserve terabytes, so address space cannot be limited under them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW 1
#endif
#endif
#ifndef HAS_SHADOW
#define HAS_SHADOW 0
#endif

enum status sandbox_check(struct err *e)
{
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0)
        return err_set(e, ERR_DENIED, "the kernel has no 'no_new_privs': %s", strerror(errno));
    /* With a null filter a kernel that has filters faults on it, others refuse the mode. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL, 0, 0) == 0 || errno != EFAULT)
        return err_set(e, ERR_DENIED, "the kernel gives no seccomp filters: %s",
                       strerror(errno));
    return OK;
}

/* Address space in use, in bytes; 0 if unknown. */
static uint64_t address_space(void)
{
    char text[64];
    uint64_t pages = 0;
    ssize_t n;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; i++)
        pages = pages * 10 + (uint64_t)(text[i] - '0');
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static enum status limit(int resource, const char *name, uint64_t most, struct err *e)
{
    struct rlimit l;

    if (getrlimit(resource, &l))
        return err_set(e, ERR_DENIED, "cannot read the limit %s: %s", name, strerror(errno));
    if (l.rlim_max != RLIM_INFINITY && l.rlim_max < most)
        most = l.rlim_max;
    l.rlim_cur = l.rlim_max = most;
    if (setrlimit(resource, &l))
        return err_set(e, ERR_DENIED, "cannot set the limit %s: %s", name, strerror(errno));
    return OK;
}

static enum status limit_all(size_t more_bytes, struct err *e)
{
    uint64_t used = address_space();
    enum status st = OK;

    if (!HAS_SHADOW) {
        if (!used)
            return err_set(e, ERR_DENIED, "cannot read /proc/self/statm");
        st = limit(RLIMIT_AS, "of address space", used + more_bytes, e);
    }
    if (!st)
        st = limit(RLIMIT_CPU, "of processor time", CPU_SECONDS, e);
    if (!st)
        st = limit(RLIMIT_FSIZE, "of file size", 0, e);
    if (!st)
        st = limit(RLIMIT_CORE, "of core files", 0, e);
    if (!st)
        st = limit(RLIMIT_NOFILE, "of open files", 0, e); /* no new ones */
    return st;
}

static int add_rules(scmp_filter_ctx filter)
{
    static const int plain[] = {
        SCMP_SYS(read),         SCMP_SYS(write),     SCMP_SYS(exit),
        SCMP_SYS(exit_group),   SCMP_SYS(brk),       SCMP_SYS(munmap),
        SCMP_SYS(mremap),       SCMP_SYS(madvise),   SCMP_SYS(rt_sigreturn),
        SCMP_SYS(futex),        SCMP_SYS(setitimer), SCMP_SYS(restart_syscall),
        SCMP_SYS(clock_gettime)};
    int rc = 0;

    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]) && !rc; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, plain[i], 0);
    if (!rc && HAS_SHADOW) /* asked before each jump out of a function */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sigaltstack), 0);
    if (!rc) /* memory, never to be executed, of no file: there is no descriptor to map */
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!rc)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return rc;
}

static enum status load_filter(struct err *e)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc;

    if (!filter)
        return err_set(e, ERR_DENIED, "cannot make a seccomp filter");
    rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1); /* all threads, if there are any */
    if (!rc)
        rc = add_rules(filter);
    if (!rc)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    if (rc)
        return err_set(e, ERR_DENIED, "cannot install a seccomp filter: %s", strerror(-rc));
    return OK;
}

enum status sandbox_enter(size_t more_bytes, struct err *e)
{
    enum status st = limit_all(more_bytes, e);

    if (st)
        return st;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return err_set(e, ERR_DENIED, "cannot set 'no_new_privs': %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return err_set(e, ERR_DENIED, "cannot be made undumpable: %s", strerror(errno));
    return load_filter(e);
}
