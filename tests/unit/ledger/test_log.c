/* ledger/log.h */
#include "ledger/log.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "ledger/tables.h"
#include "support/tempdir.h"
#include "support/test.h"
#include "unit/ledger/world.h"

static int setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));

    world_init(w, NULL);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_clear(*state);
    free(*state);
    return 0;
}

static const struct effect *find_put(const struct world *w, unsigned table)
{
    for (size_t i = 0; i < w->out.n; i++)
        if (w->out.v[i].kind == EFFECT_PUT && w->out.v[i].table == table)
            return &w->out.v[i];
    return NULL;
}

static void an_append_puts_entry_request_and_head(void **state)
{
    struct world *w = *state;
    uint64_t seq;
    struct db_key8 want;
    struct ledger_entry en;
    struct digest hash;

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    world_flush(w);
    seq = ledger_log_length(w->log);
    assert_ok(world_try_commit(w, 0, 10, false), &w->e);

    want = db_key_u64(seq);
    const struct effect *entry = find_put(w, LEDGER_TABLE_ENTRIES);
    const struct effect *idem = find_put(w, LEDGER_TABLE_IDEM);
    const struct effect *head = find_put(w, LEDGER_TABLE_META);
    assert_non_null(find_put(w, LEDGER_TABLE_BLOBS));
    assert_true(bytes_equal(entry->key, BYTES_OF(want)));
    assert_ok(ledger_entry_decode(&en, entry->value, &w->e), &w->e);
    assert_int_equal(en.seq, seq);
    assert_int_equal(en.type, LEDGER_COMMIT);
    struct ledger_idem_key key = ledger_idem_key(&en.actor, &en.idem);
    assert_true(bytes_equal(idem->key, BYTES_OF(key)));
    assert_true(bytes_equal(idem->value, BYTES_OF(want)));
    ledger_entry_hash(&hash, entry->value);
    assert_true(digest_equal(&hash, ledger_log_hash(w->log, seq)));
    assert_memory_equal(head->value.data, want.b, 8);
    assert_memory_equal(head->value.data + 8, hash.b, DIGEST_BYTES);
    assert_true(digest_equal(&en.prev, ledger_log_hash(w->log, seq - 1)));
    assert_true(digest_equal(&en.run, ledger_log_hash(w->log, 0)));
}

static void a_refused_append_changes_and_puts_nothing(void **state)
{
    struct world *w = *state;
    uint64_t n = ledger_log_length(w->log);
    struct digest roots[2], again[2];

    ledger_books_roots(world_books(w), &roots[0], &roots[1]);
    assert_status(world_try_giveup(w, 9), ERR_DENIED, NULL);
    ledger_books_roots(world_books(w), &again[0], &again[1]);

    assert_int_equal(ledger_log_length(w->log), n);
    assert_int_equal(w->out.n, 0);
    assert_memory_equal(roots, again, sizeof(roots));
}

static void a_request_is_answered_once_and_found_again(void **state)
{
    struct world *w = *state;
    const struct world_node *n = world_worker(w, 0);
    struct idem idem = {{42}};
    struct ledger_cause why = {&n->node, &idem, w->now_us};
    struct ledger_param p = {"a", "b"};
    struct ledger_entry en;
    uint64_t seq;

    assert_false(ledger_books_find_idem(world_books(w), &n->node, &idem, &seq));
    assert_ok(ledger_append_param(w->log, &p, &why, &w->out, &en, &w->e), &w->e);
    assert_true(ledger_books_find_idem(world_books(w), &n->node, &idem, &seq));
    assert_int_equal(seq, en.seq);
    assert_status(ledger_append_param(w->log, &p, &why, &w->out, NULL, &w->e), ERR_EXISTS,
                  NULL);
    assert_contains(w->e.text, "I5");
    why.actor = &world_worker(w, 1)->node; /* another's request may have the same number */
    assert_ok(ledger_append_param(w->log, &p, &why, &w->out, NULL, &w->e), &w->e);
}

