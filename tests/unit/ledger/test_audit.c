/* ledger/audit.h: a true run is clean; each way to bend it is found, at its entry */
#include "ledger/audit.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/check.h"
#include "ledger/show.h"
#include "ledger/tables.h"
#include "proto/digest.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"

struct place {
    char *dir; /* owned */
    struct world w;
};

/* One of everything: accepted, flat, soft, fraud, given up, batch, step, head, maturing. */
static void live(struct world *w)
{
    const uint64_t batch[] = {0, 1, 2};
    unsigned judge[2];

    world_accept_unit(w, 0, 0, false);
    world_accept_unit(w, 1, 1, true);
    world_commit_unit(w, 2, 1);
    assert_ok(world_try_verdict(w, 2, world_judge(w, 2), REASON_BOUNDS), &w->e);
    assert_ok(world_try_reject_soft(w, 2, REASON_BOUNDS), &w->e);
    assert_ok(world_try_giveup(w, 2), &w->e);
    assert_ok(world_try_batch(w, batch, 3), &w->e);
    assert_ok(world_try_step(w), &w->e);
    world_commit_unit(w, 3, 1);
    world_two_judges(w, 3, judge);
    assert_ok(world_try_verdict(w, 3, judge[0], REASON_TOKEN), &w->e);
    assert_ok(world_try_verdict(w, 3, judge[1], REASON_TOKEN), &w->e);
    assert_ok(world_try_reject_hard(w, 3, REASON_TOKEN, false), &w->e);
    assert_ok(world_try_head(w), &w->e);
    assert_ok(world_try_mature(w, &world_worker(w, 0)->node), &w->e);
    world_flush(w);
}

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->dir = tempdir_make();
    world_init(&p->w, p->dir);
    live(&p->w);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    world_clear(&p->w);
    tempdir_remove(&p->dir);
    free(p);
    return 0;
}

static void put(struct place *p, unsigned table, struct bytes key, struct bytes value)
{
    struct db_txn *t;

    assert_ok(db_begin(&t, p->w.db, true, &p->w.e), &p->w.e);
    assert_ok(db_put(t, table, key, value, &p->w.e), &p->w.e);
    assert_ok(db_commit(&t, &p->w.e), &p->w.e);
}

static void drop(struct place *p, unsigned table, struct bytes key)
{
    struct db_txn *t;

    assert_ok(db_begin(&t, p->w.db, true, &p->w.e), &p->w.e);
    assert_ok(db_del(t, table, key, &p->w.e), &p->w.e);
    assert_ok(db_commit(&t, &p->w.e), &p->w.e);
}

/* A copy of a value, for the caller to change and free. */
static uint8_t *copy(struct place *p, unsigned table, struct bytes key, size_t *n)
{
    struct db_txn *t;
    struct bytes value;
    uint8_t *out;

    assert_ok(db_begin(&t, p->w.db, false, &p->w.e), &p->w.e);
    assert_ok(db_get(t, table, key, &value, &p->w.e), &p->w.e);
    out = xmalloc(value.len);
    memcpy(out, value.data, value.len);
    *n = value.len;
    db_abort(&t);
    return out;
}

/* The first entry of a type. */
static uint64_t find(struct place *p, enum ledger_type type)
{
    for (uint64_t seq = 0; seq < ledger_log_length(p->w.log); seq++) {
        struct db_key8 key = db_key_u64(seq);
        struct ledger_entry en;
        size_t n;
        uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), &n);
        assert_ok(ledger_entry_decode(&en, (struct bytes){b, n}, &p->w.e), &p->w.e);
        free(b);
        if (en.type == type)
            return seq;
    }
    CHECK(!"an entry of this type");
    return 0;
}

static void assert_found(struct place *p, uint64_t seq, const char *why)
{
    struct audit_report r;

    assert_int_equal(audit_run(&r, p->dir), AUDIT_VIOLATION);
    assert_contains(r.why, why);
    assert_true(r.has_bad_seq);
    assert_int_equal(r.bad_seq, seq);
}

static void a_true_run_is_clean(void **state)
{
    struct place *p = *state;
    struct audit_report r;

    assert_int_equal(audit_run(&r, p->dir), AUDIT_CLEAN);

    assert_string_equal(r.why, "");
    assert_int_equal(r.n_entries, ledger_log_length(p->w.log));
    assert_int_equal(r.n_of_type[LEDGER_VERDICT], 5);
    assert_int_equal(r.n_units, 4);
    assert_int_equal(r.n_accepted, 2);
    assert_int_equal(r.n_given_up, 1);
    assert_int_equal(r.n_drawn, 4);
    /* 8 certificates, 4 SUBMIT, 5 VERDICT, 2 PUBLISH */
    assert_int_equal(r.n_signatures, WORLD_NODES + 4 + 5 + 2);
    assert_int_equal(r.deposited, WORLD_DEPOSIT + (int64_t)(WORLD_NODES - 1) * WORLD_STAKE);
    assert_int_equal(r.deposited, r.avail + r.stake + r.pending + r.escrow + r.reserved +
                                      r.jackpot + r.burnt);
    assert_int_equal(r.slashed, WORLD_STAKE + 30);
}

