#include "orchestrator/orch_judge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "proto/transcript.h"

struct orch_judge {
    ledger_judge *judge;
    void (*notify)(void *arg);
    void *arg;
    atomic_bool is_stopped; /* looked at by the judge */
    pthread_mutex_t lock;   /* of all below */
    pthread_t thread;
    bool is_started; /* there is a thread to join */
    bool is_done;    /* which has ended its work */
    struct buf transcript;
    struct ledger_judgement out;
    enum status st;
    struct err e;
};

void orch_judge_new(struct orch_judge **out, ledger_judge *judge, void (*notify)(void *arg),
                    void *arg)
{
    struct orch_judge *j = xcalloc(1, sizeof(*j));

    j->judge = judge;
    j->notify = notify;
    j->arg = arg;
    CHECK(pthread_mutex_init(&j->lock, NULL) == 0);
    buf_init(&j->transcript, TRANSCRIPT_MAX_BYTES);
    *out = j;
}

void orch_judge_stop(struct orch_judge *j)
{
    bool is_started;

    pthread_mutex_lock(&j->lock);
    atomic_store(&j->is_stopped, true);
    is_started = j->is_started;
    j->is_started = false;
    pthread_mutex_unlock(&j->lock);
    if (is_started)
        pthread_join(j->thread, NULL);
}

void orch_judge_free(struct orch_judge **p)
{
    struct orch_judge *j = *p;

    if (!j)
        return;
    orch_judge_stop(j);
    buf_clear(&j->transcript);
    pthread_mutex_destroy(&j->lock);
    free(j);
    *p = NULL;
}

static void *work(void *arg)
{
    struct orch_judge *j = arg;
    struct ledger_judgement out = {0};
    struct err e = {OK, ""};
    enum status st = j->judge(buf_bytes(&j->transcript), &j->is_stopped, &out, &e);

    pthread_mutex_lock(&j->lock);
    j->out = out;
    j->st = st;
    j->e = e;
    j->is_done = true;
    pthread_mutex_unlock(&j->lock);
    j->notify(j->arg);
    return NULL;
}

enum status orch_judge_start(struct orch_judge *j, struct bytes transcript, struct err *e)
{
    enum status st = OK;

    if (!j->judge)
        return err_set(e, ERR_UNSUPPORTED, "this process has no judge");
    pthread_mutex_lock(&j->lock);
    if (j->is_started || atomic_load(&j->is_stopped)) {
        st = err_set(e, ERR_EXISTS, "another dispute is being judged");
    } else {
        buf_reset(&j->transcript);
        buf_append(&j->transcript, transcript);
        st = buf_status(&j->transcript, e);
        j->is_done = false;
        if (!st && pthread_create(&j->thread, NULL, work, j))
            st = err_set(e, ERR_IO, "there is no thread to judge a dispute");
        j->is_started = !st;
    }
    pthread_mutex_unlock(&j->lock);
    return st;
}

bool orch_judge_take(struct orch_judge *j, enum status *st, struct ledger_judgement *out,
                     struct err *e)
{
    bool is_done;

    pthread_mutex_lock(&j->lock);
    is_done = j->is_started && j->is_done;
    if (is_done) {
        pthread_join(j->thread, NULL); /* it has let go of the lock, and only notifies */
        j->is_started = false;
        *st = j->st;
        *out = j->out;
        *e = j->e;
    }
    pthread_mutex_unlock(&j->lock);
    return is_done;
}
