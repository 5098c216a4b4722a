#include "rollout/prover.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
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
    st = alloc_array(&p->rows, (takes_top ? 1 : ROLLOUT_PROOF_EVERY) * dim, sizeof(*p->rows),
                     "hidden states", e);
    if (!st && takes_top)
        st = alloc_array(&p->tops, 2 * ROLLOUT_PROOF_EVERY, sizeof(*p->tops), "states", e);
    if (st)
        prover_clear(p);
    return st;
}

void prover_clear(struct prover *p)
{
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
enum status prover_work(struct prover *p, struct err *e)
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

enum status prover_work_some(struct prover *p, size_t n, size_t *left, struct err *e)
{
    enum status st = OK;

    for (size_t i = 0; !st && *left > 0 && i < n; i++) {
        *left -= p[i].n_due > 0;
        st = prover_work(&p[i], e);
    }
    return st;
}

/* What has filled up becomes what is due. */
static enum status turn(struct prover *p, struct err *e)
{
    enum status st = prover_work(p, e);

    p->filling = 1 - p->filling;
    p->n_due = p->n;
    p->n = 0;
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

enum status prover_end(struct prover *p, struct err *e)
{
    uint8_t *proof;
    const size_t rows = p->n;
    enum status st;

    if (p->tops) {
        st = turn(p, e);
        return st ? st : prover_work(p, e);
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
