/* Witnesses of draws: rounds, nonces, and who is missing (proto/witness.h). */
#include <inttypes.h>
#include <string.h>

#include "ledger/books_post.h"
#include "proto/digest.h"
#include "proto/witness.h"

bool books_is_missing(const struct ledger_books *b, const struct node_book *node)
{
    return node->is_witness && node->began != b->head.seq && node->gave != b->head.seq &&
           !node->pub.is_revoked && !node->pub.is_slashed;
}

struct ledger_round ledger_books_round(const struct ledger_books *b)
{
    struct ledger_round r = b->head;

    for (size_t i = 0; i < b->n_nodes; i++)
        r.n_missing += books_is_missing(b, &b->node[i]);
    return r;
}

bool books_is_witnessed(const struct ledger_books *b)
{
    struct ledger_round r = ledger_books_round(b);

    return r.seq && !r.n_missing && r.n_given >= b->task.open.witnesses;
}

struct digest ledger_books_commitment(const struct ledger_books *b,
                                      const struct public_key *validator)
{
    const struct node_book *node = books_find_node(b, validator);

    return node && node->is_witness ? node->next : (struct digest){{0}};
}

enum status post_witness(const struct ledger_books *b, const struct ledger_witness *x,
                         struct post *p, struct err *e)
{
    const struct node_book *node;
    struct digest is;
    enum status st = post_find_actor(&node, b, &x->validator, ROLE_VERIFIER, e);

    (void)p;
    if (st)
        return st;
    if (!b->head.seq || x->seq != b->head.seq)
        return err_set(e, ERR_DENIED, "I9: entry %" PRIu64 " is not the last head", x->seq);
    if (node->gave == x->seq || node->began == x->seq)
        return err_set(e, ERR_EXISTS, "I9: the witness has seen head %" PRIu64 " before",
                       x->seq);
    if (digest_is_zero(&x->nonce))
        return OK; /* it is a witness from the next head on */
    if (b->head.is_drawn)
        return err_set(e, ERR_DENIED, "I9: head %" PRIu64 " is drawn already", x->seq);
    witness_commitment(&is, &x->validator, &x->nonce);
    if (!node->is_witness || !digest_equal(&is, &node->next))
        return err_set(e, ERR_DIGEST, "I9: this is not the nonce that was committed to");
    return OK;
}

enum status post_head(const struct ledger_books *b, const struct ledger_head *x, struct post *p,
                      struct err *e)
{
    struct digest root, balances;

    (void)p;
    if (b->head.n_given && !b->head.is_drawn && b->task.is_open)
        return err_set(e, ERR_DENIED,
                       "I9: nonces were given for head %" PRIu64 ", which is not drawn yet",
                       b->head.seq);
    ledger_books_roots(b, &root, &balances);
    if (x->seq + 1 != b->next_seq || !digest_equal(&root, &x->root))
        return err_set(e, ERR_DIGEST, "I10: the HEAD is of another log");
    if (!digest_equal(&balances, &x->balances))
        return err_set(e, ERR_DIGEST, "I12: the HEAD has other balances");
    return OK;
}

/* ---- applying ------------------------------------------------------------------------------ */

void books_open_round(struct ledger_books *b, const struct ledger_head *x)
{
    b->head = (struct ledger_round){.seq = b->next_seq, .covers = x->seq};
    memset(&b->mix, 0, sizeof(b->mix));
}

void books_take_witness(struct ledger_books *b, const struct ledger_witness *x)
{
    const struct node_book *at = books_find_node(b, &x->validator);
    struct node_book *node = &b->node[at - b->node];

    if (digest_is_zero(&x->nonce)) {
        b->head.n_missing += books_is_missing(b, node);
        node->began = x->seq;
    } else {
        witness_mix(&b->mix, &x->validator, &x->nonce);
        node->gave = x->seq;
        b->head.n_given++;
    }
    node->is_witness = true;
    node->next = x->next;
}

void books_close_round(struct ledger_books *b)
{
    for (size_t i = 0; i < b->n_nodes && b->task.open.witnesses; i++)
        if (books_is_missing(b, &b->node[i]))
            b->node[i].is_witness = false;
    b->head.is_drawn = true;
}
