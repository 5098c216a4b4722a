#include "shardcast/delta.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "shardcast/delta_block.h"
#include "shardcast/delta_loops.h"

#define MAGIC       "MUSTERD1"
#define HEAD_BYTES  20u
#define ENTRY_BYTES 12u

const struct delta_loops *delta_loops_find(const char *name)
{
#if defined(__x86_64__)
    bool has_avx2 = CPU_HAS("avx2") && CPU_HAS("bmi") && CPU_HAS("bmi2") && CPU_HAS("popcnt");

    if (has_avx2 && (!name || !strcmp(name, delta_loops_avx2.name)))
        return &delta_loops_avx2;
#endif
    return !name || !strcmp(name, delta_loops_scalar.name) ? &delta_loops_scalar : NULL;
}

static const struct delta_loops *loops_of(const struct delta_options *opt)
{
    return opt && opt->loops ? opt->loops : delta_loops_find(NULL);
}

/* ---- encoding ---------------------------------------------------------------------------- */

/* A block while it is made: where it is, and in which bytes of the file. */
struct piece {
    struct delta_block block;
    struct buf payload;
};

struct encoding {
    struct piece *pieces; /* owned */
    size_t n;
    struct bytes base, full;
    const struct delta_loops *loops;
    uint64_t max_bytes; /* of all payloads together */
    uint64_t total;     /* so far; shared */
    enum status failed; /* shared; the first failure of a thread stops the others */
};

static void encode_pieces(void *arg, size_t lo, size_t hi)
{
    struct encoding *x = arg;

    for (size_t i = lo; i < hi; i++) {
        struct piece *p = &x->pieces[i];
        enum status st;

        if (__atomic_load_n(&x->total, __ATOMIC_RELAXED) > x->max_bytes ||
            __atomic_load_n(&x->failed, __ATOMIC_RELAXED))
            return;
        st = delta_block_encode(&p->block, &p->payload, x->base.data + p->block.from,
                                x->full.data + p->block.from, x->loops, NULL);
        if (st)
            __atomic_store_n(&x->failed, st, __ATOMIC_RELAXED);
        __atomic_add_fetch(&x->total, p->payload.len, __ATOMIC_RELAXED);
    }
}

/* Cuts the ranges into blocks. */
static enum status cut(struct encoding *x, const struct delta_range *ranges, size_t n_ranges,
                       struct err *e)
{
    size_t n = 0;
    uint64_t from = 0;
    enum status st;

    for (size_t i = 0; i < n_ranges; i++)
        n += (size_t)((ranges[i].n_bytes + DELTA_BLOCK_BYTES - 1) / DELTA_BLOCK_BYTES);
    st = alloc_array(&x->pieces, n + 1, sizeof(x->pieces[0]), "blocks of a patch", e);
    for (size_t i = 0; !st && i < n_ranges; i++)
        for (uint64_t left = ranges[i].n_bytes; left > 0;) {
            uint64_t take = left < DELTA_BLOCK_BYTES ? left : DELTA_BLOCK_BYTES;
            struct piece *p = &x->pieces[x->n++];

            p->block.kind = (uint8_t)ranges[i].kind;
            p->block.n_bytes = (uint32_t)take;
            p->block.from = from;
            buf_init(&p->payload, 8 * (size_t)DELTA_BLOCK_BYTES);
            from += take;
            left -= take;
        }
    CHECK(st || from == x->full.len);
    return st;
}

static void put_patch(struct buf *out, const struct encoding *x)
{
    buf_append(out, BYTES_LIT(MAGIC));
    buf_put_u64(out, x->full.len);
    buf_put_u32(out, (uint32_t)x->n);
    for (size_t i = 0; i < x->n; i++) {
        const struct delta_block *b = &x->pieces[i].block;

        buf_put_u8(out, b->mode);
        buf_put_u8(out, b->kind);
        buf_put_u16(out, b->parameter);
        buf_put_u32(out, b->n_bytes);
        buf_put_u32(out, (uint32_t)x->pieces[i].payload.len);
    }
    for (size_t i = 0; i < x->n; i++)
        buf_append(out, buf_bytes(&x->pieces[i].payload));
}

static bool same_ranges(const struct delta_range *a, size_t n_a, const struct delta_range *b,
                        size_t n_b)
{
    if (n_a != n_b)
        return false;
    for (size_t i = 0; i < n_a; i++)
        if (a[i].n_bytes != b[i].n_bytes || a[i].kind != b[i].kind)
            return false;
    return true;
}

enum status delta_encode(struct buf *out, bool *pays, struct bytes base, struct bytes full,
                         const struct delta_options *opt, struct err *e)
{
    struct encoding x = {.base = base, .full = full, .loops = loops_of(opt)};
    struct delta_range *ranges = NULL, *base_ranges = NULL;
    size_t n = 0, n_base = 0, overhead;
    enum status st = delta_ranges(&ranges, &n, full, e);

    *pays = false;
    if (!st)
        st = delta_ranges(&base_ranges, &n_base, base, e);
    if (st || base.len != full.len || !same_ranges(ranges, n, base_ranges, n_base))
        goto out;
    st = cut(&x, ranges, n, e);
    if (st)
        goto out;
    overhead = HEAD_BYTES + x.n * ENTRY_BYTES;
    x.max_bytes = full.len / 100 * DELTA_PAYS_PERCENT;
    if (x.max_bytes < overhead)
        goto out;
    x.max_bytes -= overhead;
    pool_run(opt ? opt->pool : NULL, x.n, 1, encode_pieces, &x);
    st = x.failed ? err_set(e, x.failed, "a block could not be encoded") : OK;
    *pays = !st && x.total <= x.max_bytes;
    if (*pays) {
        put_patch(out, &x);
        st = buf_status(out, e);
    }
out:
    for (size_t i = 0; x.pieces && i < x.n; i++)
        buf_clear(&x.pieces[i].payload);
    free(x.pieces);
    free(ranges);
    free(base_ranges);
    return st;
}

