/*
 * replay/lane_wire: what is encoded is what is decoded, and nothing else is.
 */
#include "replay/lane_wire.h"

#include <string.h>

#include "support/test.h"

static const int32_t tokens[2][4] = {{5, 6, 7, 8}, {1, 2, 3, 0}};
static const float logprobs[2][4] = {{0, -1, -2, -3}, {0, -0.5f, -0.25f, 0}};
static const uint8_t mask[3] = {0, 1, 0};

static void encode(struct buf *out, bool is_imitation)
{
    const struct learn_seq seq[2] = {
        {.tokens = tokens[0], .n = 4, .from = 2, .logprobs = logprobs[0], .advantage = 0.5f},
        {.tokens = tokens[1],
         .is_target = mask,
         .n = 3,
         .logprobs = logprobs[1],
         .advantage = -0.5f}};
    const struct learn_work w = {.seq = seq,
                                 .n_seqs = 2,
                                 .n_tokens = 3,
                                 .n_lanes = 4,
                                 .temperature = 0.75f,
                                 .is_imitation = is_imitation,
                                 .loss = {0.2f, 4.0f, 20.0f}};

    buf_init(out, 4096);
    lane_work_encode(out, &w, 2, 2);
    assert_false(out->bad);
}

static void work_arrives_as_it_was_sent(void **state)
{
    (void)state;
    for (int imitation = 0; imitation < 2; imitation++) {
        struct lane_work w;
        struct err e = {0};
        struct buf b;

        encode(&b, imitation);
        assert_ok(lane_work_decode(&w, buf_bytes(&b), &e), &e);
        assert_int_equal(w.first, 2);
        assert_int_equal(w.n, 2);
        assert_int_equal(w.work.n_lanes, 4);
        assert_int_equal(w.work.n_seqs, 2);
        assert_int_equal(w.work.n_tokens, 3);
        assert_int_equal(w.work.is_imitation, imitation);
        assert_true(w.work.temperature == 0.75f && w.work.loss.clip_eps == 0.2f &&
                    w.work.loss.delta == 4.0f && w.work.loss.log_ratio_max == 20.0f);
        assert_memory_equal(w.seq[0].tokens, tokens[0], sizeof(tokens[0]));
        assert_memory_equal(w.seq[1].tokens, tokens[1], 3 * sizeof(int32_t));
        assert_null(w.seq[0].is_target);
        assert_int_equal(w.seq[0].from, 2);
        assert_memory_equal(w.seq[1].is_target, mask, 3);
        assert_true(w.seq[0].advantage == 0.5f && w.seq[1].advantage == -0.5f);
        if (imitation)
            assert_null(w.seq[0].logprobs);
        else
            assert_memory_equal(w.seq[1].logprobs, logprobs[1], 3 * sizeof(float));
        lane_work_clear(&w);
        buf_clear(&b);
    }
}

static void work_that_is_cut_short_or_too_long_is_refused(void **state)
{
    struct lane_work w;
    struct buf b;

    (void)state;
    encode(&b, false);
    for (size_t n = 0; n < b.len; n++)
        assert_status(lane_work_decode(&w, (struct bytes){b.data, n}, NULL), ERR_MALFORMED,
                      NULL);
    buf_put_u8(&b, 0);
    assert_status(lane_work_decode(&w, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    buf_clear(&b);
}

static void lengths_are_not_believed(void **state)
{
    static const size_t at[] = {37, 45}; /* of n_seqs, and of the first sequence's n */
    struct lane_work w;
    struct buf b;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        encode(&b, false);
        memset(b.data + at[i], 0xff, 8);
        assert_status(lane_work_decode(&w, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
        buf_clear(&b);
    }
    encode(&b, false);
    b.data[4] = 1; /* lanes 1 and 2: no part of the tree */
    assert_status(lane_work_decode(&w, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    b.data[4] = 4; /* past the last */
    assert_status(lane_work_decode(&w, buf_bytes(&b), NULL), ERR_MALFORMED, NULL);
    buf_clear(&b);
}

static void a_setup_and_an_answer_arrive_as_they_were_sent(void **state)
{
    struct lane_setup s = {.config = {.arch = MODEL_ARCH_QWEN2,
                                      .vocab = 50,
                                      .dim = 8,
                                      .layers = 1,
                                      .heads = 2,
                                      .kv_heads = 1,
                                      .head_dim = 4,
                                      .ffn = 12,
                                      .max_len = 16,
                                      .norm_eps = 1e-5f,
                                      .rope_theta = 10000.0,
                                      .qkv_bias = true,
                                      .tie = true,
                                      .dtype = DTYPE_BF16,
                                      .bos = -1,
                                      .pad = -1},
                           .numerics = "f32-1",
                           .kernels = "scalar",
                           .device = "cuda:3",
                           .threads = 3,
                           .lanes = 2,
                           .max_rows = 77,
                           .recompute = true};
    struct lane_answer a = {.st = ERR_NUMERIC, .n = 2}, b;
    struct lane_setup t;
    struct err e = {0};
    struct buf out;

    (void)state;
    buf_init(&out, 4096);
    lane_setup_encode(&out, &s);
    assert_ok(lane_setup_decode(&t, buf_bytes(&out), &e), &e);
    assert_true(model_config_equal(&t.config, &s.config) && t.config.dtype == DTYPE_BF16);
    assert_string_equal(t.kernels, "scalar");
    assert_string_equal(t.numerics, "f32-1");
    assert_string_equal(t.device, "cuda:3");
    assert_true(t.threads == 3 && t.lanes == 2 && t.max_rows == 77 && t.recompute);

    buf_reset(&out);
    (void)err_set(&a.why, ERR_NUMERIC, "no number");
    a.tally[1] =
        (struct learn_tally){.objective = 1.5, .kl = -0.25, .n_clipped = 9, .ratio_max = 2};
    lane_answer_encode(&out, &a);
    assert_ok(lane_answer_decode(&b, buf_bytes(&out), &e), &e);
    assert_int_equal(b.st, ERR_NUMERIC);
    assert_string_equal(b.why.text, "no number");
    assert_true(b.n == 2 && b.tally[1].objective == 1.5 && b.tally[1].kl == -0.25 &&
                b.tally[1].n_clipped == 9 && b.tally[1].ratio_max == 2.0f);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_arrives_as_it_was_sent),
        cmocka_unit_test(work_that_is_cut_short_or_too_long_is_refused),
        cmocka_unit_test(lengths_are_not_believed),
        cmocka_unit_test(a_setup_and_an_answer_arrive_as_they_were_sent),
    };

    return cmocka_run_group_tests_name("replay/lane_wire", tests, NULL, NULL);
}
