/*
 * muster toploc prove / verify: TOPLOC proofs over raw activation files
 *
 * FILE holds rows of --dim little-endian values and nothing else; every --every rows make a chunk,
 * the last of which may be shorter, and every chunk has one proof.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "proto/toploc.h"

#define PROVE_LINE  "muster toploc prove [options] FILE"
#define VERIFY_LINE "muster toploc verify [options] FILE PROOFS_FILE"

#define PROOFS_FILE_MAX ((size_t)1 << 30)

struct toploc_args {
    int64_t dim, k, every;
    char *tie, *dtype; /* owned by the table of options */
    bool is_compat, as_json;
};

/* A file of activations, a chunk at a time. */
struct chunks {
    struct file_map map;
    const struct toploc_args *args;
    size_t rows, next_row;
    size_t value_bytes;
    uint16_t *values; /* owned; of one chunk, bf16 */
};

static enum toploc_tie tie_of(const struct toploc_args *a)
{
    return strcmp(a->tie, "torch-cpu") == 0 ? TOPLOC_TIE_HEAP : TOPLOC_TIE_LOWEST;
}

static enum status chunks_open(struct chunks *c, const char *path, const struct toploc_args *a,
                               struct err *e)
{
    size_t row_bytes;
    enum status st;

    *c = (struct chunks){.args = a, .value_bytes = strcmp(a->dtype, "f32") == 0 ? 4 : 2};
    st = file_map_open(&c->map, path, e);
    if (st)
        return st;
    row_bytes = (size_t)a->dim * c->value_bytes;
    if (c->map.bytes.len == 0 || c->map.bytes.len % row_bytes != 0)
        return err_set(e, ERR_MALFORMED, "'%s' has %zu bytes, which are no rows of %zu", path,
                       c->map.bytes.len, row_bytes);
    c->rows = c->map.bytes.len / row_bytes;
    return alloc_array(&c->values, (size_t)a->dim * (size_t)a->every, sizeof(*c->values),
                       "chunk of rows", e);
}

static void chunks_close(struct chunks *c)
{
    free(c->values);
    file_map_close(&c->map);
}

/* How many rows the next chunk has, 0 at the end; its values are in c->values. */
static size_t chunks_next(struct chunks *c)
{
    size_t left = c->rows - c->next_row;
    size_t rows = left < (size_t)c->args->every ? left : (size_t)c->args->every;
    size_t n = rows * (size_t)c->args->dim;
    size_t from = c->next_row * (size_t)c->args->dim * c->value_bytes;
    struct reader r = reader_of(bytes_slice(c->map.bytes, from, n * c->value_bytes));

    for (size_t i = 0; i < n; i++)
        c->values[i] = c->value_bytes == 4 ? toploc_bf16(reader_f32(&r)) : reader_u16(&r);
    c->next_row += rows;
    return rows;
}

static enum status prove(const char *path, const struct toploc_args *a, struct err *e)
{
    size_t proof_bytes = toploc_proof_bytes((uint32_t)a->k);
    size_t text_bytes = sodium_base64_ENCODED_LEN(proof_bytes, sodium_base64_VARIANT_ORIGINAL);
    uint8_t *proof = xmalloc(proof_bytes);
    char *text = xmalloc(text_bytes);
    struct chunks c;
    enum status st;
    size_t rows;

    st = chunks_open(&c, path, a, e);
    for (size_t i = 0; !st && (rows = chunks_next(&c)) > 0; i++) {
        st = toploc_prove(proof, c.values, rows, (size_t)a->dim, (uint32_t)a->k, tie_of(a), e);
        if (st) {
            st = err_prefix(e, st, "chunk %zu", i);
            break;
        }
        sodium_bin2base64(text, text_bytes, proof, proof_bytes, sodium_base64_VARIANT_ORIGINAL);
        if (a->as_json)
            printf("{\"chunk\": %zu, \"rows\": %zu, \"proof\": \"%s\"}\n", i, rows, text);
        else
            printf("%s\n", text);
    }
    chunks_close(&c);
    free(proof);
    free(text);
    return st;
}

/* The next line of `rest` as a proof; *rest moves past it. ERR_NOT_FOUND at the end. */
static enum status next_proof(uint8_t *proof, size_t cap, size_t *len, struct bytes *rest,
                              struct err *e)
{
    const char *line = (const char *)rest->data;
    size_t n = 0;

