/*
 * cli/cmd_ledger.c - muster ledger show / audit / dispute: anybody's look into a ledger directory
 *
 * They only read, and work on the directory of an orchestrator that runs or was killed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/db.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/judge.h"
#include "cli/look.h"
#include "cli/usage.h"
#include "ledger/audit.h"
#include "ledger/log.h"
#include "ledger/show.h"
#include "ledger/tables.h"
#include "proto/digest.h"
#include "proto/transcript.h"

#define LINE_MAX_BYTES ((size_t)16 << 20)
#define MAP_BYTES      (64ull << 30)

#define SHOW_LINE    "muster ledger show DIR [options]"
#define AUDIT_LINE   "muster ledger audit DIR [--witness HEADFILE...] [options]"
#define DISPUTE_LINE "muster ledger dispute DIR N FILE"

/* ---- show ------------------------------------------------------------------------------------ */

struct show {
    bool is_json;
    enum ledger_type type; /* LEDGER_NONE: any */
    bool has_unit, has_account;
    uint64_t unit;
    struct account account;
    union ledger_body *body; /* owned */
    struct buf line;
};

static bool touches(const struct ledger_entry *en, const struct account *a)
{
    for (uint32_t i = 0; i < en->n_postings; i++)
        if (account_equal(&en->posting[i].account, a))
            return true;
    return false;
}

static enum status show_entry(void *arg, struct bytes key, struct bytes value, struct err *e)
{
    struct show *s = arg;
    struct ledger_entry en;
    struct digest hash;
    enum status st = ledger_entry_decode(&en, value, e);

    (void)key;
    if (st || (s->type && en.type != s->type) || (s->has_account && !touches(&en, &s->account)))
        return st;
    if (s->has_unit) {
        st = ledger_body_decode(s->body, en.type, en.body, e);
        if (st || !ledger_body_has_unit(en.type, s->body, s->unit))
            return st;
    }
    ledger_entry_hash(&hash, value);
    buf_reset(&s->line);
    st = ledger_show(&s->line, &en, &hash, s->is_json, e);
    if (!st && puts(buf_cstr(&s->line)) == EOF)
        st = err_set(e, ERR_IO, "cannot write to standard output: %s", strerror(errno));
    return st;
}

static enum status show_all(struct show *s, const char *dir, struct err *e)
{
    const struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                                   .version = LEDGER_DB_VERSION,
                                   .tables = ledger_tables,
                                   .map_bytes = MAP_BYTES,
                                   .read_only = true};
    struct db *db = NULL;
    struct db_txn *txn = NULL;
    enum status st = db_open(&db, dir, &opt, e);

    if (!st)
        st = db_begin(&txn, db, false, e);
    if (!st)
        st = db_each(txn, LEDGER_TABLE_ENTRIES, (struct bytes){NULL, 0}, show_entry, s, e);
    db_abort(&txn);
    db_close(&db);
    return st;
}

