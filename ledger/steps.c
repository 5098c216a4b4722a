#include "ledger/steps.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "ledger/body.h"
#include "ledger/entry.h"
#include "proto/digest.h"
#include "proto/transcript.h"

/* The submissions of a BATCH's trained rows, in order: their envelopes lie in `blobs`. */
static enum status gather(struct msg_batch *m, struct buf *blobs, const struct ledger_books *b,
                          const struct ledger_batch *x, const struct ledger_source *src,
                          struct err *e)
{
    size_t *at = xcalloc(MSG_MAX_UNITS + 1u, sizeof(*at));
    enum status st = OK;

    for (uint32_t i = 0; i < x->n_rows && !st; i++) {
        const struct ledger_unit *u = ledger_books_unit(b, x->row[i].unit);

        if (x->row[i].use != LEDGER_TRAINED)
            continue;
        st = src->blob(src->ctx, &u->envelope, blobs, e);
        if (!st)
            st = buf_status(blobs, e);
        at[++m->n] = blobs->len;
    }
    for (uint32_t i = 0; i < m->n && !st; i++)
        m->envelope[i] = (struct bytes){blobs->data + at[i], at[i + 1] - at[i]};
    free(at);
    return st;
}

enum status ledger_step_batch(struct buf *out, const struct ledger_books *b,
                              const struct ledger_step_state *s,
                              const struct ledger_source *src, struct err *e)
{
    struct ledger_batch *x = xcalloc(1, sizeof(*x));
    struct msg_batch *m = xcalloc(1, sizeof(*m));
    struct ledger_entry en;
    struct buf entry, blobs;
    enum status st;

    buf_init(&entry, LEDGER_ENTRY_MAX);
    buf_init(&blobs, MSG_MAX_BYTES);
    st = src->entry(src->ctx, ledger_books_batch_seq(b, s->batch), &entry, e);
    if (!st)
        st = ledger_entry_decode(&en, buf_bytes(&entry), e);
    if (!st)
        st = ledger_batch_body_decode(x, en.body, e);
    if (!st)
        st = gather(m, &blobs, b, x, src, e);
    m->batch = x->batch;
    m->root = x->root;
    if (!st)
        st = msg_batch_encode(out, m, e);
    buf_clear(&blobs);
    buf_clear(&entry);
    free(m);
    free(x);
    return st;
}

enum status ledger_transcript(struct buf *out, const struct ledger_books *b,
                              const struct ledger_dispute *d, const struct ledger_source *src,
                              struct err *e)
{
    struct transcript t = {.opt_steps = d->opt_steps, .challenger = d->challenger};
    const struct ledger_step_state *s = NULL;
    struct buf bundle, manifest, batch, challenge, move, moves;
    bool is_direct = !digest_is_zero(&d->challenge);
    enum status st;

    for (size_t i = ledger_books_n_steps(b); i-- > 0 && !s;)
        if (ledger_books_step_at(b, i)->seq == d->step)
            s = ledger_books_step_at(b, i);
    buf_init(&bundle, MSG_MAX_BYTES);
    buf_init(&manifest, MSG_MAX_BYTES);
    buf_init(&batch, MSG_MAX_BYTES);
    buf_init(&challenge, MSG_MAX_BYTES);
    buf_init(&move, MSG_MAX_BYTES);
    buf_init(&moves, TRANSCRIPT_MAX_BYTES);
    st = src->blob(src->ctx, &ledger_books_task(b)->open.task, &bundle, e);
    if (!st)
        st = src->blob(src->ctx, &d->manifest, &manifest, e);
    if (!st && is_direct)
        st = src->blob(src->ctx, &d->challenge, &challenge, e);
    else if (!st)
        st = ledger_step_batch(&batch, b, s, src, e);
    for (uint32_t i = 0; i < d->n_moves && !st; i++) {
        buf_reset(&move);
        st = src->blob(src->ctx, ledger_books_move(b, &d->id, i), &move, e);
        buf_put_blob(&moves, buf_bytes(&move));
    }
    t.bundle = buf_bytes(&bundle);
    t.manifest = buf_bytes(&manifest);
    t.batch = buf_bytes(&batch);
    t.challenge = buf_bytes(&challenge);
    t.moves = buf_bytes(&moves);
    if (!st)
        st = transcript_encode(out, &t, e);
    buf_clear(&moves);
    buf_clear(&move);
    buf_clear(&challenge);
    buf_clear(&batch);
    buf_clear(&manifest);
    buf_clear(&bundle);
    return st;
}
