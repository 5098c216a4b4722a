/*
 * muster keys new / show / certify: the keys of a node
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/usage.h"
#include "node/key.h"

#define NEW_LINE     "muster keys new DIR"
#define SHOW_LINE    "muster keys show DIR [--json]"
#define CERTIFY_LINE "muster keys certify OWNER_DIR NODE_DIR --role ROLE"

#define HEX_BYTES (2 * KEY_BYTES + 1)

/* What the subcommands are told. */
struct keys_args {
    const char *operand[2];
    char *role; /* owned by the table of options */
    bool as_json;
};

/* DIR, or DIR/keys if it is a node's; the caller's to free. */
static char *keys_dir(const char *dir)
{
    char *below = file_join(dir, "keys"), *file = file_join(below, "node.key");
    bool is_node = file_exists(file);

    free(file);
    if (is_node)
        return below;
    free(below);
    return xstrdup(dir);
}

static enum status show(const char *dir, bool as_json, struct err *e)
{
    char node[HEX_BYTES], transport[HEX_BYTES], owner[HEX_BYTES];
    struct node_key *k = NULL;
    const char *cold;
    char *keys = keys_dir(dir);
    enum status st = key_load(&k, keys, e);

    free(keys);
    if (st)
        return st;
    hex_encode(node, BYTES_OF(k->node.b));
    hex_encode(transport, BYTES_OF(k->transport.b));
    hex_encode(owner, BYTES_OF(k->owner.b));
    cold = k->owner_secret ? "here" : "elsewhere";
    if (as_json)
        printf("{\"node\": \"%s\", \"transport\": \"%s\", \"owner\": \"%s\", "
               "\"owner_secret\": \"%s\"}\n",
               node, transport, owner, cold);
    else
        printf("node      %s\ntransport %s\nowner     %s (secret %s)\n", node, transport, owner,
               cold);
    key_free(&k);
    return OK;
}

static enum status make(const char *dir, bool as_json, struct err *e)
{
    enum status st = key_create(dir, e);

    return st ? st : show(dir, as_json, e);
}

static enum status certify(const struct keys_args *a, struct err *e)
{
    char *of = keys_dir(a->operand[0]), *node = keys_dir(a->operand[1]);
    struct node_key *owner = NULL;
    enum status st = key_load(&owner, of, e);

    if (!st)
        st = key_write_cert(node, owner, role_parse(a->role), e);
    free(of);
    free(node);
    key_free(&owner);
    return st;
}

enum keys_word { KEYS_NEW, KEYS_SHOW, KEYS_CERTIFY };

static enum status obey(enum keys_word word, const struct keys_args *a, struct err *e)
{
    switch (word) {
    case KEYS_NEW: return make(a->operand[0], a->as_json, e);
    case KEYS_SHOW: return show(a->operand[0], a->as_json, e);
    default: return certify(a, e);
    }
}

static int run(enum keys_word word, int argc, char **argv)
{
    static const char *const lines[] = {NEW_LINE, SHOW_LINE, CERTIFY_LINE};
    static const char *const abouts[] = {
        "Makes three keys in DIR: the owner's (which receives the pay), the node's (which\n"
        "signs) and the transport's (which encrypts). Existing keys are never replaced.",
        "Shows the public halves of the keys in DIR, or of the node whose directory DIR is.",
        "Signs the node keys in NODE_DIR with the owner's key of OWNER_DIR and writes\n"
        "NODE_DIR/owner.cert: that owner is paid, and its secret need not be on the node.\n"
        "Before a node joins:\n"
        "\n"
        "  muster keys new worker/keys\n"
        "  muster keys certify my-keys worker/keys --role inference\n"
        "  muster join LINK --dir worker",
    };
    struct keys_args a = {0};
    struct opt json[] = {
        {"json", OPT_FLAG, &a.as_json, "false", NULL, "print one JSON object", false},
    };
    struct opt role[] = {
        {"role", OPT_CHOICE, &a.role, NULL, "trainer|inference|verifier|relay|initiator",
         "what the certificate allows", false},
    };
    struct usage u = {
        .line = lines[word],
        .about = abouts[word],
        .table = word == KEYS_CERTIFY ? role : json,
        .n = 1,
        .operand = a.operand,
        .max_operands = word == KEYS_CERTIFY ? 2 : 1,
    };
    struct err e;
    int status = usage_parse(&u, argc, argv);

    if (status == USAGE_RUN && u.n_operands != u.max_operands)
        status = usage_complain(u.line, "keys %s needs %s", argv[0],
                                word == KEYS_CERTIFY ? "two directories" : "a directory");
    if (status == USAGE_RUN)
        status = obey(word, &a, &e) ? usage_fail(e.text) : 0;
    opt_clear(u.table, u.n);
    return status;
}

int cmd_keys(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "new") == 0)
        return run(KEYS_NEW, argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "show") == 0)
        return run(KEYS_SHOW, argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "certify") == 0)
        return run(KEYS_CERTIFY, argc - 1, argv + 1);
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        printf("usage: " NEW_LINE "\n       " SHOW_LINE "\n       " CERTIFY_LINE
               "\n\nThe keys by which a node signs, encrypts and is paid.\n");
        return 0;
    }
    fprintf(stderr, "muster: keys needs 'new', 'show' or 'certify'\nusage: " NEW_LINE
                    " | " SHOW_LINE " | " CERTIFY_LINE "\n");
    return 2;
}
