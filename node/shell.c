#include "node/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/clock.h"
#include "node/shell_jobs.h"
#include "node/shell_net.h"

#define PARTS_MAX 4

struct shell_part {
    struct shell *shell;
    struct shell_part_ops ops;
    struct db *db; /* borrowed; NULL if it never PUTs */
    size_t max_job_result;
    struct effects out; /* of this round */
    int64_t *due;       /* owned; ascending, no two equal: when on_timer is to run */
    size_t n_due, cap_due;
    atomic_bool is_woken;
};

struct shell {
    struct net *net;
    struct jobs *jobs;
    struct shell_part *part[PARTS_MAX]; /* owned */
    size_t n_parts;
    int wake_read, wake_write; /* a pipe: one byte wakes the loop */
    atomic_bool is_stopping;
};

/* ---- making ------------------------------------------------------------------------------ */

/* Safe in a signal handler and on the job thread. A full pipe wakes the loop just as well. */
static void wake_loop(struct shell *s)
{
    int saved_errno = errno;
    ssize_t n = write(s->wake_write, "", 1);

    (void)n;
    errno = saved_errno;
}

static void job_is_done(void *arg)
{
    wake_loop(arg);
}

enum status shell_new(struct shell **out, const struct node_key *key, struct err *e)
{
    struct shell *s = xcalloc(1, sizeof(*s));
    enum status st;
    int fd[2];

    *out = NULL;
    if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) != 0) {
        st = err_set(e, ERR_IO, "cannot open a pipe: %s", strerror(errno));
        free(s);
        return st;
    }
    s->wake_read = fd[0];
    s->wake_write = fd[1];
    jobs_new(&s->jobs, job_is_done, s);
    st = net_open(&s->net, key, e);
    if (st)
        shell_free(&s);
    *out = s;
    return st;
}

void shell_free(struct shell **out)
{
    struct shell *s = *out;

    if (!s)
        return;
    jobs_free(&s->jobs);
    net_close(&s->net);
    for (size_t i = 0; i < s->n_parts; i++) {
        effects_clear(&s->part[i]->out);
        free(s->part[i]->due);
        free(s->part[i]);
    }
    close(s->wake_read);
    close(s->wake_write);
    free(s);
    *out = NULL;
}

struct shell_part *shell_add_part(struct shell *s, const struct shell_part_ops *ops,
                                  struct db *db, size_t max_job_result)
{
    struct shell_part *p = xcalloc(1, sizeof(*p));

    CHECK(s->n_parts < PARTS_MAX);
    p->shell = s;
    p->ops = *ops;
    p->db = db;
    p->max_job_result = max_job_result;
    effects_init(&p->out);
    s->part[s->n_parts++] = p;
    return p;
}

enum status shell_bind(struct shell *s, struct shell_part *p, const char *endpoint,
                       bool open_to_all, size_t max_frame, uint32_t *link, char bound[256],
                       struct err *e)
{
    const struct net_manner how = {.max_frame = max_frame, .open_to_all = open_to_all};

    return net_bind(s->net, p, endpoint, &how, link, bound, e);
}

enum status shell_connect(struct shell *s, struct shell_part *p, const char *endpoint,
                          const struct public_key *server, size_t max_frame, uint64_t *peer,
                          struct err *e)
{
    const struct net_manner how = {.max_frame = max_frame};

    return net_connect(s->net, p, endpoint, server, &how, peer, e);
}

enum status shell_bind_paced(struct shell *s, struct shell_part *p, const char *endpoint,
                             size_t max_frame, uint32_t *link, char bound[256], struct err *e)
{
    const struct net_manner how = {.max_frame = max_frame, .is_paced = true};

    return net_bind(s->net, p, endpoint, &how, link, bound, e);
}

enum status shell_connect_paced(struct shell *s, struct shell_part *p, const char *endpoint,
                                const struct public_key *server, size_t max_frame,
                                uint64_t *peer, struct err *e)
{
    const struct net_manner how = {.max_frame = max_frame, .is_paced = true};

    return net_connect(s->net, p, endpoint, server, &how, peer, e);
}

enum status shell_try_send(struct shell *s, uint64_t peer, struct buf *message)
{
    return net_try_send(s->net, peer, message);
}

void shell_disconnect(struct shell *s, uint64_t peer)
{
    net_disconnect(s->net, peer);
}

void shell_admit(struct shell *s, const struct public_key *transport, size_t n)
{
    net_admit(s->net, transport, n);
}

