#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/attr.h"
#include "base/check.h"

/* More parts than threads, so that one that lost its core to another process is not waited for. */
#define PARTS_PER_THREAD 4u
#define PARTS_MAX        0xffffu

/* Which loop is on and which of its parts is the next, in one word: a thread that comes late
 * cannot take a part of one loop by the numbers of another. */
#define TICKET(loop, parts, next) ((uint64_t)(loop) << 32 | (uint64_t)(parts) << 16 | (next))
#define TICKET_PARTS(t)           ((size_t)((t) >> 16 & PARTS_MAX))
#define TICKET_NEXT(t)            ((size_t)((t)&PARTS_MAX))

struct pool {
    struct pool_options opt;
    struct worker *workers; /* owned; n_threads - 1 of them */

    _Atomic uint64_t ticket;
    atomic_size_t unfinished; /* parts waiting or being run */
    /* Set before the ticket that starts the loop, and left alone until `unfinished` is 0. */
    pool_fn *fn;
    void *arg;
    size_t n;
    bool is_running; /* the caller's, to find two callers or a nested call */

    pthread_mutex_t lock;
    pthread_cond_t wake;       /* a new loop, or the end */
    pthread_cond_t done;       /* the last part of a loop is finished */
    atomic_size_t n_asleep;    /* changed under `lock` */
    atomic_bool is_caller_out; /* the caller waits for `done` */
    atomic_bool is_ending;
};

struct worker {
    struct pool *pool;
    pthread_t thread;
    size_t index;
};

/* Where part i of the range begins: the first n % parts of them are longer by one. */
static size_t part_start(size_t n, size_t parts, size_t i)
{
    size_t longer = n % parts;

    return n / parts * i + (i < longer ? i : longer);
}

static bool has_parts(struct pool *p)
{
    uint64_t t = atomic_load(&p->ticket);

    return TICKET_NEXT(t) < TICKET_PARTS(t);
}

static void part_finished(struct pool *p)
{
    if (atomic_fetch_sub(&p->unfinished, 1) > 1 || !atomic_load(&p->is_caller_out))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

/* Takes parts until none is left. */
static void run_parts(struct pool *p)
{
    uint64_t t = atomic_load(&p->ticket);

    while (TICKET_NEXT(t) < TICKET_PARTS(t)) {
        if (!atomic_compare_exchange_weak(&p->ticket, &t, t + 1))
            continue;
        size_t parts = TICKET_PARTS(t), i = TICKET_NEXT(t);
        p->fn(p->arg, part_start(p->n, parts, i), part_start(p->n, parts, i + 1));
        part_finished(p);
        t = atomic_load(&p->ticket);
    }
}

/* The i-th of the cores that this process may use. Where that cannot be asked or set, threads
 * stay where the system puts them: pinning is about speed only. */
static void pin(size_t i)
{
    cpu_set_t may, one;
    size_t n;

    if (sched_getaffinity(0, sizeof(may), &may) || CPU_COUNT(&may) == 0)
        return;
    n = i % (size_t)CPU_COUNT(&may);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && n-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void)sched_setaffinity(0, sizeof(one), &one);
            return;
        }
}

static void sleep_until_work(struct pool *p)
{
    for (unsigned i = 0; i < p->opt.spin; i++) {
        if (has_parts(p) || atomic_load(&p->is_ending))
            return;
        CPU_RELAX();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1);
    while (!has_parts(p) && !atomic_load(&p->is_ending))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;

    if (p->opt.is_pinned)
        pin(w->index);
    while (!atomic_load(&p->is_ending)) {
        run_parts(p);
        sleep_until_work(p);
    }
    return NULL;
}

/* How many a machine gives is no bug of ours, but there is no going on either. */
static NO_RETURN void no_threads(size_t n_there, size_t n_threads, int why)
{
    (void)fprintf(stderr, "muster: %zu threads were asked for, and the system gives %zu: %s\n",
                  n_threads, n_there, strerror(why));
    _exit(1);
}

void pool_new_with(struct pool **out, const struct pool_options *opt)
{
    struct pool *p = xcalloc(1, sizeof(*p));

    CHECK(opt->n_threads >= 1);
    p->opt = *opt;
    p->workers = xcalloc(opt->n_threads, sizeof(*p->workers));
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    CHECK(pthread_cond_init(&p->wake, NULL) == 0);
    CHECK(pthread_cond_init(&p->done, NULL) == 0);
    for (size_t i = 0; i + 1 < opt->n_threads; i++) {
        p->workers[i] = (struct worker){.pool = p, .index = i + 1};
        int why = pthread_create(&p->workers[i].thread, NULL, thread_main, &p->workers[i]);
        if (why)
            no_threads(i + 1, opt->n_threads, why);
    }
    if (opt->is_pinned && opt->n_threads > 1)
        pin(0);
    *out = p;
}

void pool_new(struct pool **out, size_t n_threads)
{
    pool_new_with(out, &(struct pool_options){.n_threads = n_threads});
}

void pool_free(struct pool **pp)
{
    struct pool *p = *pp;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_ending, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i + 1 < p->opt.n_threads; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
    *pp = NULL;
}

size_t pool_threads(const struct pool *p)
{
    return p ? p->opt.n_threads : 1;
}

static void wait_until_done(struct pool *p)
{
    for (unsigned i = 0; i < p->opt.spin; i++) {
        if (atomic_load(&p->unfinished) == 0)
            return;
        CPU_RELAX();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->is_caller_out, true);
    while (atomic_load(&p->unfinished) > 0)
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->is_caller_out, false);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, size_t n, size_t grain, pool_fn *fn, void *arg)
{
    size_t parts;

    if (n == 0)
        return;
    if (grain == 0)
        grain = 1;
    parts = n / grain;
    if (!p || p->opt.n_threads == 1 || parts <= 1) {
        fn(arg, 0, n);
        return;
    }
    if (parts > PARTS_PER_THREAD * p->opt.n_threads)
        parts = PARTS_PER_THREAD * p->opt.n_threads;
    if (parts > PARTS_MAX - 1)
        parts = PARTS_MAX - 1;

    CHECK(!p->is_running); /* two callers, or a nested call */
    p->is_running = true;
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    atomic_store(&p->unfinished, parts);
    atomic_store(&p->ticket, TICKET((uint32_t)(atomic_load(&p->ticket) >> 32) + 1, parts, 0));
    if (atomic_load(&p->n_asleep) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    run_parts(p);
    wait_until_done(p);
    p->is_running = false;
}
