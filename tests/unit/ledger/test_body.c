/*
 * ledger/body.h: every type there and back, cut at every place, and out of range
 *
 * Structs are made with memset and compared with memcmp, so padding is zero on both sides.
 */
#include "ledger/body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/rng.h"
#include "ledger/entry.h"
#include "support/random.h"
#include "support/test.h"

#define CORPUS MUSTER_SOURCE_DIR "/tests/fuzz/corpus/ledger_entry/"

struct both {
    union ledger_body *in, *out; /* owned */
    struct buf bytes;
    struct rng rng;
};

static int setup(void **state)
{
    struct both *b = xcalloc(1, sizeof(*b));

    b->in = xcalloc(1, sizeof(*b->in));
    b->out = xcalloc(1, sizeof(*b->out));
    b->rng = random_seeded(11);
    buf_init(&b->bytes, LEDGER_BODY_MAX);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct both *b = *state;

    buf_clear(&b->bytes);
    free(b->in);
    free(b->out);
    free(b);
    return 0;
}

static void random_digest(struct both *b, void *out)
{
    random_bytes(&b->rng, out, DIGEST_BYTES);
}

static int64_t random_money(struct both *b)
{
    return (int64_t)rng_below(&b->rng, LEDGER_SUPPLY_MAX);
}

static enum status encode(struct both *b, enum ledger_type type, struct err *e)
{
    buf_reset(&b->bytes);
#define ENCODE_CASE(NAME, number, body, moves_money, text)                                     \
    case LEDGER_##NAME: return ledger_##body##_body_encode(&b->bytes, &b->in->body##_, e);
    switch (type) {
        LEDGER_TYPE_MAP(ENCODE_CASE)
    default: return ERR_INVALID;
    }
#undef ENCODE_CASE
}

static size_t size_of(enum ledger_type type)
{
#define SIZE_CASE(NAME, number, body, moves_money, text)                                       \
    case LEDGER_##NAME: return sizeof(struct ledger_##body);
    switch (type) {
        LEDGER_TYPE_MAP(SIZE_CASE)
    default: return 0;
    }
#undef SIZE_CASE
}

/* Something in every field that is not of a plain kind; the rest was random before. */
static void make_terms(struct both *b, struct ledger_task_open *x)
{
    random_digest(b, &x->task);
    random_digest(b, &x->initiator);
    x->deposit = random_money(b);
    x->price_token = random_money(b);
    x->fee_light = random_money(b);
    x->fee_full = random_money(b);
    x->price_step = random_money(b);
    x->stake_required = random_money(b);
    x->stake_granted = random_money(b);
    x->steps = rng_u64(&b->rng);
    x->tokens_max = rng_u64(&b->rng);
    x->verdicts_max = rng_u32(&b->rng);
    x->validators = rng_u32(&b->rng);
    x->audit_first = rng_u32(&b->rng);
    x->audit_floor = rng_u64(&b->rng);
    x->saving_ppm = rng_u32(&b->rng);
    x->detection_ppm = rng_u32(&b->rng);
    x->canary_rate = rng_u64(&b->rng);
    x->canary_bonus = random_money(b);
    x->bond_required = random_money(b);
    x->bond_slice_ppm = rng_u32(&b->rng);
    x->bond_strikes = rng_u32(&b->rng);
    x->recheck_rate = rng_u64(&b->rng);
    x->witnesses = rng_u32(&b->rng);
    x->step_rate = rng_u64(&b->rng);
    x->step_first = rng_u32(&b->rng);
    x->fee_step = random_money(b);
    x->dispute_bond = random_money(b);
    x->dispute_ms = rng_u32(&b->rng);
}