static void an_actor_that_the_body_does_not_name_is_refused(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = {&world_worker(w, 0)->node, NULL, w->now_us};
    struct ledger_commit x = {.unit = 0};

    assert_ok(world_try_lease(w, 0, 1), &w->e);
    x.lease = world_unit(w, 0)->lease;
    assert_status(ledger_append_commit(w->log, &x, &why, &w->out, NULL, &w->e), ERR_DENIED,
                  NULL);
    assert_contains(w->e.text, "I10");
}

static void time_never_goes_back(void **state)
{
    struct world *w = *state;
    struct ledger_cause why = {NULL, NULL, 5};
    struct ledger_param p = {"a", "b"};
    struct ledger_entry en;
    int64_t last = ledger_books_time_us(world_books(w));

    assert_ok(ledger_append_param(w->log, &p, &why, &w->out, &en, &w->e), &w->e);

    assert_int_equal(en.time_us, last);
}

/* A copy of one entry's bytes as it was put. */
static struct buf copy_put(const struct world *w, size_t from)
{
    struct buf b;

    buf_init(&b, LEDGER_ENTRY_MAX);
    for (size_t i = from; i < w->out.n; i++)
        if (w->out.v[i].table == LEDGER_TABLE_ENTRIES) {
            buf_append(&b, w->out.v[i].value);
            break;
        }
    return b;
}

static void replay_takes_only_what_follows(void **state)
{
    struct world *w = *state;
    struct ledger_log *other;
    struct world twin;
    struct buf first, second;

    world_init(&twin, NULL); /* the same run, up to here */
    other = twin.log;
    assert_ok(world_try_lease(w, 0, 1), &w->e);
    first = copy_put(w, 0);
    world_flush(w);
    assert_ok(world_try_void(w, 0, REASON_EXPIRED), &w->e);
    second = copy_put(w, 0);

    assert_status(ledger_replay(other, buf_bytes(&second), NULL, &w->e), ERR_CORRUPT, NULL);
    assert_ok(ledger_replay(other, buf_bytes(&first), NULL, &w->e), &w->e);
    assert_status(ledger_replay(other, buf_bytes(&first), NULL, &w->e), ERR_CORRUPT, NULL);
    assert_ok(ledger_replay(other, buf_bytes(&second), NULL, &w->e), &w->e);
    assert_true(digest_equal(ledger_log_hash(other, ledger_log_length(other) - 1),
                             ledger_log_hash(w->log, ledger_log_length(w->log) - 1)));
    buf_clear(&first);
    buf_clear(&second);
    world_clear(&twin);
}

/* Re-encodes the entry with other postings: what a writer with wrong sums would write. */
static enum status replay_with(struct ledger_log *l, const struct ledger_entry *en,
                               struct err *e)
{
    struct buf b;
    enum status st;

    buf_init(&b, LEDGER_ENTRY_MAX);
    assert_ok(ledger_entry_encode(&b, en, e), e);
    st = ledger_replay(l, buf_bytes(&b), NULL, e);
    buf_clear(&b);
    return st;
}

static void postings_must_be_those_that_the_rules_give(void **state)
{
    struct world *w = *state;
    struct world twin;
    struct ledger_entry good, bad;
    struct buf bytes;

    world_init(&twin, NULL);
    assert_ok(world_try_lease(w, 0, 1), &w->e);
    bytes = copy_put(w, 0);
    assert_ok(ledger_entry_decode(&good, buf_bytes(&bytes), &w->e), &w->e);
    assert_int_equal(good.n_postings, 2);

    bad = good;
    bad.posting[0].delta--; /* the sum is no longer zero */
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_DENIED, NULL);
    assert_contains(w->e.text, "I1: the postings sum to -1");
    bad.posting[1].delta++;
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_DENIED, NULL);
    assert_contains(w->e.text, "I1: posting 0 should be -252 ucr for escrow:");
    bad = good;
    bad.n_postings = 0;
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_DENIED, NULL);
    bad = good;
    bad.posting[1].account = account_of_key(ACCOUNT_AVAIL, &world_worker(w, 1)->owner);
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_DENIED, NULL);
    bad = good;
    bad.seq++;
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_CORRUPT, NULL);
    bad = good;
    bad.time_us = 1;
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_CORRUPT, NULL);
    assert_contains(w->e.text, "I15");
    bad = good;
    bad.run.b[0] ^= 1;
    assert_status(replay_with(twin.log, &bad, &w->e), ERR_CORRUPT, NULL);
    assert_ok(replay_with(twin.log, &good, &w->e), &w->e);
    buf_clear(&bytes);
    world_clear(&twin);
}

