/*
 * learn/dispute: whichever number of whichever operation is altered, the game ends at that number
 * and whoever altered it loses; the other side never does, whatever is said.
 */
#include "learn/dispute.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "support/test.h"

#include "unit/engine/tiny_model.h"
#include "unit/learn/tiny_step.h"

#define MOVE_MS 1000

struct fixture {
    struct tiny_step s;
    struct graph *g;
    struct trace *honest;
    struct rng rng;
    struct err e;
};

static struct trace *trace_of(struct fixture *f, const struct trace_fault *fault)
{
    const struct trace_options o = {.kernels = kernels_best(), .fault = fault};
    struct trace *t;

    assert_ok(trace_new(&t, f->g, f->s.masters, f->s.opt, &o, &f->e), &f->e);
    assert_ok(trace_commit(t, &f->e), &f->e);
    return t;
}

static void begin(struct fixture *f, const struct model_config *c, size_t n_samples,
                  size_t longest, uint32_t n_lanes)
{
    memset(f, 0, sizeof(*f));
    f->rng = rng_of(11, 4);
    tiny_step_init(&f->s, c, n_samples, longest);
    f->s.settings.grad_lanes = n_lanes;
    f->g = tiny_step_graph(&f->s);
    f->honest = trace_of(f, NULL);
}

static void end(struct fixture *f)
{
    trace_free(&f->honest);
    graph_free(&f->g);
    tiny_step_clear(&f->s);
}

/* The claim of whoever has this trace: what it would have signed. */
static struct opening_claim claim_of(const struct trace *t)
{
    return (struct opening_claim){.masters_before = t->masters_before,
                                  .optimizer_before = t->optimizer_before,
                                  .masters_after = t->masters_after,
                                  .optimizer_after = t->optimizer_after};
}

/* Changes a move on its way; NULL: it stays. */
typedef void meddle_fn(struct fixture *f, const struct dispute *d, struct buf *move);

static void init_game(struct fixture *f, struct dispute *d, const struct trace *defender)
{
    const struct opening_claim claim = claim_of(defender);
    struct dispute_rules rules = {.move_ms = MOVE_MS};

    assert_ok(kernels_choose(&rules.kernels, NUMERICS_F32_1, "scalar", &f->e), &f->e);
    dispute_init(d, f->g, &claim, &rules, 0);
}

/* Plays to the end; d is the caller's to clear. */
static void play(struct fixture *f, struct dispute *d, struct trace *challenger,
                 struct trace *defender, meddle_fn *meddle)
{
    struct dispute_party c, v;
    struct buf move;

    init_game(f, d, defender);
    dispute_party_init(&c, DISPUTE_CHALLENGER, challenger);
    dispute_party_init(&v, DISPUTE_DEFENDER, defender);
    buf_init(&move, OPENING_MAX_BYTES);
    while (d->level != DISPUTE_CLOSED) {
        enum dispute_side turn = d->turn;

        buf_reset(&move);
        assert_ok(dispute_party_move(turn == c.side ? &c : &v, d, &move, &f->e), &f->e);
        if (meddle)
            meddle(f, d, &move);
        assert_ok(dispute_move(d, turn, buf_bytes(&move), d->n_moves, &f->e), &f->e);
        assert_true(d->n_moves < 100);
    }
    buf_clear(&move);
    dispute_party_clear(&c);
    dispute_party_clear(&v);
}

static struct trace_fault fault_at(struct fixture *f, uint32_t op)
{
    const struct graph_op *o = &f->g->op[op];
    struct trace_fault fault = {.op = op, .flip = 1u << rng_below(&f->rng, 32)};

    fault.out = (uint32_t)rng_below(&f->rng, o->n_outs);
    if (o->kind != GRAPH_CONCLUDE) {
        const struct tiling *s = &f->g->tensor[o->out[fault.out]].shape;

        fault.at = rng_below(&f->rng, (uint64_t)s->rows * s->cols);
    }
    return fault;
}