static void make_draw(struct both *b, struct ledger_draw *x)
{
    x->round = rng_u64(&b->rng);
    random_digest(b, &x->value);
    x->through = rng_u64(&b->rng);
    x->n_candidates = LEDGER_CANDIDATES_MAX;
    for (uint32_t i = 0; i < x->n_candidates; i++)
        random_digest(b, &x->candidate[i]);
    x->n_rows = LEDGER_DRAW_ROWS_MAX;
    for (uint32_t i = 0; i < x->n_rows; i++) {
        struct ledger_draw_row *row = &x->row[i];
        row->unit = rng_u64(&b->rng);
        row->lease = rng_u64(&b->rng);
        row->depth = i % 2 ? CHECK_FULL : CHECK_LIGHT;
        row->probability = rng_below(&b->rng, LEDGER_ONE + 1);
        row->n_assigned = i % (LEDGER_ASSIGNED_MAX + 1);
        for (uint32_t k = 0; k < row->n_assigned; k++)
            row->assigned[k] = (uint8_t)rng_below(&b->rng, LEDGER_CANDIDATES_MAX);
    }
}

static void make_batch(struct both *b, struct ledger_batch *x)
{
    x->batch = rng_u64(&b->rng);
    random_digest(b, &x->root);
    x->n_rows = LEDGER_BATCH_ROWS_MAX;
    for (uint32_t i = 0; i < x->n_rows; i++)
        x->row[i] = (struct ledger_batch_row){rng_u64(&b->rng), 1 + i % 3};
}

static void make_people(struct both *b, enum ledger_type type, union ledger_body *x)
{
    switch (type) {
    case LEDGER_GENESIS:
        random_bytes(&b->rng, (uint8_t *)&x->genesis_, sizeof(x->genesis_));
        break;
    case LEDGER_PARAM:
        memcpy(x->param_.name, "a name", 7);
        memset(x->param_.value, 'v', sizeof(x->param_.value) - 1);
        break;
    case LEDGER_INVITE:
        random_bytes(&b->rng, x->invite_.id, 16);
        random_digest(b, &x->invite_.secret);
        x->invite_.role = ROLE_RELAY;
        break;
    case LEDGER_NODE_ADMIT:
        random_digest(b, &x->node_admit_.node);
        random_digest(b, &x->node_admit_.transport);
        random_digest(b, &x->node_admit_.owner);
        x->node_admit_.role = ROLE_VERIFIER;
        random_bytes(&b->rng, x->node_admit_.owner_sig.b, SIGNATURE_BYTES);
        random_bytes(&b->rng, x->node_admit_.invite, 16);
        break;
    case LEDGER_NODE_REVOKE:
        random_digest(b, &x->node_revoke_.node);
        x->node_revoke_.code = REASON_TOKEN;
        break;
    case LEDGER_DEPOSIT:
        random_digest(b, &x->deposit_.owner);
        x->deposit_.amount = random_money(b);
        random_bytes(&b->rng, x->deposit_.reference, 16);
        break;
    case LEDGER_STAKE:
    case LEDGER_UNSTAKE:
        random_digest(b, &x->stake_.node);
        x->stake_.amount = random_money(b);
        break;
    case LEDGER_TASK_OPEN: make_terms(b, &x->task_open_); break;
    case LEDGER_TASK_CLOSE: random_digest(b, &x->task_close_.task); break;
    default: break;
    }
}

static void make_commit(struct both *b, struct ledger_commit *x)
{
    x->unit = rng_u64(&b->rng);
    x->lease = rng_u64(&b->rng);
    x->version = 12;
    random_digest(b, &x->root);
    random_digest(b, &x->envelope);
    x->tokens = rng_u64(&b->rng);
    x->is_flat = true;
    x->n_samples = LEDGER_SAMPLES_MAX;
    for (uint32_t i = 0; i < LEDGER_SAMPLES_MAX; i++)
        x->sample[i] =
            (struct ledger_sample){rng_u64(&b->rng), rng_u32(&b->rng), rng_u32(&b->rng), i % 2,
                                   i % 3 ? 1 << 30 : -(1 << 30)};
}

