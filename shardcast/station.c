#include "shardcast/station.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static enum status take_dir(struct station *s, const char *dir, struct err *e)
{
    char *path = file_join(dir, "lock");
    enum status st = file_mkdirs(dir, 0700, e);

    if (!st)
        st = file_lock(&s->lock_fd, path, dir, e);
    free(path);
    return st;
}

enum status station_open(struct station *s, const struct station_options *opt, struct err *e)
{
    const struct node_options *n = opt->node;
    struct cast_options co = opt->cast;
    struct member_options mo = opt->member;
    enum status st;

    memset(s, 0, sizeof(*s));
    s->lock_fd = -1;
    co.listen = n->listen;
    co.advertise = n->advertise && n->advertise[0] ? n->advertise : NULL;
    co.up_bytes_s = (uint64_t)(n->up_mbps * 1e6 / 8);
    co.down_bytes_s = (uint64_t)(n->down_mbps * 1e6 / 8);
    mo.link = n->link;
    st = take_dir(s, n->dir, e);
    if (!st)
        st = member_keys(&s->key, n->dir, e);
    if (!st)
        st = shell_new(&s->shell, s->key, e);
    if (!st) {
        s->part = shell_add_part(s->shell, &opt->ops, NULL, opt->max_job_result);
        st = cast_new(&s->cast, s->shell, s->key, n->dir, &co, e);
    }
    if (!st)
        st = member_new(&s->member, s->shell, s->part, s->cast, s->key, n->dir, &mo, e);
    if (st)
        station_close(s);
    return st;
}

void station_close(struct station *s)
{
    member_free(&s->member);
    cast_free(&s->cast);
    shell_free(&s->shell);
    key_free(&s->key);
    file_unlock(&s->lock_fd);
    s->part = NULL;
}

void station_fail(struct station *s, enum status st, const struct err *e)
{
    if (s->st)
        return;
    s->st = st;
    s->err = *e;
    shell_stop(s->shell);
}

enum status station_run(struct station *s, struct err *e)
{
    enum status st = shell_run(s->shell, e);

    if (st)
        return st;
    if (s->st) {
        if (e)
            *e = s->err;
        return s->st;
    }
    return member_failure(s->member, e);
}