static int cmd_show(int argc, char **argv)
{
    struct show s = {.type = LEDGER_NONE};
    char *type = NULL, *account = NULL, *dir;
    const char *operand[1];
    int64_t unit;
    struct err e;
    struct opt table[] = {
        {"json", OPT_FLAG, &s.is_json, "false", NULL, "one JSON object a line", false},
        {"type", OPT_STRING, &type, "", NULL, "only entries of this type, like LEASE", false},
        {"unit", OPT_INT, &unit, "-1", "-1..", "only entries about this unit", false},
        {"account", OPT_STRING, &account, "", NULL,
         "only entries that move money of this account, like burn or stake:HEX", false},
    };
    struct usage u = {
        .line = SHOW_LINE,
        .about = "Prints the entries of the ledger in DIR, one a line.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1,
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        goto out;
    s.has_unit = unit >= 0;
    s.unit = (uint64_t)unit;
    s.has_account = account[0] != '\0';
    s.type = type[0] ? ledger_type_parse(type) : LEDGER_NONE;
    if (u.n_operands != 1)
        status = usage_complain(u.line, "which directory?");
    else if (type[0] && !s.type)
        status = usage_complain(u.line, "'%s' is no type of entry", type);
    else if (s.has_account && account_parse(&s.account, account, &e))
        status = usage_complain(u.line, "%s", e.text);
    else
        status = 0;
    if (status)
        goto out;
    dir = look_find_ledger(operand[0]);
    if (!dir)
        dir = xstrdup(operand[0]); /* whose opening says what is missing */
    s.body = xcalloc(1, sizeof(*s.body));
    buf_init(&s.line, LINE_MAX_BYTES);
    if (show_all(&s, dir, &e))
        status = usage_fail(e.text);
    buf_clear(&s.line);
    free(s.body);
    free(dir);
out:
    opt_clear(table, u.n);
    return status;
}

/* ---- audit ----------------------------------------------------------------------------------- */

/* X(name, field): figures in the order in which they are printed. */
/* clang-format 14 finds no fixed point for this list. */
/* clang-format off */
#define FIGURE_MAP(X)                                                                         \
    X(entries, n_entries) X(blobs, n_blobs) X(signatures_checked, n_signatures)               \
    X(units, n_units) X(units_accepted, n_accepted) X(units_given_up, n_given_up)             \
    X(units_drawn, n_drawn) X(units_drawn_full, n_drawn_full)                                 \
    X(versions_drawn, n_steps_drawn) X(versions_recomputed, n_steps_recomputed)           \
    X(disputes, n_disputes) X(disputes_replayed, n_replayed)                                  \
    X(heads_witnessed, n_witnessed) X(verdicts_contradicted, n_contradicted) X(ucr_deposited, deposited) X(ucr_avail, avail) X(ucr_stake, stake)                       \
    X(ucr_pending, pending) X(ucr_escrow, escrow) X(ucr_reserved, reserved)                   \
    X(ucr_jackpot, jackpot) X(ucr_bonds, bonds) X(ucr_burnt, burnt) X(ucr_paid_workers, paid_workers)             \
    X(ucr_paid_validators, paid_validators) X(ucr_paid_trainer, paid_trainer)                 \
    X(ucr_refunded, refunded) X(ucr_slashed, slashed)
/* clang-format on */

struct figure {
    const char *name;
    int64_t value;
};

static const char *result_name(enum audit_result r)
{
    return r == AUDIT_CLEAN ? "clean" : r == AUDIT_VIOLATION ? "violation" : "unreadable";
}

/* In quotes; what JSON or a terminal cannot take becomes '?'. */
static void print_quoted(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text < 0x20 || *text > 0x7e ? '?' : *text);
    }
    putchar('"');
}

static void print_json(const struct audit_report *r, const struct figure *f, size_t n)
{
    char hex[DIGEST_HEX_BYTES];

    printf("{\"result\": \"%s\", \"bad_seq\": ", result_name(r->result));
    if (r->has_bad_seq)
        printf("%" PRIu64, r->bad_seq);
    else
        printf("null");
    printf(", \"why\": ");
    print_quoted(r->why);
    digest_to_hex(hex, &r->run);
    printf(", \"run\": \"%s\"", hex);
    digest_to_hex(hex, &r->head);
    printf(", \"head\": \"%s\"", hex);
    for (size_t i = 0; i < n; i++)
        printf(", \"%s\": %" PRId64, f[i].name, f[i].value);
    printf(", \"entries_by_type\": {");
    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++)
        printf("%s\"%s\": %" PRIu64, t > LEDGER_NONE + 1 ? ", " : "",
               ledger_type_name((enum ledger_type)t), r->n_of_type[t]);
    printf("}}\n");
}

static void print_text(const struct audit_report *r, const struct figure *f, size_t n)
{
    char hex[DIGEST_HEX_BYTES];

    digest_to_hex(hex, &r->run);
    printf("%-20s %s\n", "run", hex);
    digest_to_hex(hex, &r->head);
    printf("%-20s %s\n", "head", hex);
    for (size_t i = 0; i < n; i++)
        printf("%-20s %" PRId64 "\n", f[i].name, f[i].value);
    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++)
        if (r->n_of_type[t])
            printf("  %-18s %" PRIu64 "\n", ledger_type_name((enum ledger_type)t),
                   r->n_of_type[t]);
    printf("%s%s%s\n", result_name(r->result), r->why[0] ? ": " : "", r->why);
}