static void make_unit(struct both *b, enum ledger_type type, union ledger_body *x)
{
    switch (type) {
    case LEDGER_LEASE:
        x->lease_ = (struct ledger_lease){.unit = rng_u64(&b->rng),
                                          .attempt = rng_u32(&b->rng),
                                          .version = -1,
                                          .expires_us = 5,
                                          .hard_us = 6,
                                          .reserve = random_money(b)};
        random_digest(b, &x->lease_.worker);
        random_digest(b, &x->lease_.seal);
        break;
    case LEDGER_COMMIT: make_commit(b, &x->commit_); break;
    case LEDGER_DRAW: make_draw(b, &x->draw_); break;
    case LEDGER_ASSIGN:
        x->assign_.unit = rng_u64(&b->rng);
        x->assign_.lease = rng_u64(&b->rng);
        random_digest(b, &x->assign_.from);
        random_digest(b, &x->assign_.to);
        x->assign_.depth = CHECK_FULL;
        break;
    case LEDGER_VERDICT:
        x->verdict_.unit = rng_u64(&b->rng);
        x->verdict_.lease = rng_u64(&b->rng);
        random_digest(b, &x->verdict_.validator);
        x->verdict_.depth = CHECK_LIGHT;
        x->verdict_.code = REASON_COUNT - 1;
        random_digest(b, &x->verdict_.envelope);
        random_digest(b, &x->verdict_.states);
        x->verdict_.n_opened = LEDGER_OPENED_MAX;
        random_bytes(&b->rng, (uint8_t *)x->verdict_.opened, sizeof(x->verdict_.opened));
        break;
    case LEDGER_REJECT_HARD: x->reject_hard_.is_sole = true; /* fall through */
    case LEDGER_VOID:
    case LEDGER_REJECT_SOFT: x->void_.code = REASON_LOGPROB; /* fall through */
    case LEDGER_ACCEPT:
        x->accept_.unit = rng_u64(&b->rng);
        x->accept_.lease = rng_u64(&b->rng);
        break;
    case LEDGER_VERDICT_SEAL:
        random_bytes(&b->rng, (uint8_t *)&x->verdict_seal_, sizeof(x->verdict_seal_));
        break;
    case LEDGER_OPENING:
        random_bytes(&b->rng, (uint8_t *)&x->opening_, sizeof(x->opening_));
        break;
    case LEDGER_STATES_JUDGE:
        random_bytes(&b->rng, (uint8_t *)&x->states_judge_, sizeof(x->states_judge_));
        break;
    case LEDGER_WITNESS:
        random_bytes(&b->rng, (uint8_t *)&x->witness_, sizeof(x->witness_));
        break;
    case LEDGER_CANARY_REVEAL:
        x->canary_reveal_.unit = rng_u64(&b->rng);
        x->canary_reveal_.lease = rng_u64(&b->rng);
        random_digest(b, &x->canary_reveal_.salt);
        break;
    case LEDGER_CANARY_JUDGE:
        x->canary_judge_.unit = rng_u64(&b->rng);
        x->canary_judge_.lease = rng_u64(&b->rng);
        x->canary_judge_.outcome = LEDGER_CANARY_BAD;
        break;
    case LEDGER_GIVEUP:
        x->giveup_.unit = rng_u64(&b->rng);
        x->giveup_.code = REASON_EXPIRED;
        break;
    default: break;
    }
}

static void make_challenge(struct both *b, struct ledger_dispute_open *x)
{
    x->version = (int64_t)rng_u64(&b->rng);
    random_digest(b, &x->challenger);
    random_digest(b, &x->dispute);
    x->opt_steps = rng_u64(&b->rng);
    x->is_direct = true;
    random_digest(b, &x->weights);
    random_digest(b, &x->masters);
    random_digest(b, &x->optimizer);
    random_digest(b, &x->envelope);
}

static void make_close(struct both *b, struct ledger_dispute_close *x)
{
    random_digest(b, &x->dispute);
    random_digest(b, &x->loser);
    random_digest(b, &x->last);
    x->is_silent = true;
    x->n_moves = rng_u32(&b->rng);
    x->op = rng_u32(&b->rng);
    x->out = rng_u32(&b->rng);
    x->tile = rng_u64(&b->rng);
    x->segment = rng_u32(&b->rng);
}

