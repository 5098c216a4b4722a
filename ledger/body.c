/* Bodies are flat, so that one table of fields a type is both encoder and decoder; those that
 * end in lists (COMMIT, DRAW, VERDICT, BATCH) have their tails by hand. */
#include "ledger/body_fields.h"

#include <stddef.h>
#include <string.h>

#include "base/check.h"

#define BODY_VERSION 1u

#define FIELD(body, name, kind)                                                                \
    {                                                                                          \
#name, FIELD_##kind, offsetof(struct ledger_##body, name),                             \
            sizeof(((struct ledger_##body *)0)->name)                                          \
    }

/* clang-format off */
static const struct field genesis_fields[] = {
    FIELD(genesis, node, RAW), FIELD(genesis, transport, RAW), FIELD(genesis, owner, RAW),
    FIELD(genesis, beacon_head, RAW), FIELD(genesis, beacon_length, U64),
    FIELD(genesis, mature_window, U64), FIELD(genesis, finder_percent, U32),
    FIELD(genesis, jackpot_percent, U32),
};
static const struct field param_fields[] = {
    FIELD(param, name, TEXT), FIELD(param, value, TEXT),
};
static const struct field invite_fields[] = {
    FIELD(invite, id, RAW), FIELD(invite, secret, RAW), FIELD(invite, role, ROLE),
};
static const struct field node_admit_fields[] = {
    FIELD(node_admit, node, RAW), FIELD(node_admit, transport, RAW),
    FIELD(node_admit, owner, RAW), FIELD(node_admit, role, ROLE),
    FIELD(node_admit, owner_sig, RAW), FIELD(node_admit, invite, RAW),
};
static const struct field node_revoke_fields[] = {
    FIELD(node_revoke, node, RAW), FIELD(node_revoke, code, CODE),
};
static const struct field deposit_fields[] = {
    FIELD(deposit, owner, RAW), FIELD(deposit, amount, MONEY), FIELD(deposit, reference, RAW),
};
static const struct field stake_fields[] = {
    FIELD(stake, node, RAW), FIELD(stake, amount, MONEY),
};
static const struct field unstake_fields[] = {
    FIELD(unstake, node, RAW), FIELD(unstake, amount, MONEY),
};
static const struct field task_open_fields[] = {
    FIELD(task_open, task, RAW), FIELD(task_open, initiator, RAW),
    FIELD(task_open, deposit, MONEY), FIELD(task_open, price_token, MONEY),
    FIELD(task_open, fee_light, MONEY), FIELD(task_open, fee_full, MONEY),
    FIELD(task_open, price_step, MONEY), FIELD(task_open, stake_required, MONEY),
    FIELD(task_open, stake_granted, MONEY),
    FIELD(task_open, steps, U64), FIELD(task_open, tokens_max, U64),
    FIELD(task_open, verdicts_max, U32), FIELD(task_open, validators, U32),
    FIELD(task_open, audit_first, U32), FIELD(task_open, audit_floor, U64),
    FIELD(task_open, saving_ppm, U32), FIELD(task_open, detection_ppm, U32),
    FIELD(task_open, canary_rate, U64), FIELD(task_open, canary_bonus, MONEY),
    FIELD(task_open, bond_required, MONEY), FIELD(task_open, bond_slice_ppm, U32),
    FIELD(task_open, bond_strikes, U32), FIELD(task_open, recheck_rate, U64),
    FIELD(task_open, witnesses, U32), FIELD(task_open, step_rate, U64),
    FIELD(task_open, step_first, U32), FIELD(task_open, fee_step, MONEY),
    FIELD(task_open, dispute_bond, MONEY), FIELD(task_open, dispute_ms, U32),
};
static const struct field task_close_fields[] = {
    FIELD(task_close, task, RAW),
};
static const struct field lease_fields[] = {
    FIELD(lease, unit, U64), FIELD(lease, attempt, U32), FIELD(lease, worker, RAW),
    FIELD(lease, version, U64), FIELD(lease, expires_us, U64), FIELD(lease, hard_us, U64),
    FIELD(lease, reserve, MONEY), FIELD(lease, seal, RAW),
};
static const struct field commit_fields[] = {
    FIELD(commit, unit, U64), FIELD(commit, lease, U64), FIELD(commit, version, U64),
    FIELD(commit, root, RAW), FIELD(commit, envelope, RAW), FIELD(commit, tokens, U64),
    FIELD(commit, is_flat, BOOL),
};
static const struct field draw_fields[] = {
    FIELD(draw, round, U64), FIELD(draw, value, RAW), FIELD(draw, through, U64),
};
static const struct field assign_fields[] = {
    FIELD(assign, unit, U64), FIELD(assign, lease, U64), FIELD(assign, from, RAW),
    FIELD(assign, to, RAW), FIELD(assign, depth, DEPTH),
};
static const struct field verdict_seal_fields[] = {
    FIELD(verdict_seal, unit, U64), FIELD(verdict_seal, lease, U64),
    FIELD(verdict_seal, validator, RAW), FIELD(verdict_seal, verdict, RAW),
    FIELD(verdict_seal, envelope, RAW),
};
static const struct field opening_fields[] = {
    FIELD(opening, unit, U64), FIELD(opening, lease, U64), FIELD(opening, envelope, RAW),
};
static const struct field states_judge_fields[] = {
    FIELD(states_judge, unit, U64), FIELD(states_judge, lease, U64),
    FIELD(states_judge, validator, RAW), FIELD(states_judge, first, RAW),
    FIELD(states_judge, second, RAW),
};
static const struct field step_assign_fields[] = {
    FIELD(step_assign, version, U64), FIELD(step_assign, from, RAW), FIELD(step_assign, to, RAW),
};
static const struct field step_verdict_fields[] = {
    FIELD(step_verdict, version, U64), FIELD(step_verdict, validator, RAW),
    FIELD(step_verdict, envelope, RAW),
};
static const struct field dispute_open_fields[] = {
    FIELD(dispute_open, version, U64), FIELD(dispute_open, challenger, RAW),
    FIELD(dispute_open, dispute, RAW), FIELD(dispute_open, opt_steps, U64),
    FIELD(dispute_open, is_direct, BOOL),
    FIELD(dispute_open, weights, RAW), FIELD(dispute_open, masters, RAW),
    FIELD(dispute_open, optimizer, RAW), FIELD(dispute_open, envelope, RAW),
};
static const struct field dispute_move_fields[] = {
    FIELD(dispute_move, dispute, RAW), FIELD(dispute_move, number, U32),
    FIELD(dispute_move, kind, U32), FIELD(dispute_move, envelope, RAW),
};
static const struct field dispute_close_fields[] = {
    FIELD(dispute_close, dispute, RAW), FIELD(dispute_close, loser, RAW),
    FIELD(dispute_close, is_silent, BOOL), FIELD(dispute_close, n_moves, U32),
    FIELD(dispute_close, last, RAW), FIELD(dispute_close, op, U32),
    FIELD(dispute_close, out, U32), FIELD(dispute_close, tile, U64),
    FIELD(dispute_close, segment, U32),
};
static const struct field verdict_fields[] = {
    FIELD(verdict, unit, U64), FIELD(verdict, lease, U64), FIELD(verdict, validator, RAW),
    FIELD(verdict, depth, DEPTH), FIELD(verdict, is_accepted, BOOL),
    FIELD(verdict, code, CODE), FIELD(verdict, envelope, RAW), FIELD(verdict, states, RAW),
};
static const struct field accept_fields[] = {
    FIELD(accept, unit, U64), FIELD(accept, lease, U64), FIELD(accept, is_sole, BOOL),
    FIELD(accept, salt, RAW),
};
static const struct field void_fields[] = {
    FIELD(void, unit, U64), FIELD(void, lease, U64), FIELD(void, code, CODE),
    FIELD(void, salt, RAW),
};
static const struct field reject_soft_fields[] = {
    FIELD(reject_soft, unit, U64), FIELD(reject_soft, lease, U64),
    FIELD(reject_soft, code, CODE), FIELD(reject_soft, salt, RAW),
};
static const struct field reject_hard_fields[] = {
    FIELD(reject_hard, unit, U64), FIELD(reject_hard, lease, U64),
    FIELD(reject_hard, code, CODE), FIELD(reject_hard, is_sole, BOOL),
    FIELD(reject_hard, salt, RAW),
};
static const struct field canary_reveal_fields[] = {
    FIELD(canary_reveal, unit, U64), FIELD(canary_reveal, lease, U64),
    FIELD(canary_reveal, salt, RAW),
};
static const struct field canary_judge_fields[] = {
    FIELD(canary_judge, unit, U64), FIELD(canary_judge, lease, U64),
    FIELD(canary_judge, outcome, U32),
};
static const struct field witness_fields[] = {
    FIELD(witness, seq, U64), FIELD(witness, validator, RAW), FIELD(witness, nonce, RAW),
    FIELD(witness, next, RAW), FIELD(witness, envelope, RAW),
};
static const struct field giveup_fields[] = {
    FIELD(giveup, unit, U64), FIELD(giveup, code, CODE),
};
static const struct field mature_fields[] = {
    FIELD(mature, node, RAW), FIELD(mature, through, U64),
};
static const struct field batch_fields[] = {
    FIELD(batch, batch, U64), FIELD(batch, root, RAW),
};
static const struct field step_fields[] = {
    FIELD(step, version, U64), FIELD(step, parent, RAW), FIELD(step, weights, RAW),
    FIELD(step, batch, RAW), FIELD(step, envelope, RAW), FIELD(step, trainer, RAW),
};
static const struct field abandon_fields[] = {
    FIELD(abandon, version, U64), FIELD(abandon, weights, RAW),
};
static const struct field equivocation_fields[] = {
    FIELD(equivocation, version, U64), FIELD(equivocation, trainer, RAW),
    FIELD(equivocation, first, RAW), FIELD(equivocation, second, RAW),
};
static const struct field head_fields[] = {
    FIELD(head, seq, U64), FIELD(head, root, RAW), FIELD(head, balances, RAW),
};
/* clang-format on */

static void put_field(struct buf *out, const struct field *f, const uint8_t *from)
{
    uint32_t u32;
    uint64_t u64;
    size_t len;

    switch (f->kind) {
    case FIELD_RAW: buf_append(out, (struct bytes){from, f->size}); break;
    case FIELD_BOOL: buf_put_u8(out, *(const bool *)from ? 1 : 0); break;
    case FIELD_ROLE:
    case FIELD_DEPTH:
    case FIELD_CODE:
        memcpy(&u32, from, sizeof(u32));
        CHECK(u32 <= UINT8_MAX);
        buf_put_u8(out, (uint8_t)u32);
        break;
    case FIELD_U32:
        memcpy(&u32, from, sizeof(u32));
        buf_put_u32(out, u32);
        break;
    case FIELD_U64:
    case FIELD_MONEY:
        memcpy(&u64, from, sizeof(u64));
        buf_put_u64(out, u64);
        break;
    case FIELD_TEXT:
        len = strnlen((const char *)from, f->size - 1);
        buf_put_u16(out, (uint16_t)len);
        for (size_t i = 0; i < len; i++) /* what a terminal must not see becomes '?' */
            buf_put_u8(out, from[i] < 0x20 || from[i] > 0x7e ? '?' : from[i]);
        break;
    }
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < 0x20 || text.data[i] > 0x7e)
            return false;
    return true;
}

/* False if the value is out of its kind's range. An overrun is the reader's to tell. */
static bool get_text(struct reader *r, const struct field *f, uint8_t *to)
{
    struct bytes text = reader_bytes(r, reader_u16(r));

    if (text.len >= f->size || !is_printable(text))
        return false;
    if (text.len)
        memcpy(to, text.data, text.len);
    return true;
}

static bool get_u8(struct reader *r, uint8_t *to, uint32_t lo, uint32_t n)
{
    uint32_t v = reader_u8(r);

    memcpy(to, &v, sizeof(v));
    return v >= lo && v < n;
}

static bool get_field(struct reader *r, const struct field *f, uint8_t *to)
{
    uint32_t u32;
    uint64_t u64;

    switch (f->kind) {
    case FIELD_RAW: reader_copy(r, to, f->size); return true;
    case FIELD_BOOL:
        u32 = reader_u8(r);
        *(bool *)to = u32 == 1;
        return u32 <= 1;
    case FIELD_ROLE: return get_u8(r, to, ROLE_NONE + 1, ROLE_COUNT);
    case FIELD_DEPTH: return get_u8(r, to, CHECK_LIGHT, CHECK_FULL + 1);
    case FIELD_CODE: return get_u8(r, to, 0, REASON_COUNT);
    case FIELD_U32:
        u32 = reader_u32(r);
        memcpy(to, &u32, sizeof(u32));
        return true;
    case FIELD_U64:
        u64 = reader_u64(r);
        memcpy(to, &u64, sizeof(u64));
        return true;
    case FIELD_MONEY:
        u64 = reader_u64(r);
        memcpy(to, &u64, sizeof(u64));
        return u64 <= LEDGER_SUPPLY_MAX;
    case FIELD_TEXT: return get_text(r, f, to);
    }
    return false;
}

static void put_fields(struct buf *out, const struct field *f, size_t n, const void *b)
{
    buf_put_u8(out, BODY_VERSION);
    for (size_t i = 0; i < n; i++)
        put_field(out, &f[i], (const uint8_t *)b + f[i].at);
}

static enum status get_fields(struct reader *r, const struct field *f, size_t n, void *b,
                              const char *what, struct err *e)
{
    uint8_t version = reader_u8(r);

    if (!r->bad && version != BODY_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "%s body: version %u, this program reads %u", what,
                       version, BODY_VERSION);
    for (size_t i = 0; i < n; i++) {
        bool fits = get_field(r, &f[i], (uint8_t *)b + f[i].at);
        if (r->bad)
            return err_set(e, ERR_MALFORMED, "%s body: ends before '%s'", what, f[i].name);
        if (!fits)
            return err_set(e, ERR_MALFORMED, "%s body: '%s' is out of range", what, f[i].name);
    }
    return OK;
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

const struct field *body_fields(enum ledger_type type, size_t *n)
{
#define FIELDS_CASE(NAME, number, body, moves_money, text)                                     \
    case LEDGER_##NAME: *n = COUNT_OF(body##_fields); return body##_fields;

    switch (type) {
        LEDGER_TYPE_MAP(FIELDS_CASE)
    case LEDGER_NONE:
    case LEDGER_TYPE_COUNT: break;
    }
#undef FIELDS_CASE
    *n = 0;
    return NULL;
}

#define BODY_FLAT(body, NAME)                                                                  \
    enum status ledger_##body##_body_encode(struct buf *out, const struct ledger_##body *b,    \
                                            struct err *e)                                     \
    {                                                                                          \
        put_fields(out, body##_fields, COUNT_OF(body##_fields), b);                            \
        return buf_status(out, e);                                                             \
    }                                                                                          \
    enum status ledger_##body##_body_decode(struct ledger_##body *b, struct bytes in,          \
                                            struct err *e)                                     \
    {                                                                                          \
        struct reader r = reader_of(in);                                                       \
        enum status st;                                                                        \
        memset(b, 0, sizeof(*b));                                                              \
        st = get_fields(&r, body##_fields, COUNT_OF(body##_fields), b, NAME, e);               \
        return st ? st : reader_done(&r, NAME " body", e);                                     \
    }

BODY_FLAT(genesis, "GENESIS")
BODY_FLAT(param, "PARAM")
BODY_FLAT(invite, "INVITE")
BODY_FLAT(node_admit, "NODE_ADMIT")
BODY_FLAT(node_revoke, "NODE_REVOKE")
BODY_FLAT(deposit, "DEPOSIT")
BODY_FLAT(stake, "STAKE")
BODY_FLAT(unstake, "UNSTAKE")
BODY_FLAT(task_open, "TASK_OPEN")
BODY_FLAT(task_close, "TASK_CLOSE")
BODY_FLAT(lease, "LEASE")
BODY_FLAT(assign, "ASSIGN")
BODY_FLAT(verdict_seal, "VERDICT_SEAL")
BODY_FLAT(states_judge, "STATES_JUDGE")
BODY_FLAT(step_assign, "STEP_ASSIGN")
BODY_FLAT(step_verdict, "STEP_VERDICT")
BODY_FLAT(dispute_open, "DISPUTE_OPEN")
BODY_FLAT(dispute_move, "DISPUTE_MOVE")
BODY_FLAT(dispute_close, "DISPUTE_CLOSE")
BODY_FLAT(opening, "OPENING")
BODY_FLAT(accept, "ACCEPT")
BODY_FLAT(void, "VOID")
BODY_FLAT(reject_soft, "REJECT_SOFT")
BODY_FLAT(reject_hard, "REJECT_HARD")
BODY_FLAT(canary_reveal, "CANARY_REVEAL")
BODY_FLAT(canary_judge, "CANARY_JUDGE")
BODY_FLAT(witness, "WITNESS")
BODY_FLAT(giveup, "GIVEUP")
BODY_FLAT(mature, "MATURE")
BODY_FLAT(step, "STEP")
BODY_FLAT(abandon, "ABANDON")
BODY_FLAT(equivocation, "EQUIVOCATION")
BODY_FLAT(head, "HEAD")

/* ---- COMMIT: samples (u8 count) ------------------------------------------------------------- */

enum status ledger_commit_body_encode(struct buf *out, const struct ledger_commit *b,
                                      struct err *e)
{
    if (b->n_samples > LEDGER_SAMPLES_MAX)
        return err_set(e, ERR_LIMIT, "COMMIT body: %u samples, at most %u", b->n_samples,
                       LEDGER_SAMPLES_MAX);
    put_fields(out, commit_fields, COUNT_OF(commit_fields), b);
    buf_put_u8(out, (uint8_t)b->n_samples);
    for (uint32_t i = 0; i < b->n_samples; i++) {
        buf_put_u64(out, b->sample[i].print);
        buf_put_u32(out, b->sample[i].tokens);
        buf_put_u32(out, b->sample[i].surprise);
        buf_put_u8(out, (uint8_t)b->sample[i].has_ended);
        buf_put_u32(out, (uint32_t)b->sample[i].reward);
    }
    return buf_status(out, e);
}

static bool get_sample(struct reader *r, struct ledger_sample *s)
{
    s->print = reader_u64(r);
    s->tokens = reader_u32(r);
    s->surprise = reader_u32(r);
    s->has_ended = reader_u8(r);
    s->reward = (int32_t)reader_u32(r);
    return s->has_ended <= 1 && s->reward >= -(1 << 30) && s->reward <= 1 << 30;
}

enum status ledger_commit_body_decode(struct ledger_commit *b, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    enum status st;

    memset(b, 0, sizeof(*b));
    st = get_fields(&r, commit_fields, COUNT_OF(commit_fields), b, "COMMIT", e);
    if (st)
        return st;
    b->n_samples = reader_u8(&r);
    if (b->n_samples > LEDGER_SAMPLES_MAX)
        return err_set(e, ERR_MALFORMED, "COMMIT body: %u samples, at most %u", b->n_samples,
                       LEDGER_SAMPLES_MAX);
    for (uint32_t i = 0; i < b->n_samples && !r.bad; i++)
        if (!get_sample(&r, &b->sample[i]) && !r.bad)
            return err_set(e, ERR_MALFORMED, "COMMIT body: sample %u is out of range", i);
    return reader_done(&r, "COMMIT body", e);
}

/* ---- DRAW: candidates (u8 count), rows (u16 count) ------------------------------------------ */

static void put_draw_row(struct buf *out, const struct ledger_draw_row *row)
{
    buf_put_u64(out, row->unit);
    buf_put_u64(out, row->lease);
    buf_put_u8(out, (uint8_t)row->depth);
    buf_put_u64(out, row->probability);
    buf_put_u8(out, (uint8_t)row->n_assigned);
    buf_append(out, (struct bytes){row->assigned, row->n_assigned});
}

enum status ledger_draw_body_encode(struct buf *out, const struct ledger_draw *b, struct err *e)
{
    if (b->n_candidates > LEDGER_CANDIDATES_MAX || b->n_rows > LEDGER_DRAW_ROWS_MAX)
        return err_set(e, ERR_LIMIT, "DRAW body: %u candidates and %u rows, at most %u and %u",
                       b->n_candidates, b->n_rows, LEDGER_CANDIDATES_MAX, LEDGER_DRAW_ROWS_MAX);
    put_fields(out, draw_fields, COUNT_OF(draw_fields), b);
    buf_put_u8(out, (uint8_t)b->n_candidates);
    for (uint32_t i = 0; i < b->n_candidates; i++)
        buf_append(out, BYTES_OF(b->candidate[i]));
    buf_put_u16(out, (uint16_t)b->n_rows);
    for (uint32_t i = 0; i < b->n_rows; i++) {
        if (b->row[i].n_assigned > LEDGER_ASSIGNED_MAX)
            return err_set(e, ERR_LIMIT, "DRAW body: %u validators for one unit, at most %u",
                           b->row[i].n_assigned, LEDGER_ASSIGNED_MAX);
        put_draw_row(out, &b->row[i]);
    }
    return buf_status(out, e);
}

static bool get_draw_row(struct reader *r, struct ledger_draw_row *row, uint32_t n_candidates)
{
    row->unit = reader_u64(r);
    row->lease = reader_u64(r);
    row->depth = reader_u8(r);
    row->probability = reader_u64(r);
    row->n_assigned = reader_u8(r);
    if (row->n_assigned > LEDGER_ASSIGNED_MAX)
        return false;
    reader_copy(r, row->assigned, row->n_assigned);
    for (uint32_t i = 0; i < row->n_assigned; i++)
        if (row->assigned[i] >= n_candidates)
            return false;
    return (row->depth == CHECK_LIGHT || row->depth == CHECK_FULL) &&
           row->probability <= LEDGER_ONE;
}

enum status ledger_draw_body_decode(struct ledger_draw *b, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    enum status st;

    memset(b, 0, sizeof(*b));
    st = get_fields(&r, draw_fields, COUNT_OF(draw_fields), b, "DRAW", e);
    if (st)
        return st;
    b->n_candidates = reader_u8(&r);
    if (b->n_candidates > LEDGER_CANDIDATES_MAX)
        return err_set(e, ERR_MALFORMED, "DRAW body: %u candidates, at most %u",
                       b->n_candidates, LEDGER_CANDIDATES_MAX);
    for (uint32_t i = 0; i < b->n_candidates; i++)
        reader_copy(&r, b->candidate[i].b, KEY_BYTES);
    b->n_rows = reader_u16(&r);
    if (b->n_rows > LEDGER_DRAW_ROWS_MAX)
        return err_set(e, ERR_MALFORMED, "DRAW body: %u rows, at most %u", b->n_rows,
                       LEDGER_DRAW_ROWS_MAX);
    for (uint32_t i = 0; i < b->n_rows && !r.bad; i++)
        if (!get_draw_row(&r, &b->row[i], b->n_candidates) && !r.bad)
            return err_set(e, ERR_MALFORMED, "DRAW body: row %u is out of range", i);
    return reader_done(&r, "DRAW body", e);
}

/* ---- VERDICT: opened (u8 count) ------------------------------------------------------------- */

enum status ledger_verdict_body_encode(struct buf *out, const struct ledger_verdict *b,
                                       struct err *e)
{
    if (b->n_opened > LEDGER_OPENED_MAX)
        return err_set(e, ERR_LIMIT, "VERDICT body: %u are opened, at most %u", b->n_opened,
                       LEDGER_OPENED_MAX);
    put_fields(out, verdict_fields, COUNT_OF(verdict_fields), b);
    buf_put_u8(out, (uint8_t)b->n_opened);
    for (uint32_t i = 0; i < b->n_opened; i++) {
        buf_append(out, BYTES_OF(b->opened[i].validator));
        buf_append(out, BYTES_OF(b->opened[i].found));
    }
    return buf_status(out, e);
}

enum status ledger_verdict_body_decode(struct ledger_verdict *b, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    enum status st;

    memset(b, 0, sizeof(*b));
    st = get_fields(&r, verdict_fields, COUNT_OF(verdict_fields), b, "VERDICT", e);
    if (st)
        return st;
    b->n_opened = reader_u8(&r);
    if (b->n_opened > LEDGER_OPENED_MAX)
        return err_set(e, ERR_MALFORMED, "VERDICT body: %u are opened, at most %u", b->n_opened,
                       LEDGER_OPENED_MAX);
    for (uint32_t i = 0; i < b->n_opened; i++) {
        reader_copy(&r, b->opened[i].validator.b, KEY_BYTES);
        reader_copy(&r, b->opened[i].found.b, DIGEST_BYTES);
    }
    return reader_done(&r, "VERDICT body", e);
}

/* ---- BATCH: rows (u16 count) ---------------------------------------------------------------- */

enum status ledger_batch_body_encode(struct buf *out, const struct ledger_batch *b,
                                     struct err *e)
{
    if (b->n_rows > LEDGER_BATCH_ROWS_MAX)
        return err_set(e, ERR_LIMIT, "BATCH body: %u rows, at most %u", b->n_rows,
                       LEDGER_BATCH_ROWS_MAX);
    put_fields(out, batch_fields, COUNT_OF(batch_fields), b);
    buf_put_u16(out, (uint16_t)b->n_rows);
    for (uint32_t i = 0; i < b->n_rows; i++) {
        buf_put_u64(out, b->row[i].unit);
        buf_put_u8(out, (uint8_t)b->row[i].use);
    }
    return buf_status(out, e);
}

enum status ledger_batch_body_decode(struct ledger_batch *b, struct bytes in, struct err *e)
{
    struct reader r = reader_of(in);
    enum status st;

    memset(b, 0, sizeof(*b));
    st = get_fields(&r, batch_fields, COUNT_OF(batch_fields), b, "BATCH", e);
    if (st)
        return st;
    b->n_rows = reader_u16(&r);
    if (b->n_rows > LEDGER_BATCH_ROWS_MAX)
        return err_set(e, ERR_MALFORMED, "BATCH body: %u rows, at most %u", b->n_rows,
                       LEDGER_BATCH_ROWS_MAX);
    for (uint32_t i = 0; i < b->n_rows && !r.bad; i++) {
        b->row[i].unit = reader_u64(&r);
        b->row[i].use = reader_u8(&r);
        if (!r.bad && (b->row[i].use < LEDGER_TRAINED || b->row[i].use > LEDGER_GIVEN_UP))
            return err_set(e, ERR_MALFORMED, "BATCH body: row %u is out of range", i);
    }
    return reader_done(&r, "BATCH body", e);
}

enum status ledger_body_decode(union ledger_body *b, enum ledger_type type, struct bytes in,
                               struct err *e)
{
#define BODY_CASE(NAME, number, body, moves_money, text)                                       \
    case LEDGER_##NAME: return ledger_##body##_body_decode(&b->body##_, in, e);

    switch (type) {
        LEDGER_TYPE_MAP(BODY_CASE)
    case LEDGER_NONE:
    case LEDGER_TYPE_COUNT: break;
    }
#undef BODY_CASE
    return err_set(e, ERR_UNSUPPORTED, "ledger entry: unknown type %u", (unsigned)type);
}
