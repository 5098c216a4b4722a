/*
 * A damaged model directory gives an error or the right model, never a crash, a hang or a huge
 * allocation: every byte of config.json, of the index and of the files' headers is changed in four
 * ways, every file is cut at every length, and every field of config.json and of a header is set to
 * whatever a JSON value can be.
 *
 * What the right model is, where one is given: the shapes and the numbers are those of before, bit
 * for bit, whatever was changed; and where the change is not inside a value of config.json, so is
 * the config. (A rope_theta of 20000 where 10000 was is a model too, and no reader can know better.)
 *
 * Memory: without sanitizers the address space is limited to MEMORY_LIMIT more than before, and no
 * load may run out of it. With them, which reserve terabytes, what was touched is looked at: at most
 * 512 MiB, of which AddressSanitizer keeps 256 MiB of freed memory and what surrounds it.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jansson.h>

#include "base/file.h"
#include "engine/safetensors.h"
#include "engine/tokenizer.h"
#include "engine/weights_map.h"
#include "support/random.h"
#include "support/scratch.h"
#include "support/tempdir.h"
#include "support/test.h"

#define MEMORY_LIMIT ((size_t)64 << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#define IS_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define IS_SANITIZED 0
#endif

#define FILES_MAX 8

/* A directory: what its files hold, and what is loaded from them. */
struct fixture {
    char *names[FILES_MAX]; /* owned */
    struct buf files[FILES_MAX];
    size_t n;
    struct weights *w;
    struct rng rng;
    size_t n_loads, n_loaded;
    size_t rss_before;
};

static size_t rss_bytes(void)
{
    struct rusage u;

    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return (size_t)u.ru_maxrss * 1024;
}

/* Pages of the program at present, as the kernel counts them for RLIMIT_AS. */
static size_t address_space_bytes(void)
{
    struct buf text;
    struct err e;
    size_t pages;

    buf_init(&text, 4096);
    assert_ok(file_read(&text, "/proc/self/statm", &e), &e);
    pages = strtoull(buf_cstr(&text), NULL, 10);
    buf_clear(&text);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void set_limit(size_t bytes)
{
    struct rlimit r;

    assert_int_equal(getrlimit(RLIMIT_AS, &r), 0);
    r.rlim_cur = bytes ? bytes : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &r), 0);
}

static void take_file(struct fixture *f, const char *dir, const char *name)
{
    struct err e;

    assert_true(f->n < FILES_MAX);
    f->names[f->n] = strdup(name);
    buf_init(&f->files[f->n], 1u << 20);
    assert_ok(file_read(&f->files[f->n], tempdir_path(dir, name), &e), &e);
    (void)scratch_write(name, buf_bytes(&f->files[f->n]));
    f->n++;
}

/* A small Llama with scaled frequencies, in files of at most shard_bytes, in the scratch
 * directory. */
static void setup_model(struct fixture *f, uint64_t shard_bytes)
{
    const struct model_config c = {
        .arch = MODEL_ARCH_LLAMA,
        .vocab = 7,
        .dim = 4,
        .layers = 1,
        .heads = 2,
        .kv_heads = 1,
        .head_dim = 2,
        .ffn = 3,
        .max_len = 32,
        .norm_eps = 1e-5f,
        .rope_theta = 500000.0,
        .rope_scaling = {ROPE_LLAMA3, 16, 8.0, 1.0, 4.0},
        .tie = false,
        .bos = 1,
        .pad = -1,
        .stops = {2, 3},
        .n_stops = 2,
    };
    const struct weights_map_save how = {.dtype = DTYPE_F32, .shard_bytes = shard_bytes};
    char *dir = tempdir_make();
    struct weights_map *m;
    struct err e;

    *f = (struct fixture){.rng = random_seeded(1)};
    assert_ok(weights_new(&f->w, &c, &e), &e);
    weights_init_random(f->w, 5);
    assert_ok(weights_save(f->w, dir, DTYPE_F32, &e), &e);
    assert_ok(weights_map_open(&m, dir, &e), &e);
    assert_ok(
        weights_map_save(m->tensors, m->n_tensors, &c, tempdir_path(dir, "cut"), &how, &e), &e);
    weights_map_close(&m);
    take_file(f, tempdir_path(dir, "cut"), "config.json");
    if (shard_bytes == 0) {
        take_file(f, tempdir_path(dir, "cut"), "model.safetensors");
    } else {
        take_file(f, tempdir_path(dir, "cut"), "model.safetensors.index.json");
        take_file(f, tempdir_path(dir, "cut"), "model-00001-of-00002.safetensors");
        take_file(f, tempdir_path(dir, "cut"), "model-00002-of-00002.safetensors");
    }
    tempdir_remove(&dir);
    f->rss_before = rss_bytes();
    if (!IS_SANITIZED)
        set_limit(address_space_bytes() + MEMORY_LIMIT);
}

