/*
 * proto/msg: every message there and back, the one canonical form, and envelopes.
 *
 * The vectors are Google's encoder's (tests/reference/messages.py).
 */
#include "proto/msg.h"

#include <stdlib.h>
#include <string.h>

#include "proto/msg_table.h"
#include "proto/sign.h"
#include "support/random.h"
#include "support/test.h"

/* ---- every message, by its table --------------------------------------------------------- */

static uint8_t payload[8192];

static uint32_t unit_of(const struct msg_table *t, const struct msg_field *f)
{
    for (size_t i = 0; i < t->n_rules; i++) {
        if (t->rule[i].kind == MSG_RULE_LENGTH && t->rule[i].offset == f->offset)
            return t->rule[i].unit;
    }
    return 1;
}

/* Puts something that is no default into each field. 1 is within the range of every number. */
static void fill(const struct msg_table *t, uint8_t *m, struct rng *r)
{
    for (size_t i = 0; i < t->n_fields; i++) {
        const struct msg_field *f = &t->field[i];
        uint32_t n = f->is_repeated ? 2 : 1;

        if (f->is_repeated)
            memcpy(m + f->n_offset, &n, sizeof(n));
        for (uint32_t k = 0; k < n; k++) {
            uint8_t *at = m + f->offset + k * f->size;
            struct bytes b = {payload, unit_of(t, f) * (1 + rng_below(r, 3))};
            uint64_t v = 1 + rng_below(r, UINT64_MAX >> 1);
            uint32_t one = 1;
            switch (f->type) {
            case MSG_TYPE_UINT32: memcpy(at, &one, sizeof(one)); break;
            case MSG_TYPE_BOOL: *(bool *)(void *)at = true; break;
            case MSG_TYPE_UINT64:
            case MSG_TYPE_SINT64:
            case MSG_TYPE_FIXED64: memcpy(at, &v, sizeof(v)); break;
            case MSG_TYPE_FLOAT: memcpy(at, &(uint32_t){rng_u32(r) | 1}, 4); break;
            case MSG_TYPE_FIXED: random_bytes(r, at, f->size); break;
            case MSG_TYPE_BYTES: memcpy(at, &b, sizeof(b)); break;
            case MSG_TYPE_STRING: memcpy(at, "text \xc3\xa9", 8); break;
            case MSG_TYPE_MESSAGE: fill(f->sub, at, r); break;
            }
        }
    }
}

#define TABLE_OF(name, type) &msg_table_##name,
static const struct msg_table *const tables[] = {MSG_CODEC_MAP(TABLE_OF) & msg_table_wire};
#define N_TABLES (sizeof(tables) / sizeof(tables[0]))

static void encode_full(const struct msg_table *t, struct buf *out, struct rng *r)
{
    uint8_t *m = calloc(1, t->bytes);
    struct err e = {0};

    fill(t, m, r);
    assert_ok(msg_table_encode(t, out, m, &e), &e);
    free(m);
}

static void every_message_comes_back_as_it_was(void **state)
{
    (void)state;
    struct rng rng = random_seeded(1);
    struct buf once, twice;
    struct err e = {0};
    random_bytes(&rng, payload, sizeof(payload));
    buf_init(&once, 1 << 20);
    buf_init(&twice, 1 << 20);

    for (size_t i = 0; i < N_TABLES; i++) {
        uint8_t *m = calloc(1, tables[i]->bytes);
        buf_reset(&once);
        buf_reset(&twice);
        encode_full(tables[i], &once, &rng);

        assert_ok(msg_table_decode(tables[i], m, buf_bytes(&once), &e), &e);
        assert_ok(msg_table_encode(tables[i], &twice, m, &e), &e);

        assert_true(once.len > 0);
        assert_true(bytes_equal(buf_bytes(&once), buf_bytes(&twice)));
        free(m);
    }
    buf_clear(&once);
    buf_clear(&twice);
}

