#include "shardcast/delta_block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "base/alloc.h"
#include "base/check.h"

#define EXPONENTS   256u
#define SAMPLE_MAX  32768u /* numbers looked at to choose mode and parameter */
#define SAMPLE_RUN  256u   /* so many together */
#define SAMPLE_PART 8u     /* of them, to choose how many bits are noise */
#define OFTEN       0.4 /* an exponent of which more than this part changed is sent one by one */
#define TRY_DENSE   0.2 /* from this part changed on, "dense" may be the smaller one */
#define TRY_CLASSES 0.8 /* up to this part */
#define HIGH_BITS   6   /* what is left of a typical difference without its noise */
#define SEARCH      3   /* more or fewer are tried */
#define LEVEL_LISTS                                                                            \
    (-1000)              /* look for nothing that repeats: entropy coding is all that helps */
#define LITERALS_CODED 1 /* ZSTD_ps_enable for ZSTD_c_literalCompressionMode */
#define LEVEL_BYTES    3
#define LIST_MIN       64u
#define LIST_SLACK     1024u /* the loops look for room by words and tiles */

size_t delta_kind_bytes(enum delta_kind k)
{
    static const uint8_t bytes[DELTA_KINDS] = {1, 2, 2, 4};
    return bytes[k];
}

static struct delta_shape shape_of(uint8_t kind, unsigned parameter)
{
    static const struct delta_shape shapes[DELTA_KINDS] = {[DELTA_BF16] = {7, 255, 8, 0},
                                                           [DELTA_F16] = {10, 31, 8, 0},
                                                           [DELTA_F32] = {23, 255, 24, 0}};
    struct delta_shape s = shapes[kind];

    s.parameter = parameter;
    return s;
}

static size_t numbers_of(const struct delta_block *b)
{
    return b->n_bytes / delta_kind_bytes((enum delta_kind)b->kind);
}

static unsigned n_lists(uint8_t mode)
{
    static const uint8_t n[DELTA_MODES] = {0, 1, DELTA_STREAMS, DELTA_DENSE_STREAMS};
    return n[mode];
}

/* The most that list i of the block may hold; a block that needs more is coded in another mode. */
static size_t list_max(const struct delta_block *b, unsigned i)
{
    size_t n = numbers_of(b);

    if (b->mode == DELTA_BYTES)
        return b->n_bytes;
    if (b->mode == DELTA_CLASSES)
        return i == DELTA_EACH ? n : LIST_MIN + (i < DELTA_STEPS ? n / 2 : n / 4);
    return i == DELTA_HIGH  ? n
           : i == DELTA_FAR ? LIST_MIN + n / 2
                            : LIST_MIN + n * (b->kind == DELTA_F32 ? 3 : 1);
}

/* Lends every list its room, in one piece. */
static enum status lists_new(struct delta_stream s[DELTA_STREAMS], uint8_t **memory,
                             const struct delta_block *b, struct err *e)
{
    size_t total = 0;
    enum status st;

    memset(s, 0, DELTA_STREAMS * sizeof(s[0]));
    for (unsigned i = 0; i < n_lists(b->mode); i++)
        total += list_max(b, i) + LIST_SLACK;
    *memory = malloc(total); /* not zeroed: most of it is never touched */
    st = *memory ? OK
                 : err_set(e, ERR_NO_MEMORY, "no memory for the lists of a patch (%zu bytes)",
                           total);
    total = 0;
    for (unsigned i = 0; !st && i < n_lists(b->mode); i++) {
        s[i].data = *memory + total;
        s[i].cap = list_max(b, i) + LIST_SLACK;
        total += s[i].cap;
    }
    return st;
}

/* ---- choosing ---------------------------------------------------------------------------- */

struct sample {
    size_t n;
    double changed; /* part of n */
    uint8_t exponent[SAMPLE_MAX];
    int32_t step[SAMPLE_MAX];
};

static uint32_t bits_at(const uint8_t *p, size_t width)
{
    uint32_t v = 0;

    memcpy(&v, p, width);
    return v;
}

static int32_t ordered(uint32_t u, size_t width)
{
    uint32_t sign = 1u << (8 * width - 1);

    return u & sign ? -(int32_t)(u & ~sign) - 1 : (int32_t)u;
}