    if (rest->len == 0)
        return ERR_NOT_FOUND;
    while (n < rest->len && line[n] != '\n')
        n++;
    *rest = bytes_slice(*rest, n < rest->len ? n + 1 : n, rest->len - n - (n < rest->len));
    if (n > 0 && line[n - 1] == '\r')
        n--;
    if (sodium_base642bin(proof, cap, line, n, NULL, len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return err_set(e, ERR_MALFORMED, "not the base64 of a proof of %zu bytes", cap);
    return OK;
}

static void print_result(size_t chunk, const struct toploc_result *r, bool ok, bool as_json)
{
    if (as_json)
        printf("{\"chunk\": %zu, \"exp_mismatches\": %u, \"mant_err_mean\": %.10g, "
               "\"mant_err_median\": %.10g, \"ok\": %s}\n",
               chunk, r->exp_mismatches, r->mant_err_mean, r->mant_err_median,
               ok ? "true" : "false");
    else
        printf("%u %.10g %.10g\n", r->exp_mismatches, r->mant_err_mean, r->mant_err_median);
}

/* Prints a line for each chunk; *all_ok says whether all are within the thresholds. */
static enum status verify(const char *path, struct bytes proofs, const struct toploc_args *a,
                          bool *all_ok, struct err *e)
{
    const struct toploc_thresholds *limits =
        strcmp(a->dtype, "f32") == 0 ? &toploc_f32_thresholds : &toploc_bf16_thresholds;
    size_t cap = toploc_proof_bytes((uint32_t)a->k);
    uint8_t *proof = xmalloc(cap);
    struct toploc_result r;
    struct chunks c;
    size_t rows, len = 0, i = 0;
    enum status st;

    *all_ok = true;
    st = chunks_open(&c, path, a, e);
    for (; !st && (rows = chunks_next(&c)) > 0; i++) {
        bool ok;
        st = next_proof(proof, cap, &len, &proofs, e);
        if (st == ERR_NOT_FOUND)
            st = err_set(e, ERR_MALFORMED, "there is no proof for it");
        if (!st)
            st = toploc_verify(&r, (struct bytes){proof, len},
                               &(struct toploc_rows){c.values, rows, (size_t)a->dim},
                               (uint32_t)a->k, tie_of(a),
                               a->is_compat ? TOPLOC_COMPAT : TOPLOC_STRICT, e);
        if (st) {
            st = err_prefix(e, st, "chunk %zu", i);
            break;
        }
        ok = toploc_passes(&r, limits);
        print_result(i, &r, ok, a->as_json);
        *all_ok = *all_ok && ok;
    }
    if (!st && proofs.len > 0)
        st = err_set(e, ERR_MALFORMED, "there are more proofs than the %zu chunks of '%s'", i,
                     path);
    chunks_close(&c);
    free(proof);
    return st;
}

static int run_prove(const char *const *operand, const struct toploc_args *a)
{
    struct err e;

    return prove(operand[0], a, &e) ? usage_fail(e.text) : 0;
}

static int run_verify(const char *const *operand, const struct toploc_args *a)
{
    struct buf proofs;
    bool all_ok = false;
    struct err e;
    enum status st;

    buf_init(&proofs, PROOFS_FILE_MAX);
    st = file_read(&proofs, operand[1], &e);
    if (!st)
        st = verify(operand[0], buf_bytes(&proofs), a, &all_ok, &e);
    buf_clear(&proofs);
    if (st)
        return usage_fail(e.text);
    return all_ok ? 0 : 1;
}

/* prove and verify take the same options but for --compat, which comes last in the table. */
static int run(int argc, char **argv, bool is_verify)
{
    struct toploc_args a = {0};
    const char *operand[2];
    struct opt table[] = {
        {"dim", OPT_INT, &a.dim, NULL, "1..1048576", "values in a row", false},
        {"k", OPT_INT, &a.k, "128", "1..4096", "values that a proof commits to", false},
        {"every", OPT_INT, &a.every, "32", "1..65536", "rows to a proof", false},
        {"tie", OPT_CHOICE, &a.tie, "lowest", "lowest|torch-cpu",
         "which of equal magnitudes are taken", false},
        {"dtype", OPT_CHOICE, &a.dtype, "bf16", "bf16|f32",
         "of the file; f32 is rounded to bf16 first", false},
        {"json", OPT_FLAG, &a.as_json, "false", NULL, "one JSON object a line", false},
        {"compat", OPT_FLAG, &a.is_compat, "false", NULL,
         "accept what the reference implementation accepts", false},
    };
    struct usage u = {
        .line = is_verify ? VERIFY_LINE : PROVE_LINE,
        .about = is_verify
                     ? "Compares proofs (one in base64 a line) with one's own rows of\n"
                       "activations. Prints exponent mismatches, and the mean and the median\n"
                       "error of the mantissas of each chunk. Exit status 0: all are within\n"
                       "the thresholds (bf16: 38, 10, 8; f32: 8, 256, 128)."
                     : "Prints one proof in base64 for each chunk of rows.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]) - (is_verify ? 0 : 1),
        .operand = operand,
        .max_operands = is_verify ? 2 : 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && u.n_operands != u.max_operands)
        status = usage_complain(u.line, "toploc %s needs %s", argv[0],
                                is_verify ? "a file of rows and a file of proofs"
                                          : "a file of rows");
    if (status == USAGE_RUN)
        status = is_verify ? run_verify(operand, &a) : run_prove(operand, &a);
    opt_clear(table, u.n);
    return status;
}

int cmd_toploc(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "prove") == 0)
        return run(argc - 1, argv + 1, false);
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return run(argc - 1, argv + 1, true);
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: " PROVE_LINE "\n       " VERIFY_LINE
               "\n\nTOPLOC proofs over raw activation files.\n");
        return 0;
    }
    fprintf(stderr, "muster: toploc needs 'prove' or 'verify'\nusage: " PROVE_LINE
                    " | " VERIFY_LINE "\n");
    return 2;
}
