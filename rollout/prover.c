#include "rollout/prover.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/ops.h"
#include "proto/merkle.h"
#include "proto/opening.h"
#include "proto/toploc.h"

enum status prover_init(struct prover *p, size_t dim, struct err *e)
{
    enum status st;

    memset(p, 0, sizeof(*p));
    p->dim = dim;
    buf_init(&p->proofs, MSG_MAX_BYTES);
    buf_init(&p->states, MSG_MAX_BYTES);
    st = alloc_array(&p->rows, ROLLOUT_PROOF_EVERY * dim, sizeof(*p->rows), "hidden states", e);
    if (st)
        prover_clear(p);
    return st;
}

void prover_clear(struct prover *p)
{
    buf_clear(&p->proofs);
    buf_clear(&p->states);
    free(p->rows);
    memset(p, 0, sizeof(*p));
}

enum status prover_add(struct prover *p, const struct kernels *k, const float *state,
                       struct err *e)
{
    if (p->n == 0)
        digest_begin(&p->digest, NULL);
    digest_add(&p->digest, (struct bytes){(const uint8_t *)state, p->dim * sizeof(*state)});
    bf16_from_f32_row(k, p->rows + p->n * p->dim, state, p->dim);
    return ++p->n < ROLLOUT_PROOF_EVERY ? OK : prover_end(p, e);
}

enum status prover_end(struct prover *p, struct err *e)
{
    struct digest states;
    uint8_t *proof;
    size_t rows = p->n;

    if (rows == 0)
        return OK;
    p->n = 0;
    digest_end(&p->digest, &states);
    buf_append(&p->states, BYTES_OF(states.b));
    proof = buf_extend(&p->proofs, TOPLOC_PROOF_BYTES);
    if (!proof || p->states.bad)
        return err_set(e, ERR_LIMIT, "a sample's proofs exceed %zu bytes", p->proofs.max);
    return toploc_prove(proof, p->rows, rows, p->dim, ROLLOUT_PROOF_TOPK, TOPLOC_TIE_LOWEST, e);
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
