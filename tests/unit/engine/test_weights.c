/*
 * Weights: their table, their initial values, and Hugging Face directories in and out.
 */
#include "engine/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/safetensors.h"
#include "engine/weights_map.h"
#include "support/tempdir.h"
#include "support/test.h"

static struct model_config small_config(void)
{
    return (struct model_config){.arch = MODEL_ARCH_QWEN2,
                                 .vocab = 40,
                                 .dim = 32,
                                 .layers = 12, /* layer 10 sorts before layer 2 */
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 8,
                                 .ffn = 48,
                                 .max_len = 64,
                                 .norm_eps = 1e-6f,
                                 .rope_theta = 10000.0,
                                 .tie = true,
                                 .qkv_bias = true,
                                 .bos = -1,
                                 .pad = -1};
}

static struct weights *make(uint64_t seed)
{
    struct model_config c = small_config();
    struct weights *w;
    struct err e;

    assert_ok(weights_new(&w, &c, &e), &e);
    weights_init_random(w, seed);
    return w;
}

static void assert_equal(const struct weights *a, const struct weights *b)
{
    assert_int_equal(a->n_data, b->n_data);
    assert_memory_equal(a->data, b->data, a->n_data * sizeof(float));
}

static void tensors_lie_end_to_end_in_name_order(void **state)
{
    (void)state;
    struct weights *w = make(1);
    const float *at = w->data;

    assert_int_equal(w->n_tensors, 2 + 12 * 12);
    for (size_t i = 0; i < w->n_tensors; i++) {
        assert_ptr_equal(w->tensors[i].data, at);
        at += w->tensors[i].rows * w->tensors[i].cols;
        if (i > 0)
            assert_true(strcmp(w->tensors[i - 1].name, w->tensors[i].name) < 0);
    }
    assert_ptr_equal(weights_find(w, "model.layers.10.mlp.up_proj.weight")->data,
                     w->layers[10].up);
    assert_null(weights_find(w, "lm_head.weight"));
    assert_null(w->head);
    weights_free(&w);
}

/* Mean and deviation of n numbers have standard errors of deviation / sqrt(n) and / sqrt(2 n); five
 * of them are allowed. */
static void initial_values_are_normal_and_scaled(void **state)
{
    (void)state;
    struct weights *w = make(7);
    const struct {
        const float *x;
        size_t n;
        double deviation;
    } cases[] = {{w->embed, (size_t)40 * 32, 1 / sqrt(32.0)},
                 {w->layers[3].down, (size_t)32 * 48, 1 / sqrt(48.0) / 24}};

    for (size_t i = 0; i < 2; i++) {
        double sum = 0, square = 0;

        for (size_t j = 0; j < cases[i].n; j++) {
            sum += (double)cases[i].x[j];
            square += (double)cases[i].x[j] * (double)cases[i].x[j];
        }
        sum /= (double)cases[i].n;
        double slack = 5 * cases[i].deviation / sqrt((double)cases[i].n);
        assert_true(fabs(sum) < slack);
        assert_true(fabs(sqrt(square / (double)cases[i].n) - cases[i].deviation) < slack);
    }
    assert_true(w->layers[3].input_norm[5] == 1.0f);
    assert_true(w->layers[3].q_bias[5] == 0.0f);
    weights_free(&w);
}

static void initial_values_are_a_function_of_the_seed(void **state)
{
    (void)state;
    struct weights *a = make(7), *b = make(7), *c = make(8);
    uint8_t da[WEIGHTS_DIGEST_BYTES], db[WEIGHTS_DIGEST_BYTES], dc[WEIGHTS_DIGEST_BYTES];
    char hex[2 * WEIGHTS_DIGEST_BYTES + 1];

    weights_digest(da, a);
    weights_digest(db, b);
    weights_digest(dc, c);

    assert_memory_equal(da, db, sizeof(da));
    assert_memory_not_equal(da, dc, sizeof(da));
    /* Recorded: another machine or compiler must come to the same. */
    hex_encode(hex, (struct bytes){da, sizeof(da)});
    assert_string_equal(hex,
                        "04a7641b091859257eb7673d14201fcb059273af133fd2a58d0745da3cd4aa79");
    weights_free(&a);
    weights_free(&b);
    weights_free(&c);
}

static void what_is_saved_loads_with_the_same_bits(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    assert_ok(weights_load(&back, dir, &e), &e);

    assert_equal(back, w);
    assert_true(model_config_equal(&back->config, &w->config));
    weights_free(&w);
    weights_free(&back);
}

