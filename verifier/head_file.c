#include "verifier/head_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "proto/msg.h"
#include "proto/witness.h"

#define NAME      "heads.witness"
#define MAX_BYTES ((size_t)1 << 30)

struct scan {
    struct head_file *f;
    size_t n;
};

static enum status see(void *arg, const struct witness_head *h, struct err *e)
{
    struct scan *s = arg;

    (void)e;
    s->n++;
    if (h->seq > s->f->seq) {
        s->f->seq = h->seq;
        s->f->entry = h->entry;
    }
    return OK;
}

/* Where the last whole entry ends. */
static size_t whole_bytes(struct bytes file)
{
    struct reader r = reader_of(file);
    size_t end;

    (void)reader_bytes(&r, 12);
    do {
        end = file.len - reader_left(&r);
        (void)reader_blob(&r);
    } while (!r.bad && reader_left(&r));
    return r.bad ? end : file.len;
}

static enum status append(struct head_file *f, struct bytes data, struct err *e)
{
    while (data.len) {
        ssize_t n = write(f->fd, data.data, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return file_failed(e, "write", f->path);
        data = bytes_slice(data, (size_t)n, data.len - (size_t)n);
    }
    return fdatasync(f->fd) ? file_failed(e, "sync", f->path) : OK;
}

enum status head_file_open(struct head_file *f, const char *dir, struct err *e)
{
    struct scan s = {.f = f};
    struct buf b;
    enum status st = OK;

    *f = (struct head_file)HEAD_FILE_CLOSED;
    f->path = file_join(dir, NAME);
    buf_init(&b, MAX_BYTES);
    if (file_exists(f->path)) {
        st = file_read(&b, f->path, e);
        if (!st)
            st = witness_file_read(buf_bytes(&b), see, &s, e);
    }
    if (!st) {
        f->fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (f->fd < 0)
            st = file_failed(e, "open", f->path);
    }
    if (!st && b.len && ftruncate(f->fd, (off_t)whole_bytes(buf_bytes(&b))))
        st = file_failed(e, "mend", f->path);
    if (!st && !b.len) {
        witness_file_begin(&b);
        st = append(f, buf_bytes(&b), e);
    }
    buf_clear(&b);
    return st;
}

void head_file_close(struct head_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct head_file)HEAD_FILE_CLOSED;
}

enum status head_file_put(struct head_file *f, struct bytes envelope,
                          const struct public_key *orchestrator, struct err *e)
{
    struct msg_witness_call call;
    struct msg_envelope env;
    struct buf b;
    bool is_other;
    enum status st = msg_envelope_decode(&env, envelope, e);

    if (!st)
        st = msg_witness_call_decode(&call, env.body, e);
    if (!st)
        st = msg_envelope_verify(&env, e);
    if (!st && (env.kind != MSG_WITNESS_CALL || !key_equal(&env.signer, orchestrator)))
        st = err_set(e, ERR_DIGEST, "the head is not signed by this orchestrator");
    if (st)
        return st;
    if (call.seq == f->seq && digest_equal(&call.entry, &f->entry))
        return OK;
    is_other = call.seq <= f->seq;
    buf_init(&b, 2 * WITNESS_CALL_MAX);
    buf_put_blob(&b, envelope);
    st = buf_status(&b, e);
    if (!st)
        st = append(f, buf_bytes(&b), e);
    buf_clear(&b);
    if (st)
        return st;
    if (is_other)
        return err_set(e, ERR_DENIED,
                       "the orchestrator shows another history: entry %" PRIu64
                       " after %" PRIu64 ", or with another hash",
                       call.seq, f->seq);
    f->seq = call.seq;
    f->entry = call.entry;
    return OK;
}
