/*
 * muster shardcast status: which weight versions and shards are in a node's directory
 *
 * Reads the store of a running or a stopped node, without asking either.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "proto/digest.h"
#include "shardcast/cast_state.h"
#include "shardcast/shard_store.h"

#define ROWS_MAX 4096u

struct row {
    int64_t version;
    char weights[DIGEST_HEX_BYTES];
    char signer[DIGEST_HEX_BYTES];
    uint64_t bytes, n_shards, n_here;
    bool is_pinned, is_good;
};

struct report {
    struct shard_store *store;
    struct row *row; /* owned */
    size_t n;
    bool as_json, is_deep;
};

/* Whether a shard is here, and with --check whether it still hashes to its name. */
static bool is_here(const struct report *r, const struct digest *d)
{
    struct shard_view v;
    bool good;

    if (shard_view_open(&v, r->store, d, NULL))
        return false;
    good = !r->is_deep || !shard_view_check(&v, d, NULL);
    shard_view_close(&v);
    return good;
}

static enum status add_row(void *arg, int64_t version, struct bytes envelope, struct err *e)
{
    struct report *r = arg;
    struct msg_envelope env;
    struct msg_manifest m;
    struct row row = {.version = version};

    if (r->n == ROWS_MAX)
        return err_set(e, ERR_LIMIT, "more than %u versions", ROWS_MAX);
    row.is_good = !cast_manifest_check(envelope, NULL, NULL, &env, &m, NULL);
    if (row.is_good) {
        digest_to_hex(row.weights, &m.weights);
        hex_encode(row.signer, BYTES_OF(env.signer.b));
        row.bytes = m.file_bytes;
        row.n_shards = m.shards.len / DIGEST_BYTES;
        for (size_t i = 0; i < row.n_shards; i++)
            row.n_here += is_here(r, (const struct digest *)(m.shards.data + i * DIGEST_BYTES));
    }
    r->row[r->n++] = row;
    return OK;
}

static void mark_pin(void *arg, int64_t version)
{
    struct report *r = arg;

    for (size_t i = 0; i < r->n; i++)
        if (r->row[i].version == version)
            r->row[i].is_pinned = true;
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    return (x->version > y->version) - (x->version < y->version);
}

static void print_row(const struct report *r, const struct row *w)
{
    const char *state = !w->is_good                ? "spoilt"
                        : w->n_here == w->n_shards ? "complete"
                                                   : "partial";

    if (r->as_json)
        printf("{\"version\": %" PRId64 ", \"state\": \"%s\", \"shards\": %" PRIu64
               ", \"here\": %" PRIu64 ", \"bytes\": %" PRIu64
               ", \"pinned\": %s, \"weights\": \"%s\", \"signer\": \"%s\"}\n",
               w->version, state, w->n_shards, w->n_here, w->bytes,
               w->is_pinned ? "true" : "false", w->weights, w->signer);
    else
        printf("version %-6" PRId64 " %-9s %" PRIu64 "/%" PRIu64 " shards  %" PRIu64
               " bytes%s  weights %.16s  signed by %.16s\n",
               w->version, state, w->n_here, w->n_shards, w->bytes,
               w->is_pinned ? "  pinned" : "", w->weights, w->signer);
}

static enum status print_all(struct report *r, struct err *e)
{
    uint64_t shards, manifests, proofs;
    enum status st = shard_store_each(r->store, add_row, r, e);

    if (!st)
        st = shard_store_pins(r->store, mark_pin, r, e);
    if (!st)
        st = shard_store_counts(r->store, &shards, &manifests, &proofs, e);
    if (st)
        return st;
    qsort(r->row, r->n, sizeof(*r->row), compare_rows);
    for (size_t i = 0; i < r->n; i++)
        print_row(r, &r->row[i]);
    if (r->as_json)
        printf("{\"versions\": %zu, \"shards\": %" PRIu64 ", \"proofs\": %" PRIu64 "}\n", r->n,
               shards, proofs);
    else
        printf("%zu versions, %" PRIu64 " shards, %" PRIu64 " proofs of equivocation\n", r->n,
               shards, proofs);
    return OK;
}

int cmd_shardcast(int argc, char **argv)
{
    struct report r = {0};
    const char *operand[1];
    char *dir = NULL;
    struct opt table[] = {
        {"dir", OPT_STRING, &dir, NULL, NULL, "directory of a node", false},
        {"check", OPT_FLAG, &r.is_deep, "false", NULL, "hash every shard again", false},
        {"json", OPT_FLAG, &r.as_json, "false", NULL, "one JSON object a line", false},
    };
    struct usage u = {
        .line = "muster shardcast status --dir DIR [--check] [--json]",
        .about = "Which weight versions a node has, whole or in part.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1,
    };
    struct shard_store_options so = {.read_only = true};
    struct err e;
    int status;

    if (argc > 1 && argv[1][0] != '-' && strcmp(argv[1], "status") != 0)
        return usage_complain(u.line, "'shardcast %s' is not a command", argv[1]);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && (u.n_operands != 1 || strcmp(operand[0], "status") != 0))
        status = usage_complain(u.line, "shardcast what?");
    if (status == USAGE_RUN) {
        r.row = xcalloc(ROWS_MAX, sizeof(*r.row));
        enum status st = shard_store_open(&r.store, dir, &so, &e);
        if (!st)
            st = print_all(&r, &e);
        status = st ? usage_fail(e.text) : 0;
    }
    shard_store_close(&r.store);
    free(r.row);
    opt_clear(table, u.n);
    return status;
}