static void make_training(struct both *b, enum ledger_type type, union ledger_body *x)
{
    switch (type) {
    case LEDGER_MATURE:
        random_digest(b, &x->mature_.node);
        x->mature_.through = rng_u64(&b->rng);
        break;
    case LEDGER_BATCH: make_batch(b, &x->batch_); break;
    case LEDGER_STEP: random_bytes(&b->rng, (uint8_t *)&x->step_, sizeof(x->step_)); break;
    case LEDGER_ABANDON:
        random_bytes(&b->rng, (uint8_t *)&x->abandon_, sizeof(x->abandon_));
        break;
    case LEDGER_EQUIVOCATION:
        random_bytes(&b->rng, (uint8_t *)&x->equivocation_, sizeof(x->equivocation_));
        break;
    case LEDGER_STEP_ASSIGN:
        random_bytes(&b->rng, (uint8_t *)&x->step_assign_, sizeof(x->step_assign_));
        break;
    case LEDGER_STEP_VERDICT:
        random_bytes(&b->rng, (uint8_t *)&x->step_verdict_, sizeof(x->step_verdict_));
        break;
    case LEDGER_DISPUTE_OPEN: make_challenge(b, &x->dispute_open_); break;
    case LEDGER_DISPUTE_MOVE:
        random_bytes(&b->rng, (uint8_t *)&x->dispute_move_, sizeof(x->dispute_move_));
        break;
    case LEDGER_DISPUTE_CLOSE: make_close(b, &x->dispute_close_); break;
    case LEDGER_HEAD: random_bytes(&b->rng, (uint8_t *)&x->head_, sizeof(x->head_)); break;
    default: break;
    }
}

static void make(struct both *b, enum ledger_type type)
{
    struct err e;

    memset(b->in, 0, sizeof(*b->in));
    make_people(b, type, b->in);
    make_unit(b, type, b->in);
    make_training(b, type, b->in);
    assert_ok(encode(b, type, &e), &e);
}

static void every_type_comes_back_as_it_was(void **state)
{
    struct both *b = *state;

    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++) {
        struct err e;
        make(b, (enum ledger_type)t);
        memset(b->out, 0xee, sizeof(*b->out));
        assert_ok(ledger_body_decode(b->out, (enum ledger_type)t, buf_bytes(&b->bytes), &e),
                  &e);
        assert_memory_equal(b->out, b->in, size_of((enum ledger_type)t));
    }
}

static void every_cut_of_every_type_is_refused(void **state)
{
    struct both *b = *state;

    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++) {
        size_t step;
        make(b, (enum ledger_type)t);
        step = b->bytes.len / 512 + 1; /* long ones are lists: cut all over, not everywhere */
        for (size_t n = 0; n < b->bytes.len; n += step) {
            struct err e;
            enum status st = ledger_body_decode(b->out, (enum ledger_type)t,
                                                (struct bytes){b->bytes.data, n}, &e);
            assert_status(st, ERR_MALFORMED, NULL);
        }
    }
}

static void a_byte_too_many_is_refused_in_every_type(void **state)
{
    struct both *b = *state;

    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++) {
        struct err e;
        make(b, (enum ledger_type)t);
        buf_put_u8(&b->bytes, 0);
        assert_status(ledger_body_decode(b->out, (enum ledger_type)t, buf_bytes(&b->bytes), &e),
                      ERR_MALFORMED, NULL);
    }
}

static void another_version_is_refused_in_every_type(void **state)
{
    struct both *b = *state;

    for (int t = LEDGER_NONE + 1; t < LEDGER_TYPE_COUNT; t++) {
        struct err e;
        make(b, (enum ledger_type)t);
        b->bytes.data[0]++;
        assert_status(ledger_body_decode(b->out, (enum ledger_type)t, buf_bytes(&b->bytes), &e),
                      ERR_UNSUPPORTED, NULL);
    }
}

/* Changes one byte of a good body and wants it refused, with the field's name in the text. */
static void assert_out_of_range(struct both *b, enum ledger_type type, size_t at, uint8_t value,
                                const char *field)
{
    struct err e;

    make(b, type);
    b->bytes.data[at] = value;
    assert_status(ledger_body_decode(b->out, type, buf_bytes(&b->bytes), &e), ERR_MALFORMED,
                  NULL);
    assert_contains(e.text, field);
}