void shell_get_stats(struct shell *s, struct shell_stats *out)
{
    net_get_stats(s->net, out);
}

void shell_wake(struct shell_part *p)
{
    if (!atomic_exchange(&p->is_woken, true))
        wake_loop(p->shell);
}

void shell_stop(struct shell *s)
{
    atomic_store(&s->is_stopping, true);
    wake_loop(s);
}

/* ---- timers ------------------------------------------------------------------------------ */

static void add_due(struct shell_part *p, int64_t at_ms)
{
    size_t lo = 0, hi = p->n_due;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->due[mid] < at_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < p->n_due && p->due[lo] == at_ms)
        return;
    if (p->n_due == p->cap_due) {
        p->cap_due = p->cap_due ? 2 * p->cap_due : 16;
        p->due = xrealloc(p->due, p->cap_due * sizeof(*p->due));
    }
    memmove(&p->due[lo + 1], &p->due[lo], (p->n_due - lo) * sizeof(*p->due));
    p->due[lo] = at_ms;
    p->n_due++;
}

/* Whether a timer of the part is due; forgets those that are. */
static bool take_due(struct shell_part *p, int64_t now_ms)
{
    size_t n = 0;

    while (n < p->n_due && p->due[n] <= now_ms)
        n++;
    if (n == 0)
        return false;
    memmove(p->due, p->due + n, (p->n_due - n) * sizeof(*p->due));
    p->n_due -= n;
    return true;
}

/* How long the loop may sleep, -1 for ever. */
static int64_t time_to_sleep(const struct shell *s, int64_t now_ms)
{
    int64_t first = INT64_MAX;

    if (atomic_load(&s->is_stopping))
        return 0;
    for (size_t i = 0; i < s->n_parts; i++) {
        const struct shell_part *p = s->part[i];

        if (atomic_load(&p->is_woken))
            return 0;
        if (p->n_due > 0 && p->due[0] < first)
            first = p->due[0];
    }
    if (first == INT64_MAX)
        return -1;
    return first > now_ms ? first - now_ms : 0;
}

/* ---- effects ----------------------------------------------------------------------------- */

static bool is_write(const struct effect *f)
{
    return f->kind == EFFECT_PUT || f->kind == EFFECT_DEL;
}

static enum status write_part(struct db_txn *txn, const struct shell_part *p, struct err *e)
{
    for (size_t i = 0; i < p->out.n; i++) {
        const struct effect *f = &p->out.v[i];
        enum status st = OK;

        if (f->kind == EFFECT_PUT)
            st = db_put(txn, f->table, f->key, f->value, e);
        else if (f->kind == EFFECT_DEL)
            st = db_del(txn, f->table, f->key, e);
        if (st && !(f->kind == EFFECT_DEL && st == ERR_NOT_FOUND))
            return st;
    }
    return OK;
}

static bool has_writes(const struct shell_part *p)
{
    for (size_t i = 0; i < p->out.n; i++) {
        if (is_write(&p->out.v[i]))
            return true;
    }
    return false;
}

/* One transaction for all parts that write to `db`. */
static enum status commit_db(struct shell *s, struct db *db, struct err *e)
{
    struct db_txn *txn = NULL;
    enum status st;

    st = db_begin(&txn, db, true, e);
    if (st)
        return st;
    for (size_t i = 0; i < s->n_parts && !st; i++) {
        if (s->part[i]->db == db)
            st = write_part(txn, s->part[i], e);
    }
    if (!st)
        st = db_commit(&txn, e);
    db_abort(&txn);
    return st;
}

static enum status commit_all(struct shell *s, struct err *e)
{
    struct db *done[PARTS_MAX];
    size_t n_done = 0;

    for (size_t i = 0; i < s->n_parts; i++) {
        struct shell_part *p = s->part[i];
        bool is_done = false;
        enum status st;

        if (!has_writes(p))
            continue;
        CHECK(p->db);
        for (size_t j = 0; j < n_done; j++)
            is_done = is_done || done[j] == p->db;
        if (is_done)
            continue;
        st = commit_db(s, p->db, e);
        if (st)
            return st;
        done[n_done++] = p->db;
    }
    return OK;
}

