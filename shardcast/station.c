#include "shardcast/station.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "proto/invite.h"

#define LOG_MODULE "member"
#include "base/log.h"

static enum status take_dir(struct station *s, const char *dir, struct err *e)
{
    char *path = file_join(dir, "lock");
    enum status st = file_mkdirs(dir, 0700, e);

    if (!st)
        st = file_lock(&s->lock_fd, path, dir, e);
    free(path);
    return st;
}

#define LOOPBACK "tcp://127.0.0.1:*"

/* Where the orchestrator is: as this directory knows, or as the link says. False: neither. */
static bool find_control(char out[MSG_TEXT_BYTES], const struct node_options *n)
{
    struct member_home home;
    struct invite v;
    bool found = !member_home_load(&home, n->dir, NULL);

    if (found)
        memcpy(out, home.control, sizeof(home.control));
    else if (n->link && !invite_decode(&v, n->link, NULL)) {
        memcpy(out, v.control, sizeof(v.control));
        found = true;
    }
    return found;
}

static bool is_everywhere(const char *listen)
{
    return !strncmp(listen, "tcp://0.0.0.0:", 14) || !strncmp(listen, "tcp://*:", 8);
}

/* Peers on other machines must be able to fetch what this one serves: the trainer's weights are
 * nowhere else at first. What the owner says, stands. */
static void choose_endpoint(struct cast_options *co, char own[SOCK_ADDRESS_BYTES],
                            const struct node_options *n)
{
    bool is_asked = n->listen && n->listen[0], says_host = n->advertise && n->advertise[0];
    char control[MSG_TEXT_BYTES];
    struct err e;

    co->listen = is_asked ? n->listen : LOOPBACK;
    co->advertise = says_host ? n->advertise : NULL;
    if (is_asked && (says_host || !is_everywhere(n->listen)))
        return;
    if (!find_control(control, n))
        return; /* member_new says so */
    if (sock_own_address(own, control, &e)) {
        LOG_WARN("peers on other machines cannot fetch from here why=\"%s\"", e.text);
        return;
    }
    if (!is_asked && !strncmp(own, "127.", 4))
        return;
    co->listen = is_asked ? n->listen : "tcp://0.0.0.0:*";
    co->advertise = says_host ? n->advertise : own;
    LOG_INFO("serves listen=%s host=%s", co->listen, co->advertise);
}

enum status station_open(struct station *s, const struct station_options *opt, struct err *e)
{
    const struct node_options *n = opt->node;
    struct cast_options co = opt->cast;
    struct member_options mo = opt->member;
    enum status st;

    memset(s, 0, sizeof(*s));
    s->lock_fd = -1;
    choose_endpoint(&co, s->own, n);
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
    st = cast_failure(s->cast, e);
    return st ? st : member_failure(s->member, e);
}