static void bf16_loads_what_rounding_gives(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_BF16, &e), &e);
    assert_ok(weights_load(&back, dir, &e), &e);
    assert_true(w->embed[0] != back->embed[0]);
    weights_round(w, DTYPE_BF16);

    assert_equal(back, w);
    assert_int_equal(back->config.dtype, DTYPE_BF16);
    weights_free(&w);
    weights_free(&back);
}

static void a_blob_encodes_and_decodes_within_its_bound(void **state)
{
    (void)state;
    struct weights *w = make(3), *back;
    struct buf file;
    struct err e;

    buf_init(&file, weights_encode_bytes(&w->config));
    assert_ok(weights_encode(&file, w, DTYPE_F32, &e), &e);
    assert_ok(weights_decode(&back, &w->config, buf_bytes(&file), "blob", &e), &e);

    assert_equal(back, w);
    buf_clear(&file);
    weights_free(&w);
    weights_free(&back);
}

/* Writes the tensors [from, to) of w, or of another shape if `cut`, as DIR/name. */
static void write_part(const struct weights *w, const char *dir, const char *name, size_t from,
                       size_t to, bool cut)
{
    struct safetensors_entry entries[200] = {0};
    struct buf file;
    struct err e;

    for (size_t i = from; i < to; i++) {
        const struct weights_tensor *t = &w->tensors[i];

        entries[i - from] = (struct safetensors_entry){
            .name = t->name,
            .n_dims = t->is_matrix ? 2 : 1,
            .dims = {t->is_matrix ? t->rows : t->cols, t->cols - (cut && t->is_matrix)},
            .data = t->data,
        };
    }
    buf_init(&file, 1u << 24);
    assert_ok(safetensors_encode(&file, entries, to - from, DTYPE_F32, &e), &e);
    assert_ok(file_write_atomic(tempdir_path(dir, name), buf_bytes(&file), 0600, &e), &e);
    buf_clear(&file);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    struct err e;

    assert_ok(file_write_atomic(tempdir_path(dir, name), bytes_str(text), 0600, &e), &e);
}

/* The weight_map of w's tensors: those before `cut` in a.safetensors, the others in b.safetensors.
 * Tensor `odd` is put in `there` instead; SIZE_MAX: none. */
static void write_index(const struct weights *w, const char *dir, size_t cut, size_t odd,
                        const char *there)
{
    struct buf text;

    buf_init(&text, 1u << 20);
    buf_printf(&text, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (size_t i = 0; i < w->n_tensors; i++)
        buf_printf(&text, "%s\"%s\":\"%s\"", i ? "," : "", w->tensors[i].name,
                   i == odd ? there : (i < cut ? "a.safetensors" : "b.safetensors"));
    buf_printf(&text, "}}");
    write_text(dir, "model.safetensors.index.json", buf_cstr(&text));
    buf_clear(&text);
}

/* w as two files and an index. */
static void write_split(const struct weights *w, const char *dir)
{
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e); /* for config.json */
    assert_int_equal(unlink(tempdir_path(dir, "model.safetensors")), 0);
    write_part(w, dir, "a.safetensors", 0, 50, false);
    write_part(w, dir, "b.safetensors", 50, w->n_tensors, false);
    write_index(w, dir, 50, SIZE_MAX, NULL);
}

static void a_model_in_several_files_loads(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    write_split(w, dir);
    assert_ok(weights_load(&back, dir, &e), &e);
    assert_equal(back, w);
    weights_free(&back);

    memset(w->data, 0, 4); /* where both are, model.safetensors is what is read */
    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    assert_ok(weights_load(&back, dir, &e), &e);
    assert_equal(back, w);
    weights_free(&w);
    weights_free(&back);
}

static void an_index_cannot_lead_out_of_its_directory(void **state)
{
    const char *dir = *state;
    static const char *const names[] = {
        "../a.safetensors", "/tmp/a.safetensors", "x/a.safetensors", "..", "", "config.json"};
    struct weights *w = make(3), *back;
    struct err e;

    write_split(w, dir);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        write_index(w, dir, 50, 60, names[i]);
        assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
        assert_contains(e.text, "is not the name of a .safetensors file");
        assert_contains(e.text, names[i]);
    }
    weights_free(&w);
}