/* The heart of the canonical form: whatever bytes decode, encode to those same bytes. */
static void what_decodes_encodes_to_the_same_bytes(void **state)
{
    (void)state;
    struct rng rng = random_seeded(2);
    struct buf good, again;
    size_t n_accepted = 0;
    buf_init(&good, 1 << 20);
    buf_init(&again, 1 << 20);

    for (size_t i = 0; i < N_TABLES; i++) {
        uint8_t *m = calloc(1, tables[i]->bytes);
        buf_reset(&good);
        encode_full(tables[i], &good, &rng);
        for (int round = 0; round < 2000; round++) {
            size_t at = (size_t)rng_below(&rng, good.len);
            uint8_t old = good.data[at];
            good.data[at] = (uint8_t)rng_u32(&rng);
            if (msg_table_decode(tables[i], m, buf_bytes(&good), NULL) == OK) {
                n_accepted++;
                buf_reset(&again);
                assert_ok(msg_table_encode(tables[i], &again, m, NULL), NULL);
                assert_true(bytes_equal(buf_bytes(&good), buf_bytes(&again)));
            }
            good.data[at] = old;
        }
        free(m);
    }
    assert_true(n_accepted > 1000); /* changed payload is still a message */
    buf_clear(&good);
    buf_clear(&again);
}

static void a_message_cut_short_anywhere_is_refused_or_another(void **state)
{
    (void)state;
    struct rng rng = random_seeded(3);
    struct buf good, again;
    buf_init(&good, 1 << 20);
    buf_init(&again, 1 << 20);

    for (size_t i = 0; i < N_TABLES; i++) {
        uint8_t *m = calloc(1, tables[i]->bytes);
        buf_reset(&good);
        encode_full(tables[i], &good, &rng);
        for (size_t len = 0; len < good.len; len++) {
            /* a copy of its own, so that a read past its end is seen */
            uint8_t *cut = malloc(len ? len : 1);
            memcpy(cut, good.data, len);
            struct bytes in = {cut, len};
            if (msg_table_decode(tables[i], m, in, NULL) == OK) {
                buf_reset(&again);
                assert_ok(msg_table_encode(tables[i], &again, m, NULL), NULL);
                assert_true(bytes_equal(in, buf_bytes(&again)));
            }
            free(cut);
        }
        free(m);
    }
    buf_clear(&good);
    buf_clear(&again);
}

/* ---- vectors ----------------------------------------------------------------------------- */

struct vector {
    uint8_t b[1024];
    struct bytes bytes;
};

static struct vector unhex(const char *hex)
{
    struct vector v;

    v.bytes.len = strlen(hex) / 2;
    assert_true(v.bytes.len <= sizeof(v.b));
    assert_ok(hex_decode(v.b, v.bytes.len, hex, NULL), NULL);
    return v;
}

static void assert_encodes_to(const struct buf *b, const char *hex)
{
    struct vector v = unhex(hex);

    v.bytes.data = v.b;
    assert_true(bytes_equal(buf_bytes(b), v.bytes));
}

#define VECTOR_BEGIN(name, type, hex)                                                          \
    struct vector v = unhex(hex);                                                              \
    static struct type m;                                                                      \
    struct err e = {0};                                                                        \
    struct buf out;                                                                            \
    v.bytes.data = v.b;                                                                        \
    buf_init(&out, 4096);                                                                      \
    assert_ok(msg_##name##_decode(&m, v.bytes, &e), &e);                                       \
    assert_ok(msg_##name##_encode(&out, &m, &e), &e);                                          \
    assert_encodes_to(&out, hex);                                                              \
    buf_clear(&out)

static void lease_ask_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(lease_ask, msg_lease_ask, "080110d8041807");

    assert_int_equal(m.newest_version, -1);
    assert_int_equal(m.oldest_version, 300);
    assert_int_equal(m.max, 7);
}

static void beat_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(beat, msg_beat, "080a10808080808020180122100100000000000000ffffffffffffffff");

    assert_int_equal(m.head_version, 5);
    assert_int_equal(m.roster_seq, (uint64_t)1 << 40);
    assert_true(m.is_done);
    assert_int_equal(m.n_dropped, 2);
    assert_true(m.dropped[0] == 1 && m.dropped[1] == UINT64_MAX);
}