#define HEAD_FILES_MAX 64u
#define HEAD_FILE_MAX  ((size_t)1 << 30)

/* Audits `dir`, with the heads in the files. */
static enum status audit_files(struct audit_report *r, const char *dir, const char **path,
                               size_t n, struct err *e)
{
    struct buf content[HEAD_FILES_MAX];
    struct bytes file[HEAD_FILES_MAX];
    enum status st = OK;

    for (size_t i = 0; i < n; i++)
        buf_init(&content[i], HEAD_FILE_MAX);
    for (size_t i = 0; i < n && !st; i++) {
        st = file_read(&content[i], path[i], e);
        file[i] = buf_bytes(&content[i]);
    }
    const struct audit_options o = {.file = file, .n_files = n, .judge = judge_dispute};
    if (!st)
        audit_run_with(r, dir, &o);
    for (size_t i = 0; i < n; i++)
        buf_clear(&content[i]);
    return st;
}

static int cmd_audit(int argc, char **argv)
{
    struct audit_report r;
    bool is_json = false, has_heads = false;
    const char *operand[1 + HEAD_FILES_MAX];
    char *dir;
    struct err e;
    struct opt table[] = {
        {"witness", OPT_FLAG, &has_heads, "false", NULL,
         "after DIR come files of heads that validators keep (heads.witness)", false},
        {"json", OPT_FLAG, &is_json, "false", NULL, "one JSON object", false},
    };
    struct usage u = {
        .line = AUDIT_LINE,
        .about = "Recomputes the ledger in DIR from its entries, offline, trusting nobody.\n"
                 "Exit status: 0 clean, 1 a rule is broken, 2 it cannot be read.",
        .table = table,
        .n = sizeof(table) / sizeof(table[0]),
        .operand = operand,
        .max_operands = 1 + HEAD_FILES_MAX,
    };
    int status = usage_parse(&u, argc, argv);

    if (status != USAGE_RUN)
        return status;
    if (u.n_operands < 1 || (u.n_operands > 1 && !has_heads))
        return usage_complain(u.line, "which directory?");
    if (has_heads && u.n_operands < 2)
        return usage_complain(u.line, "which files of heads?");
    dir = look_find_ledger(operand[0]);
    if (!dir)
        dir = xstrdup(operand[0]); /* whose opening says what is missing */
    status = audit_files(&r, dir, operand + 1, (size_t)u.n_operands - 1, &e) ? AUDIT_UNREADABLE
                                                                             : AUDIT_CLEAN;
    free(dir);
    if (status) {
        usage_fail(e.text);
        return status;
    }
#define FIGURE(name, field) {#name, (int64_t)r.field},
    const struct figure figure[] = {FIGURE_MAP(FIGURE)};
#undef FIGURE
    if (r.result == AUDIT_UNREADABLE)
        usage_fail(r.why);
    else if (!is_json)
        print_text(&r, figure, sizeof(figure) / sizeof(figure[0]));
    if (is_json)
        print_json(&r, figure, sizeof(figure) / sizeof(figure[0]));
    return (int)r.result;
}

/* ---- dispute --------------------------------------------------------------------------------- */

static enum status read_value(struct db_txn *t, unsigned table, struct bytes key,
                              struct buf *out, struct err *e)
{
    struct bytes value;
    enum status st = db_get(t, table, key, &value, e);

    if (st)
        return st == ERR_NOT_FOUND ? err_set(e, ERR_CORRUPT, "a blob is missing") : st;
    buf_append(out, value);
    return buf_status(out, e);
}

static enum status read_blob(void *ctx, const struct digest *digest, struct buf *out,
                             struct err *e)
{
    return read_value(ctx, LEDGER_TABLE_BLOBS, BYTES_OF(digest->b), out, e);
}

