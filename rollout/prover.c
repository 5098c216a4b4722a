#include "rollout/prover.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/check.h"
#include "engine/ops.h"
#include "proto/merkle.h"
#include "proto/opening.h"
#include "proto/toploc.h"

bool prover_takes_top(enum numerics n, size_t dim)
{
    return n == NUMERICS_OPEN_CUDA && dim >= MODEL_TOP;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

enum status prover_top_of_row(struct prover_row *top, const uint16_t *row, size_t dim,
                              struct err *e)
{
    uint32_t n = 0;
    enum status st = toploc_top(top->index, &n, row, dim, MODEL_TOP, TOPLOC_TIE_LOWEST, e);

    if (st)
        return st;
    qsort(top->index, n, sizeof(top->index[0]), ascending);
    for (uint32_t i = 0; i < n; i++)
        top->value[i] = row[top->index[i]];
    return OK;
}

void prover_digest_top(struct digest_state *s, const struct prover_row *top)
{
    digest_add(s, BYTES_OF(top->index)); /* little-endian, as engine/weights_io.c asserts */
    digest_add(s, BYTES_OF(top->value));
}

enum status prover_init(struct prover *p, size_t dim, bool takes_top, struct err *e)
{
    enum status st;

    memset(p, 0, sizeof(*p));
    p->dim = dim;
    buf_init(&p->proofs, MSG_MAX_BYTES);
    buf_init(&p->states, MSG_MAX_BYTES);
    st = alloc_array(&p->rows, (takes_top ? 1 : (size_t)ROLLOUT_PROOF_EVERY) * dim,
                     sizeof(*p->rows), "hidden states", e);
    if (!st && takes_top)
        st = alloc_array(&p->tops, 2 * (size_t)ROLLOUT_PROOF_EVERY, sizeof(*p->tops), "states",
                         e);
    if (st)
        prover_clear(p);
    return st;
}

void prover_clear(struct prover *p)
{
    prover_leave(p);
    buf_clear(&p->proofs);
    buf_clear(&p->states);
    free(p->rows);
    free(p->tops);
    memset(p, 0, sizeof(*p));
}

enum status prover_add(struct prover *p, const struct kernels *k, const float *state,
                       struct err *e)
{
    if (p->tops) {
        struct prover_row top = {0};
        enum status st;

        bf16_from_f32_row(k, p->rows, state, p->dim);
        st = prover_top_of_row(&top, p->rows, p->dim, e);
        return st ? st : prover_add_top(p, top.index, top.value, e);
    }
    if (p->n == 0)
        digest_begin(&p->digest, NULL);
    digest_add(&p->digest, (struct bytes){(const uint8_t *)state, p->dim * sizeof(*state)});
    bf16_from_f32_row(k, p->rows + p->n * p->dim, state, p->dim);
    return ++p->n < ROLLOUT_PROOF_EVERY ? OK : prover_end(p, e);
}

/* Room for the proof of a chunk whose digest is done. */
static enum status put_chunk(struct prover *p, uint8_t **proof, struct err *e)
{
    struct digest states;

    digest_end(&p->digest, &states);
    buf_append(&p->states, BYTES_OF(states.b));
    *proof = buf_extend(&p->proofs, TOPLOC_PROOF_BYTES);
    if (!*proof || p->states.bad)
        return err_set(e, ERR_LIMIT, "a sample's proofs exceed %zu bytes", p->proofs.max);
    return OK;
}

/* The largest of all rows are among the largest of each, which are in order: of equal ones the first is still
 * the first. */
static enum status make_due(struct prover *p, struct err *e)
{
    const struct prover_row *row = p->tops + (1 - p->filling) * ROLLOUT_PROOF_EVERY;
    uint16_t all[ROLLOUT_PROOF_EVERY * MODEL_TOP], value[MODEL_TOP];
    uint32_t place[MODEL_TOP], n = 0;
    uint8_t *proof;
    const size_t rows = p->n_due;
    enum status st;

    if (rows == 0)
        return OK;
    p->n_due = 0;
    digest_begin(&p->digest, NULL);
    for (size_t r = 0; r < rows; r++) {
        prover_digest_top(&p->digest, &row[r]);
        memcpy(all + r * MODEL_TOP, row[r].value, sizeof(row[r].value));
    }
    st = put_chunk(p, &proof, e);
    if (!st)
        st = toploc_top(place, &n, all, rows * MODEL_TOP, ROLLOUT_PROOF_TOPK, TOPLOC_TIE_LOWEST,
                        e);
    if (st)
        return st;
    for (uint32_t i = 0; i < n; i++) {
        const size_t r = place[i] / MODEL_TOP;

        value[i] = all[place[i]];
        place[i] = (uint32_t)(r * p->dim) + row[r].index[place[i] % MODEL_TOP];
    }
    return toploc_prove_points(proof, place, value, n, ROLLOUT_PROOF_TOPK, e);
}

/* ---- the crew -------------------------------------------------------------------------------- */

struct prover_crew {
    pthread_t thread[PROVER_CREW_MOST];
    size_t n_threads;
    pthread_mutex_t lock; /* of what follows, and of the members of provers that say so */
    pthread_cond_t wake, done;
    struct prover *first, **last; /* those that wait */
    size_t n_waiting;
    bool is_ending;
};

/* Those that wait longest, a thread's share of half of all that wait, which are then a list of their own; NULL at
 * the end. Sequences that began together fill their chunks in one step, some hundreds at once: one by
 * one the threads would be at the lock, and who adds states with them. Called and returns with the lock. */
static struct prover *some_of(struct prover_crew *c)
{
    struct prover *first, *last;

    while (!c->first && !c->is_ending)
        pthread_cond_wait(&c->wake, &c->lock);
    first = last = c->first;
    if (!first)
        return NULL;
    for (size_t more = c->n_waiting / (2 * c->n_threads + 1); more > 0; more--) {
        last = last->next;
        c->n_waiting--;
    }
    c->n_waiting--;
    if (!(c->first = last->next))
        c->last = &c->first;
    last->next = NULL;
    return first;
}

static void *crew_run(void *arg)
{
    struct prover_crew *c = arg;
    struct prover *some, *next;

    pthread_mutex_lock(&c->lock);
    while ((some = some_of(c))) {
        pthread_mutex_unlock(&c->lock);
        for (struct prover *p = some; p; p = p->next)
            p->made = make_due(p, &p->why);
        pthread_mutex_lock(&c->lock);
        for (struct prover *p = some; p; p = next) {
            next = p->next; /* p is its owner's again in a moment */
            p->is_out = false;
        }
        pthread_cond_broadcast(&c->done);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

void prover_crew_new(struct prover_crew **out)
{
    struct prover_crew *c = xcalloc(1, sizeof(*c));
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);

    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    pthread_cond_init(&c->done, NULL);
    c->last = &c->first;
    while (c->n_threads < PROVER_CREW_MOST &&
           (c->n_threads == 0 || (long)c->n_threads + 1 < cores) &&
           pthread_create(&c->thread[c->n_threads], NULL, crew_run, c) == 0)
        c->n_threads++;
    *out = c;
    if (c->n_threads == 0)
        prover_crew_free(out);
}

void prover_crew_free(struct prover_crew **p)
{
    struct prover_crew *c = *p;

    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    CHECK(!c->first);
    c->is_ending = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < c->n_threads; i++)
        pthread_join(c->thread[i], NULL);
    pthread_cond_destroy(&c->wake);
    pthread_cond_destroy(&c->done);
    pthread_mutex_destroy(&c->lock);
    free(c);
    *p = NULL;
}

static void give(struct prover *p)
{
    struct prover_crew *c = p->crew;

    pthread_mutex_lock(&c->lock);
    p->is_out = true;
    p->next = NULL;
    *c->last = p;
    c->last = &p->next;
    c->n_waiting++;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

static void await_crew(struct prover *p)
{
    if (!p->is_out)
        return; /* what the crew wrote before it said so can be seen */
    pthread_mutex_lock(&p->crew->lock);
    while (p->is_out)
        pthread_cond_wait(&p->crew->done, &p->crew->lock);
    pthread_mutex_unlock(&p->crew->lock);
}

void prover_leave(struct prover *p)
{
    if (p->crew)
        await_crew(p);
    p->crew = NULL;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Nothing is due any more. */
static enum status settle(struct prover *p, struct err *e)
{
    if (p->crew)
        await_crew(p);
    return p->made ? err_set(e, p->made, "%s", p->why.text) : make_due(p, e);
}

/* What has filled up becomes what is due. */
static enum status turn(struct prover *p, struct err *e)
{
    enum status st = settle(p, e);

    p->filling = 1 - p->filling;
    p->n_due = p->n;
    p->n = 0;
    if (!st && p->crew && p->n_due > 0)
        give(p);
    return st;
}

enum status prover_add_top(struct prover *p, const uint32_t *index, const uint16_t *value,
                           struct err *e)
{
    struct prover_row *row = &p->tops[p->filling * ROLLOUT_PROOF_EVERY + p->n];

    memcpy(row->index, index, sizeof(row->index));
    memcpy(row->value, value, sizeof(row->value));
    return ++p->n < ROLLOUT_PROOF_EVERY ? OK : turn(p, e);
}

enum status prover_close(struct prover *p, struct err *e)
{
    return p->tops && p->n > 0 ? turn(p, e) : OK;
}

enum status prover_end(struct prover *p, struct err *e)
{
    uint8_t *proof;
    const size_t rows = p->n;
    enum status st;

    if (p->tops) {
        st = prover_close(p, e);
        return st ? st : settle(p, e);
    }
    if (rows == 0)
        return OK;
    p->n = 0;
    st = put_chunk(p, &proof, e);
    return st ? st
              : toploc_prove(proof, p->rows, rows, p->dim, ROLLOUT_PROOF_TOPK,
                             TOPLOC_TIE_LOWEST, e);
}

enum status prover_open(struct buf *out, struct msg_submit *m, const struct prover *p,
                        struct err *e)
{
    struct buf proofs, states; /* of all samples */
    struct msg_opening o = {.unit = m->unit, .lease = m->lease};
    enum status st;

    buf_init(&proofs, MSG_MAX_BYTES);
    buf_init(&states, MSG_MAX_BYTES);
    for (uint32_t i = 0; i < m->n_samples; i++) {
        buf_append(&proofs, buf_bytes(&p[i].proofs));
        buf_append(&states, buf_bytes(&p[i].states));
    }
    st = buf_status(&proofs, e);
    if (!st)
        st = buf_status(&states, e);
    o.proofs = buf_bytes(&proofs);
    if (!st) {
        merkle_root_of_digests(&o.states, buf_bytes(&states));
        opening_root(&m->opening, m, &o);
        st = msg_opening_encode(out, &o, e);
    }
    buf_clear(&proofs);
    buf_clear(&states);
    return st;
}