static void an_index_that_does_not_fit_its_files_is_refused(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    write_split(w, dir);
    write_index(w, dir, 50, 60, "a.safetensors");
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "a.safetensors'");
    assert_contains(e.text, w->tensors[60].name);
    assert_contains(e.text, "is missing, which model.safetensors.index.json says is here");

    write_index(w, dir, 50, 60, "c.safetensors");
    assert_status(weights_load(&back, dir, &e), ERR_NOT_FOUND, &e);
    assert_contains(e.text, "c.safetensors");

    write_index(w, dir, 50, SIZE_MAX, NULL); /* one tensor is in both */
    write_part(w, dir, "a.safetensors", 0, 51, false);
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, w->tensors[50].name);
    assert_contains(e.text, "by model.safetensors.index.json in 'b.safetensors'");

    write_part(w, dir, "a.safetensors", 0, 50, false);
    memcpy(w->tensors[70].name, "x", 2); /* the files have a tensor that the index has not */
    write_index(w, dir, 50, SIZE_MAX, NULL);
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "'x' is missing");

    write_text(dir, "model.safetensors.index.json",
               "{\"weight_map\":{\"model.norm.weight\":\"b.safetensors\"}}");
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "is not in model.safetensors.index.json");
    write_text(dir, "model.safetensors.index.json", "{\"weight_map\":{}}");
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    write_text(dir, "model.safetensors.index.json", "{\"weight_map\":{\"a\":3}}");
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    weights_free(&w);
}

/* Written in several files, the tensors are the same, and no file's data is longer than asked for
 * unless a single tensor is. */
static void what_is_written_in_several_files_loads(void **state)
{
    const char *dir = *state;
    const struct weights_map_save how = {.dtype = DTYPE_F32, .shard_bytes = 100000};
    struct weights *w = make(3), *back;
    struct weights_map *m;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    assert_ok(weights_map_open(&m, dir, &e), &e);
    assert_ok(weights_map_save(m->tensors, m->n_tensors, &m->config, tempdir_path(dir, "split"),
                               &how, &e),
              &e);
    assert_false(file_exists(tempdir_path(dir, "split/model.safetensors")));
    assert_ok(weights_load(&back, tempdir_path(dir, "split"), &e), &e);

    assert_equal(back, w);
    assert_true(model_config_equal(&back->config, &w->config));
    weights_map_close(&m);
    /* 380,032 bytes in files of at most 100,000, which end less than a tensor, 6,144, before. */
    assert_ok(weights_map_open(&m, tempdir_path(dir, "split"), &e), &e);
    assert_in_range(m->n_files, 4, 5);
    weights_map_close(&m);
    weights_free(&w);
    weights_free(&back);
}

static void a_map_has_the_digest_of_the_weights(void **state)
{
    const char *dir = *state;
    uint8_t a[WEIGHTS_DIGEST_BYTES], b[WEIGHTS_DIGEST_BYTES];
    struct weights *w = make(3);
    struct weights_map *m;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_BF16, &e), &e);
    assert_ok(weights_map_open(&m, dir, &e), &e);
    weights_map_digest(a, m);
    weights_round(w, DTYPE_BF16);
    weights_digest(b, w);

    assert_memory_equal(a, b, sizeof(a));
    weights_map_close(&m);
    weights_free(&w);
}

/* The head of a tied model may be in the file again, if it says the same. */
static void a_repeated_head_must_be_the_embedding(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct safetensors_entry entries[200] = {0};
    struct buf file;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    entries[0] = (struct safetensors_entry){"lm_head.weight", 2, {40, 32}, w->embed};
    for (size_t i = 0; i < w->n_tensors; i++) {
        const struct weights_tensor *t = &w->tensors[i];

        entries[i + 1] = (struct safetensors_entry){
            .name = t->name,
            .n_dims = t->is_matrix ? 2 : 1,
            .dims = {t->is_matrix ? t->rows : t->cols, t->cols},
            .data = t->data,
        };
    }
    for (int i = 0; i < 2; i++) {
        buf_init(&file, 1u << 24);
        assert_ok(safetensors_encode(&file, entries, w->n_tensors + 1, DTYPE_F32, &e), &e);
        assert_ok(file_write_atomic(tempdir_path(dir, "model.safetensors"), buf_bytes(&file),
                                    0600, &e),
                  &e);
        buf_clear(&file);
        if (i == 0) {
            assert_ok(weights_load(&back, dir, &e), &e);
            weights_free(&back);
        } else {
            assert_status(weights_load(&back, dir, &e), ERR_UNSUPPORTED, &e);
            assert_contains(e.text, "tie_word_embeddings");
        }
        entries[0].data = w->layers[0].gate; /* other numbers */
    }
    weights_free(&w);
}