static void sample_take(struct sample *s, const struct delta_block *b, const uint8_t *base,
                        const uint8_t *now)
{
    const struct delta_shape shape = shape_of(b->kind, 0);
    size_t width = delta_kind_bytes((enum delta_kind)b->kind), n = numbers_of(b), changed = 0;
    size_t stride = n > SAMPLE_MAX ? n / (SAMPLE_MAX / SAMPLE_RUN) : SAMPLE_RUN;

    s->n = 0;
    for (size_t from = 0; from < n && s->n < SAMPLE_MAX; from += stride)
        for (size_t i = from; i < n && i < from + SAMPLE_RUN && s->n < SAMPLE_MAX; i++) {
            uint32_t u = bits_at(base + width * i, width);
            uint32_t v = bits_at(now + width * i, width);

            s->exponent[s->n] = (uint8_t)(u >> shape.mantissa & shape.exponent);
            s->step[s->n++] =
                (int32_t)((uint32_t)ordered(v, width) - (uint32_t)ordered(u, width));
            changed += u != v;
        }
    s->changed = (double)changed / (double)s->n;
}

/* The exponent from which on changes are rare enough to be told by gaps; at least the smallest that
 * occurs, so that the classes are of use. */
static unsigned choose_classes(const struct sample *s)
{
    uint32_t n[EXPONENTS] = {0}, changed[EXPONENTS] = {0};
    unsigned from = 0;

    for (size_t i = 0; i < s->n; i++) {
        n[s->exponent[i]]++;
        changed[s->exponent[i]] += s->step[i] != 0;
    }
    while (from < EXPONENTS - 1 && n[from] == 0)
        from++;
    for (unsigned x = from; x < EXPONENTS; x++)
        if (n[x] >= 16 && changed[x] > OFTEN * n[x])
            from = x + 1;
    return from;
}

/* Bits a number when `c` is the parameter of "dense". */
static double dense_cost(const struct sample *s, int c, unsigned low_max)
{
    uint32_t count[256] = {0};
    double bits = 0.0, n = 0.0;

    for (size_t i = 0; i < s->n; i += SAMPLE_PART) {
        int low = c - (int)s->exponent[i];
        int32_t high;
        uint32_t zigzag;

        low = low < 0 ? 0 : low > (int)low_max ? (int)low_max : low;
        high = s->step[i] >> low;
        zigzag = (uint32_t)high << 1 ^ (uint32_t)(high >> 31);
        count[zigzag < 255 ? zigzag : 255]++;
        bits += low + (zigzag < 255 ? 0 : 32);
        n++;
    }
    for (unsigned i = 0; i < 256; i++)
        if (count[i])
            bits += count[i] * log2(n / count[i]);
    return bits / n;
}

static unsigned choose_dense(const struct sample *s, unsigned low_max)
{
    double sum = 0.0, least = INFINITY;
    size_t n = 0;
    int guess, best = 0;

    for (size_t i = 0; i < s->n; i += SAMPLE_PART)
        if (s->step[i] != 0) {
            sum += s->exponent[i] + log2(fabs((double)s->step[i])) - HIGH_BITS;
            n++;
        }
    guess = n ? (int)lround(sum / (double)n) : 0;
    for (int c = guess - SEARCH; c <= guess + SEARCH; c++) {
        double cost = c >= 0 ? dense_cost(s, c, low_max) : INFINITY;

        if (cost < least) {
            least = cost;
            best = c;
        }
    }
    return (unsigned)best;
}

/* ---- encoding ---------------------------------------------------------------------------- */

static void put_u32_at(struct buf *b, size_t at, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        b->data[at + i] = (uint8_t)(v >> 8 * i);
}

static enum status put_list(struct buf *out, size_t header, const uint8_t *data, size_t n,
                            ZSTD_CCtx *z, int level, struct err *e)
{
    size_t bound = ZSTD_compressBound(n), at = out->len, got;
    uint8_t *to = buf_extend(out, bound);

    if (!to)
        return buf_status(out, e);
    ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
    if (level == LEVEL_LISTS) /* of libzstd 1.5; one that refuses only compresses less */
        ZSTD_CCtx_setParameter(z, ZSTD_c_experimentalParam5, LITERALS_CODED);
    got = n ? ZSTD_compress2(z, to, bound, data, n) : 0;
    if (ZSTD_isError(got) || got >= n) {
        got = n;
        if (n)
            memcpy(to, data, n);
    }
    out->len = at + got;
    put_u32_at(out, header, (uint32_t)n);
    put_u32_at(out, header + 4, (uint32_t)got);
    return OK;
}

