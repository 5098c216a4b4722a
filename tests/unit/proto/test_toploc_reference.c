/*
 * proto/toploc, against the reference implementation: proofs it made and what it found in them and
 * in ours, and the inputs it does not survive, from tests/reference/toploc_proofs.py. Activations
 * come from a formula, which that script has too.
 */
#include "proto/toploc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "support/test.h"

#define VECTORS MUSTER_SOURCE_DIR "/tests/vectors/toploc.json"
#define EVERY   32u

/* murmur3's finaliser over seed and index. */
static uint32_t mixed(uint64_t seed, uint64_t i)
{
    uint32_t h = (uint32_t)(i * 0x9e3779b1u + seed);

    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

struct vector {
    const json_t *json;
    size_t rows, width;
    uint32_t k;
    uint64_t seed;
    bool is_ties, is_f32;
    uint16_t *values; /* owned, (rows, width) */
};

static uint64_t number(const json_t *o, const char *key)
{
    assert_true(json_is_integer(json_object_get(o, key)));
    return (uint64_t)json_integer_value(json_object_get(o, key));
}

/* Large ones are rare, as among hidden states; of kind f32 they lie between two of bf16. */
static uint16_t value_of(const struct vector *x, uint32_t h)
{
    uint32_t low = (h >> 8 & 0xffff) | 0x10000, zeros = 0, pattern;

    while (!(low >> zeros & 1))
        zeros++;
    pattern = (h >> 7 & 1) << 15 | (0x74 + zeros) << 7 | (h & (x->is_ties ? 1 : 127));
    if (x->is_f32) {
        uint32_t bits = pattern << 16 | h >> 16;
        float wide;
        memcpy(&wide, &bits, sizeof(wide));
        return toploc_bf16(wide);
    }
    return (uint16_t)pattern;
}

static void vector_init(struct vector *x, const json_t *o)
{
    const char *kind = json_string_value(json_object_get(o, "kind"));

    *x = (struct vector){.json = o,
                         .rows = number(o, "rows"),
                         .width = number(o, "width"),
                         .k = (uint32_t)number(o, "k"),
                         .seed = number(o, "seed"),
                         .is_ties = !strcmp(kind, "ties"),
                         .is_f32 = !strcmp(kind, "f32")};
    x->values = xcalloc(x->rows * x->width, sizeof(*x->values));
    for (size_t i = 0; i < x->rows * x->width; i++)
        x->values[i] = value_of(x, mixed(x->seed, i));
}

/* As another machine would have them: some mantissas one off, and some exponents. */
static void vector_alter(struct vector *x)
{
    for (size_t i = 0; i < x->rows * x->width; i++) {
        uint32_t h = mixed(x->seed, i);

        x->values[i] ^= (h >> 24 & 3) == 0;
        x->values[i] ^= (uint16_t)((h % 97 == 0) << 7);
    }
}

static struct toploc_rows chunk_of(const struct vector *x, size_t chunk)
{
    size_t from = chunk * EVERY, left = x->rows - from;

    assert_true(from < x->rows);
    return (struct toploc_rows){x->values + from * x->width, left < EVERY ? left : EVERY,
                                x->width};
}

static size_t proof_of(uint8_t *proof, const json_t *list, size_t chunk)
{
    const char *hex = json_string_value(json_array_get(list, chunk));

    assert_non_null(hex);
    assert_ok(hex_decode(proof, TOPLOC_PROOF_BYTES, hex, NULL), NULL);
    return TOPLOC_PROOF_BYTES;
}

static json_t *load(const char *key)
{
    json_error_t why;
    json_t *all = json_load_file(VECTORS, 0, &why), *list;

    assert_non_null(all);
    list = json_incref(json_object_get(all, key));
    json_decref(all);
    assert_true(json_array_size(list) > 0);
    return list;
}

static void assert_figures(const struct toploc_result *r, const json_t *want)
{
    assert_int_equal(r->exp_mismatches, json_integer_value(json_array_get(want, 0)));
    /* The reference adds the same small integers in binary64 and divides: exact, then rounded. */
    assert_true(r->mant_err_mean == json_number_value(json_array_get(want, 1)));
    assert_true(r->mant_err_median == json_number_value(json_array_get(want, 2)));
}

/* Their proofs are made again to the byte, verify by our rule, and give their figures by theirs. */
static void their_proofs_verify_here(void **state)
{
    (void)state;
    json_t *cases = load("cases"), *o;
    uint32_t n_small_modulus = 0;
    size_t at;

    json_array_foreach(cases, at, o)
    {
        const json_t *theirs = json_object_get(o, "theirs");
        const json_t *altered = json_object_get(o, "theirs_on_altered");
        struct vector x;

        vector_init(&x, o);
        assert_int_equal(json_array_size(theirs), (x.rows + EVERY - 1) / EVERY);
        for (size_t c = 0; c < json_array_size(theirs); c++) {
            struct toploc_rows own = chunk_of(&x, c);
            uint8_t proof[TOPLOC_PROOF_BYTES], made[TOPLOC_PROOF_BYTES];
            struct toploc_result r;
            struct bytes p = {proof, proof_of(proof, theirs, c)};

            assert_ok(
                toploc_prove(made, own.values, own.rows, own.dim, x.k, TOPLOC_TIE_HEAP, NULL),
                NULL);
            assert_memory_equal(made, proof, sizeof(made));
            assert_ok(toploc_verify(&r, p, &own, x.k, TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
                      NULL);
            assert_true(toploc_passes(&r, &toploc_bf16_thresholds));
            n_small_modulus += (proof[0] << 8 | proof[1]) < 65497;
        }
        vector_alter(&x);
        for (size_t c = 0; c < json_array_size(theirs); c++) {
            struct toploc_rows own = chunk_of(&x, c);
            uint8_t proof[TOPLOC_PROOF_BYTES];
            struct toploc_result r;
            struct bytes p = {proof, proof_of(proof, theirs, c)};

            assert_ok(toploc_verify(&r, p, &own, x.k, TOPLOC_TIE_HEAP, TOPLOC_COMPAT, NULL),
                      NULL);
            assert_figures(&r, json_array_get(altered, c));
        }
        free(x.values);
    }
    assert_true(n_small_modulus >= 2);
    json_decref(cases);
}

/* Those of `muster toploc prove` are made here to the byte, and the reference accepted them. */
static void our_proofs_verified_there(void **state)
{
    (void)state;
    json_t *cases = load("cases"), *o;
    size_t at;

    json_array_foreach(cases, at, o)
    {
        const json_t *ours = json_object_get(o, "ours");
        const json_t *found = json_object_get(o, "ours_by_reference");
        struct vector x;

        vector_init(&x, o);
        for (size_t c = 0; c < json_array_size(ours); c++) {
            struct toploc_rows own = chunk_of(&x, c);
            uint8_t proof[TOPLOC_PROOF_BYTES], made[TOPLOC_PROOF_BYTES];
            const json_t *r = json_array_get(found, c);
            const struct toploc_result there = {
                .exp_mismatches = (uint32_t)json_integer_value(json_array_get(r, 0)),
                .mant_err_mean = json_number_value(json_array_get(r, 1)),
                .mant_err_median = json_number_value(json_array_get(r, 2))};

            proof_of(proof, ours, c);
            assert_ok(
                toploc_prove(made, own.values, own.rows, own.dim, x.k, TOPLOC_TIE_LOWEST, NULL),
                NULL);
            assert_memory_equal(made, proof, sizeof(made));
            assert_true(toploc_passes(&there, &toploc_bf16_thresholds));
        }
        free(x.values);
    }
    json_decref(cases);
}

/* What is said of each harmful proof of 4 rows of 16 with k = 4; NULL: it is "no proof". */
static const struct {
    const char *name, *says;
} answers[] = {
    {"null", NULL},
    {"modulus_zero", "modulus 0"},
    {"no_coefficients", "2 bytes"},
    {"one_byte", "1 bytes"},
    {"nothing", "0 bytes"},
    {"odd_length", "11 bytes"},
    {"one_coefficient", "1 coefficients"},
    {"too_long", "12 bytes"},
    {"modulus_of_width", "modulus 16"},
    {"modulus_one", "modulus 1 "},
    {"constant", "3 zero coefficients"},
    {"coefficient_past_prime", "coefficient 0 is 65535"},
};

static void what_crashes_the_reference_is_named_here(void **state)
{
    (void)state;
    json_t *list = load("harmful"), *o;
    uint16_t rows[64];
    uint32_t n_fatal = 0, n_answered = 0;
    size_t at;

    for (int i = 0; i < 64; i++)
        rows[i] = toploc_bf16((float)(i + 1));
    json_array_foreach(list, at, o)
    {
        const char *name = json_string_value(json_object_get(o, "name"));
        const char *hex = json_string_value(json_object_get(o, "proof"));
        const char *there = json_string_value(json_object_get(o, "reference"));

        n_fatal += !strncmp(there, "signal", 6);
        for (size_t i = 0; hex && i < sizeof(answers) / sizeof(answers[0]); i++) {
            const struct toploc_rows own = {rows, 4, 16};
            uint8_t proof[16];
            struct toploc_result r;
            struct err e;

            if (strcmp(answers[i].name, name) != 0)
                continue;
            n_answered++;
            assert_ok(hex_decode(proof, strlen(hex) / 2, hex, NULL), NULL);
            enum status st = toploc_verify(&r, (struct bytes){proof, strlen(hex) / 2}, &own, 4,
                                           TOPLOC_TIE_LOWEST, TOPLOC_STRICT, &e);
            if (!answers[i].says) {
                assert_ok(st, &e);
                assert_true(r.is_null);
                assert_false(toploc_passes(&r, &toploc_bf16_thresholds));
            } else {
                assert_status(st, ERR_MALFORMED, &e);
                assert_contains(e.text, answers[i].says);
            }
        }
    }
    assert_int_equal(n_answered, sizeof(answers) / sizeof(answers[0]));
    assert_true(n_fatal >= 3); /* the list holds what it says it does */
    json_decref(list);
}

/* Three values are fewer than k: the reference dies of them, a proof of three points is right. */
static void fewer_values_than_k_are_proved(void **state)
{
    (void)state;
    const uint16_t rows[3] = {0x3f80, 0x4000, 0xc040};
    uint8_t proof[10];
    struct toploc_result r;

    assert_ok(toploc_prove(proof, rows, 1, 3, 4, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_ok(toploc_verify(&r, (struct bytes){proof, 10}, &(struct toploc_rows){rows, 1, 3}, 4,
                            TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
              NULL);
    assert_int_equal(r.exp_mismatches, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(their_proofs_verify_here),
        cmocka_unit_test(our_proofs_verified_there),
        cmocka_unit_test(what_crashes_the_reference_is_named_here),
        cmocka_unit_test(fewer_values_than_k_are_proved),
    };
    return cmocka_run_group_tests_name("proto/toploc, the reference", tests, NULL, NULL);
}