static void teardown_model(struct fixture *f)
{
    set_limit(0);
    print_message("%zu damaged directories, %zu loaded, %zu MiB touched\n", f->n_loads,
                  f->n_loaded, (rss_bytes() - f->rss_before) >> 20);
    assert_true(rss_bytes() - f->rss_before <
                (IS_SANITIZED ? (size_t)512 << 20 : MEMORY_LIMIT));
    for (size_t i = 0; i < f->n; i++) {
        scratch_remove(f->names[i]);
        free(f->names[i]);
        buf_clear(&f->files[i]);
    }
    weights_free(&f->w);
}

static bool is_same_shape(const struct model_config *a, const struct model_config *b)
{
    return a->vocab == b->vocab && a->dim == b->dim && a->layers == b->layers &&
           a->heads == b->heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim &&
           a->ffn == b->ffn && a->tie == b->tie && a->qkv_bias == b->qkv_bias &&
           a->o_bias == b->o_bias && a->qk_norm == b->qk_norm;
}

/* Loads the directory with `data` in file i. `what` was changed of it, which may (or may not) be a
 * value of the config. */
static void try_file(struct fixture *f, size_t i, struct bytes data, bool may_be_config,
                     const char *what, size_t at)
{
    struct weights *back;
    struct err e;
    enum status st;

    (void)scratch_write(f->names[i], data);
    st = weights_load(&back, scratch_dir(), &e);
    f->n_loads++;
    if (st == ERR_NO_MEMORY || st == ERR_LIMIT)
        fail_msg("%s: %s %zu: %s", f->names[i], what, at, e.text);
    if (st) {
        assert_null(back);
        assert_true(strlen(e.text) > 0);
        return;
    }
    f->n_loaded++;
    if (!is_same_shape(&back->config, &f->w->config) || back->n_data != f->w->n_data ||
        memcmp(back->data, f->w->data, f->w->n_data * sizeof(float)) != 0)
        fail_msg("%s: %s %zu gives other weights", f->names[i], what, at);
    if (!may_be_config && !model_config_equal(&back->config, &f->w->config))
        fail_msg("%s: %s %zu gives another config", f->names[i], what, at);
    weights_free(&back);
}

