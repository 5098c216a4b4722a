/*
 * base/log.h - one line per event, on stderr
 *
 *   2026-08-22T11:03:07.123Z I trainer step n=118 version=37 loss=2.3114
 *
 * E someone must act, W something was refused or retried, I the story of a normal run, D the
 * rest. Only run files and cli/ log; base, proto, engine, envs, rollout, learn and ledger return.
 * Threads: any. A line is written with one write(2).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/attr.h"

enum log_level { LOG_E, LOG_W, LOG_I, LOG_D };

/* Lines above this level are dropped. Default LOG_I. */
void log_set_level(enum log_level level);
/* Where lines go besides nowhere: a file descriptor, 2 by default, -1 for silence. */
void log_set_fd(int fd);
void log_line(enum log_level level, const char *module, const char *fmt, ...) PRINTF(3, 4);

/* Each file that logs says `#define LOG_MODULE "trainer"` before including this header. */
#define LOG_ERROR(...) log_line(LOG_E, LOG_MODULE, __VA_ARGS__)
#define LOG_WARN(...)  log_line(LOG_W, LOG_MODULE, __VA_ARGS__)
#define LOG_INFO(...)  log_line(LOG_I, LOG_MODULE, __VA_ARGS__)
#define LOG_DEBUG(...) log_line(LOG_D, LOG_MODULE, __VA_ARGS__)

#endif
