#include "proto/opening.h"

#include <string.h>

#include "base/check.h"
#include "proto/digest.h"
#include "proto/merkle.h"
#include "proto/submission.h"
#include "proto/toploc.h"

bool opening_is_wanted(const char *numerics)
{
    return strncmp(numerics, "open-", 5) == 0;
}

static uint64_t chunks_of(const struct msg_sample *s)
{
    return submission_proofs(submission_sample_tokens(s));
}

/* Chunks of the samples before this one. */
static uint64_t chunks_before(const struct msg_submit *m, uint32_t sample)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < sample; i++)
        n += chunks_of(&m->sample[i]);
    return n;
}

uint64_t opening_chunks(const struct msg_submit *m)
{
    return chunks_before(m, m->n_samples);
}

void opening_root(struct digest *root, const struct msg_submit *m, const struct msg_opening *o)
{
    static const uint8_t leaf[1] = {0x00}; /* as merkle_leaf, without joining the parts */
    struct merkle tree;
    struct digest proofs;
    size_t at = 0;

    merkle_init(&tree);
    for (uint32_t i = 0; i < m->n_samples; i++)
        for (uint64_t chunk = 0; chunk < chunks_of(&m->sample[i]); chunk++, at++) {
            struct digest_state s;
            struct digest h;

            digest_begin(&s, NULL);
            digest_add(&s, BYTES_OF(leaf));
            digest_add_u32(&s, i);
            digest_add_u32(&s, (uint32_t)chunk);
            digest_add(&s, bytes_slice(o->proofs, at * TOPLOC_PROOF_BYTES, TOPLOC_PROOF_BYTES));
            digest_end(&s, &h);
            merkle_add_hash(&tree, &h);
        }
    CHECK(o->proofs.len == at * TOPLOC_PROOF_BYTES);
    merkle_root(&tree, &proofs);
    merkle_node(root, &proofs, &o->states);
}

enum status opening_check(const struct msg_opening *o, const struct msg_submit *m,
                          enum reason *why, struct err *e)
{
    uint64_t n = opening_chunks(m);
    struct digest root;

    if (why)
        *why = REASON_BOUNDS;
    if (o->unit != m->unit || o->lease != m->lease)
        return err_set(e, ERR_MALFORMED, "the opening is that of another submission");
    if (o->proofs.len != n * TOPLOC_PROOF_BYTES)
        return err_set(e, ERR_MALFORMED, "%zu bytes of proofs for %llu chunks", o->proofs.len,
                       (unsigned long long)n);
    opening_root(&root, m, o);
    if (why)
        *why = digest_equal(&root, &m->opening) ? REASON_NONE : REASON_ROOT;
    return digest_equal(&root, &m->opening)
               ? OK
               : err_set(e, ERR_DIGEST, "the opening is not the one committed to");
}

struct bytes opening_proofs(const struct msg_opening *o, const struct msg_submit *m,
                            uint32_t sample)
{
    return bytes_slice(o->proofs, chunks_before(m, sample) * TOPLOC_PROOF_BYTES,
                       chunks_of(&m->sample[sample]) * TOPLOC_PROOF_BYTES);
}