static void no_ledger_is_unreadable(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct audit_report r;

    assert_int_equal(audit_run(&r, dir), AUDIT_UNREADABLE);
    assert_string_not_equal(r.why, "");
    tempdir_remove(&dir);
}

/* The last entry has no successor whose prev would betray it: table meta does. Each byte is
 * turned in one bit; the whole log's bytes are the property test's. */
static void each_byte_of_the_last_entry_counts(void **state)
{
    struct place *p = *state;
    struct db_key8 key = db_key_u64(ledger_log_length(p->w.log) - 1);
    size_t n;
    uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), &n);
    struct audit_report r;

    for (size_t i = 0; i < n; i++) {
        b[i] ^= (uint8_t)(1u << i % 8);
        put(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), (struct bytes){b, n});
        if (audit_run(&r, p->dir) != AUDIT_VIOLATION)
            fail_msg("byte %zu of the last entry may be changed", i);
        b[i] ^= (uint8_t)(1u << i % 8);
    }
    put(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), (struct bytes){b, n});
    assert_int_equal(audit_run(&r, p->dir), AUDIT_CLEAN);
    free(b);
}

static void a_missing_entry_is_found(void **state)
{
    struct place *p = *state;
    struct db_key8 key = db_key_u64(20);

    drop(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key));

    assert_found(p, 20, "I10: entry 20 is missing");
}

/* The digest of the envelope that an entry names, at `at` in its body. */
static struct digest envelope_of(struct place *p, uint64_t seq, size_t at)
{
    struct db_key8 key = db_key_u64(seq);
    struct digest d;
    size_t n;
    uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), &n);

    memcpy(d.b, b + LEDGER_HEADER_BYTES + at, DIGEST_BYTES);
    free(b);
    return d;
}

#define COMMIT_ENVELOPE_AT  (1u + 8 + 8 + 8 + 32)
#define VERDICT_ENVELOPE_AT (1u + 8 + 8 + 32 + 1 + 1 + 1)
#define STEP_ENVELOPE_AT    (1u + 8 + 32 + 32 + 32)

static void a_missing_envelope_is_found(void **state)
{
    struct place *p = *state;
    const struct {
        enum ledger_type type;
        size_t at;
        const char *why;
    } row[] = {
        {LEDGER_VERDICT, VERDICT_ENVELOPE_AT, "I10: VERDICT is not in table blobs"},
        {LEDGER_COMMIT, COMMIT_ENVELOPE_AT, "I10: SUBMIT is not in table blobs"},
        {LEDGER_STEP, STEP_ENVELOPE_AT, "I10: PUBLISH is not in table blobs"},
    };

    for (size_t i = 0; i < 3; i++) { /* each before the one dropped last */
        uint64_t seq = find(p, row[i].type);
        struct digest d = envelope_of(p, seq, row[i].at);
        drop(p, LEDGER_TABLE_BLOBS, BYTES_OF(d));
        assert_found(p, seq, row[i].why);
    }
}

static void a_changed_envelope_is_found(void **state)
{
    struct place *p = *state;
    uint64_t seq = find(p, LEDGER_COMMIT);
    struct digest d = envelope_of(p, seq, COMMIT_ENVELOPE_AT);
    size_t n;
    uint8_t *b = copy(p, LEDGER_TABLE_BLOBS, BYTES_OF(d), &n);

    b[n / 2] ^= 1;
    put(p, LEDGER_TABLE_BLOBS, BYTES_OF(d), (struct bytes){b, n});

    assert_found(p, seq, "I10: SUBMIT has another digest than its name");
    free(b);
}

static void a_blob_under_a_wrong_name_is_found(void **state)
{
    struct place *p = *state;
    struct digest name = {{1}};
    struct audit_report r;

    put(p, LEDGER_TABLE_BLOBS, BYTES_OF(name), BYTES_LIT("stray"));

    assert_int_equal(audit_run(&r, p->dir), AUDIT_VIOLATION);
    assert_contains(r.why, "table blobs");
}

