/*
 * proto/toploc, against the proof that the reference implementation's own test suite holds: torch
 * seed 69, 32 rows of 1024, k = 128. The files are not part of the source tree; the test looks
 * for them in $MUSTER_SHARED and beside the tree, and is skipped where they are not.
 */
#include "proto/toploc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/file.h"
#include "support/test.h"

#define ROWS 32
#define DIM  1024

static struct buf rows, golden;

static bool load(struct buf *out, const char *name)
{
    const char *dirs[] = {getenv("MUSTER_SHARED"), "../shared", "../../shared",
                          MUSTER_SOURCE_DIR "/../shared"};
    char path[1024];

    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        if (!dirs[i])
            continue;
        (void)snprintf(path, sizeof(path), "%s/vectors/toploc/%s", dirs[i], name);
        buf_init(out, 1 << 20);
        if (file_read(out, path, NULL) == OK)
            return true;
        buf_clear(out);
    }
    return false;
}

static uint16_t values[ROWS * DIM];

static void read_values(void)
{
    struct reader r = reader_of(buf_bytes(&rows));

    assert_int_equal(rows.len, sizeof(values));
    for (size_t i = 0; i < ROWS * DIM; i++)
        values[i] = reader_u16(&r);
}

static void the_heap_rule_gives_the_golden_proof(void **state)
{
    (void)state;
    uint8_t proof[TOPLOC_PROOF_BYTES];
    read_values();

    assert_ok(toploc_prove(proof, values, ROWS, DIM, TOPLOC_K, TOPLOC_TIE_HEAP, NULL), NULL);

    assert_int_equal(golden.len, sizeof(proof));
    assert_memory_equal(proof, golden.data, sizeof(proof));
}

/* 11 values share the last magnitude and 9 are taken; the two rules differ in one of them. */
static void the_lowest_index_rule_differs_in_one_place(void **state)
{
    (void)state;
    uint8_t proof[TOPLOC_PROOF_BYTES];
    struct toploc_result r;
    read_values();

    assert_ok(toploc_prove(proof, values, ROWS, DIM, TOPLOC_K, TOPLOC_TIE_LOWEST, NULL), NULL);
    assert_memory_not_equal(proof, golden.data, sizeof(proof));
    assert_ok(toploc_verify(&r, buf_bytes(&golden), &(struct toploc_rows){values, ROWS, DIM},
                            TOPLOC_K, TOPLOC_TIE_LOWEST, TOPLOC_STRICT, NULL),
              NULL);

    assert_int_equal(r.exp_mismatches, 1);
    assert_true(r.mant_err_mean == 0 && r.mant_err_median == 0);
    assert_true(toploc_passes(&r, &toploc_bf16_thresholds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_heap_rule_gives_the_golden_proof),
        cmocka_unit_test(the_lowest_index_rule_differs_in_one_place),
    };
    int rc;

    if (!load(&rows, "seed69_32x1024.bf16le") || !load(&golden, "seed69.proof")) {
        printf("vectors/toploc is neither in $MUSTER_SHARED nor in ../shared\n");
        return 77;
    }
    rc = cmocka_run_group_tests_name("proto/toploc_shared", tests, NULL, NULL);
    buf_clear(&rows);
    buf_clear(&golden);
    return rc;
}