/* ---- a directory ----------------------------------------------------------------------------- */

static enum status count_entries(void *arg, const struct ledger_entry *en, struct bytes encoded,
                                 struct err *e)
{
    uint64_t *n = arg;

    (void)encoded, (void)e;
    return en->seq == (*n)++ ? OK : ERR_CORRUPT;
}

static void a_directory_loads_into_the_same_log(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct world w;
    struct ledger_log *log;
    struct db_txn *t;
    struct digest was[2], is[2];
    struct bytes encoded;
    struct ledger_entry en;
    uint64_t n = 0;

    world_init(&w, dir);
    world_accept_unit(&w, 0, 1, false);
    world_flush(&w);
    ledger_log_new(&log);
    assert_ok(db_begin(&t, w.db, false, &w.e), &w.e);
    assert_ok(ledger_log_load(log, t, count_entries, &n, &w.e), &w.e);

    assert_int_equal(n, ledger_log_length(w.log));
    ledger_books_roots(world_books(&w), &was[0], &was[1]);
    ledger_books_roots(ledger_log_books(log), &is[0], &is[1]);
    assert_memory_equal(was, is, sizeof(was));
    assert_ok(ledger_read(&encoded, t, 3, &w.e), &w.e);
    assert_ok(ledger_entry_decode(&en, encoded, &w.e), &w.e);
    assert_int_equal(en.seq, 3);
    assert_status(ledger_read(&encoded, t, n, &w.e), ERR_NOT_FOUND, NULL);
    db_abort(&t);
    ledger_log_free(&log);
    world_clear(&w);
    tempdir_remove(&dir);
}

static void a_directory_without_its_last_entry_is_corrupt(void **state)
{
    (void)state;
    char *dir = tempdir_make();
    struct world w;
    struct ledger_log *log;
    struct db_txn *t;
    struct db_key8 last;

    world_init(&w, dir);
    last = db_key_u64(ledger_log_length(w.log) - 1);
    assert_ok(db_begin(&t, w.db, true, &w.e), &w.e);
    assert_ok(db_del(t, LEDGER_TABLE_ENTRIES, BYTES_OF(last), &w.e), &w.e);
    assert_ok(db_commit(&t, &w.e), &w.e);
    ledger_log_new(&log);
    assert_ok(db_begin(&t, w.db, false, &w.e), &w.e);

    assert_status(ledger_log_load(log, t, NULL, NULL, &w.e), ERR_CORRUPT, NULL);
    assert_contains(w.e.text, "table meta");
    db_abort(&t);
    ledger_log_free(&log);
    world_clear(&w);
    tempdir_remove(&dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_append_puts_entry_request_and_head),
        TEST(a_refused_append_changes_and_puts_nothing),
        TEST(a_request_is_answered_once_and_found_again),
        TEST(an_actor_that_the_body_does_not_name_is_refused),
        TEST(time_never_goes_back),
        TEST(replay_takes_only_what_follows),
        TEST(postings_must_be_those_that_the_rules_give),
        cmocka_unit_test(a_directory_loads_into_the_same_log),
        cmocka_unit_test(a_directory_without_its_last_entry_is_corrupt),
    };
    return cmocka_run_group_tests_name("ledger/log", tests, NULL, NULL);
}