static void refused_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(refused, msg_refused, "0803120d6e6f74206b6e6f776e3a20c3a9");

    assert_int_equal(m.code, 3);
    assert_string_equal(m.text, "not known: \xc3\xa9");
}

static void roster_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(
        roster, msg_roster,
        "080212730a2001010101010101010101010101010101010101010101010101010101010101011220"
        "02020202020202020202020202020202020202020202020202020202020202021a20030303030303"
        "0303030303030303030303030303030303030303030303030303200432097463703a2f2f683a3112"
        "6a0a2004040404040404040404040404040404040404040404040404040404040404041220050505"
        "05050505050505050505050505050505050505050505050505050505051a20060606060606060606"
        "060606060606060606060606060606060606060606060620032801");

    assert_int_equal(m.n, 2);
    assert_int_equal(m.entry[0].transport.b[31], 2);
    assert_string_equal(m.entry[0].endpoint, "tcp://h:1");
    assert_false(m.entry[0].is_revoked);
    assert_true(m.entry[1].is_revoked);
    assert_int_equal(m.entry[1].role, ROLE_INFERENCE);
}

static void submit_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(
        submit, msg_submit,
        "080c1022180422200101010101010101010101010101010101010101010101010101010101010101"
        "2a20020202020202020202020202020202020202020202020202020202020202020232056633322d"
        "313a0407000000422003030303030303030303030303030303030303030303030303030303030303"
        "034a20040404040404040404040404040404040404040404040404040404040404040452160a0401"
        "0000001204000000bf1a0101250000003f2801520725000000802803");
    uint32_t bits;

    assert_int_equal(m.unit, 12);
    assert_int_equal(m.version, 2);
    assert_string_equal(m.numerics, "f32-1");
    assert_int_equal(m.n_samples, 2);
    assert_int_equal(m.opening.b[31], 4);
    assert_true(m.sample[0].reward == 0.5f);
    memcpy(&bits, &m.sample[1].reward, sizeof(bits));
    assert_int_equal(bits, 0x80000000); /* minus zero is not the default */
    assert_int_equal(m.sample[1].tokens.len, 0);
    /* lent, not copied */
    assert_true(m.prompt.data > v.b && m.prompt.data < v.b + sizeof(v.b));
}

static void opening_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(
        opening, msg_opening,
        "080c10221a8202050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505050505050505050505050505050505"
        "05050505050505050505050505050505050505050505050505222006060606060606060606060606"
        "06060606060606060606060606060606060606");

    assert_int_equal(m.lease, 34);
    assert_int_equal(m.proofs.len, 258);
    assert_int_equal(m.states.b[31], 6);
}

static void batch_is_googles(void **state)
{
    (void)state;
    VECTOR_BEGIN(
        batch, msg_batch,
        "0801122001010101010101010101010101010101010101010101010101010101010101011a036f6e"
        "651a0374776f");

    assert_int_equal(m.n, 2);
    assert_true(bytes_equal(m.envelope[1], BYTES_LIT("two")));
}

static void envelope_is_googles(void **state)
{
    (void)state;
    struct vector v =
        unhex("0801100a1a2001010101010101010101010101010101010101010101010101010101010101012a10"
              "0202020202020202020202020202020232021801");
    const struct idem idem = {{2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2}};
    struct msg_envelope m;
    struct err e = {0};
    struct buf out;
    v.bytes.data = v.b;
    buf_init(&out, 4096);

    assert_ok(msg_envelope_decode(&m, v.bytes, &e), &e);
    assert_ok(
        msg_envelope_encode(&out, MSG_LEASE_ASK, &m.run, &idem, BYTES_LIT("\x18\1"), NULL, &e),
        &e);

    assert_int_equal(m.kind, MSG_LEASE_ASK);
    assert_true(idem_equal(&m.idem, &idem));
    assert_true(bytes_equal(m.body, BYTES_LIT("\x18\1")));
    assert_true(m.raw.data == v.bytes.data && m.raw.len == v.bytes.len);
    assert_true(bytes_equal(buf_bytes(&out), v.bytes));
    buf_clear(&out);
}

