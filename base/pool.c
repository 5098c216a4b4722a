#include "base/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"

/* More parts than threads, so that one that lost its core to another process is not waited for. */
#define PARTS_PER_THREAD 4u

struct pool {
    size_t n_threads;   /* the caller's included */
    pthread_t *threads; /* owned; n_threads - 1 of them */
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a new loop, or the end */
    pthread_cond_t done; /* the last part of a loop is finished */

    /* All below is guarded by `lock`. */
    bool is_ending;
    bool is_running;
    pool_fn *fn;
    void *arg;
    size_t n;
    size_t parts;      /* of nearly equal size */
    size_t next;       /* the next part to hand out */
    size_t unfinished; /* parts waiting or being run */
};

/* Where part i of the range begins: the first n % parts of them are longer by one. */
static size_t part_start(size_t n, size_t parts, size_t i)
{
    size_t longer = n % parts;

    return n / parts * i + (i < longer ? i : longer);
}

/* Takes parts until none is left. Called, and returns, with the lock held. */
static void run_parts(struct pool *p)
{
    while (p->next < p->parts) {
        size_t lo = part_start(p->n, p->parts, p->next);
        size_t hi = part_start(p->n, p->parts, p->next + 1);
        pool_fn *fn = p->fn;
        void *arg = p->arg;

        p->next++;
        pthread_mutex_unlock(&p->lock);
        fn(arg, lo, hi);
        pthread_mutex_lock(&p->lock);
        if (--p->unfinished == 0)
            pthread_cond_signal(&p->done);
    }
}

static void *thread_main(void *arg)
{
    struct pool *p = arg;

    pthread_mutex_lock(&p->lock);
    while (!p->is_ending) {
        run_parts(p);
        if (!p->is_ending)
            pthread_cond_wait(&p->wake, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void pool_new(struct pool **out, size_t n_threads)
{
    struct pool *p = xcalloc(1, sizeof(*p));

    CHECK(n_threads >= 1);
    p->n_threads = n_threads;
    p->threads = xcalloc(n_threads, sizeof(*p->threads));
    CHECK(pthread_mutex_init(&p->lock, NULL) == 0);
    CHECK(pthread_cond_init(&p->wake, NULL) == 0);
    CHECK(pthread_cond_init(&p->done, NULL) == 0);
    for (size_t i = 0; i + 1 < n_threads; i++)
        CHECK(pthread_create(&p->threads[i], NULL, thread_main, p) == 0);
    *out = p;
}

void pool_free(struct pool **pp)
{
    struct pool *p = *pp;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->is_ending = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i + 1 < p->n_threads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
    *pp = NULL;
}

size_t pool_threads(const struct pool *p)
{
    return p ? p->n_threads : 1;
}

void pool_run(struct pool *p, size_t n, size_t grain, pool_fn *fn, void *arg)
{
    size_t parts;

    if (n == 0)
        return;
    if (grain == 0)
        grain = 1;
    parts = n / grain;
    if (!p || p->n_threads == 1 || parts <= 1) {
        fn(arg, 0, n);
        return;
    }
    if (parts > PARTS_PER_THREAD * p->n_threads)
        parts = PARTS_PER_THREAD * p->n_threads;

    pthread_mutex_lock(&p->lock);
    CHECK(!p->is_running); /* two callers, or a nested call */
    p->is_running = true;
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    p->parts = parts;
    p->next = 0;
    p->unfinished = parts;
    pthread_cond_broadcast(&p->wake);
    run_parts(p);
    while (p->unfinished)
        pthread_cond_wait(&p->done, &p->lock);
    p->is_running = false;
    pthread_mutex_unlock(&p->lock);
}
