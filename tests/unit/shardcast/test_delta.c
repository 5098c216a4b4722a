/*
 * Patches between versions: what comes out is the file to the bit, whatever the numbers and
 * whichever loops; they are as small as they are said to be; and a decoder takes nothing on trust.
 */
#include "shardcast/delta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "shardcast/delta_block.h"
#include "support/random.h"
#include "support/test.h"

#define N(table) (sizeof(table) / sizeof((table)[0]))

/* A file of one tensor of `bytes` bytes between a header and nothing else. */
static void file_begin(struct buf *out, const char *dtype, size_t bytes, size_t width)
{
    char header[160];
    int n = snprintf(header, sizeof(header),
                     "{\"w\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}",
                     dtype, bytes / width, bytes);

    buf_init(out, bytes + 256);
    buf_put_u64(out, (uint64_t)n);
    buf_append(out, (struct bytes){(const uint8_t *)header, (size_t)n});
}

static double normal(struct rng *r)
{
    double u = ((double)rng_u32(r) + 0.5) * 0x1p-32, v = (double)rng_u32(r) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static uint32_t bits_of(double x, size_t width)
{
    float f = (float)x;
    uint32_t u;

    memcpy(&u, &f, sizeof(u));
    return width == 4 ? u : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static void put_number(struct buf *b, uint32_t u, size_t width)
{
    uint8_t *at = buf_extend(b, width);

    CHECK(at);
    memcpy(at, &u, width);
}

/* n weights N(0, 0.02), and the same after a step of N(0, rate). */
static void weights_pair(struct buf *base, struct buf *full, const char *dtype, size_t width,
                         size_t n, double rate, uint64_t seed)
{
    struct rng r = rng_of(seed, 3);

    file_begin(base, dtype, n * width, width);
    file_begin(full, dtype, n * width, width);
    for (size_t i = 0; i < n; i++) {
        double w = 0.02 * normal(&r);

        put_number(base, bits_of(w, width), width);
        put_number(full, bits_of(w + rate * normal(&r), width), width);
    }
}

static void pair_clear(struct buf *base, struct buf *full)
{
    buf_clear(base);
    buf_clear(full);
}

static void assert_applies(struct bytes patch, struct bytes base, struct bytes full,
                           const char *loops)
{
    const struct delta_options opt = {.loops = delta_loops_find(loops)};
    uint8_t *out = malloc(full.len + 1);
    struct delta d;
    struct err e;

    assert_ok(delta_open(&d, patch, &e), &e);
    assert_int_equal(d.file_bytes, full.len);
    memset(out, 0x5a, full.len + 1);
    assert_ok(delta_apply(out, base, &d, &opt, &e), &e);
    assert_memory_equal(out, full.data, full.len);
    assert_int_equal(out[full.len], 0x5a);
    free(out);
}

/* Encodes with every kind of loops, which give one patch, and applies it with every kind. Returns
 * its length, 0: full is sent instead. */
static size_t round_trip(struct bytes base, struct bytes full)
{
    static const char *const names[] = {"scalar", "avx2"};
    struct buf patch, other;
    bool pays = false;
    size_t n;
    struct err e;

    buf_init(&patch, full.len + 4096);
    buf_init(&other, full.len + 4096);
    for (size_t i = 0; i < N(names); i++) {
        const struct delta_options opt = {.loops = delta_loops_find(names[i])};

        if (!opt.loops)
            continue;
        buf_reset(&other);
        assert_ok(delta_encode(&other, &pays, base, full, &opt, &e), &e);
        if (i == 0)
            buf_append(&patch, buf_bytes(&other));
        assert_true(bytes_equal(buf_bytes(&patch), buf_bytes(&other)));
        if (pays)
            assert_applies(buf_bytes(&patch), base, full, names[i]);
    }
    n = patch.len;
    assert_true(pays == (n > 0));
    buf_clear(&patch);
    buf_clear(&other);
    return n;
}

static void weights_of_every_kind_come_back_to_the_bit(void **state)
{
    static const struct {
        const char *dtype;
        size_t width, n;
        double rate;
    } cases[] = {{"BF16", 2, 70001, 2e-7}, {"BF16", 2, 4096, 2e-6}, {"BF16", 2, 70001, 1e-4},
                 {"BF16", 2, 640, 1e-6},   {"BF16", 2, 1290, 1e-5}, {"F16", 2, 20011, 1e-4},
                 {"F32", 4, 30011, 1e-7},  {"F32", 4, 999, 1e-7},   {"F32", 4, 4096, 0.0}};

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct buf base, full;

        weights_pair(&base, &full, cases[i].dtype, cases[i].width, cases[i].n, cases[i].rate,
                     i);
        if (round_trip(buf_bytes(&base), buf_bytes(&full)) == 0)
            fail_msg("case %zu does not pay", i);
        pair_clear(&base, &full);
    }
}

/* Bits without meaning as numbers: NaNs, both zeros, infinities, whatever comes. One number in
 * `rare` changes, to anything. */
static void any_bits_come_back(void **state)
{
    struct rng r = random_seeded(7);

    (void)state;
    for (size_t round = 0; round < 120; round++) {
        static const char *const dtypes[] = {"BF16", "F16", "F32"};
        size_t kind = rng_below(&r, 3), width = kind == 2 ? 4 : 2;
        size_t n = 1 + (size_t)rng_below(&r, 3000), rare = 1 + (size_t)rng_below(&r, 400);
        struct buf base, full;

        file_begin(&base, dtypes[kind], n * width, width);
        file_begin(&full, dtypes[kind], n * width, width);
        for (size_t i = 0; i < n; i++) {
            uint32_t u = rng_u32(&r), v = rng_below(&r, rare) ? u : rng_u32(&r);

            put_number(&base, u, width);
            put_number(&full, v, width);
        }
        (void)round_trip(buf_bytes(&base), buf_bytes(&full));
        pair_clear(&base, &full);
    }
}

static void a_file_of_several_blocks_and_kinds_comes_back(void **state)
{
    const size_t wide = 4096, narrow = DELTA_BLOCK_BYTES + 4096;
    struct rng r = rng_of(5, 5);
    struct buf base, full;
    char header[256];
    int n = snprintf(header, sizeof(header),
                     "{\"a\":{\"dtype\":\"F32\",\"shape\":[%zu],\"data_offsets\":[0,%zu]},"
                     "\"b\":{\"dtype\":\"BF16\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]},"
                     "\"c\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[%zu,%zu]}}",
                     wide / 4, wide, narrow / 2, wide, wide + narrow, wide + narrow,
                     wide + narrow + 16);

    (void)state;
    buf_init(&base, wide + narrow + 1024);
    buf_put_u64(&base, (uint64_t)n);
    buf_append(&base, (struct bytes){(const uint8_t *)header, (size_t)n});
    random_bytes(&r, buf_extend(&base, wide + narrow + 16), wide + narrow + 16);
    buf_init(&full, wide + narrow + 1024);
    buf_append(&full, buf_bytes(&base));
    for (size_t i = 0; i < full.len - (8 + (size_t)n); i += 1 + (size_t)rng_below(&r, 2000))
        full.data[8 + (size_t)n + i] ^= 1;

    assert_true(round_trip(buf_bytes(&base), buf_bytes(&full)) > 0);

    pair_clear(&base, &full);
}

/* The reference has 187 times as what independent draws allow at this rate of change, and a patch
 * within a fifth of that is asked for: 156. What the base's exponents tell makes it more. */
static void a_small_step_of_bf16_is_a_hundred_and_fifty_six_times_smaller(void **state)
{
    const size_t n = DELTA_BLOCK_BYTES / 4;
    struct buf base, full;
    size_t changed = 0, patch;

    (void)state;
    weights_pair(&base, &full, "BF16", 2, n, 0.2e-6, 1);
    for (size_t i = 0; i < n; i++)
        changed += memcmp(base.data + base.len - 2 * n + 2 * i,
                          full.data + base.len - 2 * n + 2 * i, 2) != 0;

    patch = round_trip(buf_bytes(&base), buf_bytes(&full));

    assert_in_range(changed * 10000 / n, 83, 88); /* 0.85 % */
    assert_true(patch > 0 && full.len / patch >= 156);
    pair_clear(&base, &full);
}

/* Of 32 bits, a step of 1e-7 against weights of 0.02 leaves some 7 to say. */
static void a_small_step_of_f32_is_three_times_smaller(void **state)
{
    struct buf base, full;
    size_t patch;

    (void)state;
    weights_pair(&base, &full, "F32", 4, 100000, 1e-7, 1);

    patch = round_trip(buf_bytes(&base), buf_bytes(&full));

    assert_true(patch > 0 && full.len / patch >= 3);
    pair_clear(&base, &full);
}

static void what_would_not_pay_is_not_made(void **state)
{
    struct buf base, full, longer, other;

    (void)state;
    weights_pair(&base, &full, "F32", 4, 10000, 1e-2, 1);
    weights_pair(&longer, &other, "BF16", 2, 20000, 1e-7, 1);

    assert_int_equal(round_trip(buf_bytes(&base), buf_bytes(&full)), 0);
    assert_int_equal(round_trip(buf_bytes(&base), buf_bytes(&other)), 0);
    assert_true(round_trip(buf_bytes(&longer), buf_bytes(&other)) > 0);
    pair_clear(&base, &full);
    pair_clear(&longer, &other);
}

static void threads_do_not_change_a_byte(void **state)
{
    struct delta_options alone = {0}, shared = {0};
    struct buf base, full, a, b;
    bool pays;
    struct err e;

    (void)state;
    weights_pair(&base, &full, "BF16", 2, DELTA_BLOCK_BYTES / 2 + 4096, 1e-7, 2);
    buf_init(&a, full.len);
    buf_init(&b, full.len);
    pool_new(&shared.pool, 3);

    assert_ok(delta_encode(&a, &pays, buf_bytes(&base), buf_bytes(&full), &alone, &e), &e);
    assert_ok(delta_encode(&b, &pays, buf_bytes(&base), buf_bytes(&full), &shared, &e), &e);

    assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    pool_free(&shared.pool);
    buf_clear(&a);
    buf_clear(&b);
    pair_clear(&base, &full);
}

/* ---- decoding ---------------------------------------------------------------------------- */

struct patched {
    struct buf base, full, patch;
    uint8_t *out;
};

static int patched_setup(void **state)
{
    struct patched *p = malloc(sizeof(*p));
    bool pays;
    struct err e;

    CHECK(p);
    weights_pair(&p->base, &p->full, "BF16", 2, 20000, 1e-6, 4);
    buf_init(&p->patch, p->full.len);
    assert_ok(
        delta_encode(&p->patch, &pays, buf_bytes(&p->base), buf_bytes(&p->full), NULL, &e), &e);
    p->out = malloc(p->full.len);
    *state = p;
    return 0;
}

static int patched_teardown(void **state)
{
    struct patched *p = *state;

    pair_clear(&p->base, &p->full);
    buf_clear(&p->patch);
    free(p->out);
    free(p);
    return 0;
}

static enum status apply(struct patched *p, struct bytes patch)
{
    struct delta d;
    enum status st = delta_open(&d, patch, NULL);

    return st ? st : delta_apply(p->out, buf_bytes(&p->base), &d, NULL, NULL);
}

static void a_patch_cut_short_is_refused(void **state)
{
    struct patched *p = *state;

    for (size_t n = 0; n < p->patch.len; n += 1 + n / 64)
        assert_status(apply(p, bytes_slice(buf_bytes(&p->patch), 0, n)), ERR_MALFORMED, NULL);
}

static void a_byte_more_is_refused(void **state)
{
    struct patched *p = *state;

    buf_put_u8(&p->patch, 0);

    assert_status(apply(p, buf_bytes(&p->patch)), ERR_MALFORMED, NULL);
}

static void another_format_or_mode_is_told(void **state)
{
    struct patched *p = *state;

    p->patch.data[7]++;
    assert_status(apply(p, buf_bytes(&p->patch)), ERR_UNSUPPORTED, NULL);
    p->patch.data[7]--;
    p->patch.data[20] = 200;
    assert_status(apply(p, buf_bytes(&p->patch)), ERR_UNSUPPORTED, NULL);
}

static void a_base_of_another_length_is_refused(void **state)
{
    struct patched *p = *state;
    struct delta d;
    struct err e;

    assert_ok(delta_open(&d, buf_bytes(&p->patch), &e), &e);

    assert_status(
        delta_apply(p->out, bytes_slice(buf_bytes(&p->base), 0, p->base.len - 2), &d, NULL, &e),
        ERR_INVALID, &e);
}

/* It is the root of the result that tells: here only that nothing but the output is touched. */
static void another_base_gives_another_file_or_an_error(void **state)
{
    struct patched *p = *state;
    enum status st;

    for (size_t i = 4096; i < p->base.len; i += 512)
        p->base.data[i] ^= 0x40;

    st = apply(p, buf_bytes(&p->patch));

    assert_true(st == ERR_MALFORMED ||
                (st == OK && memcmp(p->out, p->full.data, p->full.len) != 0));
}

int main(void)
{
#define DECODING(test) cmocka_unit_test_setup_teardown(test, patched_setup, patched_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_every_kind_come_back_to_the_bit),
        cmocka_unit_test(any_bits_come_back),
        cmocka_unit_test(a_file_of_several_blocks_and_kinds_comes_back),
        cmocka_unit_test(a_small_step_of_bf16_is_a_hundred_and_fifty_six_times_smaller),
        cmocka_unit_test(a_small_step_of_f32_is_three_times_smaller),
        cmocka_unit_test(what_would_not_pay_is_not_made),
        cmocka_unit_test(threads_do_not_change_a_byte),
        DECODING(a_patch_cut_short_is_refused),
        DECODING(a_byte_more_is_refused),
        DECODING(another_format_or_mode_is_told),
        DECODING(a_base_of_another_length_is_refused),
        DECODING(another_base_gives_another_file_or_an_error),
    };
    return cmocka_run_group_tests_name("shardcast/delta", tests, NULL, NULL);
}
