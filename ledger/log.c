#include "ledger/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/tables.h"

#define HEAD_BYTES (8u + DIGEST_BYTES)

struct ledger_log {
    struct ledger_books *books;
    struct digest *hash; /* owned: of every entry */
    size_t n, cap;
    struct buf body;            /* of the entry appended last */
    struct buf encoded;         /* its bytes */
    union ledger_body *scratch; /* owned: the body being appended */
};

void ledger_log_new(struct ledger_log **out)
{
    struct ledger_log *l = xcalloc(1, sizeof(*l));

    ledger_books_new(&l->books);
    buf_init(&l->body, LEDGER_BODY_MAX);
    buf_init(&l->encoded, LEDGER_ENTRY_MAX);
    l->scratch = xcalloc(1, sizeof(*l->scratch));
    *out = l;
}

void ledger_log_free(struct ledger_log **l)
{
    if (!*l)
        return;
    ledger_books_free(&(*l)->books);
    buf_clear(&(*l)->body);
    buf_clear(&(*l)->encoded);
    free((*l)->scratch);
    free((*l)->hash);
    free(*l);
    *l = NULL;
}

const struct ledger_books *ledger_log_books(const struct ledger_log *l)
{
    return l->books;
}

uint64_t ledger_log_length(const struct ledger_log *l)
{
    return l->n;
}

const struct digest *ledger_log_hash(const struct ledger_log *l, uint64_t seq)
{
    CHECK(seq < l->n);
    return &l->hash[seq];
}

static const struct digest *last_hash(const struct ledger_log *l)
{
    static const struct digest none;

    return l->n ? &l->hash[l->n - 1] : &none;
}

/* The entry is the next one: into the books, and its hash to the others. */
static enum status take(struct ledger_log *l, const struct ledger_entry *en,
                        struct bytes encoded, struct err *e)
{
    struct digest hash;
    enum status st;

    ledger_entry_hash(&hash, encoded);
    st = ledger_apply(l->books, en, &hash, e);
    if (st)
        return st;
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 256;
        l->hash = xrealloc(l->hash, l->cap * sizeof(*l->hash));
    }
    l->hash[l->n++] = hash;
    return OK;
}

static void put_entry(const struct ledger_log *l, const struct ledger_entry *en,
                      struct effects *out)
{
    struct db_key8 seq = db_key_u64(en->seq);
    uint8_t head[HEAD_BYTES];

    effects_put(out, LEDGER_TABLE_ENTRIES, BYTES_OF(seq), buf_bytes(&l->encoded));
    if (!idem_is_zero(&en->idem)) {
        struct ledger_idem_key key = ledger_idem_key(&en->actor, &en->idem);
        effects_put(out, LEDGER_TABLE_IDEM, BYTES_OF(key), BYTES_OF(seq));
    }
    memcpy(head, seq.b, sizeof(seq.b));
    memcpy(head + sizeof(seq.b), last_hash(l)->b, DIGEST_BYTES);
    effects_put(out, LEDGER_TABLE_META, BYTES_LIT(LEDGER_META_HEAD), BYTES_OF(head));
}

enum status ledger_append(struct ledger_log *l, enum ledger_type type, struct bytes body,
                          const struct ledger_cause *why, struct effects *out,
                          struct ledger_entry *en, struct err *e)
{
    int64_t last_us = ledger_books_time_us(l->books);
    struct ledger_entry next;
    enum status st;

    memset(&next, 0, sizeof(next));
    next.seq = l->n;
    next.time_us = why->wall_us > last_us ? why->wall_us : last_us;
    next.type = type;
    next.run = *ledger_books_run(l->books);
    next.prev = *last_hash(l);
    if (why->idem)
        next.idem = *why->idem;
    if (why->actor)
        next.actor = *why->actor;
    if (body.data != l->body.data) {
        buf_reset(&l->body);
        buf_append(&l->body, body);
    }
    st = buf_status(&l->body, e);
    if (st)
        return st;
    next.body = buf_bytes(&l->body);
    st = ledger_body_decode(l->scratch, type, next.body, e);
    if (!st)
        st = ledger_books_post(l->books, type, l->scratch, next.posting, &next.n_postings, e);
    if (st)
        return st;
    buf_reset(&l->encoded);
    st = ledger_entry_encode(&l->encoded, &next, e);
    if (!st)
        st = take(l, &next, buf_bytes(&l->encoded), e);
    if (st)
        return st;
    put_entry(l, &next, out);
    if (en)
        *en = next;
    return OK;
}

