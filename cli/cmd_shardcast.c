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
#include "cli/json_view.h"
#include "cli/usage.h"
#include "proto/digest.h"
#include "shardcast/cast_state.h"
#include "shardcast/content_check.h"
#include "shardcast/content_store.h"

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

static bool check_shard(void *arg, const struct content *c, uint32_t index, struct bytes data)
{
    const struct report *r = arg;

    return content_check_by_segment(r->store, c, index, data);
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

/* ---- of a running node ------------------------------------------------------------------- */

static const char *yes(const json_t *o, const char *key, const char *word)
{
    return json_is_true(json_object_get(o, key)) ? word : "";
}

static void print_waiting(const json_t *c)
{
    const char *why = json_view_text(c, "waits");

    if (json_is_true(json_object_get(c, "complete")))
        return;
    printf("fetching version %lld %s: %lld of %lld shards, %lld asked%s%s\n",
           json_view_int(c, "version"), json_view_text(c, "kind"), json_view_int(c, "have"),
           json_view_int(c, "shards"), json_view_int(c, "asked"), why[0] ? "; waits: " : "",
           why);
}

static const json_t *find_peer(const json_t *peers, const char *transport)
{
    for (size_t i = 0; i < json_array_size(peers); i++) {
        const json_t *p = json_array_get(peers, i);
        if (!strcmp(json_view_text(p, "transport"), transport))
            return p;
    }
    return NULL;
}

/* One link of the overlay, and what moves over it. */
static void print_link(const json_t *l, const json_t *peers)
{
    const char *transport = json_view_text(l, "transport"), *state = json_view_text(l, "state");
    const json_t *p = find_peer(peers, transport);
    bool is_up = !strcmp(state, "up"), is_chosen = json_is_true(json_object_get(l, "chosen"));

    printf("peer %.16s  %s %s%s%s", transport, is_chosen ? "chosen" : "dialled us",
           yes(l, "seed", "seed "), is_up ? "" : state, is_up ? "" : " ");
    if (p)
        printf("%s%s%s%s asked %lld  wants %lld  %.1f KB/s  rtt %lld ms",
               yes(p, "trainer", "trainer "), yes(p, "banned", "banned "),
               yes(p, "choking", "serves others "), yes(p, "choked", "not served "),
               json_view_int(p, "asked"), json_view_int(p, "wanted"),
               (double)json_view_int(p, "bytes_s") / 1e3, json_view_int(p, "rtt_ms"));
    printf("\n");
}

static void print_links(const json_t *overlay, const json_t *peers)
{
    const json_t *list = json_object_get(overlay, "links");

    for (size_t i = 0; i < json_array_size(list); i++)
        print_link(json_array_get(list, i), peers);
    printf(
        "%lld nodes in the roster; %lld peers dialled, of which %lld did not answer or had no "
        "place; %lld neighbours lost\n",
        json_view_int(overlay, "roster"), json_view_int(overlay, "dialled"),
        json_view_int(overlay, "failed"), json_view_int(overlay, "lost"));
}

static void print_live(const json_t *live)
{
    const json_t *o = json_object_get(live, "cast");
    const json_t *list = json_object_get(o, "versions");

    for (size_t i = 0; i < json_array_size(list); i++)
        print_waiting(json_array_get(list, i));
    print_links(json_object_get(live, "overlay"), json_object_get(o, "peers"));
    printf("%s%s; in %.1f MB, out %.1f MB, %lld repeats, %lld timeouts, %lld spoilt\n",
           json_is_true(json_object_get(o, "fresh")) ? "the trainer is heard"
                                                     : "the trainer is not heard",
           yes(o, "stopped", ", it equivocates: stopped"),
           (double)json_view_int(o, "bytes_in") / 1e6,
           (double)json_view_int(o, "bytes_out") / 1e6, json_view_int(o, "repeats"),
           json_view_int(o, "timeouts"), json_view_int(o, "garbage"));
}

/* A directory is locked while a process works in it. */
static bool is_running(const char *dir)
{
    char *path = file_join(dir, "lock");
    struct err e;
    int fd = -1;
    bool is = file_exists(path) && file_lock(&fd, path, dir, &e) == ERR_EXISTS;

    file_unlock(&fd);
    free(path);
    return is;
}

static enum status print_moving(const struct report *r, const char *dir, struct err *e)
{
    char *path = file_join(dir, "shardcast.json");
    json_t *o = NULL;
    enum status st = OK;

    if (is_running(dir) && file_exists(path))
        st = json_view_load(&o, path, e);
    if (o && r->as_json)
        json_view_print(o);
    else if (o)
        print_live(o);
    json_decref(o);
    free(path);
    return st;
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
        .about = "Which contents a node has, whole or in part, who its neighbours are, what it "
                 "fetches from\nwhom, and why it waits.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1,
    };
    const struct content_store_options so = {
        .read_only = true, .check = check_shard, .arg = &r};
    struct err e;
    int status;

    if (argc > 1 && argv[1][0] != '-' && strcmp(argv[1], "status") != 0)
        return usage_complain(u.line, "'shardcast %s' is not a command", argv[1]);
    status = usage_parse(&u, argc, argv);
    if (status == USAGE_RUN && (u.n_operands != 1 || strcmp(operand[0], "status") != 0))
        status = usage_complain(u.line, "shardcast what?");
    if (status == USAGE_RUN) {
        enum status st = content_store_open(&r.store, dir, &so, &e);
        if (st == ERR_NOT_FOUND)
            st = err_prefix(&e, st,
                            "'%s' is not the directory of a node that has weights "
                            "(of 'muster up' these are DIR/relay-1, DIR/inference-1 ...)",
                            dir);
        if (!st)
            st = print_all(&r, &e);
        if (!st)
            st = print_moving(&r, dir, &e);
        status = st ? usage_fail(e.text) : 0;
    }
    content_store_close(&r.store);
    free(r.pin);
    opt_clear(table, u.n);
    return status;
}