static void a_missing_or_stray_request_is_found(void **state)
{
    struct place *p = *state;
    struct ledger_idem_key stray = {{1}}, key;
    struct db_key8 seq = db_key_u64(find(p, LEDGER_COMMIT));
    struct ledger_entry en;
    struct audit_report r;
    size_t n;
    uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(seq), &n);

    put(p, LEDGER_TABLE_IDEM, BYTES_OF(stray), BYTES_OF(seq));
    assert_int_equal(audit_run(&r, p->dir), AUDIT_VIOLATION);
    assert_contains(r.why, "I5: table idem has");
    drop(p, LEDGER_TABLE_IDEM, BYTES_OF(stray));
    assert_int_equal(audit_run(&r, p->dir), AUDIT_CLEAN);
    assert_ok(ledger_entry_decode(&en, (struct bytes){b, n}, &p->w.e), &p->w.e);
    key = ledger_idem_key(&en.actor, &en.idem);
    drop(p, LEDGER_TABLE_IDEM, BYTES_OF(key));
    assert_found(p, en.seq, "I5: table idem does not lead");
    free(b);
}

/* Makes one bent entry of a type at the end of a true run, and wants it found. */
static void assert_bend_found(enum ledger_type type, enum world_bend bend, const char *why)
{
    struct place *p = NULL;
    void *state;

    assert_int_equal(setup(&state), 0);
    p = state;
    struct world *w = &p->w;
    assert_ok(world_try_lease(w, 9, 0), &w->e);
    if (type == LEDGER_VERDICT) {
        assert_ok(world_try_commit(w, 9, 10, false), &w->e);
        assert_ok(world_try_draw(w), &w->e);
    }
    if (type == LEDGER_STEP)
        assert_ok(world_try_batch(w, NULL, 0), &w->e);
    w->bend = bend;
    if (type == LEDGER_COMMIT)
        assert_ok(world_try_commit(w, 9, 10, false), &w->e);
    else if (type == LEDGER_VERDICT)
        assert_ok(world_try_verdict(w, 9, world_judge(w, 9), REASON_TOKEN), &w->e);
    else
        assert_ok(world_try_step(w), &w->e);
    world_flush(w);
    assert_found(p, ledger_log_length(w->log) - 1, why);
    assert_int_equal(teardown(&state), 0);
}

static void entries_that_their_envelopes_do_not_bear_out_are_found(void **state)
{
    (void)state;
    const enum ledger_type all[] = {LEDGER_COMMIT, LEDGER_VERDICT, LEDGER_STEP};

    for (size_t i = 0; i < 3; i++) {
        assert_bend_found(all[i], BEND_SIGNATURE, "signature");
        assert_bend_found(all[i], BEND_SIGNER, "is from another key");
        assert_bend_found(all[i], BEND_IDEM, "is of another request");
    }
    assert_bend_found(LEDGER_COMMIT, BEND_TOKENS, "I6: SUBMIT has 10 sampled tokens, not 9");
    assert_bend_found(LEDGER_COMMIT, BEND_FLAT, "the rewards in SUBMIT are not all equal");
    assert_bend_found(LEDGER_COMMIT, BEND_SAMPLE, "SUBMIT has another sample 0");
    assert_bend_found(LEDGER_COMMIT, BEND_ROOT, "another root");
    assert_bend_found(LEDGER_VERDICT, BEND_SUBMISSION, "about another submission");
    assert_bend_found(LEDGER_VERDICT, BEND_CODE, "VERDICT says something else");
    assert_bend_found(LEDGER_STEP, BEND_WEIGHTS, "PUBLISH says something else");
    assert_bend_found(LEDGER_STEP, BEND_STATE, "begins with another state than version 1");
}

/* An orchestrator that commits a worker to another number of tokens than it signed: every rule of
 * the books holds, and the envelope tells. */
static void a_commit_that_says_more_than_its_worker_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct ledger_cause why = world_cause(w);

    assert_ok(world_try_lease(w, 9, 0), &w->e);
    struct ledger_commit x = {.unit = 9,
                              .lease = world_unit(w, 9)->lease,
                              .version = world_unit(w, 9)->version,
                              .tokens = 64};
    x.envelope = envelope_of(p, find(p, LEDGER_COMMIT), COMMIT_ENVELOPE_AT); /* of unit 0 */
    assert_ok(ledger_append_commit(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);
    world_flush(w);

    assert_found(p, ledger_log_length(w->log) - 1,
                 "I10: SUBMIT is of another unit, lease, version or task");
}

static void a_verdict_that_nobody_gave_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct ledger_cause why = world_cause(w);

    world_commit_unit(w, 9, 0);
    struct ledger_verdict x = {.unit = 9,
                               .lease = world_unit(w, 9)->lease,
                               .validator = world_validator(w, world_judge(w, 9))->node,
                               .depth = CHECK_FULL,
                               .is_accepted = true};
    ledger_put_blob(&w->out, BYTES_LIT("rubbish"), &x.envelope);
    assert_ok(ledger_append_verdict(w->log, &x, &why, &w->out, NULL, &w->e), &w->e);
    world_flush(w);

    uint64_t last = ledger_log_length(w->log) - 1;
    struct audit_report r;
    assert_int_equal(audit_run(&r, p->dir), AUDIT_VIOLATION);
    assert_int_equal(r.bad_seq, last);
}