#define LEDGER_APPEND_DEFINE(NAME, number, body_, moves_money, text)                           \
    enum status ledger_append_##body_(struct ledger_log *l, const struct ledger_##body_ *b,    \
                                      const struct ledger_cause *why, struct effects *out,     \
                                      struct ledger_entry *en, struct err *e)                  \
    {                                                                                          \
        enum status st;                                                                        \
        buf_reset(&l->body);                                                                   \
        st = ledger_##body_##_body_encode(&l->body, b, e);                                     \
        return st ? st                                                                         \
                  : ledger_append(l, LEDGER_##NAME, buf_bytes(&l->body), why, out, en, e);     \
    }
LEDGER_TYPE_MAP(LEDGER_APPEND_DEFINE)
#undef LEDGER_APPEND_DEFINE

enum status ledger_replay(struct ledger_log *l, struct bytes encoded, struct ledger_entry *en,
                          struct err *e)
{
    struct ledger_entry local;
    enum status st;

    if (!en)
        en = &local;
    st = ledger_entry_decode(en, encoded, e);
    if (st)
        return st;
    if (!digest_equal(&en->prev, last_hash(l)))
        return err_set(e, ERR_CORRUPT, "I10: entry %" PRIu64 " does not follow the one before",
                       en->seq);
    return take(l, en, encoded, e);
}

void ledger_head_build(struct ledger_head *h, const struct ledger_log *l)
{
    CHECK(l->n > 0);
    h->seq = l->n - 1;
    ledger_books_roots(l->books, &h->root, &h->balances);
}

/* ---- a directory ----------------------------------------------------------------------------- */

struct load {
    struct ledger_log *log;
    ledger_visit *fn;
    void *arg;
    bool is_enough; /* the visitor said so */
};

static enum status load_entry(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct load *x = arg;
    struct ledger_entry en;
    enum status st;

    if (key.len != 8 || db_key_read_u64(key) != x->log->n)
        return err_set(e, ERR_CORRUPT, "I10: entry %zu is missing", x->log->n);
    st = ledger_replay(x->log, value, &en, e);
    if (st) { /* never ERR_NOT_FOUND, which would end the walk in peace */
        (void)err_prefix(e, st, "entry %zu", x->log->n);
        return st == ERR_UNSUPPORTED ? st : ERR_CORRUPT;
    }
    st = x->fn ? x->fn(x->arg, &en, value, e) : OK;
    x->is_enough = st == ERR_NOT_FOUND;
    return st;
}

static enum status check_head(const struct ledger_log *l, struct db_txn *t, struct err *e)
{
    struct bytes head;
    enum status st = db_get(t, LEDGER_TABLE_META, BYTES_LIT(LEDGER_META_HEAD), &head, e);

    if (st == ERR_NOT_FOUND && l->n == 0)
        return OK;
    if (st == ERR_NOT_FOUND)
        return err_set(e, ERR_CORRUPT, "I10: table meta names no last entry");
    if (st)
        return st;
    if (l->n == 0 || head.len != HEAD_BYTES ||
        db_key_read_u64(bytes_slice(head, 0, 8)) != l->n - 1 ||
        memcmp(head.data + 8, last_hash(l)->b, DIGEST_BYTES) != 0)
        return err_set(e, ERR_CORRUPT,
                       "I10: the last entry is not the one that table meta names");
    return OK;
}

enum status ledger_log_load(struct ledger_log *l, struct db_txn *t, ledger_visit *fn, void *arg,
                            struct err *e)
{
    struct load x = {l, fn, arg, false};
    enum status st;

    CHECK(l->n == 0);
    st = db_each(t, LEDGER_TABLE_ENTRIES, (struct bytes){NULL, 0}, load_entry, &x, e);
    return st || x.is_enough ? st : check_head(l, t, e);
}

enum status ledger_read(struct bytes *encoded, struct db_txn *t, uint64_t seq, struct err *e)
{
    struct db_key8 key = db_key_u64(seq);

    return db_get(t, LEDGER_TABLE_ENTRIES, BYTES_OF(key), encoded, e);
}