static enum status put_lists(struct buf *out, const struct delta_stream *s, unsigned n,
                             int level, struct err *e)
{
    ZSTD_CCtx *z = ZSTD_createCCtx();
    size_t header = out->len;
    enum status st = z && buf_extend(out, 8 * (size_t)n)
                         ? OK
                         : err_set(e, ERR_NO_MEMORY, "no memory for compression");

    for (unsigned i = 0; !st && i < n; i++)
        st = put_list(out, header + 8 * (size_t)i, s[i].data, s[i].len, z, level, e);
    ZSTD_freeCCtx(z);
    return st;
}

static bool run_encoder(struct delta_stream s[DELTA_STREAMS], const struct delta_block *b,
                        const uint8_t *base, const uint8_t *now,
                        const struct delta_loops *loops)
{
    const struct delta_shape shape = shape_of(b->kind, b->parameter);
    size_t n = numbers_of(b);

    if (b->mode == DELTA_CLASSES)
        return loops->classes_encode(s, base, now, n, &shape);
    return (b->kind == DELTA_F32 ? loops->dense32_encode : loops->dense16_encode)(s, base, now,
                                                                                  n, &shape);
}

/* Appends the payload in b->mode if that makes it shorter than `best`, and takes out what was there
 * before from `start` on; *best and *chosen follow. */
static enum status attempt(struct buf *payload, size_t start, struct delta_block *chosen,
                           const struct delta_block *b, const uint8_t *base, const uint8_t *now,
                           const struct delta_loops *loops, struct err *e)
{
    struct delta_stream s[DELTA_STREAMS];
    size_t had = payload->len - start, at = payload->len;
    uint8_t *memory = NULL;
    enum status st = lists_new(s, &memory, b, e);
    bool fits = !st && run_encoder(s, b, base, now, loops);

    for (unsigned i = 0; fits && i < n_lists(b->mode); i++)
        fits = s[i].len <= list_max(b, i);
    if (fits)
        st = put_lists(payload, s, n_lists(b->mode), LEVEL_LISTS, e);
    if (!st && fits && (chosen->mode == DELTA_BYTES || payload->len - at < had)) {
        memmove(payload->data + start, payload->data + at, payload->len - at);
        payload->len -= had;
        chosen->mode = b->mode;
        chosen->parameter = b->parameter;
    } else if (!st) {
        payload->len = at;
    }
    free(memory);
    return st;
}

static enum status encode_numbers(struct delta_block *b, struct buf *payload, size_t start,
                                  const uint8_t *base, const uint8_t *now,
                                  const struct delta_loops *loops, struct err *e)
{
    const struct delta_shape shape = shape_of(b->kind, 0);
    bool is_wide = b->kind == DELTA_F32;
    struct delta_block trial = *b;
    struct sample *s = xmalloc(sizeof(*s));
    enum status st = OK;

    sample_take(s, b, base, now);
    if (!is_wide && s->changed <= TRY_CLASSES) {
        trial.mode = DELTA_CLASSES;
        trial.parameter = (uint16_t)choose_classes(s);
        st = attempt(payload, start, b, &trial, base, now, loops, e);
    }
    if (!st && (is_wide || s->changed >= TRY_DENSE || b->mode == DELTA_BYTES)) {
        trial.mode = DELTA_DENSE;
        trial.parameter = (uint16_t)choose_dense(s, shape.low_max);
        st = attempt(payload, start, b, &trial, base, now, loops, e);
    }
    free(s);
    return st;
}

enum status delta_block_encode(struct delta_block *b, struct buf *payload, const uint8_t *base,
                               const uint8_t *now, const struct delta_loops *loops,
                               struct err *e)
{
    const struct delta_stream bytes = {(uint8_t *)now, b->n_bytes, b->n_bytes};
    size_t start = payload->len;
    enum status st = OK;