/* That the game went to the number that was altered. */
static void assert_found(const struct fixture *f, const struct dispute *d,
                         const struct trace_fault *fault)
{
    const struct tiling *s;
    struct tile at;

    assert_int_equal(d->op, fault->op);
    assert_int_equal(d->out, fault->out);
    if (f->g->op[d->op].kind == GRAPH_CONCLUDE)
        return;
    s = &f->g->tensor[f->g->op[d->op].out[d->out]].shape;
    at = tiling_at(s, d->tile);
    assert_true(fault->at / s->cols - at.row < at.rows &&
                fault->at % s->cols - at.col < at.cols);
}

static void one_fault(struct fixture *f, uint32_t op, enum dispute_side cheat)
{
    struct trace_fault fault = fault_at(f, op);
    struct trace *t = trace_of(f, &fault);
    struct dispute d;

    if (cheat == DISPUTE_DEFENDER)
        play(f, &d, f->honest, t, NULL);
    else
        play(f, &d, t, f->honest, NULL);
    if (d.loser != cheat)
        fail_msg("%s of operation %u: the other side lost: %s",
                 graph_kind_name(f->g->op[op].kind), op, d.why);
    assert_found(f, &d, &fault);
    dispute_clear(&d);
    trace_free(&t);
}

static void every_operation(const struct model_config *c, uint32_t stride)
{
    struct fixture f;

    begin(&f, c, 4, 9, 4);
    for (uint32_t op = 0; op < f.g->n_ops; op++)
        if (op % stride == 0 || op + 1 == f.g->n_ops)
            one_fault(&f, op, op % 3 == 2 ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER);
    end(&f);
}

static void an_altered_number_is_found_and_its_owner_loses(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);

    (void)state;
    every_operation(&c, 1);
    c = tiny_config(MODEL_ARCH_LLAMA);
    c.dtype = DTYPE_BF16;
    every_operation(&c, 7);
}

/* In a sum of more than one segment, whichever segment the number's error is in, or at its end. */
static void long_sums_are_taken_apart(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    bool seen[GRAPH_KIND_COUNT] = {false};
    struct fixture f;
    size_t n = 0;

    (void)state;
    c.layers = 1;
    c.ffn = 2100;
    begin(&f, &c, 2, 9, 1);
    for (uint32_t op = 0; op < f.g->n_ops; op++) {
        if (graph_segments(f.g, &f.g->op[op], 0) < 3 || seen[f.g->op[op].kind])
            continue;
        seen[f.g->op[op].kind] = true;
        one_fault(&f, op, DISPUTE_DEFENDER);
        one_fault(&f, op, DISPUTE_CHALLENGER);
        n++;
    }
    assert_int_equal(n, 2); /* LINEAR of down, DX of gate */
    end(&f);
}

static size_t n_forged;

/* Opens accumulators from which the altered number does follow, if a few units in the last place
 * are enough. */
static void forge_accumulators(struct fixture *f, const struct dispute *d, struct buf *move)
{
    const struct referee_question q = dispute_question(d);
    struct opening_result found;

    if (d->level != DISPUTE_OPENING || q.first == 0)
        return;
    for (size_t at = 2; at < 2 + 12 * sizeof(float); at += sizeof(float))
        for (int ulp = -4; ulp <= 4; ulp++) {
            uint32_t bits, was;

            memcpy(&was, move->data + at, sizeof(was));
            bits = was + (uint32_t)ulp;
            memcpy(move->data + at, &bits, sizeof(bits));
            assert_ok(opening_judge(&found, bytes_slice(buf_bytes(move), 1, move->len - 1),
                                    f->g, kernels_best(), &d->claim, &q, &f->e),
                      &f->e);
            if (digest_equal(&found.after, &d->after)) {
                n_forged++;
                return;
            }
            memcpy(move->data + at, &was, sizeof(was));
        }
}