static void perform(struct shell *s, struct shell_part *p)
{
    for (size_t i = 0; i < p->out.n; i++) {
        const struct effect *f = &p->out.v[i];

        switch (f->kind) {
        case EFFECT_SEND: net_send(s->net, f->peer, f->value); break;
        case EFFECT_START:
            jobs_start(s->jobs, p, &p->ops, f->job, f->peer, f->value, p->max_job_result);
            break;
        case EFFECT_TIMER: add_due(p, f->at_ms); break;
        case EFFECT_PUT:
        case EFFECT_DEL: break; /* committed already */
        }
    }
    effects_reset(&p->out);
}

/* ---- the loop ---------------------------------------------------------------------------- */

struct round {
    int64_t now_ms;
};

static void on_message(void *arg, struct shell_part *p, const struct shell_message *m)
{
    const struct round *r = arg;

    p->ops.on_message(p->ops.ctx, m, r->now_ms, &p->out);
}

static void drain_pipe(struct shell *s)
{
    char rubbish[64];

    while (read(s->wake_read, rubbish, sizeof(rubbish)) > 0)
        continue;
}

static void deliver_jobs(struct shell *s, int64_t now_ms)
{
    struct shell_job *job;

    while ((job = jobs_take(s->jobs))) {
        struct shell_part *p = job->part;

        p->ops.on_job(p->ops.ctx, job->job, job->number, job->st,
                      job->st ? (struct bytes){NULL, 0} : buf_bytes(&job->result), &job->e,
                      now_ms, &p->out);
        jobs_drop(&job);
    }
}

static void run_timers(struct shell *s, int64_t now_ms)
{
    for (size_t i = 0; i < s->n_parts; i++) {
        struct shell_part *p = s->part[i];
        bool is_woken = atomic_exchange(&p->is_woken, false);

        if (take_due(p, now_ms) || is_woken)
            p->ops.on_timer(p->ops.ctx, now_ms, &p->out);
    }
}

static enum status finish_round(struct shell *s, struct err *e)
{
    enum status st = commit_all(s, e);

    for (size_t i = 0; i < s->n_parts && !st; i++)
        perform(s, s->part[i]);
    return st;
}

static enum status one_round(struct shell *s, struct err *e)
{
    struct round r = {.now_ms = clock_mono_ms()};
    bool is_woken;

    net_poll(s->net, s->wake_read, time_to_sleep(s, r.now_ms), &is_woken);
    if (is_woken)
        drain_pipe(s);
    r.now_ms = clock_mono_ms();
    net_receive(s->net, r.now_ms, on_message, &r);
    deliver_jobs(s, r.now_ms);
    run_timers(s, r.now_ms);
    return finish_round(s, e);
}

static enum status run_loop(struct shell *s, struct err *e)
{
    enum status st;

    for (size_t i = 0; i < s->n_parts; i++)
        atomic_store(&s->part[i]->is_woken, true); /* the first on_timer of each */
    run_timers(s, clock_mono_ms());
    st = finish_round(s, e);
    while (!st && !atomic_load(&s->is_stopping))
        st = one_round(s, e);
    return st;
}

/* A handler has no argument, so the shell that signals stop is a global: the first that runs. What
 * the process did on them before it still does. */
static _Atomic(struct shell *) signalled;
static const int stops[] = {SIGINT, SIGTERM};
#define N_STOPS (sizeof(stops) / sizeof(stops[0]))
static struct sigaction before[N_STOPS];

static void on_signal(int number)
{
    struct shell *s = atomic_load(&signalled);

    if (s)
        shell_stop(s);
    for (size_t i = 0; i < N_STOPS; i++)
        if (stops[i] == number && before[i].sa_handler != SIG_DFL &&
            before[i].sa_handler != SIG_IGN)
            before[i].sa_handler(number);
}

enum status shell_run(struct shell *s, struct err *e)
{
    struct sigaction act = {.sa_handler = on_signal};
    struct shell *nobody = NULL;
    bool is_ours = atomic_compare_exchange_strong(&signalled, &nobody, s);
    enum status st;

    sigemptyset(&act.sa_mask);
    for (size_t i = 0; is_ours && i < N_STOPS; i++) {
        CHECK(sigaction(stops[i], NULL, &before[i]) == 0);
        CHECK(sigaction(stops[i], &act, NULL) == 0);
    }
    st = run_loop(s, e);
    for (size_t i = 0; is_ours && i < N_STOPS; i++)
        CHECK(sigaction(stops[i], &before[i], NULL) == 0);
    if (is_ours)
        atomic_store(&signalled, NULL);
    atomic_store(&s->is_stopping, false);
    return st;
}