/* ---- what is refused --------------------------------------------------------------------- */

static void assert_lease_ask_refused(const char *hex, const char *why)
{
    struct vector v = unhex(hex);
    struct msg_lease_ask m;
    struct err e = {0};

    v.bytes.data = v.b;
    assert_status(msg_lease_ask_decode(&m, v.bytes, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "lease_ask");
    assert_contains(e.text, why);
}

static void other_ways_to_write_a_message_are_refused(void **state)
{
    (void)state;
    struct vector v = unhex("08021004"
                            "1807");
    struct msg_lease_ask m;

    v.bytes.data = v.b;
    assert_ok(msg_lease_ask_decode(&m, v.bytes, NULL), NULL);
    assert_lease_ask_refused("080210041807"
                             "2001",
                             "unknown field 4");
    assert_lease_ask_refused("10040802"
                             "1807",
                             "out of order");
    assert_lease_ask_refused("080208021807", "twice");
    assert_lease_ask_refused("08001807", "default");
    assert_lease_ask_refused("1887"
                             "00",
                             "shortest form");               /* 7 in two bytes */
    assert_lease_ask_refused("8800021807", "shortest form"); /* tag 1 in two bytes */
    assert_lease_ask_refused("0d02000000"
                             "1807",
                             "wire type");
    assert_lease_ask_refused("18ffffffffff01", "32 bits");
    assert_lease_ask_refused("080218", "cut short");
    assert_lease_ask_refused("18ffffffffffffffffffff01", "too long a number");
    assert_lease_ask_refused("0802", "outside 1..32"); /* max is missing */
    assert_lease_ask_refused("1821", "outside 1..32");
    assert_lease_ask_refused("0803"
                             "1807",
                             "below -1"); /* version -2 */
}

static void an_array_with_too_many_elements_is_refused(void **state)
{
    (void)state;
    static struct msg_lease lease;
    static struct msg_beat beat;
    struct buf b;
    struct err e = {0};
    buf_init(&b, 4096);

    for (int i = 0; i < 33; i++)
        buf_append(&b, BYTES_LIT("\x0a\x02\x08\x01"));
    assert_status(msg_lease_decode(&lease, buf_bytes(&b), &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "too many");
    assert_ok(msg_lease_decode(&lease, (struct bytes){b.data, 32 * 4}, &e), &e);
    assert_int_equal(lease.n, 32);

    buf_reset(&b);
    buf_append(&b, BYTES_LIT("\x22\x88\x02")); /* 33 * 8 bytes */
    memset(buf_extend(&b, 264), 1, 264);
    assert_status(msg_beat_decode(&beat, buf_bytes(&b), &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "too many");
    buf_clear(&b);
}

static void texts_that_a_terminal_would_obey_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x12\x01\x1b",             /* escape */
        "\x12\x02\x61\n",           /* new line */
        "\x12\x01\x7f",             /* delete */
        "\x12\x02\xc2\x9b",         /* the C1 control that starts a sequence */
        "\x12\x01\xff",             /* no UTF-8 */
        "\x12\x02\xc0\xaf",         /* overlong */
        "\x12\x03\xe0\x80\xaf",     /* overlong */
        "\x12\x03\xed\xa0\x80",     /* a surrogate */
        "\x12\x04\xf4\x90\x80\x80", /* past the last character */
        "\x12\x02\xe2\x82",         /* cut short */
    };
    struct msg_refused m;
    struct err e = {0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bytes in = {(const uint8_t *)bad[i], (size_t)bad[i][1] + 2};
        assert_status(msg_refused_decode(&m, in, &e), ERR_MALFORMED, &e);
        assert_contains(e.text, "printable");
    }
    assert_status(msg_refused_decode(&m,
                                     BYTES_LIT("\x12\x03"
                                               "a\0b"),
                                     &e),
                  ERR_MALFORMED, &e);
    assert_contains(e.text, "NUL");
}

static void a_text_as_long_as_its_array_is_refused(void **state)
{
    (void)state;
    struct msg_refused m;
    struct buf b;
    buf_init(&b, 4096);
    buf_append(&b, BYTES_LIT("\x12\x80\x02")); /* 256 */
    memset(buf_extend(&b, 256), 'x', 256);

    assert_status(msg_refused_decode(&m, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    b.data[1] = 0xff, b.data[2] = 0x01; /* 255 */
    assert_ok(msg_refused_decode(&m, (struct bytes){b.data, 3 + 255}, NULL), NULL);

    assert_int_equal(strlen(m.text), 255);
    buf_clear(&b);
}

static void a_text_of_ours_is_made_printable(void **state)
{
    (void)state;
    struct msg_refused m = {.code = 1, .text = "line\n\x1b[1m \xc3\xa9 \xc3"}, back;
    struct buf b;
    buf_init(&b, 4096);

    assert_ok(msg_refused_encode(&b, &m, NULL), NULL);
    assert_ok(msg_refused_decode(&back, buf_bytes(&b), NULL), NULL);

    assert_string_equal(back.text, "line??[1m \xc3\xa9 ?");
    buf_clear(&b);
}

static void a_struct_that_breaks_a_rule_is_not_encoded(void **state)
{
    (void)state;
    struct msg_lease_ask ask = {.max = 33};
    static struct msg_heartbeat beat;
    struct buf b;
    struct err e = {0};
    buf_init(&b, 4096);
    buf_put_u8(&b, 9);

    assert_status(msg_lease_ask_encode(&b, &ask, &e), ERR_INVALID, &e);
    assert_int_equal(e.code, ERR_INVALID);
    beat.n = MSG_MAX_LEASES + 1;
    assert_status(msg_heartbeat_encode(&b, &beat, &e), ERR_INVALID, &e);
    assert_contains(e.text, "item");

    assert_int_equal(b.len, 1);
    buf_clear(&b);
}

static void a_message_that_does_not_fit_leaves_the_buf_as_it_was(void **state)
{
    (void)state;
    const struct msg_bundle m = {.data = {payload, 100}};
    struct err e = {0};
    struct buf b;
    buf_init(&b, 50);
    buf_put_u8(&b, 9);

    assert_status(msg_bundle_encode(&b, &m, &e), ERR_LIMIT, &e);

    assert_int_equal(b.len, 1);
    buf_clear(&b);
}

/* ---- envelopes --------------------------------------------------------------------------- */

struct signed_one {
    struct buf b;
    struct public_key pub;
};

static struct signed_one make_signed(enum msg_kind kind)
{
    const uint8_t seed[32] = {5};
    const struct digest run = {{1}};
    const struct idem idem = {{2}};
    struct secret_key secret;
    struct signed_one s;
    struct err e = {0};

    sign_keys_of_seed(&s.pub, &secret, seed);
    buf_init(&s.b, 4096);
    assert_ok(msg_envelope_encode(&s.b, kind, &run, &idem, BYTES_LIT("body"), &secret, &e), &e);
    return s;
}

static void a_signed_envelope_verifies(void **state)
{
    (void)state;
    struct signed_one s = make_signed(MSG_SUBMIT);
    struct msg_envelope m;
    struct err e = {0};

    assert_ok(msg_envelope_decode(&m, buf_bytes(&s.b), &e), &e);

    assert_ok(msg_envelope_verify(&m, &e), &e);
    assert_true(key_equal(&m.signer, &s.pub));
    buf_clear(&s.b);
}

static void a_shard_begun_and_followed_by_its_bytes_is_the_envelope_of_it(void **state)
{
    static const size_t lengths[] = {0, 1, 127, 128, 16000, SHARD_BYTES};
    const struct digest run = {{7}};
    struct msg_shard m = {.version = 300, .kind = 2, .base = 5, .index = 70000};
    struct buf data, body, whole, parts;
    (void)state;
    buf_init(&data, SHARD_BYTES);
    buf_init(&body, MSG_MAX_BYTES);
    buf_init(&whole, MSG_MAX_BYTES);
    buf_init(&parts, MSG_MAX_BYTES);

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        buf_reset(&data), buf_reset(&body), buf_reset(&whole), buf_reset(&parts);
        memset(buf_extend(&data, lengths[i]), 9, lengths[i]);
        m.data = buf_bytes(&data);
        assert_ok(msg_shard_encode(&body, &m, NULL), NULL);
        assert_ok(
            msg_envelope_encode(&whole, MSG_SHARD, &run, NULL, buf_bytes(&body), NULL, NULL),
            NULL);

        msg_shard_begin(&parts, &run, &m, lengths[i]);
        buf_append(&parts, buf_bytes(&data));

        assert_true(bytes_equal(buf_bytes(&parts), buf_bytes(&whole)));
    }
    buf_clear(&data), buf_clear(&body), buf_clear(&whole), buf_clear(&parts);
}

static void no_bit_of_a_signed_envelope_can_be_changed(void **state)
{
    (void)state;
    struct signed_one s = make_signed(MSG_SUBMIT);
    struct msg_envelope m;

    for (size_t bit = 0; bit < 8 * s.b.len; bit++) {
        s.b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (msg_envelope_decode(&m, buf_bytes(&s.b), NULL) == OK)
            assert_status(msg_envelope_verify(&m, NULL), ERR_DIGEST, NULL);
        s.b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_clear(&s.b);
}

static void a_signature_of_one_kind_is_none_of_another(void **state)
{
    (void)state;
    struct signed_one s = make_signed(MSG_SUBMIT);
    struct msg_envelope m;

    s.b.data[3] = MSG_VERDICT; /* 08 01 10 kind */
    assert_ok(msg_envelope_decode(&m, buf_bytes(&s.b), NULL), NULL);

    assert_int_equal(m.kind, MSG_VERDICT);
    assert_status(msg_envelope_verify(&m, NULL), ERR_DIGEST, NULL);
    buf_clear(&s.b);
}

static void the_signature_is_over_the_documented_bytes(void **state)
{
    (void)state;
    struct signed_one s = make_signed(MSG_VERDICT);
    struct msg_envelope m;
    struct buf b;
    buf_init(&b, 4096);
    assert_ok(msg_envelope_decode(&m, buf_bytes(&s.b), NULL), NULL);

    buf_append(&b, BYTES_OF(m.run.b));
    buf_append(&b, BYTES_OF(m.signer.b));
    buf_append(&b, BYTES_OF(m.idem.b));
    buf_append(&b, BYTES_LIT("body"));

    assert_ok(sign_check(&m.sig, "muster/1/VERDICT", buf_bytes(&b), &s.pub, NULL), NULL);
    buf_clear(&b);
    buf_clear(&s.b);
}

static void a_signed_kind_without_signature_is_refused(void **state)
{
    (void)state;
    struct vector v = unhex("0801100f"); /* SUBMIT */
    struct msg_envelope m;
    struct buf b;
    struct err e = {0};
    v.bytes.data = v.b;
    buf_init(&b, 4096);

    assert_status(msg_envelope_decode(&m, v.bytes, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "SUBMIT without a signature");
    assert_status(msg_envelope_encode(&b, MSG_SUBMIT, NULL, NULL, BYTES_LIT("x"), NULL, &e),
                  ERR_INVALID, &e);
    buf_clear(&b);
}

static void an_unsigned_kind_with_a_signature_is_refused(void **state)
{
    (void)state;
    struct signed_one s = make_signed(MSG_SUBMIT);
    struct msg_envelope m;
    struct err e = {0};

    s.b.data[3] = MSG_LEASE_ASK;

    assert_status(msg_envelope_decode(&m, buf_bytes(&s.b), &e), ERR_MALFORMED, &e);
    buf_clear(&s.b);
}

static void another_protocol_version_is_told_from_rubbish(void **state)
{
    (void)state;
    /* protocol 2, a field we do not know, and an idempotency key where ours is */
    struct vector v = unhex("0802fa7f01782a1007070707070707070707070707070707");
    const uint8_t none[] = {0x10, 0x04};
    struct msg_envelope m;
    struct err e = {0};
    v.bytes.data = v.b;

    assert_status(msg_envelope_decode(&m, v.bytes, &e), ERR_UNSUPPORTED, &e);
    assert_contains(e.text, "version 2");
    assert_int_equal(m.idem.b[0], 7);
    assert_int_equal(m.idem.b[15], 7);
    v.bytes.len--;
    assert_status(msg_envelope_decode(&m, v.bytes, &e), ERR_UNSUPPORTED, &e);
    assert_int_equal(m.idem.b[0], 0);
    assert_status(msg_envelope_decode(&m, BYTES_OF(none), &e), ERR_MALFORMED, &e);
    assert_status(msg_envelope_decode(&m, (struct bytes){NULL, 0}, &e), ERR_MALFORMED, &e);
}

static void an_unknown_kind_is_refused(void **state)
{
    (void)state;
    const uint8_t in[] = {0x08, 0x01, 0x10, 0x7f};
    struct msg_envelope m;
    struct err e = {0};

    assert_status(msg_envelope_decode(&m, BYTES_OF(in), &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "127");
}

static void names_and_reasons_have_their_texts(void **state)
{
    (void)state;

    assert_string_equal(msg_kind_name(MSG_SUBMIT), "SUBMIT");
    assert_null(msg_kind_name((enum msg_kind)99));
    assert_true(msg_kind_is_signed(MSG_PUBLISH));
    assert_false(msg_kind_is_signed(MSG_SHARD));
    assert_string_equal(role_name(ROLE_VERIFIER), "verifier");
    assert_int_equal(role_parse("verifier"), ROLE_VERIFIER);
    assert_int_equal(role_parse("none"), ROLE_NONE);
    assert_int_equal(role_parse("Verifier"), ROLE_NONE);
    assert_string_equal(reason_name(REASON_TOKEN), "TOKEN");
    assert_true(reason_is_hard(REASON_TOKEN));
    assert_false(reason_is_hard(REASON_STALE));
    assert_string_equal(reason_text((enum reason)1000), "unknown reason");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back_as_it_was),
        cmocka_unit_test(what_decodes_encodes_to_the_same_bytes),
        cmocka_unit_test(a_message_cut_short_anywhere_is_refused_or_another),
        cmocka_unit_test(lease_ask_is_googles),
        cmocka_unit_test(beat_is_googles),
        cmocka_unit_test(refused_is_googles),
        cmocka_unit_test(roster_is_googles),
        cmocka_unit_test(submit_is_googles),
        cmocka_unit_test(opening_is_googles),
        cmocka_unit_test(batch_is_googles),
        cmocka_unit_test(envelope_is_googles),
        cmocka_unit_test(other_ways_to_write_a_message_are_refused),
        cmocka_unit_test(an_array_with_too_many_elements_is_refused),
        cmocka_unit_test(texts_that_a_terminal_would_obey_are_refused),
        cmocka_unit_test(a_text_as_long_as_its_array_is_refused),
        cmocka_unit_test(a_text_of_ours_is_made_printable),
        cmocka_unit_test(a_struct_that_breaks_a_rule_is_not_encoded),
        cmocka_unit_test(a_message_that_does_not_fit_leaves_the_buf_as_it_was),
        cmocka_unit_test(a_signed_envelope_verifies),
        cmocka_unit_test(a_shard_begun_and_followed_by_its_bytes_is_the_envelope_of_it),
        cmocka_unit_test(no_bit_of_a_signed_envelope_can_be_changed),
        cmocka_unit_test(a_signature_of_one_kind_is_none_of_another),
        cmocka_unit_test(the_signature_is_over_the_documented_bytes),
        cmocka_unit_test(a_signed_kind_without_signature_is_refused),
        cmocka_unit_test(an_unsigned_kind_with_a_signature_is_refused),
        cmocka_unit_test(another_protocol_version_is_told_from_rubbish),
        cmocka_unit_test(an_unknown_kind_is_refused),
        cmocka_unit_test(names_and_reasons_have_their_texts),
    };

    return cmocka_run_group_tests_name("proto/msg", tests, NULL, NULL);
}