/* A config.json that claims terabytes over a file of kilobytes is refused for its shapes: memory
 * for it, which would be refused with another status, was not asked for. */
static void a_model_larger_than_its_files_is_refused_before_memory_is_taken(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    write_text(dir, "config.json",
               "{\"architectures\":[\"Qwen2ForCausalLM\"],\"vocab_size\":40,"
               "\"hidden_size\":65536,\"intermediate_size\":262144,\"num_hidden_layers\":12,"
               "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,"
               "\"max_position_embeddings\":64,\"tie_word_embeddings\":true}");
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "shape");
    assert_null(back);
    weights_free(&w);
}

static void what_is_missing_extra_or_misshapen_is_named(void **state)
{
    const char *dir = *state;
    struct weights *w = make(3), *back;
    struct err e;

    assert_ok(weights_save(w, dir, DTYPE_F32, &e), &e);
    write_part(w, dir, "model.safetensors", 0, w->n_tensors, true);
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    write_part(w, dir, "model.safetensors", 0, w->n_tensors - 1, false);
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);
    assert_contains(e.text, "'model.norm.weight' is missing");
    w->tensors[70].name[strlen(w->tensors[70].name) - 1] = '~'; /* still in order */
    write_part(w, dir, "model.safetensors", 0, w->n_tensors, false);
    assert_status(weights_load(&back, dir, &e), ERR_MALFORMED, &e);

    assert_contains(e.text, w->tensors[70].name);
    assert_null(back);
    weights_free(&w);
}

static void a_truncated_file_names_the_tensor(void **state)
{
    (void)state;
    struct weights *w = make(3), *back;
    struct buf file;
    struct err e;

    buf_init(&file, weights_encode_bytes(&w->config));
    assert_ok(weights_encode(&file, w, DTYPE_F32, &e), &e);
    file.len -= 7;
    assert_status(weights_decode(&back, &w->config, buf_bytes(&file), "m.safetensors", &e),
                  ERR_MALFORMED, &e);

    assert_contains(e.text,
                    "'m.safetensors' is cut short: tensor 'model.norm.weight' wants 128 "
                    "bytes, the file has 121");
    buf_clear(&file);
    weights_free(&w);
}

static void numbers_that_are_not_finite_are_named(void **state)
{
    (void)state;
    struct weights *w = make(3);
    struct err e;

    assert_ok(weights_check_finite(w, &e), &e);
    w->norm[3] = -INFINITY;
    assert_status(weights_check_finite(w, &e), ERR_NUMERIC, &e);

    assert_contains(e.text, "'model.norm.weight': number 3");
    weights_free(&w);
}

static void a_config_out_of_range_is_refused(void **state)
{
    (void)state;
    struct model_config c = small_config();
    struct weights *w;
    struct err e;

    c.kv_heads = 3;
    assert_status(weights_new(&w, &c, &e), ERR_INVALID, &e);
    assert_null(w);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, tempdir_setup, tempdir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_lie_end_to_end_in_name_order),
        cmocka_unit_test(initial_values_are_normal_and_scaled),
        cmocka_unit_test(initial_values_are_a_function_of_the_seed),
        IN_DIR(what_is_saved_loads_with_the_same_bits),
        IN_DIR(bf16_loads_what_rounding_gives),
        cmocka_unit_test(a_blob_encodes_and_decodes_within_its_bound),
        IN_DIR(a_model_in_several_files_loads),
        IN_DIR(an_index_cannot_lead_out_of_its_directory),
        IN_DIR(an_index_that_does_not_fit_its_files_is_refused),
        IN_DIR(what_is_written_in_several_files_loads),
        IN_DIR(a_map_has_the_digest_of_the_weights),
        IN_DIR(a_repeated_head_must_be_the_embedding),
        IN_DIR(a_model_larger_than_its_files_is_refused_before_memory_is_taken),
        IN_DIR(what_is_missing_extra_or_misshapen_is_named),
        cmocka_unit_test(a_truncated_file_names_the_tensor),
        cmocka_unit_test(numbers_that_are_not_finite_are_named),
        cmocka_unit_test(a_config_out_of_range_is_refused),
    };
    return cmocka_run_group_tests_name("engine/weights", tests, NULL, NULL);
}