static void accumulators_must_be_those_that_were_shown(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    struct fixture f;
    uint32_t op = 0;

    (void)state;
    c.layers = 1;
    c.ffn = 1100;
    begin(&f, &c, 2, 4, 1); /* few numbers in a tile */
    while (f.g->op[op].kind != GRAPH_DX || graph_segments(f.g, &f.g->op[op], 0) < 2)
        op++;
    for (unsigned i = 0; i < 4; i++) {
        struct trace_fault fault = {.op = op, .at = i, .flip = 1};
        struct trace *t = trace_of(&f, &fault);
        struct dispute d;

        play(&f, &d, f.honest, t, forge_accumulators);
        assert_int_equal(d.loser, DISPUTE_DEFENDER);
        dispute_clear(&d);
        trace_free(&t);
    }
    assert_true(n_forged > 0);
    end(&f);
}

static void pick_anything(struct fixture *f, const struct dispute *d, struct buf *move)
{
    if (d->turn != DISPUTE_CHALLENGER)
        return;
    buf_reset(move);
    buf_put_u8(move, DISPUTE_PICK);
    buf_put_u32(move, (uint32_t)rng_below(&f->rng, d->n_shown));
}

static void whoever_accuses_the_honest_loses(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN2);
    struct fixture f;

    (void)state;
    begin(&f, &c, 4, 9, 1);
    for (unsigned i = 0; i < 100; i++) {
        struct dispute d;

        play(&f, &d, f.honest, f.honest, pick_anything);
        assert_int_equal(d.loser, DISPUTE_CHALLENGER);
        dispute_clear(&d);
    }
    end(&f);
}

/* One byte of one of the defender's moves. */
static void alter_a_byte(struct fixture *f, const struct dispute *d, struct buf *move)
{
    if (d->turn == DISPUTE_DEFENDER && rng_below(&f->rng, 6) == 0)
        move->data[rng_below(&f->rng, move->len)] ^= (uint8_t)(1 + rng_below(&f->rng, 255));
}

static void cut_short(struct fixture *f, const struct dispute *d, struct buf *move)
{
    if (d->turn == DISPUTE_DEFENDER && rng_below(&f->rng, 6) == 0)
        move->len = rng_below(&f->rng, move->len);
}

/* Having begun with its own trace, goes on with what the honest one has. */
static void show_the_truth(struct fixture *f, const struct dispute *d, struct buf *move)
{
    struct dispute_party honest;

    if (d->turn != DISPUTE_DEFENDER || d->n_moves == 0 || rng_below(&f->rng, 3) > 0)
        return;
    buf_reset(move);
    dispute_party_init(&honest, DISPUTE_DEFENDER, f->honest);
    assert_ok(dispute_party_move(&honest, d, move, &f->e), &f->e);
    dispute_party_clear(&honest);
}

/* A liar may say what it likes: an honest challenger does not lose to it. */
static void no_forged_move_saves_a_liar(void **state)
{
    static meddle_fn *const lies[] = {alter_a_byte, cut_short, show_the_truth};
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);
    struct fixture f;

    (void)state;
    begin(&f, &c, 4, 9, 1);
    for (unsigned i = 0; i < 90; i++) {
        struct trace_fault fault = fault_at(&f, (uint32_t)rng_below(&f.rng, f.g->n_ops));
        struct trace *t = trace_of(&f, &fault);
        struct dispute d;

        play(&f, &d, f.honest, t, lies[i % 3]);
        assert_int_equal(d.loser, DISPUTE_DEFENDER);
        dispute_clear(&d);
        trace_free(&t);
    }
    end(&f);
}

/* An altered opening of an honest defender is the defender's fault; it may also be without effect
 * only if nothing was altered. */
static void an_opening_has_one_spelling(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_QWEN3);
    struct fixture f;
    unsigned n_lost = 0;

    (void)state;
    begin(&f, &c, 4, 9, 1);
    for (unsigned i = 0; i < 100; i++) {
        struct dispute_party v;
        struct dispute d;
        struct buf move;

        init_game(&f, &d, f.honest);
        dispute_party_init(&v, DISPUTE_DEFENDER, f.honest);
        buf_init(&move, OPENING_MAX_BYTES);
        while (d.level != DISPUTE_CLOSED) {
            enum dispute_side turn = d.turn;
            bool is_opening = d.level == DISPUTE_OPENING;

            buf_reset(&move);
            if (turn == DISPUTE_DEFENDER)
                assert_ok(dispute_party_move(&v, &d, &move, &f.e), &f.e);
            else
                pick_anything(&f, &d, &move);
            if (is_opening)
                move.data[1 + rng_below(&f.rng, move.len - 1)] ^= 1;
            assert_ok(dispute_move(&d, turn, buf_bytes(&move), d.n_moves, &f.e), &f.e);
        }
        n_lost += d.loser == DISPUTE_DEFENDER;
        dispute_clear(&d);
        dispute_party_clear(&v);
        buf_clear(&move);
    }
    assert_int_equal(n_lost, 100);
    end(&f);
}

