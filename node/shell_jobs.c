#include "node/shell_jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/check.h"

struct queue {
    struct shell_job *first;
    struct shell_job *last;
};

struct jobs {
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping;
    struct queue waiting; /* owned */
    struct queue done;    /* owned */
    void (*notify)(void *arg);
    void *arg;
};

static void queue_add(struct queue *q, struct shell_job *job)
{
    job->next = NULL;
    if (q->last)
        q->last->next = job;
    else
        q->first = job;
    q->last = job;
}

static struct shell_job *queue_take(struct queue *q)
{
    struct shell_job *job = q->first;

    if (!job)
        return NULL;
    q->first = job->next;
    if (!q->first)
        q->last = NULL;
    return job;
}

void jobs_drop(struct shell_job **j)
{
    if (!*j)
        return;
    buf_clear(&(*j)->args);
    buf_clear(&(*j)->result);
    free(*j);
    *j = NULL;
}

static void run(struct shell_job *job)
{
    job->st = job->ops->run_job(job->ops->ctx, job->job, job->number, buf_bytes(&job->args),
                                &job->result, &job->e);
    if (!job->st)
        job->st = buf_status(&job->result, &job->e);
}

static void *job_thread(void *arg)
{
    struct jobs *j = arg;

    pthread_mutex_lock(&j->lock);
    for (;;) {
        struct shell_job *job;

        while (!j->is_stopping && !j->waiting.first)
            pthread_cond_wait(&j->changed, &j->lock);
        if (j->is_stopping)
            break;
        job = queue_take(&j->waiting);
        pthread_mutex_unlock(&j->lock);
        run(job);
        pthread_mutex_lock(&j->lock);
        queue_add(&j->done, job);
        j->notify(j->arg);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

void jobs_new(struct jobs **out, void (*notify)(void *arg), void *arg)
{
    struct jobs *j = xcalloc(1, sizeof(*j));

    CHECK(pthread_mutex_init(&j->lock, NULL) == 0);
    CHECK(pthread_cond_init(&j->changed, NULL) == 0);
    j->notify = notify;
    j->arg = arg;
    *out = j;
}

void jobs_free(struct jobs **out)
{
    struct jobs *j = *out;
    struct shell_job *job;

    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->is_stopping = true;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
    if (j->has_thread)
        CHECK(pthread_join(j->thread, NULL) == 0);
    while ((job = queue_take(&j->waiting)))
        jobs_drop(&job);
    while ((job = queue_take(&j->done)))
        jobs_drop(&job);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j);
    *out = NULL;
}

void jobs_start(struct jobs *j, struct shell_part *part, const struct shell_part_ops *ops,
                uint32_t job, uint64_t number, struct bytes args, size_t max_result)
{
    struct shell_job *n = xcalloc(1, sizeof(*n));

    CHECK(ops->run_job);
    n->part = part;
    n->ops = ops;
    n->job = job;
    n->number = number;
    buf_init(&n->args, args.len);
    buf_append(&n->args, args);
    CHECK(!n->args.bad);
    buf_init(&n->result, max_result);
    pthread_mutex_lock(&j->lock);
    if (!j->has_thread) {
        CHECK(pthread_create(&j->thread, NULL, job_thread, j) == 0);
        j->has_thread = true;
    }
    queue_add(&j->waiting, n);
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

struct shell_job *jobs_take(struct jobs *j)
{
    struct shell_job *job;

    pthread_mutex_lock(&j->lock);
    job = queue_take(&j->done);
    pthread_mutex_unlock(&j->lock);
    return job;
}