static void restore(struct fixture *f, size_t i)
{
    (void)scratch_write(f->names[i], buf_bytes(&f->files[i]));
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* The bytes of a file that are not tensors' data. */
static size_t head_bytes(const struct buf *file, const char *name)
{
    struct reader r = reader_of(buf_bytes(file));

    return strstr(name, ".json") ? file->len : 8 + (size_t)reader_u64(&r);
}

/* Is byte `at` of a config.json that was written by us part of a value? They stand behind ": ", to
 * the end of the line; a brace that opens an object is none. */
static bool is_in_value(const struct buf *file, size_t at)
{
    size_t from = at;

    while (from > 0 && file->data[from - 1] != '\n')
        from--;
    for (; from < at; from++)
        if (file->data[from] == ':')
            return true;
    return false;
}

static void change_bytes(struct fixture *f, size_t i)
{
    struct buf *b = &f->files[i];
    size_t n = head_bytes(b, f->names[i]);
    bool is_config = strcmp(f->names[i], "config.json") == 0;

    for (size_t at = 0; at < n; at++) {
        const uint8_t old = b->data[at];
        const uint8_t other[] = {(uint8_t)(old ^ 1u << rng_below(&f->rng, 8)),
                                 (uint8_t)(' ' + rng_below(&f->rng, 95)),
                                 (uint8_t)('0' + rng_below(&f->rng, 10)),
                                 '\\'}; /* "\t" is a character, and "_t" were two */

        for (size_t j = 0; j < sizeof(other); j++) {
            b->data[at] = other[j];
            try_file(f, i, buf_bytes(b), is_config && is_in_value(b, at), "a change of byte",
                     at);
        }
        b->data[at] = old;
    }
    restore(f, i);
}

static void cut(struct fixture *f, size_t i)
{
    for (size_t n = 0; n < f->files[i].len; n++)
        try_file(f, i, (struct bytes){f->files[i].data, n}, false, "a cut to", n);
    restore(f, i);
}

static void every_changed_byte_gives_an_error_or_the_right_model(void **state)
{
    (void)state;
    struct fixture f;

    for (uint64_t shard_bytes = 0; shard_bytes <= 500; shard_bytes += 500) {
        setup_model(&f, shard_bytes);
        for (size_t i = 0; i < f.n; i++)
            change_bytes(&f, i);
        assert_in_range(f.n_loaded, 1, f.n_loads / 2);
        teardown_model(&f);
    }
}

static void every_cut_gives_an_error_or_the_right_model(void **state)
{
    (void)state;
    struct fixture f;

    for (uint64_t shard_bytes = 0; shard_bytes <= 500; shard_bytes += 500) {
        setup_model(&f, shard_bytes);
        for (size_t i = 0; i < f.n; i++)
            cut(&f, i);
        /* Without its last line end a text is whole. */
        assert_int_equal(f.n_loaded, shard_bytes ? 2 : 1);
        teardown_model(&f);
    }
}

/* ---- where sequences end ------------------------------------------------------------------------ */

#define TOKENIZER                                                                              \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2},\"merges\":[]},"         \
    "\"decoder\":{\"type\":\"ByteLevel\"}}"
#define TOKENIZER_CONFIG  "{\n\"pad_token\": \"a\",\n\"eos_token\": \"b\"\n}\n"
#define GENERATION_CONFIG "{\n\"eos_token_id\": 5\n}\n"

/* The ends of sequences in the scratch directory, by the files beside tokenizer and config: those
 * above, or an error. */
static void check_ends(const struct fixture *f)
{
    struct model_config c = f->w->config;
    struct tokenizer *t;

    if (model_config_add_stops(&c, scratch_dir(), NULL) == OK) {
        assert_int_equal(c.n_stops, 3);
        assert_int_equal(c.stops[2], 5);
    }
    if (tokenizer_load(&t, scratch_dir(), NULL) == OK) {
        assert_int_equal(tokenizer_pad(t), 0);
        assert_int_equal(tokenizer_eos(t), 1);
        tokenizer_free(&t);
    }
}

static void no_changed_byte_loses_the_end_of_a_sequence(void **state)
{
    (void)state;
    static const char *const files[][2] = {{"tokenizer_config.json", TOKENIZER_CONFIG},
                                           {"generation_config.json", GENERATION_CONFIG}};
    struct fixture f;

    setup_model(&f, 0);
    (void)scratch_write("tokenizer.json", bytes_str(TOKENIZER));
    for (size_t i = 0; i < 2; i++)
        (void)scratch_write(files[i][0], bytes_str(files[i][1]));
    check_ends(&f);
    for (size_t i = 0; i < 2; i++) {
        struct buf b;

        buf_init(&b, 4096);
        buf_append(&b, bytes_str(files[i][1]));
        for (size_t at = 0; at < b.len; at++) {
            const uint8_t old = b.data[at];

            for (unsigned bit = 0; bit <= 8 && !is_in_value(&b, at); bit++) {
                b.data[at] = (uint8_t)(bit < 8 ? old ^ 1u << bit : '\\');
                (void)scratch_write(files[i][0], buf_bytes(&b));
                check_ends(&f);
            }
            b.data[at] = old;
        }
        (void)scratch_write(files[i][0], buf_bytes(&b));
        buf_clear(&b);
    }
    scratch_remove("tokenizer.json");
    for (size_t i = 0; i < 2; i++)
        scratch_remove(files[i][0]);
    teardown_model(&f);
}

/* ---- a word of megabytes ------------------------------------------------------------------------ */

/* Merged when it is read, it would take twenty-eight times its length. */
static void a_long_word_takes_little_more_than_its_length(void **state)
{
    (void)state;
    const size_t n = (size_t)3 << 20;
    struct tokenizer *t;
    struct fixture f;
    struct buf text;
    struct err e;

    setup_model(&f, 0);
    buf_init(&text, n + 4096);
    buf_append(&text, BYTES_LIT("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\""));
    memset(buf_extend(&text, n), 'a', n);
    buf_append(&text, BYTES_LIT("\":1},\"merges\":[]},\"decoder\":{\"type\":\"ByteLevel\"}}"));

    assert_ok(tokenizer_parse(&t, buf_bytes(&text), &e), &e);

    assert_int_equal(tokenizer_vocab(t), 2);
    tokenizer_free(&t);
    buf_clear(&text);
    teardown_model(&f);
}

/* ---- fields ---------------------------------------------------------------------------------- */

static const char *const values[] = {
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "8",
    "255",
    "65536",
    "262144",
    "16777216",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "1099511627776",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "1e308",
    "-1e-308",
    "null",
    "true",
    "false",
    "\"\"",
    "\"F16\"",
    "\"..\"",
    "\"x\"",
    "[]",
    "{}",
    "[1]",
    "[0,0]",
    "[4294967296,4294967296]",
    "[[[[]]]]",
    "{\"a\":1}",
};
#define N_VALUES (sizeof(values) / sizeof(values[0]))

/* File i with the JSON `root` for its text or header. */
static void try_json(struct fixture *f, size_t i, const json_t *root, const char *key, size_t v)
{
    char *text = json_dumps(root, JSON_ENSURE_ASCII);
    bool is_text = strstr(f->names[i], ".json") != NULL;
    size_t head = head_bytes(&f->files[i], f->names[i]);
    struct buf file;

    assert_non_null(text);
    buf_init(&file, 1u << 20);
    if (!is_text)
        buf_put_u64(&file, strlen(text));
    buf_append(&file, bytes_str(text));
    if (!is_text)
        buf_append(&file, bytes_slice(buf_bytes(&f->files[i]), head, f->files[i].len - head));
    try_file(f, i, buf_bytes(&file), strcmp(f->names[i], "config.json") == 0, key, v);
    buf_clear(&file);
    free(text);
}

static void change_fields(struct fixture *f, size_t i, json_t *root, json_t *object)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, key, value)
    {
        json_t *old = json_incref(value);

        for (size_t v = 0; v < N_VALUES; v++) {
            json_t *other = json_loads(values[v], JSON_DECODE_ANY, NULL);

            assert_non_null(other);
            assert_int_equal(json_object_set_new(object, key, other), 0);
            try_json(f, i, root, key, v);
        }
        assert_int_equal(json_object_set(object, key, old), 0);
        if (json_is_object(old))
            change_fields(f, i, root, old);
        json_decref(old);
    }
}

static json_t *json_of(const struct buf *file, const char *name)
{
    size_t from = strstr(name, ".json") ? 0 : 8;
    json_t *root =
        json_loadb((const char *)file->data + from, head_bytes(file, name) - from, 0, NULL);

    assert_non_null(root);
    return root;
}

static void every_changed_field_gives_an_error_or_the_right_model(void **state)
{
    (void)state;
    struct fixture f;

    for (uint64_t shard_bytes = 0; shard_bytes <= 500; shard_bytes += 500) {
        setup_model(&f, shard_bytes);
        for (size_t i = 0; i < f.n; i++) {
            json_t *root = json_of(&f.files[i], f.names[i]);

            change_fields(&f, i, root, root);
            json_decref(root);
            restore(&f, i);
        }
        teardown_model(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_changed_byte_gives_an_error_or_the_right_model),
        cmocka_unit_test(every_cut_gives_an_error_or_the_right_model),
        cmocka_unit_test(no_changed_byte_loses_the_end_of_a_sequence),
        cmocka_unit_test(a_long_word_takes_little_more_than_its_length),
        cmocka_unit_test(every_changed_field_gives_an_error_or_the_right_model),
    };
    return cmocka_run_group_tests_name("property/model_dir", tests, NULL, NULL);
}