static void silence_loses(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    struct trace_fault fault = {.op = 3, .flip = 1};
    struct dispute_party p[2];
    struct fixture f;
    struct trace *t;
    struct buf move;

    (void)state;
    begin(&f, &c, 3, 7, 1);
    t = trace_of(&f, &fault);
    buf_init(&move, OPENING_MAX_BYTES);
    for (uint32_t stop = 0; stop < 5; stop++) {
        struct dispute d;
        enum dispute_side turn;
        int64_t now = 0;

        init_game(&f, &d, t);
        dispute_party_init(&p[0], DISPUTE_CHALLENGER, f.honest);
        dispute_party_init(&p[1], DISPUTE_DEFENDER, t);
        while (d.n_moves < stop) {
            turn = d.turn;
            now += MOVE_MS; /* just in time */
            buf_reset(&move);
            assert_ok(dispute_party_move(&p[turn == DISPUTE_DEFENDER], &d, &move, &f.e), &f.e);
            assert_ok(dispute_move(&d, turn, buf_bytes(&move), now, &f.e), &f.e);
        }
        turn = d.turn;
        assert_status(
            dispute_move(&d, turn == DISPUTE_DEFENDER ? DISPUTE_CHALLENGER : DISPUTE_DEFENDER,
                         buf_bytes(&move), now, &f.e),
            ERR_DENIED, NULL);
        dispute_tick(&d, now + MOVE_MS);
        assert_int_equal(d.loser, DISPUTE_NOBODY);
        dispute_tick(&d, now + MOVE_MS + 1);
        assert_int_equal(d.level, DISPUTE_CLOSED);
        assert_int_equal(d.loser, turn);
        dispute_clear(&d);
        dispute_party_clear(&p[0]);
        dispute_party_clear(&p[1]);
    }
    buf_clear(&move);
    trace_free(&t);
    end(&f);
}

/* Published roots that are not what the trace comes to. */
static void a_trace_must_end_in_what_was_signed(void **state)
{
    struct model_config c = tiny_config(MODEL_ARCH_LLAMA);
    struct opening_claim claim;
    struct dispute_party v;
    struct fixture f;
    struct dispute d;
    struct buf move;

    (void)state;
    begin(&f, &c, 3, 7, 1);
    init_game(&f, &d, f.honest);
    claim = d.claim;
    claim.masters_after.b[3] ^= 1;
    dispute_init(&d, f.g, &claim, &(struct dispute_rules){d.rules.kernels, MOVE_MS}, 0);
    dispute_party_init(&v, DISPUTE_DEFENDER, f.honest);
    buf_init(&move, OPENING_MAX_BYTES);
    assert_ok(dispute_party_move(&v, &d, &move, &f.e), &f.e);
    assert_ok(dispute_move(&d, DISPUTE_DEFENDER, buf_bytes(&move), 1, &f.e), &f.e);
    assert_int_equal(d.loser, DISPUTE_DEFENDER);
    assert_contains(d.why, "does not end in what was signed");
    dispute_clear(&d);
    dispute_party_clear(&v);
    buf_clear(&move);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_altered_number_is_found_and_its_owner_loses),
        cmocka_unit_test(long_sums_are_taken_apart),
        cmocka_unit_test(accumulators_must_be_those_that_were_shown),
        cmocka_unit_test(whoever_accuses_the_honest_loses),
        cmocka_unit_test(no_forged_move_saves_a_liar),
        cmocka_unit_test(an_opening_has_one_spelling),
        cmocka_unit_test(silence_loses),
        cmocka_unit_test(a_trace_must_end_in_what_was_signed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