static void a_forged_certificate_is_found(void **state)
{
    struct place *p = *state;
    struct world *w = &p->w;
    struct ledger_invite i = {.id = {99}, .role = ROLE_RELAY};
    struct ledger_node_admit a = {.role = ROLE_RELAY, .node = {{99}}, .invite = {99}};
    struct ledger_cause why = world_cause(w);

    a.owner = w->node[0].owner;
    assert_ok(ledger_append_invite(w->log, &i, &why, &w->out, NULL, &w->e), &w->e);
    assert_ok(ledger_append_node_admit(w->log, &a, &why, &w->out, NULL, &w->e), &w->e);
    world_flush(w);

    assert_found(p, ledger_log_length(w->log) - 1, "I10: the owner's certificate");
}

/* ---- show ------------------------------------------------------------------------------------ */

static void every_entry_can_be_shown(void **state)
{
    struct place *p = *state;
    struct buf out;

    buf_init(&out, (size_t)1 << 20);
    for (uint64_t seq = 0; seq < ledger_log_length(p->w.log); seq++) {
        struct db_key8 key = db_key_u64(seq);
        struct ledger_entry en;
        size_t n;
        uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), &n);
        assert_ok(ledger_entry_decode(&en, (struct bytes){b, n}, &p->w.e), &p->w.e);
        for (int is_json = 0; is_json < 2; is_json++) {
            buf_reset(&out);
            assert_ok(ledger_show(&out, &en, NULL, is_json, &p->w.e), &p->w.e);
            assert_contains(buf_cstr(&out), ledger_type_name(en.type));
        }
        free(b);
    }
    buf_clear(&out);
}

static void an_entry_is_shown_with_its_money(void **state)
{
    struct place *p = *state;
    struct db_key8 key = db_key_u64(find(p, LEDGER_LEASE));
    struct ledger_entry en;
    struct buf out;
    size_t n;
    uint8_t *b = copy(p, LEDGER_TABLE_ENTRIES, BYTES_OF(key), &n);

    buf_init(&out, (size_t)1 << 20);
    assert_ok(ledger_entry_decode(&en, (struct bytes){b, n}, &p->w.e), &p->w.e);
    assert_ok(ledger_show(&out, &en, NULL, false, &p->w.e), &p->w.e);
    assert_contains(buf_cstr(&out), " LEASE unit=0 attempt=1 worker=");
    assert_contains(buf_cstr(&out), "-252 reserved:");
    buf_reset(&out);
    assert_ok(ledger_show(&out, &en, NULL, true, &p->w.e), &p->w.e);
    assert_contains(buf_cstr(&out), "\"type\": \"LEASE\", \"unit\": 0, \"attempt\": 1");
    assert_contains(buf_cstr(&out), "\"delta\": -252}");
    buf_clear(&out);
    free(b);
}

static void text_in_json_is_escaped(void **state)
{
    struct place *p = *state;
    struct ledger_param x = {"na\"me", "back\\slash"};
    struct ledger_cause why = world_cause(&p->w);
    struct ledger_entry en;
    struct buf out;

    buf_init(&out, (size_t)1 << 20);
    assert_ok(ledger_append_param(p->w.log, &x, &why, &p->w.out, &en, &p->w.e), &p->w.e);
    assert_ok(ledger_show(&out, &en, NULL, true, &p->w.e), &p->w.e);

    assert_contains(buf_cstr(&out), "\"name\": \"na\\\"me\", \"value\": \"back\\\\slash\"");
    buf_clear(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_true_run_is_clean),
        cmocka_unit_test(no_ledger_is_unreadable),
        TEST(each_byte_of_the_last_entry_counts),
        TEST(a_missing_entry_is_found),
        TEST(a_missing_envelope_is_found),
        TEST(a_changed_envelope_is_found),
        TEST(a_blob_under_a_wrong_name_is_found),
        TEST(a_missing_or_stray_request_is_found),
        cmocka_unit_test(entries_that_their_envelopes_do_not_bear_out_are_found),
        TEST(a_commit_that_says_more_than_its_worker_is_found),
        TEST(a_verdict_that_nobody_gave_is_found),
        TEST(a_forged_certificate_is_found),
        TEST(every_entry_can_be_shown),
        TEST(an_entry_is_shown_with_its_money),
        TEST(text_in_json_is_escaped),
    };
    return cmocka_run_group_tests_name("ledger/audit", tests, NULL, NULL);
}