/* ---- applying ---------------------------------------------------------------------------- */

static bool read_entry(struct delta_block *b, const struct delta *d, struct delta_at *at)
{
    struct reader r = {d->table.data + (size_t)at->index * ENTRY_BYTES,
                       d->table.data + d->table.len, false};
    uint32_t n_payload;

    b->mode = reader_u8(&r);
    b->kind = reader_u8(&r);
    b->parameter = reader_u16(&r);
    b->n_bytes = reader_u32(&r);
    n_payload = reader_u32(&r);
    if (r.bad || n_payload > d->payloads.len - at->payload ||
        b->n_bytes > d->file_bytes - at->from)
        return false;
    b->from = at->from;
    b->payload = bytes_slice(d->payloads, at->payload, n_payload);
    at->index++;
    at->from += b->n_bytes;
    at->payload += n_payload;
    return true;
}

static enum status check_block(const struct delta_block *b, struct err *e)
{
    if (b->mode >= DELTA_MODES || b->kind >= DELTA_KINDS)
        return err_set(e, ERR_UNSUPPORTED,
                       "the patch has a block of unknown mode %u or kind %u", b->mode, b->kind);
    if (b->n_bytes == 0 || b->n_bytes > DELTA_BLOCK_BYTES ||
        b->n_bytes % delta_kind_bytes((enum delta_kind)b->kind) != 0 ||
        (b->kind == DELTA_RAW && b->mode > DELTA_BYTES) ||
        (b->kind == DELTA_F32 && b->mode == DELTA_CLASSES) || b->parameter > 512)
        return err_set(e, ERR_MALFORMED, "the patch has a block that cannot be");
    return OK;
}

enum status delta_open(struct delta *out, struct bytes patch, struct err *e)
{
    struct reader r = reader_of(patch);
    struct delta_at at = {0};
    struct bytes magic = reader_bytes(&r, sizeof(MAGIC) - 1);
    struct delta d = {.file_bytes = reader_u64(&r), .n_blocks = reader_u32(&r)};

    *out = (struct delta){0};
    if (r.bad || memcmp(magic.data, MAGIC, sizeof(MAGIC) - 2) != 0)
        return err_set(e, ERR_MALFORMED, "not a patch");
    if (magic.data[sizeof(MAGIC) - 2] != MAGIC[sizeof(MAGIC) - 2])
        return err_set(e, ERR_UNSUPPORTED, "a patch of another format");
    if (d.n_blocks > reader_left(&r) / ENTRY_BYTES)
        return err_set(e, ERR_MALFORMED, "the patch is cut short in its table");
    d.table = reader_bytes(&r, (size_t)d.n_blocks * ENTRY_BYTES);
    d.payloads = (struct bytes){r.at, reader_left(&r)};
    for (struct delta_block b; at.index < d.n_blocks;) {
        enum status st = read_entry(&b, &d, &at)
                             ? check_block(&b, e)
                             : err_set(e, ERR_MALFORMED, "the patch is cut short");
        if (st)
            return st;
    }
    if (at.from != d.file_bytes || at.payload != d.payloads.len)
        return err_set(e, ERR_MALFORMED, "the blocks of the patch do not make its file");
    *out = d;
    return OK;
}

bool delta_next(const struct delta *d, struct delta_at *at, struct delta_block *b)
{
    return at->index < d->n_blocks && read_entry(b, d, at);
}

struct applying {
    uint8_t *out;
    struct bytes base;
    const struct delta *delta;
    const struct delta_loops *loops;
    enum status failed; /* shared */
};

/* Blocks lo..hi. Finding the first is a walk over the table: 12 bytes a block of 8 MiB. */
static void apply_blocks(void *arg, size_t lo, size_t hi)
{
    struct applying *x = arg;
    struct delta_at at = {0};
    struct delta_block b;

    while (at.index < hi && delta_next(x->delta, &at, &b)) {
        enum status st;

        if (at.index <= lo)
            continue;
        st = delta_apply_block(x->out + b.from, x->base.data + b.from, &b, x->loops, NULL);
        if (st)
            __atomic_store_n(&x->failed, st, __ATOMIC_RELAXED);
        if (__atomic_load_n(&x->failed, __ATOMIC_RELAXED))
            return;
    }
}

enum status delta_apply(uint8_t *out, struct bytes base, const struct delta *d,
                        const struct delta_options *opt, struct err *e)
{
    struct applying x = {.out = out, .base = base, .delta = d, .loops = loops_of(opt)};

    if (base.len != d->file_bytes)
        return err_set(e, ERR_INVALID, "the base has another length than the patch speaks of");
    pool_run(opt ? opt->pool : NULL, d->n_blocks, 1, apply_blocks, &x);
    return x.failed ? err_set(e, x.failed, "a block of the patch cannot be applied") : OK;
}
