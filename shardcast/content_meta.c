#include "shardcast/content_meta.h"

#include <string.h>

#include "base/check.h"

#define META_MAP_BYTES ((uint64_t)8 << 30) /* sparse: 3 MiB for each version of 62 GB */
#define META_VERSION   1u
#define KEY_LEN        20u
#define ROW_LEN        13u

enum status meta_open(struct db **out, const char *dir, bool read_only, struct err *e)
{
    static const char *const tables[] = {"contents", "manifests", "segments", "have",
                                         "pins",     "proofs",    NULL};
    const struct db_options o = {
        .magic = "muster/contents",
        .version = META_VERSION,
        .tables = tables,
        .map_bytes = META_MAP_BYTES,
        .read_only = read_only,
    };

    return db_open(out, dir, &o, e);
}

/* ---- keys -------------------------------------------------------------------------------- */

struct key {
    uint8_t b[KEY_LEN + 4]; /* and the number of a segment */
    size_t len;
};

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct key key_of(const struct content *c)
{
    CHECK(c->version >= 0 && c->base >= -1);
    struct db_key8 version = db_key_u64((uint64_t)c->version);
    struct db_key8 base = db_key_u64((uint64_t)(c->base + 1));
    struct key k = {.len = KEY_LEN};

    memcpy(k.b, version.b, 8);
    put_u32(k.b + 8, c->kind);
    memcpy(k.b + 12, base.b, 8);
    return k;
}

static struct key key_of_segment(const struct content *c, uint32_t number)
{
    struct key k = key_of(c);

    put_u32(k.b + KEY_LEN, number);
    k.len = KEY_LEN + 4;
    return k;
}

static struct bytes key_bytes(const struct key *k)
{
    return (struct bytes){k->b, k->len};
}

static enum status read_key(struct content *c, struct bytes key, size_t len, struct err *e)
{
    if (key.len != len)
        return err_set(e, ERR_CORRUPT, "a table of contents has a key of %zu bytes", key.len);
    uint64_t version = db_key_read_u64(bytes_slice(key, 0, 8));
    uint64_t base = db_key_read_u64(bytes_slice(key, 12, 8));
    if (version > INT64_MAX || base > INT64_MAX)
        return err_set(e, ERR_CORRUPT, "a table of contents has a version out of range");
    *c = (struct content){(int64_t)version, read_u32(key.data + 8), (int64_t)base - 1};
    return OK;
}

/* ---- writing ----------------------------------------------------------------------------- */