static enum status read_entry(void *ctx, uint64_t seq, struct buf *out, struct err *e)
{
    struct db_key8 key = db_key_u64(seq);

    return read_value(ctx, LEDGER_TABLE_ENTRIES, BYTES_OF(key.b), out, e);
}

static enum status write_dispute(struct ledger_log *log, struct db_txn *t, uint64_t number,
                                 const char *path, struct err *e)
{
    const struct ledger_books *books = ledger_log_books(log);
    const struct ledger_source src = {t, read_blob, read_entry};
    struct buf out;
    enum status st;

    if (!number || number > ledger_books_n_disputes(books))
        return err_set(e, ERR_NOT_FOUND, "there is no dispute %" PRIu64 ": the ledger has %zu",
                       number, ledger_books_n_disputes(books));
    buf_init(&out, TRANSCRIPT_MAX_BYTES);
    st = ledger_transcript(&out, books, ledger_books_dispute_at(books, number - 1), &src, e);
    if (!st)
        st = file_write_atomic(path, buf_bytes(&out), 0644, e);
    buf_clear(&out);
    return st;
}

static enum status export_dispute(const char *dir, uint64_t number, const char *path,
                                  struct err *e)
{
    const struct db_options opt = {.magic = LEDGER_DB_MAGIC,
                                   .version = LEDGER_DB_VERSION,
                                   .tables = ledger_tables,
                                   .map_bytes = MAP_BYTES,
                                   .read_only = true};
    struct ledger_log *log = NULL;
    struct db *db = NULL;
    struct db_txn *t = NULL;
    enum status st = db_open(&db, dir, &opt, e);

    ledger_log_new(&log);
    if (!st)
        st = db_begin(&t, db, false, e);
    if (!st)
        st = ledger_log_load(log, t, NULL, NULL, e);
    if (!st)
        st = write_dispute(log, t, number, path, e);
    ledger_log_free(&log);
    db_abort(&t);
    db_close(&db);
    return st;
}

static int cmd_dispute(int argc, char **argv)
{
    const char *operand[3];
    struct usage u = {
        .line = DISPUTE_LINE,
        .about =
            "Writes dispute N (from 1) of the ledger in DIR, with all that it stands on, as a\n"
            "file that 'muster verify' replays.",
        .operand = operand,
        .max_operands = 3,
    };
    int status = usage_parse(&u, argc, argv);
    struct err e;
    char *dir, *end;
    uint64_t number;

    if (status != USAGE_RUN)
        return status;
    if (u.n_operands != 3)
        return usage_complain(u.line, "which directory, which dispute, which file?");
    errno = 0;
    number = strtoull(operand[1], &end, 10);
    if (*operand[1] < '0' || *operand[1] > '9' || *end || errno)
        return usage_complain(u.line, "'%s' is no number", operand[1]);
    if (file_exists(operand[2]))
        return usage_complain(u.line, "'%s' is there already: name another file", operand[2]);
    dir = look_find_ledger(operand[0]);
    if (!dir)
        dir = xstrdup(operand[0]); /* whose opening says what is missing */
    status = export_dispute(dir, number, operand[2], &e) ? usage_fail(e.text) : 0;
    free(dir);
    return status;
}

int cmd_ledger(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "show"))
        return cmd_show(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "audit"))
        return cmd_audit(argc - 1, argv + 1);
    if (argc > 1 && !strcmp(argv[1], "dispute"))
        return cmd_dispute(argc - 1, argv + 1);
    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        printf("usage: %s\n       %s\n       %s\n\nWhat the orchestrator recorded, and whether "
               "it is "
               "right.\n",
               SHOW_LINE, AUDIT_LINE, DISPUTE_LINE);
        return 0;
    }
    fprintf(stderr, "muster: ledger needs 'show', 'audit' or 'dispute'\nusage: %s | %s | %s\n",
            SHOW_LINE, AUDIT_LINE, DISPUTE_LINE);
    return 2;
}
