/*
 * muster shardcast status: which contents are in a node's directory, what moves, and why it waits
 *
 * What is on disk is read from the store, of a running or a stopped node, without asking either.
 * What moves is in DIR/shardcast.json, which a running node writes each second.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "proto/digest.h"
#include "shardcast/cast_state.h"
#include "shardcast/content_store.h"

#define JSON_MAX ((size_t)1 << 20)

struct report {
    struct content_store *store;
    uint64_t n_contents, n_shards;
    bool as_json, is_deep;
    int64_t *pin; /* owned */
    size_t n_pins;
};

struct row {
    const char *state;
    char text[CONTENT_TEXT_BYTES], weights[DIGEST_HEX_BYTES], signer[DIGEST_HEX_BYTES];
    bool is_pinned;
};

static bool is_pinned(const struct report *r, const struct content *c)
{
    for (size_t i = 0; i < r->n_pins; i++)
        if (c->kind == CONTENT_FULL && r->pin[i] == c->version)
            return true;
    return false;
}

/* Whether each shard that is here still is what was published. */
static bool is_sound(struct report *r, const struct content_info *info)
{
    struct buf shard;
    bool is_good = true;

    buf_init(&shard, SHARD_BYTES);
    for (uint32_t i = 0; is_good && i < info->n_shards; i++) {
        buf_reset(&shard);
        is_good = !content_store_has(r->store, &info->content, i) ||
                  !content_store_get(r->store, &info->content, i, &shard, NULL);
    }
    buf_clear(&shard);
    return is_good;
}

static void fill_row(struct report *r, struct row *w, const struct content_info *info)
{
    struct msg_envelope env;
    struct msg_manifest m;
    struct buf envelope;

    memset(w, 0, sizeof(*w));
    content_text(w->text, &info->content);
    w->is_pinned = is_pinned(r, &info->content);
    w->state = info->is_complete ? "complete" : "partial";
    buf_init(&envelope, MSG_MAX_BYTES);
    if (!content_store_envelope(r->store, &info->content, &envelope, NULL)) {
        if (cast_manifest_check(buf_bytes(&envelope), NULL, NULL, &env, &m, NULL)) {
            w->state = "spoilt";
        } else {
            digest_to_hex(w->weights, &m.weights);
            hex_encode(w->signer, BYTES_OF(env.signer.b));
        }
    }
    if (r->is_deep && !is_sound(r, info))
        w->state = "spoilt";
    buf_clear(&envelope);
}

static enum status print_row(void *arg, const struct content_info *info, struct err *e)
{
    struct report *r = arg;
    const struct content *c = &info->content;
    struct row w;

    (void)e;
    fill_row(r, &w, info);
    r->n_contents++;
    r->n_shards += info->n_have;
    if (r->as_json)
        printf("{\"version\": %" PRId64 ", \"kind\": %u, \"base\": %" PRId64
               ", \"state\": \"%s\", \"shards\": %u, \"here\": %u, \"shard_bytes\": %u, "
               "\"bytes\": %" PRIu64
               ", \"pinned\": %s, \"own\": %s, \"weights\": \"%s\", \"signer\": \"%s\"}\n",
               c->version, c->kind, c->base, w.state, info->n_shards, info->n_have,
               info->shard_bytes, info->total_bytes, w.is_pinned ? "true" : "false",
               info->is_own ? "true" : "false", w.weights, w.signer);
    else
        printf("version %-16s %-9s %u/%u shards  %" PRIu64
               " bytes%s  weights %.16s  signed by %.16s\n",
               w.text, w.state, info->n_have, info->n_shards, info->total_bytes,
               w.is_pinned ? "  pinned" : "", w.weights, w.signer);
    return OK;
}

static void add_pin(void *arg, int64_t version)
{
    struct report *r = arg;

    r->pin = xrealloc(r->pin, (r->n_pins + 1) * sizeof(*r->pin));
    r->pin[r->n_pins++] = version;
}

static enum status print_all(struct report *r, struct err *e)
{
    uint64_t proofs;
    enum status st = content_store_pins(r->store, add_pin, r, e);

    if (!st)
        st = content_store_each(r->store, print_row, r, e);
    if (!st)
        st = content_store_n_proofs(r->store, &proofs, e);
    if (st)
        return st;
    if (r->as_json)
        printf("{\"contents\": %" PRIu64 ", \"shards\": %" PRIu64 ", \"proofs\": %" PRIu64
               "}\n",
               r->n_contents, r->n_shards, proofs);
    else
        printf("%" PRIu64 " contents, %" PRIu64 " shards, %" PRIu64 " proofs of equivocation\n",
               r->n_contents, r->n_shards, proofs);
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
        .about = "Which contents a node has, whole or in part, what it fetches from whom, and "
                 "why it waits.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1,
    };
    struct content_store_options so = {.read_only = true};
    struct err e;
    int status;

    if (argc > 1 && argv[1][0] != '-' && strcmp(argv[1], "status") != 0)
        return usage_complain(u.line, "'shardcast %s' is not a command", argv[1]);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && (u.n_operands != 1 || strcmp(operand[0], "status") != 0))
        status = usage_complain(u.line, "shardcast what?");
    if (status == USAGE_RUN) {
        enum status st = content_store_open(&r.store, dir, &so, &e);
        if (!st)
            st = print_all(&r, &e);
        status = st ? usage_fail(e.text) : 0;
    }
    content_store_close(&r.store);
    free(r.pin);
    opt_clear(table, u.n);
    return status;
}
