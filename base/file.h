/*
 * base/file.h - whole files, safely
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"

/* Appends the file's bytes to `out`, whose ceiling bounds it (ERR_LIMIT). ERR_NOT_FOUND, ERR_IO:
 * also of what is no regular file, such as a pipe, whose writer is not waited for. */
MUST_USE enum status file_read(struct buf *out, const char *path, struct err *e);

/* The same with what is left of stdin, whatever that is. */
MUST_USE enum status file_read_stdin(struct buf *out, struct err *e);

/* Appends the next line of stdin without its end; *is_end: there is none. Waits for it. ERR_LIMIT,
 * ERR_IO. Not to be mixed with file_read_stdin, which knows nothing of stdio. */
MUST_USE enum status file_line_stdin(struct buf *out, bool *is_end, struct err *e);

/* For a library that opens files itself, and would wait for a pipe. ERR_NOT_FOUND, ERR_IO. */
MUST_USE enum status file_check_regular(const char *path, struct err *e);
/* Writes path.tmp, fsyncs, renames over `path`, fsyncs the directory: a crash leaves the old or
 * the new file, never a piece. ERR_FULL when the disk is; ERR_IO also where `path` is there and no
 * regular file, a symbolic link included. `mode` as in open(2). */
MUST_USE enum status file_write_atomic(const char *path, struct bytes data, unsigned mode,
                                       struct err *e);

/* The same for a file that is written piece by piece, because it is larger than what one wants to
 * hold. Every opened one is closed with file_out_close, which removes what was not committed. */
struct file_out {
    int fd;
    char *path, *tmp; /* owned */
};
MUST_USE enum status file_out_open(struct file_out *f, const char *path, unsigned mode,
                                   struct err *e);
MUST_USE enum status file_out_put(struct file_out *f, struct bytes data, struct err *e);
/* The file is at `path`, whole and durable, when this returns OK. */
MUST_USE enum status file_out_commit(struct file_out *f, struct err *e);
void file_out_close(struct file_out *f); /* also after a failed file_out_open */

/* That `path` is a directory, which is to be that `of` something: "a model". ERR_NOT_FOUND: there is
 * nothing; ERR_INVALID: an empty name; ERR_IO: something else is there, or it cannot be seen. */
MUST_USE enum status file_check_dir(const char *path, const char *of, struct err *e);

/* What errno says of an operation on `path` that failed: "cannot write 'path': ...". ERR_NOT_FOUND; ERR_FULL: the disk,
 * a quota, or a file's limit; ERR_IO: anything else. */
enum status file_failed(struct err *e, const char *doing, const char *path);

MUST_USE enum status file_mkdirs(const char *path, unsigned mode, struct err *e);
bool file_exists(const char *path);
/* Whether the disk of what is there has less than a MiB left: then an error of a write that names no
 * cause probably meant that. */
bool file_disk_is_full(const char *path);
/* "dir/name" into a new string of the caller's. */
char *file_join(const char *dir, const char *name);

/* Takes the lock file `path` (made if need be) for this process, until file_unlock or the end of
 * the process, however it ends. ERR_EXISTS: another process holds it; the text says that `what`
 * is in use. *fd is -1 on failure. */
MUST_USE enum status file_lock(int *fd, const char *path, const char *what, struct err *e);
void file_unlock(int *fd); /* -1 is fine; leaves -1 */

/* A file mapped for reading. Where somebody makes it shorter meanwhile there is nothing to read any
 * more, and the process gets a SIGBUS: file_map_guard. */
struct file_map {
    struct bytes bytes;
};
MUST_USE enum status file_map_open(struct file_map *m, const char *path, struct err *e);
void file_map_close(struct file_map *m);
/* From here on a read of a mapped file where it has been cut off ends the process with a sentence on
 * stderr and status 1. For a program, not for a library: there is one handler of a signal. */
void file_map_guard(void);

#endif
