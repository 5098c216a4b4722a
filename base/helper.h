/*
 * base/helper.h - this program started once more, with a socket between the two
 *
 * A helper does a part of a process's work in a process of its own: because it must be confined, or
 * because it needs memory and cores of its own. It is this very program with a subcommand that its
 * main() recognises, a process group of its own (an interrupt from the terminal is for its parent to
 * deal with), descriptor 0 the socket, 1 nothing, and no other but stderr. It ends when the
 * socket does.
 *
 * Threads: any, one at a time for one helper. Starting one does not fork this process's memory.
 */
#ifndef BASE_HELPER_H
#define BASE_HELPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/status.h"

#define HELPER_SOCKET 0 /* in the helper */

struct helper {
    pid_t pid; /* 0: none */
    int fd;
};
#define HELPER_NONE ((struct helper){0, -1})

struct helper_options {
    const char *program; /* NULL: this one */
    const char *command; /* the subcommand */
    const char *mark;    /* "NAME=1", in the helper's environment: see helper_is_marked */
    bool keep_environment;
    bool keep_stderr; /* else it says nothing */
};

/* *h must be HELPER_NONE, and is again after a failure. ERR_IO. */
MUST_USE enum status helper_start(struct helper *h, const struct helper_options *o,
                                  struct err *e);
/* Kills it, if there is one, and waits. Returns its status as waitpid gives it. */
int helper_stop(struct helper *h);
/* Whether this process was started with that mark. One whose main() takes no notice of being a helper
 * would start itself without end: so who starts helpers asks first. */
bool helper_is_marked(const char *mark);

/* On the parent's side. ERR_TIMEOUT: not all was taken, or came, by then (base/clock.h; INT64_MAX:
 * wait for ever). ERR_IO: the helper is gone. No text is set. */
MUST_USE enum status helper_send(const struct helper *h, struct bytes b, int64_t deadline_ms);
MUST_USE enum status helper_receive(const struct helper *h, void *p, size_t n,
                                    int64_t deadline_ms);

/* On the helper's side. False: the parent is gone. */
MUST_USE bool helper_read(void *p, size_t n);
MUST_USE bool helper_write(struct bytes b);

#endif