    CHECK(b->n_bytes > 0 && b->n_bytes <= DELTA_BLOCK_BYTES);
    b->parameter = 0;
    b->mode = DELTA_SAME;
    if (!memcmp(base, now, b->n_bytes))
        return OK;
    b->mode = DELTA_BYTES;
    if (b->kind != DELTA_RAW)
        st = encode_numbers(b, payload, start, base, now, loops, e);
    if (st || (b->mode != DELTA_BYTES && payload->len - start < b->n_bytes))
        return st;
    payload->len = start;
    b->mode = DELTA_BYTES;
    b->parameter = 0;
    return put_lists(payload, &bytes, 1, LEVEL_BYTES, e);
}

/* ---- decoding ---------------------------------------------------------------------------- */

static enum status malformed(struct err *e, const char *why)
{
    return err_set(e, ERR_MALFORMED, "a block of the patch %s", why);
}

/* What the lists of a payload say of themselves. */
struct list {
    uint32_t n;
    struct bytes stored;
};

static enum status read_lists(struct list list[DELTA_STREAMS], const struct delta_block *b,
                              struct err *e)
{
    struct reader r = reader_of(b->payload);
    uint32_t stored[DELTA_STREAMS] = {0};

    for (unsigned i = 0; i < n_lists(b->mode); i++) {
        list[i].n = reader_u32(&r);
        stored[i] = reader_u32(&r);
        if (list[i].n > list_max(b, i) || stored[i] > list[i].n)
            return malformed(e, "has a list of impossible length");
    }
    for (unsigned i = 0; i < n_lists(b->mode); i++)
        list[i].stored = reader_bytes(&r, stored[i]);
    return reader_done(&r, "a block of the patch", e);
}

static enum status unpack(uint8_t *to, const struct list *l, struct err *e)
{
    size_t got;

    if (l->stored.len == l->n) {
        if (l->n)
            memcpy(to, l->stored.data, l->n);
        return OK;
    }
    got = ZSTD_decompress(to, l->n, l->stored.data, l->stored.len);
    return got == l->n ? OK : malformed(e, "has a list that does not decompress to its length");
}

static bool run_decoder(uint8_t *out, const uint8_t *base, struct delta_stream s[DELTA_STREAMS],
                        const struct delta_block *b, const struct delta_loops *loops)
{
    const struct delta_shape shape = shape_of(b->kind, b->parameter);
    size_t n = numbers_of(b);

    if (b->mode == DELTA_CLASSES)
        return loops->classes_decode(out, base, n, s, &shape);
    return (b->kind == DELTA_F32 ? loops->dense32_decode : loops->dense16_decode)(out, base, n,
                                                                                  s, &shape);
}

static enum status apply_lists(uint8_t *out, const uint8_t *base, const struct list *list,
                               const struct delta_block *b, const struct delta_loops *loops,
                               struct err *e)
{
    struct delta_stream s[DELTA_STREAMS] = {{0}};
    size_t total = 0, at = 0;
    uint8_t *memory;
    enum status st = OK;

    for (unsigned i = 0; i < n_lists(b->mode); i++)
        total += list[i].n + 8; /* the loops may read 8 bytes further */
    memory = calloc(total, 1);
    if (!memory)
        return err_set(e, ERR_NO_MEMORY, "no memory for the lists of a patch (%zu bytes)",
                       total);
    for (unsigned i = 0; !st && i < n_lists(b->mode); i++) {
        s[i] = (struct delta_stream){memory + at, 0, list[i].n};
        st = unpack(s[i].data, &list[i], e);
        at += list[i].n + 8;
    }
    if (!st && !run_decoder(out, base, s, b, loops))
        st = malformed(e, "has lists that do not belong together");
    free(memory);
    return st;
}

enum status delta_apply_block(uint8_t *out, const uint8_t *base, const struct delta_block *b,
                              const struct delta_loops *loops, struct err *e)
{
    struct list list[DELTA_STREAMS] = {{0}};
    enum status st = read_lists(list, b, e);

    if (st)
        return st;
    if (b->mode == DELTA_SAME) {
        memcpy(out, base, b->n_bytes);
        return OK;
    }
    if (b->mode == DELTA_BYTES)
        return list[0].n == b->n_bytes ? unpack(out, &list[0], e)
                                       : malformed(e, "has the wrong length");
    return apply_lists(out, base, list, b, loops, e);
}