static enum status put_one(struct db *d, unsigned table, struct bytes key, struct bytes value,
                           struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, true, e);

    if (!st)
        st = db_put(t, table, key, value, e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

static void encode_row(uint8_t out[ROW_LEN], const struct content_row *row)
{
    struct db_key8 total = db_key_u64(row->total_bytes);

    put_u32(out, row->shard_bytes);
    memcpy(out + 4, total.b, 8);
    out[12] = row->is_own;
}

enum status meta_put_row(struct db *d, const struct content *c, const struct content_row *row,
                         struct err *e)
{
    struct key k = key_of(c);
    uint8_t value[ROW_LEN];

    encode_row(value, row);
    return put_one(d, META_CONTENTS, key_bytes(&k), BYTES_OF(value), e);
}

enum status meta_put_manifest(struct db *d, const struct content *c,
                              const struct content_row *row, struct bytes envelope,
                              struct err *e)
{
    struct key k = key_of(c);
    struct db_txn *t = NULL;
    uint8_t value[ROW_LEN];
    enum status st = db_begin(&t, d, true, e);

    encode_row(value, row);
    if (!st)
        st = db_put(t, META_CONTENTS, key_bytes(&k), BYTES_OF(value), e);
    if (!st)
        st = db_put(t, META_MANIFESTS, key_bytes(&k), envelope, e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

enum status meta_put_segment(struct db *d, const struct content *c, uint32_t number,
                             struct bytes envelope, struct err *e)
{
    struct key k = key_of_segment(c, number);

    return put_one(d, META_SEGMENTS, key_bytes(&k), envelope, e);
}

enum status meta_put(struct db *d, unsigned table, const struct content *c, struct bytes value,
                     struct err *e)
{
    struct key k = key_of(c);

    return put_one(d, table, key_bytes(&k), value, e);
}

enum status meta_pin(struct db *d, int64_t version, bool is_pinned, struct err *e)
{
    CHECK(version >= 0);
    struct db_key8 k = db_key_u64((uint64_t)version);
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, true, e);

    if (!st && is_pinned)
        st = db_put(t, META_PINS, BYTES_OF(k.b), BYTES_LIT("pin"), e);
    else if (!st)
        st = db_del(t, META_PINS, BYTES_OF(k.b), e);
    if (st == ERR_NOT_FOUND)
        st = OK;
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

struct last_segment {
    const struct content *c;
    int64_t number; /* -1: none */
};

static enum status note_last(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct last_segment *l = arg;
    struct content c;
    enum status st = read_key(&c, key, KEY_LEN + 4, e);

    (void)value;
    if (st)
        return st;
    if (!content_equal(&c, l->c))
        return ERR_NOT_FOUND; /* enough */
    l->number = read_u32(key.data + KEY_LEN);
    return OK;
}

static enum status drop_segments(struct db_txn *t, const struct content *c, struct err *e)
{
    struct last_segment last = {c, -1};
    struct key from = key_of(c);
    enum status st = db_each(t, META_SEGMENTS, key_bytes(&from), note_last, &last, e);

    for (int64_t i = 0; !st && i <= last.number; i++) {
        struct key k = key_of_segment(c, (uint32_t)i);
        st = db_del(t, META_SEGMENTS, key_bytes(&k), e);
        if (st == ERR_NOT_FOUND)
            st = OK;
    }
    return st;
}

enum status meta_drop(struct db *d, const struct content *c, struct err *e)
{
    static const unsigned tables[] = {META_CONTENTS, META_MANIFESTS, META_HAVE};
    struct key k = key_of(c);
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, true, e);

    for (size_t i = 0; !st && i < sizeof(tables) / sizeof(tables[0]); i++) {
        st = db_del(t, tables[i], key_bytes(&k), e);
        if (st == ERR_NOT_FOUND)
            st = OK;
    }
    if (!st)
        st = drop_segments(t, c, e);
    if (!st)
        st = db_commit(&t, e);
    db_abort(&t);
    return st;
}

/* ---- reading ----------------------------------------------------------------------------- */

static enum status get_one(struct db *d, unsigned table, struct bytes key, struct buf *out,
                           struct err *e)
{
    struct db_txn *t = NULL;
    struct bytes value;
    enum status st = db_begin(&t, d, false, e);

    if (!st)
        st = db_get(t, table, key, &value, e);
    if (!st) {
        buf_append(out, value);
        st = buf_status(out, e);
    }
    db_abort(&t);
    return st;
}

enum status meta_get(struct db *d, unsigned table, const struct content *c, struct buf *out,
                     struct err *e)
{
    struct key k = key_of(c);

    return get_one(d, table, key_bytes(&k), out, e);
}

enum status meta_get_segment(struct db *d, const struct content *c, uint32_t number,
                             struct buf *out, struct err *e)
{
    struct key k = key_of_segment(c, number);

    return get_one(d, META_SEGMENTS, key_bytes(&k), out, e);
}

struct each {
    const struct content *only; /* segments: of this one */
    content_segment_visit *segment;
    meta_row_visit *row;
    content_pin_visit *pin;
    content_proof_visit *proof;
    void *arg;
};

static enum status visit_segment(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;
    struct content c;
    enum status st = read_key(&c, key, KEY_LEN + 4, e);

    if (st)
        return st;
    if (!content_equal(&c, v->only))
        return ERR_NOT_FOUND; /* enough */
    return v->segment(v->arg, read_u32(key.data + KEY_LEN), value, e);
}

static enum status visit_row(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;
    struct content c;
    enum status st = read_key(&c, key, KEY_LEN, e);

    if (!st && value.len != ROW_LEN)
        st = err_set(e, ERR_CORRUPT, "a content has a row of %zu bytes", value.len);
    if (st)
        return st;
    const struct content_row row = {
        read_u32(value.data), db_key_read_u64(bytes_slice(value, 4, 8)), value.data[12] != 0};
    return v->row(v->arg, &c, &row, e);
}

static enum status visit_pin(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;

    (void)value;
    if (key.len != 8)
        return err_set(e, ERR_CORRUPT, "the table of pins has a key of %zu bytes", key.len);
    v->pin(v->arg, (int64_t)db_key_read_u64(key));
    return OK;
}

static enum status visit_proof(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct each *v = arg;
    struct content c;
    enum status st = read_key(&c, key, KEY_LEN, e);

    return st ? st : v->proof(v->arg, &c, value, e);
}

static enum status visit(struct db *d, unsigned table, struct bytes from, db_visit *fn,
                         struct each *v, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, false, e);

    if (!st)
        st = db_each(t, table, from, fn, v, e);
    db_abort(&t);
    return st;
}

enum status meta_segments(struct db *d, const struct content *c, content_segment_visit *fn,
                          void *arg, struct err *e)
{
    struct each v = {.only = c, .segment = fn, .arg = arg};
    struct key k = key_of(c);

    return visit(d, META_SEGMENTS, key_bytes(&k), visit_segment, &v, e);
}

enum status meta_rows(struct db *d, meta_row_visit *fn, void *arg, struct err *e)
{
    struct each v = {.row = fn, .arg = arg};

    return visit(d, META_CONTENTS, (struct bytes){0}, visit_row, &v, e);
}

enum status meta_pins(struct db *d, content_pin_visit *fn, void *arg, struct err *e)
{
    struct each v = {.pin = fn, .arg = arg};

    return visit(d, META_PINS, (struct bytes){0}, visit_pin, &v, e);
}

enum status meta_proofs(struct db *d, content_proof_visit *fn, void *arg, struct err *e)
{
    struct each v = {.proof = fn, .arg = arg};

    return visit(d, META_PROOFS, (struct bytes){0}, visit_proof, &v, e);
}

enum status meta_n_proofs(struct db *d, uint64_t *n, struct err *e)
{
    struct db_txn *t = NULL;
    enum status st = db_begin(&t, d, false, e);

    if (!st)
        st = db_count(t, META_PROOFS, n, e);
    db_abort(&t);
    return st;
}