static void values_out_of_range_are_refused_by_name(void **state)
{
    struct both *b = *state;

    assert_out_of_range(b, LEDGER_INVITE, 1 + 16 + 32, ROLE_COUNT, "role");
    assert_out_of_range(b, LEDGER_INVITE, 1 + 16 + 32, ROLE_NONE, "role");
    assert_out_of_range(b, LEDGER_NODE_REVOKE, 1 + 32, REASON_COUNT, "code");
    assert_out_of_range(b, LEDGER_STAKE, 1 + 32 + 7, 0xff, "amount"); /* below zero */
    assert_out_of_range(b, LEDGER_STAKE, 1 + 32 + 7, 0x40, "amount"); /* past the supply */
    assert_out_of_range(b, LEDGER_ASSIGN, 1 + 8 + 8 + 32 + 32, 3, "depth");
    assert_out_of_range(b, LEDGER_COMMIT, 1 + 8 + 8 + 8 + 32 + 32 + 8, 2, "is_flat");
    assert_out_of_range(b, LEDGER_PARAM, 1 + 2, 0x1b, "name"); /* an escape */
    assert_out_of_range(b, LEDGER_PARAM, 1, 200, "name");      /* too long */
    assert_out_of_range(b, LEDGER_BATCH, 1 + 8 + 32 + 2 + 8, 4, "row 0");
    assert_out_of_range(b, LEDGER_DRAW, 1 + 8 + 32 + 8, 65, "candidates");
}

static void text_is_made_printable(void **state)
{
    struct both *b = *state;
    struct err e;

    memset(b->in, 0, sizeof(*b->in));
    memcpy(b->in->param_.value, "a\x1b[2J\xff z", 9);
    assert_ok(encode(b, LEDGER_PARAM, &e), &e);
    assert_ok(ledger_param_body_decode(&b->out->param_, buf_bytes(&b->bytes), &e), &e);

    assert_string_equal(b->out->param_.value, "a?[2J? z");
}

static void lists_that_are_too_long_cannot_be_encoded(void **state)
{
    struct both *b = *state;
    struct err e;

    make(b, LEDGER_BATCH);
    b->in->batch_.n_rows = LEDGER_BATCH_ROWS_MAX + 1;
    assert_status(encode(b, LEDGER_BATCH, &e), ERR_LIMIT, NULL);
    make(b, LEDGER_DRAW);
    b->in->draw_.n_candidates = LEDGER_CANDIDATES_MAX + 1;
    assert_status(encode(b, LEDGER_DRAW, &e), ERR_LIMIT, NULL);
}

/* The fuzzer of entries begins with one of each type that it can take apart. */
static void the_corpus_has_every_type(void **state)
{
    struct both *b = *state;

    for (unsigned type = 1; type < LEDGER_TYPE_COUNT; type++) {
        const char *name = ledger_type_name((enum ledger_type)type);
        struct ledger_entry en;
        struct buf file;
        char path[256];
        struct err e;

        if (!name)
            continue;
        buf_init(&file, LEDGER_ENTRY_MAX);
        snprintf(path, sizeof(path), CORPUS "body-%s", name);
        assert_ok(file_read(&file, path, &e), &e);
        assert_int_equal(file.data[0], type);
        assert_ok(ledger_body_decode(b->out, (enum ledger_type)type,
                                     bytes_slice(buf_bytes(&file), 1, file.len - 1), &e),
                  &e);
        buf_reset(&file);
        snprintf(path, sizeof(path), CORPUS "entry-%s", name);
        assert_ok(file_read(&file, path, &e), &e);
        assert_ok(ledger_entry_decode(&en, buf_bytes(&file), &e), &e);
        assert_int_equal(en.type, type);
        assert_ok(ledger_body_decode(b->out, en.type, en.body, &e), &e);
        buf_clear(&file);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_type_comes_back_as_it_was),
        TEST(every_cut_of_every_type_is_refused),
        TEST(a_byte_too_many_is_refused_in_every_type),
        TEST(another_version_is_refused_in_every_type),
        TEST(values_out_of_range_are_refused_by_name),
        TEST(text_is_made_printable),
        TEST(lists_that_are_too_long_cannot_be_encoded),
        TEST(the_corpus_has_every_type),
    };
    return cmocka_run_group_tests_name("ledger/body", tests, NULL, NULL);
}
